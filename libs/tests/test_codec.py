"""Bytes on the wire: what is written is read, and what cannot be read is refused with a reason."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.contracts import codec
from huracan.contracts.market import Bar, InstrumentId
from huracan.errors import HuracanError, PoisonMessage

BAR = Bar(instrument=InstrumentId(venue="sim", symbol="btc"), open_ns=7, open="1.5", trades=3)


def test_a_message_comes_back_as_it_was() -> None:
    assert codec.schema_of(BAR) == "huracan.market.v1.Bar"
    assert codec.decode("huracan.market.v1.Bar", codec.encode(BAR)) == BAR


def test_the_digest_is_of_the_bytes() -> None:
    assert codec.digest(BAR) == hashlib.sha256(codec.encode(BAR)).digest()


@pytest.mark.parametrize("schema", ["", "huracan.market.v1.Gone", "Bar"])
def test_an_unknown_schema_is_poison_that_names_it(schema: str) -> None:
    with pytest.raises(PoisonMessage) as poison:
        codec.decode(schema, b"")
    assert poison.value.reason == "unknown_schema"
    assert repr(schema) in str(poison.value)


@pytest.mark.parametrize(
    "data",
    [codec.encode(BAR)[:-1], b"\xff", b"\x22\x02\xff\xfe"],
    ids=["truncated", "garbage", "not_utf8"],
)
def test_broken_bytes_are_poison_that_names_the_schema(data: bytes) -> None:
    with pytest.raises(PoisonMessage) as poison:
        codec.decode("huracan.market.v1.Bar", data)
    assert poison.value.reason == "undecodable"
    assert poison.value.detail.startswith("huracan.market.v1.Bar: ")
    assert isinstance(poison.value, HuracanError)


@given(st.sampled_from(sorted(codec.SCHEMAS)), st.binary(max_size=40))
def test_no_bytes_do_anything_but_decode_or_be_refused(schema: str, data: bytes) -> None:
    with contextlib.suppress(PoisonMessage):
        written = codec.encode(codec.decode(schema, data))
        assert codec.encode(codec.decode(schema, written)) == written

"""Ids: the same for the same thing, for ever, and never the same for two things."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan import ids

INSTRUMENT, STEP = "binance_usdm.btc-usdt-perp", 17_231_612_550
DECISION = bytes.fromhex("25d189fdc273ae172074c24aac326968")
ORDER = bytes.fromhex("ef260075ad7468b1385c2584776782d3")


def test_golden_ids() -> None:
    """Ids are in the logs of every release: changing one orphans what is kept."""
    assert ids.decision_id("core", INSTRUMENT, 1, STEP) == DECISION
    opinion = ids.opinion_id("flow", INSTRUMENT, 1, STEP, bytes(range(32)), bytes(32))
    assert opinion.hex() == "bc1d9ae7a9ea8084b8b17ba7cb3e125b"
    assert ids.order_id("paper", DECISION) == ORDER
    assert ids.client_order_id(ORDER) == "hef260075ad7468b1385c2584776782d3"
    assert ids.fill_id(ORDER, 1).hex() == "6bedc18f579522cb9fe32c2495742848"
    headline = ids.news_id("wire", 1_723_161_255_000_000_000, "Bitcoin rises")
    assert headline.hex() == "25d85f1701ef1ba6d411b17a7bb9cfb0"


def test_a_decision_id_is_what_the_semantics_say() -> None:
    parts = [b"decision", b"core", INSTRUMENT.encode(), b"1", str(STEP).encode()]
    wanted = hashlib.sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()[:16]
    assert wanted == DECISION


@pytest.mark.parametrize(
    "changed",
    [
        ids.decision_id("edge", INSTRUMENT, 1, STEP),
        ids.decision_id("core", "sim.btc-usdt-perp", 1, STEP),
        ids.decision_id("core", INSTRUMENT, 2, STEP),
        ids.decision_id("core", INSTRUMENT, 1, STEP + 1),
        ids.decision_id("core", INSTRUMENT, STEP, 1),
        ids.opinion_id("core", INSTRUMENT, 1, STEP, b"", b""),
    ],
)
def test_each_part_of_a_decision_is_in_its_id(changed: bytes) -> None:
    assert changed != DECISION
    assert len(changed) == 16


def test_ids_of_different_kinds_with_the_same_parts_differ() -> None:
    made = {ids.order_id("a", b"b"), ids.derived_id("a", b"b"), ids.derived_id("fill", "a", b"b"), ids.fill_id(b"a", 1)}
    assert len(made) == 4


def test_another_account_or_another_fill_is_another_id() -> None:
    assert ids.order_id("other", DECISION) != ORDER
    assert ids.fill_id(ORDER, 2) != ids.fill_id(ORDER, 1)


texts = st.lists(st.text(max_size=4), max_size=4)


@given(texts, texts)
def test_no_two_lists_of_parts_share_an_id(one: list[str], two: list[str]) -> None:
    assert (ids.derived_id(*one) == ids.derived_id(*two)) == (one == two)


@given(st.text(max_size=6), st.integers(0, 6), st.integers(0, 6))
def test_moving_the_boundary_between_two_parts_changes_the_id(text: str, one: int, two: int) -> None:
    one, two = min(one, len(text)), min(two, len(text))
    same = ids.derived_id(text[:one], text[one:]) == ids.derived_id(text[:two], text[two:])
    assert same == (one == two)


def test_venues_accept_a_client_order_id() -> None:
    client_order_id = ids.client_order_id(bytes([255] * 16))
    assert client_order_id.isalnum()
    assert len(client_order_id) <= 36


@pytest.mark.parametrize(("underlying", "shard"), [("BTC", 6), ("ETH", 11), ("SOL", 10), ("SPX", 41)])
def test_golden_shards(underlying: str, shard: int) -> None:
    assert ids.shard_of(underlying) == zlib.crc32(underlying.encode()) % 64 == shard
    assert ids.shard_of(underlying.lower()) == shard

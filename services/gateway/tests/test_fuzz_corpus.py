"""What a fuzzer has found to be different inputs stays within what is documented; the fuzzer itself is in `fuzz/`."""

from __future__ import annotations

import pytest
from services.gateway.fuzz.decoders import CORPUS, SYMBOLS, TARGETS, feed, kept, target_of

from huracan.clock import MINUTE_NS
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.venues import ADAPTERS


@pytest.mark.parametrize("target", TARGETS)
def test_no_kept_input_gets_more_out_of_a_reader_than_its_documented_errors(target: str) -> None:
    inputs = [given for name, given in kept() if name == target]
    assert inputs
    for given in inputs:
        TARGETS[target](given)


def test_the_corpus_is_small_and_every_line_names_a_target() -> None:
    assert {name for name, _ in kept()} == set(TARGETS)
    assert len(kept()) <= 300
    assert CORPUS.stat().st_size <= 200_000


def test_the_first_byte_chooses_the_target_and_none_is_out_of_reach() -> None:
    assert {target_of(bytes([first])) for first in range(256)} == set(TARGETS)
    for target in (b"", b"\x00", b"\xff"):
        feed(target)


@pytest.mark.parametrize(
    ("venue", "body"),
    [
        ("okx", b'{"code":"0","data":[["1795250460000","49980\xd6.7"]]}'),
        ("bybit", b'{"retCode":0,"result":{"list":[["1795250460000","49980\xd6.7"]]}}'),
    ],
    ids=["okx", "bybit"],
)
def test_a_bar_within_a_good_answer_that_is_no_utf_8_is_refused(venue: str, body: bytes) -> None:
    adapter = ADAPTERS[venue]
    with pytest.raises(Rejected) as caught:
        adapter.http.bars(body, adapter.implied(*SYMBOLS[venue]), MINUTE_NS)
    assert caught.value.reason is Reason.BAD_JSON

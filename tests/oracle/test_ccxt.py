"""Independent parsers: ccxt reads the same frames as the gateway, and says the same, field by field.

ccxt runs in an environment of its own (`.venv/oracle`) as a program that reads frames and writes what it makes of them
(`ccxt_parser.py`). Where the two may differ, why, and what must hold instead: `comparison.py`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from huracan.clock import MILLISECOND_NS
from huracan.contracts.market import InstrumentDefinition
from huracan.market.book import DepthUpdate
from huracan_cli.local_venues import SYMBOLS
from huracan_gateway.events import Depth, Event, Liquidation, Mark, Quote, Snapshot, Trade

from . import sessions
from .comparison import APART, FIELDS, Oracle
from .sessions import COINM, KINDS, OKX, SPOT, TICKS, USDM, Session

REPO = Path(__file__).resolve().parents[2]
ORACLE = REPO / ".venv" / "oracle" / "bin" / "python"
HFTBACKTEST = TICKS / "hftbacktest"


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    """Run ccxt; skip where its environment is missing, which on CI it must not be."""
    if not (ORACLE.parents[1] / ".ready").exists():
        missing = f"needs {ORACLE.parents[1].relative_to(REPO)}, which `make test` makes"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    command = [str(ORACLE), "-P", str(Path(__file__).with_name("ccxt_parser.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Oracle(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@pytest.fixture(scope="module")
def simulated() -> Sequence[Session]:
    """Return sessions of three simulated venues."""
    return sessions.simulated()


RECORDED: Mapping[str, tuple[Callable[[], Iterator[Session]], Mapping[str, Mapping[str, int]]]] = {
    "usdm": (
        partial(sessions.recorded, HFTBACKTEST / "binance_usdm_btcusdt_20240808.jsonl.gz"),
        {"binance_usdm": {"depth": 234, "instrument": 1, "quote": 2296, "snapshot": 1, "trade": 469}},
    ),
    "coinm": (
        partial(sessions.recorded, HFTBACKTEST / "binance_cm_btcusd_perp_20240808.jsonl.gz"),
        {"binance_coinm": {"depth": 1830, "instrument": 1, "quote": 1099, "snapshot": 1, "trade": 70}},
    ),
    "spot": (
        partial(sessions.recorded, HFTBACKTEST / "binance_spot_btcusdt_20240808.jsonl.gz"),
        {"binance_spot": {"depth": 281, "instrument": 1, "quote": 2200, "snapshot": 1, "trade": 518}},
    ),
    "usdm capture": (
        partial(sessions.captured, USDM, "BINANCE_FUTURES"),
        {"binance_usdm": {"depth": 764, "instrument": 4, "quote": 613, "snapshot": 4, "trade": 91}},
    ),
    "coinm capture": (
        partial(sessions.captured, COINM, "BINANCE_DELIVERY"),
        {"binance_coinm": {"depth": 1332, "instrument": 10, "quote": 1605, "snapshot": 10, "trade": 39}},
    ),
    "spot capture": (
        partial(sessions.captured, SPOT, "BINANCE"),
        {"binance_spot": {"depth": 177, "instrument": 4, "quote": 84, "trade": 2}},
    ),
    "okx capture": (
        partial(sessions.captured, OKX, "OKX"),
        {"okx": {"depth": 287, "instrument": 2, "snapshot": 3, "trade": 74}},
    ),
    "bybit book": (
        partial(sessions.zipped, TICKS / "nautilus" / "xrpusdt-ob500.data.zip"),
        {"bybit": {"depth": 49, "snapshot": 1}},
    ),
    "vendor": (
        sessions.vendors,
        {
            "binance_spot": {"quote": 1, "trade": 2},
            "binance_usdm": {"liquidation": 1, "mark": 3, "quote": 1, "trade": 3},
            "bybit": {"liquidation": 4, "mark": 5, "quote": 2, "snapshot": 1, "trade": 2},
            "okx": {"liquidation": 2, "mark": 2, "snapshot": 2, "trade": 2},
        },
    ),
    "documentation": (
        sessions.documented,
        {
            "binance_usdm": {"liquidation": 1, "mark": 1, "quote": 1},
            "bybit": {"instrument": 5, "mark": 1, "snapshot": 1, "trade": 1},
            "okx": {"instrument": 9, "mark": 1, "quote": 1, "snapshot": 1, "trade": 2},
        },
    ),
}
"""Where frames are from, and how many of each venue and kind are compared."""


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_frames_say_what_ccxt_says(oracle: Oracle, name: str) -> None:
    frames, expected = RECORDED[name]
    result = oracle.compare(frames())
    assert not result.different, "\n".join(result.different[:20])
    assert result.by_venue() == expected
    assert set(result.refused) <= {"unknown_stream"}, "bars and tickers are not read"


def test_frames_of_simulated_venues_say_what_ccxt_says(oracle: Oracle, simulated: Sequence[Session]) -> None:
    result = oracle.compare(simulated)
    assert not result.different, "\n".join(result.different[:20])
    assert not result.refused
    for venue in SYMBOLS:
        assert result.by_venue()[venue].keys() == KINDS | {"bar"}
        agreed = {(kind, name) for of, kind, name in result.agreed if of == venue}
        apart = {(kind, name) for of, kind, name in APART if of == venue}
        assert {(kind, name) for kind, names in FIELDS.items() for name in names} <= agreed | apart


FAULTS: Mapping[type, Callable[[Any], Event]] = {
    Trade: lambda right: Trade(right.event_ns, right.trade_id, right.price, right.size, -right.side),
    Quote: lambda right: Quote(
        right.event_ns, right.update_id, right.bid, right.bid_size, right.ask, right.ask_size + 1
    ),
    Mark: lambda right: Mark(right.event_ns + MILLISECOND_NS, right.mark, right.index),
    Liquidation: lambda right: Liquidation(right.event_ns, right.price, right.size, -right.side),
    Snapshot: lambda right: Snapshot(right.event_ns, right.last_update_id, right.bids[1:], right.asks),
    Depth: lambda right: Depth(right.event_ns, without_asks(right.update)),
}
"""What can be wrong, by kind."""
FOUND = {
    ("trade", "side"), ("quote", "ask_size"), ("mark", "time"), ("liquidation", "side"), ("snapshot", "bids"),
    ("book", "bids"), ("book", "asks"), ("last book", "bids"),
}  # fmt: skip
"""Kinds and fields by which they show."""


def without_asks(update: DepthUpdate) -> DepthUpdate:
    return DepthUpdate(update.first, update.final, update.previous, update.bids, ())


class Faulty:
    """A decoder that is wrong about everything."""

    def __init__(self, definition: InstrumentDefinition) -> None:
        self._right = USDM.decoder(definition)

    def decode(self, raw: bytes) -> tuple[str, Sequence[Event]]:
        """Return what a frame does not say."""
        kind, events = self._right.decode(raw)
        return kind, [FAULTS[type(event)](event) if type(event) in FAULTS else event for event in events]


def test_a_decoder_that_is_wrong_is_found_out(oracle: Oracle, simulated: Sequence[Session]) -> None:
    right = next(one for one in simulated if one.adapter is USDM)
    result = oracle.compare([replace(right, adapter=replace(USDM, decoder=Faulty))])
    found = {tuple(each.partition(":")[0].split("/")[1:]) for each in result.different}
    assert found >= FOUND

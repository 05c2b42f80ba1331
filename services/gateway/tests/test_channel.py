"""A channel between its feed and what it gives: order, refusals, answers, and the book it loses."""

from __future__ import annotations

import asyncio
import json
import math

import numpy as np
import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import STEP_NS, step_close, step_of
from huracan.contracts.context import ContextRef
from huracan.contracts.features import FeatureRow, FeatureWindow
from huracan.contracts.market import InstrumentDefinition, Reliability, TickBatch, tick_columns
from huracan.contracts.ops import DeadLetter, FeedChanged, FeedState
from huracan.features.micro import MICRO
from huracan.ports import Clock
from huracan.sim.loop import VirtualClock, run_virtual
from huracan_gateway.anomaly import AnomalyConfig, DivergenceDetector
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.channel import Channel
from huracan_gateway.config import GatewayConfig
from huracan_gateway.recording import Line

MS, S = 10**6, 10**9
START = 1_723_161_255 * S
BTCUSDT, BTCUSDC = (ADAPTER.implied(symbol, "0.10", "0.001") for symbol in ("BTCUSDT", "BTCUSDC"))
DIVERGENCE = DivergenceDetector(AnomalyConfig())


Rows = dict[tuple[str, int], dict[str, float]]
"""Values by name, by instrument and step."""


class Lines:
    """A feed of given frames, a millisecond apart."""

    def __init__(self, *frames: object, definition: InstrumentDefinition = BTCUSDT) -> None:
        self.adapter, self.definition, self.skipped = ADAPTER, definition, 0
        self.oldest_ns: int | None = None
        raws = [json.dumps(frame).encode() for frame in frames]
        self._lines = iter([Line(START + at * MS, raw) for at, raw in enumerate(raws)])

    async def next_line(self) -> Line | None:
        return next(self._lines, None)

    async def request_snapshot(self) -> None: ...

    async def aclose(self) -> None: ...


class Told:
    """An outlet that keeps what it is given. Its log takes nothing until it is open."""

    def __init__(self, clock: Clock, *, log_is_open: bool = True) -> None:
        self.clock = clock
        self.epoch = 1
        self.batches: list[TickBatch] = []
        self.logged_ns: list[int] = []
        self.letters: list[DeadLetter] = []
        self.events: list[Message] = []
        self.rows: Rows = {}
        self.log_is_open = asyncio.Event()
        if log_is_open:
            self.log_is_open.set()

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:
        await self.log_is_open.wait()
        await asyncio.sleep(0)
        if isinstance(message, TickBatch):
            assert topic == subjects.TICKS_TOPIC
            self.batches.append(message)
            self.logged_ns.append(self.clock.now_ns())
        elif isinstance(message, FeatureRow):
            values = np.frombuffer(message.values, dtype="<f4").tolist()
            self.rows[key, message.step] = dict(zip(MICRO.names, values, strict=True))
        elif isinstance(message, DeadLetter):
            self.letters.append(message)

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:
        self.events.append(message)

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None: ...

    async def news(self, now_ns: int) -> None: ...

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:
        return []

    async def stepped(self, key: str, step: int) -> None: ...


def quote(number: int, bid: str, ask: str, symbol: str = "BTCUSDT") -> object:
    ms = START // MS
    data = {"e": "bookTicker", "u": number, "E": ms, "T": ms, "s": symbol, "b": bid, "B": "1", "a": ask, "A": "1"}
    return {"stream": f"{symbol.lower()}@bookTicker", "data": data}


def answer(*trades: tuple[int, int, str]) -> object:
    """Return an answer of trades: their number, how many seconds ago, and the price."""
    return [
        {"a": number, "p": price, "q": "0.001", "f": number, "l": number, "T": START // MS - ago_s * 1_000, "m": False}
        for number, ago_s, price in trades
    ]


def snapshot() -> object:
    ms = START // MS
    return {"lastUpdateId": 7, "E": ms, "T": ms, "bids": [["99.90", "1"]], "asks": [["100.00", "1"]]}


def channel(told: Told, feed: Lines) -> Channel:
    return Channel(feed, GatewayConfig(), told, DIVERGENCE)


def played(*frames: object) -> tuple[Channel, Told]:
    async def run(clock: VirtualClock) -> tuple[Channel, Told]:
        told = Told(clock)
        one = channel(told, Lines(*frames))
        await one.play()
        return one, told

    return run_virtual(run, start_ns=START)


def test_batches_keep_their_order_while_the_log_is_slow() -> None:
    async def run(clock: VirtualClock) -> list[int]:
        told = Told(clock, log_is_open=False)
        one = channel(told, Lines())
        one.instrument.flush(1)
        one.instrument.flush(2)
        first = asyncio.create_task(one.claim())
        await asyncio.sleep(0)
        second = asyncio.create_task(one.claim())
        await asyncio.sleep(0)
        told.log_is_open.set()
        await asyncio.gather(first, second)
        return [batch.batch for batch in told.batches]

    assert run_virtual(run, start_ns=START) == [1, 2, 3, 4]


def test_a_quote_that_is_refused_is_compared_with_no_other_market() -> None:
    async def run(clock: VirtualClock) -> list[Channel]:
        told = Told(clock)
        both = [
            channel(told, Lines(quote(1, "99.9", "100.0"), quote(2, "0.00", "0.00"), quote(3, "99.9", "100.0"))),
            channel(told, Lines(quote(1, "99.9", "100.0", "BTCUSDC"), definition=BTCUSDC)),
        ]
        for one in both:
            one.beside({each.key: each for each in both})
            await one.play()
        return both

    one, _ = run_virtual(run, start_ns=START)
    assert (one.counts["rejected.not_positive"], one.counts["ticks_logged"]) == (1, 2)


def test_a_step_is_compared_with_the_step_before_of_another_venue_whichever_closes_first() -> None:
    async def run(
        clock: VirtualClock, order: tuple[int, int]
    ) -> tuple[dict[tuple[str, int], dict[str, float]], str, str]:
        told = Told(clock)
        both = [
            channel(told, Lines(quote(1, "99.9", "100.0"), snapshot())),
            channel(told, Lines(quote(1, "99.8", "100.0", "BTCUSDC"), snapshot(), definition=BTCUSDC)),
        ]
        for one in both:
            one.beside({each.key: each for each in both})
            await one.play()
        for step in range(step_of(START), step_of(START) + 12):
            for number in order:
                await both[number].close_through(step_close(step))
        return told.rows, both[0].key, both[1].key

    rows, near, far = run_virtual(lambda clock: run(clock, (0, 1)), start_ns=START)
    again, _, _ = run_virtual(lambda clock: run(clock, (1, 0)), start_ns=START)
    assert str(rows) == str({of: again[of] for of in rows}), "as text, for nan is not itself"
    first, second, last = (rows[near, START // STEP_NS + step] for step in (0, 1, 11))
    assert math.isnan(first["venue_mid_gap_bps"]), "the other had no step before"
    assert second["venue_mid_gap_bps"] == pytest.approx(1e4 * math.log(99.95 / 99.9), rel=1e-6)
    assert second["venue_spread_gap_bps"] == pytest.approx(-10, rel=1e-2)
    assert math.isnan(second["venue_lead_1s_bps"])
    assert last["venue_lead_1s_bps"] == 0
    assert rows[far, START // STEP_NS + 1]["venue_mid_gap_bps"] == pytest.approx(-second["venue_mid_gap_bps"])


def test_of_trades_that_were_asked_for_the_known_ones_are_no_fault_and_the_new_ones_count_however_old() -> None:
    one, told = played(
        answer((1, 500, "100.0"), (2, 400, "100.0"), (3, 1, "100.0")),
        answer((2, 400, "100.0"), (3, 1, "100.0"), (4, 1, "100.1")),
        answer((3, 1, "100.0"), (4, 1, "100.1")),
        answer(),
    )
    assert [row for batch in told.batches for row in [batch.rows]] == [4]
    assert (one.counts["trades_known"], one.counts["ticks_logged"]) == (4, 4)
    assert not told.letters
    parts = {part.name: part.value for part in one.instrument.meter.current(START + S).parts}
    assert (parts["duplicate"], parts["out_of_order"], parts["gap"]) == (0, 0, 0)


def test_a_frame_of_which_a_part_is_refused_is_kept_with_the_reason() -> None:
    one, told = played(answer((1, 1, "100.0")), answer((2, 1, "0.0"), (3, 1, "100.0")))
    (letter,) = told.letters
    assert (letter.reason, letter.detail.partition(":")[0]) == ("not_positive", "1 of 2 events")
    assert one.counts["events_rejected.not_positive"] == 1
    assert not [name for name in one.counts if name.startswith("rejected.")]


class Behind(Lines):
    """A feed whose lines have all come and are taken one every five milliseconds."""

    def __init__(self, clock: Clock, *frames: object) -> None:
        super().__init__(*frames)
        self._clock = clock
        self._waiting = list(self._lines)
        self.oldest_ns = self._waiting[0].recv_ns

    async def next_line(self) -> Line | None:
        await self._clock.sleep_until(self._clock.now_ns() + 5 * MS)
        line = self._waiting.pop(0) if self._waiting else None
        self.oldest_ns = self._waiting[0].recv_ns if self._waiting else None
        return line


@pytest.mark.parametrize(("most_ms", "late"), [(1_000, False), (10, True)])
def test_a_step_is_held_open_for_the_lines_that_wait_but_not_for_ever(most_ms: int, late: bool) -> None:
    first_close_ns = START + 100 * MS

    async def run(clock: VirtualClock) -> Told:
        told = Told(clock)
        feed = Behind(clock, snapshot(), *[quote(number, "99.9", "100.0") for number in range(1, 30)])
        one = Channel(feed, GatewayConfig(max_close_delay_ms=most_ms), told, DIVERGENCE)
        closing = asyncio.create_task(one.close_on_the_clock())
        await one.play()
        await clock.sleep_until(first_close_ns + 500 * MS)
        closing.cancel()
        return told

    told = run_virtual(run, start_ns=first_close_ns - 20 * MS)
    watermark_ns, overtaken = 0, 0
    for batch in told.batches:
        overtaken += sum(recv_ns < watermark_ns for recv_ns in tick_columns(batch).recv_ns)
        watermark_ns = batch.watermark_ns
    assert (overtaken > 0) is late


class OnTime(Lines):
    """A feed whose frames come at given milliseconds."""

    def __init__(self, clock: Clock, *frames: tuple[int, object]) -> None:
        super().__init__()
        self._clock = clock
        self._waiting = [Line(START + at_ms * MS, json.dumps(frame).encode()) for at_ms, frame in frames]

    async def next_line(self) -> Line | None:
        if not self._waiting:
            return None
        line = self._waiting.pop(0)
        await self._clock.sleep_until(line.recv_ns)
        return line


def test_ticks_reach_the_log_at_256_rows_or_five_milliseconds_after_the_first_of_them() -> None:
    times_ms = (1, 2, 4, 9, 30, 31, *[50] * 600, 51)

    async def run(clock: VirtualClock) -> Told:
        told = Told(clock)
        feed = OnTime(clock, *[(at_ms, quote(number, "99.9", "100.0")) for number, at_ms in enumerate(times_ms, 1)])
        one = channel(told, feed)
        flushing = asyncio.create_task(one.flush_on_the_clock())
        await one.play()
        flushing.cancel()
        return told

    told = run_virtual(run, start_ns=START)
    rows, logged = [list(tick_columns(batch).recv_ns) for batch in told.batches], told.logged_ns
    assert [len(of_batch) for of_batch in rows] == [6, 2, 4, *[256] * 4, 178]  # a quote has two
    late_ms = [(at_ns - of_batch[0]) / MS for of_batch, at_ns in zip(rows, logged, strict=True)]
    assert late_ms == [5, 5, 5, 0, 0, 0, 0, 1]  # the last with the end of the feed
    watermark_ns = 0
    for of_batch, batch in zip(rows, told.batches, strict=True):
        assert min(of_batch) >= watermark_ns
        watermark_ns = batch.watermark_ns
    assert [number for of_batch in rows for number in of_batch] == [
        START + at_ms * MS for at_ms in times_ms for _ in "ba"
    ]


def test_a_book_that_was_lost_is_told_when_it_is_there_again() -> None:
    async def run(clock: VirtualClock) -> tuple[Channel, Told]:
        told = Told(clock)
        one = channel(told, Lines(snapshot()))
        await one.play()
        one.lose_book()
        assert not one.instrument.book.synced
        one.feed = Lines(snapshot())
        await one.play()
        return one, told

    one, told = run_virtual(run, start_ns=START)
    assert one.instrument.book.synced
    states = [event.state for event in told.events if isinstance(event, FeedChanged)]
    assert states == [FeedState.FEED_STATE_RESYNCED]


def test_who_stands_by_again_has_no_book_and_no_bad_hours() -> None:
    async def run(clock: VirtualClock) -> tuple[Channel, Told]:
        told = Told(clock)
        one = channel(told, Lines(snapshot()))
        await one.play()
        playing = asyncio.create_task(one.play())
        await one.interrupt(playing)
        assert not one.instrument.book.synced
        assert one.instrument.meter.close_through(START + 5 * 3_600 * S) == []
        return one, told

    _, told = run_virtual(run, start_ns=START + MS)
    (hour,) = [event for event in told.events if isinstance(event, Reliability)]
    assert hour.score > 99

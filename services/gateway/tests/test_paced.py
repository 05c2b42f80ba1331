"""A tape on the clock: lines at their time, a venue that answers, a gateway that comes back in the middle."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from huracan.bus import subjects
from huracan.clock import STEP_NS, step_of
from huracan.contracts.features import FeatureRow
from huracan.contracts.market import TickBatch, instrument_key, tick_columns
from huracan.contracts.ops import DeadLetter
from huracan.market.book import Level
from huracan.ports import Clock, Ports
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.config import GatewayConfig
from huracan_gateway.events import Depth, Snapshot
from huracan_gateway.feed import Feed, Tape, opened, recorded
from huracan_gateway.paced import LINES_AT_ONCE, SNAPSHOT_LEVELS, PacedFeed, VenueBook
from huracan_gateway.recording import Line
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.service import Gateway
from huracan_gateway.venues import ADAPTERS

from .test_adapters import EXAMPLES

RECORDING = Path(__file__).resolve().parents[4] / "shared/data/ticks/hftbacktest/binance_usdm_btcusdt_20240808.jsonl.gz"
NS = 10**9
MS = 10**6
START = 1_723_161_255 * NS
BTCUSDT = ADAPTER.implied("BTCUSDT", "0.10", "0.001")
AHEAD_MS = 1_270
"""The venue's clock before ours."""
MARKET = SimulatedMarketConfig(seed=11, duration_s=12.0, regime_switch_s=4.0, clock_skew_ms=AHEAD_MS)


def trade(at_ms: int, trade_id: int) -> Line:
    event_ms = START // MS + at_ms + AHEAD_MS
    data = {"e": "trade", "E": event_ms, "s": "BTCUSDT", "t": trade_id, "p": "100.00", "q": "1", "X": "", "m": False}
    return Line(START + at_ms * MS, json.dumps({"stream": "btcusdt@trade", "data": data}).encode())


def depth(at_ms: int, final: int, bids: Sequence[tuple[str, str]] = (), asks: Sequence[tuple[str, str]] = ()) -> Line:
    """Return an update of the ids from the one before `final`."""
    event_ms = START // MS + at_ms + AHEAD_MS
    levels = {"b": bids, "a": asks}
    data = {"e": "depthUpdate", "E": event_ms, "s": "BTCUSDT", "U": final, "u": final, "pu": final - 1, **levels}
    return Line(START + at_ms * MS, json.dumps({"stream": "btcusdt@depth@0ms", "data": data}).encode())


def snapshot(at_ms: int, final: int, bids: Sequence[tuple[str, str]], asks: Sequence[tuple[str, str]]) -> Line:
    event_ms = START // MS + at_ms + AHEAD_MS
    frame = {"lastUpdateId": final, "E": event_ms, "bids": bids, "asks": asks}
    return Line(START + at_ms * MS, json.dumps(frame).encode())


def refused(raw: bytes = b"garbage") -> Line:
    return Line(0, raw, Rejected(Reason.BAD_LINE, f"line began with {raw!r}"))


def on_clock(main: Callable[[VirtualClock], Awaitable[None]], *, late_ms: int = 0) -> None:
    """Run a scenario on virtual time, from `late_ms` after the start of the tape."""

    async def scenario(clock: VirtualClock) -> None:
        await main(clock)

    run_virtual(scenario, start_ns=START + late_ms * MS)


def feed_of(lines: Sequence[Line], clock: Clock) -> PacedFeed:
    return PacedFeed(lambda: iter(lines), ADAPTER, BTCUSDT, clock)


async def rest(feed: PacedFeed) -> list[Line]:
    """Return all lines until the end."""
    lines = []
    while (line := await feed.next_line()) is not None:
        lines.append(line)
    return lines


class Oversleeper:
    """A clock on a machine that is busy elsewhere: it wakes its caller late now and then."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sleeps = 0

    def now_ns(self) -> int:
        return self._clock.now_ns()

    async def sleep_until(self, ns: int) -> None:
        if ns > self._clock.now_ns():
            self._sleeps += 1
            late_ns = 370 * MS if self._sleeps % 20 == 0 else 0
            await self._clock.sleep_until(ns + late_ns)


class DroppingFeed(PacedFeed):
    """A connection to a venue that loses one depth update."""

    def __init__(self, tape: Tape, clock: Clock, *, lost: int) -> None:
        super().__init__(tape.lines, tape.adapter, tape.definition, clock)
        self._lost = lost
        self._updates = 0

    async def next_line(self) -> Line | None:
        line = await super().next_line()
        self._updates += line is not None and b"@depth" in line.raw
        if self._updates == self._lost:
            self._lost = 0
            return await super().next_line()
        return line


@dataclass(frozen=True)
class Played:
    """What a gateway made of a tape; of its last incarnation, but for the logs."""

    gateway: Gateway
    feed: Feed
    ticks: list[TickBatch]
    rows: list[FeatureRow]
    letters: list[DeadLetter]

    @property
    def book(self) -> tuple[list[Level], list[Level]]:
        assert self.gateway.instrument is not None
        assert self.gateway.instrument.book.synced
        return self.gateway.instrument.book.book.levels()

    @property
    def checked(self) -> tuple[int, float | None]:
        """How many updates were compared with the venue's quotes, and the share of them that match."""
        assert self.gateway.instrument is not None
        return self.gateway.instrument.check.compared, self.gateway.instrument.check.ratio

    @property
    def skew_ns(self) -> int:
        return next(iter(self.gateway.channels.values())).skew.skew_ns()

    def count(self, name: str) -> int:
        assert self.gateway.instrument is not None
        return self.gateway.report()[name]


def paced(tape: Tape) -> Callable[[Clock], Feed]:
    return lambda clock: PacedFeed(tape.lines, tape.adapter, tape.definition, clock)


def play(tape: Tape, feed: Callable[[Clock], Feed], *, down_s: tuple[float, float] | None = None) -> Played:
    """Play a tape through a live gateway to its end; it is down from one time to another."""
    feeds: list[Feed] = []

    def gateway(ports: Ports) -> Gateway:
        feeds.append(feed(ports.clock))
        return Gateway(GatewayConfig(), [opened(feeds[-1])], ports)

    async def scenario(clock: VirtualClock) -> Played:
        world = World(clock, seed=1)
        world.start("gateway", gateway)
        if down_s is not None:
            killed_s, back_s = down_s
            await clock.sleep_until(tape.first_recv_ns + round(killed_s * NS))
            await world.kill("gateway")
            await clock.sleep_until(tape.first_recv_ns + round(back_s * NS))
            world.start("gateway")
        await world.finish("gateway")
        made = world.services["gateway"]
        assert isinstance(made, Gateway)
        log, key = world.log.node("reader"), instrument_key(tape.definition.id)
        ticks, rows, letters = [
            [record.message for record in await log.read(topic, key, 0)]
            for topic in (
                subjects.TICKS_TOPIC,
                subjects.FEATURES_TOPIC,
                subjects.dead_letters(subjects.TICKS_TOPIC),
            )
        ]
        await world.stop()
        return Played(
            made,
            feeds[-1],
            [batch for batch in ticks if isinstance(batch, TickBatch)],
            [row for row in rows if isinstance(row, FeatureRow)],
            [letter for letter in letters if isinstance(letter, DeadLetter)],
        )

    return run_virtual(scenario, start_ns=tape.first_recv_ns)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Tape:
    """A recording of 12 s of a simulated market."""
    path = tmp_path_factory.mktemp("tape") / "market.jsonl"
    write_recording(MARKET, path)
    return recorded(path)


@pytest.fixture(scope="module")
def whole(market: Tape) -> Played:
    """What an undisturbed gateway makes of it."""
    return play(market, paced(market))


def is_depth(line: Line) -> bool:
    return b"@depth" in line.raw


def test_each_line_comes_at_its_time_with_that_time() -> None:
    lines = [snapshot(0, 1, [("99", "1")], [("101", "1")]), trade(40, 1), trade(40, 2), depth(900, 2)]

    async def main(clock: VirtualClock) -> None:
        feed, came = feed_of(lines, clock), []
        await feed.request_snapshot()
        while (line := await feed.next_line()) is not None:
            came.append((clock.now_ns(), line))
        assert came == [(line.recv_ns, line) for line in lines]
        assert feed.skipped == 0
        assert await feed.next_line() is None

    on_clock(main)


def test_lines_that_come_late_bear_the_time_at_which_they_came() -> None:
    lines = [trade(at_ms, at_ms + 1) for at_ms in range(0, 1_000, 10)]

    async def main(clock: VirtualClock) -> None:
        feed, late = feed_of(lines, Oversleeper(clock)), 0
        for line in lines:
            came = await feed.next_line()
            assert came == Line(clock.now_ns(), line.raw)
            late += came.recv_ns > line.recv_ns
            await asyncio.sleep(0.005)
        assert 50 < late < len(lines)

    on_clock(main)


def test_no_frame_comes_with_a_time_before_a_step_that_has_closed(market: Tape) -> None:
    played = play(market, lambda clock: PacedFeed(market.lines, market.adapter, market.definition, Oversleeper(clock)))
    late = {sequence: at for batch in played.ticks for sequence, at in _received(batch)}
    on_time = {line.recv_ns for line in market.lines()}
    assert len(set(late.values()) - on_time) > 10, "lines were held up"
    spans = [(row.step, row.first_ingest_seq, row.last_ingest_seq) for row in played.rows if row.last_ingest_seq]
    assert len(spans) > 50
    for step, first, last in spans[1:]:
        assert {step_of(late[sequence]) for sequence in range(first, last + 1)} == {step}
    assert not played.letters
    assert played.checked[1] == 1.0


def _received(batch: TickBatch) -> Iterator[tuple[int, int]]:
    columns = tick_columns(batch)
    return zip(columns.ingest_seq, columns.recv_ns, strict=True)


def test_a_feed_that_is_behind_lets_others_have_their_turn() -> None:
    lines = [trade(0, number) for number in range(1, 1_001)]

    async def main(clock: VirtualClock) -> None:
        feed, turns = feed_of(lines, clock), 0

        async def neighbour() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(neighbour())
        await rest(feed)
        at_the_end = turns
        beside.cancel()
        assert at_the_end >= len(lines) // LINES_AT_ONCE

    on_clock(main)
    on_clock(main, late_ms=5_000)


def test_lines_refused_on_the_tape_keep_reason_and_place() -> None:
    lines = [refused(b"one"), trade(0, 1), refused(b"two"), refused(b"three"), trade(50, 2), refused(b"four")]

    async def main(clock: VirtualClock) -> None:
        assert await rest(feed_of(lines, clock)) == lines

    on_clock(main)


def test_damaged_lines_reach_the_dead_letters_with_their_reasons(market: Tape) -> None:
    def damaged() -> Iterator[Line]:
        for number, line in enumerate(market.lines()):
            yield line
            if number == 300:
                yield refused()
                yield Line(line.recv_ns, b"{not json")
                yield Line(line.recv_ns, line.raw.replace(b"SIMUSDT", b"ETHUSDT"))

    tape = replace(market, lines=damaged)
    played = play(tape, paced(tape))
    assert [letter.reason for letter in played.letters] == [Reason.BAD_LINE, Reason.BAD_JSON, Reason.OTHER_SYMBOL]
    assert played.checked[1] == 1.0


@pytest.mark.parametrize("late_ms", [0, 1_000])
def test_who_begins_within_a_second_hears_everything(late_ms: int) -> None:
    lines = [refused(), *(trade(at_ms, at_ms + 1) for at_ms in range(0, 3_000, 100))]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        came = await rest(feed)
        assert [line.raw for line in came] == [line.raw for line in lines]
        assert feed.skipped == 0
        times = [line.recv_ns for line in came[1:]]
        assert times == [max(line.recv_ns, START + late_ms * MS) for line in lines[1:]]

    on_clock(main, late_ms=late_ms)


def test_who_begins_later_hears_what_comes_from_then_on_and_is_told_how_much_was_skipped() -> None:
    lines = [refused(), *(trade(at_ms, at_ms + 1) for at_ms in range(0, 3_000, 100))]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        assert await rest(feed) == [line for line in lines if line.recv_ns >= START + 1_100 * MS]
        assert feed.skipped == 1 + 11

    on_clock(main, late_ms=1_100)


def test_who_begins_after_the_end_hears_the_end() -> None:
    lines = [trade(at_ms, at_ms + 1) for at_ms in range(0, 3_000, 100)]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        await feed.request_snapshot()
        assert await rest(feed) == []
        assert feed.skipped == len(lines)

    on_clock(main, late_ms=9_000)


def test_a_damaged_receive_time_holds_up_no_other_line() -> None:
    lines = [trade(at_ms, at_ms + 1) for at_ms in range(0, 1_000, 100)]
    lines[4] = replace(lines[4], recv_ns=START + 10**6 * NS)
    lines[7] = replace(lines[7], recv_ns=START - 10**6 * NS)

    async def main(clock: VirtualClock) -> None:
        came = await rest(feed_of(lines, clock))
        assert [line.raw for line in came] == [line.raw for line in lines]
        assert [(line.recv_ns - START) // MS for line in came] == [0, 100, 200, 300, 500, 500, 600, 600, 800, 900]

    on_clock(main)


def test_before_its_own_snapshot_a_tape_has_nothing_to_answer() -> None:
    lines = [depth(0, 1), trade(10, 1), snapshot(20, 1, [("99", "1")], [("101", "1")]), depth(30, 2)]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        for line in lines[:3]:
            await feed.request_snapshot()
            assert await feed.next_line() == line
        await feed.request_snapshot()
        answer = await feed.next_line()
        assert answer is not None
        assert answer.raw != lines[3].raw

    on_clock(main)


def test_an_undisturbed_gateway_hears_every_line_and_the_tapes_own_snapshot_alone(market: Tape, whole: Played) -> None:
    assert whole.count("frames_in") == whole.count("ticks_logged") == sum(1 for _ in market.lines())
    assert whole.count("frames.snapshot") == 1
    assert whole.checked[1] == 1.0


def test_an_answer_is_the_book_at_that_place_of_the_tape_in_the_increments_of_the_instrument() -> None:
    lines = [
        depth(0, 9, [("90", "9")]),
        depth(10, 10, [("98", "2")]),
        depth(20, 11, [("97.1", "3.000")]),
        snapshot(30, 10, [("99.00", "1"), ("98", "2")], [("101.00", "1"), ("102.3", "0.5")]),
        depth(40, 12, [("99.00", "0.000")], [("101", "0.25")]),
        trade(50, 1),
        depth(2_000, 13, [("98.00", "7")]),
    ]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        await feed.request_snapshot()
        answer = await feed.next_line()
        assert answer is not None
        assert answer.recv_ns == clock.now_ns() == START + 1_500 * MS
        told = json.loads(answer.raw)
        assert (told["lastUpdateId"], told["E"]) == (12, START // MS + 1_500 + AHEAD_MS)
        assert told["bids"] == [["98.00", "2.000"], ["97.10", "3.000"]]
        assert told["asks"] == [["101.00", "0.250"], ["102.30", "0.500"]]
        assert await rest(feed) == lines[-1:], "it is given once"

    on_clock(main, late_ms=1_500)


def test_an_answer_comes_before_the_line_that_was_waited_for() -> None:
    lines = [snapshot(0, 1, [("99", "1")], [("101", "1")]), trade(500, 1), trade(600, 2)]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        assert await feed.next_line() == lines[0]
        waiting = asyncio.create_task(feed.next_line())
        await asyncio.sleep(0.1)
        await feed.request_snapshot()
        answer = await waiting
        assert answer is not None
        assert json.loads(answer.raw)["lastUpdateId"] == 1
        assert answer.recv_ns == clock.now_ns()
        assert await rest(feed) == lines[1:]

    on_clock(main)


def test_a_line_that_was_waited_for_in_vain_is_not_lost() -> None:
    lines = [trade(0, 1), trade(500, 2)]

    async def main(clock: VirtualClock) -> None:
        feed = feed_of(lines, clock)
        assert await feed.next_line() == lines[0]
        waiting = asyncio.create_task(feed.next_line())
        await asyncio.sleep(0.1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await rest(feed) == lines[1:]

    on_clock(main)


def test_an_answer_has_as_many_levels_as_the_venue_gives() -> None:
    book = VenueBook(ADAPTER, BTCUSDT)
    bids = [(f"{price}", "1") for price in range(10_000, 8_000, -1)]
    asks = [(f"{price}", "1") for price in range(10_001, 12_001)]
    book.take(snapshot(0, 1, bids, asks), START)
    told = json.loads(book.snapshot(START))
    assert [price for price, _ in told["bids"]] == [f"{price}.00" for price, _ in bids[:SNAPSHOT_LEVELS]]
    assert [price for price, _ in told["asks"]] == [f"{price}.00" for price, _ in asks[:SNAPSHOT_LEVELS]]


def test_where_the_tape_lacks_an_update_the_newer_of_two_crossed_levels_stands() -> None:
    book = VenueBook(ADAPTER, BTCUSDT)
    book.take(snapshot(0, 1, [("100", "1"), ("99", "1")], [("101", "1"), ("102", "1")]), START)
    book.take(depth(10, 5, asks=[("99.5", "2")]), START)
    assert json.loads(book.snapshot(START))["bids"] == [["99.00", "1.000"]]
    book.take(depth(20, 6, bids=[("101", "3")]), START)
    told = json.loads(book.snapshot(START))
    assert (told["bids"][0], told["asks"]) == (["101.00", "3.000"], [["102.00", "1.000"]])


def test_a_later_snapshot_on_the_tape_begins_the_book_anew() -> None:
    book = VenueBook(ADAPTER, BTCUSDT)
    book.take(snapshot(0, 1, [("100", "1")], [("101", "1")]), START)
    book.take(snapshot(10, 9, [("99", "1")], [("102", "1")]), START)
    told = json.loads(book.snapshot(START))
    assert (told["lastUpdateId"], told["bids"], told["asks"]) == (9, [["99.00", "1.000"]], [["102.00", "1.000"]])


def test_frames_that_a_gateway_refuses_and_older_ones_change_no_answer() -> None:
    book = VenueBook(ADAPTER, BTCUSDT)
    book.take(snapshot(0, 7, [("100", "1")], [("101", "1")]), START)
    told = book.snapshot(START)
    for line in (
        refused(b'{"stream":"btcusdt@depth"'),
        Line(START, b'{"stream":"btcusdt@depth@0ms"'),
        depth(0, 8, bids=[("100.05", "1")]),
        depth(0, 6, bids=[("100", "9")]),
        depth(0, 7, bids=[("100", "9")]),
        snapshot(0, 6, [("90", "1")], []),
        replace(depth(0, 8), raw=depth(0, 8).raw.replace(b"BTCUSDT", b"ETHUSDT")),
    ):
        book.take(line, START)
        assert book.snapshot(START) == told


@pytest.mark.parametrize("venue", ADAPTERS)
def test_a_tape_of_any_venue_answers_with_the_book_of_each_of_its_snapshots_in_the_venues_form(venue: str) -> None:
    adapter = ADAPTERS[venue]
    definition = adapter.implied(next(filter(None, map(adapter.symbol_of, EXAMPLES[venue]))), "0.01", "0.00001")
    snapshots = 0
    for frame in EXAMPLES[venue]:
        for event in adapter.decoder(definition).decode(frame)[1]:
            if isinstance(event, Snapshot):
                book = VenueBook(adapter, definition)
                book.take(Line(START, frame), START)
                assert book.known
                [told] = adapter.decoder(definition).decode(book.snapshot(START))[1]
                assert isinstance(told, Snapshot)
                assert (told.last_update_id, told.bids, told.asks) == (event.last_update_id, event.bids, event.asks)
                snapshots += 1
    assert snapshots


def test_a_restarted_gateway_has_the_venues_book_again(market: Tape, whole: Played) -> None:
    played = play(market, paced(market), down_s=(5.03, 6.51))
    assert isinstance(played.feed, PacedFeed)
    skipped = sum(1 for line in market.lines() if line.recv_ns < market.first_recv_ns + 6_510 * MS)
    assert played.feed.skipped == skipped
    assert played.count("frames_in") == played.count("ticks_logged") == 1 + whole.count("frames_in") - skipped
    assert (played.count("snapshots"), played.count("gaps.depth"), len(played.letters)) == (1, 0, 0)
    compared, ratio = played.checked
    assert ratio == 1.0
    assert compared > 0.95 * sum(1 for line in list(market.lines())[skipped:] if is_depth(line))
    assert played.book == whole.book
    assert {batch.epoch for batch in played.ticks} == {1, 2}
    assert played.skew_ns == pytest.approx(whole.skew_ns, abs=MS)


def test_a_restarted_gateway_closes_steps_again_at_once(market: Tape) -> None:
    back_ns = market.first_recv_ns + 6_510 * MS
    rows = [row for row in play(market, paced(market), down_s=(5.03, 6.51)).rows if row.epoch == 2]
    assert rows[0].step == step_of(back_ns)
    assert {later.step - earlier.step for earlier, later in pairwise(rows)} == {1}
    assert rows[-1].close_ns > market.first_recv_ns + round(MARKET.duration_s * NS) - 2 * STEP_NS


def test_an_update_lost_on_its_way_is_healed_by_the_venues_answer(market: Tape, whole: Played) -> None:
    played = play(market, lambda clock: DroppingFeed(market, clock, lost=60))
    assert (played.count("gaps.depth"), played.count("snapshots"), len(played.letters)) == (1, 2, 0)
    compared, ratio = played.checked
    assert ratio == 1.0
    assert compared == whole.checked[0] - 1, "all but the lost one"
    assert played.book == whole.book


@pytest.mark.parametrize("missing", [20, 60, 150])
def test_a_gateway_has_a_book_again_after_an_update_that_the_tape_lacks(
    market: Tape, whole: Played, missing: int
) -> None:
    lost = [line for line in market.lines() if is_depth(line)][missing]
    tape = replace(market, lines=lambda: (line for line in market.lines() if line != lost))
    played = play(tape, paced(tape))
    assert played.count("gaps.depth") == played.count("snapshots") - 1 >= 1
    assert not played.letters
    compared, ratio = played.checked
    assert compared > 0.9 * whole.checked[0]
    assert ratio is not None
    assert ratio > 0.9


def test_a_restarted_gateway_has_the_book_of_a_real_venue_again() -> None:
    if not RECORDING.is_file():
        pytest.skip(f"needs {RECORDING.name} in ../shared")
    head = recorded(RECORDING)
    end_ns = head.first_recv_ns + 60 * NS
    tape = replace(head, lines=lambda: takewhile(lambda line: line.recv_ns < end_ns, head.lines()))
    assert (tape.source, tape.simulated) == (RECORDING.name, False)
    played = play(tape, paced(tape), down_s=(20.0, 25.0))
    decoder = ADAPTER.decoder(tape.definition)
    kinds = [decoder.decode(line.raw)[1][0] for line in tape.lines() if line.recv_ns >= tape.first_recv_ns + 25 * NS]
    updates = sum(isinstance(event, Depth) for event in kinds)
    assert not any(isinstance(event, Snapshot) for event in kinds)
    assert (played.count("snapshots"), played.count("gaps.depth"), len(played.letters)) == (1, 0, 0)
    compared, ratio = played.checked
    assert ratio == 1.0
    assert compared > 0.99 * updates > 500

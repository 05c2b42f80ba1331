"""The gateway as a service: every frame accounted for, steps in lockstep or on the clock, restarts in a new epoch."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huracan.bus import subjects
from huracan.bus.memory import Stored
from huracan.clock import MINUTE_NS, STEP_NS, step_close, step_of, step_open
from huracan.contracts.codec import encode, schema_of
from huracan.contracts.context import DRIFT, Context, context, drift_key, mood_state
from huracan.contracts.features import FeatureRow, FeatureWindow, window_matrix
from huracan.contracts.market import InstrumentId, NewsItem, TickBatch, instrument_key, tick_columns
from huracan.contracts.ops import DeadLetter, GapDetected, StepAcknowledged, service_changed, step_acknowledged
from huracan.errors import BadInput
from huracan.ports import Inbox, Ports
from huracan.service.announce import announce
from huracan.service.service import Service
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import World
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import Feed, RecordingFeed, opened
from huracan_gateway.recording import Line
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.service import Gateway

NS = 10**9
MS = 10**6
START = step_open(step_of(1_723_161_255 * NS))
FIRST = step_of(START)
BTCUSDT = ADAPTER.implied("BTCUSDT", "0.10", "0.001")
KEY = instrument_key(BTCUSDT.id)
ECHO = "echo"
LOCKSTEP = GatewayConfig(lockstep_services=(ECHO,))
ON_THE_CLOCK = GatewayConfig()


@dataclass
class Script:
    """Lines of a small recording; the venue's clock is ahead of ours by `skew_ms`."""

    skew_ms: int = 1_270
    lines: list[Line] = field(default_factory=list)
    trades: int = 0
    quotes: int = 0
    final: int = 100

    def raw(self, at_ms: float, raw: bytes) -> None:
        self.lines.append(Line(START + round(at_ms * MS), raw))

    def stream(self, at_ms: float, channel: str, kind: str, **data: object) -> None:
        event_ms = START // MS + round(at_ms) + self.skew_ms
        data = {"e": kind, "E": event_ms, "T": event_ms, "s": "BTCUSDT", **data}
        self.raw(at_ms, json.dumps({"stream": f"btcusdt@{channel}", "data": data}).encode())

    def snapshot(self, at_ms: float) -> None:
        levels = {"bids": [["100.00", "1.000"]], "asks": [["100.10", "1.000"]]}
        event_ms = START // MS + round(at_ms) + self.skew_ms
        self.raw(at_ms, json.dumps({"lastUpdateId": self.final, "E": event_ms, **levels}).encode())

    def trade(self, at_ms: float, price: str = "100.00", size: str = "0.001") -> None:
        self.trades += 1
        self.stream(at_ms, "trade", "trade", t=self.trades, p=price, q=size, X="MARKET", m=False)

    def quote(self, at_ms: float) -> None:
        self.quotes += 1
        self.stream(at_ms, "bookTicker", "bookTicker", u=self.quotes, b="100.00", B="1", a="100.10", A="1")

    def depth(self, at_ms: float, *, lost: int = 0) -> None:
        first = self.final + 1 + lost
        level = [[["99.00", "1.000"]], []]
        self.stream(at_ms, "depth@0ms", "depthUpdate", U=first, u=first, pu=first - 1, b=level[0], a=level[1])
        self.final = first


def steady(until_ms: int, *, skew_ms: int = 1_270) -> Script:
    """Return a snapshot and then a trade every 50 ms."""
    script = Script(skew_ms)
    script.snapshot(1)
    for at_ms in range(50, until_ms, 50):
        script.trade(at_ms)
    return script


class ListFeed:
    """Give lines at once, or each at its receive time."""

    def __init__(self, lines: Sequence[Line], clock: VirtualClock | None = None) -> None:
        self.adapter, self.definition = ADAPTER, BTCUSDT
        self.snapshots_requested = 0
        self.skipped = 0
        self.oldest_ns: int | None = None
        self._lines = iter(lines)
        self._clock = clock

    async def next_line(self) -> Line | None:
        line = next(self._lines, None)
        if line is not None and self._clock is not None:
            await self._clock.sleep_until(line.recv_ns)
        return line

    async def request_snapshot(self) -> None:
        self.snapshots_requested += 1

    async def aclose(self) -> None:
        pass


class Echo(Service):
    """A service that acknowledges every window it sees, when `allow` lets it."""

    def __init__(
        self, ports: Ports, *, name: str = ECHO, allow: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(name)
        self.windows: list[FeatureWindow] = []
        self._ports = ports
        self._allow = allow

    async def run(self) -> None:
        inbox = self._ports.bus.inbox()
        inbox.subscribe("feat.v1.micro.>")
        await announce(self._ports, self.name, running=True)
        async for delivery in inbox:
            window = delivery.decode()
            assert isinstance(window, FeatureWindow)
            self.windows.append(window)
            if self._allow is not None:
                await self._allow(window.step)
            await self.acknowledge(window.instrument.id, window.step)

    async def acknowledge(self, instrument: InstrumentId, step: int) -> None:
        await self._ports.bus.publish(subjects.ops(self.name, "step"), step_acknowledged(self.name, instrument, step))


@dataclass
class Seen:
    """Everything that was published, in order and with its time, and what is in the log."""

    messages: list[tuple[int, Message]] = field(default_factory=list)
    gateway: Gateway | None = None
    world: World | None = None

    def of(self, kind: type[Any]) -> list[Any]:
        return [message for _, message in self.messages if isinstance(message, kind)]

    def micro(self) -> list[FeatureWindow]:
        return [window for window in self.of(FeatureWindow) if window.feature_set == "micro"]

    def counts(self) -> Counter[str]:
        assert self.world is not None
        return self.world.counts["gateway"]

    def logged(self, topic: str) -> list[Any]:
        assert self.world is not None
        records = run_virtual(lambda _: self._read(topic), start_ns=START)
        return [record.message for record in records]

    async def _read(self, topic: str) -> Sequence[Any]:
        assert self.world is not None
        return await self.world.log.node("reader").read(topic, KEY, 0)

    async def watch(self, world: World, clock: VirtualClock) -> None:
        self.world = world
        inbox = world.bus.node("watcher").inbox()
        for pattern in ("feat.v1.>", "ops.v1.>", "news.v1.>"):
            inbox.subscribe(pattern)
        async for delivery in inbox:
            self.messages.append((clock.now_ns(), delivery.decode()))

    def ledger(self) -> None:
        """Every frame is in the log or among the dead letters, once."""
        counts = self.counts()
        refused = {name.removeprefix("rejected."): n for name, n in counts.items() if name.startswith("rejected.")}
        letters = self.logged(subjects.dead_letters(subjects.TICKS_TOPIC))
        assert counts["frames_in"] == counts["ticks_logged"] + sum(refused.values())
        assert Counter(letter.reason for letter in letters) == Counter(refused)


Main = Callable[[World, VirtualClock, Seen], Awaitable[None]]


def in_world(main: Main) -> Seen:
    """Run a scenario in a world that is watched."""
    seen = Seen()

    async def scenario(clock: VirtualClock) -> None:
        world = World(clock, seed=1)
        watching = asyncio.create_task(seen.watch(world, clock))
        await asyncio.sleep(0)
        await main(world, clock, seen)
        await asyncio.sleep(0)
        await world.stop()
        watching.cancel()

    run_virtual(scenario, start_ns=START)
    return seen


def gateway(config: GatewayConfig, feed: Feed) -> Callable[[Ports], Gateway]:
    return lambda ports: Gateway(config, [opened(feed)], ports)


def play(lines: Sequence[Line] | Feed, config: GatewayConfig = LOCKSTEP) -> Seen:
    """Play lines through a gateway to their end: in lockstep with an echo, or each at its time on the clock."""

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        paced = None if config.lockstep_services else clock
        feed = ListFeed(lines, paced) if isinstance(lines, Sequence) else lines
        world.start(ECHO, Echo)
        world.start("gateway", gateway(config, feed))
        await world.finish("gateway")
        made = world.services["gateway"]
        assert isinstance(made, Gateway)
        seen.gateway = made

    return in_world(main)


def rows(seen: Seen) -> list[tuple[int, int, int]]:
    """Return epoch, ingest_seq and receive time of every row in the log."""
    found = []
    for batch in seen.logged(subjects.TICKS_TOPIC):
        assert isinstance(batch, TickBatch)
        columns = tick_columns(batch)
        found += [(batch.epoch, *pair) for pair in zip(columns.ingest_seq, columns.recv_ns, strict=True)]
    return found


def damaged_script() -> tuple[Script, dict[int, Reason]]:
    """Return a script with one frame of each kind of damage, and which lines must be refused, why."""
    script, reasons = Script(), dict[int, Reason]()

    def bad(reason: Reason) -> None:
        reasons[len(script.lines) - 1] = reason

    script.snapshot(1)
    script.trade(10)
    script.raw(20, b"{not json")
    bad(Reason.BAD_JSON)
    script.raw(30, b'{"stream":"btcusdt@kline_1m","data":{}}')
    bad(Reason.UNKNOWN_STREAM)
    script.raw(40, b'{"channel":"l2Book","data":{}}')
    bad(Reason.OTHER_VENUE)
    script.stream(50, "trade", "trade", t=2, p="nan", q="1", X="MARKET", m=True)
    bad(Reason.NOT_A_NUMBER)
    script.stream(60, "trade", "trade", t=2, p="100.05", q="1", X="MARKET", m=True)
    bad(Reason.OFF_INCREMENT)
    script.stream(70, "trade", "trade", t=2, p="100.00", q="0", X="MARKET", m=True)
    bad(Reason.NOT_POSITIVE)
    script.stream(80, "trade", "trade", t=1, p="100.00", q="1", X="MARKET", m=True)
    bad(Reason.DUPLICATE)
    script.stream(90, "trade", "trade", t=0, p="100.00", q="1", X="MARKET", m=True)
    bad(Reason.OUT_OF_ORDER)
    script.stream(100, "trade", "trade", t=2, s="ETHUSDT", p="100.00", q="1", X="MARKET", m=True)
    bad(Reason.OTHER_SYMBOL)
    script.stream(110, "trade", "trade", t=2, p="100.00", q="1", X="MARKET")
    bad(Reason.BAD_FIELD)
    script.stream(120, "trade", "trade", t=2, p="100.00", q="1", X="MARKET", m=True, E=-5)
    bad(Reason.NEGATIVE_TIME)
    script.stream(130, "trade", "trade", t=2, p="100.00", q="1", X="MARKET", m=True, E=START // MS + 200_000)
    bad(Reason.IMPOSSIBLE_TIME)
    script.stream(140, "bookTicker", "bookTicker", u=1, b="100.10", B="1", a="100.00", A="1")
    bad(Reason.CROSSED)
    script.stream(145, "trade", "trade", t=2, p="900.00", q="1", X="MARKET", m=True)
    bad(Reason.FAR_OFF_PRICE)
    script.trade(160)
    script.raw(150, script.lines[-1].raw)
    bad(Reason.RECEIVE_TIME_BACKWARDS)
    script.lines.append(Line(0, b"garbage", Rejected(Reason.BAD_LINE, "line began with b'garbage'")))
    bad(Reason.BAD_LINE)
    script.trade(250)
    script.lines.append(Line(0, b"", Rejected(Reason.TRUNCATED_GZIP, "r.gz: it broke off")))
    bad(Reason.TRUNCATED_GZIP)
    return script, reasons


@pytest.mark.parametrize("config", [LOCKSTEP, ON_THE_CLOCK], ids=["lockstep", "clock"])
def test_every_frame_is_in_the_log_or_a_dead_letter_with_its_bytes_and_reason(config: GatewayConfig) -> None:
    script, reasons = damaged_script()
    assert set(reasons.values()) == set(Reason) - {Reason.ANOMALY}, "every reason there is but for a policy"
    seen = play(script.lines, config)
    seen.ledger()
    assert seen.counts()["frames_in"] == len(script.lines)
    letters = seen.logged(subjects.dead_letters(subjects.TICKS_TOPIC))
    assert [letter.reason for letter in letters] == list(reasons.values())
    for letter, index in zip(letters, reasons, strict=True):
        assert isinstance(letter, DeadLetter)
        assert letter.raw == script.lines[index].raw
        assert letter.detail
        assert (letter.source, letter.schema, letter.attempt) == (KEY, "frame", 1)
        assert letter.at_ns == script.lines[index].recv_ns
    accepted = [index + 1 for index in range(len(script.lines)) if index not in reasons]
    assert sorted({sequence for _, sequence, _ in rows(seen)}) == accepted
    assert seen.counts()["frames.trade"] == 3 + 5, "decoded frames are counted by kind, refused later or not"


def test_a_real_looking_recording_plays_to_its_end_and_again_to_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "sim.gz"
    frames = write_recording(SimulatedMarketConfig(seed=5, duration_s=2.0), path)
    first, second = (play(RecordingFeed(path)) for _ in range(2))
    assert first.counts() == second.counts()
    assert first.counts()["ticks_logged"] == first.counts()["frames_in"] == frames
    assert [window.SerializeToString() for window in first.micro()] == [
        window.SerializeToString() for window in second.micro()
    ]
    assert first.gateway is not None
    assert first.gateway.instrument is not None
    assert first.gateway.instrument.check.ratio == 1.0


def test_a_recording_cut_short_gives_its_first_windows_unchanged() -> None:
    whole = steady(3_000).lines
    windows = [window.SerializeToString() for window in play(whole).micro()]
    for cut in (2, 17, 40):
        assert [window.SerializeToString() for window in play(whole[:cut]).micro()] == windows[: (cut * 50 - 50) // 100]


def test_a_window_is_bound_to_the_bytes_of_every_accepted_frame_before_its_close_and_of_no_other() -> None:
    script = steady(1_000)
    windows = play(script.lines).micro()
    altered = [*script.lines]
    altered[10] = replace(altered[10], raw=altered[10].raw.replace(b": ", b":  ", 1))
    changed_at = step_of(altered[10].recv_ns)
    for window, other in zip(windows, play(altered).micro(), strict=True):
        assert (window.frames_digest == other.frames_digest) is (window.step < changed_at)
    refused = [*script.lines[:11], Line(script.lines[10].recv_ns, b"{not json"), *script.lines[11:]]
    digests = [window.frames_digest for window in play(refused).micro()]
    assert digests == [window.frames_digest for window in windows]


@pytest.mark.usefixtures("untraced")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_line_however_damaged_stops_the_gateway(data: st.DataObject) -> None:
    lines = steady(1_000).lines
    for index in data.draw(st.lists(st.integers(1, len(lines) - 1), max_size=6)):
        line = lines[index]
        at = data.draw(st.integers(0, len(line.raw)))
        raw = line.raw[:at] + data.draw(st.binary(max_size=4)) + line.raw[at + data.draw(st.integers(0, 5)) :]
        moved = data.draw(st.sampled_from([0, 0, -(10**8), 10**8, 10**12, 10**17]))
        lines[index] = Line(line.recv_ns + moved, raw)
    seen = play(lines)
    seen.ledger()
    assert seen.counts()["frames_in"] == len(lines)
    steps = [window.step for window in seen.micro()]
    assert steps == list(range(FIRST, FIRST + len(steps)))


@pytest.mark.parametrize("later_s", [1_000, 40_000_000])
@pytest.mark.parametrize("raw", [None, b"{not json"], ids=["a frame", "garbage"])
def test_one_line_from_the_future_is_refused_and_moves_no_time(later_s: int, raw: bytes | None) -> None:
    whole = steady(2_000)
    wrong = whole.lines[20]
    lines = [*whole.lines]
    lines[20] = Line(wrong.recv_ns + later_s * NS, raw or wrong.raw)
    seen = play(lines)
    assert seen.counts()["ticks_logged"] == len(lines) - 1
    assert [window.step for window in seen.micro()] == [window.step for window in play(whole.lines).micro()]


def test_lines_that_were_swapped_are_refused_and_told() -> None:
    lines = steady(1_000).lines
    lines[5], lines[6] = lines[6], lines[5]
    seen = play(lines)
    assert seen.counts()["rejected.receive_time_backwards"] == 1
    assert seen.counts()["ticks_logged"] == len(lines) - 1
    assert [(gap.stream, gap.expected, gap.was) for gap in seen.of(GapDetected)] == [("trade", 5, 6)]


def test_a_clock_difference_of_minutes_is_a_skew_and_no_fault() -> None:
    script = steady(1_000, skew_ms=-300_000)
    seen = play(script.lines)
    assert seen.counts()["ticks_logged"] == len(script.lines)
    assert seen.gateway is not None
    assert 299 * NS < next(iter(seen.gateway.channels.values())).skew.skew_ns() < 301 * NS


def test_a_gap_is_published_and_a_snapshot_asked_for() -> None:
    script = steady(300)
    script.depth(310)
    script.depth(320, lost=4)
    script.trade(350)
    script.snapshot(400)
    script.depth(450)
    script.trade(500)
    feed = ListFeed(script.lines)
    seen = play(feed)
    (gap,) = seen.of(GapDetected)
    assert (gap.stream, gap.expected, gap.was) == ("depth", 101, 105)
    assert feed.snapshots_requested == 2, "one to begin with, one after the gap"
    synced = {window.step - FIRST: window.book_synced for window in seen.micro()}
    assert synced == {0: True, 1: True, 2: True, 3: False, 4: True}


def test_the_epoch_is_taken_in_the_log_before_anything_is_published() -> None:
    seen = play(steady(300).lines)
    first = seen.logged(subjects.TICKS_TOPIC)[0]
    assert (first.epoch, first.batch, first.rows) == (1, 1, 0)
    assert {window.epoch for window in seen.micro()} == {1}


def test_ticks_and_feature_rows_are_in_the_log_once_and_in_order() -> None:
    script = steady(2_000)
    seen = play(script.lines)
    sequences = [sequence for _, sequence, _ in rows(seen)]
    assert sequences == [1, 1, *range(2, len(script.lines) + 1)], "the snapshot has two levels"
    logged = seen.logged(subjects.FEATURES_TOPIC)
    assert all(isinstance(row, FeatureRow) for row in logged)
    assert [row.step for row in logged] == [window.step for window in seen.micro()] == list(range(FIRST, FIRST + 19))
    newest = [window_matrix(window)[-1].tobytes() for window in seen.micro()]
    assert newest == [row.values for row in logged]


def test_a_window_is_published_when_its_step_is_over_and_every_frame_before_it_is_in_the_log() -> None:
    script = steady(1_000)
    for seen in (play(script.lines), play(script.lines, ON_THE_CLOCK)):
        windows = [(at, window) for at, window in seen.messages if isinstance(window, FeatureWindow)]
        assert [at for at, _ in windows] == [step_close(window.step) for _, window in windows]
        for _, window in windows:
            of_step = [line for line in script.lines if step_of(line.recv_ns) <= window.step]
            assert window.last_ingest_seq == len(of_step)
            assert window.last_frame_ns == of_step[-1].recv_ns


# ── Lockstep ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_step_is_published_before_every_service_has_acknowledged_the_one_before() -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        async def slowly(step: int) -> None:
            await clock.sleep_until(clock.now_ns() + (1 + step % 3) * 70 * MS)

        world.start("quick", lambda ports: Echo(ports, name="quick"))
        world.start("slow", lambda ports: Echo(ports, name="slow", allow=slowly))
        config = GatewayConfig(lockstep_services=("quick", "slow"))
        world.start("gateway", gateway(config, ListFeed(steady(1_500).lines)))
        await world.finish("gateway")

    seen = in_world(main)
    done: dict[str, int] = {"quick": 0, "slow": 0}
    published = 0
    for message in (message for _, message in seen.messages):
        if isinstance(message, StepAcknowledged):
            done[message.service] = message.step
        elif isinstance(message, FeatureWindow):
            assert published == 0 or set(done.values()) == {published}
            published = message.step
    assert published == FIRST + 13


def test_nothing_is_published_before_every_service_listens() -> None:
    late_ns = START + 3 * NS

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start("gateway", gateway(LOCKSTEP, ListFeed(steady(500).lines)))
        await clock.sleep_until(late_ns)
        assert seen.micro() == []
        world.start(ECHO, Echo)
        await world.finish("gateway")

    seen = in_world(main)
    assert [window.step - FIRST for window in seen.micro()] == [0, 1, 2, 3]
    assert next(at for at, message in seen.messages if isinstance(message, FeatureWindow)) == late_ns


async def never(step: int) -> None:
    await asyncio.Event().wait()


def test_without_an_acknowledgement_there_is_no_next_step_and_another_instruments_does_not_count() -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start(ECHO, lambda ports: Echo(ports, allow=never))
        world.start("gateway", gateway(LOCKSTEP, ListFeed(steady(1_000).lines)))
        await clock.sleep_until(START + NS)
        echo = world.services[ECHO]
        assert isinstance(echo, Echo)
        await echo.acknowledge(InstrumentId(venue="binance_usdm", symbol="eth-usdt-perp"), FIRST + 5)
        await clock.sleep_until(START + 60 * NS)
        assert [window.step for window in seen.micro()] == [FIRST]
        await echo.acknowledge(BTCUSDT.id, FIRST)
        await clock.sleep_until(START + 61 * NS)

    assert [window.step for window in in_world(main).micro()] == [FIRST, FIRST + 1]


def test_a_service_announced_stopped_is_no_longer_waited_for() -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start("dying", lambda ports: Echo(ports, name="dying", allow=never))
        world.start(ECHO, Echo)
        config = GatewayConfig(lockstep_services=(ECHO, "dying"))
        world.start("gateway", gateway(config, ListFeed(steady(600).lines)))
        await clock.sleep_until(START + NS)
        await world.kill("dying")
        await clock.sleep_until(START + 2 * NS)
        assert [window.step for window in seen.micro()] == [FIRST], "dead, but nobody has said so"
        await world.announce_death("dying")
        await world.finish("gateway")

    assert [window.step - FIRST for window in in_world(main).micro()] == [0, 1, 2, 3, 4]


def test_a_service_that_comes_back_in_the_middle_of_a_step_is_waited_for_from_the_next_one_on() -> None:
    holds = asyncio.Event()

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        async def held(step: int) -> None:
            if step == FIRST + 2:
                await holds.wait()

        world.start("back", lambda ports: Echo(ports, name="back"))
        world.start(ECHO, lambda ports: Echo(ports, allow=held))
        config = GatewayConfig(lockstep_services=(ECHO, "back"))
        world.start("gateway", gateway(config, ListFeed(steady(800).lines)))
        await clock.sleep_until(START + 250 * MS)
        await world.kill("back")
        await world.announce_death("back")
        await clock.sleep_until(START + NS)
        assert seen.micro()[-1].step == FIRST + 2
        world.start("back")
        await clock.sleep_until(START + 2 * NS)
        holds.set()
        await world.finish("gateway")
        back = world.services["back"]
        assert isinstance(back, Echo)
        assert [window.step - FIRST for window in back.windows] == [3, 4, 5, 6]

    in_world(main)


def test_an_announcement_that_is_delivered_again_or_late_changes_nothing() -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        await announce(world.ports(ECHO), ECHO, running=True)
        await announce(world.ports(ECHO), ECHO, running=False)
        await clock.sleep_until(START + MS)
        world.start(ECHO, lambda ports: Echo(ports, allow=never))
        world.start("gateway", gateway(LOCKSTEP, ListFeed(steady(1_000).lines)))
        await clock.sleep_until(START + NS)
        assert [window.step for window in seen.micro()] == [FIRST]
        bus = world.bus.node("network")
        again, late = (
            service_changed(ECHO, running=running, at_ns=at_ns)
            for running, at_ns in ((True, START + MS), (False, START))
        )
        for message in (again, late):
            await bus.publish_acknowledged(subjects.ops(ECHO, "service"), message, message_id=bytes([message.running]))
        await clock.sleep_until(START + 2 * NS)

    assert [window.step for window in in_world(main).micro()] == [FIRST], "it runs, and has not acknowledged"


# ── Silence ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("config", [LOCKSTEP, ON_THE_CLOCK], ids=["lockstep", "clock"])
def test_after_five_seconds_of_silence_no_step_closes_until_the_next_frame(config: GatewayConfig) -> None:
    script = steady(1_000)
    script.trade(950 + 8_000, size="0.777")
    script.trade(950 + 8_200)
    windows = play(script.lines, config).micro()
    steps = [window.step - FIRST for window in windows]
    assert steps == [*range(59), 89, 90]
    assert [window.valid_rows for window in windows[-3:]] == [59, 1, 2]
    assert [window.first_step - FIRST for window in windows[-3:]] == [0, 89, 89]
    assert windows[58].close_ns - windows[58].last_frame_ns <= 5 * NS


# ── The clock, and restarts ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("skew_ms", [1_270, -300_000])
def test_a_gateway_that_is_killed_comes_back_in_the_next_epoch_and_goes_on(skew_ms: int) -> None:
    script = steady(4_000, skew_ms=skew_ms)
    for at_ms in (1_500, 2_500, 3_500):
        script.snapshot(at_ms + 1)
    script.lines.sort(key=lambda line: line.recv_ns)

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start("gateway", gateway(ON_THE_CLOCK, ListFeed(script.lines, clock)))
        for at_ms in (1_020, 1_060, 2_130):
            await clock.sleep_until(START + at_ms * MS)
            await world.kill("gateway")
            world.start("gateway")
        await world.finish("gateway")

    seen = in_world(main)
    seen.ledger()
    assert [name for name in seen.counts() if name.startswith("rejected.")] == []
    windows = seen.micro()
    epochs = [window.epoch for window in windows]
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 3, 4}, "the second was killed before it had a book, but its epoch is not given again"
    for epoch in set(epochs):
        steps = [window.step for window in windows if window.epoch == epoch]
        assert steps == list(range(steps[0], steps[-1] + 1))
        assert next(window for window in windows if window.epoch == epoch).valid_rows == 1
    batches = seen.logged(subjects.TICKS_TOPIC)
    assert [batch.batch for batch in batches if batch.epoch == 4] == list(
        range(1, 1 + sum(batch.epoch == 4 for batch in batches))
    )


@pytest.mark.parametrize(("readable", "epoch"), [(True, 6), (False, 3)])
def test_records_that_cannot_be_read_keep_no_gateway_from_an_epoch_that_none_had(readable: bool, epoch: int) -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        if readable:
            batch = TickBatch(instrument=BTCUSDT, epoch=3)
            world.log.put(subjects.TICKS_TOPIC, KEY, schema_of(batch), encode(batch), b"3")
        for number in range(2):
            world.log.put(subjects.TICKS_TOPIC, KEY, "huracan.later.v1.Thing", b"", b"later %d" % number)
        world.start("gateway", gateway(ON_THE_CLOCK, ListFeed(steady(1_000).lines, clock)))
        await world.finish("gateway")

    seen = in_world(main)
    assert {window.epoch for window in seen.micro()} == {epoch}
    assert seen.counts()["epoch.unread"] == 2


def test_watermarks_in_the_log_never_go_back_even_when_the_feed_ends_in_silence() -> None:
    class Silent(ListFeed):
        async def next_line(self) -> Line | None:
            line = await super().next_line()
            if line is None and self._clock is not None:
                await self._clock.sleep_until(START + 4 * NS)
            return line

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start("gateway", gateway(ON_THE_CLOCK, Silent(steady(1_000).lines, clock)))
        await world.finish("gateway")

    marks = [batch.watermark_ns for batch in in_world(main).logged(subjects.TICKS_TOPIC)]
    assert marks == sorted(marks)
    assert marks[-1] >= START + 39 * STEP_NS


class SlowBus:
    """A bus whose acknowledgements take a quarter of a second."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def publish(self, subject: str, message: Message, *, epoch: int = 0) -> None:
        await self._ports.bus.publish(subject, message, epoch=epoch)

    async def publish_acknowledged(self, subject: str, message: Message, *, message_id: bytes, epoch: int = 0) -> None:
        await self._ports.clock.sleep_until(self._ports.clock.now_ns() + 250 * MS)
        await self._ports.bus.publish_acknowledged(subject, message, message_id=message_id, epoch=epoch)

    def inbox(self) -> Inbox:
        return self._ports.bus.inbox()

    async def drain(self) -> None:
        await self._ports.bus.drain()


def test_windows_are_published_in_order_while_a_headline_waits_for_its_acknowledgement(tmp_path: Path) -> None:
    news = tmp_path / "news.jsonl"
    news.write_text("".join(json.dumps({"time": START + at * MS, "title": str(at)}) + "\n" for at in (150, 650)))
    config = ON_THE_CLOCK.model_copy(update={"news": news})

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        feed = ListFeed(steady(1_500).lines, clock)
        world.start("gateway", lambda ports: Gateway(config, [opened(feed)], replace(ports, bus=SlowBus(ports))))
        await world.finish("gateway")

    seen = in_world(main)
    assert [window.step - FIRST for window in seen.micro()] == list(range(14))
    assert seen.counts()["ticks_logged"] == 30, "no frame was dropped while it waited"


# ── Contexts and news ───────────────────────────────────────────────────────────────────────────────────────────────


def version(number: int, effective_from_ns: int, *, kind: str = "regime", key: str = KEY, epoch: int = 1) -> Context:
    return context(
        kind=kind,
        key=key,
        version=number,
        epoch=epoch,
        as_of_ns=START,
        effective_from_ns=effective_from_ns,
        valid_until_ns=START + 3_600 * NS,
        payload=mood_state(polarity=0.0, weight=1.0, headlines=1, last_news_id=b""),
        engine_digest=b"",
    )


def expected(contexts: Sequence[tuple[float, Context]]) -> list[list[tuple[str, str, int]]]:
    """Publish contexts at their times (in steps); return kind, key and version that each window names."""

    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        bus = world.bus.node("builder")
        world.start("gateway", gateway(ON_THE_CLOCK, ListFeed(steady(1_000).lines, clock)))
        for number, (at, made) in enumerate(contexts):
            await clock.sleep_until(START + round(at * STEP_NS))
            subject = subjects.context(made.ref.kind, made.ref.key)
            await bus.publish_acknowledged(subject, made, message_id=b"%d" % number)
        await world.finish("gateway")

    windows = in_world(main).micro()
    return [[(ref.kind, ref.key, ref.version) for ref in window.expected_contexts] for window in windows]


def test_a_context_is_expected_from_its_effective_step_on_and_then_the_newest() -> None:
    one, two = version(1, step_open(FIRST + 3)), version(2, step_open(FIRST + 6))
    named = expected([(0.5, one), (2.5, two)])
    assert named == [[]] * 3 + [[("regime", KEY, 1)]] * 3 + [[("regime", KEY, 2)]] * 3


def test_only_contexts_of_the_instrument_and_its_underlying_are_expected_in_one_order() -> None:
    own, underlying = version(1, 0), version(4, 0, kind="mood", key="BTC")
    others = [version(9, 0, key="binance_usdm.eth-usdt-perp"), version(9, 0, kind="mood", key="ETH")]
    named = expected([(0, made) for made in (own, *others, underlying)])
    assert named[-1] == [("mood", "BTC", 4), ("regime", KEY, 1)]


def test_the_choice_of_an_engine_is_expected_whatever_the_instrument() -> None:
    own, engine = version(1, 0), version(2, step_open(FIRST + 3), kind="engine", key="flow")
    named = expected([(0.5, own), (0.5, engine)])
    assert named[2:4] == [[("regime", KEY, 1)], [("engine", "flow", 2), ("regime", KEY, 1)]]


def test_no_window_names_what_is_told_of_drift() -> None:
    own, drift = version(1, 0), version(2, 0, kind=DRIFT, key=drift_key(BTCUSDT.id))
    assert expected([(0, drift), (0, own)])[-1] == [("regime", KEY, 1)]


def test_an_older_version_or_epoch_of_a_context_is_never_expected_again() -> None:
    newest = version(5, 0, epoch=3)
    named = expected([(0, newest), (0.1, version(4, 0, epoch=3)), (0.2, version(6, 0, epoch=2))])
    assert named[-1] == [("regime", KEY, 5)]


def test_a_message_that_cannot_be_read_is_counted_and_stops_nothing() -> None:
    async def main(world: World, clock: VirtualClock, seen: Seen) -> None:
        world.start("gateway", gateway(ON_THE_CLOCK, ListFeed(steady(1_000).lines, clock)))
        await clock.sleep_until(START + STEP_NS)
        world.bus.keep(Stored("ctx.v1.regime.x", "huracan.context.v1.Context", 1, b"\xff\xff"), b"broken")
        world.bus.keep(Stored("ctx.v1.regime.y", "nobody.knows.This", 1, b""), b"unknown")
        await world.finish("gateway")

    seen = in_world(main)
    assert (seen.counts()["poison.undecodable"], seen.counts()["poison.unknown_schema"]) == (1, 1)
    assert len(seen.micro()) == 9


def test_a_headline_becomes_visible_at_its_time_and_an_old_one_never(tmp_path: Path) -> None:
    path = tmp_path / "news.jsonl"
    times = {"old": -25 * 3_600 * NS, "before": -NS, "now": 350 * MS, "edge": 4 * STEP_NS, "after": 3_600 * NS}
    path.write_text("".join(json.dumps({"time": START + at, "title": title}) + "\n" for title, at in times.items()))
    seen = play(steady(1_000).lines, LOCKSTEP.model_copy(update={"news": path}))
    came = {item.title: at for at, item in seen.messages if isinstance(item, NewsItem)}
    assert list(came) == ["before", "now", "edge"]
    assert all(at >= START + times[title] for title, at in came.items())
    assert came["now"] == START + 4 * STEP_NS
    assert came["edge"] == START + 5 * STEP_NS, "a step does not know what comes at its end"
    assert seen.counts()["news.too_old"] == 1
    assert seen.counts()["news"] == 3


# ── History ─────────────────────────────────────────────────────────────────────────────────────────────────────────

QUARTER_NS = 15 * MINUTE_NS


def history_file(path: Path, *, bars: int, after: int, future_price: float = 100.0) -> Path:
    """Write 15 m bars: `bars` that had closed at START, then the one open there and those `after` it."""
    last_open = START - START % QUARTER_NS - QUARTER_NS
    dates = [last_open - (bars - 1 - index) * QUARTER_NS for index in range(bars + 1 + after)]
    prices = [100.0 + index % 7 if date <= last_open else future_price for index, date in enumerate(dates)]
    columns = {name: pa.array(prices) for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(pa.table({"date": pa.array(dates, pa.timestamp("ns", "UTC")), **columns}), path)
    return path


def warmed(path: Path) -> tuple[Seen, FeatureWindow]:
    seen = play(steady(500).lines, LOCKSTEP.model_copy(update={"history": path}))
    (window,) = [window for window in seen.of(FeatureWindow) if window.feature_set == "bar"]
    return seen, window


def test_history_warms_the_window_of_quarter_hours_before_the_first_step(tmp_path: Path) -> None:
    seen, window = warmed(history_file(tmp_path / "bars.parquet", bars=200, after=0))
    assert (window.valid_rows, window.interval_ns) == (64, QUARTER_NS)
    assert window.close_ns <= START < window.close_ns + QUARTER_NS
    assert seen.of(FeatureWindow)[0] == window, "before any micro window"
    assert seen.counts()["history_bars"] == 200
    assert seen.counts()["windows.bar_15m"] == 1


def test_fewer_bars_of_history_are_a_window_that_still_warms(tmp_path: Path) -> None:
    _, window = warmed(history_file(tmp_path / "bars.parquet", bars=10, after=0))
    assert window.valid_rows == 10


def test_a_history_that_begins_after_the_first_frame_warms_nothing(tmp_path: Path) -> None:
    path = history_file(tmp_path / "bars.parquet", bars=0, after=9)
    seen = play(steady(500).lines, LOCKSTEP.model_copy(update={"history": path}))
    assert [window.feature_set for window in seen.of(FeatureWindow)] == ["micro"] * 4
    assert seen.counts()["history_bars"] == 0


def test_bars_that_close_after_the_first_frame_change_nothing(tmp_path: Path) -> None:
    _, without = warmed(history_file(tmp_path / "none.parquet", bars=200, after=0))
    for price in (1.0, 1e6):
        _, window = warmed(history_file(tmp_path / f"{price}.parquet", bars=200, after=50, future_price=price))
        assert window == without


def test_a_line_from_the_future_at_the_very_start_lets_no_later_bar_in(tmp_path: Path) -> None:
    path = history_file(tmp_path / "bars.parquet", bars=100, after=50, future_price=1e6)
    _, expected_window = warmed(path)
    lines = [Line(START + 86_400 * NS, b"{not json"), *steady(500).lines]
    seen = play(lines, LOCKSTEP.model_copy(update={"history": path}))
    (window,) = [window for window in seen.of(FeatureWindow) if window.feature_set == "bar"]
    assert window == expected_window


def test_a_history_that_cannot_be_used_stops_the_gateway_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"nothing\.parquet: there is no such file"):
        play(steady(500).lines, LOCKSTEP.model_copy(update={"history": tmp_path / "nothing.parquet"}))


def test_the_minute_that_was_seen_from_its_start_is_published_as_a_bar() -> None:
    script = steady(180_000)
    bars = [window.bar for window in play(script.lines).of(FeatureWindow) if window.feature_set == "bar"]
    opens = [bar.open_ns for bar in bars]
    first_whole = START - START % MINUTE_NS + MINUTE_NS
    assert opens == [first_whole, first_whole + MINUTE_NS]
    assert {bar.trades for bar in bars} == {1_200}

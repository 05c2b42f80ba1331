"""The gateway service: frames in; ticks and features to the log, windows to the bus, step by step."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from pathlib import Path

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Outbox
from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS, step_close, step_open
from huracan.contracts.context import Context, ContextRef, context_name
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import NewsItem, TickBatch, instrument_key
from huracan.contracts.ops import ServiceChanged, StepAcknowledged, dead_letter
from huracan.ids import derived_id
from huracan.market.history import load_history
from huracan.market.news import load_news
from huracan.ports import Ports
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
from huracan.ticklog.writer import LogWriter
from huracan_gateway.binance_usdm.data import Decoder
from huracan_gateway.config import GatewayConfig
from huracan_gateway.events import Event
from huracan_gateway.feed import Feed
from huracan_gateway.instrument import Instrument
from huracan_gateway.recording import Line
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.skew import SkewEstimator

NAME = "gateway"
HISTORY_BARS = 512
"""Bars of history read: a window of 64, and what the slowest feature of its first row needs before it."""
VERSIONS_KEPT = 8


class Gateway(Service):
    """Run one feed. Single writer of its shard: every message carries its epoch."""

    def __init__(self, config: GatewayConfig, feed: Feed, ports: Ports) -> None:
        super().__init__(NAME)
        self.skew = SkewEstimator()
        self.instrument: Instrument | None = None
        self._config = config
        self._feed = feed
        self._ports = ports
        self._definition = feed.definition
        self._key = instrument_key(feed.definition.id)
        self._decoder = Decoder(feed.definition)
        self._writer = LogWriter(ports, NAME)
        self._outbox = Outbox(ports)
        self._dead_letters = DeadLetters(ports, NAME, self.counts)
        self._contexts: dict[tuple[str, str], deque[Context]] = {}
        self._news: deque[NewsItem] = deque()
        self._epoch = 1
        self._last_recv_ns = -1
        self._step = 0
        self._closing = asyncio.Lock()
        self._acknowledged: dict[str, int] = {}
        self._announced: dict[str, ServiceChanged] = {}
        self._running: set[str] = set()
        self._progress = asyncio.Event()
        self._warm_windows: list[tuple[str, FeatureWindow]] = []
        self._waiting: asyncio.Task[object] | None = None
        self._stopped = False

    async def run(self) -> None:
        """Play the feed to its end, or until cancelled."""
        last = await self._ports.log.last(subjects.TICKS_TOPIC, self._key)
        if last is not None and isinstance(last.message, TickBatch):
            self._epoch = last.message.epoch + 1
        self.instrument = Instrument(self._definition, epoch=self._epoch, batch_rows=self._config.batch_rows)
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._listen()), tasks.create_task(self._writer.run())]
            closing = []
            await self._claim(self.instrument)
            await self.listening(self._ports)
            await self._wait_for_services()
            if not self._config.lockstep_services:
                closing.append(tasks.create_task(self._close_on_the_clock(self.instrument)))
            await self._play(self.instrument)
            async with self._closing:  # so that none is cancelled between a step and what it gives
                for task in closing:
                    task.cancel()
            await self._writer.drained()
            for task in background:
                task.cancel()

    def stop(self) -> None:
        """Take no more frames: the run ends as at the end of the feed."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def report(self) -> Counter[str]:
        """Return everything that was counted, of the instrument too, and the newest skew and quote."""
        report = Counter(self.counts)
        if self.instrument is not None:
            check, last = self.instrument.check, self.instrument.check.last_quote
            report.update(self.instrument.counts)
            report["frames_missed"] = self._feed.skipped
            report.update({"book.compared": check.compared, "book.matched": check.matched})
            report[f"{LAST}skew_ns"] = self.skew.skew_ns() if self.skew.known else 0
            report[f"{LAST}bid"], report[f"{LAST}ask"] = (last.bid, last.ask) if last is not None else (0, 0)
        return report

    async def _claim(self, instrument: Instrument) -> None:
        """Take the epoch with an empty batch: whoever starts after any message of this epoch finds it in the log."""
        instrument.flush(0)
        await self._hand_on(instrument)
        await self._writer.drained()

    async def _play(self, instrument: Instrument) -> None:
        await self._feed.request_snapshot()
        while (line := await self._next_line()) is not None:
            kind, frame = self._read(line)
            if not isinstance(frame, Rejected):
                if self._last_recv_ns < 0:
                    await self._begin(instrument, line.recv_ns)
                self._last_recv_ns = line.recv_ns
                await self._close_through(instrument, line.recv_ns)
            self.counts["frames_in"] += 1
            if kind is not None:
                self.counts[f"frames.{kind}"] += 1
            try:
                self._take(instrument, line, frame)
            except Rejected as rejected:
                await self._refuse(line, rejected)
            await self._hand_on(instrument)
        instrument.check.finish()
        instrument.flush(self._last_recv_ns + 1)
        await self._hand_on(instrument)

    async def _next_line(self) -> Line | None:
        """Wait for the next line; None at the end of the feed, and once stopped."""
        if self._stopped:
            return None
        self._waiting = task = asyncio.current_task()
        try:
            return await self._feed.next_line()
        except asyncio.CancelledError:
            if task is not None and self._asked_to_stop() and not task.uncancel():
                return None
            raise
        finally:
            self._waiting = None

    def _asked_to_stop(self) -> bool:
        return self._stopped

    async def _begin(self, instrument: Instrument, first_recv_ns: int) -> None:
        """Warm what is slow with what was known before the first frame."""
        instrument.observe_from(first_recv_ns)
        if self._config.news is not None:
            horizon_ns = first_recv_ns - int(self._config.news_max_age_h * 3600 * NANOSECONDS)
            items = load_news(self._config.news)
            self._news.extend(item for item in items if item.published_ns >= horizon_ns)
            self.counts["news.too_old"] += len(items) - len(self._news)
        if self._config.history is not None:
            self._warm(instrument, self._config.history, first_recv_ns)

    def _warm(self, instrument: Instrument, path: Path, first_recv_ns: int) -> None:
        bars = next(bars for bars in instrument.bars if bars.name == subjects.BAR_15M)
        history = load_history(
            path,
            instrument=self._definition.id,
            interval_ns=bars.interval_ns,
            before_ns=first_recv_ns,
            last=HISTORY_BARS,
        )
        windows = [bars.push(bar, last_frame_ns=first_recv_ns) for bar in history]
        self.counts["history_bars"] = len(windows)
        if windows and windows[-1] is not None:
            self._warm_windows.append((bars.name, windows[-1]))

    def _read(self, line: Line) -> tuple[str | None, Event | Rejected]:
        """Return the kind of a line and what it says, or why it is refused: only one that is not tells the time."""
        kind = None
        try:
            if line.rejected is not None:
                raise line.rejected
            if line.recv_ns < self._last_recv_ns:
                was = f"receive time was {line.recv_ns} after {self._last_recv_ns}"
                raise Rejected(Reason.RECEIVE_TIME_BACKWARDS, was)
            kind, event = self._decoder.decode(line.raw)
            self._check_time(event.event_ns, line.recv_ns)
        except Rejected as rejected:
            return kind, rejected
        return kind, event

    def _take(self, instrument: Instrument, line: Line, frame: Event | Rejected) -> None:
        if isinstance(frame, Rejected):
            raise frame
        instrument.take(frame, recv_ns=line.recv_ns, ingest_seq=self.counts["frames_in"])
        instrument.bind(line.recv_ns, line.raw)
        self.counts["ticks_logged"] += 1

    def _check_time(self, event_ns: int, recv_ns: int) -> None:
        """Refuse an event time that no clock difference seen so far explains."""
        if self.skew.known:
            apart_s = abs(recv_ns - event_ns - self.skew.skew_ns()) / NANOSECONDS
            if apart_s > self._config.max_event_age_s:
                raise Rejected(Reason.IMPOSSIBLE_TIME, f"E was {apart_s:.0f} s from ours after skew correction")
        self.skew.observe(event_ns, recv_ns)

    async def _refuse(self, line: Line, rejected: Rejected) -> None:
        self.counts[f"rejected.{rejected.reason}"] += 1
        letter = dead_letter(
            raw=line.raw,
            source=self._key,
            schema="frame",
            reason=rejected.reason,
            detail=rejected.detail,
            attempt=1,
            at_ns=max(line.recv_ns, 0),
        )
        record_id = derived_id("dead-letter", self._key, self._epoch, self.counts["frames_in"])
        await self._writer.put(subjects.dead_letters(subjects.TICKS_TOPIC), self._key, letter, record_id=record_id)

    async def _hand_on(self, instrument: Instrument) -> None:
        """Send what an event gave rise to: full batches to the log, broken sequences to whoever watches."""
        batches, instrument.batches = instrument.batches, []
        for batch in batches:
            record_id = derived_id("ticks", self._key, batch.epoch, batch.batch)
            await self._writer.put(subjects.TICKS_TOPIC, self._key, batch, record_id=record_id)
        gaps, instrument.gaps = instrument.gaps, []
        for gap in gaps:
            await self._ports.bus.publish(subjects.ops(NAME, "gap"), gap, epoch=self._epoch)
            if gap.stream == "depth":
                await self._feed.request_snapshot()

    async def _close_on_the_clock(self, instrument: Instrument) -> None:
        """Close steps when their time is over."""
        clock = self._ports.clock
        while True:
            step = instrument.next_step
            close_ns = step_close(step) if step is not None else (clock.now_ns() // STEP_NS + 1) * STEP_NS
            await clock.sleep_until(close_ns)
            await self._close_through(instrument, close_ns)

    async def _close_through(self, instrument: Instrument, now_ns: int) -> None:
        """Close every step that ends at or before a receive time, empty ones included, until the feed is silent."""
        async with self._closing:  # steps are published in order, whoever closes them: a frame or the clock
            while instrument.next_step is not None and step_close(instrument.next_step) <= now_ns:
                close_ns = step_close(instrument.next_step)
                if close_ns - instrument.last_frame_ns > self._config.inactive_after_ms * MILLISECOND_NS:
                    instrument.rest()
                    return
                await self._close_step(instrument, instrument.next_step)

    async def _close_step(self, instrument: Instrument, step: int) -> None:
        if self._config.lockstep_services:
            await self._ports.clock.sleep_until(step_close(step))
        closed = instrument.close(self._in_force(step_open(step)))
        await self._hand_on(instrument)
        record_id = derived_id("row", self._key, closed.row.feature_set, self._epoch, step)
        await self._writer.put(subjects.FEATURES_TOPIC, self._key, closed.row, record_id=record_id)
        await self._publish_news(step_close(step))
        for name, window in [*self._warm_windows, *closed.bars]:
            await self._publish_bars(name, window)
        self._warm_windows.clear()
        self.counts["windows"] += 1
        self._step = step
        subject = subjects.features(subjects.MICRO, self._definition)
        await self._ports.bus.publish(subject, closed.window, epoch=self._epoch)
        await self._wait_for_all(step)

    async def _publish_bars(self, name: str, window: FeatureWindow) -> None:
        self.counts[f"windows.{name}"] += 1
        message_id = derived_id("bars", self._key, name, self._epoch, window.step)
        await self._outbox.put(
            subjects.features(name, self._definition), window, message_id=message_id, epoch=self._epoch
        )
        await self._outbox.flush()

    async def _publish_news(self, now_ns: int) -> None:
        while self._news and self._news[0].published_ns < now_ns:
            item = self._news.popleft()
            self.counts["news"] += 1
            await self._outbox.put(subjects.news(item.source), item, message_id=item.news_id, epoch=self._epoch)
        await self._outbox.flush()

    def _in_force(self, open_ns: int) -> list[ContextRef]:
        """Return the newest versions of the instrument's contexts that count for a step that opens then."""
        keys = (self._key, self._definition.underlying)
        refs = []
        for _, versions in sorted(item for item in self._contexts.items() if item[0][1] in keys):
            effective = [context.ref for context in versions if context.effective_from_ns <= open_ns]
            refs += effective[-1:]
        return refs

    async def _listen(self) -> None:
        inbox = self._ports.bus.inbox()
        inbox.latest("ctx.v1.>")
        inbox.subscribe("ops.v1.*.step")
        inbox.latest("ops.v1.*.service")
        try:
            async for delivery in inbox:
                message = await self._dead_letters.read(delivery)
                if message is not None:
                    self._heard(message)
                    delivery.ack()
        finally:
            inbox.close()

    def _heard(self, message: Message) -> None:
        match message:
            case Context():
                versions = self._contexts.setdefault(context_name(message.ref), deque(maxlen=VERSIONS_KEPT))
                newest = versions[-1] if versions else None
                if newest is None or (message.epoch >= newest.epoch and message.ref.version > newest.ref.version):
                    versions.append(message)
            case StepAcknowledged() if message.instrument == self._definition.id:
                self._done(message.service, message.step)
            case ServiceChanged():
                self._changed(message)
        self._progress.set()

    def _done(self, service: str, step: int) -> None:
        self._acknowledged[service] = max(step, self._acknowledged.get(service, 0))

    def _changed(self, change: ServiceChanged) -> None:
        known = self._announced.get(change.service)
        if known is not None and (change.at_ns < known.at_ns or change == known):
            return
        self._announced[change.service] = change
        if change.running:
            self._running.add(change.service)
            self._done(change.service, self._step)  # it began to listen after the window of this step
        else:
            self._running.discard(change.service)

    async def _wait_for_services(self) -> None:
        """In a replay, return once every service listens."""
        while not self._running.issuperset(self._config.lockstep_services):
            self._progress.clear()
            await self._progress.wait()

    async def _wait_for_all(self, step: int) -> None:
        """In a replay, return once every running service has acknowledged the step."""
        while any(
            self._acknowledged.get(service, 0) < step
            for service in self._config.lockstep_services
            if service in self._running
        ):
            self._progress.clear()
            await self._progress.wait()

"""One instrument of the gateway: its feed, decoder, clock skew, steps and what they give."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS, step_close, step_open
from huracan.contracts.context import ContextRef
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import Bar, InstrumentDefinition, instrument_key
from huracan.contracts.ops import FeedState, dead_letter, feed_changed
from huracan.features.bar import WARM_UP_BARS
from huracan.ids import derived_id
from huracan.market.history import load_history
from huracan.ports import Clock
from huracan.service.service import LAST
from huracan_gateway.anomaly import DivergenceDetector
from huracan_gateway.config import GatewayConfig
from huracan_gateway.events import NO_TIME, RECENT_TRADES, Defined, Event, Quote
from huracan_gateway.feed import Feed
from huracan_gateway.instrument import Instrument
from huracan_gateway.recording import Line
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.skew import SkewEstimator

NAME = "gateway"
_KNOWN = frozenset({Reason.DUPLICATE, Reason.OUT_OF_ORDER})
"""What is expected of trades that were asked for: most of them were taken before."""
RELIABILITY_EVERY_NS = 60 * NANOSECONDS
"""The score of the hour so far is told this often."""


class Outlet(Protocol):
    """What a channel's gateway does for it."""

    clock: Clock
    epoch: int

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:
        """Put a record into the log, in order."""

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:
        """Publish what watches want to know, acknowledged where it has an id."""

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None:
        """Publish a window: of steps best effort, of bars acknowledged."""

    async def news(self, now_ns: int) -> None:
        """Publish the headlines that came out before a time."""

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:
        """Return the newest versions of an instrument's contexts that count for a step that opens then."""

    async def stepped(self, key: str, step: int) -> None:
        """In a replay, return once every running service has acknowledged the step."""


class Channel:
    """Plays one feed to its end. Pure of the bus but for its outlet."""

    def __init__(self, feed: Feed, config: GatewayConfig, outlet: Outlet, divergence: DivergenceDetector) -> None:
        self.skew = SkewEstimator()
        self.counts: Counter[str] = Counter()
        self.definition = feed.definition
        self.key = instrument_key(feed.definition.id)
        self.step = 0
        self.feed = feed
        self.history: Path | None = config.history
        self.fetched: list[Bar] = []
        """Bars from the venue, where there is no history file."""
        self._config = config
        self._outlet = outlet
        self._divergence = divergence
        self._peers: dict[str, Channel] = {}
        self._decoder = feed.adapter.decoder(feed.definition)
        self.instrument = self._made()
        self._begun = False
        self._last_recv_ns = -1
        self._closing = asyncio.Lock()
        self._handing_on = asyncio.Lock()
        self._filling = asyncio.Event()
        """Set while rows wait that were not there when they were last looked at."""
        self._warm_windows: list[tuple[str, FeatureWindow]] = []
        self._waiting: asyncio.Task[object] | None = None
        self._stopped = False
        self._changes = 0
        self._unsynced_since_ns = 0
        self._resyncing = False
        self._scored_ns = 0

    def _made(self) -> Instrument:
        return Instrument(
            self.definition,
            epoch=self._outlet.epoch,
            batch_rows=self._config.batch_rows,
            adapter=self.feed.adapter,
            quality=self._config.quality,
        )

    def stop(self) -> None:
        """Take no more frames: playing ends as at the end of the feed."""
        self._stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    def beside(self, peers: dict[str, Channel]) -> None:
        """Learn of the other instruments of the gateway, by key."""
        self._peers = peers

    def report(self) -> Counter[str]:
        """Return everything that was counted, of the instrument too, and the newest skew and quote."""
        report = Counter(self.counts)
        check, last = self.instrument.check, self.instrument.check.last_quote
        report.update(self.instrument.counts)
        report["frames_missed"] += self.feed.skipped
        report["late_trades"] = sum(bars.builder.late_trades for bars in self.instrument.bars)
        report.update({"book.compared": check.compared, "book.matched": check.matched})
        report[f"{LAST}skew_ns"] = self.skew.skew_ns() if self.skew.known else 0
        report[f"{LAST}bid"], report[f"{LAST}ask"] = (last.bid, last.ask) if last is not None else (0, 0)
        return report

    async def claim(self) -> None:
        """Take the epoch with an empty batch: whoever starts after any message of this epoch finds it in the log."""
        self.instrument.flush(0)
        await self._hand_on()

    async def play(self) -> None:
        """Take the feed's lines to its end, or until stopped."""
        await self.feed.request_snapshot()
        while (line := await self._next_line()) is not None:
            kind, events = self._read(line)
            if not isinstance(events, Rejected):
                if not self._begun:
                    self._begin(line.recv_ns)
                self._last_recv_ns = line.recv_ns
                if self._closing.locked() or self.instrument.due(line.recv_ns):
                    await self.close_through(line.recv_ns)
            self.counts["frames_in"] += 1
            if kind is not None:
                self.counts[f"frames.{kind}"] += 1
            try:
                await self._take(line, kind, events)
            except Rejected as rejected:
                await self._refuse(line, rejected)
            if self.instrument.gave:
                await self._hand_on()
            if self.instrument.filling:
                self._filling.set()
        self.instrument.check.finish()
        self.instrument.flush(self._last_recv_ns + 1)
        await self._hand_on()

    async def _next_line(self) -> Line | None:
        """Wait for the next line; None at the end of the feed, and once stopped."""
        if self._stopped:
            return None
        self._waiting = task = asyncio.current_task()
        try:
            return await self.feed.next_line()
        except asyncio.CancelledError:
            if task is not None and self._asked_to_stop() and not task.uncancel():
                return None
            raise
        finally:
            self._waiting = None

    def _asked_to_stop(self) -> bool:
        return self._stopped

    def _begin(self, first_recv_ns: int) -> None:
        """Warm what is slow with what was known before the first frame."""
        self._begun = True
        self.instrument.observe_from(first_recv_ns)
        bars = next(bars for bars in self.instrument.bars if bars.name == subjects.BAR_15M)
        history = [bar for bar in self.fetched if bar.open_ns + bar.interval_ns <= first_recv_ns]
        if self.history is not None:
            history = load_history(
                self.history,
                instrument=self.definition.id,
                interval_ns=bars.interval_ns,
                before_ns=first_recv_ns,
                last=WARM_UP_BARS,
            )
        self.counts["history_bars"] += len(history)
        window = bars.warm(history, first_recv_ns)
        if window is not None:
            self._warm_windows.append((bars.name, window))

    def _read(self, line: Line) -> tuple[str | None, Sequence[Event] | Rejected]:
        """Return the kind of a line and what it says, or why it is refused: only one that is not tells the time."""
        kind = None
        try:
            if line.rejected is not None:
                raise line.rejected
            if line.recv_ns < self._last_recv_ns:
                was = f"receive time was {line.recv_ns} after {self._last_recv_ns}"
                raise Rejected(Reason.RECEIVE_TIME_BACKWARDS, was)
            kind, events = self._decoder.decode(line.raw)
            if events:
                self._check_time(events[-1].event_ns, line.recv_ns)  # the newest: trades that were asked for are older
        except Rejected as rejected:
            return kind, rejected
        return kind, events

    def _take_events(self, line: Line, events: Sequence[Event]) -> list[Rejected]:
        """Take the events of a frame and return why those that cannot be taken are refused."""
        refused = []
        recv_ns, ingest_seq = line.recv_ns, self.counts["frames_in"]
        for event in events:
            try:
                self.instrument.take(event, recv_ns=recv_ns, ingest_seq=ingest_seq)
            except Rejected as rejected:
                refused.append(rejected)
                continue
            if self._peers and isinstance(event, Quote):
                self._compare(event, recv_ns)
        return refused

    async def _take(self, line: Line, kind: str | None, events: Sequence[Event] | Rejected) -> None:
        """Take a frame; refuse it when none of its events can be taken."""
        if isinstance(events, Rejected):
            raise events
        synced = self.instrument.book.synced
        refused = []
        if events and isinstance(events[0], Defined):
            await self._defined(events[0], line.recv_ns)
        else:
            refused = self._take_events(line, events)
        if kind == RECENT_TRADES:
            known = [part for part in refused if part.reason in _KNOWN]
            self.counts["trades_known"] += len(known)
            refused = [part for part in refused if part.reason not in _KNOWN]
        if refused and kind == "snapshot" and not self.instrument.book.synced:
            await self.feed.request_snapshot()
        if refused and len(refused) == len(events):
            raise refused[0]
        for part in refused:
            self.counts[f"events_rejected.{part.reason}"] += 1
            self.instrument.meter.refused(part.reason, line.recv_ns)
        if refused:
            await self._bury(line, refused[0].reason, f"{len(refused)} of {len(events)} events: {refused[0].detail}")
        self.instrument.bind(line.recv_ns, line.raw)
        if self.skew.known:
            self.instrument.meter.skew(self.skew.skew_ns(), line.recv_ns)
        self.counts["ticks_logged"] += 1
        if self._resyncing and self.instrument.book.synced and (not synced or kind == "snapshot"):
            self._resyncing = False
            await self.changed(FeedState.FEED_STATE_RESYNCED, "", f"book at {self.instrument.book.final}")

    def _compare(self, quote: Quote, recv_ns: int) -> None:
        """Compare this market with those of its kind at other venues."""
        mid = (quote.bid + quote.ask) / 2 * float(self.definition.price_increment)
        for key, found in self._divergence.mid(self.key, mid, recv_ns):
            self._peers[key].instrument.diverged(found, recv_ns)

    async def _defined(self, event: Defined, recv_ns: int) -> None:
        """Go on under the next version of the definition where the venue has changed it."""
        current = self.definition
        told = next_version(current, event.definition, recv_ns)
        if told is current:
            return
        async with self._closing:
            instrument = self.instrument
            instrument.flush(recv_ns)
            await self._hand_on()
            self.counts.update(instrument.counts)
            self.counts.update({"book.compared": instrument.check.compared, "book.matched": instrument.check.matched})
            self.definition = told
            self._decoder = self.feed.adapter.decoder(told)
            self.instrument = self._made()
            self.instrument.know_trades(instrument.known_trades)
            self.instrument.observe_from(recv_ns)
        await self.changed(
            FeedState.FEED_STATE_REDEFINED,
            "",
            f"version {told.id.definition_version}: price increment {current.price_increment} -> "
            f"{told.price_increment}, size increment {current.size_increment} -> {told.size_increment}, multiplier "
            f"{current.multiplier} -> {told.multiplier}",
        )
        await self.feed.request_snapshot()

    def _check_time(self, event_ns: int, recv_ns: int) -> None:
        """Refuse an event time that no clock difference seen so far explains."""
        if event_ns == NO_TIME:
            return
        skew = self.skew
        if skew.known:
            apart_ns = abs(recv_ns - event_ns - skew.skew_ns())
            if apart_ns > self._config.max_event_age_s * NANOSECONDS:
                was = f"E was {apart_ns / NANOSECONDS:.0f} s from ours after skew correction"
                raise Rejected(Reason.IMPOSSIBLE_TIME, was)
        skew.observe(event_ns, recv_ns)

    async def _refuse(self, line: Line, rejected: Rejected) -> None:
        self.counts[f"rejected.{rejected.reason}"] += 1
        self.instrument.meter.refused(rejected.reason, line.recv_ns)
        await self._bury(line, rejected.reason, rejected.detail)

    async def _bury(self, line: Line, reason: Reason, detail: str) -> None:
        """Keep a frame, of which something is refused, with its reason."""
        letter = dead_letter(
            raw=line.raw,
            source=self.key,
            schema="frame",
            reason=reason,
            detail=detail,
            attempt=1,
            at_ns=max(line.recv_ns, 0),
        )
        record_id = derived_id("dead-letter", self.key, self._outlet.epoch, self.counts["frames_in"])
        await self._outlet.log(subjects.dead_letters(subjects.TICKS_TOPIC), self.key, letter, record_id)

    async def _hand_on(self) -> None:
        """Send what an event gave rise to: full batches to the log, what was noticed to whoever watches.

        A frame and the clock can both give something while the log is slow: one at a time, or batches change places.
        """
        async with self._handing_on:
            await self._send()

    async def _send(self) -> None:
        instrument, epoch = self.instrument, self._outlet.epoch
        batches, instrument.batches = instrument.batches, []
        for batch in batches:
            record_id = derived_id("ticks", self.key, batch.epoch, batch.instrument.id.definition_version, batch.batch)
            await self._outlet.log(subjects.TICKS_TOPIC, self.key, batch, record_id)
        anomalies, instrument.anomalies = instrument.anomalies, []
        for anomaly in anomalies:
            await self._outlet.tell("anomaly", anomaly, anomaly.anomaly_id)
        hours, instrument.reliability = instrument.reliability, []
        for hour in hours:
            message_id = derived_id("reliability", self.key, epoch, hour.hour_ns, hour.to_ns)
            await self._outlet.tell("reliability", hour, message_id)
        gaps, instrument.gaps = instrument.gaps, []
        for gap in gaps:
            await self._outlet.tell("gap", gap)
        if any(gap.stream == "depth" for gap in gaps):
            self._resyncing = True
            await self.feed.request_snapshot()

    async def changed(self, state: FeedState, provider: str, detail: str, attempt: int = 0) -> None:
        """Tell what happened to the feed."""
        self._changes += 1
        self.counts[f"feed.{FeedState.Name(state).removeprefix('FEED_STATE_').lower()}"] += 1
        change = feed_changed(
            instrument=self.definition.id,
            state=state,
            provider=provider,
            detail=detail,
            at_ns=self._outlet.clock.now_ns(),
            epoch=self._outlet.epoch,
            number=self._changes,
            attempt=attempt,
        )
        await self._outlet.tell("feed", change, change.change_id)

    async def close_on_the_clock(self) -> None:
        """Close steps when their time is over, until cancelled."""
        clock = self._outlet.clock
        while True:
            step = self.instrument.next_step
            close_ns = step_close(step) if step is not None else (clock.now_ns() // STEP_NS + 1) * STEP_NS
            await clock.sleep_until(close_ns)
            while self._is_behind(close_ns):
                await clock.sleep_until(clock.now_ns() + MILLISECOND_NS)
            await self.close_through(close_ns)
            await self._watch(close_ns)

    async def flush_on_the_clock(self) -> None:
        """Log rows at most `flush_after_ms` after the first of them, until cancelled."""
        clock = self._outlet.clock
        while True:
            await self._filling.wait()
            await clock.sleep_until(clock.now_ns() + self._config.flush_after_ms * MILLISECOND_NS)
            async with self._closing:
                self._filling.clear()
                if self.instrument.filling:
                    self.instrument.flush(self.instrument.last_frame_ns)
                    await self._hand_on()

    def _is_behind(self, close_ns: int) -> bool:
        """Return whether lines of a step still wait: for a while it is held open for them, in live data too."""
        oldest_ns = self.feed.oldest_ns
        return (
            oldest_ns is not None
            and oldest_ns < close_ns
            and self._outlet.clock.now_ns() < close_ns + self._config.max_close_delay_ms * MILLISECOND_NS
        )

    async def _watch(self, now_ns: int) -> None:
        """Ask again for a book that has been out of step for too long."""
        if self.instrument.book.synced:
            self._unsynced_since_ns = now_ns
        elif now_ns - (self._unsynced_since_ns or now_ns) > self._config.resync_after_ms * MILLISECOND_NS:
            self._unsynced_since_ns = now_ns
            self._resyncing = True
            await self.feed.request_snapshot()
        elif not self._unsynced_since_ns:
            self._unsynced_since_ns = now_ns

    async def interrupt(self, playing: asyncio.Task[None]) -> None:
        """End the play at the next line, close the feed and rest; it can be played again on another feed."""
        self.stop()
        await playing
        self._stopped = False
        self.counts["frames_missed"] += self.feed.skipped
        await self.feed.aclose()
        self.lose_book()
        self.instrument.reliability.append(self.instrument.meter.rest(self._outlet.clock.now_ns()))
        self.instrument.rest()
        await self._hand_on()

    def lose_book(self) -> None:
        """Drop the book, which the feed no longer keeps up to date; a new one is on its way, or will be asked for."""
        self.instrument.lose_book()
        self._resyncing = True

    def resyncing(self) -> None:
        """Know that a new book was asked for, so that its coming is told."""
        self._resyncing = True

    async def finished_closing(self) -> None:
        """Return once no step is in the middle of its close, and no batch of ticks on its way to the log."""
        async with self._closing:
            return

    async def close_through(self, now_ns: int) -> None:
        """Close every step that ends at or before a receive time, empty ones included, until the feed is silent."""
        async with self._closing:  # steps are published in order, whoever closes them: a frame or the clock
            instrument = self.instrument
            while instrument.next_step is not None and step_close(instrument.next_step) <= now_ns:
                close_ns = step_close(instrument.next_step)
                if close_ns - instrument.last_frame_ns > self._config.inactive_after_ms * MILLISECOND_NS:
                    instrument.rest()
                    return
                await self._close_step(instrument, instrument.next_step)

    async def _close_step(self, instrument: Instrument, step: int) -> None:
        if self._config.lockstep_services:
            await self._outlet.clock.sleep_until(step_close(step))
        before = [other.instrument.top_of(step - 1) for other in self._peers.values() if other is not self]
        others = [top for top in before if top is not None]
        closed = instrument.close(self._outlet.in_force(step_open(step), self.definition), others)
        await self._hand_on()
        record_id = derived_id("row", self.key, closed.row.feature_set, self._outlet.epoch, step)
        await self._outlet.log(subjects.FEATURES_TOPIC, self.key, closed.row, record_id)
        await self._outlet.news(step_close(step))
        for name, window in [*self._warm_windows, *closed.bars]:
            self.counts[f"windows.{name}"] += 1
            await self._outlet.window(name, self.definition, window)
        self._warm_windows.clear()
        self.counts["windows"] += 1
        self.step = step
        await self._score(step_close(step))
        await self._outlet.window(subjects.MICRO, self.definition, closed.window)
        await self._outlet.stepped(self.key, step)

    async def _score(self, now_ns: int) -> None:
        if now_ns - self._scored_ns < RELIABILITY_EVERY_NS:
            return
        told, self._scored_ns = self._scored_ns, now_ns
        if told:
            current = self.instrument.meter.current(now_ns)
            message_id = derived_id("reliability", self.key, self._outlet.epoch, current.hour_ns, current.to_ns)
            await self._outlet.tell("reliability", current, message_id)


def next_version(current: InstrumentDefinition, told: InstrumentDefinition, at_ns: int) -> InstrumentDefinition:
    """Return the current definition where what is told is the same in substance, else the next version of it."""
    parts = ("type", "base", "quote", "settle", "price_increment", "size_increment", "multiplier", "expiry_ns")
    if all(getattr(current, part) == getattr(told, part) for part in parts):
        return current
    following = InstrumentDefinition()
    following.CopyFrom(told)
    following.id.definition_version = current.id.definition_version + 1
    following.valid_from_ns = at_ns
    return following

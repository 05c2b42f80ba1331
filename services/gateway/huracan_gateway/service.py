"""The gateway service: frames in; ticks and features to the log, windows to the bus, step by step."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence

import structlog
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Outbox
from huracan.clock import NANOSECONDS
from huracan.contracts.context import Context, ContextRef, context_name
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentDefinition, NewsItem, TickBatch, instrument_key
from huracan.contracts.ops import FeedState, ServiceChanged, StepAcknowledged
from huracan.errors import Fatal
from huracan.ids import derived_id
from huracan.market.news import load_news
from huracan.ports import Ports
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
from huracan.ticklog.writer import LogWriter
from huracan_gateway.anomaly import DivergenceDetector
from huracan_gateway.channel import NAME, Channel, next_version
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.feed import Feed, Source
from huracan_gateway.instrument import Instrument
from huracan_gateway.live.feed import LiveFeed

logger = structlog.get_logger()

VERSIONS_KEPT = 8
CHANGES_KEPT = 4_096
"""Changes of feeds that wait to be told; past it the oldest are not."""


class Gateway(Service):
    """Run feeds, a channel each. Single writer of its shard: every message carries its epoch."""

    def __init__(self, config: GatewayConfig, sources: Sequence[Source], ports: Ports) -> None:
        super().__init__(NAME)
        self.clock = ports.clock
        self.epoch = 1
        self.channels: dict[str, Channel] = {}
        """By instrument key."""
        self._config = config
        self._sources = sources
        self._ports = ports
        self._writer = LogWriter(ports, NAME)
        self._outbox = Outbox(ports)
        self._dead_letters = DeadLetters(ports, NAME, self.counts)
        self._contexts: dict[tuple[str, str], deque[Context]] = {}
        self._news: deque[NewsItem] | None = None
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._announced: dict[str, ServiceChanged] = {}
        self._running: set[str] = set()
        self._progress = asyncio.Event()
        self._changes: asyncio.Queue[tuple[Channel, FeedState, str, str, int]] = asyncio.Queue(CHANGES_KEPT)
        self._silent: dict[str, asyncio.Event] = {}
        self._back: dict[str, asyncio.Event] = {}
        self._stopped = False

    @property
    def instrument(self) -> Instrument | None:
        """Return the first instrument, once it is known."""
        return next((channel.instrument for channel in self.channels.values()), None)

    async def run(self) -> None:
        """Play every feed to its end, or until cancelled."""
        feeds = [await source() for source in self._sources]
        try:
            await self._run(feeds)
        finally:
            for feed in feeds:
                await feed.aclose()

    async def _run(self, feeds: Sequence[Feed]) -> None:
        for feed in feeds:
            await self._recall(feed)
        divergence = DivergenceDetector(self._config.quality.anomalies)
        for feed in feeds:
            channel = Channel(feed, self._config, self, divergence)
            self.channels[channel.key] = channel
        for channel in self.channels.values():
            alike = {key: other for key, other in self.channels.items() if _alike(channel, other)}
            channel.beside(alike if len(alike) > 1 else {})
            self._attach(channel)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._listen()),
                tasks.create_task(self._writer.run()),
                tasks.create_task(self._tell_changes()),
            ]
            for channel in self.channels.values():
                await channel.claim()
            await self._writer.drained()
            await self.listening(self._ports)
            await self._wait_for_services()
            async with asyncio.TaskGroup() as playing:
                for channel in self.channels.values():
                    playing.create_task(self._play(channel))
            await self._writer.drained()
            await self._changes.join()
            await self._outbox.flush()
            for task in background:
                task.cancel()

    async def _recall(self, feed: Feed) -> None:
        """Take up the epoch and the version of the definition after those in the log."""
        last = await self._ports.log.last(subjects.TICKS_TOPIC, instrument_key(feed.definition.id))
        if last is None or not isinstance(last.message, TickBatch):
            return
        self.epoch = max(self.epoch, last.message.epoch + 1)
        feed.definition = next_version(last.message.instrument, feed.definition, last.message.watermark_ns)

    async def _play(self, channel: Channel) -> None:
        """Play a channel: from the beginning, or whenever the one it stands by for is silent."""
        async with asyncio.TaskGroup() as tasks:
            closing = None
            if not self._config.lockstep_services:
                closing = tasks.create_task(channel.close_on_the_clock(), name=f"close {channel.key}")
            primary = self._primary(channel)
            if primary is None:
                await self._play_while_it_can(channel)
            else:
                await self._stand_by(channel, primary)
            await channel.finished_closing()  # so that none is cancelled between a step and what it gives
            if closing is not None:
                closing.cancel()

    async def _play_while_it_can(self, channel: Channel) -> None:
        """Play a channel; where there are others, one whose feed is refused for good ends alone."""
        try:
            await channel.play()
        except Fatal as refused:
            if len(self.channels) == 1:
                raise
            self.counts["feeds.refused"] += 1
            logger.error("gateway.feed_refused", instrument=channel.key, error=str(refused))

    def _settings(self, channel: Channel) -> FeedConfig | None:
        return next(
            (
                feed
                for feed in self._config.feeds
                if (feed.venue, feed.symbol) == (channel.feed.adapter.venue, channel.definition.venue_symbol)
            ),
            None,
        )

    def _primary(self, channel: Channel) -> Channel | None:
        settings = self._settings(channel)
        if settings is None or not settings.standby_for:
            return None
        for other in self.channels.values():
            found = self._settings(other)
            if found is not None and found.name == settings.standby_for:
                return other
        return None

    async def _stand_by(self, channel: Channel, primary: Channel) -> None:
        """Play a channel whenever its primary is silent, until that is back: each time on a new connection."""
        silent, back = self._silent[primary.key], self._back[primary.key]
        source = self._sources[list(self.channels).index(channel.key)]
        while True:
            await silent.wait()
            if self._stopped:
                return
            self._note(primary, FeedState.FEED_STATE_FALLBACK, channel.key, f"{primary.key} is silent")
            playing = asyncio.create_task(channel.play(), name=f"stand by {channel.key}")
            returned = asyncio.create_task(back.wait())
            await asyncio.wait([playing, returned], return_when=asyncio.FIRST_COMPLETED)
            if playing.done():
                returned.cancel()
                playing.result()
                return
            await channel.interrupt(playing)
            self._note(primary, FeedState.FEED_STATE_RETURNED, "websocket", f"{channel.key} stands by again")
            channel.feed = await source()
            self._attach(channel)

    def _attach(self, channel: Channel) -> None:
        """Hear what happens to a live feed."""
        self._silent[channel.key], self._back[channel.key] = asyncio.Event(), asyncio.Event()
        settings = self._settings(channel)
        if settings is not None:
            channel.history = settings.history
        if not isinstance(channel.feed, LiveFeed):
            return
        channel.fetched = list(channel.feed.bars)

        def changed(state: FeedState, provider: str, detail: str, attempt: int) -> None:
            silent, back = self._silent[channel.key], self._back[channel.key]
            if state == FeedState.FEED_STATE_SILENT:
                silent.set()
                back.clear()
            elif state == FeedState.FEED_STATE_RETURNED:
                back.set()
                silent.clear()
            self._note(channel, state, provider, detail, attempt)

        channel.feed.on_change = changed

    def _note(self, channel: Channel, state: FeedState, provider: str, detail: str, attempt: int = 0) -> None:
        """Have a change told after those before it."""
        if self._changes.full():
            self._changes.get_nowait()
            self._changes.task_done()
            self.counts["feed.untold"] += 1
        self._changes.put_nowait((channel, state, provider, detail, attempt))

    async def _tell_changes(self) -> None:
        while True:
            channel, state, provider, detail, attempt = await self._changes.get()
            await channel.changed(state, provider, detail, attempt)
            self._changes.task_done()

    def stop(self) -> None:
        """Take no more frames: the run ends as at the end of the feeds."""
        self._stopped = True
        for channel in self.channels.values():
            channel.stop()
        for silent in self._silent.values():
            silent.set()

    def report(self) -> Counter[str]:
        """Return everything that was counted; where there are several instruments, of each too, under its key."""
        report = Counter(self.counts)
        for channel in self.channels.values():
            counted = channel.report()
            for name, count in counted.items():
                if name.startswith(LAST):
                    report.setdefault(name, count)
                else:
                    report[name] += count
                if len(self.channels) > 1:
                    last = LAST if name.startswith(LAST) else ""
                    report[f"{last}{channel.key}/{name.removeprefix(LAST)}"] = count
        return report

    # What channels are given.

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:
        """Put a record into the log, in order."""
        await self._writer.put(topic, key, message, record_id=record_id)

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:
        """Publish what watches want to know, acknowledged where it has an id."""
        subject = subjects.ops(NAME, event)
        if message_id is None:
            await self._ports.bus.publish(subject, message, epoch=self.epoch)
            return
        await self._outbox.put(subject, message, message_id=message_id, epoch=self.epoch)
        await self._outbox.flush()

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None:
        """Publish a window: of steps best effort, of bars acknowledged."""
        subject = subjects.features(name, definition)
        if name == subjects.MICRO:
            await self._ports.bus.publish(subject, window, epoch=self.epoch)
            return
        message_id = derived_id("bars", instrument_key(definition.id), name, self.epoch, window.step)
        await self._outbox.put(subject, window, message_id=message_id, epoch=self.epoch)
        await self._outbox.flush()

    async def news(self, now_ns: int) -> None:
        """Publish the headlines that came out before a time."""
        if self._config.news is None:
            return
        if self._news is None:
            items = load_news(self._config.news)
            horizon_ns = now_ns - int(self._config.news_max_age_h * 3600 * NANOSECONDS)
            self._news = deque(item for item in items if item.published_ns >= horizon_ns)
            self.counts["news.too_old"] += len(items) - len(self._news)
        while self._news and self._news[0].published_ns < now_ns:
            item = self._news.popleft()
            self.counts["news"] += 1
            await self._outbox.put(subjects.news(item.source), item, message_id=item.news_id, epoch=self.epoch)
        await self._outbox.flush()

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:
        """Return the newest versions of an instrument's contexts that count for a step that opens then."""
        keys = (instrument_key(definition.id), definition.underlying)
        refs = []
        for _, versions in sorted(item for item in self._contexts.items() if item[0][1] in keys):
            effective = [context.ref for context in versions if context.effective_from_ns <= open_ns]
            refs += effective[-1:]
        return refs

    async def stepped(self, key: str, step: int) -> None:
        """In a replay, return once every running service has acknowledged the step."""
        while any(
            self._acknowledged.get((service, key), 0) < step
            for service in self._config.lockstep_services
            if service in self._running
        ):
            self._progress.clear()
            await self._progress.wait()

    # What services say.

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
            case StepAcknowledged():
                self._done(message.service, instrument_key(message.instrument), message.step)
            case ServiceChanged():
                self._changed(message)
        self._progress.set()

    def _done(self, service: str, key: str, step: int) -> None:
        self._acknowledged[service, key] = max(step, self._acknowledged.get((service, key), 0))

    def _changed(self, change: ServiceChanged) -> None:
        known = self._announced.get(change.service)
        if known is not None and (change.at_ns < known.at_ns or change == known):
            return
        self._announced[change.service] = change
        if change.running:
            self._running.add(change.service)
            for key, channel in self.channels.items():
                self._done(change.service, key, channel.step)  # it began to listen after the window of this step
        else:
            self._running.discard(change.service)

    async def _wait_for_services(self) -> None:
        """In a replay, return once every service listens."""
        while not self._running.issuperset(self._config.lockstep_services):
            self._progress.clear()
            await self._progress.wait()


def _alike(one: Channel, other: Channel) -> bool:
    """Return whether two instruments should trade near one price."""
    return (one.definition.underlying, one.definition.quote) == (other.definition.underlying, other.definition.quote)

"""The gateway service: frames in; ticks and features to the log, windows to the bus, step by step."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import structlog
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.outbox import Outbox
from huracan.clock import NANOSECONDS
from huracan.contracts.context import ENGINE, Context, ContextRef, context_name
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import InstrumentDefinition, NewsItem, TickBatch, instrument_key
from huracan.contracts.ops import FeedState, ServiceChanged, StepAcknowledged, feed_changed, feed_state_name
from huracan.errors import Fatal
from huracan.ids import derived_id
from huracan.market.news import load_news
from huracan.ports import Ports
from huracan.service.dead_letters import DeadLetters
from huracan.service.service import LAST, Service
from huracan.ticklog.newest import newest_of
from huracan.ticklog.writer import LogWriter
from huracan_gateway.anomaly import DivergenceDetector
from huracan_gateway.channel import NAME, Channel, next_version
from huracan_gateway.config import GatewayConfig
from huracan_gateway.feed import Feed, Source
from huracan_gateway.instrument import Instrument
from huracan_gateway.live.feed import LiveFeed
from huracan_gateway.recall import recalled_trades

logger = structlog.get_logger()

VERSIONS_KEPT = 8
CHANGES_KEPT = 4_096
"""Changes of feeds that wait to be told; past it the oldest are not."""


@dataclass(slots=True, eq=False)
class Place:
    """One instrument of the gateway, whether or not its venue has answered yet."""

    source: Source
    channel: Channel | None = None
    """None until the venue has answered."""
    last: TickBatch | None = None
    """The newest batch in the log."""
    opening: asyncio.Task[None] | None = None
    """Who waits for the venue."""
    absent: bool = False
    """Whether its venue did not answer at once: its first connection is then its return."""
    refused: bool = False
    """Whether it was given up for good."""
    counts: Counter[str] = field(default_factory=Counter)
    """Changes that were told before there was a channel."""
    silent: asyncio.Event = field(default_factory=asyncio.Event)
    back: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def key(self) -> str:
        """Return the instrument's key."""
        return instrument_key(self.source.instrument)


class Gateway(Service):
    """Run feeds, a channel each. Single writer of its shard: every message carries its epoch."""

    def __init__(self, config: GatewayConfig, sources: Sequence[Source], ports: Ports) -> None:
        super().__init__(NAME)
        self.clock = ports.clock
        self.epoch = 1
        self._config = config
        self._places = [Place(source) for source in sources]
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
        self._changes: asyncio.Queue[tuple[Place, FeedState, str, str, int]] = asyncio.Queue(CHANGES_KEPT)
        self._divergence = DivergenceDetector(config.quality.anomalies)
        self._beginning = asyncio.Lock()
        self._stopped = False

    @property
    def channels(self) -> dict[str, Channel]:
        """Return what is played by instrument key, in the order of the sources: whose venue has answered."""
        return {channel.key: channel for place in self._places if (channel := place.channel) is not None}

    @property
    def instrument(self) -> Instrument | None:
        """Return the first instrument, once it is known."""
        return next((channel.instrument for channel in self.channels.values()), None)

    async def run(self) -> None:
        """Play every feed to its end, or until cancelled.

        One whose venue does not answer is waited for, while the others play. Raises BadInput and Fatal for one that
        cannot be had, unless it is one of several and its venue took its time to say so, and for the last one of all
        that are refused.
        """
        for place in self._places:
            await self._recall(place)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self._listen()),
                tasks.create_task(self._writer.run()),
                tasks.create_task(self._tell_changes()),
            ]
            async with asyncio.TaskGroup() as playing:
                for place in self._places:
                    playing.create_task(self._serve(place))
            await self._writer.drained()
            await self._changes.join()
            await self._outbox.flush()
            for task in background:
                task.cancel()

    async def _recall(self, place: Place) -> None:
        """Take up an epoch after all in the log: each record that cannot be read may be all there is of one."""
        newest = await newest_of(self._ports.log, subjects.TICKS_TOPIC, place.key, TickBatch)
        place.last = newest.message
        place.counts["epoch.unread"] += newest.unread
        taken = newest.message.epoch if newest.message is not None else 0
        self.epoch = max(self.epoch, taken + newest.unread + 1)

    async def _serve(self, place: Place) -> None:
        """Play one instrument, from when its venue answers to the end of its feed."""
        try:
            feed = await self._opened(place)
        except Fatal as refused:
            if not (place.absent and self._can_spare(place, refused)):
                raise
            self._feed_changed(place, FeedState.FEED_STATE_REFUSED, "rest", str(refused))
            return
        if feed is None:
            return
        try:
            await self._play(place, await self._joined(place, feed))
        finally:
            await (place.channel.feed if place.channel is not None else feed).aclose()

    async def _opened(self, place: Place) -> Feed | None:
        """Return a feed once its venue answers; None once stopped."""
        place.opening = task = asyncio.current_task()
        try:
            return None if self._stopped else await place.source.open(partial(self._feed_changed, place))
        except asyncio.CancelledError:
            if task is not None and self._stopped and not task.uncancel():
                return None
            raise
        finally:
            place.opening = None

    async def _joined(self, place: Place, feed: Feed) -> Channel:
        """Return the channel of a feed, claimed, among the others, when services listen."""
        if instrument_key(feed.definition.id) != place.key:
            await self._recall_late(place, feed)
        if place.last is not None:
            feed.definition = next_version(place.last.instrument, feed.definition, place.last.watermark_ns)
        place.channel = channel = Channel(feed, self._config, self, self._divergence)
        self._attach(place, channel)
        for each in self.channels.values():
            alike = {key: other for key, other in self.channels.items() if _alike(each, other)}
            each.beside(alike if len(alike) > 1 else {})
        if self._stopped:
            channel.stop()
        await channel.claim()
        await self._writer.drained()
        if isinstance(feed, LiveFeed):  # a tape tells nothing twice
            kind = feed.adapter.trade_ids
            recalled = await recalled_trades(self._ports.log, channel.key, kind, channel.counts)
            channel.instrument.know_trades(recalled)
        self._tell_missing_bars(place, channel)
        async with self._beginning:
            if not self.ready.is_set():
                await self.listening(self._ports)
                await self._wait_for_services()
        return channel

    async def _recall_late(self, place: Place, feed: Feed) -> None:
        """Look into the log for an instrument whose name only its venue could tell."""
        begun = self.epoch
        place.source = replace(place.source, instrument=feed.definition.id)
        await self._recall(place)
        if self.epoch != begun and len(self.channels):
            raise Fatal(
                f"{place.key}: epoch {self.epoch - 1} was in its log, and the others began in {begun} before its venue "
                "answered: start again"
            )

    async def _play(self, place: Place, channel: Channel) -> None:
        """Play a channel, and close its steps."""
        async with asyncio.TaskGroup() as tasks:
            on_the_clock: list[asyncio.Task[None]] = []
            if not self._config.lockstep_services:
                for what, work in (("close", channel.close_on_the_clock()), ("flush", channel.flush_on_the_clock())):
                    on_the_clock.append(tasks.create_task(work, name=f"{what} {channel.key}"))
            await self._play_while_it_can(place, channel)
            await channel.finished_closing()  # so that none is cancelled between a step and what it gives
            for task in on_the_clock:
                task.cancel()

    async def _play_while_it_can(self, place: Place, channel: Channel) -> None:
        """Play a channel: from the beginning, or whenever the one it stands by for is silent.

        Where there are others, one whose feed is refused for good ends alone.
        """
        primary = self._primary(place)
        try:
            if primary is None:
                await channel.play()
            else:
                await self._stand_by(place, channel, primary)
        except Fatal as refused:
            if not self._can_spare(place, refused):
                raise

    def _can_spare(self, place: Place, refused: Fatal) -> bool:
        """Return whether others are left; then this one is given up, and whoever stands by for it takes over."""
        place.refused = True
        self.counts["feeds.refused"] += 1
        logger.error("gateway.feed_refused", instrument=place.key, error=str(refused))
        if all(other.refused for other in self._places):
            return False
        place.back.clear()
        place.silent.set()
        return True

    def _primary(self, place: Place) -> Place | None:
        settings = place.source.settings
        if settings is None or not settings.standby_for:
            return None
        named = ((other, other.source.settings) for other in self._places)
        return next((other for other, its in named if its is not None and its.name == settings.standby_for), None)

    async def _stand_by(self, place: Place, channel: Channel, primary: Place) -> None:
        """Play a channel whenever its primary is silent, until that is back: each time on a new connection."""
        while True:
            await primary.silent.wait()
            if self._stopped:
                return
            self._note(primary, FeedState.FEED_STATE_FALLBACK, channel.key, f"{primary.key} is silent")
            if not await self._played_until_back(channel, primary):
                return
            self._note(primary, FeedState.FEED_STATE_RETURNED, "websocket", f"{channel.key} stands by again")
            feed = await self._opened(place)
            if feed is None:
                return
            channel.feed = feed
            self._attach(place, channel)

    async def _played_until_back(self, channel: Channel, primary: Place) -> bool:
        """Play a channel until its primary is back, and return True; False when its feed ended before."""
        try:
            async with asyncio.TaskGroup() as tasks:
                playing = tasks.create_task(channel.play(), name=f"stand by {channel.key}")
                returned = tasks.create_task(primary.back.wait(), name=f"return of {primary.key}")
                await asyncio.wait([playing, returned], return_when=asyncio.FIRST_COMPLETED)
                returned.cancel()
                is_back = not playing.done()
                if is_back:
                    await channel.interrupt(playing)
        except ExceptionGroup as group:
            raise next((error for error in group.exceptions if isinstance(error, Fatal)), group) from None
        return is_back

    def _attach(self, place: Place, channel: Channel) -> None:
        """Hear what happens to a live feed, and have its bars."""
        if place.source.settings is not None:
            channel.history = place.source.settings.history
        if isinstance(channel.feed, LiveFeed):
            feed = channel.feed
            channel.fetched = list(feed.bars)
            feed.on_change = partial(self._feed_changed, place)
            feed.on_book_lost = lambda _why: channel.lose_book()

    def _tell_missing_bars(self, place: Place, channel: Channel) -> None:
        feed = channel.feed
        if isinstance(feed, LiveFeed) and feed.without_bars:
            channel.counts["history_bars.refused"] += 1
            logger.warning("gateway.no_bars", instrument=place.key, error=feed.without_bars)
            self._note(place, FeedState.FEED_STATE_REFUSED, "rest", f"no bars to warm with: {feed.without_bars}")

    def _feed_changed(self, place: Place, state: FeedState, provider: str, detail: str, attempt: int = 0) -> None:
        """Have what happened to a live feed told, and let whoever stands by for it take over or rest."""
        place.absent = place.absent or place.channel is None
        if state == FeedState.FEED_STATE_SILENT:
            place.silent.set()
            place.back.clear()
        elif state == FeedState.FEED_STATE_RETURNED or (state == FeedState.FEED_STATE_CONNECTED and place.absent):
            place.absent = False
            place.back.set()
            place.silent.clear()
        elif state == FeedState.FEED_STATE_RESYNCING and place.channel is not None:
            place.channel.resyncing()
        self._note(place, state, provider, detail, attempt)

    def _note(self, place: Place, state: FeedState, provider: str, detail: str, attempt: int = 0) -> None:
        """Have a change told after those before it."""
        if self._changes.full():
            self._changes.get_nowait()
            self._changes.task_done()
            self.counts["feed.untold"] += 1
        self._changes.put_nowait((place, state, provider, detail, attempt))

    async def _tell_changes(self) -> None:
        while True:
            place, state, provider, detail, attempt = await self._changes.get()
            if place.channel is None:
                await self._tell_before(place, state, provider, detail, attempt)
            else:
                await place.channel.changed(state, provider, detail, attempt)
            self._changes.task_done()

    async def _tell_before(self, place: Place, state: FeedState, provider: str, detail: str, attempt: int) -> None:
        """Tell what happened to a feed that has no channel yet; its changes are counted backwards, from -1."""
        name = feed_state_name(state)
        logger.warning("gateway.venue_awaited", instrument=place.key, state=name, detail=detail, attempt=attempt)
        place.counts[f"feed.{name}"] += 1
        change = feed_changed(
            instrument=place.source.instrument,
            state=state,
            provider=provider,
            detail=detail,
            at_ns=self.clock.now_ns(),
            epoch=self.epoch,
            number=-place.counts.total(),
            attempt=attempt,
        )
        await self.tell("feed", change, change.change_id)

    def stop(self) -> None:
        """Take no more frames: the run ends as at the end of the feeds."""
        self._stopped = True
        for place in self._places:
            if place.channel is not None:
                place.channel.stop()
            if place.opening is not None:
                place.opening.cancel()
            place.silent.set()

    def report(self) -> Counter[str]:
        """Return everything that was counted; where there are several instruments, of each too, under its key."""
        report = Counter(self.counts)
        for place in self._places:
            counted = Counter(place.counts)
            if place.channel is not None:
                counted.update(place.channel.report())
            for name, count in counted.items():
                if name.startswith(LAST):
                    report.setdefault(name, count)
                else:
                    report[name] += count
                if len(self._places) > 1:
                    last = LAST if name.startswith(LAST) else ""
                    report[f"{last}{place.key}/{name.removeprefix(LAST)}"] = count
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
        """Return the newest versions of the contexts that count for an instrument and a step that opens then.

        They are those of the instrument and of its underlying, and of the engines, which answer for every instrument.
        """
        keys = (instrument_key(definition.id), definition.underlying)
        refs = []
        for (kind, key), versions in sorted(self._contexts.items(), key=lambda item: item[0]):
            if key not in keys and kind != ENGINE:
                continue
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

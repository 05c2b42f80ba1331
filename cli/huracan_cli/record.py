"""`huracan record`: write down a live feed, as the gateway reads it, as a recording that replays."""

from __future__ import annotations

import asyncio
import gzip
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path
from shutil import rmtree
from typing import IO, NoReturn, cast

from google.protobuf.message import Message
from pydantic import BaseModel, ConfigDict, ValidationError

from huracan.clock import SystemClock
from huracan.contracts.context import ContextRef
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, instrument_key
from huracan.contracts.ops import FeedState, feed_state_name
from huracan.embedded.supervisor import Supervisor
from huracan.errors import BadInput, HuracanError, Recoverable
from huracan.ports import Clock
from huracan.rng import SeededRng
from huracan_cli.local_venues import LocalVenues
from huracan_cli.run import temporary_directory
from huracan_gateway import venues
from huracan_gateway.anomaly import DivergenceDetector
from huracan_gateway.channel import Channel
from huracan_gateway.config import FeedConfig, GatewayConfig
from huracan_gateway.live.feed import LiveFeed, define
from huracan_gateway.live.http import VenueHttp
from huracan_gateway.recording import Line

FLUSH_EVERY_S = 1.0
"""What a kill, or a machine that loses its power, can cost of a recording."""


class Recorded(BaseModel):
    """What was written down."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    venue: str
    symbol: str
    instrument: str
    simulated: bool
    lines: int
    bytes: int
    """Of the lines, before they are packed."""
    first_ns: int
    """Receive times; 0 when there is no line."""
    last_ns: int
    rejected: dict[str, int]
    """Lines that the gateway refuses, by reason; they are written too."""
    gaps: dict[str, int]
    """Broken sequences by stream, each followed by a new order book."""
    missed: int
    """Lines that came faster than they could be written."""
    feed: dict[str, int]
    """What happened to the feed: how often it was connected, silent, resynced, and so on."""


class Tape:
    """A file that lines are written to: `<receive_time_ns> <raw frame>`, packed when its name ends with .gz.

    What is there at a flush can be read, packed too, whatever happens to the process then.
    """

    def __init__(self, path: Path) -> None:
        self.lines = self.bytes = self.first_ns = self.last_ns = 0
        try:
            self._file: IO[bytes] = path.open("xb")
        except FileExistsError:
            raise BadInput(f"--out {path} is there already: name another file") from None
        except OSError as error:
            raise BadInput(f"--out {path} cannot be written: {error.strerror}") from None
        packed = path.suffix == ".gz"
        self._stream = cast("IO[bytes]", gzip.GzipFile(fileobj=self._file, mode="wb")) if packed else self._file

    def write(self, line: Line) -> None:
        """Append a line."""
        text = b"%d %b\n" % (line.recv_ns, line.raw)
        self._stream.write(text)
        self.lines += 1
        self.bytes += len(text)
        self.first_ns = self.first_ns or line.recv_ns
        self.last_ns = line.recv_ns

    def flush(self) -> None:
        """Write out what is there, up to here readable even if nothing follows."""
        self._stream.flush()

    async def flush_always(self) -> NoReturn:
        """Flush once a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            self.flush()

    def close(self) -> None:
        """Write out what is left and close the file."""
        self._stream.close()
        self._file.close()


class TapedFeed:
    """A live feed whose lines are written down as they are handed out."""

    def __init__(self, feed: LiveFeed, tape: Tape, progress: Callable[[Tape], None]) -> None:
        self.adapter, self.definition = feed.adapter, feed.definition
        self._feed = feed
        self._tape = tape
        self._progress = progress

    @property
    def skipped(self) -> int:
        """Return how many lines went because we were behind."""
        return self._feed.skipped

    @property
    def oldest_ns(self) -> int | None:
        """Return the receive time of the oldest line that waits; None where none does."""
        return self._feed.oldest_ns

    async def next_line(self) -> Line | None:
        """Wait for the next line and write it down."""
        line = await self._feed.next_line()
        if line is not None:
            self._tape.write(line)
            self._progress(self._tape)
        return line

    async def request_snapshot(self) -> None:
        """Ask the venue for its order book."""
        await self._feed.request_snapshot()

    async def aclose(self) -> None:
        """Let go of every connection."""
        await self._feed.aclose()


class Deaf:
    """Takes what a channel gives and does nothing with it: the recorder wants its questions to the venue alone."""

    epoch = 1

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    async def log(self, topic: str, key: str, message: Message, record_id: bytes) -> None:
        """Do nothing."""

    async def tell(self, event: str, message: Message, message_id: bytes | None = None) -> None:
        """Do nothing."""

    async def window(self, name: str, definition: InstrumentDefinition, window: FeatureWindow) -> None:
        """Do nothing."""

    async def news(self, now_ns: int) -> None:
        """Do nothing."""

    def in_force(self, open_ns: int, definition: InstrumentDefinition) -> list[ContextRef]:  # noqa: ARG002 - the port's form
        """Return none."""
        return []

    async def stepped(self, key: str, step: int) -> None:
        """Return at once."""


async def record(
    config: FeedConfig,
    path: Path,
    *,
    lasts_s: float | None = None,
    progress: Callable[[Tape], None] = lambda _tape: None,
) -> Recorded:
    """Write down a feed for so many seconds, or until Ctrl-C or SIGTERM: the instrument's definition, then every frame.

    As in the gateway, a broken book is asked for again, so that the recording replays in step. Raises BadInput for a
    venue or symbol that is not there and for a path that cannot be written, Recoverable when the venue does not answer.
    """
    adapter, clock, rng = venues.named(config.venue), SystemClock(), SeededRng.fresh()
    async with aclosing(VenueHttp(adapter, config, clock=clock, rng=rng)) as http:
        try:
            definition, first = await define(adapter, config, http, clock)
        except Recoverable as error:
            url = config.rest_url or adapter.http.url
            raise Recoverable(
                f"--rest-url was {url} and gives no answer; try again, or name another: {error}"
            ) from None
        tape = Tape(path)
        try:
            live = LiveFeed(adapter, config, definition, first, http=http, clock=clock, rng=rng)
            changes = Counter[str]()
            live.on_change = lambda state, *_: _count(changes, state)
            gateway = GatewayConfig(feeds=(config,))
            feed = TapedFeed(live, tape, progress)
            channel = Channel(feed, gateway, Deaf(clock), DivergenceDetector(gateway.quality.anomalies))
            async with aclosing(feed):
                await _play(channel, tape, lasts_s)
        finally:
            tape.close()
    counted = channel.report()
    changes.update(_split(counted, "feed."))
    return Recorded(
        path=str(path),
        venue=config.venue,
        symbol=config.symbol,
        instrument=instrument_key(definition.id),
        simulated=definition.id.venue == SIMULATED_VENUE,
        lines=tape.lines,
        bytes=tape.bytes,
        first_ns=tape.first_ns,
        last_ns=tape.last_ns,
        rejected=_split(counted, "rejected."),
        gaps=_split(counted, "gaps."),
        missed=live.skipped,
        feed=dict(sorted(changes.items())),
    )


async def record_simulated(
    config: FeedConfig,
    path: Path,
    *,
    seed: int,
    lasts_s: float | None = None,
    progress: Callable[[Tape], None] = lambda _tape: None,
) -> Recorded:
    """Start simulated venues on this machine and write down a feed of one of them; raise BadInput as `record` does."""
    directory = temporary_directory()
    supervisor = Supervisor(SeededRng.fresh())
    try:
        local = LocalVenues(directory, seed=seed)
        feed = local.feed(config.venue, config.symbol)
        await supervisor.start(local.program())
        return await record(feed, path, lasts_s=lasts_s, progress=progress)
    finally:
        await supervisor.stop_all()
        rmtree(directory, ignore_errors=True)


def feed_config(venue: str, symbol: str, *, websocket_url: str | None, rest_url: str | None) -> FeedConfig:
    """Return the configuration of a feed; raise BadInput for an address that is none."""
    try:
        return FeedConfig(venue=venue, symbol=symbol, websocket_url=websocket_url, rest_url=rest_url)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        option = "--" + str(wrong["loc"][0]).replace("_", "-")
        raise BadInput(f"{option} was {wrong['input']!r}: {wrong['msg'].removeprefix('Value error, ')}") from None


async def _play(channel: Channel, tape: Tape, lasts_s: float | None) -> None:
    """Let a channel take its feed until the time is over, or somebody asks to stop."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, channel.stop)
    ends = loop.call_later(lasts_s, channel.stop) if lasts_s is not None else None
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(channel.close_on_the_clock()), tasks.create_task(tape.flush_always())]
            await channel.play()
            for task in beside:
                task.cancel()
    except ExceptionGroup as group:
        raise next((error for error in group.exceptions if isinstance(error, HuracanError)), group) from None
    finally:
        if ends is not None:
            ends.cancel()
        for number in signals:
            loop.remove_signal_handler(number)


def _count(changes: Counter[str], state: FeedState) -> None:
    changes[feed_state_name(state)] += 1


def _split(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}

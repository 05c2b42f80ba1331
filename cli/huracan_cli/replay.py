"""Simulation replay: a recording through every service, on virtual time, in lockstep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS
from huracan.contracts.decision import Decision
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition
from huracan.contracts.opinion import Opinion
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_cli.composition import Inputs, factories, gateway, history_of
from huracan_cli.results import logged, stored, write
from huracan_cli.summary import Run, Summary, summarise
from huracan_gateway.feed import RecordingFeed
from huracan_gateway.recording import Line
from huracan_gateway.service import Gateway


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What to replay."""

    recording: Path
    history: Path | None = None
    news: Path | None = None
    seed: int = 0
    out: Path | None = None
    """Directory for the tables of the run; nothing is written without it."""
    engines: Mapping[str, Path] = field(default_factory=dict)
    """Directories of bundles by name, in place of those of this release."""


class WatchedFeed(RecordingFeed):
    """A recording that tells how many lines it has given."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(path)
        self._progress = progress
        self._lines_given = 0

    async def next_line(self) -> Line | None:
        """Return the next line."""
        self._lines_given += 1
        if self._lines_given % 1_000 == 0:
            self._progress(self._lines_given)
        return await super().next_line()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a replay gave."""

    summary: Summary
    decisions: list[Decision]
    """By instrument, step and strategy."""
    opinions: list[Opinion]
    journal: list[JournalEntry]
    """Of the shard, in its order."""


def replay(request: Replay, progress: Callable[[int], None] = lambda _: None) -> Outcome:
    """Replay a recording; raise BadInput when an input cannot be used."""
    feed = WatchedFeed(request.recording, progress)

    async def main(clock: VirtualClock) -> Outcome:
        inputs = Inputs(
            definitions=[feed.definition],
            first_recv_ns=feed.head.first_recv_ns,
            history=history_of(feed.definition, request.history),
            news=request.news,
            engines=request.engines,
        )
        world = World(clock, seed=request.seed)
        for name, factory in factories(inputs).items():
            world.start(name, factory)
        world.start("gateway", gateway(inputs, feed, lockstep=True))
        await world.finish("gateway")
        await _settle(world, clock)
        summary = await _summary(world, feed.definition, request.recording.name)
        await world.stop()
        kept = await logged(world.log.node("reader"))
        if request.out is not None:
            await write(world.store, kept, request.out)
        journal = kept.journals[subjects.journal_key(feed.definition.shard)]
        return Outcome(
            summary=summary,
            decisions=await world.store.load(Decision),
            opinions=await world.store.load(Opinion),
            journal=[entry for entry in journal if isinstance(entry, JournalEntry)],
        )

    return run_virtual(main, start_ns=feed.head.first_recv_ns)


async def _summary(world: World, definition: InstrumentDefinition, source: str) -> Summary:
    run = Run(
        source=source,
        layout="sim",
        definitions=[definition],
        counts=world.counts,
        tables=await stored(world.store),
    )
    summary = summarise(run)
    if len(run.tables.decisions) != summary.windows:
        raise RuntimeError(f"a window was not decided: {summary.model_dump_json()}")
    return summary


async def _settle(world: World, clock: VirtualClock) -> None:
    """Let the last frames be dealt with: reports that were due before the end are heard, booked and kept.

    Virtual time goes on only when nothing is left to do, so a moment later all is done.
    """
    gateway = world.services["gateway"]
    assert isinstance(gateway, Gateway)
    assert gateway.instrument is not None
    await clock.sleep_until(gateway.instrument.last_frame_ns + MILLISECOND_NS)

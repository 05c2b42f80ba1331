"""The ledger: numbered ticks, decisions and fills through real processes and servers that are struck at random moments.

Who numbers: each venue its trades, the gateway the steps that are decided, the paper venue its executions. At the end
every number must be at rest exactly once, in order.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from shutil import rmtree

import structlog

from huracan.bus import subjects
from huracan.contracts.market import TickBatch, TickKind, tick_columns
from huracan.errors import Fatal
from huracan.rng import SeededRng
from huracan.store.ticks import TickRow, tick_rows
from huracan.ticklog.kafka.log import KafkaLog
from huracan_cli.chaos.numbers import Compared, compare
from huracan_cli.chaos.proxy import Trouble
from huracan_cli.chaos.stage import Stage
from huracan_cli.chaos.strikes import HAND_OVER, KILL, SECOND, Strike, schedule
from huracan_cli.run import temporary_directory

STRIKES = 24
STRUCK_S = 60.0
"""Time in which they strike."""
AT_REST_WITHIN_S = 60.0
"""Longest wait until the last number is at rest once nothing strikes any more."""
RUNS_WITHIN_S = 60.0
"""Longest that a kill waits for its target to run: nobody is killed twice at once."""
LOOK_EVERY_S = 0.05
LOOK_AT_REST_EVERY_S = 1.0

logger = structlog.get_logger()


@dataclass(slots=True)
class Ledger:
    """What came of one seed. `broken` is empty when every number was there once and in order."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    """How often each thing was done to each target."""
    ticks: int = 0
    decisions: int = 0
    orders: int = 0
    fills: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    broken: list[str] = field(default_factory=list)

    def take(self, compared: Compared[object]) -> None:
        """Book what is wrong with a sequence."""
        self.lost += len(compared.lost)
        self.duplicated += len(compared.duplicated) + len(compared.unknown)
        self.out_of_order += len(compared.out_of_order)
        self.broken += compared.faults()


async def run_ledger(
    seed: int,
    *,
    strikes: Sequence[Strike] | None = None,
    lasts_s: float = STRUCK_S,
    mains: Mapping[str, Sequence[str]] | None = None,
    on_strike: Callable[[Strike], None] = lambda _strike: None,
) -> Ledger:
    """Run one seed on servers of its own and return its ledger.

    `strikes` stand in for those of the seed, and `mains` for what the processes are (see `Stage`). Raises BadInput
    where a server cannot be had, Fatal when one of them or a process ends for good.
    """
    rng = SeededRng(seed)
    planned = schedule(rng, strikes=STRIKES, lasts_s=lasts_s) if strikes is None else strikes
    ledger = Ledger(seed)
    async with AsyncExitStack() as afterwards:
        directory = temporary_directory()
        afterwards.callback(rmtree, directory, ignore_errors=True)
        stage = Stage(directory, rng, seed=seed, mains=mains)
        afterwards.push_async_callback(stage.close)
        await stage.open()
        ledger.faults = await _struck(stage, planned, lasts_s, on_strike)
        await _until_at_rest(stage)
        await stage.stop_processes()
        ledger.restarts = dict(sorted(stage.supervisor.restarts.items()))
        await _Count(stage, ledger).run()
    return ledger


async def _struck(
    stage: Stage, planned: Sequence[Strike], lasts_s: float, on_strike: Callable[[Strike], None]
) -> dict[str, int]:
    """Do everything that is planned, and return what was done; all that was cut is whole again."""
    done: Counter[str] = Counter()

    async def one(strike: Strike) -> None:
        await asyncio.sleep(strike.at_s)
        on_strike(strike)
        await _strike(stage, strike)
        done[f"{strike.kind} {strike.target}"] += 1

    async with asyncio.TaskGroup() as striking:
        striking.create_task(asyncio.sleep(lasts_s))
        for strike in planned:
            striking.create_task(one(strike))
    return dict(sorted(done.items()))


async def _strike(stage: Stage, strike: Strike) -> None:
    if strike.kind == KILL:
        await _kill(stage, strike.target)
    elif strike.kind == HAND_OVER:
        await stage.hand_over()
    else:
        await stage.proxies[strike.target].trouble(Trouble(strike.kind), strike.lasts_s, delay_s=strike.delay_s)


async def _kill(stage: Stage, target: str) -> None:
    """Kill a server or process that runs; one that does not is waited for."""
    try:
        async with asyncio.timeout(RUNS_WITHIN_S):
            while stage.supervisor.pid(target) is None:
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise Fatal(f"{target} has not run for {RUNS_WITHIN_S:.0f} s: {stage.supervisor.failure}") from None
    stage.supervisor.send(target, signal.SIGKILL)


async def _until_at_rest(stage: Stage) -> None:
    """End the market and return once its last trades are at rest, or the time for that is over."""
    stage.market.over = True
    wanted = {stage.instruments[venue]: told[-1] for venue, told in stage.market.told.items() if told}
    try:
        async with asyncio.timeout(AT_REST_WITHIN_S):
            while wanted != {key: max(kept) for key, kept in _trades(await tick_rows(stage.store_url)).items()}:
                await asyncio.sleep(LOOK_AT_REST_EVERY_S)
    except TimeoutError:
        logger.error("ledger.not_at_rest", within_s=AT_REST_WITHIN_S)


def _trades(rows: Iterable[TickRow]) -> dict[str, list[int]]:
    """Return the numbers of trades by instrument in the order of their ingest."""
    kept: dict[str, list[TickRow]] = {}
    for row in _fenced(rows):
        if row.kind == TickKind.TICK_KIND_TRADE:
            kept.setdefault(f"{row.venue}.{row.symbol}", []).append(row)
    return {
        key: [row.venue_seq for row in sorted(of_key, key=lambda row: (row.epoch, row.ingest_seq, row.row))]
        for key, of_key in kept.items()
    }


def _fenced(rows: Iterable[TickRow]) -> list[TickRow]:
    """Return rows without those of a writer that had lost its place to another when they came (law 7)."""
    newest: dict[tuple[str, str], int] = {}
    fenced = []
    for row in rows:
        place = (row.venue, row.symbol)
        newest[place] = max(row.epoch, newest.get(place, 0))
        if row.epoch == newest[place]:
            fenced.append(row)
    return fenced


class _Count:
    """Compare what was given with what is at rest."""

    def __init__(self, stage: Stage, ledger: Ledger) -> None:
        self._stage = stage
        self._ledger = ledger

    async def run(self) -> None:
        """Count everything."""
        log = KafkaLog(self._stage.kafka, name="ledger")
        try:
            await self._count_ticks(log)
        finally:
            await log.close()

    async def _count_ticks(self, log: KafkaLog) -> None:
        rows = await tick_rows(self._stage.store_url)
        trades = _trades(rows)
        for venue, told in self._stage.market.told.items():
            key = self._stage.instruments[venue]
            self._ledger.ticks += len(told)
            self._ledger.take(compare(f"trades of {key}", told, trades.get(key, [])))
            logged = await log.read(subjects.TICKS_TOPIC, key, 0)
            batches = [(record.offset, record.message) for record in logged]
            given = [
                (offset, row, number)
                for offset, batch in batches
                if isinstance(batch, TickBatch)
                for row, number in enumerate(tick_columns(batch).ingest_seq)
            ]
            kept = [(row.log_offset, row.row, row.ingest_seq) for row in rows if f"{row.venue}.{row.symbol}" == key]
            self._ledger.take(compare(f"rows of {key}, log to table", given, kept))

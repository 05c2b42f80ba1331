"""The ledger: numbered ticks, decisions and fills through real processes and servers that are struck at random moments.

Who numbers: each venue its trades, the gateway the steps that are decided, the paper venue its executions. At the end
every number must be at rest exactly once. Order is that of the log for trades, of the journal and the stream for
decisions, of the stream for fills: a table of messages keeps none.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from shutil import rmtree
from typing import Any

from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.bus.nats.bus import NatsBus
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill, Order
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import TickBatch, TickKind, instrument_key, tick_columns
from huracan.errors import Fatal, Recoverable
from huracan.ids import fill_id
from huracan.ports import Record
from huracan.rng import SeededRng
from huracan.store.postgres import PostgresStore
from huracan.store.ticks import TickRow, tick_rows
from huracan.ticklog.jetstream import JetStreamLog
from huracan.ticklog.kafka.log import KafkaLog
from huracan_cli.chaos.matching import Accepted, match
from huracan_cli.chaos.numbers import Compared, N, compare
from huracan_cli.chaos.proxy import Trouble
from huracan_cli.chaos.stage import PROCESSES, Stage
from huracan_cli.chaos.strikes import DESK, HAND_OVER, KILL, Strike, schedule
from huracan_cli.run import temporary_directory
from huracan_orchestrator.fold import Fold

STRIKES = 25
STRUCK_S = 50.0
"""Time in which they strike."""
DECIDED_WITHIN_S = 60.0
"""Longest that the market goes on, before the first strike and after the last, until each instrument is decided."""
AT_REST_WITHIN_S = 60.0
"""Longest wait until the last number is at rest once nothing strikes any more."""
RUNS_WITHIN_S = 60.0
"""Longest that a kill waits for its target to run: nobody is killed twice at once."""
OVER_WITHIN_S = 240.0
"""Longest that a seed takes beside the time in which it is struck: about 40 s on two idle cores."""
NOTHING_SHOWN = "there were none, so nothing is shown"
LOOK_EVERY_S = 0.05
LOOK_AT_REST_EVERY_S = 1.0


@dataclass(slots=True)
class Ledger:
    """What came of one seed. `broken` is empty when every number was there once and in order."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    """How often each thing was done to each target."""
    ticks: int = 0
    """Trades that the venues told."""
    windows: int = 0
    """Those that were seen to leave the gateway."""
    missed: int = 0
    """Windows of which the journal says that they came to nobody, as is allowed of them."""
    decisions: int = 0
    orders: int = 0
    fills: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    unshown: list[str] = field(default_factory=list)
    """What there was none of, though it needs not be there in every seed: of that nothing is shown."""
    broken: list[str] = field(default_factory=list)

    def take(self, compared: Compared[N]) -> None:
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
    processes: Collection[str] = PROCESSES,
    mains: Mapping[str, Sequence[str]] | None = None,
    on_strike: Callable[[Strike], None] = lambda _strike: None,
) -> Ledger:
    """Run one seed on servers of its own and return its ledger.

    `strikes` stand in for those of the seed; for `processes` and `mains` see `Stage`. Raises BadInput where a server
    cannot be had, Fatal when one cannot be started, or when the run is not over in time.
    """
    rng = SeededRng(seed)
    planned = schedule(rng, strikes=STRIKES, lasts_s=lasts_s) if strikes is None else strikes
    ledger = Ledger(seed)
    try:
        async with asyncio.timeout(lasts_s + OVER_WITHIN_S), AsyncExitStack() as afterwards:
            directory = temporary_directory()
            afterwards.callback(rmtree, directory, ignore_errors=True)
            stage = Stage(directory, rng, seed=seed, processes=processes, mains=mains)
            afterwards.push_async_callback(stage.close)
            await stage.open()
            witness = Witness(stage.bus)
            await stage.bus.prepared()
            hearing = asyncio.create_task(witness.run(), name="witness")
            afterwards.callback(hearing.cancel)
            await _until_decided(stage, witness)  # of what it never heard of, an orchestrator counts nothing
            ledger.faults = await _struck(stage, planned, lasts_s, on_strike)
            await _until_decided(stage, witness)  # what came to nobody is told by what comes after it
            await _until_at_rest(stage)
            await stage.stop_processes()
            ledger.broken += deaf(hearing)
            ledger.restarts = dict(sorted(stage.supervisor.restarts.items()))
            if stage.supervisor.failure is not None:
                ledger.broken.append(str(stage.supervisor.failure))
            await _Count(stage, witness, ledger).run()
    except TimeoutError:
        raise Fatal(f"seed {seed} was not over {lasts_s + OVER_WITHIN_S:.0f} s after its start; try it again") from None
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
            while not stage.can_be_killed(target):  # noqa: ASYNC110 - a program has no event of ours
                await asyncio.sleep(LOOK_EVERY_S)
    except TimeoutError:
        raise Fatal(f"{target} has not run for {RUNS_WITHIN_S:.0f} s: {stage.supervisor.failure}") from None
    stage.supervisor.send(target, signal.SIGKILL)


async def _until_decided(stage: Stage, witness: Witness) -> None:
    """Return once all runs and a window of each instrument that left the gateway since then is decided.

    Without a desk there are no decisions to wait for.
    """
    with suppress(TimeoutError):  # what is not decided then is lost
        async with asyncio.timeout(DECIDED_WITHIN_S):
            while not stage.runs():  # noqa: ASYNC110 - a program has no event of ours
                await asyncio.sleep(LOOK_EVERY_S)
            left = witness.newest()
            awaited = stage.instruments.values() if DESK in stage.processes else ()
            while any(witness.decided.get(key, 0) <= left.get(key, 0) for key in awaited):  # noqa: ASYNC110 - as above
                await asyncio.sleep(LOOK_EVERY_S)


async def _until_at_rest(stage: Stage) -> None:
    """End the market and return once its last trades are at rest, or the time for that is over."""
    stage.market.over = True
    wanted = {stage.instruments[venue]: told[-1] for venue, told in stage.market.told.items() if told}
    with suppress(TimeoutError):  # what is missing then is lost
        async with asyncio.timeout(AT_REST_WITHIN_S):
            while True:
                with suppress(Recoverable):
                    kept = trades_of(await tick_rows(stage.store_url))
                    if wanted == {key: max(numbers) for key, numbers in kept.items()}:
                        return
                await asyncio.sleep(LOOK_AT_REST_EVERY_S)


def trades_of(rows: Iterable[TickRow]) -> dict[str, list[int]]:
    """Return the numbers of trades by instrument in the order in which their rows are at rest, that of the log."""
    kept: dict[str, list[int]] = {}
    for row in _fenced(rows):
        if row.kind == TickKind.TICK_KIND_TRADE:
            kept.setdefault(f"{row.venue}.{row.symbol}", []).append(row.venue_seq)
    return kept


def _fenced(rows: Iterable[TickRow]) -> list[TickRow]:
    """Return rows in the order of the log, without those of a writer that was replaced when they came (law 7)."""
    newest: dict[tuple[str, str], int] = {}
    fenced = []
    for row in sorted(rows, key=lambda row: (row.log_offset, row.row)):
        place = (row.venue, row.symbol)
        newest[place] = max(row.epoch, newest.get(place, 0))
        if row.epoch == newest[place]:
            fenced.append(row)
    return fenced


class Witness:
    """Hears each window as it leaves the gateway, and each decision, past the network that fails."""

    def __init__(self, bus: NatsBus) -> None:
        self.steps: dict[str, dict[int, None]] = {}
        """Steps by instrument in the order in which they were heard, without those of a writer that was replaced."""
        self.decided: dict[str, int] = {}
        """Newest step by instrument that was decided."""
        self._epochs: dict[str, int] = {}
        self._inbox = bus.inbox()
        self._inbox.subscribe("feat.v1.micro.>")
        self._inbox.subscribe("sig.v1.decision.>")

    def newest(self) -> dict[str, int]:
        """Return the newest step by instrument that was heard to leave the gateway."""
        return {key: max(steps) for key, steps in self.steps.items()}

    async def run(self) -> None:
        """Hear until cancelled."""
        async for delivery in self._inbox:
            match delivery.decode():
                case FeatureWindow() as window:
                    self._left(window)
                case Decision() as decision:
                    key = instrument_key(decision.instrument)
                    self.decided[key] = max(decision.step, self.decided.get(key, 0))

    def _left(self, window: FeatureWindow) -> None:
        key = instrument_key(window.instrument.id)
        if window.epoch >= self._epochs.get(key, 0):
            self._epochs[key] = window.epoch
            self.steps.setdefault(key, {})[window.step] = None


def deaf(hearing: asyncio.Task[Any]) -> list[str]:
    """Return why a witness stopped hearing before it was told to, in one line; nothing while it hears."""
    if not hearing.done():
        return []
    why = "it was cancelled" if hearing.cancelled() else repr(hearing.exception() or "its inbox ended")
    return [f"witness: it stopped hearing windows, so those that came later were not counted: {why}"]


class _Count:
    """Compare what was given with what is at rest."""

    def __init__(self, stage: Stage, witness: Witness, ledger: Ledger) -> None:
        self._stage = stage
        self._witness = witness
        self._ledger = ledger
        self._log = KafkaLog(stage.kafka, name="ledger")
        self._store = PostgresStore(stage.store_url)
        self._batches: dict[str, list[TickBatch]] = {}

    async def run(self) -> None:
        """Count everything."""
        try:
            await self._count_ticks()
            if DESK in self._stage.processes:
                await self._count_decisions()
                await self._count_fills()
            judge_nothing(self._ledger, desk=DESK in self._stage.processes)
        finally:
            await self._log.close()
            await self._store.close()

    async def _count_ticks(self) -> None:
        rows = await tick_rows(self._stage.store_url)
        for venue, told in self._stage.market.told.items():
            key = self._stage.instruments[venue]
            records = list(await self._log.read(subjects.TICKS_TOPIC, key, 0))
            self._batches[key] = [record.message for record in records if isinstance(record.message, TickBatch)]
            count_ticks(self._ledger, key, told, rows, records)

    async def _count_decisions(self) -> None:
        count_decisions(
            self._ledger,
            {key: self._witness.steps.get(key, {}).keys() for key in self._stage.instruments.values()},
            journal=await self._journal(subjects.journal_key(self._stage.shard)),
            said=[message for message in await self._said("sig.v1.decision.>") if isinstance(message, Decision)],
            kept=await self._store.load(Decision),
        )

    async def _count_fills(self) -> None:
        count_fills(
            self._ledger,
            self._batches,
            journal=await self._journal(subjects.venue_key(self._stage.account)),
            said=[message for message in await self._said("exec.v1.>") if isinstance(message, Fill)],
            kept=await self._store.load(Fill),
        )

    async def _journal(self, key: str) -> list[JournalEntry]:
        records = await self._log.read(subjects.JOURNAL_TOPIC, key, 0)
        return [record.message for record in records if isinstance(record.message, JournalEntry)]

    async def _said(self, pattern: str) -> list[Message]:
        return [message for _, message in await JetStreamLog(self._stage.bus).published(pattern)]


def judge_nothing(ledger: Ledger, *, desk: bool) -> None:
    """Book what there was none of: it breaks a ledger, but for orders and fills, which a seed alone may lack."""
    for name in ("ticks", *(("windows", "decisions") if desk else ())):
        if not getattr(ledger, name):
            ledger.broken.append(f"{name}: {NOTHING_SHOWN}")
    if desk:
        ledger.unshown += [f"{name}: {NOTHING_SHOWN}" for name in ("orders", "fills") if not getattr(ledger, name)]


def count_ticks(
    ledger: Ledger, key: str, told: Sequence[int], rows: Sequence[TickRow], records: Iterable[Record]
) -> None:
    """Count what a venue told against the rows at rest, and those against the records of the log.

    Out of order is a trade whose row is behind one of a later trade: in the order of the log, without rows of a writer
    that was replaced.
    """
    ledger.ticks += len(told)
    ledger.take(compare(f"trades of {key}", told, trades_of(rows).get(key, [])))
    given = [
        (record.offset, row, number)
        for record in records
        if isinstance(record.message, TickBatch)
        for row, number in enumerate(tick_columns(record.message).ingest_seq)
    ]
    kept = [(row.log_offset, row.row, row.ingest_seq) for row in rows if f"{row.venue}.{row.symbol}" == key]
    ledger.take(compare(f"rows of {key}, from the log", given, kept))


def count_decisions(
    ledger: Ledger,
    heard: Mapping[str, AbstractSet[int]],
    *,
    journal: Iterable[JournalEntry],
    said: Sequence[Decision],
    kept: Sequence[Decision],
) -> None:
    """Count, by instrument, the steps that left the gateway against their decisions: in the journal, said and at rest.

    Each has one, or a counted reason. Their order is that of the journal, and of the stream in which they were said.
    """
    fold, folded = Fold(), list[Decision]()
    for entry in journal:
        folded += fold.apply(entry)
    ledger.decisions += len(folded)
    for key, steps in heard.items():
        given, told, rows = (_steps(decisions, key) for decisions in (folded, said, kept))
        missed = {step for gap in fold.missed if gap.instrument == key for step in range(gap.first, gap.last + 1)}
        ledger.windows += len(steps)
        ledger.missed += len(steps & missed)
        lost = sorted(steps - missed - set(given))
        ledger.take(Compared(f"windows of {key}, decided", lost=lost))
        ledger.take(compare(f"decisions of {key}, in the journal", sorted(set(given)), given))
        ledger.take(compare(f"decisions of {key}, as they were said", given, told))
        ledger.take(_without_order(compare(f"decisions of {key}, at rest", given, rows)))


def count_fills(
    ledger: Ledger,
    batches: Mapping[str, Sequence[TickBatch]],
    *,
    journal: Iterable[JournalEntry],
    said: Sequence[Fill],
    kept: Sequence[Fill],
) -> None:
    """Count what a second, plain venue fills of the accepted orders from the ticks against what is said and at rest."""
    accepted: dict[str, list[Order]] = {key: [] for key in batches}
    for entry in journal:
        if entry.HasField("order"):
            accepted[instrument_key(entry.order.instrument)].append(entry.order)
    decided = [order.decision_id.hex() for orders in accepted.values() for order in orders]
    ledger.orders += len(decided)
    ledger.take(compare("decisions that gave orders", list(dict.fromkeys(decided)), decided))
    for key, orders in accepted.items():
        model = match(batches[key], [Accepted.of(order) for order in orders])
        given = [
            (fill_id(order.order_id, number).hex(), price, quantity)
            for order in orders
            for number, (price, quantity) in enumerate(model[order.order_id], start=1)
        ]
        ledger.fills += len(given)
        ledger.take(compare(f"fills of {key}, as they were said", given, _fills(said, key)))
        ledger.take(_without_order(compare(f"fills of {key}, at rest", given, _fills(kept, key))))


def _without_order(rows: Compared[N]) -> Compared[N]:
    """Return what is wrong with rows of a table that keeps no order but that of its key."""
    return replace(rows, out_of_order=[])


def _steps(decisions: Iterable[Decision], key: str) -> list[int]:
    return [decision.step for decision in decisions if instrument_key(decision.instrument) == key]


def _fills(fills: Iterable[Fill], key: str) -> list[tuple[str, int, int]]:
    return [(fill.fill_id.hex(), fill.price, fill.quantity) for fill in fills if instrument_key(fill.instrument) == key]

"""One run of the whole system through seeded faults.

Every node is struck: messages are dropped, doubled, delayed and reordered, nodes are cut off, services are killed in
the middle of whatever they do and started anew. The simulated venue alone goes on. Afterwards everything is counted
from the sources: what the gateway published, what the venue accepted, what the log holds.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from huracan.bus import subjects
from huracan.bus.memory import Stored
from huracan.clock import NANOSECONDS
from huracan.contracts import codec
from huracan.contracts.context import Context
from huracan.contracts.decision import Decision
from huracan.contracts.execution import AccountState, Fill, Order, OrderState
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition, TickBatch, instrument_key
from huracan.ports import Ports
from huracan.rng import SeededRng
from huracan.service.service import Service
from huracan.sim.faults import Fault, FaultKind, FaultyTransport, plan
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import LOT_SIZE, SYMBOL, TICK_SIZE, SimulatedMarket, SimulatedMarketConfig, write_history
from huracan.sim.world import Factory, World
from huracan_cli.chaos.lossy_link import LossyLink
from huracan_cli.chaos.matching import Accepted, match
from huracan_cli.composition import SERVICES, Inputs, factories, gateway, history_of
from huracan_executor.config import ExecutorConfig
from huracan_executor.link import PaperLink
from huracan_executor.service import Executor
from huracan_gateway.binance_usdm.adapter import ADAPTER
from huracan_gateway.recording import Line
from huracan_orchestrator.config import DeadlineConfig
from huracan_orchestrator.fold import Fold

ALL = ("gateway", *SERVICES)
NODES = (*ALL, "bus", "log")
MARKET_S = 20.0
"""Length of the simulated market; faults strike between its third and seventeenth second."""
HISTORY_BARS = 600
FIRST_FAULT_S, LAST_FAULT_S, SETTLE_S = 3.0, 17.0, 6.0
TERMINAL = {
    OrderState.ORDER_STATE_DENIED,
    OrderState.ORDER_STATE_FILLED,
    OrderState.ORDER_STATE_CANCELED,
    OrderState.ORDER_STATE_REJECTED,
    OrderState.ORDER_STATE_EXPIRED,
}


@dataclass(slots=True)
class Ledger:
    """What came of one run. `broken` is empty when every promise held."""

    seed: int
    faults: dict[str, int] = field(default_factory=dict)
    messages_lost: int = 0
    messages_doubled: int = 0
    windows: int = 0
    decided: int = 0
    missed: int = 0
    contexts: int = 0
    orders: int = 0
    fills: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    broken: list[str] = field(default_factory=list)


class Exchange:
    """The simulated venue: goes on whatever happens, and sends to whoever is connected."""

    def __init__(self, market: SimulatedMarket, clock: VirtualClock) -> None:
        self.market = market
        self.clock = clock
        self.definition = ADAPTER.implied(SYMBOL, str(TICK_SIZE), str(LOT_SIZE))
        self._connection: ExchangeFeed | None = None

    def connect(self) -> ExchangeFeed:
        """Return a new connection; the one before gets nothing more."""
        self._connection = ExchangeFeed(self)
        return self._connection

    async def run(self) -> None:
        """Send each frame at its time, then fall silent: steps go on closing for a while, and every order ends."""
        while (frame := self.market.next_frame()) is not None:
            recv_ns, raw = frame
            await self.clock.sleep_until(recv_ns)
            if self._connection is not None:
                self._connection.lines.put_nowait(Line(recv_ns, raw))


class ExchangeFeed:
    """One connection to the simulated venue."""

    def __init__(self, exchange: Exchange) -> None:
        self.adapter = ADAPTER
        self.definition: InstrumentDefinition = exchange.definition
        self.skipped = 0
        self.oldest_ns: int | None = None
        self.lines: asyncio.Queue[Line] = asyncio.Queue()
        self._exchange = exchange

    async def next_line(self) -> Line:
        """Wait for the next frame."""
        return await self.lines.get()

    async def request_snapshot(self) -> None:
        """Ask for the order book, as over REST."""
        self.lines.put_nowait(Line(self._exchange.clock.now_ns(), self._exchange.market.snapshot()))

    async def aclose(self) -> None:
        """Do nothing: the venue forgets it when the next one connects."""


def run_chaos(seed: int, faults: int) -> Ledger:
    """Run the whole system through some seeded faults and return its ledger; the same seed gives the same ledger."""
    config = SimulatedMarketConfig(seed=seed, duration_s=MARKET_S, regime_switch_s=MARKET_S / 3)

    with tempfile.TemporaryDirectory() as folder:
        history, news = Path(folder, "history.parquet"), Path(folder, "news.csv")
        write_history(config, history, bars=HISTORY_BARS)
        news.write_text(_headlines(config), encoding="utf-8")

        async def main(clock: VirtualClock) -> Ledger:
            return await _Run(seed, faults, config, clock).run(history, news)

        return run_virtual(main, start_ns=config.start_ns)


def _headlines(config: SimulatedMarketConfig) -> str:
    """Return a headline every other second, so that moods change while faults strike."""
    moods = ("SIM climbs, investors happy", "SIM slumps, great fear")
    times = range(config.start_ns, config.end_ns, 2 * NANOSECONDS)
    return "time,title\n" + "".join(f'{at},"{moods[number % 2]} {number}"\n' for number, at in enumerate(times))


class _Run:
    def __init__(self, seed: int, faults: int, config: SimulatedMarketConfig, clock: VirtualClock) -> None:
        self.rng = SeededRng(seed)
        self.clock = clock
        self.transport = FaultyTransport(self.rng.stream("transport"))
        self.world = World(clock, seed=seed, transport=self.transport, lockstep=False)
        self.exchange = Exchange(SimulatedMarket(config), clock)
        self.published: list[FeatureWindow] = []
        self.ledger = Ledger(seed)
        start = config.start_ns
        self.plan = plan(
            self.rng.stream("plan"),
            services=list(ALL),
            nodes=list(NODES),
            faults=faults,
            start_ns=start + int(FIRST_FAULT_S * NANOSECONDS),
            end_ns=start + int(LAST_FAULT_S * NANOSECONDS),
        )
        self._watch()

    def _watch(self) -> None:
        """Note every window as it leaves the gateway, before anything can happen to it."""
        send = self.world.bus.send

        def noting(source: str, stored: Stored) -> None:
            if source == "gateway" and stored.subject.startswith("feat.v1.micro."):
                self.published.append(FeatureWindow.FromString(stored.data))
            send(source, stored)

        self.world.bus.send = noting  # type: ignore[method-assign]

    async def run(self, history: Path, news: Path) -> Ledger:
        definition = self.exchange.definition
        inputs = Inputs(
            definitions=[definition],
            first_recv_ns=self.clock.now_ns(),
            history=history_of(definition, history),
            news=news,
        )
        made = factories(inputs, deadlines=DeadlineConfig())
        made["executor"] = self._executor
        made["gateway"] = self._gateway(inputs)
        for name, factory in made.items():
            self.world.start(name, factory)
        striking = [asyncio.create_task(self._strike(fault)) for fault in self.plan]
        await self.exchange.run()
        await asyncio.gather(*striking)
        await asyncio.sleep(SETTLE_S)
        self.world.check()
        await self.world.stop()
        await self._count()
        return self.ledger

    def _gateway(self, inputs: Inputs) -> Factory:
        """Connect anew at every start."""

        def start(ports: Ports) -> Service:
            return gateway(inputs, self.exchange.connect(), lockstep=False)(ports)

        return start

    def _executor(self, ports: Ports) -> Executor:
        config = ExecutorConfig()
        direct = PaperLink(config.venue, ports, account=config.account)
        return Executor(config, ports, LossyLink(direct, ports.rng.stream("venue-link")))

    async def _strike(self, fault: Fault) -> None:
        await self.clock.sleep_until(fault.at_ns)
        if fault.kind is not FaultKind.KILL:
            await self.transport.inflict(fault)
            return
        if fault.target in self.transport.down:
            return  # two kills at once are one
        self.transport.counts[fault.kind] += 1
        self.transport.stop(fault.target)
        await self.world.kill(fault.target)
        await asyncio.sleep(fault.lasts_ns / NANOSECONDS)
        self.transport.start(fault.target)
        self.world.start(fault.target)

    async def _count(self) -> None:
        ledger, counts = self.ledger, self.transport.counts
        ledger.faults = {kind.value: counts[kind] for kind in FaultKind}
        ledger.messages_lost, ledger.messages_doubled = counts["lost"], counts["doubled"]
        await self._count_decisions()
        await self._count_orders()

    async def _count_decisions(self) -> None:
        """Every window has a decision or a counted reason, and the decisions are those of the journal."""
        ledger, log = self.ledger, self.world.log.node("ledger")
        shard = self.exchange.definition.shard
        fold, folded = Fold(), list[Decision]()
        for record in await log.read(subjects.JOURNAL_TOPIC, subjects.journal_key(shard), 0):
            assert isinstance(record.message, JournalEntry)
            folded += fold.apply(record.message)
        kept = {row.decision_id: row for row in await self.world.store.load(Decision)}
        steps = Counter((instrument_key(row.instrument), row.step) for row in folded)
        missed = {(gap.instrument, step) for gap in fold.missed for step in range(gap.first, gap.last + 1)}
        published = {(instrument_key(window.instrument.id), window.step) for window in self.published}
        ledger.windows, ledger.decided = len(published), len(published & steps.keys())
        ledger.missed = len(published & missed - steps.keys())
        self._demand(published <= steps.keys() | missed, "a window has neither a decision nor a counted reason")
        self._demand(max(steps.values(), default=0) <= 1, "a step was decided twice")
        self._demand(not fold.pending, "a window was left open")
        contexts = await self.world.store.load(Context)
        ledger.contexts = len(contexts)
        versions = {(row.ref.kind, row.ref.key, row.ref.version) for row in contexts}
        used = {(ref.kind, ref.key, ref.version) for row in folded for ref in row.contexts}
        gone = sorted(used - versions)
        self._demand(not gone, f"a decision used contexts that were not kept: {gone}")
        lost = [row for row in folded if row.decision_id not in kept]
        ledger.lost += len(lost)
        self._demand(not lost, f"{len(lost)} decisions of the journal were not kept")
        same = all(codec.encode(row) == codec.encode(kept.get(row.decision_id, Decision())) for row in folded)
        self._demand(same and len(kept) == len(folded), "what was kept is not what the journal says")

    async def _count_orders(self) -> None:
        """No order doubled, no fill lost, and the position is that of an independent matching model."""
        ledger, log, store = self.ledger, self.world.log.node("ledger"), self.world.store
        key, account = instrument_key(self.exchange.definition.id), ExecutorConfig().account
        accepted = await self._accepted(account)
        ticks = [record.message for record in await log.read(subjects.TICKS_TOPIC, key, 0)]
        model = match([batch for batch in ticks if isinstance(batch, TickBatch)], accepted)
        orders, fills = await store.load(Order), await store.load(Fill)
        kept: dict[bytes, list[tuple[int, int]]] = {}
        for fill in fills:
            kept.setdefault(fill.order_id, []).append((fill.price, fill.quantity))
        ledger.orders, ledger.fills = len(accepted), len(fills)
        doubled = sum(count - 1 for count in Counter(order.decision_id for order in accepted).values())
        ledger.duplicated += doubled
        self._demand(doubled == 0, f"{doubled} decisions gave two orders at the venue")
        unkept = [order for order in accepted if sorted(kept.get(order.order_id, [])) != sorted(model[order.order_id])]
        ledger.lost += len(unkept)
        self._demand(not unkept, f"the fills kept of {len(unkept)} orders are not those of the matching model")
        self._demand(len(fills) == sum(map(len, model.values())), "fills were kept that no order had")
        self._demand(all(order.state in TERMINAL for order in orders), "an order never came to an end")
        ledger.out_of_order = await self._overtaken(account)
        self._demand(ledger.out_of_order == 0, "a later decision was acted on before an earlier one")
        signs = {order.order_id: order.sign for order in accepted}
        position = sum(signs[order] * quantity for order, parts in model.items() for _, quantity in parts)
        accounts = await store.load(AccountState)
        told = sum(row.quantity for row in accounts[-1].positions) if accounts else 0
        self._demand(told == position, f"position was {told}, the matching model's is {position}")

    async def _overtaken(self, account: str) -> int:
        """Return how many orders were written after one of a later decision."""
        records = await self.world.log.node("ledger").read(subjects.JOURNAL_TOPIC, subjects.account_key(account), 0)
        entries = [record.message for record in records if isinstance(record.message, JournalEntry)]
        written = [entry.order for entry in entries if entry.HasField("order") and entry.order.revision == 1]
        return sum(later.valid_until_ns <= earlier.valid_until_ns for earlier, later in pairwise(written))

    async def _accepted(self, account: str) -> list[Accepted]:
        records = await self.world.log.node("ledger").read(subjects.JOURNAL_TOPIC, subjects.venue_key(account), 0)
        entries = [record.message for record in records if isinstance(record.message, JournalEntry)]
        return [Accepted.of(entry.order) for entry in entries if entry.HasField("order")]

    def _demand(self, holds: bool, broken: str) -> None:
        if not holds:
            self.ledger.broken.append(broken)

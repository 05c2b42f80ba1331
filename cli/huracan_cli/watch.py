"""What a running system says, folded into what people see: the live table, and how long each hop took."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from google.protobuf.message import Message
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from huracan.bus import subjects
from huracan.contracts.context import REGIME, Context, RegimeState
from huracan.contracts.decision import Decision, direction_name
from huracan.contracts.execution import AccountState, Fill, Order, RiskState
from huracan.contracts.features import FeatureWindow
from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, InstrumentId, instrument_key
from huracan.contracts.opinion import Opinion, reason_name
from huracan_cli.colours import COLOURS, tilt_colour

GATEWAY, ORCHESTRATOR, EXECUTOR = "gateway", "orchestrator", "executor"
"""Hops named for the service whose work they time; an expert's hop has the expert's name."""
WINDOW_TO_DECISION = "window_to_decision"

PENDING_STEPS = 256
"""Steps of an instrument whose messages may still be joined: 26 s, far beyond any deadline."""
REMEMBERED_IDS = 4_096
"""Ids of an instrument by which a repeat is known."""

StepKey = tuple[int, int]
"""Gateway epoch and step."""


class _Recent:
    """The last ids seen."""

    def __init__(self) -> None:
        self._ids: dict[object, None] = {}

    def add(self, seen: object) -> bool:
        """Return whether an id is new."""
        if seen in self._ids:
            return False
        self._ids[seen] = None
        if len(self._ids) > REMEMBERED_IDS:
            del self._ids[next(iter(self._ids))]
        return True


@dataclass(slots=True)
class _Samples:
    close_ns: array[int] = field(default_factory=lambda: array("q"))
    latency_us: array[float] = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class _Decided:
    sent_ns: int
    rests_on: tuple[bytes, ...]
    """Ids of the opinions that were heard in time."""


@dataclass(slots=True)
class _Step:
    """When the messages of one step were sent, wall time; 0 is not known yet."""

    close_ns: int = 0
    window_ns: int = 0
    opinions: dict[bytes, tuple[str, int]] = field(default_factory=dict)
    decisions: dict[bytes, _Decided] = field(default_factory=dict)
    orders: dict[bytes, int] = field(default_factory=dict)
    """By decision id."""
    measured: set[tuple[str, bytes]] = field(default_factory=set)

    def hops(self) -> Iterator[tuple[str, bytes, int]]:
        """Yield every hop whose two ends are known: its name, the id of what it made, nanoseconds."""
        for made, (expert, sent_ns) in self.opinions.items():
            if self.window_ns:
                yield expert, made, sent_ns - self.window_ns
        for made, decided in self.decisions.items():
            if self.window_ns:
                yield WINDOW_TO_DECISION, made, decided.sent_ns - self.window_ns
            last_ns = self._last_opinion_ns(decided)
            if last_ns:
                yield ORCHESTRATOR, made, decided.sent_ns - last_ns
            if made in self.orders:
                yield EXECUTOR, made, self.orders[made] - decided.sent_ns

    def _last_opinion_ns(self, decided: _Decided) -> int:
        """Return when the last thing that a decision rests on was sent, 0 while some of it was not heard."""
        if any(opinion not in self.opinions for opinion in decided.rests_on):
            return 0
        return max((self.opinions[opinion][1] for opinion in decided.rests_on), default=self.window_ns)


@dataclass(slots=True)
class InstrumentView:
    """What is known of an instrument."""

    id: InstrumentId
    definition: InstrumentDefinition | None = None
    """None until a window was heard."""
    regime: RegimeState | None = None
    opinions: dict[str, Opinion] = field(default_factory=dict)
    """The newest of each expert."""
    decision: Decision | None = None
    counts: Counter[str] = field(default_factory=Counter)
    """Windows, opinions, decisions, orders and fills heard; a repeat counts once."""
    regime_version: StepKey = (0, 0)
    """Epoch and version of the regime."""
    recent: _Recent = field(default_factory=_Recent)
    pending: dict[StepKey, _Step] = field(default_factory=dict)
    step_of_decision: dict[bytes, StepKey] = field(default_factory=dict)
    early_orders: dict[bytes, int] = field(default_factory=dict)
    """Orders heard before their decision: when each was sent."""

    def base_units(self, lots: int) -> Decimal:
        """Return a size in base units; in size increments while those are unknown."""
        if self.definition is not None:
            return lots * Decimal(self.definition.size_increment) * Decimal(self.definition.multiplier)
        return lots * Decimal((self.decision.size_increment if self.decision else "") or 1)

    def step(self, key: StepKey) -> _Step:
        """Return a pending step; the oldest makes room for a new one."""
        step = self.pending.setdefault(key, _Step())
        if len(self.pending) > PENDING_STEPS:
            gone = self.pending.pop(min(self.pending))
            for decision in gone.decisions:
                self.step_of_decision.pop(decision, None)
        return step


@dataclass(slots=True)
class AccountView:
    """What is known of an account."""

    first_equity: Decimal
    """What its PnL counts from."""
    newest: AccountState

    @property
    def pnl(self) -> Decimal:
        """Return equity minus the first equity, in the settlement asset."""
        return Decimal(self.newest.equity) - self.first_equity


class Watch:
    """The state behind the live table.

    It takes what services publish, in any order and with repeats, and never asks for anything. `speed` is
    how much faster than the wall clock the market clock runs, None where it has no fixed speed; `equity` is
    what PnL counts from, None for the first equity heard of each account. Memory grows with the latency
    samples alone: 16 bytes each.
    """

    def __init__(self, *, speed: float | None = 1.0, equity: Decimal | None = None) -> None:
        self.instruments: dict[str, InstrumentView] = {}
        """By `venue.symbol`."""
        self.accounts: dict[str, AccountView] = {}
        self._speed = speed
        self._equity = equity
        self._samples: dict[str, _Samples] = {}

    def heard(self, subject: str, message: Message, *, sent_ns: int, market_ns: int) -> None:
        """Take a message; what has no place in the table is ignored.

        `sent_ns` is the sender's wall clock at publishing and `market_ns` its market clock, both in
        nanoseconds since the epoch and 0 where unknown: hops that need them are then not measured.
        """
        match message:
            case FeatureWindow() if subjects.matches(f"feat.v1.{subjects.MICRO}.>", subject):
                self._window(message, sent_ns, market_ns)
            case Opinion():
                self._opinion(message, sent_ns)
            case Decision():
                self._decision(message, sent_ns)
            case Order():
                self._order(message, sent_ns)
            case Fill():
                self._new(message.instrument, "fills", message.fill_id)
            case AccountState():
                self._account(message)
            case Context() if message.ref.kind == REGIME and message.HasField("regime"):
                self._regime(message)

    def latencies(self) -> list[tuple[str, int, float]]:
        """Return every sample: hop, close of its step in nanoseconds, microseconds; by hop, as they came."""
        return [
            (hop, close_ns, latency_us)
            for hop, samples in self._samples.items()
            for close_ns, latency_us in zip(samples.close_ns, samples.latency_us, strict=True)
        ]

    def percentiles(self) -> dict[str, dict[str, float]]:
        """Return `p50` and `p99` in microseconds and the `count` of samples, by hop."""
        told = {}
        for hop, samples in self._samples.items():
            p50, p99 = np.percentile(np.array(samples.latency_us), (50, 99))
            told[hop] = {"p50": float(p50), "p99": float(p99), "count": float(len(samples.latency_us))}
        return told

    # What comes in.

    def _window(self, window: FeatureWindow, sent_ns: int, market_ns: int) -> None:
        view = self._view(window.instrument.id)
        view.definition = window.instrument
        key = window.epoch, window.step
        if not self._new(window.instrument.id, "windows", key):
            return
        if market_ns and self._speed:
            self._measure(GATEWAY, window.close_ns, (market_ns - window.close_ns) / self._speed)
        step = view.step(key)
        step.window_ns = sent_ns
        self._join(step, window.close_ns)

    def _opinion(self, opinion: Opinion, sent_ns: int) -> None:
        if not self._new(opinion.instrument, "opinions", opinion.opinion_id):
            return
        view = self._view(opinion.instrument)
        last = view.opinions.get(opinion.expert)
        if last is None or (opinion.epoch, opinion.step) >= (last.epoch, last.step):
            view.opinions[opinion.expert] = opinion
        if sent_ns:
            step = view.step((opinion.epoch, opinion.step))
            step.opinions[opinion.opinion_id] = opinion.expert, sent_ns
            self._join(step, opinion.close_ns)

    def _decision(self, decision: Decision, sent_ns: int) -> None:
        if not self._new(decision.instrument, "decisions", decision.decision_id):
            return
        view = self._view(decision.instrument)
        key, last = (decision.gateway_epoch, decision.step), view.decision
        if last is None or key >= (last.gateway_epoch, last.step):
            view.decision = decision
        if sent_ns:
            step = view.step(key)
            rests_on = tuple(vote.opinion_id for vote in decision.votes if vote.opinion_id)
            step.decisions[decision.decision_id] = _Decided(sent_ns, rests_on)
            if key in view.pending:
                view.step_of_decision[decision.decision_id] = key
            early_ns = view.early_orders.pop(decision.decision_id, 0)
            if early_ns:
                step.orders[decision.decision_id] = early_ns
            self._join(step, decision.close_ns)

    def _order(self, order: Order, sent_ns: int) -> None:
        """Take an order; only its first revision tells when we acted, later ones when the venue answered."""
        if not self._new(order.instrument, "orders", order.order_id) or order.revision > 1 or not sent_ns:
            return
        view = self._view(order.instrument)
        step = view.pending.get(view.step_of_decision.get(order.decision_id, (0, 0)))
        if step is None:
            view.early_orders[order.decision_id] = sent_ns
            if len(view.early_orders) > PENDING_STEPS:
                del view.early_orders[next(iter(view.early_orders))]
            return
        step.orders[order.decision_id] = sent_ns
        self._join(step, step.close_ns)

    def _account(self, account: AccountState) -> None:
        known = self.accounts.get(account.account)
        if known is None:
            first = Decimal(account.equity) if self._equity is None else self._equity
            self.accounts[account.account] = AccountView(first, account)
        elif (account.epoch, account.as_of_ns) >= (known.newest.epoch, known.newest.as_of_ns):
            known.newest = account
        for position in account.positions:
            self._view(position.instrument)

    def _regime(self, context: Context) -> None:
        venue, _, symbol = context.ref.key.partition(".")
        view = self._view(InstrumentId(venue=venue, symbol=symbol))
        version = context.epoch, context.ref.version
        if version >= view.regime_version:
            view.regime_version, view.regime = version, context.regime

    def _view(self, instrument: InstrumentId) -> InstrumentView:
        key = instrument_key(instrument)
        if key not in self.instruments:
            self.instruments[key] = InstrumentView(instrument)
        return self.instruments[key]

    def _new(self, instrument: InstrumentId, what: str, unique: bytes | StepKey) -> bool:
        """Count a message that is no repeat."""
        view = self._view(instrument)
        new = view.recent.add((what, unique))
        view.counts[what] += new
        return new

    # What is measured.

    def _join(self, step: _Step, close_ns: int) -> None:
        step.close_ns = close_ns
        for hop, made, elapsed_ns in step.hops():
            if (hop, made) not in step.measured:
                step.measured.add((hop, made))
                self._measure(hop, close_ns, elapsed_ns)

    def _measure(self, hop: str, close_ns: int, elapsed_ns: float) -> None:
        samples = self._samples.setdefault(hop, _Samples())
        samples.close_ns.append(close_ns)
        samples.latency_us.append(elapsed_ns / 1e3)


# What people see.

_STATE_COLOURS = {"ready": "green", "finished": "green", "failed": "bold red", "stopped": "dim"}
_CALM = "yellow"
"""Colour of a state that passes: starting, restarting, stopping."""


def render(watch: Watch, states: Mapping[str, str] = {}) -> Group:
    """Return the live table for a terminal of 100 columns: instruments, accounts, and services with their state."""
    venues = {view.id.venue for view in watch.instruments.values()}
    parts: list[RenderableType] = []
    if SIMULATED_VENUE in venues:
        parts.append(Text(" SIMULATED market: nothing below happened on any venue ", style="black on yellow"))
    parts += [_instruments(watch), *_accounts(watch)]
    services = _services(watch, states)
    return Group(*parts, services) if services.row_count else Group(*parts)


def _instruments(watch: Watch) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
    for heading in ("instrument", "regime", "opinions (up - down)", "decision", "position"):
        table.add_column(heading, no_wrap=True)
    for _, view in sorted(watch.instruments.items()):
        table.add_row(
            _lines((view.id.symbol, "bold"), (view.id.venue, "dim"), (f"{view.counts['windows']:,} windows", "dim")),
            _regime(view),
            _lines(*(_said(view.opinions[expert]) for expert in view.opinions)),
            _decided(view),
            _held(watch, view),
        )
    return table


def _lines(*lines: tuple[str, str]) -> Text:
    return Text("\n").join(Text(line, style=style) for line, style in lines)


def _regime(view: InstrumentView) -> Text:
    if view.regime is None or not view.regime.shares:
        return Text("unknown", style="dim")
    likeliest = max(view.regime.shares, key=lambda share: share.probability)
    return _lines((likeliest.regime.replace("_", " "), ""), (f"{likeliest.probability:.0%}", "dim"))


def _said(opinion: Opinion) -> tuple[str, str]:
    if opinion.abstained:
        return f"{opinion.expert:<10}{reason_name(opinion.reason)}", "dim"
    tilt = opinion.p_up - opinion.p_down
    return f"{opinion.expert:<10}{tilt:+.3f}", tilt_colour(tilt)


def _decided(view: InstrumentView) -> Text:
    decision = view.decision
    if decision is None:
        return Text("none yet", style="dim")
    name = direction_name(decision.direction)
    size = "" if name == "HOLD" else f" {view.base_units(decision.size):+f}"
    why = reason_name(decision.reason) if decision.abstained else f"confidence {decision.confidence:.1%}"
    return _lines((name + size, COLOURS[name]), (why, "dim"), (f"{view.counts['decisions']:,} so far", "dim"))


def _held(watch: Watch, view: InstrumentView) -> Text:
    lots = sum(
        position.quantity
        for account in watch.accounts.values()
        for position in account.newest.positions
        if instrument_key(position.instrument) == instrument_key(view.id)
    )
    held, base = view.base_units(lots), view.definition.base if view.definition else ""
    return _lines(
        (f"{held:+f} {base}" if lots else f"flat {base}", _tint(held)),
        (f"{view.counts['orders']:,} orders", "dim"),
        (f"{view.counts['fills']:,} fills", "dim"),
    )


def _tint(value: Decimal) -> str:
    return "green" if value > 0 else "red" if value < 0 else "dim"


def _accounts(watch: Watch) -> Iterable[Text]:
    for name, account in sorted(watch.accounts.items()):
        newest = account.newest
        risk = RiskState.Name(newest.risk_state).removeprefix("RISK_STATE_")
        yield Text.assemble(
            (f"  account {name}  ", "bold"),
            ("PnL ", "dim"),
            (f"{account.pnl:+,.2f}", _tint(account.pnl)),
            (f"  fees {Decimal(newest.fees):,.2f}  equity {Decimal(newest.equity):,.2f}  ", "dim"),
            (risk, "green" if newest.risk_state == RiskState.RISK_STATE_ACTIVE else "bold red"),
        )


def _services(watch: Watch, states: Mapping[str, str]) -> Table:
    """Return a row for each service that has a state or a latency, and one for the way from window to decision."""
    measured = watch.percentiles()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), header_style="bold")
    table.add_column("service", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for heading in ("p50", "p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in dict.fromkeys((*states, *sorted(measured.keys() - {WINDOW_TO_DECISION}))):
        state = states.get(name, "")
        table.add_row(name, Text(state, style=_STATE_COLOURS.get(state, _CALM)), *_times(measured.get(name)))
    if WINDOW_TO_DECISION in measured:
        table.add_row("window → decision", "", *_times(measured[WINDOW_TO_DECISION]), style="bold")
    return table


def _times(percentiles: Mapping[str, float] | None) -> tuple[str, str]:
    if percentiles is None:
        return "", ""
    return f"{percentiles['p50'] / 1e3:,.2f} ms", f"{percentiles['p99'] / 1e3:,.2f} ms"

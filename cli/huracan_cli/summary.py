"""What a run did: every frame accounted for, every decision counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from huracan.bus import subjects
from huracan.contracts.decision import Decision, decisions_digest, direction_name
from huracan.contracts.execution import AccountState, Order, OrderState, RiskState
from huracan.contracts.market import SIMULATED_VENUE, InstrumentDefinition, instrument_key
from huracan.contracts.opinion import Opinion, reason_name
from huracan.service.service import LAST
from huracan_cli.composition import EXPERTS
from huracan_cli.results import Stored
from huracan_executor.config import ExecutorConfig
from huracan_executor.money import base_quantity, exact, mid_of, plain, value


class InstrumentSummary(BaseModel):
    """What a run did with one instrument; a name that the summary has too means the same here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    simulated: bool
    frames_in: int
    frames_by_kind: dict[str, int]
    frames_missed: int
    ticks_logged: int
    rejected: dict[str, int]
    gaps_by_stream: dict[str, int]
    windows: int
    bars: int
    decisions: dict[str, int]
    decisions_abstained: dict[str, int]
    orders: dict[str, int]
    fills: int
    position: str
    mid: str
    """Between the last best bid and ask, in the quote asset; 0 when none came."""
    book_compared: int
    book_match_ratio: float | None
    skew_ms: float
    anomalies: dict[str, int]
    """By kind."""
    feed: dict[str, int]
    """What happened to a live feed: how often it was connected, silent, and so on."""
    reliability: float | None
    """Newest score of the data, 0 to 100; None where a run was too short for one."""


class Summary(BaseModel):
    """The summary of a run, as `summary.json` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The recording's file name, or which feeds."""
    layout: str
    """How the services ran: `sim` (virtual time), `single` (one process) or `seven`."""
    simulated: bool
    """Whether all of the market was made by a simulated market."""
    instrument: str
    """Keys of all instruments."""
    instruments: dict[str, InstrumentSummary]
    """By instrument key."""
    frames_in: int
    frames_by_kind: dict[str, int]
    """Frames by what they were; `unreadable` ones could not be decoded. Sums to `frames_in`."""
    frames_missed: int
    """Lines that passed while the gateway was down or behind: not among `frames_in`."""
    ticks_logged: int
    """Frames whose content is in the tick log; with `rejected` it sums to `frames_in`."""
    tick_rows_logged: int
    rejected: dict[str, int]
    gaps: int
    gaps_by_stream: dict[str, int]
    windows: int
    bars: int
    opinions: dict[str, int]
    """Forecasts by expert."""
    abstained: dict[str, dict[str, int]]
    """Abstentions by expert and reason."""
    silent: dict[str, int]
    """Windows that an expert never answered."""
    contexts: int
    decisions: dict[str, int]
    """Decisions by direction; abstained ones are HOLD."""
    decisions_abstained: dict[str, int]
    orders: dict[str, int]
    """Orders by their last state."""
    fills: int
    position: str
    """Of all instruments together, in base units."""
    pnl: str
    """Equity minus starting equity, net of fees, open positions at their own last mids, in the settlement asset."""
    fees: str
    risk_state: str
    book_compared: int
    book_match_ratio: float | None
    skew_ms: float
    """Of the first instrument."""
    anomalies: dict[str, int]
    """By kind."""
    feed: dict[str, int]
    """What happened to live feeds."""
    decisions_digest: str
    latency_us: dict[str, dict[str, float]]
    """Wall time by hop: `p50`, `p99` in microseconds and `count`; empty on virtual time."""
    restarts: dict[str, int]
    """Restarts by process, servers included."""
    rows_persisted: dict[str, int]
    """Rows by table of the store."""
    ledger: dict[str, dict[str, int]]
    """By acknowledged path: how many the journal gives, how many were published and stored, `lost` and `doubled`."""


def _split(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}


def _abstained(opinions: Sequence[Opinion], expert: str) -> dict[str, int]:
    reasons = Counter(reason_name(row.reason) for row in opinions if row.expert == expert and row.abstained)
    return dict(sorted(reasons.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run left behind."""

    source: str
    layout: str
    definitions: Sequence[InstrumentDefinition]
    counts: Mapping[str, Counter[str]]
    """By service, over all its incarnations."""
    tables: Stored
    latency_us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    rows_persisted: Mapping[str, int] = field(default_factory=dict)
    ledger: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def summarise(run: Run) -> Summary:
    """Return the summary of a run whose gateway has ended; raise RuntimeError when its frames do not add up."""
    seen, orchestrator, tables = run.counts["gateway"], run.counts["orchestrator"], run.tables
    instruments = {instrument_key(definition.id): _of_one(run, definition) for definition in run.definitions}
    gaps = _split(seen, "gaps.")
    account = tables.accounts[-1] if tables.accounts else None
    summary = Summary(
        source=run.source,
        simulated=all(each.simulated for each in instruments.values()),
        layout=run.layout,
        instrument=", ".join(instruments),
        instruments=instruments,
        frames_in=seen["frames_in"],
        frames_by_kind=_kinds(seen),
        frames_missed=seen["frames_missed"],
        ticks_logged=seen["ticks_logged"],
        tick_rows_logged=seen["rows_logged"],
        rejected=_split(seen, "rejected."),
        gaps=gaps.get("depth", 0) + gaps.get("trade", 0),
        gaps_by_stream=gaps,
        windows=seen["windows"],
        bars=_bars(seen),
        opinions={name: sum(row.expert == name and not row.abstained for row in tables.opinions) for name in EXPERTS},
        abstained={name: _abstained(tables.opinions, name) for name in EXPERTS},
        silent={name: orchestrator[f"{LAST}silent.{name}"] for name in EXPERTS},
        contexts=sum(run.counts[name]["contexts"] for name in EXPERTS),
        decisions=_directions(tables.decisions),
        decisions_abstained=_sorted(Counter(reason_name(row.reason) for row in tables.decisions if row.abstained)),
        orders=_states(tables.orders),
        fills=len(tables.fills),
        position=str(sum((Decimal(each.position) for each in instruments.values()), Decimal(0))),
        pnl=str(_worth(account, run.definitions, instruments) - ExecutorConfig().equity if account else Decimal(0)),
        fees=account.fees if account else "0",
        risk_state=RiskState.Name(account.risk_state).removeprefix("RISK_STATE_") if account else "",
        book_compared=seen["book.compared"],
        book_match_ratio=_match_ratio(seen),
        skew_ms=_skew_ms(seen),
        anomalies=_split(seen, "anomalies."),
        feed=_split(seen, "feed."),
        decisions_digest=decisions_digest(tables.decisions),
        latency_us={hop: dict(values) for hop, values in run.latency_us.items()},
        restarts=dict(run.restarts),
        rows_persisted=dict(run.rows_persisted),
        ledger={path: dict(counts) for path, counts in run.ledger.items()},
    )
    parts: list[Summary | InstrumentSummary] = [summary, *instruments.values()]
    for part in parts:
        if part.ticks_logged + sum(part.rejected.values()) != part.frames_in:
            raise RuntimeError(f"a count does not add up: {summary.model_dump_json()}")
    return summary


def _of_one(run: Run, definition: InstrumentDefinition) -> InstrumentSummary:
    key, tables = instrument_key(definition.id), run.tables
    seen = _counts_of(run.counts["gateway"], key) if len(run.definitions) > 1 else run.counts["gateway"]
    decisions = [row for row in tables.decisions if instrument_key(row.instrument) == key]
    lots = sum(
        position.quantity
        for account in tables.accounts[-1:]
        for position in account.positions
        if instrument_key(position.instrument) == key
    )
    return InstrumentSummary(
        simulated=definition.id.venue == SIMULATED_VENUE,
        frames_in=seen["frames_in"],
        frames_by_kind=_kinds(seen),
        frames_missed=seen["frames_missed"],
        ticks_logged=seen["ticks_logged"],
        rejected=_split(seen, "rejected."),
        gaps_by_stream=_split(seen, "gaps."),
        windows=seen["windows"],
        bars=_bars(seen),
        decisions=_directions(decisions),
        decisions_abstained=_sorted(Counter(reason_name(row.reason) for row in decisions if row.abstained)),
        orders=_states([row for row in tables.orders if instrument_key(row.instrument) == key]),
        fills=sum(instrument_key(row.instrument) == key for row in tables.fills),
        position=str(base_quantity(definition, lots)),
        mid=str(plain(mid_of(definition, seen[f"{LAST}bid"], seen[f"{LAST}ask"]))),
        book_compared=seen["book.compared"],
        book_match_ratio=_match_ratio(seen),
        skew_ms=_skew_ms(seen),
        anomalies=_split(seen, "anomalies."),
        feed=_split(seen, "feed."),
        reliability=max(
            ((row.to_ns, row.score) for row in tables.reliability if instrument_key(row.instrument) == key),
            default=(0, None),
        )[1],
    )


def _counts_of(seen: Counter[str], key: str) -> Counter[str]:
    """Return what the gateway counted of one of several instruments, under the names of a single one."""
    own = Counter[str]()
    for last in ("", LAST):
        prefix = f"{last}{key}/"
        own.update({last + name.removeprefix(prefix): count for name, count in seen.items() if name.startswith(prefix)})
    return own


def _worth(
    account: AccountState, definitions: Sequence[InstrumentDefinition], instruments: Mapping[str, InstrumentSummary]
) -> Decimal:
    """Return cash and all positions, each at its own last mid."""
    by_key = {instrument_key(definition.id): definition for definition in definitions}
    worth = Decimal(account.cash)
    for position in account.positions:
        key = instrument_key(position.instrument)
        with exact():
            worth += value(by_key[key], position.quantity, Decimal(instruments[key].mid))
    return worth


def _kinds(seen: Counter[str]) -> dict[str, int]:
    kinds = _split(seen, "frames.")
    return {**kinds, "unreadable": seen["frames_in"] - sum(kinds.values())}


def _bars(seen: Counter[str]) -> int:
    return seen[f"windows.{subjects.BAR_1M}"] + seen[f"windows.{subjects.BAR_15M}"]


def _directions(decisions: Sequence[Decision]) -> dict[str, int]:
    counts = Counter(direction_name(row.direction) for row in decisions)
    return {name: counts[name] for name in ("HOLD", "BUY", "SELL")}


def _states(orders: Sequence[Order]) -> dict[str, int]:
    return _sorted(Counter(OrderState.Name(row.state).removeprefix("ORDER_STATE_") for row in orders))


def _match_ratio(seen: Counter[str]) -> float | None:
    return seen["book.matched"] / seen["book.compared"] if seen["book.compared"] else None


def _skew_ms(seen: Counter[str]) -> float:
    return round(seen[f"{LAST}skew_ns"] / 1e6, 3)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))

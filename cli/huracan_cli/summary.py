"""What a run did: every frame accounted for, every decision counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import BaseModel, ConfigDict

from huracan.contracts.decision import decisions_digest, direction_name
from huracan.contracts.execution import OrderState, RiskState
from huracan.contracts.market import InstrumentDefinition, instrument_key
from huracan.contracts.opinion import Opinion, reason_name
from huracan.service.service import LAST
from huracan_cli.composition import EXPERTS
from huracan_cli.results import Stored
from huracan_executor.config import ExecutorConfig
from huracan_gateway.binance_usdm.data import SIMULATED_VENUE


class Summary(BaseModel):
    """The summary of a run, as `summary.json` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The recording's file name."""
    layout: str
    """How the services ran: `sim` (virtual time), `single` (one process) or `seven`."""
    simulated: bool
    """Whether the market was made by the simulated market."""
    instrument: str
    frames_in: int
    frames_by_kind: dict[str, int]
    """Frames by what they were; `unreadable` ones could not be decoded. Sums to `frames_in`."""
    frames_missed: int
    """Lines of the tape that passed while the gateway was down: not among `frames_in`."""
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
    """In base units."""
    pnl: str
    """Equity minus starting equity, net of fees, open position at the last mid, in the settlement asset."""
    fees: str
    risk_state: str
    book_compared: int
    book_match_ratio: float | None
    skew_ms: float
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
    definition: InstrumentDefinition
    counts: Mapping[str, Counter[str]]
    """By service, over all its incarnations."""
    tables: Stored
    latency_us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)
    rows_persisted: Mapping[str, int] = field(default_factory=dict)
    ledger: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def summarise(run: Run) -> Summary:
    """Return the summary of a run whose gateway has ended; raise RuntimeError when its frames do not add up."""
    seen, orchestrator, definition = run.counts["gateway"], run.counts["orchestrator"], run.definition
    tables = run.tables
    kinds, rejected, gaps = _split(seen, "frames."), _split(seen, "rejected."), _split(seen, "gaps.")
    account = tables.accounts[-1] if tables.accounts else None
    lots = sum(position.quantity for position in account.positions) if account else 0
    position = lots * Decimal(definition.size_increment) * Decimal(definition.multiplier)
    mid = Decimal(seen[f"{LAST}bid"] + seen[f"{LAST}ask"]) / 2 * Decimal(definition.price_increment)
    worth = Decimal(account.cash) + position * mid if account else ExecutorConfig().equity
    compared = seen["book.compared"]
    summary = Summary(
        source=run.source,
        simulated=definition.id.venue == SIMULATED_VENUE,
        layout=run.layout,
        instrument=instrument_key(definition.id),
        frames_in=seen["frames_in"],
        frames_by_kind={**kinds, "unreadable": seen["frames_in"] - sum(kinds.values())},
        frames_missed=seen["frames_missed"],
        ticks_logged=seen["ticks_logged"],
        tick_rows_logged=seen["rows_logged"],
        rejected=rejected,
        gaps=gaps.get("depth", 0) + gaps.get("trade", 0),
        gaps_by_stream=gaps,
        windows=seen["windows"],
        bars=seen["windows.bar_1m"] + seen["windows.bar_15m"],
        opinions={name: sum(row.expert == name and not row.abstained for row in tables.opinions) for name in EXPERTS},
        abstained={name: _abstained(tables.opinions, name) for name in EXPERTS},
        silent={name: orchestrator[f"{LAST}silent.{name}"] for name in EXPERTS},
        contexts=sum(run.counts[name]["contexts"] for name in EXPERTS),
        decisions={
            name: sum(direction_name(row.direction) == name for row in tables.decisions)
            for name in ("HOLD", "BUY", "SELL")
        },
        decisions_abstained=_sorted(Counter(reason_name(row.reason) for row in tables.decisions if row.abstained)),
        orders=_sorted(Counter(OrderState.Name(row.state).removeprefix("ORDER_STATE_") for row in tables.orders)),
        fills=len(tables.fills),
        position=str(position),
        pnl=str(worth - ExecutorConfig().equity),
        fees=account.fees if account else "0",
        risk_state=RiskState.Name(account.risk_state).removeprefix("RISK_STATE_") if account else "",
        book_compared=compared,
        book_match_ratio=seen["book.matched"] / compared if compared else None,
        skew_ms=round(seen[f"{LAST}skew_ns"] / 1e6, 3),
        decisions_digest=decisions_digest(tables.decisions),
        latency_us={hop: dict(values) for hop, values in run.latency_us.items()},
        restarts=dict(run.restarts),
        rows_persisted=dict(run.rows_persisted),
        ledger={path: dict(counts) for path, counts in run.ledger.items()},
    )
    if summary.ticks_logged + sum(rejected.values()) != summary.frames_in:
        raise RuntimeError(f"a count does not add up: {summary.model_dump_json()}")
    return summary


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))

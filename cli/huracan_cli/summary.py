"""What a run did: every frame accounted for, every decision counted."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from huracan.contracts.decision import Decision, decisions_digest, direction_name
from huracan.contracts.execution import AccountState, Fill, Order, OrderState, RiskState
from huracan.contracts.market import instrument_key
from huracan.contracts.opinion import Opinion, reason_name
from huracan.sim.world import World
from huracan_cli.composition import EXPERTS
from huracan_executor.config import ExecutorConfig
from huracan_gateway.binance_usdm.data import SIMULATED_VENUE
from huracan_gateway.instrument import Instrument
from huracan_gateway.service import Gateway
from huracan_orchestrator.service import Orchestrator


class Summary(BaseModel):
    """The summary of a run, as `summary.json` has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    """The recording's file name."""
    simulated: bool
    """Whether the market was made by the simulated market."""
    instrument: str
    frames_in: int
    frames_by_kind: dict[str, int]
    """Frames by what they were; `unreadable` ones could not be decoded. Sums to `frames_in`."""
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


def _split(counts: Counter[str], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in sorted(counts.items()) if name.startswith(prefix)}


def _abstained(opinions: list[Opinion], expert: str) -> dict[str, int]:
    reasons = Counter(reason_name(row.reason) for row in opinions if row.expert == expert and row.abstained)
    return dict(sorted(reasons.items()))


def _mid(instrument: Instrument) -> Decimal:
    """Return the mid of the last quote, 0 before there was one."""
    quote = instrument.check.last_quote
    increment = Decimal(instrument.definition.price_increment)
    return (quote.bid + quote.ask) * increment / 2 if quote is not None else Decimal(0)


async def summarise(world: World, recording: Path) -> Summary:
    """Return the summary of a run whose gateway has ended; raise RuntimeError when a count does not add up."""
    gateway, orchestrator = world.services["gateway"], world.services["orchestrator"]
    assert isinstance(gateway, Gateway)
    assert gateway.instrument is not None
    assert isinstance(orchestrator, Orchestrator)
    seen, instrument = gateway.counts, gateway.instrument
    store = world.store
    decisions, opinions = await store.load(Decision), await store.load(Opinion)
    orders, fills, accounts = await store.load(Order), await store.load(Fill), await store.load(AccountState)
    kinds, rejected, gaps = (
        _split(seen, "frames."),
        _split(seen, "rejected."),
        _split(instrument.counts, "gaps."),
    )
    definition = instrument.definition
    account = accounts[-1] if accounts else None
    lots = sum(position.quantity for position in account.positions) if account else 0
    position = lots * Decimal(definition.size_increment) * Decimal(definition.multiplier)
    worth = Decimal(account.cash) + position * _mid(instrument) if account else ExecutorConfig().equity
    summary = Summary(
        source=recording.name,
        simulated=definition.id.venue == SIMULATED_VENUE,
        instrument=instrument_key(definition.id),
        frames_in=seen["frames_in"],
        frames_by_kind={**kinds, "unreadable": seen["frames_in"] - sum(kinds.values())},
        ticks_logged=seen["ticks_logged"],
        tick_rows_logged=instrument.counts["rows_logged"],
        rejected=rejected,
        gaps=gaps.get("depth", 0) + gaps.get("trade", 0),
        gaps_by_stream=gaps,
        windows=seen["windows"],
        bars=seen["windows.bar_1m"] + seen["windows.bar_15m"],
        opinions={name: sum(row.expert == name and not row.abstained for row in opinions) for name in EXPERTS},
        abstained={name: _abstained(opinions, name) for name in EXPERTS},
        silent={name: orchestrator.fold.counts[f"silent.{name}"] for name in EXPERTS},
        contexts=sum(world.counts[name]["contexts"] for name in EXPERTS),
        decisions={
            name: sum(direction_name(row.direction) == name for row in decisions) for name in ("HOLD", "BUY", "SELL")
        },
        decisions_abstained=dict(
            sorted(Counter(reason_name(row.reason) for row in decisions if row.abstained).items())
        ),
        orders=dict(sorted(Counter(OrderState.Name(row.state).removeprefix("ORDER_STATE_") for row in orders).items())),
        fills=len(fills),
        position=str(position),
        pnl=str(worth - ExecutorConfig().equity),
        fees=account.fees if account else "0",
        risk_state=RiskState.Name(account.risk_state).removeprefix("RISK_STATE_") if account else "",
        book_compared=instrument.check.compared,
        book_match_ratio=instrument.check.ratio,
        skew_ms=round(gateway.skew.skew_ns() / 1e6, 3),
        decisions_digest=decisions_digest(decisions),
    )
    if summary.ticks_logged + sum(rejected.values()) != summary.frames_in or len(decisions) != summary.windows:
        raise RuntimeError(f"a count does not add up: {summary.model_dump_json()}")
    return summary

"""What is kept: for each kind of message its table, its columns for people and SQL, its unique id and its order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from huracan.contracts.context import Context
from huracan.contracts.decision import Decision, direction_name
from huracan.contracts.execution import AccountState, Fill, Order, OrderReason, OrderState, RiskState, Side
from huracan.contracts.market import (
    Anomaly,
    Bar,
    Evidence,
    InstrumentDefinition,
    InstrumentType,
    Reliability,
    ReliabilityPart,
    anomaly_kind_name,
    instrument_key,
    policy_name,
)
from huracan.contracts.opinion import Opinion, reason_name
from huracan.contracts.ops import FeedChanged, ServiceChanged, ServiceReport, feed_state_name

M = TypeVar("M", bound=Message)
M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
Value = str | int | float | bool | bytes | None

TEXT = "text"
BIGINT = "bigint"
"""Counts, increments and nanoseconds."""
DOUBLE = "double precision"
BOOLEAN = "boolean"
NUMERIC = "numeric"
"""Exact decimals: text in messages and files, numbers in SQL, where empty text is null."""
JSONB = "jsonb"
"""An object of names and numbers, as text."""

MESSAGE = "message"
"""Column with the deterministic bytes of the message, after all others."""


@dataclass(frozen=True, slots=True)
class Column(Generic[M_contra]):
    """One column and what a message has for it."""

    name: str
    type: str
    """Type in SQL."""
    value: Callable[[M_contra], Value]
    nullable: bool = False
    key: bool = False
    """Whether it is part of the unique id: the same message twice is one row."""


@dataclass(frozen=True, slots=True)
class Table(Generic[M]):
    """How one kind of message is kept."""

    name: str
    sql: str
    """Name in SQL with its schema."""
    kind: type[M]
    order: Callable[[M], tuple[Any, ...]]
    """Sort key of a listing; different rows differ in it."""
    fields: tuple[Column[M], ...]
    revised_by: str = ""
    """Field and column of which the higher value stays; without one the first message stays."""
    by_day: str = ""
    """Column of the time, a function of the unique id, by whose day SQL keeps the rows; empty where it does not."""

    def key(self, message: M) -> tuple[Value, ...]:
        """Return the unique id of a message."""
        return tuple(column.value(message) for column in self.fields if column.key)

    def revision(self, message: M) -> int:
        """Return which of two messages with one key stays: the higher, or of equals the first."""
        return int(getattr(message, self.revised_by)) if self.revised_by else 0

    def columns(self, message: M) -> dict[str, Value]:
        """Return what people read of a message, by column."""
        return {column.name: column.value(message) for column in self.fields}


def named_values(values: Iterable[Evidence | ReliabilityPart]) -> str:
    """Return numbers with their names, as `move_bps=35.2, median_bps=1.5`: six digits each, in the order given."""
    return ", ".join(f"{each.name}={each.value:.6g}" for each in values)


def _side(side: Side) -> str:
    return Side.Name(side).removeprefix("SIDE_")


_OfInstrument = Decision | Opinion | Order | Fill | Bar | Anomaly | Reliability | FeedChanged

_INSTRUMENT: tuple[Column[_OfInstrument], ...] = (
    Column("venue", TEXT, lambda row: row.instrument.venue),
    Column("symbol", TEXT, lambda row: row.instrument.symbol),
)
_INSTRUMENT_AS_KEY = tuple(replace(column, key=True) for column in _INSTRUMENT)

_STEP: tuple[Column[Decision | Opinion], ...] = (
    *_INSTRUMENT,
    Column("epoch", BIGINT, lambda row: row.epoch),
    Column("step", BIGINT, lambda row: row.step),
    Column("close_ns", BIGINT, lambda row: row.close_ns),
)

_FORECAST: tuple[Column[Decision | Opinion], ...] = (
    Column("p_down", DOUBLE, lambda row: row.p_down),
    Column("p_flat", DOUBLE, lambda row: row.p_flat),
    Column("p_up", DOUBLE, lambda row: row.p_up),
)

_ABSTENTION: tuple[Column[Decision | Opinion], ...] = (
    Column("abstained", BOOLEAN, lambda row: row.abstained),
    Column("reason", TEXT, lambda row: reason_name(row.reason) if row.abstained else None, nullable=True),
    Column("valid_until_ns", BIGINT, lambda row: row.valid_until_ns),
)

_ORDERED: tuple[Column[Order | Fill], ...] = (
    Column("decision_id", TEXT, lambda row: row.decision_id.hex()),
    Column("account", TEXT, lambda row: row.account),
    *_INSTRUMENT,
    Column("side", TEXT, lambda row: _side(row.side)),
    Column("quantity", BIGINT, lambda row: row.quantity),
)

_DECISION: tuple[Column[Decision], ...] = (
    Column("decision_id", TEXT, lambda row: row.decision_id.hex(), key=True),
    Column("strategy", TEXT, lambda row: row.strategy),
    *_STEP,
    Column("direction", TEXT, lambda row: direction_name(row.direction)),
    Column("confidence", DOUBLE, lambda row: row.confidence),
    Column("size", BIGINT, lambda row: row.size),
    *_ABSTENTION,
    *_FORECAST,
    Column("disagreement", DOUBLE, lambda row: row.disagreement),
    Column("first_ingest_seq", BIGINT, lambda row: row.first_ingest_seq),
    Column("last_ingest_seq", BIGINT, lambda row: row.last_ingest_seq),
)

_OPINION: tuple[Column[Opinion], ...] = (
    Column("opinion_id", TEXT, lambda row: row.opinion_id.hex(), key=True),
    Column("expert", TEXT, lambda row: row.expert),
    *_STEP,
    *_FORECAST,
    Column("confidence", DOUBLE, lambda row: row.confidence),
    Column(
        "expected_move_bps",
        DOUBLE,
        lambda row: row.expected_move_bps if row.HasField("expected_move_bps") else None,
        nullable=True,
    ),
    *_ABSTENTION,
    Column("engine_digest", TEXT, lambda row: row.engine_digest.hex()),
)

_CONTEXT: tuple[Column[Context], ...] = (
    Column("kind", TEXT, lambda row: row.ref.kind, key=True),
    Column("key", TEXT, lambda row: row.ref.key, key=True),
    Column("version", BIGINT, lambda row: row.ref.version, key=True),
    Column("epoch", BIGINT, lambda row: row.epoch),
    Column("as_of_ns", BIGINT, lambda row: row.as_of_ns),
    Column("effective_from_ns", BIGINT, lambda row: row.effective_from_ns),
    Column("valid_until_ns", BIGINT, lambda row: row.valid_until_ns),
    Column("payload_digest", TEXT, lambda row: row.payload_digest.hex()),
    Column("engine_digest", TEXT, lambda row: row.engine_digest.hex()),
)

_ORDER: tuple[Column[Order], ...] = (
    Column("order_id", TEXT, lambda row: row.order_id.hex(), key=True),
    Column("client_order_id", TEXT, lambda row: row.client_order_id),
    *_ORDERED,
    Column("limit_price", BIGINT, lambda row: row.limit_price),
    Column("state", TEXT, lambda row: OrderState.Name(row.state).removeprefix("ORDER_STATE_")),
    Column(
        "reason",
        TEXT,
        lambda row: OrderReason.Name(row.reason).removeprefix("ORDER_REASON_") if row.reason else None,
        nullable=True,
    ),
    Column("filled_quantity", BIGINT, lambda row: row.filled_quantity),
    Column("created_ns", BIGINT, lambda row: row.created_ns),
    Column("updated_ns", BIGINT, lambda row: row.updated_ns),
    Column("valid_until_ns", BIGINT, lambda row: row.valid_until_ns),
    Column("revision", BIGINT, lambda row: row.revision),
)

_FILL: tuple[Column[Fill], ...] = (
    Column("fill_id", TEXT, lambda row: row.fill_id.hex(), key=True),
    Column("order_id", TEXT, lambda row: row.order_id.hex()),
    *_ORDERED,
    Column("price", BIGINT, lambda row: row.price),
    Column("fee", NUMERIC, lambda row: row.fee, nullable=True),
    Column("matched_ns", BIGINT, lambda row: row.matched_ns),
    Column("received_ns", BIGINT, lambda row: row.received_ns),
)

_ACCOUNT: tuple[Column[AccountState], ...] = (
    Column("account", TEXT, lambda row: row.account, key=True),
    Column("epoch", BIGINT, lambda row: row.epoch, key=True),
    Column("as_of_ns", BIGINT, lambda row: row.as_of_ns, key=True),
    Column("cash", NUMERIC, lambda row: row.cash, nullable=True),
    Column("fees", NUMERIC, lambda row: row.fees, nullable=True),
    Column("equity", NUMERIC, lambda row: row.equity, nullable=True),
    Column("peak_equity", NUMERIC, lambda row: row.peak_equity, nullable=True),
    Column("risk_state", TEXT, lambda row: RiskState.Name(row.risk_state).removeprefix("RISK_STATE_")),
)

_BAR: tuple[Column[Bar], ...] = (
    *_INSTRUMENT_AS_KEY,
    Column("interval_ns", BIGINT, lambda row: row.interval_ns, key=True),
    Column("open_ns", BIGINT, lambda row: row.open_ns, key=True),
    Column("open", NUMERIC, lambda row: row.open, nullable=True),
    Column("high", NUMERIC, lambda row: row.high, nullable=True),
    Column("low", NUMERIC, lambda row: row.low, nullable=True),
    Column("close", NUMERIC, lambda row: row.close, nullable=True),
    Column("volume", NUMERIC, lambda row: row.volume, nullable=True),
    Column("trades", BIGINT, lambda row: row.trades),
    Column("partial", BOOLEAN, lambda row: row.partial),
)

_ANOMALY: tuple[Column[Anomaly], ...] = (
    Column("anomaly_id", TEXT, lambda row: row.anomaly_id.hex(), key=True),
    *_INSTRUMENT,
    Column("at_ns", BIGINT, lambda row: row.at_ns),
    Column("kind", TEXT, lambda row: anomaly_kind_name(row.kind)),
    Column("policy", TEXT, lambda row: policy_name(row.policy)),
    Column("score", DOUBLE, lambda row: row.score),
    Column("threshold", DOUBLE, lambda row: row.threshold),
    Column("evidence", TEXT, lambda row: named_values(row.evidence)),
    Column("epoch", BIGINT, lambda row: row.epoch),
    Column("ingest_seq", BIGINT, lambda row: row.ingest_seq or None, nullable=True),
)

_RELIABILITY: tuple[Column[Reliability], ...] = (
    *_INSTRUMENT_AS_KEY,
    Column("hour_ns", BIGINT, lambda row: row.hour_ns, key=True),
    Column("score", DOUBLE, lambda row: row.score),
    Column("parts", TEXT, lambda row: named_values(row.parts)),
    Column("frames", BIGINT, lambda row: row.frames),
    Column("epoch", BIGINT, lambda row: row.epoch),
    Column("from_ns", BIGINT, lambda row: row.from_ns),
    Column("to_ns", BIGINT, lambda row: row.to_ns),
)

_FEED_CHANGE: tuple[Column[FeedChanged], ...] = (
    Column("change_id", TEXT, lambda row: row.change_id.hex(), key=True),
    *_INSTRUMENT,
    Column("at_ns", BIGINT, lambda row: row.at_ns),
    Column("state", TEXT, lambda row: feed_state_name(row.state)),
    Column("provider", TEXT, lambda row: row.provider),
    Column("attempt", BIGINT, lambda row: row.attempt),
    Column("detail", TEXT, lambda row: row.detail),
    Column("epoch", BIGINT, lambda row: row.epoch),
)

_DEFINITION: tuple[Column[InstrumentDefinition], ...] = (
    Column("venue", TEXT, lambda row: row.id.venue, key=True),
    Column("symbol", TEXT, lambda row: row.id.symbol, key=True),
    Column("definition_version", BIGINT, lambda row: row.id.definition_version, key=True),
    Column("venue_symbol", TEXT, lambda row: row.venue_symbol),
    Column("type", TEXT, lambda row: InstrumentType.Name(row.type).removeprefix("INSTRUMENT_TYPE_").lower()),
    Column("base", TEXT, lambda row: row.base),
    Column("quote", TEXT, lambda row: row.quote),
    Column("settle", TEXT, lambda row: row.settle),
    Column("underlying", TEXT, lambda row: row.underlying),
    Column("shard", BIGINT, lambda row: row.shard),
    Column("price_increment", NUMERIC, lambda row: row.price_increment, nullable=True),
    Column("size_increment", NUMERIC, lambda row: row.size_increment, nullable=True),
    Column("multiplier", NUMERIC, lambda row: row.multiplier, nullable=True),
    Column("valid_from_ns", BIGINT, lambda row: row.valid_from_ns),
    Column("expiry_ns", BIGINT, lambda row: row.expiry_ns or None, nullable=True),
    Column("strike", NUMERIC, lambda row: row.strike, nullable=True),
)

_REPORT: tuple[Column[ServiceReport], ...] = (
    Column("service", TEXT, lambda row: row.service, key=True),
    Column("started_ns", BIGINT, lambda row: row.started_ns, key=True),
    Column("at_ns", BIGINT, lambda row: row.at_ns),
    Column("counts", JSONB, lambda row: json.dumps({count.name: count.value for count in row.counts}, sort_keys=True)),
)

_SERVICE_CHANGE: tuple[Column[ServiceChanged], ...] = (
    Column("service", TEXT, lambda row: row.service, key=True),
    Column("at_ns", BIGINT, lambda row: row.at_ns, key=True),
    Column("running", BOOLEAN, lambda row: row.running, key=True),
)


TABLES: tuple[Table[Any], ...] = (
    Table(
        "decisions",
        "moe_analysis.decisions",
        Decision,
        lambda row: (instrument_key(row.instrument), row.step, row.strategy, row.decision_id),
        _DECISION,
        by_day="close_ns",
    ),
    Table(
        "opinions",
        "moe_analysis.expert_responses",
        Opinion,
        lambda row: (instrument_key(row.instrument), row.step, row.expert, row.opinion_id),
        _OPINION,
        by_day="close_ns",
    ),
    Table(
        "contexts",
        "moe_analysis.contexts",
        Context,
        lambda row: (row.ref.kind, row.ref.key, row.ref.version),
        _CONTEXT,
    ),
    Table(
        "orders",
        "trading.orders",
        Order,
        lambda row: (row.account, row.created_ns, row.order_id),
        _ORDER,
        revised_by="revision",
    ),
    Table(
        "fills",
        "trading.fills",
        Fill,
        lambda row: (row.account, row.matched_ns, row.fill_id),
        _FILL,
        by_day="matched_ns",
    ),
    Table(
        "accounts",
        "trading.accounts",
        AccountState,
        lambda row: (row.account, row.as_of_ns, row.epoch),
        _ACCOUNT,
        by_day="as_of_ns",
    ),
    Table(
        "bars",
        "market_data.underlying_ohlc",
        Bar,
        lambda row: (instrument_key(row.instrument), row.interval_ns, row.open_ns),
        _BAR,
        by_day="open_ns",
    ),
    Table(
        "anomalies",
        "market_data.anomalies",
        Anomaly,
        lambda row: (instrument_key(row.instrument), row.at_ns, row.anomaly_id),
        _ANOMALY,
        by_day="at_ns",
    ),
    Table(
        "reliability",
        "market_data.reliability",
        Reliability,
        lambda row: (instrument_key(row.instrument), row.hour_ns),
        _RELIABILITY,
        revised_by="to_ns",
    ),
    Table(
        "feed_changes",
        "market_data.feed_changes",
        FeedChanged,
        lambda row: (instrument_key(row.instrument), row.at_ns, row.change_id),
        _FEED_CHANGE,
    ),
    Table(
        "instruments",
        "market_data.instruments",
        InstrumentDefinition,
        lambda row: (instrument_key(row.id), row.id.definition_version),
        _DEFINITION,
    ),
    Table(
        "orchestrator_stats",
        "usage_stats.orchestrator_stats",
        ServiceReport,
        lambda row: (row.service, row.started_ns),
        _REPORT,
        revised_by="at_ns",
    ),
    Table(
        "uptime_logs",
        "system_health.uptime_logs",
        ServiceChanged,
        lambda row: (row.service, row.at_ns, row.running),
        _SERVICE_CHANGE,
    ),
)
"""Every table that has a writer and a row for each message."""

TABLE_OF: dict[type[Message], Table[Any]] = {table.kind: table for table in TABLES}


class Lineage(NamedTuple):
    """One thing that a decision rests on: an opinion with the weight of its vote, or a context's version."""

    decision_id: str
    position: int
    """From 0: the votes in their order, then the contexts in theirs."""
    kind: str
    """`opinion` or `context`; what belongs to the other is None."""
    opinion_id: str | None
    weight: float | None
    context_kind: str | None
    context_key: str | None
    context_version: int | None
    close_ns: int
    """With the strategy, that of the decision."""
    strategy: str


LINEAGE_SCHEMA, LINEAGE_TABLE = "moe_analysis", "lineage"
"""Where SQL keeps lineage, with the fields of `Lineage` as columns."""


def lineage(decision: Decision) -> list[Lineage]:
    """Return what a decision rests on; an expert that never answered has no row."""
    decision_id, of = decision.decision_id.hex(), (decision.close_ns, decision.strategy)
    votes = [vote for vote in decision.votes if vote.opinion_id]
    return [
        *(
            Lineage(decision_id, position, "opinion", vote.opinion_id.hex(), vote.weight, None, None, None, *of)
            for position, vote in enumerate(votes)
        ),
        *(
            Lineage(decision_id, position, "context", None, None, ref.kind, ref.key, ref.version, *of)
            for position, ref in enumerate(decision.contexts, start=len(votes))
        ),
    ]

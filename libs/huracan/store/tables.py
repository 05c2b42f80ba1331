"""What is kept: for each kind of message its table, its unique id, its order, and its columns for people and SQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from huracan.contracts.context import Context
from huracan.contracts.decision import Decision, direction_name
from huracan.contracts.execution import AccountState, Fill, Order, OrderReason, OrderState, RiskState, Side
from huracan.contracts.market import Bar, instrument_key
from huracan.contracts.opinion import Opinion, reason_name

M = TypeVar("M", bound=Message)
Value = str | int | float | bool | bytes | None


@dataclass(frozen=True, slots=True)
class Table(Generic[M]):
    """How one kind of message is kept."""

    name: str
    kind: type[M]
    key: Callable[[M], tuple[Any, ...]]
    """Unique id: the same message twice is one row."""
    order: Callable[[M], tuple[Any, ...]]
    """Sort key of a listing."""
    columns: Callable[[M], dict[str, Value]]
    revision: Callable[[M], int] = lambda _: 0
    """Of two messages with one key the one with the higher revision stays."""


def _side(side: Side) -> str:
    return Side.Name(side).removeprefix("SIDE_")


def _decision(row: Decision) -> dict[str, Value]:
    return {
        "decision_id": row.decision_id.hex(),
        "strategy": row.strategy,
        "venue": row.instrument.venue,
        "symbol": row.instrument.symbol,
        "epoch": row.epoch,
        "step": row.step,
        "close_ns": row.close_ns,
        "direction": direction_name(row.direction),
        "confidence": row.confidence,
        "size": row.size,
        "abstained": row.abstained,
        "reason": reason_name(row.reason) if row.abstained else None,
        "valid_until_ns": row.valid_until_ns,
        "p_down": row.p_down,
        "p_flat": row.p_flat,
        "p_up": row.p_up,
        "disagreement": row.disagreement,
        "first_ingest_seq": row.first_ingest_seq,
        "last_ingest_seq": row.last_ingest_seq,
    }


def _opinion(row: Opinion) -> dict[str, Value]:
    return {
        "opinion_id": row.opinion_id.hex(),
        "expert": row.expert,
        "venue": row.instrument.venue,
        "symbol": row.instrument.symbol,
        "epoch": row.epoch,
        "step": row.step,
        "close_ns": row.close_ns,
        "p_down": row.p_down,
        "p_flat": row.p_flat,
        "p_up": row.p_up,
        "confidence": row.confidence,
        "expected_move_bps": row.expected_move_bps if row.HasField("expected_move_bps") else None,
        "abstained": row.abstained,
        "reason": reason_name(row.reason) if row.abstained else None,
        "valid_until_ns": row.valid_until_ns,
        "engine_digest": row.engine_digest.hex(),
    }


def _context(row: Context) -> dict[str, Value]:
    return {
        "kind": row.ref.kind,
        "key": row.ref.key,
        "version": row.ref.version,
        "epoch": row.epoch,
        "as_of_ns": row.as_of_ns,
        "effective_from_ns": row.effective_from_ns,
        "valid_until_ns": row.valid_until_ns,
        "payload_digest": row.payload_digest.hex(),
        "engine_digest": row.engine_digest.hex(),
    }


def _order(row: Order) -> dict[str, Value]:
    return {
        "order_id": row.order_id.hex(),
        "client_order_id": row.client_order_id,
        "decision_id": row.decision_id.hex(),
        "account": row.account,
        "venue": row.instrument.venue,
        "symbol": row.instrument.symbol,
        "side": _side(row.side),
        "quantity": row.quantity,
        "limit_price": row.limit_price,
        "state": OrderState.Name(row.state).removeprefix("ORDER_STATE_"),
        "reason": OrderReason.Name(row.reason).removeprefix("ORDER_REASON_") if row.reason else None,
        "filled_quantity": row.filled_quantity,
        "created_ns": row.created_ns,
        "updated_ns": row.updated_ns,
        "valid_until_ns": row.valid_until_ns,
        "revision": row.revision,
    }


def _fill(row: Fill) -> dict[str, Value]:
    return {
        "fill_id": row.fill_id.hex(),
        "order_id": row.order_id.hex(),
        "decision_id": row.decision_id.hex(),
        "account": row.account,
        "venue": row.instrument.venue,
        "symbol": row.instrument.symbol,
        "side": _side(row.side),
        "quantity": row.quantity,
        "price": row.price,
        "fee": row.fee,
        "matched_ns": row.matched_ns,
        "received_ns": row.received_ns,
    }


def _account(row: AccountState) -> dict[str, Value]:
    return {
        "account": row.account,
        "epoch": row.epoch,
        "as_of_ns": row.as_of_ns,
        "cash": row.cash,
        "fees": row.fees,
        "equity": row.equity,
        "peak_equity": row.peak_equity,
        "risk_state": RiskState.Name(row.risk_state).removeprefix("RISK_STATE_"),
    }


def _bar(row: Bar) -> dict[str, Value]:
    return {
        "venue": row.instrument.venue,
        "symbol": row.instrument.symbol,
        "interval_ns": row.interval_ns,
        "open_ns": row.open_ns,
        "open": row.open,
        "high": row.high,
        "low": row.low,
        "close": row.close,
        "volume": row.volume,
        "trades": row.trades,
        "partial": row.partial,
    }


TABLES: tuple[Table[Any], ...] = (
    Table(
        "decisions",
        Decision,
        lambda row: (row.decision_id,),
        lambda row: (instrument_key(row.instrument), row.step, row.strategy),
        _decision,
    ),
    Table(
        "opinions",
        Opinion,
        lambda row: (row.opinion_id,),
        lambda row: (instrument_key(row.instrument), row.step, row.expert),
        _opinion,
    ),
    Table(
        "contexts",
        Context,
        lambda row: (row.ref.kind, row.ref.key, row.ref.version),
        lambda row: (row.ref.kind, row.ref.key, row.ref.version),
        _context,
    ),
    Table(
        "orders",
        Order,
        lambda row: (row.order_id,),
        lambda row: (row.account, row.created_ns, row.order_id),
        _order,
        lambda row: row.revision,
    ),
    Table(
        "fills",
        Fill,
        lambda row: (row.fill_id,),
        lambda row: (row.account, row.matched_ns, row.fill_id),
        _fill,
    ),
    Table(
        "accounts",
        AccountState,
        lambda row: (row.account, row.epoch, row.as_of_ns),
        lambda row: (row.account, row.as_of_ns, row.epoch),
        _account,
    ),
    Table(
        "bars",
        Bar,
        lambda row: (instrument_key(row.instrument), row.interval_ns, row.open_ns),
        lambda row: (instrument_key(row.instrument), row.interval_ns, row.open_ns),
        _bar,
    ),
)
"""Every table that has a writer."""

TABLE_OF: dict[type[Message], Table[Any]] = {table.kind: table for table in TABLES}

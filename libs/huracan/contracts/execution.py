"""Orders, fills and accounts: types and constructors of `huracan.execution.v1`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from huracan import ids
from huracan.contracts.huracan.decision.v1.decision_pb2 import Decision
from huracan.contracts.huracan.execution.v1.execution_pb2 import (
    AccountState,
    ExecutionReport,
    Fill,
    Order,
    OrderReason,
    OrderState,
    Position,
    RiskState,
    Side,
)
from huracan.contracts.huracan.market.v1.market_pb2 import InstrumentId

__all__ = [
    "AccountState",
    "ExecutionReport",
    "Fill",
    "Order",
    "OrderReason",
    "OrderState",
    "Position",
    "RiskState",
    "Side",
    "account_state",
    "execution_report",
    "fill",
    "order",
]


def order(
    decision: Decision,
    *,
    account: str,
    epoch: int,
    side: Side,
    quantity: int,
    limit_price: int,
    state: OrderState,
    at_ns: int,
    reason: OrderReason = OrderReason.ORDER_REASON_UNSPECIFIED,
) -> Order:
    """Return the first revision of the one order a decision gives rise to in an account."""
    order_id = ids.order_id(account, decision.decision_id)
    return Order(
        order_id=order_id,
        client_order_id=ids.client_order_id(order_id),
        decision_id=decision.decision_id,
        account=account,
        instrument=decision.instrument,
        epoch=epoch,
        side=side,
        quantity=quantity,
        limit_price=limit_price,
        state=state,
        reason=reason,
        created_ns=at_ns,
        updated_ns=at_ns,
        valid_until_ns=decision.valid_until_ns,
        revision=1,
    )


def fill(of: Order, *, number: int, quantity: int, price: int, fee: Decimal, matched_ns: int, received_ns: int) -> Fill:
    """Return the n-th fill of an order, counted from 1."""
    return Fill(
        fill_id=ids.fill_id(of.order_id, number),
        order_id=of.order_id,
        decision_id=of.decision_id,
        account=of.account,
        instrument=of.instrument,
        side=of.side,
        quantity=quantity,
        price=price,
        fee=str(fee),
        matched_ns=matched_ns,
        received_ns=received_ns,
    )


def execution_report(of: Order, fills: Sequence[Fill], *, received_ns: int) -> ExecutionReport:
    """Return what a venue says of an order: its state, and all its fills so far."""
    return ExecutionReport(order=of, fills=fills, received_ns=received_ns)


def account_state(
    *,
    account: str,
    epoch: int,
    as_of_ns: int,
    cash: Decimal,
    fees: Decimal,
    equity: Decimal,
    peak_equity: Decimal,
    risk_state: RiskState,
    positions: Mapping[tuple[str, str], tuple[InstrumentId, int]],
) -> AccountState:
    """Return an account; positions by venue and symbol."""
    return AccountState(
        account=account,
        epoch=epoch,
        as_of_ns=as_of_ns,
        cash=str(cash),
        fees=str(fees),
        equity=str(equity),
        peak_equity=str(peak_equity),
        risk_state=risk_state,
        positions=[
            Position(instrument=instrument, quantity=quantity)
            for _, (instrument, quantity) in sorted(positions.items())
        ],
    )

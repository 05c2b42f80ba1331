"""Orders as they leave: the first revision, from a decision that only names it."""

from __future__ import annotations

from huracan.contracts.decision import Decision
from huracan.contracts.execution import Order, OrderState, Side, order
from huracan.contracts.market import InstrumentDefinition

from .market import BTC


def first_revision(
    number: int,
    side: Side,
    quantity: int,
    limit_price: int,
    *,
    valid_until_ns: int,
    of: InstrumentDefinition = BTC,
    state: OrderState = OrderState.ORDER_STATE_PENDING,
    at_ns: int = 0,
) -> Order:
    """Return the order of a decision whose id is the number."""
    decision = Decision(decision_id=number.to_bytes(16, "big"), instrument=of.id, valid_until_ns=valid_until_ns)
    return order(
        decision,
        account="paper",
        epoch=1,
        side=side,
        quantity=quantity,
        limit_price=limit_price,
        state=state,
        at_ns=at_ns,
    )

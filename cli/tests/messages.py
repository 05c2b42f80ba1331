"""What a running system says, as the tests of the commands that listen to it send it."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from huracan import ids
from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS
from huracan.contracts.decision import Decision, Direction, Vote
from huracan.contracts.execution import Order, OrderReason, OrderState, Side, order
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import InstrumentDefinition, instrument_key, linear_perpetual


def bitcoin(venue: str = "binance_usdm") -> InstrumentDefinition:
    """Return the perpetual that is traded."""
    return linear_perpetual("BTC", venue=venue, price_increment=Decimal("0.10"), size_increment=Decimal("0.001"))


def window_of(
    of: InstrumentDefinition,
    step: int,
    close_ns: int,
    *,
    epoch: int,
    feature_set: str = subjects.MICRO,
    valid_rows: int = WINDOW_ROWS,
    best_bid: int = 0,
    best_ask: int = 0,
) -> FeatureWindow:
    """Return a window of nothing but zeros."""
    return feature_window(
        instrument=of,
        epoch=epoch,
        feature_set=feature_set,
        feature_set_digest=bytes(32),
        interval_ns=100 * MILLISECOND_NS,
        step=step,
        first_step=1,
        close_ns=close_ns,
        values=np.zeros((WINDOW_ROWS, 2), dtype=np.float32),
        valid_rows=valid_rows,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=close_ns - 1,
        book_synced=True,
        best_bid=best_bid,
        best_ask=best_ask,
    )


def sell_decision(
    of: InstrumentDefinition, step: int, close_ns: int, *, epoch: int, gateway_epoch: int, votes: list[Vote]
) -> Decision:
    """Return a decision to be short 37 lots, under an id of the step and the gateway's epoch."""
    return Decision(
        decision_id=ids.decision_id("core", instrument_key(of.id), gateway_epoch, step),
        strategy="core",
        instrument=of.id,
        shard=of.shard,
        epoch=epoch,
        gateway_epoch=gateway_epoch,
        step=step,
        close_ns=close_ns,
        direction=Direction.DIRECTION_SELL,
        size=-37,
        size_increment="0.001",
        confidence=0.62,
        votes=votes,
    )


def sell_order(
    decision: Decision, state: OrderState, reason: OrderReason = OrderReason.ORDER_REASON_UNSPECIFIED
) -> Order:
    """Return the first revision of the order of such a decision."""
    return order(
        decision,
        account="paper",
        epoch=1,
        side=Side.SIDE_SELL,
        quantity=37,
        limit_price=618_000,
        state=state,
        reason=reason,
        at_ns=decision.close_ns,
    )

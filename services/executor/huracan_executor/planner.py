"""From a decision to the one order that would bring the position to its target."""

from __future__ import annotations

from dataclasses import dataclass

from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import Side
from huracan_executor.market import Market

_ACTING = frozenset({Direction.DIRECTION_BUY, Direction.DIRECTION_SELL})


@dataclass(frozen=True, slots=True)
class Exposure:
    """What is held and what may still come of one instrument, in size increments."""

    position: int = 0
    """Negative when short."""
    open_buys: int = 0
    """Unfilled quantity of orders whose end is not known."""
    open_sells: int = 0

    @property
    def expected(self) -> int:
        """Return the position once every open order is filled."""
        return self.position + self.open_buys - self.open_sells

    @property
    def worst(self) -> int:
        """Return the largest position, without sign, that any outcome of the open orders can lead to."""
        return max(abs(self.position + self.open_buys), abs(self.position - self.open_sells))

    def plus(self, side: Side, quantity: int) -> Exposure:
        """Return the exposure with one more order open."""
        if side == Side.SIDE_BUY:
            return Exposure(self.position, self.open_buys + quantity, self.open_sells)
        return Exposure(self.position, self.open_buys, self.open_sells + quantity)


@dataclass(frozen=True, slots=True)
class Intent:
    """An order that nobody has allowed yet."""

    side: Side
    quantity: int
    """Above 0, in size increments."""
    limit_price: int | None
    """In price increments; None when the opposite side of the book is empty."""
    valid_until_ns: int
    at_ns: int
    """When it would leave."""


def plan(
    decision: Decision,
    exposure: Exposure,
    market: Market,
    *,
    limit_ticks: int,
    at_ns: int,
    reducing: bool = False,
) -> Intent | None:
    """Return the order from the expected position to the decision's target, or None for none.

    Only BUY and SELL act; HOLD and abstentions keep what is held. While reducing, a target on the other
    side of zero becomes zero: the way out of a position stays open, the way into the next does not.
    """
    if decision.abstained or decision.direction not in _ACTING:
        return None
    target = decision.size
    if reducing and target * exposure.position < 0:
        target = 0
    missing = target - exposure.expected
    if missing == 0:
        return None
    side = Side.SIDE_BUY if missing > 0 else Side.SIDE_SELL
    return Intent(
        side=side,
        quantity=abs(missing),
        limit_price=_limit(side, market, limit_ticks),
        valid_until_ns=decision.valid_until_ns,
        at_ns=at_ns,
    )


def _limit(side: Side, market: Market, ticks: int) -> int | None:
    if side == Side.SIDE_BUY:
        return None if market.best_ask is None else market.best_ask + ticks
    return None if market.best_bid is None else max(market.best_bid - ticks, 1)

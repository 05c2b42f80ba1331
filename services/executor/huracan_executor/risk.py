"""What an order must pass before it leaves, and how far trading is allowed: pure functions, exact amounts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.execution import OrderReason, RiskState, Side
from huracan_executor.config import ExecutorConfig
from huracan_executor.market import Market
from huracan_executor.money import base_quantity, exact, mid_of, price_of, share_bps, value
from huracan_executor.planner import Exposure, Intent


@dataclass(frozen=True, slots=True)
class OrderRate:
    """A token bucket in receive time, as the generic cell rate algorithm (ITU-T I.371): one integer of
    state."""

    interval_ns: int
    """Time in which one token comes back."""
    burst: int
    due_ns: int = 0
    """When the bucket is full again."""

    @classmethod
    def of(cls, config: ExecutorConfig) -> OrderRate:
        """Return a full bucket."""
        return cls(NANOSECONDS // config.orders_per_second, config.order_burst)

    def allows(self, at_ns: int) -> bool:
        """Return whether there is a token at this time."""
        return self.due_ns - at_ns <= (self.burst - 1) * self.interval_ns

    def taken(self, at_ns: int) -> OrderRate:
        """Return the bucket with one token less."""
        return OrderRate(self.interval_ns, self.burst, max(self.due_ns, at_ns) + self.interval_ns)


@dataclass(frozen=True, slots=True)
class AccountView:
    """What the checks need of an account."""

    risk_state: RiskState
    exposure: Exposure
    """Of the order's instrument."""
    others_gross: Decimal
    """Worst-case value of all other instruments without regard to sign, in the settlement asset."""
    rate: OrderRate


@dataclass(frozen=True, slots=True)
class _Case:
    intent: Intent
    account: AccountView
    market: Market
    config: ExecutorConfig

    @property
    def mid(self) -> Decimal:
        """Return the mid, or the only best price of a one-sided book."""
        bid, ask = self.market.best_bid, self.market.best_ask
        known = [price for price in (bid, ask) if price is not None]
        return mid_of(self.market.definition, known[0], known[-1])

    @property
    def after(self) -> Exposure:
        return self.account.exposure.plus(self.intent.side, self.intent.quantity)

    @property
    def reduces(self) -> bool:
        """Return whether the order can only bring the position nearer to zero, whatever becomes of open
        ones."""
        position, after = self.account.exposure.position, self.after
        if self.intent.side == Side.SIDE_BUY:
            return position < 0 and position + after.open_buys <= 0
        return position > 0 and position - after.open_sells >= 0


def _halted(case: _Case) -> bool:
    return case.account.risk_state == RiskState.RISK_STATE_HALTED


def _late(case: _Case) -> bool:
    return case.intent.at_ns > case.intent.valid_until_ns


def _stale(case: _Case) -> bool:
    return case.intent.at_ns - case.market.book_ns >= case.config.stale_after_ms * MILLISECOND_NS


def _no_liquidity(case: _Case) -> bool:
    return case.intent.limit_price is None


def _too_many(case: _Case) -> bool:
    return not case.account.rate.allows(case.intent.at_ns)


def _order_too_large(case: _Case) -> bool:
    best = case.market.best_ask if case.intent.side == Side.SIDE_BUY else case.market.best_bid
    price = price_of(case.market.definition, max(case.intent.limit_price or 0, best or 0))
    return value(case.market.definition, case.intent.quantity, price) > case.config.max_order_notional


def _position_too_large(case: _Case) -> bool:
    definition, after = case.market.definition, case.after
    if case.intent.side == Side.SIDE_BUY:
        quantity = after.position + after.open_buys
    else:
        quantity = after.open_sells - after.position
    most = case.config.max_position_base.get(definition.base)
    if most is not None:
        return base_quantity(definition, quantity) > most
    return value(definition, quantity, case.mid) > case.config.max_position_notional


def _gross_too_large(case: _Case) -> bool:
    with exact():
        gross = case.account.others_gross + value(case.market.definition, case.after.worst, case.mid)
    return gross > case.config.max_gross_notional


def _adds_while_reducing(case: _Case) -> bool:
    return case.account.risk_state == RiskState.RISK_STATE_REDUCING and not case.reduces


def _unless_reducing_position(rule: Callable[[_Case], bool]) -> Callable[[_Case], bool]:
    return lambda case: not case.reduces and rule(case)


RULES: tuple[tuple[OrderReason, Callable[[_Case], bool]], ...] = (
    (OrderReason.ORDER_REASON_HALTED, _halted),
    (OrderReason.ORDER_REASON_LATE, _late),
    (OrderReason.ORDER_REASON_STALE_MARKET, _stale),
    (OrderReason.ORDER_REASON_NO_LIQUIDITY, _no_liquidity),
    (OrderReason.ORDER_REASON_ORDER_RATE, _too_many),
    (OrderReason.ORDER_REASON_MAX_ORDER_NOTIONAL, _order_too_large),
    (OrderReason.ORDER_REASON_MAX_POSITION, _unless_reducing_position(_position_too_large)),
    (OrderReason.ORDER_REASON_MAX_GROSS_NOTIONAL, _unless_reducing_position(_gross_too_large)),
    (OrderReason.ORDER_REASON_REDUCING, _adds_while_reducing),
)
"""The checks in their order. A limit that has been passed since (a price that rose, a limit that was
lowered) must not lock a position in, so what only reduces a position is free of the position limits."""


def check(intent: Intent, account: AccountView, market: Market, config: ExecutorConfig) -> OrderReason | None:
    """Return the first reason that holds against an order, or None when it may leave.

    Open orders count at their worst: all of one side filled, none of the other.
    """
    case = _Case(intent, account, market, config)
    return next((reason for reason, holds in RULES if holds(case)), None)


@dataclass(frozen=True, slots=True)
class Standing:
    """An account's permission to trade, and the equity it was judged by."""

    state: RiskState
    peak_equity: Decimal


def judge(standing: Standing, equity: Decimal, config: ExecutorConfig) -> Standing:
    """Return the permission after an equity, marked to mid.

    HALTED stays. REDUCING ends once the drawdown is below its threshold again. The peak moves only by whole
    steps of `peak_step_bps`, so that the journal holds every peak a restart has to know.
    """
    peak = standing.peak_equity
    with exact():
        if equity >= peak + share_bps(peak, config.peak_step_bps):
            peak = equity
        lost = peak - equity
        halted, reducing = lost >= peak * config.halted_drawdown, lost >= peak * config.reducing_drawdown
    if standing.state == RiskState.RISK_STATE_HALTED or halted:
        return Standing(RiskState.RISK_STATE_HALTED, peak)
    return Standing(RiskState.RISK_STATE_REDUCING if reducing else RiskState.RISK_STATE_ACTIVE, peak)

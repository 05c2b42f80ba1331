"""From decision to order: target, position and open orders, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import Side
from huracan_executor.market import Market
from huracan_executor.planner import Exposure, Intent, plan

from .market import BTC

HOLD, BUY, SELL = Direction.DIRECTION_HOLD, Direction.DIRECTION_BUY, Direction.DIRECTION_SELL
MARKET = Market(definition=BTC, best_bid=999, best_ask=1001, book_ns=5)


def _plan(
    size: int,
    exposure: Exposure | None = None,
    *,
    direction: Direction | None = None,
    abstained: bool = False,
    market: Market = MARKET,
    reducing: bool = False,
) -> Intent | None:
    side = BUY if size >= 0 else SELL
    decision = Decision(
        direction=side if direction is None else direction, size=size, abstained=abstained, valid_until_ns=77
    )
    held = exposure or Exposure()
    return plan(decision, held, market, limit_ticks=2, at_ns=9, reducing=reducing)


def test_a_buy_is_limited_two_ticks_above_the_best_ask_and_a_sell_below_the_best_bid() -> None:
    assert _plan(5) == Intent(Side.SIDE_BUY, 5, 1003, valid_until_ns=77, at_ns=9)
    assert _plan(-5) == Intent(Side.SIDE_SELL, 5, 997, valid_until_ns=77, at_ns=9)


@pytest.mark.parametrize("direction", [HOLD, Direction.DIRECTION_UNSPECIFIED])
def test_hold_keeps_the_position(direction: Direction) -> None:
    assert _plan(0, Exposure(50), direction=direction) is None


def test_an_abstention_keeps_the_position() -> None:
    assert _plan(5, abstained=True) is None


def test_a_target_of_zero_closes() -> None:
    intent = _plan(0, Exposure(50), direction=BUY)
    assert intent is not None
    assert (intent.side, intent.quantity) == (Side.SIDE_SELL, 50)


@given(size=st.integers(-50, 50), position=st.integers(-50, 50), buys=st.integers(0, 20), sells=st.integers(0, 20))
def test_the_order_is_the_target_less_position_and_open_orders(size: int, position: int, buys: int, sells: int) -> None:
    intent = _plan(size, Exposure(position, buys, sells))
    signed = 0
    if intent is not None:
        assert intent.quantity > 0
        signed = intent.quantity if intent.side == Side.SIDE_BUY else -intent.quantity
    assert position + buys - sells + signed == size


def test_an_empty_opposite_side_gives_no_limit() -> None:
    bare = Market(definition=BTC, best_bid=None, best_ask=None, book_ns=5)
    for size in (5, -5):
        intent = _plan(size, market=bare)
        assert intent is not None
        assert intent.limit_price is None


def test_a_sell_limit_stays_above_zero() -> None:
    intent = _plan(-5, market=Market(definition=BTC, best_bid=1, best_ask=2, book_ns=5))
    assert intent is not None
    assert intent.limit_price == 1


@pytest.mark.parametrize(("size", "position", "wanted"), [(-8, 5, -5), (8, -5, 5), (2, 5, -3), (8, 5, 3)])
def test_while_reducing_a_target_across_zero_becomes_zero(size: int, position: int, wanted: int) -> None:
    intent = _plan(size, Exposure(position), reducing=True)
    assert intent is not None
    assert (intent.quantity if intent.side == Side.SIDE_BUY else -intent.quantity) == wanted


def test_while_reducing_a_flat_account_may_still_ask() -> None:
    assert _plan(8, reducing=True) is not None  # and the risk check denies it


def test_a_large_exposure_is_worth_its_worst_outcome() -> None:
    assert Exposure(10, open_sells=30).worst == 20
    assert Exposure(-10, open_buys=5, open_sells=30).worst == 40

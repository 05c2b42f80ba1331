"""The pre-trade checks and the permission to trade: each reason, and which comes first."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from huracan.contracts.execution import OrderReason, RiskState, Side
from huracan_executor.config import ExecutorConfig
from huracan_executor.market import Market
from huracan_executor.planner import Exposure, Intent
from huracan_executor.risk import RULES, AccountView, OrderRate, Standing, check, judge

from .market import BTC, ETH, MS

BUY, SELL = Side.SIDE_BUY, Side.SIDE_SELL
ACTIVE, REDUCING, HALTED = (
    RiskState.RISK_STATE_ACTIVE,
    RiskState.RISK_STATE_REDUCING,
    RiskState.RISK_STATE_HALTED,
)
CONFIG = ExecutorConfig()
NOW = 10_000 * MS


# BTC at 50,000: a lot of 0.001 is worth 50, the largest position (0.1) 100 lots or 5,000.
MARKET = Market(definition=BTC, best_bid=499_999, best_ask=500_001, book_ns=NOW - 10 * MS)
INTENT = Intent(side=BUY, quantity=10, limit_price=500_003, valid_until_ns=NOW + 500 * MS, at_ns=NOW)
ACCOUNT = AccountView(risk_state=ACTIVE, exposure=Exposure(), others_gross=Decimal(0), rate=OrderRate.of(CONFIG))


def _reason(
    intent: Intent = INTENT,
    account: AccountView = ACCOUNT,
    market: Market = MARKET,
    config: ExecutorConfig = CONFIG,
) -> str:
    reason = check(intent, account, market, config)
    return "" if reason is None else OrderReason.Name(reason).removeprefix("ORDER_REASON_")


def test_an_order_within_every_limit_may_leave() -> None:
    assert _reason() == ""


def test_nothing_passes_while_halted_not_even_the_way_out() -> None:
    account = replace(ACCOUNT, risk_state=HALTED, exposure=Exposure(10))
    assert _reason(replace(INTENT, side=SELL), account) == "HALTED"


def test_late_is_after_the_last_valid_nanosecond() -> None:
    assert _reason(replace(INTENT, valid_until_ns=NOW)) == ""
    assert _reason(replace(INTENT, valid_until_ns=NOW - 1)) == "LATE"


def test_a_book_of_500_ms_ago_is_stale() -> None:
    assert _reason(market=replace(MARKET, book_ns=NOW - 500 * MS + 1)) == ""
    assert _reason(market=replace(MARKET, book_ns=NOW - 500 * MS)) == "STALE_MARKET"
    assert _reason(market=replace(MARKET, book_ns=0)) == "STALE_MARKET"


def test_an_empty_opposite_side_is_no_liquidity() -> None:
    assert _reason(replace(INTENT, limit_price=None), market=replace(MARKET, best_ask=None)) == "NO_LIQUIDITY"


def test_a_one_sided_book_is_enough_to_take_from() -> None:
    assert _reason(market=replace(MARKET, best_bid=None)) == ""


def test_ten_orders_may_burst_then_five_a_second() -> None:
    rate = OrderRate.of(CONFIG)
    for _ in range(10):
        assert rate.allows(NOW)
        rate = rate.taken(NOW)
    spent = replace(ACCOUNT, rate=rate)
    assert _reason(account=spent) == "ORDER_RATE"
    at_ns = NOW + 200 * MS
    fresh = replace(MARKET, book_ns=at_ns)
    assert _reason(replace(INTENT, at_ns=at_ns - 1), spent, fresh) == "ORDER_RATE"
    assert _reason(replace(INTENT, at_ns=at_ns), spent, fresh) == ""
    assert not rate.taken(at_ns).allows(at_ns)


@given(gaps=st.lists(st.integers(0, 400), min_size=1, max_size=80))
def test_no_window_ever_sees_more_than_burst_and_rate(gaps: list[int]) -> None:
    rate, now, left = OrderRate.of(CONFIG), NOW, []
    for gap in gaps:
        now += gap * MS
        if rate.allows(now):
            rate = rate.taken(now)
            left.append(now)
    for first, start in enumerate(left):
        for last in range(first, len(left)):
            assert last - first + 1 <= 10 + 5 * (left[last] - start) / 1e9


def test_the_order_notional_counts_the_worse_of_limit_and_best() -> None:
    config = ExecutorConfig(max_order_notional=Decimal("500.003"))
    assert _reason(config=config) == ""
    dearer = replace(INTENT, limit_price=500_004)
    assert _reason(dearer, config=config) == "MAX_ORDER_NOTIONAL"
    sell = replace(INTENT, side=SELL, limit_price=499_997)
    assert _reason(sell, config=ExecutorConfig(max_order_notional=Decimal("499.999"))) == ""
    assert _reason(sell, config=ExecutorConfig(max_order_notional=Decimal("499.998"))) == "MAX_ORDER_NOTIONAL"


@pytest.mark.parametrize(("side", "position"), [(BUY, 90), (SELL, -90)])
def test_a_position_is_at_most_a_tenth_of_a_bitcoin(side: Side, position: int) -> None:
    account = replace(ACCOUNT, exposure=Exposure(position))
    assert _reason(replace(INTENT, side=side, quantity=10), account) == ""
    assert _reason(replace(INTENT, side=side, quantity=11), account) == "MAX_POSITION"


def test_open_orders_count_as_filled_on_their_side_only() -> None:
    assert _reason(account=replace(ACCOUNT, exposure=Exposure(80, open_buys=11))) == "MAX_POSITION"
    assert _reason(account=replace(ACCOUNT, exposure=Exposure(90, open_sells=90))) == ""
    assert _reason(account=replace(ACCOUNT, exposure=Exposure(91, open_sells=90))) == "MAX_POSITION"


def test_other_instruments_are_limited_by_their_value() -> None:
    eth = replace(MARKET, definition=ETH)
    assert _reason(replace(INTENT, quantity=120), market=eth) == ""
    assert _reason(replace(INTENT, quantity=121), market=eth) == "MAX_POSITION"


def test_the_gross_of_all_instruments_is_limited() -> None:
    account = replace(ACCOUNT, exposure=Exposure(20), others_gross=Decimal(18_500))
    assert _reason(account=account) == ""
    assert _reason(account=replace(account, others_gross=Decimal("18500.01"))) == "MAX_GROSS_NOTIONAL"


@pytest.mark.parametrize(
    ("side", "quantity", "exposure", "passes"),
    [
        (SELL, 10, Exposure(10), True),
        (SELL, 11, Exposure(10), False),
        (SELL, 5, Exposure(10, open_sells=6), False),
        (SELL, 4, Exposure(10, open_sells=6), True),
        (SELL, 5, Exposure(0, open_buys=10), False),
        (BUY, 10, Exposure(-10), True),
        (BUY, 11, Exposure(-10), False),
        (BUY, 5, Exposure(-10, open_buys=6), False),
        (BUY, 1, Exposure(10), False),
        (BUY, 1, Exposure(), False),
    ],
)
def test_while_reducing_only_what_surely_reduces_passes(
    side: Side, quantity: int, exposure: Exposure, passes: bool
) -> None:
    account = replace(ACCOUNT, risk_state=REDUCING, exposure=exposure)
    intent = replace(INTENT, side=side, quantity=quantity)
    assert _reason(intent, account) == ("" if passes else "REDUCING")


def test_a_limit_passed_meanwhile_does_not_lock_a_position_in() -> None:
    account = replace(ACCOUNT, exposure=Exposure(150), others_gross=Decimal(50_000))
    assert _reason(replace(INTENT, side=SELL, quantity=20), account) == ""
    assert _reason(replace(INTENT, side=SELL, quantity=151), account) == "MAX_GROSS_NOTIONAL"


def test_the_reasons_come_in_their_stated_order() -> None:
    spent = OrderRate(10**9, 1, NOW * 2)
    account = AccountView(HALTED, Exposure(99), Decimal(10**9), spent)
    intent = Intent(BUY, 10**6, None, valid_until_ns=0, at_ns=NOW)
    market = replace(MARKET, book_ns=0)
    given_up: list[str] = []
    cures: list[tuple[str, object]] = [
        ("HALTED", None), ("LATE", None), ("STALE_MARKET", None), ("NO_LIQUIDITY", None), ("ORDER_RATE", None),
        ("MAX_ORDER_NOTIONAL", None), ("MAX_POSITION", None), ("MAX_GROSS_NOTIONAL", None), ("REDUCING", None),
    ]  # fmt: skip
    for name, _ in cures:
        given_up.append(_reason(intent, account, market))
        match name:
            case "HALTED":
                account = replace(account, risk_state=REDUCING)
            case "LATE":
                intent = replace(intent, valid_until_ns=NOW)
            case "STALE_MARKET":
                market = replace(market, book_ns=NOW)
            case "NO_LIQUIDITY":
                intent = replace(intent, limit_price=500_003)
            case "ORDER_RATE":
                account = replace(account, rate=OrderRate.of(CONFIG))
            case "MAX_ORDER_NOTIONAL":
                intent = replace(intent, quantity=2)
            case "MAX_POSITION":
                account = replace(account, exposure=Exposure(1))
            case "MAX_GROSS_NOTIONAL":
                account = replace(account, others_gross=Decimal(0))
            case _:
                account = replace(account, risk_state=ACTIVE)
    assert given_up == [name for name, _ in cures]
    assert given_up == [OrderReason.Name(reason).removeprefix("ORDER_REASON_") for reason, _ in RULES]
    assert _reason(intent, account, market) == ""


# Permission.

PEAK = Decimal(100_000)


@pytest.mark.parametrize(
    ("state", "equity", "after"),
    [
        (ACTIVE, "98000.01", ACTIVE),
        (ACTIVE, "98000", REDUCING),
        (ACTIVE, "95000.01", REDUCING),
        (ACTIVE, "95000", HALTED),
        (REDUCING, "98000", REDUCING),
        (REDUCING, "98000.01", ACTIVE),
        (REDUCING, "95000", HALTED),
        (HALTED, "100000", HALTED),
        (HALTED, "500000", HALTED),
        (ACTIVE, "-5", HALTED),
    ],
)
def test_permission_follows_the_drawdown_and_halted_is_a_latch(state: RiskState, equity: str, after: RiskState) -> None:
    assert judge(Standing(state, PEAK), Decimal(equity), CONFIG).state == after


def test_the_peak_rises_by_whole_steps_only() -> None:
    for equity, peak in (("100009.99", "100000"), ("100010", "100010"), ("90000", "100000")):
        assert judge(Standing(ACTIVE, PEAK), Decimal(equity), CONFIG).peak_equity == Decimal(peak)


def test_reducing_must_come_before_halted() -> None:
    with pytest.raises(ValidationError, match=r"halted_drawdown was 0\.02"):
        ExecutorConfig(halted_drawdown=Decimal("0.02"))


def test_defaults_are_those_of_the_semantics() -> None:
    assert ExecutorConfig().model_dump(mode="json") == {
        "account": "paper", "strategy": "core", "settlement_asset": "USDT", "equity": "100000",
        "max_position_base": {"BTC": "0.1"}, "max_position_notional": "6000", "max_order_notional": "10000",
        "max_gross_notional": "20000", "orders_per_second": 5, "order_burst": 10, "stale_after_ms": 500,
        "reducing_drawdown": "0.02", "halted_drawdown": "0.05", "peak_step_bps": "1", "limit_ticks": 2,
        "report_margin_ms": 100, "mark_every_ms": 1000,
        "venue": {"taker_fee_bps": "5", "maker_fee_bps": "2", "latency_to_ms": 10, "latency_back_ms": 10},
    }  # fmt: skip

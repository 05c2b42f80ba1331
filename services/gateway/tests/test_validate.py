"""The price band: what is far off is refused, and a reference that is wrong is given up."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from huracan.clock import MILLISECOND_NS, NANOSECONDS
from huracan.contracts.market import InstrumentType, instrument_definition
from huracan.market.book import DepthUpdate
from huracan_gateway.events import Depth, Event, Quote, Trade
from huracan_gateway.reject import Reason, Rejected
from huracan_gateway.validate import PriceBand, ValidationConfig

DEFINITION = instrument_definition(
    venue="sim",
    symbol="sim-usdt-perp",
    venue_symbol="SIMUSDT",
    type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    base="SIM",
    quote="USDT",
    settle="USDT",
    price_increment=Decimal("0.1"),
    size_increment=Decimal("0.001"),
)
CONFIG = ValidationConfig(believe_after=5, believe_after_ms=1_000)


def band(config: ValidationConfig = CONFIG) -> PriceBand:
    return PriceBand(DEFINITION, config)


def trade(price: int) -> Trade:
    return Trade(0, 1, price, 1, 1)


def quote(bid: int, ask: int) -> Quote:
    return Quote(0, 1, bid, 1, ask, 1)


def accepted(checked: PriceBand, event: Event, recv_ns: int) -> bool:
    try:
        checked.check(event, recv_ns)
    except Rejected as refused:
        return refused.reason is not Reason.FAR_OFF_PRICE
    return True


@pytest.mark.parametrize(
    ("event", "fits"),
    [
        (trade(1_200), True),
        (trade(800), True),
        (trade(1_201), False),
        (trade(799), False),
        (trade(10_000), False),
        (trade(100), False),
        (quote(999, 1_001), True),
        (quote(1_190, 1_210), True),
        (quote(1_200, 1_202), False),
        (quote(700, 890), False),
    ],
)
def test_a_price_further_off_than_allowed_is_refused(event: Event, fits: bool) -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    assert accepted(checked, event, 1) is fits


def test_the_refusal_says_what_the_price_was_and_what_it_was_compared_with() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    with pytest.raises(Rejected, match=r"price of a trade was 999\.9, more than 20% off 100 of late"):
        checked.check(trade(9_999), 1)


def test_events_without_one_price_are_not_judged() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    checked.check(Depth(0, DepthUpdate(1, 2, 0, [(1, 1)], [])), 1)
    assert not accepted(checked, trade(1), 2)


def test_a_few_accepted_outliers_do_not_move_the_reference() -> None:
    checked = band()
    for second in range(20):
        checked.check(trade(1_000), second * NANOSECONDS)
    for second in range(20, 25):
        checked.check(trade(1_190), second * NANOSECONDS)
    assert not accepted(checked, trade(1_230), 25 * NANOSECONDS)


def test_a_market_that_moves_a_little_at_a_time_is_followed_anywhere() -> None:
    checked, price = band(), 1_000
    for second in range(400):
        price = round(price * 1.009)
        checked.check(trade(price), second * NANOSECONDS)
    assert price > 30_000


def test_a_burst_of_accepted_prices_is_one_sample() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    for later in range(1, 500):
        checked.check(trade(1_190), later)
    assert not accepted(checked, trade(1_230), 500)


def test_refusals_that_agree_for_long_enough_are_believed() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    times = [NANOSECONDS + step * 250 * MILLISECOND_NS for step in range(6)]
    assert [accepted(checked, trade(2_000 + step), at) for step, at in enumerate(times)] == [False] * 4 + [True, True]
    assert not accepted(checked, trade(1_000), times[-1] + 1)


def test_many_refusals_at_once_are_not_believed() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    assert not any(accepted(checked, trade(2_000), 1 + later) for later in range(1_000))
    assert accepted(checked, trade(2_000), 1 + NANOSECONDS)


def test_refusals_that_do_not_agree_are_never_believed() -> None:
    checked = band()
    checked.check(trade(1_000), 0)
    prices = [2_000, 3_000] * 50
    assert not any(accepted(checked, trade(price), (1 + at) * NANOSECONDS) for at, price in enumerate(prices))


def test_one_accepted_price_in_between_begins_the_count_anew() -> None:
    checked = band()
    for second in range(100):
        assert accepted(checked, trade(1_000 if second % 4 == 0 else 2_000), second * NANOSECONDS) is (second % 4 == 0)


def test_a_wrong_first_price_is_given_up() -> None:
    checked = band()
    checked.check(trade(618), 0)
    fits = [accepted(checked, trade(618_000), NANOSECONDS + step * 300 * MILLISECOND_NS) for step in range(10)]
    assert fits == [False] * 4 + [True] * 6


@pytest.mark.parametrize("field", ["max_off_share", "agree_share", "believe_after", "believe_after_ms"])
def test_limits_must_be_positive(field: str) -> None:
    with pytest.raises(ValidationError):
        ValidationConfig.model_validate({field: 0})


@given(st.lists(st.tuples(st.integers(1, 10**12), st.integers(0, 10**9)), max_size=60))
def test_the_band_ends_in_believing_whatever_came_before(seen: list[tuple[int, int]]) -> None:
    checked, recv_ns = band(), 0
    for price, later in seen:
        recv_ns += later
        accepted(checked, trade(price), recv_ns)
    fits = [accepted(checked, trade(5_000), recv_ns + (1 + step) * NANOSECONDS // 2) for step in range(6)]
    assert fits[-1]

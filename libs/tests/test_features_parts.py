"""Parts of the features of steps: golden values of trailing measures, liquidations, funding and basis, other venues."""

from __future__ import annotations

import math

import pytest

from huracan.clock import NANOSECONDS, STEP_NS
from huracan.contracts.market import TickKind
from huracan.features.carry import FUNDING_STALE_NS, MARK_STALE_NS, Carry
from huracan.features.levels import LEVELS, NO_ASK, NO_BID, padded, shape
from huracan.features.liquidations import WINDOW_STEPS, Liquidations, intensity
from huracan.features.micro import MICRO, MicroState
from huracan.features.trailing import STEPS_10S, BounceHistory, FlowHistory, MidHistory
from huracan.features.venues import VenueTop, compared, median

FIRST_NS = 17_231_612_000 * STEP_NS
MARK, INDEX, FUNDING = TickKind.TICK_KIND_MARK, TickKind.TICK_KIND_INDEX, TickKind.TICK_KIND_FUNDING


def test_prices_that_bounce_between_two_ticks_have_the_spread_of_roll() -> None:
    bounce = BounceHistory()
    for step in range(STEPS_10S + 1):
        bounce.close(True, 100 + 4 * (step % 2))
    assert bounce.roll_spread() == pytest.approx(8, rel=1e-3)  # each change of 4 is taken back: 2 sqrt(16)


def test_prices_that_only_rise_have_no_spread_of_roll() -> None:
    bounce = BounceHistory()
    for step in range(STEPS_10S + 1):
        bounce.close(True, 100 + step * step)
    assert math.isnan(bounce.roll_spread())


def test_impact_is_the_slope_that_made_the_returns() -> None:
    mids, log_mid = MidHistory(), math.log(100.0)
    for step in range(STEPS_10S + 1):
        flow = (-1.0) ** step * (1 + step % 3)
        log_mid += 2e-4 * flow if step else 0.0
        mids.close(True, math.exp(log_mid), 1.0, flow)
    assert mids.kyle_lambda == pytest.approx(2.0)  # 2e-4 is 2 bps
    assert mids.downside_share == pytest.approx(0.5, abs=0.05)
    assert mids.jump_share < 0.05


def test_one_jump_among_small_moves_is_nearly_all_of_the_variance() -> None:
    mids = MidHistory()
    for step in range(STEPS_10S + 1):
        mids.close(True, (100.0 if step < 50 else 101.0) + 0.001 * (step % 2), 1.0, 0.0)
    assert mids.jump_share > 0.9
    assert math.isnan(mids.kyle_lambda), "nothing was traded"


def test_a_trade_fades_by_a_factor_e_in_a_second() -> None:
    state = MicroState(0.1, 0.001)
    state.trade(100, 1, 1, FIRST_NS)
    state.trade(100, 1, 1, FIRST_NS + NANOSECONDS)
    state.close(FIRST_NS + 2 * NANOSECONDS)
    assert state.buy_intensity == pytest.approx(math.exp(-2) + math.exp(-1))
    assert state.sell_intensity == 0


def test_flow_over_a_second_is_over_the_mean_size_of_all_its_levels() -> None:
    flows = FlowHistory()
    for _ in range(9):
        flows.close_book(2, 100, 10)
    assert math.isnan(flows.imbalance(10))
    flows.close_book(2, 300, 10)
    assert flows.imbalance(10) == pytest.approx(20 / (1200 / 100))
    flows.lose_book()
    assert math.isnan(flows.imbalance(1))


def test_a_book_far_below_is_further_and_weaker_than_one_close_by() -> None:
    bids = padded([(100, 6), (98, 2)], NO_BID)
    asks = padded([(102, 2)], NO_ASK)
    assert len(bids) == len(asks) == LEVELS
    assert shape(bids, 101.0) == pytest.approx((-(6 * 1 + 2 * 3) / 8, -(6 / 1 + 2 / 3)))
    assert shape(asks, 101.0) == (1.0, 2.0)


# ── Liquidations ────────────────────────────────────────────────────────────────────────────────────────────────────


class Tape:
    """Steps of liquidations, one after the other."""

    def __init__(self) -> None:
        self.state = Liquidations()
        self.close_ns = FIRST_NS

    def minute(self) -> tuple[int, int, int] | None:
        """Return what the last minute had."""
        return self.state.last_minute

    def window(self, *, sold: int = 0, bought: int = 0, traded: int = 1_000) -> float:
        """Close 10 s in which positions were closed by selling or buying; return the cascade flag after it."""
        for step in range(WINDOW_STEPS):
            self.close_ns += STEP_NS
            if step == 0:
                for size, side in ((sold, -1), (bought, 1)):
                    if size:
                        self.state.add(size, side)
            self.state.close(self.close_ns > FIRST_NS + STEP_NS, self.close_ns, traded if step == 0 else 0)
        return self.state.cascade


def test_intensity_is_the_part_of_the_volume_that_was_liquidated() -> None:
    assert intensity(0, 0) == 0
    assert intensity(250, 1_000) == 0.25
    assert intensity(250, 100) == 1


def test_nothing_is_known_of_liquidations_before_the_first() -> None:
    tape = Tape()
    for _ in range(7):
        tape.window()
    assert tape.minute() is None
    tape.window(sold=30, bought=10)
    assert tape.minute() == (6_000, 30, 10)
    for _ in range(6):
        tape.window()
    assert tape.minute() == (6_000, 0, 0), "a minute later it is over, and known to be"


def test_two_extreme_windows_of_one_side_are_a_cascade_and_one_is_not() -> None:
    tape = Tape()
    tape.window(sold=1)
    assert all(math.isnan(tape.window(sold=window % 5)) for window in range(99))
    assert tape.window(sold=1) == 0
    assert tape.window(sold=500) == 0, "one window is none"
    assert tape.window(sold=600, bought=100) == 1
    assert tape.window(sold=300, bought=300) == 0, "of both sides"
    assert tape.window(bought=900) == 0
    assert tape.window(bought=950) == 1
    assert tape.window() == 0


def test_a_missing_step_ends_a_cascade() -> None:
    tape = Tape()
    for window in range(101):
        tape.window(sold=1 + window % 3)
    tape.window(sold=500)
    tape.close_ns += STEP_NS
    tape.state.close(False, tape.close_ns, 0)
    assert math.isnan(tape.state.cascade)
    assert tape.minute() is None
    tape.close_ns += 99 * STEP_NS
    assert tape.window(sold=800) == 0


# ── Funding and basis ───────────────────────────────────────────────────────────────────────────────────────────────


def test_funding_and_basis_are_the_golden_values() -> None:
    carry = Carry()
    carry.take(MARK, 6_180_030_000_000, 0, FIRST_NS)  # 61,800.30
    carry.take(INDEX, 6_180_000_000_000, 0, FIRST_NS)
    carry.take(FUNDING, 1_000_000_000_000, FIRST_NS + 2 * 3_600 * NANOSECONDS, FIRST_NS)  # 0.0001
    carry.close(FIRST_NS)
    assert carry.mark == pytest.approx(61_800.30)
    assert carry.mark_index_basis_bps == pytest.approx(1e4 * 0.3 / 61_800, rel=1e-9)
    assert carry.funding_rate_bps == pytest.approx(1)
    assert carry.time_to_funding_h == pytest.approx(2)


def test_what_is_too_old_no_longer_holds() -> None:
    carry = Carry()
    for kind in (MARK, INDEX, FUNDING):
        carry.take(kind, 10**12, FIRST_NS + 250 * NANOSECONDS, FIRST_NS)
    carry.close(FIRST_NS + MARK_STALE_NS)
    assert carry.mark_index_basis_bps == 0
    carry.close(FIRST_NS + MARK_STALE_NS + STEP_NS)
    assert math.isnan(carry.mark)
    assert math.isnan(carry.mark_index_basis_bps)
    assert carry.funding_rate_bps == 1
    carry.close(FIRST_NS + 250 * NANOSECONDS)
    assert math.isnan(carry.time_to_funding_h), "it is being paid"
    assert carry.funding_rate_bps == 1
    carry.close(FIRST_NS + FUNDING_STALE_NS + STEP_NS)
    assert math.isnan(carry.funding_rate_bps)


def test_what_a_venue_does_not_tell_is_missing() -> None:
    row = MicroState(0.1, 0.001).close(FIRST_NS)
    for name in MICRO.names[42:]:
        assert math.isnan(row[MICRO.names.index(name)])


# ── Other venues ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_market_is_compared_with_the_median_of_the_others() -> None:
    assert median([3.0, math.nan, 1.0, 9.0]) == 3
    assert median([1.0, 2.0]) == 1.5
    assert math.isnan(median([math.nan]))
    own = VenueTop(100.0, 1.0, 3.0)
    others = [VenueTop(100.1, 4.0, 2.0), VenueTop(100.0, 5.0, 1.0), VenueTop(90.0, 6.0, 9.0)]
    assert compared(own, others) == pytest.approx((0, 4, 1))
    assert compared(own, others[:1])[0] == pytest.approx(-1e4 * math.log(1.001))


def test_without_another_market_or_a_mid_of_either_nothing_is_compared() -> None:
    none = VenueTop(math.nan, math.nan, math.nan)
    own = VenueTop(100.0, 1.0, 3.0)
    for values in (compared(own, []), compared(own, [none]), compared(none, [own])):
        assert all(math.isnan(value) for value in values)

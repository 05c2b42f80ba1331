"""Reliability: the score of damage that is known, by the hour and by the file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.clock import MILLISECOND_NS, MINUTE_NS, NANOSECONDS
from huracan.contracts.market import InstrumentType, Reliability, instrument_definition
from huracan.errors import BadInput
from huracan_gateway.reject import Reason
from huracan_gateway.reliability import (
    HOUR_NS,
    PARTS,
    ReliabilityConfig,
    ReliabilityMeter,
    Scored,
    bars_reliability,
    score_parts,
)

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
START_NS = 480_000 * HOUR_NS
EVERY_NS = 250 * MILLISECOND_NS


def metered(config: ReliabilityConfig | None = None) -> ReliabilityMeter:
    return ReliabilityMeter(DEFINITION, config or ReliabilityConfig(), epoch=3)


def feed(meter: ReliabilityMeter, from_s: float, to_s: float) -> None:
    """Give four frames a second, from and to seconds after the start, both included."""
    last = START_NS + int(to_s * NANOSECONDS)
    for at in range(START_NS + int(from_s * NANOSECONDS), last + 1, EVERY_NS):
        meter.frame(at)


def parts(message: Reliability) -> dict[str, float]:
    return {part.name: part.value for part in message.parts}


def at_s(seconds: float) -> int:
    return START_NS + int(seconds * NANOSECONDS)


def test_weights_and_limits_are_those_of_the_definition() -> None:
    assert {name: (part.limit, part.weight) for name, part in PARTS.items()} == {
        "missing": (0.02, 0.3),
        "gap": (0.02, 0.2),
        "duplicate": (0.01, 0.1),
        "out_of_order": (0.01, 0.1),
        "stale": (0.05, 0.1),
        "outlier": (0.005, 0.1),
        "clock_drift": (0.1, 0.1),
    }
    assert math.fsum(part.weight for part in PARTS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("measured", "score"),
    [
        ({}, 100.0),
        (dict.fromkeys(PARTS, 0.0), 100.0),
        ({"missing": 0.6}, 0.0),
        ({"clock_drift": 5.0}, 0.0),
        ({"missing": 0.005}, 75.0),
        ({"duplicate": 0.001, "stale": 0.02}, 60.0),
        ({name: part.limit / 4 for name, part in PARTS.items()}, 75.0),
    ],
)
def test_the_worst_part_alone_decides(measured: Mapping[str, float], score: float) -> None:
    assert score_parts(measured) == pytest.approx(score)


@pytest.mark.parametrize("measured", [{"mising": 0.1}, {"gap": -0.1}, {"gap": math.nan}, {"gap": math.inf}])
def test_a_part_that_cannot_be_is_refused(measured: Mapping[str, float]) -> None:
    with pytest.raises(BadInput, match=next(iter(measured))):
        score_parts(measured)


@given(st.dictionaries(st.sampled_from(sorted(PARTS)), st.floats(0.0, 1e6)))
def test_every_score_is_between_0_and_100(measured: dict[str, float]) -> None:
    assert 0.0 <= score_parts(measured) <= 100.0


BARS = 1_000


def clean() -> tuple[list[int], list[float]]:
    """A thousand one-minute bars of a quiet market."""
    opens = [START_NS + bar * MINUTE_NS for bar in range(BARS)]
    return opens, [60_000.0 * (1.0 + 1e-4 * math.sin(bar)) for bar in range(BARS)]


def scored(opens: list[int], closes: list[float]) -> Scored:
    end_ns = START_NS + BARS * MINUTE_NS
    return bars_reliability(opens, closes, interval_ns=MINUTE_NS, from_ns=START_NS, to_ns=end_ns)


def test_a_clean_file_of_bars_scores_100() -> None:
    result = scored(*clean())
    assert result.score == 100.0
    assert set(result.parts.values()) == {0.0}


def test_a_file_with_60_percent_of_its_bars_missing_scores_0() -> None:
    opens, closes = clean()
    kept = [bar for bar in range(BARS) if bar % 5 in (0, 3)]
    result = scored([opens[bar] for bar in kept], [closes[bar] for bar in kept])
    assert result.parts["missing"] == pytest.approx(0.6)
    assert result.score == 0.0


def test_a_file_with_some_rows_doubled_and_some_out_of_order_scores_what_that_makes_by_hand() -> None:
    opens, closes = clean()
    rows = list(zip(opens, closes, strict=True))
    rows = [*rows[:100], rows[98], rows[99], *rows[100:500], rows[499], *rows[500:]]
    for first in (700, 900):
        rows[first], rows[first + 1] = rows[first + 1], rows[first]
    result = scored([at for at, _ in rows], [close for _, close in rows])
    assert result.parts["missing"] == 0.0
    assert result.parts["duplicate"] == pytest.approx(3 / 1_003)
    assert result.parts["out_of_order"] == pytest.approx(2 / 1_003)
    assert result.score == pytest.approx(100 * (1 - 300 / 1_003))


def test_a_file_with_bad_prices_lacks_those_bars_and_has_outliers() -> None:
    opens, closes = clean()
    closes[100], closes[200], closes[300] = math.nan, 0.0, -1.0
    closes[500] *= 10
    result = scored(opens, closes)
    assert result.parts["missing"] == pytest.approx(0.003)
    assert result.parts["outlier"] == pytest.approx(1 / 996)
    assert result.score == pytest.approx(100 * (1 - 1 / 996 / 0.005))


def test_a_wild_day_is_no_outlier_and_a_price_that_was_never_there_is_one_on_it_too() -> None:
    opens, _ = clean()
    wild = [100.0 if 400 <= bar < 500 else 1.0 for bar in range(BARS)]
    closes = [60_000.0 * (1.0 + 1e-4 * wild[bar] * math.sin(bar * 2.0)) for bar in range(BARS)]
    assert scored(opens, closes).score == 100.0
    closes[450] *= 2
    assert scored(opens, closes).parts["outlier"] == pytest.approx(1 / (BARS - 1))


def test_few_bars_are_measured_in_the_scale_of_all_of_them() -> None:
    opens, closes = clean()
    end_ns = START_NS + 15 * MINUTE_NS
    closes[7] *= 2
    found = bars_reliability(opens[:15], closes[:15], interval_ns=MINUTE_NS, from_ns=START_NS, to_ns=end_ns)
    assert found.parts["outlier"] == pytest.approx(1 / 14)
    one = bars_reliability(opens[:1], closes[:1], interval_ns=MINUTE_NS, from_ns=START_NS, to_ns=START_NS + MINUTE_NS)
    assert one.score == 100.0


def test_rows_outside_the_range_or_off_the_grid_are_no_bars() -> None:
    opens, closes = clean()
    opens[0] -= MINUTE_NS
    opens[1] += 1
    assert scored(opens, closes).parts["missing"] == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("opens", "interval_ns", "to_ns"), [([], MINUTE_NS, 1), ([1], MINUTE_NS, 0), ([1], 0, 1), ([1], -1, 1)]
)
def test_a_range_without_a_bar_or_a_price_too_few_is_refused(opens: list[int], interval_ns: int, to_ns: int) -> None:
    with pytest.raises(BadInput):
        bars_reliability(opens, [1.0], interval_ns=interval_ns, from_ns=0, to_ns=to_ns)


def test_an_hour_of_a_good_feed_scores_100() -> None:
    meter = metered()
    feed(meter, 0, 3_600)
    [hour] = meter.close_through(at_s(3_600))
    assert hour.score == 100.0
    assert (hour.hour_ns, hour.from_ns, hour.to_ns) == (START_NS, START_NS, START_NS + HOUR_NS)
    assert (hour.frames, hour.epoch) == (14_400, 3)
    assert hour.instrument == DEFINITION.id
    assert [(part.name, part.limit, part.weight) for part in hour.parts] == [
        (name, part.limit, part.weight) for name, part in PARTS.items()
    ]


def test_an_hour_is_closed_once_and_only_when_it_has_ended() -> None:
    meter = metered()
    feed(meter, 1_800, 3_500)
    assert meter.close_through(at_s(3_599.9)) == []
    [hour] = meter.close_through(at_s(3_600))
    assert (hour.from_ns, hour.to_ns) == (at_s(1_800), at_s(3_600))
    assert meter.close_through(at_s(3_601)) == []


def test_a_frame_of_the_next_hour_ends_the_one_before_without_being_counted_in_it() -> None:
    meter = metered()
    feed(meter, 3_000, 3_700)
    first, second = *meter.close_through(at_s(3_700)), meter.current(at_s(3_700))
    assert (first.frames, second.frames) == (2_400, 401)
    assert (second.from_ns, second.to_ns) == (at_s(3_600), at_s(3_700))
    assert first.score == second.score == 100.0


def test_the_seconds_of_a_long_silence_are_missing_and_the_time_is_stale() -> None:
    meter = metered()
    feed(meter, 0, 100)
    feed(meter, 110, 1_000)
    measured = parts(meter.current(at_s(1_000)))
    assert measured["missing"] == pytest.approx(9 / 1_000)
    assert measured["stale"] == pytest.approx(9.5 / 1_000)


def test_a_silence_that_the_venue_is_allowed_is_stale_but_not_missing() -> None:
    meter = metered()
    feed(meter, 0, 100)
    feed(meter, 105, 1_000)
    measured = parts(meter.current(at_s(1_000)))
    assert measured["missing"] == 0.0
    assert measured["stale"] == pytest.approx(4.5 / 1_000)


def test_a_silence_counts_before_it_ends_and_no_more_when_asked_often() -> None:
    meter = metered()
    feed(meter, 0, 100)
    for later in range(100, 200):
        current = meter.current(at_s(later))
    assert parts(current)["missing"] == pytest.approx(98 / 199)
    assert current.score == 0.0
    feed(meter, 200, 1_000)
    assert parts(meter.current(at_s(1_000)))["missing"] == pytest.approx(99 / 1_000)


def test_a_silence_over_the_end_of_an_hour_counts_in_both() -> None:
    meter = metered()
    feed(meter, 2_600, 3_500)
    feed(meter, 3_700, 4_600)
    [first] = meter.close_through(at_s(4_600))
    assert parts(first)["missing"] == pytest.approx(99 / 1_000)
    assert parts(meter.current(at_s(4_600)))["missing"] == pytest.approx(100 / 1_000)


def test_hours_without_any_frame_score_0() -> None:
    meter = metered()
    feed(meter, 3_000, 3_600)
    hours = meter.close_through(at_s(4 * 3_600))
    assert [hour.score for hour in hours] == [100.0, 0.0, 0.0, 0.0]
    assert parts(hours[2])["missing"] == 1.0
    assert [hour.hour_ns for hour in hours] == [START_NS + n * HOUR_NS for n in range(4)]


def test_before_the_first_frame_all_is_missing() -> None:
    meter = metered()
    assert meter.close_through(at_s(10)) == []
    current = meter.current(at_s(10))
    assert (current.score, current.frames, parts(current)["missing"]) == (0.0, 0, 1.0)


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        (Reason.DUPLICATE, "duplicate"),
        (Reason.OUT_OF_ORDER, "out_of_order"),
        (Reason.RECEIVE_TIME_BACKWARDS, "out_of_order"),
    ],
)
def test_refused_frames_count_for_their_part(reason: Reason, part: str) -> None:
    meter = metered()
    feed(meter, 0, 249)
    for _ in range(3):
        meter.refused(reason, at_s(249))
    current = meter.current(at_s(249))
    assert current.frames == 1_000
    assert parts(current)[part] == pytest.approx(3 / 1_000)
    assert current.score == pytest.approx(70.0)


@pytest.mark.parametrize("reason", [Reason.BAD_JSON, Reason.OFF_INCREMENT, Reason.CROSSED])
def test_frames_that_cannot_be_read_are_lost_and_end_no_silence(reason: Reason) -> None:
    meter = metered()
    feed(meter, 0, 100)
    for second in range(101, 201):
        meter.refused(reason, at_s(second))
    meter.lost(0, 401)
    measured = parts(meter.current(at_s(200)))
    assert measured["gap"] == pytest.approx(100 / 501)
    assert measured["missing"] == pytest.approx(99 / 200)


@pytest.mark.parametrize("reason", [Reason.OTHER_VENUE, Reason.OTHER_SYMBOL, Reason.UNKNOWN_STREAM])
def test_frames_of_other_instruments_count_for_nothing(reason: Reason) -> None:
    meter = metered()
    feed(meter, 0, 100)
    meter.refused(reason, at_s(100))
    assert (meter.current(at_s(100)).frames, meter.current(at_s(100)).score) == (401, 100.0)


def test_every_reason_counts_for_some_part_or_is_foreign() -> None:
    for reason in Reason:
        meter = metered()
        feed(meter, 0, 1)
        meter.refused(reason, at_s(1))
        foreign = reason in {Reason.OTHER_VENUE, Reason.OTHER_SYMBOL, Reason.UNKNOWN_STREAM}
        assert (meter.current(at_s(1)).score == 100.0) is foreign


def test_lost_sequence_numbers_are_a_share_of_all() -> None:
    meter = metered()
    meter.lost(5, 5)
    feed(meter, 0, 100)
    meter.lost(0, 900)
    meter.lost(4, 96)
    current = meter.current(at_s(100))
    assert parts(current)["gap"] == pytest.approx(4 / 1_000)
    assert current.score == pytest.approx(80.0)


def trades(meter: ReliabilityMeter, *prices: int) -> float:
    """Give a quiet market's trades, then some; return the share of outliers among the last thousand of all."""
    feed(meter, 0, 100)
    for trade in range(1_000 - len(prices)):
        meter.trade(600_000 + trade % 3, at_s(100))
    assert meter.current(at_s(100)).score == 100.0
    for price in prices:
        meter.trade(price, at_s(100))
    return parts(meter.current(at_s(100)))["outlier"]


def test_a_trade_that_leaves_and_comes_back_is_an_outlier_and_so_are_those_with_it() -> None:
    assert trades(metered(), 601_000, 600_000) == pytest.approx(1 / 1_000)
    assert trades(metered(), 601_000, 601_000, 601_000, 600_000) == pytest.approx(3 / 1_000)
    assert trades(metered(), 599_000, 600_000, 601_000, 600_000) == pytest.approx(2 / 1_000)


def test_a_price_that_moves_and_stays_is_none() -> None:
    assert trades(metered(), 601_000, 601_001, 602_000, 602_000, 602_001) == 0.0


def test_a_step_of_a_few_increments_is_none_however_quiet_the_market() -> None:
    assert trades(metered(), 600_200, 600_000) == 0.0


def test_of_a_market_that_turns_wild_only_the_first_moves_are() -> None:
    meter = metered()
    feed(meter, 0, 100)
    for trade in range(1_000):
        meter.trade(600_000 + trade % 3, at_s(100))
    for trade in range(1_000):
        meter.trade(600_000 + 1_000 * (trade % 2), at_s(100))
    assert 0.0 < parts(meter.current(at_s(100)))["outlier"] <= 10 / 2_000


def test_refused_prices_are_outliers() -> None:
    meter = metered()
    feed(meter, 0, 100)
    for _ in range(998):
        meter.trade(600_000, at_s(100))
    meter.refused(Reason.FAR_OFF_PRICE, at_s(100))
    meter.refused(Reason.ANOMALY, at_s(100))
    assert parts(meter.current(at_s(100)))["outlier"] == pytest.approx(2 / 1_000)


def test_many_outliers_do_not_make_each_other_ordinary() -> None:
    meter = metered()
    for trade in range(200):
        meter.trade(600_000 + 20 * (trade % 3), at_s(0))
    for trade in range(200):
        meter.trade(600_000 + 40 * (trade % 3) + (60_000 if trade % 10 == 0 else 0), at_s(0))
    assert parts(meter.current(at_s(0)))["outlier"] == pytest.approx(20 / 400)


def test_the_clock_drifts_by_what_it_has_left_its_first_settled_difference() -> None:
    meter = metered()
    for second, skew_ms in ((0, 400), (30, 100), (59, 20), (61, 50), (120, -25), (300, 20)):
        meter.skew(skew_ms * MILLISECOND_NS, at_s(second))
    assert parts(meter.current(at_s(300)))["clock_drift"] == pytest.approx(0.045)


def test_each_hour_has_its_own_first_difference() -> None:
    meter = metered(ReliabilityConfig(settle_s=1))
    feed(meter, 3_500, 3_700)
    meter.close_through(at_s(3_700))
    for skew_ms in (500, 510):
        meter.skew(skew_ms * MILLISECOND_NS, at_s(3_700))
    current = meter.current(at_s(3_702))
    assert parts(current)["clock_drift"] == 0.0
    meter.skew(550 * MILLISECOND_NS, at_s(3_702))
    assert parts(meter.current(at_s(3_702)))["clock_drift"] == pytest.approx(0.04)


def test_a_feed_with_every_known_fault_scores_what_they_make_by_hand() -> None:
    meter = metered()
    feed(meter, 0, 600)
    feed(meter, 606, 1_000)
    for _ in range(4):
        meter.refused(Reason.DUPLICATE, at_s(1_000))
    meter.lost(3, 997)
    current = meter.current(at_s(1_000))
    assert current.frames == 3_982
    measured = parts(current)
    assert measured["missing"] == pytest.approx(5 / 1_000)
    assert measured["stale"] == pytest.approx(5.5 / 1_000)
    assert measured["duplicate"] == pytest.approx(4 / 3_982)
    assert measured["gap"] == pytest.approx(3 / 1_000)
    assert current.score == pytest.approx(100 * (1 - 0.005 / 0.02))


@given(st.lists(st.tuples(st.integers(-(10**9), 3 * HOUR_NS), st.sampled_from([None, *Reason])), max_size=25))
def test_all_shares_stay_shares_whatever_comes(seen: list[tuple[int, Reason | None]]) -> None:
    meter, at = metered(), START_NS
    messages = []
    for later, reason in seen:
        at += later
        if reason is None:
            meter.frame(at)
        else:
            meter.refused(reason, at)
        messages += meter.close_through(at)
    messages.append(meter.current(at))
    assert all(0.0 <= message.score <= 100.0 for message in messages)
    assert all(0.0 <= share <= 1.0 for message in messages for share in parts(message).values())
    assert len({message.hour_ns for message in messages}) == len(messages)

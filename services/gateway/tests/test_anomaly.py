"""The anomaly detectors: what is out of the ordinary is found once, and what is ordinary is not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS
from huracan.contracts.market import (
    AnomalyKind,
    AnomalyPolicy,
    InstrumentDefinition,
    InstrumentType,
    instrument_definition,
)
from huracan.market.book import DepthUpdate
from huracan_gateway.anomaly import (
    AnomalyConfig,
    AnomalyDetector,
    DivergenceDetector,
    Found,
    Policies,
    Policy,
    RunningQuantile,
)
from huracan_gateway.binance_spot.data import Decoder
from huracan_gateway.events import Depth, Event, Mark, Quote, Trade
from huracan_gateway.recording import read_lines
from huracan_gateway.reject import Rejected

RECORDING = (
    Path(__file__).resolve().parents[4]
    / "shared/data/ticks/hftbacktest/binance_spot_btcusdt_20240808.jsonl.gz"
)  # fmt: skip

JUMP, SPREAD = AnomalyKind.ANOMALY_KIND_PRICE_JUMP, AnomalyKind.ANOMALY_KIND_SPREAD
VOLUME, STUFFING = AnomalyKind.ANOMALY_KIND_VOLUME, AnomalyKind.ANOMALY_KIND_QUOTE_STUFFING
SILENCE = AnomalyKind.ANOMALY_KIND_FEED_SILENCE
DESYNC, DIVERGENCE = AnomalyKind.ANOMALY_KIND_BOOK_DESYNC, AnomalyKind.ANOMALY_KIND_VENUE_DIVERGENCE
EVERY_KIND = (JUMP, SPREAD, VOLUME, STUFFING, SILENCE, DESYNC, DIVERGENCE)
CONFIG = AnomalyConfig(warm_up_s=5.0, refractory_s=5.0)
WARM_S = 8
QUOTE = Quote(0, 1, 99_999, 1, 100_001, 1)
TRADE = Trade(0, 1, 100_000, 10, 1)
NO_CHANGE = Depth(0, DepthUpdate(1, 2, 0, [], []))

Timed = tuple[int, Event]


def definition(kind: InstrumentType = InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL) -> InstrumentDefinition:
    return instrument_definition(
        venue="sim",
        symbol="sim-usdt-perp",
        venue_symbol="SIMUSDT",
        type=kind,
        base="SIM",
        quote="USDT",
        settle="USDT",
        price_increment=Decimal("0.1"),
        size_increment=Decimal("0.001"),
    )


def ordinary(from_ns: int, to_ns: int) -> Iterator[Timed]:
    """Fifty quotes and ten trades a second, around one price."""
    for at in range(from_ns, to_ns, 20 * MILLISECOND_NS):
        wobble = at // (20 * MILLISECOND_NS) % 7 - 3
        yield at, replace(QUOTE, bid=QUOTE.bid + wobble, ask=QUOTE.ask + wobble)
        if at % STEP_NS == 0:
            yield at, replace(TRADE, price=TRADE.price + wobble)


class Watched:
    """A detector with the clock that it does not have."""

    def __init__(self, config: AnomalyConfig = CONFIG, of: InstrumentDefinition | None = None) -> None:
        self.detector = AnomalyDetector(of or definition(), config)
        self.now_ns = self.last_ns = NANOSECONDS
        self.found: list[Found] = []

    def see(self, events: Iterable[Timed]) -> list[Found]:
        """Judge events, closing the steps between them, and return what was found since."""
        self.found = []
        for at, event in events:
            self.wait(at - self.now_ns)
            self.found += self.detector.judge(event, at)
            self.last_ns = at
        return self.found

    def wait(self, ns: int) -> list[Found]:
        """Close the steps of a while in which nothing comes."""
        end_ns = self.now_ns + ns
        for close in range((self.now_ns // STEP_NS + 1) * STEP_NS, end_ns + 1, STEP_NS):
            self.found += self.detector.elapsed(close, self.last_ns)
        self.now_ns = end_ns
        return self.found

    def seconds(self, count: float) -> list[Found]:
        """See an ordinary while."""
        return self.see(ordinary(self.now_ns, self.now_ns + int(count * NANOSECONDS)))

    def at(self, *events: Event) -> list[Found]:
        """See events now."""
        return self.see([(self.now_ns, event) for event in events])


@pytest.fixture
def warm() -> Watched:
    watched = Watched()
    assert watched.seconds(WARM_S) == []
    return watched


def kinds(found: Iterable[Found]) -> list[AnomalyKind]:
    return [one.kind for one in found]


def test_an_ordinary_market_is_never_out_of_the_ordinary(warm: Watched) -> None:
    assert warm.seconds(30) == []
    assert warm.detector.active == ()


def test_nothing_is_found_while_it_warms_up() -> None:
    watched = Watched()
    watched.seconds(2)
    assert watched.at(replace(TRADE, price=200_000), replace(TRADE, size=10**9), replace(QUOTE, ask=150_000)) == []
    assert watched.wait(3 * NANOSECONDS) == []


@pytest.mark.parametrize("price", [103_000, 97_000])
def test_a_trade_far_from_the_price_of_late_is_a_jump(warm: Watched, price: int) -> None:
    found = warm.at(replace(TRADE, price=price))
    assert kinds(found) == [JUMP]
    assert found[0].score >= found[0].threshold == CONFIG.jump_sigmas
    assert found[0].evidence["price"] == pytest.approx(price / 10)
    assert found[0].evidence["away_bps"] == pytest.approx((price / 100_000 - 1) * 1e4, abs=1)


def test_a_quote_far_from_the_price_of_late_is_a_jump(warm: Watched) -> None:
    assert kinds(warm.at(Quote(0, 1, 102_999, 1, 103_001, 1))) == [JUMP]


def test_a_trade_within_the_spread_of_a_wide_market_is_none() -> None:
    watched = Watched()
    wide = [(at, Quote(0, 1, 99_000, 1, 101_000, 1)) for at in range(NANOSECONDS, 9 * NANOSECONDS, STEP_NS)]
    assert watched.see(wide) == []
    assert watched.at(replace(TRADE, price=99_000), replace(TRADE, price=101_000)) == []
    assert kinds(watched.at(replace(TRADE, price=103_000))) == [JUMP]


def test_where_there_are_no_quotes_trades_say_the_price() -> None:
    watched = Watched()
    assert watched.see([(at, TRADE) for at in range(NANOSECONDS, 9 * NANOSECONDS, STEP_NS)]) == []
    assert kinds(watched.at(replace(TRADE, price=101_000))) == [JUMP]


def test_one_episode_gives_one_alarm_and_marks_every_frame_of_it(warm: Watched) -> None:
    off = replace(TRADE, price=103_000)
    assert kinds(warm.at(off, off, off)) == [JUMP]
    assert list(warm.detector.active) == [JUMP]
    assert warm.at(TRADE) == []
    assert not list(warm.detector.active)
    warm.seconds(3)
    assert warm.at(off) == []
    assert list(warm.detector.active) == [JUMP]


def test_the_next_episode_gives_another(warm: Watched) -> None:
    off = replace(TRADE, price=103_000)
    warm.at(off)
    assert warm.seconds(6) == []
    assert kinds(warm.at(off)) == [JUMP]


def test_an_outlier_does_not_hide_the_next_one(warm: Watched) -> None:
    first = warm.at(*[replace(TRADE, price=10_000_000, size=1)] * 10)
    warm.seconds(6)
    second = warm.at(replace(TRADE, price=101_000))
    assert kinds(first) == kinds(second) == [JUMP]
    assert second[0].evidence["sigma_bps"] < 1.1 * first[0].evidence["sigma_bps"]


def test_a_price_that_stays_is_ordinary_within_a_second(warm: Watched) -> None:
    higher = Quote(0, 1, 102_999, 1, 103_001, 1)
    stays = [(at, higher) for at in range(warm.now_ns, warm.now_ns + NANOSECONDS, 20 * MILLISECOND_NS)]
    assert kinds(warm.see(stays)) == [JUMP]
    assert warm.detector.active == ()


def test_after_a_silence_another_price_is_no_jump(warm: Watched) -> None:
    assert kinds(warm.wait(20 * NANOSECONDS)) == [SILENCE]
    assert warm.at(Quote(0, 1, 102_999, 1, 103_001, 1)) == []


def wide(warm: Watched, times: int, for_ms: int) -> list[Found]:
    end_ns = warm.now_ns + for_ms * MILLISECOND_NS
    quote = replace(QUOTE, bid=100_000 - times, ask=100_000 + times)
    return warm.see([(at, quote) for at in range(warm.now_ns, end_ns, 20 * MILLISECOND_NS)])


def test_a_spread_that_stays_wide_is_found(warm: Watched) -> None:
    found = wide(warm, 10, 400)
    assert kinds(found) == [SPREAD]
    assert found[0].evidence["spread"] == pytest.approx(2.0)
    assert found[0].evidence["usual_spread"] == pytest.approx(0.2, rel=0.01)
    assert found[0].evidence["held_ms"] == CONFIG.spread_hold_ms


def test_a_spread_that_closes_soon_is_not(warm: Watched) -> None:
    for _ in range(5):
        assert wide(warm, 10, 250) == []
        assert warm.seconds(0.1) == []


def test_a_spread_a_little_wider_is_not(warm: Watched) -> None:
    assert wide(warm, 5, 2_000) == []


def test_a_wide_spread_is_found_though_no_quote_follows(warm: Watched) -> None:
    assert warm.at(replace(QUOTE, ask=100_021)) == []
    assert kinds(warm.wait(500 * MILLISECOND_NS)) == [SPREAD]


@pytest.mark.parametrize(
    ("kind", "notional"),
    [
        (InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL, 100_000 * 5_000 * 0.1 * 0.001),
        (InstrumentType.INSTRUMENT_TYPE_INVERSE_PERPETUAL, 5_000 * 0.001),
    ],
)
def test_far_more_traded_in_a_second_than_usual_is_found(kind: InstrumentType, notional: float) -> None:
    watched = Watched(of=definition(kind))
    watched.seconds(WARM_S)
    found = watched.at(replace(TRADE, size=5_000))
    assert kinds(found) == [VOLUME]
    assert found[0].evidence["notional"] == pytest.approx(notional, rel=0.05)
    assert found[0].score == pytest.approx(51, abs=2)


def test_a_busy_second_is_not(warm: Watched) -> None:
    assert warm.at(*[TRADE] * 100) == []


def test_many_messages_and_few_trades_are_quote_stuffing(warm: Watched) -> None:
    flood = [(warm.now_ns + later, NO_CHANGE) for later in range(0, NANOSECONDS, 2 * MILLISECOND_NS)]
    found = warm.see(flood)
    assert kinds(found) == [STUFFING]
    assert found[0].evidence["usual_messages"] == pytest.approx(50, abs=1)
    assert found[0].evidence["messages"] == pytest.approx(150, abs=2)


def test_many_messages_and_many_trades_are_a_busy_market(warm: Watched) -> None:
    small = replace(TRADE, size=1)
    busy: list[Timed] = [
        (warm.now_ns + later, event)
        for later in range(0, NANOSECONDS, 2 * MILLISECOND_NS)
        for event in ((QUOTE, small) if later % (10 * MILLISECOND_NS) == 0 else (QUOTE,))
    ]
    assert warm.see(busy) == []


def test_a_silence_is_found_once_and_again_only_after_frames_came(warm: Watched) -> None:
    assert warm.wait(900 * MILLISECOND_NS) == []
    found = warm.wait(5 * NANOSECONDS)
    assert kinds(found) == [SILENCE]
    assert 1_000 < found[0].evidence["silent_ms"] <= 1_120
    assert found[0].score >= found[0].threshold
    assert warm.seconds(6) == []
    assert kinds(warm.wait(2 * NANOSECONDS)) == [SILENCE]


def test_a_slow_feed_may_be_silent_for_longer() -> None:
    watched = Watched()
    events = [(at, QUOTE) for at in range(NANOSECONDS, 70 * NANOSECONDS, NANOSECONDS)]
    assert watched.see(events) == []
    assert watched.wait(9 * NANOSECONDS) == []
    assert kinds(watched.wait(2 * NANOSECONDS)) == [SILENCE]


def test_a_broken_sequence_is_always_an_anomaly(warm: Watched) -> None:
    first, again = warm.detector.desynced(10, 15), warm.detector.desynced(10, 15)
    assert first == again
    assert first.kind == DESYNC
    assert first.score >= first.threshold
    assert first.evidence == {"expected": 10.0, "was": 15.0, "apart": 5.0}


def test_every_kind_is_tagged_unless_told_otherwise() -> None:
    config = AnomalyConfig(policies=Policies(price_jump=Policy.DROP, feed_silence=Policy.HOLD))
    policies = {kind: config.policy_of(kind) for kind in EVERY_KIND}
    assert policies.pop(JUMP) == AnomalyPolicy.ANOMALY_POLICY_DROP
    assert policies.pop(SILENCE) == AnomalyPolicy.ANOMALY_POLICY_HOLD
    assert set(policies.values()) == {AnomalyPolicy.ANOMALY_POLICY_TAG}


@pytest.mark.parametrize("kind", ["feed_silence", "book_desync", "venue_divergence"])
def test_what_no_frame_makes_cannot_be_dropped(kind: str) -> None:
    with pytest.raises(ValidationError, match=kind):
        Policies.model_validate({kind: "drop"})


prices = st.integers(-5, 10**15)
events = st.one_of(
    st.builds(Trade, st.just(0), st.just(1), prices, prices, st.sampled_from([1, -1])),
    st.builds(Quote, st.just(0), st.just(1), prices, st.just(1), prices, st.just(1)),
    st.just(NO_CHANGE),
    st.just(Mark(0)),
)


@given(st.lists(st.tuples(st.integers(-(10**8), 10**10), events), max_size=40))
def test_no_event_however_damaged_stops_the_detector(seen: list[tuple[int, Event]]) -> None:
    watched = Watched(AnomalyConfig(warm_up_s=0.3))
    at = NANOSECONDS
    found = []
    for later, event in seen:
        at += later
        found += watched.detector.judge(event, at)
        found += watched.detector.elapsed(at, at)
    assert all(math.isfinite(one.score) for one in found)


@pytest.mark.skipif(not RECORDING.exists(), reason=f"{RECORDING.name} is not here")
def test_a_recorded_market_with_a_sharp_move_gives_no_alarm() -> None:
    of = instrument_definition(
        venue="binance_spot",
        symbol="btc-usdt",
        venue_symbol="BTCUSDT",
        type=InstrumentType.INSTRUMENT_TYPE_SPOT,
        base="BTC",
        quote="USDT",
        settle="USDT",
        price_increment=Decimal("0.01"),
        size_increment=Decimal("0.00001"),
    )
    decoder = Decoder(of)
    watched = Watched(AnomalyConfig(), of)
    seen: list[Timed] = []
    for line in read_lines(RECORDING):
        try:
            seen += [(line.recv_ns, event) for event in decoder.decode(line.raw)[1]]
        except Rejected:
            continue
    watched.now_ns = watched.last_ns = seen[0][0]
    assert len(seen) > 40_000
    assert watched.see(seen) == []


@given(st.lists(st.floats(1e-3, 1e3), min_size=20, max_size=20), st.floats(1e-300, 1e300))
def test_one_number_however_large_moves_a_quantile_by_less_than_its_rate(first: list[float], outlier: float) -> None:
    quantile = RunningQuantile(0.9, rate=0.01, warm=20, floor=1e-9)
    for number in first:
        quantile.push(number)
    before = quantile.value
    quantile.push(outlier)
    assert abs(math.log(quantile.value / before)) <= 0.01


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99])
def test_a_running_quantile_finds_a_new_level(probability: float) -> None:
    quantile = RunningQuantile(probability, rate=0.01, warm=10, floor=1e-9)
    for _ in range(10):
        quantile.push(1e-3)
    for number in range(40_000):
        quantile.push((number * 7_919) % 1_000 + 1.0)
    assert quantile.value == pytest.approx(1_000 * probability, rel=0.06)


class Venues:
    """Mids of venues, ten a second each."""

    def __init__(self, **at_basis_bps: float) -> None:
        self.detector = DivergenceDetector(CONFIG)
        self.basis = {name: 1.0 + bps / 1e4 for name, bps in at_basis_bps.items()}
        self.step = 10

    def see(self, seconds: float, **off_bps: float) -> list[tuple[str, Found]]:
        found = []
        for _ in range(round(seconds * 10)):
            self.step += 1
            market = 60_000.0 * (1.0 + 1e-5 * math.sin(self.step))
            for later, (name, basis) in enumerate(self.basis.items()):
                if math.isnan(off_bps.get(name, 0.0)):
                    continue
                mid = market * basis * (1.0 + off_bps.get(name, 0.0) / 1e4)
                found += self.detector.mid(name, mid, self.step * STEP_NS + later)
        return found


def test_venues_at_a_steady_basis_do_not_diverge() -> None:
    assert Venues(perp=0.0, future=150.0).see(60) == []


def test_the_venue_that_leaves_the_other_is_named_once() -> None:
    venues = Venues(perp=0.0, future=150.0)
    venues.see(10)
    [(name, found)] = venues.see(4, future=20.0)
    assert name == "future"
    assert found.kind == DIVERGENCE
    assert abs(found.evidence["away_bps"]) == pytest.approx(20, abs=1)
    assert found.evidence["mid.future"] > found.evidence["mid.perp"]


def test_of_three_the_one_that_leaves_both_is_named_though_the_others_moved_further() -> None:
    venues = Venues(one=0.0, two=5.0, three=-5.0)
    venues.see(10)
    assert [name for name, _ in venues.see(4, one=40.0, three=40.0)] == ["two"]


def test_a_venue_that_follows_within_the_hold_does_not_diverge() -> None:
    venues = Venues(one=0.0, two=0.0)
    venues.see(10)
    for level in range(0, 100, 20):
        assert venues.see(0.4, one=level + 20.0, two=level) == []
        assert venues.see(1, one=level + 20.0, two=level + 20.0) == []


def test_a_silent_venue_is_not_compared() -> None:
    venues = Venues(one=0.0, two=0.0)
    venues.see(10)
    assert venues.see(20, one=500.0, two=math.nan) == []


def test_nothing_diverges_while_the_basis_is_learned() -> None:
    venues = Venues(one=0.0, two=0.0)
    venues.see(2)
    assert venues.see(2, two=50.0) == []

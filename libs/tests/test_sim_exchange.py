"""The simulated exchange keeps its promises: books, ids, flow, prices, funding, liquidations and known anomalies."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from pydantic import ValidationError

from huracan.errors import BadInput
from huracan.rng import SeededRng
from huracan.sim.exchange import (
    BINANCE_USDM,
    BYBIT,
    LISTED,
    OKX,
    SIM,
    SIMA,
    SIMB,
    AnomalyConfig,
    AnomalyKind,
    Injected,
    Regime,
    RegimeConfig,
    SimulatedExchange,
    SimulatedExchangeConfig,
)
from huracan.sim.exchange.hawkes import Hawkes
from huracan.sim.exchange.prices import FairPrices, Regimes
from huracan.sim.told import Best, Book, Candle, Changed, Liquidated, Marked, Told, Trade

NS_PER_S = 1_000_000_000
MINUTE_NS = 60 * NS_PER_S
LEADER = "binance_usdm.SIM"
LISTINGS = (LEADER, "okx.SIM", "bybit.SIM")
ALL_CALM = {"calm": RegimeConfig(mean_s=1e7, volatility_bps=7), "first_regime": Regime.CALM}
ALL_TURBULENT = {
    "turbulent": RegimeConfig(mean_s=1e7, volatility_bps=45, flow=2.0, depth=0.6),
    "first_regime": Regime.TURBULENT,
}


def config(seed: int = 0, duration_s: float = 20.0, **changes: Any) -> SimulatedExchangeConfig:
    return SimulatedExchangeConfig(seed=seed, duration_s=duration_s, **changes)


@cache
def calm() -> Sequence[Told]:
    return list(SimulatedExchange(config(1, 60, **ALL_CALM)).events())


@cache
def turbulent() -> Sequence[Told]:
    return list(SimulatedExchange(config(3, 70, positions_at_start=2_000, **ALL_TURBULENT)).events())


def of(events: Iterable[Told], listing: str) -> list[Told]:
    return [told for told in events if told.listing == listing]


def mids(events: Iterable[Told], listing: str) -> tuple[list[int], list[float]]:
    """Return the times of a listing's quotes, and the mids in ticks from then on."""
    quotes = [told for told in events if isinstance(told, Best) and told.listing == listing]
    return [quote.at_ns for quote in quotes], [(quote.bid[0] + quote.ask[0]) / 2 for quote in quotes]


def sampled(events: Sequence[Told], listing: str, every_ns: int = NS_PER_S // 2) -> list[float]:
    times, values = mids(events, listing)
    grid = range(events[0].at_ns, events[-1].at_ns, every_ns)
    return [values[max(0, bisect_right(times, at_ns) - 1)] for at_ns in grid]


def distance_from_exponential(values: Iterable[float]) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov distance from Exp(1), and what 99 of 100 true samples stay below."""
    ordered = sorted(values)
    count = len(ordered)
    levels = [-math.expm1(-value) for value in ordered]
    distance = max(max(level - at / count, (at + 1) / count - level) for at, level in enumerate(levels))
    return distance, 1.63 / math.sqrt(count)


def correlation(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.sqrt(
        sum(a * a for a in one) * sum(b * b for b in other)
    )


class Mirror:
    """Rebuild a book from its first snapshot and the changes."""

    def __init__(self, book: Book) -> None:
        self.last_id = book.last_id
        self.bids, self.asks = dict(book.bids), dict(book.asks)

    def apply(self, changed: Changed) -> None:
        assert changed.first_id == self.last_id + 1
        assert changed.last_id >= changed.first_id
        self.last_id = changed.last_id
        for side, levels in ((self.bids, changed.bids), (self.asks, changed.asks)):
            for ticks, lots in levels:
                assert lots >= 0
                if lots:
                    side[ticks] = lots
                else:
                    side.pop(ticks, None)

    def best(self) -> tuple[tuple[int, int], tuple[int, int]]:
        bid, ask = max(self.bids), min(self.asks)
        return (bid, self.bids[bid]), (ask, self.asks[ask])


STORMY = config(
    5,
    30,
    assets=(SIM, SIMB),
    positions_at_start=1_000,
    liquidations_per_s=20,
    anomalies=(
        AnomalyConfig(kind=AnomalyKind.SPREAD, listing=LEADER, from_s=3, duration_s=4, size=12),
        AnomalyConfig(kind=AnomalyKind.PRICE_JUMP, listing=LEADER, from_s=5, size=-45),
        AnomalyConfig(kind=AnomalyKind.QUOTE_STUFFING, listing="okx.SIMB", from_s=6, duration_s=5, size=15),
        AnomalyConfig(kind=AnomalyKind.SILENCE, listing="bybit.SIM", from_s=4, duration_s=6),
        AnomalyConfig(kind=AnomalyKind.DIVERGENCE, listing="okx.SIM", from_s=12, duration_s=8, size=-20),
        AnomalyConfig(kind=AnomalyKind.VOLUME, listing="bybit.SIMB", from_s=13, duration_s=8, size=10),
        AnomalyConfig(kind=AnomalyKind.PRICE_JUMP, listing="okx.SIMB", from_s=20, size=150),
    ),
)


def test_the_same_seed_tells_the_same_and_another_seed_tells_something_else() -> None:
    seeded = config(7, 5, assets=(SIM, SIMA), anomalies_per_hour=720)
    told = list(SimulatedExchange(seeded).events())
    again = SimulatedExchange(seeded)
    assert list(again.events()) == told
    assert list(SimulatedExchange(config(8, 5)).events()) != told
    assert list(again.events()) == []


def test_events_come_in_order_of_time_within_the_duration() -> None:
    for events in (calm(), turbulent(), list(SimulatedExchange(STORMY).events())):
        times = [told.at_ns for told in events]
        assert times == sorted(times)
    assert STORMY.start_ns <= times[0]
    assert times[-1] <= (STORMY.end_ns or 0)
    assert {type(told) for told in events} == {Trade, Best, Changed, Marked, Liquidated}


def test_without_a_duration_it_goes_on_and_a_second_call_continues_where_the_first_stood() -> None:
    exchange = SimulatedExchange(SimulatedExchangeConfig(seed=3))
    first = list(itertools.islice(exchange.events(), 1_000))
    assert exchange.now_ns == first[-1].at_ns
    second = list(itertools.islice(exchange.events(), 1_000))
    assert first + second == list(itertools.islice(SimulatedExchange(SimulatedExchangeConfig(seed=3)).events(), 2_000))


def test_another_asset_changes_no_event_of_the_others() -> None:
    alone = list(SimulatedExchange(config(2, 8, anomalies_per_hour=1_000)).events())
    beside = SimulatedExchange(config(2, 8, assets=(SIM, SIMA, SIMB), anomalies_per_hour=1_000)).events()
    assert [told for told in beside if told.listing in LISTINGS] == alone


def test_another_venue_changes_only_mark_and_index_of_the_others() -> None:
    alone = list(SimulatedExchange(config(2, 8, venues=(BINANCE_USDM, OKX))).events())
    beside = list(SimulatedExchange(config(2, 8, venues=(BINANCE_USDM, OKX, BYBIT))).events())
    for listing in LISTINGS[:2]:
        assert [told for told in of(beside, listing) if not isinstance(told, Marked)] == [
            told for told in of(alone, listing) if not isinstance(told, Marked)
        ]


def test_books_follow_from_the_changes_and_are_never_crossed_whatever_is_done_to_them() -> None:
    exchange = SimulatedExchange(STORMY)
    mirrors = {listing.key: Mirror(exchange.book(listing.key)) for listing in exchange.listings}
    quotes: dict[str, Best] = {}
    compared = 0
    for number, told in enumerate(exchange.events()):
        if isinstance(told, Best):
            assert told.bid[0] < told.ask[0]
            assert min(told.bid[1], told.ask[1]) > 0
            assert told.listing not in quotes or quotes[told.listing].update_id <= told.update_id
            quotes[told.listing] = told
        elif isinstance(told, Changed):
            mirror = mirrors[told.listing]
            mirror.apply(told)
            quote = quotes[told.listing]
            assert quote.update_id <= told.last_id
            assert mirror.best() == (quote.bid, quote.ask)
            compared += 1
        if number % 97 == 0:
            book, mirror = exchange.book(told.listing), mirrors[told.listing]
            assert book.last_id == mirror.last_id
            assert list(book.bids) == sorted(mirror.bids.items(), reverse=True)
            assert list(book.asks) == sorted(mirror.asks.items())
    assert compared > 2_000


def test_trade_ids_of_a_listing_are_contiguous_and_trades_hit_the_quotes_of_before() -> None:
    for listing in LISTINGS:
        quote, last_id, at_ns = None, 0, 0
        for told in of(turbulent(), listing):
            if isinstance(told, Best):
                quote = told
            elif isinstance(told, Trade):
                assert told.trade_id == last_id + 1
                assert told.lots > 0
                if quote is not None and told.at_ns != at_ns:
                    assert told.ticks == (quote.ask if told.side > 0 else quote.bid)[0]
                last_id, at_ns = told.trade_id, told.at_ns
        assert last_id > 500


def test_every_listing_tells_sixty_to_a_hundred_and_twenty_events_a_second_in_a_calm_market() -> None:
    for listing in LISTINGS:
        assert 60 <= len(of(calm(), listing)) / 60 <= 120


def test_a_books_depth_neither_runs_dry_nor_grows_without_bound() -> None:
    exchange = SimulatedExchange(config(4, 90, venues=(BINANCE_USDM,), **ALL_TURBULENT))
    for _ in exchange.events():
        pass
    book = exchange.book(LEADER)
    for side in (book.bids, book.asks):
        assert 20 <= len(side) <= 400 + 100


# --- order flow ---

CHILDREN = ((0.45, 0.1, 1.5), (0.1, 0.45, 1.5), (0.0, 0.0, 0.4))
BASELINE = (1.35, 1.35, 20.0)


def flowed(count: int, outside: Callable[[int], float] = lambda _: 0.0) -> tuple[list[tuple[float, int]], int]:
    """Return (seconds, component) of events, with excitation of component 0 from outside at every full second."""
    flow = Hawkes(SeededRng(11).stream("test").random, BASELINE, CHILDREN, 0.25, 0)
    events: list[tuple[float, int]] = []
    due_ns, second = flow.next_ns(), 1
    while len(events) < count:
        if due_ns >= second * NS_PER_S and outside(second):
            flow.advance(second * NS_PER_S)
            flow.add(0, outside(second))
            second += 1
        else:
            flow.advance(due_ns)
            component = flow.choose()
            flow.excite(component)
            events.append((due_ns / NS_PER_S, component))
        due_ns = flow.next_ns()
    return events, second - 1


@pytest.mark.parametrize("from_outside", [0.0, 0.8])
def test_rescaled_by_its_intensity_every_component_of_the_flow_is_a_unit_poisson_process(from_outside: float) -> None:
    events, seconds = flowed(15_000, lambda _: from_outside)
    decay = 1 / 0.25
    for component in range(3):
        kicks = [(at, CHILDREN[by][component], by == component) for at, by in events]
        if component == 0:
            kicks = sorted([*kicks, *((float(second), from_outside, False) for second in range(1, seconds + 1))])
        residuals, compensator, last, children = [], 0.0, 0.0, 0.0  # children: those still to come
        for at, brings, own in kicks:
            born = children * -math.expm1(-decay * (at - last))
            compensator += BASELINE[component] * (at - last) + born
            children += brings - born
            last = at
            if own:
                residuals.append(compensator)
                compensator = 0.0
        distance, bound = distance_from_exponential(residuals)
        assert distance < bound, component


def test_a_poisson_process_of_the_same_rates_would_not_pass_for_this_flow() -> None:
    events, _ = flowed(15_000)
    trades = [at for at, component in events if component != 2]
    rate = len(trades) / trades[-1]
    distance, bound = distance_from_exponential(rate * (b - a) for a, b in itertools.pairwise(trades))
    assert distance > 2 * bound


def test_the_flow_has_the_branching_ratio_that_was_configured() -> None:
    events, _ = flowed(40_000)
    trades = sum(component != 2 for _, component in events)
    # Of a stationary process the share of events brought forth by others is the branching ratio, here 0.45 + 0.1.
    assert 1 - 2 * BASELINE[0] * events[-1][0] / trades == pytest.approx(0.55, abs=0.03)


def test_the_exchanges_rates_are_those_stated() -> None:
    stated = config(6, 180, venues=(BINANCE_USDM, BYBIT), leveraged_share=0, positions_at_start=0, **ALL_CALM)
    trades = [told for told in SimulatedExchange(stated).events() if isinstance(told, Trade)]
    for listing, activity in ((LEADER, 1.0), ("bybit.SIM", 0.7)):
        orders = {told.at_ns for told in trades if told.listing == listing}
        assert len(orders) / 180 == pytest.approx(stated.market_orders_per_s * activity, rel=0.15)


# --- prices ---


def test_returns_of_assets_are_correlated_as_stated() -> None:
    stated = config(9, assets=(SIM, SIMA, SIMB), correlation=0.6)
    prices = FairPrices(stated)
    paths: dict[str, list[float]] = defaultdict(list)
    for second in range(2_000):
        prices.advance(stated.start_ns + second * NS_PER_S)
        for asset in ("SIM", "SIMA", "SIMB"):
            paths[asset].append(prices.log_price(asset))
    returns = {asset: [b - a for a, b in itertools.pairwise(path)] for asset, path in paths.items()}
    for one, other in itertools.combinations(returns, 2):
        assert correlation(returns[one], returns[other]) == pytest.approx(0.6, abs=0.05)


def test_mids_of_correlated_assets_move_together() -> None:
    told = list(SimulatedExchange(config(9, 50, assets=(SIM, SIMA), venues=(BINANCE_USDM,), **ALL_TURBULENT)).events())
    moves = []
    for key in (LEADER, "binance_usdm.SIMA"):
        path = sampled(told, key, 2 * NS_PER_S)
        moves.append([math.log(b / a) for a, b in itertools.pairwise(path)])
    assert 0.35 < correlation(*moves) < 0.95


@pytest.mark.parametrize(("events", "most_bps"), [(calm, 3.0), (turbulent, 8.0)])
def test_venues_stay_together_within_the_basis(events: Callable[[], Sequence[Told]], most_bps: float) -> None:
    leader = sampled(events(), LEADER)
    for listing in LISTINGS[1:]:
        basis = sorted(abs(math.log(b / a)) * 1e4 for a, b in zip(leader, sampled(events(), listing), strict=True))
        assert basis[len(basis) // 2] < most_bps / 3
        assert basis[-1] < most_bps


def test_the_first_venue_leads() -> None:
    def moves(listing: str) -> list[float]:
        return [b - a for a, b in itertools.pairwise(sampled(turbulent(), listing, NS_PER_S // 10))]

    leader, follower = moves(LEADER), moves("bybit.SIM")
    assert correlation(leader[:-1], follower[1:]) > correlation(follower[:-1], leader[1:]) + 0.05


def test_regimes_have_the_shares_of_time_that_their_mean_stays_state() -> None:
    stated = config(means := 3)
    regimes = Regimes(SeededRng(means).stream("test").random, stated.regimes, None)
    seconds: dict[Regime, int] = defaultdict(int)
    for _ in range(100_000):
        seconds[regimes.regime] += 20
        regimes.advance(20)
    total = sum(terms.mean_s for terms in stated.regimes.values())
    for regime, terms in stated.regimes.items():
        assert seconds[regime] / 2e6 == pytest.approx(terms.mean_s / total, abs=0.03)


def test_the_fair_price_is_as_volatile_as_its_regime_says() -> None:
    for regime, tolerance in ((Regime.CALM, 0.1), (Regime.TURBULENT, 0.1)):
        stay: dict[str, Any] = {regime.value: RegimeConfig(mean_s=1e7, volatility_bps=30)}
        stated = config(4, first_regime=regime, **stay)
        prices, path = FairPrices(stated), []
        for second in range(1_000):
            prices.advance(stated.start_ns + second * NS_PER_S)
            path.append(prices.log_price("SIM"))
        variance = sum((b - a) ** 2 for a, b in itertools.pairwise(path)) / 999
        assert math.sqrt(variance * 900) * 1e4 == pytest.approx(30, rel=tolerance)


# --- mark price, funding, liquidations ---


def test_the_index_is_the_mean_of_mids_and_the_mark_stays_by_it() -> None:
    last: dict[str, float] = {}
    seen = 0
    for told in calm():
        if isinstance(told, Best):
            last[told.listing] = (told.bid[0] + told.ask[0]) / 2 * float(LISTED["binance_usdm", "SIM"].tick)
        elif isinstance(told, Marked) and len(last) == 3:
            seen += 1
            assert float(told.index) == pytest.approx(sum(last.values()) / 3, abs=0.002)
            assert abs(told.mark / told.index - 1) < Decimal("0.0002")
            assert told.at_ns % NS_PER_S == 0
    assert seen >= 3 * 59


def test_funding_is_capped_near_the_interest_rate_and_due_every_eight_hours() -> None:
    eight_hours_ns = 8 * 3_600 * NS_PER_S
    start_ns = 1_700_006_400 * NS_PER_S - 5 * NS_PER_S  # five seconds before midnight UTC
    told = SimulatedExchange(config(1, 10, start_ns=start_ns, **ALL_CALM)).events()
    due = set()
    for marked in told:
        if isinstance(marked, Marked):
            assert marked.funding_rate == Decimal("0.0001")  # the premium is far inside the damping
            assert marked.next_funding_ns % eight_hours_ns == 0
            assert 0 < marked.next_funding_ns - marked.at_ns <= eight_hours_ns
            due.add(marked.next_funding_ns)
    assert len(due) == 2
    dear = AnomalyConfig(kind=AnomalyKind.DIVERGENCE, listing=LEADER, from_s=0, duration_s=3_600, size=150)
    rates = {
        marked.listing: marked.funding_rate
        for marked in SimulatedExchange(config(1, 20, anomalies=(dear,), funding_cap=0.002, **ALL_CALM)).events()
        if isinstance(marked, Marked)
    }
    assert rates[LEADER] == Decimal("0.002")
    assert rates["okx.SIM"] == rates["bybit.SIM"] == Decimal("-0.002")


def test_positions_are_closed_by_force_only_after_a_fast_move_against_them() -> None:
    stated = config()
    forced = [told for told in turbulent() if isinstance(told, Liquidated)]
    assert len(forced) >= 10
    assert {told.side for told in forced} == {-1, 1}
    for listing in LISTINGS:
        times, values = mids(turbulent(), listing)
        own = (told for told in forced if told.listing == listing)
        for at_ns, together in itertools.groupby(own, key=lambda told: told.at_ns):
            first = next(together)  # those of the same instant may be due to its impact
            now = bisect_left(times, at_ns) - 1
            since = bisect_left(times, at_ns - (stated.fast_move_s + 1) * NS_PER_S) - 1
            window = values[max(0, since) : now + 1]
            extreme = max(window) if first.side < 0 else min(window)
            assert first.side * math.log(values[now] / extreme) * 1e4 >= stated.fast_move_bps * 0.99


def test_a_liquidation_follows_its_own_trades() -> None:
    trades: list[Trade] = []
    forced = 0
    for told in of(turbulent(), LEADER):
        if isinstance(told, Trade):
            trades.append(told)
        elif isinstance(told, Liquidated):
            forced += 1
            left = told.lots
            assert trades[-1].ticks == told.ticks
            while left > 0:
                trade = trades.pop()
                assert (trade.at_ns, trade.side) == (told.at_ns, told.side)
                left -= trade.lots
            assert left == 0
    assert forced


def test_a_cascade_is_bounded() -> None:
    crash = AnomalyConfig(kind=AnomalyKind.PRICE_JUMP, listing=LEADER, from_s=2, size=-80)
    bounded = config(1, 12, anomalies=(crash,), positions_at_start=2_000, liquidations_per_s=5, **ALL_CALM)
    forced: dict[str, int] = defaultdict(int)
    for told in SimulatedExchange(bounded).events():
        if isinstance(told, Liquidated):
            assert told.side == -1
            forced[told.listing] += 1
    for listing in LISTINGS:
        assert 5 <= forced[listing] <= 5 * 10 + 5


# --- anomalies ---


def injected_calm(kind: AnomalyKind, size: float, duration_s: float = 5.0) -> tuple[list[Told], list[Injected]]:
    anomaly = AnomalyConfig(kind=kind, listing="okx.SIM", from_s=10, duration_s=duration_s, size=size)
    exchange = SimulatedExchange(config(3, 12 + duration_s, anomalies=(anomaly,), **ALL_CALM))
    told = list(exchange.events())
    truth = list(exchange.injected)
    late_ns = truth[0].from_ns - exchange.config.start_ns - 10 * NS_PER_S
    assert 0 <= late_ns < 200_000_000
    assert {injected.kind for injected in truth} == {kind}
    if kind is not AnomalyKind.PRICE_JUMP:
        assert [injected.listing for injected in truth] == ["okx.SIM"]
        assert truth[0].until_ns - truth[0].from_ns == duration_s * NS_PER_S
    return told, truth


def during(events: Iterable[Told], truth: Injected) -> list[Told]:
    return [told for told in events if told.listing == truth.listing and truth.from_ns <= told.at_ns < truth.until_ns]


def before(events: Iterable[Told], truth: Injected) -> list[Told]:
    length = truth.until_ns - truth.from_ns
    return [
        told
        for told in events
        if told.listing == truth.listing and truth.from_ns - length <= told.at_ns < truth.from_ns
    ]


def count(events: Iterable[Told], kind: type) -> int:
    return sum(isinstance(told, kind) for told in events)


def test_a_price_jump_is_on_every_venue_where_the_truth_says() -> None:
    told, truth = injected_calm(AnomalyKind.PRICE_JUMP, 30)
    assert {injected.listing for injected in truth} == set(LISTINGS)
    for injected in truth:
        times, values = mids(told, injected.listing)
        start = values[bisect_left(times, injected.from_ns) - 1]
        found = [value for at, value in zip(times, values, strict=True) if injected.from_ns <= at <= injected.until_ns]
        assert math.log(found[-1] / start) * 1e4 == pytest.approx(30, abs=4)
        soon = values[bisect_right(times, injected.from_ns + 250_000_000) - 1]
        assert math.log(soon / start) * 1e4 == pytest.approx(30, abs=6)


def test_a_withdrawn_spread_is_wide_while_the_truth_says() -> None:
    told, [truth] = injected_calm(AnomalyKind.SPREAD, 12)

    def spread_bps(quote: Told) -> float:
        assert isinstance(quote, Best)
        return (quote.ask[0] - quote.bid[0]) / quote.bid[0] * 1e4

    assert min(spread_bps(quote) for quote in during(told, truth) if isinstance(quote, Best)) > 8
    assert max(spread_bps(quote) for quote in before(told, truth) if isinstance(quote, Best)) < 2


def test_a_burst_of_volume_is_where_the_truth_says() -> None:
    told, [truth] = injected_calm(AnomalyKind.VOLUME, 10)
    assert count(during(told, truth), Trade) > 4 * count(before(told, truth), Trade)


def test_stuffed_quotes_are_where_the_truth_says() -> None:
    told, [truth] = injected_calm(AnomalyKind.QUOTE_STUFFING, 12)

    def updates(events: Iterable[Told]) -> int:
        return sum(told.last_id - told.first_id + 1 for told in events if isinstance(told, Changed))

    assert updates(during(told, truth)) > 6 * updates(before(told, truth))
    assert count(during(told, truth), Trade) < 5 * count(before(told, truth), Trade)


def test_a_silent_venue_tells_nothing_while_the_others_go_on() -> None:
    told, [truth] = injected_calm(AnomalyKind.SILENCE, 0)
    inside = [one for one in told if truth.from_ns < one.at_ns < truth.until_ns]
    assert {one.listing for one in inside} == {LEADER, "bybit.SIM"}
    assert count(before(told, truth), Marked) == 5
    assert any(one.listing == "okx.SIM" and one.at_ns >= truth.until_ns for one in told)


def test_a_divergence_is_on_one_venue_while_the_truth_says() -> None:
    told, [truth] = injected_calm(AnomalyKind.DIVERGENCE, -15, 10)

    def gap_bps(at_ns: int) -> float:
        values = []
        for listing in ("okx.SIM", LEADER):
            times, path = mids(told, listing)
            values.append(path[bisect_right(times, at_ns) - 1])
        return math.log(values[0] / values[1]) * 1e4

    assert abs(gap_bps(truth.from_ns)) < 2
    assert gap_bps(truth.from_ns + 4 * NS_PER_S) == pytest.approx(-15, abs=3)
    assert gap_bps(truth.until_ns) == pytest.approx(-15, abs=3)
    assert abs(gap_bps(truth.until_ns + 2 * NS_PER_S - 1)) < 3


def test_seeded_anomalies_come_at_their_rate_and_one_at_a_time() -> None:
    exchange = SimulatedExchange(config(1, 300, quotes_per_s=10, market_orders_per_s=0.5, anomalies_per_hour=120))
    for _ in exchange.events():
        pass
    truth = exchange.injected
    assert [injected.from_ns for injected in truth] == sorted(injected.from_ns for injected in truth)
    assert len({injected.kind for injected in truth}) >= 4
    for listing in LISTINGS:
        own = [one for one in truth if one.listing == listing and one.kind is not AnomalyKind.PRICE_JUMP]
        assert 3 <= len(own) <= 15
        assert all(one.until_ns <= other.from_ns for one, other in itertools.pairwise(own))


# --- bars ---


def test_history_ends_where_the_market_begins_and_is_the_same_however_it_is_asked_for() -> None:
    exchange = SimulatedExchange(config(2))
    end_ns = exchange.config.start_ns
    bars = exchange.candles(LEADER, 15 * MINUTE_NS, end_ns, 100)
    assert len(bars) == 100
    assert bars[-1].open_ns + 15 * MINUTE_NS <= end_ns < bars[-1].open_ns + 30 * MINUTE_NS
    assert (
        list(bars)
        == list(SimulatedExchange(config(2, assets=(SIM, SIMA))).candles(LEADER, 15 * MINUTE_NS, end_ns, 500))[-100:]
    )
    minutes = exchange.candles(LEADER, MINUTE_NS, bars[-1].open_ns + 15 * MINUTE_NS, 15)
    assert (minutes[0].open, minutes[-1].close) == (bars[-1].open, bars[-1].close)
    assert sum(minute.lots for minute in minutes) == bars[-1].lots
    opening = exchange.book(LEADER)
    assert abs(exchange.candles(LEADER, MINUTE_NS, end_ns, 1)[0].close / opening.bids[0][0] - 1) < 0.002
    for bar, following in itertools.pairwise(bars):
        assert bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.close == following.open
        assert bar.lots > 0
        assert bar.trades > 0


def test_bars_of_the_market_itself_are_those_of_its_trades() -> None:
    exchange = SimulatedExchange(config(2, 200, venues=(OKX,)))
    trades = [told for told in exchange.events() if isinstance(told, Trade) and told.listing == "okx.SIM"]
    bars = exchange.candles("okx.SIM", MINUTE_NS, exchange.now_ns, 5)
    assert [bar.open_ns for bar in bars] == list(range(bars[0].open_ns, bars[0].open_ns + 5 * MINUTE_NS, MINUTE_NS))
    for bar in bars[-2:]:
        inside = [trade for trade in trades if bar.open_ns <= trade.at_ns < bar.open_ns + MINUTE_NS]
        assert bar == Candle(
            bar.open_ns,
            inside[0].ticks,
            max(trade.ticks for trade in inside),
            min(trade.ticks for trade in inside),
            inside[-1].ticks,
            sum(trade.lots for trade in inside),
            len(inside),
        )
    first = next(bar for bar in bars if bar.open_ns <= exchange.config.start_ns < bar.open_ns + MINUTE_NS)
    inside = [trade for trade in trades if trade.at_ns < first.open_ns + MINUTE_NS]
    assert first.trades > len(inside)
    assert first.close == inside[-1].ticks
    assert exchange.candles("okx.SIM", 3 * MINUTE_NS, exchange.now_ns, 2)[-1].open_ns % (3 * MINUTE_NS) == 0


def test_history_reaches_back_as_far_as_stated_and_no_further() -> None:
    exchange = SimulatedExchange(config(2, history_days=1))
    bars = exchange.candles(LEADER, 60 * MINUTE_NS, exchange.config.start_ns, 100)
    assert len(bars) in {23, 24}


def test_what_cannot_be_answered_is_refused_by_name() -> None:
    exchange = SimulatedExchange(config())
    with pytest.raises(BadInput, match=r"listing_key: must be one of .*, was kraken.SIM"):
        exchange.book("kraken.SIM")
    with pytest.raises(BadInput, match="interval_ns"):
        exchange.candles(LEADER, NS_PER_S, exchange.config.start_ns, 1)
    with pytest.raises(BadInput, match="count"):
        exchange.candles(LEADER, MINUTE_NS, exchange.config.start_ns, 0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"self_excitation": 0.8, "cross_excitation": 0.2}, "branching ratio"),
        ({"assets": (SIM, SIM)}, "assets"),
        ({"venues": (OKX, OKX)}, "venues"),
        ({"lead_excitation": 0.9}, "order flow of its own"),
        ({"anomalies": ({"kind": "silence", "listing": "okx.SIMA", "from_s": 1},)}, "listing must be one of"),
        ({"anomalies": ({"kind": "volume", "listing": "okx.SIM", "from_s": 1, "size": -3},)}, "size"),
        ({"assets": ({"asset": "BTC", "price": 50_000},)}, "asset"),
    ],
)
def test_a_configuration_that_cannot_hold_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        SimulatedExchangeConfig(**changes)


def test_every_listing_has_its_own_increments() -> None:
    exchange = SimulatedExchange(config(assets=(SIM, SIMA, SIMB)))
    assert [listing.key for listing in exchange.listings] == [
        f"{venue}.{asset}" for asset in ("SIM", "SIMA", "SIMB") for venue in ("binance_usdm", "okx", "bybit")
    ]
    for listing in exchange.listings:
        price = exchange.book(listing.key).bids[0][0] * listing.tick
        assert float(price) == pytest.approx({"SIM": 50_000, "SIMA": 3_000, "SIMB": 150}[listing.asset], rel=1e-3)

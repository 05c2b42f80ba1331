"""The simulated exchange keeps its promises: books, ids, mark prices, funding, liquidations and bars."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from huracan.errors import BadInput
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
    SimulatedExchange,
    SimulatedExchangeConfig,
)
from huracan.sim.told import Best, Book, Candle, Changed, Liquidated, Marked, Told, Trade

from .exchange_runs import (
    ALL_CALM,
    ALL_TURBULENT,
    LEADER,
    LISTINGS,
    MINUTE_NS,
    NS_PER_S,
    calm,
    config,
    correlation,
    mids,
    of,
    sampled,
    turbulent,
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


@pytest.mark.usefixtures("untraced")
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


@pytest.mark.usefixtures("untraced")
def test_another_asset_changes_no_event_of_the_others() -> None:
    alone = list(SimulatedExchange(config(2, 8, anomalies_per_hour=1_000)).events())
    beside = SimulatedExchange(config(2, 8, assets=(SIM, SIMA, SIMB), anomalies_per_hour=1_000)).events()
    assert [told for told in beside if told.listing in LISTINGS] == alone


@pytest.mark.usefixtures("untraced")
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


@pytest.mark.usefixtures("untraced")
def test_a_books_depth_neither_runs_dry_nor_grows_without_bound() -> None:
    exchange = SimulatedExchange(config(4, 90, venues=(BINANCE_USDM,), **ALL_TURBULENT))
    for _ in exchange.events():
        pass
    book = exchange.book(LEADER)
    for side in (book.bids, book.asks):
        assert 20 <= len(side) <= 400 + 100


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


# Mark price, funding, liquidations.


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


# Bars.


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

"""Anomalies of the simulated exchange are where its truth says, and nowhere else."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import pytest

from huracan.sim.exchange import AnomalyConfig, AnomalyKind, Injected, SimulatedExchange
from huracan.sim.told import Best, Changed, Marked, Told, Trade

from .exchange_runs import ALL_CALM, LEADER, LISTINGS, NS_PER_S, config, mids


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


@pytest.mark.usefixtures("untraced")
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

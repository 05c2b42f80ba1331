"""What the gateway's anomaly detectors find: alarms on recordings that are as they were, and anomalies put into them.

Run: `.venv/bin/python bench/gateway_anomalies.py`. Reads the recordings under the data folder given as first argument,
by default `../shared/data`; prints a table and writes `out/bench/gateway_anomalies.json`. Thresholds were set on these
recordings, so the alarms on them are no estimate for other days: the intervals say how little minutes can tell.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import math
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS
from huracan.contracts.market import AnomalyKind, InstrumentDefinition, anomaly_kind_name
from huracan_gateway.anomaly import AnomalyConfig, AnomalyDetector, DivergenceDetector, Found
from huracan_gateway.events import Event, Quote, Trade
from huracan_gateway.feed import recorded
from huracan_gateway.reject import Rejected

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = {
    "binance_usdm": "binance_usdm_btcusdt_20240808.jsonl.gz",
    "binance_spot": "binance_spot_btcusdt_20240808.jsonl.gz",
    "binance_coinm": "binance_cm_btcusd_perp_20240808.jsonl.gz",
}
CONFIG = AnomalyConfig()
FIRST_S, EVERY_S = 80, 40
"""Anomalies are put in from here on, so far apart: after the warm-up, and further than the refractory period."""
LASTS_NS = 2 * NANOSECONDS
WITHIN_NS = 4 * NANOSECONDS
"""An alarm later than this after the start of an anomaly is not its detection."""
STREAM_KINDS = (
    AnomalyKind.ANOMALY_KIND_PRICE_JUMP,
    AnomalyKind.ANOMALY_KIND_SPREAD,
    AnomalyKind.ANOMALY_KIND_VOLUME,
    AnomalyKind.ANOMALY_KIND_QUOTE_STUFFING,
    AnomalyKind.ANOMALY_KIND_FEED_SILENCE,
)

Timed = tuple[int, Event]
Inject = Callable[[Sequence[Timed], int], list[Timed]]
"""Return a second of events with the anomaly that begins at a time put in."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recorded:
    """The events of a recording."""

    name: str
    definition: InstrumentDefinition
    events: list[Timed]

    @property
    def hours(self) -> float:
        """Return how long it is, without the warm-up."""
        seconds = (self.events[-1][0] - self.events[0][0]) / NANOSECONDS
        return max(seconds - CONFIG.warm_up_s, 0.0) / 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One figure of the report."""

    name: str
    value: float | None
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    note: str = ""


def read(name: str, path: Path) -> Recorded:
    """Return what a recording says; refused frames are left out."""
    tape = recorded(path)
    decoder = tape.adapter.decoder(tape.definition)
    events: list[Timed] = []
    for line in tape.lines():
        try:
            events += [(line.recv_ns, event) for event in decoder.decode(line.raw)[1]]
        except Rejected:
            continue
    return Recorded(name, tape.definition, events)


def alarms(market: Recorded, events: Sequence[Timed]) -> Iterator[tuple[int, Found]]:
    """Yield each alarm with its time: events judged in order, every step closed."""
    detector = AnomalyDetector(market.definition, CONFIG)
    close_ns = (events[0][0] // STEP_NS + 1) * STEP_NS
    last_ns = 0
    for recv_ns, event in events:
        while recv_ns >= close_ns:
            for found in detector.elapsed(close_ns, last_ns):
                yield close_ns, found
            close_ns += STEP_NS
        for found in detector.judge(event, recv_ns):
            yield recv_ns, found
        last_ns = recv_ns


def starts(market: Recorded) -> list[int]:
    """Return when anomalies are put in."""
    first, last = market.events[0][0] + FIRST_S * NANOSECONDS, market.events[-1][0] - 5 * NANOSECONDS
    return list(range(first, last, EVERY_S * NANOSECONDS))


def injected(market: Recorded, at: Sequence[int], inject: Inject) -> list[Timed]:
    """Return the recording with an anomaly at each of some times."""
    events: list[Timed] = []
    index = 0
    for start in at:
        before = index
        while market.events[index][0] < start:
            index += 1
        events += market.events[before:index]
        inside = index
        while index < len(market.events) and market.events[index][0] < start + WITHIN_NS:
            index += 1
        events += inject(market.events[inside:index], start)
    return [*events, *market.events[index:]]


def jump(bps: float) -> Inject:
    """Every price moves, and stays moved for two seconds."""

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        return [(at, moved(event, bps) if at < start + LASTS_NS else event) for at, event in events]

    return inject


def moved(event: Event, bps: float) -> Event:
    """Return a trade or quote whose prices are moved."""
    if isinstance(event, Trade):
        return replace(event, price=event.price + round(event.price * bps / 1e4))
    if isinstance(event, Quote):
        by = round(event.bid * bps / 1e4)
        return replace(event, bid=event.bid + by, ask=event.ask + by)
    return event


def print_off(bps: float) -> Inject:
    """One trade is printed off the market."""

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        quote = next(event for _, event in events if isinstance(event, Quote))
        return [(start, moved(Trade(0, 0, quote.bid, 1, 1), bps)), *events]

    return inject


def wide(times: int) -> Inject:
    """The spread is wider for two seconds."""

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        return [(at, widened(event) if at < start + LASTS_NS else event) for at, event in events]

    def widened(event: Event) -> Event:
        if not isinstance(event, Quote):
            return event
        return replace(event, ask=event.bid + (event.ask - event.bid) * times)

    return inject


def burst(market: Recorded, times: float) -> Inject:
    """Trades are added for a second: so many times the notional of the recording's 99th percentile second."""
    by_second: Counter[int] = Counter()
    for at, event in market.events:
        if isinstance(event, Trade):
            by_second[at // NANOSECONDS] += event.size
    ordered = sorted(by_second.values())
    size = max(round(ordered[int(0.99 * (len(ordered) - 1))] * times / 200), 1)

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        price = next(event.bid for _, event in events if isinstance(event, Quote))
        added = [(start + n * NANOSECONDS // 200, Trade(0, 0, price, size, 1)) for n in range(200)]
        return list(heapq.merge(events, added, key=lambda one: one[0]))

    return inject


def stuffed(market: Recorded, times: float) -> Inject:
    """Quotes are added for two seconds that change nothing: so many times the 99th percentile of messages a second."""
    by_second = Counter(at // NANOSECONDS for at, event in market.events if not isinstance(event, Trade))
    ordered = sorted(by_second.values())
    count = round(ordered[int(0.99 * (len(ordered) - 1))] * times)

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        quote = next(event for _, event in events if isinstance(event, Quote))
        added = [(start + n * NANOSECONDS // count, quote) for n in range(2 * count)]
        return list(heapq.merge(events, added, key=lambda one: one[0]))

    return inject


def silence(seconds: float) -> Inject:
    """Nothing comes for a while."""

    def inject(events: Sequence[Timed], start: int) -> list[Timed]:
        return [(at, event) for at, event in events if at >= start + seconds * NANOSECONDS]

    return inject


def upper_rate(count: int, hours: float) -> float:
    """Return the upper end of the one-sided 95 % interval of a Poisson rate per hour."""
    low, high = 0.0, 100.0 + 10.0 * count
    for _ in range(60):
        mean = (low + high) / 2.0
        within = math.fsum(math.exp(-mean) * mean**k / math.factorial(k) for k in range(count + 1))
        low, high = (mean, high) if within > 0.05 else (low, mean)
    return low / hours if hours else math.inf


def false_alarms(markets: Sequence[Recorded]) -> Iterator[Row]:
    """Yield the alarms on recordings that are as they were."""
    hours = math.fsum(market.hours for market in markets)
    counts: Counter[AnomalyKind] = Counter()
    for market in markets:
        for at, found in alarms(market, market.events):
            counts[found.kind] += 1
            after_s = (at - market.events[0][0]) / NANOSECONDS
            note = f"{after_s:.1f} s in, score {found.score:.3g} over {found.threshold:g}"
            yield Row(f"alarm.{market.name}.{anomaly_kind_name(found.kind)}", found.score, "sigma or ratio", note=note)
    for kind in STREAM_KINDS:
        yield rate(anomaly_kind_name(kind), counts[kind], hours)
    yield rate("venue_divergence", len(list(divergences(markets, {}, 0.0))), markets[1].hours)


def rate(name: str, count: int, hours: float) -> Row:
    """Return a rate of alarms, with the interval that so short a time allows."""
    note = f"{count} in {hours * 60:.1f} min; 95 % upper bound {upper_rate(count, hours):.0f}/h"
    return Row(f"false_alarms.{name}", count / hours, "1/h", note=note)


def detections(market: Recorded) -> Iterator[Row]:
    """Yield how many of the anomalies put in were found, and how soon."""
    table: list[tuple[AnomalyKind, str, Inject]] = [
        *((AnomalyKind.ANOMALY_KIND_PRICE_JUMP, f"{bps} bps", jump(bps)) for bps in (5, 10, 20, 50, 100)),
        *((AnomalyKind.ANOMALY_KIND_PRICE_JUMP, f"one print {bps} bps", print_off(bps)) for bps in (10, 20, 50)),
        *((AnomalyKind.ANOMALY_KIND_SPREAD, f"{times} x", wide(times)) for times in (5, 10, 50)),
        *((AnomalyKind.ANOMALY_KIND_VOLUME, f"{times} x p99", burst(market, times)) for times in (5, 20, 50, 100)),
        *((AnomalyKind.ANOMALY_KIND_QUOTE_STUFFING, f"{times} x p99", stuffed(market, times)) for times in (2, 4, 8)),
        *((AnomalyKind.ANOMALY_KIND_FEED_SILENCE, f"{long} s", silence(long)) for long in (0.5, 1.5, 3)),
    ]
    at = starts(market)
    for kind, size, inject in table:
        found = [when for when, found in alarms(market, injected(market, at, inject)) if found.kind == kind]
        yield detection(f"{market.name}.{anomaly_kind_name(kind)}", size, at, found)


def detection(name: str, size: str, at: Sequence[int], found: Sequence[int]) -> Row:
    """Return the median delay, with the share found."""
    delays = sorted(
        (min(soon) - start) / MILLISECOND_NS
        for start in at
        if (soon := [when for when in found if start <= when <= start + WITHIN_NS])
    )
    middle = delays[len(delays) // 2] if delays else None
    note = f"{len(delays)} of {len(at)} found" + (f", last after {delays[-1]:.0f} ms" if delays else "")
    others = len(found) - len(delays)
    return Row(f"delay.{name}.{size}", middle, "ms", note=note + (f", {others} elsewhere" if others else ""))


def divergences(markets: Sequence[Recorded], at: dict[int, int], bps: float) -> Iterator[tuple[int, str]]:
    """Yield when which venue diverges; the second one's prices are moved from some times until others."""
    detector = DivergenceDetector(CONFIG)
    streams = [
        [(when, index, event) for when, event in market.events if isinstance(event, Quote)]
        for index, market in enumerate(markets)
    ]
    for when, index, event in heapq.merge(*streams, key=lambda one: one[0]):
        market = markets[index]
        mid = (event.bid + event.ask) / 2.0 * float(market.definition.price_increment)
        if index == 1 and any(start <= when < end for start, end in at.items()):
            mid *= 1.0 + bps / 1e4
        for key, _ in detector.mid(market.name, mid, when):
            yield when, key


def divergence_detections(markets: Sequence[Recorded]) -> Iterator[Row]:
    """Yield how soon a venue that leaves another is found, and whether it is the one that is named."""
    at = starts(markets[1])
    for bps in (3, 5, 10, 20, 50):
        found = list(divergences(markets, {start: start + 2 * LASTS_NS for start in at}, bps))
        row = detection("venue_divergence", f"{bps} bps", at, [when for when, _ in found])
        named = sum(key == markets[1].name for _, key in found)
        yield dataclasses.replace(row, note=f"{row.note}; the right venue named in {named} of {len(found)}")


def cost(market: Recorded) -> Iterator[Row]:
    """Yield what judging an event costs, less the loop around it."""
    detector = AnomalyDetector(market.definition, CONFIG)
    before = time.perf_counter()
    for _ in market.events:
        pass
    loop = time.perf_counter() - before
    before = time.perf_counter()
    for at, event in market.events:
        detector.judge(event, at)
    judging = (time.perf_counter() - before - loop) / len(market.events) * 1e6
    yield Row("cost.judge", judging, "µs/event", 10.0, judging / 10.0, "baseline: 100,000 events/s on one core")


def main() -> None:
    """Print the table and write the report."""
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared" / "data"
    folder = data / "ticks" / "hftbacktest"
    markets = [read(name, folder / file) for name, file in RECORDINGS.items()]
    rows = [*false_alarms(markets)]
    for market in markets[:2]:
        rows += detections(market)
    rows += divergence_detections(markets[:2])
    rows += cost(markets[0])
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.3g}"
        sys.stdout.write(f"{row.name:<52} {value:>8} {row.unit:<15} {row.note}\n")
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "rows": [
            {key: getattr(row, key) for key in ("name", "value", "unit", "baseline", "ratio", "note")} for row in rows
        ],
    }
    path = ROOT / "out" / "bench" / "gateway_anomalies.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

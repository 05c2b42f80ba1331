"""Bars that a venue remembers, to warm slow windows with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from huracan.contracts.market import Bar, InstrumentDefinition
from huracan_gateway.adapter import Adapter
from huracan_gateway.live.http import VenueHttp

_NUMBERS = ("open", "high", "low", "close", "volume")


async def fetch_bars(
    adapter: Adapter,
    http: VenueHttp,
    definition: InstrumentDefinition,
    interval_ns: int,
    before_ns: int,
    count: int,
) -> list[Bar]:
    """Return up to `count` bars that had closed at `before_ns`, oldest first, each beginning where the last one ends.

    Fewer come where the venue remembers less; what lies before a hole in its memory is left out. Raises Recoverable
    when it does not answer in time, Fatal when it refuses, Rejected for an answer that cannot be read.
    """
    bars: dict[int, Bar] = {}
    end_ns = before_ns
    while len(bars) < count:
        most = min(adapter.http.most_bars, count - len(bars) + 1)  # one more: the newest may still be open
        body = await http.until_answered(adapter.http.klines(definition, interval_ns, end_ns, most))
        page = [bar for bar in adapter.http.bars(body, definition, interval_ns) if bar.open_ns < end_ns]
        if not page:
            break
        bars.update((bar.open_ns, bar) for bar in page if bar.open_ns + interval_ns <= before_ns)
        end_ns = min(bar.open_ns for bar in page)
    return _unbroken(sorted(bars.values(), key=lambda bar: bar.open_ns), interval_ns)[-count:]


def _unbroken(bars: Sequence[Bar], interval_ns: int) -> list[Bar]:
    first = 0
    for number, (one, following) in enumerate(pairwise(bars), 1):
        if one.open_ns + interval_ns != following.open_ns:
            first = number
    return list(bars[first:])


def write_bars(bars: Sequence[Bar], path: Path) -> None:
    """Write bars as the Parquet file that `huracan.market.history.load_history` reads; all of it, or nothing."""
    columns = {
        "date": pa.array([bar.open_ns for bar in bars], pa.timestamp("ns", "UTC")),
        **{name: pa.array([float(getattr(bar, name)) for bar in bars], pa.float64()) for name in _NUMBERS},
    }
    unfinished = path.with_name(f"{path.name}.part")
    pyarrow.parquet.write_table(pa.table(columns), unfinished)
    unfinished.replace(path)

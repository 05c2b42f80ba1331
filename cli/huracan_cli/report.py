"""The plain report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from huracan.bus import subjects
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import AccountState, Fill, Side
from huracan.contracts.journal import WindowOpened
from huracan.store.parquet import read_journal, read_table
from huracan_cli.summary import Summary

Point = tuple[int, float]
"""Time in nanoseconds and value."""

_WIDTH, _HEIGHT, _MARGIN = 960, 240, 48
_MOST_POINTS = 1_500
_BUY, _SELL, _LINE = "#1a7f37", "#c0392b", "#24507a"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; color: #1c1c1c; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: left }
svg { width: 100%; height: auto; background: #fafafa } text { font-size: 12px; fill: #555 }
.simulated { background: #fff3cd; padding: .6rem 1rem; border-left: 4px solid #d39e00 }
"""


def write_report(summary: Summary, run: Path) -> Path:
    """Write `report.html` from the files of a run and return its path."""
    decisions, fills = read_table(run, Decision), read_table(run, Fill)
    shards = sorted({decision.shard for decision in decisions})
    entries = [entry for shard in shards for entry in read_journal(run, subjects.journal_key(shard))]
    windows = [entry.window_opened for entry in entries if entry.HasField("window_opened")]
    accounts = read_table(run, AccountState)
    prices = [point for window in windows if (point := _mid(window))]
    increment = Decimal(windows[0].instrument.price_increment) if windows else Decimal(1)
    marks = [
        (fill.matched_ns, float(fill.price * increment), _BUY if fill.side == Side.SIDE_BUY else _SELL)
        for fill in fills
    ]
    sections = [
        f"<h1>{html.escape(summary.instrument)}: what was decided, and what came of it</h1>",
        _label(summary),
        "<h2>Mid price, with fills (green bought, red sold)</h2>" + _chart(prices, marks),
        "<h2>Position target of each decision, in size increments</h2>" + _chart(_targets(decisions), []),
        "<h2>Equity</h2>" + _chart([(row.as_of_ns, float(row.equity)) for row in accounts], []),
        "<h2>Counts</h2>" + _table(summary),
    ]
    path = run / "report.html"
    head = f"<!doctype html><meta charset='utf-8'><title>Huracan: {html.escape(summary.source)}</title>"
    path.write_text(f"{head}<style>{_STYLE}</style>{''.join(sections)}\n", encoding="utf-8")
    return path


def _label(summary: Summary) -> str:
    if summary.simulated:
        return "<p class='simulated'><b>Simulated market.</b> Nothing here happened on any venue.</p>"
    return f"<p>Recording {html.escape(summary.source)}; orders were matched by the paper venue.</p>"


def _mid(window: WindowOpened) -> Point | None:
    if not (window.best_bid and window.best_ask):
        return None
    increment = Decimal(window.instrument.price_increment)
    return window.close_ns, float(Decimal(window.best_bid + window.best_ask) / 2 * increment)


def _targets(decisions: Sequence[Decision]) -> list[Point]:
    return [(row.close_ns, float(row.size)) for row in decisions if row.direction != Direction.DIRECTION_HOLD]


def _chart(points: Sequence[Point], marks: Sequence[tuple[int, float, str]]) -> str:
    """Return an SVG line through the points with coloured dots on it."""
    if len(points) < 2:
        return "<p>Nothing to draw.</p>"
    shown = points[:: max(1, len(points) // _MOST_POINTS)]
    times, values = [at for at, _ in points], [value for _, value in points] + [value for _, value, _ in marks]
    start, end, low, high = min(times), max(times), min(values), max(values)

    def x(at: int) -> float:
        return _MARGIN + (at - start) / max(end - start, 1) * (_WIDTH - 2 * _MARGIN)

    def y(value: float) -> float:
        return _HEIGHT - 24 - (value - low) / ((high - low) or 1.0) * (_HEIGHT - 48)

    line = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in shown)
    dots = "".join(f"<circle cx='{x(at):.1f}' cy='{y(value):.1f}' r='2.5' fill='{fill}'/>" for at, value, fill in marks)
    return (
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT}' role='img'>"
        f"<polyline points='{line}' fill='none' stroke='{_LINE}' stroke-width='1.2'/>{dots}"
        f"<text x='2' y='{y(high) + 4:.0f}'>{high:,.2f}</text><text x='2' y='{y(low) + 4:.0f}'>{low:,.2f}</text>"
        f"<text x='{_MARGIN}' y='{_HEIGHT - 4}'>0 s</text>"
        f"<text x='{_WIDTH - _MARGIN}' y='{_HEIGHT - 4}' text-anchor='end'>{(end - start) / 1e9:.0f} s</text></svg>"
    )


def _table(summary: Summary) -> str:
    rows = []
    for name, value in summary.model_dump().items():
        text = json.dumps(value) if isinstance(value, dict) else str(value)
        rows.append(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>")
    return f"<table>{''.join(rows)}</table>"

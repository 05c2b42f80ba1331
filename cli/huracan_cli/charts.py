"""The pictures of a report: SVG texts for a page that brings its own colours for ink, labels and grid.

Every chart over time spans the same time and has the same margins, so one can be read against the next. A
day of steps and a minute of them cost the same: what falls on one pixel is drawn once, as its range, its
mean or its sum, whichever says most.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator, NullLocator
from matplotlib.transforms import ScaledTranslation
from matplotlib.typing import RcKeyType
from numpy.typing import NDArray

from huracan.clock import NANOSECONDS

Numbers = NDArray[np.float64]

INK, MUTED, GRID = "#0a0b0c", "#0a0b0d", "#0a0b0e"
"""Stand-ins: in the SVG they are the page's `--ink`, `--muted` and `--grid`."""
BUY, SELL, FLAT, LINE, AIM = "#2da44e", "#e5534b", "#a3adb8", "#3b82f6", "#f59e0b"
EXPERT_COLOURS = ("#8b5cf6", "#0ea5e9", "#f59e0b", "#ec4899", "#14b8a6")
REGIME_COLOURS = {
    "High_Volatility": "#ea7a1c",
    "Low_Volatility": "#14a38b",
    "Trending": "#6366f1",
    "Ranging": "#b6c2cf",
}
REASON_COLOURS = ("#94a3b8", "#cbd5e1", "#64748b", "#d6a45c", "#b07aa1", "#7b8794", "#e0b0a0")

_WIDTH = 9.6
"""Inches of 72 points, the points being the SVG's pixels; a page scales it."""
_LEFT, _RIGHT = 0.75, 0.12
_PIXELS = 620
_BUCKETS = 310
"""What is drawn as a range or a mean: one for every two pixels of the axis."""
_FILL_BUCKETS = 90
"""Marks of fills stay apart."""
_ASIDE = 6 / 72
"""Inches by which marks of fills stand off the line: bought below it, sold above."""
_LONGEST_S = 2.0
"""A silence longer than this is drawn as one."""
_TICKS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_DAY_S = 86_400

STYLE: dict[RcKeyType, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.0,
    "legend.handleheight": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "huracan",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.color": GRID,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
}
"""How every figure is drawn: `with rc_context(STYLE)`."""

_THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
_COORDINATES = re.compile(r'(?<= d=")[^"]+')
_DIGITS = re.compile(r"(\.\d)\d+")
_NAMES = re.compile(r'(?<= id=")|(?<=url\(#)|(?<=href="#)')
_HEAD = re.compile(r"^.*?(?=<svg )|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_SIZE = re.compile(r'(?<=<svg )[^>]*(viewBox="[^"]+")[^>]*')


@dataclass(frozen=True, slots=True)
class Series:
    """Values over time: seconds since a midnight, in order; NaN where there was no value."""

    at_s: Numbers
    values: Numbers


@dataclass(frozen=True, slots=True)
class Stack:
    """Shares over time: `rows` has a row for each time and a column for each name; all 0 where there were none."""

    at_s: Numbers
    names: tuple[str, ...]
    rows: Numbers


@dataclass(frozen=True, slots=True)
class Fills:
    """Executions of one side: prices in the quote asset, sizes in base units."""

    at_s: Numbers
    prices: Numbers
    sizes: Numbers


Span = tuple[float, float]
"""First and last second of what is drawn."""


def seconds(at_ns: Sequence[int], midnight_ns: int) -> Numbers:
    """Return times as seconds since a midnight."""
    since: Numbers = (np.array(at_ns, dtype=np.int64) - midnight_ns) / NANOSECONDS
    return since


def stepwise(series: Series) -> Series:
    """Return a series of one value a step with a gap wherever steps are missing."""
    at = _silences(series.at_s)
    return Series(np.insert(series.at_s, at, series.at_s[at]), np.insert(series.values, at, np.nan))


def stepwise_stack(stack: Stack) -> Stack:
    """Return shares of one row a step with nothing wherever steps are missing."""
    at = np.repeat(_silences(stack.at_s), 2)
    edges = stack.at_s[at - np.tile([1, 0], at.size // 2)]
    return Stack(np.insert(stack.at_s, at, edges), stack.names, np.insert(stack.rows, at, 0.0, axis=0))


def _silences(at_s: Numbers) -> NDArray[np.intp]:
    return np.flatnonzero(np.diff(at_s) > _LONGEST_S) + 1


# Charts.


def market(
    mid: Series,
    bought: Fills,
    sold: Fills,
    directions: Series,
    regimes: Stack,
    span: Span,
    *,
    notices: Mapping[str, Numbers] | None = None,
    name: str = "market",
) -> str:
    """Draw the mid with fills, which way decisions went (1 buy, 0 hold, -1 sell), and the regimes in force.

    `notices` are times, in seconds, of what is marked below the price, by what it is. Here as in every chart `name` is
    one that no other picture of the page has.
    """

    def draw(axes: list[Axes]) -> None:
        price, strip, shares = axes
        line = thinned(mid)
        price.plot(line.at_s, line.values, color=LINE, linewidth=1.1, label="mid")
        for fills, colour, marker, name, side in ((bought, BUY, "^", "bought", -1), (sold, SELL, "v", "sold", 1)):
            marks = gathered(fills, span)
            aside = ScaledTranslation(0, side * _ASIDE, price.figure.dpi_scale_trans)
            price.scatter(
                marks.at_s,
                marks.prices,
                s=10 + 50 * marks.sizes / max(float(marks.sizes.max(initial=0.0)), 1e-12),
                c=colour,
                marker=marker,
                linewidths=0,
                alpha=0.9,
                label=name,
                transform=price.transData + aside,
            )
        price.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.8g}"))
        price.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        for (what, at_s), colour in zip((notices or {}).items(), (SELL, AIM), strict=False):
            if at_s.size:
                below = price.get_xaxis_transform()
                price.vlines(_apart(at_s, span), 0, 0.07, colors=colour, linewidth=1.2, label=what, transform=below)
        price.margins(y=0.12)
        _legend(price)
        _title(price, "mid price and fills")
        sides = np.stack([directions.values > 0, directions.values < 0], axis=1).astype(np.float64)
        at_s, sides = averaged(Stack(directions.at_s, ("", ""), sides))
        for column, sign, colour, name in ((0, 1, BUY, "BUY"), (1, -1, SELL, "SELL")):
            strip.fill_between(
                at_s, sign * sides[:, column], step="mid", color=colour, linewidth=0, alpha=0.85, label=name
            )
        _between(strip, -1, 1)
        _legend(strip)
        _title(strip, "share of decisions")
        _stack(shares, regimes, [REGIME_COLOURS.get(name, FLAT) for name in regimes.names], step=True)
        _title(shares, "regime probabilities")

    return _svg(name, (2.9, 0.8, 1.1), draw, span)


def opinions(by_expert: Mapping[str, Series], notes: Mapping[str, str], span: Span, *, name: str = "opinions") -> str:
    """Draw p_up - p_down of each expert, mean and range of each pixel, with a note about what it did not say."""
    every = [np.abs(series.values[np.isfinite(series.values)]) for series in by_expert.values()]
    most = max((float(values.max(initial=0.0)) for values in every), default=0.0) or 1.0

    def draw(axes: list[Axes]) -> None:
        for axis, (expert, series), colour in zip(axes, by_expert.items(), EXPERT_COLOURS, strict=False):
            _band(axis, series, colour)
            axis.axhline(0, color=MUTED, linewidth=0.6)
            axis.set_ylim(-1.1 * most, 1.1 * most)
            axis.yaxis.set_major_locator(MaxNLocator(4, symmetric=True))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.2g}" if value else "0"))
            _title(axis, expert, notes.get(expert, ""))

    return _svg(name, (0.95,) * len(by_expert), draw, span)


def answers(counts: Mapping[str, Mapping[str, int]], answered: str, *, name: str = "answers") -> str:
    """Draw a bar for each of those who were asked: how often they answered, and why not; `answered` names the first."""
    reasons = [each for each in dict.fromkeys(each for row in counts.values() for each in row) if each != answered]
    names = list(counts)

    def draw(axes: list[Axes]) -> None:
        (axis,) = axes
        left = np.zeros(len(names))
        for reason, colour in zip((answered, *reasons), (LINE, *REASON_COLOURS * 2), strict=False):
            width = np.array([counts[who].get(reason, 0) for who in names], dtype=np.float64)
            label = reason.replace("_", " ").lower()
            axis.barh(names, width, left=left, color=colour, height=0.62, label=label, linewidth=0)
            left += width
        axis.invert_yaxis()
        axis.grid(visible=False)
        axis.tick_params(axis="y", labelcolor=INK)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_xlim(0, max(float(left.max(initial=0.0)), 1.0))
        _legend(axis)

    return _svg(name, (0.34 * len(names) + 0.1,), draw, None)


def gate(pooled: Stack, weights: Stack, disagreement: Series, span: Span, *, name: str = "gate") -> str:
    """Draw the pooled forecast (down, flat, up), each expert's weight in it, and how far the experts disagreed."""

    def draw(axes: list[Axes]) -> None:
        _stack(axes[0], pooled, (SELL, FLAT, BUY))
        _title(axes[0], "pooled probabilities")
        _stack(axes[1], weights, EXPERT_COLOURS)
        _title(axes[1], "weights of the experts")
        _band(axes[2], disagreement, LINE)
        axes[2].set_ylim(bottom=0)
        axes[2].yaxis.set_major_locator(MaxNLocator(3))
        _title(axes[2], "disagreement (Jensen-Shannon, 0 to 1)")

    return _svg(name, (1.5, 1.0, 0.9), draw, span)


def money(
    positions: Mapping[str, tuple[Series, Series]],
    equity: Series,
    before_fees: Series,
    units: tuple[str, str],
    span: Span,
) -> str:
    """Draw each target and position held, by title, then equity with and without fees, and drawdown.

    Units: base, settlement.
    """
    base, settle = units

    def draw(axes: list[Axes]) -> None:
        *held_axes, worth, lost = axes
        for axis, (title, (target, held)) in zip(held_axes, positions.items(), strict=True):
            axis.axhline(0, color=MUTED, linewidth=0.6)
            _band(axis, target, AIM, "target")
            line = thinned(held)
            axis.plot(line.at_s, line.values, color=LINE, linewidth=0.8, drawstyle="steps-post", label="held")
            axis.yaxis.set_major_locator(MaxNLocator(5))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.6g}" if value else "0"))
            _legend(axis)
            _title(axis, f"{title}, {base}")
        for series, style, colour, name in (
            (before_fees, "--", MUTED, "before fees"),
            (equity, "-", LINE, "equity"),
        ):
            line = thinned(series)
            worth.plot(line.at_s, line.values, style, color=colour, linewidth=1.2, label=name)
        worth.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.8g}"))
        _legend(worth)
        _title(worth, f"equity, {settle}")
        drawdown = equity.values - np.maximum.accumulate(equity.values)
        line = thinned(Series(equity.at_s, drawdown))
        lost.fill_between(line.at_s, line.values, color=SELL, alpha=0.35, linewidth=0)
        lost.set_ylim(top=0)
        lost.yaxis.set_major_locator(MaxNLocator(3))
        lost.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        _title(lost, f"drawdown, {settle}")

    return _svg("money", (*(1.6 if len(positions) == 1 else 1.0 for _ in positions), 1.6, 0.8), draw, span)


def latencies(by_hop: Mapping[str, Numbers]) -> str:
    """Draw how long each hop took: microseconds on a log axis, p50 and p99 marked; below 1 µs is drawn at 1 µs."""
    drawn = {hop: np.maximum(values, 1.0) for hop, values in by_hop.items()}
    low = min(float(values.min()) for values in drawn.values())
    high = max(float(values.max()) for values in drawn.values())
    edges = np.geomspace(low / 1.2, high * 1.2, 91)
    digits = (1, 2, 5) if high < 100 * low else (1,)
    ticks = [digit * 10.0**power for power in range(-1, 12) for digit in digits]

    def draw(axes: list[Axes]) -> None:
        for axis, (hop, values), colour in zip(axes, drawn.items(), (LINE, *EXPERT_COLOURS * 9), strict=False):
            counts, _ = np.histogram(values, bins=edges)
            axis.stairs(counts, edges, fill=True, color=colour, alpha=0.8)
            axis.set_xscale("log")
            axis.set_xlim(edges[0], edges[-1])
            axis.set_ylim(0, max(float(counts.max()), 1.0) * 1.15)
            axis.yaxis.set_major_locator(NullLocator())
            axis.xaxis.set_minor_locator(NullLocator())
            axis.set_xticks([tick for tick in ticks if edges[0] <= tick <= edges[-1]])
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
            p50, p99 = np.percentile(values, (50, 99))
            for mark, dashes in ((p50, "-"), (p99, (0, (3, 2)))):
                axis.axvline(mark, color=INK, linewidth=1.0, linestyle=dashes)
            _title(axis, hop.replace("_", " "), f"p50 {duration(p50)}, p99 {duration(p99)}, {values.size:,} samples")

    return _svg("latencies", (0.62,) * len(drawn), draw, None)


def duration(us: float) -> str:
    """Return microseconds as people say them: µs, ms or s with three digits."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size:
            return f"{us / size:.3g} {unit}"
    return f"{us:.3g} µs"


# What falls on one pixel.


def thinned(series: Series, buckets: int = _PIXELS) -> Series:
    """Return the points that show: of each bucket the first, lowest, highest and last, and a NaN where one was."""
    if series.values.size <= 4 * buckets:
        return series
    kept: list[int] = []
    for group in np.split(np.arange(series.values.size), _cuts(series.at_s, buckets)):
        if not group.size:
            continue
        values = series.values[group]
        kept += [int(group[0]), int(group[-1])]
        gaps = np.flatnonzero(np.isnan(values))
        kept += [int(group[gaps[0]])] if gaps.size else []
        if gaps.size < group.size:
            kept += [int(group[np.nanargmin(values)]), int(group[np.nanargmax(values)])]
    at = np.unique(kept)
    return Series(series.at_s[at], series.values[at])


def averaged(stack: Stack, buckets: int = _BUCKETS) -> tuple[Numbers, Numbers]:
    """Return times and rows, the mean of each bucket that has any."""
    if not stack.at_s.size:
        return stack.at_s, stack.rows
    starts = _starts(stack.at_s, buckets)
    sizes = np.diff(np.append(starts, stack.at_s.size))
    means: Numbers = np.add.reduceat(stack.rows, starts, axis=0) / sizes[:, None]
    return np.add.reduceat(stack.at_s, starts) / sizes, means


def gathered(fills: Fills, span: Span, buckets: int = _FILL_BUCKETS) -> Fills:
    """Return fills that would lie on each other as one, at their mean time and their price by size."""
    if fills.at_s.size <= 1:
        return fills
    width = max(span[1] - span[0], 1e-9) / buckets
    starts = np.flatnonzero(np.diff(np.floor((fills.at_s - span[0]) / width), prepend=-np.inf))
    sizes = np.add.reduceat(fills.sizes, starts)
    prices = np.add.reduceat(fills.prices * fills.sizes, starts) / sizes
    return Fills(np.add.reduceat(fills.at_s * fills.sizes, starts) / sizes, prices, sizes)


def _apart(at_s: Numbers, span: Span) -> Numbers:
    """Return times of which no two fall on one pixel."""
    width = max(span[1] - span[0], 1e-9) / _PIXELS
    return np.unique(np.round(at_s / width)) * width


def _cuts(at_s: Numbers, buckets: int) -> NDArray[np.intp]:
    return np.searchsorted(at_s, np.linspace(at_s[0], at_s[-1], buckets + 1)[1:-1])


def _starts(at_s: Numbers, buckets: int) -> NDArray[np.intp]:
    starts: NDArray[np.intp] = np.unique(np.concatenate([[0], _cuts(at_s, buckets)]))
    return starts[starts < at_s.size]


# How it is drawn.


def _band(axis: Axes, series: Series, colour: str, label: str = "") -> None:
    """Draw the mean of each bucket, and its range behind it; nothing where there was no value."""
    if not np.isfinite(series.values).any():
        axis.text(0.5, 0.58, "nothing to draw", transform=axis.transAxes, ha="center", va="bottom", color=MUTED)
        return
    starts = _starts(series.at_s, _BUCKETS)
    known = np.isfinite(series.values)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    shown = counts > 0
    sums = np.add.reduceat(np.where(known, series.values, 0.0), starts)
    means = np.full(starts.size, np.nan)
    means[shown] = sums[shown] / counts[shown]
    low = np.where(shown, np.minimum.reduceat(np.where(known, series.values, np.inf), starts), np.nan)
    high = np.where(shown, np.maximum.reduceat(np.where(known, series.values, -np.inf), starts), np.nan)
    at_s = series.at_s[starts]
    axis.fill_between(at_s, low, high, color=colour, alpha=0.3, linewidth=0)
    axis.plot(at_s, means, color=colour, linewidth=1.1, label=label or None)


def _stack(axis: Axes, stack: Stack, colours: Sequence[str], *, step: bool = False) -> None:
    step = step and stack.at_s.size <= _PIXELS
    at_s, rows = (stack.at_s, stack.rows) if step else averaged(stack)
    base = np.zeros(at_s.size)
    for column, (name, colour) in enumerate(zip(stack.names, colours, strict=False)):
        top = base + rows[:, column]
        axis.fill_between(
            at_s,
            base,
            top,
            color=colour,
            linewidth=0,
            alpha=0.85,
            label=name.replace("_", " "),
            step="post" if step else "mid",
        )
        base = top
    _between(axis, 0, 1)
    _legend(axis)


def _between(axis: Axes, low: float, high: float) -> None:
    axis.set_ylim(low, high)
    axis.set_yticks([low, (low + high) / 2, high])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0%}"))


def _title(axis: Axes, text: str, note: str = "") -> None:
    axis.set_title(text, loc="left", fontsize=9, color=INK, pad=5)
    if note:
        axis.set_title(note, loc="right", fontsize=8.5, color=MUTED, pad=5)


def _legend(axis: Axes) -> None:
    """Name the colours on the title's line, at its right."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        axis.legend(
            handles,
            labels,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=len(labels),
            borderaxespad=0.1,
            columnspacing=1.0,
        )


def _clock(axis: Axes, span: Span) -> None:
    length = span[1] - span[0]
    tick_s = next((each for each in _TICKS_S if length / each <= 8), _TICKS_S[-1])
    axis.xaxis.set_major_locator(MultipleLocator(tick_s))

    def clock(value: float, _: float | None) -> str:
        minutes, second = divmod(round(value) % _DAY_S, 60)
        hour, minute = divmod(minutes, 60)
        return f"{hour:02}:{minute:02}" + (f":{second:02}" if tick_s < 60 else "")

    axis.xaxis.set_major_formatter(FuncFormatter(clock))


def _svg(name: str, heights: Sequence[float], draw: Callable[[list[Axes]], None], span: Span | None) -> str:
    """Return a drawing of panels of the given heights in inches, above each other on one axis."""
    gap, bottom, top = 0.42, 0.3, 0.3
    height = sum(heights) + gap * (len(heights) - 1) + bottom + top
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, height))
        axes: list[Axes] = []
        upper = height - top
        for panel in heights:
            place = (_LEFT / _WIDTH, (upper - panel) / height, 1 - (_LEFT + _RIGHT) / _WIDTH, panel / height)
            axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
            upper -= panel + gap
        draw(axes)
        for axis in axes[:-1]:
            axis.tick_params(axis="x", labelbottom=False)
        if span is not None:
            axes[0].set_xlim(*span)
            _clock(axes[-1], span)
        return inlined(name, figure)


def inlined(name: str, figure: Figure) -> str:
    """Return a figure, drawn in `STYLE`, as an SVG to stand beside others in a page.

    It has ids of its own (no other picture of the page has the same name), the page's colours, and coordinates to a
    tenth of a pixel.
    """
    text = StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    svg = _SIZE.sub(rf'\1 role="img" aria-label="{name}"', _HEAD.sub("", svg), count=1)
    svg = _NAMES.sub(f"{name.replace(' ', '-')}-", svg)
    svg = _COORDINATES.sub(lambda path: _DIGITS.sub(r"\1", path[0]), svg)
    for stand_in, variable in _THEME.items():
        svg = svg.replace(stand_in, variable)
    return svg

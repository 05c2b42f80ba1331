"""The pictures of an evaluation: SVG texts for a page, each with its unit, its rows and its intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from huracan.clock import NANOSECONDS
from huracan_cli.charts import (
    EXPERT_COLOURS,
    FLAT,
    GRID,
    INK,
    LINE,
    MUTED,
    REGIME_COLOURS,
    SELL,
    STYLE,
    Series,
    inlined,
    thinned,
)
from huracan_training.evaluation import Evaluation, ModelResult
from huracan_training.samples import Floats, Integers
from huracan_training.scores import Reliability
from huracan_training.trading import HOLDING

_WIDTH = 9.6
_OTHERS = (*EXPERT_COLOURS, "#84cc16", "#78716c", "#a16207")
_MARKERS = ("D", "s", "^", "v", "P", "X", "*", "h")
_MOST_LINES = 5
_LETTER = 0.08
"""Inches that a letter beside an axis takes."""
_FEWEST_ALARMS = 30
"""Below this many, a point of a curve is left out: precision of a handful says nothing."""


def colours(evaluation: Evaluation) -> dict[str, str]:
    """Return the colour of each model, the same in every picture: the judged one as our own lines are."""
    others = [each.name for each in evaluation.models[1:]]
    return {evaluation.judged.name: LINE} | {name: _OTHERS[number % len(_OTHERS)] for number, name in enumerate(others)}


def gains(evaluation: Evaluation) -> str:
    """Draw the log loss gained over the rivals, by asset and over all, with intervals: right of 0 is better."""
    shown = [name for name in _rivals(evaluation) if any(each.baseline == name for each in evaluation.comparisons)]
    assets = ["", *sorted({each.asset for each in evaluation.comparisons if each.asset})]
    of = colours(evaluation)
    height = 0.8 + 0.17 * len(shown) * len(assets)

    def draw(axis: Axes) -> None:
        step = 0.75 / max(len(shown), 1)
        for number, name in enumerate(shown):
            rows = {each.asset: each.gain for each in evaluation.comparisons if each.baseline == name}
            at = np.array([row + (number - (len(shown) - 1) / 2) * step for row in range(len(assets))])
            values = np.array([rows[asset].value for asset in assets])
            low, high = (np.array([getattr(rows[asset], side) for asset in assets]) for side in ("low", "high"))
            axis.hlines(at, low, high, colors=of[name], linewidth=1.6)
            axis.plot(values, at, _MARKERS[number % 8], color=of[name], markersize=4.5, label=f"over {words(name)}")
        axis.axvline(0, color=INK, linewidth=0.9)
        axis.axhline(0.5, color=GRID, linewidth=0.8)
        axis.set_yticks(range(len(assets)), ["all together", *assets[1:]])
        axis.set_ylim(len(assets) - 0.5, -0.5)
        axis.tick_params(axis="y", labelcolor=INK)
        axis.grid(visible=False, axis="y")
        axis.grid(visible=True, axis="x")
        axis.set_xlabel("log loss gained, nats a row; right of 0 the judged model is better; bars are 95 % intervals")
        _legend(axis)

    return _one("gains", height, draw)


def losses(evaluation: Evaluation) -> str:
    """Draw the log loss of each model with its interval, and what knowing nothing would cost."""
    models = sorted(evaluation.models, key=lambda each: each.scores.log_loss)
    of, nothing = colours(evaluation), float(np.log(len(evaluation.study.classes)))

    def draw(axis: Axes) -> None:
        for row, model in enumerate(models):
            told = model.intervals["log_loss"]
            axis.hlines(row, told.low, told.high, colors=of[model.name], linewidth=2.2)
            axis.plot([told.value], [row], "o", color=of[model.name], markersize=6)
            axis.annotate(
                f"{told.value:.4f}",
                (told.low, row),
                (-7, 0),
                textcoords="offset points",
                color=INK,
                ha="right",
                va="center",
                fontsize=8.5,
            )
        axis.axvline(nothing, color=MUTED, linewidth=1.0, linestyle=(0, (3, 2)))
        axis.text(nothing, -0.62, f"knowing nothing: ln {len(evaluation.study.classes)} ", color=MUTED, ha="right")
        axis.set_yticks(range(len(models)), [words(model.name) for model in models])
        axis.set_ylim(len(models) - 0.5, -0.8)
        axis.margins(x=0.12)
        axis.tick_params(axis="y", labelcolor=INK)
        axis.grid(visible=False, axis="y")
        axis.grid(visible=True, axis="x")
        axis.set_xlabel("log loss, nats a row, lower is better; the axis does not start at 0; bars are 95 % intervals")

    return _one("losses", 0.7 + 0.32 * len(models), draw)


def folds(evaluation: Evaluation) -> str:
    """Draw when each fold was trained and tested, and the log loss of each model in it."""
    of, shown = colours(evaluation), _shown(evaluation)
    numbers = [fold.number for fold in evaluation.study.folds]

    with _figure(0.6 + 0.42 * max(len(numbers), 4)) as figure:
        spans, values = figure.subplots(1, 2, width_ratios=(1.15, 1))
        for fold in evaluation.study.folds:
            for start, end, colour, label in (
                (fold.train_from_ns, fold.train_to_ns, FLAT, "train and valid"),
                (fold.test_from_ns, fold.test_to_ns, LINE, "test"),
            ):
                first, last = _days(np.array([start, end]))
                spans.barh(fold.number, last - first, left=first, height=0.55, color=colour, label=label)
        _dated(spans, most=3)
        spans.set_yticks(numbers, [f"fold {number}" for number in numbers])
        spans.set_ylim(max(numbers) + 0.6, min(numbers) - 0.6)
        spans.grid(visible=False, axis="y")
        _title(spans, "when")
        _legend(spans, once=True)
        for number, model in enumerate(shown):
            losses = [model.by_fold[str(each)].log_loss if str(each) in model.by_fold else np.nan for each in numbers]
            values.plot(losses, numbers, _MARKERS[number % 8], color=of[model.name], label=words(model.name), alpha=0.9)
        values.set_yticks(numbers, [])
        values.set_ylim(spans.get_ylim())
        values.grid(visible=True, axis="x")
        values.set_xlabel("log loss, nats a row")
        _title(values, "log loss of each fold")
        values.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.2)
        figure.subplots_adjust(left=0.06, right=0.85, wspace=0.06, bottom=0.24, top=0.88)
        return inlined("folds", figure)


def calibration(evaluation: Evaluation) -> str:
    """Draw what was said against what happened, of the arg max and of each class."""
    model, classes = evaluation.judged, evaluation.study.classes
    tables = [("arg max", model.reliability), *zip(map(words, classes), model.class_reliability, strict=True)]
    with _figure(2.3) as figure:
        for axis, (name, table) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables, strict=True):
            _reliability(axis, name, table)
        figure.subplots_adjust(left=0.05, right=0.99, wspace=0.3, bottom=0.2, top=0.9)
        return inlined("calibration", figure)


def _reliability(axis: Axes, name: str, table: Reliability) -> None:
    axis.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
    error = 1.96 * np.sqrt(table.happened * (1 - table.happened) / table.rows)
    axis.vlines(table.said, table.happened - error, table.happened + error, colors=LINE, linewidth=1.0, alpha=0.6)
    axis.plot(table.said, table.happened, "o-", color=LINE, markersize=3.5, linewidth=0.9)
    for setting in (axis.set_xlim, axis.set_ylim):
        setting(-0.02, 1.02)
    axis.set_aspect("equal")
    axis.set_xticks([0, 0.5, 1])
    axis.set_yticks([0, 0.5, 1])
    axis.set_xlabel("said")
    if name == "arg max":
        axis.set_ylabel("happened")
    _title(axis, name)
    axis.text(0.98, 0.05, f"ECE {table.calibration_error:.3f}", ha="right", color=INK, fontsize=8.5)


def confusion(evaluation: Evaluation) -> str:
    """Draw how often each class was forecast as each, as shares of what was: the judged model and its rivals."""
    models = _shown(evaluation)[:3]
    classes = [words(name).replace(" ", "\n") for name in evaluation.study.classes]
    with _figure(3.3) as figure:
        for number, (axis, model) in enumerate(
            zip(figure.subplots(1, len(models), squeeze=False)[0], models, strict=True)
        ):
            totals = model.confusion.sum(axis=1, keepdims=True)
            shares = np.divide(model.confusion, totals, out=np.zeros_like(model.confusion), where=totals > 0)
            axis.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="none", rasterized=False)
            for (row, column), share in np.ndenumerate(shares):
                ink = "white" if share > 0.55 else "#16202b"
                axis.text(column + 0.5, row + 0.5, f"{share:.0%}", ha="center", va="center", color=ink, fontsize=8.5)
            middles = np.arange(len(classes)) + 0.5
            axis.set_xticks(middles, classes, fontsize=7.5)
            axis.set_yticks(middles, classes if number == 0 else [], fontsize=7.5)
            axis.tick_params(length=0)
            axis.invert_yaxis()
            axis.set_aspect("equal")
            axis.grid(visible=False)
            axis.set_xlabel("forecast")
            if number == 0:
                axis.set_ylabel("what was")
            _title(axis, words(model.name))
        figure.subplots_adjust(left=0.09, right=0.99, wspace=0.08, bottom=0.2, top=0.9)
        return inlined("confusion", figure)


def transitions(evaluation: Evaluation) -> str:
    """Draw precision against recall of changes of regime over all thresholds, the chosen ones marked."""
    of = colours(evaluation)
    shown = [model for model in _shown(evaluation) if model.transitions.scores.alarms]

    def draw(axis: Axes) -> None:
        for number, model in enumerate(shown):
            told = model.transitions
            enough = told.curve.alarms >= _FEWEST_ALARMS
            axis.plot(told.curve.recall[enough], told.curve.precision[enough], color=of[model.name], linewidth=1.2)
            at = (told.recall.value, told.precision.value)
            for line, interval, fixed in ((axis.hlines, told.recall, at[1]), (axis.vlines, told.precision, at[0])):
                line(fixed, interval.low, interval.high, colors=of[model.name], linewidth=1.6)
            axis.plot(*at, _MARKERS[number % 8], color=of[model.name], markersize=6, label=words(model.name))
        scores = evaluation.judged.transitions.scores
        axis.axhline(scores.chance_precision, color=MUTED, linewidth=0.9, linestyle=(0, (3, 2)))
        axis.text(
            0.01, scores.chance_precision - 0.01, "the judged model's alarms at random times", color=MUTED, va="top"
        )
        axis.axvline(0.7, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        axis.text(0.7, 0.97, " goal", color=MUTED, va="top")
        axis.set_xlim(0, 1.01)
        axis.set_ylim(0, 1)
        axis.grid(visible=True, axis="x")
        axis.set_xlabel(
            "recall: share of changes called; marks are the thresholds chosen before the test, with 95 % intervals"
        )
        axis.set_ylabel("precision: share of alarms right")
        _legend(axis)

    return _one("transitions", 3.4, draw)


def equity(evaluation: Evaluation) -> str:
    """Draw summed returns net of costs of the judged model, its rivals and holding, then the judged one's drawdown."""
    of = colours(evaluation) | {HOLDING: MUTED}
    books = {model.name: model.trading for model in _shown(evaluation)} | {HOLDING: evaluation.holding}
    with _figure(4.0) as figure:
        worth, lost = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
        for name, book in books.items():
            if book is not None:
                line = _summed(book.at_ns, book.net)
                style = (0, (3, 2)) if name == HOLDING else "-"
                worth.plot(line.at_s, line.values, color=of[name], linewidth=1.2, linestyle=style, label=words(name))
        own = evaluation.judged.trading
        assert own is not None
        total = np.cumsum(own.net)
        falls = _line(own.at_ns, total - np.maximum(np.maximum.accumulate(total), 0.0))
        lost.fill_between(falls.at_s, falls.values, color=SELL, alpha=0.35, linewidth=0)
        worth.axhline(0, color=MUTED, linewidth=0.6)
        for axis, text in (
            (worth, "sum of net returns, share of the notional"),
            (lost, "drawdown of the judged model"),
        ):
            axis.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
            _title(axis, text)
        lost.yaxis.set_major_locator(MaxNLocator(3))
        _dated(lost)
        _legend(worth)
        figure.subplots_adjust(left=0.08, right=0.985, hspace=0.28, bottom=0.09, top=0.93)
        return inlined("equity", figure)


def shares(evaluation: Evaluation) -> str:
    """Draw how often each class was: in each asset's first train rows and over all test rows."""
    study = evaluation.study
    rows = {source.asset: np.array(source.train_shares) for source in study.sources}
    rows["all, test"] = np.array([each.share for each in evaluation.judged.by_class])

    def draw(axis: Axes) -> None:
        left = np.zeros(len(rows))
        for number, name in enumerate(study.classes):
            width = np.array([each[number] for each in rows.values()])
            colour = REGIME_COLOURS.get(name, EXPERT_COLOURS[number % len(EXPERT_COLOURS)])
            axis.barh(list(rows), width, left=left, color=colour, height=0.66, label=words(name), linewidth=0)
            for row, (start, wide) in enumerate(zip(left, width, strict=True)):
                if wide > 0.04:
                    axis.text(
                        start + wide / 2, row, f"{wide:.0%}", ha="center", va="center", color="#16202b", fontsize=8
                    )
            left += width
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.grid(visible=False)
        axis.tick_params(axis="y", labelcolor=INK)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        _legend(axis)

    return _one("shares", 0.5 + 0.26 * len(rows), draw)


# How it is drawn.


def _rivals(evaluation: Evaluation) -> list[str]:
    """Return the baselines to show: those to be beaten first, then others, few enough to tell apart."""
    names = [each.name for each in evaluation.models[1:]]
    first = [name for name in ("random_forest", "persistence", "hmm") if name in names]
    return [*first, *(name for name in names if name not in first)][: _MOST_LINES - 1]


def _shown(evaluation: Evaluation) -> list[ModelResult]:
    by_name = {each.name: each for each in evaluation.models}
    return [evaluation.judged, *(by_name[name] for name in _rivals(evaluation))]


def words(name: str) -> str:
    """Return a name as people write it."""
    return "HMM" if name == "hmm" else name.replace("_", " ")


def _days(at_ns: Integers) -> Floats:
    return np.asarray(at_ns, dtype=np.float64) / (86_400 * NANOSECONDS)


def _line(at_ns: Integers, values: Floats) -> Series:
    return thinned(Series(_days(at_ns), values))


def _summed(at_ns: Integers, net: Floats) -> Series:
    return _line(at_ns, np.cumsum(net))


def _dated(axis: Axes, most: int = 6) -> None:
    """Write days since the epoch as dates."""
    axis.xaxis.set_major_locator(MaxNLocator(most))
    axis.xaxis.set_major_formatter(
        FuncFormatter(lambda day, _: f"{datetime.fromtimestamp(day * 86_400, UTC):%d %b %Y}")
    )


@contextmanager
def _figure(height: float) -> Iterator[Figure]:
    with rc_context(STYLE):
        yield Figure(figsize=(_WIDTH, height))


def _one(name: str, height: float, draw: Callable[[Axes], None]) -> str:
    """Return a drawing of one panel, `height` inches with its margins, wide enough at the left for its longest name."""
    with _figure(height) as figure:
        axis = figure.add_axes((0, 0, 1, 1))
        draw(axis)
        left = 0.35 + _LETTER * max(len(label.get_text()) for label in axis.get_yticklabels())
        bottom, top = 0.48 / height, 0.3 / height
        axis.set_position((left / _WIDTH, bottom, 1 - (left + 0.28) / _WIDTH, 1 - bottom - top))
        return inlined(name, figure)


def _title(axis: Axes, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=9, color=INK, pad=5)


def _legend(axis: Axes, *, once: bool = False) -> None:
    """Name the colours above, at the right; `once` where a label was drawn many times."""
    handles, labels = axis.get_legend_handles_labels()
    if once:
        named = dict(zip(labels, handles, strict=True))
        labels, handles = list(named), list(named.values())
    axis.legend(
        handles,
        labels,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=max(len(labels), 1),
        borderaxespad=0.1,
        columnspacing=1.0,
    )

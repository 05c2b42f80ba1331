"""The report of an evaluation: `report.json` for programs and `report.html`, one page that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from huracan.clock import NANOSECONDS
from huracan.inference.probabilities import SMALLEST_PROBABILITY
from huracan_cli.page import card, page, section
from huracan_training import pictures
from huracan_training.bootstrap import Interval
from huracan_training.evaluation import Evaluation, ModelResult
from huracan_training.monte_carlo import LATENCIES, STRESSES, MonteCarlo
from huracan_training.pictures import words
from huracan_training.scores import Scores
from huracan_training.trading import HOLDING, Trading

FORMAT = 1
"""Of `report.json`; raised when a name is taken away or changes its meaning."""

_MINUTE_NS = 60 * NANOSECONDS
_SCORES = {
    "log_loss": "log loss, nats",
    "brier": "Brier",
    "macro_f1": "macro-F1",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "ece": "ECE",
}

Cell = tuple[str, str] | str
"""Text of a cell, with a mood (`good`, `bad`) where it has one."""


def write_report(evaluation: Evaluation, directory: Path) -> Path:
    """Write `report.json` and `report.html` into a directory, made where it is missing; return the page's path."""
    directory.mkdir(parents=True, exist_ok=True)
    told = json.dumps(summary(evaluation), indent=1, allow_nan=False)
    (directory / "report.json").write_text(told + "\n", encoding="utf-8")
    path = directory / "report.html"
    path.write_text(html_page(evaluation), encoding="utf-8")
    return path


# For programs.


def summary(evaluation: Evaluation) -> dict[str, object]:
    """Return what `report.json` says; what is not a number is null.

    `scores` are of the judged model, `baselines` of the others by name, on the same rows. `intervals` are of `scores`,
    95 %. `details` has everything else by model, series over time left out.
    """
    study, own = evaluation.study, evaluation.judged
    return {
        "format": FORMAT,
        "model": study.model,
        "data_digest": study.data_digest,
        "promoted": evaluation.verdict.promoted,
        "verdict": plain(evaluation.verdict),
        "claims": plain(evaluation.claims),
        "scores": plain(own.scores),
        "intervals": plain(own.intervals)
        | {  # type: ignore[operator]
            "transition_recall": plain(own.transitions.recall),
            "transition_precision": plain(own.transitions.precision),
        },
        "baselines": {each.name: plain(each.scores) for each in evaluation.models[1:]},
        "comparisons": plain(evaluation.comparisons),
        "assets_beaten": plain(evaluation.assets_beaten),
        "transitions": {each.name: plain(each.transitions.scores) for each in evaluation.models},
        "errors": plain(evaluation.errors),
        "trading": {name: _trading_told(book) for name, book in _books(evaluation).items()},
        "study": plain(study),
        "details": {each.name: _details(each) for each in evaluation.models},
    }


def plain(value: object) -> object:
    """Return a value as JSON has it: dataclasses as objects, arrays as lists, NaN and infinity as null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _details(model: ModelResult) -> dict[str, object]:
    told = {each.name: getattr(model, each.name) for each in fields(model)}
    return {name: plain(value) for name, value in told.items() if name not in ("trading", "transitions", "scores")}


def _trading_told(book: Trading) -> dict[str, object]:
    told = {each.name: getattr(book, each.name) for each in fields(book)}
    return {name: plain(value) for name, value in told.items() if name not in ("at_ns", "net")}


def _books(evaluation: Evaluation) -> dict[str, Trading]:
    books = {each.name: each.trading for each in evaluation.models} | {HOLDING: evaluation.holding}
    return {name: book for name, book in books.items() if book is not None}


# For people.


def html_page(evaluation: Evaluation) -> str:
    """Return the whole page."""
    sections = [
        _header(evaluation),
        _cards(evaluation),
        _claims(evaluation),
        _beaten(evaluation),
        _scores(evaluation),
        _folds(evaluation),
        _calibration(evaluation),
        _classes(evaluation),
        _transitions(evaluation),
        _earned(evaluation),
        _monte_carlo(evaluation),
        _errors(evaluation),
        _data(evaluation),
        _method(evaluation),
    ]
    return page(f"{evaluation.study.model}, evaluation", "".join(sections))


def _header(evaluation: Evaluation) -> str:
    study, own = evaluation.study, evaluation.judged
    first, last = min(each.test_from_ns for each in study.folds), max(each.test_to_ns for each in study.folds)
    badges = [
        f"{len(own.by_asset)} assets",
        f"rows of {_length(study.interval_ns)}",
        f"labels {study.horizon_bars} rows ahead",
        f"{_plural(len(study.folds), 'fold')} × {_plural(len(own.seeds), 'seed')}",
        f"tested {_day(first)} to {_day(last)}",
        f"data {study.data_digest[:12]}",
    ]
    verdict = evaluation.verdict
    told = "May be promoted" if verdict.promoted else "In quarantine: cannot be promoted"
    notes = "".join(f"<p class='simulated'>{html.escape(note)}</p>" for note in study.notes)
    return (
        "<header><div class='brand'>Huracan · evaluation</div>"
        f"<h1>{html.escape(study.model.replace('_', ' '))}</h1>"
        f"<div>{''.join(f'<span class=badge>{html.escape(badge)}</span>' for badge in badges)}</div>"
        f"<p><b class='{'good' if verdict.promoted else 'bad'}'>{told}.</b> "
        f"{html.escape('. '.join(verdict.reasons))}.</p>{notes}</header>"
    )


def _length(interval_ns: int) -> str:
    if interval_ns < _MINUTE_NS:
        return f"{interval_ns / NANOSECONDS:g} s"
    return f"{interval_ns / _MINUTE_NS:g} min"


def _cards(evaluation: Evaluation) -> str:
    own = evaluation.judged
    called = own.transitions
    rows = f"{own.scores.rows:,} rows"
    cards = [
        card("log loss", f"{own.scores.log_loss:.4f}", f"nats, {_range(own.intervals['log_loss'])}"),
        card("macro-F1", f"{own.scores.macro_f1:.3f}", _range(own.intervals["macro_f1"], 3)),
        card("calibration error", f"{own.scores.ece:.3f}", f"ECE, {_range(own.intervals['ece'], 3)}, {rows}"),
        card(
            "transition recall",
            f"{called.recall.value:.3f}",
            f"{_range(called.recall, 3)}, at precision {called.precision.value:.3f}",
        ),
    ]
    if own.trading is not None:
        ratio = own.trading.sharpe
        mood = "good" if ratio.above_zero else "bad" if ratio.value < 0 else ""
        cards.append(card("Sharpe, net", f"{ratio.value:+.2f}", f"a year, {_range(ratio, 2)}", mood))
        told = own.trading.scores
        cards.append(card("deflated Sharpe", _number(told.dsr, 3), f"probability, {evaluation.study.trials:,} trials"))
    return f"<div class='cards'>{''.join(cards)}</div>"


def _claims(evaluation: Evaluation) -> str:
    rows: list[list[Cell]] = [
        [each.text, each.reached, ("held", "good") if each.held else ("not held", "bad")] for each in evaluation.claims
    ]
    return section("What was aimed at", "", table(["claim", "reached", ""], rows, words_in=(0, 1)))


def _beaten(evaluation: Evaluation) -> str:
    if not evaluation.comparisons:
        return section("Against the baselines", "Nothing to compare with.")
    pooled = [each for each in evaluation.comparisons if not each.asset]
    rows: list[list[Cell]] = [
        [
            words(each.baseline),
            f"{each.gain.value:+.4f}",
            (_range(each.gain), "good" if each.gain.above_zero else "bad"),
            f"{each.skill:+.1%}",
            _number(each.dm, 2),
            _chance(each.p),
            f"{each.rows:,}",
            f"{each.times:,}",
            f"{each.block:.0f}",
        ]
        for each in pooled
    ]
    head = ["over", "gain, nats", "95 % interval", "skill", "DM", "p of DM", "rows", "times", "block, bars"]
    text = (
        "Log loss of the baseline less that of the model on the same rows. Whole times are resampled in blocks, so "
        "that "
        "what assets share and what overlapping labels repeat is not counted as evidence twice."
    )
    return section("Against the baselines", text, pictures.gains(evaluation) + table(head, rows))


def _scores(evaluation: Evaluation) -> str:
    rows = []
    for model in evaluation.models:
        told: list[Cell] = [words(model.name)]
        told += [_with_range(model.intervals[name], 4) for name in _SCORES]
        rows.append([*told, f"{model.scores.rows:,}", f"{len(model.seeds)}"])
    head = ["model", *_SCORES.values(), "rows", "seeds"]
    text = (
        "Over all assets, test folds and seeds, with 95 % block-bootstrap intervals. Rows of several seeds are the "
        "same "
        "bars, said again. A probability of the outcome counts as at least "
        f"{SMALLEST_PROBABILITY:g}."
    )
    assets = _by_group(evaluation, "by_asset", "asset")
    return section("Scores", text, pictures.losses(evaluation) + table(head, rows)) + section(
        "By asset",
        "Log loss (nats) of each model, the lowest in green; macro-F1, ECE and Sharpe ratio (a year, net of costs) of "
        "the judged one. Rows are over all its seeds.",
        assets,
    )


def _by_group(evaluation: Evaluation, part: str, what: str) -> str:
    own: Mapping[str, Scores] = getattr(evaluation.judged, part)
    names = [each.name for each in evaluation.models]
    traded: Mapping[str, float] = getattr(evaluation.judged.trading, part, {})
    rows: list[list[Cell]] = []
    for group, scores in own.items():
        values = [getattr(each, part).get(group) for each in evaluation.models]
        losses = [each.log_loss if each is not None else np.nan for each in values]
        best = np.nanmin(losses) if np.isfinite(losses).any() else np.nan
        rows.append(
            [
                words(group),
                f"{scores.rows:,}",
                *((_number(each, 4), "good" if each == best else "") for each in losses),
                _number(scores.macro_f1, 3),
                _number(scores.ece, 3),
                *([_number(traded.get(group, np.nan), 2)] if traded else []),
            ]
        )
    return table(
        [what, "rows", *(words(name) for name in names), "macro-F1", "ECE", *(["Sharpe, net"] if traded else [])], rows
    )


def _folds(evaluation: Evaluation) -> str:
    seeds = evaluation.judged.by_seed
    values = ", ".join(f"seed {seed} {each.log_loss:.4f}" for seed, each in seeds.items())
    text = (
        "Walk-forward: every fold is tested after what it was trained on. "
        f"Log loss of the judged model by seed: {values}."
    )
    return section("Folds and seeds", text, pictures.folds(evaluation))


def _calibration(evaluation: Evaluation) -> str:
    text = (
        "What was said against how often it happened, in 15 bins of equal mass; a calibrated model lies on the dashed "
        f"line. {evaluation.judged.scores.rows:,} rows; bars are 95 % binomial intervals, too narrow where labels "
        "overlap."
    )
    return section("Calibration", text, pictures.calibration(evaluation))


def _classes(evaluation: Evaluation) -> str:
    own, names = evaluation.judged, evaluation.study.classes
    rows = [
        [
            words(name),
            f"{each.rows:,}",
            f"{each.share:.1%}",
            *(_number(value, 3) for value in (each.recall, each.precision, each.f1, each.log_loss, each.ece)),
        ]
        for name, each in zip(names, own.by_class, strict=True)
    ]
    head = ["class", "rows", "share", "recall", "precision", "F1", "log loss, nats", "ECE"]
    return (
        section("Classes", "Shares of what was forecast, of each class that was.", pictures.confusion(evaluation))
        + section("By class", "Rows in which the class then was; over all seeds.", table(head, rows))
        + section(
            "By regime",
            "Rows by the newest regime that was known when the model was asked: log loss (nats) of each model, the "
            "lowest in green; macro-F1 and ECE of the judged one.",
            _by_group(evaluation, "by_known_regime", "known regime"),
        )
    )


def _transitions(evaluation: Evaluation) -> str:
    study = evaluation.study
    minutes = study.window_bars * study.interval_ns / _MINUTE_NS
    rows = []
    for model in evaluation.models:
        told, scores = model.transitions, model.transitions.scores
        lead = scores.lead_bars * study.interval_ns / _MINUTE_NS
        rows.append(
            [
                words(model.name),
                f"{scores.events / len(model.seeds):,.0f}",
                f"{scores.alarms / len(model.seeds):,.0f}",
                _with_range(told.recall, 3),
                _number(scores.chance_recall, 3),
                _with_range(told.precision, 3),
                _number(scores.chance_precision, 3),
                _chance(scores.p_precision if scores.alarms else np.nan),
                _number(scores.false_alarms_per_day, 2),
                _number(lead, 0),
            ]
        )
    head = [
        "model", "changes", "alarms", "recall", "by chance", "precision", "by chance", "p", "false alarms a day",
        "median lead, min",
    ]  # fmt: skip
    text = (
        f"A change is a bar whose regime differs from the bar before. It is called when an alarm was raised in the "
        f"{study.window_bars} bars ({minutes:g} min) before it or on it; the median regime lasts "
        f"{study.median_regime_bars:g} bars. After an alarm none is raised for {study.window_bars} bars. Chance "
        "turns the "
        f"same alarms round the fold {study.replicates:,} times, all assets and seeds together; p is of the precision. "
        "Thresholds were chosen before the test. False alarms are of one asset; counts are of one seed."
    )
    return section("Changes of regime", text, pictures.transitions(evaluation) + table(head, rows))


def _earned(evaluation: Evaluation) -> str:
    own, study = evaluation.judged.trading, evaluation.study
    if own is None:
        return section("Returns", "The classes say nothing that a position can be taken from.")
    rows = []
    for name, book in _books(evaluation).items():
        told = book.scores
        rows.append(
            [
                words(name),
                f"{told.total:+.1%}",
                f"{book.gross_total:+.1%}",
                _with_range(book.sharpe, 2),
                _number(told.sortino, 2),
                _number(told.hit_ratio, 3),
                _number(told.profit_factor, 2),
                f"{told.max_drawdown:.1%}",
                _number(told.turnover_per_day, 1),
                _number(told.psr, 3),
                _number(told.dsr, 3),
                _track(told.minimum_track_bars, study.interval_ns),
            ]
        )
    head = [
        "model", "net", "gross", "Sharpe, a year", "Sortino", "hit", "profit factor", "drawdown", "turnover a day",
        "PSR", "DSR", "track needed",
    ]  # fmt: skip
    costs = study.costs
    text = (
        f"Position: {own.rule}; an equal share in each asset and seed, taken at the close and held over the next "
        "bar. Net "
        f"of {costs.fee_bps:g} bp fee and {costs.slippage_bps:g} bp slippage on what is traded and "
        f"{costs.funding_bps_per_day:g} bp funding a day on what is held. {own.scores.bars:,} bars; a year has 365 "
        "days. "
        f"Sums of returns, not compounded. DSR counts {study.trials:,} trials: without skill the best of them would "
        "show "
        f"a Sharpe ratio of {own.scores.expected_maximum_sharpe:.2f} a year."
    )
    return section("Returns net of costs", text, pictures.equity(evaluation) + table(head, rows))


def _monte_carlo(evaluation: Evaluation) -> str:
    own = evaluation.judged.trading
    if own is None or own.monte_carlo is None:
        return ""
    found: MonteCarlo = own.monte_carlo
    days, order, timing = found.resampled, found.shuffled, found.turned
    rows: list[list[Cell]] = [
        [
            "days resampled in blocks",
            f"{days.replicates:,} × mean block {days.block:.0f} bars",
            f"Sharpe {days.sharpe_5th:+.2f} / {days.sharpe_median:+.2f} / {days.sharpe_95th:+.2f} (5, 50, 95 %)",
            f"P(Sharpe < 0) {days.p_negative:.3f}; 95 % drawdown {days.drawdown_95th:.1%}",
        ],
        [
            "trades shuffled",
            f"{order.replicates:,} × {order.trades:,} trades",
            f"drawdown {order.drawdown:.1%}, 95 % of orders at most {order.drawdown_95th:.1%}",
            f"{order.share_deeper:.0%} of orders are deeper",
        ],
        [
            "positions at random times",
            f"{timing.replicates:,}",
            f"Sharpe {timing.sharpe:+.2f} against {timing.null_median:+.2f} (median), {timing.null_95th:+.2f} (95 %)",
            f"p {_chance(timing.p)}",
        ],
        [
            "overfitting of the choice",
            f"{own.tried} models and seeds",
            f"PBO {_number(found.pbo, 2)}",
            "below 0.2 passes",
        ],
    ]
    stress = {(each.costs, each.latency_bars): each.sharpe for each in found.stresses}
    stresses: list[list[Cell]] = [
        [_late(late), *(_number(stress[factor, late], 2) for factor in STRESSES)] for late in LATENCIES
    ]
    verdict = "passed" if found.passed else "not passed"
    return section(
        f"Monte Carlo: {verdict}",
        "Passed when the 5th percentile of the resampled Sharpe ratio is above 0 and PBO below 0.2. Sharpe ratios "
        "are a "
        "year, net of costs.",
        table(["test", "replicates", "found", ""], rows, words_in=(0, 1, 2, 3))
        + "<h3 style='margin-top:1rem'>Sharpe ratio under dearer and later trading</h3>"
        + table(["", *(f"costs × {factor:g}" for factor in STRESSES)], stresses),
    )


def _errors(evaluation: Evaluation) -> str:
    if not evaluation.errors:
        return ""
    rows: list[list[Cell]] = [
        [
            name,
            words(model),
            f"{each.rows:,}",
            *(_number(part, 4) for part in (each.rmse, each.mae, each.r2, each.skill_over_zero)),
        ]
        for name, by_model in evaluation.errors.items()
        for model, each in by_model.items()
    ]
    text = (
        "What the classes imply: the mean of each over the train rows of the asset and fold, weighted by its "
        "probability. RMSE and MAE in the unit of the number. R² is around the train mean; skill is over forecasting "
        "zero, of MSE."
    )
    head = ["number", "model", "rows", "RMSE", "MAE", "R², out of sample", "skill over zero"]
    return section("Numbers implied", text, table(head, rows, words_in=(0, 1)))


def _data(evaluation: Evaluation) -> str:
    rows = [
        [each.asset, f"{each.bars:,}", f"{each.missing_bars:,}", _day(each.from_ns), _day(each.to_ns), each.digest[:16]]
        for each in evaluation.study.sources
    ]
    return section(
        "Data",
        "Share of each class in the train rows of the first fold, by asset, and over all test rows.",
        pictures.shares(evaluation) + table(["asset", "bars", "missing", "from", "to", "digest"], rows),
    )


def _method(evaluation: Evaluation) -> str:
    study = evaluation.study
    rows: list[list[Cell]] = [
        ["machine", study.machine or "not told"],
        ["training and prediction", f"{study.wall_s / 60:.1f} min"],
        ["trials counted", f"{study.trials:,}"],
        ["variance of the trials' Sharpe ratios", _variance(evaluation)],
        ["resampling", f"{study.replicates:,} replicates, seed {study.seed}, percentile intervals"],
        ["data digest", study.data_digest],
    ]
    return section(
        "How it was measured",
        "Stationary block bootstrap (Politis and Romano 1994), mean block the larger of n^(1/3) and four label "
        "horizons, "
        "of a day at least for changes of regime; Diebold-Mariano with Newey-West errors; ECE in 15 bins of equal "
        "mass; PSR and DSR after Bailey and López de "
        "Prado 2012, 2014; PBO by CSCV (Bailey et al. 2017), 16 blocks.",
        table(["", ""], rows),
    )


def _variance(evaluation: Evaluation) -> str:
    known = len(evaluation.study.trial_sharpes)
    return (
        f"of {known:,} trials"
        if known > 1
        else "of the models and seeds compared here, as the trials' own are not known"
    )


# Words and numbers.


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], *, words_in: Collection[int] = ()) -> str:
    """Return a table of plain texts; a cell may have a mood, and a second line. `words_in` are columns of prose."""
    columns = ["words" if column in words_in else "" for column in range(len(head))]
    top = "".join(f"<th class='{kind}'>{html.escape(each)}</th>" for each, kind in zip(head, columns, strict=True))
    body = "".join(
        f"<tr>{''.join(_cell(each, kind) for each, kind in zip(row, columns, strict=True))}</tr>" for row in rows
    )
    return f"<div class='plot'><table class='figures'><tr>{top}</tr>{body}</table></div>"


def _cell(cell: Cell, kind: str) -> str:
    text, mood = (cell, "") if isinstance(cell, str) else cell
    first, _, second = text.partition("\n")
    below = f"<small>{html.escape(second)}</small>" if second else ""
    return f"<td class='{kind} {mood}'>{html.escape(first)}{below}</td>"


def _with_range(told: Interval, digits: int) -> str:
    """Return a value with its interval on a second line."""
    return "–" if np.isnan(told.value) else f"{_number(told.value, digits)}\n{_range(told, digits)}"


def _range(told: Interval, digits: int = 4) -> str:
    return f"[{_number(told.low, digits)}, {_number(told.high, digits)}]"


def _number(value: float, digits: int) -> str:
    if np.isnan(value):
        return "–"
    return f"{value:,.{digits}f}" if np.isfinite(value) else "∞"


def _chance(p: float) -> str:
    return "–" if np.isnan(p) else f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def _track(bars: float, interval_ns: int) -> str:
    return f"{bars * interval_ns / (86_400 * NANOSECONDS):,.0f} days" if np.isfinite(bars) else "–"


def _day(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns / NANOSECONDS, UTC):%Y-%m-%d}"


def _late(bars: int) -> str:
    return f"{_plural(bars, 'bar')} late" if bars else "in time"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"

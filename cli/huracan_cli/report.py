"""The report of a run: one HTML page that needs nothing else, to look at on a desk or a phone."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from huracan.bus import subjects
from huracan.clock import MILLISECOND_NS, NANOSECONDS, STEP_NS
from huracan.contracts.context import REGIME, Context
from huracan.contracts.decision import Decision, Direction
from huracan.contracts.execution import AccountState, Fill, Side
from huracan.contracts.journal import WindowOpened
from huracan.contracts.market import SIMULATED_VENUE, Anomaly, InstrumentDefinition, instrument_key
from huracan.contracts.opinion import Opinion, reason_name
from huracan.contracts.ops import FeedChanged, FeedState
from huracan.errors import BadInput
from huracan.store.parquet import read_journal, read_table
from huracan_cli.page import card, page, section
from huracan_cli.results import LATENCIES
from huracan_cli.summary import Summary

if TYPE_CHECKING:
    from huracan_cli.charts import Fills, Numbers, Series, Span, Stack

_DAY_NS = 86_400 * NANOSECONDS
_ANSWERED = "answered"
_LAYOUTS = {
    "": "virtual time",
    "sim": "virtual time",
    "single": "one process",
    "hosted": "experts in one process",
    "seven": "seven processes",
}
_VIRTUAL = ("", "sim")
_TROUBLE = (
    FeedState.FEED_STATE_RECONNECTING,
    FeedState.FEED_STATE_SILENT,
    FeedState.FEED_STATE_RATE_LIMITED,
    FeedState.FEED_STATE_REFUSED,
)
_SIDES = {Direction.DIRECTION_BUY: 1.0, Direction.DIRECTION_SELL: -1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What a run left behind about one instrument."""

    definition: InstrumentDefinition
    windows: Sequence[WindowOpened]
    decisions: Sequence[Decision]
    opinions: Sequence[Opinion]
    fills: Sequence[Fill]
    regimes: Sequence[Context]
    anomalies: Sequence[Anomaly]
    feed: Sequence[FeedChanged]

    @property
    def key(self) -> str:
        """Return the key of the instrument."""
        return instrument_key(self.definition.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Whole:
    """What a run left behind."""

    runs: Sequence[_Run]
    """Of each instrument with a step, at least one."""
    accounts: Sequence[AccountState]

    @property
    def first_ns(self) -> int:
        """Return when the first step closed."""
        return min(run.windows[0].close_ns for run in self.runs)

    @property
    def last_ns(self) -> int:
        """Return when the last step closed."""
        return max(run.windows[-1].close_ns for run in self.runs)

    @property
    def midnight_ns(self) -> int:
        """Return what times are counted from: the same in every chart."""
        return self.first_ns // _DAY_NS * _DAY_NS

    @property
    def span(self) -> Span:
        """Return the seconds from the first step to the last, at least one."""
        first, last = ((at_ns - self.midnight_ns) / NANOSECONDS for at_ns in (self.first_ns, self.last_ns))
        return first, max(last, first + 1.0)


def write_report(summary: Summary, run: Path) -> Path:
    """Write `report.html` from the files of a run and return its path; raise BadInput when one cannot be read."""
    told = summary.model_dump()
    runs = [read for key in summary.instruments if (read := _read(run, key)) is not None]
    accounts = sorted(read_table(run, AccountState), key=lambda row: row.as_of_ns)
    whole = _Whole(runs=runs, accounts=accounts) if runs else None
    sections = _pictures(whole, told, run) if whole else [section("Nothing happened", "No step was closed.")]
    body = "".join([_header(told, whole), _cards(told, whole), *sections, _happened(told), _counts(told)])
    path = run / "report.html"
    path.write_text(page(f"{summary.instrument}, {summary.source}", body), encoding="utf-8")
    return path


def _read(run: Path, instrument: str) -> _Run | None:
    """Return what the files say of an instrument, None when it has no step."""
    decisions = [row for row in read_table(run, Decision) if instrument_key(row.instrument) == instrument]
    windows = [
        entry.window_opened
        for shard in sorted({decision.shard for decision in decisions})
        for entry in read_journal(run, subjects.journal_key(shard))
        if entry.HasField("window_opened") and instrument_key(entry.window_opened.instrument.id) == instrument
    ]
    if not windows:
        return None
    windows.sort(key=lambda window: window.close_ns)
    return _Run(
        definition=windows[-1].instrument,
        windows=windows,
        decisions=sorted(decisions, key=lambda row: row.close_ns),
        opinions=sorted(
            (row for row in read_table(run, Opinion) if instrument_key(row.instrument) == instrument),
            key=lambda row: row.close_ns,
        ),
        fills=sorted(
            (row for row in read_table(run, Fill) if instrument_key(row.instrument) == instrument),
            key=lambda row: row.matched_ns,
        ),
        regimes=sorted(
            (row for row in read_table(run, Context) if row.ref.kind == REGIME and row.ref.key == instrument),
            key=lambda row: (row.effective_from_ns, row.ref.version),
        ),
        anomalies=[row for row in read_table(run, Anomaly) if instrument_key(row.instrument) == instrument],
        feed=[row for row in read_table(run, FeedChanged) if instrument_key(row.instrument) == instrument],
    )


# Pictures.


def _pictures(whole: _Whole, told: Mapping[str, Any], directory: Path) -> list[str]:
    from huracan_cli import charts  # slow to import: only for a report

    midnight_ns, alone = whole.midnight_ns, len(whole.runs) == 1
    positions = {
        "position" if alone else f"position in {run.key}": (_target(run, midnight_ns), _held(run, midnight_ns))
        for run in whole.runs
    }
    newest = whole.runs[0].definition
    return [
        *(_market(run, whole, number, alone=alone) for number, run in enumerate(whole.runs)),
        *(_thought(run, whole, number, alone=alone) for number, run in enumerate(whole.runs)),
        section(
            "Position and money",
            "Orders move the position towards the target of the newest decision; on HOLD there is no target.",
            charts.money(positions, *_equity(whole), (newest.base, newest.settle), whole.span),
        ),
        _latency(directory / LATENCIES, virtual=told.get("layout", "") in _VIRTUAL),
    ]


def _market(run: _Run, whole: _Whole, number: int, *, alone: bool) -> str:
    from huracan_cli import charts

    midnight_ns = whole.midnight_ns
    bought, sold = _fills(run, Side.SIDE_BUY, midnight_ns), _fills(run, Side.SIDE_SELL, midnight_ns)
    notices = {
        "anomalies": charts.seconds([row.at_ns for row in run.anomalies], midnight_ns),
        "feed trouble": charts.seconds([row.at_ns for row in run.feed if row.state in _TROUBLE], midnight_ns),
    }
    return section(
        _title("Market", run, alone=alone),
        f"{len(run.fills):,} fills in {len(run.windows):,} steps of {STEP_NS // MILLISECOND_NS} ms. Fills that "
        "would lie on each other are one triangle, the larger the more was traded; bought stands below the line, "
        "sold above it. Times are UTC.",
        charts.market(
            _mid(run, midnight_ns),
            bought,
            sold,
            _directions(run, midnight_ns),
            _regimes(run, midnight_ns),
            whole.span,
            notices=notices,
            name=f"market {number}",
        ),
    )


def _thought(run: _Run, whole: _Whole, number: int, *, alone: bool) -> str:
    """Return what the experts said and what was made of it: folded up where there are several instruments."""
    from huracan_cli import charts

    midnight_ns = whole.midnight_ns
    experts = tuple(dict.fromkeys(vote.expert for row in run.decisions for vote in row.votes))
    answers = _answers(run, experts)
    sections = [
        section(
            "What the experts thought",
            "Probability of up minus probability of down: mean and range. Gaps are abstentions.",
            charts.opinions(
                {name: _tilt(run, name, midnight_ns) for name in experts},
                {name: _note(answers[name]) for name in experts},
                whole.span,
                name=f"opinions {number}",
            ),
        ),
        section(
            "Who answered, and why not",
            "An abstention is an answer, with its reason. A decision abstains when all experts do, or when they clash.",
            charts.answers(answers, _ANSWERED, name=f"answers {number}"),
        ),
        section(
            "How opinions became decisions",
            "The forecasts of the experts that answered, pooled by weight.",
            charts.gate(*_gate(run, experts, midnight_ns), whole.span, name=f"gate {number}"),
        ),
    ]
    if alone:
        return "".join(sections)
    title = html.escape(_title("Opinions and decisions", run, alone=alone))
    return f"<details{'' if number else ' open'}><summary>{title}</summary>{''.join(sections)}</details>"


def _title(text: str, run: _Run, *, alone: bool) -> str:
    if alone:
        return text
    simulated = " (SIMULATED)" if run.definition.id.venue == SIMULATED_VENUE else ""
    return f"{text}: {run.key}{simulated}"


def _series(at_ns: Sequence[int], values: Iterable[float], midnight_ns: int) -> Series:
    from huracan_cli import charts

    return charts.Series(charts.seconds(at_ns, midnight_ns), np.array(list(values), dtype=np.float64))


def _steps(at_ns: Sequence[int], values: Iterable[float], midnight_ns: int) -> Series:
    from huracan_cli import charts

    return charts.stepwise(_series(at_ns, values, midnight_ns))


def _stack(at_ns: Sequence[int], names: tuple[str, ...], rows: Sequence[Sequence[float]], midnight_ns: int) -> Stack:
    from huracan_cli import charts

    shares = np.array(rows, dtype=np.float64).reshape(len(at_ns), len(names))
    return charts.Stack(charts.seconds(at_ns, midnight_ns), names, shares)


def _mid(run: _Run, midnight_ns: int) -> Series:
    half = float(run.definition.price_increment) / 2
    return _steps(
        [row.close_ns for row in run.windows],
        ((row.best_bid + row.best_ask) * half if row.best_bid and row.best_ask else np.nan for row in run.windows),
        midnight_ns,
    )


def _lot(run: _Run) -> float:
    """Return base units in a size increment."""
    return float(Decimal(run.definition.size_increment) * Decimal(run.definition.multiplier))


def _fills(run: _Run, side: Side, midnight_ns: int) -> Fills:
    from huracan_cli import charts

    rows = [row for row in run.fills if row.side == side]
    return charts.Fills(
        charts.seconds([row.matched_ns for row in rows], midnight_ns),
        np.array([row.price for row in rows], dtype=np.float64) * float(run.definition.price_increment),
        np.array([row.quantity for row in rows], dtype=np.float64) * _lot(run),
    )


def _directions(run: _Run, midnight_ns: int) -> Series:
    sides = (_SIDES.get(row.direction, 0.0) for row in run.decisions)
    return _series([row.close_ns for row in run.decisions], sides, midnight_ns)


def _regimes(run: _Run, midnight_ns: int) -> Stack:
    """Return the regime in force as steps: from its time on, until the next or until it is no longer valid."""
    names = tuple(dict.fromkeys(share.regime for row in run.regimes for share in row.regime.shares))
    at_ns: list[int] = []
    rows: list[list[float]] = []
    ends_ns = [*(row.effective_from_ns for row in run.regimes[1:]), run.windows[-1].close_ns]
    for row, end_ns in zip(run.regimes, ends_ns, strict=False):
        shares = {share.regime: share.probability for share in row.regime.shares}
        at_ns += [row.effective_from_ns, max(row.effective_from_ns, min(end_ns, row.valid_until_ns))]
        rows += [[shares.get(name, 0.0) for name in names], [0.0] * len(names)]
    return _stack(at_ns, names, rows, midnight_ns)


def _tilt(run: _Run, expert: str, midnight_ns: int) -> Series:
    rows = [row for row in run.opinions if row.expert == expert]
    tilts = (np.nan if row.abstained else row.p_up - row.p_down for row in rows)
    return _steps([row.close_ns for row in rows], tilts, midnight_ns)


def _answers(run: _Run, experts: Sequence[str]) -> dict[str, Counter[str]]:
    """Return how often each expert answered a decision, and the decisions themselves, by why not."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in (*experts, "decision")}
    for decision in run.decisions:
        counts["decision"][reason_name(decision.reason) if decision.abstained else _ANSWERED] += 1
        for vote in decision.votes:
            if not vote.opinion_id:
                counts[vote.expert]["never answered"] += 1
            else:
                counts[vote.expert][reason_name(vote.reason) if vote.reason else _ANSWERED] += 1
    return counts


def _note(counts: Mapping[str, int]) -> str:
    why = ", ".join(
        f"{name.replace('_', ' ').lower()} {count:,}" for name, count in counts.items() if name != _ANSWERED
    )
    return f"abstained: {why}" if why else ""


def _gate(run: _Run, experts: tuple[str, ...], midnight_ns: int) -> tuple[Stack, Stack, Series]:
    from huracan_cli import charts

    at_ns = [row.close_ns for row in run.decisions]
    pooled = [(row.p_down, row.p_flat, row.p_up) for row in run.decisions]
    votes = [{vote.expert: vote.weight for vote in row.votes} for row in run.decisions]
    weights = [[row.get(name, 0.0) for name in experts] for row in votes]
    return (
        charts.stepwise_stack(_stack(at_ns, ("down", "flat", "up"), pooled, midnight_ns)),
        charts.stepwise_stack(_stack(at_ns, experts, weights, midnight_ns)),
        _steps(at_ns, (np.nan if row.abstained else row.disagreement for row in run.decisions), midnight_ns),
    )


def _target(run: _Run, midnight_ns: int) -> Series:
    return _steps(
        [row.close_ns for row in run.decisions],
        (row.size * _lot(run) if row.direction in _SIDES else np.nan for row in run.decisions),
        midnight_ns,
    )


def _held(run: _Run, midnight_ns: int) -> Series:
    sides = {Side.SIDE_BUY: 1, Side.SIDE_SELL: -1}
    steps = np.cumsum([0, *(sides.get(row.side, 0) * row.quantity for row in run.fills), 0]) * _lot(run)
    first_ns, last_ns = run.windows[0].close_ns, run.windows[-1].close_ns
    return _series([first_ns, *(row.matched_ns for row in run.fills), last_ns], steps, midnight_ns)


def _equity(whole: _Whole) -> tuple[Series, Series]:
    """Return equity from the start of the run, and what it would have been without fees."""
    midnight_ns = whole.midnight_ns
    if not whole.accounts:
        return _series([], [], midnight_ns), _series([], [], midnight_ns)
    start = float(whole.accounts[0].peak_equity)
    at_ns = [whole.first_ns, *(row.as_of_ns for row in whole.accounts)]
    equity = [start, *(float(row.equity) for row in whole.accounts)]
    fees = [0.0, *(float(row.fees) for row in whole.accounts)]
    return _series(at_ns, equity, midnight_ns), _series(at_ns, np.add(equity, fees), midnight_ns)


def _latency(path: Path, *, virtual: bool) -> str:
    title = "Latency"
    by_hop = _hops(path)
    if not by_hop:
        none = "Virtual time: no latency. The run was computed as fast as it could be."
        return section(title, none if virtual else "Nothing was measured in this run.")
    from huracan_cli import charts

    text = (
        "How long each hop took, on a log axis: p50 is the full line, p99 the dashed one. An expert's hop starts when "
        "the window was sent, the orchestrator's when the last opinion was, the executor's when the decision was."
    )
    return section(title, text, charts.latencies(by_hop))


def _hops(path: Path) -> dict[str, Numbers]:
    if not path.is_file():
        return {}
    try:
        table = pq.read_table(path, columns=["hop", "latency_us"])
    except (pa.ArrowException, OSError, KeyError) as error:
        first_line = str(error).partition("\n")[0]
        raise BadInput(f"{path} was not written by Huracan, or is damaged: {first_line}") from None
    hops = np.array(table["hop"].to_pylist(), dtype=object)
    latencies = table["latency_us"].to_numpy()
    return {str(hop): latencies[hops == hop] for hop in dict.fromkeys(hops)}


# Words and numbers.


def _header(told: Mapping[str, Any], whole: _Whole | None) -> str:
    layout = told.get("layout", "")
    badges = [f"source {told['source']}", _LAYOUTS.get(layout, layout)]
    if whole is not None:
        first, last = whole.first_ns, whole.last_ns
        began = datetime.fromtimestamp(first // NANOSECONDS, UTC)
        badges += [f"{began:%Y-%m-%d %H:%M:%S} UTC", f"{_length((last - first) / NANOSECONDS)} of market time"]
    simulated = (
        "<p class='simulated'><b>SIMULATED market.</b> Nothing here happened on any venue.</p>"
        if told["simulated"]
        else ""
    )
    return (
        "<header><div class='brand'>Huracan</div>"
        f"<h1>{html.escape(told['instrument'])}</h1>"
        f"<div>{''.join(f'<span class=badge>{html.escape(badge)}</span>' for badge in badges)}</div>"
        f"{simulated}<p>What was decided, why, and what came of it. The paper venue matched the orders.</p></header>"
    )


def _length(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute} min" if hours else f"{minute} min {second} s" if minute else f"{second} s"


def _cards(told: Mapping[str, Any], whole: _Whole | None) -> str:
    net, fees = Decimal(told["pnl"]), Decimal(told["fees"])
    directions = ", ".join(f"{count:,} {name}" for name, count in told["decisions"].items())
    cards = [
        ("decisions", f"{sum(told['decisions'].values()):,}", directions, ""),
        ("fills", f"{told['fills']:,}", f"of {sum(told['orders'].values()):,} orders", ""),
        (
            "position",
            f"{Decimal(told['position']):+f}",
            f"{whole.runs[0].definition.base if whole else 'base units'}, at the end",
            "",
        ),
        ("net PnL", f"{net:+,.2f}", f"{net + fees:+,.2f} before {fees:,.2f} fees", "good" if net >= 0 else "bad"),
        *_latency_card(told),
    ]
    if told.get("restarts"):
        total = sum(told["restarts"].values())
        cards.append(
            ("restarts", f"{total:,}", ", ".join(name for name, count in told["restarts"].items() if count), "")
        )
    if told.get("rows_persisted"):
        rows = told["rows_persisted"]
        cards.append(("rows persisted", f"{sum(rows.values()):,}", f"in {len(rows)} tables", ""))
    if told.get("ledger"):
        lost, doubled = (sum(path.get(name, 0) for path in told["ledger"].values()) for name in ("lost", "doubled"))
        mood = "bad" if lost or doubled else "good"
        cards.append(("ledger", f"{lost:,} lost", f"{doubled:,} doubled, over {len(told['ledger'])} paths", mood))
    digest = told["decisions_digest"]
    cards.append(("digest", digest[:8], "names every decision of the run", ""))
    return f"<div class='cards'>{''.join(card(*each) for each in cards)}</div>"


def _latency_card(told: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    measured = (told.get("latency_us") or {}).get("window_to_decision")
    if not measured:
        return []
    from huracan_cli.charts import duration

    return [("window to decision", duration(measured["p50"]), f"p50; p99 {duration(measured['p99'])}", "")]


def _happened(told: Mapping[str, Any]) -> str:
    """Return what went wrong and what was done about it, where the run tells."""
    known = [name for name in ("restarts", "faults") if name in told]
    if not known:
        return ""
    broken = [name for name in known if any(text not in ("0", "none") for _, text in _flat(told[name]))]
    if not broken and told.get("layout", "") in _VIRTUAL:
        return ""
    if not broken:
        return section("What happened", "Nothing broke: no service had to be started again.")
    tables = "".join(_table(name, told[name]) for name in broken)
    text = "What broke, and what was started again."
    return f"<section><h2>What happened</h2><p>{text}</p><div class='tables'>{tables}</div></section>"


def _counts(told: Mapping[str, Any]) -> str:
    told = dict(told)
    instruments = told.pop("instruments")
    if len(instruments) > 1:  # the counts of a single one are those of the run
        told.update(instruments)
    plain = {name: value for name, value in told.items() if not isinstance(value, Mapping)}
    nested = {name: value for name, value in told.items() if isinstance(value, Mapping)}
    tables = [_table("the run", plain), *(_table(name, value) for name, value in nested.items() if value)]
    return f"<section><h2>Counts</h2><div class='tables'>{''.join(tables)}</div></section>"


def _table(title: str, rows: Mapping[str, Any]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(text)}</td></tr>" for name, text in _flat(rows))
    return f"<div><h3>{html.escape(title.replace('_', ' '))}</h3><table>{cells}</table></div>"


def _flat(value: object, name: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested counts with the way to them."""
    if isinstance(value, Mapping):
        return [leaf for key, inner in value.items() for leaf in _flat(inner, f"{name} · {key}" if name else str(key))]
    label = name.replace("_", " ")
    if isinstance(value, list | tuple):
        return [(label, ", ".join(str(each) for each in value) or "none")]
    if value is None:
        return [(label, "none")]
    if isinstance(value, bool):
        return [(label, "yes" if value else "no")]
    if isinstance(value, float):
        return [(label, f"{round(value, 3):,}")]
    return [(label, f"{value:,}" if isinstance(value, int) else str(value) or "none")]

"""The report is one page that shows what a run did, whatever the run left behind."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from google.protobuf.message import Message
from pydantic import ConfigDict

from huracan.bus import subjects
from huracan.clock import NANOSECONDS
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill
from huracan.contracts.journal import JournalEntry
from huracan.errors import BadInput
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.store.memory import MemoryStore
from huracan.store.parquet import read_journal, read_table, write_journals, write_run
from huracan_cli import charts
from huracan_cli.charts import Fills, Numbers, Series, Stack
from huracan_cli.replay import Replay, replay
from huracan_cli.report import write_report
from huracan_cli.results import LATENCIES
from huracan_cli.summary import Summary

MARKET = SimulatedMarketConfig(seed=5, duration_s=12.0, regime_switch_s=4.0)
LIVE = {
    "layout": "seven",
    "latency_us": {"window_to_decision": {"p50": 812.0, "p99": 1933.0, "count": 3}},
    "restarts": {"gateway": 0, "flow": 2},
    "rows_persisted": {"decisions": 54, "fills": 6},
    "ledger": {"decisions": {"lost": 0, "doubled": 0}, "fills": {"lost": 0, "doubled": 0}},
}


class LiveSummary(Summary):
    """The summary of a run on the clock: it says more."""

    model_config = ConfigDict(extra="allow")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Summary, Path]:
    """Return what a replay of the simulated market left: written once, copied by each test."""
    recording, out = (
        tmp_path_factory.mktemp("market") / "market.jsonl.gz",
        tmp_path_factory.mktemp("run"),
    )
    write_recording(MARKET, recording)
    return replay(Replay(recording=recording, out=out)).summary, out


@pytest.fixture(scope="module")
def page(finished: tuple[Summary, Path]) -> str:
    """Return the page of that run."""
    return _page(*finished)


@pytest.fixture
def summary(finished: tuple[Summary, Path]) -> Summary:
    return finished[0]


@pytest.fixture
def run(finished: tuple[Summary, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[1], tmp_path / "run"))


def _live(summary: Summary, **changed: object) -> Summary:
    return LiveSummary.model_validate({**summary.model_dump(), **LIVE, **changed})


def _page(summary: Summary, run: Path) -> str:
    return write_report(summary, run).read_text(encoding="utf-8")


def _words(page: str) -> str:
    """Return what people read: no markup, one space between words."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def _pictures(page: str) -> list[str]:
    return re.findall(r"<svg .*?</svg>", page, re.DOTALL)


def _write_latencies(run: Path, hops: dict[str, list[float]]) -> None:
    rows = [{"hop": hop, "close_ns": 1, "latency_us": value} for hop, values in hops.items() for value in values]
    pq.write_table(pa.Table.from_pylist(rows), run / LATENCIES)


def _rewrite(run: Path, windows: int, *kinds: type[Message]) -> None:
    """Keep of a run its first windows, and of its tables only some."""
    (shard,) = {row.shard for row in read_table(run, Decision)}
    key = subjects.journal_key(shard)
    opened = [entry for entry in read_journal(run, key) if entry.HasField("window_opened")][:windows]
    last_ns = opened[-1].window_opened.close_ns if opened else 0
    kept = [row for kind in kinds for row in read_table(run, kind)]

    async def write() -> None:
        store = MemoryStore()
        await store.save([row for row in kept if not isinstance(row, Decision) or row.close_ns <= last_ns])
        await write_run(store, run)

    asyncio.run(write())
    write_journals({key: opened}, run)


# The page.


def test_the_page_shows_the_key_figures_and_every_chart(summary: Summary, page: str) -> None:
    words = _words(page)
    for part in (
        summary.instrument,
        "SIMULATED market",
        f"{summary.windows:,}",
        f"fills {summary.fills:,}",
        summary.decisions_digest[:8],
        "mid price and fills",
        "share of decisions",
        "regime probabilities",
        "pooled probabilities",
        "weights of the experts",
        "disagreement",
        "drawdown",
        "abstained: warming",
    ):
        assert part in words, part
    assert len(_pictures(page)) == 5
    assert "Virtual time: no latency" in words


def test_the_page_needs_nothing_else(page: str) -> None:
    assert not re.search(r"<(script|link|img|iframe)|@import|https?:", page)
    assert re.findall(r'(?:href="|url\()(?!#)', page) == []


def test_every_name_in_the_page_is_unique_and_every_reference_resolves(page: str) -> None:
    names = Counter(re.findall(r' id="([^"]+)"', page))
    assert [name for name, count in names.items() if count > 1] == []
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert referred
    assert referred <= names.keys()


def test_every_picture_is_well_formed_and_takes_its_colours_from_the_page(page: str) -> None:
    for picture in _pictures(page):
        ET.fromstring(picture.replace("xlink:href", "href"))
        assert "var(--ink)" in picture
    for stand_in in (charts.INK, charts.MUTED, charts.GRID):
        assert stand_in not in page


def test_the_tags_of_the_page_are_closed_in_order(page: str) -> None:
    class Tags(HTMLParser):
        open_tags: list[str] = []  # noqa: RUF012 - one parser is made

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag not in ("meta", "br"):
                self.open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open_tags.pop() == tag

        def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None: ...

    parser = Tags()
    parser.feed(page)
    assert parser.open_tags == []


def test_the_same_run_gives_the_same_page(summary: Summary, run: Path) -> None:
    assert _page(summary, run) == _page(summary, run)


def test_a_run_on_the_clock_shows_its_latencies_restarts_and_rows(summary: Summary, run: Path) -> None:
    _write_latencies(run, {"gateway": [200.0, 300.0, 400.0], "window_to_decision": [800.0, 812.0, 0.0]})
    words = _words(_page(_live(summary), run))
    for part in (
        "seven processes",
        "window to decision 812 µs p50; p99 1.93 ms",
        "restarts 2 flow",
        "rows persisted 60 in 2 tables",
        "p50 300 µs, p99 398 µs, 3 samples",
        "What broke, and what was started again.",
        "ledger 0 lost 0 doubled, over 2 paths",
        "decisions · lost 0",
    ):
        assert part in words, part
    assert "Virtual time" not in words


def test_a_run_in_which_nothing_broke_says_so(summary: Summary, run: Path) -> None:
    words = _words(_page(_live(summary, restarts={"flow": 0}), run))
    assert "Nothing broke: no service had to be started again." in words


def test_a_run_on_the_clock_that_measured_nothing_claims_no_virtual_time(summary: Summary, run: Path) -> None:
    words = _words(_page(_live(summary), run))
    assert "Nothing was measured in this run." in words
    assert "irtual time" not in words


def test_a_recording_is_not_labelled_simulated(summary: Summary, run: Path) -> None:
    assert "SIMULATED" not in _page(summary.model_copy(update={"simulated": False}), run)


def test_names_from_outside_are_text_and_never_markup(summary: Summary, run: Path) -> None:
    page = _page(summary.model_copy(update={"source": "<script>alert(1)</script>$x^$.jsonl"}), run)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_counts_within_counts_are_rows_and_not_raw_json(page: str) -> None:
    assert "{" not in _words(page)
    assert "sentiment · WARMING" in _words(page)


@pytest.mark.parametrize("windows", [0, 1, 5])
def test_a_run_that_hardly_began_still_has_a_page(summary: Summary, run: Path, windows: int) -> None:
    _rewrite(run, windows, Decision)
    page = _page(summary, run)
    assert len(_pictures(page)) == (5 if windows else 0)
    assert summary.instrument in page


def test_a_run_without_decisions_has_a_page(summary: Summary, run: Path) -> None:
    _rewrite(run, 5)
    assert "No step was closed." in _page(summary, run)


def test_what_another_instrument_did_is_left_out(summary: Summary, run: Path) -> None:
    (counts,) = summary.instruments.values()
    other = summary.model_copy(update={"instruments": {"sim.other-usdt-perp": counts}})
    assert "No step was closed." in _page(other, run)


@pytest.mark.parametrize("content", [b"no parquet", None])
def test_latencies_that_cannot_be_read_are_named(summary: Summary, run: Path, content: bytes | None) -> None:
    if content is None:
        pq.write_table(pa.Table.from_pylist([{"hop": "gateway"}]), run / LATENCIES)
    else:
        (run / LATENCIES).write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(LATENCIES)):
        write_report(summary, run)


def test_a_directory_that_is_no_run_is_refused(summary: Summary, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is .* the --out directory of a run"):
        write_report(summary, tmp_path)


def test_a_command_that_draws_nothing_does_not_load_the_drawing_library() -> None:
    check = "import sys, huracan_cli.main; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_position_at_the_end_is_that_of_the_fills(summary: Summary, run: Path) -> None:
    signs = {1: 1, 2: -1}
    lots = sum(signs[row.side] * row.quantity for row in read_table(run, Fill))
    (card,) = re.findall(r"<span>position</span><b class=''>([^<]+)</b>", _page(summary, run))
    assert float(card) == pytest.approx(lots * 0.001)


# What falls on one pixel.


def _floats(*values: float) -> Numbers:
    return np.array(values, dtype=np.float64)


def _day() -> Numbers:
    at_s: Numbers = np.arange(0, 86_400, 0.1, dtype=np.float64)
    return at_s


def test_thinning_keeps_the_ends_the_extremes_and_the_gaps() -> None:
    at_s = _day()
    values: Numbers = np.sin(at_s / 5_000)
    values[[1_234, 500_000]] = 9.0, -9.0
    values[300_000:300_100] = np.nan
    thin = charts.thinned(Series(at_s, values), buckets=200)
    assert thin.at_s.size < 1_100
    assert (thin.at_s[0], thin.at_s[-1]) == (at_s[0], at_s[-1])
    assert (np.nanmax(thin.values), np.nanmin(thin.values)) == (9.0, -9.0)
    assert np.isnan(thin.values).any()
    assert (np.diff(thin.at_s) > 0).all()


def test_a_short_series_is_not_thinned() -> None:
    series = Series(_floats(1, 2, 3), _floats(1, np.nan, 3))
    assert charts.thinned(series) is series


def test_averages_of_shares_are_shares() -> None:
    at_s = _day()
    up: Numbers = np.linspace(0, 1, at_s.size)
    times, rows = charts.averaged(Stack(at_s, ("up", "down"), np.stack([up, 1 - up], axis=1)), buckets=100)
    assert times.size == 100
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    assert rows[:, 0].mean() == pytest.approx(0.5, abs=1e-3)


def test_gathered_fills_keep_size_and_worth() -> None:
    at_s: Numbers = np.linspace(0, 100, 2_000)
    fills = Fills(at_s, np.linspace(10, 11, 2_000), np.linspace(1, 2, 2_000))
    few = charts.gathered(fills, (0.0, 100.0), buckets=20)
    assert 20 <= few.at_s.size <= 21
    assert few.sizes.sum() == pytest.approx(fills.sizes.sum())
    assert (few.prices * few.sizes).sum() == pytest.approx((fills.prices * fills.sizes).sum())


def test_missing_steps_are_a_gap_and_never_a_line() -> None:
    at_s = _floats(0.1, 0.2, 9.0, 9.1)
    line = charts.stepwise(Series(at_s, _floats(1, 2, 3, 4)))
    np.testing.assert_array_equal(line.values, [1, 2, np.nan, 3, 4])
    stack = charts.stepwise_stack(Stack(at_s, ("one",), np.ones((4, 1))))
    np.testing.assert_array_equal(stack.at_s, [0.1, 0.2, 0.2, 9.0, 9.0, 9.1])
    np.testing.assert_array_equal(stack.rows[:, 0], [1, 1, 0, 0, 1, 1])


def test_a_day_of_steps_draws_as_little_as_a_minute() -> None:
    at_s = _day()
    wave: Numbers = np.sin(at_s / 300)
    shares = Stack(at_s, ("down", "flat", "up"), np.full((at_s.size, 3), 1 / 3))
    size = len(charts.gate(shares, shares, Series(at_s, np.abs(wave)), (0.0, 86_400.0)))
    sides = Series(at_s, np.sign(wave))
    fills = Fills(at_s, 100 + wave, np.ones(at_s.size))
    size += len(charts.market(Series(at_s, 100 + wave), fills, fills, sides, shares, (0.0, 86_400.0)))
    assert size < 600_000


def test_anomalies_and_trouble_of_the_feed_are_marked_below_the_price() -> None:
    at_s = _floats(0, 1, 2, 3)
    nothing = Fills(_floats(), _floats(), _floats())
    regimes = Stack(_floats(), (), np.zeros((0, 0)))

    def drawn(*troubles_s: float) -> str:
        notices = {"anomalies": _floats(1.5), "feed trouble": _floats(*troubles_s)}
        prices = Series(at_s, _floats(10, 11, 12, 11))
        return charts.market(prices, nothing, nothing, Series(at_s, at_s * 0), regimes, (0.0, 3.0), notices=notices)

    assert "anomalies" in drawn()
    assert "feed trouble" not in drawn(), "there was none"
    assert "feed trouble" in drawn(2.5)
    assert drawn(2.5) == drawn(2.5, 2.5, 2.5), "what falls on one pixel is drawn once"


@pytest.mark.parametrize(("us", "said"), [(0.5, "0.5 µs"), (812.3, "812 µs"), (1_930.0, "1.93 ms"), (2.5e6, "2.5 s")])
def test_durations_are_said_with_three_digits(us: float, said: str) -> None:
    assert charts.duration(us) == said


def test_journal_entries_without_quotes_draw_no_price(summary: Summary, run: Path) -> None:
    """A book that never synced has no best bid or ask."""
    (shard,) = {row.shard for row in read_table(run, Decision)}
    key = subjects.journal_key(shard)
    entries: list[Any] = read_journal(run, key)
    for entry in entries:
        if isinstance(entry, JournalEntry) and entry.HasField("window_opened"):
            entry.window_opened.best_bid = 0
            entry.window_opened.close_ns += 86_400 * NANOSECONDS
    write_journals({key: entries}, run)
    assert len(_pictures(_page(summary, run))) == 5

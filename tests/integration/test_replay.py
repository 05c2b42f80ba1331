"""Replays of a short simulated market: no look-ahead, nothing unaccounted, the same every time."""

from __future__ import annotations

import gzip
import itertools
import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from huracan.clock import NANOSECONDS
from huracan.contracts import codec
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Fill
from huracan.contracts.opinion import Opinion
from huracan.errors import BadInput
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan.store.parquet import read_messages, read_table
from huracan_cli.composition import Inputs, factories, gateway, history_of
from huracan_cli.explain import explain
from huracan_cli.replay import Outcome, Replay, replay
from huracan_gateway.feed import RecordingFeed
from huracan_gateway.recording import Line

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = SHARED / "ticks" / "hftbacktest" / "binance_usdm_btcusdt_20240808.jsonl.gz"


@pytest.fixture(scope="module")
def whole(market: Path, history: Path) -> Outcome:
    return replay(Replay(recording=market, history=history))


def _prefix(cut: Outcome, whole: Outcome) -> bool:
    """Whether the decisions of a cut recording are the first ones of the whole, byte for byte."""
    pairs = itertools.zip_longest(cut.decisions, whole.decisions[: len(cut.decisions)], fillvalue=Decision())
    return all(codec.encode(ours) == codec.encode(theirs) for ours, theirs in pairs)


def test_the_market_is_labelled_simulated_and_traded(whole: Outcome) -> None:
    assert whole.summary.simulated
    assert whole.summary.instrument == "sim.sim-usdt-perp"
    assert whole.summary.book_match_ratio == 1.0
    assert whole.summary.fills > 0
    assert whole.summary.opinions["regime"] > 0


def test_the_same_recording_gives_the_same_summary(whole: Outcome, market: Path, history: Path, tmp_path: Path) -> None:
    packed = tmp_path / market.name
    packed.write_bytes(gzip.compress(market.read_bytes()))
    assert replay(Replay(recording=packed, history=history)).summary == whole.summary


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("kind", "was", "now"),
    [
        ("trade", r'"q":"\d', '"q":"9'),
        ("bookTicker", r'"B":"\d', '"B":"8'),
        ("depthUpdate", r'"T":\d', '"T":2'),
    ],
)
def test_one_altered_frame_changes_the_digest(
    kind: str, was: str, now: str, whole: Outcome, market: Path, history: Path, tmp_path: Path
) -> None:
    lines = market.read_text().splitlines()
    number = next(index for index in range(len(lines) // 2, len(lines)) if f'"e":"{kind}"' in lines[index])
    lines[number], altered = re.subn(was, now, lines[number], count=1)
    assert altered == 1
    damaged = tmp_path / market.name
    damaged.write_text("\n".join(lines) + "\n")
    outcome = replay(Replay(recording=damaged, history=history))
    assert outcome.summary.rejected == {}
    assert outcome.summary.decisions_digest != whole.summary.decisions_digest


@pytest.mark.usefixtures("untraced")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0.02, 0.999))
def test_cutting_the_recording_anywhere_leaves_earlier_decisions_unchanged(
    share: float, whole: Outcome, market: Path, history: Path, tmp_path: Path
) -> None:
    lines = market.read_bytes().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[: max(200, int(len(lines) * share))]))
    assert _prefix(replay(Replay(recording=cut, history=history)), whole)


@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(not REAL.is_file(), reason=f"needs {REAL.name} in ../shared")
def test_cutting_a_real_recording_leaves_earlier_decisions_unchanged(tmp_path: Path) -> None:
    with gzip.open(REAL, "rb") as stream:
        lines = list(itertools.islice(stream, 9_000))
    outcomes = []
    for count in (9_000, 6_123, 2_500):
        cut = tmp_path / f"{count}.jsonl"
        cut.write_bytes(b"".join(lines[:count]))
        outcomes.append(replay(Replay(recording=cut)))
    assert len(outcomes[0].decisions) > 200
    assert all(_prefix(cut, outcomes[0]) for cut in outcomes[1:])


def _changed(history: Path, out: Path, *, after: bool) -> Path:
    """Write the history with wild bars after the recording's start, or with other bars before it."""
    table = pq.read_table(history)
    if after:
        last = table.slice(table.num_rows - 1)
        dates = [last["date"][0].as_py() + timedelta(minutes=15 * number) for number in (1, 2, 3)]
        wild = {name: [last[name][0].as_py() * 3] * 3 for name in ("open", "high", "low", "close", "volume")}
        later = pa.table({"date": dates, **wild}).cast(table.schema)
        table = pa.concat_tables([table, later])
    else:
        high = pc.multiply(table["high"], 1.01)
        table = table.set_column(table.schema.get_field_index("high"), "high", high)
    pq.write_table(table, out)
    return out


@pytest.mark.usefixtures("untraced")
def test_bars_that_close_after_the_first_frame_are_ignored(
    whole: Outcome, market: Path, history: Path, tmp_path: Path
) -> None:
    later = _changed(history, tmp_path / "later.parquet", after=True)
    assert replay(Replay(recording=market, history=later)).summary == whole.summary
    other = _changed(history, tmp_path / "other.parquet", after=False)
    shares = replay(Replay(recording=market, history=other)).decisions[-1].regime_shares
    assert list(shares) != list(whole.decisions[-1].regime_shares)


def test_without_history_the_regime_expert_abstains_warming(market: Path) -> None:
    summary = replay(Replay(recording=market)).summary
    assert summary.opinions["regime"] == 0
    assert set(summary.abstained["regime"]) == {"WARMING"}
    assert summary.opinions["flow"] > 0


def _news(market: Path, path: Path, offsets_s: list[float]) -> Path:
    first_ns = int(market.read_text().split(" ", 1)[0])
    times = [first_ns + int(offset * NANOSECONDS) for offset in offsets_s]
    rows = [f"{at},SIM rallies to a great and wonderful record {number}" for number, at in enumerate(times)]
    path.write_text("\n".join(["time,title", *rows]) + "\n")
    return path


def test_headlines_are_heard_at_their_time(whole: Outcome, market: Path, history: Path, tmp_path: Path) -> None:
    heard = replay(Replay(recording=market, history=history, news=_news(market, tmp_path / "news.csv", [10.0, 12.0])))
    assert heard.summary.opinions["sentiment"] > 0
    before = [row for row in whole.decisions if row.close_ns < whole.decisions[0].close_ns + 9 * NANOSECONDS]
    assert [row.direction for row in heard.decisions[: len(before)]] == [row.direction for row in before]
    later = replay(Replay(recording=market, history=history, news=_news(market, tmp_path / "later.csv", [60.0])))
    assert later.summary == whole.summary


class DeadlyFeed(RecordingFeed):
    """A recording in the middle of which a service dies, and is announced dead."""

    def __init__(self, path: Path, victim: str) -> None:
        super().__init__(path)
        self.world: World | None = None
        self._victim = victim
        self._given = 0

    async def next_line(self) -> Line | None:
        self._given += 1
        if self._given == 1_500 and self.world is not None:
            await self.world.kill(self._victim)
            await self.world.announce_death(self._victim)
        return await super().next_line()


def test_a_killed_expert_is_a_counted_abstention(market: Path, history: Path) -> None:
    feed = DeadlyFeed(market, "flow")
    inputs = Inputs(
        definitions=[feed.definition],
        first_recv_ns=feed.head.first_recv_ns,
        history=history_of(feed.definition, history),
    )

    async def main(clock: VirtualClock) -> tuple[list[Decision], list[Opinion]]:
        world = feed.world = World(clock, seed=0)
        for name, factory in factories(inputs).items():
            world.start(name, factory)
        world.start("gateway", gateway(inputs, feed, lockstep=True))
        await world.finish("gateway")
        decisions, opinions = await world.store.load(Decision), await world.store.load(Opinion)
        await world.stop()
        return decisions, opinions

    decisions, opinions = run_virtual(main, start_ns=feed.head.first_recv_ns)
    answers = Counter(row.expert for row in opinions)
    silent = [row for row in decisions if not row.votes[1].opinion_id]
    assert len(decisions) == answers["regime"] > answers["flow"] > 0
    assert len(silent) == len(decisions) - answers["flow"]
    assert all(row.votes[1].weight == 0 for row in silent)
    assert any(not row.abstained for row in silent)


def test_damaged_lines_are_counted_under_their_reason_and_kept(market: Path, tmp_path: Path) -> None:
    lines = market.read_text().splitlines()
    trades = [index for index, line in enumerate(lines) if '"e":"trade"' in line and index > 300]
    lines[trades[0]] = "garbage"
    lines[trades[1]] = "-5 " + lines[trades[1]].split(" ", 1)[1]
    lines[trades[2]] = lines[trades[2]].replace("@trade", "@compositeIndex")
    lines[trades[3]] = lines[trades[3]].split(" ", 1)[0] + ' {"channel":"trades","data":[]}'
    at = trades[5]
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    damaged = tmp_path / "damaged.jsonl.gz"
    packed = gzip.compress(("\n".join(lines) + "\n").encode())
    damaged.write_bytes(packed[:-2_000])
    out = tmp_path / "run"
    out.mkdir()
    summary = replay(Replay(recording=damaged, out=out)).summary
    assert summary.frames_in == summary.ticks_logged + sum(summary.rejected.values())
    assert summary.rejected == {
        "bad_line": 1, "negative_time": 1, "other_venue": 1, "receive_time_backwards": 1, "truncated_gzip": 1,
        "unknown_stream": 1,
    }  # fmt: skip
    from huracan.contracts.ops import DeadLetter

    letters = read_messages(out / "dead_letters.parquet", DeadLetter)
    assert Counter(letter.reason for letter in letters) == Counter(summary.rejected)
    assert b"garbage" in {letter.raw for letter in letters}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("stray", ["1823081403000000000", "1500000000000000000"])
def test_a_refused_first_line_tells_no_time(
    stray: str, whole: Outcome, market: Path, history: Path, tmp_path: Path
) -> None:
    path = tmp_path / market.name
    path.write_text(f'{stray} {{"stream":"simusdt@foo","data":{{}}}}\n' + market.read_text())
    outcome = replay(Replay(recording=path, history=history))
    assert outcome.summary.rejected == {"unknown_stream": 1}
    assert outcome.summary.decisions == whole.summary.decisions


@pytest.mark.usefixtures("untraced")
def test_a_jump_of_a_year_ends_one_run_of_steps_and_begins_another(market: Path, tmp_path: Path) -> None:
    lines = market.read_text().splitlines()
    shifted = []
    for line in lines:
        recv_ns, raw = line.split(" ", 1)
        raw = re.sub(r'"([ET])":(\d+)', lambda found: f'"{found[1]}":{int(found[2]) + 31_536_000_000}', raw)
        raw = re.sub(r'"(U|u|pu|lastUpdateId|t)":(\d+)', lambda found: f'"{found[1]}":{int(found[2]) + 10**9}', raw)
        shifted.append(f"{int(recv_ns) + 31_536_000 * NANOSECONDS} {raw}")
    path = tmp_path / "year.jsonl"
    path.write_text("\n".join(lines + shifted) + "\n")
    summary = replay(Replay(recording=path)).summary
    assert summary.rejected == {}
    assert summary.bars < 5
    assert 350 < summary.windows < 500
    assert summary.frames_in == 2 * len(lines)


@pytest.mark.usefixtures("untraced")
def test_fills_that_were_due_before_the_end_are_booked(market: Path, tmp_path: Path) -> None:
    """An order arrives 10 ms after its step and is reported after 20: a cut 60 ms later has its fill."""
    whole_run, out = tmp_path / "whole", tmp_path / "cut"
    whole_run.mkdir()
    out.mkdir()
    replay(Replay(recording=market, out=whole_run))
    last = read_table(whole_run, Fill)[-1]
    lines = [
        line for line in market.read_text().splitlines() if int(line.split(" ", 1)[0]) <= last.received_ns + 40_000_000
    ]
    cut = tmp_path / "cut.jsonl"
    cut.write_text("\n".join(lines) + "\n")
    replay(Replay(recording=cut, out=out))
    due = [fill for fill in read_table(whole_run, Fill) if fill.received_ns <= int(lines[-1].split(" ", 1)[0])]
    assert read_table(out, Fill) == due
    assert last in due


def test_explain_refuses_a_run_whose_journal_was_cut(market: Path, tmp_path: Path) -> None:
    outcome = replay(Replay(recording=market, out=tmp_path))
    journal = tmp_path / "journal.parquet"
    table = pq.read_table(journal)
    pq.write_table(table.slice(0, table.num_rows // 2), journal)
    with pytest.raises(BadInput, match="does not follow from the journal"):
        explain(tmp_path, outcome.decisions[-1].decision_id.hex())
    with pytest.raises(BadInput, match=r"0 decisions of .* begin so"):
        explain(tmp_path, "not-an-id")

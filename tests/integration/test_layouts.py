"""Whole runs on real servers and processes: every layout decides the same, nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from huracan.bus import subjects
from huracan.clock import NANOSECONDS
from huracan.contracts import codec
from huracan.contracts.decision import Decision
from huracan.contracts.execution import Order
from huracan.errors import BadInput, HuracanError
from huracan.store.parquet import read_journal, read_table
from huracan_cli.replay import Replay, replay
from huracan_cli.results import fold_decisions
from huracan_cli.run import run
from huracan_cli.sources import recording
from huracan_cli.summary import Summary
from huracan_cli.system import Layout, Plan, System
from huracan_gateway.feed import recorded

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
REAL = SHARED / "ticks" / "hftbacktest" / "binance_usdm_btcusdt_20240808.jsonl.gz"
REAL_HISTORY = SHARED / "ohlcv" / "binance_usdm_BTCUSDT_15m_2023_2024.parquet"
REAL_S = 20
"""Seconds of the shared recording that are played."""
LIVE_SPEED = 10.0
OWN_TO_A_LAYOUT = {"layout", "latency_us", "rows_persisted", "ledger"}
"""Fields of a summary that virtual time and memory do not have."""
HOPS = ("gateway", "regime", "flow", "sentiment", "orchestrator", "window_to_decision")
POLL_S = 0.02
LONGEST_POLLS = 6_000


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run gave, and what it left behind."""

    summary: Summary
    decisions: Sequence[bytes]
    left: Sequence[str]


@contextmanager
def _home() -> Iterator[Path]:
    """Give the directory in which runs make theirs; every user can pass through it, as PostgreSQL under root needs."""
    before, home = tempfile.tempdir, Path(tempfile.mkdtemp(prefix="huracan-home-"))
    home.chmod(0o711)
    tempfile.tempdir = str(home)
    try:
        yield home
    finally:
        tempfile.tempdir = before
        home.rmdir()


def _left(home: Path) -> list[str]:
    """Return the files, and the processes that work in a directory or were told of it."""
    found = [str(path) for path in home.iterdir()]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(home) in told or (process / "cwd").readlink().is_relative_to(home):
                found.append(f"{process.name} {told}")
        except OSError:  # ended meanwhile
            continue
    return found


def _plan(market: Path, history: Path, layout: Layout, speed: float) -> Plan:
    return Plan(source=recording(market, speed=speed, history=history), layout=layout)


def _played(plan: Plan, out: Path | None = None) -> Ran:
    with _home() as home:
        outcome = asyncio.run(run(plan, out=out))
        return Ran(outcome.summary, [codec.encode(decision) for decision in outcome.decisions], _left(home))


def _simulated(market: Path, history: Path) -> Ran:
    outcome = replay(Replay(recording=market, history=history))
    return Ran(outcome.summary, [codec.encode(decision) for decision in outcome.decisions], [])


def _assert_same(ran: Ran, simulated: Ran) -> None:
    excluded = OWN_TO_A_LAYOUT
    assert ran.summary.model_dump(exclude=excluded) == simulated.summary.model_dump(exclude=excluded)
    assert ran.decisions == simulated.decisions
    assert _faults(ran.summary) == {}


def _faults(summary: Summary) -> dict[str, dict[str, int]]:
    """Return the acknowledged paths on which something was lost or doubled."""
    return {path: counts for path, counts in summary.ledger.items() if counts["lost"] or counts["doubled"]}


def _recv_ns(line: str) -> int:
    return int(line.partition(" ")[0])


# A replay is the same wherever it runs.


@pytest.fixture(scope="module")
def simulation(market: Path, history: Path) -> Ran:
    """The market replayed in memory, on virtual time."""
    return _simulated(market, history)


@pytest.mark.parametrize("layout", [Layout.SINGLE, Layout.HOSTED, Layout.SEVEN])
def test_a_replay_on_processes_is_the_simulations_to_the_byte(
    layout: Layout, simulation: Ran, market: Path, history: Path
) -> None:
    ran = _played(_plan(market, history, layout, speed=0))
    assert ran.summary.fills > 0
    assert ran.summary.restarts == {}
    _assert_same(ran, simulation)
    assert ran.left == []


@pytest.mark.usefixtures("untraced")
@pytest.mark.skipif(
    not (REAL.is_file() and REAL_HISTORY.is_file()), reason=f"needs {REAL.name} and {REAL_HISTORY.name} in ../shared"
)
def test_a_real_recording_on_processes_is_the_simulations_to_the_byte(tmp_path: Path) -> None:
    head = tmp_path / "head.jsonl"
    with gzip.open(REAL, "rt", encoding="utf-8") as lines:
        first = next(lines)
        end_ns = _recv_ns(first) + REAL_S * NANOSECONDS
        head.write_text(first + "".join(itertools.takewhile(lambda line: _recv_ns(line) < end_ns, lines)))
    ran = _played(_plan(head, REAL_HISTORY, Layout.SEVEN, speed=0))
    assert ran.summary.opinions["regime"] > 0
    _assert_same(ran, _simulated(head, REAL_HISTORY))


# A live run: steps close on the clock, experts have deadlines.


@pytest.fixture(scope="module")
def live_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def live(market: Path, history: Path, live_out: Path) -> Ran:
    """The market played ten times as fast as it was, in seven processes."""
    return _played(_plan(market, history, Layout.SEVEN, LIVE_SPEED), live_out)


def test_a_live_runs_journal_gives_its_decisions_to_the_byte(live: Ran, live_out: Path, market: Path) -> None:
    journal = read_journal(live_out, subjects.journal_key(recorded(market).definition.shard))
    folded = {decision.decision_id: codec.encode(decision) for decision in fold_decisions(journal)}
    kept = {decision.decision_id: codec.encode(decision) for decision in read_table(live_out, Decision)}
    assert len(kept) > 50
    assert folded == kept


def test_a_live_run_loses_and_doubles_nothing(live: Ran, live_out: Path) -> None:
    summary = live.summary
    assert set(summary.ledger) == {"decisions", "orders", "fills"}
    assert _faults(summary) == {}
    counted = {
        "decisions": sum(summary.decisions.values()),
        "orders": sum(summary.orders.values()),
        "fills": summary.fills,
    }
    assert counted == {name: summary.rows_persisted[name] for name in counted}
    assert counted == {name: summary.ledger[name]["journal"] for name in counted}
    assert summary.ledger["decisions"]["published"] == counted["decisions"]
    assert summary.ledger["fills"]["published"] == counted["fills"]
    assert counted["orders"] == len({order.decision_id for order in read_table(live_out, Order)})


def test_a_live_runs_frames_add_up(live: Ran, market: Path) -> None:
    summary = live.summary
    answers = summary.frames_by_kind["snapshot"]  # also those that a slow machine asks for
    assert 0 < summary.frames_in - answers <= len(market.read_text().splitlines())
    assert summary.frames_in == sum(summary.frames_by_kind.values())
    assert summary.frames_in == summary.ticks_logged + sum(summary.rejected.values())
    assert (summary.gaps, summary.restarts, summary.book_match_ratio) == (0, {}, 1.0)


def test_a_live_run_times_every_hop(live: Ran) -> None:
    measured = live.summary.latency_us
    assert [hop for hop in HOPS if hop not in measured] == []
    for times in measured.values():
        assert 0 < times["p50"] <= times["p99"]
        assert times["count"] > 0


def test_a_live_run_leaves_nothing_behind(live: Ran) -> None:
    assert live.left == []


# However a run ends, nothing of it stays.


async def _until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(LONGEST_POLLS):
        if holds():
            return
        await asyncio.sleep(POLL_S)
    pytest.fail(f"waited in vain until {what}")


async def _left_after(work: Callable[[asyncio.Event], Awaitable[object]], home: Path, *, cancel: str = "") -> list[str]:
    """Return what a run left that failed by itself, or was cancelled when it was `starting` or `ready`."""
    ready = asyncio.Event()
    running = asyncio.ensure_future(work(ready))
    if cancel == "starting":
        await _until(lambda: len(_left(home)) > 2, "its servers run")
    if cancel == "ready":
        await ready.wait()
    if cancel:
        running.cancel()
    await asyncio.wait([running])
    assert running.cancelled() if cancel else running.exception() is not None
    return _left(home)


@pytest.mark.parametrize("when", ["starting", "ready"])
def test_a_cancelled_run_leaves_nothing_behind(when: str, market: Path, history: Path) -> None:
    async def work(ready: asyncio.Event) -> None:
        async def meanwhile(system: System) -> None:
            ready.set()

        await run(_plan(market, history, Layout.SINGLE, speed=1), meanwhile=meanwhile)

    with _home() as home:
        assert asyncio.run(_left_after(work, home, cancel=when)) == []


def test_a_run_that_cannot_start_leaves_nothing_behind(market: Path, history: Path) -> None:
    plan = _plan(market, history, Layout.SINGLE, speed=1)
    unusable = (
        replace(plan, postgres_url="postgresql://nobody@127.0.0.1:1/nothing"),
        _plan(market.with_name("missing.jsonl"), history, Layout.SINGLE, speed=1),
    )
    with _home() as home:
        for wrong in unusable:
            with pytest.raises(HuracanError):
                asyncio.run(run(wrong))
            assert _left(home) == []


def test_whoever_fails_beside_a_run_ends_it_and_nothing_stays(market: Path, history: Path) -> None:
    async def meanwhile(system: System) -> None:
        raise BadInput("beside was what failed; mend it")

    with _home() as home:
        with pytest.raises(BadInput, match="beside"):
            asyncio.run(run(_plan(market, history, Layout.SINGLE, speed=0.5), meanwhile=meanwhile))
        assert _left(home) == []

"""Live runs on real processes and servers in which everything is killed: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from huracan.bus import subjects
from huracan.clock import NANOSECONDS
from huracan.contracts import codec
from huracan.contracts.decision import Decision
from huracan.contracts.execution import AccountState, Fill, Order, Side
from huracan.contracts.opinion import reason_name
from huracan.sim.market import SimulatedMarketConfig, write_history, write_recording
from huracan.store.parquet import read_journal, read_table
from huracan_cli.composition import EXPERTS, GATEWAY
from huracan_cli.results import LATENCIES, fold_decisions
from huracan_cli.run import run
from huracan_cli.sources import recording
from huracan_cli.summary import Summary
from huracan_cli.system import Layout, Plan, System
from huracan_cli.watch import WINDOW_TO_DECISION
from huracan_gateway.feed import recorded

pytestmark = pytest.mark.usefixtures("untraced_module")
MARKET = SimulatedMarketConfig(seed=5, duration_s=400.0, regime_switch_s=20.0)
"""Longer than any run: a run ends when its gateway is told to."""
SPEED = 2.0
SERVICES = (*EXPERTS, "orchestrator", "executor", "persister", GATEWAY)
SERVERS = ("nats", "postgres")
FROZEN = "flow"
FROZEN_S = 3.0
LONGEST_SILENCE_S = 1.0
"""Between two decisions while an expert is frozen, wall time."""
POLL_S = 0.02
LONGEST_POLLS = 6_000


@dataclass(slots=True)
class Marks:
    """Closes of steps, in nanoseconds: what had been decided, and when the frozen one was heard again."""

    frozen_ns: int = 0
    thawed_ns: int = 0
    answered_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run left."""

    summary: Summary
    out: Path
    shard: int
    marks: Marks
    left: Sequence[str]
    """Its directory, and the processes that still work there or were told of it."""

    @property
    def decisions(self) -> list[Decision]:
        """Return what was stored, by step."""
        return read_table(self.out, Decision)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The market and its history."""
    directory = tmp_path_factory.mktemp("market")
    write_recording(MARKET, directory / "market.jsonl")
    write_history(MARKET, directory / "history.parquet", bars=1_200)
    return directory


def _run(
    directory: Path, out: Path, layout: Layout, meanwhile: Callable[[System], Awaitable[None]], marks: Marks
) -> Ran:
    market = directory / "market.jsonl"
    plan = Plan(source=recording(market, speed=SPEED, history=directory / "history.parquet"), layout=layout)
    places: list[Path] = []

    async def noted(system: System) -> None:
        places.append(system.directory)
        await meanwhile(system)

    summary = asyncio.run(run(plan, out=out, meanwhile=noted)).summary
    return Ran(summary=summary, out=out, shard=recorded(market).definition.shard, marks=marks, left=_left(places[0]))


def _left(directory: Path) -> list[str]:
    found = [str(directory)] if directory.exists() else []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in told or (process / "cwd").readlink().is_relative_to(directory):
                found.append(f"{process.name} {told}")
        except OSError:  # ended meanwhile
            continue
    return found


async def _until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(LONGEST_POLLS):
        if holds():
            return
        await asyncio.sleep(POLL_S)
    pytest.fail(f"waited in vain until {what}")


def _counted(system: System, what: str) -> int:
    return sum(view.counts[what] for view in system.watch.instruments.values())


def _newest_ns(system: System) -> int:
    return max(view.decision.close_ns for view in system.watch.instruments.values() if view.decision is not None)


def _answered_ns(system: System, expert: str) -> int:
    return max(view.opinions[expert].close_ns for view in system.watch.instruments.values())


def _send(system: System, name: str, number: signal.Signals) -> int:
    pid = system.pid(name)
    assert pid is not None, f"{name} does not run"
    os.kill(pid, number)
    return pid


async def _kill(system: System, name: str) -> None:
    """Kill a process or server and wait until its successor is ready."""
    pid = _send(system, name, signal.SIGKILL)
    await _until(
        lambda: system.pid(name) not in (None, pid) and system.states()[name] == "ready", f"{name} is back, killed"
    )


async def _more(system: System, what: str, count: int) -> None:
    wanted = _counted(system, what) + count
    await _until(lambda: _counted(system, what) >= wanted, f"there are {wanted} {what}")


async def _freeze(system: System, name: str, marks: Marks) -> None:
    marks.frozen_ns = _newest_ns(system)
    _send(system, name, signal.SIGSTOP)
    try:
        await asyncio.sleep(FROZEN_S)
        marks.thawed_ns = _newest_ns(system)
    finally:
        _send(system, name, signal.SIGCONT)
    await _until(lambda: _answered_ns(system, name) > marks.thawed_ns, f"{name} answers again")
    await _more(system, "decisions", 10)
    marks.answered_ns = _newest_ns(system)


@pytest.fixture(scope="module")
def seven(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Seven processes: one is frozen for a while, then all are killed in turn, the last while it drains."""
    marks = Marks()

    async def meanwhile(system: System) -> None:
        await _more(system, "fills", 1)
        await _freeze(system, FROZEN, marks)
        for name in (*SERVICES, *SERVERS):
            await _kill(system, name)
        await _more(system, "fills", 3)
        _send(system, "persister", signal.SIGSTOP)
        await _more(system, "decisions", 5)
        _send(system, GATEWAY, signal.SIGTERM)
        await _until(lambda: system.states()["persister"] == "stopping", "the persister is told to stop")
        _send(system, "persister", signal.SIGKILL)

    return _run(directory, tmp_path_factory.mktemp("seven"), Layout.SEVEN, meanwhile, marks)


@pytest.fixture(scope="module")
def single(directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One process, killed once."""

    async def meanwhile(system: System) -> None:
        await _more(system, "fills", 1)
        await _kill(system, "huracan")
        await _more(system, "fills", 2)
        _send(system, "huracan", signal.SIGTERM)

    return _run(directory, tmp_path_factory.mktemp("single"), Layout.SINGLE, meanwhile, Marks())


@pytest.fixture(params=["seven", "single"])
def ran(request: pytest.FixtureRequest) -> Ran:
    """Each of the runs."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Ran)
    return found


def test_every_process_and_server_was_killed_and_came_back(seven: Ran, single: Ran) -> None:
    assert set(seven.summary.restarts) == {*SERVICES, *SERVERS}
    assert set(single.summary.restarts) == {"huracan"}


def test_no_decision_order_or_fill_is_lost_or_doubled(ran: Ran) -> None:
    summary = ran.summary
    assert {path: (counts["lost"], counts["doubled"]) for path, counts in summary.ledger.items()} == {
        "decisions": (0, 0),
        "orders": (0, 0),
        "fills": (0, 0),
    }
    assert summary.ledger["decisions"]["published"] == summary.ledger["decisions"]["journal"]
    assert summary.ledger["fills"]["published"] == summary.ledger["fills"]["journal"] > 0


def test_a_decision_gives_rise_to_one_order_at_most(ran: Ran) -> None:
    orders = read_table(ran.out, Order)
    decided = {decision.decision_id for decision in ran.decisions}
    assert len(orders) == len({order.order_id for order in orders}) == len({order.decision_id for order in orders}) > 0
    assert {order.decision_id for order in orders} <= decided


def test_the_account_holds_what_was_filled(ran: Ran) -> None:
    fills = read_table(ran.out, Fill)
    assert len({fill.fill_id for fill in fills}) == len(fills) == ran.summary.fills
    position = sum(fill.quantity if fill.side == Side.SIDE_BUY else -fill.quantity for fill in fills)
    (held,) = read_table(ran.out, AccountState)[-1].positions or [None]
    assert (held.quantity if held is not None else 0) == position


def test_no_step_is_decided_twice(ran: Ran) -> None:
    steps = [decision.step for decision in ran.decisions]
    assert steps == sorted(set(steps))


def test_what_was_decided_through_the_kills_follows_from_the_journal(ran: Ran) -> None:
    folded = fold_decisions(read_journal(ran.out, subjects.journal_key(ran.shard)))
    assert {row.decision_id: codec.encode(row) for row in folded} == {
        row.decision_id: codec.encode(row) for row in ran.decisions
    }


def test_frames_are_accounted_for_through_the_kills(ran: Ran) -> None:
    summary = ran.summary
    assert summary.frames_in == sum(summary.frames_by_kind.values()) > 0
    assert summary.frames_in == summary.ticks_logged + sum(summary.rejected.values())
    assert summary.book_match_ratio == 1.0


def test_nothing_is_left_behind_after_the_kills(ran: Ran) -> None:
    assert ran.left == []


def _published_s(ran: Ran) -> dict[int, float]:
    """Return when each decision was published, on the wall clock, by the close of its step."""
    columns = pq.read_table(ran.out / LATENCIES).to_pydict()
    hops: dict[str, dict[int, float]] = {}
    for hop, close_ns, latency_us in zip(columns["hop"], columns["close_ns"], columns["latency_us"], strict=True):
        hops.setdefault(hop, {})[close_ns] = latency_us / 1e6
    return {
        close_ns: close_ns / NANOSECONDS / SPEED + hops[GATEWAY][close_ns] + decided_s
        for close_ns, decided_s in hops[WINDOW_TO_DECISION].items()
        if close_ns in hops[GATEWAY]
    }


def _heard(decisions: Sequence[Decision], expert: str) -> list[bool]:
    return [any(vote.expert == expert and vote.opinion_id for vote in decision.votes) for decision in decisions]


def test_decisions_go_on_without_a_frozen_expert(seven: Ran) -> None:
    marks = seven.marks
    published = _published_s(seven)
    times = sorted(at for close_ns, at in published.items() if marks.frozen_ns <= close_ns <= marks.answered_ns)
    assert times[-1] - times[0] > FROZEN_S
    assert max(later - earlier for earlier, later in pairwise(times)) < LONGEST_SILENCE_S


def test_a_frozen_expert_is_counted_as_silent_and_heard_again(seven: Ran) -> None:
    marks, decisions = seven.marks, seven.decisions
    without = [decision for decision in decisions if marks.frozen_ns < decision.close_ns <= marks.thawed_ns]
    assert _heard(without, FROZEN).count(False) >= len(without) - 2 > 10
    after = [decision for decision in decisions if marks.thawed_ns < decision.close_ns <= marks.answered_ns]
    assert any(_heard(after, FROZEN))
    judged = [row for row in decisions if not (row.abstained and reason_name(row.reason) in ("LATE", "EPOCH_GAP"))]
    assert seven.summary.silent[FROZEN] == _heard(judged, FROZEN).count(False)

"""A whole system while the net of an expert is exchanged: every window is decided, by the engine its context names."""

from __future__ import annotations

import asyncio
import getpass
import json
import shutil
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from huracan.bus import subjects
from huracan.clock import NANOSECONDS, step_open
from huracan.contracts import codec
from huracan.contracts.context import ENGINE, Context
from huracan.contracts.decision import Decision
from huracan.contracts.features import FeatureWindow
from huracan.contracts.journal import JournalEntry
from huracan.contracts.opinion import Opinion
from huracan.contracts.ops import EngineAction, EngineReport, EngineRequest, engine_event_name
from huracan.expert.trial import SwapConfig
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle
from huracan.inference.engine import OnnxEngine
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.market import SimulatedMarketConfig, write_recording
from huracan.sim.world import Factory, World
from huracan_cli import composition, up
from huracan_cli.composition import BUNDLES, SERVICES, Inputs, configs, factories, gateway, history_of
from huracan_cli.explain import explain
from huracan_cli.replay import Replay, replay
from huracan_cli.results import Logged, fold_decisions, logged, write
from huracan_cli.run import temporary_directory
from huracan_cli.sources import recording
from huracan_cli.system import Layout, Plan, System
from huracan_flow.config import FlowServiceConfig
from huracan_flow.spec import SPEC
from huracan_gateway.feed import RecordingFeed

TRIAL = 20
"""Windows of a trial: two seconds of the market."""
LONG_S = 240.0
"""Seconds of a market that goes on while commands are typed."""
CHAMPION = load_bundle(BUNDLES / "flow")


def _bundle(directory: Path, name: str, **told: object) -> Bundle:
    manifest = Manifest.model_validate(CHAMPION.manifest.model_dump() | {"version": 2} | told)
    return write_bundle(directory / name, manifest, CHAMPION.contents)


@dataclass(frozen=True)
class Played:
    """What was said while a market was played in lockstep."""

    windows: Sequence[FeatureWindow]
    opinions: dict[int, Opinion]
    """Of flow, by step."""
    decisions: Sequence[Decision]
    journal: Sequence[JournalEntry]
    contexts: dict[int, Context]
    """Of engines, by version."""
    events: Sequence[str]

    def from_step(self, version: int) -> int:
        """Return the first step for which a version is in force."""
        effective_ns = self.contexts[version].effective_from_ns
        return next(window.step for window in self.windows if step_open(window.step) >= effective_ns)


def _played(
    market: Path, history: Path, library: Path, offered: Mapping[int, Bundle], out: Path | None = None
) -> Played:
    """Play a market through all services in lockstep; after so many windows a bundle is offered."""
    feed, heard = RecordingFeed(market), list[Message]()
    inputs = Inputs(
        definitions=[feed.definition],
        first_recv_ns=feed.head.first_recv_ns,
        history=history_of(feed.definition, history),
    )
    flow = configs(inputs)["flow"]
    assert isinstance(flow, FlowServiceConfig)
    swap = SwapConfig(library=library, shadow_windows=TRIAL, probation_windows=TRIAL)
    config = flow.model_copy(update={"swap": swap})
    made: dict[str, Factory] = {**factories(inputs), "flow": lambda ports: SPEC.make(config, ports)}

    async def listen(world: World) -> None:
        bus, windows = world.bus.node("desk"), 0
        inbox = bus.inbox()
        for pattern in ("feat.v1.micro.>", "sig.v1.flow.>", "ops.v1.flow.engine"):
            inbox.subscribe(pattern)
        async for delivery in inbox:
            heard.append(delivery.decode())
            windows += isinstance(heard[-1], FeatureWindow)
            if isinstance(heard[-1], FeatureWindow) and windows in offered:
                digest = offered[windows].digest.hex()
                request = EngineRequest(
                    key="flow", action=EngineAction.ENGINE_ACTION_OFFER, bundle=digest, author="ann", reason="better"
                )
                await bus.publish(subjects.rpc("flow", "engine"), request)

    async def main(clock: VirtualClock) -> Played:
        world = World(clock, seed=0)
        listening = asyncio.create_task(listen(world))
        for name in SERVICES:
            world.start(name, made[name])
        world.start("gateway", gateway(inputs, feed, lockstep=True))
        await world.finish("gateway")
        await clock.sleep_until(clock.now_ns() + NANOSECONDS)
        listening.cancel()
        await world.stop()
        records = await world.log.node("desk").read(
            subjects.JOURNAL_TOPIC, subjects.journal_key(feed.definition.shard), 0
        )
        contexts = await world.store.load(Context)
        if out is not None:
            await write(world.store, await logged(world.log.node("desk")), out)
        return Played(
            windows=[each for each in heard if isinstance(each, FeatureWindow)],
            opinions={each.step: each for each in heard if isinstance(each, Opinion)},
            decisions=await world.store.load(Decision),
            journal=[record.message for record in records if isinstance(record.message, JournalEntry)],
            contexts={each.ref.version: each for each in contexts if each.ref.kind == ENGINE},
            events=[engine_event_name(each.event) for each in heard if isinstance(each, EngineReport)],
        )

    return run_virtual(main, start_ns=feed.head.first_recv_ns)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("library")


@pytest.fixture(scope="module")
def offered(library: Path) -> dict[int, Bundle]:
    """A good challenger, and once that has taken over one that is sure of everything."""
    return {70: _bundle(library, "milder", temperature=1.1), 150: _bundle(library, "sure", temperature=0.02)}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def swapped(market: Path, history: Path, library: Path, offered: dict[int, Bundle], out: Path) -> Played:
    return _played(market, history, library, offered, out)


def test_of_two_challengers_the_good_one_takes_over_and_no_window_is_missed(
    swapped: Played, offered: dict[int, Bundle]
) -> None:
    assert swapped.events == ["offered", "taken_over", "settled", "offered", "rejected"]
    assert [each.step for each in swapped.decisions] == [each.step for each in swapped.windows]
    full = [each.step for each in swapped.windows if each.valid_rows == each.rows and each.book_synced]
    assert len(full) > 100
    assert [step for step in full if swapped.opinions[step].abstained] == []
    turned, (good, _) = swapped.from_step(2), offered.values()
    old, new = OnnxEngine(CHAMPION).digest, OnnxEngine(good).digest
    assert {step: each.engine_digest for step, each in swapped.opinions.items()} == {
        each.step: old if each.step < turned else new for each in swapped.windows
    }


def test_decisions_name_the_choice_and_follow_from_the_journal(swapped: Played) -> None:
    named = {each.step: [ref.version for ref in each.contexts if ref.kind == ENGINE] for each in swapped.decisions}
    first, turned = swapped.from_step(1), swapped.from_step(2)
    assert {step: versions for step, versions in named.items() if step < first and versions} == {}
    assert named[turned - 1] == [1]
    assert named[turned] == [2]
    assert named[swapped.windows[-1].step] == [5]
    folded = {each.decision_id: codec.encode(each) for each in fold_decisions(list(swapped.journal))}
    assert folded == {each.decision_id: codec.encode(each) for each in swapped.decisions}


def test_a_decision_by_an_engine_that_took_over_is_explained_with_the_library(
    swapped: Played, library: Path, out: Path
) -> None:
    proofs = {}
    for step in (swapped.from_step(2) - 1, swapped.from_step(2)):
        (decision,) = [each for each in swapped.decisions if each.step == step]
        for place in (None, library):
            told = explain(out, decision.decision_id.hex(), library=place)
            assert told.same_bytes
            (proofs[step, place],) = [vote.proof for vote in told.votes if vote.expert == "flow"]
    assert list(proofs.values()) == ["same bytes", "same bytes", "this installation has another engine", "same bytes"]


def test_the_same_offers_give_the_same_decisions_again(
    swapped: Played, market: Path, history: Path, library: Path, offered: dict[int, Bundle]
) -> None:
    again = _played(market, history, library, offered)
    assert [codec.encode(each) for each in again.decisions] == [codec.encode(each) for each in swapped.decisions]


def test_without_an_offer_decisions_are_those_of_a_service_that_knows_of_none(
    market: Path, history: Path, library: Path
) -> None:
    alone = _played(market, history, library, {})
    plain = replay(Replay(recording=market, history=history))
    assert [codec.encode(each) for each in alone.decisions] == [codec.encode(each) for each in plain.decisions]


# Processes and real servers.


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a directory that every user can pass through, as PostgreSQL under root needs it."""
    directory = temporary_directory()
    yield directory
    shutil.rmtree(directory)


def test_on_processes_engines_take_over_and_are_rolled_back_while_decisions_go_on(
    history: Path, offered: dict[int, Bundle], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, sure = offered.values()
    tampered = shutil.copytree(good.directory, tmp_path / "tampered")
    (tampered / "card.md").write_text("another")
    old, new = OnnxEngine(CHAMPION).digest, OnnxEngine(good).digest
    # Of so short a trial the slowest window is its p99: how fast engines are is judged by tests of their own.
    short = partial(
        SwapConfig, shadow_windows=TRIAL, probation_windows=TRIAL, max_p99_us=NANOSECONDS, max_p99_ratio=NANOSECONDS
    )
    monkeypatch.setattr(composition, "SwapConfig", short)
    market = tmp_path / "market.jsonl"
    write_recording(SimulatedMarketConfig(seed=11, duration_s=LONG_S), market)
    system = System(Plan(source=recording(market, speed=1.0, history=history), layout=Layout.HOSTED), home)

    async def engine(*arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
        command = [sys.executable, "-m", "huracan_cli", "engine", *map(str, arguments), "--state", str(home), "--json"]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
        out, error = await process.communicate()
        return process.returncode or 0, [json.loads(line) for line in out.splitlines()], error.decode()

    async def until_answered_by(digest: bytes) -> None:
        def answers() -> set[bytes]:
            newest = [view.opinions.get("flow", Opinion()) for view in system.watch.instruments.values()]
            return {opinion.engine_digest for opinion in newest if not opinion.abstained}

        while answers() != {digest}:  # noqa: ASYNC110 - it watches another's loop
            await asyncio.sleep(0.05)

    async def exchange() -> None:
        await until_answered_by(old)
        code, _, error = await engine("offer", "flow", tampered)
        assert (code, "card.md was" in error) == (2, True)
        code, told, _ = await engine("offer", "flow", "f" * 12)
        assert (code, [each["event"] for each in told]) == (1, ["ENGINE_EVENT_REFUSED"])

        code, told, _ = await engine("offer", "flow", good.directory, "--author", "ann", "--wait")
        events = ["ENGINE_EVENT_OFFERED", "ENGINE_EVENT_TAKEN_OVER", "ENGINE_EVENT_SETTLED"]
        assert (code, [each["event"] for each in told]) == (0, events)
        assert [each["choice"]["author"] for each in told] == ["ann", "flow", "flow"]
        assert told[-1]["choice"]["serves"]["digest"] == good.digest.hex()
        await until_answered_by(new)

        code, told, _ = await engine("use", "flow", sure.directory, "--author", "bob", "--wait")
        events = ["ENGINE_EVENT_TAKEN_OVER", "ENGINE_EVENT_ROLLED_BACK"]
        assert (code, [each["event"] for each in told]) == (1, events)
        assert (told[-1]["trial"]["left"], told[-1]["choice"]["author"]) == ("distance", "flow")
        await until_answered_by(new)

        _, (told_now,), _ = await engine("list", "flow")
        assert {each["digest"] for each in told_now["library"]} == {
            bundle.digest.hex() for bundle in (CHAMPION, good, sure)
        }
        code, (told_now,), _ = await engine("use", "flow", "configured")
        assert (code, told_now["event"], told_now["version"]) == (0, "ENGINE_EVENT_ROLLED_BACK", "6")
        await until_answered_by(old)

    async def main() -> tuple[list[Decision], Logged]:
        try:
            await system.open(fresh=True)
            up._state(system).write(home)
            exchanging, ended = asyncio.create_task(exchange()), asyncio.create_task(system.ended())
            await asyncio.wait([exchanging, ended], return_when=asyncio.FIRST_COMPLETED)
            assert not ended.done(), "the recording was too short for this machine"
            exchanging.result()
            ended.cancel()
            await system.stop_services()
            return await system.store.load(Decision), await logged(system.log)
        finally:
            await system.close()

    decisions, kept = asyncio.run(main())
    assert [each.step for each in decisions] == list(range(decisions[0].step, decisions[-1].step + 1))
    chosen = [each.context for each in kept.journals["context.engine.flow"] if isinstance(each, JournalEntry)]
    assert [each.engine.author for each in chosen] == ["ann", "flow", "flow", "bob", "flow", getpass.getuser()]
    serving = [CHAMPION, good, good, sure, good, CHAMPION]
    assert [each.engine.serves.digest for each in chosen] == [bundle.digest for bundle in serving]
    from_ns, digests = [each.effective_from_ns for each in chosen], [OnnxEngine(bundle).digest for bundle in serving]
    late = 0
    for each in decisions:
        (said,) = [vote.engine_digest for vote in each.votes if vote.expert == "flow"]
        assert said in (b"", [old, *digests][bisect_right(from_ns, step_open(each.step))])
        late += said == b""
    assert late < len(decisions) / 2, "of a machine that is busy elsewhere some come late"

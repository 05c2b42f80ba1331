"""Hot swap of the net that answers: tried in the shadow, taking over, and coming back, under a steady stream."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from huracan.bus import subjects
from huracan.clock import STEP_NS, step_close, step_open
from huracan.contracts.context import Context, ContextRef, engine_stage_name
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import linear_perpetual
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.contracts.ops import EngineAction, EngineReport, EngineRequest, engine_event_name
from huracan.expert.port import Expert, Forecast, Responder
from huracan.expert.service import ExpertService
from huracan.expert.trial import SwapConfig
from huracan.features.micro import MICRO
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle
from huracan.inference.engine import INPUT, OUTPUT, OnnxEngine
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_flow.config import FlowConfig
from huracan_flow.expert import expert

CHAMPION = Path(__file__).resolve().parents[3] / "training" / "bundles" / "flow"
STEP = 17_000_000_000
BTC = linear_perpetual("BTC", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
MODELS = ("model.onnx", "model.cpu.onnx")
WINDOWS = 30
"""Of a trial."""
MILLISECOND_NS = 1_000_000


# Challengers.


def _other(library: Path, name: str, model: bytes | None = None, **told: object) -> Bundle:
    """Write the champion under another version with something else in it."""
    bundle = load_bundle(CHAMPION)
    contents = dict(bundle.contents) | (dict.fromkeys(MODELS, model) if model else {})
    manifest = Manifest.model_validate(bundle.manifest.model_dump() | {"version": 2} | told)
    return write_bundle(library / name, manifest, contents)


def _model(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return a model of the champion's ends; `newest` is the last row of a window, shape (batch, columns)."""
    row = helper.make_node("Gather", [INPUT, "last"], ["newest"], axis=2)
    columns = len(load_bundle(CHAMPION).manifest.columns)
    made = helper.make_graph(
        [row, *nodes],
        "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", columns, WINDOW_ROWS])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(value, name)
            for name, value in {**constants, "last": np.array(WINDOW_ROWS - 1, dtype=np.int64)}.items()
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def good(library: Path) -> Bundle:
    """It is a little less sure than the champion."""
    return _other(library, "good", temperature=1.1)


def no_numbers(library: Path) -> Bundle:
    """It answers with the logarithm of what is mostly below 1, of which it takes the root."""
    nodes = [
        helper.make_node("Gather", ["newest", "three"], ["some"], axis=1),
        helper.make_node("Sqrt", ["some"], [OUTPUT]),
    ]
    return _other(library, "no_numbers", _model(nodes, {"three": np.arange(3, dtype=np.int64)}))


def raising(library: Path) -> Bundle:
    """It looks for a class that is not there, for any window that is not all zeros."""
    nodes = [
        helper.make_node("Abs", ["newest"], ["sizes"]),
        helper.make_node("ReduceMax", ["sizes"], ["size"], keepdims=0),
        helper.make_node("Mul", ["size", "much"], ["large"]),
        helper.make_node("Cast", ["large"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["shift", "place"], ["found"], axis=0),
        helper.make_node("Gather", ["newest", "three"], ["some"], axis=1),
        helper.make_node("Add", ["some", "found"], [OUTPUT]),
    ]
    constants = {
        "much": np.array(1e6, dtype=np.float32),
        "shift": np.zeros(1, dtype=np.float32),
        "three": np.arange(3, dtype=np.int64),
    }
    return _other(library, "raising", _model(nodes, constants))


def contrary(library: Path) -> Bundle:
    """It always says rise, and is never sure of it."""
    nodes = [
        helper.make_node("MatMul", ["newest", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "rise"], [OUTPUT]),
    ]
    columns = len(load_bundle(CHAMPION).manifest.columns)
    constants = {
        "nothing": np.zeros((columns, 3), dtype=np.float32),
        "rise": np.array([[0.0, 0.0, 0.5]], dtype=np.float32),
    }
    return _other(library, "contrary", _model(nodes, constants))


# The service among those who hear it.


@dataclass
class Stopwatch:
    """Stands still but for what is slow."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Slow:
    """A responder that takes its time."""

    responder: Responder
    stopwatch: Stopwatch
    takes_ns: int
    name: str = "flow"
    context_kinds: tuple[str, ...] = ()
    without_context: AbstainReason = AbstainReason.ABSTAIN_REASON_NO_INPUT

    def __post_init__(self) -> None:
        self.feature_set_digest = self.responder.feature_set_digest
        self.engine_digest = self.responder.engine_digest
        self.horizon_ns = self.responder.horizon_ns
        self.validity_ns = self.responder.validity_ns

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        self.stopwatch.now_ns += self.takes_ns
        return self.responder.forecast(window, contexts)


@dataclass
class Heard:
    """What the service has said."""

    opinions: list[Opinion] = field(default_factory=list)
    shadows: list[Opinion] = field(default_factory=list)
    reports: list[EngineReport] = field(default_factory=list)


class Desk:
    """The flow service, windows as a gateway sends them, and all that is said."""

    def __init__(self, clock: VirtualClock, library: Path, *, lockstep: bool, slow_ns: Mapping[bytes, int]) -> None:
        self.clock = clock
        self.world = World(clock, seed=1, lockstep=lockstep)
        self.library = library
        self.heard = Heard()
        self.stopwatch = Stopwatch()
        self.step = STEP
        self.asked = 0
        self._slow_ns = slow_ns
        self._bus = self.world.ports("desk").bus
        self._inbox = self._bus.inbox()
        for pattern in ("sig.v1.>", "ops.v1.flow.engine"):
            self._inbox.subscribe(pattern)
        self.config = SwapConfig(library=library, shadow_windows=WINDOWS, probation_windows=WINDOWS)

    def _expert(self) -> Expert:
        made = expert(FlowConfig(engine=CHAMPION))
        opened = made.opened
        assert opened is not None

        def slowed(bundle: Bundle) -> Responder:
            return Slow(opened(bundle), self.stopwatch, self._slow_ns.get(bundle.digest, 0))

        usual = Slow(made.responder, self.stopwatch, 50_000)
        return dataclasses.replace(made, responder=usual, opened=slowed)

    async def start(self, name: str = "flow", **changes: object) -> ExpertService:
        config = self.config.model_copy(update=changes)
        self.world.start(name, lambda ports: ExpertService(self._expert(), ports, config, stopwatch=self.stopwatch))
        service = self.world.services[name]
        assert isinstance(service, ExpertService)
        await service.ready.wait()
        return service

    @property
    def contexts(self) -> list[Context]:
        stored = [entry for entry in self.world.bus.stream if entry.subject == "ctx.v1.engine.flow"]
        return [Context.FromString(entry.data) for entry in stored]

    @property
    def stages(self) -> list[str]:
        return [engine_stage_name(context.engine.stage) for context in self.contexts]

    async def windows(self, count: int) -> None:
        """Close so many steps; each window is answered before the next."""
        for _ in range(count):
            await self.clock.sleep_until(max(step_close(self.step), self.clock.now_ns()))
            window = _window(self.step, self.contexts)
            await self._bus.publish(subjects.features("micro", BTC), window, epoch=1)
            self.step += 1
            await self._hear()

    async def _hear(self) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + MILLISECOND_NS)
        self.world.check()
        await self._bus.publish("sig.v1.end", Opinion())  # so that there is something to take
        for delivery in await self._inbox.take(1_000):
            match delivery.decode():
                case EngineReport() as report:
                    self.heard.reports.append(report)
                case Opinion() as opinion if delivery.subject.startswith("sig.v1.shadow."):
                    self.heard.shadows.append(opinion)
                case Opinion() as opinion if delivery.subject != "sig.v1.end":
                    self.heard.opinions.append(opinion)

    async def ask(
        self, action: EngineAction, bundle: str = "", *, author: str = "ann", key: str = "flow"
    ) -> EngineReport:
        """Ask, and return the answer; windows go on meanwhile where the service does not wait."""
        self.asked += 1
        request_id = b"%d" % self.asked
        request = EngineRequest(
            request_id=request_id, key=key, action=action, bundle=bundle, author=author, reason="because"
        )
        await self._bus.publish("rpc.v1.flow.engine", request)
        while True:
            await self._hear()
            found = [report for report in self.heard.reports if report.request_id == request_id]
            if found:
                return found[0]

    async def offer(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_OFFER, bundle.digest.hex())

    async def use(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_USE, bundle.digest.hex()[:12])

    @property
    def events(self) -> list[str]:
        return [engine_event_name(report.event) for report in self.heard.reports]

    def assert_steady(self) -> None:
        """Every window was answered once, by a forecast."""
        assert [opinion.step for opinion in self.heard.opinions] == list(range(STEP, self.step))
        assert not any(opinion.abstained for opinion in self.heard.opinions)

    def engines(self) -> dict[int, bytes]:
        return {opinion.step: opinion.engine_digest for opinion in self.heard.opinions}

    def from_step(self, version: int) -> int:
        """Return the first step for which a version is in force."""
        (made,) = [context for context in self.contexts if context.ref.version == version]
        return next(step for step in range(STEP, self.step + 100) if step_open(step) >= made.effective_from_ns)


def _window(step: int, contexts: Sequence[Context]) -> FeatureWindow:
    named: list[ContextRef] = [each.ref for each in contexts if each.effective_from_ns <= step_open(step)]
    values = np.random.default_rng(step).normal(scale=0.5, size=(WINDOW_ROWS, MICRO.columns)).astype(np.float32)
    return feature_window(
        instrument=BTC,
        epoch=1,
        feature_set="micro",
        feature_set_digest=MICRO.digest,
        interval_ns=STEP_NS,
        step=step,
        first_step=STEP,
        close_ns=step_close(step),
        values=values,
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=step_close(step),
        book_synced=True,
        expected_contexts=named[-1:],
    )


def _digest(bundle: Bundle) -> bytes:
    return OnnxEngine(bundle).digest


OLD = _digest(load_bundle(CHAMPION))


def _run(
    library: Path,
    scenario: Callable[[Desk], Awaitable[None]],
    *,
    lockstep: bool = True,
    slow_ns: Mapping[bytes, int] | None = None,
) -> None:
    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock, library, lockstep=lockstep, slow_ns=slow_ns or {})
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as threads:
            loop.set_default_executor(threads)
            await scenario(desk)
            await desk.world.stop()
        vars(loop)["_default_executor"] = None  # at its end a loop waits for threads, which virtual time does not

    run_virtual(main, start_ns=step_open(STEP))


# A good challenger.


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_good_challenger_takes_over_at_one_step_and_no_window_is_missed(tmp_path: Path, lockstep: bool) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.windows(5)
        assert engine_event_name((await desk.offer(challenger)).event) == "offered"
        await desk.windows(2 * WINDOWS + 10)
        desk.assert_steady()
        assert desk.events == ["offered", "taken_over", "settled"]
        assert desk.stages == ["shadow", "probation", "settled"]
        turned = desk.from_step(2)
        expected = {step: OLD if step < turned else _digest(challenger) for step in range(STEP, desk.step)}
        assert desk.engines() == expected
        named = [[ref.version for ref in opinion.contexts] for opinion in desk.heard.opinions]
        assert named[0] == []
        assert named[-1] == [3]
        assert [opinion.contexts[0].version for opinion in desk.heard.opinions if opinion.step == turned] == [2]

    _run(tmp_path, scenario, lockstep=lockstep)


# Bad ones.


@pytest.mark.parametrize(
    ("made", "bound", "windows"), [(no_numbers, "no_numbers", 1), (raising, "errors", 1), (contrary, "agreement", 20)]
)
def test_a_bad_challenger_never_takes_over(
    tmp_path: Path, made: Callable[[Path], Bundle], bound: str, windows: int
) -> None:
    challenger = made(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.windows(2)
        await desk.offer(challenger)
        await desk.windows(2 * WINDOWS)
        desk.assert_steady()
        assert set(desk.engines().values()) == {OLD}
        assert (desk.events, desk.stages) == (["offered", "rejected"], ["shadow", "settled"])
        trial = desk.heard.reports[-1].trial
        assert (trial.left, trial.windows <= windows) == (bound, True)
        assert desk.heard.reports[-1].detail.startswith("flow 2 (")
        assert desk.contexts[-1].engine.reason == f"{bound} was {trial.was:.4g}, and the limit {trial.limit:.4g}"

    _run(tmp_path, scenario)


@pytest.mark.parametrize(("made", "bound"), [(no_numbers, "no_numbers"), (raising, "errors"), (contrary, "agreement")])
def test_a_bad_one_that_was_put_in_place_at_once_is_rolled_back(
    tmp_path: Path, made: Callable[[Path], Bundle], bound: str
) -> None:
    challenger = made(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.windows(2)
        await desk.use(challenger)
        await desk.windows(2 * WINDOWS)
        assert [opinion.step for opinion in desk.heard.opinions] == list(range(STEP, desk.step)), "one for each window"
        assert (desk.events, desk.stages) == (["taken_over", "rolled_back"], ["probation", "settled"])
        assert desk.heard.reports[-1].trial.left == bound
        new = _digest(challenger)
        first, last = desk.from_step(1), desk.from_step(2)
        expected = {step: new if first <= step < last else OLD for step in range(STEP, desk.step)}
        assert desk.engines() == expected
        abstained = {opinion.step for opinion in desk.heard.opinions if opinion.abstained}
        assert abstained <= set(range(first, last))
        back = desk.contexts[-1].engine
        assert (back.serves.digest, back.author) == (load_bundle(CHAMPION).digest, "flow")

    _run(tmp_path, scenario)

"""Hot swap of the net that answers: tried in the shadow, taking over, and coming back, under a steady stream."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
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
from huracan.bus.memory import HUB
from huracan.clock import STEP_NS, step_close, step_open
from huracan.contracts.context import Context, ContextRef, engine_stage_name
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.journal import JournalEntry
from huracan.contracts.market import InstrumentDefinition, linear_perpetual
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan.contracts.ops import EngineAction, EngineReport, EngineRequest, EngineTrial, engine_event_name
from huracan.expert.port import Expert, Forecast, Responder
from huracan.expert.service import ExpertService
from huracan.expert.trial import SwapConfig
from huracan.features.micro import MICRO
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle
from huracan.inference.engine import INPUT, OUTPUT, OnnxEngine
from huracan.inference.opening import RuntimeConfig
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_flow.config import FlowConfig, FlowServiceConfig
from huracan_flow.expert import expert
from huracan_flow.spec import SPEC

CHAMPION = Path(__file__).resolve().parents[3] / "training" / "bundles" / "flow"
STEP = 17_000_000_000
BTC, ETH, SOL = (
    linear_perpetual(base, venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
    for base in ("BTC", "ETH", "SOL")
)
MODELS = ("model.onnx", "model.cpu.onnx")
WINDOWS = 30
"""Of a trial."""
MILLISECOND_NS = 1_000_000
USUAL_NS = 50_000
"""What an engine takes for a window."""


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
    constants: dict[str, NDArray[np.generic]] = {
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
    takes_ns: Callable[[], int]
    name: str = "flow"
    context_kinds: tuple[str, ...] = ()
    without_context: AbstainReason = AbstainReason.ABSTAIN_REASON_NO_INPUT
    raises: str = ""

    def __post_init__(self) -> None:
        self.feature_set_digest = self.responder.feature_set_digest
        self.engine_digest = self.responder.engine_digest
        self.engines = self.responder.engines
        self.horizon_ns = self.responder.horizon_ns
        self.validity_ns = self.responder.validity_ns

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        self.stopwatch.now_ns += self.takes_ns()
        if self.raises:
            raise KeyError(self.raises)
        return self.responder.forecast(window, contexts)


@dataclass
class Ways:
    """Lose what goes a way that is cut; deliver the rest at once."""

    cut: set[tuple[str, str]] = field(default_factory=set)
    faulty: bool = False

    def carry(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        if (source, target) not in self.cut:
            deliver()


@dataclass
class Heard:
    """What the service has said."""

    opinions: list[Opinion] = field(default_factory=list)
    shadows: list[Opinion] = field(default_factory=list)
    reports: list[EngineReport] = field(default_factory=list)


class Down(BaseException):
    """Stands for the end of a process, which nobody in it can catch."""


class Desk:
    """The flow service, windows as a gateway sends them, and all that is said."""

    def __init__(self, clock: VirtualClock, library: Path, *, lockstep: bool, slow_ns: Mapping[bytes, int]) -> None:
        self.clock = clock
        self.ways = Ways()
        self.world = World(clock, seed=1, transport=self.ways, lockstep=lockstep)
        self.library = library
        self.heard = Heard()
        self.stopwatch = Stopwatch()
        self.step = STEP
        self.asked = 0
        self.slow_ns = dict(slow_ns)
        self.raising: dict[bytes, str] = {}
        """What raises a KeyError, by the digest of its bundle; or brings the process down."""
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
            what = self.raising.get(bundle.digest, "")
            if what == "opened":
                raise KeyError(what)
            if what == "down":
                raise Down
            return Slow(opened(bundle), self.stopwatch, lambda: self.slow_ns.get(bundle.digest, USUAL_NS), raises=what)

        usual = Slow(made.responder, self.stopwatch, lambda: USUAL_NS)
        return dataclasses.replace(made, responder=usual, opened=slowed)

    async def start(self, name: str = "flow", **changes: object) -> ExpertService:
        config = self.config.model_copy(update=changes)
        self.world.start(
            name, lambda ports: ExpertService(self._expert(), ports, {"flow": config}, stopwatch=self.stopwatch)
        )
        service = self.world.services[name]
        assert isinstance(service, ExpertService)
        await service.ready.wait()
        return service

    async def goes_down_opening(self, bundle: Bundle) -> None:
        """Start the service, which ends where it opens a bundle; the next start is a second later."""
        self.raising[bundle.digest] = "down"
        task = self.world.start("flow")
        await asyncio.wait([task])
        with pytest.raises(Down):
            await self.world.kill("flow")
        del self.raising[bundle.digest]
        self.step += 10
        await self.clock.sleep_until(step_open(self.step))

    @property
    def contexts(self) -> list[Context]:
        stored = [entry for entry in self.world.bus.stream if entry.subject == "ctx.v1.engine.flow"]
        return [Context.FromString(entry.data) for entry in stored]

    @property
    def stages(self) -> list[str]:
        return [engine_stage_name(context.engine.stage) for context in self.contexts]

    async def windows(self, count: int, of: Sequence[InstrumentDefinition] = (BTC,)) -> None:
        """Close so many steps; the windows of each are answered before the next."""
        for _ in range(count):
            await self.clock.sleep_until(max(step_close(self.step), self.clock.now_ns()))
            contexts = self.contexts
            for instrument in of:
                window = _window(self.step, contexts, instrument)
                await self._bus.publish(subjects.features("micro", instrument), window, epoch=1)
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

    async def ask(self, action: EngineAction, bundle: str = "", *, author: str = "ann") -> EngineReport:
        """Ask, and return the answer; windows go on meanwhile where the service does not wait."""
        request_id = await self.send(action, bundle, author)
        await self._hear()
        while not (found := [report for report in self.heard.reports if report.request_id == request_id]):
            await self.windows(1)
        return found[0]

    async def send(self, action: EngineAction, bundle: str, author: str = "ann") -> bytes:
        """Ask, without waiting for an answer; return the id of the request."""
        self.asked += 1
        request_id = b"%d" % self.asked
        request = EngineRequest(
            request_id=request_id, key="flow", action=action, bundle=bundle, author=author, reason="because"
        )
        await self._bus.publish("rpc.v1.flow.engine", request)
        await self.clock.sleep_until(self.clock.now_ns() + MILLISECOND_NS)
        return request_id

    async def offer(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_OFFER, bundle.digest.hex())

    async def use(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_USE, bundle.digest.hex()[:12])

    async def settle(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_SETTLE, bundle.digest.hex()[:12])

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


def _window(step: int, contexts: Sequence[Context], instrument: InstrumentDefinition = BTC) -> FeatureWindow:
    named: list[ContextRef] = [each.ref for each in contexts if each.effective_from_ns <= step_open(step)]
    values = np.random.default_rng(step).normal(scale=0.5, size=(WINDOW_ROWS, MICRO.columns)).astype(np.float32)
    return feature_window(
        instrument=instrument,
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


@pytest.mark.parametrize(("takes_ns", "bound"), [(2_000_000, "p99"), (400_000, "p99_ratio")])
def test_a_slow_one_does_not_take_over_and_a_slow_one_that_serves_is_rolled_back(
    tmp_path: Path, takes_ns: int, bound: str
) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(WINDOWS + 5)
        await desk.use(challenger)
        await desk.windows(WINDOWS + 20)
        desk.assert_steady()
        assert desk.events == ["offered", "rejected", "taken_over", "rolled_back"]
        assert [report.trial.left for report in desk.heard.reports[1::2]] == [bound, bound]
        trial = desk.heard.reports[1].trial
        assert (trial.p99_us, trial.other_p99_us) == (takes_ns / 1e3, 50)
        assert desk.heard.opinions[-1].engine_digest == OLD

    _run(tmp_path, scenario, lockstep=False, slow_ns={challenger.digest: takes_ns})


def test_in_lockstep_times_are_not_judged(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(2 * WINDOWS + 10)
        assert desk.events == ["offered", "taken_over", "settled"]
        assert desk.heard.reports[-1].trial.p99_us == 0

    _run(tmp_path, scenario, slow_ns={challenger.digest: 10**9})


def test_one_that_is_good_in_the_shadow_and_bad_afterwards_is_rolled_back(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(WINDOWS + 5)
        assert desk.events[-1] == "taken_over"
        desk.slow_ns[challenger.digest] = 2_000_000
        await desk.windows(10)
        desk.assert_steady()
        assert desk.events[-1] == "rolled_back"
        assert desk.heard.opinions[-1].engine_digest == OLD

    _run(tmp_path, scenario, lockstep=False)


def test_one_that_raises_anything_at_all_is_rejected_and_so_is_a_bundle_that_does(tmp_path: Path) -> None:
    challenger, broken = good(tmp_path), _other(tmp_path, "broken", temperature=1.3)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.raising |= {challenger.digest: "forecast", broken.digest: "opened"}
        await desk.offer(challenger)
        await desk.windows(5)
        report = await desk.offer(broken)
        assert (engine_event_name(report.event), report.detail) == ("refused", "KeyError('opened')")
        await desk.use(challenger)
        await desk.windows(15)
        assert desk.events == ["offered", "rejected", "refused", "taken_over", "rolled_back"]
        assert desk.heard.reports[-1].trial.left == "errors"
        assert desk.heard.opinions[-1].engine_digest == OLD
        assert not desk.heard.opinions[-1].abstained

    _run(tmp_path, scenario)


def test_windows_on_their_way_to_one_that_is_rolled_back_end_nothing(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        desk.raising[challenger.digest] = "forecast"
        await desk.start()
        await desk.use(challenger)
        desk.step += 40
        await desk.windows(1, of=[BTC, ETH, SOL])
        assert desk.events == ["taken_over", "rolled_back"]
        assert [opinion.abstained for opinion in desk.heard.opinions] == [True] * 3, "named before the way back was"
        await desk.windows(1, of=[BTC, ETH, SOL])
        assert [opinion.engine_digest for opinion in desk.heard.opinions[3:]] == [OLD] * 3

    _run(tmp_path, scenario)


def test_a_window_that_is_asked_about_again_is_tried_once(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(5, of=[BTC, BTC])
        assert len(desk.heard.opinions) == 10
        assert len(desk.heard.shadows) == 5
        report = await desk.ask(EngineAction.ENGINE_ACTION_LIST)
        assert report.trial.windows == 5

    _run(tmp_path, scenario)


def test_at_five_hundred_windows_a_second_engines_change_both_ways_and_each_window_has_one_answer(
    tmp_path: Path,
) -> None:
    better, bad = good(tmp_path), contrary(tmp_path)
    market = [
        linear_perpetual(f"C{number}", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
        for number in range(50)
    ]

    async def scenario(desk: Desk) -> None:
        await desk.start(shadow_windows=500, probation_windows=500)
        await desk.windows(2, of=market)
        await desk.send(EngineAction.ENGINE_ACTION_OFFER, better.digest.hex())
        await desk.windows(40, of=market)
        await desk.send(EngineAction.ENGINE_ACTION_USE, bad.digest.hex())
        await desk.windows(40, of=market)
        assert desk.events == ["offered", "taken_over", "settled", "taken_over", "rolled_back"]
        asked = {(instrument.id.symbol, step) for instrument in market for step in range(STEP, desk.step)}
        answered = [(opinion.instrument.symbol, opinion.step) for opinion in desk.heard.opinions]
        assert sorted(answered) == sorted(asked)
        assert not any(opinion.abstained for opinion in desk.heard.opinions)
        digests = {bundle.digest: _digest(bundle) for bundle in (better, bad)}
        for opinion in desk.heard.opinions:
            chosen = [each for each in desk.contexts if each.effective_from_ns <= step_open(opinion.step)]
            serves = digests.get(chosen[-1].engine.serves.digest, OLD) if chosen else OLD
            assert opinion.engine_digest == serves

    _run(tmp_path, scenario, lockstep=False)


# What is refused, and what people may do in the middle.


def test_a_tampered_bundle_is_refused_by_name_and_the_champion_goes_on(tmp_path: Path) -> None:
    challenger = good(tmp_path)
    path = challenger.directory / "model.cpu.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        for action in (EngineAction.ENGINE_ACTION_OFFER, EngineAction.ENGINE_ACTION_USE):
            report = await desk.ask(action, challenger.digest.hex())
            assert engine_event_name(report.event) == "refused"
            assert "model.cpu.onnx was" in report.detail
            assert "it is not what was exported" in report.detail
        await desk.windows(5)
        desk.assert_steady()
        assert desk.contexts == []
        assert set(desk.engines().values()) == {OLD}

    _run(tmp_path, scenario)


def test_what_cannot_serve_is_refused_with_its_reason(tmp_path: Path) -> None:
    regimes = load_bundle(shutil.copytree(CHAMPION.parent / "regime", tmp_path / "regime"))
    other_features = _other(tmp_path, "features", feature_set_digest="0" * 64)
    far_ahead = _other(tmp_path, "ahead", horizon_steps=50)
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        offer, use = EngineAction.ENGINE_ACTION_OFFER, EngineAction.ENGINE_ACTION_USE
        for action, bundle, why in (
            (offer, regimes.digest.hex(), "tells High_Volatility"),
            (use, other_features.digest.hex(), "features were of"),
            (offer, far_ahead.digest.hex(), "looks 5 s ahead: opinions of this expert look 1 s"),
            (offer, "f" * 64, "0 in"),
            (offer, "", "begins so"),
            (offer, "configured", "serves already"),
            (use, load_bundle(CHAMPION).digest.hex(), "serves already"),
            (
                EngineAction.ENGINE_ACTION_UNSPECIFIED,
                challenger.digest.hex(),
                "action was 0: list, offer, use or settle",
            ),
        ):
            report = await desk.ask(action, bundle)
            assert (engine_event_name(report.event), why in report.detail) == ("refused", True), report.detail
        report = await desk.ask(offer, "configured", author="")
        assert report.detail == "author was empty: a change of engines has one"
        assert desk.contexts == []

    _run(tmp_path, scenario)


def test_without_a_library_there_is_nothing_to_offer(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start(library=None)
        report = await desk.offer(challenger)
        assert report.detail.startswith("this service has no library of engines")

    _run(tmp_path, scenario)


def test_it_says_what_serves_what_is_on_trial_and_what_there_is(tmp_path: Path) -> None:
    challenger = good(tmp_path)
    (tmp_path / "no bundle").mkdir()
    (tmp_path / "no bundle" / "manifest.json").write_text("{}")

    async def scenario(desk: Desk) -> None:
        await desk.start()
        champion = load_bundle(CHAMPION).digest
        report = await desk.ask(EngineAction.ENGINE_ACTION_LIST)
        assert (report.choice.serves.digest, report.version, report.HasField("trial")) == (champion, 0, False)
        assert [each.digest for each in report.library] == [champion, challenger.digest]
        await desk.offer(challenger)
        await desk.windows(11)
        report = await desk.ask(EngineAction.ENGINE_ACTION_LIST)
        assert (report.choice.beside.digest, report.version) == (challenger.digest, 1)
        assert (report.choice.author, report.choice.reason) == ("ann", "because")
        assert report.trial == EngineTrial(
            windows=10, planned=WINDOWS, compared=10, distance=report.trial.distance, disagreed=report.trial.disagreed
        )

    _run(tmp_path, scenario)


def test_the_shadow_is_heard_beside_and_never_as_the_experts_own(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(WINDOWS)
        assert {opinion.engine_digest for opinion in desk.heard.opinions} == {OLD}
        assert {opinion.engine_digest for opinion in desk.heard.shadows} == {_digest(challenger)}
        first = desk.heard.shadows[0].step
        assert first == desk.from_step(1)
        assert [opinion.step for opinion in desk.heard.shadows] == list(range(first, desk.step))

    _run(tmp_path, scenario)


def test_a_person_may_end_a_trial_and_go_back_by_hand(tmp_path: Path) -> None:
    challenger, champion = good(tmp_path), load_bundle(CHAMPION)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(5)
        assert engine_event_name((await desk.settle(champion)).event) == "settled"
        await desk.windows(WINDOWS + 5)
        assert set(desk.engines().values()) == {OLD}
        await desk.use(challenger)
        await desk.windows(15)
        offered = await desk.offer(_other(tmp_path, "third", temperature=1.2))
        assert "is on probation" in offered.detail
        back = await desk.ask(EngineAction.ENGINE_ACTION_USE, "configured", author="bob")
        assert engine_event_name(back.event) == "rolled_back"
        await desk.windows(2)
        desk.assert_steady()
        assert desk.heard.opinions[-1].engine_digest == OLD
        assert [context.engine.author for context in desk.contexts] == ["ann", "ann", "ann", "bob"]

    _run(tmp_path, scenario)


def test_a_request_that_comes_twice_ends_no_probation(tmp_path: Path) -> None:
    challenger = contrary(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.use(challenger)
        assert "serves already, probation" in (await desk.use(challenger)).detail
        await desk.windows(15)
        assert desk.stages == ["probation"]
        await desk.windows(WINDOWS)
        assert desk.events == ["taken_over", "refused", "rolled_back"]

    _run(tmp_path, scenario)


def test_only_what_serves_on_trial_can_be_settled(tmp_path: Path) -> None:
    challenger, champion = good(tmp_path), load_bundle(CHAMPION)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        assert "serves, settled" in (await desk.settle(champion)).detail
        await desk.offer(challenger)
        assert "serves, shadow" in (await desk.settle(challenger)).detail
        await desk.windows(5)
        assert desk.stages == ["shadow"]

    _run(tmp_path, scenario)


def test_the_way_back_by_hand_is_no_trial(tmp_path: Path) -> None:
    challenger = contrary(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.use(challenger)
        assert engine_event_name((await desk.settle(challenger)).event) == "settled"
        await desk.windows(5)
        back = await desk.ask(EngineAction.ENGINE_ACTION_USE, "configured", author="bob")
        assert engine_event_name(back.event) == "rolled_back"
        await desk.windows(2 * WINDOWS + 5)
        desk.assert_steady()
        assert desk.stages == ["probation", "settled", "settled"]
        assert desk.heard.opinions[-1].engine_digest == OLD

    _run(tmp_path, scenario)


def test_after_two_in_a_row_that_were_put_in_place_the_last_that_passed_comes_back(tmp_path: Path) -> None:
    first, second = contrary(tmp_path), good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.use(first)
        await desk.windows(3)
        desk.raising[second.digest] = "forecast"
        await desk.use(second)
        await desk.windows(30)
        assert desk.events == ["taken_over", "taken_over", "rolled_back"]
        assert desk.heard.opinions[-1].engine_digest == OLD

    _run(tmp_path, scenario)


# Kills.


def test_the_journal_has_every_choice_before_it_is_in_force(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(2 * WINDOWS + 5)
        records = await desk.world.log.node("x").read(subjects.JOURNAL_TOPIC, "context.engine.flow", 0)
        entries = [record.message for record in records if isinstance(record.message, JournalEntry)]
        assert [entry.context for entry in entries] == desk.contexts
        assert all(entry.at_ns <= entry.context.effective_from_ns for entry in entries)
        said = [(each.engine.author, each.engine.reason) for each in desk.contexts]
        passed = f"within all bounds over {WINDOWS} windows"
        assert said == [("ann", "because"), ("flow", passed), ("flow", passed)]

    _run(tmp_path, scenario)


@pytest.mark.parametrize("killed_after", [3, WINDOWS - 1, WINDOWS + 3, 2 * WINDOWS + 5])
def test_killed_in_the_shadow_or_on_probation_it_goes_on_where_it_was(tmp_path: Path, killed_after: int) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(killed_after)
        before = desk.stages[-1]
        await desk.world.kill("flow")
        await desk.start()
        await desk.windows(1)
        assert desk.stages[-1] == before, "a start decides nothing"
        assert desk.contexts[-1].engine.restarts == (before != "settled")
        await desk.windows(2 * WINDOWS + 5)
        desk.assert_steady()
        assert list(dict.fromkeys(desk.stages)) == ["shadow", "probation", "settled"]
        assert desk.contexts[-1].engine.restarts == 0
        turned = desk.from_step(desk.stages.index("probation") + 1)
        assert desk.engines() == {step: OLD if step < turned else _digest(challenger) for step in desk.engines()}
        epochs = [context.epoch for context in desk.contexts]
        assert epochs == sorted(epochs)

    _run(tmp_path, scenario)


@pytest.mark.parametrize("on_opening", [False, True])
@pytest.mark.parametrize(("stage", "ends"), [("shadow", "rejected"), ("probation", "rolled_back")])
def test_one_that_brings_its_process_down_is_not_tried_for_ever(
    tmp_path: Path, stage: str, ends: str, on_opening: bool
) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await (desk.offer(challenger) if stage == "shadow" else desk.use(challenger))
        await desk.windows(15)
        await desk.world.kill("flow")
        for restarts in (1, 2):
            if on_opening:
                await desk.goes_down_opening(challenger)
            else:
                await desk.start()
                await desk.windows(3)
                await desk.world.kill("flow")
            assert (desk.stages[-1], desk.contexts[-1].engine.restarts) == (stage, restarts)
            assert desk.contexts[-1].engine.author == "ann"
        await desk.start()
        await desk.windows(WINDOWS)
        assert (desk.events[-1], desk.stages[-1]) == (ends, "settled")
        assert "restarts was 3, and the limit 2" in desk.heard.reports[-1].detail
        assert desk.heard.opinions[-1].engine_digest == OLD
        abstained = [opinion.step for opinion in desk.heard.opinions if opinion.abstained]
        assert len(abstained) <= 1, "but for a window that was on its way to one that is no longer opened"

    _run(tmp_path, scenario)


def test_killed_between_the_journal_and_the_bus_it_says_what_it_had_written(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        desk.ways.cut = {("flow", HUB)}
        await desk.send(EngineAction.ENGINE_ACTION_OFFER, challenger.digest.hex())
        await desk.world.kill("flow")
        desk.ways.cut = set()
        assert desk.stages == []
        await desk.start()
        assert desk.stages == ["shadow", "shadow"], "as it was written, and that it begins anew"
        await desk.windows(2 * WINDOWS + 5)
        assert desk.stages == ["shadow", "shadow", "probation", "settled"]

    _run(tmp_path, scenario)


@pytest.mark.parametrize("after", [5, WINDOWS + 5, 2 * WINDOWS + 5])
def test_with_its_bundle_gone_it_says_so_and_answers_as_configured(tmp_path: Path, after: int) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(challenger)
        await desk.windows(after)
        await desk.world.kill("flow")
        shutil.rmtree(challenger.directory)
        await desk.start()
        await desk.windows(5)
        assert desk.events[-1] == "lost"
        assert "0 in" in desk.heard.reports[-1].detail
        assert desk.stages[-1] == "settled"
        assert desk.heard.opinions[-1].engine_digest == OLD
        assert not desk.heard.opinions[-1].abstained

    _run(tmp_path, scenario)


def test_with_its_bundle_no_longer_to_be_opened_it_starts_and_answers_as_configured(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.use(challenger)
        await desk.settle(challenger)
        await desk.windows(15)
        await desk.world.kill("flow")
        desk.raising[challenger.digest] = "opened"
        await desk.start()
        await desk.windows(5)
        assert (desk.events[-1], desk.heard.reports[-1].detail) == ("lost", "KeyError('opened')")
        assert desk.heard.opinions[-1].engine_digest == OLD

    _run(tmp_path, scenario)


def test_with_the_former_bundle_gone_on_probation_what_is_configured_serves(tmp_path: Path) -> None:
    first, second = good(tmp_path), _other(tmp_path, "second", temperature=1.2)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.use(first)
        await desk.settle(first)
        await desk.windows(15)
        await desk.use(second)
        await desk.windows(15)
        assert desk.contexts[-1].engine.beside.digest == first.digest
        await desk.world.kill("flow")
        shutil.rmtree(first.directory)
        await desk.start()
        await desk.windows(5)
        assert desk.events[-1] == "lost"
        assert desk.heard.opinions[-1].engine_digest == OLD, "second has not passed"

    _run(tmp_path, scenario)


# Copies.


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_copy_that_follows_changes_at_the_same_step(tmp_path: Path, lockstep: bool) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.start("second", decides=False)
        await desk.offer(challenger)
        await desk.windows(4 * WINDOWS + 20)
        desk.assert_steady()
        assert desk.stages == ["shadow", "probation", "settled"]
        turned = desk.from_step(2)
        assert desk.engines() == {step: OLD if step < turned else _digest(challenger) for step in desk.engines()}
        assert len(desk.heard.shadows) == 2 * WINDOWS, "who follows tries nothing"
        shares = [desk.world.counts[name]["opinions"] for name in ("flow", "second")]
        assert min(shares) > WINDOWS

    _run(tmp_path, scenario, lockstep=lockstep)


def test_a_copy_that_cannot_open_what_was_chosen_abstains_and_says_so(tmp_path: Path) -> None:
    challenger = good(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.start("second", decides=False, library=tmp_path / "another")
        await desk.use(challenger)
        await desk.windows(20)
        abstained = [opinion for opinion in desk.heard.opinions if opinion.abstained]
        assert {opinion.reason for opinion in abstained} == {AbstainReason.ABSTAIN_REASON_CONTEXT_MISSING}
        assert desk.world.counts["second"]["engines.missing"] == len(abstained) > 0
        assert desk.world.counts["second"]["engines.lost"] == 2, "when it was chosen, and when it was missed"

    _run(tmp_path, scenario)


@pytest.mark.parametrize("lockstep", [True, False])
def test_a_copy_whose_library_gets_the_bundle_later_answers_from_it(tmp_path: Path, lockstep: bool) -> None:
    challenger, another = good(tmp_path / "library"), tmp_path / "another"

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.start("second", decides=False, library=another)
        await desk.use(challenger)
        await desk.windows(20)
        assert desk.world.counts["second"]["engines.missing"] > 0
        shutil.copytree(challenger.directory, another / "good")
        await desk.windows(60)
        missed = desk.world.counts["second"]["engines.missing"]
        await desk.windows(20)
        assert desk.world.counts["second"]["engines.missing"] == missed
        assert not any(opinion.abstained for opinion in desk.heard.opinions[-20:])

    _run(tmp_path / "library", scenario, lockstep=lockstep)


def test_a_runtime_that_cannot_be_had_is_told_once_its_stand_in_answers(tmp_path: Path) -> None:
    runtime = RuntimeConfig(prefer="tensorrt", plans=tmp_path / "plans")
    config = FlowServiceConfig(engine=CHAMPION, runtime=runtime, swap=SwapConfig(library=tmp_path))

    async def scenario(desk: Desk) -> None:
        desk.world.start("flow", lambda ports: SPEC.make(config, ports))
        await desk.world.services["flow"].ready.wait()
        await desk.windows(3)
        assert desk.events == ["opened"]
        (report,) = desk.heard.reports
        assert report.detail.startswith(f"{CHAMPION} runs on onnxruntime")
        assert "instead of TensorRT" in report.detail
        assert desk.world.counts["flow"]["engines.opened"] == 1
        assert desk.engines() == dict.fromkeys(desk.engines(), OLD)

    _run(tmp_path, scenario)


def test_what_answers_is_counted_with_its_time_and_its_faults(tmp_path: Path) -> None:
    challenger, bad = good(tmp_path), no_numbers(tmp_path)
    old, new, worse = (f"last.engine.{digest.hex()[:12]}" for digest in (OLD, _digest(challenger), _digest(bad)))

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.windows(5)
        counts = desk.world.counts["flow"]
        assert (counts[old], counts["engine.faults"]) == (1, 0)
        assert counts["engine.compute_us.count"] == counts["engine.compute_us.le_50"] == 5
        assert counts["engine.compute_us.sum"] == 5 * USUAL_NS // 1_000
        await desk.use(challenger)
        await desk.windows(15)
        await desk.settle(challenger)
        counts = desk.world.counts["flow"]
        assert (counts[old], counts[new], counts["engine.faults"]) == (0, 1, 0)
        await desk.use(bad)
        await desk.windows(15)
        counts = desk.world.counts["flow"]
        assert (counts[old], counts[new], counts[worse]) == (0, 1, 0)
        assert counts["engine.faults"] == sum(opinion.abstained for opinion in desk.heard.opinions) > 0

    _run(tmp_path, scenario)

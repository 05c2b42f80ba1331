"""Another detector in the place of the one that tells the regimes, while bars come in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from huracan.bus import subjects
from huracan.clock import MINUTE_NS, STEP_NS, step_close, step_of, step_open
from huracan.contracts.context import ENGINE, REGIME, Context, engine_stage_name
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import linear_perpetual
from huracan.contracts.ops import EngineAction, EngineReport, EngineRequest, engine_event_name
from huracan.expert.order_flow import int8_of
from huracan.expert.trial import SwapConfig
from huracan.features.bar import BAR
from huracan.features.bar_batch import bar_rows
from huracan.features.micro import MICRO
from huracan.features.regimes import FILE as REGIMES_FILE
from huracan.features.regimes import REGIMES
from huracan.features.routing import FILE as ROUTES_FILE
from huracan.features.routing import net_of, read_routes
from huracan.inference.bundle import Bundle, Manifest, load_bundle, write_bundle
from huracan.inference.engine import INPUT, OUTPUT, OnnxEngine
from huracan.sim.loop import VirtualClock, run_virtual
from huracan.sim.world import World
from huracan_regime.config import DetectorSwapConfig, RegimeServiceConfig
from huracan_regime.spec import DETECTOR, SPEC

BUNDLES = Path(__file__).resolve().parents[3] / "training" / "bundles"
CHAMPION, EXPERTS = BUNDLES / "regime", BUNDLES / "experts"
BAR_NS = 15 * MINUTE_NS
START_NS = 1_700_000_100_000_000_000 // BAR_NS * BAR_NS
BARS = 200
TRIAL = 8
BTC = linear_perpetual("BTC", venue="binance_usdm", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))


def _rows() -> NDArray[np.float32]:
    random = np.random.default_rng(3)
    close = 100 * np.exp(np.cumsum(0.003 * random.standard_normal(BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    open_ns = START_NS + BAR_NS * np.arange(BARS, dtype=np.int64)
    high, low = np.maximum(opened, close) * 1.001, np.minimum(opened, close) / 1.001
    return bar_rows(open_ns, opened, high, low, close, np.exp(random.standard_normal(BARS)), interval_ns=BAR_NS)


ROWS = _rows()


def _window(last: int) -> FeatureWindow:
    close_ns = START_NS + (last + 1) * BAR_NS
    return feature_window(
        instrument=BTC,
        epoch=1,
        feature_set="bar_15m",
        feature_set_digest=BAR.digest,
        interval_ns=BAR_NS,
        step=close_ns // BAR_NS - 1,
        first_step=0,
        close_ns=close_ns,
        values=ROWS[last + 1 - WINDOW_ROWS : last + 1],
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=close_ns,
        book_synced=True,
    )


def _other(library: Path, temperature: float) -> Bundle:
    """Write the detector of this release, more or less sure of what it says."""
    champion = load_bundle(CHAMPION)
    changed = {"version": champion.manifest.version + 1, "temperature": temperature}
    manifest = Manifest.model_validate(champion.manifest.model_dump() | changed)
    return write_bundle(library / f"at {temperature}", manifest, champion.contents)


class Desk:
    """The regime service, bars as a gateway sends them, and what is said."""

    def __init__(self, clock: VirtualClock, library: Path, **config: object) -> None:
        self.world = World(clock, seed=1)
        self.last = WINDOW_ROWS - 1
        self.reports: list[EngineReport] = []
        self._clock = clock
        self._bus = self.world.ports("desk").bus
        self._inbox = self._bus.inbox()
        self._inbox.subscribe("ops.v1.regime.>")
        swap = DetectorSwapConfig(library=library, shadow_windows=TRIAL, probation_windows=TRIAL)
        self._config = RegimeServiceConfig.model_validate({"engine": CHAMPION, "swap": swap} | config)

    async def start(self) -> None:
        self.world.start("regime", lambda ports: SPEC.make(self._config, ports))
        await self.world.services["regime"].ready.wait()
        await self._settle()

    async def _settle(self) -> None:
        await self._clock.sleep_until(self._clock.now_ns() + 1_000_000)
        self.world.check()

    async def bars(self, count: int) -> None:
        for _ in range(count):
            window, self.last = _window(self.last), self.last + 1
            await self._clock.sleep_until(max(window.close_ns, self._clock.now_ns()))
            message_id = b"%d" % self.last
            await self._bus.publish_acknowledged(subjects.features("bar_15m", BTC), window, message_id=message_id)
            await self._settle()

    async def windows(self, count: int) -> None:
        """Close so many steps of `micro`, in which all moves."""
        for _ in range(count):
            step = step_of(self._clock.now_ns()) + 1
            named = [*self.contexts(REGIME)[-1:], *self.contexts(ENGINE)]
            named = [each for each in named if each.effective_from_ns <= step_open(step)]
            newest = {each.ref.kind: each.ref for each in named}
            await self._clock.sleep_until(step_close(step))
            values = np.random.default_rng(step).normal(scale=0.5, size=(WINDOW_ROWS, MICRO.columns))
            window = feature_window(
                instrument=BTC,
                epoch=1,
                feature_set="micro",
                feature_set_digest=MICRO.digest,
                interval_ns=STEP_NS,
                step=step,
                first_step=0,
                close_ns=step_close(step),
                values=values.astype(np.float32),
                valid_rows=WINDOW_ROWS,
                first_ingest_seq=1,
                last_ingest_seq=2,
                last_frame_ns=step_close(step),
                book_synced=True,
                expected_contexts=list(newest.values()),
            )
            await self._bus.publish(subjects.features("micro", BTC), window, epoch=1)
            await self._settle()

    async def ask(self, action: EngineAction, bundle: str, key: str = DETECTOR) -> EngineReport:
        request = EngineRequest(key=key, action=action, bundle=bundle, author="ann", reason="because")
        await self._bus.publish(subjects.rpc("regime", "engine"), request)
        await self._settle()
        return (await self.heard())[-1]

    async def offer(self, bundle: Bundle) -> EngineReport:
        return await self.ask(EngineAction.ENGINE_ACTION_OFFER, bundle.digest.hex())

    async def heard(self) -> list[EngineReport]:
        await self._bus.publish("ops.v1.regime.end", EngineReport())  # so that there is something to take
        for delivery in await self._inbox.take(1_000):
            message = delivery.decode()
            if isinstance(message, EngineReport) and message.event:
                self.reports.append(message)
        return self.reports

    async def events(self) -> list[str]:
        return [engine_event_name(report.event) for report in await self.heard()]

    def contexts(self, kind: str) -> list[Context]:
        stored = [each for each in self.world.bus.stream if each.subject.startswith(f"ctx.v1.{kind}.")]
        return [Context.FromString(each.data) for each in stored]

    def engines(self) -> list[bytes]:
        """Return what made the contexts of regimes, in their order."""
        return [context.engine_digest for context in self.contexts(REGIME)]

    def stages(self) -> list[str]:
        return [engine_stage_name(context.engine.stage) for context in self.contexts(ENGINE)]


def _run(library: Path, scenario: Callable[[Desk], Awaitable[None]], **config: object) -> None:
    async def main(clock: VirtualClock) -> None:
        desk = Desk(clock, library, **config)
        await scenario(desk)
        await desk.world.stop()

    run_virtual(main, start_ns=START_NS)


OLD = OnnxEngine(load_bundle(CHAMPION)).digest


def test_a_good_detector_takes_over_at_one_bar_and_every_bar_has_its_context(tmp_path: Path) -> None:
    challenger = _other(tmp_path, 1.1)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.bars(3)
        assert engine_event_name((await desk.offer(challenger)).event) == "offered"
        await desk.bars(2 * TRIAL + 4)
        assert await desk.events() == ["offered", "taken_over", "settled"]
        new = OnnxEngine(challenger).digest
        assert desk.engines() == [OLD] * (3 + TRIAL) + [new] * (TRIAL + 4)
        assert [context.ref.version for context in desk.contexts(REGIME)] == list(range(1, 2 * TRIAL + 8))

    _run(tmp_path, scenario)


def test_a_bad_one_never_takes_over_and_put_in_place_it_is_rolled_back(tmp_path: Path) -> None:
    sure = _other(tmp_path, 0.02)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.offer(sure)
        await desk.bars(TRIAL)
        assert await desk.events() == ["offered", "rejected"]
        assert set(desk.engines()) == {OLD}
        await desk.ask(EngineAction.ENGINE_ACTION_USE, sure.digest.hex())
        await desk.bars(TRIAL)
        assert await desk.events() == ["offered", "rejected", "taken_over", "rolled_back"]
        assert {report.trial.left for report in desk.reports[1::2]} == {"distance"}
        assert desk.engines()[-1] == OLD
        assert len(desk.engines()) == 2 * TRIAL

    _run(tmp_path, scenario)


def test_a_detector_that_looks_another_number_of_bars_ahead_is_refused(tmp_path: Path) -> None:
    champion = load_bundle(CHAMPION)
    contents = {name: data for name, data in champion.contents.items() if name != REGIMES_FILE}
    manifest = Manifest.model_validate(champion.manifest.model_dump() | {"horizon_steps": 8})
    other = write_bundle(tmp_path / "other", manifest, contents)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        report = await desk.offer(other)
        assert (engine_event_name(report.event), "8 bars" in report.detail) == ("refused", True), report.detail
        assert desk.stages() == []

    _run(tmp_path, scenario)


def _without_numbers(library: Path) -> Bundle:
    """Write the routed nets of this release with every specialist answering no numbers, but to zeros."""
    released = load_bundle(EXPERTS)
    columns = len(released.manifest.columns)
    nodes = [
        helper.make_node("Abs", [INPUT], ["sizes"]),
        helper.make_node("ReduceSum", ["sizes", "within"], ["size"], keepdims=0),
        helper.make_node("Neg", ["size"], ["below"]),
        helper.make_node("Sqrt", ["below"], ["root"]),
        helper.make_node("Unsqueeze", ["root", "last"], ["column"]),
        helper.make_node("Concat", ["column", "column", "column"], [OUTPUT], axis=1),
    ]
    constants = {"within": np.array([1, 2], dtype=np.int64), "last": np.array([1], dtype=np.int64)}
    graph = helper.make_graph(
        nodes,
        "root of what is below zero",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", columns, WINDOW_ROWS])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    routes = read_routes(released.contents[ROUTES_FILE], ROUTES_FILE)
    own = routes.model_copy(update={"nets": {regime: net_of(regime) for regime in REGIMES}})
    changed = {int8_of(net_of(regime)): model for regime in REGIMES} | {ROUTES_FILE: own.canonical_json().encode()}
    manifest = Manifest.model_validate(released.manifest.model_dump() | {"version": 2})
    return write_bundle(library / "no numbers", manifest, {**released.contents, **changed})


def test_nets_without_numbers_never_take_over_although_the_monolith_answers_for_them(tmp_path: Path) -> None:
    bad = _without_numbers(tmp_path)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.bars(1)
        await desk.ask(EngineAction.ENGINE_ACTION_OFFER, bad.digest.hex(), key="regime")
        await desk.windows(5)
        assert await desk.events() == ["offered", "rejected"]
        assert (desk.reports[-1].trial.left, desk.reports[-1].trial.compared) == ("no_numbers", 1)
        await desk.ask(EngineAction.ENGINE_ACTION_USE, bad.digest.hex(), key="regime")
        await desk.windows(15)
        assert (await desk.events())[2:] == ["taken_over", "rolled_back"]
        assert desk.world.counts["regime"]["engine.faults"] > 0

    _run(tmp_path, scenario, experts=EXPERTS, experts_swap=SwapConfig(library=tmp_path))


@pytest.mark.parametrize("killed_after", [5, TRIAL + 3])
def test_bars_that_a_restart_reads_again_decide_nothing(tmp_path: Path, killed_after: int) -> None:
    challenger = _other(tmp_path, 1.1)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        await desk.bars(2 * TRIAL)
        await desk.offer(challenger)
        await desk.bars(killed_after)
        before, bars = desk.stages(), 2 * TRIAL + killed_after
        await desk.world.kill("regime")
        await desk.start()
        await desk.bars(TRIAL - 1)
        assert desk.stages() == [*before, before[-1]], "the trial began anew"
        await desk.bars(TRIAL + 2)
        assert list(dict.fromkeys(desk.stages())) == ["shadow", "probation", "settled"]
        assert len(desk.engines()) == bars + 2 * TRIAL + 1
        assert desk.engines()[-1] == OnnxEngine(challenger).digest

    _run(tmp_path, scenario)


def test_a_net_may_follow_a_model_that_is_none(tmp_path: Path) -> None:
    challenger = _other(tmp_path, 1.1)

    async def scenario(desk: Desk) -> None:
        await desk.start()
        report = await desk.ask(EngineAction.ENGINE_ACTION_USE, challenger.digest.hex())
        assert report.choice.beside.name == "regime model"
        await desk.bars(2)
        assert desk.engines() == [OnnxEngine(challenger).digest] * 2

    _run(tmp_path, scenario, engine=None)


def test_of_what_it_has_no_engine_it_says_so(tmp_path: Path) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.start()
        report = await desk.ask(EngineAction.ENGINE_ACTION_LIST, "", key="regime.correlation")
        assert report.detail == "key was 'regime.correlation': engines of this service are regime, regime.detector"

    _run(tmp_path, scenario)

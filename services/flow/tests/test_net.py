"""The order-flow expert on an engine: the net of this release keeps the laws, and what cannot be served is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.clock import NANOSECONDS
from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.opinion import AbstainReason
from huracan.errors import BadInput
from huracan.expert.check import Case, check_expert
from huracan.expert.port import Forecast
from huracan.expert.respond import respond
from huracan.features.micro import MICRO
from huracan.features.order_flow import FILE, View
from huracan.inference.bundle import Manifest, load_bundle, write_bundle
from huracan.inference.engine import EngineFault, OnnxEngine, Windows
from huracan.inference.probabilities import Floats
from huracan_flow.config import FlowConfig
from huracan_flow.expert import expert
from huracan_flow.net import NetResponder

BUNDLES = Path(__file__).resolve().parents[3] / "training" / "bundles"
BUNDLE = BUNDLES / "flow"
LEANING = ("queue_imbalance", "depth_imbalance", "book_pressure")


@pytest.fixture(scope="module")
def net() -> NetResponder:
    return NetResponder(BUNDLE, 300)


def _window(**last: float) -> NDArray[np.float32]:
    window = np.zeros((WINDOW_ROWS, MICRO.columns), dtype=np.float32)
    for name, value in last.items():
        window[-3:, MICRO.names.index(name)] = value
    return window


def _forecast(net: NetResponder, window: NDArray[np.float32]) -> Forecast:
    answer = net.forecast(window, {})
    assert isinstance(answer, Forecast)
    return answer


def _altered(directory: Path, *, contents: dict[str, bytes] | None = None, **told: object) -> Path:
    """Write the bundle of this release with something else in it, and return where."""
    bundle = load_bundle(BUNDLE)
    manifest = Manifest.model_validate(bundle.manifest.model_dump() | told)
    return write_bundle(directory, manifest, {**bundle.contents, **(contents or {})}).directory


def test_the_flow_expert_on_an_engine_keeps_the_laws() -> None:
    check_expert(expert(FlowConfig(engine=BUNDLE)), MICRO, other=expert())


def test_it_says_who_it_is(net: NetResponder) -> None:
    assert net.engine_digest == OnnxEngine(load_bundle(BUNDLE)).digest
    assert net.engine_digest != expert().responder.engine_digest
    assert (net.horizon_ns, net.validity_ns) == (NANOSECONDS, 300_000_000)
    config = FlowConfig(engine=BUNDLE, validity_ms=200)
    assert expert(config).responder.validity_ns == 200_000_000


def test_a_heavy_side_of_the_book_points_the_other_way_and_is_enough_for_the_gate(net: NetResponder) -> None:
    up = _forecast(net, _window(**dict.fromkeys(LEANING, 0.9)))
    down = _forecast(net, _window(**dict.fromkeys(LEANING, -0.9)))
    assert up.p_up - up.p_down >= 0.1
    assert down.p_down - down.p_up >= 0.1
    assert (up.expected_move_bps or 0) > 0 > (down.expected_move_bps or 0)


def test_the_expected_move_is_of_the_moves_that_were(net: NetResponder) -> None:
    told = _forecast(net, _window(queue_imbalance=0.5))
    view = View.model_validate_json(load_bundle(BUNDLE).contents[FILE])
    shares = np.array([told.p_down, told.p_flat, told.p_up])
    assert told.expected_move_bps == pytest.approx(float(shares @ np.array(view.moves_bps)))


def test_what_it_does_not_look_at_does_not_matter(net: NetResponder) -> None:
    assert _forecast(net, _window(funding_rate_bps=7, log_trade_volume=9)) == _forecast(net, _window())


def test_missing_values_count_as_usual_and_with_all_missing_there_is_no_input(net: NetResponder) -> None:
    holes, view = _window(queue_imbalance=0.5), View.model_validate_json(load_bundle(BUNDLE).contents[FILE])
    at = view.columns.index("trade_intensity")
    usual = _window(queue_imbalance=0.5, trade_intensity=view.centre[at])
    holes[-3:, MICRO.names.index("trade_intensity")] = np.nan
    assert _forecast(net, holes).p_up == pytest.approx(_forecast(net, usual).p_up, abs=1e-6)
    blind = _window(spread_bps=1)
    for name in view.columns:
        blind[:, MICRO.names.index(name)] = np.inf
    assert net.forecast(blind, {}) == AbstainReason.ABSTAIN_REASON_NO_INPUT


def test_an_engine_that_gives_no_numbers_gives_no_opinion(net: NetResponder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(engine: OnnxEngine, windows: Windows) -> Floats:
        raise EngineFault("answered with values that were not finite")

    window = Case(responder=net, feature_set=MICRO, contexts={}, other=None, answer=respond).window(_window())
    assert not respond(net, window, {}).abstained
    monkeypatch.setattr(OnnxEngine, "run", fails)
    said = respond(net, window, {})
    assert (said.abstained, said.reason) == (True, AbstainReason.ABSTAIN_REASON_NO_INPUT)
    assert said.engine_digest == net.engine_digest


def test_one_flipped_byte_is_refused(tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "flow")
    path = tmp_path / "flow" / FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=f"{FILE} was .*it is not what was exported"):
        expert(FlowConfig(engine=path.parent))


def test_a_bundle_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"regime tells High_Volatility, .* apart, not down, flat, up"):
        NetResponder(BUNDLES / "regime", 300)
    with pytest.raises(BadInput, match=r"is no bundle of order flow: order_flow\.json"):
        NetResponder(_altered(tmp_path / "no view", contents={FILE: b"{}"}), 300)
    with pytest.raises(BadInput, match=r"features were of .*train it again"):
        NetResponder(_altered(tmp_path / "other features", feature_set_digest="0" * 64), 300)
    view = json.loads(load_bundle(BUNDLE).contents[FILE])
    turned = view | {"columns": view["columns"][::-1]}
    with pytest.raises(BadInput, match="column 0 was quote_intensity"):
        NetResponder(_altered(tmp_path / "other columns", contents={FILE: json.dumps(turned).encode()}), 300)

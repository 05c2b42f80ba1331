"""The regime expert on routed nets: one of them answers a window, that of its regime, and the laws hold."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.clock import NANOSECONDS
from huracan.contracts.context import REGIME, Context, context, regime_state
from huracan.contracts.features import WINDOW_ROWS
from huracan.contracts.opinion import AbstainReason
from huracan.errors import BadInput
from huracan.expert.check import check_expert
from huracan.expert.order_flow import int8_of
from huracan.expert.port import Expert, Forecast
from huracan.features.micro import MICRO
from huracan.features.order_flow import FILE as VIEW
from huracan.features.regimes import REGIMES
from huracan.features.routing import FILE, MONOLITH, net_of, read_routes
from huracan.inference.bundle import Manifest, load_bundle, write_bundle
from huracan.inference.engine import EngineFault, OnnxEngine, Windows
from huracan.inference.probabilities import Floats
from huracan_regime.config import RegimeConfig, RegimeServiceConfig
from huracan_regime.expert import expert, fitted
from huracan_regime.history import no_history
from huracan_regime.routed import RoutedResponder
from huracan_regime.spec import regime_expert

BUNDLES = Path(__file__).resolve().parents[3] / "training" / "bundles"
BUNDLE = BUNDLES / "experts"
ROUTES = read_routes(load_bundle(BUNDLE).contents[FILE], FILE)
OWN = {regime: net_of(regime) for regime in REGIMES}
LEANING = ("queue_imbalance", "depth_imbalance", "book_pressure")


def _altered(directory: Path, *, contents: Mapping[str, bytes | None], **told: object) -> Path:
    """Write the bundle of this release with something else in it, or without, and return where."""
    bundle = load_bundle(BUNDLE)
    manifest = Manifest.model_validate(bundle.manifest.model_dump() | told)
    changed = {**bundle.contents, **contents}
    return write_bundle(directory, manifest, {k: v for k, v in changed.items() if v is not None}).directory


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the bundle of this release with every regime answered by its own net."""
    routes = ROUTES.model_copy(update={"nets": OWN}).canonical_json().encode()
    return _altered(tmp_path_factory.mktemp("own") / "experts", contents={FILE: routes})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the files of the engines that are asked, in order."""
    found: list[str] = []
    run = OnnxEngine.run

    def keep(engine: OnnxEngine, windows: Windows) -> Floats:
        found.append(engine.artefact)
        return run(engine, windows)

    monkeypatch.setattr(OnnxEngine, "run", keep)
    return found


def _window(regime: str, **last: float) -> NDArray[np.float32]:
    """Return a window of a regime; the mid is where it began in all but one of them."""
    calm, wild, _ = ROUTES.cuts
    middle = (calm + wild) / 2 / np.sqrt(WINDOW_ROWS)
    there_and_back = np.where(np.arange(WINDOW_ROWS) % 2, 1.0, -1.0)
    returns = {
        "High_Volatility": wild * there_and_back,
        "Low_Volatility": 0 * there_and_back,
        "Trending": np.full(WINDOW_ROWS, middle),
        "Ranging": middle * there_and_back,
    }
    window = np.zeros((WINDOW_ROWS, MICRO.columns), dtype=np.float32)
    window[:, MICRO.names.index("mid_return_bps")] = returns[regime]
    for name, value in last.items():
        window[-3:, MICRO.names.index(name)] = value
    return window


def _unknown(regime: str) -> NDArray[np.float32]:
    """Return a window of a regime whose first return is missing."""
    window = _window(regime)
    window[0, MICRO.names.index("mid_return_bps")] = np.nan
    return window


def _contexts(**shares: float) -> dict[str, Context]:
    made = context(
        kind=REGIME,
        key="sim.btc-usdt-perp",
        version=1,
        epoch=1,
        as_of_ns=1,
        effective_from_ns=1,
        valid_until_ns=2**62,
        payload=regime_state(shares=shares, volatility=0.01, bars=64),
        engine_digest=bytes(32),
    )
    return {REGIME: made}


ANY = _contexts(High_Volatility=1.0)


def _expert(directory: Path) -> Expert:
    config = RegimeConfig()
    return expert(config, fitted(config, no_history), experts=directory)


def _forecast(responder: RoutedResponder, window: NDArray[np.float32]) -> Forecast:
    answer = responder.forecast(window, ANY)
    assert isinstance(answer, Forecast)
    return answer


def test_the_regime_expert_on_routed_nets_keeps_the_laws(own: Path) -> None:
    for directory, other in ((BUNDLE, own), (own, BUNDLE)):
        check_expert(_expert(directory), MICRO, list(ANY.values()), other=_expert(other))


@pytest.mark.parametrize("regime", REGIMES)
def test_one_net_is_asked_that_of_the_regime_of_the_window(regime: str, own: Path, asked: list[str]) -> None:
    for directory, nets in ((own, OWN), (BUNDLE, ROUTES.nets)):
        responder = RoutedResponder(directory, 300)
        for at_the_time in REGIMES:
            asked.clear()
            assert isinstance(responder.forecast(_window(regime), _contexts(**{at_the_time: 1.0})), Forecast)
            assert asked == [int8_of(nets[regime])]


@pytest.mark.parametrize("regime", REGIMES)
def test_where_the_window_does_not_say_the_context_does(regime: str, own: Path, asked: list[str]) -> None:
    shares = {name: 0.7 if name == regime else 0.1 for name in REGIMES}
    assert isinstance(RoutedResponder(own, 300).forecast(_unknown("Ranging"), _contexts(**shares)), Forecast)
    assert asked == [int8_of(net_of(regime))]


@pytest.mark.parametrize("shares", [{}, {"Sideways": 1.0}], ids=["no regime", "a regime that nobody knows"])
def test_where_nobody_says_there_is_no_input(shares: dict[str, float], asked: list[str]) -> None:
    told = RoutedResponder(BUNDLE, 300).forecast(_unknown("Ranging"), _contexts(**shares))
    assert told == AbstainReason.ABSTAIN_REASON_NO_INPUT
    assert asked == []


def test_with_all_missing_there_is_no_input() -> None:
    window = np.full((WINDOW_ROWS, MICRO.columns), np.nan, dtype=np.float32)
    assert RoutedResponder(BUNDLE, 300).forecast(window, ANY) == AbstainReason.ABSTAIN_REASON_NO_INPUT


def test_the_monolith_answers_where_a_specialist_gives_no_numbers(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    responder, window, run = RoutedResponder(own, 300), _window("Trending", queue_imbalance=0.5), OnnxEngine.run
    routes = ROUTES.model_copy(update={"nets": dict.fromkeys(REGIMES, MONOLITH)})
    failing = {int8_of("trending")}

    def fails(engine: OnnxEngine, windows: Windows) -> Floats:
        if engine.artefact in failing:
            raise EngineFault("answered with values that were not finite")
        return run(engine, windows)

    monkeypatch.setattr(OnnxEngine, "run", fails)
    alone = _altered(own.parent / "monolith", contents={FILE: routes.canonical_json().encode()})
    assert _forecast(responder, window) == _forecast(RoutedResponder(alone, 300), window)
    failing.add(int8_of(MONOLITH))
    with pytest.raises(EngineFault):  # its host abstains
        responder.forecast(window, ANY)


@pytest.mark.parametrize("regime", REGIMES)
def test_a_heavy_side_of_the_book_points_the_other_way_in_every_regime(regime: str, own: Path) -> None:
    responder = RoutedResponder(own, 300)
    up = _forecast(responder, _window(regime, **dict.fromkeys(LEANING, 0.9)))
    down = _forecast(responder, _window(regime, **dict.fromkeys(LEANING, -0.9)))
    assert up.p_up > up.p_down
    assert down.p_down > down.p_up
    assert (up.expected_move_bps or 0) > 0 > (down.expected_move_bps or 0)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_expected_move_is_of_the_moves_in_its_regime(regime: str, own: Path) -> None:
    told = _forecast(RoutedResponder(own, 300), _window(regime, queue_imbalance=0.5))
    shares = np.array([told.p_down, told.p_flat, told.p_up])
    assert told.expected_move_bps == pytest.approx(float(shares @ np.array(ROUTES.moves_bps[regime])))


def test_it_says_who_it_is(own: Path) -> None:
    released = RoutedResponder(BUNDLE, 200)
    assert (released.horizon_ns, released.validity_ns) == (NANOSECONDS, 200_000_000)
    assert released.engine_digest == RoutedResponder(BUNDLE, 300).engine_digest
    assert released.engine_digest != RoutedResponder(own, 300).engine_digest


def test_the_service_has_the_nets_answer_where_it_is_given_them() -> None:
    routed = regime_expert(RegimeServiceConfig(experts=BUNDLE)).responder
    assert routed.engine_digest == RoutedResponder(BUNDLE, 300).engine_digest
    assert regime_expert(RegimeServiceConfig()).responder.engine_digest != routed.engine_digest


def test_one_flipped_byte_is_refused(tmp_path: Path) -> None:
    shutil.copytree(BUNDLE, tmp_path / "experts")
    path = tmp_path / "experts" / int8_of(MONOLITH)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"monolith\.model\.cpu\.onnx was .*it is not what was exported"):
        regime_expert(RegimeServiceConfig(experts=path.parent))


def test_a_bundle_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"flow has no routes\.json: nothing says which net answers what"):
        RoutedResponder(BUNDLES / "flow", 300)
    with pytest.raises(BadInput, match=r"regime tells High_Volatility, .* apart, not down, flat, up"):
        RoutedResponder(BUNDLES / "regime", 300)
    with pytest.raises(BadInput, match=r"is no bundle of order flow: order_flow\.json"):
        RoutedResponder(_altered(tmp_path / "no view", contents={VIEW: b"{}"}), 300)
    with pytest.raises(BadInput, match=r"routes\.json: .*Field required"):
        RoutedResponder(_altered(tmp_path / "no routes", contents={FILE: b"{}"}), 300)
    with pytest.raises(BadInput, match=r"has no monolith\.model\.cpu\.onnx"):
        RoutedResponder(_altered(tmp_path / "no net", contents={int8_of(MONOLITH): None}), 300)
    with pytest.raises(BadInput, match=r"features were of .*train it again"):
        RoutedResponder(_altered(tmp_path / "other features", contents={}, feature_set_digest="0" * 64), 300)

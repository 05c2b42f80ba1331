"""Regimes by the net of this release: what contexts say, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.clock import MINUTE_NS
from huracan.contracts.context import REGIME, RegimeState
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import NewsItem, instrument_key, linear_perpetual
from huracan.errors import BadInput
from huracan.expert.port import ContextDraft
from huracan.features.bar import BAR
from huracan.features.bar_batch import bar_rows
from huracan.features.outlook import FILE
from huracan.features.regimes import FILE as REGIMES_FILE
from huracan.features.regimes import REGIMES, RegimeThresholds
from huracan.inference.bundle import load_bundle, write_bundle
from huracan.inference.engine import OnnxEngine
from huracan_regime.config import RegimeServiceConfig
from huracan_regime.detector import DetectorContextBuilder
from huracan_regime.spec import regime_expert

BUNDLE = Path(__file__).resolve().parents[3] / "training" / "bundles" / "regime"
"""The detector of this release."""
BAR_NS = 15 * MINUTE_NS
START_NS = 1_700_000_100_000_000_000 // BAR_NS * BAR_NS
BARS = 1_000
BTC = linear_perpetual("BTC", venue="binance_usdm", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))


def _rows(volatility: float, seed: int = 1) -> NDArray[np.float32]:
    """Return the rows of a thousand bars of a random walk that is so volatile in the last day, shape (n, columns)."""
    random = np.random.default_rng(seed)
    size = np.full(BARS, 0.003)
    size[-96:] = volatility
    close = 100 * np.exp(np.cumsum(size * random.standard_normal(BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    wicks = np.exp(size * np.abs(random.standard_normal((2, BARS))))
    open_ns = START_NS + BAR_NS * np.arange(BARS, dtype=np.int64)
    high, low = np.maximum(opened, close) * wicks[0], np.minimum(opened, close) / wicks[1]
    return bar_rows(open_ns, opened, high, low, close, np.exp(random.standard_normal(BARS)), interval_ns=BAR_NS)


def _window(rows: NDArray[np.float32], last: int = BARS - 1, **changes: object) -> FeatureWindow:
    """Return the window of which the newest bar has this number."""
    close_ns = START_NS + (last + 1) * BAR_NS
    given: dict[str, object] = {
        "instrument": BTC,
        "epoch": 1,
        "feature_set": "bar_15m",
        "feature_set_digest": BAR.digest,
        "interval_ns": BAR_NS,
        "step": close_ns // BAR_NS - 1,
        "first_step": 0,
        "close_ns": close_ns,
        "values": rows[last + 1 - WINDOW_ROWS : last + 1],
        "valid_rows": WINDOW_ROWS,
        "first_ingest_seq": 1,
        "last_ingest_seq": 2,
        "last_frame_ns": close_ns,
        "book_synced": True,
    }
    return feature_window(**(given | changes))  # type: ignore[arg-type]


@pytest.fixture
def builder() -> DetectorContextBuilder:
    return DetectorContextBuilder(BUNDLE, valid_intervals=2)


def _state(builder: DetectorContextBuilder, window: FeatureWindow) -> RegimeState:
    (draft,) = builder.observe(window)
    assert isinstance(draft.payload, RegimeState)
    return draft.payload


def _shares(state: RegimeState) -> Mapping[str, float]:
    return {share.regime: share.probability for share in state.shares}


def test_a_context_tells_the_four_regimes_of_the_bars_ahead(builder: DetectorContextBuilder) -> None:
    window = _window(_rows(0.003))
    (draft,) = builder.observe(window)
    assert isinstance(draft, ContextDraft)
    assert (draft.kind, draft.key, draft.as_of_ns) == (REGIME, instrument_key(BTC.id), window.close_ns)
    assert draft.valid_until_ns == window.close_ns + 2 * BAR_NS
    assert draft.engine_digest == builder.engine_digest == OnnxEngine(load_bundle(BUNDLE)).digest
    state = draft.payload
    assert isinstance(state, RegimeState)
    assert tuple(_shares(state)) == REGIMES
    assert sum(_shares(state).values()) == pytest.approx(1)
    assert (state.bars, state.horizon_bars) == (WINDOW_ROWS, 16)
    assert state.volatility == pytest.approx(0.003, rel=0.3)


def test_wild_bars_are_seen_as_wild_and_quiet_ones_as_quiet() -> None:
    wild = _shares(_state(DetectorContextBuilder(BUNDLE, valid_intervals=2), _window(_rows(0.02))))
    quiet = _shares(_state(DetectorContextBuilder(BUNDLE, valid_intervals=2), _window(_rows(0.0003))))
    assert wild["High_Volatility"] > 0.6 > quiet["High_Volatility"]
    assert quiet["Low_Volatility"] > 0.6 > wild["Low_Volatility"]


def test_an_instrument_that_it_was_not_trained_on_has_regimes_too(builder: DetectorContextBuilder) -> None:
    new = linear_perpetual("NEW", venue="okx", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))
    assert sum(_shares(_state(builder, _window(_rows(0.003), instrument=new))).values()) == pytest.approx(1)


def test_the_same_window_gives_the_same_bytes_in_another_process_of_the_same_release() -> None:
    first, again = (_state(DetectorContextBuilder(BUNDLE, valid_intervals=2), _window(_rows(0.003))) for _ in range(2))
    assert first.SerializeToString() == again.SerializeToString()


def test_windows_that_do_not_count_change_nothing(builder: DetectorContextBuilder) -> None:
    rows = _rows(0.003)
    _state(builder, _window(rows, BARS - 2))
    for ignored in (
        _window(rows, BARS - 2),
        _window(rows, BARS - 3),
        _window(rows, valid_rows=WINDOW_ROWS - 1),
        _window(rows, feature_set_digest=bytes(32)),
        _window(rows, interval_ns=MINUTE_NS),
        NewsItem(),
    ):
        assert builder.observe(ignored) == []
    _state(builder, _window(rows))


def test_a_window_to_which_the_engine_gives_no_numbers_gives_no_context(
    builder: DetectorContextBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _rows(0.003)
    with monkeypatch.context() as broken:
        nothing = np.full((1, len(REGIMES)), np.nan, dtype=np.float32)
        broken.setattr(OnnxEngine, "logits", lambda _self, _windows: nothing)
        assert builder.observe(_window(rows)) == []
    assert builder.observe(_window(rows)), "the same window is answered once the engine is well again"


def test_values_that_are_missing_or_extreme_are_answered_too(builder: DetectorContextBuilder) -> None:
    rows = _rows(0.003)
    empty, extreme = np.full_like(rows, np.nan), np.full_like(rows, 3e38)
    assert _state(builder, _window(empty, BARS - 2)).volatility == 0
    assert sum(_shares(_state(builder, _window(extreme))).values()) == pytest.approx(1)


def _bundle(tmp_path: Path, *, without: str = "", more: Mapping[str, bytes] | None = None, **changes: object) -> Path:
    """Return a copy of the bundle that is as its manifest says, and another than the one of this release."""
    bundle = load_bundle(BUNDLE)
    manifest = bundle.manifest.model_copy(update=changes)
    contents = {name: data for name, data in bundle.contents.items() if name != without} | dict(more or {})
    return write_bundle(tmp_path / "bundle", manifest, contents).directory


# Changes of regime.

LASTING = tuple(tuple(0.97 if row == column else 0.01 for column in range(4)) for row in range(4))


def _thresholds(horizon_bars: int = 16) -> dict[str, bytes]:
    told = RegimeThresholds(
        horizon_bars=horizon_bars,
        cuts={"binance_usdm_BTCUSDT": (0.008, 0.02, 0.4), "*": (0.008, 0.02, 0.4)},
        transition=LASTING,
        half_life_bars=2_000,
    )
    return {REGIMES_FILE: told.canonical_json().encode()}


def test_a_context_tells_the_present_regime_and_how_likely_another_follows(tmp_path: Path) -> None:
    builder = DetectorContextBuilder(_bundle(tmp_path, more=_thresholds()), valid_intervals=2)
    rows = _rows(0.02)
    state = _state(builder, _window(rows))
    told = state.transition
    assert told.known == "High_Volatility"  # 16 bars of 2 % each: sqrt(sum r^2) is 8 %
    assert told.change_probability == pytest.approx(1 - _shares(state)["High_Volatility"])
    assert told.expected_bars > 10
    chain = {share.regime: share.probability for share in told.chain}
    assert tuple(chain) == REGIMES
    assert sum(chain.values()) == pytest.approx(1)
    assert max(chain, key=chain.__getitem__) == "High_Volatility"


def test_the_chain_goes_on_from_window_to_window(tmp_path: Path) -> None:
    directory, rows = _bundle(tmp_path, more=_thresholds()), _rows(0.02)
    one, other = (DetectorContextBuilder(directory, valid_intervals=2) for _ in range(2))
    _state(one, _window(rows, BARS - 200))
    assert _state(one, _window(rows)).transition != _state(other, _window(rows)).transition


def test_where_the_present_regime_is_not_known_nothing_is_said_of_a_change(tmp_path: Path) -> None:
    builder = DetectorContextBuilder(_bundle(tmp_path, more=_thresholds()), valid_intervals=2)
    rows = _rows(0.003)
    rows[-1, BAR.names.index("realised_volatility_16")] = np.nan
    assert not _state(builder, _window(rows)).HasField("transition")


def test_thresholds_of_another_horizon_than_the_nets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"regimes\.json: horizon_bars was 32, not 16"):
        DetectorContextBuilder(_bundle(tmp_path, more=_thresholds(32)), valid_intervals=2)


# What is refused.


def test_a_bundle_that_tells_no_regimes_is_refused(tmp_path: Path) -> None:
    other = _bundle(tmp_path, classes=("down", "flat", "up", "gone"))
    with pytest.raises(BadInput, match="tells down, flat, up, gone apart, not High_Volatility"):
        DetectorContextBuilder(other, valid_intervals=2)


def test_a_bundle_without_an_outlook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"has no outlook\.json"):
        DetectorContextBuilder(_bundle(tmp_path, without=FILE), valid_intervals=2)


def test_a_bundle_of_other_features_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="train it again"):
        DetectorContextBuilder(_bundle(tmp_path, feature_set_digest="0" * 64), valid_intervals=2)


def test_one_flipped_byte_is_refused_by_name(tmp_path: Path) -> None:
    directory = _bundle(tmp_path)
    data = bytearray((directory / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (directory / "model.onnx").write_bytes(bytes(data))
    with pytest.raises(BadInput, match=r"model\.onnx was"):
        regime_expert(RegimeServiceConfig(engine=directory))


def test_the_service_has_the_net_tell_regimes_where_it_is_given_one() -> None:
    made = regime_expert(RegimeServiceConfig(engine=BUNDLE))
    drafts = [draft for builder in made.builders for draft in builder.observe(_window(_rows(0.003)))]
    assert [draft.kind for draft in drafts] == [REGIME]

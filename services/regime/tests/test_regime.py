"""The regime expert: the model of bars, the contexts it gives, and what the specialists say."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from huracan.clock import MINUTE_NS
from huracan.contracts.context import Context, RegimeState, context, regime_state
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import InstrumentId, InstrumentType, NewsItem, instrument_definition
from huracan.contracts.opinion import AbstainReason
from huracan.expert.check import check_expert
from huracan.expert.port import ContextDraft, Forecast
from huracan.features.bar import BAR
from huracan.features.micro import MICRO
from huracan.features.regimes import REGIMES
from huracan.market.history import load_history
from huracan_regime.builder import RegimeContextBuilder
from huracan_regime.config import RegimeConfig, RegimeModelConfig
from huracan_regime.expert import expert, fitted
from huracan_regime.history import history_from_files, no_history, observations
from huracan_regime.model import fit
from huracan_regime.responder import RegimeResponder

INTERVAL_NS = 15 * MINUTE_NS
CLOSE_NS = 1_900_000 * INTERVAL_NS
KEY = "sim.btc-usdt-perp"
CONFIG = RegimeConfig()
BTC = instrument_definition(
    venue="sim",
    symbol="btc-usdt-perp",
    venue_symbol="BTCUSDT",
    type=InstrumentType.INSTRUMENT_TYPE_LINEAR_PERPETUAL,
    base="BTC",
    quote="USDT",
    settle="USDT",
    price_increment=Decimal("0.1"),
    size_increment=Decimal("0.001"),
)
CENTRES = {
    "High_Volatility": (0.020, 0.40),
    "Low_Volatility": (0.002, 0.25),
    "Trending": (0.008, 0.70),
    "Ranging": (0.008, 0.15),
}


def _market(bars: int, seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return observations of a made-up market, shape (bars, 2), and the state of each, as an index into
    REGIMES."""
    rng = np.random.default_rng(seed)
    states = np.empty(bars, dtype=np.int64)
    state = 0
    for t in range(bars):
        state = int(rng.integers(4)) if rng.random() < 0.05 else state
        states[t] = state
    centres = np.array([CENTRES[name] for name in REGIMES])[states]
    return centres + rng.normal(0, 1, (bars, 2)) * np.array([0.001, 0.05]), states


def _window(observed: NDArray[np.float64], close_ns: int = CLOSE_NS, **changes: object) -> FeatureWindow:
    values = np.zeros((WINDOW_ROWS, BAR.columns), dtype=np.float32)
    values[:, BAR.names.index("log_return")] = np.linspace(-0.01, 0.01, WINDOW_ROWS)
    values[:, BAR.names.index("log_range")] = observed[:, 0]
    values[:, BAR.names.index("efficiency_ratio_10")] = observed[:, 1]
    window = feature_window(
        instrument=BTC,
        epoch=1,
        feature_set="bar",
        feature_set_digest=BAR.digest,
        interval_ns=INTERVAL_NS,
        step=close_ns // INTERVAL_NS - 1,
        first_step=0,
        close_ns=close_ns,
        values=values,
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=close_ns,
        book_synced=True,
    )
    for name, value in changes.items():
        setattr(window, name, value)
    return window


@pytest.fixture(scope="module")
def history() -> NDArray[np.float64]:
    return _market(2000)[0]


@pytest.fixture
def builder(history: NDArray[np.float64]) -> RegimeContextBuilder:
    return RegimeContextBuilder(CONFIG, lambda window: history)


def _only(drafts: Iterable[ContextDraft]) -> ContextDraft:
    (draft,) = drafts
    return draft


def _shares(draft: ContextDraft) -> dict[str, float]:
    assert isinstance(draft.payload, RegimeState)
    return {share.regime: share.probability for share in draft.payload.shares}


def test_the_fit_finds_the_states_and_names_them_by_volatility_then_efficiency(history: NDArray[np.float64]) -> None:
    model = fit(history, CONFIG.model)
    assert model is not None
    assert model.names == REGIMES
    for name, mean in zip(model.names, model.means * model.scale + model.centre, strict=True):
        np.testing.assert_allclose(mean, CENTRES[name], atol=0.03)


def test_the_same_history_gives_the_same_bytes_and_another_history_others(history: NDArray[np.float64]) -> None:
    first, again = fit(history, CONFIG.model), fit(history.copy(), CONFIG.model)
    nudged = fit(history * (1 + 1e-13), CONFIG.model)
    other = fit(_market(2000, seed=2)[0], CONFIG.model)
    assert first is not None
    assert again is not None
    assert nudged is not None
    assert other is not None
    assert first.parameter_bytes() == again.parameter_bytes() == nudged.parameter_bytes()
    assert first.parameter_bytes() != other.parameter_bytes()


@pytest.mark.parametrize(
    "history",
    [
        np.empty((0, 2)),
        _market(499)[0],
        np.full((2000, 2), np.nan),
        np.full((2000, 2), 0.01),
    ],
    ids=["none", "too short", "missing", "constant"],
)
def test_there_is_no_model_without_a_history_to_fit(history: NDArray[np.float64]) -> None:
    assert fit(history, CONFIG.model) is None


def test_rows_with_a_missing_value_are_left_out_of_the_fit(history: NDArray[np.float64]) -> None:
    gaps = np.insert(history, 7, [np.nan, 0.5], axis=0)
    whole, gapped = fit(history, CONFIG.model), fit(gaps, CONFIG.model)
    assert whole is not None
    assert gapped is not None
    assert whole.parameter_bytes() == gapped.parameter_bytes()


def test_a_missing_value_says_nothing_about_the_state(history: NDArray[np.float64]) -> None:
    model = fit(history, CONFIG.model)
    assert model is not None
    nothing, only_range = model.log_emission(np.array([[np.nan, np.nan], [0.02, np.nan]]))
    np.testing.assert_array_equal(nothing, np.zeros(4))
    assert np.ptp(only_range) > 0


@pytest.mark.parametrize("regime", REGIMES)
def test_a_window_of_one_kind_of_market_is_recognised(builder: RegimeContextBuilder, regime: str) -> None:
    observed = np.tile(np.array(CENTRES[regime]), (WINDOW_ROWS, 1))
    shares = _shares(_only(builder.observe(_window(observed))))
    assert list(shares) == list(REGIMES)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[regime] > 0.95


def test_the_filter_follows_the_states_of_a_market_it_was_not_fitted_on(builder: RegimeContextBuilder) -> None:
    observed, states = _market(WINDOW_ROWS + 200, seed=5)
    hits = 0
    for end in range(WINDOW_ROWS, len(observed)):
        window = _window(observed[end - WINDOW_ROWS : end], CLOSE_NS + end * INTERVAL_NS)
        shares = _shares(_only(builder.observe(window)))
        hits += max(shares, key=shares.__getitem__) == REGIMES[states[end - 1]]
    assert hits >= 190


def test_a_context_is_dated_by_the_close_of_its_bar_and_counts_for_two_intervals(
    builder: RegimeContextBuilder, history: NDArray[np.float64]
) -> None:
    draft = _only(builder.observe(_window(history[:WINDOW_ROWS])))
    assert (draft.kind, draft.key) == ("regime", KEY)
    assert (draft.as_of_ns, draft.valid_until_ns) == (CLOSE_NS, CLOSE_NS + 2 * INTERVAL_NS)
    assert isinstance(draft.payload, RegimeState)
    assert draft.payload.bars == WINDOW_ROWS
    assert draft.payload.volatility == pytest.approx(np.linspace(-0.01, 0.01, 64).std(ddof=1), rel=1e-6)
    assert len(draft.engine_digest) == 32


def test_a_builder_that_restarts_says_the_same(history: NDArray[np.float64]) -> None:
    windows = [_window(history[i : i + WINDOW_ROWS], CLOSE_NS + i * INTERVAL_NS) for i in range(3)]
    steady = RegimeContextBuilder(CONFIG, lambda window: history)
    said = [_only(steady.observe(window)) for window in windows]
    restarted = [_only(RegimeContextBuilder(CONFIG, lambda window: history).observe(window)) for window in windows]
    assert said == restarted


def test_the_model_is_fitted_once(history: NDArray[np.float64]) -> None:
    asked: list[int] = []

    def recorded(window: FeatureWindow) -> NDArray[np.float64]:
        asked.append(window.close_ns)
        return history

    builder = RegimeContextBuilder(CONFIG, recorded)
    for i in range(3):
        builder.observe(_window(history[:WINDOW_ROWS], CLOSE_NS + i * INTERVAL_NS))
    assert asked == [CLOSE_NS]


def test_the_history_is_asked_again_until_there_is_enough(history: NDArray[np.float64]) -> None:
    lengths = iter([10, 499, 2000])
    builder = RegimeContextBuilder(CONFIG, lambda window: history[: next(lengths)])
    drafts = [builder.observe(_window(history[:64], CLOSE_NS + i * INTERVAL_NS)) for i in range(3)]
    assert [len(each) for each in drafts] == [0, 0, 1]


def test_windows_that_are_warming_foreign_or_not_newer_give_no_context(
    builder: RegimeContextBuilder, history: NDArray[np.float64]
) -> None:
    rows = history[:WINDOW_ROWS]
    assert builder.observe(_window(rows, valid_rows=63)) == []
    assert builder.observe(_window(rows, feature_set_digest=bytes(32))) == []
    assert builder.observe(NewsItem()) == []
    assert builder.observe(_window(rows))
    assert builder.observe(_window(rows)) == []
    assert builder.observe(_window(rows, CLOSE_NS - INTERVAL_NS)) == []
    assert builder.observe(_window(rows, CLOSE_NS + INTERVAL_NS))


def test_a_window_without_returns_gives_no_context(builder: RegimeContextBuilder, history: NDArray[np.float64]) -> None:
    window = _window(history[:WINDOW_ROWS])
    values = np.frombuffer(window.values, dtype="<f4").reshape(64, -1).copy()
    values[:, BAR.names.index("log_return")] = np.nan
    window.values = values.tobytes()
    assert builder.observe(window) == []


def test_each_instrument_has_its_own_model(history: NDArray[np.float64]) -> None:
    histories = {KEY: history, "sim.eth-usdt-perp": _market(2000, seed=9)[0]}
    builder = RegimeContextBuilder(
        CONFIG, lambda window: histories[f"{window.instrument.id.venue}.{window.instrument.id.symbol}"]
    )
    btc, eth = _window(history[:64]), _window(history[:64])
    eth.instrument.id.symbol = "eth-usdt-perp"
    drafts = [_only(builder.observe(window)) for window in (btc, eth)]
    assert [draft.key for draft in drafts] == list(histories)
    assert drafts[0].engine_digest != drafts[1].engine_digest


def test_without_history_there_is_never_a_context(history: NDArray[np.float64]) -> None:
    builder = RegimeContextBuilder(CONFIG, no_history)
    assert builder.observe(_window(history[:WINDOW_ROWS])) == []


@pytest.fixture
def bar_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    close = 60_000 * np.exp(np.cumsum(rng.normal(0, 0.002, 900)))
    lines = ["date,open,high,low,close,volume"]
    first = CLOSE_NS - 900 * INTERVAL_NS
    for i, price in enumerate(close.round(1).tolist()):
        before = close.round(1).tolist()[max(0, i - 1)]
        high, low = max(price, before) + 5, min(price, before) - 5
        lines.append(f"{(first + i * INTERVAL_NS) // 10**9},{before},{high},{low},{price},10")
    path = tmp_path / "bars.csv"
    path.write_text("\n".join(lines))
    return path


def test_history_from_a_file_ends_at_the_window_and_in_a_replay_before_the_recording(bar_file: Path) -> None:
    window = _window(np.zeros((WINDOW_ROWS, 2)), CLOSE_NS - 50 * INTERVAL_NS)
    live = history_from_files({KEY: bar_file}, CONFIG.model)(window)
    replayed = history_from_files({KEY: bar_file}, CONFIG.model, before_ns=CLOSE_NS - 80 * INTERVAL_NS)(window)
    assert (live.shape, replayed.shape) == ((850, 2), (820, 2))
    np.testing.assert_array_equal(live[:820], replayed)
    bars = load_history(
        bar_file, instrument=InstrumentId(), interval_ns=INTERVAL_NS, before_ns=CLOSE_NS - 50 * INTERVAL_NS
    )
    assert bars[-1].open_ns + INTERVAL_NS == window.close_ns
    np.testing.assert_array_equal(observations(bars), live)
    assert fit(live, CONFIG.model) is not None


def test_an_instrument_without_a_file_has_no_history(bar_file: Path) -> None:
    window = _window(np.zeros((WINDOW_ROWS, 2)))
    assert history_from_files({"sim.eth-usdt-perp": bar_file}, CONFIG.model)(window).shape == (0, 2)


def test_only_the_newest_bars_are_read(bar_file: Path) -> None:
    config = RegimeModelConfig(max_history_bars=500)
    window = _window(np.zeros((WINDOW_ROWS, 2)))
    rows = history_from_files({KEY: bar_file}, config)(window)
    assert np.isfinite(rows).all(axis=1).sum() >= 500
    assert len(rows) < 600


def _context(**shares: float) -> Context:
    return context(
        kind="regime",
        key=KEY,
        version=1,
        epoch=1,
        as_of_ns=0,
        effective_from_ns=0,
        valid_until_ns=0,
        payload=regime_state(shares=shares, volatility=0.01, bars=64),
        engine_digest=bytes(32),
    )


def _micro(**columns: float) -> NDArray[np.float32]:
    window = np.zeros((WINDOW_ROWS, MICRO.columns), dtype=np.float32)
    for name, value in columns.items():
        window[:, MICRO.names.index(name)] = value
    return window


def _lean(regime: str, share: float = 1.0, config: RegimeConfig = CONFIG, **columns: float) -> float:
    answer = RegimeResponder(config).forecast(_micro(**columns), {"regime": _context(**{regime: share})})
    assert isinstance(answer, Forecast)
    return answer.p_up - answer.p_down


@pytest.mark.parametrize("regime", REGIMES)
def test_the_regime_expert_keeps_the_laws_in_every_regime(regime: str) -> None:
    other = expert(RegimeConfig(horizon_ms=2000), fitted(CONFIG, no_history))
    check_expert(expert(CONFIG, fitted(CONFIG, no_history)), MICRO, [_context(**{regime: 0.9})], other=other)


def test_a_trend_goes_on_where_order_flow_confirms_it() -> None:
    assert _lean("Trending", mid_return_bps=0.2, ofi_integrated=1) > 0.1
    assert _lean("Trending", mid_return_bps=-0.2, ofi_integrated=-1) < -0.1
    assert _lean("Trending", mid_return_bps=0.2, ofi_integrated=-1) == 0
    assert _lean("Trending", mid_return_bps=0.2) == 0


def test_a_range_returns_to_its_mean_unless_the_queue_says_otherwise() -> None:
    assert _lean("Ranging", mid_return_bps=0.2) < -0.1
    assert _lean("Ranging", mid_return_bps=-0.2) > 0.1
    assert _lean("Ranging", queue_imbalance=0.5) > 0.1


def test_in_high_volatility_it_follows_the_flow() -> None:
    assert _lean("High_Volatility", ofi_integrated=1) > 0.05
    assert _lean("High_Volatility", ofi_integrated=-1) < -0.05


def test_in_low_volatility_the_queue_decides_and_moves_are_small() -> None:
    assert _lean("Low_Volatility", queue_imbalance=0.8) > 0.2
    assert _lean("Low_Volatility", ofi_integrated=3) == 0
    assert CONFIG.low_volatility.move_bps < min(
        CONFIG.trending.move_bps, CONFIG.ranging.move_bps, CONFIG.high_volatility.move_bps
    )


def test_only_the_most_probable_regime_is_asked() -> None:
    responder, window = (
        RegimeResponder(CONFIG),
        _micro(queue_imbalance=0.8, ofi_integrated=1, mid_return_bps=0.1),
    )
    doubtful = responder.forecast(window, {"regime": _context(Trending=0.3, Low_Volatility=0.4, Ranging=0.3)})
    certain = responder.forecast(window, {"regime": _context(Low_Volatility=1.0)})
    assert doubtful == certain
    assert certain != responder.forecast(window, {"regime": _context(Trending=1.0)})


def test_a_context_that_names_no_known_regime_is_no_input() -> None:
    for state in (_context(), _context(Sideways=1.0)):
        answer = RegimeResponder(CONFIG).forecast(_micro(), {"regime": state})
        assert answer == AbstainReason.ABSTAIN_REASON_NO_INPUT


def test_missing_micro_values_are_no_input() -> None:
    window = np.full((WINDOW_ROWS, MICRO.columns), np.nan, dtype=np.float32)
    answer = RegimeResponder(CONFIG).forecast(window, {"regime": _context(Ranging=1.0)})
    assert answer == AbstainReason.ABSTAIN_REASON_NO_INPUT


def test_the_engine_digests_follow_their_configuration(history: NDArray[np.float64]) -> None:
    assert RegimeResponder(CONFIG).engine_digest != RegimeResponder(RegimeConfig(horizon_ms=2000)).engine_digest
    coarse = RegimeConfig(model=RegimeModelConfig(tolerance_nats=0.02))
    drafts = [
        _only(RegimeContextBuilder(config, lambda window: history).observe(_window(history[:64])))
        for config in (CONFIG, coarse)
    ]
    assert drafts[0].engine_digest != drafts[1].engine_digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": {"min_history_bars": 10}},
        {"model": {"stay_probability": 1.0}},
        {"horizon_ms": 0},
        {"trending": {"terms": ()}},
        {"speed": 1},
    ],
)
def test_a_configuration_outside_its_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RegimeConfig.model_validate(wrong)

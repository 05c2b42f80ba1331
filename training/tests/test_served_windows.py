"""What serves says what training says: the same windows to the bit, the same probabilities of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from huracan.contracts.features import FeatureWindow, feature_window
from huracan.contracts.market import InstrumentDefinition, InstrumentType, instrument_definition
from huracan.features import outlook
from huracan.features.bar import BAR
from huracan.features.regimes import RegimeThresholds
from huracan.inference.bundle import load_bundle
from huracan.inference.engine import OnnxEngine
from huracan_training.bars import INTERVAL_NS, asset, read_bars, tidy, windowed
from huracan_training.benchmark import TARGET
from huracan_training.commands.evaluate import BUNDLES
from huracan_training.detector import detector_of
from huracan_training.labels import TARGETS, fit_thresholds, known, labels
from huracan_training.models.outlook import Outlook
from huracan_training.samples import UNKNOWN, WINDOW, Sample, Series

from .market import SHARED, synthetic_bars

ASKED = 200
RECORDED = SHARED / "ohlcv" / "binance_usdm_BTCUSDT_15m_2023_2024.parquet"


def _instrument(name: str) -> InstrumentDefinition:
    """Return the instrument that training knows by a name."""
    venue, _, symbol = name.rpartition("_")
    made = instrument_definition(
        venue=venue,
        symbol="any",
        venue_symbol=symbol,
        type=InstrumentType.INSTRUMENT_TYPE_SPOT,
        base=symbol.removesuffix("USDT"),
        quote="USDT",
        settle="USDT",
        price_increment=Decimal("0.01"),
        size_increment=Decimal("0.01"),
    )
    assert outlook.asset_of(made) == name
    return made


def _window(series: Series, at: int) -> FeatureWindow:
    """Return the window that a gateway would send when a bar closed."""
    close_ns = int(series.close_ns[at])
    step = close_ns // series.interval_ns - 1
    return feature_window(
        instrument=_instrument(series.asset),
        epoch=1,
        feature_set=BAR.name,
        feature_set_digest=BAR.digest,
        interval_ns=series.interval_ns,
        step=step,
        first_step=step - WINDOW + 1,
        close_ns=close_ns,
        values=series.rows[at - WINDOW + 1 : at + 1],
        valid_rows=WINDOW,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=close_ns,
        book_synced=True,
    )


def _synthetic(name: str) -> Sample:
    return _sample(asset(synthetic_bars(2_000, asset=name)).series)


def _sample(series: Series) -> Sample:
    at = windowed(series)
    at = at[np.linspace(0, len(at) - 1, min(ASKED, len(at)), dtype=np.int64)]
    nothing = np.full(len(series.rows), UNKNOWN)
    return Sample(series=series, at=at, labels=np.zeros(len(at), dtype=np.int64), known=nothing)


def _says_the_same(sample: Sample) -> None:
    """Compare what serves with what trains: windows to the bit, probabilities within 1e-5."""
    bundle = load_bundle(BUNDLES / TARGET)
    data = bundle.contents[outlook.FILE]
    seen, engine = outlook.read_outlook(data, outlook.FILE), OnnxEngine(bundle)
    engine.check_features(BAR.digest, seen.columns)
    trained = Outlook.model_validate_json(data).seen(sample).series.rows
    told = []
    for at in sample.at.tolist():
        fed = seen.window(_window(sample.series, at))
        learned = np.nan_to_num(trained[at - WINDOW + 1 : at + 1])
        assert fed.tobytes() == np.ascontiguousarray(learned.T).tobytes()
        told.append(engine.run(fed[np.newaxis])[0])
    np.testing.assert_allclose(np.array(told), detector_of(bundle).predict(sample), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["binance_usdm_BTCUSDT", "sim_SIMUSDT"])
def test_windows_and_probabilities_of_synthetic_bars_are_those_of_training(name: str) -> None:
    _says_the_same(_synthetic(name))


def test_so_are_those_of_bars_that_move_a_hundred_times_as_much_and_of_a_week_that_stood_still() -> None:
    bars = synthetic_bars(2_000, asset="binance_spot_ETHUSDT")
    prices = ("open", "high", "low", "close")
    larger = replace(bars, **{each: np.exp(100 * np.log(getattr(bars, each))) for each in prices})
    _says_the_same(_sample(asset(larger).series))
    still: dict[str, Any] = {each: np.where(np.arange(2_000) < 700, 100.0, getattr(bars, each)) for each in prices}
    _says_the_same(_sample(asset(replace(bars, **still)).series))


@pytest.mark.skipif(not RECORDED.is_file(), reason=f"needs {RECORDED.name} in ../shared/data/ohlcv")
def test_so_are_those_of_recorded_bars() -> None:
    bars = tidy(read_bars(RECORDED))
    assert bars.interval_ns == INTERVAL_NS
    _says_the_same(_sample(asset(bars.take(np.arange(len(bars) - 5_000, len(bars)))).series))


@pytest.mark.parametrize("horizon", [16, 32])
def test_the_present_regime_is_the_label_of_the_bars_up_to_now(horizon: int) -> None:
    """What services know of the bars before a moment is what training told of them beforehand, but for rounding."""
    made = asset(synthetic_bars(3_000, asset="sim_SIMUSDT"))
    everything = np.ones(len(made.series.rows), dtype=np.bool_)
    fitted = fit_thresholds(TARGETS["regime"], horizon, [(made, everything)])
    told = known(labels(made, fitted), horizon)
    cuts = {name: (calm, wild, straight) for name, (calm, wild, straight) in fitted.values.items()}
    thresholds = RegimeThresholds(
        horizon_bars=horizon, cuts=cuts, transition=((0.25,) * 4,) * 4, half_life_bars=1_000.0
    )
    same = [
        np.array_equal(thresholds.known(_window(made.series, at)), told[at - WINDOW + 1 : at + 1])
        for at in range(horizon + WINDOW, len(told), 50)
    ]
    assert np.mean(same) > 0.95

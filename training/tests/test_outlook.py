"""What models are fed: volatilities on the scale of what is asked, the clock ahead, and nothing of the future."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan.features.outlook import LIMIT
from huracan_training.bars import INTERVAL_NS, Bars, asset, windowed
from huracan_training.models.check import cut_after
from huracan_training.models.inputs import Question
from huracan_training.models.outlook import NAMES, Outlook, fit_outlook
from huracan_training.models.table import MODELS, Surroundings, make_model
from huracan_training.samples import UNKNOWN, Kept, Sample

from .market import START_NS, Regimes, synthetic_bars

HORIZON = 16
QUESTION = Question(classes=4, horizon_bars=HORIZON)
OUTLOOK = Surroundings(outlook=True)
DAY_BARS = 96
BARS = 1600
STEADY = Regimes(volatilities=(0.002,), drifts=(0.0,))
VOLATILITIES = [NAMES.index(f"realised_volatility_{bars}") for bars in (16, 32, 96, 288, 672)]


def _sample(bars: Bars) -> Sample:
    series = asset(bars).series
    at = windowed(series)
    labels = np.arange(len(at)) % 4
    return Sample(series=series, at=at, labels=labels, known=np.full(len(series.rows), UNKNOWN))


def _larger(bars: Bars, times: float) -> Bars:
    """Return bars whose log prices move so many times as much."""
    values = {name: np.exp(times * np.log(getattr(bars, name))) for name in ("open", "high", "low", "close")}
    return replace(bars, asset="larger", **values)


def _last(outlook: Outlook, sample: Sample, name: str) -> float:
    return float(outlook.seen(sample).series.rows[-1, NAMES.index(name)])


def test_volatilities_of_all_lengths_are_on_one_scale() -> None:
    steady = _sample(synthetic_bars(BARS, regimes=STEADY))
    rows = fit_outlook([steady], HORIZON).seen(steady).series.rows[700:]
    assert np.abs(rows[:, VOLATILITIES].mean(axis=0)).max() < 0.3, "all are of one bar"
    low, high = np.quantile(rows[:, VOLATILITIES[0]], [0.2, 0.8])
    assert high - low == pytest.approx(1, abs=0.15), "the inner three fifths of what is asked are one wide"


def test_an_asset_that_moves_thrice_as_much_looks_the_same() -> None:
    bars = synthetic_bars(BARS)
    plain, larger = _sample(bars), _sample(_larger(bars, 3.0))
    outlook = fit_outlook([plain, larger], HORIZON)
    np.testing.assert_allclose(
        outlook.seen(larger).series.rows[700:, VOLATILITIES],
        outlook.seen(plain).series.rows[700:, VOLATILITIES],
        atol=0.01,
    )


def test_the_clock_tells_what_time_of_day_is_lively() -> None:
    bars = synthetic_bars(
        4 * 7 * DAY_BARS, regimes=STEADY, start_ns=START_NS // (INTERVAL_NS * DAY_BARS) * INTERVAL_NS * DAY_BARS
    )
    slot = np.arange(len(bars)) % DAY_BARS
    lively = (slot >= 48) & (slot < 64)
    wide = np.where(lively, 4.0, 1.0)
    centre = np.sqrt(bars.high * bars.low)
    bars = replace(
        bars,
        high=np.maximum(bars.high, centre * np.exp(0.002 * wide)),
        low=np.minimum(bars.low, centre * np.exp(-0.002 * wide)),
    )
    sample = _sample(bars)
    ahead = fit_outlook([sample], HORIZON).seen(sample).series.rows[:, NAMES.index("clock_ahead")]
    before = slot == 47
    others = slot == 70
    assert ahead[before].min() > ahead[others].max() + 0.5


def test_nothing_of_the_future_is_seen() -> None:
    sample = _sample(synthetic_bars(BARS))
    outlook = fit_outlook([sample], HORIZON)
    whole = outlook.seen(sample).series.rows
    for position in (700, 1000, 1500):
        np.testing.assert_array_equal(outlook.seen(cut_after(sample, position)).series.rows, whole[: position + 1])


def test_only_the_rows_that_are_learned_from_decide_how_an_asset_is_seen() -> None:
    sample = _sample(synthetic_bars(BARS))
    early = replace(sample, at=sample.at[:900], labels=sample.labels[:900])
    cut = cut_after(sample, int(early.at[-1]))
    assert fit_outlook([early], HORIZON) == fit_outlook([cut], HORIZON)


def test_an_asset_that_was_not_trained_on_is_seen_as_all_together_until_it_is_met() -> None:
    bars = synthetic_bars(BARS)
    plain, larger = _sample(bars), _sample(_larger(bars, 3.0))
    outlook = fit_outlook([plain], HORIZON)
    assert _last(outlook, larger, "realised_volatility_96") > _last(outlook, plain, "realised_volatility_96") + 0.3
    met = outlook.met([larger])
    assert met.seen(plain).series.rows.tobytes() == outlook.seen(plain).series.rows.tobytes()
    assert _last(met, larger, "realised_volatility_96") == pytest.approx(
        _last(met, plain, "realised_volatility_96"), abs=0.01
    )
    assert met.met([]) is met


def test_an_asset_is_seen_as_it_is_in_the_years_that_are_asked_about() -> None:
    bars = synthetic_bars(BARS)
    calm, wild = _sample(bars), _sample(replace(_larger(bars, 3.0), asset=bars.asset))
    outlook = fit_outlook([calm], HORIZON)
    assert _last(outlook, wild, "realised_volatility_96") > _last(outlook, calm, "realised_volatility_96") + 0.3
    assert _last(outlook.met([wild]), wild, "realised_volatility_96") == pytest.approx(
        _last(outlook, calm, "realised_volatility_96"), abs=0.01
    )
    assert outlook.met([wild]).met([calm]).views == outlook.views, "nothing stays of what was met before"


def test_what_is_seen_has_bounds_and_short_histories_are_missing() -> None:
    sample = _sample(synthetic_bars(300))
    rows = fit_outlook([sample], HORIZON).seen(sample).series.rows
    assert rows.shape == (300, len(NAMES))
    assert np.nanmax(np.abs(rows)) <= LIMIT
    assert np.isnan(rows[:, NAMES.index("realised_volatility_672")]).all()
    assert (rows[:, NAMES.index("clock_ahead")] == 0).all(), "what is usual was never known"


def test_rows_of_another_set_and_of_other_intervals_are_refused() -> None:
    sample = _sample(synthetic_bars(300))
    narrow = replace(sample, series=replace(sample.series, rows=sample.series.rows[:, :5]))
    with pytest.raises(BadInput, match="rows had 5 columns"):
        fit_outlook([narrow], HORIZON)
    with pytest.raises(BadInput, match="give train bars of one interval"):
        fit_outlook([sample, replace(sample, series=replace(sample.series, interval_ns=60))], HORIZON)
    with pytest.raises(BadInput, match="train had no positions"):
        fit_outlook([replace(sample, at=sample.at[:0], labels=sample.labels[:0])], HORIZON)


@pytest.mark.parametrize("name", ["lightgbm", "strided_cnn", "distilled_cnn"])
def test_a_model_is_kept_with_its_outlook(name: str, tmp_path: Path) -> None:
    net = {"width": 8, "epochs": 1, "steps_per_epoch": 2}
    trees = {"rounds": 5, "min_data_in_leaf": 20}
    settings = {
        "lightgbm": trees,
        "strided_cnn": net,
        "distilled_cnn": net | {f"lightgbm.{key}": value for key, value in trees.items()},
    }[name]
    sample = _sample(synthetic_bars(BARS))
    model, again = (make_model(name, QUESTION, settings, OUTLOOK) for _ in range(2))
    assert isinstance(model, Kept)
    assert isinstance(again, Kept)
    with pytest.raises(BadInput, match="was not fitted"):
        model.predict(sample)
    model.fit([sample], [sample], seed=1)
    model.write(tmp_path)
    again.read(tmp_path)
    assert again.predict(sample).tobytes() == model.predict(sample).tobytes()


def test_a_model_is_fed_the_columns_that_were_chosen_and_is_kept_with_them(tmp_path: Path) -> None:
    sample = _sample(synthetic_bars(BARS))
    chosen = ("clock_ahead", "move", "realised_volatility_16")
    fed = fit_outlook([sample], HORIZON, chosen).seen(sample).series.rows
    whole = fit_outlook([sample], HORIZON).seen(sample).series.rows
    np.testing.assert_array_equal(fed, whole[:, [name in chosen for name in NAMES]], "in the order of NAMES")
    settings = {"rounds": 5, "min_data_in_leaf": 20}
    model = make_model("lightgbm", QUESTION, settings, replace(OUTLOOK, columns=chosen))
    again = make_model("lightgbm", QUESTION, settings, OUTLOOK)
    assert isinstance(model, Kept)
    assert isinstance(again, Kept)
    model.fit([sample], [sample], seed=1)
    model.write(tmp_path)
    again.read(tmp_path)
    assert again.predict(sample).tobytes() == model.predict(sample).tobytes()


def test_a_model_that_looks_at_no_rows_takes_no_columns() -> None:
    with pytest.raises(BadInput, match="columns of hmm were chosen, which looks at none"):
        make_model("hmm", QUESTION, None, Surroundings(outlook=True, columns=("move",)))


def test_models_that_look_at_no_rows_have_no_outlook() -> None:
    blind = {name for name in MODELS if make_model(name, QUESTION, None, OUTLOOK).__class__.__name__ != "Outlooked"}
    assert blind == {"majority", "persistence", "markov_chain", "hmm", "kalman_hmm"}

"""Models of direction: what they are fed, that sides change about, and the formula they are judged beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from huracan.errors import BadInput
from huracan.expert.port import Forecast
from huracan.features.micro import MICRO
from huracan.features.order_flow import FILE, LIMIT, View
from huracan_flow.config import FlowConfig
from huracan_flow.responder import FlowResponder
from huracan_training.bars import Asset
from huracan_training.benchmark import FLOW_TODAY, apart, registered, rivals
from huracan_training.datasets import FoldSamples, fold_samples
from huracan_training.labels import FLAT, TARGETS, fit_thresholds
from huracan_training.models.check import check_classifier
from huracan_training.models.nets import NetClassifier
from huracan_training.models.order_flow import COLUMNS, OrderFlow, fit_view, mirrored
from huracan_training.models.ordered_logit import OrderedLogit
from huracan_training.models.table import make_model
from huracan_training.samples import WINDOW, Classifier, Floats, Integers, Rows, Sample
from huracan_training.splits import walk_forward
from huracan_training.tasks import FLOW, REGIME, task_of
from huracan_training.walk import Labelled

from .order_flow_market import HORIZON, step_asset, window_sample

TINY = {"width": 8, "epochs": 2, "steps_per_epoch": 4, "batch": 32}
QUESTION = FLOW.question(HORIZON)


def _assets(steps: int = 700) -> list[Asset]:
    return [step_asset(steps, seed, name) for seed, name in ((1, "sim_a-usdt-perp"), (2, "sim_b-usdt-perp"))]


@pytest.fixture(scope="module")
def parts() -> FoldSamples:
    """Give the final fold of two assets."""
    assets = _assets()
    plan = walk_forward(np.concatenate([each.series.close_ns for each in assets]), folds=1, valid_share=0.3)
    return fold_samples(assets, plan.final, "direction", HORIZON)


@pytest.fixture(scope="module")
def model(parts: FoldSamples) -> OrderFlow:
    """Give a small net that was fitted."""
    found = make_model("distilled_cnn", QUESTION, TINY, FLOW.around)
    assert isinstance(found, OrderFlow)
    found.fit(parts.train, parts.valid, seed=1)
    return found


def _view_of(model: OrderFlow, directory: Path) -> View:
    model.write(directory)
    return View.model_validate_json((directory / FILE).read_bytes())


def _fed(model: OrderFlow, sample: Sample) -> list[bytes]:
    """Return what a net is fed when its model is asked about a sample."""
    fed: list[bytes] = []

    def keep(_net: torch.nn.Module, given: Sequence[torch.Tensor]) -> None:
        fed.append(given[0].numpy().tobytes())

    inner = model._model
    assert isinstance(inner, NetClassifier)
    handle = inner.net.register_forward_pre_hook(keep)
    try:
        model.predict(sample)
    finally:
        handle.remove()
    return fed


@pytest.fixture(scope="module")
def view(model: OrderFlow, tmp_path_factory: pytest.TempPathFactory) -> View:
    return _view_of(model, tmp_path_factory.mktemp("kept"))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), wild=st.booleans())
def test_what_is_served_is_fed_what_training_feeds_to_the_bit(
    model: OrderFlow, view: View, seed: int, wild: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = (WINDOW, MICRO.columns)
    bits = rng.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32)
    window: Rows = bits if wild else np.where(rng.random(shape) < 0.2, np.nan, rng.normal(0, 2, shape)).astype("<f4")
    served = view.windows(window)
    assert served is not None
    assert _fed(model, window_sample(window)) == [served.tobytes()]


def test_the_view_is_kept_and_read_back(model: OrderFlow, parts: FoldSamples, tmp_path: Path) -> None:
    model.write(tmp_path)
    again = make_model("distilled_cnn", QUESTION, None, FLOW.around)
    assert isinstance(again, OrderFlow)
    again.read(tmp_path)
    again.meet(parts.test)
    for sample in parts.test:
        assert again.predict(sample).tobytes() == model.predict(sample).tobytes()


def test_the_mirror_image_of_a_market_is_seen_as_its_mirror_image(parts: FoldSamples) -> None:
    view = fit_view(parts.train, HORIZON)
    sided = [name for name, centre in zip(view.columns, view.centre, strict=True) if not centre]
    assert {"queue_imbalance", "mid_return_bps", "ofi_1s"} <= set(sided)
    assert {"trade_intensity", "quote_intensity", "realised_volatility_bps"}.isdisjoint(sided)
    down, flat, up = view.moves_bps
    assert (down, flat) == (-up, 0.0)
    assert up > 1e4 * FLAT
    seen = replace(parts.test[0], series=replace(parts.test[0].series, rows=view.seen(parts.test[0].series.rows)))
    image = mirrored(seen)
    at = COLUMNS.index("queue_imbalance")
    np.testing.assert_array_equal(image.series.rows[:, at], -seen.series.rows[:, at])
    np.testing.assert_array_equal(image.labels, 2 - seen.labels)
    assert set(np.unique(image.known)) <= {-1, 0, 1, 2}
    back = mirrored(image)
    np.testing.assert_array_equal(back.series.rows, seen.series.rows)
    np.testing.assert_array_equal(back.labels, seen.labels)
    np.testing.assert_array_equal(back.known, seen.known)


def test_a_one_way_market_teaches_no_way(parts: FoldSamples) -> None:
    def tilted(samples: Sequence[Sample]) -> list[Sample]:
        return [replace(each, labels=np.where(each.labels == 0, 2, each.labels)) for each in samples]

    found = make_model("lightgbm", QUESTION, {"rounds": 5}, FLOW.around)
    found.fit(tilted(parts.train), tilted(parts.valid), seed=1)
    still = np.zeros((WINDOW, MICRO.columns), dtype=np.float32)
    down, _, up = found.predict(window_sample(still))[0]
    assert up == pytest.approx(down, abs=0.02)


def test_a_net_learns_that_the_queue_leads(parts: FoldSamples) -> None:
    found = make_model("distilled_cnn", QUESTION, {"width": 8, "epochs": 12, "taught": 0.5}, FLOW.around)
    found.fit(parts.train, parts.valid, seed=1)
    window = np.zeros((WINDOW, MICRO.columns), dtype=np.float32)
    window[:, MICRO.names.index("queue_imbalance")] = 1
    down, _, up = found.predict(window_sample(window))[0]
    assert up > 2 * down, (up, down)


@pytest.mark.parametrize("name", ["ordered_logit", "strided_cnn"])
def test_models_of_direction_keep_every_law(name: str, parts: FoldSamples) -> None:
    def make() -> Classifier:
        return (
            OrderedLogit(QUESTION, MICRO.names)
            if name == "ordered_logit"
            else make_model(name, QUESTION, TINY, FLOW.around)
        )

    def some(samples: Sequence[Sample]) -> list[Sample]:
        return [replace(each, at=each.at[::4], labels=each.labels[::4]) for each in samples]

    check_classifier(make, QUESTION, train=some(parts.train), valid=some(parts.valid), judged=some(parts.test))


def test_the_formula_as_a_baseline_says_what_the_service_says(parts: FoldSamples) -> None:
    config, sample = FlowConfig(), parts.test[0]
    fixed = OrderedLogit(QUESTION, MICRO.names, flat_threshold=config.flat_threshold)
    fixed.fit(parts.train, parts.valid, seed=1)
    said, responder = fixed.predict(sample), FlowResponder(config)
    for at, row in list(zip(sample.at, said, strict=True))[:20]:
        told = responder.forecast(sample.series.rows[at - WINDOW + 1 : at + 1], {})
        assert isinstance(told, Forecast)
        assert row.tolist() == pytest.approx([told.p_down, told.p_flat, told.p_up], abs=1e-9)


def _loss(said: Floats, labels: Integers) -> float:
    return -float(np.log(said[np.arange(len(labels)), labels]).mean())


def test_the_formula_fits_better_than_its_constants(parts: FoldSamples) -> None:
    free, fixed = (
        OrderedLogit(QUESTION, MICRO.names),
        OrderedLogit(QUESTION, MICRO.names, flat_threshold=FlowConfig().flat_threshold),
    )
    for each in (free, fixed):
        each.fit(parts.train, parts.valid, seed=1)
    sample = parts.train[0]
    assert _loss(free.predict(sample), sample.labels) < _loss(fixed.predict(sample), sample.labels)


def test_flat_is_what_the_service_calls_flat() -> None:
    assert pytest.approx(FlowConfig().flat_bps * 1e-4) == FLAT
    quiet, everything = step_asset(700, 3, pull_bps=0.01), np.ones(700, dtype=np.bool_)
    quiet.series.log_return[:] *= 0.1
    assert fit_thresholds(TARGETS["direction"], HORIZON, [(quiet, everything)]).of(quiet.name) == (FLAT,)


def test_who_is_beside_a_model_of_direction() -> None:
    names = [each.name for each in rivals(FLOW, HORIZON)]
    assert names == [*FLOW.rivals, "ordered_logit", FLOW_TODAY]
    assert [each.name for each in rivals(FLOW, 50)] == [*FLOW.rivals, "ordered_logit"], "its constants are of a second"
    assert [each.name for each in rivals(REGIME, 16)] == list(REGIME.rivals)
    assert [each.make(Path()).name for each in rivals(FLOW, HORIZON)[-2:]] == ["ordered_logit"] * 2
    (net,) = registered([FLOW.model], seeds=1, horizon_bars=HORIZON, task=FLOW)
    assert net.settings == FLOW.settings[FLOW.model]


def test_each_asset_is_asked_about_by_what_was_learned_of_the_others(parts: FoldSamples) -> None:
    plan = walk_forward(parts.train[0].series.close_ns, folds=1, valid_share=0.3)
    fold = Labelled(number=1, span=plan.final, samples=parts)
    found = apart([fold])
    assert [each.number for each in found] == [1, 2]
    for each in found:
        (test,) = each.samples.test
        assert test.series.asset not in {part.series.asset for part in (*each.samples.train, *each.samples.valid)}
    alone = replace(fold, samples=replace(parts, train=parts.train[:1], valid=parts.valid[:1], test=parts.test[:1]))
    with pytest.raises(BadInput, match="no other asset to learn from"):
        apart([alone])


def test_rows_of_other_features_are_refused(parts: FoldSamples) -> None:
    sample = parts.train[0]
    narrow = replace(sample, series=replace(sample.series, rows=sample.series.rows[:, :5]))
    with pytest.raises(BadInput, match="rows had 5 columns: order flow is told from"):
        fit_view([narrow], HORIZON)
    with pytest.raises(BadInput, match="train had no positions"):
        fit_view([replace(sample, at=sample.at[:0], labels=sample.labels[:0])], HORIZON)


def test_a_market_without_moves_expects_none(parts: FoldSamples) -> None:
    still = [replace(each, labels=np.ones_like(each.labels)) for each in parts.train]
    assert fit_view(still, HORIZON).moves_bps == (0.0, 0.0, 0.0)
    assert pytest.approx(3.0) == LIMIT


@pytest.mark.parametrize(("horizon", "rows"), [(None, 10), ("1s", 10), ("5s", 50), ("10s", 100), ("7", 7)])
def test_a_horizon_has_a_name_or_is_a_number_of_rows(horizon: str | None, rows: int) -> None:
    assert FLOW.rows(horizon) == rows


@pytest.mark.parametrize(("target", "horizon"), [("direction", "7s"), ("direction", "0"), ("regime", "1s")])
def test_another_horizon_is_refused(target: str, horizon: str) -> None:
    with pytest.raises(BadInput, match=f"--horizon was '{horizon}': give a number of"):
        task_of(target).rows(horizon)


def test_settings_of_a_teacher_that_does_not_teach_are_refused() -> None:
    with pytest.raises(BadInput, match=r"lightgbm\.rounds was set, and ordered_logit is the teacher here"):
        make_model("distilled_cnn", QUESTION, {"lightgbm.rounds": 5}, FLOW.around)

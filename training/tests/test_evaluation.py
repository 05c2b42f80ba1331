"""An evaluation of a simulated study: the same rows for all, intervals around scores, and a verdict that can say no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from huracan.errors import BadInput
from huracan_training.evaluation import Evaluation, Forecast, evaluate
from huracan_training.returns import Costs
from huracan_training.samples import UNKNOWN
from huracan_training.scores import log_losses
from huracan_training.trading import HOLDING, traded

from .simulated_study import Market


def _of(forecasts: Sequence[Forecast], *models: str) -> list[Forecast]:
    return [each for each in forecasts if each.model in models]


def test_scores_are_those_of_all_rows_and_lie_in_their_intervals(market: Market, evaluation: Evaluation) -> None:
    own = evaluation.judged
    losses = [log_losses(each.labels, each.probabilities) for each in _of(market.forecasts, own.name)]
    assert own.scores.log_loss == pytest.approx(float(np.concatenate(losses).mean()))
    assert own.scores.rows == sum(each.size for each in losses)
    for name, told in own.intervals.items():
        assert told.value == pytest.approx(getattr(own.scores, name))
        assert told.low < told.value < told.high or name == "ece"  # noise only adds to an ECE
        assert told.low < told.high
    for parts in (own.by_asset, own.by_fold, own.by_seed, own.by_known_regime):
        assert sum(each.rows for each in parts.values()) == own.scores.rows
    assert (len(own.by_asset), len(own.by_fold), own.seeds) == (3, 5, (1, 2))


def test_the_better_model_beats_every_baseline_and_may_be_promoted(evaluation: Evaluation) -> None:
    pooled = {each.baseline: each.gain for each in evaluation.comparisons if not each.asset}
    assert set(pooled) == {"random_forest", "hmm", "logistic", "persistence", "majority"}
    assert pooled["majority"].value > pooled["hmm"].value > 0
    gain = evaluation.models[1].scores.log_loss - evaluation.judged.scores.log_loss
    assert pooled["random_forest"].value == pytest.approx(gain)
    assert evaluation.verdict.promoted == (pooled["random_forest"].above_zero and pooled["persistence"].above_zero)


def test_a_model_that_knows_nothing_stays_in_quarantine(market: Market) -> None:
    study = replace(market.study, model="majority", replicates=50)
    told = evaluate(study, _of(market.forecasts, "majority", "random_forest", "persistence", "hmm"), market.series)
    assert not told.verdict.promoted
    assert told.assets_beaten == ()
    assert [each.held for each in told.claims[:2]] == [False, False]
    assert told.claims[3].reached == "5 folds, 1 seed"


def test_a_copy_of_the_random_forest_does_not_beat_it(market: Market) -> None:
    forest = _of(market.forecasts, "random_forest")
    copy = [replace(each, model="copy") for each in forest]
    told = evaluate(
        replace(market.study, model="copy", replicates=50),
        [*copy, *forest, *_of(market.forecasts, "persistence")],
        market.series,
    )
    assert not told.verdict.promoted
    assert told.verdict.reasons[0].startswith("Does not beat random forest by +0.0000 nats")


def test_the_same_study_is_evaluated_the_same_twice(market: Market, evaluation: Evaluation) -> None:
    again = evaluate(market.study, market.forecasts, market.series)
    assert again.comparisons == evaluation.comparisons
    assert again.judged.intervals == evaluation.judged.intervals
    assert again.judged.transitions.scores == evaluation.judged.transitions.scores
    assert again.claims == evaluation.claims


def test_a_detector_that_knows_calls_changes_better_than_chance_and_persistence_never_does(
    evaluation: Evaluation,
) -> None:
    by_name = {each.name: each.transitions for each in evaluation.models}
    told = by_name["patch_net"]
    assert told.scores.recall >= 0.7
    assert told.scores.precision > told.scores.chance_precision
    assert told.scores.p_precision < 0.01
    assert told.precision.low < told.scores.precision < told.precision.high
    assert by_name["persistence"].scores.alarms == 0
    assert by_name["persistence"].scores.recall == 0


def test_models_asked_about_other_rows_are_not_compared(market: Market) -> None:
    forecasts = _of(market.forecasts, "patch_net", "hmm")
    with pytest.raises(BadInput, match="hmm was not asked about the same rows"):
        evaluate(market.study, forecasts[:-1], market.series)
    with pytest.raises(BadInput, match="has no forecast"):
        evaluate(market.study, _of(market.forecasts, "hmm"), market.series)


def test_rows_without_a_known_regime_are_a_group_of_their_own(market: Market) -> None:
    (first, *rest) = _of(market.forecasts, "patch_net")
    blind = replace(first, known=np.full_like(first.known, UNKNOWN))
    told = evaluate(replace(market.study, replicates=20), [blind, *rest], market.series)
    assert told.judged.by_known_regime["unknown"].rows == blind.at_ns.size
    assert not told.verdict.promoted  # nothing to be compared with


def test_costs_only_take_and_holding_is_a_trial_of_nothing(market: Market, evaluation: Evaluation) -> None:
    own, holding = evaluation.judged.trading, evaluation.holding
    assert own is not None
    assert holding is not None
    assert own.scores.total < own.gross_total
    assert own.scores.dsr <= own.scores.psr
    assert holding.scores.dsr == holding.scores.psr
    assert own.monte_carlo is not None
    assert set(own.by_asset) == set(market.series)
    assert own.sharpe.low < own.scores.sharpe < own.sharpe.high
    free = replace(market.study, costs=Costs().scaled(0.0), replicates=20, trial_sharpes=(0.01, 0.02, -0.01))
    by_model = {"patch_net": _of(market.forecasts, "patch_net")}
    told = traded(free, by_model, market.series)
    assert told["patch_net"].scores.total == pytest.approx(told["patch_net"].gross_total)
    assert told[HOLDING].monte_carlo is None


def test_what_was_earned_is_told_by_the_regime_that_was_known(market: Market) -> None:
    forecasts = _of(market.forecasts, "patch_net")
    told = traded(market.study, {"patch_net": forecasts}, market.series)["patch_net"]
    assert set(told.by_known_regime) == set(market.study.classes)
    always = [replace(each, known=np.zeros_like(each.known)) for each in forecasts]
    one = traded(market.study, {"patch_net": always}, market.series)["patch_net"].by_known_regime
    assert one[market.study.classes[0]] == pytest.approx(told.scores.sharpe), "all that was earned"
    assert np.isnan(one[market.study.classes[1]]), "nothing was earned where nothing was held"


def test_positions_are_taken_from_directions_where_those_are_the_classes(market: Market) -> None:
    study = replace(market.study, classes=("down", "flat", "up", "unknown"), replicates=20)
    told = traded(study, {"patch_net": _of(market.forecasts, "patch_net")}, market.series)
    assert told["patch_net"].rule.startswith("p(up)")
    assert traded(replace(study, classes=("a", "b", "c", "d")), {}, market.series) == {}

"""What experts lose, once what they said is known to be right or wrong."""

from __future__ import annotations

import math

import pytest

from huracan.clock import STEP_NS
from huracan.contracts.opinion import AbstainReason, Opinion
from huracan_regime.config import LossConfig
from huracan_regime.losses import LONGEST_STEPS, LossStream

CONFIG = LossConfig()
HORIZON = 10
MIDS = dict.fromkeys(range(1_000), 1_000.0)
"""A mid that never moves."""


def _opinion(
    step: int, *, horizon_ns: int = HORIZON * STEP_NS, odds: tuple[float, float, float] = (0.2, 0.5, 0.3)
) -> Opinion:
    down, flat, up = odds
    return Opinion(step=step, horizon_ns=horizon_ns, p_down=down, p_flat=flat, p_up=up)


def _losses(stream: LossStream, mids: dict[int, float], last: int = 100) -> list[float]:
    return [loss for step in range(last) for _, loss in stream.resolve(step, mids)]


@pytest.mark.parametrize(
    ("move_bps", "given"), [(0.0, 0.5), (0.25, 0.5), (-0.25, 0.5), (0.3, 0.3), (-0.3, 0.2), (50, 0.3)]
)
def test_a_loss_is_the_log_of_the_odds_of_what_came(move_bps: float, given: float) -> None:
    stream = LossStream(CONFIG)
    mids = MIDS | {step: 1_000.0 * math.exp((move_bps - 1e-9 * math.copysign(1, move_bps)) / 1e4) for step in (13,)}
    for step in (3, 20):
        stream.hear(_opinion(step))
    assert _losses(stream, mids) == [pytest.approx(-math.log(given))]


def test_odds_of_nothing_cost_no_more_than_the_bound() -> None:
    stream = LossStream(CONFIG)
    for step in (3, 20):
        stream.hear(_opinion(step, odds=(0.5, 0.0, 0.5)))
    assert _losses(stream, MIDS) == [CONFIG.largest_loss]


def test_there_are_two_means_for_each_time_that_is_looked_ahead() -> None:
    stream = LossStream(CONFIG)
    for step in range(1, 61):
        stream.hear(_opinion(step, odds=(0.0, 1.0, 0.0) if step < 20 else (0.25, 0.5, 0.25)))
    found = [each for step in range(100) for each in stream.resolve(step, MIDS)]
    assert found == [(HORIZON // 2, 0.0)] * 4 + [(HORIZON // 2, pytest.approx(math.log(2)))] * 8


def test_odds_whose_mids_are_not_both_known_are_dropped() -> None:
    stream = LossStream(CONFIG)
    for step in (3, 4, 30):
        stream.hear(_opinion(step, odds=(0.0, 1.0, 0.0) if step == 4 else (0.2, 0.5, 0.3)))
    mids = {step: mid for step, mid in MIDS.items() if step != 13}
    assert _losses(stream, mids) == [0.0]


def test_what_is_no_odds_is_not_heard() -> None:
    stream = LossStream(CONFIG)
    nan = float("nan")
    for number, opinion in enumerate(
        (
            Opinion(
                abstained=True, reason=AbstainReason.ABSTAIN_REASON_STALE, horizon_ns=HORIZON * STEP_NS, p_flat=0.5
            ),
            _opinion(0, odds=(nan, 0.5, 0.5)),
            _opinion(0, odds=(-0.5, 1.0, 0.5)),
            _opinion(0, odds=(0.0, 2.0, 0.0)),
            _opinion(0, horizon_ns=0),
            _opinion(0, horizon_ns=-STEP_NS),
            _opinion(0, horizon_ns=STEP_NS + 1),
            _opinion(0, horizon_ns=(LONGEST_STEPS + 1) * STEP_NS),
        )
    ):
        opinion.step = 20 * number + 1
        stream.hear(opinion)
    assert _losses(stream, MIDS, last=900) == []


def test_odds_of_another_engine_or_horizon_begin_a_stream_and_those_before_are_dropped() -> None:
    stream = LossStream(CONFIG)
    told = []
    for step, engine, horizon in ((3, 1, 10), (4, 1, 10), (5, 2, 10), (4, 3, 10), (6, 2, 20), (40, 2, 20)):
        said = _opinion(step, horizon_ns=horizon * STEP_NS)
        said.engine_digest = bytes([engine]) * 32
        told.append(stream.hear(said))
    assert told == [True, False, True, False, True, False]
    assert [steps for step in range(100) for steps, _ in stream.resolve(step, MIDS)] == [10]


def test_a_step_that_was_heard_counts_once() -> None:
    stream = LossStream(CONFIG)
    for step, flat in ((5, 0.5), (5, 0.1), (4, 0.1), (30, 0.5)):
        stream.hear(_opinion(step, odds=(0.0, flat, 0.0)))
    assert _losses(stream, MIDS) == [pytest.approx(math.log(2))]

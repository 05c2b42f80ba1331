"""The gate: opinions to one decision, as SEMANTICS (Gate and size) has it."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from huracan.contracts.codec import encode
from huracan.contracts.context import ContextRef, RegimeShare
from huracan.contracts.decision import Decision, direction_name
from huracan.contracts.journal import WindowOpened
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.ids import decision_id
from huracan_orchestrator.config import GateConfig
from huracan_orchestrator.gate import decide, disagreement, max_position, pool

from .market import perpetual

CONFIG = GateConfig()
CLOSE_NS = 1_700_000_000_000_000_000
STEP = 17_000_000_000 - 1
EXPERTS = ("regime", "flow", "sentiment")
Triple = tuple[float, float, float]
DOWN, UP, FLAT = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0, 0.0)


def _opened(
    base: str = "BTC", *, price: str = "0.1", lot: str = "0.001", bid: int = 600_000, ask: int = 600_001
) -> WindowOpened:
    return WindowOpened(
        instrument=perpetual(base, price, lot),
        gateway_epoch=4,
        step=STEP,
        close_ns=CLOSE_NS,
        first_ingest_seq=10,
        last_ingest_seq=20,
        best_bid=bid,
        best_ask=ask,
        window_digest=b"w" * 32,
        feature_set_digest=b"f" * 32,
    )


def _opinion(expert: str, forecast: Triple | AbstainReason, *contexts: ContextRef) -> Opinion:
    made = Opinion(
        opinion_id=expert.encode().ljust(16), expert=expert, engine_digest=expert.encode(), contexts=contexts
    )
    if isinstance(forecast, tuple):
        made.p_down, made.p_flat, made.p_up = forecast
    else:
        made.abstained, made.reason = True, forecast
    return made


def _decide(
    *forecasts: Triple | AbstainReason, config: GateConfig = CONFIG, opened: WindowOpened | None = None
) -> Decision:
    opinions = {name: _opinion(name, forecast) for name, forecast in zip(EXPERTS, forecasts, strict=False)}
    return decide(opened or _opened(), opinions, config, epoch=2, config_digest=b"c" * 32)


# Pool and disagreement.


def test_the_pool_is_the_equally_weighted_mean() -> None:
    assert pool([(0.25, 0.25, 0.5)]) == (0.25, 0.25, 0.5)
    assert pool([(0.5, 0.25, 0.25), (0.0, 0.25, 0.75)]) == (0.25, 0.25, 0.5)
    assert pool([DOWN, FLAT, UP]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def _jensen_shannon(forecasts: list[Triple]) -> float:
    """Return the divergence as the mean Kullback-Leibler divergence from the mean: the other form of it."""
    mean = [sum(column) / len(forecasts) for column in zip(*forecasts, strict=True)]
    total = sum(p * math.log(p / q) for each in forecasts for p, q in zip(each, mean, strict=True) if p > 0)
    return total / len(forecasts) / math.log(len(forecasts))


@pytest.mark.parametrize(
    ("forecasts", "wanted"),
    [
        ([UP], 0.0),
        ([(0.2, 0.3, 0.5)] * 2, 0.0),
        ([(0.2, 0.3, 0.5)] * 3, 0.0),
        ([DOWN, UP], 1.0),
        ([DOWN, FLAT, UP], 1.0),
        # in bits: the mean (1/4, 1/2, 1/4) has 1.5, each of the two has 1; over log2 2
        ([(0.5, 0.5, 0.0), (0.0, 0.5, 0.5)], 0.5),
        # the mean (1/3, 0, 2/3) has ln 3 - 2/3 ln 2, each of the three 0; over ln 3
        ([DOWN, UP, UP], 1 - 2 / 3 * math.log(2) / math.log(3)),
    ],
)
def test_disagreement_by_hand(forecasts: list[Triple], wanted: float) -> None:
    assert disagreement(forecasts) == pytest.approx(wanted, abs=1e-15)


weights = st.tuples(*[st.integers(0, 1_000)] * 3).filter(any)
triples = weights.map(lambda w: (w[0] / sum(w), w[1] / sum(w), w[2] / sum(w)))
several = st.lists(triples, min_size=1, max_size=3)


@given(several.filter(lambda forecasts: len(forecasts) > 1))
def test_disagreement_equals_the_mean_divergence_from_the_mean(forecasts: list[Triple]) -> None:
    assert disagreement(forecasts) == pytest.approx(_jensen_shannon(forecasts), abs=1e-12)
    assert 0 <= disagreement(forecasts) <= 1


# Direction and size.


@pytest.mark.parametrize(
    ("p_down", "p_up", "direction", "size"),
    [
        (0.0, 0.1, "BUY", 10),
        (0.1, 0.0, "SELL", -10),
        (0.0, math.nextafter(0.1, 0), "HOLD", 0),
        (math.nextafter(0.1, 0), 0.0, "HOLD", 0),
        (0.0, 0.0, "HOLD", 0),
        (0.25, 0.75, "BUY", 50),
        (0.875, 0.125, "SELL", -75),
        (0.0, 1.0, "BUY", 100),
        (0.25, 0.375, "BUY", 12),
        (0.375, 0.25, "SELL", -12),
    ],
)
def test_direction_at_the_threshold_and_size_by_hand(p_down: float, p_up: float, direction: str, size: int) -> None:
    made = _decide((p_down, 1 - p_down - p_up, p_up))
    assert (direction_name(made.direction), made.size) == (direction, size)
    assert made.confidence == {"BUY": p_up, "SELL": p_down, "HOLD": 1 - p_down - p_up}[direction]
    assert not made.abstained
    assert made.reason == 0


def test_the_threshold_is_configured() -> None:
    strict = GateConfig(direction_threshold=0.5)
    assert direction_name(_decide((0.25, 0.0, 0.75), config=strict).direction) == "BUY"
    assert direction_name(_decide((0.25, 0.125, 0.625), config=strict).direction) == "HOLD"


def test_a_little_disagreement_leaves_the_size_alone() -> None:
    made = _decide((0.25, 0.25, 0.5), (0.0, 0.25, 0.75))
    assert 0 < made.disagreement < 0.2
    assert made.size == math.floor((0.625 - 0.125) * 100) == 50


def test_more_disagreement_shrinks_the_size_by_it() -> None:
    made = _decide((0.4, 0.3, 0.3), (0.0, 0.2, 0.8))
    assert made.disagreement == pytest.approx(0.292, abs=5e-4)
    assert made.size == math.floor((0.55 - 0.2) * (1 - 0.2924) * 100) == 24


def test_disagreement_exactly_at_its_limits_shrinks_and_does_not_abstain() -> None:
    forecasts = (0.5, 0.5, 0.0), (0.0, 0.25, 0.75)
    exact = disagreement(forecasts)
    assert _decide(*forecasts, config=GateConfig(shrink_above=exact, conflict_above=exact)).size == math.floor(
        0.125 * (1 - exact) * 100
    )
    above = GateConfig(shrink_above=math.nextafter(exact, 1), conflict_above=1.0)
    assert _decide(*forecasts, config=above).size == 12
    below = GateConfig(conflict_above=math.nextafter(exact, 0))
    assert reason_name(_decide(*forecasts, config=below).reason) == "CONFLICT"


def test_contradiction_is_an_abstention_that_keeps_what_was_said() -> None:
    made = _decide(DOWN, UP)
    assert (made.abstained, reason_name(made.reason)) == (True, "CONFLICT")
    assert (direction_name(made.direction), made.size, made.confidence) == ("HOLD", 0, 0.0)
    assert (made.p_down, made.p_flat, made.p_up, made.disagreement) == (0.5, 0.0, 0.5, 1.0)
    assert [vote.weight for vote in made.votes] == [0.5, 0.5, 0.0]


def test_when_all_abstain_so_does_the_gate() -> None:
    made = _decide(*[AbstainReason.ABSTAIN_REASON_WARMING] * 3)
    assert (made.abstained, reason_name(made.reason)) == (True, "ALL_ABSTAINED")
    assert (made.p_down, made.p_flat, made.p_up, made.size) == (0, 0, 0, 0)
    assert [(vote.weight, reason_name(vote.reason)) for vote in made.votes] == [(0.0, "WARMING")] * 3
    assert reason_name(_decide().reason) == "ALL_ABSTAINED"


@pytest.mark.parametrize("reason", [AbstainReason.ABSTAIN_REASON_LATE, AbstainReason.ABSTAIN_REASON_EPOCH_GAP])
def test_a_given_reason_goes_before_whatever_was_said(reason: AbstainReason) -> None:
    clear, contrary = (
        {"flow": _opinion("flow", UP)},
        {name: _opinion(name, way) for name, way in [("regime", DOWN), ("flow", UP)]},
    )
    for opinions in (clear, contrary, {}):
        made = decide(_opened(), opinions, CONFIG, epoch=2, config_digest=b"", reason=reason)
        assert (made.abstained, made.reason, made.size, made.confidence) == (True, reason, 0, 0.0)
        assert direction_name(made.direction) == "HOLD"


def test_those_who_abstain_or_are_silent_weigh_nothing() -> None:
    made = _decide(AbstainReason.ABSTAIN_REASON_STALE, (0.0, 0.5, 0.5))
    assert (made.p_down, made.p_flat, made.p_up, made.disagreement) == (0.0, 0.5, 0.5, 0.0)
    votes = [(vote.expert, vote.weight, reason_name(vote.reason), vote.opinion_id != b"") for vote in made.votes]
    assert votes == [
        ("regime", 0.0, "STALE", True),
        ("flow", 1.0, "UNSPECIFIED", True),
        ("sentiment", 0.0, "NO_INPUT", False),
    ]


# The largest position.


@pytest.mark.parametrize(
    ("opened", "lots"),
    [
        (_opened(), 100),
        (_opened(lot="0.003"), 33),
        (_opened(lot="0.2"), 0),
        (_opened(bid=0, ask=0), 100),
        # 6,000 USDT at a mid of 3,000.00 are 2 ETH; at 3,000.50 a lot less
        (_opened("ETH", price="0.01", bid=299_999, ask=300_001), 2_000),
        (_opened("ETH", price="0.01", bid=300_000, ask=300_100), 1_999),
        (_opened("SOL", price="0.001", lot="1", bid=150_000, ask=150_002), 39),
        (_opened("ETH", bid=0), 0),
        (_opened("ETH", ask=0), 0),
    ],
    ids=["btc", "odd lot", "lot too large", "no price needed", "eth", "eth dearer", "sol", "no bid", "no ask"],
)
def test_the_largest_position_is_rounded_down_to_the_lot(opened: WindowOpened, lots: int) -> None:
    assert max_position(opened, CONFIG) == lots


def test_a_contract_of_more_than_one_unit_counts_as_many() -> None:
    opened = _opened(lot="1")
    opened.instrument.multiplier = "0.01"
    assert max_position(opened, CONFIG) == 10


def test_without_a_price_the_position_is_none() -> None:
    made = _decide(UP, opened=_opened("ETH", bid=0))
    assert (made.abstained, made.size) == (False, 0)


def test_limits_are_configured_by_underlying() -> None:
    config = GateConfig(max_position_base={"ETH": Decimal("0.5")}, max_position_notional=Decimal(600))
    assert max_position(_opened("ETH", bid=0), config) == 500
    assert max_position(_opened(bid=599_999, ask=600_001), config) == 10


# What a decision names.


def test_a_decision_names_all_it_rests_on() -> None:
    regime, mood = ContextRef(kind="regime", key="sim.btc", version=3), ContextRef(kind="mood", key="BTC", version=9)
    opinions = {
        "sentiment": _opinion("sentiment", FLAT, mood),
        "flow": _opinion("flow", UP),
        "regime": _opinion("regime", UP, regime, mood),
    }
    shares = [RegimeShare(regime="Trending", probability=1.0)]
    opened = _opened()
    made = decide(opened, opinions, CONFIG, epoch=2, config_digest=b"c" * 32, regime_shares=shares)
    assert made.decision_id == decision_id("core", "sim.btc-usdt-perp", 2, STEP)
    assert (made.instrument, made.shard) == (opened.instrument.id, opened.instrument.shard)
    assert (made.epoch, made.gateway_epoch, made.step, made.close_ns) == (2, 4, STEP, CLOSE_NS)
    assert made.valid_until_ns == CLOSE_NS + 500_000_000
    assert (made.first_ingest_seq, made.last_ingest_seq, made.window_digest) == (10, 20, b"w" * 32)
    assert (made.feature_set_digest, made.config_digest, made.size_increment) == (b"f" * 32, b"c" * 32, "0.001")
    assert [(vote.expert, vote.opinion_id, vote.engine_digest) for vote in made.votes] == [
        (name, name.encode().ljust(16), name.encode()) for name in EXPERTS
    ]
    assert list(made.contexts) == [regime, mood]
    assert list(made.regime_shares) == shares


abstaining = st.sampled_from([AbstainReason.ABSTAIN_REASON_WARMING, AbstainReason.ABSTAIN_REASON_NO_INPUT])
answers = st.dictionaries(st.sampled_from(EXPERTS), st.one_of(triples, abstaining), max_size=3)


@given(answers)
def test_the_laws_of_a_decision(said: dict[str, Triple | AbstainReason]) -> None:
    made = decide(
        _opened(), {name: _opinion(name, each) for name, each in said.items()}, CONFIG, epoch=1, config_digest=b""
    )
    if any(isinstance(each, tuple) for each in said.values()):
        assert made.p_down + made.p_flat + made.p_up == pytest.approx(1)
        assert math.fsum(vote.weight for vote in made.votes) == pytest.approx(1)
    else:
        assert made.abstained
    assert abs(made.size) <= max_position(_opened(), CONFIG)
    sign = {"BUY": 1, "SELL": -1, "HOLD": 0}[direction_name(made.direction)]
    assert made.size * sign == abs(made.size)
    assert not (made.abstained and (made.size or sign or made.confidence))
    assert made.abstained == (made.reason != 0)
    assert 0 <= made.disagreement <= 1
    assert 0 <= made.confidence <= 1


@given(answers, st.permutations(EXPERTS))
def test_the_order_of_arrival_does_not_matter_to_a_byte(
    said: dict[str, Triple | AbstainReason], arrival: list[str]
) -> None:
    opinions = {name: _opinion(name, each) for name, each in said.items()}
    shuffled = {name: opinions[name] for name in arrival if name in opinions}
    made = [encode(decide(_opened(), each, CONFIG, epoch=1, config_digest=b"")) for each in (opinions, shuffled)]
    assert made[0] == made[1]


@given(triples)
def test_the_mirror_image_of_a_forecast_is_the_opposite_position(forecast: Triple) -> None:
    down, flat, up = forecast
    assume(abs(up - down) > 1e-9)
    one, other = _decide(forecast), _decide((up, flat, down))
    assert one.size == -other.size
    assert one.confidence == other.confidence


# The configuration.


@pytest.mark.parametrize(
    "wrong",
    [{"direction_threshold": 1.5}, {"conflict_above": -0.1}, {"validity_ms": 0}, {"shrink_over": 0.2}],
    ids=["above one", "negative", "zero", "unknown"],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateConfig.model_validate(wrong)


def test_the_defaults_are_those_of_the_semantics() -> None:
    assert CONFIG.experts == EXPERTS
    assert (CONFIG.direction_threshold, CONFIG.shrink_above, CONFIG.conflict_above) == (0.1, 0.2, 0.5)
    assert (CONFIG.validity_ms, CONFIG.max_position_notional) == (500, Decimal(6_000))
    assert CONFIG.max_position_base == {"BTC": Decimal("0.1")}

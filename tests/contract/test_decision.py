"""The public signal of a decision, and the digest that replays owe."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.contracts.codec import encode
from huracan.contracts.context import ContextRef, RegimeShare
from huracan.contracts.decision import (
    Decision,
    DecisionDigestRecord,
    Direction,
    SignalDirection,
    Vote,
    decisions_digest,
    digest_record,
    direction_name,
    trading_signal,
)
from huracan.contracts.market import InstrumentId
from huracan.contracts.opinion import AbstainReason


def _decision(step: int = 7, symbol: str = "btc-usdt-perp", strategy: str = "core", **changes: object) -> Decision:
    made = Decision(
        decision_id=b"\1" * 16,
        strategy=strategy,
        instrument=InstrumentId(venue="sim", symbol=symbol, definition_version=1),
        shard=3,
        epoch=2,
        step=step,
        close_ns=800_000_000,
        direction=Direction.DIRECTION_SELL,
        confidence=0.625,
        size=-25,
        valid_until_ns=1_300_000_000,
        votes=[Vote(expert="flow", opinion_id=b"\2" * 16, weight=1.0, engine_digest=b"\3" * 32)],
        contexts=[ContextRef(kind="regime", key="sim.btc-usdt-perp", version=4)],
        feature_set_digest=b"\4" * 32,
        config_digest=b"\5" * 32,
        p_down=0.625,
        p_flat=0.25,
        p_up=0.125,
        disagreement=0.1,
        gateway_epoch=1,
        first_ingest_seq=10,
        last_ingest_seq=20,
        window_digest=b"\6" * 32,
        regime_shares=[
            RegimeShare(regime="Trending", probability=0.75),
            RegimeShare(regime="Ranging", probability=0.25),
        ],
        size_increment="0.001",
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("direction", "size", "public", "position"),
    [
        (Direction.DIRECTION_BUY, 100, SignalDirection.BUY, 0.1),
        (Direction.DIRECTION_SELL, -25, SignalDirection.SELL, -0.025),
        (Direction.DIRECTION_HOLD, 0, SignalDirection.HOLD, 0.0),
    ],
)
def test_a_decision_becomes_a_signal_in_base_units(
    direction: Direction, size: int, public: SignalDirection, position: float
) -> None:
    signal = trading_signal(_decision(direction=direction, size=size))
    assert (signal.symbol, signal.timestamp) == ("btc-usdt-perp", 800_000_000)
    assert (signal.direction, signal.confidence, signal.position_size) == (public, 0.625, position)
    assert [(share.regime, share.probability) for share in signal.regime_probs] == [
        ("Trending", 0.75),
        ("Ranging", 0.25),
    ]


@pytest.mark.parametrize("direction", [Direction.DIRECTION_HOLD, Direction.DIRECTION_BUY, Direction.DIRECTION_SELL])
def test_an_abstained_decision_is_hold_with_nothing_whatever_else_it_says(direction: Direction) -> None:
    signal = trading_signal(_decision(abstained=True, direction=direction, confidence=0.9, size=50))
    assert (signal.direction, signal.confidence, signal.position_size) == (SignalDirection.HOLD, 0.0, 0.0)


def test_directions_are_named_as_people_write_them() -> None:
    directions = [Direction.DIRECTION_HOLD, Direction.DIRECTION_BUY, Direction.DIRECTION_SELL]
    assert [direction_name(direction) for direction in directions] == ["HOLD", "BUY", "SELL"]


COVERED = {
    "decision_id": b"x",
    "strategy": "other",
    "instrument": InstrumentId(venue="sim", symbol="eth-usdt-perp"),
    "step": 8,
    "direction": Direction.DIRECTION_BUY,
    "confidence": 0.5,
    "size": -24,
    "abstained": True,
    "reason": AbstainReason.ABSTAIN_REASON_LATE,
    "valid_until_ns": 1,
    "opinion_ids": [b"x"],
    "weights": [0.5],
    "contexts": [ContextRef(kind="regime", key="sim.btc-usdt-perp", version=5)],
    "engine_digests": [b"x"],
    "feature_set_digest": b"x",
    "config_digest": b"x",
}
"""Every declared field of the digest (SEMANTICS: Digest), with another value."""
OF_VOTES = {"opinion_ids": "opinion_id", "weights": "weight", "engine_digests": "engine_digest"}
OUTSIDE = {
    "shard": 4,
    "epoch": 3,
    "close_ns": 1,
    "p_down": 0.5,
    "p_flat": 0.5,
    "p_up": 0.5,
    "disagreement": 0.2,
    "gateway_epoch": 2,
    "first_ingest_seq": 11,
    "last_ingest_seq": 21,
    "window_digest": b"x",
    "regime_shares": [RegimeShare(regime="Trending", probability=1.0)],
    "size_increment": "0.01",
}
"""Every field that the digest leaves out."""


def _changed(name: str, value: object) -> Decision:
    made = _decision()
    if name in OF_VOTES:
        assert isinstance(value, list)
        setattr(made.votes[0], OF_VOTES[name], value[0])
    elif isinstance(value, InstrumentId):
        made.instrument.CopyFrom(value)
    elif isinstance(value, list):
        made.ClearField(name)
        getattr(made, name).extend(value)
    else:
        setattr(made, name, value)
    return made


def test_the_two_lists_name_every_field_there_is() -> None:
    assert set(COVERED) == set(DecisionDigestRecord.DESCRIPTOR.fields_by_name)
    direct = set(COVERED) - set(OF_VOTES)
    assert direct | set(OUTSIDE) | {"votes"} == set(Decision.DESCRIPTOR.fields_by_name)
    assert not direct & set(OUTSIDE)


@pytest.mark.parametrize("name", COVERED)
def test_changing_a_declared_field_changes_the_digest(name: str) -> None:
    assert decisions_digest([_changed(name, COVERED[name])]) != decisions_digest([_decision()])


@pytest.mark.parametrize("name", OUTSIDE)
def test_changing_any_other_field_does_not(name: str) -> None:
    changed = _changed(name, OUTSIDE[name])
    assert changed != _decision()
    assert decisions_digest([changed]) == decisions_digest([_decision()])


def test_names_and_reasons_of_votes_are_not_in_the_digest() -> None:
    changed = _decision()
    changed.votes[0].expert = "regime"
    changed.votes[0].reason = AbstainReason.ABSTAIN_REASON_STALE
    assert decisions_digest([changed]) == decisions_digest([_decision()])


def test_the_order_of_votes_counts() -> None:
    one, two = _decision(), _decision()
    one.votes.add(opinion_id=b"\7" * 16, weight=1.0, engine_digest=b"\3" * 32)
    two.votes.insert(0, one.votes[1])
    assert decisions_digest([one]) != decisions_digest([two])


def test_the_digest_is_over_length_prefixed_records_in_order() -> None:
    early, late = _decision(step=1), _decision(step=2)
    wanted = hashlib.sha256()
    for decision in (early, late):
        data = encode(digest_record(decision))
        wanted.update(len(data).to_bytes(8, "big") + data)
    assert decisions_digest([late, early]) == wanted.hexdigest()
    assert decisions_digest([]) == hashlib.sha256().hexdigest()


def test_the_digest_of_one_known_decision_never_changes() -> None:
    assert decisions_digest([_decision()]) == "f83a42c03ccd60772c0c3d3be8e8a9742dcfb1c61eac53cfd5602ac047e0adb2"


@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["btc", "eth"]), st.sampled_from(["core", "edge"])),
        unique=True,
        max_size=8,
    ).flatmap(lambda keys: st.tuples(st.just(keys), st.permutations(keys)))
)
def test_the_digest_does_not_depend_on_the_order_of_arrival(
    orders: tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]],
) -> None:
    first, second = ([_decision(*key) for key in order] for order in orders)
    assert decisions_digest(first) == decisions_digest(second)
    assert len(first) < 2 or decisions_digest(first[1:]) != decisions_digest(first)

"""The fold: one journal, one set of decisions, to the byte."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huracan.clock import MILLISECOND_NS, STEP_NS, step_close
from huracan.contracts.codec import encode
from huracan.contracts.context import Context, ContextRef, context, mood_state, regime_state
from huracan.contracts.decision import Decision, direction_name
from huracan.contracts.journal import (
    DeadlineFired,
    EpochStarted,
    ExpertAvailability,
    JournalEntry,
    Payload,
    Published,
    WindowOpened,
    journal_entry,
)
from huracan.contracts.market import InstrumentDefinition
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.ids import decision_id
from huracan_orchestrator.config import GateConfig
from huracan_orchestrator.fold import CONTEXTS_KEPT, Fold, Missed

from .market import BTC, ETH, KEY

FIRST = 17_000_000_000
EXPERTS = ("regime", "flow", "sentiment")
LATE_NS = 500 * MILLISECOND_NS


def _entry(payload: Payload, *, epoch: int = 1, at_ns: int | None = None) -> JournalEntry:
    if at_ns is None:
        at_ns = payload.close_ns if isinstance(payload, WindowOpened) else 0
    return journal_entry("shard.06", payload, epoch=epoch, at_ns=at_ns)


def _started(config: GateConfig | None = None, *, epoch: int = 1) -> JournalEntry:
    config = config or GateConfig()
    started = EpochStarted(config_json=config.canonical_json(), config_digest=config.digest())
    return _entry(started, epoch=epoch)


def _window(
    step: int = FIRST, *, first_step: int = FIRST, gateway_epoch: int = 1, instrument: InstrumentDefinition = BTC
) -> WindowOpened:
    return WindowOpened(
        instrument=instrument,
        gateway_epoch=gateway_epoch,
        step=step,
        first_step=first_step,
        close_ns=step_close(step),
        best_bid=600_000,
        best_ask=600_001,
    )


def _opinion(
    expert: str,
    step: int = FIRST,
    *,
    p_up: float | None = 0.5,
    gateway_epoch: int = 1,
    contexts: Sequence[ContextRef] = (),
    instrument: InstrumentDefinition = BTC,
) -> Opinion:
    made = Opinion(
        opinion_id=f"{expert}{step}".encode(),
        expert=expert,
        instrument=instrument.id,
        epoch=gateway_epoch,
        step=step,
        contexts=contexts,
    )
    if p_up is None:
        made.abstained, made.reason = True, AbstainReason.ABSTAIN_REASON_NO_INPUT
    else:
        made.p_flat, made.p_up = 1 - p_up, p_up
    return made


def _deadline(step: int = FIRST, gateway_epoch: int = 1) -> DeadlineFired:
    return DeadlineFired(instrument=BTC.id, gateway_epoch=gateway_epoch, step=step)


def _gone(expert: str, available: bool = False) -> ExpertAvailability:
    return ExpertAvailability(expert=expert, available=available)


def _fold(*payloads: Payload) -> tuple[Fold, list[Decision]]:
    """Fold the start of an epoch and then the payloads."""
    fold = Fold()
    fold.apply(_started())
    return fold, _apply(fold, *payloads)


def _apply(fold: Fold, *payloads: Payload, epoch: int = 1) -> list[Decision]:
    return [decision for payload in payloads for decision in fold.apply(_entry(payload, epoch=epoch))]


def _all(step: int = FIRST) -> list[Opinion]:
    return [_opinion(name, step) for name in EXPERTS]


# A window is decided once, when all have answered.


def test_a_window_is_decided_when_the_last_expert_has_answered() -> None:
    fold, made = _fold(_window(), *_all()[:2])
    assert made == []
    assert fold.silent((KEY, 1, FIRST)) == ["sentiment"]
    [decision] = _apply(fold, _opinion("sentiment"))
    assert (decision.step, direction_name(decision.direction), decision.size) == (FIRST, "BUY", 50)
    assert decision.decision_id == decision_id("core", KEY, 1, FIRST)
    assert decision.config_digest == GateConfig().digest()
    assert not fold.pending
    assert fold.silent((KEY, 1, FIRST)) == []


@given(st.permutations(_all()))
def test_opinions_fold_in_the_configured_order_whatever_the_arrival(arrival: list[Opinion]) -> None:
    wanted = _fold(_window(), *_all())[1]
    made = _fold(_window(), *arrival)[1]
    assert [encode(decision) for decision in made] == [encode(decision) for decision in wanted]
    assert [vote.expert for vote in made[0].votes] == list(EXPERTS)


def test_two_instruments_do_not_mix() -> None:
    fold, made = _fold(_window(), _window(instrument=ETH), *_all()[:2], _opinion("sentiment", instrument=ETH))
    assert made == []
    [decision] = _apply(fold, _opinion("sentiment"))
    assert decision.instrument == BTC.id
    assert list(fold.pending) == [("sim.eth-usdt-perp", 1, FIRST)]


@pytest.mark.parametrize(
    "opinion",
    [
        _opinion("flow"),
        _opinion("regime", FIRST - 1),
        _opinion("regime", FIRST + 1),
        _opinion("regime", gateway_epoch=2),
        _opinion("oracle"),
        _opinion("regime", instrument=ETH),
    ],
    ids=["duplicate", "decided before", "not open yet", "another epoch", "unknown expert", "another instrument"],
)
def test_an_opinion_that_no_window_waits_for_is_refused_and_counted(opinion: Opinion) -> None:
    fold, _ = _fold(_window(), _opinion("flow"))
    assert not fold.waits_for(opinion)
    assert _apply(fold, opinion) == []
    assert fold.counts["refused.opinion"] == 1
    [decision] = _apply(fold, _opinion("regime"), _opinion("sentiment"))
    assert [vote.opinion_id for vote in decision.votes] == [f"{name}{FIRST}".encode() for name in EXPERTS]


def test_the_first_answer_of_an_expert_stays() -> None:
    _, made = _fold(_window(), _opinion("flow", p_up=None), _opinion("flow", p_up=1.0), *_all()[::2])
    assert reason_name(made[0].votes[1].reason) == "NO_INPUT"


def test_a_late_opinion_changes_nothing() -> None:
    fold, made = _fold(_window(), _deadline(), *_all())
    assert len(made) == 1
    assert fold.counts["refused.opinion"] == 3
    assert fold.is_past(_opinion("flow"))
    assert fold.is_past(_opinion("flow", FIRST + 1, gateway_epoch=0))
    assert not fold.is_past(_opinion("flow", FIRST + 1))
    assert not fold.is_past(_opinion("flow", FIRST - 1, gateway_epoch=2))
    assert not fold.is_past(_opinion("flow", 0, instrument=ETH))


# Windows that do not count.


def test_a_window_again_or_of_an_earlier_step_is_refused_and_counted() -> None:
    fold, _ = _fold(_window(FIRST + 1))
    for step in (FIRST, FIRST + 1):
        assert fold.refuses(_window(step)) == "out_of_order"
        assert _apply(fold, _window(step)) == []
    assert fold.counts["refused.out_of_order"] == 2
    assert list(fold.pending) == [(KEY, 1, FIRST + 1)]


def test_a_window_of_an_older_gateway_is_refused_and_counted() -> None:
    fold, _ = _fold(_window(gateway_epoch=2))
    assert fold.refuses(_window(FIRST + 1)) == "old_epoch"
    assert _apply(fold, _window(FIRST + 1)) == []
    assert fold.counts["refused.old_epoch"] == 1
    assert fold.refuses(_window(FIRST + 1, gateway_epoch=2)) is None
    assert fold.refuses(_window(FIRST, instrument=ETH)) is None


@pytest.mark.parametrize(("after_ns", "reasons"), [(LATE_NS, []), (LATE_NS + 1, ["LATE"])])
def test_a_window_past_its_time_is_late(after_ns: int, reasons: list[str]) -> None:
    fold, _ = _fold()
    window = _window()
    made = fold.apply(_entry(window, at_ns=window.close_ns + after_ns))
    assert [reason_name(decision.reason) for decision in made] == reasons
    assert len(fold.pending) == 1 - len(reasons)


def test_steps_before_the_first_window_that_came_are_missed() -> None:
    fold, _ = _fold(_window(FIRST + 3))
    assert fold.missed == [Missed(KEY, FIRST, FIRST + 2)]
    assert fold.counts["windows.missed"] == 3


def test_a_jump_of_steps_is_missed() -> None:
    fold, _ = _fold(_window(), _window(FIRST + 1), _window(FIRST + 4), _window(FIRST + 6, first_step=FIRST + 6))
    assert fold.missed == [Missed(KEY, FIRST + 2, FIRST + 3), Missed(KEY, FIRST + 5, FIRST + 5)]
    assert fold.counts["windows.missed"] == 3


# The silent, the gone and the deadline.


def test_the_deadline_decides_without_the_silent_and_counts_them() -> None:
    fold, [decision] = _fold(_window(), _opinion("flow"), _deadline())
    assert [reason_name(vote.reason) for vote in decision.votes] == ["NO_INPUT", "UNSPECIFIED", "NO_INPUT"]
    assert [vote.weight for vote in decision.votes] == [0, 1, 0]
    assert {name: fold.counts[f"silent.{name}"] for name in EXPERTS} == {"regime": 1, "flow": 0, "sentiment": 1}


def test_the_deadline_of_a_window_without_any_answer_abstains() -> None:
    assert [reason_name(decision.reason) for decision in _fold(_window(), _deadline())[1]] == ["ALL_ABSTAINED"]


@pytest.mark.parametrize("deadline", [_deadline(FIRST + 1), _deadline(gateway_epoch=2)], ids=["step", "gateway"])
def test_a_deadline_of_no_open_window_does_nothing(deadline: DeadlineFired) -> None:
    fold, made = _fold(_window(), deadline)
    assert made == []
    assert len(fold.pending) == 1


def test_a_deadline_after_the_decision_does_nothing() -> None:
    assert len(_fold(_window(), *_all(), _deadline())[1]) == 1


def test_an_expert_known_to_be_gone_is_not_waited_for_but_counted() -> None:
    fold, [decision] = _fold(_gone("sentiment"), _window(), *_all()[:2])
    assert [vote.weight for vote in decision.votes] == [0.5, 0.5, 0]
    assert fold.counts["silent.sentiment"] == 1


def test_at_a_deadline_an_expert_known_to_be_gone_is_counted_beside_the_silent() -> None:
    fold, [decision] = _fold(_gone("sentiment"), _window(), _opinion("flow"), _deadline())
    assert [vote.weight for vote in decision.votes] == [0, 1, 0]
    assert {name: fold.counts[f"silent.{name}"] for name in EXPERTS} == {"regime": 1, "flow": 0, "sentiment": 1}


@pytest.mark.parametrize(
    "entries",
    [
        [*_all(FIRST + 1)],
        [_deadline(FIRST + 1)],
        [_opinion("flow", FIRST + 1), _gone("regime"), _opinion("sentiment", FIRST + 1)],
    ],
    ids=["answered", "deadline", "gone"],
)
def test_a_window_that_is_decided_has_those_before_it_decided_first(entries: list[Payload]) -> None:
    fold, made = _fold(_window(), _window(FIRST + 1), _window(instrument=ETH), _opinion("flow"), *entries)
    assert [decision.step for decision in made] == [FIRST, FIRST + 1]
    assert [vote.expert for vote in made[0].votes if vote.opinion_id] == ["flow"], "with what was heard of it"
    assert fold.counts["silent.sentiment"] >= 1
    assert len(fold.pending) == 1, "other instruments wait on"


def test_a_window_that_comes_late_has_those_before_it_decided_first() -> None:
    late = _window(FIRST + 1)
    fold, _ = _fold(_window())
    made = fold.apply(_entry(late, at_ns=late.close_ns + LATE_NS + 1))
    assert [(decision.step, reason_name(decision.reason)) for decision in made] == [
        (FIRST, "ALL_ABSTAINED"),
        (FIRST + 1, "LATE"),
    ]


def test_an_expert_that_goes_completes_what_waits_for_it_alone_in_order_of_the_windows() -> None:
    steps = [FIRST, FIRST + 1, FIRST + 2]
    answers = [opinion for step in steps[:2] for opinion in _all(step)[:2]]
    fold, made = _fold(*map(_window, steps), *answers)
    assert made == []
    assert [decision.step for decision in _apply(fold, _gone("sentiment"))] == steps[:2]
    assert list(fold.pending) == [(KEY, 1, FIRST + 2)]


def test_an_expert_that_is_back_is_waited_for_again() -> None:
    fold, made = _fold(_gone("sentiment"), _gone("sentiment", available=True), _window(), *_all()[:2])
    assert made == []
    assert fold.silent((KEY, 1, FIRST)) == ["sentiment"]


def test_an_opinion_of_one_believed_gone_still_counts() -> None:
    fold, made = _fold(_gone("sentiment"), _window(), _opinion("sentiment"), *_all()[:2])
    assert [vote.weight for vote in made[0].votes] == [1 / 3] * 3
    assert fold.counts["silent.sentiment"] == 0


# Epochs.


def test_a_new_writer_closes_what_was_open_as_a_gap_under_the_old_id() -> None:
    fold, _ = _fold(_window(), _opinion("flow"), _window(FIRST + 1))
    made = fold.apply(_started(epoch=2))
    assert [(decision.step, reason_name(decision.reason), decision.epoch) for decision in made] == [
        (FIRST, "EPOCH_GAP", 1),
        (FIRST + 1, "EPOCH_GAP", 1),
    ]
    assert made[0].decision_id == decision_id("core", KEY, 1, FIRST)
    assert made[0].votes[1].opinion_id == f"flow{FIRST}".encode()
    assert made[0].config_digest == GateConfig().digest()
    assert not fold.pending
    assert fold.epoch == 2


def test_windows_of_the_new_writer_have_its_epoch_and_its_configuration() -> None:
    fold, _ = _fold(_window())
    config = GateConfig(strategy="edge", experts=("flow",), direction_threshold=0.6)
    fold.apply(_started(config, epoch=2))
    [decision] = _apply(fold, _window(FIRST + 1), _opinion("flow", FIRST + 1), epoch=2)
    assert decision.decision_id == decision_id("edge", KEY, 2, FIRST + 1)
    assert (decision.config_digest, direction_name(decision.direction)) == (config.digest(), "HOLD")


def test_whoever_was_gone_is_waited_for_by_a_new_writer() -> None:
    fold, _ = _fold(_gone("sentiment"))
    fold.apply(_started(epoch=2))
    assert _apply(fold, _window(), *_all()[:2], epoch=2) == []


@pytest.mark.parametrize("payload", [_window(FIRST + 1), _opinion("flow"), _deadline(), _gone("flow")])
def test_entries_of_an_older_writer_are_refused_and_counted(payload: Payload) -> None:
    fold = Fold()
    fold.apply(_started(epoch=2))
    _apply(fold, _window(), epoch=2)
    assert _apply(fold, payload, epoch=1) == []
    assert fold.counts["refused.old_epoch"] == 1
    assert list(fold.pending) == [(KEY, 1, FIRST)]
    assert len(fold.silent((KEY, 1, FIRST))) == 3


def test_marks_of_what_is_published_decide_nothing() -> None:
    assert _fold(_window(), Published(through=1))[1] == []


# Contexts.


def _regime(version: int = 1, *, trending: float = 0.75, epoch: int = 1) -> Context:
    return context(
        kind="regime",
        key=KEY,
        version=version,
        epoch=epoch,
        as_of_ns=0,
        effective_from_ns=0,
        valid_until_ns=0,
        payload=regime_state(shares={"Trending": trending, "Ranging": 1 - trending}, volatility=0.01, bars=64),
        engine_digest=b"",
    )


MOOD = context(
    kind="mood",
    key="BTC",
    version=1,
    epoch=1,
    as_of_ns=0,
    effective_from_ns=0,
    valid_until_ns=0,
    payload=mood_state(polarity=0.5, weight=1, headlines=1, last_news_id=b""),
    engine_digest=b"",
)


def _trending(*payloads: Payload) -> list[float]:
    [decision] = _fold(*payloads)[1]
    return [share.probability for share in decision.regime_shares if share.regime == "Trending"]


def _using(*contexts: Context) -> list[Opinion]:
    refs = [each.ref for each in contexts]
    return [_opinion("regime", contexts=refs), _opinion("flow"), _opinion("sentiment")]


def test_the_regime_shares_of_the_version_that_was_used_are_in_the_decision() -> None:
    newer = _regime(2, trending=0.25)
    assert _trending(_regime(), newer, _window(), *_using(_regime())) == [0.75]
    assert _trending(_regime(), newer, _window(), *_using(newer)) == [0.25]
    assert _trending(MOOD, _regime(), _window(), *_using(MOOD, _regime())) == [0.75]


@pytest.mark.parametrize("used", [(), (MOOD,), (_regime(3),)], ids=["none", "another kind", "never seen"])
def test_without_a_known_regime_there_are_no_shares(used: tuple[Context, ...]) -> None:
    assert _trending(_regime(), MOOD, _window(), *_using(*used)) == []


def test_old_versions_are_kept_as_long_as_opinions_may_name_them() -> None:
    versions = [_regime(version) for version in range(1, CONTEXTS_KEPT + 2)]
    assert _trending(*versions, _window(), *_using(versions[0])) == []
    assert _trending(*versions, _window(), *_using(versions[1])) == [0.75]


def test_a_context_of_an_older_builder_is_refused_and_counted() -> None:
    fold, _ = _fold(_regime(epoch=2), _regime(trending=0.5, epoch=1))
    assert fold.counts["refused.context"] == 1
    [decision] = _apply(fold, _window(), *_using(_regime()))
    assert decision.regime_shares[0].probability == 0.75


@given(st.permutations(EXPERTS))
def test_regime_shares_follow_the_configured_order_of_the_experts_too(arrival: list[str]) -> None:
    used = {"regime": _regime(1), "flow": _regime(2, trending=0.25), "sentiment": MOOD}
    opinions = [_opinion(name, contexts=[used[name].ref]) for name in arrival]
    assert _trending(*used.values(), _window(), *opinions) == [0.75]


# Any journal.

steps = st.integers(FIRST, FIRST + 5)
gateways = st.sampled_from([1, 1, 1, 2])
payloads: st.SearchStrategy[Payload] = st.one_of(
    st.builds(lambda step, epoch: _window(step, gateway_epoch=epoch), steps, gateways),
    st.builds(
        lambda name, step, epoch, p_up: _opinion(name, step, gateway_epoch=epoch, p_up=p_up, contexts=[MOOD.ref]),
        st.sampled_from([*EXPERTS, "oracle"]),
        steps,
        gateways,
        st.sampled_from([None, 0.0, 0.5, 1.0]),
    ),
    st.builds(_deadline, steps, gateways),
    st.builds(_gone, st.sampled_from(EXPERTS), st.booleans()),
    st.sampled_from([MOOD, _regime(), Published(through=3)]),
)
entries = st.lists(
    st.one_of(
        st.builds(
            lambda payload, epoch, late: _entry(
                payload, epoch=epoch, at_ns=step_close(FIRST) + (LATE_NS + STEP_NS) * late
            ),
            payloads,
            st.sampled_from([1, 1, 2]),
            st.sampled_from([0, 0, 0, 1]),
        ),
        st.just(_started(epoch=2)),
    ),
    max_size=40,
).map(lambda rest: [_started(), *rest])


def _run(journal: Iterable[JournalEntry]) -> tuple[Fold, list[Decision], list[int]]:
    """Return the fold, its decisions, and the steps of the windows that it took."""
    fold, made, opened = Fold(), list[Decision](), list[int]()
    for entry in journal:
        window = entry.window_opened if entry.HasField("window_opened") and entry.epoch >= fold.epoch else None
        if window is not None and fold.refuses(window) is None:
            opened.append(window.step)
        made += fold.apply(entry)
    return fold, made, opened


@given(entries)
def test_folding_any_journal_again_gives_the_same_bytes(journal: list[JournalEntry]) -> None:
    (one, first, _), (two, second, _) = _run(journal), _run(journal)
    assert [encode(decision) for decision in first] == [encode(decision) for decision in second]
    assert (one.counts, one.missed, list(one.pending)) == (two.counts, two.missed, list(two.pending))


@given(entries)
def test_every_window_gets_one_decision_or_waits_and_every_step_is_accounted_for(journal: list[JournalEntry]) -> None:
    fold, made, opened = _run(journal)
    decided, waiting = [decision.step for decision in made], [step for _, _, step in fold.pending]
    assert sorted(decided + waiting) == opened == sorted(set(opened))
    assert decided == sorted(decided)
    missed = [step for gap in fold.missed for step in range(gap.first, gap.last + 1)]
    assert len(missed) == fold.counts["windows.missed"]
    assert sorted(missed + opened) == (list(range(FIRST, opened[-1] + 1)) if opened else [])
    assert len({decision.decision_id for decision in made}) == len(made)


@given(entries, st.integers(0, 40))
def test_a_decision_never_changes_by_what_comes_later(journal: list[JournalEntry], cut: int) -> None:
    made, before = _run(journal)[1], _run(journal[:cut])[1]
    assert made[: len(before)] == before

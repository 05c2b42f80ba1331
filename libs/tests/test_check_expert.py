"""The laws of an expert: a good one passes, and each way to be bad is caught by the law it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest

from huracan.contracts.context import Context, context, mood_state
from huracan.contracts.features import FeatureWindow
from huracan.contracts.opinion import AbstainReason, Opinion, abstention
from huracan.expert.check import Answer, Matrix, check_expert, sample_matrices
from huracan.expert.port import Expert, Forecast, Responder
from huracan.expert.respond import Versions, respond
from huracan.inference.engine import Engine
from huracan.laws import LawBroken


@dataclass(frozen=True)
class Columns:
    names: tuple[str, ...] = ("a", "b", "c")
    digest: bytes = b"\1" * 32


MOOD = context(
    kind="mood",
    key="BTC",
    version=3,
    epoch=1,
    as_of_ns=0,
    effective_from_ns=0,
    valid_until_ns=0,
    payload=mood_state(polarity=0.5, weight=1, headlines=1, last_news_id=bytes(16)),
    engine_digest=bytes(32),
)


@dataclass
class Lawful:
    """Keeps every law."""

    name: str = "lawful"
    feature_set_digest: bytes = Columns.digest
    engine_digest: bytes = b"\2" * 32
    horizon_ns: int = 10**9
    validity_ns: int = 300_000_000
    context_kinds: tuple[str, ...] = ("mood",)
    without_context: AbstainReason = AbstainReason.ABSTAIN_REASON_NO_INPUT
    engines: tuple[Engine, ...] = ()

    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        last = window[-1, 0]
        if np.isnan(last):
            return AbstainReason.ABSTAIN_REASON_NO_INPUT
        tilt = 0.25 * float(np.tanh(last)) * contexts["mood"].mood.polarity
        return Forecast(p_down=0.25 - tilt, p_flat=0.5, p_up=0.25 + tilt, expected_move_bps=tilt)


class Counts(Lawful):
    asked = 0

    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        self.asked += 1
        tilt = 0.01 / self.asked
        return Forecast(p_down=0.25 - tilt, p_flat=0.5, p_up=0.25 + tilt)


class RemembersTheLast(Lawful):
    """Answers repeats alike, but what it says depends on the window before."""

    seen = (b"", b"")

    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        now = window.tobytes()
        if now != self.seen[0]:
            self.seen = (now, self.seen[0])
        tilt = 0.1 if self.seen[1] < now else 0.0
        return Forecast(p_down=0.25 - tilt, p_flat=0.5, p_up=0.25 + tilt)


class LosesAPart(Lawful):
    """A copy of it is not the same."""

    def __init__(self) -> None:
        super().__init__()
        self.tilt = 0.1

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "tilt": 0.2}

    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        return Forecast(p_down=0.25 - self.tilt, p_flat=0.5, p_up=0.25 + self.tilt)


class CannotTravel(Lawful):
    def __init__(self) -> None:
        super().__init__()
        self.open = lambda: None


class ChangesTheMood(Lawful):
    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        answer = super().forecast(window, contexts)
        contexts["mood"].mood.headlines += 1
        return answer


class ChangesTheWindow(Lawful):
    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        answer = super().forecast(window, contexts)
        if window.flags.writeable:
            window[0, 0] = 7
        return answer


class TakesTheMood(Lawful):
    def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        answer = super().forecast(window, contexts)
        cast("dict[str, Context]", contexts).pop("mood")
        return answer


def _saying(answer: Callable[[Matrix], Forecast | AbstainReason]) -> Lawful:
    class Saying(Lawful):
        def forecast(self, window: Matrix, contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
            return answer(window)

    return Saying()


def _raises_on_missing(window: Matrix) -> Forecast:
    if np.isnan(window).any():
        raise ValueError("cannot convert NaN")
    return Forecast(p_down=0, p_flat=1, p_up=0)


def _raises_on_extremes(window: Matrix) -> Forecast:
    p_flat = 1 if window.max() < 9 else 1 // 0
    return Forecast(p_down=0, p_flat=p_flat, p_up=0 * int(np.abs(window[0, 0])) ** 0)


NO_INPUT = AbstainReason.ABSTAIN_REASON_NO_INPUT
HALF = Forecast(p_down=0.5, p_flat=0.0, p_up=0.5)

BROKEN: dict[str, list[Lawful]] = {
    "declares itself": [
        Lawful(name=""),
        Lawful(engine_digest=b"short"),
        Lawful(feature_set_digest=rb"\9" * 32),
        Lawful(horizon_ns=0),
        Lawful(validity_ns=-1),
        Lawful(without_context=AbstainReason.ABSTAIN_REASON_STALE),
        Lawful(context_kinds=()),
        Lawful(context_kinds=("mood", "mood")),
        Lawful(context_kinds=("mood", "regime")),
    ],
    "tolerates any values": [
        _saying(_raises_on_missing),
        _saying(_raises_on_extremes),
        _saying(lambda window: AbstainReason.ABSTAIN_REASON_WARMING),
    ],
    "answers something": [_saying(lambda window: NO_INPUT)],
    "gives probabilities": [
        _saying(lambda window: replace(HALF, p_flat=0.5)),
        _saying(lambda window: replace(HALF, p_flat=1e-6)),
        _saying(lambda window: Forecast(p_down=-0.5, p_flat=0.5, p_up=1.0)),
        _saying(lambda window: Forecast(p_down=float("nan"), p_flat=0.5, p_up=0.5)),
        _saying(lambda window: replace(HALF, expected_move_bps=float("inf"))),
    ],
    "is pure": [Counts(), ChangesTheMood(), ChangesTheWindow(), TakesTheMood()],
    "keeps no state": [RemembersTheLast(), LosesAPart(), CannotTravel()],
}


def test_a_lawful_expert_passes() -> None:
    check_expert(Expert(Lawful()), Columns(), [MOOD], other=Expert(Lawful(engine_digest=b"\4" * 32)))


@pytest.mark.parametrize(
    ("law", "responder"), [(law, responder) for law, responders in BROKEN.items() for responder in responders]
)
def test_an_unlawful_expert_is_caught_by_the_law_it_breaks(law: str, responder: Lawful) -> None:
    with pytest.raises(LawBroken) as broken:
        check_expert(Expert(responder), Columns(), [MOOD])
    assert broken.value.law == law


def test_two_configurations_with_one_digest_are_caught() -> None:
    with pytest.raises(LawBroken) as broken:
        check_expert(Expert(Lawful()), Columns(), [MOOD], other=Expert(Lawful(name="other")))
    assert broken.value.law == "digest follows config"


def _staleness_first(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    if window.valid_rows < window.rows:
        return abstention(
            window,
            AbstainReason.ABSTAIN_REASON_WARMING,
            expert=responder.name,
            engine_digest=responder.engine_digest,
            horizon_ns=responder.horizon_ns,
            validity_ns=responder.validity_ns,
        )
    return respond(responder, window, versions)


def _uses_what_it_finds(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    """Take any version of the context, expired or not, for the one that the window names."""
    fresh = {(ref.kind, ref.key, ref.version): MOOD for ref in window.expected_contexts}
    for found in fresh.values():
        found.valid_until_ns = window.close_ns
    return respond(responder, window, fresh)


def _names_no_contexts(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    answer = respond(responder, window, versions)
    del answer.contexts[:]
    return answer


def _lives_longer(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    answer = respond(responder, window, versions)
    answer.valid_until_ns += 1
    return answer


def _sure_of_itself(responder: Responder, window: FeatureWindow, versions: Versions) -> Opinion:
    answer = respond(responder, window, versions)
    answer.confidence = 0.0 if answer.abstained else 0.99
    return answer


@pytest.mark.parametrize(
    ("law", "answer"),
    [
        ("abstains for the first reason", _staleness_first),
        ("abstains for the first reason", _uses_what_it_finds),
        ("names what it used", _names_no_contexts),
        ("names what it used", _lives_longer),
        ("gives probabilities", _sure_of_itself),
    ],
)
def test_an_unlawful_host_is_caught_by_the_law_it_breaks(law: str, answer: Answer) -> None:
    with pytest.raises(LawBroken) as broken:
        check_expert(Expert(Lawful()), Columns(), [MOOD], answer=answer)
    assert broken.value.law == law


def test_the_samples_hold_missing_extreme_and_ordinary_values_and_never_change() -> None:
    samples = sample_matrices(3)
    again = sample_matrices(3)
    assert all(np.array_equal(samples[name], again[name], equal_nan=True) for name in samples)
    everything = np.stack(list(samples.values()))
    assert np.isnan(samples["all missing"]).all()
    assert np.nanmax(everything) == np.finfo(np.float32).max
    assert np.nanmin(everything) == -np.finfo(np.float32).max
    assert {values.shape for values in samples.values()} == {(64, 3)}

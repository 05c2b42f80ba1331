"""Answering a window: the first reason to abstain that holds, else the forecast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from huracan.clock import STEP_NS
from huracan.contracts.codec import digest
from huracan.contracts.context import Context, context, mood_state
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window
from huracan.contracts.market import instrument_key, linear_perpetual
from huracan.contracts.opinion import AbstainReason, reason_name
from huracan.expert.port import Forecast
from huracan.expert.respond import STALE_AFTER_NS, respond
from huracan.ids import opinion_id
from huracan.inference.engine import Engine

STEP = 17_231_612_550
CLOSE_NS = (STEP + 1) * STEP_NS
OURS, FOREIGN = b"\1" * 32, b"\2" * 32
BTC = linear_perpetual("BTC", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001"))


@dataclass
class Says:
    """A responder that says what it is told to, and remembers what it was asked."""

    answer: Forecast | AbstainReason = Forecast(p_down=0.2, p_flat=0.3, p_up=0.5)  # noqa: RUF009 - frozen
    context_kinds: tuple[str, ...] = ("mood",)
    without_context: AbstainReason = AbstainReason.ABSTAIN_REASON_NO_INPUT
    engines: tuple[Engine, ...] = ()
    name: str = "says"
    feature_set_digest: bytes = OURS
    engine_digest: bytes = b"\3" * 32
    horizon_ns: int = 10**9
    validity_ns: int = 300_000_000

    def forecast(self, window: NDArray[np.float32], contexts: Mapping[str, Context]) -> Forecast | AbstainReason:
        self.asked = window, contexts
        return self.answer


def _mood(kind: str = "mood", key: str = "BTC", version: int = 1, valid_until_ns: int = CLOSE_NS) -> Context:
    return context(
        kind=kind,
        key=key,
        version=version,
        epoch=1,
        as_of_ns=0,
        effective_from_ns=0,
        valid_until_ns=valid_until_ns,
        payload=mood_state(polarity=0, weight=1, headlines=1, last_news_id=bytes(16)),
        engine_digest=bytes(32),
    )


def _at_hand(*contexts: Context) -> dict[tuple[str, str, int], Context]:
    return {(each.ref.kind, each.ref.key, each.ref.version): each for each in contexts}


def _window(*contexts: Context, **changes: object) -> FeatureWindow:
    window = feature_window(
        instrument=BTC,
        epoch=4,
        feature_set="micro",
        feature_set_digest=OURS,
        interval_ns=STEP_NS,
        step=STEP,
        first_step=1,
        close_ns=CLOSE_NS,
        values=np.arange(2 * WINDOW_ROWS, dtype=np.float32).reshape(WINDOW_ROWS, 2),
        valid_rows=WINDOW_ROWS,
        first_ingest_seq=1,
        last_ingest_seq=2,
        last_frame_ns=CLOSE_NS,
        book_synced=True,
        expected_contexts=[each.ref for each in contexts],
    )
    for name, value in changes.items():
        setattr(window, name, value)
    return window


def test_a_forecast_becomes_an_opinion_with_its_lineage() -> None:
    mood = _mood()
    window, responder = _window(mood), Says()
    answer = respond(responder, window, _at_hand(mood))
    assert (answer.p_down, answer.p_flat, answer.p_up, answer.confidence) == (0.2, 0.3, 0.5, 0.5)
    assert not answer.abstained
    assert not answer.HasField("expected_move_bps")
    key = instrument_key(BTC.id)
    assert answer.opinion_id == opinion_id("says", key, 4, STEP, responder.engine_digest, answer.window_digest)
    assert answer.valid_until_ns == CLOSE_NS + responder.validity_ns
    assert answer.window_digest == digest(window)
    assert list(answer.contexts) == [mood.ref]
    values, contexts = responder.asked
    assert values.shape == (WINDOW_ROWS, 2)
    assert contexts == {"mood": mood}


def test_an_expected_move_is_passed_on_even_when_it_is_zero() -> None:
    answer = respond(Says(Forecast(p_down=0, p_flat=1, p_up=0, expected_move_bps=0.0), ()), _window(), {})
    assert answer.HasField("expected_move_bps")


def test_a_responders_own_reason_becomes_an_abstention() -> None:
    mood = _mood()
    answer = respond(Says(AbstainReason.ABSTAIN_REASON_NO_INPUT), _window(mood), _at_hand(mood))
    assert answer.abstained
    assert reason_name(answer.reason) == "NO_INPUT"
    assert list(answer.contexts) == [mood.ref]
    assert answer.confidence == 0


FLAWS: dict[str, dict[str, object]] = {
    "FEATURE_SET_MISMATCH": {"feature_set_digest": FOREIGN},
    "BOOK_UNSYNCED": {"book_synced": False},
    "STALE": {"last_frame_ns": CLOSE_NS - STALE_AFTER_NS},
    "WARMING": {"valid_rows": WINDOW_ROWS - 1},
}


@pytest.mark.parametrize("reason", FLAWS)
def test_each_flaw_of_a_window_is_its_reason_and_goes_before_all_later_ones(reason: str) -> None:
    mood, responder = _mood(), Says()
    assert reason_name(respond(responder, _window(mood, **FLAWS[reason]), _at_hand(mood)).reason) == reason
    later = list(FLAWS)[list(FLAWS).index(reason) :]
    worse = {name: value for flaw in later for name, value in FLAWS[flaw].items()}
    assert reason_name(respond(responder, _window(**worse), {}).reason) == reason
    assert not hasattr(responder, "asked")


def test_a_frame_exactly_half_a_second_old_is_not_stale() -> None:
    window = _window(last_frame_ns=CLOSE_NS - STALE_AFTER_NS + 1)
    assert not respond(Says(context_kinds=()), window, {}).abstained


@pytest.mark.parametrize("reason", ["WARMING", "NO_INPUT"])
def test_before_the_first_version_of_a_context_the_responder_says_which_reason(reason: str) -> None:
    value = cast("AbstainReason", AbstainReason.Value(f"ABSTAIN_REASON_{reason}"))  # the stub says int
    responder = Says(without_context=value)
    assert reason_name(respond(responder, _window(), _at_hand(_mood())).reason) == reason


def test_a_named_version_that_is_not_at_hand_is_missing_even_if_another_is() -> None:
    answer = respond(Says(), _window(_mood(version=2)), _at_hand(_mood(version=1)))
    assert reason_name(answer.reason) == "CONTEXT_MISSING"
    assert answer.contexts[0].version == 2


def test_a_context_may_be_used_until_its_end_and_not_longer() -> None:
    still, over = _mood(), _mood(valid_until_ns=CLOSE_NS - 1)
    assert not respond(Says(), _window(still), _at_hand(still)).abstained
    assert reason_name(respond(Says(), _window(over), _at_hand(over)).reason) == "CONTEXT_EXPIRED"


def test_a_missing_context_goes_before_an_expired_one() -> None:
    old, other = _mood(valid_until_ns=0), _mood(kind="regime")
    responder = Says(context_kinds=("mood", "regime"))
    assert reason_name(respond(responder, _window(old, other), _at_hand(old)).reason) == "CONTEXT_MISSING"


def test_contexts_of_other_kinds_are_neither_read_nor_named() -> None:
    mood, other = _mood(), _mood(kind="regime", valid_until_ns=0)
    responder = Says()
    answer = respond(responder, _window(other, mood), _at_hand(mood))
    assert list(answer.contexts) == [mood.ref]
    assert list(responder.asked[1]) == ["mood"]

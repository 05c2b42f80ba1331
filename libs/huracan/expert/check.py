"""The laws of an expert, checked on any expert: what makes opinions replayable and copies interchangeable."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from huracan.clock import STEP_NS, step_close
from huracan.contracts.codec import digest, encode
from huracan.contracts.context import Context
from huracan.contracts.features import WINDOW_ROWS, FeatureWindow, feature_window, window_matrix
from huracan.contracts.market import InstrumentDefinition, linear_perpetual
from huracan.contracts.opinion import AbstainReason, Opinion, reason_name
from huracan.expert.port import Expert, Responder
from huracan.expert.respond import STALE_AFTER_NS, Versions, respond
from huracan.laws import LawBroken, require

_STEP = 17_231_612_550
_DIGEST_BYTES = 32
_TOLERANCE = 1e-9
_FLAWS = ("FEATURE_SET_MISMATCH", "BOOK_UNSYNCED", "STALE", "WARMING")
_BEFORE_ANY_CONTEXT = (AbstainReason.ABSTAIN_REASON_WARMING, AbstainReason.ABSTAIN_REASON_NO_INPUT)

Matrix = NDArray[np.float32]
Answer = Callable[[Responder, FeatureWindow, Versions], Opinion]


class FeatureColumns(Protocol):
    """What is needed of a feature set."""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the columns."""

    @property
    def digest(self) -> bytes:
        """Return the digest of the set."""


def sample_matrices(columns: int) -> dict[str, Matrix]:
    """Return the windows that experts are asked about, by name, each of shape (64, columns)."""
    shape = (WINDOW_ROWS, columns)
    ordinary = {f"ordinary {number}": _spread(shape, number) for number in range(8)}
    holes = ordinary["ordinary 0"].copy()
    holes[_spread(shape, 99) > 0] = np.nan
    one_column = np.full(shape, np.nan, dtype=np.float32)
    one_column[:, 0] = 1
    last_row_missing = ordinary["ordinary 1"].copy()
    last_row_missing[-1] = np.nan
    largest = np.finfo(np.float32).max
    return ordinary | {
        "zeros": np.zeros(shape, dtype=np.float32),
        "tiny": np.full(shape, np.finfo(np.float32).tiny, dtype=np.float32),
        "largest": np.full(shape, largest, dtype=np.float32),
        "most negative": np.full(shape, -largest, dtype=np.float32),
        "largest of either sign": np.where(_spread(shape, 98) > 0, largest, -largest).astype(np.float32),
        "holes": holes,
        "last row missing": last_row_missing,
        "all but one column missing": one_column,
        "all missing": np.full(shape, np.nan, dtype=np.float32),
    }


def _spread(shape: tuple[int, int], number: int) -> Matrix:
    data = hashlib.shake_256(str(number).encode()).digest(4 * shape[0] * shape[1])
    uniform = np.frombuffer(data, dtype="<u4").astype(np.float64) / 2**32
    scaled: Matrix = ((uniform * 2 - 1) * 3).astype(np.float32).reshape(shape)
    return scaled


@dataclass(frozen=True, kw_only=True)
class Case:
    """An expert with everything it is asked about."""

    responder: Responder
    feature_set: FeatureColumns
    contexts: Mapping[str, Context]
    other: Responder | None
    answer: Answer
    instrument: InstrumentDefinition = field(
        default_factory=lambda: linear_perpetual(
            "BTC", venue="sim", price_increment=Decimal("0.1"), size_increment=Decimal("0.001")
        )
    )

    @property
    def versions(self) -> dict[tuple[str, str, int], Context]:
        """Return the contexts that are at hand; each may be used until the close of the window."""
        return self.versions_until(step_close(_STEP))

    def versions_until(self, valid_until_ns: int) -> dict[tuple[str, str, int], Context]:
        """Return copies of the contexts that may be used until a time."""
        found = {}
        for context in self.contexts.values():
            copy = Context()
            copy.CopyFrom(context)
            copy.valid_until_ns = valid_until_ns
            found[copy.ref.kind, copy.ref.key, copy.ref.version] = copy
        return found

    def window(self, values: Matrix, flaws: Sequence[str] = (), *, named: bool = True) -> FeatureWindow:
        """Return a window that nothing is wrong with but the flaws, each called by the reason it gives."""
        close_ns = step_close(_STEP)
        foreign = "FEATURE_SET_MISMATCH" in flaws
        return feature_window(
            instrument=self.instrument,
            epoch=1,
            feature_set="micro",
            feature_set_digest=bytes(_DIGEST_BYTES) if foreign else self.feature_set.digest,
            interval_ns=STEP_NS,
            step=_STEP,
            first_step=_STEP - WINDOW_ROWS + 1,
            close_ns=close_ns,
            values=values,
            valid_rows=WINDOW_ROWS - 1 if "WARMING" in flaws else WINDOW_ROWS,
            first_ingest_seq=1,
            last_ingest_seq=2,
            last_frame_ns=close_ns - STALE_AFTER_NS if "STALE" in flaws else close_ns,
            book_synced="BOOK_UNSYNCED" not in flaws,
            expected_contexts=[context.ref for context in self.contexts.values()] if named else [],
        )

    def windows(self) -> dict[str, FeatureWindow]:
        """Return a window of each sample matrix, by name."""
        samples = sample_matrices(len(self.feature_set.names))
        return {name: self.window(values) for name, values in samples.items()}

    def ask(self, law: str, name: str, window: FeatureWindow, responder: Responder | None = None) -> Opinion:
        """Return the opinion on a window; an exception breaks the law that asked."""
        try:
            return self.answer(responder or self.responder, window, self.versions)
        except Exception as error:
            raise LawBroken(law, f"window {name!r} raised {error!r}") from error

    def forecasts(self, law: str) -> dict[str, Opinion]:
        """Return the opinions on the sample windows that are not abstentions."""
        answers = {name: self.ask(law, name, window) for name, window in self.windows().items()}
        return {name: answer for name, answer in answers.items() if not answer.abstained}


def declares_itself(case: Case) -> None:
    """It has a name, digests, a horizon, a validity, and was made for this feature set and these contexts."""
    law, responder = "declares itself", case.responder
    require(bool(responder.name), law, "name was empty")
    require(len(responder.engine_digest) == _DIGEST_BYTES, law, "engine digest was not 32 bytes")
    require(responder.feature_set_digest == case.feature_set.digest, law, "was made for another feature set")
    require(responder.horizon_ns > 0, law, f"horizon was {responder.horizon_ns}")
    require(responder.validity_ns > 0, law, f"validity was {responder.validity_ns}")
    require(responder.without_context in _BEFORE_ANY_CONTEXT, law, "without_context: WARMING or NO_INPUT")
    kinds = responder.context_kinds
    require(len(set(kinds)) == len(kinds), law, f"context kinds were {kinds}")
    require(set(kinds) == set(case.contexts), law, f"reads {kinds}, samples were {sorted(case.contexts)}")


def tolerates_any_values(case: Case) -> None:
    """Missing and extreme values neither raise nor give a reason other than NO_INPUT."""
    law = "tolerates any values"
    for name, window in case.windows().items():
        answer = case.ask(law, name, window)
        if answer.abstained:
            reason = reason_name(answer.reason)
            require(reason == "NO_INPUT", law, f"window {name!r} was abstained with {reason}")


def answers_something(case: Case) -> None:
    """Not every sample window is abstained: the other laws would hold of nothing."""
    require(bool(case.forecasts("answers something")), "answers something", "every window was abstained")


def gives_probabilities(case: Case) -> None:
    """Finite, in [0, 1], sum 1; confidence is the largest; the expected move, if any, is finite."""
    law = "gives probabilities"
    for name, answer in case.forecasts(law).items():
        shares = (answer.p_down, answer.p_flat, answer.p_up)
        require(all(math.isfinite(p) and 0 <= p <= 1 for p in shares), law, f"window {name!r} got {shares}")
        require(abs(math.fsum(shares) - 1) <= _TOLERANCE, law, f"window {name!r} got {shares}")
        require(answer.confidence == max(shares), law, f"window {name!r} got confidence {answer.confidence}")
        require(math.isfinite(answer.expected_move_bps), law, f"window {name!r} got an endless expected move")


def is_pure(case: Case) -> None:
    """The same question gets the same bytes, and asking changes neither window nor contexts."""
    law = "is pure"
    for name, window in case.windows().items():
        before = encode(window)
        first = encode(case.ask(law, name, window))
        require(first == encode(case.ask(law, name, window)), law, f"window {name!r} got two answers")
        require(encode(window) == before, law, f"window {name!r} was changed")
        values = window_matrix(window).copy()
        given = {context.ref.kind: context for context in case.versions.values()}
        kept = {kind: encode(context) for kind, context in given.items()}
        case.responder.forecast(values, given)
        require(values.tobytes() == window.values, law, f"values of window {name!r} were changed")
        left = {kind: encode(context) for kind, context in given.items()}
        require(left == kept, law, f"contexts were changed by window {name!r}")


def keeps_no_state(case: Case) -> None:
    """The order of questions does not matter, and a pickled copy answers as the original does."""
    law = "keeps no state"
    try:
        copy: Responder = pickle.loads(pickle.dumps(case.responder))  # noqa: S301 - our own bytes
    except Exception as error:
        raise LawBroken(law, f"could not be pickled: {error!r}") from error
    windows = case.windows()
    answers = {name: encode(case.ask(law, name, window)) for name, window in windows.items()}
    for name, window in reversed(windows.items()):
        require(encode(case.ask(law, name, window)) == answers[name], law, f"order changes window {name!r}")
    for name, window in windows.items():
        require(encode(case.ask(law, name, window, copy)) == answers[name], law, f"a copy differs: {name!r}")


def abstains_for_the_first_reason(case: Case) -> None:
    """Of all reasons that hold, the first of SEMANTICS is given; each is also given when it alone holds."""
    values = _spread((WINDOW_ROWS, len(case.feature_set.names)), 0)
    for index, reason in enumerate(_FLAWS):
        _abstains(case, case.window(values, (reason,)), case.versions, reason)
        _abstains(case, case.window(values, _FLAWS[index:]), {}, reason)
    if case.contexts:
        window = case.window(values)
        unnamed = case.window(values, named=False)
        _abstains(case, unnamed, case.versions, reason_name(case.responder.without_context))
        _abstains(case, window, {}, "CONTEXT_MISSING")
        _abstains(case, window, case.versions_until(window.close_ns - 1), "CONTEXT_EXPIRED")


def _abstains(case: Case, window: FeatureWindow, versions: Versions, reason: str) -> None:
    answer = case.answer(case.responder, window, versions)
    said = reason_name(answer.reason) if answer.abstained else "a forecast"
    require(said == reason, "abstains for the first reason", f"was {said}, not {reason}")


def names_what_it_used(case: Case) -> None:
    """The opinion names window, digests, horizon, the context versions, and the end of its validity."""
    law, responder = "names what it used", case.responder
    refs = [context.ref for context in case.contexts.values()]
    for name, window in case.windows().items():
        answer = case.ask(law, name, window)
        require(answer.expert == responder.name, law, f"window {name!r}: expert was {answer.expert!r}")
        require(answer.engine_digest == responder.engine_digest, law, f"window {name!r}: engine digest")
        require(answer.feature_set_digest == window.feature_set_digest, law, f"window {name!r}: feature set")
        require(answer.window_digest == digest(window), law, f"window {name!r}: window digest")
        require(answer.horizon_ns == responder.horizon_ns, law, f"window {name!r}: horizon")
        require(list(answer.contexts) == refs, law, f"window {name!r}: contexts")
        until = window.close_ns + responder.validity_ns
        require(answer.valid_until_ns == until, law, f"window {name!r}: valid until")


def digest_follows_config(case: Case) -> None:
    """Another configuration has another engine digest."""
    if case.other is not None:
        differs = case.other.engine_digest != case.responder.engine_digest
        require(differs, "digest follows config", "two configurations had one engine digest")


LAWS: tuple[Callable[[Case], None], ...] = (
    declares_itself,
    tolerates_any_values,
    answers_something,
    gives_probabilities,
    is_pure,
    keeps_no_state,
    abstains_for_the_first_reason,
    names_what_it_used,
    digest_follows_config,
)
"""Every law, in the order in which they are checked."""


def check_expert(
    expert: Expert,
    feature_set: FeatureColumns,
    contexts: Sequence[Context] = (),
    *,
    other: Expert | None = None,
    answer: Answer = respond,
) -> None:
    """Raise LawBroken when an expert breaks a law.

    `contexts` holds one sample for each kind that the expert reads; `other` is the same expert configured
    differently; `answer` is how windows are answered, to check another host than `respond`.
    """
    case = Case(
        responder=expert.responder,
        feature_set=feature_set,
        contexts={context.ref.kind: context for context in contexts},
        other=None if other is None else other.responder,
        answer=answer,
    )
    for law in LAWS:
        law(case)

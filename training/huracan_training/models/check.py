"""The laws of a classifier, checked on any: what makes its scores worth reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from huracan.errors import BadInput
from huracan.laws import LawBroken, require
from huracan_training.chance import generator
from huracan_training.models.inputs import Question, all_labels
from huracan_training.samples import UNKNOWN, Classifier, Floats, Integers, Sample
from huracan_training.scores import log_loss

_TOLERANCE = 1e-6
_SUM_TOLERANCE = 1e-9
_CUTS = 4
_CHANCE_ERRORS = 4.0
_LARGEST = np.float32(1e30)

Cut = Callable[[Sample, int], Sample]
"""A sample and a position of its series → what was known then, asked about the positions up to it."""


def cut_after(sample: Sample, position: int) -> Sample:
    """Return the sample as it was when the bar at `position` closed, asked about the positions up to it."""
    end, series = position + 1, sample.series
    past = replace(series, close_ns=series.close_ns[:end], log_return=series.log_return[:end], rows=series.rows[:end])
    asked = sample.at <= position
    return Sample(series=past, at=sample.at[asked], labels=sample.labels[asked], known=sample.known[:end])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A classifier with everything it is fitted on and asked about."""

    make: Callable[[], Classifier]
    question: Question
    train: Sequence[Sample]
    valid: Sequence[Sample]
    judged: Sequence[Sample]
    seed: int
    cut: Cut
    model: Classifier
    """Fitted on `train` and `valid`."""

    def answer(self, law: str, case: str, sample: Sample, model: Classifier | None = None) -> Floats:
        """Return the answers to a sample; an exception breaks the law that asked."""
        try:
            return (model or self.model).predict(sample)
        except Exception as error:
            raise LawBroken(law, f"{case} raised {error!r}") from error

    def fitted(self, train: Sequence[Sample], valid: Sequence[Sample]) -> Classifier:
        """Return another model of the same seed, fitted on these."""
        model = self.make()
        model.fit(train, valid, seed=self.seed)
        return model


def gives_probabilities(case: Case) -> None:
    """One row for each position, one column for each class, finite, above 0, sum 1."""
    for sample in case.judged:
        _probabilities(case, "gives probabilities", sample.series.asset, sample)


def _probabilities(case: Case, law: str, name: str, sample: Sample) -> Floats:
    answers = case.answer(law, name, sample)
    wanted = (len(sample.at), case.question.classes)
    require(answers.shape == wanted, law, f"{name}: shape was {answers.shape}, not {wanted}")
    require(bool(np.isfinite(answers).all() and (answers > 0).all()), law, f"{name}: not finite, or not above 0")
    off = float(np.abs(answers.sum(axis=1) - 1).max(initial=0))
    require(off <= _SUM_TOLERANCE, law, f"{name}: sums were off 1 by {off:g}")
    return answers


def is_deterministic(case: Case) -> None:
    """The same data and seed give the same bytes, and asking twice does too."""
    law = "is deterministic"
    again = case.fitted(case.train, case.valid)
    for sample in case.judged:
        first = case.answer(law, "the first time", sample).tobytes()
        require(case.answer(law, "the second time", sample).tobytes() == first, law, "two answers to one question")
        require(case.answer(law, "a twin", sample, again).tobytes() == first, law, "two models of one seed differ")


def changes_nothing(case: Case) -> None:
    """Asking leaves the sample as it was."""
    for sample in case.judged:
        before = _bytes(sample)
        case.answer("changes nothing", sample.series.asset, sample)
        require(_bytes(sample) == before, "changes nothing", f"the sample of {sample.series.asset} was changed")


def _bytes(sample: Sample) -> list[bytes]:
    series = sample.series
    parts = (series.close_ns, series.log_return, series.rows, sample.at, sample.labels, sample.known)
    return [part.tobytes() for part in parts]


def reads_no_future(case: Case) -> None:
    """Truncated history gives the same prediction.

    The cut is the caller's: one that computes the rows again from bars cut at the position also catches a feature
    made of the future.
    """
    law = "reads no future"
    for sample in case.judged:
        answers = case.answer(law, "the whole history", sample)
        for index in _spread(len(sample.at)):
            position = int(sample.at[index])
            then = case.answer(law, f"history up to {position}", case.cut(sample, position))
            off = float(np.abs(then - answers[: index + 1]).max())
            require(
                off <= _TOLERANCE, law, f"{sample.series.asset} up to {position}: off by {off:g} without later bars"
            )


def _spread(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, _CUTS).astype(int).tolist())) if count else []


def reads_no_answers(case: Case) -> None:
    """The labels of the sample that is asked about do not change the answer."""
    law = "reads no answers"
    for sample in case.judged:
        other = replace(sample, labels=(sample.labels + 1) % case.question.classes)
        same = case.answer(law, "other labels", other).tobytes() == case.answer(law, "labels", sample).tobytes()
        require(same, law, f"other labels of {sample.series.asset} gave other answers")


def answers_any_positions(case: Case) -> None:
    """Some of the positions, one, or none get the answers that they get among all."""
    law = "answers any positions"
    for sample in case.judged:
        answers = case.answer(law, "all positions", sample)
        for name, chosen in {"every third": slice(None, None, 3), "one": slice(0, 1), "none": slice(0, 0)}.items():
            some = replace(sample, at=sample.at[chosen], labels=sample.labels[chosen])
            off = float(np.abs(_probabilities(case, law, name, some) - answers[chosen]).max(initial=0))
            require(off <= _TOLERANCE, law, f"{name} of {sample.series.asset}: off by {off:g}")


def tolerates_any_rows(case: Case) -> None:
    """Missing and extreme rows, an asset never seen, and no known label get probabilities."""
    law, sample = "tolerates any rows", case.judged[0]
    series = sample.series
    holes = series.rows.copy()
    holes[::2, ::2] = np.nan
    filled = {
        "holes": holes,
        "all missing": np.full_like(holes, np.nan),
        "largest": np.full_like(holes, _LARGEST),
        "endless": np.full_like(holes, -np.inf),
    }
    cases = {name: replace(sample, series=replace(series, rows=rows)) for name, rows in filled.items()}
    cases["an unknown asset"] = replace(sample, series=replace(series, asset="NEVERSEEN"))
    cases["missing returns"] = replace(
        sample, series=replace(series, log_return=np.full_like(series.log_return, np.nan))
    )
    cases["no known label"] = replace(sample, known=np.full_like(sample.known, UNKNOWN))
    for name, asked in cases.items():
        _probabilities(case, law, name, asked)


def refuses_what_it_cannot_use(case: Case) -> None:
    """Labels that are NaN or no class, positions without a window, and an unfitted model are named in a BadInput."""
    law, first = "refuses what it cannot use", case.train[0]
    missing = np.where(np.arange(len(first.labels)) % 2, first.labels.astype(np.float64), np.nan)
    unknown = np.full_like(first.labels, UNKNOWN)
    _refused(law, "NaN labels", "labels", lambda: _fit(case, replace(first, labels=missing)))
    _refused(law, "unknown labels", "labels", lambda: _fit(case, replace(first, labels=unknown)))
    _refused(law, "early positions", "at", lambda: _fit(case, replace(first, at=first.at - first.at[0])))
    nothing = replace(first, at=first.at[:0], labels=first.labels[:0])
    _refused(law, "no positions", "train", lambda: case.fitted([nothing], case.valid))
    _refused(law, "an unfitted model", "fit", lambda: case.make().predict(case.judged[0]))


def _fit(case: Case, first: Sample) -> object:
    return case.fitted([first, *case.train[1:]], case.valid)


def _refused(law: str, name: str, field: str, action: Callable[[], object]) -> None:
    try:
        action()
    except BadInput as error:
        require(field in str(error), law, f"{name}: {error} does not name {field!r}")
    except Exception as error:
        raise LawBroken(law, f"{name} raised {error!r}, not BadInput") from error
    else:
        raise LawBroken(law, f"{name} were taken")


def knows_nothing_of_random_labels(case: Case) -> None:
    """Fitted on labels by chance it beats their shares by no more than chance would.

    A bar has the same random label in every part: who is judged on what it learned is found out.
    """
    law = "knows nothing of random labels"
    labels = all_labels(case.train)
    shares = np.bincount(labels, minlength=case.question.classes) / len(labels)
    train, valid, judged = (_relabelled(part, shares, case.seed) for part in (case.train, case.valid, case.judged))
    model = case.fitted(train, valid)
    truth = all_labels(judged)
    answers = np.concatenate([case.answer(law, sample.series.asset, sample, model) for sample in judged])
    gain = np.log(answers[np.arange(len(truth)), truth]) - np.log(shares[truth])
    noise = float(gain.std() / np.sqrt(len(gain)))
    require(
        float(gain.mean()) <= _CHANCE_ERRORS * noise + _TOLERANCE,
        law,
        f"log loss {log_loss(truth, answers):.4f} was {gain.mean():.4f} below that of the shares",
    )


def _relabelled(samples: Sequence[Sample], shares: Floats, seed: int) -> list[Sample]:
    return [replace(sample, labels=_drawn(sample, shares, seed)) for sample in samples]


def _drawn(sample: Sample, shares: Floats, seed: int) -> Integers:
    chances = generator(seed, f"labels of {sample.series.asset}").random(len(sample.series.rows))[sample.at]
    drawn: Integers = np.searchsorted(np.cumsum(shares[:-1]), chances, side="right").astype(np.int64)
    return drawn


LAWS: tuple[Callable[[Case], None], ...] = (
    gives_probabilities,
    is_deterministic,
    changes_nothing,
    reads_no_future,
    reads_no_answers,
    answers_any_positions,
    tolerates_any_rows,
    refuses_what_it_cannot_use,
    knows_nothing_of_random_labels,
)
"""Every law, in the order in which they are checked."""


def check_classifier(
    make: Callable[[], Classifier],
    question: Question,
    *,
    train: Sequence[Sample],
    valid: Sequence[Sample],
    judged: Sequence[Sample],
    seed: int = 1,
    cut: Cut = cut_after,
) -> None:
    """Raise LawBroken when a classifier breaks a law.

    `make` returns a new, unfitted model; it is fitted three times. The parts follow each other in time, and
    `judged` is what it is asked about. `cut` truncates history: give one that builds rows anew to check features.
    """
    model = make()
    model.fit(train, valid, seed=seed)
    case = Case(
        make=make,
        question=question,
        train=train,
        valid=valid,
        judged=judged,
        seed=seed,
        cut=cut,
        model=model,
    )
    for law in LAWS:
        law(case)

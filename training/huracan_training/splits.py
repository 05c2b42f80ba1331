"""Splits that only look forward, by time: no label of the training rows reaches into what they are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np

from huracan.errors import BadInput
from huracan_training.bars import Asset, Mask, windowed
from huracan_training.integrity import Span
from huracan_training.samples import Integers

EMBARGO_SHARE = 0.01
"""Of the whole time: Lopez de Prado 2018, chapter 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One split: a row belongs to a span when its label, from its close to the end of its horizon, lies within."""

    train: Span
    valid: Span
    """Later than train: decides when to stop, and calibrates."""
    test: Span


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All splits of a dataset."""

    folds: tuple[Fold, ...]
    """Walk forward: each trains on all that was before."""
    final: Fold
    """Its test is looked at once, when everything has been chosen by the folds."""


@dataclass(frozen=True, slots=True)
class Split:
    """Rows to train on and rows to judge by, as masks of shape (n,)."""

    train: Mask
    test: Mask


def walk_forward(
    closes_ns: Integers,
    *,
    folds: int = 5,
    embargo_ns: int = 0,
    valid_share: float = 0.15,
    final_share: float = 0.15,
) -> Plan:
    """Return expanding folds over the closes of all rows of all assets, shape (n,), in any order, and a final one.

    The newest `final_share` of the rows is the final test. Those before are cut by time into `folds + 1` blocks of as
    many rows each: fold k is tested on block k + 1, and trains on all before that, of which the newest `valid_share` is
    for validation. Rows are counted, not days: an asset that goes on alone for longer takes no more than its rows.
    Between two spans lie `embargo_ns`, besides the horizon, which a row's label must not go over. Raises BadInput for
    shares, or a number of folds, that leave nothing.
    """
    if folds < 1 or not 0 < valid_share < 1 or not 0 < final_share < 1:
        raise BadInput(
            f"folds was {folds}, valid_share {valid_share}, final_share {final_share}; give at least one fold, and "
            "shares between 0 and 1"
        )
    closes = np.sort(closes_ns)
    final = int(len(closes) * (1 - final_share))
    edges = [int(closes[final * block // (folds + 1)]) for block in range(folds + 2)]
    tests = [Span(begin, end - embargo_ns) for begin, end in pairwise(edges[1:])]
    return Plan(
        folds=tuple(_fold(closes, test, embargo_ns, valid_share) for test in tests),
        final=_fold(closes, Span(edges[-1], int(closes[-1])), embargo_ns, valid_share),
    )


def _fold(closes: Integers, test: Span, embargo_ns: int, valid_share: float) -> Fold:
    first_ns, known_until_ns = int(closes[0]), test.from_ns - embargo_ns
    before = int(np.searchsorted(closes, known_until_ns))
    valid_ns = int(closes[int(before * (1 - valid_share))])
    if not first_ns < valid_ns - embargo_ns <= valid_ns < known_until_ns or test.to_ns <= test.from_ns:
        raise BadInput(
            f"a fold of {len(closes)} rows has nothing to train on, or to judge by, with an embargo of "
            f"{embargo_ns / 1e9:g} s: give more history, fewer folds or a shorter embargo"
        )
    return Fold(train=Span(first_ns, valid_ns - embargo_ns), valid=Span(valid_ns, known_until_ns), test=test)


def ends(asset: Asset, horizon: int) -> Integers:
    """Return when the horizon of a label at each position ends, shape (n,): never, the largest number, at the end."""
    close_ns = asset.series.close_ns
    later = np.full(len(close_ns), np.iinfo(np.int64).max, dtype=np.int64)
    later[: max(0, len(close_ns) - horizon)] = close_ns[horizon:]
    return later


def within(asset: Asset, horizon: int, span: Span) -> Mask:
    """Return which positions belong to a span: at which a model can be asked, with the whole label within."""
    mask = np.zeros(len(asset.series.close_ns), dtype=np.bool_)
    mask[windowed(asset.series)] = True
    return mask & (asset.series.close_ns >= span.from_ns) & (ends(asset, horizon) <= span.to_ns)


def purged_folds(starts_ns: Integers, ends_ns: Integers, *, groups: int, embargo_ns: int = 0) -> list[Split]:
    """Return a purged k-fold with an embargo (Lopez de Prado 2018, chapter 7): each group of rows is the test once.

    Not forward only: for choosing among models, never for what is reported.
    """
    return combinatorial_folds(starts_ns, ends_ns, groups=groups, tested=1, embargo_ns=embargo_ns)


def combinatorial_folds(
    starts_ns: Integers, ends_ns: Integers, *, groups: int, tested: int, embargo_ns: int = 0
) -> list[Split]:
    """Return the splits of combinatorial purged cross-validation (Lopez de Prado 2018, chapter 12).

    Rows, of any number of assets, have labels from `starts_ns` to `ends_ns`, shape (n,). They are cut by time into
    `groups` of about equal size; each choice of `tested` of them is one split, C(groups, tested) in all. A row trains
    when its label meets no label of a tested group, and does not start within `embargo_ns` after one. Raises BadInput
    for numbers that leave nothing.
    """
    if not 1 <= tested < groups or len(starts_ns) < groups:
        raise BadInput(f"groups was {groups}, tested {tested}, of {len(starts_ns)} rows: each needs at least 1")
    order = np.argsort(starts_ns, kind="stable")
    edges = starts_ns[order[[len(order) * group // groups for group in range(1, groups)]]]
    group_of = np.searchsorted(edges, starts_ns, side="right")
    splits = []
    for chosen in combinations(range(groups), tested):
        test = np.isin(group_of, chosen)
        train = ~test
        for group in chosen:
            members = group_of == group
            if members.any():
                from_ns, to_ns = starts_ns[members].min(), ends_ns[members].max() + embargo_ns
                train &= (ends_ns <= from_ns) | (starts_ns >= to_ns)
        splits.append(Split(train=train, test=test))
    return splits


def paths(groups: int, tested: int) -> int:
    """Return how many whole test paths the splits of CPCV make up: k / N * C(N, k)."""
    return comb(groups, tested) * tested // groups


def embargo_of(starts_ns: Sequence[int] | Integers) -> int:
    """Return the usual embargo: a hundredth of the time from the first to the last row."""
    return int((max(starts_ns) - min(starts_ns)) * EMBARGO_SHARE)

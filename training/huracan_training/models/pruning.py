"""Leave out features that do not matter, and show that this beats leaving out as many by chance (DOMAIN §7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from huracan.errors import BadInput
from huracan_training.chance import generator
from huracan_training.models.inputs import covered
from huracan_training.models.tuning import Fold, losses_of
from huracan_training.samples import Classifier, Floats, Integers, Rows, Sample

FITS = 5
"""Of a pruning: with all columns, without the lowest, and each time without as many by chance."""
_ALIKE = 0.9
_RANDOM_DROPS = FITS - 2

Attribute = Callable[[Classifier, Sequence[Sample], int], Floats]
"""A fitted model, samples and a seed → how much each column matters to it there, shape (columns,)."""


@runtime_checkable
class Attributed(Classifier, Protocol):
    """A model that can tell how much each column matters."""

    def attribution(self, sample: Sample) -> Floats:
        """Return how much each column matters over the sample, at least 0, shape (columns,)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Columns left out and what that cost out of sample."""

    columns: tuple[int, ...]
    rise: float
    """Log loss on the judged part less that with all columns, in nats."""
    error: float
    """Standard error of the rise, over blocks of neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """What was found about leaving features out."""

    matters: Floats
    """Attribution of each column, shape (columns,)."""
    group: Integers
    """Number of the group of alike columns that each column is in, shape (columns,)."""
    loss: float
    """Log loss with all columns, in nats."""
    lowest: Drop
    """The columns of least attribution."""
    random: tuple[Drop, ...]
    """As many columns by chance."""

    @property
    def accepted(self) -> bool:
        """Return whether the lowest may go: the loss rises by no more than one standard error."""
        return self.lowest.rise <= self.lowest.error

    @property
    def beats_random(self) -> bool:
        """Return whether dropping the lowest costs less than dropping by chance does on average."""
        return self.lowest.rise < float(np.mean([drop.rise for drop in self.random]))

    def kept(self) -> tuple[int, ...]:
        """Return the columns to go on with: all, unless the drop was accepted."""
        gone = self.lowest.columns if self.accepted else ()
        return tuple(column for column in range(len(self.matters)) if column not in gone)


def with_columns(samples: Sequence[Sample], columns: Sequence[int]) -> list[Sample]:
    """Return the samples with these columns of their rows only."""
    chosen = list(columns)
    return [replace(sample, series=replace(sample.series, rows=sample.series.rows[:, chosen])) for sample in samples]


def attributed(model: Classifier, samples: Sequence[Sample], seed: int) -> Floats:
    """Return what the model itself tells (trees: exact Shapley values), else what shuffling a column costs it."""
    if not isinstance(model, Attributed):
        return by_permutation(model, samples, seed)
    weights = [len(sample.at) for sample in samples]
    return np.average([model.attribution(sample) for sample in samples], axis=0, weights=weights)


def by_permutation(model: Classifier, samples: Sequence[Sample], seed: int) -> Floats:
    """Return the rise of the log loss when the bars of a column are shuffled within each asset (Breiman 2001)."""
    whole = losses_of(model, samples).mean()
    rng = generator(seed, "permutation")
    columns = range(samples[0].series.rows.shape[1])
    return np.array([losses_of(model, _shuffled(samples, column, rng)).mean() - whole for column in columns])


def _shuffled(samples: Sequence[Sample], column: int, rng: np.random.Generator) -> list[Sample]:
    shuffled = []
    for sample in samples:
        rows = sample.series.rows.copy()
        within = np.flatnonzero(covered(sample))
        rows[within, column] = rows[rng.permutation(within), column]
        shuffled.append(replace(sample, series=replace(sample.series, rows=rows)))
    return shuffled


def alike_columns(samples: Sequence[Sample]) -> Integers:
    """Return the group of each column, from 0: columns of |rho| > 0.9, joined one by one, share a group."""
    rows = np.concatenate([_centred(sample.series.rows[covered(sample)]) for sample in samples])
    if rows.shape[1] == 1:
        return np.zeros(1, dtype=np.int64)
    products = rows.T @ rows
    sizes = np.sqrt(np.diag(products))
    rho = products / np.maximum(np.outer(sizes, sizes), np.finfo(np.float64).tiny)
    apart = 1 - np.abs(rho)
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform(np.clip(apart, 0, 1), checks=False), "single")
    groups: Integers = fcluster(tree, 1 - _ALIKE, "distance").astype(np.int64) - 1
    return groups


def _centred(rows: Rows) -> Floats:
    values = np.where(np.isfinite(rows), rows, np.nan).astype(np.float64)
    present = np.isfinite(values)
    means = np.where(present, values, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    centred = np.where(present, values - means, 0)
    spread = centred.std(axis=0)
    return np.clip(centred / np.where(spread > 0, spread, 1), -8, 8)


def prune(
    make: Callable[[], Classifier],
    fold: Fold,
    *,
    share: float,
    block: int,
    seed: int,
    attribute: Attribute = attributed,
) -> Pruning:
    """Return what dropping the least of the groups costs, and what as many columns by chance do.

    Columns are attributed on the validation part of the fold. `share` of them, in (0, 1), may go; alike columns go
    together, so that it may be fewer. `block` is how many neighbouring positions count as one observation of the loss:
    at least the horizon. Raises BadInput for a share that leaves none to drop.
    """
    if not 0 < share < 1:
        raise BadInput(f"share was {share}; choose between 0 and 1, DOMAIN has 0.2 to 0.3")
    model = make()
    model.fit(fold.train, fold.valid, seed=seed)
    matters = attribute(model, fold.valid, seed)
    groups = alike_columns(fold.train)
    lowest = _lowest(matters, groups, int(share * len(matters)))
    if not lowest:
        raise BadInput(f"share {share} of {len(matters)} columns left no group to drop; choose a larger one")
    whole = losses_of(model, fold.judged)
    rng = generator(seed, "random drop")
    chances = [tuple(sorted(rng.permutation(len(matters))[: len(lowest)].tolist())) for _ in range(_RANDOM_DROPS)]

    def dropped(columns: tuple[int, ...]) -> Drop:
        rest = [column for column in range(len(matters)) if column not in columns]
        rises = _refitted(make, fold, rest, seed) - whole
        blocks = [part.mean() for part in np.array_split(rises, max(len(rises) // block, 2))]
        error = float(np.std(blocks, ddof=1) / np.sqrt(len(blocks)))
        return Drop(columns=columns, rise=float(rises.mean()), error=error)

    return Pruning(
        matters=matters,
        group=groups,
        loss=float(whole.mean()),
        lowest=dropped(lowest),
        random=tuple(dropped(columns) for columns in chances),
    )


def _lowest(matters: Floats, groups: Integers, most: int) -> tuple[int, ...]:
    """Return the columns of the groups of least total attribution, `most` columns at most."""
    chosen: list[int] = []
    totals = np.bincount(groups, weights=matters)
    for group in np.argsort(totals, kind="stable"):
        members = np.flatnonzero(groups == group).tolist()
        if len(chosen) + len(members) > most:
            break
        chosen += members
    return tuple(sorted(chosen))


def _refitted(make: Callable[[], Classifier], fold: Fold, columns: Sequence[int], seed: int) -> Floats:
    model = make()
    model.fit(with_columns(fold.train, columns), with_columns(fold.valid, columns), seed=seed)
    return losses_of(model, with_columns(fold.judged, columns))

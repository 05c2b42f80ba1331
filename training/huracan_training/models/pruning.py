"""Leave out features that do not matter, and show that this beats leaving out as many by chance (DOMAIN §7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from huracan.errors import BadInput
from huracan_training.chance import generator
from huracan_training.models.boosting import Boosting
from huracan_training.models.inputs import Question, all_labels, covered
from huracan_training.models.tuning import Fold
from huracan_training.samples import Classifier, Floats, Integers, Rows, Sample

_ALIKE = 0.9
_RANDOM_DROPS = 3

Attribute = Callable[[Fold, int], Floats]
"""A fold and a seed → how much each column matters, shape (columns,)."""


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


def by_boosting(question: Question) -> Attribute:
    """Return attribution by exact Shapley values of boosted trees, on the validation part (DOMAIN §7)."""

    def attribute(fold: Fold, seed: int) -> Floats:
        model = Boosting(question)
        model.fit(fold.train, fold.valid, seed=seed)
        weights = [len(sample.at) for sample in fold.valid]
        return np.average([model.attribution(sample) for sample in fold.valid], axis=0, weights=weights)

    return attribute


def by_permutation(make: Callable[[], Classifier]) -> Attribute:
    """Return attribution of any model: the rise of its log loss on the validation part when the bars of a column
    are shuffled within each asset (Breiman 2001)."""

    def attribute(fold: Fold, seed: int) -> Floats:
        model = make()
        model.fit(fold.train, fold.valid, seed=seed)
        whole = _losses(model, fold.valid).mean()
        columns = fold.valid[0].series.rows.shape[1]
        rng = generator(seed, "permutation")
        rises = [_losses(model, _shuffled(fold.valid, column, rng)).mean() - whole for column in range(columns)]
        return np.array(rises)

    return attribute


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
    attribute: Attribute,
    fold: Fold,
    *,
    share: float,
    block: int,
    seed: int,
) -> Pruning:
    """Return what dropping the least of the groups costs, and what as many columns by chance do.

    `share` of the columns, in (0, 1), may go; alike columns go together, so that it may be fewer. `block` is how
    many neighbouring positions count as one observation of the loss: at least the horizon.
    """
    if not 0 < share < 1:
        raise BadInput(f"share was {share}; choose between 0 and 1, DOMAIN has 0.2 to 0.3")
    matters = attribute(fold, seed)
    groups = alike_columns(fold.train)
    lowest = _lowest(matters, groups, int(share * len(matters)))
    if not lowest:
        raise BadInput(f"share {share} of {len(matters)} columns left no group to drop; choose a larger one")
    whole = _refitted(make, fold, range(len(matters)), seed)
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
    return _losses(model, with_columns(fold.judged, columns))


def _losses(model: Classifier, samples: Sequence[Sample]) -> Floats:
    labels = all_labels(samples)
    answers = np.concatenate([model.predict(sample) for sample in samples])
    losses: Floats = -np.log(answers[np.arange(len(labels)), labels])
    return losses

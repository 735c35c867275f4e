"""What a target's rows have in common with those that a source's features put beside them: kNN and PARC.

Both look at all pairs of rows: time grows with the square of the rows, and PARC's memory too (some 3 GB at 10,000).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from layover.select.estimator import Array, Labels, OfFeatures, centred, each

NEIGHBOURS = 5
BLOCK = 1024  # rows whose distances are in memory at once
SAME = 1e-9  # of the largest square: distances that differ by less are equal, whatever order they were computed in
DIGITS = 10


def knn(features: Array, labels: Labels) -> float:
    """How well the five nearest other rows foretell each row's label, by features [n, d].

    Renggli et al. 2022 ("Which model to transfer? Finding the needle in the growing haystack", CVPR) with one
    neighbour, Garbas et al. 2024 (TransformerRanker) with several: of classes the share of rows that the vote gets
    right, from 0 to 1; of values 1 - sum (y - mean of neighbours)^2 / sum (y - mean of others)^2, at most 1, and 0 for
    no better than the mean. Distances are Euclidean. All rows at the distance of the fifth have a vote; classes with as
    many votes share the row.
    """
    votes = _neighbours(features, labels.targets)
    if labels.kind == "classes":
        most = votes >= votes.max(1, keepdims=True) - SAME
        right = most[np.arange(len(votes)), labels.codes]
        return float((right / most.sum(1)).mean())
    values, n = labels.targets[:, 0], len(votes)
    others = (values.sum() - values) / (n - 1)
    return float(1 - ((values - votes[:, 0]) ** 2).sum() / ((values - others) ** 2).sum())


def _neighbours(features: Array, targets: Array) -> Array:
    """The mean of `targets` [n, k] over every row's nearest other rows."""
    moved = centred(features)
    squares, nearest = (moved**2).sum(1), min(NEIGHBOURS, len(moved) - 1)
    found = np.empty_like(targets)
    for begin in range(0, len(moved), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(moved)))
        distances = squares[rows, None] + squares - 2 * moved[rows] @ moved.T
        distances[np.arange(len(rows)), rows] = np.inf
        furthest = np.partition(distances, nearest - 1, axis=1)[:, nearest - 1, None]
        near = (distances <= furthest + SAME * squares.max()).astype(np.float64)
        found[rows] = near @ targets / near.sum(1, keepdims=True)
    return found


def parc(features: Array, labels: Labels) -> float:
    """Whether rows of one class have like features [n, d]: a rank correlation, from -1 to 1, 0 for no relation.

    Bolya et al. 2021 ("Scalable diverse model selection for accessible transfer learning", NeurIPS): over all pairs of
    rows, Spearman's correlation of 1 - r of their features, r being Pearson's correlation over the d features, and the
    same of their classes as one-hot vectors, which is one of two numbers. The paper multiplies it by 100. A row whose
    features are all equal is correlated with none. nan where no two rows have one class.
    """
    from scipy.stats import rankdata

    first, second = np.triu_indices(len(features), 1)
    other = labels.codes[first] != labels.codes[second]
    apart = (1 - _correlations(features))[first, second].round(DIGITS)
    if not other.any() or other.all():
        return np.nan
    ranks: NDArray[np.float64] = rankdata(apart)
    if np.ptp(ranks) == 0:
        return 0.0
    ranks -= ranks.mean()
    share = other.mean()
    return float((ranks[other].mean() - ranks[~other].mean()) * np.sqrt(share * (1 - share)) / ranks.std())


def _correlations(features: Array) -> Array:
    """Pearson's correlations [n, n] between rows; 0 for a row of equal numbers."""
    moved = features - features.mean(1, keepdims=True)
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    constant = norms[:, 0] <= 1e-12 * np.linalg.norm(features, axis=1)
    scaled = np.where(constant[:, None], 0, moved / np.where(constant[:, None], 1, norms))
    return scaled @ scaled.T


KNN = OfFeatures("knn", "Renggli et al. 2022, nearest neighbours (CVPR)", each(knn), values=True)
PARC = OfFeatures("parc", "Bolya et al. 2021, PARC (NeurIPS)", each(parc))

"""Maps: what training on a source did to the encoder, as one linear map (an embedding space map, ESM).

Schulte et al. 2024: where f is the plain encoder and f_s a source's, f_s(x) is about W f(x) + b. The map is fitted on
rows of the source, kept in the place of its encoder, and applied to a target's plain vectors: with it a source costs a
product of matrices instead of a pass. The paper trains the map by gradient descent; here it is the ridge regression in
closed form, whose strength is chosen by generalised cross-validation (Golub et al. 1979), 0 included.

What is mapped are vectors of the encoder's width, as the source's head reads them: an input's pooled vector, and of
stretches of text each one's own. A target's case that is several of them end to end is mapped part by part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.select.sources import Source
from layover.select.target import Target
from layover.select.vectors import features_of, rows_of

RIDGES = (0.0, *(10.0**power for power in range(-10, 1)))  # strengths, as shares of the largest eigenvalue


@dataclass(frozen=True, eq=False)
class Fitted:
    """A linear map with its offset in the last row, `weights` [d + 1, d], and how it was found.

    `left` is the share of the trained vectors' variance that it does not explain, by generalised cross-validation.
    """

    weights: NDArray[np.float32]
    ridge: float
    left: float


def fit(plain: NDArray[Any], trained: NDArray[Any]) -> Fitted:
    """The map from plain vectors [n, d] to trained ones [n, d]; raises ValueError where there are fewer than 3.

    Directions in which the plain vectors do not vary are mapped to nothing.
    """
    if len(plain) < 3:
        raise ValueError(f"a map is fitted to 3 vectors or more, not to {len(plain)}")
    x, y = np.asarray(plain, np.float64), np.asarray(trained, np.float64)
    mean_x, mean_y = x.mean(0), y.mean(0)
    left, sizes, right = np.linalg.svd(x - mean_x, full_matrices=False)
    there = sizes > np.linalg.norm(x) * max(x.shape) * np.finfo(np.float64).eps  # no more than rounding is nothing
    left, sizes, right = left[:, there], sizes[there], right[there]
    along = left.T @ (y - mean_y)
    each = np.square(along).sum(1)
    whole = float(np.square(y - mean_y).sum())
    outside = max(0.0, whole - float(each.sum()))  # what no map of these vectors reaches
    scores = [_left(ridge * float(sizes.max(initial=0.0)) ** 2, sizes, each, outside, len(x)) for ridge in RIDGES]
    best = int(np.argmin(scores))
    shrunk = sizes / (np.square(sizes) + RIDGES[best] * float(sizes.max(initial=0.0)) ** 2)
    weights = right.T @ (shrunk[:, None] * along)
    found = np.vstack([weights, mean_y - mean_x @ weights]).astype(np.float32)
    return Fitted(found, RIDGES[best], scores[best] * len(x) / whole if whole else 0.0)


def _left(ridge: float, sizes: NDArray[Any], each: NDArray[Any], outside: float, n: int) -> float:
    """The generalised cross-validation score: the mean squared error, corrected for the degrees of freedom."""
    kept = np.square(sizes) / (np.square(sizes) + ridge)
    free = 1 - (1 + kept.sum()) / n  # the offset is one degree
    if free <= 1e-9:  # as many directions as vectors: anything is fitted, and nothing is known of the error
        return np.inf
    return (outside + float((np.square(1 - kept) * each).sum())) / n / free**2


def applied(weights: NDArray[Any], vectors: NDArray[Any]) -> NDArray[Any]:
    """What a map [d + 1, d] makes of vectors [..., d]."""
    return vectors @ weights[:-1] + weights[-1]


def widened(weights: NDArray[np.float32], parts: int) -> NDArray[np.float32]:
    """The map [parts d + 1, parts d] of vectors that are so many end to end, each mapped by itself."""
    blocks = np.kron(np.eye(parts, dtype=np.float32), weights[:-1])
    return np.vstack([blocks, np.tile(weights[-1:], parts)])


def map_of(target: Target, source: Source) -> Fitted:
    """The map of a source, fitted to its own rows, or out of the store, where it is kept as features are.

    It does not depend on the target but for how rows are read. Raises TaskError where the source's data is not here,
    and what `vectors` raises.
    """
    from layover.train import cache, cases, features, frozen

    data, reading, trained = rows_of(target, source), target.reading, source.frozen(target.encoder.location)
    made_of = {
        **features.made_from(data, data.train, trained, reading.max_length, reading.precision),
        **cache.examples_of(data, data.train, frozen, *frozen.CODE, cases, sys.modules[__name__]),
        "kind": "map", "pooling": reading.pooling, "cases": reading.cases, "seed": reading.seed,
    }  # fmt: skip

    def write() -> tuple[dict[str, Any], Iterable[Any]]:
        before, after = (_blocks(target, encoder, data) for encoder in (target.plain, trained))
        fitted = fit(before, after)
        facts = {"cases": len(before), "ridge": fitted.ridge, "left": fitted.left}
        return facts, [{"weights": fitted.weights}]

    kept = cache.once(target.store, made_of, write)
    return Fitted(np.array(kept.columns["weights"]), kept.facts["ridge"], kept.facts["left"])


def _blocks(target: Target, encoder: Any, data: Any) -> NDArray[np.float32]:
    """The last layer's vectors [n, width] of the cases in a source's rows, each part of a case by itself."""
    from layover.train import cases

    read, reading = features_of(target, encoder, data), target.reading
    found = cases.cases_of(data.task, read.encoded, reading.cases, reading.seed)
    return cases.vectors(read, found, data.task, reading.pooling)[-1].reshape(-1, read.width)

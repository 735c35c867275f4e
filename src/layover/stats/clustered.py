"""Clustered: correlation over source x restart points, whose restarts share a source and so are not independent.

Arrays are [sources, restarts] with NaN where there is no value. A p-value from t takes every point as independent of
the others; `permutation_p` deals whole sources out anew, with all of their restarts, as blocks.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from layover.metrics import Array

Method = Literal["spearman", "pearson"]
SEED = 20_200_711
EXACT = 7  # with so many sources at most, every order of them is looked at: 5,040
ORDERS = 9_999  # orders that are drawn where there are more
FEWEST = 3  # points of which a correlation is said


def arranged(*tables: Array) -> tuple[Array, ...]:
    """The tables with their sources in an order that depends on values alone, so that no name moves a number."""
    keys = np.nan_to_num(np.concatenate(tables, axis=1), nan=-np.inf)
    order = sorted(range(len(keys)), key=lambda row: tuple(keys[row]))
    return tuple(table[order] for table in tables)


def coefficient(y: Array, x: Array, method: Method) -> tuple[float | None, int]:
    """The correlation over points with both values, and their number.

    None where fewer than three points are left, or one side is the same at all of them.
    """
    y, x = _complete(y, x)
    if len(y) < FEWEST or np.ptp(y) == 0 or np.ptp(x) == 0:
        return None, len(y)
    return _pearson(_ranks(y), _ranks(x)) if method == "spearman" else _pearson(y, x), len(y)


def t_test(r: float | None, n: int, given: int = 0) -> float | None:
    """The two-sided p-value of a correlation of n points that are independent, `given` covariates held."""
    freedom = n - 2 - given
    if r is None or freedom < 1:
        return None
    if abs(r) >= 1:
        return 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(r) * math.sqrt(freedom / (1 - r * r))))


def permutation_p(y: Array, x: Array, method: Method) -> float | None:
    """The two-sided p-value of a correlation where sources, with their restarts, are dealt out anew as blocks.

    Exact for seven sources or fewer, else from 9,999 orders, with one added above and below. Values that are missing
    move with their source, and ranks are those among all values of a side, so that they do not depend on the order. An
    order that leaves no correlation counts as one that is as strong.
    """
    if coefficient(y, x, method)[0] is None:
        return None
    if method == "spearman":
        y, x = (_ranks(side) for side in (y, x))
    dealt, exact = orders(len(y))
    strengths = _dealt(y, x, dealt)
    own = _dealt(y, x, np.arange(len(y))[None])[0]
    as_strong = int((strengths >= own - 1e-9).sum())
    return as_strong / len(dealt) if exact else (as_strong + 1) / (len(dealt) + 1)


def leave_one_out(y: Array, x: Array, method: Method) -> tuple[float | None, float | None]:
    """The lowest and the highest correlation with one source left out."""
    found = [coefficient(np.delete(y, one, 0), np.delete(x, one, 0), method)[0] for one in range(len(y))]
    known = [r for r in found if r is not None]
    return (min(known), max(known)) if known else (None, None)


def held(y: Array, x: Array, given: Array, method: Method) -> tuple[Array, Array]:
    """What is left of y and x (of their ranks, for Spearman) once `given` is held: residuals of linear regressions.

    Pearson's correlation of the two is the partial correlation. A point needs all three values.
    """
    known = ~(np.isnan(y) | np.isnan(x) | np.isnan(given))
    sides = (np.where(known, side, np.nan) for side in (y, x, given))
    y, x, z = (_ranks(side) for side in sides) if method == "spearman" else sides
    design = np.column_stack([np.ones(known.sum()), z[known]])
    return _residuals(y, known, design), _residuals(x, known, design)


@lru_cache(maxsize=8)
def orders(count: int) -> tuple[NDArray[np.int64], bool]:
    """Orders [orders, count] of so many sources, and whether these are all that there are."""
    if count <= EXACT:
        return np.array(list(itertools.permutations(range(count))), dtype=np.int64).reshape(-1, count), True
    rng = np.random.default_rng([SEED, count])
    return rng.permuted(np.tile(np.arange(count), (ORDERS, 1)), axis=1), False


def _dealt(y: Array, x: Array, dealt: NDArray[np.int64]) -> Array:
    """The strength of the correlation [orders] where source i of y meets source `dealt[:, i]` of x.

    All sums are over points that both have, so each is a product of tables [sources, sources] read along an order.
    """
    place = np.arange(len(y))
    in_y, in_x = ((~np.isnan(side)).astype(float) for side in (y, x))
    y, x = (np.where(known > 0, side - np.nanmean(side), 0.0) for side, known in ((y, in_y), (x, in_x)))

    def total(left: Array, right: Array) -> Array:
        return (left @ right.T)[place, dealt].sum(1)

    if in_y.all() and in_x.all():  # all sums but one are the same for every order
        return np.abs(total(y, x)) / np.sqrt((y * y).sum() * (x * x).sum())
    n, sum_y, sum_x = total(in_y, in_x), total(y, in_x), total(in_y, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (total(y * y, in_x) - sum_y**2 / n) * (total(in_y, x * x) - sum_x**2 / n)
        found = np.abs(total(y, x) - sum_y * sum_x / n) / np.sqrt(spread)
    told = (n >= FEWEST) & (spread > 1e-12 * max(1.0, float((y * y).sum() * (x * x).sum())))
    return np.where(told, found, np.inf)


def _complete(y: Array, x: Array) -> tuple[Array, Array]:
    known = ~(np.isnan(y) | np.isnan(x))
    return y[known], x[known]


def _ranks(values: Array) -> Array:
    """Ranks of what is not NaN, ties sharing their mean."""
    known, ranks = ~np.isnan(values), np.full(values.shape, np.nan)
    # half of the time that 250 tests took went into scipy's rankdata, which does the same
    _, place, counts = np.unique(values[known], return_inverse=True, return_counts=True)
    ranks[known] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


def _pearson(y: Array, x: Array) -> float:
    y, x = y - y.mean(), x - x.mean()
    return float(np.clip((y @ x) / np.sqrt((y @ y) * (x @ x)), -1, 1))


def _residuals(side: Array, known: NDArray[np.bool_], design: Array) -> Array:
    """A side less what the columns of `design` foretell of it; exactly 0 where nothing but rounding is left."""
    fitted = design @ np.linalg.lstsq(design, side[known], rcond=None)[0]
    left = side[known] - fitted
    rest = np.full(side.shape, np.nan)
    rest[known] = np.where(np.abs(left) <= 1e-9 * max(1.0, float(np.abs(side[known]).max())), 0.0, left)
    return rest

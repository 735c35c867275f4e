"""Correlation over blocks of restarts: against scipy, statsmodels and enumeration by hand."""

# pyright: reportArgumentType=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from layover.stats.clustered import (
    arranged,
    coefficient,
    held,
    leave_one_out,
    orders,
    permutation_p,
    t_test,
)  # fmt: skip

NAN = math.nan
REFERENCE = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


def drawn(sources: int, restarts: int, seed: int, missing: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = rng.normal(size=(2, sources, restarts)).round(1)
    for side in (y, x):
        side.flat[rng.permutation(side.size)[:missing]] = NAN
    return y, x


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@given(seed=st.integers(0, 10_000), missing=st.integers(0, 3))
def test_r_and_p_are_scipys_on_the_points_that_both_have(method, seed, missing) -> None:
    y, x = drawn(5, 3, seed, missing)
    known = ~np.isnan(y + x)
    r, n = coefficient(y, x, method)
    expected = REFERENCE[method](y[known], x[known])
    assert n == known.sum()
    assert r == pytest.approx(expected.statistic)
    assert t_test(r, n) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_constants_and_too_few_points_have_no_correlation(method) -> None:
    y = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert coefficient(y, np.full((2, 2), 50.0), method) == (None, 4)
    assert coefficient(y, np.array([[1.0, NAN], [3.0, NAN]]), method) == (None, 2)
    assert permutation_p(y, np.full((2, 2), 50.0), method) is None
    assert leave_one_out(y, np.full((2, 2), 50.0), method) == (None, None)
    assert t_test(None, 4) is None
    assert t_test(0.5, 2) is None
    assert t_test(1.0, 5) == 0


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("seed", range(4))
def test_few_sources_are_dealt_out_in_every_order_as_by_hand(method, seed) -> None:
    y, x = drawn(4, 3, seed)
    own = abs(REFERENCE[method](y.ravel(), x.ravel()).statistic)
    found = [
        abs(REFERENCE[method](y.ravel(), x[list(order)].ravel()).statistic)
        for order in itertools.permutations(range(4))
    ]
    assert permutation_p(y, x, method) == sum(one >= own - 1e-9 for one in found) / 24


def test_many_sources_are_dealt_out_at_random_and_the_p_of_independent_points_is_near_that_of_t() -> None:
    y, x = drawn(30, 1, 3)
    x += 0.4 * y
    assert orders(30)[0].shape == (9_999, 30)
    assert not orders(30)[1]
    assert permutation_p(y, x, "pearson") == pytest.approx(stats.pearsonr(y.ravel(), x.ravel()).pvalue, abs=0.02)


def test_restarts_that_repeat_their_source_add_nothing() -> None:
    """Ten restarts that are one and the same value: t believes 60 points, the clustered p only six."""
    y, x = drawn(6, 1, 12)
    y, x = np.repeat(y, 10, 1), np.repeat(x + 0.8 * y, 10, 1)
    r, n = coefficient(y, x, "pearson")
    assert n == 60
    assert t_test(r, n) < 0.001
    assert permutation_p(y, x, "pearson") == permutation_p(y[:, :1], x[:, :1], "pearson") > 0.02


def test_under_the_null_blocks_reject_at_their_rate_and_points_far_above_it() -> None:
    rng, blocks, apart = np.random.default_rng(1), 0, 0
    for _ in range(300):
        y, x = rng.normal(size=(2, 6, 1)) + 0.1 * rng.normal(size=(2, 6, 4))
        blocks += permutation_p(y, x, "spearman") < 0.05
        apart += t_test(*coefficient(y, x, "spearman")) < 0.05
    assert blocks < 0.08 * 300  # 5 % and three standard errors of 300 tries
    assert apart > 0.3 * 300


def test_missing_points_move_with_their_source() -> None:
    y, x = drawn(4, 2, 5)
    y[1, 0] = x[2, 1] = NAN
    own = abs(np.corrcoef(y[~np.isnan(y + x)], x[~np.isnan(y + x)])[0, 1])
    as_strong = 0
    for order in itertools.permutations(range(4)):
        moved = x[list(order)]
        known = ~np.isnan(y + moved)
        as_strong += abs(np.corrcoef(y[known], moved[known])[0, 1]) >= own - 1e-9
    assert permutation_p(y, x, "pearson") == as_strong / 24


def test_the_range_with_one_source_left_out_is_scipys() -> None:
    y, x = drawn(5, 3, 9)
    each = [stats.spearmanr(np.delete(y, i, 0).ravel(), np.delete(x, i, 0).ravel()).statistic for i in range(5)]
    assert leave_one_out(y, x, "spearman") == (pytest.approx(min(each)), pytest.approx(max(each)))


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_the_partial_correlation_is_that_of_a_regression_with_the_covariate(method, seed) -> None:
    y, x = drawn(6, 3, seed, missing=2)
    z = np.random.default_rng(seed + 1).integers(2, size=y.shape).astype(float)
    known = ~np.isnan(y + x)
    if np.ptp(z[known]) == 0:
        return
    left, right = held(y, x, z, method)
    r, n = coefficient(left, right, "pearson")
    a, b, c = (stats.rankdata(v[known]) if method == "spearman" else v[known] for v in (y, x, z))
    ab, ac, bc = (np.corrcoef(*pair)[0, 1] for pair in ((a, b), (a, c), (b, c)))
    assert r == pytest.approx((ab - ac * bc) / math.sqrt((1 - ac**2) * (1 - bc**2)))
    fitted = sm.OLS(a, sm.add_constant(np.column_stack([b, c]))).fit()
    assert t_test(r, n, given=1) == pytest.approx(fitted.pvalues[1])


def test_what_the_covariate_foretells_wholly_has_no_partial_correlation() -> None:
    y, _ = drawn(4, 2, 1)
    z = np.array([[0.0, 0], [0, 0], [1, 1], [1, 1]])
    assert coefficient(*held(y, 3 - 2 * z, z, "pearson"), "pearson")[0] is None


@given(seed=st.integers(0, 1000), order=st.permutations(range(9)))
def test_the_order_of_sources_moves_no_number(seed, order) -> None:
    y, x = drawn(9, 2, seed, missing=1)
    one, other = arranged(y, x), arranged(y[order], x[order])
    assert np.array_equal(one[0], other[0], equal_nan=True)
    assert permutation_p(*one, "spearman") == permutation_p(*other, "spearman")

"""Intervals against what is known exactly: Student's t over seeds, a mean over examples, and what lies between."""

# pyright: reportArgumentType=false, reportOptionalOperand=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOperatorIssue=false
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from layover.stats.interval import Noise, Paired, effect, noise


def crossed(rng, seeds, rows, between=1.0, examples=10.0, both=20.0, mean=0.0):
    """Differences of seeds on rows, as their two-way layout makes them: one task."""
    table = mean + between * rng.normal(size=seeds) + examples * rng.normal(size=(rows, 1))
    table = table + both * rng.normal(size=(rows, seeds))
    return Paired(tuple(range(seeds)), table.mean(0), table - table.mean(0))


def found(*tasks, basis="seeds and examples"):
    return effect(float(np.mean([task.deltas.mean() for task in tasks])), tasks, basis)


def alone(*deltas, seeds=None):
    return Paired(seeds or tuple(range(len(deltas))), np.array(deltas, float), None)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8).filter(lambda values: len(set(values)) > 1))
def test_scores_alone_give_the_paired_t_test(deltas) -> None:
    one = found(alone(*deltas), basis="seeds")
    theirs = stats.ttest_1samp(deltas, 0)
    assert one.p == pytest.approx(float(theirs.pvalue), abs=1e-12)
    assert (one.low, one.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_one_seed_gives_the_t_test_over_examples() -> None:
    task = crossed(np.random.default_rng(1), 1, 40, mean=3.0)
    theirs = stats.ttest_1samp(task.influences[:, 0] + task.deltas[0], 0)
    one = found(task, basis="examples")
    assert one.p == pytest.approx(float(theirs.pvalue))
    assert (one.low, one.high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))


def test_many_seeds_leave_what_examples_add() -> None:
    task = crossed(np.random.default_rng(2), 3000, 50, between=0.1, examples=30.0, both=1.0)
    one = found(task)
    over_rows = (task.influences + task.deltas).mean(1)
    half = stats.t.ppf(0.975, 49) * over_rows.std(ddof=1) / np.sqrt(50)
    assert one.high - one.low == pytest.approx(2 * half, rel=0.01)


def test_the_parts_are_those_of_a_two_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    table = 4 * rng.normal(size=6) + 9 * rng.normal(size=(80, 1)) + 15 * rng.normal(size=(80, 6))
    mean, rows, columns = table.mean(), table.mean(1, keepdims=True), table.mean(0)
    residual = ((table - rows - columns + mean) ** 2).sum() / (79 * 5)
    between_rows = 6 * ((rows - mean) ** 2).sum() / 79
    known = noise([Paired(tuple(range(6)), columns, table - columns)])
    assert known.interaction == pytest.approx(residual / (80 * 6))
    assert known.examples == pytest.approx((between_rows - residual) / 6 / 80)
    assert known.seeds == pytest.approx(columns.var(ddof=1) / 6)
    assert (known.seeds_df, known.examples_df) == (5, 79)


@pytest.mark.parametrize("between, examples, both", [(3.0, 10.0, 20.0), (0.0, 0.0, 20.0), (2.0, 30.0, 0.0)])
def test_the_variance_is_that_of_the_mean_over_new_seeds_and_examples(between, examples, both) -> None:
    rng = np.random.default_rng(4)
    tasks = [crossed(rng, 4, 60, between, examples, both) for _ in range(1500)]
    true = between**2 / 4 + examples**2 / 60 + both**2 / 240
    assert np.var([task.deltas.mean() for task in tasks]) == pytest.approx(true, rel=0.12)
    foretold = [noise([task]).error ** 2 for task in tasks]
    assert np.mean(foretold) == pytest.approx(true, rel=0.15)  # a negative part counts as none, which adds a little


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.integers(1, 30), st.integers(2, 5000), st.floats(1e-4, 0.5))
def test_p_is_at_the_level_where_the_interval_ends(seeds, examples, seeds_df, examples_df, level) -> None:
    known = Noise(seeds, seeds_df, examples, examples_df, 0.0)
    assert known.p(known.critical(level)) == pytest.approx(level, rel=1e-4)
    single = sorted(float(stats.t.isf(level / 2, df)) for df in (seeds_df, examples_df))
    assert 0.999 * single[0] <= known.critical(level) <= 1.001 * single[1]


@given(st.integers(0, 10_000))
def test_p_is_under_the_level_where_nothing_lies_outside_the_interval(seed) -> None:
    rng = np.random.default_rng(seed)
    one = found(crossed(rng, 3, 50, mean=6.0))
    assert 0 < one.p <= 1
    assert (one.p < 0.05) == (not one.low <= 0 <= one.high)


def test_seeds_that_targets_share_count_together_and_others_apart() -> None:
    up = (-4.0, 0.0, 4.0)
    together = noise([alone(*up), alone(*up)])
    assert (together.seeds, together.seeds_df) == (pytest.approx(16 / 3), 2)
    opposed = noise([alone(*up), alone(*up[::-1])])
    assert opposed.seeds == 0
    apart = noise([alone(*up), alone(*up[::-1], seeds=(3, 4, 5))])
    assert (apart.seeds, apart.seeds_df) == (pytest.approx(16 / 3 / 2), pytest.approx(4))


def test_targets_that_share_some_seeds_are_one_group() -> None:
    known = noise([alone(1, 2, 6), alone(2, 4, seeds=(1, 2))])
    first, second = np.array([-2, -1, 3]) / np.sqrt(6) / 2, np.array([0, -1, 1]) / np.sqrt(2) / 2
    assert known.seeds == pytest.approx(((first + second) ** 2).sum())
    assert known.seeds_df == 2


def test_examples_of_several_targets_add_up() -> None:
    rng = np.random.default_rng(5)
    tasks = [crossed(rng, 3, rows) for rows in (50, 80)]
    one, two, both = noise(tasks[:1]), noise(tasks[1:]), noise(tasks)
    assert both.examples == pytest.approx((one.examples + two.examples) / 4)
    assert both.examples_df == 49


@pytest.mark.parametrize("deltas, p", [((2.0, 2.0, 2.0), 0.0955), ((2.0,) * 10, 3.58e-6)])
def test_a_difference_that_never_varied_is_taken_as_if_one_seed_had_shown_none(deltas, p) -> None:
    one = found(alone(*deltas), basis="seeds")  # no variance: the t-test itself would say p = 0
    assert one.p == pytest.approx(p, rel=0.01)
    assert one.p == pytest.approx(2 * stats.t.sf(len(deltas), len(deltas) - 1))
    assert (one.low > 0) == (p < 0.05)


def test_no_difference_that_never_varied_is_none() -> None:
    one = found(alone(0, 0, 0), basis="seeds")
    assert (one.low, one.high, one.p) == (0, 0, 1)


def test_p_is_never_zero() -> None:
    rng = np.random.default_rng(6)
    task = Paired((0, 1), np.array([90.0, 90.0]), rng.normal(size=(10_000, 2)))
    assert found(task).p == 1e-16

"""Mean ranks against scipy, tables of Demsar 2006, and by hand."""

# pyright: reportArgumentType=false, reportOptionalOperand=false
from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f as f_distribution
from scipy.stats import friedmanchisquare, rankdata
from tests.stats.tables import row

from layover.stats.ranks import critical_difference, friedman, groups, ranks
from layover.stats.transfer import transfer


def table(columns, missing=()):
    """Two seeds of direct and of every source; `columns` is {source: difference on each target}."""
    rows = []
    for number in range(len(next(iter(columns.values())))):
        for seed in (0, 1):
            rows.append(row("direct", "", f"t{number}", seed, 50.0 + seed))
            rows += [
                row("stilts", source, f"t{number}", seed, 50.0 + seed + deltas[number])
                for source, deltas in columns.items()
                if (source, number) not in missing
            ]
    return rows


@settings(max_examples=50)
@given(st.integers(2, 8), st.integers(3, 6), st.integers(0, 10_000), st.booleans())
def test_friedmans_test_is_scipys_also_with_ties(targets, sources, seed, ties) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(3, size=(targets, sources)).astype(float) if ties else rng.normal(size=(targets, sources))
    placed = rankdata(scores, axis=1)
    chi2, f, p = friedman(placed)
    if np.ptp(placed, axis=1).max() == 0:
        assert (chi2, p) == (0, 1)
        return
    theirs = float(friedmanchisquare(*scores.T).statistic)
    assert chi2 == pytest.approx(theirs, abs=1e-9)
    rest = targets * (sources - 1) - theirs
    if rest > 1e-6:
        assert f == pytest.approx((targets - 1) * theirs / rest)
        least = 1 / math.factorial(sources) ** (targets - 1)
        assert p == pytest.approx(max(least, f_distribution.sf(f, sources - 1, (sources - 1) * (targets - 1))))


def test_the_example_of_demsar() -> None:
    # section 3.2.2: four classifiers on 14 data sets, mean ranks 3.143, 2.000, 2.893, 1.964: chi2 9.28, F 3.69
    means = np.array([3.143, 2.000, 2.893, 1.964])
    chi2 = 12 * 14 / (4 * 5) * ((means**2).sum() - 4 * 25 / 4)
    assert chi2 == pytest.approx(9.28, abs=0.02)
    assert 13 * chi2 / (14 * 3 - chi2) == pytest.approx(3.69, abs=0.02)
    # table 5: q at 0.05 is 1.960, 2.343, 2.569, 2.728, ... 3.164 for 2, 3, 4, 5, ... 10; the example's CD is 1.25
    for sources, q in ((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)):
        assert critical_difference(sources, 30) == pytest.approx(q * math.sqrt(sources * (sources + 1) / 180), abs=1e-3)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_ranks_of_sources_and_direct() -> None:
    (found,) = ranks(transfer(table({"mnli": [5, 4, 3, 2], "ccg": [-1, -2, 1, -4]})))
    assert found.ranks == {"mnli": 1.0, "direct": pytest.approx(2.25), "ccg": pytest.approx(2.75)}
    assert found.chi2 == pytest.approx(12 * 4 / 12 * (1 + 2.25**2 + 2.75**2 - 12))
    assert found.targets == ("t0", "t1", "t2", "t3")
    assert found.groups == (("mnli", "direct"), ("direct", "ccg"))  # CD is 1.66
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["ranks"]["mnli"] == 1


def test_ties_share_a_rank() -> None:
    (found,) = ranks(transfer(table({"mnli": [0.1 + 0.2, 2], "ccg": [0.3, 0]})))
    assert found.ranks == {"mnli": 1.25, "ccg": 2.0, "direct": 2.75}


def test_a_target_of_which_a_cell_is_missing_is_left_out() -> None:
    columns = {"mnli": [5, 4, 3, 2], "ccg": [-1, 9, -1, -4]}
    (found,) = ranks(transfer(table(columns, missing={("ccg", 1)})))
    assert (found.targets, found.left_out) == (("t0", "t2", "t3"), ("t1",))
    assert found.ranks == {"mnli": 1.0, "direct": 2.0, "ccg": 3.0}
    assert (found.f, found.p) == (math.inf, pytest.approx(1 / 36))  # one of six orders, twice more by chance
    assert found.to_json()["f"] is None


def test_one_source_is_told_apart_from_direct_or_not() -> None:
    (found,) = ranks(transfer(table({"mnli": [1] * 9 + [-1]})))
    assert found.ranks == {"mnli": pytest.approx(1.1), "direct": pytest.approx(1.9)}
    assert found.critical_difference == pytest.approx(1.96 * math.sqrt(6 / 60), abs=1e-3)
    assert found.groups == ()


def test_fewer_than_two_targets_tell_nothing() -> None:
    (found,) = ranks(transfer(table({"mnli": [5], "ccg": [1]})))
    assert (found.chi2, found.p, found.critical_difference, found.groups) == (None, None, None, ())
    (none,) = ranks(transfer(table({"mnli": [5], "ccg": [1]}, missing={("ccg", 0)}) + table({"ccg": [1]})[1:2]))
    assert none.targets == ("t0",) or none.ranks == {}


def test_groups_are_the_largest_ones() -> None:
    assert groups({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0}, 1.0) == (("a", "b"), ("b", "c"))
    assert groups({"a": 1.0, "b": 1.5, "c": 1.9}, 1.0) == (("a", "b", "c"),)

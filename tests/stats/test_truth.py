"""Conclusions against what is known: a published matrix, scipy, statsmodels, R, and what must not make a difference."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOperatorIssue=false
# pyright: reportOptionalOperand=false
from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel
from statsmodels.stats.multitest import multipletests
from tests.stats.tables import row, study

from layover.stats.contrast import contrast
from layover.stats.judge import adjust
from layover.stats.published import figure2
from layover.stats.ranks import ranks
from layover.stats.transfer import transfer

FIGURE = figure2()


def restarts(seed=0):
    """Three restarts of every run of the figure whose mean is its cell."""
    rng = np.random.default_rng(seed)
    for task, base in FIGURE.baseline.items():
        arms = [("direct", "", base), *(("stilts", s, base + d) for (s, t), d in FIGURE.delta.items() if t == task)]
        for strategy, source, mean in arms:
            around = rng.normal(size=3)
            around *= min(0.5, 100 - mean) / np.abs(around).max()
            values = mean + around - around.mean()
            for number, value in enumerate(np.minimum(values, 100)):
                yield row(strategy, source, task, number, value, role=FIGURE.roles[task])


def test_the_published_matrix_comes_out_with_its_row_of_averages() -> None:
    matrix = transfer(restarts()).matrix()
    assert (len(matrix.sources), len(matrix.targets("target")), len(matrix.targets("probing"))) == (11, 10, 25)
    assert matrix.baseline == pytest.approx(FIGURE.baseline, abs=1e-3)
    assert {pair: cell.delta for pair, cell in matrix.cells.items()} == pytest.approx(FIGURE.delta, abs=0.01)
    for source, printed in FIGURE.average.items():
        assert matrix.averages["target", source].delta == pytest.approx(printed, abs=0.11)  # both are rounded
        column = [d for (s, task), d in FIGURE.delta.items() if s == source and FIGURE.roles[task] == "probing"]
        assert matrix.averages["probing", source].delta == pytest.approx(np.mean(column), abs=0.01)
    told = transfer(restarts()).to_json()
    assert told["delta"]["RTE"]["CosmosQA"]["mean"] == pytest.approx(5.1, abs=0.01)
    assert set(told["delta"]["RTE"]["CosmosQA"]) == {"mean", "low", "high", "p", "p_adjusted", "n", "degenerate"}


def test_the_published_row_of_averages_is_the_mean_of_its_columns() -> None:
    for source, printed in FIGURE.average.items():
        column = [d for (s, task), d in FIGURE.delta.items() if s == source and FIGURE.roles[task] == "target"]
        assert len(column) == 10
        assert np.mean(column) == pytest.approx(printed, abs=0.1 + 1e-9)


def test_the_published_sources_fall_into_groups_by_rank() -> None:
    target, _ = ranks(transfer(restarts()))
    assert next(iter(target.ranks)) in ("CosmosQA", "HellaSwag")
    assert target.p < 1e-6
    assert not any({"CosmosQA", "CCG"} <= set(group) for group in target.groups)
    assert any({"CosmosQA", "direct"} <= set(group) for group in target.groups)


@settings(max_examples=10)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrections_are_those_of_statsmodels(p_values) -> None:
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh")):
        assert adjust(p_values, ours) == pytest.approx(multipletests(p_values, method=theirs)[1].tolist())


def test_corrections_are_those_of_p_adjust_in_r() -> None:
    p = [0.01, 0.02, 0.03, 0.04, 0.05]
    assert adjust(p, "holm") == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert adjust(p, "bh") == pytest.approx([0.05] * 5)
    p = [0.0021, 0.31, 0.0006, 0.049, 0.012, 0.31]
    # p.adjust(p, "holm"): 5 x 0.0021, 0.62, 6 x 0.0006, 3 x 0.049, 4 x 0.012, 0.62
    assert adjust(p, "holm") == pytest.approx([0.0105, 0.62, 0.0036, 0.147, 0.048, 0.62])
    # p.adjust(p, "BH"): 6/2 x 0.0021, 0.31, 6/1 x 0.0006, 6/4 x 0.049, 6/3 x 0.012, 0.31
    assert adjust(p, "bh") == pytest.approx([0.0063, 0.31, 0.0036, 0.0735, 0.024, 0.31])


VALUES = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=2, max_size=6)


@settings(max_examples=30)
@given(VALUES.filter(lambda pairs: len({a - b for a, b in pairs}) > 1))
def test_scores_alone_give_scipys_paired_t_test(pairs) -> None:
    rows = [row("direct", "", "rte", s, float(b)) for s, (_, b) in enumerate(pairs)]
    rows += [row("stilts", "mnli", "rte", s, float(a)) for s, (a, _) in enumerate(pairs)]
    rows += [row("direct", "", "cb", 0, 50.0)]  # numbers of which none is above 1 would be taken for shares
    cell = transfer(rows).matrix().cells["mnli", "rte"]
    stilts, direct = np.array(pairs, float).T
    assert cell.p == pytest.approx(float(ttest_rel(stilts, direct).pvalue), abs=1e-12)
    theirs = ttest_1samp(stilts - direct, 0).confidence_interval(0.95)
    assert (cell.low, cell.high) == pytest.approx(tuple(theirs))


EFFECTS = {("mnli", "rte"): 6.0, ("mnli", "cb"): 0.0, ("squad", "rte"): 0.0, ("squad", "cb"): -9.0}
ROWS, PREDICTIONS = study(EFFECTS, examples=60, noise=0.02)
CELLS = transfer(ROWS, PREDICTIONS.get).matrix().cells


def numbers(cell):
    return cell.delta, cell.low, cell.high, cell.p, cell.p_adjusted


@settings(max_examples=5)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_changes_no_cell(seed) -> None:
    shuffled = random.Random(seed).sample(ROWS, len(ROWS))
    assert transfer(shuffled, PREDICTIONS.get).matrix().cells == CELLS


@settings(max_examples=8)
@given(st.permutations(["aaa", "rte", "zz", "mnli2", "x_1"]))
def test_what_tasks_are_called_changes_no_cell(names) -> None:
    called = dict(zip(("rte", "cb", "mnli", "squad", ""), [*names[:4], ""], strict=True))
    renamed = [r | {"target": called[r["target"]], "source": called[r["source"]]} for r in ROWS]
    found = transfer(renamed, PREDICTIONS.get).matrix()
    for (source, target), cell in CELLS.items():
        assert numbers(found.cells[called[source], called[target]]) == pytest.approx(numbers(cell), rel=1e-9)
    before = transfer(ROWS, PREDICTIONS.get).matrix().averages["target", "mnli"]
    after = found.averages["target", called["mnli"]]
    assert (after.low, after.p) == (pytest.approx(before.low), pytest.approx(before.p))


@settings(max_examples=8)
@given(st.sampled_from(["aaa", "sst2", "zz"]), st.floats(-20, 20), st.sampled_from(["target", "probing"]))
def test_an_unrelated_task_changes_no_cell(name, effect, role) -> None:
    more, theirs = study({("mnli", name): effect, ("squad", name): 0.0}, examples=30, seed=9)
    rows = [*(r | {"role": "target"} for r in ROWS), *(r | {"role": role} for r in more)]
    found = transfer(rows, (PREDICTIONS | theirs).get).matrix().cells
    for pair, cell in CELLS.items():
        same = numbers if role == "probing" else lambda one: numbers(one)[:-1]  # another role is another family
        assert same(found[pair]) == same(cell)


def collapsing(where, count, n=4):
    rows = []
    for strategy, source in (("direct", ""), ("stilts", "mnli")):
        for seed in range(n):
            fell = strategy == where and seed < count
            status, value = ("degenerate: constant prediction", 47.0) if fell else ("ok", 62.0 + seed)
            rows.append(row(strategy, source, "copa", seed, value, status=status))
    return rows


@pytest.mark.parametrize(
    ("where", "count", "runs", "baselines", "verdict"),
    [("direct", 3, 0, 3, "collapse"), ("stilts", 3, 3, 0, "collapse"), ("direct", 1, 0, 1, "within noise"),
     ("stilts", 0, 0, 0, "within noise")],
)  # fmt: skip
def test_collapsed_runs_are_counted_by_arm_and_make_no_gain(where, count, runs, baselines, verdict) -> None:
    cell = transfer(collapsing(where, count)).matrix().cells["mnli", "copa"]
    assert (cell.degenerate_runs, cell.degenerate_baselines, cell.degenerate) == (runs, baselines, count)
    assert cell.verdict == verdict
    assert contrast(collapsing(where, count), ["stilts"]).rows == (cell,)


def test_a_gain_over_a_collapsed_baseline_goes_with_the_collapsed_runs() -> None:
    kept = transfer(collapsing("direct", 2)).matrix().cells["mnli", "copa"]
    left = transfer(collapsing("direct", 2), without_degenerate=True).matrix().cells["mnli", "copa"]
    assert kept.delta == pytest.approx(15.5 / 2)
    assert (left.delta, left.n, left.degenerate_baselines) == (0, 2, 0)

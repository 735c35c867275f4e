"""Runs on the rows that they share: what a row adds is what leaving it out takes away, for every metric and kind."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportOptionalSubscript=false, reportCallIssue=false
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.predicted import SUITING, again, of, predictions, repeated

from layover.metrics import METRICS
from layover.predictions import Predictions, texts
from layover.stats import align as module
from layover.stats.align import align


def two_runs(data, kind):
    """A run with two rows or more, and another that predicts some things as other examples of the first do."""
    run = data.draw(predictions(kind).filter(lambda found: len(set(found.rows)) > 1))
    order = data.draw(st.permutations(range(len(run))))
    return run, again(run, [run.predicted[i] for i in order])


def left_out(run, metric, groups):
    """Pseudo-values of the jackknife around their mean, each from a score computed anew."""
    rows = [row for group in groups for row in group]
    scores = np.array([metric.score(repeated(run, [row for row in rows if row not in group])) for group in groups])
    return (len(groups) - 1) * (scores.mean() - scores)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:A single label:UserWarning")
@pytest.mark.parametrize(("name", "kind"), SUITING)
@settings(max_examples=15)
@given(data=st.data())
def test_what_a_row_adds_is_what_leaving_it_out_takes_away(name, kind, data) -> None:
    runs, metric = two_runs(data, kind), METRICS[name]
    found = align(runs, metric)
    assert found is not None
    rows = sorted(set(runs[0].rows.tolist()))
    expected = np.stack([left_out(run, metric, [[row] for row in rows]) for run in runs], axis=1)
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_a_row_adds_to_a_mean_is_its_own_score() -> None:
    found = align([RUN], METRICS["accuracy"])
    right = 100.0 * (GOLD == PREDICTED)
    assert found[:, 0] == pytest.approx(right - right.mean())


def test_rows_of_a_metric_that_is_computed_anew_are_left_out_in_groups_where_they_are_many(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    run = of(*rng.normal(size=(2, 30)), 0, "value", rows=np.arange(30) * 7)
    monkeypatch.setattr(module, "GROUPS", 10)
    found = align([run], METRICS["pearson"])
    expected = left_out(run, METRICS["pearson"], [[7 * i, 7 * (i + 10), 7 * (i + 20)] for i in range(10)])
    assert found[:, 0] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["accuracy", "pearson"])
def test_runs_are_aligned_by_row_and_not_by_position(name) -> None:
    rng, kind = np.random.default_rng(5), "value" if name == "pearson" else "classes"
    gold, one, two = rng.integers(2, size=(3, 20)).astype(float)
    rows, shuffled = np.arange(5, 25), rng.permutation(20)
    first, second = (Predictions(rows, gold, side, 2, kind) for side in (one, two))
    moved = Predictions(rows[shuffled], gold[shuffled], two[shuffled], 2, kind)
    more = Predictions(np.arange(30), np.pad(gold, 5), np.pad(two, 5, constant_values=1), 2, kind)
    straight = align([first, second], METRICS[name])
    for other in (moved, more):
        assert straight == pytest.approx(align([first, other], METRICS[name]))
        assert straight == pytest.approx(align([other, first], METRICS[name])[:, ::-1])


def test_what_is_asked_about_a_row_is_aligned_by_part() -> None:
    rows, gold = [0, 0, 1, 1], [1.0, 0, 1, 0]
    straight = of(gold, [1.0, 1, 1, 0], kind="answers", rows=rows, parts=[0, 1, 0, 1])
    crossed = of([0.0, 1, 1, 0], [1.0, 1, 1, 0], kind="answers", rows=rows, parts=[1, 0, 0, 1])
    unnumbered = replace(straight, parts=None)
    assert align([straight, crossed], METRICS["f1a"]) is not None
    assert align([straight, unnumbered], METRICS["f1a"]) is None
    assert align([straight, replace(straight, parts=np.array([0, 1, 0, 2]))], METRICS["f1a"]) is None
    first = replace(straight, parts=np.zeros(4, np.int64))
    assert align([first, unnumbered], METRICS["f1a"]) is not None  # a file from before parts were written


GOLD, PREDICTED = np.array([0.0, 1] * 10), np.array([0.0] * 8 + [1] * 12)
RUN = of(GOLD, PREDICTED)


@pytest.mark.parametrize(
    "other",
    [
        None,
        replace(RUN, gold=1 - GOLD),
        replace(RUN, n_classes=3),
        replace(RUN, kind="answers"),
        replace(RUN, predicted=PREDICTED + 1),
        replace(RUN, predicted=PREDICTED - 2),
        replace(RUN, predicted=PREDICTED + 0.5),
        replace(RUN, predicted=np.full(20, np.nan)),
        replace(RUN, rows=RUN.rows + 100),
        replace(RUN, rows=RUN.rows + 19),  # one row in common
        replace(RUN, rows=RUN.rows // 2),
        of(GOLD[:10], PREDICTED[:10], rows=[0] * 10),
    ],
)
def test_runs_that_cannot_be_paired_by_row_are_not(other) -> None:
    assert align([RUN, replace(RUN, predicted=1 - PREDICTED)], METRICS["accuracy"]) is not None
    assert align([RUN, other], METRICS["accuracy"]) is None
    assert align([other, RUN], METRICS["accuracy"]) is None


def test_runs_of_other_kinds_that_cannot_be_paired_are_not() -> None:
    numbers = of([0.1, 0.2, 0.3], [1.0, 2, 4], 0, "value")
    assert align([numbers, numbers], METRICS["pearson"]) is not None
    assert align([numbers, replace(numbers, predicted=np.array([1, np.inf, 2]))], METRICS["pearson"]) is None
    assert align([numbers, replace(numbers, gold=np.array([0.1, 0.2, 0.4]))], METRICS["pearson"]) is None
    answers = of([("a b",), ("c",)], ["a b", "d"], 0, "text")
    assert align([answers, again(answers, ["a", "c"])], METRICS["token_f1"]) is not None
    assert align([answers, replace(answers, gold=texts([("a b", "e"), ("c",)]))], METRICS["token_f1"]) is None
    labels = of([[1, 0], [0, 1]], [[1, 1], [0, 1]], 2, "labels")
    assert align([labels, again(labels, [[0, 0], [0, 1]])], METRICS["micro_f1"]) is not None
    assert align([labels, replace(labels, gold=1 - labels.gold)], METRICS["micro_f1"]) is None
    gone = replace(RUN, predicted=np.full(20, -1.0))  # cut off, which is no reason not to pair
    assert align([RUN, gone], METRICS["accuracy"]) is not None
    assert align([replace(RUN, gold=-GOLD)], METRICS["accuracy"]) is None


def test_a_metric_that_does_not_suit_the_predictions_pairs_nothing() -> None:
    assert align([RUN], METRICS["f1a"]) is None
    assert align([RUN], METRICS["spearman"]) is None
    assert align([], METRICS["accuracy"]) is None

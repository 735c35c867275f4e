"""Runs on the rows that they share: scores of resamples are those of the rows themselves, for every metric and kind."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.predicted import SUITING, again, of, predictions, repeated

from layover.metrics import METRICS, Metric
from layover.predictions import Predictions, texts
from layover.stats import resample
from layover.stats.align import align
from layover.stats.resample import example_scores, full_scores


def two_runs(data, kind):
    """A run with two rows or more, and another that predicts some things as other examples of the first do."""
    run = data.draw(predictions(kind).filter(lambda found: len(set(found.rows)) > 1))
    order = data.draw(st.permutations(range(len(run))))
    return run, again(run, [run.predicted[i] for i in order])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning", "ignore:A single label:UserWarning")
@pytest.mark.parametrize(("name", "kind"), SUITING)
@settings(max_examples=15)
@given(data=st.data())
def test_scores_of_resamples_are_scores_of_the_repeated_rows(name, kind, data) -> None:
    runs, metric = two_runs(data, kind), METRICS[name]
    aligned = align(runs, metric)
    assert aligned is not None
    rows = sorted(set(runs[0].rows.tolist()))
    drawn = [data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=12)) for _ in range(3)]
    weights = np.array([[one.count(row) for row in rows] for one in drawn], np.uint8)
    expected = [[metric.score(repeated(run, one)) for run in runs] for one in drawn]
    assert aligned.score(weights) == pytest.approx(np.array(expected), abs=1e-6)
    assert full_scores(aligned).tolist() == pytest.approx([metric.score(run) for run in runs], abs=1e-6)
    assert aligned.units == len(rows)


@pytest.mark.parametrize("kind", ["classes", "labels", "text", "value"])
def test_resamples_are_drawn_from_the_rows(kind, monkeypatch) -> None:
    rng = np.random.default_rng(4)
    gold, predicted = (rng.integers(2, size=(30, 2)) for _ in range(2))
    name = {"classes": "accuracy", "labels": "exact_labels", "text": "exact_match", "value": "pearson"}[kind]
    if kind == "text":
        gold, predicted = texts([(str(a),) for a in gold[:, 0]]), texts([str(b) for b in predicted[:, 0]])
    elif kind != "labels":
        gold, predicted = gold[:, 0].astype(float), predicted[:, 0].astype(float)
    run = Predictions(np.repeat(np.arange(10), 3) * 7, gold, predicted, 0 if kind in ("text", "value") else 2, kind)
    aligned = align([run], METRICS[name])
    assert aligned is not None
    monkeypatch.setattr(resample, "HELD", 30)  # three resamples at a time
    found = example_scores(aligned, "rte", 50)
    times = resample._drawn("rte", 10, 0)[:50]
    assert times.sum(1).tolist() == [10] * 50
    expected = [METRICS[name].score(repeated(run, np.repeat(np.arange(10) * 7, one))) for one in times]
    assert found[:, 0] == pytest.approx(expected, abs=1e-6)


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
        crossed, turned = align([first, other], METRICS[name]), align([other, first], METRICS[name])
        weights = rng.integers(4, size=(6, 20))
        assert straight.score(weights) == pytest.approx(crossed.score(weights))
        assert straight.score(weights) == pytest.approx(turned.score(weights)[:, ::-1])


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


@pytest.mark.parametrize("size", [1, 2**23 + 1, 0.1])
def test_sums_are_exact_also_beyond_what_a_short_float_holds(size) -> None:
    def summands(run):
        return np.stack([size * (run.gold == run.predicted), np.ones(len(run))], axis=1)

    def difference_to_the_sum(sums):
        return sums[..., 0] - size * 2 * sums[..., 1]

    heavy = Metric("heavy", ("classes",), lambda run: 0.0, summands, difference_to_the_sum)
    aligned = align([of([0.0, 1, 1], [0.0, 1, 1])], heavy)
    assert aligned is not None
    found = aligned.score(np.array([[1, 1, 1], [0, 1, 2], [3, 0, 0]]))
    assert found[:, 0] == pytest.approx([-3 * size] * 3, rel=1e-12)

"""Metrics of classes against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics as sklearn
from tests.predicted import of, predictions, score

from layover.metrics import METRICS


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@settings(max_examples=50)
@given(predictions("classes"))
def test_classes_agree_with_scikit_learn_also_where_some_are_absent_or_not_predicted(run) -> None:
    gold, predicted, last = run.gold, run.predicted, run.n_classes - 1
    accuracy = sklearn.accuracy_score(gold, predicted)
    f1 = sklearn.f1_score(gold == last, predicted == last, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    each = [
        sklearn.f1_score(gold == c, predicted == c, zero_division=0.0)  # pyright: ignore[reportArgumentType]
        for c in range(run.n_classes)
    ]
    expected = {
        "accuracy": accuracy,
        "f1": f1,
        "accuracy_f1": (accuracy + f1) / 2,
        "macro_f1": np.mean(each),
        "mcc": sklearn.matthews_corrcoef(gold, predicted),
    }
    for name, value in expected.items():
        assert METRICS[name].score(run) == pytest.approx(100 * value), name


def test_values_worked_by_hand() -> None:
    gold, predicted = [1.0, 1, 1, 0, 0], [1.0, 1, 0, 0, 1]
    # 3 of 5 right; precision 2/3, recall 2/3; tp 2, tn 1, fp 1, fn 1: (2 - 1) / sqrt(3 * 3 * 2 * 2) = 1/6
    assert score("accuracy", gold, predicted) == pytest.approx(60)
    assert score("f1", gold, predicted) == pytest.approx(200 / 3)
    assert score("accuracy_f1", gold, predicted) == pytest.approx((60 + 200 / 3) / 2)
    assert score("mcc", gold, predicted) == pytest.approx(100 / 6)
    # the F1 of the negative class is 2 / 4
    assert score("macro_f1", gold, predicted) == pytest.approx((50 + 200 / 3) / 2)
    # a third class that nobody predicts and nothing is counts as 0, as in a bootstrap resample without it
    assert score("macro_f1", gold, predicted, 3) == pytest.approx((50 + 200 / 3) / 3)


def test_no_prediction_is_wrong_whatever_the_metric() -> None:
    # right, cut off, right, cut off: tp 1, fn 1, no fp
    gold, predicted = [1.0, 1, 0, 0], [1.0, -1, 0, -1]
    assert score("accuracy", gold, predicted) == 50
    assert score("f1", gold, predicted) == pytest.approx(200 / 3)
    assert score("macro_f1", gold, predicted) == pytest.approx(200 / 3)
    # covariance 2 * 4 - (2 * 1 + 2 * 1) = 4; spreads 16 - (1 + 1 + 4) = 10 and 16 - 8 = 8
    assert score("mcc", gold, predicted) == pytest.approx(400 / np.sqrt(80))
    for name in ("accuracy", "f1", "macro_f1", "accuracy_f1", "mcc"):
        assert score(name, gold, [-1.0] * 4) == 0


def test_choices_are_right_or_not() -> None:
    assert score("accuracy", [0.0, 3, 1, 2], [0.0, 3, 2, -1], 4, "choice") == 50


def test_all_positive_on_a_balanced_set_is_where_the_papers_say_chance_is() -> None:
    gold = [0.0, 1] * 10
    assert score("accuracy_f1", gold, [1.0] * 20) == pytest.approx(58.3, abs=0.05)
    assert score("accuracy_f1", gold, [0.0] * 20) == pytest.approx(25)


def test_mcc_of_a_large_set_does_not_overflow() -> None:
    counts = np.array([[90_000, 10_000], [20_000, 280_000]])  # [gold, predicted]
    gold, predicted = (np.repeat(side.ravel(), counts.ravel()).astype(float) for side in np.indices((2, 2)))
    expected = 100 * (9e4 * 2.8e5 - 1e4 * 2e4) / np.sqrt(1.1e5 * 2.9e5 * 1e5 * 3e5)
    mcc, run = METRICS["mcc"], of(gold, predicted)
    assert mcc.score(run) == pytest.approx(expected)
    assert mcc.from_sums is not None
    assert mcc.summands is not None
    assert mcc.from_sums(mcc.summands(run).sum(0)) == pytest.approx(expected)
    assert mcc.from_sums(np.array([90_000, 280_000, 100_000, 300_000, 110_000, 290_000])) == pytest.approx(expected)

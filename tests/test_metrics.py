"""Metrics against scikit-learn and scipy, by hand, and over confusion counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from layover.errors import TaskError
from layover.metrics import METRICS, fitting, get_metric

OF_CLASSES = [m for m in METRICS.values() if m.from_counts]


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    n_classes = draw(st.integers(2, 5))
    pairs = st.tuples(st.integers(0, n_classes - 1), st.integers(0, n_classes - 1))
    gold, predicted = zip(*draw(st.lists(pairs, min_size=1, max_size=40)), strict=True)
    return np.array(gold, float), np.array(predicted, float), n_classes


def counted(gold: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    return sklearn.confusion_matrix(gold, predicted, labels=list(range(n_classes)))


@given(predictions())
def test_score_equals_from_counts_also_where_classes_are_absent(case) -> None:
    gold, predicted, n_classes = case
    counts = counted(*case)
    for metric in OF_CLASSES:
        assert metric.from_counts is not None
        assert metric.from_counts(counts) == pytest.approx(metric.score(gold, predicted, n_classes)), metric.name


@given(st.lists(predictions(), min_size=1, max_size=4))
def test_from_counts_takes_many_tables_at_once(cases) -> None:
    tables = np.stack([np.pad(counted(*c), [(0, 5 - c[2])] * 2) for c in cases])
    for metric in OF_CLASSES:
        assert metric.from_counts is not None
        one_by_one = [float(metric.from_counts(table)) for table in tables]
        assert np.allclose(metric.from_counts(tables), one_by_one)
        assert metric.from_counts(tables[None]).shape == (1, len(cases))


@pytest.mark.filterwarnings("ignore:A single label was found:UserWarning")
@given(predictions())
def test_classes_agree_with_scikit_learn(case) -> None:
    gold, predicted, n_classes = case
    last = n_classes - 1
    f1 = sklearn.f1_score(gold == last, predicted == last, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    expected = {
        "accuracy": sklearn.accuracy_score(gold, predicted),
        "f1": f1,
        "accuracy_f1": (sklearn.accuracy_score(gold, predicted) + f1) / 2,
        "mcc": sklearn.matthews_corrcoef(gold, predicted),
    }
    for name, value in expected.items():
        assert METRICS[name].score(gold, predicted, n_classes) == pytest.approx(100 * value)


@given(st.lists(st.tuples(st.floats(-5, 5, width=16), st.floats(-5, 5, width=16)), min_size=3, max_size=30))
def test_correlations_agree_with_scipy(pairs) -> None:
    gold, predicted = (np.array(side, float) for side in zip(*pairs, strict=True))
    constant = np.ptp(gold) == 0 or np.ptp(predicted) == 0
    for name, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        ours = METRICS[name].score(gold, predicted, 0)
        if constant:
            assert ours == 0
        elif np.std(gold) > 1e-3 and np.std(predicted) > 1e-3:  # scipy warns on what is nearly constant
            statistic, _ = theirs(gold, predicted)
            assert ours == pytest.approx(100 * float(statistic), abs=1e-6)  # pyright: ignore[reportArgumentType]


def test_values_worked_by_hand() -> None:
    gold, predicted = np.array([1.0, 1, 1, 0, 0]), np.array([1.0, 1, 0, 0, 1])
    # 3 of 5 right; precision 2/3, recall 2/3; tp 2, tn 1, fp 1, fn 1: (2 - 1) / sqrt(3 * 3 * 2 * 2) = 1/6
    assert METRICS["accuracy"].score(gold, predicted, 2) == pytest.approx(60)
    assert METRICS["f1"].score(gold, predicted, 2) == pytest.approx(200 / 3)
    assert METRICS["accuracy_f1"].score(gold, predicted, 2) == pytest.approx((60 + 200 / 3) / 2)
    assert METRICS["mcc"].score(gold, predicted, 2) == pytest.approx(100 / 6)
    # the F1 of the negative class is 2 / 4
    assert METRICS["macro_f1"].score(gold, predicted, 2) == pytest.approx((50 + 200 / 3) / 2)
    # a third class that nobody predicts and nothing is counts as 0, as in a bootstrap resample without it
    assert METRICS["macro_f1"].score(gold, predicted, 3) == pytest.approx((50 + 200 / 3) / 3)
    assert METRICS["spearman"].score(np.array([1.0, 2, 3]), np.array([10.0, 30, 20]), 0) == pytest.approx(50)


def test_all_positive_on_a_balanced_set_is_where_the_papers_say_chance_is() -> None:
    gold = np.array([0.0, 1] * 10)
    assert METRICS["accuracy_f1"].score(gold, np.ones(20), 2) == pytest.approx(58.3, abs=0.05)
    assert METRICS["accuracy_f1"].score(gold, np.zeros(20), 2) == pytest.approx(25)


def test_constant_predictions_have_no_correlation() -> None:
    gold = np.array([0.1, 0.2, 0.4])
    for name in ("pearson", "spearman"):
        assert METRICS[name].score(gold, np.full(3, 0.1), 0) == 0
        assert METRICS[name].score(np.full(3, 0.1), gold, 0) == 0


def test_mcc_of_a_large_set_does_not_overflow() -> None:
    mcc = METRICS["mcc"].from_counts
    assert mcc is not None
    assert mcc(np.array([[90_000, 10_000], [20_000, 280_000]])) == pytest.approx(
        100 * (9e4 * 2.8e5 - 1e4 * 2e4) / np.sqrt(1.1e5 * 2.9e5 * 1e5 * 3e5)
    )


def test_metrics_that_suit_an_output() -> None:
    assert fitting("choice") == ["accuracy"]
    assert set(fitting("value")) == {"spearman", "pearson"}
    assert "f1" in fitting("classes", 2)
    assert "f1" not in fitting("classes", 3)


def test_an_unknown_metric_is_named_with_the_choices() -> None:
    with pytest.raises(TaskError, match="no metric called 'accuracyy'") as caught:
        get_metric("accuracyy", "task.mine")
    assert "did you mean 'accuracy'?" in str(caught.value)
    assert str(caught.value).startswith("task.mine: ")

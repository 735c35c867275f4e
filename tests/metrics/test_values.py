"""Correlations against scipy, and where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from scipy import stats
from tests.predicted import predictions, score

from layover.metrics import METRICS


@given(predictions("value"))
def test_correlations_agree_with_scipy(run) -> None:
    constant = np.ptp(run.gold) == 0 or np.ptp(run.predicted) == 0
    for name, theirs in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        ours = METRICS[name].score(run)
        if constant:
            assert ours == 0
        elif np.std(run.gold) > 1e-3 and np.std(run.predicted) > 1e-3:  # scipy warns on what is nearly constant
            statistic, _ = theirs(run.gold, run.predicted)
            assert ours == pytest.approx(100 * float(statistic), abs=1e-6)  # pyright: ignore[reportArgumentType]


def test_values_worked_by_hand() -> None:
    # ranks 1 2 3 and 1 3 2: 1 - 6 * (0 + 1 + 1) / (3 * 8)
    assert score("spearman", [1.0, 2, 3], [10.0, 30, 20], 0, "value") == pytest.approx(50)
    # deviations -1 0 1 and -10 10 0: 10 / sqrt(2 * 200)
    assert score("pearson", [1.0, 2, 3], [10.0, 30, 20], 0, "value") == pytest.approx(50)
    # deviations -1 0 1 and -4 -3 7: 11 / sqrt(2 * 74); the ranks agree
    assert score("pearson", [1.0, 2, 3], [1.0, 2, 12], 0, "value") == pytest.approx(1100 / np.sqrt(148))
    assert score("spearman", [1.0, 2, 3], [1.0, 2, 12], 0, "value") == pytest.approx(100)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constant_predictions_have_no_correlation(name) -> None:
    vary, constant = np.array([0.1, 0.2, 0.4]), np.full(3, 0.1)
    assert score(name, vary, constant, 0, "value") == score(name, constant, vary, 0, "value") == 0


def test_numbers_that_hardly_vary_have_a_correlation_all_the_same() -> None:
    gold, predicted = np.array([1.0, 2, 3]), 3 + 1e-9 * np.array([10.0, 30, 20])
    assert score("pearson", gold, predicted, 0, "value") == pytest.approx(50, abs=1e-3)

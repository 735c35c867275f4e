"""Metrics of hidden tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layover import predictions
from layover.metrics import METRICS, fitting
from layover.predictions import Predictions
from layover.stats.align import align


def found(given: list[float] | None = None) -> Predictions:
    rows, parts = np.array([0, 0, 1, 1]), np.zeros(4, np.int64)
    values = None if given is None else np.array(given)
    return Predictions(rows, np.array([7.0, 8, 9, 9]), np.array([7.0, 9, 9, 5]), 12, "tokens", parts, values)


def test_they_are_known_answers() -> None:
    made = found([-0.5, -1.0, -1.5, -3.0])
    assert METRICS["masked_accuracy"].score(made) == 50.0
    assert METRICS["masked_loss"].score(made) == pytest.approx(1.5)
    assert METRICS["masked_loss"].lower_is_better
    assert [name for name, metric in METRICS.items() if metric.lower_is_better] == ["masked_loss"]
    assert fitting("tokens") == ["masked_accuracy", "masked_loss"]


def test_what_was_given_to_the_right_tokens_is_kept_in_the_file(tmp_path: Path) -> None:
    made = found([-0.5, -1.0, -1.5, -3.0])
    assert made.log_probabilities is not None
    predictions.write(tmp_path / "p.parquet", made, list(made.log_probabilities[:, None]), {"labels": ""})
    again = predictions.read(tmp_path / "p.parquet")
    assert (again.kind, again.n_classes) == ("tokens", 12)
    for name in ("masked_accuracy", "masked_loss"):
        assert METRICS[name].score(again) == pytest.approx(METRICS[name].score(made))


def test_runs_are_paired_by_paragraph() -> None:
    runs = [found([-1.0, -1, -1, -1]), found([-1.0, -1, -1, -3])]
    adds = align(runs, METRICS["masked_loss"])
    assert adds is not None
    assert adds.tolist() == [[0, -0.5], [0, 0.5]]  # means of 1 and 1, and of 1 and 2

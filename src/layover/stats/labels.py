"""Labels: how well one run predicts each class or label, from its stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from layover.errors import ObservationsError, Problem
from layover.predictions import Predictions

KINDS = ("classes", "answers", "labels")


def by_label(predictions: Predictions, names: Sequence[str]) -> list[dict[str, Any]]:
    """One row per class or label: its name, how often it is right and predicted, precision, recall and F1 in points.

    Rows are in the order of `names`. A share of nothing is 0, as in scikit-learn with `zero_division=0`. Raises
    ObservationsError where predictions are numbers, texts or positions of choices.
    """
    if predictions.kind not in KINDS:
        message = f"its predictions are of kind {predictions.kind!r}, which has no labels"
        raise ObservationsError(Problem("predictions", message, f"kinds that have: {', '.join(KINDS)}"))
    gold, predicted = (_table(values, predictions) for values in (predictions.gold, predictions.predicted))
    hits, right, said = (table.sum(0) for table in (gold & predicted, gold, predicted))
    return [
        {
            "label": name,
            "gold": int(right[i]),
            "predicted": int(said[i]),
            "precision": _share(hits[i], said[i]),
            "recall": _share(hits[i], right[i]),
            "f1": _share(2 * hits[i], right[i] + said[i]),
        }
        for i, name in enumerate(names)
    ]


def _table(values: Any, predictions: Predictions) -> Any:
    """Whether each prediction has each label [n, labels]."""
    if predictions.kind == "labels":
        return values > 0
    return values[:, None] == np.arange(predictions.n_classes)


def _share(top: Any, bottom: Any) -> float:
    return 100 * float(top) / float(bottom) if bottom else 0.0

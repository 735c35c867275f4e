"""Labels: precision, recall and F1 of each class or label, by hand and against scikit-learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import precision_recall_fscore_support
from tests.kit import Command

from layover import predictions
from layover.errors import ObservationsError
from layover.predictions import Predictions, texts
from layover.stats.labels import by_label
from layover.step import key_of
from layover.store import Store


def classes(gold: list[int], predicted: list[int]) -> Predictions:
    return Predictions(np.arange(len(gold)), np.array(gold, float), np.array(predicted, float), 3)


def test_classes_by_hand() -> None:
    found = by_label(classes([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, -1, 1]), ["a", "b", "c"])
    assert found == [
        {"label": "a", "gold": 3, "predicted": 2, "precision": 100, "recall": pytest.approx(200 / 3), "f1": 80},
        {"label": "b", "gold": 2, "predicted": 3, "precision": pytest.approx(100 / 3), "recall": 50, "f1": 40},
        {"label": "c", "gold": 1, "predicted": 0, "precision": 0, "recall": 0, "f1": 0},
    ]


@given(table=arrays(np.uint8, st.tuples(st.integers(1, 20), st.just(3), st.just(2)), elements=st.integers(0, 1)))
def test_sets_of_labels_as_scikit_learn_has_it(table: np.ndarray) -> None:
    gold, predicted = table[..., 0], table[..., 1]
    found = by_label(Predictions(np.arange(len(gold)), gold, predicted, 3, "labels"), ["a", "b", "c"])
    expected: Any = precision_recall_fscore_support(gold, predicted, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    for i, row in enumerate(found):
        ours = [row["precision"], row["recall"], row["f1"], 100 * row["gold"]]
        assert ours == pytest.approx([100 * float(column[i]) for column in expected])


def test_texts_have_no_labels() -> None:
    some = Predictions(np.arange(1), texts([("a",)]), texts(["b"]), 0, "text")
    with pytest.raises(ObservationsError, match="kind 'text', which has no labels"):
        by_label(some, [])


def test_the_command_shows_a_steps_labels(command: Command, tmp_path: Path) -> None:
    from tests.kit import a_train, publish_fake

    store = Store.open(tmp_path / "store")
    key = publish_fake(store, a_train())
    path = store.folder(key) / "predictions.parquet"
    named = {"labels": "no\tyes", "task": "rte"}
    made = Predictions(np.arange(4), np.array([0.0, 1, 1, 1]), np.array([0.0, 1, 0, 1]), 2)
    predictions.write(path, made, [np.zeros(2)] * 4, named)
    rows = command("store", "labels", key, "--store", store.root, "--json").json
    assert [row["label"] for row in rows] == ["no", "yes"]
    assert rows[1]["f1"] == pytest.approx(80)
    shown = command("store", "labels", key[:8], "--store", store.root)
    assert shown.code == 0
    assert "yes" in shown.out
    assert "66.7" in shown.out  # recall of yes
    missing = command("store", "labels", key_of(a_train(seed=2)), "--store", store.root)
    assert missing.code == 2
    assert "no step matches" in missing.err

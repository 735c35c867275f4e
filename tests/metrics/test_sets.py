"""Metrics of sets of labels and of the answers to a question, by hand, in plain Python and against scikit-learn."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given
from sklearn import metrics as sklearn
from tests.predicted import predictions, score

from layover.metrics import METRICS

# three targets with labels {0}, {0, 2}, {2}; predicted {0, 1}, {0, 2}, {}
LABELS = [[1, 0, 0], [1, 0, 1], [0, 0, 1]], [[1, 1, 0], [1, 0, 1], [0, 0, 0]], 3, "labels"
# a passage (row 0) with two questions of two and three answers, another (row 1) with a question of one
ANSWERS = {
    "gold": [1.0, 0, 1, 1, 0, 1],
    "predicted": [1.0, 0, 1, 0, 1, 1],
    "kind": "answers",
    "rows": [0, 0, 0, 0, 0, 1],
    "parts": [0, 0, 1, 1, 1, 0],
}


def test_sets_of_labels_worked_by_hand() -> None:
    # 3 right of 4 that are and 4 predicted; of the last label 1 of 2 and 1; one set of three is exact
    assert score("micro_f1", *LABELS) == pytest.approx(2 * 3 / 8 * 100)
    assert score("last_label_f1", *LABELS) == pytest.approx(2 * 1 / 3 * 100)
    assert score("exact_labels", *LABELS) == pytest.approx(100 / 3)


def test_no_labels_anywhere_score_nothing_but_are_the_right_set() -> None:
    nothing = [[0, 0]], [[0, 0]], 2, "labels"
    assert score("micro_f1", *nothing) == score("last_label_f1", *nothing) == 0
    assert score("exact_labels", *nothing) == 100


@given(predictions("labels"))
def test_sets_of_labels_agree_with_scikit_learn(run) -> None:
    gold, predicted = run.gold, run.predicted
    zero = {"zero_division": 0.0}
    micro = sklearn.f1_score(gold, predicted, average="micro", **zero)  # pyright: ignore[reportArgumentType]
    last = sklearn.f1_score(gold[:, -1], predicted[:, -1], **zero)  # pyright: ignore[reportArgumentType]
    assert METRICS["micro_f1"].score(run) == pytest.approx(100 * micro)
    assert METRICS["last_label_f1"].score(run) == pytest.approx(100 * last)
    assert METRICS["exact_labels"].score(run) == pytest.approx(100 * sklearn.accuracy_score(gold, predicted))


def test_answers_worked_by_hand() -> None:
    # 3 right answers found of 4, and one wrong one taken for right; of three questions the second has two mistakes
    assert score("f1a", **ANSWERS) == pytest.approx(2 * 3 / 8 * 100)
    assert score("group_em", **ANSWERS) == pytest.approx(200 / 3)
    assert score("f1a_em", **ANSWERS) == pytest.approx((75 + 200 / 3) / 2)
    assert score("accuracy", **ANSWERS) == pytest.approx(400 / 6)


def test_answers_of_a_question_may_stand_apart() -> None:
    order = [3, 0, 5, 1, 4, 2]
    moved = {name: [ANSWERS[name][i] for i in order] for name in ("gold", "predicted", "rows", "parts")}
    for name in ("f1a", "group_em", "f1a_em"):
        assert score(name, **moved, kind="answers") == score(name, **ANSWERS)


def test_an_answer_without_prediction_is_a_mistake() -> None:
    lost = ANSWERS | {"predicted": [1.0, -1, 1, 0, 1, 1]}
    assert score("f1a", **lost) == score("f1a", **ANSWERS)  # it was a wrong answer, and was not called right
    assert score("group_em", **lost) == pytest.approx(100 / 3)


@given(predictions("answers"))
def test_answers_agree_with_scikit_learn_and_plain_python(run) -> None:
    f1 = sklearn.f1_score(run.gold == 1, run.predicted == 1, zero_division=0.0)  # pyright: ignore[reportArgumentType]
    right = defaultdict(list)
    for row, part, gold, predicted in zip(run.rows, run.parts, run.gold, run.predicted, strict=True):
        right[row, part].append(gold == predicted)
    exact = sum(all(answers) for answers in right.values()) / len(right)
    assert METRICS["f1a"].score(run) == pytest.approx(100 * f1)
    assert METRICS["group_em"].score(run) == pytest.approx(100 * exact)
    assert METRICS["f1a_em"].score(run) == pytest.approx(50 * (f1 + exact))

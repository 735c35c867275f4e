"""Collapse: what is said of a run that learned nothing, for every kind of prediction."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from layover.predictions import Predictions, texts
from layover.tasks.formats import Choice, Cloze, PassageAnswers, Single
from layover.tasks.spans import EdgeProbing, Span, Tagging
from layover.tasks.task import Task
from layover.train.collapse import collapse

CLASSES = Task("c", 1, Single("text"), ("accuracy",), labels=("no", "yes"))
VALUES = Task("v", 1, Single("text", "value"), ("spearman",), bounds=(0.0, 10.0))
CHOICES = Task("m", 1, Choice("text", ("a", "b")), ("accuracy",))
TAGS = Task("t", 1, Tagging("words"), ("accuracy",), labels=("a", "b", "c"))
LABELS = Task("e", 1, EdgeProbing(1), ("micro_f1",), labels=("a", "b"))
ANSWERS = Task("r", 1, PassageAnswers("p", "q", "a"), ("f1a",), labels=("no", "yes"))
SPAN = Task("s", 1, Span("p", "q", "a"), ("token_f1",))
CLOZE = Task("z", 1, Cloze("p", "q", "c", "a"), ("token_f1",), labels=("no", "yes"))
HALF = np.log(2.0)


def collapsed(
    task: Task = CLASSES, predicted: Any = (0.0, 1, 1, 0), gold: Any = (0.0, 1, 0, 1), labels: Any = (0.0, 1, 0, 1),
    n_inputs: Any = (1, 1, 1, 1), lengths: Any = (8, 8, 8, 8), stopped: str = "",
    loss: Any = (0.69, 0.4), lost: Any = (),
) -> str:  # fmt: skip
    """What is said of a healthy run with some facts changed."""
    kind = task.format.scored
    arrays = [texts(v) if kind == "text" else np.array(v, float) for v in (gold, predicted)]
    predictions = Predictions(np.arange(len(predicted)), *arrays, n_classes=2, kind=kind)
    training: Any = SimpleNamespace(
        labels=np.array(labels),
        lost=np.array(lost or [False] * len(labels)),
        groups=np.concatenate([[0], np.cumsum(n_inputs)]),
        input_lengths=np.array(lengths),
    )
    return collapse(task, stopped, predictions, training, [{"loss": point} for point in loss])


def test_a_healthy_run_is_not_marked() -> None:
    assert collapsed() == ""
    assert collapsed(stopped="patience") == ""
    assert collapsed(loss=()) == ""


def test_a_loss_that_is_no_number_is_marked_before_all_else() -> None:
    assert collapsed(stopped="nan", predicted=(1, 1, 1, 1)) == "loss became NaN"


def test_a_constant_prediction_is_marked_where_gold_differs() -> None:
    assert collapsed(predicted=(1, 1, 1, 1)) == "constant prediction"
    assert collapsed(predicted=(1, 1, 1, 1), gold=(1, 1, 1, 1)) == ""
    almost = (2.5, 2.5 + 1e-9, 2.5, 2.5)
    assert collapsed(VALUES, almost) == "constant prediction"
    assert collapsed(TAGS, (2, 2, 2, 2)) == "constant prediction"


def test_answers_that_are_all_right_or_all_wrong_are_marked() -> None:
    assert collapsed(ANSWERS, (1, 1, 1, 1)) == "every answer predicted right"
    assert collapsed(ANSWERS, (0, 0, 0, 0)) == "every answer predicted wrong"
    assert collapsed(ANSWERS) == ""


def test_sets_of_labels_that_are_empty_full_or_always_the_same_are_marked() -> None:
    gold, labels = ((1, 0), (0, 1), (1, 1)), ((1, 0), (0, 1), (1, 1))
    for predicted, said in (
        (((0, 0),) * 3, "no label predicted"),
        (((1, 1),) * 3, "every label predicted"),
        (((1, 0),) * 3, "constant prediction"),
        (((1, 0), (0, 1), (0, 0)), ""),
    ):
        assert collapsed(LABELS, predicted, gold, labels, (1,) * 3, loss=(0.1,)) == said
    assert collapsed(LABELS, ((1, 0),) * 3, ((1, 0),) * 3, labels, (1,) * 3, loss=(0.1,)) == ""


def test_answers_that_are_empty_throughout_are_marked() -> None:
    gold = (("a",), ("b",), ("c",), ("d",))
    assert collapsed(SPAN, ("", "", "", ""), gold, loss=(0.5,)) == "empty predictions"
    assert collapsed(SPAN, ("a", "", "", ""), gold, loss=(0.5,)) == ""
    assert collapsed(CLOZE, ("a", "b", "a", "b"), gold) == ""


@pytest.mark.parametrize(
    ("task", "labels", "n_inputs", "prior"),
    [
        (CLASSES, (0, 1, 0, 1), (1,) * 4, HALF),
        (CLASSES, (0, 0, 0, 1), (1,) * 4, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))),
        (CLOZE, (0, 0, 0, 1), (1,) * 4, -(0.75 * np.log(0.75) + 0.25 * np.log(0.25))),
        (CHOICES, (0, 1, 0, 1), (2, 2, 4, 4), 1.5 * HALF),
        (VALUES, (0, 10, 0, 10), (1,) * 4, 0.25),
        (TAGS, (0, 1, 2, 0), (1,) * 4, 1.5 * HALF),
        (LABELS, ((1, 0), (0, 0), (1, 0), (0, 0)), (1,) * 4, HALF / 2),
        (SPAN, (0, 0, 0, 0), (1,) * 4, np.log(8)),
    ],
)
def test_a_loss_that_never_left_the_prior_is_marked(task: Task, labels: Any, n_inputs: Any, prior: float) -> None:
    kind = task.format.scored
    some: dict[str, Any] = {"labels": {"predicted": ((1, 0), (0, 1)), "gold": ((1, 0), (0, 1))}}.get(kind, {})
    some = some or ({"predicted": ("a", "b"), "gold": (("a",), ("b",))} if kind == "text" else {})
    for share, said in ((1.2, True), (1.0, True), (0.995, True), (0.98, False), (0.1, False)):
        told = collapsed(task, labels=labels, n_inputs=n_inputs, loss=(2 * prior, share * prior), **some)
        assert told == ("loss never left the label prior" if said else ""), share


def test_targets_that_were_cut_off_have_no_part_in_the_prior() -> None:
    facts = {"labels": (0, 1, 1, 1), "loss": (0.69, 0.6)}
    assert collapsed(**facts) == "loss never left the label prior"
    assert collapsed(**facts, lost=(False, False, True, True)) == ""


def test_labels_of_one_kind_have_no_prior_to_leave() -> None:
    assert collapsed(labels=(0, 0, 0, 0), loss=(0.0,)) == ""

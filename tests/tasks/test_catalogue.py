"""The contract of every declared task."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from layover.metrics import METRICS, fitting
from layover.tasks import TASKS, Task
from layover.tasks.task import Choice

CATALOGUE = list(TASKS)


def layouts(task: Task) -> Iterator[dict[str, Any]]:
    """A synthetic row without label in each layout that the declaration's paths allow."""
    paths = (*task.format.paths(), task.label)
    for n in range(max(path.count("|") + 1 for path in paths)):
        row: dict[str, Any] = {}
        for path in task.format.paths():
            put(row, path.split("|")[min(n, path.count("|"))], f"text of {path}")
        row["__label__"] = task.label.split("|")[min(n, task.label.count("|"))]
        if task.name == "copa":
            row["question"] = "cause"
        if task.name == "hellaswag":
            row["endings"] = [f"ending {i}" for i in range(4)]
        yield row


def put(row: dict[str, Any], path: str, text: str) -> None:
    """Set a path such as `a.b` or `a.b[].c`."""
    *parents, last = path.split(".")
    for parent in parents:
        if parent.endswith("[]"):
            row[parent[:-2]] = [{last: f"{text} {i}"} for i in range(5)]
            return
        row = row.setdefault(parent, {})
    row[last] = [f"{text} {i}" for i in range(5)] if path == "choices.text" else text


@pytest.mark.parametrize("task", CATALOGUE, ids=lambda t: t.name)
def test_declaration(task: Task) -> None:
    assert re.fullmatch(r"[a-z0-9_]+", task.name)
    assert task.version >= 1
    assert task.about.strip()
    assert task.source.strip()
    assert task.metrics
    assert set(task.metrics) <= set(METRICS)
    assert set(task.metrics) <= set(fitting(task.output, len(task.labels)))
    assert len(set(task.labels)) == len(task.labels)
    assert (len(task.labels) >= 2) == (task.output == "classes")
    assert (task.bounds is not None) == (task.output == "value")
    if task.hub:
        assert re.fullmatch(r"[0-9a-f]{40}", task.hub.revision)
    if task.labels:
        assert set(task.spellings.values()) <= set(task.labels)


@pytest.mark.parametrize("task", CATALOGUE, ids=lambda t: t.name)
def test_a_row_of_every_layout_and_label_is_read(task: Task) -> None:
    for row in layouts(task):
        label = row.pop("__label__")
        n_choices = len(task.format.choices) if isinstance(task.format, Choice) else 1
        written = {**{name: name for name in task.labels}, **task.spellings}
        if task.output == "choice" and not task.spellings:
            written = {str(i): str(i) for i in range(max(n_choices, 4 if task.name == "hellaswag" else 2))}
        if task.output == "value":
            written = {"0": "0", "2.5": "2.5"}
        for text, name in written.items():
            example = task.example(7, {**row, label: text})
            assert example.row == 7
            expected = task.labels.index(name) if task.labels else float(name)
            assert example.label == expected
            assert all(piece for first, second in example.inputs for piece in (*first, *(second or ())))


def test_names_are_unique() -> None:
    names = [task.name for task in CATALOGUE]
    assert len(names) == len(set(names)) >= 31


def read_row(name: str, **row: Any):
    return TASKS.get(name).example(0, row)


def test_copa_asks_its_question_in_words() -> None:
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry."}
    example = read_row("copa", **row, question="effect", label=0)
    assert example.inputs == (
        (("It rained.", "What happened as a result?"), ("Wet.",)),
        (("It rained.", "What happened as a result?"), ("Dry.",)),
    )
    assert "cause of this?" in read_row("copa", **row, question="cause", label=1).inputs[0][0][1]
    with pytest.raises(Exception, match="holds 'why'"):
        read_row("copa", **row, question="why", label=1)


def test_labels_of_the_releases() -> None:
    pair = {"premise": "a", "hypothesis": "b"}
    assert [read_row("cb", **pair, label=x).label for x in (1, "contradiction", 2)] == [1, 1, 2]
    assert [read_row("mnli", **pair, label=x).label for x in (2, "contradiction", 1)] == [2, 2, 1]
    assert [read_row("rte", **pair, label=x).label for x in (0, "entailment", "not_entailment")] == [0, 0, 1]
    assert [read_row("scitail", **pair, label=x).label for x in ("entails", "entailment", "neutral")] == [0, 0, 1]
    asked = {"passage": "a", "question": "b"}
    assert [read_row("boolq", **asked, label=x).label for x in (True, False, "True", "false", 1)] == [1, 0, 1, 0, 1]
    assert read_row("boolq", **asked, answer=False).label == 0
    told = {"context": "a", "question": "b", "answerA": "c", "answerB": "d", "answerC": "e"}
    assert [read_row("socialiqa", **told, label=x).label for x in ("1", 3)] == [0, 2]
    assert read_row("socialiqa", **told, correct="B").label == 1
    scene = {"ctx": "a", "endings": ["b", "c", "d", "e"]}
    assert [read_row("hellaswag", **scene, label=x).label for x in ("3", 3)] == [3, 3]


def test_the_files_of_glue_itself_are_read() -> None:
    row = {"Quality": "1", "#1 ID": "7", "#2 ID": "8", "#1 String": "a", "#2 String": "b"}
    assert TASKS.get("mrpc").example(0, row).inputs == ((("a",), ("b",)),)
    assert read_row("qqp", question1="a", question2="b", is_duplicate="1").label == 1
    assert read_row("stsb", sentence1="a", sentence2="b", score="3.80").label == 3.8
    assert read_row("mnli", sentence1="a", sentence2="b", label1="neutral", gold_label="neutral").label == 1


def test_both_layouts_of_commonsenseqa() -> None:
    letters, texts = list("ABCDE"), ["a", "b", "c", "d", "e"]
    listed = [{"label": x, "text": t} for x, t in zip(letters, texts, strict=True)]
    release = read_row("commonsenseqa", question={"stem": "why?", "choices": listed}, answerKey="C")
    hub = read_row("commonsenseqa", question="why?", choices={"label": letters, "text": texts}, answerKey="C")
    assert release == hub
    assert release.label == 2
    assert [second for _, second in release.inputs] == [(t,) for t in texts]

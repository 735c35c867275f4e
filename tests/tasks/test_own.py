"""A user's own file as a task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layover.errors import TaskError
from layover.identity import key
from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.load import load, locate
from layover.tasks.own import declaration, from_declaration, own_files, own_task


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = ["body,queue,score,other", "a,billing,1,x", "b,tech,2.5,y", "c,billing,3,x", "d,sales,4,y", "e,tech,5,x"]
    (tmp_path / "tickets.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


SINGLE: dict[str, Any] = {"train": "tickets.csv", "format": "single", "text": "body", "label": "queue"}


def told(table: dict[str, Any], base: Path, name: str = "tickets") -> str:
    with pytest.raises(TaskError) as caught:
        own_task(name, table, "study.toml, task.tickets", base)
    return str(caught.value)


def test_a_file_becomes_a_task_and_its_labels_are_read_from_it(folder: Path) -> None:
    task = own_task("tickets", SINGLE, "", folder)
    assert task.format == Single("body")
    assert task.labels == ("billing", "sales", "tech")
    assert task.metrics == ("accuracy",)
    source = locate(task, [], own_files(SINGLE, folder))
    data = load(task, source, selection="validation", holdout=0.1)
    assert [len(data.train), len(data.validation)] == [3, 2]  # one per class where that leaves half


def test_the_declaration_is_all_but_the_paths_with_defaults_filled_in(folder: Path) -> None:
    declared = declaration(SINGLE, folder)
    assert declared == {
        "format": "single", "text": "body", "label": "queue", "range": None, "spellings": {},
        "labels": ["billing", "sales", "tech"], "metrics": ["accuracy"],
    }  # fmt: skip
    explicit = {**SINGLE, "labels": ["billing", "sales", "tech"], "metrics": ["accuracy"], "spellings": {}}
    (folder / "elsewhere").mkdir()
    (folder / "tickets.csv").rename(folder / "elsewhere" / "t.csv")
    moved = {**explicit, "train": "elsewhere/t.csv"}
    assert key("task", declaration(moved, folder)) == key("task", declared)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (SINGLE, Single("body")),
        ({**SINGLE, "label": "score", "range": [0, 5]}, Single("body", "value")),
        (
            {**SINGLE, "format": "pair", "first": "body", "second": "other", "cut": "first"}
            | {"labels": ["no", "yes"], "spellings": {"n": "no"}},
            Pair("body", "other", "classes", "first"),
        ),
        (
            {"train": "tickets.csv", "format": "choice", "context": "body", "choices": ["queue", "other"]},
            Choice("body", ("queue", "other")),
        ),
        (
            {"train": "tickets.csv", "format": "choice", "context": "body", "choices": "ends", "question": "q"},
            Choice("body", ("ends",), "q"),
        ),
    ],
)
def test_a_worker_builds_the_same_task(folder: Path, table: dict[str, Any], expected: object) -> None:
    table = {k: v for k, v in table.items() if k != "text" or table["format"] == "single"}
    task = own_task("tickets", table, "", folder)
    assert task.format == expected
    assert from_declaration("tickets", declaration(table, folder)) == task
    assert replace(task, about="") != task


def test_inferred_numbers_are_in_the_order_of_numbers(folder: Path) -> None:
    (folder / "n.jsonl").write_text("".join(f'{{"body": "a", "queue": {n}}}\n' for n in (10, 2, 1, 2)))
    assert own_task("n", {**SINGLE, "train": "n.jsonl"}, "", folder).labels == ("1", "2", "10")
    (folder / "n.jsonl").write_text("".join(f'{{"body": "a", "queue": {n}}}\n' for n in ("true", "false")))
    assert own_task("n", {**SINGLE, "train": "n.jsonl"}, "", folder).labels == ("false", "true")


def test_spellings_are_applied_before_labels_are_inferred(folder: Path) -> None:
    task = own_task("t", {**SINGLE, "spellings": {"sales": "billing"}}, "", folder)
    assert task.labels == ("billing", "tech")
    assert task.read_label("sales", 1) == 0


def test_metrics_have_defaults_by_output(folder: Path) -> None:
    assert own_task("t", {**SINGLE, "label": "score", "range": [0, 5]}, "", folder).metrics == ("spearman",)
    choice = {"train": "tickets.csv", "format": "choice", "context": "body", "choices": ["queue", "other"]}
    assert own_task("t", choice, "", folder).metrics == ("accuracy",)


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"txt": "body"}, ["tickets.txt: format 'single' has no such key", "did you mean 'text'?"]),
    ({"second": "other"}, ["tickets.second: format 'single' has no such key"]),
    ({"format": "singel"}, ["tickets.format: is 'singel'", "did you mean 'single'? choices: answers, choice, cloze"]),
    ({"format": None}, ["tickets.format: is missing"]),
    ({"text": None}, ["tickets.text: is missing"]),
    ({"text": 3}, ["tickets.text: is 3, not a text"]),
    ({"train": None}, ["tickets.train: is missing"]),
    ({"train": "gone.csv"}, ["tickets.train: the file does not exist", "gone.csv"]),
    ({"validation": "gone.csv"}, ["tickets.validation: the file does not exist"]),
    ({"metrics": ["acuracy"]}, ["tickets.metrics: there is no metric called 'acuracy'", "did you mean 'accuracy'?"]),
    ({"metrics": ["spearman"]}, ["'spearman' does not suit this task", "accuracy, macro_f1, mcc"]),
    ({"metrics": ["f1"]}, ["'f1' does not suit this task"]),
    ({"metrics": ["mcc", "mcc"]}, ["names a metric twice"]),
    ({"metrics": "accuracy"}, ["tickets.metrics: is 'accuracy'", "give a list"]),
    ({"labels": ["one"]}, ["tickets.labels: is ['one']", "two or more labels"]),
    ({"labels": "one"}, ["tickets.labels: is 'one', not a list of texts"]),
    ({"labels": ["a", "b"], "spellings": {"x": "c"}}, ["'x' stands for 'c', which is not a label", "choices: a, b"]),
    ({"spellings": ["x"]}, ["tickets.spellings: is ['x']"]),
    ({"range": [5, 0]}, ["tickets.range: is [5, 0]", "as in [0, 5]"]),
    ({"range": [0, 5], "labels": ["a", "b"]}, ["only a task that predicts classes has labels"]),
    ({"range": [0, 5], "metrics": ["accuracy"]}, ["'accuracy' does not suit this task", "spearman, pearson"]),
    ({"label": "qeue"}, ["tickets.csv, line 2: field 'qeue' is missing", "body, queue, score, other"]),
    ({"format": "pair", "text": None, "first": "a", "second": "b", "cut": "last"}, ["tickets.cut: is 'last'"]),
    ({"format": "choice", "text": None, "context": "a"}, ["tickets.choices: is missing", "a list"]),
    ({"format": "choice", "text": None, "context": "a", "choices": [1]}, ["tickets.choices: is [1]"]),
    ({"format": "choice", "text": None, "context": "a", "choices": ["b", "c"], "range": [0, 1]}, ["tickets.range"]),
]


@pytest.mark.parametrize(("change", "expected"), BAD)
def test_a_wrong_table_is_told_what_is_wrong(folder: Path, change: dict[str, Any], expected: list[str]) -> None:
    table = {k: v for k, v in {**SINGLE, **change}.items() if v is not None}
    text = told(table, folder)
    for part in expected:
        assert part in text


def test_all_problems_are_told_at_once(folder: Path) -> None:
    table = {"train": 3, "format": "pair", "first": "", "metrics": ["acc", "spearman"], "color": "red", "labels": []}
    text = told(table, folder, name="My Task")
    for part in ("not a name", ".train", ".first", ".second", "'acc'", "'spearman'", ".color", ".labels"):
        assert part in text


@pytest.mark.parametrize("name", ["Tickets", "my-task", "", "a b"])
def test_names(folder: Path, name: str) -> None:
    assert "names consist of a-z, 0-9 and _" in told(SINGLE, folder, name)


def test_a_name_of_the_catalogue_is_taken(folder: Path) -> None:
    assert "there is a task called 'cola' already" in told(SINGLE, folder, "cola")


def test_one_label_or_too_many_are_not_classes(folder: Path) -> None:
    (folder / "one.csv").write_text("body,queue\na,x\nb,x\n")
    assert "holds 1 different labels: x" in told({**SINGLE, "train": "one.csv"}, folder)
    (folder / "many.csv").write_text("body,queue\n" + "".join(f"a,{i / 7}\n" for i in range(1, 2000)))
    text = told({**SINGLE, "train": "many.csv"}, folder)
    assert "holds 1,999 different labels" in text
    assert "range = [low, high]" in text

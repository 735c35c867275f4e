"""Plain text as a task: pieces of paragraphs, files of lines, and what is refused."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, make_maskless, own_table, study_words, text_table, write_rows, write_study

from layover.errors import TaskError
from layover.tasks.load import load, locate
from layover.tasks.own import declaration, from_declaration, own_files, own_task
from layover.tasks.text import Text, pieces


def texts(table: dict[str, Any], split: str = "train") -> list[str]:
    task = own_task("wiki", table)
    data = load(task, locate(task, [], own_files(table)), selection="validation", holdout=0.1)
    return [example.inputs[0][0][0] for example in getattr(data, split)]


@pytest.mark.parametrize("most", [1, 7, 40, 59, 60, 61, 1000])
def test_pieces_hold_every_word_in_order_and_no_more_than_allowed(most: int) -> None:
    text = "of the way to a stop on trains that was about their own story and more"
    found = list(pieces(text, most))
    assert "".join(found).replace(" ", "") == text.replace(" ", "")
    assert all(0 < len(piece) <= most for piece in found)
    if most >= 7:  # longer than every word: none is broken
        assert " ".join(found).split() == text.split()


def test_pieces_are_of_about_one_length() -> None:
    sizes = [len(piece) for piece in pieces("word " * 401, 1000)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) < 10


def test_a_paragraph_longer_than_allowed_is_several_examples_of_one_row() -> None:
    task = own_task_of(Text("text", 40))
    found = task.examples(3, {"text": "a story about trains " * 5})
    assert [(example.row, example.part) for example in found] == [(3, 0), (3, 1), (3, 2)]
    assert not any(example.targets for example in found)


def own_task_of(form: Text) -> Any:
    from layover.tasks.task import Task

    return Task("wiki", 1, form, ("masked_accuracy",))


@pytest.mark.parametrize("name", ["t.txt", "t.txt.gz", "t.txt.xz"])
def test_a_line_is_a_paragraph_and_blank_lines_are_none(tmp_path: Path, name: str) -> None:
    content = b"one\ttab and more\n\n   \n  two \nthree\n"
    packed = {"gz": gzip.compress, "xz": lzma.compress}.get(name[-2:], bytes)(content)
    for split in ("train", "validation"):
        (tmp_path / f"{split}.{name}").write_bytes(packed)
    files = {split: str(tmp_path / f"{split}.{name}") for split in ("train", "validation")}
    assert texts({"format": "text", **files}) == ["one\ttab and more", "two", "three"]


def test_other_files_have_a_column(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", [{"body": "one text"}, {"body": "two"}, {"body": "three"}])
    table = {"format": "text", "train": str(path), "validation": str(path), "text": "body"}
    assert texts(table) == ["one text", "two", "three"]


def test_the_pieces_of_a_paragraph_stay_together_where_validation_is_held_out(tmp_path: Path) -> None:
    table = text_table(tmp_path, characters=40)
    task = own_task("wiki", table)
    data = load(task, locate(task, [], own_files(table)), selection="holdout", holdout=0.3)
    sides = [{example.row for example in side} for side in (data.train, data.selection, data.validation)]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]
    assert max(example.part for example in data.train) > 0


def test_a_declaration_says_all_and_gives_the_same_task(tmp_path: Path) -> None:
    table = text_table(tmp_path)
    declared = declaration(table)
    assert declared == {"format": "text", "text": "text", "characters": 1000,
                        "metrics": ["masked_accuracy", "masked_loss"]}  # fmt: skip
    assert from_declaration("wiki", declared) == own_task("wiki", table)


@pytest.mark.parametrize(
    ("words", "content", "message"),
    [
        ({}, "\n  \n\n", "has no text to learn from: the file holds no rows"),
        ({}, "", "has no text to learn from: the file holds no rows"),
        ({"characters": 10}, "a text\n", "is 10, not a whole number from 40 to 99,999"),
        ({"characters": True}, "a text\n", "is True, not a whole number"),
        ({"label": "x"}, "a text\n", "format 'text' has no such key"),
        ({"metrics": ["accuracy"]}, "a text\n", "metrics that do: masked_accuracy, masked_loss"),
        ({"metrics": ["masked_loss", "masked_accuracy"]}, "a text\n", "name one of these first: masked_accuracy"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, words: dict[str, Any], content: str, message: str) -> None:
    (tmp_path / "t.txt").write_text(content, encoding="utf-8")
    with pytest.raises(TaskError) as caught:
        own_task("wiki", {"format": "text", "train": str(tmp_path / "t.txt"), **words})
    assert message in str(caught.value)
    assert "task.wiki" in str(caught.value)


def test_a_column_that_is_not_there_is_said(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "t.jsonl", [{"body": "one text"}])
    with pytest.raises(TaskError, match="has no text to learn from: field 'text' is missing"):
        own_task("wiki", {"format": "text", "train": str(path)})


def test_a_file_that_is_no_xz_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.txt.xz").write_bytes(b"plain text\n")
    with pytest.raises(TaskError, match="cannot be unpacked: not valid xz data"):
        own_task("wiki", {"format": "text", "train": str(tmp_path / "t.txt.xz")})


def text_study(encoder: Path, folder: Path, **words: Any) -> Path:
    return write_study(folder / "study.toml", study_words(encoder, folder, task={
        "mine": own_table(folder, "single"), "stop": text_table(folder, **words),
    }))  # fmt: skip


def test_what_is_wrong_ends_the_command_before_anything_runs(bert: Path, command: Command, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text(" \n\n", encoding="utf-8")
    ran = command("run", text_study(bert, tmp_path, validation=str(blank)))
    assert ran.code == 2
    assert "task.stop.validation: has no text to learn from: the file holds no rows" in " ".join(ran.err.split())
    maskless = make_maskless(bert, tmp_path / "maskless")
    ran = command("plan", text_study(maskless, tmp_path))
    assert ran.code == 2
    said = " ".join(ran.err.split())
    assert "maskless: its tokenizer has no mask token, and 'stop' is plain text" in said
    assert "bert-base-uncased" in said
    assert command("plan", text_study(bert, tmp_path)).code == 0


def test_its_data_can_be_checked(bert: Path, tmp_path: Path) -> None:
    from layover.datacheck.tally import Tally
    from layover.train import warm

    task = own_task("wiki", text_table(tmp_path, characters=60))
    tally = Tally(task, warm.tokenizer(str(bert)))
    for row in [{"text": "the film was good " * 6}, {"text": "a story"}, {"text": "a story"}]:
        tally.add(row)
    facts = tally.facts((), None)
    assert (facts.rows, facts.questions, facts.examples, facts.broken) == (3, 3, 4, 0)
    assert facts.repeats == 2  # a text of one refrain is two equal pieces
    assert facts.labels == {}
    assert facts.tokens is not None
    assert facts.tokens.longest < 20

"""Reading data files: every kind gives the same examples, and every fault is named with its file and line."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from layover.errors import TaskError
from layover.tasks.example import Example, Omitted
from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.load import locate, read
from layover.tasks.readers import KINDS, rows
from layover.tasks.release import Release
from layover.tasks.spans import EdgeProbing, Span, Tagging
from layover.tasks.task import Task

PAIR = Task("pairs", 1, Pair("first", "second"), ("accuracy",), labels=("no", "yes"))
SINGLE = Task("singles", 1, Single("text"), ("accuracy",), labels=("no", "yes"))
ROWS = [
    {"first": 'He said "no".', "second": "commas, and 'quotes'", "label": "no"},
    {"first": 'An odd " quote', "second": "Ünïcode \u2028 line separator", "label": "yes"},
    {"first": "  spaces kept  ", "second": "x", "label": "yes"},
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the kind that the path's name says."""
    name = path.name.removesuffix(".gz").removesuffix(".xz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        if name.endswith((".jsonl", ".json")):
            file.writelines(json.dumps(row) + "\n" for row in rows)
        elif name.endswith(".csv"):
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            table = [list(rows[0]), *(row.values() for row in rows)]
            file.writelines("\t".join(map(str, line)) + "\n" for line in table)
    return path


def examples(path: Path, task: Task = SINGLE) -> list[Example]:
    return read(task, locate(task, [], {"train": path}), "train")


def message(path: Path, task: Task = SINGLE) -> str:
    """What the user is told about a file that is wrong."""
    with pytest.raises(TaskError) as caught:
        examples(path, task)
    return str(caught.value)


@pytest.mark.parametrize("ending", list(KINDS))
def test_every_kind_of_file_gives_the_same_examples(tmp_path: Path, ending: str) -> None:
    found = examples(write(tmp_path / f"train{ending}", ROWS), PAIR)
    assert [e.row for e in found] == [0, 1, 2]
    assert [e.label for e in found] == [0, 1, 1]
    assert [e.inputs[0] for e in found] == [((row["first"],), (row["second"],)) for row in ROWS]


def test_a_quoted_cell_may_span_lines_and_lines_are_counted_right(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text('text,label\n"two\nlines",yes\nplain,maybe\n')
    text = message(path)
    assert f"{path}, line 4: field 'label' holds 'maybe', which is not a label" in text
    path.write_text('text,label\n"two\nlines",yes\nplain,no\n')
    assert examples(path)[0].inputs == ((("two\nlines",), None),)


def test_the_mark_that_spreadsheets_write_and_carriage_returns_are_not_content(tmp_path: Path) -> None:
    for ending, separator in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"train{ending}"
        path.write_bytes(
            b"\xef\xbb\xbf" + f"text{separator} label\r\na{separator}yes\r\n\r\nb{separator}no\r\n".encode()
        )
        assert [(e.row, e.inputs[0][0], e.label) for e in examples(path)] == [(0, ("a",), 1), (1, ("b",), 0)]


def test_blank_lines_are_no_rows_and_do_not_shift_line_numbers(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "a", "label": 1}\n\n{"text": "b", "label": 2}\n')
    assert "line 3" in message(path)


GOOD = b'{"text": "a", "label": "yes"}\n'
BAD_LINES = {
    "not JSON": (b'{"text": "a", "label"\n', ["line 2", "is not JSON", "column", "one JSON object per line"]),
    "not an object": (b'["a", "yes"]\n', ["line 2", "holds a list, not an object", "one JSON object per line"]),
    "not UTF-8": (b'{"text": "caf\xe9", "label": "yes"}\n', ["line 2", "not UTF-8", "0xe9", "position 14"]),
    "missing field": (b'{"txt": "a", "label": "yes"}\n', ["line 2", "field 'text' is missing", "txt, label"]),
    "missing label": (b'{"text": "a"}\n', ["line 2", "field 'label' is missing"]),
    "null label": (b'{"text": "a", "label": null}\n', ["line 2", "field 'label' is missing"]),
    "empty label": (b'{"text": "a", "label": ""}\n', ["line 2", "field 'label' is empty", "choices: no, yes"]),
    "empty text": (b'{"text": " ", "label": "yes"}\n', ["line 2", "field 'text' is empty"]),
    "not a text": (b'{"text": ["a"], "label": "yes"}\n', ["line 2", "holds ['a'], not a text"]),
    "not a number": (b'{"text": NaN, "label": "yes"}\n', ["line 2", "holds nan, not a text"]),
    "half a character": (b'{"text": "\\ud83d", "label": "yes"}\n', ["line 2", "half a character"]),
    "long text": (
        b'{"text": "' + b"a" * 100_000 + b'", "label": "yes"}\n',
        ["line 2", "has 100,000 characters (fewer than 100,000 are read)"],
    ),
    "unknown label": (
        b'{"text": "a", "label": "yess"}\n',
        ["line 2", "field 'label' holds 'yess', which is not a label", "did you mean 'yes'? choices: no, yes"],
    ),
    "label out of range": (b'{"text": "a", "label": 2}\n', ["line 2", "holds 2, which is not a label"]),
    "hidden label": (b'{"text": "a", "label": -1}\n', ["line 2", "holds -1, which is not a label"]),
}


@pytest.mark.parametrize("fault", BAD_LINES)
def test_a_bad_line_is_named_with_file_line_and_value(tmp_path: Path, fault: str) -> None:
    line, expected = BAD_LINES[fault]
    path = tmp_path / "train.jsonl"
    path.write_bytes(GOOD + line + GOOD)
    text = message(path)
    assert text.startswith(f"{path}, line 2: ")
    for part in expected:
        assert part in text
    with gzip.open(tmp_path / "train.jsonl.gz", "wb") as file:
        file.write(GOOD + line + GOOD)
    assert message(tmp_path / "train.jsonl.gz") == text.replace("train.jsonl", "train.jsonl.gz")


def test_a_long_text_just_under_the_bound_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", [{"text": "a" * 99_999, "label": "yes"}])
    assert len(examples(path)[0].inputs[0][0][0]) == 99_999
    path = write(tmp_path / "train.csv", [{"text": "a" * 150_000, "label": "yes"}])
    assert "line 2: field 'text' has 150,000 characters" in message(path)


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file(tmp_path: Path, content: bytes) -> None:
    for name in ("train.jsonl", "train.csv", "train.tsv"):
        path = tmp_path / name
        path.write_bytes(content)
        assert message(path) == f"{path}, line 1: the file holds no rows"


def test_a_header_without_rows(tmp_path: Path) -> None:
    for name, header in (("train.csv", "text,label\n"), ("train.tsv", "text\tlabel\n")):
        path = tmp_path / name
        path.write_text(header)
        assert message(path) == f"{path}, line 1: the file holds no rows"


def test_a_gzip_file_that_was_cut_short(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl.gz", [{"text": f"text {i}", "label": "yes"} for i in range(1000)])
    path.write_bytes(path.read_bytes()[:-200])
    text = message(path)
    assert f"{path}, line " in text
    assert "cannot be unpacked: the gzip data ends early" in text
    assert f"gzip -t {path}" in text


def test_a_file_that_is_not_gzip_though_its_name_says_so(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(GOOD)
    assert "line 1: cannot be unpacked: not valid gzip data" in message(path)


def test_gzip_data_with_a_flipped_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl.gz", [{"text": f"text {i * 7919}", "label": "yes"} for i in range(1000)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert "cannot be unpacked" in message(path)


def test_a_file_that_is_not_parquet(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(GOOD)
    assert f"{path}, row 1: cannot be read as Parquet" in message(path)


def test_parquet_faults_are_named_by_row(tmp_path: Path) -> None:
    path = write(tmp_path / "train.parquet", [{"text": "a", "label": 1}, {"text": None, "label": 0}])
    assert f"{path}, row 2: field 'text' is missing" in message(path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("train.csv", 'text,label\na,yes\n"b"c,no\n', "line 3: is not valid CSV"),
        ("train.csv", 'text,label\na,yes\n"b,no\nc,no\n', "line 3: is not valid CSV"),
        ("train.csv", "text,label\na,yes\nb,c,no\n", "line 3: has 3 cells, but the header has 2: text, label"),
        ("train.tsv", "text\tlabel\na\tyes\nb\n", "line 3: has 1 cells, but the header has 2: text, label"),
        ("train.tsv", "text\ttext\tlabel\na\tb\tyes\n", "line 1: the header names 'text' twice"),
        ("train.csv", "some sentence,yes\nanother,no\n", "line 2: field 'text' is missing"),
    ],
)
def test_faults_of_tables(tmp_path: Path, name: str, content: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert f"{path}, {expected}" in message(path)


def test_a_bad_byte_in_a_table(tmp_path: Path) -> None:
    for name, separator in (("train.csv", b","), ("train.tsv", b"\t")):
        path = tmp_path / name
        path.write_bytes(b"text,label\na,yes\ncaf\xe9,no\nb,maybe\n".replace(b",", separator))
        with pytest.raises(TaskError) as caught:
            examples(path)
        assert [p.place for p in caught.value.problems] == [f"{path}, line 3", f"{path}, line 4"]


def test_all_problems_at_once_in_order_and_no_more_than_twenty(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"{\n" + GOOD + b'{"text": "a", "label": "maybe"}\n' + b"[]\n" * 1500)
    with pytest.raises(TaskError) as caught:
        examples(path)
    problems = caught.value.problems
    assert len(problems) == 21
    assert [p.place for p in problems[:3]] == [f"{path}, line {n}" for n in (1, 3, 4)]
    assert str(problems[20]) == "and 1,482 more"


def test_numbers_outside_the_range_of_a_regression(tmp_path: Path) -> None:
    task = Task("scores", 1, Single("text", output="value"), ("spearman",), bounds=(0, 5))
    path = tmp_path / "train.jsonl"
    for value in ("5.1", '"high"', "true", "NaN", "Infinity"):
        path.write_text(f'{{"text": "a", "label": {value}}}\n')
        assert "which is not a number from 0 to 5" in message(path, task)
    path.write_text('{"text": "a", "label": "2.5"}\n')
    assert examples(path, task)[0].label == 2.5
    unbounded = Task("scores", 1, Single("text", output="value"), ("spearman",))
    path.write_text('{"text": "a", "label": Infinity}\n')
    assert "not a number" in message(path, unbounded)


def test_choices_that_are_no_list_and_labels_outside_them(tmp_path: Path) -> None:
    task = Task("picks", 1, Choice("text", ("ends",)), ("accuracy",))
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"text": "a", "ends": "b", "label": 0}\n{"text": "a", "ends": ["b", "c"], "label": 2}\n'
        '{"text": "a", "ends": ["b", ""], "label": 1}\n{"text": "a", "ends": ["b", "c"], "label": 1}\n'
    )
    with pytest.raises(TaskError) as caught:
        examples(path, task)
    first, second, third = caught.value.problems
    assert "not a list of two or more choices" in first.message
    assert second.place == f"{path}, line 2"
    assert second.hint == "choices: 0, 1"
    assert third.message == "field 'ends' is empty"


SPAN = Task("asked", 1, Span("text", "question", "answers", starts="starts"), ("exact_match",))
TAGS = Task("tagged", 1, Tagging("words"), ("accuracy",), labels=("N", "V"), label="tags")
EDGES = Task("edges", 1, EdgeProbing(2), ("micro_f1",), labels=("no", "yes"))
BAD_STRETCHES: dict[str, tuple[Task, dict[str, Any], str]] = {
    "no answer": (SPAN, {"answers": [], "starts": []}, "field 'answers' is empty: a question needs an answer"),
    "not in the passage": (SPAN, {"answers": ["it"], "starts": [0]},
                           "field 'starts' is 0: there stands 'th', not 'it'"),
    "behind the passage": (SPAN, {"answers": ["cup"], "starts": [90]},
                           "field 'starts' is 90: there stands '', not 'cup'"),
    "fewer starts": (SPAN, {"answers": ["the", "cup"], "starts": [0]}, "field 'starts' holds 1 places for 2 answers"),
    "unknown tag": (TAGS, {"words": ["a", "b"], "tags": ["N", "X"]}, "field 'tags' holds 'X', which is not a label"),
    "fewer tags": (TAGS, {"words": ["a", "b"], "tags": ["N"]}, "field 'tags' holds 1 tags for 2 words"),
    "outside the text": (EDGES, {"targets": [{"span1": [0, 1], "span2": [1, 3], "label": "no"}]},
                         "field 'span2' is [1, 3], not [begin, end) in a text of 2 words"),
    "no second stretch": (EDGES, {"targets": [{"span1": [0, 1], "label": "no"}]}, "field 'span2' is missing"),
    "no targets": (EDGES, {"targets": {}}, "field 'targets' is {}, not a list of targets"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD_STRETCHES)
def test_a_bad_stretch_answer_or_tag_is_named_with_file_line_and_field(tmp_path: Path, fault: str) -> None:
    task, wrong, expected = BAD_STRETCHES[fault]
    good = {"text": "the cup", "question": "what?", "answers": ["cup"], "starts": [4], "words": ["a"], "tags": ["V"]}
    good["targets"] = [{"span1": [0, 2], "span2": [1, 2], "label": ["no", "yes"]}]
    path = write(tmp_path / "train.jsonl", [good, {**good, **wrong}])
    assert message(path, task).startswith(f"{path}, line 2: {expected}")


def test_every_row_has_the_same_number_of_choices(tmp_path: Path) -> None:
    task = Task("picks", 1, Choice("text", ("ends",)), ("accuracy",))
    path = tmp_path / "train.jsonl"
    rows = [["b", "c"], ["d", "e"], ["f", "g", "h"]]
    path.write_text("".join(json.dumps({"text": "a", "ends": ends, "label": 1}) + "\n" for ends in rows))
    with pytest.raises(TaskError) as caught:
        examples(path, task)
    (problem,) = caught.value.problems
    assert problem.place == f"{path}, line 3"
    assert problem.message == "field 'ends' holds 3 choices, but that of the first row 2"


RELEASED = replace(
    SINGLE, release=Release(columns=(("label", "text"), ("part", "label", "text"))), labels=("no", "yes")
)


@pytest.mark.parametrize("name", ["train.tsv", "train.txt", "train.txt.gz"])
def test_a_table_without_a_header_has_the_columns_of_its_release(tmp_path: Path, name: str) -> None:
    def written(text: str) -> list[tuple[Any, float]]:
        with gzip.open(folder / name, "wt") if name.endswith(".gz") else (folder / name).open("w") as file:
            file.write(text)
        source = locate(RELEASED, [tmp_path])
        return [(e.inputs[0][0][0], e.label) for e in read(RELEASED, source, "train")]

    folder = tmp_path / "singles"
    folder.mkdir()
    (folder / "validation.jsonl").write_bytes(GOOD)
    assert written('yes\tone "text\nno\tanother\n') == [('one "text', 1), ("another", 0)]
    assert written("tr\tyes\tone\ntr\tno\ttwo\n") == [("one", 1), ("two", 0)]
    assert written("text\tid\tlabel\none\t7\tyes\n") == [("one", 1)]  # a header is a header
    with pytest.raises(TaskError, match="line 2: has 1 cells, but rows have 2: label, text or 3: part, label, text"):
        written("yes\tone\nno\n")


def test_broken_lines_are_left_out_and_counted_only_of_a_release_that_has_them(tmp_path: Path) -> None:
    folder = tmp_path / "singles"
    folder.mkdir()
    (folder / "train.tsv").write_text("text\tlabel\na\tyes\nb\nc\tno\n")
    (folder / "dev.tsv").write_text("text\tlabel\na\tyes\n")
    ragged = replace(SINGLE, release=Release(ragged=True))
    source = locate(ragged, [folder.parent])
    assert [(e.row, e.inputs[0][0]) for e in read(ragged, source, "train")] == [(0, ("a",)), (2, ("c",))]
    broken = list(rows(source.files["train"], Release(ragged=True)))[1][1]
    assert isinstance(broken, Omitted)
    assert ragged.parts(broken) == (broken,)
    assert "it has 1 cells, but the header has 2: text, label" in broken.why
    with pytest.raises(TaskError, match="line 3: has 1 cells, but the header has 2"):
        read(SINGLE, source, "train")


def test_integers_stand_for_positions_only_where_no_label_is_a_number() -> None:
    depth = Task("depth", 1, Single("text"), ("accuracy",), labels=("4", "5"))
    assert depth.examples(0, {"text": "a", "label": 4})[0].label == 0
    assert PAIR.read_label(1, 1) == 1
    with pytest.raises(Exception, match="holds 1, which is not a label"):
        depth.examples(0, {"text": "a", "label": 1})


def test_a_release_that_counts_from_one_has_no_zero() -> None:
    task = Task("picks", 1, Choice("text", ("a", "b")), ("accuracy",), spellings={"1": "0", "2": "1"})
    row = {"text": "t", "a": "x", "b": "y"}
    assert [task.examples(0, row | {"label": n})[0].label for n in ("1", 2)] == [0, 1]
    with pytest.raises(Exception, match="holds 0, which is not a label") as caught:
        task.examples(0, row | {"label": 0})
    assert getattr(caught.value, "hint", "") == "choices: 1, 2"


def test_a_column_may_be_called_with_a_dot(tmp_path: Path) -> None:
    task = Task("dotted", 1, Single("body.text"), ("accuracy",), labels=("no", "yes"))
    path = tmp_path / "train.csv"
    path.write_text("body.text,label\na,yes\n")
    assert examples(path, task)[0].inputs == ((("a",), None),)

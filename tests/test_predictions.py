"""Predictions in their file: every kind comes back as it went, also from files that say less than today's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.predicted import KINDS, equal, of, predictions

from layover.predictions import Predictions, read, texts, write


def back(folder: Path, run: Predictions) -> Predictions:
    write(folder / "p.parquet", run, [np.zeros(2)] * len(run), {"task": "mine"})
    return read(folder / "p.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predictions")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_every_kind_is_written_and_read_back(kind, data, folder: Path) -> None:
    run = data.draw(predictions(kind))
    found = back(folder, run)
    assert equal(found, run)
    assert found.kind == kind
    assert (found.rows.dtype, found.gold.dtype) == (np.int64, run.gold.dtype)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.lists(st.text(), min_size=1).map(tuple), st.text()), min_size=1, max_size=5))
def test_any_text_comes_back(folder: Path, pairs) -> None:
    gold, predicted = zip(*pairs, strict=True)
    found = back(folder, of(gold, predicted, 0, "text"))
    assert found.gold.tolist() == list(gold)
    assert found.predicted.tolist() == list(predicted)


def test_the_file_holds_what_its_docstring_says(tmp_path: Path) -> None:
    run = of([[1, 0, 1], [0, 0, 0]], [[0, 1, 0], [1, 1, 1]], 3, "labels", rows=[4, 4], parts=[0, 1])
    write(tmp_path / "p.parquet", run, [np.array([0.25, 1, 2]), np.zeros(1)], {"task": "mine", "labels": "a\tb\tc"})
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.to_pylist() == [
        {"row": 4, "part": 0, "gold": [0, 2], "predicted": [1], "scores": [0.25, 1, 2]},
        {"row": 4, "part": 1, "gold": [], "predicted": [0, 1, 2], "scores": [0]},
    ]
    facts = {b"n_classes": b"3", b"kind": b"labels", b"task": b"mine", b"labels": b"a\tb\tc"}
    assert table.schema.metadata == facts


def test_sets_without_any_label_come_back(tmp_path: Path) -> None:
    assert equal(back(tmp_path, run := of([[0, 0]] * 3, [[0, 0]] * 3, 2, "labels")), run)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        ({"n_classes": "2", "labels": "no\tyes"}, "classes"),
        ({"n_classes": "2"}, "classes"),
        ({"n_classes": "4", "labels": ""}, "choice"),
        ({"n_classes": "0", "labels": ""}, "value"),
        ({}, "value"),
    ],
)
def test_files_without_part_and_kind_are_read(tmp_path: Path, facts: dict[str, str], kind: str) -> None:
    """Stores were written before there were more than three kinds."""
    columns = {"row": np.arange(3), "gold": np.array([0.0, 1, 1]), "predicted": np.array([0, 1, 0])}
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), tmp_path / "p.parquet")
    found = read(tmp_path / "p.parquet")
    expected = of([0.0, 1, 1], [0.0, 1, 0], int(facts.get("n_classes", 0)))
    assert equal(found, replace(expected, kind=kind))  # pyright: ignore[reportArgumentType]
    assert found.parts is None
    assert found.part_of_each().tolist() == [0, 0, 0]


def test_a_question_is_a_row_and_a_part() -> None:
    run = of([0.0] * 6, [0.0] * 6, rows=[7, 7, 2, 2, 7, 3], parts=[0, 1, 0, 1, 0, 0])
    assert run.questions().tolist() == [3, 4, 0, 1, 3, 2]
    assert replace(run, parts=None).questions().tolist() == [2, 2, 0, 0, 2, 1]


@given(predictions("answers"))
def test_questions_are_numbered_apart_and_without_gaps(run: Predictions) -> None:
    assert run.parts is not None
    pairs = list(zip(run.rows.tolist(), run.parts.tolist(), strict=True))
    number = {pair: n for n, pair in enumerate(sorted(set(pairs)))}
    assert run.questions().tolist() == [number[pair] for pair in pairs]


def test_tuples_of_one_length_stay_tuples() -> None:
    assert texts([("a", "b"), ("c", "d")]).tolist() == [("a", "b"), ("c", "d")]

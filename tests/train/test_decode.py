"""Decode: from tokens and scores back to what a task is scored by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import FAMILIES, stretch_rows, stretch_tasks

from layover.metrics import get_metric
from layover.tasks.spans import Span
from layover.tasks.task import Task
from layover.train.decode import Raw, decode, whole_words
from layover.train.encode import encode


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def encoded(task: Task, rows: list[dict[str, Any]], tokenizer: Any, length: int = 64) -> Any:
    return encode([e for i, row in enumerate(rows) for e in task.examples(i, row)], task, tokenizer, length)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gold_tokens_of_an_answer_decode_to_its_text(encoder: Callable[[str], Path], family: str) -> None:
    task = Task("s", 1, Span("text", "question", "word", "begin"), ("token_f1", "exact_match"))
    found = encoded(task, stretch_rows(20), load(encoder(family)))
    assert not found.lost.any()
    decoded = decode(task, found, Raw(found.spans[:, 0].astype(float), np.zeros((20, 2))), 0)
    assert [g[0] for g in decoded.predictions.gold] == decoded.predictions.predicted.tolist()
    assert get_metric("exact_match").score(decoded.predictions) == 100


def test_an_answer_that_was_cut_off_is_an_empty_prediction(bert: Path) -> None:
    task = Task("s", 1, Span("p", "q", "a"), ("token_f1", "exact_match"))
    found = encoded(task, [{"p": "film " * 20 + "good", "q": "what", "a": "good"}], load(bert), 12)
    assert found.lost.tolist() == [True]
    decoded = decode(task, found, Raw(np.zeros((1, 2)), np.full((1, 2), -np.inf)), 0)
    assert decoded.predictions.predicted.tolist() == [""]
    assert decoded.scores[0].tolist() == []
    assert get_metric("token_f1").score(decoded.predictions) == 0


def test_part_of_a_word_is_widened_to_the_word() -> None:
    assert whole_words("the U.S. army", 4, 6) == "U.S."
    assert whole_words("the U.S. army", 5, 10) == "U.S. army"
    assert whole_words("army", 1, 2) == "army"
    assert whole_words("an army", 2, 4) == "army"


@given(text=st.text("ab \t\n", min_size=1, max_size=12), ends=st.tuples(st.integers(0, 11), st.integers(1, 12)))
def test_widening_adds_no_blank_at_an_end_and_loses_nothing(text: str, ends: tuple[int, int]) -> None:
    begin, end = min(ends[0], len(text)), min(max(ends), len(text))
    found = whole_words(text, begin, end)
    assert text[begin:end].strip() in found
    assert found == found.strip()
    assert set(found.split()) <= set(text.split())


def test_of_the_candidates_of_a_query_the_likeliest_is_the_prediction(bert: Path) -> None:
    task = stretch_tasks()["cloze"]
    rows = stretch_rows(3)
    found = encoded(task, rows, load(bert))
    assert found.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    scores = np.array([[0, 1], [0, 3], [0, 2], [5, 5], [9, 4], [1, 0], [0, -3], [0, -1], [0, -2]], float)
    decoded = decode(task, found, Raw(scores.argmax(1).astype(float), scores), 0)
    assert decoded.predictions.predicted.tolist() == [rows[i]["answers"][j] for i, j in enumerate((1, 0, 1))]
    assert decoded.predictions.gold.tolist() == [(row["word"],) for row in rows]
    assert [s.tolist() for s in decoded.scores] == [[1, 3, 2], [0, -5, -1], [-3, -1, -2]]
    assert decoded.predictions.rows.tolist() == [0, 1, 2]


def test_every_word_and_every_answer_is_a_prediction_of_its_row(bert: Path) -> None:
    rows, tokenizer = stretch_rows(4), load(bert)
    for name, per_row in (("tagging", [len(row["words"]) for row in rows]), ("answers", [3] * 4)):
        task = stretch_tasks()[name]
        found = encoded(task, rows, tokenizer)
        n = len(found.labels)
        decoded = decode(task, found, Raw(found.labels, np.zeros((n, 2))), len(task.labels))
        assert decoded.predictions.rows.tolist() == np.repeat(np.arange(4), per_row).tolist()
        assert get_metric("accuracy").score(decoded.predictions) == 100
    assert decoded.predictions.kind == "answers"
    assert decoded.predictions.questions().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]

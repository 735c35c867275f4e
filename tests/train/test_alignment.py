"""Alignment: a stretch of characters becomes exactly the tokens that hold it, in any text and under any tokenizer.

What this guards against happened to others: under RoBERTa, words lost their first letter ("Larger" -> "arger").
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.kit import stretch_tasks

from layover.tasks.example import Example, Mark, Target
from layover.tasks.formats import Single
from layover.tasks.spans import EdgeProbing, Span, WordInContext, word_marks
from layover.tasks.task import Task
from layover.train.encode import encode, locate, stretches

TOKENIZERS = ("bert", "roberta", "deberta-v3", "modernbert")
EDGES = Task("e", 1, EdgeProbing(1), ("micro_f1",), ("a", "b"))
WORDS = st.lists(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=9).filter(lambda w: not set(w) & BLANKS),
    min_size=1,
    max_size=8,
)
BLANKS = {chr(c) for c in range(0x3001) if chr(c).isspace()}


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(params=[*TOKENIZERS, "minilm"])
def tokenizer(request: pytest.FixtureRequest, encoder: Callable[[str], Path]) -> Any:
    if request.param != "minilm":
        return load(encoder(request.param))
    from layover.encoders import find
    from layover.errors import UserError

    try:
        return load(Path(find("minilm").location))
    except UserError:
        pytest.skip("minilm is not installed")


def tokens_of(text: str, tokenizer: Any) -> tuple[Any, list[tuple[int, int]], np.ndarray]:
    """A text's ids, the characters of each token, and the segment of each token."""
    found = tokenizer(text, return_offsets_mapping=True)
    segment = np.array([-1 if s is None else s for s in found.sequence_ids(0)])
    return found["input_ids"], found["offset_mapping"], segment


def spelt_out(tokenizer: Any, ids: Any) -> str:
    """The characters of tokens, without the marks of WordPiece and SentencePiece."""
    return re.sub(r"##|▁|\s", "", tokenizer.decode(ids))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS, ends=st.tuples(st.integers(0, 7), st.integers(0, 7)))
@example(words=["Larger", "things"], ends=(0, 0))
@example(words=["e\u0301te\u0301", "日本語", "🙂👍🏽", "ﬁn", "İ"], ends=(1, 4))
@example(words=["a", "\u200b", "b"], ends=(1, 1))
def test_a_stretch_is_exactly_the_tokens_that_hold_its_characters(
    tokenizer: Any, words: list[str], ends: tuple[int, int]
) -> None:
    text, marks = " ".join(words), word_marks(words)
    first, last = sorted(min(end, len(words) - 1) for end in ends)
    mark = Mark(0, marks[first].begin, marks[last].end)
    _, chars, segment = tokens_of(text, tokenizer)
    begin, end = locate([mark], np.array(chars, np.int32), segment, cut=False)[0]
    held = [
        i for i, (a, b) in enumerate(chars) if segment[i] == 0 and b > a and a < mark.end and b > mark.begin
    ]  # what overlaps, told token by token
    assert (begin, end) == ((held[0], held[-1] + 1) if held else (0, 0))
    covered = {c for i in held for c in range(*chars[i])}
    if set(range(mark.begin, mark.end)) <= covered:  # no character that the tokenizer drops
        assert text[chars[begin][0] : chars[end - 1][1]].strip() == " ".join(words[first : last + 1]).strip()


@pytest.mark.parametrize("text", ["Larger things come", "the Larger Thing", "good things"])
def test_the_tokens_of_a_word_decode_to_the_word(tokenizer: Any, text: str) -> None:
    ids, chars, segment = tokens_of(text, tokenizer)
    for word, mark in zip(text.split(), word_marks(text.split()), strict=True):
        begin, end = locate([mark], np.array(chars, np.int32), segment, cut=False)[0]
        decoded = spelt_out(tokenizer, ids[begin:end])
        assert decoded in (word, word.lower()) or "[UNK]" in decoded


def test_marks_in_both_segments_of_a_pair_are_found_in_their_own(tokenizer: Any) -> None:
    form = WordInContext("a", "b", ("c", "d", "e", "f"))
    task = Task("w", 1, form, ("accuracy",), ("n", "y"))
    row = {"a": "the film", "b": "a good film film", "c": 4, "d": 8, "e": 12, "f": 16, "label": 0}
    found = encode(task.examples(0, row), task, tokenizer, 64)
    pieces = [spelt_out(tokenizer, found.ids[a:b]) for a, b in found.spans[0]]
    assert pieces == ["film", "film"]
    last = found.spans[0][1]
    assert last[1] == len(found.ids) - 1  # the last film of the second text, before the special token


# what is cut off


def edges(n_words: int, at: list[tuple[int, int]]) -> Example:
    marks = word_marks(["film"] * n_words)
    targets = tuple(Target((0.0,), (Mark(0, marks[a].begin, marks[b - 1].end),)) for a, b in at)
    return Example(0, (((" ".join(["film"] * n_words),), None),), targets)


@pytest.fixture
def bert_tokenizer(bert: Path) -> Any:
    return load(bert)


def test_a_stretch_that_was_cut_off_is_lost_and_one_that_is_not_stays(bert_tokenizer: Any) -> None:
    # 8 tokens: special, six words, special
    found = encode([edges(10, [(0, 1), (5, 6), (4, 7), (6, 7), (9, 10)]), edges(6, [(5, 6)])], EDGES, bert_tokenizer, 8)
    assert found.lost.tolist() == [False, False, True, True, True, False]
    assert found.spans[:, 0].tolist() == [[1, 2], [6, 7], [0, 0], [0, 0], [0, 0], [6, 7]]
    assert found.truncated.tolist() == [True, False]
    assert found.known(np.array([1, 0])).tolist() == [5, 0, 1]


def test_an_answer_in_the_end_of_a_passage_that_gives_way_to_the_question_is_lost(bert_tokenizer: Any) -> None:
    task = Task("s", 1, Span("p", "q", "a"), ("token_f1",))
    rows = [{"p": "film " * 9 + word, "q": "what was good", "a": word} for word in ("story", "film")]
    found = encode([e for i, row in enumerate(rows) for e in task.examples(i, row)], task, bert_tokenizer, 12)
    assert found.lost.tolist() == [True, False]
    assert found.input_lengths.max() <= 12
    assert found.chars is not None
    inside = [found.chars[a:b] for a, b in found.offsets]
    for chars in inside:
        held = [i for i, (a, b) in enumerate(chars) if b > a]
        assert held == list(range(1, 1 + len(held)))  # the passage comes first; the question is outside
        assert [(a, b) for a, b in chars[held]] == [(5 * i, 5 * i + 4) for i in range(len(held))]
        assert len(held) < len(chars) - 4


def test_taking_some_examples_takes_everything_that_is_theirs(bert_tokenizer: Any) -> None:
    tasks = stretch_tasks()
    from tests.kit import stretch_rows

    for name in ("edge1", "span", "cloze", "tagging"):
        task = tasks[name]
        examples = [e for i, row in enumerate(stretch_rows(8)) for e in task.examples(i, row)]
        whole = encode(examples, task, bert_tokenizer, 16)
        some = np.array([5, 0, 3])
        taken, alone = whole.take(some), encode([examples[i] for i in some], task, bert_tokenizer, 16)
        assert taken.input_lengths.tolist() == alone.input_lengths.tolist()
        tokens = stretches(*taken.offsets.T)
        for field in (field.name for field in dataclasses.fields(alone)):
            expected = getattr(alone, field)
            found = getattr(taken, field)
            assert (found is None) == (expected is None), field
            if expected is None or field == "offsets":
                continue
            found = found[tokens] if field in ("ids", "types", "chars") else found
            if field in ("texts", "golds"):
                found, expected = found.to_pylist(), expected.to_pylist()
            assert np.array_equal(np.asarray(found, object), np.asarray(expected, object)), field


def test_texts_and_numbers_have_no_stretches(bert_tokenizer: Any) -> None:
    task = Task("t", 1, Single("a"), ("accuracy",), ("n", "y"))
    found = encode(task.examples(3, {"a": "film", "label": 1}), task, bert_tokenizer, 16)
    assert found.spans.shape == (1, 0, 2)
    assert found.lost.tolist() == [False]
    assert (found.chars, found.texts, found.golds) == (None, None, None)

"""Encoding: what fits is as the tokenizer makes it; what does not loses the piece that its format names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAMILIES

from layover.tasks.example import Example, Target
from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.task import Task
from layover.train.encode import CHUNK, encode

TASKS = {
    "text": Task("t", 1, Single("a"), ("accuracy",), ("no", "yes")),
    "longest": Task("t", 1, Pair("a", "b"), ("accuracy",), ("no", "yes")),
    "first": Task("t", 1, Choice("a", ("b", "c")), ("accuracy",)),
}
YES = (Target((1.0,)),)
LONG = " ".join(["the film was good and a story about trains"] * 6)
QUESTION, CHOICE = "what was bad", "the way to you"


@pytest.fixture
def tokenizer(bert: Path) -> Any:
    return load(bert)


def load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def texts(encoded: Any, tokenizer: Any) -> list[str]:
    """The inputs as text, special tokens included."""
    return [tokenizer.decode(encoded.ids[a:b]) for a, b in encoded.offsets]


def one(first: tuple[str, ...], second: tuple[str, ...] | None = None, row: int = 0) -> Example:
    return Example(row, ((first, second),), YES)


def test_what_fits_is_what_the_tokenizer_makes_of_it(tokenizer: Any) -> None:
    found = encode([one(("the film",), ("was good",), 3)], TASKS["longest"], tokenizer, 32)
    expected = tokenizer("the film", "was good")
    assert found.ids.tolist() == expected["input_ids"]
    assert found.types is not None
    assert found.types.tolist() == expected["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert (found.rows.tolist(), found.labels.tolist(), found.truncated.tolist()) == ([3], [1.0], [False])


def test_pieces_are_joined_by_a_space(tokenizer: Any) -> None:
    found = encode([one(("the film", "was good"))], TASKS["text"], tokenizer, 32)
    assert texts(found, tokenizer) == ["[CLS] the film was good [SEP]"]


def test_choices_make_one_input_each(tokenizer: Any) -> None:
    examples = [
        Example(0, (((LONG[:20],), ("good",)), ((LONG[:20],), ("bad",)), ((LONG[:20],), ("fine",))), (Target((2.0,)),)),
        Example(5, (((LONG[:20],), ("good",)), ((LONG[:20],), ("bad film",))), YES),
    ]
    found = encode(examples, TASKS["first"], tokenizer, 32)
    assert found.groups.tolist() == [0, 3, 5]
    assert len(found) == 2
    assert len(found.input_lengths) == 5
    assert found.longest[1] == found.input_lengths[4]


def test_a_long_text_keeps_its_beginning(tokenizer: Any) -> None:
    found = encode([one((LONG,)), one(("good",))], TASKS["text"], tokenizer, 12)
    assert found.input_lengths.tolist() == [12, 3]
    assert texts(found, tokenizer)[0] == "[CLS] the film was good and a story about trains the [SEP]"
    assert found.truncated.sum() == 1


def test_of_a_pair_the_longest_loses_its_end(tokenizer: Any) -> None:
    for first, second in ((LONG, CHOICE), (CHOICE, LONG)):
        found = encode([one((first,), (second,))], TASKS["longest"], tokenizer, 16)
        assert found.input_lengths.tolist() == [16]
        assert CHOICE in texts(found, tokenizer)[0]
        assert found.truncated.sum() == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_context_is_cut_and_question_and_choice_stay(encoder: Callable[[str], Path], family: str) -> None:
    tokenizer = load(encoder(family))
    least = tokenizer(f"the {QUESTION}", CHOICE)["input_ids"]
    tail = least[1 + len(tokenizer("the", add_special_tokens=False)["input_ids"]) :]
    for spare in (0, 1, 5, 12):
        found = encode([one((LONG, QUESTION), (CHOICE,))], TASKS["first"], tokenizer, len(least) + spare)
        assert found.ids.tolist()[-len(tail) :] == tail
        assert len(least) + spare - 3 <= len(found.ids) <= len(least) + spare  # little more is cut than must be
        assert found.truncated.sum() == 1


def test_a_pair_that_cuts_its_first_text_keeps_the_second_whole(tokenizer: Any) -> None:
    found = encode([one((LONG,), (LONG[:60],))], TASKS["first"], tokenizer, 24)
    assert found.input_lengths.tolist() == [24]
    assert texts(found, tokenizer)[0].endswith(f"[SEP] {LONG[:60].strip()} [SEP]")


def test_where_the_named_piece_is_too_short_the_rest_gives(tokenizer: Any) -> None:
    found = encode([one(("the", LONG), (LONG,))], TASKS["first"], tokenizer, 16)
    assert found.input_lengths.tolist() == [16]


def test_a_piece_without_tokens_is_no_obstacle(tokenizer: Any) -> None:
    found = encode([one(("\u200b\u200b", LONG), (CHOICE,))], TASKS["first"], tokenizer, 16)
    assert found.input_lengths.tolist() == [16]


def test_an_example_counts_once_however_many_of_its_inputs_were_cut(tokenizer: Any) -> None:
    both = Example(0, (((LONG,), ("good",)), ((LONG,), ("bad",))), YES)
    second = Example(1, ((("good",), ("good",)), ((LONG,), ("bad",))), YES)
    neither = Example(2, ((("good",), ("good",)), (("bad",), ("bad",))), YES)
    assert encode([both, second, neither], TASKS["first"], tokenizer, 16).truncated.sum() == 2


@pytest.mark.parametrize("cut", ["text", "longest", "first"])
@pytest.mark.parametrize("length", [8, 9, 17, 64])
def test_nothing_is_ever_longer_than_the_limit(encoder: Callable[[str], Path], cut: str, length: int) -> None:
    for family in ("bert", "roberta", "deberta-v3"):
        second = None if cut == "text" else (LONG,)
        examples = [one((LONG[:n] + "x",), second) for n in range(0, 120, 7)]
        found = encode(examples, TASKS[cut], load(encoder(family)), length)
        assert found.input_lengths.max() <= length
        assert len(found) == len(examples)


def test_many_inputs_keep_their_order(tokenizer: Any) -> None:
    words = ["good", "bad", "film", "story"]
    examples = [one((words[i % 4],), row=i) for i in range(CHUNK + 5)]
    found = encode(examples, TASKS["text"], tokenizer, 16)
    assert found.rows.tolist() == list(range(CHUNK + 5))
    assert texts(found, tokenizer) == [f"[CLS] {words[i % 4]} [SEP]" for i in range(CHUNK + 5)]


def test_a_tokenizer_without_types_gives_none(encoder: Callable[[str], Path]) -> None:
    found = encode([one(("the film",), ("was good",))], TASKS["longest"], load(encoder("roberta")), 16)
    assert found.types is None
    assert found.offsets.tolist() == [[0, len(found.ids)]]


def test_no_examples_are_no_trouble(tokenizer: Any) -> None:
    assert len(encode([], TASKS["text"], tokenizer, 16)) == 0

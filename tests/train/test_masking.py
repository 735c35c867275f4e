"""Which tokens are hidden: how many, by what, and what that depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from layover.tasks.example import Example
from layover.tasks.task import Task
from layover.tasks.text import Text
from layover.train import warm
from layover.train.encode import Encoded, encode
from layover.train.masking import Masking, hidden_once, numbers

Encoders = Callable[[str], Path]
TASK = Task("wiki", 1, Text("text"), ("masked_accuracy",))
WORDS = ("the", "film", "was", "and", "a", "story", "about", "trains", "stop", "on", "way", "to", "you", "good", "fine")


def encoded(encoder: Encoders, family: str = "bert", n: int = 40) -> tuple[Encoded, Masking]:
    """Texts of 1 to 20 words, ready to be hidden."""
    tokenizer = warm.tokenizer(str(encoder(family)))
    examples = [Example(i, (((" ".join(WORDS[: 1 + i % len(WORDS)]),), None),), ()) for i in range(n)]
    data = encode(examples, TASK, tokenizer, 64)
    masking = Masking.of(tokenizer, len(tokenizer), 7)
    return replace(data, masking=masking), masking


def many(tokens: int, examples: int, special: int = 2) -> tuple[Any, Masking]:
    """Examples of so many tokens that are not special, beside special ones; the vocabulary has ids 5 to 54."""
    flags = np.arange(55) < 5
    ids = np.random.default_rng(0).integers(5, 55, (examples, tokens + special)).astype(np.int32)
    ids[:, :special] = np.arange(special)
    sizes = np.full(examples, tokens + special)
    counts = numbers(ids.ravel(), sizes, np.arange(examples), np.zeros(examples), flags)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    data = SimpleNamespace(ids=ids.ravel(), tokens=sizes, bounds=bounds, rows=np.arange(examples),
                           parts=np.zeros(examples, np.int64))  # fmt: skip
    return data, Masking(4, np.arange(5, 55), flags, 55, seed=3)


@pytest.mark.parametrize("tokens", [13, 20, 61])
def test_fifteen_per_cent_are_hidden_and_of_these_eighty_ten_and_ten(tokens: int) -> None:
    examples = 4000
    data, masking = many(tokens, examples)
    read, places, right = masking.hide(data, np.arange(examples), data.ids, step=11)
    total = examples * tokens
    assert abs(len(places) - 0.15 * total) < 4 * np.sqrt(examples / 4)  # each number is rounded up or down at random
    masked = read[places] == masking.mask
    changed = (read[places] != right) & ~masked
    kept = read[places] == right
    # one in 50 random tokens is the right one by chance
    shares = np.array([0.8, 0.1 * 49 / 50, 0.1 + 0.1 / 50])
    counts = np.array([masked.sum(), changed.sum(), kept.sum()])
    assert stats.chisquare(counts, shares * len(places)).pvalue > 0.001
    assert stats.chisquare(np.bincount(read[places][changed], minlength=55)[5:]).pvalue > 0.001
    where = np.bincount(places % (tokens + 2), minlength=tokens + 2)
    assert where[:2].tolist() == [0, 0]
    assert stats.chisquare(where[2:]).pvalue > 0.001


def test_nothing_else_changes_and_what_was_there_is_known() -> None:
    data, masking = many(20, 50)
    before = data.ids.copy()
    read, places, right = masking.hide(data, np.arange(50), data.ids, step=0)
    assert np.array_equal(data.ids, before)
    assert np.array_equal(right, before[places])
    others = np.setdiff1d(np.arange(len(before)), places)
    assert np.array_equal(read[others], before[others])


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_special_tokens_are_neither_hidden_nor_put_in(encoder: Encoders, family: str) -> None:
    data, masking = encoded(encoder, family)
    special = set(warm.tokenizer(str(encoder(family))).all_special_ids)
    seen = set()
    for step in range(50):
        read, places, right = masking.hide(data, np.arange(len(data)), data.ids, step)
        assert not special & set(right.tolist())
        seen |= set(read[places].tolist())
    assert special & seen == {masking.mask}


def test_every_example_has_something_to_learn_as_long_as_it_has_a_token(encoder: Encoders) -> None:
    data, _ = encoded(encoder)
    assert np.diff(data.bounds).min() == 1
    assert not len(encode([Example(0, ((("[MASK] [SEP]",), None),), ())], TASK, warm.tokenizer(str(encoder("bert"))),
                          64).labels)  # fmt: skip


def test_it_depends_on_seed_step_and_example_alone(encoder: Encoders) -> None:
    data, masking = encoded(encoder)

    def hidden(examples: list[int], step: int, by: Masking = masking) -> dict[int, list[Any]]:
        chosen = np.array(examples)
        flat = np.concatenate([data.ids[slice(*data.offsets[i])] for i in examples])
        read, places, _ = by.hide(data, chosen, flat, step)
        ends = np.cumsum(data.tokens[chosen])
        return {e: [read[end - n : end].tolist(), (places[(places >= end - n) & (places < end)] - end + n).tolist()]
                for e, end, n in zip(examples, ends, data.tokens[chosen], strict=True)}  # fmt: skip

    every = hidden(list(range(len(data))), 5)
    parts = {**hidden([7, 3], 5), **hidden([20], 5)}
    assert parts == {e: every[e] for e in (7, 3, 20)}
    assert hidden([17], 6) != hidden([17], 5)
    assert hidden([17], 5, replace(masking, seed=8)) != hidden([17], 5)
    some = data.take(np.array([20, 3]))
    assert some.ids is data.ids
    assert masking.hide(some, np.array([1]), data.ids[slice(*data.offsets[3])], 5)[0].tolist() == every[3][0]


def test_what_is_evaluated_is_hidden_once_whatever_the_seed_and_the_selection(encoder: Encoders) -> None:
    data, masking = encoded(encoder)
    data = data.take(np.array([30, 8, 9, 21]))
    once = hidden_once(data, masking)
    assert once.masking is None
    assert np.array_equal(once.ids, hidden_once(data, replace(masking, seed=99)).ids)
    alone = hidden_once(data.take(np.array([3])), masking)
    assert once.ids[slice(*once.offsets[3])].tolist() == alone.ids.tolist()
    for example in range(4):
        begin, end = once.offsets[example]
        whole = data.ids[slice(*data.offsets[example])].copy()
        targets = slice(*once.bounds[example : example + 2])
        inside = once.spans[targets, 0, 0]
        assert np.array_equal(whole[inside], once.labels[targets])
        whole[inside] = once.ids[begin:end][inside]
        assert np.array_equal(whole, once.ids[begin:end])


def test_bytes_of_a_tokenizer_without_an_entry_in_the_encoder_are_never_put_in(encoder: Encoders) -> None:
    tokenizer = warm.tokenizer(str(encoder("roberta")))
    assert Masking.of(tokenizer, 40, 0).others.max() < 40

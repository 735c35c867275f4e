"""Corruption: shuffles keep words, n-gram probabilities are those counted by hand, swaps have true endings' lengths."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from layover.synthesis.corruption import ENOUGH, Endings, NGrams, corrupted, shuffled
from layover.synthesis.sentences import NO_FAKES, Made, Sentence

SENTENCE = Sentence(7, 1, "the cat sat", "on the mat and on the hat")


def made_of(found: object) -> Made:
    assert isinstance(found, Made)
    return found


def test_a_shuffle_keeps_the_words_and_no_two_are_alike() -> None:
    made = made_of(corrupted(SENTENCE, shuffled, 5, 1))
    assert len({made.ending, *made.fakes}) == 6
    assert all(Counter(fake.split()) == Counter(made.ending.split()) for fake in made.fakes)
    assert made == corrupted(SENTENCE, shuffled, 5, 1)
    assert made.fakes != made_of(corrupted(SENTENCE, shuffled, 5, 2)).fakes


def test_what_cannot_be_made_is_dropped() -> None:
    assert corrupted(Sentence(1, 1, "a b", "word"), shuffled, 1, 1) is NO_FAKES
    assert made_of(corrupted(Sentence(1, 1, "a b", "two words"), shuffled, 1, 1)).fakes == ("words two",)
    assert corrupted(Sentence(1, 1, "a b", "two words"), shuffled, 2, 1) is NO_FAKES


def test_fakes_drawn_again_are_counted() -> None:
    draws = iter(["on the mat and on the hat", "", "one", "one", "two"])
    made = made_of(corrupted(SENTENCE, lambda *_: next(draws), 2, 1))
    assert (made.fakes, made.redrawn) == (("one", "two"), 3)


def test_a_swap_is_another_ending_of_the_same_length() -> None:
    def ending(n: int, i: int) -> Sentence:
        return Sentence(100 * n + i, i, "p", " ".join([f"e{n}x{i}"] * n))

    many = [ending(n, i) for n in (4, 5, 6) for i in range(ENOUGH + 1)]
    draw = Endings(many).draw
    for sentence in many[:: ENOUGH // 5]:
        made = made_of(corrupted(sentence, draw, 3, 1))
        assert {len(fake.split()) for fake in made.fakes} == {len(sentence.ending.split())}
        assert made.ending not in made.fakes
    few = [ending(4, 0), *(ending(6, i) for i in range(3)), ending(20, 0)]
    assert {Endings(few).draw(few[0], random.Random(i)) for i in range(99)} == {s.ending for s in few[1:]}
    assert Endings(few[:1]).draw(few[0], random.Random(1)) == ""


TEXT = [s.split() for s in ("a b c", "a b d", "a b c e", "b d", "c")]
# words: a 3, b 4, c 3, d 2, e 1: 13


def test_ngram_probabilities_are_those_counted_by_hand() -> None:
    model = NGrams(TEXT, 3)
    single = {"a": 3 / 13, "b": 4 / 13, "c": 3 / 13, "d": 2 / 13, "e": 1 / 13}
    for word, expected in single.items():
        assert model.probability(word, []) == pytest.approx(expected)
    # after b: c 2, d 2, so n = 4 and t = 2
    pair = {word: ({"c": 2, "d": 2}.get(word, 0) + 2 * single[word]) / 6 for word in single}
    # after a b: c 2, d 1, so n = 3 and t = 2
    triple = {word: ({"c": 2, "d": 1}.get(word, 0) + 2 * pair[word]) / 5 for word in single}
    for word in single:
        assert model.probability(word, ["b"]) == pytest.approx(pair[word])
        assert model.probability(word, ["x", "a", "b"]) == pytest.approx(triple[word])
    assert model.probability("c", ["e"]) == pytest.approx(single["c"])  # nothing follows e
    assert model.probability("c", ["x", "y"]) == pytest.approx(single["c"])
    assert model.probability("c", ["x", "b"]) == pytest.approx(pair["c"])
    assert model.probability("x", ["a", "b"]) == 0
    assert NGrams(TEXT, 1).probability("c", ["a", "b"]) == pytest.approx(single["c"])


@pytest.mark.parametrize("without", range(len(TEXT)))
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_a_sentence_that_is_left_out_might_not_be_in_the_text(order: int, without: int) -> None:
    whole, rest = NGrams(TEXT, order), NGrams(TEXT[:without] + TEXT[without + 1 :], order)
    for context in ([], ["a"], ["b"], ["a", "b"], ["b", "c"], ["a", "b", "c"], ["e"]):
        found = [whole.probability(word, context, without) for word in "abcde"]
        assert found == pytest.approx([rest.probability(word, context) for word in "abcde"])
        assert sum(found) == pytest.approx(1)


def test_words_are_drawn_with_their_probability() -> None:
    model, stream, n = NGrams(TEXT, 3), random.Random(1), 4_000
    drawn = Counter(model.draw(["a", "b"], stream, without=0) for _ in range(n))
    for word in "abcde":
        expected = model.probability(word, ["a", "b"], without=0)
        assert drawn[word] / n == pytest.approx(expected, abs=4 * (expected * (1 - expected) / n) ** 0.5)


def test_an_ngram_ending_is_as_long_as_the_true_one_and_does_not_recite_it() -> None:
    sentences = ["the cat sat on the mat", "the dog sat on a log", "unique words that nobody else ever wrote"]
    model = NGrams([s.split() for s in sentences], 3)
    sentence = Sentence(2, 1, "unique words that", "nobody else ever wrote")
    draws = [model.ending(sentence, random.Random(i)).split() for i in range(50)]
    assert {len(words) for words in draws} == {4}
    assert not {"nobody", "else", "ever", "wrote"} & {word for words in draws for word in words}
    alone = NGrams([sentences[2].split()], 3)
    assert alone.ending(Sentence(0, 1, "unique words that", "nobody else"), random.Random(1)) == ""

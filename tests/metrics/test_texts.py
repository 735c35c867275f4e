"""Metrics of texts by hand, in plain Python, and by what has to hold for any texts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.predicted import TEXTS, of, predictions, score

from layover.metrics import METRICS
from layover.metrics.texts import normalised, same_words, word_overlap

ANY_TEXT = st.text(alphabet=st.sampled_from("aAnthe .,-'é\tß\u00a0’"), max_size=12) | TEXTS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The U.S.A.", ["usa"]),
        ("a-n apple", ["apple"]),  # punctuation goes before articles, so that what is left may be one
        ("An other, another", ["other", "another"]),
        ("theatre a", ["theatre"]),
        ("  two\twords\n", ["two", "words"]),
        ("don't", ["dont"]),
        ("l’A", ["l’"]),  # only ASCII punctuation goes; a word ends at any other
        ("l’an’il", ["l’", "’il"]),  # and an article between leaves a blank
        ("the_a", ["thea"]),
        ("$3.50 (50%)", ["350", "50"]),
        ("A the AN", []),
        ("", []),
    ],
)
def test_words_are_those_of_squad(text, words) -> None:
    assert normalised(text) == tuple(words)


@pytest.mark.parametrize(
    ("gold", "predicted", "overlap"),
    [
        ("the black cat", "Black cat.", 1.0),
        ("black cat", "cat black", 1.0),  # order does not count
        ("black cat", "cat", 2 / 3),  # precision 1, recall 1/2
        ("cat cat dog", "cat cat cat", 2 / 3),  # two of three either way
        ("cat", "dog", 0.0),
        ("the", "dog", 0.0),
        ("the", "an", 1.0),
    ],
)
def test_overlap_worked_by_hand(gold, predicted, overlap) -> None:
    assert word_overlap(gold, predicted) == pytest.approx(overlap)
    assert same_words(gold, predicted) == float(normalised(gold) == normalised(predicted))


@given(ANY_TEXT, ANY_TEXT)
def test_overlap_is_symmetric_between_0_and_1_and_1_exactly_for_the_same_words(one, other) -> None:
    found = word_overlap(one, other)
    assert found == word_overlap(other, one)
    assert 0 <= found <= 1
    assert (found == 1) == (sorted(normalised(one)) == sorted(normalised(other)))
    assert word_overlap(one, one) == same_words(one, one) == 1
    assert same_words(one, other) <= found


@given(ANY_TEXT)
def test_case_blanks_punctuation_and_articles_do_not_count(text) -> None:
    shouted = "".join(c.upper() if c.isascii() else c for c in text)
    assert same_words(text, f" the  {shouted}\t!. An ") == 1
    assert same_words(text, text + " more") == 0


GOLD, PREDICTED = [("The cat", "a black cat"), ("dog",), ("a dog house",)], ["black cat!", "house", ""]


def test_scores_worked_by_hand() -> None:
    # the nearest of the first's texts is right, nothing of the second is, and the third is no prediction
    assert score("token_f1", GOLD, PREDICTED, 0, "text") == pytest.approx(100 / 3)
    assert score("exact_match", GOLD, PREDICTED, 0, "text") == pytest.approx(100 / 3)
    partly = ["cat black white", "dog", "house"]  # overlaps 2 * 2 / 5, 1, 2 * 1 / 3
    assert score("token_f1", GOLD, partly, 0, "text") == pytest.approx(100 * (0.8 + 1 + 2 / 3) / 3)
    assert score("exact_match", GOLD, partly, 0, "text") == pytest.approx(100 / 3)
    assert score("token_f1_em", GOLD, partly, 0, "text") == pytest.approx((100 * (0.8 + 1 + 2 / 3) / 3 + 100 / 3) / 2)


def test_no_prediction_is_wrong_even_where_the_answer_has_no_words() -> None:
    for name in ("token_f1", "exact_match", "token_f1_em", "token_f1_any", "exact_match_any"):
        assert score(name, [("The",)], [""], 0, "text") == 0
        assert score(name, [("The",)], ["the"], 0, "text") == 100


def test_a_question_of_several_examples_counts_once_where_any_is_enough() -> None:
    # one row asks two questions, the first of them by three examples with an answer each; another row asks one
    gold, predicted = [("red",), ("dark red",), ("blue",), ("up",), ("left",)], ["red", "red", "red", "down", "left"]
    asked = {"rows": [0, 0, 0, 0, 1], "parts": [0, 0, 0, 1, 0]}
    assert score("exact_match", gold, predicted, 0, "text", **asked) == pytest.approx(40)
    assert score("exact_match_any", gold, predicted, 0, "text", **asked) == pytest.approx(200 / 3)
    predicted[0] = "blue"
    assert score("exact_match_any", gold, predicted, 0, "text", **asked) == pytest.approx(100 / 3)
    assert score("token_f1_any", gold, predicted, 0, "text", **asked) == pytest.approx(100 * (2 / 3 + 0 + 1) / 3)


@given(predictions("text"))
def test_texts_are_scored_as_in_plain_python(run) -> None:
    asked: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for row, part, golds, text in zip(run.rows, run.parts, run.gold, run.predicted, strict=True):
        overlaps = [word_overlap(gold, text) for gold in golds] if text else [0.0]
        exact = [normalised(gold) == normalised(text) for gold in golds] if text else [False]
        asked[row, part].append((max(overlaps), float(any(exact))))
    found = {
        "token_f1": mean(f1 for one in asked.values() for f1, _ in one),
        "exact_match": mean(em for one in asked.values() for _, em in one),
        "token_f1_any": mean(max(f1 for f1, _ in one) for one in asked.values()),
        "exact_match_any": mean(max(em for _, em in one) for one in asked.values()),
    }
    found["token_f1_em"] = (found["token_f1"] + found["exact_match"]) / 2
    for name, value in found.items():
        assert METRICS[name].score(run) == pytest.approx(100 * value), name


@given(predictions("text"), TEXTS)
def test_one_more_accepted_text_never_lowers_a_score(run, text) -> None:
    golds = of([(*golds, text) for golds in run.gold], list(run.predicted), 0, "text").gold
    more = replace(run, gold=golds)
    for name in ("token_f1", "exact_match", "token_f1_em", "token_f1_any", "exact_match_any"):
        assert METRICS[name].score(more) >= METRICS[name].score(run) - 1e-9


@given(predictions("text"))
def test_where_every_question_is_asked_once_any_is_the_same(run) -> None:
    once = replace(run, rows=of(run.gold, run.predicted, 0, "text").rows)
    assert METRICS["token_f1_any"].score(once) == pytest.approx(METRICS["token_f1"].score(once))
    assert METRICS["exact_match_any"].score(once) == pytest.approx(METRICS["exact_match"].score(once))

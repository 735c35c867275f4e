"""Metrics of texts: how near what is predicted comes to a text that is accepted.

Words are compared as in SQuAD's evaluation (Rajpurkar et al. 2016): without case, punctuation and English articles.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from layover.metrics.metric import Array, counted, share, summed
from layover.predictions import Predictions

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLES = re.compile(r"\b(a|an|the)\b")


@lru_cache(2**16)  # the accepted texts are the same for every run
def normalised(text: str) -> tuple[str, ...]:
    """The words of a text without case, punctuation and English articles, in this order as in SQuAD v1.1."""
    return tuple(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def word_overlap(gold: str, predicted: str) -> float:
    """F1 of the normalised words of two texts, 0 to 1; where one has none it is 1 if the other has none (SQuAD 2.0)."""
    left, right = normalised(gold), normalised(predicted)
    if left == right or not left or not right:
        return float(left == right)
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common / (len(left) + len(right))


def same_words(gold: str, predicted: str) -> float:
    """1 where the normalised words of two texts are the same, else 0."""
    return float(normalised(gold) == normalised(predicted))


def _best(predictions: Predictions, compare: Callable[[str, str], float]) -> Array:
    """By how much each prediction is right, compared with the nearest accepted text, and 1 [n, 2]."""
    pairs = zip(predictions.gold, predictions.predicted, strict=True)
    # an empty text is no prediction, and so wrong even where an accepted text is nothing but an article
    best = [max(compare(gold, predicted) for gold in golds) if predicted else 0.0 for golds, predicted in pairs]
    return counted(np.array(best, float))


def _best_of_question(predictions: Predictions, compare: Callable[[str, str], float]) -> Array:
    """As `_best`, but of the examples of each question only the best one counts."""
    found, question = _best(predictions, compare), predictions.questions()
    order = np.lexsort((-found[:, 0], question))
    _, first = np.unique(question[order], return_index=True)
    kept = np.zeros_like(found)
    kept[order[first]] = found[order[first]]
    return kept


@summed("token_f1", ("text",), share)
def token_f1(predictions: Predictions) -> Array:
    """Mean over predictions of the word overlap with the nearest accepted text (SQuAD's F1)."""
    return _best(predictions, word_overlap)


@summed("exact_match", ("text",), share)
def exact_match(predictions: Predictions) -> Array:
    """Share of predictions with the same words as an accepted text (SQuAD's EM)."""
    return _best(predictions, same_words)


@summed("token_f1_em", ("text",), lambda sums: (share(sums[..., :2]) + share(sums[..., 2:])) / 2)
def token_f1_em(predictions: Predictions) -> Array:
    """Mean of `token_f1` and `exact_match` (Pruksachatkun et al. 2020)."""
    return np.concatenate([token_f1(predictions), exact_match(predictions)], axis=1)


@summed("token_f1_any", ("text",), share)
def token_f1_any(predictions: Predictions) -> Array:
    """`token_f1` where a question that several examples ask counts once, with the nearest of all their texts."""
    return _best_of_question(predictions, word_overlap)


@summed("exact_match_any", ("text",), share)
def exact_match_any(predictions: Predictions) -> Array:
    """`exact_match` where a question that several examples ask counts once, with any of their texts."""
    return _best_of_question(predictions, same_words)

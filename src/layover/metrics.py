"""Metrics: functions from predictions to a score in points (0-100).

A metric has two forms that a test holds equal: `score` for one set of predictions, and one for thousands of resamples
at once: a function of sums over examples (`summands`, `from_sums`), or of how often each example was drawn
(`from_weights`) for correlations. The last class is the positive one (GLUE's 1 = equivalent, duplicate, acceptable;
BoolQ's true). A class of -1 is no prediction and counts as wrong.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, TaskError, did_you_mean
from layover.predictions import Predictions
from layover.tasks.example import Scored

Array = NDArray[np.float64]
Summands = Callable[[Predictions], Array]
FromSums = Callable[[Array], Array]


@dataclass(frozen=True)
class Metric:
    """A score in points.

    `kinds` are the predictions that it suits; `binary` that it needs two classes. `score` takes predictions.
    `summands` gives an array [n, k], and `from_sums` takes sums of its rows [..., k] and returns scores [...]: both, or
    neither. `from_weights(gold, predicted, weights)` takes two arrays [n] and the times each example counts
    [resamples, n] and returns [resamples].
    """

    name: str
    kinds: tuple[Scored, ...]
    score: Callable[[Predictions], float]
    summands: Summands | None = None
    from_sums: FromSums | None = None
    from_weights: Callable[[Array, Array, Array], Array] | None = None
    binary: bool = False


METRICS: dict[str, Metric] = {}
CLASSES: tuple[Scored, ...] = ("classes", "answers")


def metric(name: str, kinds: Sequence[Scored], **forms: object):
    """Register a scoring function that returns points under `name`; `forms` are the other fields of Metric."""

    def register(score: Callable[[Predictions], float]) -> Callable[[Predictions], float]:
        METRICS[name] = Metric(name, tuple(kinds), score, **forms)  # type: ignore[arg-type]
        return score

    return register


def summed(name: str, kinds: Sequence[Scored], from_sums: FromSums, binary: bool = False):
    """Register the summands of a metric whose score is a function of their sums, and nothing else."""

    def register(summands: Summands) -> Summands:
        def score(predictions: Predictions) -> float:
            return float(from_sums(summands(predictions).sum(0)))

        METRICS[name] = Metric(name, tuple(kinds), score, summands, from_sums, binary=binary)
        return summands

    return register


def get_metric(name: str, place: str = "") -> Metric:
    """The metric called `name`; raises TaskError with the choices where there is none."""
    if name not in METRICS:
        raise TaskError(Problem(place, f"there is no metric called {name!r}", did_you_mean(name, METRICS)))
    return METRICS[name]


def fitting(kind: Scored, n_classes: int = 0) -> list[str]:
    """The metrics that suit what a task is scored by. `n_classes` is 0 where it is not known."""
    suiting = [metric for metric in METRICS.values() if kind in metric.kinds]
    return [metric.name for metric in suiting if n_classes in (0, 2) or not metric.binary]


def _ratio(top: Array, bottom: Array) -> Array:
    """Top / bottom in points, and 0 where bottom is 0 (scikit-learn's zero_division=0)."""
    top, bottom = np.asarray(top, float), np.asarray(bottom, float)
    return 100 * np.divide(top, bottom, out=np.zeros_like(top), where=bottom != 0)


def _share(sums: Array) -> Array:
    """The first sum as a share of the second."""
    return _ratio(sums[..., 0], sums[..., 1])


def _f1_of(sums: Array) -> Array:
    """F1 of (true positives, gold positives, predicted positives)."""
    return _ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def _per_class(sums: Array) -> tuple[Array, Array, Array]:
    """(hits, gold, predicted) of every class, from `_margins`."""
    hits, gold, predicted = np.split(np.asarray(sums, float), 3, axis=-1)
    return hits, gold, predicted


def _macro_f1_of(sums: Array) -> Array:
    hits, gold, predicted = _per_class(sums)
    return _ratio(2 * hits, gold + predicted).mean(-1)


def _mcc_of(sums: Array) -> Array:
    """Matthews correlation for any number of classes (Gorodkin 2004)."""
    hits, gold, predicted = _per_class(sums)
    total, right = gold.sum(-1), hits.sum(-1)
    covariance = right * total - (gold * predicted).sum(-1)
    spread = (total**2 - (predicted**2).sum(-1)) * (total**2 - (gold**2).sum(-1))
    return _ratio(covariance, np.sqrt(spread))


def _hits(predictions: Predictions) -> Array:
    hit = predictions.gold == predictions.predicted
    return np.stack([hit, np.ones(len(hit))], axis=1).astype(float)


def _positives(predictions: Predictions) -> Array:
    last = predictions.n_classes - 1
    gold, predicted = predictions.gold == last, predictions.predicted == last
    return np.stack([gold & predicted, gold, predicted], axis=1).astype(float)


def _margins(predictions: Predictions) -> Array:
    classes = np.arange(predictions.n_classes)
    gold, predicted = predictions.gold[:, None] == classes, predictions.predicted[:, None] == classes
    return np.concatenate([gold & predicted, gold, predicted], axis=1).astype(float)


def _pearson_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    """Pearson correlation per row of weights; `gold` and `predicted` are [n] or [resamples, n]."""
    total = weights.sum(-1, keepdims=True)
    left = gold - (weights * gold).sum(-1, keepdims=True) / total
    right = predicted - (weights * predicted).sum(-1, keepdims=True) / total
    spread = np.sqrt((weights * left**2).sum(-1) * (weights * right**2).sum(-1))
    covariance = (weights * left * right).sum(-1)
    # A resample that holds one value only has a spread of rounding errors; its correlation is 0, as for one run.
    floor = 1e-12 * total[..., 0] * (1 + np.abs(gold).max() * np.abs(predicted).max())
    return 100 * np.divide(covariance, spread, out=np.zeros_like(spread), where=spread > floor)


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Mid-ranks [resamples, n] of values [n] that occur weights [resamples, n] times."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    return (np.cumsum(sizes, axis=1) - (sizes - 1) / 2)[:, group]


def _spearman_weights(gold: Array, predicted: Array, weights: Array) -> Array:
    return _pearson_weights(_weighted_ranks(gold, weights), _weighted_ranks(predicted, weights), weights)


@metric("accuracy", (*CLASSES, "choice"), summands=_hits, from_sums=_share)
def accuracy(predictions: Predictions) -> float:
    """Share of right predictions."""
    from sklearn.metrics import accuracy_score

    return 100 * float(accuracy_score(predictions.gold, predictions.predicted))


@metric("f1", CLASSES, summands=_positives, from_sums=_f1_of, binary=True)
def f1(predictions: Predictions) -> float:
    """F1 of the last class."""
    from sklearn.metrics import f1_score

    gold, predicted = (values == predictions.n_classes - 1 for values in (predictions.gold, predictions.predicted))
    return 100 * float(f1_score(gold, predicted, zero_division=0.0))  # pyright: ignore[reportArgumentType]


@metric("macro_f1", CLASSES, summands=_margins, from_sums=_macro_f1_of)
def macro_f1(predictions: Predictions) -> float:
    """Mean of the F1 of every class."""
    from sklearn.metrics import f1_score

    labels, gold, predicted = range(predictions.n_classes), predictions.gold, predictions.predicted
    return 100 * float(f1_score(gold, predicted, labels=labels, average="macro", zero_division=0.0))  # pyright: ignore[reportArgumentType]


def _accuracy_f1_of(sums: Array) -> Array:
    return (_share(sums[..., :2]) + _f1_of(sums[..., 2:])) / 2


@metric(
    "accuracy_f1",
    CLASSES,
    summands=lambda predictions: np.concatenate([_hits(predictions), _positives(predictions)], axis=1),
    from_sums=_accuracy_f1_of,
    binary=True,
)
def accuracy_f1(predictions: Predictions) -> float:
    """Mean of accuracy and the F1 of the last class (GLUE's figure for MRPC and QQP)."""
    return (accuracy(predictions) + f1(predictions)) / 2


@metric("mcc", CLASSES, summands=_margins, from_sums=_mcc_of)
def mcc(predictions: Predictions) -> float:
    """Matthews correlation coefficient; 0 where either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    gold, predicted = predictions.gold, predictions.predicted
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # scikit-learn says 0 too, with a warning
        return 0.0
    return 100 * float(matthews_corrcoef(gold, predicted))


@metric("spearman", ("value",), from_weights=_spearman_weights)
def spearman(predictions: Predictions) -> float:
    """Spearman rank correlation; 0 where either side is constant."""
    from scipy.stats import rankdata

    return _pearson(rankdata(predictions.gold), rankdata(predictions.predicted))


@metric("pearson", ("value",), from_weights=_pearson_weights)
def pearson(predictions: Predictions) -> float:
    """Pearson correlation; 0 where either side is constant."""
    return _pearson(predictions.gold, predictions.predicted)


def _pearson(gold: Array, predicted: Array) -> float:
    if np.ptp(gold) == 0 or np.ptp(predicted) == 0:  # the mean of equal numbers need not equal them
        return 0.0
    left, right = gold - gold.mean(), predicted - predicted.mean()
    spread = float(np.sqrt((left**2).sum()) * np.sqrt((right**2).sum()))
    return 100 * min(1.0, max(-1.0, float((left * right).sum()) / spread)) if spread > 0 else 0.0


@summed("micro_f1", ("labels",), _f1_of)
def micro_f1(predictions: Predictions) -> Array:
    """F1 over all labels of all targets together (edge probing, Tenney et al. 2019)."""
    gold, predicted = predictions.gold.astype(bool), predictions.predicted.astype(bool)
    return np.stack([(gold & predicted).sum(1), gold.sum(1), predicted.sum(1)], axis=1).astype(float)


@summed("last_label_f1", ("labels",), _f1_of)
def last_label_f1(predictions: Predictions) -> Array:
    """F1 of the last label (Tenney et al. 2019 score coreference by its positive label alone)."""
    gold, predicted = predictions.gold[:, -1] > 0, predictions.predicted[:, -1] > 0
    return np.stack([gold & predicted, gold, predicted], axis=1).astype(float)


@summed("exact_labels", ("labels",), _share)
def exact_labels(predictions: Predictions) -> Array:
    """Share of targets whose set of labels is predicted exactly."""
    exact = (predictions.gold == predictions.predicted).all(1)
    return np.stack([exact, np.ones(len(exact))], axis=1).astype(float)


@summed("f1a", ("answers",), _f1_of)
def f1a(predictions: Predictions) -> Array:
    """F1 of the answers that are right, over the answers of all questions (MultiRC, Khashabi et al. 2018)."""
    return _positives(predictions)


@summed("group_em", ("answers",), _share)
def group_em(predictions: Predictions) -> Array:
    """Share of questions of which every answer is classified rightly (MultiRC's exact match)."""
    question = predictions.questions()
    wrong = np.bincount(question, predictions.gold != predictions.predicted)
    _, first = np.unique(question, return_index=True)
    found = np.zeros((len(question), 2))
    found[first, 0], found[first, 1] = wrong[question[first]] == 0, 1
    return found


@summed("f1a_em", ("answers",), lambda sums: (_f1_of(sums[..., :3]) + _share(sums[..., 3:])) / 2)
def f1a_em(predictions: Predictions) -> Array:
    """Mean of `f1a` and `group_em` (Pruksachatkun et al. 2020)."""
    return np.concatenate([f1a(predictions), group_em(predictions)], axis=1)


def normalised(text: str) -> list[str]:
    """The words of a text without case, punctuation and English articles (SQuAD, Rajpurkar et al. 2016)."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def word_overlap(gold: str, predicted: str) -> float:
    """F1 of the normalised words of two texts, 0 to 1; of a text without words it is 1 where both have none."""
    left, right = normalised(gold), normalised(predicted)
    if not left or not right:
        return float(left == right)
    common = sum((Counter(left) & Counter(right)).values())
    return 2 * common / (len(left) + len(right))


def same_words(gold: str, predicted: str) -> float:
    """1 where the normalised words of two texts are the same, else 0."""
    return float(normalised(gold) == normalised(predicted))


def _best(predictions: Predictions, compare: Callable[[str, str], float]) -> Array:
    pairs = zip(predictions.gold, predictions.predicted, strict=True)
    best = [max(compare(gold, predicted) for gold in golds) for golds, predicted in pairs]
    return np.stack([np.array(best, float), np.ones(len(best))], axis=1)


def _best_of_question(predictions: Predictions, compare: Callable[[str, str], float]) -> Array:
    """As `_best`, of the examples of each question the best one."""
    found, question = _best(predictions, compare), predictions.questions()
    order = np.lexsort((-found[:, 0], question))
    _, first = np.unique(question[order], return_index=True)
    kept = np.zeros_like(found)
    kept[order[first]] = found[order[first]]
    return kept


@summed("token_f1", ("text",), _share)
def token_f1(predictions: Predictions) -> Array:
    """Mean over predictions of the word overlap with the nearest accepted text (SQuAD's F1)."""
    return _best(predictions, word_overlap)


@summed("exact_match", ("text",), _share)
def exact_match(predictions: Predictions) -> Array:
    """Share of predictions with the same words as an accepted text (SQuAD's EM)."""
    return _best(predictions, same_words)


@summed("token_f1_em", ("text",), lambda sums: (_share(sums[..., :2]) + _share(sums[..., 2:])) / 2)
def token_f1_em(predictions: Predictions) -> Array:
    """Mean of `token_f1` and `exact_match` (Pruksachatkun et al. 2020)."""
    return np.concatenate([token_f1(predictions), exact_match(predictions)], axis=1)


@summed("token_f1_any", ("text",), _share)
def token_f1_any(predictions: Predictions) -> Array:
    """`token_f1` where a question that several examples ask counts once, with the nearest of all their texts."""
    return _best_of_question(predictions, word_overlap)


@summed("exact_match_any", ("text",), _share)
def exact_match_any(predictions: Predictions) -> Array:
    """`exact_match` where a question that several examples ask counts once, with any of their texts."""
    return _best_of_question(predictions, same_words)

"""Chance: known answers for every kind of prediction."""

from __future__ import annotations

import numpy as np
import pytest

from layover.metrics import get_metric
from layover.predictions import Predictions, texts
from layover.stats.chance import best_constant, chance


def made(gold: np.ndarray, n_classes: int, kind: str = "classes") -> Predictions:
    return Predictions(np.arange(len(gold)), gold, gold, n_classes, kind)  # type: ignore[arg-type]


def test_of_two_classes_chance_is_the_chance_that_two_examples_agree() -> None:
    gold = np.repeat([0.0, 1.0], [300, 700])
    found = made(gold, 2)
    assert chance(found, get_metric("accuracy")) == pytest.approx(58, abs=1.5)  # 0.3^2 + 0.7^2
    assert best_constant(found, get_metric("accuracy")) == 70
    assert best_constant(found, get_metric("f1")) == pytest.approx(100 * 2 * 0.7 / 1.7)
    assert best_constant(found, get_metric("mcc")) == 0
    assert abs(chance(found, get_metric("mcc"))) < 2


def test_all_positive_is_the_best_constant_where_that_scores_more() -> None:
    gold = np.repeat([0.0, 1.0], [600, 400])
    # accuracy and F1 of the function word sets: always positive beats always negative (papers: 58.3 against 25.0)
    assert best_constant(made(gold, 2), get_metric("accuracy_f1")) == pytest.approx((40 + 100 * 2 * 0.4 / 1.4) / 2)


def test_of_sets_of_labels_one_label_or_all() -> None:
    gold = np.zeros((100, 3), np.uint8)
    gold[np.arange(100), np.repeat([0, 1, 2], [60, 30, 10])] = 1
    assert best_constant(made(gold, 3, "labels"), get_metric("micro_f1")) == 60
    rare = np.zeros((100, 8), np.uint8)
    rare[np.arange(100), np.repeat([5, 6], [60, 40])] = 1
    assert best_constant(made(rare, 8, "labels"), get_metric("micro_f1")) == 60
    many = np.ones((100, 3), np.uint8)
    many[0] = (1, 0, 0)
    assert best_constant(made(many, 3, "labels"), get_metric("micro_f1")) == pytest.approx(100 * 2 * 298 / (300 + 298))
    assert chance(made(gold, 3, "labels"), get_metric("micro_f1")) == pytest.approx(46, abs=3)


def test_of_texts_chance_is_the_answer_of_another_question_and_no_constant_is_good() -> None:
    found = made(texts([("a cat", "cats"), ("dogs",), ("dogs",), ("dogs",)]), 0, "text")
    assert chance(found, get_metric("exact_match")) == pytest.approx(100 * (1 + 9) / 16, abs=7)
    assert best_constant(found, get_metric("exact_match")) is None


def test_numbers_dealt_out_at_random_are_not_correlated() -> None:
    found = made(np.arange(500.0), 0, "value")
    assert abs(chance(found, get_metric("spearman"))) < 2
    assert best_constant(found, get_metric("spearman")) is None

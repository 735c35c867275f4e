"""NCE, LEEP, TextEmb and TaskEmb against their formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.select.made import labels_of

from layover.select.estimator import ESTIMATORS, Evidence
from layover.select.similarity import TASKEMB, TEXTEMB, cosines


def score(name: str, outputs: Any, codes: Any) -> float:
    return float(ESTIMATORS.get(name).score(Evidence(np.asarray(codes), outputs=[np.asarray(outputs, float)]))[0])


def entropy(codes: Any) -> float:
    shares = np.bincount(codes) / len(codes)
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


def softmax(scores: Any) -> Any:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_nce_is_minus_the_conditional_entropy() -> None:
    seen = np.array([0, 0, 0, 0, 1, 1, 2, 2])
    codes = np.array([0, 0, 1, 1, 0, 0, 1, 0])
    outputs = 0.7 * np.eye(3)[seen] + 0.1
    assert score("nce", outputs, codes) == pytest.approx(-(4 * np.log(2) + 2 * 0 + 2 * np.log(2)) / 8)


def test_leep_by_loops() -> None:
    draw = np.random.default_rng(0)
    outputs, codes = softmax(draw.normal(size=(30, 4))), labels_of(30, 3)
    total = 0.0
    for row in range(30):
        inside = 0.0
        for z in range(4):
            joint = sum(outputs[i, z] for i in range(30) if codes[i] == codes[row]) / 30
            inside += joint / (sum(outputs[i, z] for i in range(30)) / 30) * outputs[row, z]
        total += np.log(inside) / 30
    assert score("leep", outputs, codes) == pytest.approx(total)


@pytest.mark.parametrize("name", ["nce", "leep"])
def test_a_head_that_knows_the_classes_scores_0_and_one_that_says_nothing_their_entropy(name: str) -> None:
    codes = np.array([0, 0, 0, 1, 1, 2])
    assert score(name, np.eye(3)[[2, 2, 2, 0, 0, 1]], codes) == pytest.approx(0)
    assert score(name, np.full((6, 4), 0.25), codes) == pytest.approx(-entropy(codes))


def test_classes_that_are_equally_likely_share_a_row() -> None:
    outputs = [[0.5, 0.5, 0], [1, 0, 0], [0, 1, 0]]
    first = np.log(1 / 1.5)  # of class 0 there is half a row in each of the two, beside a whole one
    expected = (np.log(0.5 / 1.5) + first + first) / 3
    assert score("nce", outputs, [0, 1, 1]) == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 10**6), st.sampled_from([1, 10, 200]))
def test_they_lie_between_minus_the_entropy_and_0(n: int, classes: int, seed: int, sharp: int) -> None:
    draw = np.random.default_rng(seed)
    codes, outputs = labels_of(n, 2), softmax(sharp * draw.normal(size=(n, classes)))
    for name in ("nce", "leep"):
        assert -entropy(codes) - 1e-9 <= score(name, outputs, codes) <= 0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_the_order_of_a_heads_classes_does_not_count(seed: int) -> None:
    draw = np.random.default_rng(seed)
    outputs, codes = softmax(draw.normal(size=(20, 5))), labels_of(20, 3)
    for name in ("nce", "leep"):
        assert score(name, outputs[:, draw.permutation(5)], codes) == pytest.approx(score(name, outputs, codes))


def test_cosines_and_vectors_that_have_none() -> None:
    many = np.array([[2.0, 0.0], [1.0, 1.0], [-3.0, 0.0], [0.0, 0.0], [np.nan, np.nan], [1e300, 0.0]])
    found = cosines(many, np.array([5.0, 0.0]))
    np.testing.assert_allclose(found, [1, np.sqrt(0.5), -1, np.nan, np.nan, 1])
    assert np.isnan(cosines(many, np.zeros(2))).all()


def test_textemb_looks_at_texts_and_taskemb_at_tasks() -> None:
    one, two = np.array([1.0, 0.0]), np.array([[1.0, 0.0], [0.0, 1.0]])
    whole = Evidence(np.array([0, 1]), source_texts=two, target_text=one, source_tasks=two[::-1], target_task=one)
    assert TEXTEMB.score(whole).tolist() == [1, 0]
    assert TASKEMB.score(whole).tolist() == [0, 1]

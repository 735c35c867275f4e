"""The estimators of features, each against its formula computed in another way, and what must not change them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from tests.select.made import labels_of, of

from layover.select.estimator import ESTIMATORS, Kind
from layover.select.neighbours import KNN, PARC
from layover.select.separation import GBC, HSCORE, TRANSRATE

SHAPES = [(40, 5, 3), (30, 50, 2), (90, 80, 4)]


def made(n: int, d: int, classes: int, seed: int = 0) -> tuple[Any, Any]:
    """Features [n, d] in which the classes [n] differ, and each feature has a scale of its own."""
    draw = np.random.default_rng(seed)
    codes = labels_of(n, classes, seed)
    return (draw.normal(size=(n, d)) + draw.normal(size=(classes, d))[codes]) * np.exp(draw.normal(size=d)), codes


def score(name: str, features: Any, labels: Any, kind: Kind = "classes") -> float:
    return float(ESTIMATORS.get(name).score(of(features, labels, kind))[0])


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_h_score(n: int, d: int, classes: int) -> None:
    features, codes = made(n, d, classes)
    fitted = LedoitWolf().fit(features)
    means = np.array([features[codes == code].mean(0) for code in codes])
    between = np.cov(means, rowvar=False, bias=True)
    expected = np.trace(np.linalg.inv(fitted.covariance_) @ ((1 - fitted.shrinkage_) * between))
    assert HSCORE.score(of(features, codes))[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_gbc(n: int, d: int, classes: int) -> None:
    features, codes = made(n, d, classes)
    reduced = PCA(64, svd_solver="full").fit_transform(features) if d > 64 else features
    parts = [reduced[codes == code] for code in range(classes)]
    width, total = reduced.shape[1], 0.0
    for one, other in itertools.permutations(parts, 2):
        v, w = (np.eye(width) * part.var(0).mean() for part in (one, other))
        apart, mean = one.mean(0) - other.mean(0), (v + w) / 2
        logs = [np.linalg.slogdet(matrix)[1] for matrix in (mean, v, w)]
        total -= np.exp(-(apart @ np.linalg.inv(mean) @ apart / 8 + (logs[0] - (logs[1] + logs[2]) / 2) / 2))
    assert GBC.score(of(features, codes))[0] == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_transrate(n: int, d: int, classes: int) -> None:
    features, codes = made(n, d, classes)
    moved = features - features.mean(0)

    def rate(part: Any) -> float:
        return float(np.log1p(np.linalg.svd(part, compute_uv=False) ** 2 / len(part) / 1e-4).sum()) / 2

    expected = rate(moved) - sum((codes == c).mean() * rate(moved[codes == c]) for c in range(classes))
    assert TRANSRATE.score(of(features, codes))[0] == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(("n", "d", "classes"), [(40, 5, 2), (31, 50, 2), (1500, 3, 3)])
def test_knn_of_classes(n: int, d: int, classes: int) -> None:
    features, codes = made(n, d, classes)
    right = []
    for row in range(n) if n < 100 else range(0, n, 10):
        others = np.arange(n) != row
        fitted = KNeighborsClassifier(5).fit(features[others], codes[others])
        votes = fitted.predict_proba(features[row : row + 1])[0]
        right.append((votes[codes[row]] == votes.max()) / (votes == votes.max()).sum())
    found = score("knn", features, codes)
    assert found == pytest.approx(np.mean(right), abs=1e-12 if n < 100 else 0.1)


def test_knn_of_values() -> None:
    features, _ = made(50, 3, 2)
    y = features[:, 0] + np.random.default_rng(1).normal(size=50)
    near, mean = [], []
    for row in range(50):
        others = np.arange(50) != row
        near.append(KNeighborsRegressor(5).fit(features[others], y[others]).predict(features[row : row + 1])[0])
        mean.append(y[others].mean())
    expected = 1 - ((y - near) ** 2).sum() / ((y - mean) ** 2).sum()
    assert KNN.score(of(features, y, "values"))[0] == pytest.approx(expected)


def test_neighbours_at_one_distance_all_have_a_vote() -> None:
    features = np.array([[0.0], *[[1.0]] * 6, *[[-1.0]] * 2])  # the first has eight neighbours at distance 1
    codes = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    # of six at 1, four are of class 0: right for these, and wrong for the two others; the two at -1 have the six and
    # the first at more than 0: their own other, the first, and all six
    first = 0.5  # four votes of eight for each class
    at_one = 4 / 6
    votes = np.array([1 + 4, 1 + 2])  # of the two at -1: the first, each other, and the six
    expected = (first + 6 * at_one + 2 * float(votes[1] > votes[0])) / 9
    assert KNN.score(of(features, codes))[0] == pytest.approx(expected)


@pytest.mark.parametrize(("n", "d", "classes"), SHAPES)
def test_parc(n: int, d: int, classes: int) -> None:
    features, codes = made(n, d, classes)
    pairs = np.tril_indices(n, -1)
    one_hot = np.eye(classes)[codes]
    apart = [1 - np.asarray(np.corrcoef(rows)) for rows in (features, one_hot)]
    expected: Any = spearmanr(apart[0][pairs], apart[1][pairs].round(8))
    assert PARC.score(of(features, codes))[0] == pytest.approx(expected.statistic, rel=1e-8)


def test_classes_that_lie_apart_have_the_best_score_there_is() -> None:
    codes = labels_of(60, 3)
    features = 100.0 * np.eye(3)[codes] + np.random.default_rng(0).normal(size=(60, 3)) / 100
    assert score("hscore", features, codes) == pytest.approx(2, abs=0.1)
    assert score("gbc", features, codes) == pytest.approx(0, abs=1e-9)
    assert score("knn", features, codes) == 1
    assert score("parc", features, codes) > 0.8


def test_a_collapsed_encoder_has_the_worst_score_there_is() -> None:
    codes = labels_of(60, 3)
    features = np.full((60, 4), 0.1)
    assert [score(name, features, codes) for name in ("hscore", "transrate", "parc")] == [0, 0, 0]
    assert score("gbc", features, codes) == pytest.approx(-6)
    assert score("knn", features, codes) == pytest.approx(0, abs=1e-9)  # of the others, the own class has fewest
    alive = np.random.default_rng(0).normal(size=(60, 4)) + 3 * np.eye(4)[codes]
    assert score("logme", features, codes) < score("logme", alive, codes)


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 40), st.integers(2, 30), st.integers(2, 4), st.integers(0, 10**6), st.floats(-3, 3))
def test_turned_features_have_the_same_scores(n: int, d: int, classes: int, seed: int, power: float) -> None:
    features, codes = made(n, d, classes, seed)
    turn, _ = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(d, d)))
    turned = features @ turn
    for name in (
        "hscore",
        "gbc",
        "knn",
        "transrate",
        "logme",
    ):  # PARC correlates over features, and TransRate has a scale
        before = score(name, features, codes)
        assert score(name, turned, codes) == pytest.approx(before, rel=1e-6, abs=1e-6)
        if name != "transrate":
            assert score(name, turned * 10**power, codes) == pytest.approx(before, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(6, 40), st.integers(1, 30), st.integers(2, 4), st.integers(0, 10**6))
def test_scores_are_in_their_ranges(n: int, d: int, classes: int, seed: int) -> None:
    features, codes = made(n, d, classes, seed)
    ranges = {"hscore": (0, classes - 1), "gbc": (-classes * (classes - 1), 0), "transrate": (0, np.inf),
              "knn": (0, 1), "parc": (-1, 1)}  # fmt: skip
    for name, (low, high) in ranges.items():
        assert low <= score(name, features, codes) <= high + 1e-9

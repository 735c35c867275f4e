"""LogME against the marginal likelihood itself, maximised by SciPy, and against the algorithm with singular vectors."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from tests.select.made import evidence, labels_of, of

from layover.select.logme import ESM_LOGME, LOGME, esm_logme, logme

SHAPES = [(24, 4), (24, 1), (12, 12), (9, 15), (40, 70)]


def marginal(features: Any, y: Any) -> float:
    """The largest log p(y | F) / n over alpha and beta, from the normal density of y."""
    n = len(y)

    def loss(logs: Any) -> float:
        covariance = features @ features.T / np.exp(logs[0]) + np.eye(n) / np.exp(logs[1])
        return (np.linalg.slogdet(covariance)[1] + y @ np.linalg.solve(covariance, y) + n * np.log(2 * np.pi)) / 2 / n

    options: Any = {"method": "L-BFGS-B", "bounds": [(-14, 14)] * 2, "options": {"ftol": 1e-13, "gtol": 1e-9}}
    return -min(minimize(loss, (alpha, 0.0), **options).fun for alpha in (-4.0, 0.0, 4.0))


def by_vectors(features: Any, y: Any, t: float) -> float:
    """The paper's fixed point with the singular vectors of one source's features, from alpha / beta = t on."""
    n = len(y)
    left, singular, _ = np.linalg.svd(features, full_matrices=False)
    s, x = singular**2, (left.T @ y) ** 2
    alpha, beta, error, weights = t, 1.0, math.nan, math.nan
    for _ in range(10_000):
        t = alpha / beta
        known = (s / (s + t)).sum()
        weights = (s * x / (s + t) ** 2).sum()
        error = (x * (t / (s + t)) ** 2).sum() + y @ y - x.sum()
        alpha, beta = known / weights, (n - known) / error
        if abs(alpha / beta / t - 1) < 1e-10:
            break
    determinant = np.log(alpha + beta * s).sum() - len(s) * np.log(alpha)
    return float(n * np.log(beta / (2 * np.pi)) - determinant - beta * error - alpha * weights) / 2 / n


@pytest.mark.parametrize(("n", "d"), SHAPES)
def test_the_evidence_is_the_largest_marginal_likelihood_of_values(n: int, d: int) -> None:
    draw = np.random.default_rng(n)
    features = draw.normal(size=(n, d))
    y = features @ draw.normal(size=d) + draw.normal(size=n) * np.sqrt(d)
    [found] = LOGME.score(of(features, y, "values"))
    assert found == pytest.approx(marginal(features, y), abs=1e-6)


def test_of_classes_it_is_the_mean_over_each_against_the_others() -> None:
    draw = np.random.default_rng(0)
    codes = labels_of(20, 3)
    features = draw.normal(size=(20, 4)) + np.eye(4)[codes]
    expected = np.mean([marginal(features, (codes == c).astype(float)) for c in range(3)])
    assert LOGME.score(of(features, codes))[0] == pytest.approx(expected, abs=1e-6)


def test_labels_that_no_feature_foretells_have_the_evidence_of_noise() -> None:
    y = np.array([1.0, -1.0, 1.0, -1.0])
    features = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    expected = -(np.log(2 * np.pi) + 1) / 2  # noise of variance 1
    assert LOGME.score(of(features, y, "values"))[0] == pytest.approx(expected, abs=1e-7)


def spectrum(draw: np.random.Generator, n: int, d: int) -> Any:
    """Features as encoders give them: a few large directions, many small ones, and a mean that is not 0."""
    turn, _ = np.linalg.qr(draw.normal(size=(d, d)))
    return draw.normal(size=(n, d)) * np.exp(-np.linspace(0, 5, d)) @ turn + draw.normal(size=d)


@pytest.mark.parametrize(("n", "d"), [(200, 48), (60, 48), (48, 48)])
@pytest.mark.parametrize("classes", [2, 5])
def test_many_sources_at_once_have_the_numbers_that_each_has_by_singular_vectors(n: int, d: int, classes: int) -> None:
    draw = np.random.default_rng(n + classes)
    codes = labels_of(n, classes)
    sources = [spectrum(draw, n, d) + strength * np.eye(d)[codes] for strength in (0, 0.1, 0.5)]
    targets = np.eye(classes)[codes]
    best = [[max(by_vectors(one, y, t) for t in (1e-3, 1.0, 1e3)) for y in targets.T] for one in sources]
    expected = np.mean(best, axis=1)
    np.testing.assert_allclose(logme(sources, targets), expected, rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(200, 32), (33, 32), (32, 32), (20, 32)])
def test_maps_have_the_numbers_of_the_features_that_they_make(n: int, d: int) -> None:
    draw = np.random.default_rng(n)
    plain, targets = spectrum(draw, n, d), np.eye(2)[labels_of(n, 2)]
    maps = [np.concatenate([np.eye(d) + draw.normal(size=(d, d)) / d, draw.normal(size=(1, d))]) for _ in range(4)]
    made = [plain @ one[:-1] + one[-1] for one in maps]
    np.testing.assert_allclose(esm_logme(plain, maps, targets), logme(made, targets), rtol=1e-6)


def test_an_offset_is_added() -> None:
    whole = evidence()
    assert whole.maps is not None
    without = [np.concatenate([one[:-1], 0 * one[-1:]]) for one in whole.maps if one is not None]
    assert (ESM_LOGME.score(whole) != ESM_LOGME.score(replace(whole, maps=without))).all()


def test_of_several_maxima_the_largest_counts() -> None:
    draw = np.random.default_rng(205)
    codes = labels_of(200, 5)
    features = spectrum(draw, 200, 48)
    features += 0.1 * np.eye(48)[codes]
    ends = [by_vectors(features, (codes == 0).astype(float), t) for t in (1e-6, 1e-3, 1.0, 1e3)]
    assert max(ends) - min(ends) > 0.001
    found = logme([features], (codes == 0).astype(float)[:, None])[0]
    assert found == pytest.approx(max(ends), rel=1e-6)


def test_many_classes_are_solved_in_several_lots() -> None:
    draw = np.random.default_rng(0)
    sources = [draw.normal(size=(900, 3)) for _ in range(5)]
    targets = np.eye(900)[:, :800]
    np.testing.assert_allclose(logme(sources, targets), [logme([one], targets)[0] for one in sources], rtol=1e-9)


def test_sources_may_have_features_of_several_widths() -> None:
    draw = np.random.default_rng(0)
    targets = np.eye(2)[labels_of(20, 2)]
    sources = [draw.normal(size=(20, d)) for d in (1, 5, 30)]
    np.testing.assert_allclose(logme(sources, targets), [logme([one], targets)[0] for one in sources], rtol=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 30), st.integers(1, 30), st.integers(0, 10**6), st.floats(-3, 3))
def test_turned_and_scaled_features_have_the_same_evidence(n: int, d: int, seed: int, power: float) -> None:
    draw = np.random.default_rng(seed)
    features, y = draw.normal(size=(n, d)), draw.normal(size=(n, 1))
    turn, _ = np.linalg.qr(draw.normal(size=(d, d)))
    first, second = logme([features, features @ turn * 10**power], y)
    assert second == pytest.approx(first, rel=1e-6, abs=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(4, 25), st.integers(1, 30), st.integers(0, 10**6))
def test_no_prior_and_noise_are_better_than_those_that_are_found(n: int, d: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    features = draw.normal(size=(n, d)) * np.exp(draw.normal(size=d))
    y = features[:, 0] + draw.normal(size=n)
    found = logme([features], y[:, None])[0]
    for alpha, beta in np.exp(draw.uniform(-3, 3, size=(5, 2))):
        covariance = features @ features.T / alpha + np.eye(n) / beta
        assert multivariate_normal.logpdf(y, cov=covariance) / n <= found + 1e-6


@pytest.mark.parametrize(("layer", "numbers"), [("last", [2]), ("best", [0, 1, 2])])
def test_the_layer_is_chosen(layer: Any, numbers: list[int]) -> None:
    whole = evidence()
    each = [
        LOGME.score(replace(whole, features=[one[i : i + 1] for one in whole.features if one is not None]))
        for i in numbers
    ]
    np.testing.assert_allclose(replace(LOGME, layer=layer).score(whole), np.max(each, axis=0), rtol=1e-9)


def test_the_mean_of_layers_is_of_their_vectors() -> None:
    whole = evidence()
    means = [one.mean(0, keepdims=True) for one in whole.features if one is not None]
    expected = LOGME.score(replace(whole, features=means))
    np.testing.assert_allclose(replace(LOGME, layer="mean").score(whole), expected, rtol=1e-5)

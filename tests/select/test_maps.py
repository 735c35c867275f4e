"""Linear maps: ridge regression by its textbook formula, the strength that cross-validation chooses, and known maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layover.select.maps import RIDGES, applied, fit, widened


def drawn(n: int, d: int, noise: float = 0.0, seed: int = 0) -> tuple[Any, ...]:
    """Vectors, what a known map with an offset makes of them, and that map [d + 1, d]."""
    draw = np.random.default_rng(seed)
    plain = draw.normal(size=(n, d)) * np.linspace(0.1, 3, d) + draw.normal(size=d)
    weights, offset = draw.normal(size=(d, d)), draw.normal(size=d)
    trained = plain @ weights + offset + noise * draw.normal(size=(n, d))
    return plain, trained, np.vstack([weights, offset])


def test_a_linear_map_with_an_offset_is_recovered_exactly() -> None:
    plain, trained, known = drawn(60, 12)
    found = fit(plain, trained)
    np.testing.assert_allclose(found.weights, known, atol=1e-5)
    assert (found.weights.shape, found.weights.dtype) == ((13, 12), np.float32)
    assert found.left < 1e-12
    np.testing.assert_allclose(applied(found.weights, plain), trained, atol=1e-4)


def test_the_ridge_is_the_textbooks_and_its_strength_that_of_the_least_gcv_score() -> None:
    plain, trained, _ = drawn(40, 12, noise=6.0)
    found = fit(plain, trained)
    x, y, n = plain - plain.mean(0), trained - trained.mean(0), len(plain)
    largest = np.linalg.eigvalsh(x.T @ x).max()
    scores = []
    for ridge in RIDGES:
        solved = np.linalg.solve(x.T @ x + ridge * largest * np.eye(12), x.T)
        hat = x @ solved + np.full((n, n), 1 / n)  # of vectors that are not centred
        scores.append(np.square(trained - hat @ trained).sum() / n / (1 - np.trace(hat) / n) ** 2)
    assert found.ridge == RIDGES[int(np.argmin(scores))] > 0
    weights = np.linalg.solve(x.T @ x + found.ridge * largest * np.eye(12), x.T @ y)
    np.testing.assert_allclose(found.weights[:-1], weights, atol=1e-5)
    np.testing.assert_allclose(found.weights[-1], trained.mean(0) - plain.mean(0) @ weights, atol=1e-5)
    assert found.left == pytest.approx(min(scores) * n / np.square(y).sum())


def test_with_fewer_vectors_than_dimensions_it_is_held_back_and_says_nothing_of_other_directions() -> None:
    plain, trained, _ = drawn(10, 30, noise=0.1)
    found = fit(plain, trained)
    assert found.ridge > 0  # without, the vectors are fitted exactly, whatever they are
    _, _, along = np.linalg.svd(plain - plain.mean(0))
    assert np.abs(along[9:] @ found.weights[:-1]).max() < 1e-4


def test_vectors_that_do_not_vary_are_mapped_to_the_mean() -> None:
    trained = np.random.default_rng(1).normal(size=(5, 4))
    found = fit(np.ones((5, 4)), trained)
    np.testing.assert_allclose(applied(found.weights, np.ones((5, 4))), np.tile(trained.mean(0), (5, 1)), atol=1e-6)
    with pytest.raises(ValueError, match="3 vectors or more, not to 2"):
        fit(np.ones((2, 4)), np.ones((2, 4)))


def test_vectors_end_to_end_are_mapped_part_by_part() -> None:
    _, _, known = drawn(1, 6)
    vectors = np.random.default_rng(2).normal(size=(7, 18))
    wide = widened(known.astype(np.float32), 3)
    assert wide.shape == (19, 18)
    parts = [applied(known, part) for part in np.split(vectors, 3, axis=1)]
    np.testing.assert_allclose(applied(wide, vectors), np.concatenate(parts, axis=1), atol=1e-5)
    assert np.array_equal(widened(known.astype(np.float32), 1), known.astype(np.float32))

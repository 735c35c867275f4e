"""CKA: compared with the textbook's formulas on kernel matrices, and with what must hold of any vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from layover.train.alike import Alike

Matrix = NDArray[np.float64]


def vectors(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def cka(first: torch.Tensor, second: torch.Tensor, chunk: int = 10**6) -> float:
    found = Alike()
    for begin in range(0, len(first), chunk):
        found.add(first[begin : begin + chunk], second[begin : begin + chunk])
    return found.cka()


def hsic(k: Matrix, m: Matrix) -> float:
    """HSIC_1 as Song et al. 2012 write it, with matrices of all pairs."""
    n = len(k)
    k, m = (matrix - np.diag(np.diag(matrix)) for matrix in (k, m))
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return float(np.trace(k @ m) + middle - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def by_pairs(first: torch.Tensor, second: torch.Tensor) -> float:
    a, b = first.double().numpy(), second.double().numpy()
    k, m = a @ a.T, b @ b.T
    return hsic(k, m) / (hsic(k, k) * hsic(m, m)) ** 0.5


@pytest.mark.parametrize(("n", "widths"), [(5, (3, 2)), (40, (6, 6)), (12, (30, 20))])
def test_sums_give_what_the_formula_over_pairs_gives(n: int, widths: tuple[int, int]) -> None:
    first, second = vectors(n, widths[0], 1), vectors(n, widths[1], 2)
    mixed = torch.cat([second, first[:, :1]], 1)
    assert cka(first, mixed) == pytest.approx(by_pairs(first, mixed), abs=1e-5)


def test_it_is_the_biased_form_where_tokens_are_many() -> None:
    first = vectors(4000, 5, 1)
    second = first @ vectors(5, 4, 2) + vectors(4000, 4, 3)
    a, b = (v.double().numpy() - v.double().numpy().mean(0) for v in (first, second))
    biased = np.linalg.norm(a.T @ b) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert cka(first, second) == pytest.approx(biased, abs=2e-3)


def test_the_same_vectors_are_wholly_alike() -> None:
    first = vectors(50, 8)
    assert cka(first, first.clone()) == pytest.approx(1.0, abs=1e-12)


def test_rotation_scale_and_shift_change_nothing() -> None:
    first, second = vectors(60, 6, 1), vectors(60, 6, 2) + vectors(60, 6, 1)
    rotation, _ = torch.linalg.qr(vectors(6, 6, 3))
    turned = 3.0 * second @ rotation + vectors(1, 6, 4) * 10
    assert cka(first, turned) == pytest.approx(cka(first, second), abs=1e-5)
    assert cka(second, first) == pytest.approx(cka(first, second), abs=1e-6)


def test_a_large_common_vector_costs_no_digits() -> None:
    first, second = vectors(200, 6, 1), vectors(200, 6, 2) + vectors(200, 6, 1)
    assert cka(first + 1000.0, second - 1000.0, 7) == pytest.approx(by_pairs(first, second), abs=2e-3)


def test_independent_vectors_are_not_alike_though_wider_than_many() -> None:
    found = [cka(vectors(30, 100, 2 * seed), vectors(30, 100, 2 * seed + 1)) for seed in range(20)]
    assert abs(float(np.mean(found))) < 0.03  # the biased form gives about 0.77 here


@pytest.mark.parametrize("chunk", [1, 7, 59])
def test_how_tokens_are_divided_changes_rounding_alone(chunk: int) -> None:
    first, second = vectors(60, 6, 1), vectors(60, 6, 2) + vectors(60, 6, 1)
    assert cka(first, second, chunk) == pytest.approx(cka(first, second), abs=1e-5)


def test_more_noise_is_less_alike() -> None:
    first, noise = vectors(300, 8, 1), vectors(300, 8, 2)
    found = [cka(first, first + much * noise) for much in (0.0, 0.3, 1.0, 3.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 0.5


def test_one_vector_for_all_tokens_is_like_nothing() -> None:
    assert cka(vectors(10, 4), torch.ones(10, 4)) == 0.0


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="needs 4 tokens at least, there are 3"):
        cka(vectors(3, 2), vectors(3, 2))

"""Gradients of tasks that go against each other: cosines, and PCGrad by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from layover.train.conflict import Gradients, cosine, projected, summed

SHARED, FIRST, SECOND = (nn.Parameter(torch.zeros(2)) for _ in range(3))


def gradients(shared: list[float], own: nn.Parameter | None = None) -> Gradients:
    found: Gradients = {SHARED: torch.tensor(shared)}
    return found if own is None else {**found, own: torch.tensor([7.0, 7.0])}


def test_a_cosine_is_over_what_two_tasks_share() -> None:
    one, other = gradients([3.0, 4.0], FIRST), gradients([-4.0, 3.0], SECOND)
    assert float(cosine(one, other)) == pytest.approx(0)
    assert float(cosine(one, gradients([6.0, 8.0], SECOND))) == pytest.approx(1)
    assert float(cosine(one, gradients([-1.0, 0.0], SECOND))) == pytest.approx(-0.6)
    assert float(cosine(one, gradients([0.0, 0.0], SECOND))) == 0


def test_pcgrad_takes_off_what_goes_against_another_task() -> None:
    """By hand: g1 = (1, 0), g2 = (-1, 1); each loses its part along the other: (1/2, 1/2) and (0, 1)."""
    one, other = projected([gradients([1.0, 0.0], FIRST), gradients([-1.0, 1.0], SECOND)], 1, 0)
    assert one[SHARED].tolist() == pytest.approx([0.5, 0.5])
    assert other[SHARED].tolist() == pytest.approx([0.0, 1.0])
    assert one[FIRST].tolist() == other[SECOND].tolist() == [7.0, 7.0]  # a head is one task's own
    together = summed([one, other])
    assert together[SHARED].tolist() == pytest.approx([0.5, 1.5])
    assert set(together) == {SHARED, FIRST, SECOND}


def test_pcgrad_leaves_tasks_that_agree() -> None:
    given = [gradients([1.0, 0.5], FIRST), gradients([0.2, 1.0], SECOND)]
    for found, before in zip(projected(given, 1, 0), given, strict=True):
        assert all(torch.equal(found[p], before[p]) for p in before)


def test_the_order_of_the_others_is_drawn_by_seed_and_step() -> None:
    """Of three tasks that all disagree, what is taken off first decides what is left."""
    given = [gradients([1.0, 0.0]), gradients([-1.0, 0.3]), gradients([-0.5, -1.0])]

    def one(seed: int, step: int) -> list[float]:
        return projected(given, seed, step)[0][SHARED].tolist()

    assert one(1, 4) == one(1, 4)
    assert len({tuple(one(1, step)) for step in range(12)}) == 2
    expected = []
    for order in ((1, 2), (2, 1)):
        left = torch.tensor([1.0, 0.0])
        for other in order:
            against = given[other][SHARED]
            if left @ against < 0:
                left = left - (left @ against) / (against @ against) * against
        expected.append(left.tolist())
    assert one(1, 0) in [pytest.approx(e) for e in expected]

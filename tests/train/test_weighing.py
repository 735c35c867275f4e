"""Weights of losses that are learned, against the formulas of the papers and torch's own Adam."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from layover.step import Mixture
from layover.train.weighing import LEAST, Weighing


def run(weighing: Weighing, steps: list[tuple[dict[int, float], dict[int, float]]]) -> dict[str, Any]:
    standing = weighing.begin()
    for losses, norms in steps:
        weighing.learn(standing, losses, norms)
    return standing


def test_fixed_weights_are_those_said_and_else_1() -> None:
    assert Weighing(Mixture(), ["classes", "value"]).weights({}) == [1.0, 1.0]
    fixed = Weighing(Mixture(fixed=(0.5, 2.0)), ["classes", "classes"])
    assert fixed.weights({}) == [0.5, 2.0]
    assert not fixed.learns
    assert fixed.begin() == {}


def test_by_uncertainty_log_variances_go_down_the_slope_of_kendalls_loss() -> None:
    """exp(-s) L + s / 2, half the first for a number; steps, moments and rate are those of torch's Adam."""
    losses = [{0: 2.0, 1: 0.1}, {0: 1.5, 1: 0.2}, {1: 0.3}, {0: 1.0, 1: 0.1}]
    weighing = Weighing(Mixture(weights="uncertainty", weights_rate=0.05), ["classes", "value"])
    standing = run(weighing, [(loss, {}) for loss in losses])

    s = [torch.zeros((), requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.Adam(s, lr=0.05)
    for loss in losses:
        optimizer.zero_grad(set_to_none=True)
        halves = (1.0, 0.5)
        sum(halves[n] * torch.exp(-s[n]) * value + s[n] / 2 for n, value in loss.items()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert standing["learned"] == pytest.approx([float(x) for x in s], abs=1e-6)
    assert weighing.weights(standing) == pytest.approx([math.exp(-float(s[0])), 0.5 * math.exp(-float(s[1]))], abs=1e-6)
    assert standing["learned"][0] > 0 > standing["learned"][1]  # the noisy task counts less, the sure one more


def test_gradnorm_goes_down_the_slope_of_chens_loss_and_weights_keep_their_sum() -> None:
    """sum |G_i - mean G r_i^alpha|, with the wanted norm constant; then weights are scaled to sum to their number."""
    plain = [[3.0, 1.0, 2.0], [2.0, 1.5, 2.0], [2.5, 1.0, 0.5]]  # of the gradients of the losses without weights
    losses = [[2.0, 1.0, 4.0], [1.0, 0.9, 3.0], [0.5, 0.8, 3.5]]
    alpha, rate = 1.5, 0.1
    weighing = Weighing(Mixture(weights="gradnorm", gradnorm_alpha=alpha, weights_rate=rate), ["classes"] * 3)
    standing = weighing.begin()
    assert weighing.weights(standing) == [1.0, 1.0, 1.0]

    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=rate)
    for norms, loss in zip(plain, losses, strict=True):
        now = weighing.weights(standing)
        given = {n: now[n] * norms[n] for n in range(3)}
        weighing.learn(standing, dict(enumerate(loss)), given)

        weighted = w * torch.tensor(norms)
        left = torch.tensor(loss) / torch.tensor(losses[0])
        wanted = (weighted.mean() * (left / left.mean()) ** alpha).detach()
        optimizer.zero_grad()
        (weighted - wanted).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            w.mul_(3 / w.sum())
        assert weighing.weights(standing) == pytest.approx(w.tolist(), abs=1e-5)
    assert sum(weighing.weights(standing)) == pytest.approx(3)


def test_gradnorm_gives_more_to_the_task_that_falls_behind() -> None:
    weighing = Weighing(Mixture(weights="gradnorm"), ["classes"] * 2)
    standing = run(weighing, [({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0})] + 20 * [({0: 0.1, 1: 1.0}, {0: 1.0, 1: 1.0})])
    first, second = weighing.weights(standing)
    assert second > first >= LEAST


def test_a_task_that_is_not_in_a_batch_stands_still() -> None:
    weighing = Weighing(Mixture(weights="uncertainty"), ["classes"] * 2)
    standing = run(weighing, [({0: 3.0}, {})])
    assert standing["learned"][0] != 0
    assert standing["learned"][1] == 0
    alone = Weighing(Mixture(weights="gradnorm"), ["classes"] * 2)
    assert alone.weights(run(alone, [({0: 3.0}, {0: 2.0})])) == [1.0, 1.0]  # one norm is its own mean

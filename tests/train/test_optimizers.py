"""Optimizers that papers' code had: against Adam as torch has it, and against BERT's written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from layover.step import Recipe
from layover.train.loop import evaluates, learning_rate
from layover.train.update import Update

STEPS, RATE = 400, 1e-2


class Small(nn.Module):
    """A network of one matrix, which decays, and one bias, which does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)
        with torch.no_grad():
            self.linear.weight.copy_(torch.linspace(-1, 1, 15).view(3, 5))
            self.linear.bias.copy_(torch.tensor([0.3, -0.2, 0.1]))


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Gradients of which the first is a thousand times the others: second moments fall once it is over."""
    draw = torch.Generator().manual_seed(1)
    scales = [1.0, *[1e-3] * (STEPS - 1)]
    return [(scale * torch.randn(3, 5, generator=draw), scale * torch.randn(3, generator=draw)) for scale in scales]


def trained(**words: Any) -> Small:
    network = Small()
    recipe = Recipe(learning_rate=RATE, warmup=0.1, max_grad_norm=1e9, **words)
    update = Update(network, recipe, torch.device("cpu"))
    for step, (weight, bias) in enumerate(batches()):
        network.linear.weight.grad, network.linear.bias.grad = weight.clone(), bias.clone()
        update.take(torch.tensor(1.0), learning_rate(step, STEPS, recipe), step)
        update.apply()
    return network


def by_torch(**words: Any) -> Small:
    network, recipe = Small(), Recipe(learning_rate=RATE, warmup=0.1)
    adam = torch.optim.Adam(network.parameters(), eps=1e-8, **words)
    for step, (weight, bias) in enumerate(batches()):
        network.linear.weight.grad, network.linear.bias.grad = weight.clone(), bias.clone()
        for group in adam.param_groups:
            group["lr"] = learning_rate(step, STEPS, recipe)
        adam.step()
    return network


def test_amsgrad_is_that_of_torch_and_not_adam() -> None:
    found = trained(optimizer="amsgrad", weight_decay=0.0, adam_epsilon=1e-8)
    expected, plain = by_torch(amsgrad=True), by_torch()
    for name in ("weight", "bias"):
        ours, theirs = getattr(found.linear, name), getattr(expected.linear, name)
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert (ours - getattr(plain.linear, name)).abs().max() > 1e-4


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_bertadam_does_not_correct_the_bias_of_its_first_steps(decay: float) -> None:
    """m and v as in Adam, w -= rate * (m / (sqrt(v) + eps) + decay * w), with nothing divided by 1 - beta ** t."""
    network, recipe = Small(), Recipe(learning_rate=RATE, warmup=0.1)
    weights = {name: p.detach().double().numpy().copy() for name, p in network.linear.named_parameters()}
    first = {name: np.zeros_like(w) for name, w in weights.items()}
    second = {name: np.zeros_like(w) for name, w in weights.items()}
    for step, gradients in enumerate(batches()):
        rate = learning_rate(step, STEPS, recipe)
        for name, gradient in zip(("weight", "bias"), gradients, strict=True):
            g = gradient.double().numpy()
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.999 * second[name] + 0.001 * g * g
            update = first[name] / (np.sqrt(second[name]) + 1e-6)
            update += decay * weights[name] if name == "weight" else 0
            weights[name] -= rate * update
    found = trained(optimizer="bertadam", weight_decay=decay)
    for name, expected in weights.items():
        np.testing.assert_allclose(getattr(found.linear, name).detach().numpy(), expected, rtol=1e-3, atol=1e-5)
    corrected = trained(weight_decay=decay)
    assert (found.linear.weight - corrected.linear.weight).abs().max() > 1e-2


@pytest.mark.parametrize(("words", "per_epoch", "expected"), [
    ({}, 5, [5, 10]),
    ({"evaluate_every": 3}, 5, [3, 6, 9]),
    ({"evaluations_per_epoch": 2}, 6, [3, 6, 9, 12]),
    ({"evaluations_per_epoch": 2}, 5, [3, 5, 8, 10]),
    ({"evaluations_per_epoch": 2, "evaluate_every": 3}, 4, [2, 4, 6, 8]),
    ({"evaluations_per_epoch": 4}, 2, [1, 2, 3, 4]),  # more often than there are steps is after each
])  # fmt: skip
def test_evaluations_lie_where_the_recipe_says(words: dict[str, Any], per_epoch: int, expected: list[int]) -> None:
    recipe = Recipe(**words)
    steps = [(epoch * per_epoch + batch, batch) for epoch in range(2) for batch in range(1, per_epoch + 1)]
    assert [step for step, batch in steps if evaluates(recipe, step, batch, per_epoch)] == expected


def test_steps_in_place_of_epochs() -> None:
    assert Recipe(epochs=3, batch_size=4).n_steps(10) == 9
    assert Recipe(epochs=3, batch_size=4, max_steps=7).n_steps(10) == 7
    assert Recipe(batch_size=4).n_steps(1500) == 40 * 375
    assert not Recipe(max_steps=7).plain

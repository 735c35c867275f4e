"""Remedies: what keeps a run near the weights that it starts from. Each is a plain function of a recipe's words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from layover.recipe import Recipe
from layover.train import lora
from layover.train.determinism import derive
from layover.train.groups import ENCODER, freeze
from layover.train.noise import drawn, scaled

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Anchor:
    """What a run is held to: the weights that its trained encoder parameters start from, by their names in the network.

    `fisher` is how much each of them mattered to the step before, for EWC.
    """

    start: Weights
    fisher: Weights = field(default_factory=dict)


def prepare(network: Any, recipe: Recipe, seed: int) -> None:
    """Set a network up for a recipe's remedies, before it is moved to its device."""
    if recipe.lora:
        lora.insert(network.encoder, recipe, seed)
    freeze(network.encoder, recipe.freeze)


def finish(network: Any, recipe: Recipe) -> None:
    """Leave a trained network as one that was trained without remedies: what was learnt is in its own weights."""
    if recipe.lora:
        lora.merge(network.encoder)


def anchor(network: Any, recipe: Recipe, fisher: Weights | None = None) -> Anchor | None:
    """What a run with this recipe is held to, taken before its first step; None where no remedy needs it."""
    if not (recipe.l2sp or recipe.ewc or recipe.mixout or recipe.optimizer == "recadam"):
        return None
    named = {name: p for name, p in network.named_parameters() if p.requires_grad and name.startswith(ENCODER)}
    return Anchor({name: p.detach().clone() for name, p in named.items()}, fisher or {})


@dataclass(frozen=True, eq=False)
class Mixed:
    """What to compute with instead of some parameters, by their names in a network, and its derivatives by them."""

    weights: Weights
    factors: Weights


def mixture(network: Any, recipe: Recipe, held: Anchor, seed: int, step: int) -> Mixed:
    """The weights of an optimizer step's passes under mixout (Lee et al. 2020, equation 6).

    Each element of every trained matrix of the encoder's linear maps is its start's with probability p, and all are
    rescaled so that their expectation is w: (m * w0 + (1 - m) * w - p * w0) / (1 - p). Biases, normalisation and
    embeddings are left, as in the paper's code. The mask m depends on seed, step and the parameter alone: all
    micro-batches of a step share it. On a CPU p is rounded to a multiple of 2**-16.
    """
    found = Mixed({}, {})
    for name, module in network.encoder.named_modules():
        own = f"{ENCODER}{name}.weight"
        if isinstance(module, nn.Linear) and own in held.start:
            start, weight = held.start[own], module.weight.detach()
            factor = _kept(weight, recipe.mixout, derive(seed, "mixout", own), step)
            found.factors[own] = factor
            found.weights[own] = torch.addcmul(start, factor, weight - start)  # the same as above
    return found


@contextmanager
def mixing(network: Any, recipe: Recipe, held: Anchor | None, seed: int, step: int) -> Iterator[None]:
    """Passes with the mixture of an optimizer step; the gradients that they leave are those of the weights themselves.

    The parameters hold the mixture meanwhile, so that layers that are computed again see it too.
    """
    if not recipe.mixout:
        yield
        return
    assert held is not None
    mixed = mixture(network, recipe, held, seed, step)
    parameters = {name: network.get_parameter(name) for name in mixed.weights}
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        for name, parameter in parameters.items():
            parameter.data = mixed.weights[name]
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.data = own[name]
            if parameter.grad is not None:
                parameter.grad.mul_(mixed.factors[name])


def _kept(like: torch.Tensor, rate: float, seed: int, step: int) -> torch.Tensor:
    """0 with probability `rate`, else 1 / (1 - rate), for every element."""
    if like.device.type == "cpu":
        return scaled(drawn(np.random.SFC64([seed, step]), like.numel(), rate), rate, like.dtype).view(like.shape)
    generator = torch.Generator(like.device).manual_seed(derive(seed, step))
    return torch.empty_like(like).bernoulli_(1 - rate, generator=generator).div_(1 - rate)


@dataclass(frozen=True, eq=False)
class Pull:
    """A penalty, sum of strength / 2 * weight * (parameter - start) ** 2, whose gradient is added to a batch's.

    Without `starts` they are zero; without `weights` these are one.
    """

    parameters: list[nn.Parameter]
    strength: float
    starts: list[torch.Tensor] | None = None
    weights: list[torch.Tensor] | None = None

    @torch.no_grad()
    def add(self) -> None:
        """Add the penalty's gradient to that of every parameter that has one."""
        there = [number for number, p in enumerate(self.parameters) if p.grad is not None]
        if not there:
            return
        away: Any = [self.parameters[number].detach() for number in there]
        if self.starts is not None:
            away = torch._foreach_sub(away, [self.starts[n] for n in there])  # pyright: ignore[reportPrivateImportUsage]
        if self.weights is not None:
            away = torch._foreach_mul(away, [self.weights[n] for n in there])  # pyright: ignore[reportPrivateImportUsage]
        gradients: Any = [self.parameters[number].grad for number in there]
        torch._foreach_add_(gradients, away, alpha=self.strength)  # pyright: ignore[reportPrivateImportUsage]


def pulls(network: nn.Module, recipe: Recipe, held: Anchor | None) -> list[Pull]:
    """The penalties of a recipe, as gradients: they are part of the loss, and so are clipped with it.

    L2-SP (Li et al. 2018, section 3.2): `l2sp` / 2 * |w - w0|^2 over the encoder's trained parameters, and
    `l2sp_head` / 2 * |w|^2 over the head's. EWC (Kirkpatrick et al. 2017, equation 3): `ewc` / 2 * sum of
    F * (w - w0)^2 with the Fisher information F of what was trained before.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    inner = {name: p for name, p in named.items() if name.startswith(ENCODER)}
    outer = [p for name, p in named.items() if name not in inner]
    found = []
    if held is not None:
        starts = [held.start[name] for name in inner]
        if recipe.l2sp:
            found.append(Pull(list(inner.values()), recipe.l2sp, starts))
        if recipe.ewc:
            found.append(Pull(list(inner.values()), recipe.ewc, starts, [held.fisher[name] for name in inner]))
    if recipe.l2sp_head:
        found.append(Pull(outer, recipe.l2sp_head))
    return found


def learning(recipe: Recipe, step: int) -> float:
    """RecAdam's share of the objective that is the task's in optimizer step `step` (from 0; the paper counts from 1).

    sigmoid(k * (t - t0)), Chen et al. 2020, equation 8; the rest of the objective is to stay at the start.
    """
    place = recipe.recadam_k * (step + 1 - recipe.recadam_t0)
    return 1 / (1 + math.exp(-place)) if place >= 0 else math.exp(place) / (1 + math.exp(place))


@torch.no_grad()
def recall(group: dict[str, Any], starts: list[torch.Tensor], alive: torch.Tensor) -> None:
    """What RecAdam does to a group of weights beside Adam's step: the decoupled pull to the start, and weight decay.

    w - back * (w - w0) - fade * w, where `back` and `fade` are the group's. Nothing where `alive` is 0.
    """
    there = [(p, start) for p, start in zip(group["params"], starts, strict=True) if p.grad is not None]
    if not there:
        return
    weights, starts = ([pair[part].detach() for pair in there] for part in (0, 1))
    away: Any = torch._foreach_sub(weights, starts)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_mul_(away, alive * group["back"])  # pyright: ignore[reportPrivateImportUsage]
    if group["decay"]:
        faded: Any = torch._foreach_mul(weights, alive * group["fade"])  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_add_(away, faded)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_sub_(weights, away)  # pyright: ignore[reportPrivateImportUsage]

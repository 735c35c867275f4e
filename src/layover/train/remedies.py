"""Remedies: what keeps a run near the weights that it starts from. Each is a plain function of a recipe's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from layover.recipe import Recipe
from layover.train.groups import ENCODER, freeze

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
    freeze(network.encoder, recipe.freeze)


def anchor(network: Any, recipe: Recipe, fisher: Weights | None = None) -> Anchor | None:
    """What a run with this recipe is held to, taken before its first step; None where no remedy needs it."""
    if not (recipe.l2sp or recipe.ewc or recipe.mixout or recipe.optimizer == "recadam"):
        return None
    named = {name: p for name, p in network.named_parameters() if p.requires_grad and name.startswith(ENCODER)}
    return Anchor({name: p.detach().clone() for name, p in named.items()}, fisher or {})


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
    `l2sp_head` / 2 * |w|^2 over the head's.
    """
    named = {name: p for name, p in network.named_parameters() if p.requires_grad}
    inner = {name: p for name, p in named.items() if name.startswith(ENCODER)}
    outer = [p for name, p in named.items() if name not in inner]
    found = []
    if recipe.l2sp and inner:
        assert held is not None
        found.append(Pull(list(inner.values()), recipe.l2sp, [held.start[name] for name in inner]))
    if recipe.l2sp_head:
        found.append(Pull(outer, recipe.l2sp_head))
    return found

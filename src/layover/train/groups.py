"""Groups: which layer a parameter belongs to, which parameters are trained, and at what share of the learning rate.

Layers are found by structure, with no code per family: the longest list of modules of one kind.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from layover.errors import StepError
from layover.recipe import Recipe, frozen_parts

ENCODER = "encoder."  # what the names of an encoder's parameters begin with in a network


def layers_of(encoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """An encoder's layers, lowest first, and the name of the list; raises StepError where there is none."""
    lists = [(name, part) for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList) and len(part)]
    if not lists:
        raise StepError("this encoder has no list of layers: layer_decay, freeze and lora cannot tell them apart")
    return max(lists, key=lambda found: len(found[1]))  # the first of equals is the outermost


def layer_numbers(encoder: nn.Module) -> dict[str, int]:
    """The layer of every parameter by name: -1 for what comes before the first layer, the depth for what follows.

    Only a norm behind the last layer follows (ModernBERT). What layers share, such as DeBERTa's relative positions,
    counts as before them.
    """
    name, layers = layers_of(encoder)
    owner, _, own = name.rpartition(".")
    siblings = dict(encoder.get_submodule(owner).named_children())
    names = list(siblings)
    behind = names[names.index(own) + 1 :]
    if any(isinstance(siblings[sibling], nn.Embedding) for sibling in behind):
        behind = []
    prefix = f"{owner}." if owner else ""
    found = {}
    for parameter, _ in encoder.named_parameters():
        if parameter.startswith(f"{name}."):
            found[parameter] = int(parameter.removeprefix(f"{name}.").partition(".")[0])
        else:
            follows = any(parameter.startswith(f"{prefix}{sibling}.") for sibling in behind)
            found[parameter] = len(layers) if follows else -1
    return found


def freeze(encoder: nn.Module, words: str) -> None:
    """Let the parts that a recipe's `freeze` names have no gradients; raises StepError where there is no such layer.

    Their dropout stays as it is.
    """
    if not words:
        return
    frozen = frozen_parts(words)
    numbers = {} if frozen.whole else layer_numbers(encoder)
    depth = 0 if frozen.whole else len(layers_of(encoder)[1])
    if not frozen.whole and frozen.highest >= depth:
        raise StepError(f"freeze = {words!r}: the encoder has layers 0 to {depth - 1}")
    for name, parameter in encoder.named_parameters():
        if frozen.whole or (frozen.embeddings if numbers[name] < 0 else frozen.holds(numbers[name])):
            parameter.requires_grad_(False)


def rate_shares(network: Any, recipe: Recipe) -> dict[str, float]:
    """The share of the learning rate of each of a network's parameters, by name.

    Layer i of d (from 0) learns at `layer_decay` ** (d - i), embeddings at ** (d + 1), and what follows the layers, the
    head above all, at the full rate: each layer at the same share of the rate of the one above it (Howard and Ruder
    2018, section 3.2; Clark et al. 2020 begin a step lower).
    """
    shares = {name: 1.0 for name, _ in network.named_parameters()}
    if recipe.layer_decay != 1:
        depth = len(layers_of(network.encoder)[1])
        for name, number in layer_numbers(network.encoder).items():
            shares[f"{ENCODER}{name}"] = recipe.layer_decay ** (depth - number)
    return shares


def optimizer_groups(network: Any, recipe: Recipe) -> list[dict[str, Any]]:
    """The trained parameters in groups of one weight decay and one `share` of the learning rate each.

    Matrices decay; biases and normalisation have one dimension, and do not. `recalled` says that RecAdam pulls a group
    back, the encoder's: it decays them itself, by `decay`.
    """
    shares = rate_shares(network, recipe)
    recadam = recipe.optimizer == "recadam"
    groups: dict[tuple[Any, ...], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = (parameter.ndim <= 1, -shares[name], recadam and name.startswith(ENCODER))
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": 0.0 if spared or recalled else recipe.weight_decay,
            "decay": 0.0 if spared else recipe.weight_decay,
            "share": -negative,
            "recalled": recalled,
        }
        for (spared, negative, recalled), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]

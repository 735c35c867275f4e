"""Surgery: layers of an encoder put into another order, cut off, or drawn anew, before it is trained.

What Tamkin et al. 2020 do to BERT (sections 3 and 4), for any encoder whose layers are one list of modules. Embeddings
stay, and so does whatever else is outside the layers: relative positions, a final norm. A layer that moves takes all of
itself along, ModernBERT's its kind of attention too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from layover.errors import EncoderError, Problem
from layover.step import Surgery
from layover.train.determinism import derive

SD = 0.02
# where the normal distribution is cut, in standard deviations. The paper's code gave scipy's truncnorm its limits, two
# standard deviations, as values: what it drew is within 0.0008, nearly uniform, with a standard deviation of 0.00046
CUT = {"intended": 2.0, "released": 2.0 * SD}
ARRANGED = "layover_layers"  # in a configuration: the plain encoder's numbers of the layers that there are, in order


def layers_of(encoder: Any) -> nn.ModuleList:
    """The list of an encoder's layers, the lowest first: see `named_layers`."""
    return named_layers(encoder)[1]


def named_layers(encoder: Any) -> tuple[str, nn.ModuleList]:
    """The list of an encoder's layers, the lowest first, with its name: as many modules as it has layers.

    Found by structure, with no code per family. Raises EncoderError where there is no such list, as in ALBERT, whose
    layers share their weights, or several.
    """
    depth = getattr(getattr(encoder, "config", None), "num_hidden_layers", None)
    found: dict[str, nn.ModuleList] = {}
    for name, module in encoder.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == depth and not inside and all(map(_has_weights, module)):
            found[name] = module
    if len(found) != 1:
        told = f"its layers cannot be told apart: {len(found) or 'no'} lists of {depth} layers"
        hint = "take an encoder whose layers are one list and share no weights, such as BERT, RoBERTa or ModernBERT"
        raise EncoderError(Problem(_kind(encoder), told, hint))
    return next(iter(found.items()))


def _kind(encoder: Any) -> str:
    return str(getattr(getattr(encoder, "config", None), "model_type", type(encoder).__name__))


def _has_weights(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in module.modules())


def apply(encoder: Any, surgery: Surgery, seed: int) -> None:
    """Do to an encoder what `surgery` says: order, then depth, then reset. Nothing is done where it says nothing.

    Weights are drawn from the run's own stream for each layer, so that no other stream notices. Raises EncoderError
    where the encoder does not have these layers.
    """
    if surgery == Surgery():
        return
    layers = layers_of(encoder)
    if surgery.order or surgery.depth is not None:
        order = surgery.order or range(len(layers))
        if sorted(order) != list(range(len(layers))):
            raise _refused(encoder, f"order {list(order)} does not name each of {len(layers)} layers once")
        if surgery.depth is not None and not 0 < surgery.depth <= len(layers):
            raise _refused(encoder, f"{surgery.depth} layers cannot be kept of {len(layers)}")
        arrange(encoder, list(order)[: surgery.depth])
        layers = layers_of(encoder)
    if wrong := [number for number in surgery.reset if not 0 <= number < len(layers)]:
        raise _refused(encoder, f"layers {wrong} are not among the {len(layers)} that there are, from 0")
    with torch.no_grad():
        for number in surgery.reset:
            _reset(encoder, layers[number], surgery, torch.Generator().manual_seed(derive(seed, "reset", number)))


def arrange(encoder: Any, numbers: Sequence[int]) -> None:
    """Let an encoder have these of its layers, in this order. Its configuration says so, for whoever loads it."""
    layers, config = layers_of(encoder), encoder.config
    before = getattr(config, ARRANGED, None) or list(range(len(layers)))
    moved = [layers[number] for number in numbers]
    del layers[:]
    layers.extend(moved)
    kinds = getattr(config, "layer_types", None)
    if kinds:  # of attention, by layer
        config.layer_types = [kinds[number] for number in numbers]
    config.num_hidden_layers = len(numbers)
    setattr(config, ARRANGED, [before[number] for number in numbers])


def arranged(config: Any) -> list[int] | None:
    """Which layers of the plain encoder, in which order, an encoder with this configuration has; None for all of it."""
    return config.get(ARRANGED) if isinstance(config, dict) else getattr(config, ARRANGED, None)


def drawn(shape: Sequence[int], init: str, generator: torch.Generator) -> torch.Tensor:
    """Numbers of the normal distribution with standard deviation 0.02, cut as `init` says, in single precision."""
    half = math.erf(CUT[init] / math.sqrt(2))  # the share of the distribution within the cut
    uniform = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return (SD * math.sqrt(2) * torch.erfinv((2 * uniform - 1) * half)).float()


def _reset(encoder: Any, layer: nn.Module, surgery: Surgery, generator: torch.Generator) -> None:
    for module in layer.modules():
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, nn.Linear):
            module.weight.copy_(drawn(module.weight.shape, surgery.init, generator))
            if surgery.biases == "reset" and module.bias is not None:
                module.bias.zero_()
        elif type(module).__name__.endswith("Norm"):
            for name, parameter in own.items() if surgery.layer_norm == "reset" else ():
                parameter.fill_(float(name == "weight"))
        elif own:
            told = f"a layer has weights of a kind that cannot be reset: {', '.join(own)} of {type(module).__name__}"
            raise _refused(encoder, told)


def _refused(encoder: Any, told: str) -> EncoderError:
    return EncoderError(Problem(_kind(encoder), told, "layers are numbered from 0, the lowest"))

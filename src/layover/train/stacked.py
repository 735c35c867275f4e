"""Stacked: the networks of several runs as one, whose every layer does the work of all runs in one call.

A small model on a GPU waits for its operations to be launched, not for their arithmetic, so K runs in one model take
little longer than one. The stock encoder is kept: its layers that hold weights are replaced by those of `layers`, and
it is given the rows of all runs, those of run 0 first, as many of each. What has no weights works on rows and needs no
change. The runs' own parameters become views of the stacked ones, and their gradients views of the stacked gradients:
an optimizer, a clipping or an evaluation of one run sees an ordinary network. Heads are small, and stay apart. Where an
encoder uses its weights in another way (DeBERTa's relative positions), `stack` says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from layover.train.batching import Batch
from layover.train.layers import ATTENTIONS, LAYERS, CannotStack, Dropout, Runs, one_or_all, register
from layover.train.layout import Layout
from layover.train.network import Network
from layover.train.ways import call

TOLERANCE = 1e-3  # largest difference of what a stack computes, relative to the largest value: rounding stays far below
PROBE_LENGTHS = ((5, 3), (6, 2))  # of the inputs of two runs
PROBE_NOISE = 0.02  # added to every weight, since runs that start from one encoder could be mixed up without a trace
PROBE_RATE = 1e-9  # of dropout in one of the two runs: another rate than none, which drops nothing

Tokens = Mapping[str, torch.Tensor]  # what an encoder is given, each [rows, tokens]


class Stack(nn.Module):
    """Several networks as one. While it stands, the parameters of their encoders are views of its own [runs, ...]."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        self._networks = list(networks)  # a list: they are no part of this module
        encoders = [network.encoder for network in networks]
        self._runs = Runs(len(networks), next(encoders[0].parameters()).device, [each.noise for each in networks])
        self.encoder: Any = _surgery(encoders, self._runs)
        self._gradients = [p.grad for p in self.encoder.parameters() if p.grad is not None]
        self.train()

    def forward(
        self, batches: Sequence[Batch | None], seeds: Sequence[int], steps: Sequence[int]
    ) -> list[torch.Tensor | None]:
        """The scores of one micro-batch per run, as the run's own network gives them; a run may have none."""
        for network, batch, seed, step in zip(self._networks, batches, seeds, steps, strict=True):
            network.noise.end()  # an encoder's last layer is computed whole, whatever the run's last pass asked for
            if batch is not None:
                network.begin(batch, seed, step)
        hidden = self.hidden([None if batch is None else batch.tokens for batch in batches])
        runs = zip(self._networks, hidden, batches, strict=True)
        return [None if batch is None else network.read(part, batch) for network, part, batch in runs]

    def hidden(self, tokens: Sequence[Tokens | None]) -> list[torch.Tensor]:
        """The hidden states [rows, tokens, width] of what each run's encoder is given."""
        self._runs.begin([(0, 0) if own is None else tuple(own["input_ids"].shape) for own in tokens])
        given = {name: self._together(name, tokens) for name in next(own for own in tokens if own is not None)}
        if "attention_mask" in given:  # not every kernel defines the attention of a row without any token
            given["attention_mask"][:, 0] = 1
        first = self._networks[0]
        noise: Any = self._runs  # the attention of a stack takes it apart
        return self._runs.apart(call(self.encoder, given, noise, first.way, first.first_position))

    def _together(self, name: str, tokens: Sequence[Tokens | None]) -> torch.Tensor:
        padding = self.encoder.config.pad_token_id or 0 if name == "input_ids" else 0
        nothing = next(own for own in tokens if own is not None)[name][:0, :0]
        return self._runs.together([nothing if own is None else own[name] for own in tokens], padding)

    def forget(self) -> None:
        """Set the gradients of all encoders to zero, in place: they stay the views that they are."""
        torch._foreach_zero_(self._gradients)  # pyright: ignore[reportPrivateImportUsage]

    def release(self) -> None:
        """Give every encoder parameters of its own again, with the same values; the stack is of no use afterwards."""
        for parameter in (p for network in self._networks for p in network.encoder.parameters()):
            parameter.data, parameter.grad = parameter.data.clone(), None


def stack(networks: Sequence[Network]) -> Stack:
    """A stack of networks whose encoders are of one structure; raises CannotStack where it would be wrong.

    What a stack of such encoders computes is compared, once per process and configuration, with what they compute.
    """
    for network in networks:
        network.noise.end()  # which a probe of the encoder would heed
        if any(getattr(module, "gradient_checkpointing", False) for module in network.encoder.modules()):
            raise CannotStack("what is computed again for gradients would draw the dropout of one run for all")
    _check_alike(networks)
    rates = [[_rates(module) for module in network.encoder.modules()] for network in networks]
    first, differ = networks[0], any(rate != rates[0] for rate in rates)
    kind = (str(first.encoder.config), first.way, next(first.encoder.parameters()).device, differ)
    if kind not in _TRIED:
        _TRIED[kind] = _try(first, differ)
    if _TRIED[kind]:
        raise CannotStack(f"{type(first.encoder).__name__} cannot be stacked: {_TRIED[kind]}")
    return Stack(networks)


_TRIED: dict[Any, str] = {}  # why encoders of a configuration cannot be stacked; "" where they can


def _check_alike(networks: Sequence[Network]) -> None:
    """Raise CannotStack unless encoders differ in nothing but the values of their weights and rates of dropout."""
    encoders: list[nn.Module] = [network.encoder for network in networks]
    structures = [[_structure(name, module) for name, module in encoder.named_modules()] for encoder in encoders]
    if any(own != structures[0] for own in structures) or len({network.way for network in networks}) > 1:
        raise CannotStack("the encoders are not of one structure")


def _structure(name: str, module: nn.Module) -> tuple[Any, ...]:
    """What must be the same of a module in all runs."""
    if _drops(module):
        return name, "dropout"
    weights = [(n, p.shape, p.dtype, p.device, p.requires_grad) for n, p in module.named_parameters(recurse=False)]
    skipped = {"training", *_rates(module)}
    plain = {n: v for n, v in vars(module).items() if isinstance(v, int | float | str) and n not in skipped}
    return name, type(module), weights, plain


def _drops(module: nn.Module) -> bool:
    """Whether a module is a dropout layer; some families have an identity instead where the rate is 0."""
    return isinstance(module, nn.Dropout | nn.Identity)


def _rates(module: nn.Module) -> dict[str, float]:
    """The rates of dropout that a module has as plain numbers."""
    if _drops(module):
        return {"p": float(getattr(module, "p", 0.0))}
    found = {name: value for name, value in vars(module).items() if "dropout" in name}
    return {n: float(v) for n, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _surgery(encoders: Sequence[nn.Module], runs: Runs) -> nn.Module:
    """A copy of the first encoder, without its weights, in which every layer stands for that of all encoders."""
    whole: Any = copy.deepcopy(encoders[0], memo={id(p): p for p in encoders[0].parameters()})
    parts = [dict(encoder.named_modules(remove_duplicate=False)) for encoder in encoders]
    made: dict[int, nn.Module] = {}
    for name, module in list(whole.named_modules(remove_duplicate=False)):
        layers = [modules[name] for modules in parts]
        build = Dropout if any(isinstance(layer, nn.Dropout) for layer in layers) else LAYERS.get(type(module))
        if build is not None:
            parent, _, own = name.rpartition(".")
            if id(module) not in made:  # a layer may be in several places
                made[id(module)] = build(layers, runs)
            setattr(whole.get_submodule(parent), own, made[id(module)])
        elif list(module.parameters(recurse=False)):
            raise CannotStack(f"{type(module).__name__} has weights, and is none of the layers that can be stacked")
        else:
            for rate in _rates(module):
                setattr(module, rate, one_or_all([_rates(layer)[rate] for layer in layers]))
    own = whole.config._attn_implementation
    if own in ATTENTIONS:
        register()
        whole.config._attn_implementation = ATTENTIONS[own]
    return whole


# trying it out


def _try(network: Network, differ: bool) -> str:
    """Why networks like this one cannot be stacked, with rates of dropout that differ or not; "" where they can.

    Two copies with weights of their own give hidden states and gradients for a random batch, apart and stacked.
    """
    draw = torch.Generator().manual_seed(0)
    copies = [_probe(network, run * differ * PROBE_RATE, draw) for run in range(2)]
    tokens = [_begin_probe(own, lengths, draw) for own, lengths in zip(copies, PROBE_LENGTHS, strict=True)]
    try:
        with torch.random.fork_rng():
            hidden = [call(own.encoder, dict(given), own.noise, own.way, own.first_position)
                      for own, given in zip(copies, tokens, strict=True)]  # fmt: skip
            apart = _results(hidden, copies)
            together = _results(Stack(copies).hidden(tokens), copies)
    except (CannotStack, RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        return str(error)
    largest = max(float(part.abs().max()) for part in apart)
    for one, other in zip(apart, together, strict=True):
        allowed = TOLERANCE * (float(one.abs().max()) + TOLERANCE * largest)
        if one.shape != other.shape or not float((one - other).abs().max()) <= allowed:
            return "it would compute something else"
    return ""


def _probe(network: Network, rate: float, draw: torch.Generator) -> Network:
    """A copy with other weights."""
    made = copy.deepcopy(network).train()
    for module in made.encoder.modules():
        for name in _rates(module):
            setattr(module, name, rate)
    for parameter in made.encoder.parameters():
        parameter.data += (torch.randn(parameter.shape, generator=draw) * PROBE_NOISE).to(parameter)
        parameter.grad = None
    return made


def _begin_probe(network: Network, lengths: Sequence[int], draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Begin a pass over random inputs of some lengths."""
    layout = Layout.of(np.array(lengths), np.zeros((2, 2), np.int64), 0 if network.packed else max(lengths))
    device = next(network.parameters()).device
    network.noise.begin(layout, 0, 0, with_streams=device.type == "cpu")

    encoder: Any = network.encoder
    ids = torch.randint(encoder.config.vocab_size, (sum(lengths),), generator=draw).numpy()
    return {name: torch.from_numpy(array).to(device) for name, array in layout.arguments(ids).items()}


def _results(hidden: Sequence[torch.Tensor], networks: Sequence[Network]) -> list[torch.Tensor]:
    """Hidden states without padding, and the gradients that a sum of them with various weights leads to."""
    layouts = [own.noise.layout for own in networks]
    seen = [part.flatten(0, 1)[at.tokens()] for part, at in zip(hidden, layouts, strict=True) if at is not None]
    weighted = [part * torch.arange(part.numel()).sin().view(part.shape).to(part) for part in seen]
    torch.stack([part.sum() for part in weighted]).sum().backward()
    gradients = [p.grad for own in networks for p in own.encoder.parameters() if p.grad is not None]
    return [found.detach().clone() for found in (*seen, *gradients)]

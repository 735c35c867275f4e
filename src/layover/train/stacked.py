"""Stacked: the encoders of several runs as one, whose every layer does the work of all runs in one call.

A small model on a GPU waits for its operations to be launched, not for their arithmetic, so K runs in one model take
little longer than one. The stock encoder is kept: its layers that hold weights are replaced by those of `layers`, and
it is given the rows of all runs, those of run 0 first, as many of each. What has no weights works on rows and needs no
change. The runs' own parameters become views of the stacked ones, and their gradients views of the stacked gradients:
an optimizer, a clipping or an evaluation of one run sees an ordinary network. Where an encoder uses its weights in
another way (DeBERTa's relative positions), `stack` says so.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from layover.train.layers import ATTENTION, LAYERS, CannotStack, Dropout, Runs, attend, one_or_all

DROPOUT = (nn.Dropout, nn.Identity)  # some families have no layer where the rate is 0
TOLERANCE = 1e-3  # largest difference of what a stack computes, relative to the largest value: rounding stays far below
PROBE_LENGTHS = ((5, 3), (6, 2))  # of the inputs of two runs
PROBE_NOISE = 0.02  # added to every weight, since runs that start from one encoder could be mixed up without a trace
PROBE_RATE = 1e-9  # of dropout in one of the two runs: another rate than none, which drops nothing

Tokens = Mapping[str, torch.Tensor]  # what an encoder is given, each [rows, tokens]


class Stack(nn.Module):
    """Several encoders as one module. While it stands, their parameters are views of its own [runs, ...]."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self._runs = Runs(len(encoders), next(encoders[0].parameters()).device)
        self._encoders = list(encoders)  # a list: they are no part of this module
        self.encoder: Any = _surgery(encoders, self._runs)
        self._gradients = [p.grad for p in self.encoder.parameters() if p.grad is not None]

    def forward(self, batches: Sequence[Tokens]) -> list[torch.Tensor]:
        """The hidden states [rows, tokens, width] of one batch per run."""
        shapes = [batch["input_ids"].shape for batch in batches]
        self._runs.rows = rows = max(shape[0] for shape in shapes)
        shape = rows, max(shape[1] for shape in shapes)
        padding = {"input_ids": self.encoder.config.pad_token_id or 0}
        tokens = {n: _together([batch[n] for batch in batches], shape, padding.get(n, 0)) for n in batches[0]}
        tokens["attention_mask"][:, 0] = 1  # a row without any token would have an attention of 0 / 0
        hidden = self.encoder(**tokens).last_hidden_state.split(rows)
        return [part[: shape[0], : shape[1]] for part, shape in zip(hidden, shapes, strict=True)]

    def forget(self) -> None:
        """Set the gradients of all runs to zero, in place: they stay the views that they are."""
        torch._foreach_zero_(self._gradients)  # pyright: ignore[reportPrivateImportUsage]

    def release(self) -> None:
        """Give every run parameters of its own again, with the same values; the stack is of no use afterwards."""
        for parameter in (p for encoder in self._encoders for p in encoder.parameters()):
            parameter.data, parameter.grad = parameter.data.clone(), None


def _together(parts: Sequence[torch.Tensor], shape: tuple[int, int], padding: int) -> torch.Tensor:
    """Parts [rows, tokens] as one [runs * rows, tokens], each padded to one shape."""
    whole = parts[0].new_full((len(parts), *shape), padding)
    for run, part in enumerate(parts):
        whole[run, : part.shape[0], : part.shape[1]] = part
    return whole.flatten(0, 1)


def stack(encoders: Sequence[nn.Module]) -> Stack:
    """A stack of encoders of one structure; raises CannotStack where they differ, or where a stack would be wrong.

    What a stack of such encoders computes is compared, once per process and configuration, with what they compute.
    """
    _check_alike(encoders)
    rates = [[_rates(module) for module in encoder.modules()] for encoder in encoders]
    first, differ = encoders[0], any(rate != rates[0] for rate in rates)
    kind = (str(first.config), next(first.parameters()).device, differ)
    if kind not in _TRIED:
        _TRIED[kind] = _try(first, differ)
    if _TRIED[kind]:
        raise CannotStack(f"{type(first).__name__} cannot be stacked: {_TRIED[kind]}")
    return Stack(encoders)


_TRIED: dict[Any, str] = {}  # why encoders of a configuration cannot be stacked; "" where they can


def _check_alike(encoders: Sequence[nn.Module]) -> None:
    """Raise CannotStack unless encoders differ in nothing but the values of their weights and rates of dropout."""
    structures = [[_structure(name, module) for name, module in encoder.named_modules()] for encoder in encoders]
    for structure in structures[1:]:
        if structure != structures[0]:
            raise CannotStack("the encoders are not of one structure")


def _structure(name: str, module: nn.Module) -> tuple[Any, ...]:
    """What must be the same of a module in all runs."""
    if type(module) in DROPOUT:
        return name, DROPOUT
    weights = [(n, p.shape, p.dtype, p.device, p.requires_grad) for n, p in module.named_parameters(recurse=False)]
    skipped = {"training", *_rates(module)}
    plain = {n: v for n, v in vars(module).items() if isinstance(v, int | float | str) and n not in skipped}
    return name, type(module), weights, plain


def _rates(module: nn.Module) -> dict[str, float]:
    """The rates of dropout that a module has as plain numbers."""
    if type(module) in DROPOUT:
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
        build = Dropout if any(type(layer) is nn.Dropout for layer in layers) else LAYERS.get(type(module))
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
    if whole.config._attn_implementation == "sdpa":
        _register()
        whole.config._attn_implementation = ATTENTION
    return whole


def _register() -> None:
    """Make `attend` known to transformers, with the masks of what it calls."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


# trying it out


def _try(encoder: Any, differ: bool) -> str:
    """Why encoders like this one cannot be stacked, with rates of dropout that differ or not; "" where they can.

    Two copies with weights of their own give hidden states and gradients for a random batch, apart and stacked.
    """
    draw = torch.Generator().manual_seed(0)
    copies = [_probe(encoder, run * differ * PROBE_RATE, draw) for run in range(2)]
    batches = [_probe_tokens(encoder, lengths, draw) for lengths in PROBE_LENGTHS]
    try:
        with torch.random.fork_rng():
            hidden = [part(**batch).last_hidden_state for part, batch in zip(copies, batches, strict=True)]
            apart = _results(hidden, batches, copies)
            together = _results(Stack(copies)(batches), batches, copies)
    except (CannotStack, RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        return str(error)
    largest = max(float(part.abs().max()) for part in apart)
    for one, other in zip(apart, together, strict=True):
        allowed = TOLERANCE * (float(one.abs().max()) + TOLERANCE * largest)
        if one.shape != other.shape or not float((one - other).abs().max()) <= allowed:
            return "it would compute something else"
    return ""


def _probe(encoder: nn.Module, rate: float, draw: torch.Generator) -> nn.Module:
    """A copy with other weights."""
    made = copy.deepcopy(encoder).train()
    for module in made.modules():
        for name in _rates(module):
            setattr(module, name, rate)
    for parameter in made.parameters():
        parameter.data += (torch.randn(parameter.shape, generator=draw) * PROBE_NOISE).to(parameter)
        parameter.grad = None
    return made


def _probe_tokens(encoder: Any, lengths: Sequence[int], draw: torch.Generator) -> dict[str, torch.Tensor]:
    """Random inputs of some lengths."""
    device = next(encoder.parameters()).device
    ids = torch.randint(encoder.config.vocab_size, (len(lengths), max(lengths)), generator=draw)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}


def _results(
    hidden: Sequence[torch.Tensor], batches: Sequence[Tokens], encoders: Sequence[nn.Module]
) -> list[torch.Tensor]:
    """Hidden states without padding, and the gradients that a sum of them with various weights leads to."""
    seen = [part * batch["attention_mask"].unsqueeze(-1) for part, batch in zip(hidden, batches, strict=True)]
    weighted = [part * torch.arange(part.numel()).sin().view(part.shape).to(part) for part in seen]
    torch.stack([part.sum() for part in weighted]).sum().backward()
    gradients = [p.grad for encoder in encoders for p in encoder.parameters() if p.grad is not None]
    return [found.detach().clone() for found in (*seen, *gradients)]

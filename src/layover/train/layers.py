"""Layers: of several runs at once, with weights [runs, ...], for inputs that hold the rows of all runs, run by run.

Each computes for every run what the layer of that run computes, up to rounding. The runs' parameters are views of its
weights. Of the random numbers of dropout, those that belong to a run (see `noise`) are the run's own here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from layover.train import attention, masks, noise


class CannotStack(Exception):
    """These encoders are no stack; the text says why. Their runs are trained one after the other instead."""


class Runs:
    """What the layers of one stack share: how many runs there are, and how the batch at hand holds their rows.

    `shapes` are the rows and tokens of each run's own batch, `rows` and `tokens` what all are padded to.
    """

    def __init__(self, count: int, device: torch.device, noises: Sequence[noise.Noise]) -> None:
        self.count, self.device, self.noises = count, device, noises
        self.shapes: Sequence[Sequence[int]] = []
        self.rows = self.tokens = 0
        self._gathered: dict[int, nn.Parameter] = {}

    def begin(self, shapes: Sequence[Sequence[int]]) -> None:
        """Take in the shapes of a new batch; a run may have none, (0, 0)."""
        self.shapes = shapes
        self.rows, self.tokens = (max(shape[place] for shape in shapes) for place in (0, 1))

    def apart(self, x: torch.Tensor, dim: int = 1) -> list[torch.Tensor]:
        """What is each run's own of [runs * rows, tokens, ...], with the tokens in dimension `dim`."""
        parts = zip(x.split(self.rows), self.shapes, strict=True)
        return [part[:rows].narrow(dim, 0, tokens) for part, (rows, tokens) in parts]

    def together(self, parts: Sequence[torch.Tensor], padding: float = 0) -> torch.Tensor:
        """[runs * rows, tokens, ...] from what is each run's own."""
        padded = []
        for part, (rows, tokens) in zip(parts, self.shapes, strict=True):
            if (rows, tokens) != (self.rows, self.tokens):
                behind = (*[0] * 2 * (part.ndim - 2), 0, self.tokens - tokens, 0, self.rows - rows)
                part = functional.pad(part, behind, value=padding)
            padded.append(part)
        return torch.cat(padded)

    def gather(self, parameters: Sequence[Any]) -> nn.Parameter:
        """One parameter [runs, ...] of which these become views, with their gradients; once for a shared one."""
        first = parameters[0]
        if id(first) not in self._gathered:
            whole = nn.Parameter(torch.stack([p.data for p in parameters]), first.requires_grad)
            self._gathered[id(first)] = whole
            for parameter, values in zip(parameters, whole.data, strict=True):
                parameter.data = values
            if whole.requires_grad:
                whole.grad = torch.zeros_like(whole)
                for parameter, gradient in zip(parameters, whole.grad, strict=True):
                    parameter.grad = gradient
        return self._gathered[id(first)]


class Layer(nn.Module):
    """A layer with stacked weights. Who asks for its weight does something else with it than such a layer does."""

    @property
    def weight(self) -> torch.Tensor:
        """Refused: raises CannotStack."""
        raise CannotStack("it reads a layer's weights itself")


class Linear(Layer):
    """Linear layers with weights [runs, out, in]."""

    def __init__(self, layers: Sequence[nn.Linear], runs: Runs) -> None:
        super().__init__()
        self.stacked = runs.gather([layer.weight for layer in layers])
        self.stacked_bias = None if layers[0].bias is None else runs.gather([layer.bias for layer in layers])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[runs * rows, ..., in] to [runs * rows, ..., out]."""
        each, weight = x.reshape(len(self.stacked), -1, x.shape[-1]), self.stacked.transpose(1, 2)
        if self.stacked_bias is None:
            found = torch.bmm(each, weight)
        else:
            found = torch.baddbmm(self.stacked_bias.unsqueeze(1), each, weight)
        return found.view(*x.shape[:-1], -1)


class Embedding(Layer):
    """Embeddings with weights [runs, entries, width]."""

    def __init__(self, layers: Sequence[nn.Embedding], runs: Runs) -> None:
        super().__init__()
        first = layers[0]
        if first.max_norm is not None or first.scale_grad_by_freq or first.sparse:
            raise CannotStack("an embedding renormalises its weights, or has gradients of another kind")
        self.stacked, self._runs = runs.gather([layer.weight for layer in layers]), runs
        begins = torch.arange(runs.count, device=runs.device) * first.num_embeddings
        self.begins = nn.Buffer(begins.unsqueeze(1), persistent=False)
        self.padding = first.padding_idx

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[runs * rows, ...] to [runs * rows, ..., width]. A single row, as of positions, stands for all rows."""
        runs, rows = self._runs.count, self._runs.rows
        if len(ids) not in (1, runs * rows):
            raise CannotStack("an embedding is not read row by row")
        own = ids.expand(runs, *ids.shape[1:]) if len(ids) == 1 else ids
        found = functional.embedding(own.reshape(runs, -1) + self.begins, self.stacked.flatten(0, 1))
        found = found.view(*own.shape, -1)
        if self.padding is not None:  # its entry is never learnt
            found = torch.where((own == self.padding).unsqueeze(-1), found.detach(), found)
        return found.repeat_interleave(rows, 0) if len(ids) == 1 else found


class LayerNorm(Layer):
    """Layer norms with weights [runs, width]."""

    def __init__(self, layers: Sequence[nn.LayerNorm], runs: Runs) -> None:
        super().__init__()
        if len(layers[0].normalized_shape) > 1:
            raise CannotStack("a layer norm is over more than one dimension")
        self.eps = layers[0].eps
        self.stacked = runs.gather([layer.weight for layer in layers])
        self.stacked_bias = None if layers[0].bias is None else runs.gather([layer.bias for layer in layers])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[runs * rows, ..., width] to the same."""
        normal = functional.layer_norm(x, x.shape[-1:], eps=self.eps)
        each, weight = normal.view(len(self.stacked), -1, x.shape[-1]), self.stacked.unsqueeze(1)
        if self.stacked_bias is None:
            found = each * weight
        else:
            found = torch.addcmul(self.stacked_bias.unsqueeze(1), each, weight)
        return found.view(x.shape).to(normal.dtype)


class Dropout(nn.Module):
    """Dropout at a rate per run. `p` is what attention functions are told: one rate, or one per run."""

    def __init__(self, layers: Sequence[nn.Module], runs: Runs) -> None:
        super().__init__()
        rates = [float(getattr(layer, "p", 0.0)) for layer in layers]
        self.p = one_or_all(rates)
        self.keep = nn.Buffer(1 - torch.tensor(rates, device=runs.device).unsqueeze(1), persistent=False)
        self._runs, self._layers = runs, list(layers)  # a list: they are no part of this module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[runs * rows, tokens, ...] to the same."""
        if not self.training or self.p == 0.0:
            return x
        if any(isinstance(layer, noise.Dropout) for layer in self._layers):
            parts = zip(self._layers, self._runs.apart(x), strict=True)
            return self._runs.together([layer(part) if part.numel() else part for layer, part in parts])
        if not isinstance(self.p, tuple):
            return functional.dropout(x, self.p)
        each = x.reshape(len(self.p), -1)
        kept = torch.rand_like(each, dtype=torch.float32) < self.keep
        return (each * (kept / self.keep).to(x.dtype)).view(x.shape)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float | tuple[float, ...] = 0.0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot product attention as transformers calls it, with a rate of dropout per run.

    Runs of one rate that follow each other are one call.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not isinstance(dropout, tuple):
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, **options)
    found, begin, rows = [], 0, len(query) // len(dropout)
    for rate, group in groupby(dropout):
        part = slice(begin, begin := begin + rows * len(list(group)))
        mask = attention_mask if attention_mask is None or len(attention_mask) == 1 else attention_mask[part]
        states = query[part], key[part], value[part]
        found.append(sdpa_attention_forward(module, *states, mask, dropout=rate, **options)[0])
    return torch.cat(found), None


def attend_apart(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float | tuple[float, ...] = 0.0,
    *,
    noise: Runs,  # the word that transformers passes on
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Layover's attention of one run after the other; `noise` are the runs."""
    rates = dropout if isinstance(dropout, tuple) else (dropout,) * noise.count
    states = zip(*(noise.apart(state, 2) for state in (query, key, value)), strict=True)
    found = []
    for (q, k, v), rate, own in zip(states, rates, noise.noises, strict=True):
        given = {**options, "dropout": rate, "noise": own}
        found.append(attention.attend(module, q, k, v, None, **given)[0] if len(q) else v.transpose(1, 2))
    return noise.together(found), None


def one_or_all(rates: Sequence[float]) -> float | tuple[float, ...]:
    """The rate of all runs where they have the same, else each run's."""
    return rates[0] if len(set(rates)) == 1 else tuple(rates)


# for each attention that an encoder may have, what transformers calls that of a stack
ATTENTIONS = {"sdpa": "layover_stacked_sdpa", masks.NAME: "layover_stacked_sdpa", attention.NAME: "layover_stacked"}

LAYERS: dict[type[nn.Module], Callable[[Any, Runs], nn.Module]] = {
    nn.Linear: Linear,
    nn.Embedding: Embedding,
    nn.LayerNorm: LayerNorm,
}


def register() -> None:
    """Make the attentions of stacks known to transformers; sdpa's has the masks that it has, layover's needs none."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTIONS["sdpa"], attend)
    AttentionMaskInterface.register(ATTENTIONS["sdpa"], masks.whole)
    AttentionInterface.register(ATTENTIONS[attention.NAME], attend_apart)

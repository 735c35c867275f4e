"""Layers: of several runs at once, with weights [runs, ...], for inputs that hold the rows of all runs, run by run.

Each computes for every run what the layer of that run computes, up to rounding. The runs' parameters are views of its
weights, so that it has none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import nn
from torch.nn import functional

ATTENTION = "layover_stacked"  # what transformers calls `attend`


class CannotStack(Exception):
    """These encoders are no stack; the text says why. Their runs are trained one after the other instead."""


class Runs:
    """What the layers of one stack share: how many runs, their device, and the rows of each in the batch at hand."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.device, self.rows = count, device, 0
        self._gathered: dict[int, nn.Parameter] = {}

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
        if first.padding_idx is not None and self.stacked.requires_grad:
            padding = first.padding_idx
            self.stacked.register_post_accumulate_grad_hook(lambda whole: _no_gradient(whole, padding))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[runs * rows, ...] to [runs * rows, ..., width]. A single row, as of positions, stands for all rows."""
        runs, rows = self._runs.count, self._runs.rows
        if len(ids) not in (1, runs * rows):
            raise CannotStack("an embedding is not read row by row")
        own = ids.expand(runs, *ids.shape[1:]) if len(ids) == 1 else ids
        found = functional.embedding(own.reshape(runs, -1) + self.begins, self.stacked.flatten(0, 1))
        found = found.view(*own.shape, -1)
        return found.repeat_interleave(rows, 0) if len(ids) == 1 else found


def _no_gradient(whole: torch.Tensor, entry: int) -> None:
    assert whole.grad is not None
    whole.grad[:, entry] = 0.0


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

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[runs * rows, ...] to the same."""
        if not isinstance(self.p, tuple):
            return functional.dropout(x, self.p, self.training)
        if not self.training:
            return x
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


def one_or_all(rates: Sequence[float]) -> float | tuple[float, ...]:
    """The rate of all runs where they have the same, else each run's."""
    return rates[0] if len(set(rates)) == 1 else tuple(rates)


LAYERS: dict[type[nn.Module], Callable[[Any, Runs], nn.Module]] = {
    nn.Linear: Linear,
    nn.Embedding: Embedding,
    nn.LayerNorm: LayerNorm,
}

"""Attention: exact attention of every input over its own tokens, for stock transformers models on a CPU.

Registered with transformers under `NAME`, it is what every model that takes its attention from `AttentionInterface`
calls. No token attends to padding, because padding takes no part: inputs of equal length are multiplied together.
The backward pass is written out: as one node of the graph per layer instead of a dozen per length, and with dropout
from the inputs' own streams, it trains minilm at 1.15 times the tokens of scaled_dot_product_attention over the same
groups (docs/engine.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layover.train.layout import Layout
from layover.train.noise import Noise, scaled

NAME = "layover"


def register() -> None:
    """Make the attention known to transformers; no mask is made for it, because it needs none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    noise: Noise,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as `AttentionInterface` asks for it: [batch, heads, tokens, width] to [batch, tokens, heads, width].

    `noise` is the pass under way, which says where the inputs lie. `sliding_window` is how far a token sees to either
    side, itself included.
    """
    assert noise.layout is not None
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    rows = [part.transpose(1, 2).flatten(0, 1) for part in (query, key, value)]
    found = _Attention.apply(*rows, noise, scale, dropout, sliding_window or 0)
    return found.unflatten(0, (query.shape[0], query.shape[2])), None


class _Attention(torch.autograd.Function):
    """softmax(Q K' * scale) V of every input, over rows of tokens [rows, heads, width]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        noise: Noise,
        scale: float,
        dropout: float,
        window: int,
    ) -> torch.Tensor:
        layout = noise.layout
        assert layout is not None
        out = torch.zeros_like(value) if layout.length else torch.empty_like(value)
        out, ctx.weights = out.contiguous(), []
        with torch.autocast(query.device.type, enabled=False):
            scaled_query = query * scale
            for cut, numbers in _pieces(layout):
                weights = torch.softmax(_masked(cut(scaled_query) @ cut(key).transpose(-1, -2), window), -1)
                kept = _kept(noise, numbers, weights, dropout) if dropout else None
                cut(out).copy_((weights if kept is None else weights * kept) @ cut(value))
                if any(ctx.needs_input_grad):
                    ctx.weights.append((weights, kept))
        ctx.save_for_backward(query, key, value)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value = ctx.saved_tensors
        made = torch.zeros_like if ctx.layout.length else torch.empty_like
        to_query, to_key, to_value = (made(part).contiguous() for part in (query, key, value))
        for (cut, _), (weights, kept) in zip(_pieces(ctx.layout), ctx.weights, strict=True):
            gradient = cut(gradients[0])
            used = weights if kept is None else weights * kept
            cut(to_value).copy_(used.transpose(-1, -2) @ gradient)
            to_used = gradient @ cut(value).transpose(-1, -2)
            to_weights = to_used if kept is None else to_used * kept
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype) * ctx.scale
            cut(to_query).copy_(to_scores @ cut(key))
            cut(to_key).copy_(to_scores.transpose(-1, -2) @ cut(query))
        return to_query, to_key, to_value, None, None, None, None


def _pieces(layout: Layout) -> Iterator[tuple[Any, NDArray[np.int64]]]:
    """For inputs of equal length: what cuts them out of rows, as [inputs, heads, length, width], and their numbers."""
    for begin, length, numbers in layout.groups():
        stride = layout.length or length

        end = begin + len(numbers) * stride
        yield partial(_cut, begin=begin, end=end, stride=stride, length=length), numbers


def _cut(rows: torch.Tensor, begin: int, end: int, stride: int, length: int) -> torch.Tensor:
    return rows[begin:end].unflatten(0, (-1, stride))[:, :length].transpose(1, 2)


def _masked(scores: torch.Tensor, window: int) -> torch.Tensor:
    length = scores.shape[-1]
    if not window or length <= window:
        return scores
    places = torch.arange(length, device=scores.device)
    return scores.masked_fill((places[:, None] - places).abs() >= window, float("-inf"))


def _kept(noise: Noise, numbers: NDArray[np.int64], weights: torch.Tensor, rate: float) -> torch.Tensor:
    each = weights[0].numel()
    kept = np.concatenate([noise.kept(number, each, rate) for number in numbers.tolist()])
    return scaled(kept, rate, weights.dtype).view(weights.shape)

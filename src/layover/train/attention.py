"""Attention: exact attention of every input over its own tokens, for stock transformers models on a CPU.

Registered with transformers under `NAME`, it is what every model that takes its attention from `AttentionInterface`
calls. No token attends to padding, because padding takes no part: inputs of similar length are multiplied together.
The backward pass is written out: as one node of the graph per layer instead of a dozen per length, and with dropout
from the inputs' own streams, it trains minilm at 1.15 times the tokens of scaled_dot_product_attention over the same
groups (docs/engine.md).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from layover.train.layout import Group, Layout
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
    # fp32 at least, whatever the rest computes in: matrices as small as a head's are no slower, a softmax is better
    exact = torch.promote_types(query.dtype, torch.float32)
    rows = [part.transpose(1, 2).flatten(0, 1).to(exact) for part in (query, key, value)]
    found = _Attention.apply(*rows, noise, scale, dropout, sliding_window or 0).to(query.dtype)
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
        out, ctx.weights = _empty(value, layout), []
        with torch.autocast(query.device.type, enabled=False):
            for group in layout.groups:
                scores = (group.cut(query) * scale) @ group.cut(key).transpose(-1, -2)
                weights = torch.softmax(_masked(scores, group, window), -1)
                kept = _kept(noise, group, weights, dropout) if dropout else None
                group.put(out, (weights if kept is None else weights * kept) @ group.cut(value))
                if any(ctx.needs_input_grad):
                    ctx.weights.append((weights, kept))
        ctx.save_for_backward(query, key, value)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value = ctx.saved_tensors
        to_query, to_key, to_value = (_empty(part, ctx.layout) for part in (query, key, value))
        for group, (weights, kept) in zip(ctx.layout.groups, ctx.weights, strict=True):
            gradient = group.cut(gradients[0])
            if group.padding is not None:
                gradient.masked_fill_(group.padding[:, None, :, None], 0)
            used = weights if kept is None else weights * kept
            group.put(to_value, used.transpose(-1, -2) @ gradient)
            to_used = gradient @ group.cut(value).transpose(-1, -2)
            to_weights = to_used if kept is None else to_used.mul_(kept)
            to_scores = torch.ops.aten._softmax_backward_data(to_weights, weights, -1, weights.dtype).mul_(ctx.scale)
            group.put(to_query, to_scores @ group.cut(key))
            group.put(to_key, to_scores.transpose(-1, -2) @ group.cut(query))
        return to_query, to_key, to_value, None, None, None, None


def _empty(rows: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Rows to write to; those of padding are zero, as nothing writes them."""
    return rows.new_zeros(rows.shape) if layout.length else rows.new_empty(rows.shape)


def _masked(scores: torch.Tensor, group: Group, window: int) -> torch.Tensor:
    """Scores [n, heads, longest, longest] with what a token does not see at -inf."""
    if group.padding is not None:
        scores = scores.masked_fill_(group.padding[:, None, None, :], float("-inf"))
    length = scores.shape[-1]
    if not window or length <= window:
        return scores
    places = torch.arange(length)
    far = (places[:, None] - places).abs() >= window
    if group.padding is not None:  # what a padding token sees is of no use, but must be a number
        far = far & ~group.padding[:, None, :, None]
    return scores.masked_fill_(far, float("-inf"))


def _kept(noise: Noise, group: Group, weights: torch.Tensor, rate: float) -> torch.Tensor:
    kept = np.zeros(weights.shape, np.bool_)
    heads = weights.shape[1]
    for place, (number, length) in enumerate(zip(group.numbers, group.lengths, strict=True)):
        drawn = noise.kept(number, heads * length * length, rate)
        kept[place, :, :length, :length] = drawn.reshape(heads, length, length)
    return scaled(kept, rate, weights.dtype)

"""Network: any Auto encoder with a head on top. No code per family: what an encoder can do is found by trying it."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from layover.train import attention, masks
from layover.train.batching import Batch
from layover.train.heads import Head, mean_of
from layover.train.layout import Layout
from layover.train.narrow import joint, narrow
from layover.train.noise import Noise, install

Way = Literal["packed", "padded", "stock"]
PROBED = 4  # tokens of the first of two inputs by which an encoder is tried
CLOSE = 1e-4  # relative; in fp32 the ways of computing differ by 1e-6, a wrong one by 1e-1


class Network(nn.Module):
    """An encoder, the pooled vector (first token's, or mean over tokens), and a head.

    `way` is how the encoder is called: "packed", with inputs end to end and layover's attention; "padded", with
    layover's attention too; or "stock", padded and with its own attention and masks. `narrow` says whether the last
    layer can be computed for the inputs' first tokens alone.
    """

    def __init__(self, encoder: nn.Module, head: Head, pooling: str, noise: Noise) -> None:
        super().__init__()
        self.encoder, self.head, self.pooling, self.noise = encoder, head, pooling, noise
        self.first_position = first_position(encoder)
        self.way: Way = "stock"
        self.narrow = False
        self.compiling = False  # whether the encoder is compiled for the shapes that it meets

    def prepare(self, device: torch.device) -> Network:
        """Move to a device. On a CPU take the fastest way that gives what the stock encoder gives."""
        self.to(device)
        if device.type != "cpu":
            masks.install(self.encoder)
        elif self.way == "stock":
            self.way = fastest(self.encoder, self.noise)
            self.narrow = self.packed and narrowed(self.encoder, self.noise)
            install(self.encoder, self.noise)
        return self

    def recompute(self) -> None:
        """Keep only what enters each layer, and compute the rest again for its gradient: less memory, more time.

        The numbers stay the same, dropout included. Raises ValueError where the encoder has no layers that can.
        """
        encoder: Any = self.encoder  # the second name is the older one
        enable = getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable
        enable({"use_reentrant": False, "context_fn": self.noise.replaying})

    @property
    def packed(self) -> bool:
        """Whether batches are to be packed."""
        return self.way == "packed"

    def forward(self, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
        """The head's scores for a micro-batch; dropout on a CPU is that of `step` of the run with `seed`."""
        first = self.packed and self.narrow and self.pooling == "first" and self.head.reads_inputs
        streams = self.training and batch.labels.device.type == "cpu"  # on a GPU dropout is torch's own
        self.noise.begin(batch.layout, seed, step, streams, batch.inputs.begins if first else None)
        called = compiled() if self.compiling else call
        hidden = called(self.encoder, batch.tokens, self.noise, self.way, self.first_position).flatten(0, 1)
        if not torch.is_autocast_enabled("cpu"):
            hidden = hidden.to(self.head.linear.weight.dtype)  # fp32, though the encoder be cast to bf16
        if first:  # the rows of the others were not computed
            return self.head(hidden, hidden, batch)
        pooled = hidden[batch.inputs.begins] if self.pooling == "first" else mean_of(hidden, batch.inputs)
        return self.head(hidden, pooled, batch)


def call(
    encoder: nn.Module, tokens: dict[str, torch.Tensor], noise: Noise, way: Way, first: int, **options: Any
) -> torch.Tensor:
    """The last hidden states [1, tokens, width] or [inputs, length, width] of a pass that `noise` has begun."""
    if "position_ids" in tokens and first:
        tokens = {**tokens, "position_ids": tokens["position_ids"] + first}
    own = {"noise": noise} if way != "stock" else {}
    return encoder(**tokens, **own, **options).last_hidden_state


@cache
def compiled() -> Any:
    """`call`, compiled for every shape that it meets; what it has compiled serves all encoders of a kind."""
    return torch.compile(call, dynamic=False)


def first_position(encoder: nn.Module) -> int:
    """The index of the first position: RoBERTa's begin after its padding index."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.padding_idx + 1 if module.padding_idx is not None else 0
    return 0


def fastest(encoder: Any, noise: Noise) -> Way:
    """The fastest way to call an encoder on a CPU, by what it gives for two inputs of different length.

    The encoder is left set up for it. DeBERTa, whose attention is its own, keeps the stock way.
    """
    attention.register()
    stock = encoder.config._attn_implementation
    first, training = first_position(encoder), encoder.training
    encoder.eval()
    try:
        expected = _probe(encoder, noise, "stock", first)
        for way in ("packed", "padded"):
            try:
                encoder.set_attn_implementation(attention.NAME)
                if encoder.config._attn_implementation != attention.NAME:
                    break
                found = _probe(encoder, noise, way, first)
            except Exception:  # whatever a foreign model raises when it is called in a way that it does not know
                continue
            if torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max())):
                return way
        encoder.set_attn_implementation(stock)
        return "stock"
    finally:
        noise.end()
        encoder.train(training)


def narrowed(encoder: nn.Module, noise: Noise) -> bool:
    """Let a packed encoder compute its last layer for first tokens alone; False where it cannot be done."""
    first, training = first_position(encoder), encoder.training
    encoder.eval()
    try:
        expected = _probe(encoder, noise, "packed", first)[[0, PROBED]]
        module = joint(encoder, lambda: _probe(encoder, noise, "packed", first))
        if module is None:
            return False
        hook = narrow(module, noise)
        try:
            found = _probe(encoder, noise, "packed", first, only_first=True)
        except Exception:  # whatever a foreign layer raises
            found = torch.zeros(0)
        right = found.shape == expected.shape and torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE)
        if not right:
            hook.remove()
        return right
    finally:
        noise.end()
        encoder.train(training)


def _probe(encoder: Any, noise: Noise, way: Way, first: int, only_first: bool = False) -> torch.Tensor:
    """Hidden states [tokens, width] of two inputs, one longer than any window of local attention if there is one."""
    config = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or 512
    window = getattr(config, "sliding_window", None) or 0
    lengths = np.array([PROBED, min(window + 8, positions - first)])
    layout = Layout.of(lengths, np.zeros((2, 2), np.int64), 0 if way == "packed" else int(lengths.max()))
    rows, shape = layout.tokens(), (-1, layout.length or layout.rows)
    ids, mask = np.zeros(layout.rows, np.int64), np.zeros(layout.rows, np.int64)
    ids[rows] = np.random.default_rng(0).integers(0, config.vocab_size, len(rows))
    mask[rows] = 1
    tokens = {"input_ids": torch.from_numpy(ids.reshape(shape))}
    if way == "packed":
        places = np.zeros_like(ids)
        places[rows] = layout.positions()
        tokens["position_ids"] = torch.from_numpy(places.reshape(shape))
    else:
        tokens["attention_mask"] = torch.from_numpy(mask.reshape(shape))
    read = torch.from_numpy(layout.begins) if only_first else None
    noise.begin(layout, 0, 0, with_streams=False, read=read)
    with torch.inference_mode():
        found = call(encoder, tokens, noise, way, first).flatten(0, 1)
        return found if only_first else found[torch.from_numpy(rows)]

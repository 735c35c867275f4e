"""Network: any Auto encoder with a head on top. No code per family: what an encoder can do is found by trying it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from layover.train import attention
from layover.train.batching import Batch
from layover.train.heads import Head, mean_of
from layover.train.layout import Layout
from layover.train.noise import Noise, install

Way = Literal["packed", "padded", "stock"]
CLOSE = 1e-4  # relative; in fp32 the ways of computing differ by 1e-6, a wrong one by 1e-1


class Network(nn.Module):
    """An encoder, the pooled vector (first token's, or mean over tokens), and a head.

    `way` is how the encoder is called: "packed", with inputs end to end and layover's attention; "padded", with
    layover's attention too; or "stock", padded and with its own attention and masks.
    """

    def __init__(self, encoder: nn.Module, head: Head, pooling: str, noise: Noise) -> None:
        super().__init__()
        self.encoder, self.head, self.pooling, self.noise = encoder, head, pooling, noise
        self.first_position = first_position(encoder)
        self.way: Way = "stock"

    def prepare(self, device: torch.device) -> Network:
        """Move to a device. On a CPU take the fastest way that gives what the stock encoder gives."""
        self.to(device)
        if device.type == "cpu" and self.way == "stock":
            self.way = fastest(self.encoder, self.noise)
            install(self.encoder, self.noise)
        return self

    @property
    def packed(self) -> bool:
        """Whether batches are to be packed."""
        return self.way == "packed"

    def forward(self, batch: Batch, seed: int = 0, step: int = 0) -> torch.Tensor:
        """The head's scores for a micro-batch; dropout on a CPU is that of `step` of the run with `seed`."""
        self.noise.begin(batch.layout, seed, step, with_streams=self.training)
        return self.read(call(self.encoder, batch.tokens, self.noise, self.way, self.first_position), batch)

    def read(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The head's scores for the encoder's hidden states [rows, tokens, width]."""
        hidden = hidden.flatten(0, 1)
        if not torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(self.head.linear.weight.dtype)  # fp32, though the encoder be cast to bf16
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


def _probe(encoder: Any, noise: Noise, way: Way, first: int) -> torch.Tensor:
    """Hidden states [tokens, width] of two inputs, one longer than any window of local attention if there is one."""
    config = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or 512
    window = getattr(config, "sliding_window", None) or 0
    lengths = np.array([4, min(window + 8, positions - first)])
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
    noise.begin(layout, 0, 0, with_streams=False)
    with torch.inference_mode():
        return call(encoder, tokens, noise, way, first).flatten(0, 1)[torch.from_numpy(rows)]

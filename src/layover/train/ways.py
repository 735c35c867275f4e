"""Ways: how an encoder can be called. Found by trying it once per architecture, with no code per family.

"packed": inputs end to end, with layover's attention; "padded": with layover's attention too; "stock": padded, with the
encoder's own attention and masks. The fastest that gives what the stock encoder gives is taken; DeBERTa, whose
attention is its own, keeps the stock way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from layover.train import attention
from layover.train.layout import Layout
from layover.train.narrow import joint, narrow
from layover.train.noise import Noise

Way = Literal["packed", "padded", "stock"]
PROBED = 4  # tokens of the first of two inputs by which an encoder is tried
CLOSE = 1e-4  # relative; in fp32 the ways of computing differ by 1e-6, a wrong one by 1e-1


@dataclass(frozen=True)
class Ability:
    """The fastest way to call an encoder, and the module behind which its last layer can be narrow ("": none)."""

    way: Way
    joint: str = ""


_known: dict[Any, Ability] = {}


def prepare(encoder: Any, noise: Noise) -> Ability:
    """Set an encoder up for the fastest way to call it on a CPU; it is tried where none of its structure was before."""
    attention.register()
    modules = tuple((name, type(module)) for name, module in encoder.named_modules())
    key = (modules, encoder.config.to_json_string())
    if key not in _known:
        _known[key] = _tried(encoder, noise)
    found = _known[key]
    if found.way != "stock":
        encoder.set_attn_implementation(attention.NAME)
    if found.joint:
        narrow(encoder.get_submodule(found.joint), noise)
    return found


def call(
    encoder: nn.Module, tokens: dict[str, torch.Tensor], noise: Noise, way: Way, first: int, **options: Any
) -> torch.Tensor:
    """The last hidden states [1, tokens, width] or [inputs, length, width] of a pass that `noise` has begun."""
    return _output(encoder, tokens, noise, way, first, **options).last_hidden_state


def states(
    encoder: Any, tokens: dict[str, torch.Tensor], noise: Noise, way: Way, first: int
) -> tuple[torch.Tensor, ...] | None:
    """The hidden states of all layers, embeddings first, each shaped as those of `call`; None from who gives none.

    The last are those of `call`: where a final norm follows the last layer, as in ModernBERT, they are behind it.
    """
    output = _output(encoder, tokens, noise, way, first, output_hidden_states=True)
    found = getattr(output, "hidden_states", None)
    return (*found[:-1], output.last_hidden_state) if found else None


def _output(encoder: Any, tokens: dict[str, torch.Tensor], noise: Noise, way: Way, first: int, **options: Any) -> Any:
    if "position_ids" in tokens and first:
        tokens = {**tokens, "position_ids": tokens["position_ids"] + first}
    own = {"noise": noise} if way != "stock" else {}
    return encoder(**tokens, **own, **options)


def first_position(encoder: nn.Module) -> int:
    """The index of the first position: RoBERTa's begin after its padding index."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.padding_idx + 1 if module.padding_idx is not None else 0
    return 0


def _tried(encoder: Any, noise: Noise) -> Ability:
    """What an encoder can do, by what it gives for two inputs of different length; it is left as it was."""
    stock, training = encoder.config._attn_implementation, encoder.training
    encoder.eval()
    try:
        way = _fastest(encoder, noise)
        return Ability(way, _narrowed(encoder, noise) if way == "packed" else "")
    finally:
        noise.end()
        encoder.train(training)
        if encoder.config._attn_implementation != stock:
            encoder.set_attn_implementation(stock)


def _fastest(encoder: Any, noise: Noise) -> Way:
    first = first_position(encoder)
    expected = _probe(encoder, noise, "stock", first)
    ways: tuple[Way, ...] = ("packed", "padded")
    for way in ways:
        try:
            encoder.set_attn_implementation(attention.NAME)
            if encoder.config._attn_implementation != attention.NAME:
                break
            found = _probe(encoder, noise, way, first)
        except Exception:  # whatever a foreign model raises when it is called in a way that it does not know
            continue
        if _same(found, expected):
            return way
    return "stock"


def _narrowed(encoder: Any, noise: Noise) -> str:
    """The name of the module behind which a packed encoder can compute first tokens alone, "" where there is none."""
    first = first_position(encoder)
    expected = _probe(encoder, noise, "packed", first)[[0, PROBED]]
    module = joint(encoder, lambda: _probe(encoder, noise, "packed", first))
    if module is None:
        return ""
    hook = narrow(module, noise)
    try:
        right = _same(_probe(encoder, noise, "packed", first, only_first=True), expected)
    except Exception:  # whatever a foreign layer raises
        right = False
    finally:
        hook.remove()
    return next(name for name, part in encoder.named_modules() if part is module) if right else ""


def _same(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    return torch.allclose(found, expected, rtol=CLOSE, atol=CLOSE * float(expected.abs().max()))


def _probe(encoder: Any, noise: Noise, way: Way, first: int, only_first: bool = False) -> torch.Tensor:
    """Hidden states [tokens, width] of two inputs, one longer than any window of local attention if there is one."""
    config = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or 512
    window = getattr(config, "sliding_window", None) or 0
    lengths = np.array([PROBED, min(window + 8, positions - first)])
    layout = Layout.of(lengths, np.zeros((2, 2), np.int64), 0 if way == "packed" else int(lengths.max()))
    rows = layout.tokens()
    ids = np.random.default_rng(0).integers(0, config.vocab_size, len(rows))
    tokens = {name: torch.from_numpy(array) for name, array in layout.arguments(ids).items()}
    read = torch.from_numpy(layout.begins) if only_first else None
    noise.begin(layout, 0, 0, with_streams=False, read=read)
    with torch.inference_mode():
        found = call(encoder, tokens, noise, way, first).flatten(0, 1)
        return found if only_first else found[torch.from_numpy(rows)]

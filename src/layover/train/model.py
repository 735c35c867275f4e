"""Model: any Auto encoder with a head on top. No code per family: everything is found by structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from layover.encoders import location_parts
from layover.errors import EncoderError, HubError, Problem
from layover.step import Recipe
from layover.tasks.task import Task
from layover.train.heads import INNER_DROPOUT, Head
from layover.train.network import Network, first_position
from layover.train.noise import Noise


@dataclass(frozen=True)
class Loaded:
    """A network ready to train, with its tokenizer and the longest input that it can read."""

    network: Network
    tokenizer: Any
    max_length: int


def load(location: str, start: Path | None, task: Task, recipe: Recipe, seed: int) -> Loaded:
    """The encoder at `location`, with the weights in `start` if given, and a new head for `task`.

    Raises EncoderError where the encoder cannot be loaded, or cannot read inputs as long as the recipe asks for.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    name, revision = location_parts(location)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision)
        own_dropout = _own_dropout(config)
        if recipe.dropout is not None and recipe.dropout_at == "encoder":
            _set_dropout(config, recipe.dropout)
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        encoder = AutoModel.from_pretrained(
            name, revision=revision, config=config, dtype=torch.float32, use_safetensors=True
        )
    except (OSError, ValueError, KeyError) as error:
        kind = EncoderError if Path(name).is_dir() else HubError
        raise kind(
            Problem(location, f"cannot be loaded: {str(error).splitlines()[0]}", "see `layover doctor`")
        ) from error
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # the head reads the hidden states: a pooler would be dead weight
    if start is not None:
        encoder.load_state_dict(load_file(start / "encoder.safetensors"))
    dropout = own_dropout if recipe.dropout is None else recipe.dropout
    inner = INNER_DROPOUT if recipe.dropout is None or recipe.dropout_at == "output" else recipe.dropout
    noise = Noise()
    head = Head(config.hidden_size, task, dropout, seed, noise, inner)
    longest = _max_length(encoder, tokenizer)
    if tokenizer.pad_token_id is None or not tokenizer.is_fast:
        raise EncoderError(
            Problem(location, "has no fast tokenizer with a padding token", "convert it with AutoTokenizer")
        )
    return Loaded(Network(encoder, head, recipe.pooling, noise), tokenizer, min(recipe.max_length, longest))


def _dropout_names(config: Any) -> list[str]:
    return [name for name, value in config.to_dict().items() if "dropout" in name and _is_rate(value)]


def _is_rate(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _own_dropout(config: Any) -> float:
    """The dropout that the encoder's own classifier would use."""
    for name in ("classifier_dropout", "hidden_dropout_prob", "hidden_dropout", "mlp_dropout"):
        value = getattr(config, name, None)
        if value is not None and _is_rate(value):
            return float(value)
    return 0.0


def _set_dropout(config: Any, value: float) -> None:
    for name in _dropout_names(config):
        setattr(config, name, value)


def _max_length(encoder: nn.Module, tokenizer: Any) -> int:
    """The longest input: the tokenizer's limit, and the positions (RoBERTa's begin after its padding index)."""
    positions = getattr(encoder.config, "max_position_embeddings", None) or 10**6
    for module_name, module in encoder.named_modules():
        if module_name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            positions = min(positions, module.num_embeddings - first_position(encoder))
    return int(min(positions, tokenizer.model_max_length))

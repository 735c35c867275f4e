"""Model: any Auto encoder with a head on top. No code per family: everything is found by structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from layover.errors import StepError
from layover.files import read_json
from layover.recipe import Recipe
from layover.tasks.task import Task
from layover.train import warm
from layover.train.heads import INNER_DROPOUT, Head
from layover.train.network import Network, first_position
from layover.train.noise import Noise


@dataclass(frozen=True)
class Loaded:
    """A network ready to train, with its tokenizer and the longest input that it can read."""

    network: Network
    tokenizer: Any
    max_length: int


def load(location: str, start: Path | None, task: Task, recipe: Recipe, seed: int, carried: bool = False) -> Loaded:
    """The encoder at `location`, with the weights in `start` if given, and a new head for `task`, or that in `start`.

    Raises EncoderError or HubError where the encoder cannot be loaded, and StepError where the head that is to be
    `carried` over was trained for other labels.
    """
    encoder = warm.encoder(location, recipe.dropout if recipe.dropout_at == "encoder" else None, start)
    tokenizer = warm.tokenizer(location)
    dropout = warm.own_dropout(encoder.config) if recipe.dropout is None else recipe.dropout
    inner = INNER_DROPOUT if recipe.dropout is None or recipe.dropout_at == "output" else recipe.dropout
    noise = Noise()
    head = Head(encoder.config.hidden_size, task, dropout, seed, noise, inner)
    if carried and start is not None:
        _carry(head, start, task)
    longest = _max_length(encoder, tokenizer)
    return Loaded(Network(encoder, head, recipe.pooling, noise), tokenizer, min(recipe.max_length, longest))


def _carry(head: Head, start: Path, task: Task) -> None:
    """Give a head the weights of the one in `start`; labels are compared by name and in order."""
    before = read_json(start / "head.json")
    own = {"output": task.output, "labels": list(task.labels), "bounds": task.bounds and list(task.bounds)}
    differs = [name for name, value in own.items() if before[name] != value]
    if differs:
        told = "; ".join(f"{name}: {before[name]} there, {own[name]} here" for name in differs)
        raise StepError(f"the head of {before['task']!r} cannot go on with {task.name!r} ({told}): say head = 'new'")
    try:
        head.load_state_dict(load_file(start / "head.safetensors"))
    except RuntimeError as error:
        told = str(error).splitlines()[-1].strip()
        raise StepError(
            f"the head of {before['task']!r} has another shape than that of {task.name!r}: {told}"
        ) from None


def _max_length(encoder: nn.Module, tokenizer: Any) -> int:
    """The longest input: the tokenizer's limit, and the positions (RoBERTa's begin after its padding index)."""
    positions = getattr(encoder.config, "max_position_embeddings", None) or 10**6
    for module_name, module in encoder.named_modules():
        if module_name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            positions = min(positions, module.num_embeddings - first_position(encoder))
    return int(min(positions, tokenizer.model_max_length))

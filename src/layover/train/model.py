"""Model: any Auto encoder with a head on top. No code per family: everything is found by structure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from layover.errors import StepError
from layover.files import read_json
from layover.recipe import Recipe
from layover.step import Surgery
from layover.tasks.task import Task
from layover.train import masked, surgery, warm
from layover.train.heads import INNER_DROPOUT, Head
from layover.train.network import Network, first_position
from layover.train.noise import Noise


@dataclass(frozen=True)
class Loaded:
    """A network ready to train, with its tokenizer and the longest input that it can read."""

    network: Network
    tokenizer: Any
    max_length: int


def load(
    location: str, start: Path | None, task: Task, recipe: Recipe, seed: int,
    carried: bool | Literal["matched"] = False, operation: Surgery | None = None,
) -> Loaded:  # fmt: skip
    """The encoder at `location`, with the weights in `start` if given, and a head for `task`, or that in `start`.

    The head is new, but for tokens where the release has one.

    `operation` is done to the encoder's layers. Raises EncoderError or HubError where the encoder cannot be loaded or
    has no such layers, and StepError where the head that is to be `carried` over was trained for other labels; where
    one that is "matched" has other outputs, the head is new.
    """
    encoder = warm.encoder(location, recipe.dropout if recipe.dropout_at == "encoder" else None, start)
    tokenizer = warm.tokenizer(location)
    noise = Noise()
    head = new_head(location, encoder, tokenizer, task, recipe, seed, noise)
    if start is not None and (carried is True or (carried == "matched" and _matches(head, start, task))):
        _carry(head, start, task, by_name=carried is True)
    longest = _max_length(encoder, tokenizer)
    network = Network(encoder, head, recipe.pooling, noise)
    if operation is not None:
        surgery.apply(encoder, operation, seed)
        network.reset = operation.reset
    return Loaded(network, tokenizer, min(recipe.max_length, longest))


def new_head(
    location: str, encoder: Any, tokenizer: Any, task: Task, recipe: Recipe, seed: int, noise: Noise
) -> Head | masked.MaskedHead:
    """A new head for `task` on an encoder, which draws its dropout from the encoder's `noise`.

    For hidden tokens, that of the release at `location` where it has one.
    """
    if task.output == "tokens":
        masked.check_mask(tokenizer, encoder, location)
        return masked.head_for(location, encoder, seed)
    dropout = warm.own_dropout(encoder.config) if recipe.dropout is None else recipe.dropout
    inner = INNER_DROPOUT if recipe.dropout is None or recipe.dropout_at == "output" else recipe.dropout
    return Head(encoder.config.hidden_size, task, dropout, seed, noise, inner)


def _matches(head: nn.Module, start: Path, task: Task) -> bool:
    """Whether the head in `start` gives as many numbers of the same kind, from the same vectors, as a new one."""
    before = read_json(start / "head.json")
    kinds = (before["output"], before["bounds"]), (task.output, task.bounds and list(task.bounds))
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    with safe_open(start / "head.safetensors", framework="pt") as file:
        theirs = {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return kinds[0] == kinds[1] and theirs == shapes


def _carry(head: nn.Module, start: Path, task: Task, by_name: bool = True) -> None:
    """Give a head the weights of the one in `start`; labels are compared in order, and by name where that matters."""
    before = read_json(start / "head.json")
    own = {"output": task.output, "labels": list(task.labels), "bounds": task.bounds and list(task.bounds)}
    own = own if by_name else {}
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

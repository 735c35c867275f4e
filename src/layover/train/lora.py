"""LoRA: low-rank updates that are trained instead of the matrices of an encoder's layers, then added to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from layover.errors import MissingExtra
from layover.recipe import Recipe
from layover.train.determinism import derive
from layover.train.groups import layers_of

NAME = "layover"  # of the adapter


def insert(encoder: Any, recipe: Recipe, seed: int) -> None:
    """Give every linear map of an encoder's layers an update B A of rank `lora` (Hu et al. 2022, section 4.1).

    Attention and feed-forward alike. A is drawn by the seed, B begins as zero, and B A is scaled by `lora_alpha` over
    the rank; nothing else of the encoder is trained. Raises MissingExtra where peft is not installed, and StepError for
    an encoder without layers.
    """
    try:
        from peft import LoraConfig, LoraModel
    except ImportError:
        raise MissingExtra("peft", "lora", "a recipe with lora") from None

    name, layers = layers_of(encoder)
    linear = [part for part, module in layers.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(
        r=recipe.lora,
        lora_alpha=recipe.lora_alpha,  # pyright: ignore[reportArgumentType]  # it is divided by the rank, no more
        lora_dropout=recipe.lora_dropout,
        target_modules=[f"{name}.{part}" for part in linear],
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "lora"))
        LoraModel(encoder, config, NAME)  # it changes the encoder in its place


def merge(encoder: Any) -> None:
    """Add the updates to their matrices and take them out: the encoder's parts have the names that they always had."""
    from peft.tuners.lora import LoraLayer

    for parent in list(encoder.modules()):
        for name, child in parent.named_children():
            if isinstance(child, LoraLayer):
                child.merge()  # pyright: ignore[reportCallIssue]
                setattr(parent, name, child.get_base_layer())
    del encoder.peft_config  # transformers would take it for an encoder that still has them

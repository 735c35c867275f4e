"""Layers, by structure: which parameter belongs to which, what is frozen, and at what rate each learns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.kit import FAMILIES, task_of_kind, trained
from torch import nn

from layover.errors import EncoderError, StepError
from layover.step import Recipe
from layover.train import model
from layover.train.groups import freeze, layer_numbers, optimizer_groups
from layover.train.update import Update

Encoders = Callable[[str], Path]
CPU = torch.device("cpu")
TWO_STEPS = {"epochs": 1, "batch_size": 9, "max_length": 32, "learning_rate": 1e-3, "checkpoint": "last", "patience": 0}


def network_of(encoder: Path, folder: Path, recipe: Recipe) -> Any:
    task, _ = task_of_kind(folder, "single")
    return model.load(str(encoder), None, task, recipe, 1).network


def expected_layer(family: str, name: str) -> int:
    """The layer that a parameter's name says it is in."""
    if found := re.search(r"layers?\.(\d+)\.", name):
        return int(found[1])
    return 2 if family == "modernbert" and "final_norm" in name else -1


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_the_layer_that_its_name_says(encoder: Encoders, family: str, tmp_path: Path) -> None:
    found = layer_numbers(network_of(encoder(family), tmp_path, Recipe()).encoder)
    assert found == {name: expected_layer(family, name) for name in found}
    assert {-1, 0, 1} <= set(found.values())
    assert (2 in found.values()) == (family == "modernbert")


def test_an_encoder_without_a_list_of_layers_is_refused() -> None:
    with pytest.raises(EncoderError, match="its layers cannot be told apart"):
        layer_numbers(nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_is_in_one_group_at_its_own_rate(encoder: Encoders, family: str, tmp_path: Path) -> None:
    recipe = Recipe(layer_decay=0.5, weight_decay=0.3)
    network = network_of(encoder(family), tmp_path, recipe)
    update = Update(network, recipe, CPU)
    update.take(torch.zeros(()), 0.8)
    groups = update.optimizer.param_groups
    names = {parameter: name for name, parameter in network.named_parameters()}
    members = [names[parameter] for group in groups for parameter in group["params"]]
    assert sorted(members) == sorted(names.values())
    shares = {-1: 0.125, 0: 0.25, 1: 0.5, 2: 1.0}  # of embeddings, two layers, and what follows them
    for group in groups:
        for parameter in group["params"]:
            name = names[parameter]
            layer = 2 if name.startswith("head.") else expected_layer(family, name)
            assert group["lr"] == pytest.approx(0.8 * shares[layer]), name
            assert group["weight_decay"] == (0.3 if parameter.ndim > 1 else 0.0), name


def test_a_plain_recipe_has_the_two_groups_that_it_always_had(bert: Path, tmp_path: Path) -> None:
    network = network_of(bert, tmp_path, Recipe())
    groups = optimizer_groups(network, Recipe())
    parameters = list(network.parameters())
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    assert [group["share"] for group in groups] == [1.0, 1.0]
    for group, matrices in zip(groups, (True, False), strict=True):
        expected = [p for p in parameters if (p.ndim > 1) is matrices]
        assert [id(p) for p in group["params"]] == [id(p) for p in expected]


def test_the_first_step_of_each_layer_is_as_long_as_its_rate(bert: Path, tmp_path: Path) -> None:
    """Adam's first step moves a weight by its rate, whatever the gradient, where epsilon is nothing to it."""
    recipe = Recipe(layer_decay=0.5, weight_decay=0.0, adam_epsilon=1e-30)
    network = network_of(bert, tmp_path, recipe)
    update = Update(network, recipe, CPU)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for p in network.parameters():
        p.grad = torch.full_like(p, 1e-3)
    update.take(torch.zeros(()), 0.01)
    update.apply()
    for name, p in network.named_parameters():
        layer = 2 if name.startswith("head.") else expected_layer("bert", name)
        expected = torch.full_like(p, -0.01 * 0.5 ** (2 - layer))
        torch.testing.assert_close(p.detach() - before[name], expected, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("words", ["embeddings", "0", "embeddings, 0-1", "encoder"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_frozen_stays_bit_for_bit_and_the_rest_learns(
    encoder: Encoders, family: str, words: str, tmp_path: Path
) -> None:
    task, data = task_of_kind(tmp_path, "single")
    recipe = Recipe(**TWO_STEPS, freeze=words)
    before = model.load(str(encoder(family)), None, task, recipe, 1).network
    after = dict(trained(encoder(family), data, tmp_path, recipe).network.named_parameters())
    frozen = {"embeddings": {-1}, "0": {0}, "embeddings, 0-1": {-1, 0, 1}, "encoder": {-1, 0, 1, 2}}[words]
    stayed, moved = set(), set()
    for name, old in before.named_parameters():
        (stayed if torch.equal(old, after[name]) else moved).add(name)
        inside = not name.startswith("head.") and expected_layer(family, name) in frozen
        assert not inside or name in stayed, name
        assert after[name].requires_grad is not inside, name
    trained_ones = {n for n in after if after[n].requires_grad}
    assert {name for name in after if name.startswith("head.")} <= moved
    assert len(moved) > 0.8 * len(trained_ones)


def test_what_is_frozen_has_no_optimizer_state(bert: Path, tmp_path: Path) -> None:
    recipe = Recipe(freeze="embeddings, 0", weight_decay=0.5)
    network = network_of(bert, tmp_path, recipe)
    freeze(network.encoder, recipe.freeze)
    update = Update(network, recipe, CPU)
    held = {id(p) for group in update.optimizer.param_groups for p in group["params"]}
    names = dict(network.named_parameters())
    assert {n for n, p in names.items() if id(p) in held} == {
        n for n in names if n.startswith("head.") or expected_layer("bert", n) == 1
    }


def test_frozen_layers_drop_values_as_others_do(bert: Path, tmp_path: Path) -> None:
    """The first loss is that of the run that trains all: freezing changes no mask."""
    _, data = task_of_kind(tmp_path, "single")
    losses = []
    for words in ("", "embeddings, 0", "encoder"):
        recipe = Recipe(**{**TWO_STEPS, "batch_size": 99}, freeze=words, dropout=0.3)
        losses.append(trained(bert, data, tmp_path / (words or "none"), recipe).state.curve[0]["loss"])
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)


def test_a_layer_that_is_not_there_cannot_be_frozen(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="layers 0 to 1"):
        freeze(network_of(bert, tmp_path, Recipe()).encoder, "1-2")

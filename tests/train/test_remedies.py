"""Remedies for forgetting: each against its formula, computed here, and each in whole runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import job_of, task_of_kind, trained

from layover.step import Recipe
from layover.train import loop, remedies
from layover.train.loop import Turn
from layover.train.update import Update

CPU = torch.device("cpu")
SHORT = Recipe(epochs=2, batch_size=4, max_length=32, learning_rate=1e-3, evaluate_every=2, patience=4, dropout=0.1)
REMEDIES: dict[str, dict[str, Any]] = {
    "l2sp": {"l2sp": 0.1, "l2sp_head": 0.01},
    "layer_decay": {"layer_decay": 0.8},
    "freeze": {"freeze": "embeddings, 0"},
}


def job(bert: Path, folder: Path, **fields: Any) -> Any:
    """A job ready to take steps, with its anchor."""
    found = job_of(bert, folder, "single", CPU, **{"max_length": 32, "dropout": 0.0, **fields})
    remedies.prepare(found.network, found.recipe, found.seed)
    found.network.prepare(CPU)
    return dataclasses.replace(found, anchor=remedies.anchor(found.network, found.recipe))


def shaken(network: Any) -> None:
    """Move every trained weight a little away from where it is."""
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in network.parameters():
            if p.requires_grad:
                p.add_(0.1 * torch.randn(p.shape, generator=draw))


def gradients(network: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_l2sp_is_the_gradient_of_its_penalty(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, l2sp=0.7, l2sp_head=0.3)
    start = {name: p.detach().clone() for name, p in held.network.named_parameters()}
    update = Update(held.network, held.recipe, CPU, held.anchor)
    shaken(held.network)
    turn = Turn(np.arange(8), 0)
    loop.gradients(held, turn)
    plain = gradients(held.network)
    for pull in update.pulls:
        pull.add()
    found = gradients(held.network)
    inside = [(p, start[n]) for n, p in held.network.named_parameters() if n.startswith("encoder.") and n in plain]
    outside = [p for n, p in held.network.named_parameters() if n.startswith("head.")]
    penalty = 0.7 / 2 * sum(((p - w0) ** 2).sum() for p, w0 in inside) + 0.3 / 2 * sum((p**2).sum() for p in outside)
    held.network.zero_grad(set_to_none=True)
    penalty.backward()  # type: ignore[union-attr]
    expected = gradients(held.network)
    assert expected.keys() == found.keys() == plain.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, plain[name] + expected[name], rtol=1e-5, atol=1e-7, msg=name)


def test_l2sp_is_clipped_with_the_loss_it_is_part_of(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, l2sp=50.0, max_grad_norm=0.5)
    update = Update(held.network, held.recipe, CPU, held.anchor)
    shaken(held.network)
    update.take(loop.gradients(held, Turn(np.arange(8), 0)), 1e-3)
    start = held.anchor.start
    named = [(n, p) for n, p in held.network.named_parameters() if p.grad is not None]
    whole = [p.grad + 50.0 * (p.detach() - start[n]) if n in start else p.grad for n, p in named]
    norm = torch.cat([part.flatten() for part in whole]).double().norm()
    update.apply()
    scale: Any = update.optimizer.grad_scale  # pyright: ignore[reportAttributeAccessIssue]
    assert float(scale) == pytest.approx(float(norm) / 0.5, rel=1e-4)


def test_a_strong_pull_ends_nearer_to_the_start(bert: Path, tmp_path: Path) -> None:
    far = distances(bert, tmp_path, {})
    near = distances(bert, tmp_path, {"l2sp": 100.0})
    assert 0 < near < far / 3


def distances(bert: Path, folder: Path, fields: dict[str, Any]) -> float:
    """How far a short run's encoder ends from its start."""
    _, data = task_of_kind(folder, "single")
    recipe = dataclasses.replace(SHORT, epochs=4, checkpoint="last", weight_decay=0.0, schedule="constant", **fields)
    before = trained(bert, data, folder / f"before{fields}", dataclasses.replace(recipe, learning_rate=1e-12)).network
    after = trained(bert, data, folder / f"after{fields}", recipe).network
    pairs = zip(before.encoder.parameters(), after.encoder.parameters(), strict=True)
    return sum(float((one - two).detach().square().sum()) for one, two in pairs) ** 0.5


def test_a_plain_recipe_is_held_to_nothing(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path)
    assert held.anchor is None
    assert Update(held.network, held.recipe, CPU).pulls == []


# whole runs


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", REMEDIES)
def test_a_run_resumed_from_a_checkpoint_is_the_same_bit_for_bit(bert: Path, tmp_path: Path, name: str) -> None:
    recipe = dataclasses.replace(SHORT, **REMEDIES[name])
    _, data = task_of_kind(tmp_path, "single", 16)
    whole = trained(bert, data, tmp_path / "whole", recipe)
    for at in (3, 6):
        resume = tmp_path / f"resume{at}"

        def die(progress: dict[str, Any], at: int = at) -> None:
            if progress["step"] == at:
                raise Killed

        with pytest.raises(Killed):
            trained(bert, data, tmp_path, recipe, checkpoint_seconds=0.0, resume=resume, report=die)
        steps: list[int] = []
        again = trained(
            bert, data, tmp_path, recipe, resume=resume, report=lambda p, steps=steps: steps.append(p["step"])
        )
        assert steps[0] == at
        assert again.state.curve == whole.state.curve
        weights, others = whole.network.state_dict(), again.network.state_dict()
        assert weights.keys() == others.keys()
        assert all(torch.equal(tensor, others[n]) for n, tensor in weights.items())
    plain = trained(bert, data, tmp_path / "plain", SHORT).network.encoder.state_dict()
    own = whole.network.encoder.state_dict()
    assert not all(torch.equal(own[n], plain[n]) for n in plain)

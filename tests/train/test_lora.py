"""LoRA: against its formula, merged against unmerged, and what it leaves behind, for every family."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, job_of, task_of_kind, trained
from torch import nn

from layover.errors import EncoderError, MissingExtra
from layover.step import Recipe
from layover.train import loop, lora, model, remedies
from layover.train.loop import Turn
from layover.train.work import write_weights

Encoders = Callable[[str], Path]
CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2, batch_size=9, max_length=32, learning_rate=1e-2, checkpoint="last", patience=0, dropout=0.1, lora=3
)


def job(encoder: Path, folder: Path, kind: str = "single", **fields: Any) -> Any:
    """A job on an encoder with updates, whose B are no longer zero."""
    found = job_of(encoder, folder, kind, CPU, **{"max_length": 32, "lora": 3, **fields})
    remedies.prepare(found.network, found.recipe, found.seed)
    found.network.prepare(CPU)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in found.network.named_parameters():
            if "lora_B" in name:
                p.normal_(0, 0.3, generator=draw)
    return found


@pytest.mark.parametrize("kind", ["pair", "choice", "span"])
@pytest.mark.parametrize("family", FAMILIES)
def test_merged_equals_unmerged(encoder: Encoders, family: str, kind: str, tmp_path: Path) -> None:
    held = job(encoder(family), tmp_path, kind)
    plain = job_of(encoder(family), tmp_path / "plain", kind, CPU, max_length=32)
    before = loop.predict(held, held.train)
    without = loop.predict(plain, plain.train)
    remedies.finish(held.network, held.recipe)
    after = loop.predict(held, held.train)
    finite = np.isfinite(before.scores)
    np.testing.assert_allclose(after.scores[finite], before.scores[finite], rtol=0, atol=1e-5)
    assert np.abs(after.scores[finite] - without.scores[finite]).max() > 1e-2  # else the comparison says nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_encoder_has_the_parts_that_it_always_had(encoder: Encoders, family: str, tmp_path: Path) -> None:
    task, data = task_of_kind(tmp_path, "single")
    before = model.load(str(encoder(family)), None, task, RECIPE, 1).network
    result = trained(encoder(family), data, tmp_path, RECIPE)
    assert [name for name, _ in result.network.named_modules()] == [name for name, _ in before.named_modules()]
    changed = {
        name
        for name, tensor in result.network.encoder.state_dict().items()
        if not torch.equal(tensor, before.encoder.state_dict()[name])
    }
    linear = {
        f"{name}.weight"
        for name, module in before.encoder.named_modules()
        if isinstance(module, nn.Linear) and "embeddings" not in name
    }
    assert changed == linear  # every map of the layers, and nothing else
    write_weights(tmp_path / "weights", task, result)
    again = model.load(str(encoder(family)), tmp_path / "weights", task, Recipe(), 1, carried=True).network
    assert all(torch.equal(p, result.network.state_dict()[name]) for name, p in again.state_dict().items())


def test_an_update_is_b_a_scaled_by_alpha_over_the_rank(bert: Path, tmp_path: Path) -> None:
    held = job(bert, tmp_path, lora_alpha=12.0)
    name = "encoder.layer.1.output.dense"
    part = held.network.encoder.get_submodule(name)
    a, b = part.lora_A[lora.NAME].weight.detach(), part.lora_B[lora.NAME].weight.detach()
    assert (a.shape[0], b.shape[1]) == (3, 3)
    expected = part.get_base_layer().weight.detach() + 12.0 / 3 * b @ a
    remedies.finish(held.network, held.recipe)
    found = held.network.encoder.get_submodule(name).weight.detach()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_only_updates_and_head_are_trained_and_begin_as_nothing(bert: Path, tmp_path: Path) -> None:
    held = job_of(bert, tmp_path, "single", CPU, max_length=32, lora=2, dropout=0.0)
    before = loop.predict(held, held.train)
    remedies.prepare(held.network, held.recipe, held.seed)
    held.network.prepare(CPU)
    np.testing.assert_array_equal(loop.predict(held, held.train).scores, before.scores)
    for name, p in held.network.named_parameters():
        assert p.requires_grad == (name.startswith("head.") or "lora_" in name), name
    loop.gradients(held, Turn(np.arange(8), 0))
    assert {name for name, p in held.network.named_parameters() if p.grad is not None} == {
        name for name, p in held.network.named_parameters() if p.requires_grad
    }


def test_what_an_update_begins_as_depends_on_the_seed_alone(bert: Path, tmp_path: Path) -> None:
    def drawn(seed: int) -> torch.Tensor:
        held = job_of(bert, tmp_path, "single", CPU, lora=2)
        torch.rand(seed)  # what else was drawn does not matter
        state = torch.get_rng_state()
        lora.insert(held.network.encoder, held.recipe, seed)
        assert torch.equal(torch.get_rng_state(), state)
        return torch.cat([p.flatten() for name, p in held.network.named_parameters() if "lora_A" in name])

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_frozen_layers_have_no_updates_that_learn(bert: Path, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "single")
    before = job_of(bert, tmp_path, "single", CPU).network.encoder.state_dict()
    result = trained(bert, data, tmp_path, dataclasses.replace(RECIPE, freeze="0"))
    after = result.network.encoder.state_dict()
    changed = {name.split(".")[2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"1"}


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_every_precision_trains(bert: Path, tmp_path: Path, precision: Any) -> None:
    _, data = task_of_kind(tmp_path, "single")
    result = trained(bert, data, tmp_path, dataclasses.replace(RECIPE, precision=precision, lora_dropout=0.2))
    assert result.state.stopped == ""
    assert {p.dtype for p in result.network.parameters()} == {torch.float32}


def test_without_peft_the_extra_is_named(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    held = job_of(bert, tmp_path, "single", CPU, lora=2)
    with pytest.raises(MissingExtra, match=r"pip install 'layover\[lora\]'"):
        remedies.prepare(held.network, held.recipe, 1)


def test_an_encoder_without_layers_is_refused() -> None:
    with pytest.raises(EncoderError, match="its layers cannot be told apart"):
        lora.insert(nn.Sequential(nn.Linear(2, 2)), RECIPE, 1)

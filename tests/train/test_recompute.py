"""Gradient checkpointing: layers that are computed twice give the same loss and gradients, with dropout on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.kit import FAMILIES, job_of, own_table, study_words, task_of_kind, trained, write_study

from layover.step import Recipe
from layover.train import loop, noise
from layover.train.loop import Turn
from layover.train.ways import Ability

Encoders = Callable[[str], Path]
CPU = torch.device("cpu")


def gradients(job: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)  # stock attention draws from torch's own stream
    loss = loop.gradients(job, Turn(np.arange(8), 3))
    return {"loss": loss, **{n: p.grad.clone() for n, p in job.network.named_parameters() if p.grad is not None}}


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    drawn, kept = [0], noise.Noise.kept

    def counted(self: Any, *arguments: Any) -> Any:
        drawn[0] += 1
        return kept(self, *arguments)

    monkeypatch.setattr(noise.Noise, "kept", counted)
    return drawn


@pytest.mark.parametrize("way", ["fastest", "stock"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_the_same(
    encoder: Encoders, family: str, dropout: float, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "stock":
        monkeypatch.setattr("layover.train.ways.prepare", lambda *_: Ability("stock"))
    drawn = _counting(monkeypatch)
    jobs = [job_of(encoder(family), tmp_path, "pair", CPU, dropout=dropout) for _ in range(2)]
    for job in jobs:
        job.network.prepare(CPU)
    jobs[1].network.recompute()
    expected, once = gradients(jobs[0]), drawn[0]
    found, twice = gradients(jobs[1]), drawn[0] - once
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (once > 0) == (dropout > 0)
    assert twice > once or not dropout  # layers were computed again


def test_in_micro_batches_too_and_with_the_encoder_in_bf16(bert: Path, tmp_path: Path) -> None:
    jobs = [job_of(bert, tmp_path, "choice", CPU, dropout=0.3, precision="bf16") for _ in range(2)]
    for job in jobs:
        job.network.prepare(CPU)
    jobs[1].network.recompute()
    expected, found = (gradients(dataclasses.replace(job, micro_tokens=60)) for job in jobs)
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_run_ends_with_the_same_weights(bert: Path, tmp_path: Path) -> None:
    _, data = task_of_kind(tmp_path, "single")
    recipe = Recipe(epochs=1, batch_size=8, max_length=32, dropout=0.2)
    runs = [trained(bert, data, tmp_path / str(on), recipe, gradient_checkpointing=on) for on in (False, True)]
    states = [run.network.state_dict() for run in runs]
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())


def test_an_encoder_that_cannot_is_an_error_that_says_what_to_do(
    bert: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import BertModel

    monkeypatch.setattr(BertModel, "supports_gradient_checkpointing", False)
    words = study_words(bert, tmp_path, task={"mine": own_table(tmp_path)}, strategies={"direct": {"kind": "direct"}},
                        placement={"device": "cpu", "threads": 1, "gradient_checkpointing": True})  # fmt: skip
    ran = command("run", write_study(tmp_path / "study.toml", words))
    assert ran.code == 1
    assert "has no layers that can be computed again" in ran.out + ran.err

"""Recipes that cannot be followed are told before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, Command, study_words, write_study


def refused(command: Command, bert: Path, folder: Path, **words: Any) -> str:
    """What `layover plan` says about a study that it refuses."""
    ran = command("plan", write_study(folder / "study.toml", study_words(bert, folder, **words)))
    assert ran.code == 2, ran.out + ran.err
    return " ".join((ran.out + ran.err).split())


def test_layers_that_the_encoder_does_not_have_cannot_be_frozen(command: Command, bert: Path, tmp_path: Path) -> None:
    told = refused(command, bert, tmp_path, recipe={**FAST, "freeze": "0-5"}, seeds=[1, 2])
    assert "recipe.freeze: '0-5': layer 5 is not in the encoder, whose layers are 0 to 1" in told
    assert "choices: 'embeddings'" in told
    assert told.count("'0-5'") == 1  # once, not for every seed


@pytest.mark.parametrize("words", ["0-1", "embeddings, 1", "encoder"])
def test_layers_that_it_has_can(command: Command, bert: Path, tmp_path: Path, words: str) -> None:
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, recipe={**FAST, "freeze": words}))
    assert command("plan", study).code == 0


def test_a_sweep_is_checked_too(command: Command, bert: Path, tmp_path: Path) -> None:
    told = refused(command, bert, tmp_path, sweep={"freeze": ["0", "7"]})
    assert "layer 7 is not in the encoder" in told


def test_ewc_needs_a_stage_before(command: Command, bert: Path, tmp_path: Path) -> None:
    told = refused(command, bert, tmp_path, recipe={**FAST, "ewc": 10.0})
    assert "recipe.ewc: holds to what the stage before learnt, and there is none before the first" in told
    assert "[strategies.NAME.recipe.role.target]" in told
    stilts = {"kind": "stilts", "sources": ["stop"], "recipe": {"role": {"target": {"ewc": 10.0}}}}
    study = study_words(bert, tmp_path, strategies={"direct": {"kind": "direct"}, "stilts": stilts})
    assert command("plan", write_study(tmp_path / "study.toml", study)).code == 0


def test_a_sweep_has_no_stage_before(command: Command, bert: Path, tmp_path: Path) -> None:
    assert "recipe.ewc: holds to what" in refused(command, bert, tmp_path, sweep={"ewc": [1.0, 10.0]})


@pytest.mark.parametrize(
    ("other", "place"),
    [({"l2sp": 0.1}, "l2sp"), ({"mixout": 0.5}, "mixout"), ({"optimizer": "recadam", "recadam_pull": 1.0}, "optimizer"),
     ({"freeze": "encoder"}, "freeze")],
)  # fmt: skip
def test_lora_leaves_nothing_to_pull_on(
    command: Command, bert: Path, tmp_path: Path, other: dict[str, Any], place: str
) -> None:
    told = refused(command, bert, tmp_path, recipe={**FAST, "lora": 2, **other})
    assert f"recipe.{place}: {next(iter(other.values()))!r}: with lora" in told
    assert f"leave out lora, or {place}" in told


def test_lora_is_for_trainings_on_one_task(command: Command, bert: Path, tmp_path: Path) -> None:
    joint = {"kind": "multitask", "sources": ["stop"], "recipe": {"lora": 4}}
    told = refused(command, bert, tmp_path, strategies={"joint": joint})
    assert "recipe.lora: is for trainings on one task: the best weights of several cannot share one merge" in told


def test_recadam_must_not_jump_past_the_start(command: Command, bert: Path, tmp_path: Path) -> None:
    told = refused(command, bert, tmp_path, recipe={**FAST, "optimizer": "recadam"})
    assert "recipe.recadam_pull: 5000 is too much for a learning rate of 0.001" in told
    assert "below 2000" in told


def test_a_missing_package_is_told_before_anything_runs(
    command: Command, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, recipe={**FAST, "lora": 2}))
    monkeypatch.setitem(sys.modules, "peft", None)
    assert command("plan", study).code == 0  # who plans need not be who trains
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == 2
    assert "pip install 'layover[lora]'" in " ".join((ran.out + ran.err).split())
    assert not list((tmp_path / "store").glob("steps/*"))

"""Recipes that cannot be followed are told before anything runs."""

from __future__ import annotations

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

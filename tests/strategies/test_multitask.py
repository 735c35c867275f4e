"""Several tasks trained at once: which joint trainings a study asks for, what it refuses, and what comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kit import Command, own_table, study_words, write_study

KINDS = {"a": "single", "b": "pair", "c": "choice"}


def words(encoder: Path, folder: Path, targets: list[str], **strategies: Any) -> dict[str, Any]:
    used = {*targets, *(task for table in strategies.values() for task in table.get("sources", []))}
    tables = {name: own_table(folder / name, KINDS[name]) for name in sorted(used)}
    return study_words(encoder, folder, tasks={"target": targets}, strategies=strategies, task=tables)


def test_the_pairs_of_a_grid_are_trained_once_and_scored_on_both_tasks(
    bert: Path, tmp_path: Path, command: Command
) -> None:
    names = ["a", "b", "c"]
    study = words(
        bert, tmp_path, names, direct={"kind": "direct"}, multi={"kind": "multitask", "sources": names},
        all={"kind": "multitask_all"},
    )  # fmt: skip
    path = write_study(tmp_path / "study.toml", study)
    ran = command("run", path, "--store", tmp_path / "store")
    assert ran.code == 0, ran.out + ran.err

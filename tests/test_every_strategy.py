"""Every strategy in one study on one small encoder: its steps leave what a report, a check and a tidy need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, own_table, study_words, text_table, write_study

from layover import Session, Study, run
from layover.step import KINDS
from layover.strategies import STRATEGIES
from layover.upkeep import collect_garbage, verify

FAST = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_length": 32}
STOPS = ["one", "two"]
EVERY: dict[str, dict[str, Any]] = {
    "direct": {},
    "stilts": {"sources": ["one"], "text": "wiki"},
    "multitask": {"sources": ["one"]},
    "multitask_all": {"sources": STOPS},
    "reinit": {"keep": [0, 1]},
    "permute": {"permutations": [3]},
    "truncate": {"keep": [1]},
    "probe": {"layers": [1, "mix"], "sources": ["one"]},
    "merge": {"sources": STOPS},
}


@pytest.fixture(scope="module")
def finished(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Path]:
    """The study finished in a store, and its file."""
    folder = tmp_path_factory.mktemp("every")
    tasks = {"mine": own_table(folder / "mine"), "one": own_table(folder / "one"), "two": own_table(folder, "pair")}
    words = study_words(
        bert,
        folder,
        strategies={kind: {"kind": kind, **settings} for kind, settings in EVERY.items()},
        recipe=FAST,
        task={**tasks, "wiki": text_table(folder)},
        forgetting={"text": "wiki", "examples": 20, "max_length": 32},
    )
    file = write_study(folder / "every.toml", words)
    return run(Study(**words), store=folder / "store"), file


def test_every_strategy_is_in_it(finished: tuple[Session, Path]) -> None:
    session, _ = finished
    assert set(EVERY) == set(STRATEGIES.names()), "a new strategy is tried here too"
    made = {step.kind for step in session.plan.steps.values()}
    assert made == set(KINDS) - {"choose"}


def test_every_cell_has_a_value(finished: tuple[Session, Path]) -> None:
    session, _ = finished
    table = session.observations()
    assert set(table["value"].isna().tolist()) == {False}
    assert not [status for status in table["status"].tolist() if status.startswith("failed")]
    targets = table[(table["role"] == "target") & table["primary"]]
    assert set(targets["strategy"]) == set(EVERY)
    measured = set(table.loc[table["role"] == "forgetting", "source"])
    assert {"", "one", "one + wiki"} <= measured, "the checkpoint of a mixture with text is measured too"
    assert verify(session.store) == []


def test_the_report_and_the_matrices_show_every_strategy(finished: tuple[Session, Path], tmp_path: Path) -> None:
    session, _ = finished
    matrices = {matrix.strategy: matrix for matrix in session.transfer().matrices}
    assert set(matrices) == set(EVERY) - {"direct"}
    assert matrices["reinit"].sources == ["keep 0", "keep 1"]
    page = session.report(tmp_path / "report.html", tables=tmp_path / "tables").read_text(encoding="utf-8")
    for words in ("keep 0", "permutation 3", "one · layer 1", "one + two", "Forgetting"):
        assert words in page, words


def test_the_command_says_what_it_would_do_and_has_nothing_left_to_do(
    finished: tuple[Session, Path], command: Command
) -> None:
    session, file = finished
    again = command("run", file, "--store", session.store.root)
    assert again.code == 0
    assert f"0 steps run, {len(session.plan.steps)} reused" in again.out
    for words in (("plan", file), ("status", file), ("explain", file, "keep 0 · s1"), ("store", "ls")):
        ran = command(*words, "--store", session.store.root)
        assert ran.code == 0, ran.err
    asked = command("query", "select distinct condition from cells", "--json", "--store", session.store.root)
    assert {row["condition"] for row in asked.json} >= {"keep 0", "keep 1", "permutation 3", "layer 1", "mix"}


def test_what_a_member_learnt_can_be_kept_and_exported(
    finished: tuple[Session, Path], command: Command, tmp_path: Path
) -> None:
    session, file = finished
    label = next(session.plan.labels[score.key] for score in session.plan.scores if score.strategy == "multitask")
    kept = command("run", file, "--store", session.store.root, "--keep-weights", label)
    assert kept.code == 0, kept.err
    done = command("store", "export", label, tmp_path / "out", "--store", session.store.root)
    assert done.code == 0, done.err
    from transformers import AutoModelForSequenceClassification

    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").config.num_labels == 2


def test_tidying_up_leaves_the_numbers(finished: tuple[Session, Path]) -> None:
    session, _ = finished
    before = session.observations()["value"].tolist()
    collect_garbage(session.store, dry_run=False)
    assert session.observations()["value"].tolist() == before
    assert verify(session.store) == []
    assert not [key for key in session.store.finished_keys() if session.store.weights(key)]

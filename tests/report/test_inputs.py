"""What a real store holds is what the page says: rows left out, texts cut, the step kept, the data used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, Command, study_words, write_rows, write_study

from layover import observations
from layover.predictions import Predictions
from layover.report import inputs
from layover.report.build import build
from layover.report.facts import ReportInputs
from layover.report.limits import limits
from layover.report.wording import texts_of
from layover.session import Session, run
from layover.store import Store


@pytest.fixture(scope="module")
def session(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """24 rows of which 16 are used, 4 of them held out; every text is cut to 8 tokens."""
    folder = tmp_path_factory.mktemp("study")
    limit = {"train": 16, "validation": 6, "role": {"source": {"train": 24, "validation": 12}}}
    words = study_words(bert, folder, recipe={**FAST, "epochs": 3, "max_length": 8}, limit=limit, holdout=0.25)
    return run(write_study(folder / "study.toml", words), store=folder / "store")


@pytest.fixture(scope="module")
def facts(session: Session) -> ReportInputs:
    return inputs.inputs_of(session.plan, session.store)


def test_the_page_says_which_part_of_the_data_was_used(facts: ReportInputs) -> None:
    said = limits(facts)
    assert "Only a part of the training examples was used: mine 12 of 24." in said  # and 4 held out; stop used all
    assert "Only a part of the validation examples was used: mine 6 of 12." in said
    assert "Inputs that did not fit and were cut: mine 100.0%, stop 100.0%." in said
    assert all(sentence in build(facts) for sentence in said)


def test_the_page_counts_questions_and_says_what_is_asked_about_text_that_was_cut_off(
    bert: Path, tmp_path: Path
) -> None:
    rows = [
        {"text": "the film was good and a story about trains", "question": "what", "answer": word}
        for word in ("film", "trains", "good", "story") * 4
    ]
    pairs = [{"passage": "the film", "question": "was it", "answers": ["good", "bad"], "right": [1, 0]}] * 12
    tables = {}
    for name, some in (("place", rows), ("several", pairs)):
        path = write_rows(tmp_path / f"{name}.jsonl", some)
        tables[name] = {"train": str(path), "validation": str(path)}
    tables["place"] |= {"format": "span", "passage": "text", "question": "question", "answers": "answer"}
    asked = {"format": "answers", "passage": "passage", "question": "question", "answers": "answers", "label": "right"}
    tables["several"] |= asked
    words = study_words(
        bert, tmp_path, task=tables, tasks={"target": list(tables)}, strategies={"direct": {"kind": "direct"}},
        recipe={**FAST, "max_length": 10}, limit={"train": 8, "validation": 8},
    )  # fmt: skip
    session = run(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")
    found = inputs.inputs_of(session.plan, session.store)
    said = limits(found)
    by_task = {one.task: one for one in found.runs}
    assert by_task["several"].n_validation == 8  # questions, of two answers each
    assert any("several 8 of 12" in sentence and "place 8 of 16" in sentence for sentence in said)
    share = by_task["place"].lost["validation"]
    assert 0 < share < 1
    assert by_task["several"].lost["validation"] == 0
    (sentence,) = (sentence for sentence in said if "counts as wrong" in sentence)
    assert f"place {100 * max(by_task['place'].lost.values()):.1f}%" in sentence
    assert "several" not in sentence


def test_runs_hold_the_facts_of_their_steps(session: Session, facts: ReportInputs) -> None:
    for one in facts.runs:
        stored = session.store.read(one.key, "provenance.json")
        assert one.status == session.store.read(one.key, "observations.jsonl")[0]["status"]
        assert one.best_step == stored["best_step"] > 0
        assert (one.n_train, one.n_selection, one.n_validation) == tuple(stored["examples"].values())
        assert one.seconds == stored["seconds"]
        assert one.curve[-1]["step"] == stored["steps"]
        assert f"step {one.best_step}" in build(facts)
    ways = {one.way.rpartition("/")[2] for one in facts.runs}
    assert ways == {"bert → mine · seed 1", "bert → stop · seed 1", "bert → stop → mine · seed 1"}


@pytest.mark.parametrize(
    ("label", "task", "shown"),
    [("minilm · cola keep 2 500 rows · s1", "cola", "cola keep 2 500 rows"), ("minilm · cola · s12", "cola", "cola"),
     ("minilm · mnli 1250 rows → rte · s1", "rte", "rte"), ("minilm · rte → rte (stilts) · s1", "rte", "rte (stilts)"),
     ("something else", "rte", "rte")],
)  # fmt: skip
def test_a_run_is_named_with_what_was_tried(label: str, task: str, shown: str) -> None:
    assert inputs._reached(label, task) == shown


def test_where_a_run_collapsed_the_page_has_a_view_without_it(
    session: Session, facts: ReportInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(facts.transfer) == 1 + any(one.status.startswith("degenerate") for one in facts.runs)
    for status, views in (("ok", [False]), ("degenerate: constant prediction", [False, True])):
        rows = [row | {"status": status} for row in observations.collect(session.plan, session.store)]
        monkeypatch.setattr(observations, "collect", lambda *_, rows=rows: rows)
        found = inputs.inputs_of(session.plan, session.store).transfer
        assert [one.without_degenerate for one in found] == views
        monkeypatch.undo()


def test_tasks_and_provenance_name_what_was_used(session: Session, facts: ReportInputs) -> None:
    assert {task.name: (task.n_train, task.n_validation) for task in facts.tasks} == {"mine": (12, 6), "stop": (18, 12)}
    assert all(50 <= (task.majority or 0) < 100 for task in facts.tasks)
    for name, source in session.plan.sources.items():
        assert facts.provenance[f"data of {name}"] == source.digest


def test_a_report_with_tables_and_figures_is_computed_once(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    gather = inputs.inputs_of
    monkeypatch.setattr(inputs, "inputs_of", lambda *given: asked.append(1) or gather(*given))
    session.report(tmp_path / "new" / "r.html", tables=tmp_path / "t", figures=tmp_path / "f")
    assert len(asked) == 1
    assert (tmp_path / "new" / "r.html").is_file()
    assert (tmp_path / "t" / "cells.csv").is_file()
    assert (tmp_path / "f" / "curves-loss.pdf").is_file()


def test_the_command_writes_what_is_asked_for(session: Session, command: Command, tmp_path: Path) -> None:
    study, store = session.store.root.parent / "study.toml", session.store.root
    done = command("report", study, "--store", store)
    assert (done.code, Path("small.html").is_file()) == (0, True)
    assert done.out.strip() == f"report: {Path('small.html').resolve()}"
    done = command("report", study, "--store", store, "--out", "a/b.html", "--tables", "t", "--figures", "f")
    assert done.out.splitlines()[1:] == [f"written: {Path('t').resolve()}", f"written: {Path('f').resolve()}"]
    assert Path("a/b.html").is_file()
    Path("file").touch()
    wrong = command("report", study, "--store", store, "--out", "file/r.html")
    assert wrong.code == 2
    assert "cannot be written" in wrong.err


def test_examples_that_flipped_are_shown_as_text_only_where_asked(
    session: Session, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = session.plan.find("bert · mine · s1")
    found = Store.predictions

    def one_side_wrong(store: Store, key: str) -> Predictions | None:
        given = found(store, key)
        return given and replace(given, predicted=given.gold if key == direct else 1 - given.gold)

    monkeypatch.setattr(Store, "predictions", one_side_wrong)
    rows = [row["text"] for row in _validation_rows(session)]
    study, store = session.store.root.parent / "study.toml", session.store.root
    assert command("report", study, "--store", store).code == 0
    bare = Path("small.html").read_text(encoding="utf-8")
    assert not [text for text in rows if text in bare]
    assert "adds their text" in bare
    (cell,) = inputs.inputs_of(session.plan, session.store, 12).flips.cells.values()
    assert [flip.text for flip in cell.examples] == [rows[flip.place[0]] for flip in cell.examples]
    assert len(cell.examples) == cell.n == 6
    assert {flip.gold for flip in cell.examples} == {"no", "yes"}
    assert command("report", study, "--store", store, "--examples", "4").code == 0
    html = Path("small.html").read_text(encoding="utf-8")
    assert sum(text in html for text in rows) == 4
    assert "the text of 4 at most is shown for each cell" in html
    assert command("report", study, "--store", store, "--examples", "13").code == 2


def _validation_rows(session: Session) -> list[dict[str, Any]]:
    lines = session.plan.sources["mine"].files["validation"].read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_texts_are_those_of_the_rows_that_were_asked_for(session: Session) -> None:
    rows = [row["text"] for row in _validation_rows(session)]
    assert texts_of(session.plan, "mine", [0, 5]) == {(0, 0): rows[0], (5, 0): rows[5]}


def test_where_the_data_has_moved_rows_are_shown_without_text(session: Session) -> None:
    file = session.plan.sources["mine"].files["validation"]
    content = file.read_bytes()
    file.unlink()
    try:
        assert texts_of(session.plan, "mine", [0]) == {}
    finally:
        file.write_bytes(content)

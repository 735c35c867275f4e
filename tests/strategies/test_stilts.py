"""Stilts in full: chains, sizes of sources and targets, heads carried over, recipes of a strategy's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit import FAST, Command, numbers, own_table, study_words, write_study

from layover import Session, Study, run
from layover.errors import StudyError
from layover.plan import compile_plan
from layover.step import Train


def words(encoder: Path, folder: Path, stilts: dict[str, Any], **more: Any) -> dict[str, Any]:
    tables = {name: own_table(folder / name, kind) for name, kind in KINDS.items()}
    return study_words(
        encoder, folder, strategies={"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", **stilts}},
        **{"task": {name: tables[name] for name in more.pop("uses", KINDS)}, **more},
    )  # fmt: skip


KINDS = {"mine": "single", "stop": "pair", "other": "value", "alike": "single"}


def trains(study: dict[str, Any]) -> dict[str, Train]:
    plan = compile_plan(Study(**study))
    return {plan.labels[key]: step for key, step in plan.steps.items() if isinstance(step, Train)}


def test_a_chain_goes_through_every_task(bert: Path, tmp_path: Path) -> None:
    study = words(bert, tmp_path, {"chains": [["stop", "other"]], "sources": ["other"]}, uses=["mine", "stop", "other"])
    plan = compile_plan(Study(**study))
    name = str(bert)
    assert sorted(label.replace(name, "e") for label in plan.labels.values()) == [
        "e · mine · s1", "e · other · s1", "e · other → mine · s1", "e · stop · s1", "e · stop → other · s1",
        "e · stop → other → mine · s1",
    ]  # fmt: skip
    steps = {plan.labels[key].replace(name, "e"): step for key, step in plan.steps.items()}
    last = steps["e · stop → other → mine · s1"]
    assert isinstance(last, Train)
    assert last.start == plan.find("stop → other · s1")
    scores = {(s.source, s.target, s.role) for s in plan.scores if s.strategy == "stilts"}
    assert scores == {
        ("stop → other", "mine", "target"), ("other", "mine", "target"),
        ("", "stop", "source"), ("", "other", "source"),
    }  # fmt: skip


def test_a_chain_of_two_is_two_studies_one_after_the_other(bert: Path, tmp_path: Path) -> None:
    chained = words(bert, tmp_path, {"chains": [["alike", "stop"]]}, uses=["mine", "stop", "alike"])
    whole = run(Study(**chained), store=tmp_path / "chain")

    first = words(bert, tmp_path, {"sources": ["alike"]}, uses=["mine", "alike"])
    one = Session.open(Study(**first), store=tmp_path / "one")
    one.run()
    one.export("alike · s1", tmp_path / "middle")
    second = words(tmp_path / "middle", tmp_path, {"sources": ["stop"]}, uses=["mine", "stop"])
    two = run(Study(**second), store=tmp_path / "two")

    def scores(session: Session) -> list[Any]:
        key = session.plan.find("stop → mine · s1")
        rows = session.store.read(key, "observations.jsonl")
        predicted = session.store.predictions(key)
        assert predicted is not None
        return [*[row["value"] for row in rows], *np.asarray(predicted.predicted).tolist(),
                *[point["loss"] for point in session.store.read(key, "curve.jsonl")]]  # fmt: skip

    assert scores(whole) == scores(two)


def test_sizes_are_nested_subsets_drawn_by_the_seed(bert: Path, tmp_path: Path) -> None:
    study = words(bert, tmp_path, {"sources": ["stop"], "sizes": [8, 16, 0]}, uses=["mine", "stop"], seeds=[1, 2])
    session = run(Study(**study), store=tmp_path / "store")
    table = session.observations()
    cells = table[(table["strategy"] == "stilts") & (table["role"] == "target") & table["primary"]]
    assert set(cells["condition"]) == {"8 rows", "16 rows", ""}
    sized = dict(zip(cells["condition"], cells["source_size"], strict=True))
    assert sized["8 rows"] < sized["16 rows"] < sized[""]
    matrix = session.transfer().matrix(strategy="stilts")
    assert matrix.sources == ["stop", "stop · 16 rows", "stop · 8 rows"]

    from layover.kinds.common import data_of

    rows: dict[tuple[int, int], set[int]] = {}
    for step in session.plan.steps.values():
        if isinstance(step, Train) and step.task.name == "stop" and step.task.limit_train:
            data = data_of(step.task, session.store, session.plan.places)
            rows[step.task.limit_train, step.seed] = set(np.flatnonzero(data.train.kept).tolist())
    assert {key: len(found) for key, found in rows.items()} == {(8, 1): 8, (16, 1): 16, (8, 2): 8, (16, 2): 16}
    assert rows[8, 1] < rows[16, 1]
    assert rows[8, 2] < rows[16, 2]
    assert rows[16, 1] != rows[16, 2], "restarts see other rows"


def test_target_sizes_are_compared_each_with_its_own_baseline(bert: Path, tmp_path: Path) -> None:
    study = words(bert, tmp_path, {"sources": ["stop"]}, uses=["mine", "stop"], sizes={"target": [8, 0]})
    session = run(Study(**study), store=tmp_path / "store")
    table = session.observations()
    assert sorted({(r, s) for r, s in zip(table["rows"], table["role"], strict=True)}) == [
        (0, "source"), (0, "target"), (8, "target"),
    ]  # fmt: skip
    matrix = session.transfer().matrix()
    assert matrix.targets() == ["mine", "mine @ 8"]
    small = matrix.cells["stop", "mine @ 8"]
    keys = {pair.baseline.key for pair in small.pairs if pair.baseline}
    baseline = table[(table["strategy"] == "direct") & (table["rows"] == 8)]
    assert keys == set(baseline["key"])
    page = session.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "mine @ 8" in page


def test_a_carried_head_begins_where_the_source_ended(bert: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from layover.train import model

    study = words(bert, tmp_path, {"sources": ["alike"], "head": "carried"}, uses=["mine", "alike"])
    session = run(Study(**study), store=tmp_path / "store")
    last = session.plan.steps[session.plan.find("alike → mine · s1")]
    assert isinstance(last, Train)
    assert last.head == "carried"
    weights = session.store.weights(last.start or "")
    assert weights is not None
    task = session.plan.tasks["mine"]
    made = model.load(str(bert), weights, task, last.recipe, 1, carried=True).network.head.state_dict()
    new = model.load(str(bert), weights, task, last.recipe, 1).network.head.state_dict()
    for name, tensor in load_file(weights / "head.safetensors").items():
        assert torch.equal(made[name], tensor)
    assert any(not torch.equal(made[name], new[name]) for name in made)
    new_head = {**study, "strategies": {**study["strategies"], "stilts": {"kind": "stilts", "sources": ["alike"]}}}
    other = run(Study(**new_head), store=tmp_path / "store")
    assert other.plan.find("alike → mine · s1") != session.plan.find("alike → mine · s1")


def test_a_head_is_not_carried_to_other_labels(bert: Path, tmp_path: Path, command: Command) -> None:
    study = words(bert, tmp_path, {"sources": ["stop"], "head": "carried"}, uses=["mine", "stop"])
    study["task"]["stop"]["labels"] = ["entailment", "not_entailment"]
    ran = command("plan", write_study(tmp_path / "s.toml", study))
    assert ran.code == 2
    assert "the labels of 'mine' are not those of 'stop'" in " ".join(ran.err.split())
    assert "head = 'new'" in ran.err


def test_a_matched_head_goes_on_where_there_are_as_many_labels(bert: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from layover.tasks import TASKS
    from layover.train import model

    study = words(bert, tmp_path, {"sources": ["stop"], "head": "matched"}, uses=["mine", "stop"])
    session = run(Study(**study), store=tmp_path / "store")
    last = session.plan.steps[session.plan.find("stop → mine · s1")]
    assert isinstance(last, Train)
    weights = session.store.weights(last.start or "")
    assert weights is not None
    theirs = load_file(weights / "head.safetensors")

    def carried(task: str) -> bool:
        found = session.plan.tasks.get(task) or TASKS.get(task)
        matched = model.load(str(bert), weights, found, last.recipe, 1, carried="matched").network.head.state_dict()
        new = model.load(str(bert), weights, found, last.recipe, 1).network.head.state_dict()
        same = [name for name in new if torch.equal(matched[name], new[name])]
        assert len(same) in (0, len(new)) or "linear.weight" not in same
        return all(name in theirs and torch.equal(matched[name], theirs[name]) for name in matched)

    assert carried("mine")  # no and yes go on with entailment and not_entailment
    assert carried("sst2")
    assert not carried("mnli")  # three labels
    assert not carried("stsb")  # a number
    assert not carried("copa")  # a choice


def test_a_target_may_be_left_out_after_itself(bert: Path, tmp_path: Path) -> None:
    both = {"sources": ["mine", "stop"], "to_itself": False}
    study = words(bert, tmp_path, both, uses=["mine", "stop"], tasks={"target": ["mine", "stop"]})
    assert sorted(label for label in trains(study) if "→" in label) == [
        f"{study['encoders'][0]} · {way} · s1" for way in ("mine → stop", "stop → mine")
    ]


def test_a_strategys_own_recipe_is_layered_over_the_studys(bert: Path, tmp_path: Path) -> None:
    own = {"epochs": 2, "role": {"source": {"batch_size": 4}}, "task": {"mine": {"learning_rate": 0.01}}}
    study = words(bert, tmp_path, {"sources": ["stop"], "recipe": own}, uses=["mine", "stop"])
    steps = {label.split(" · ")[1]: step.recipe for label, step in trains(study).items()}
    assert (steps["mine"].epochs, steps["mine"].learning_rate) == (FAST["epochs"], FAST["learning_rate"])
    assert (steps["stop"].epochs, steps["stop"].batch_size) == (2, 4)
    assert (steps["stop → mine"].epochs, steps["stop → mine"].learning_rate) == (2, 0.01)
    assert steps["stop → mine"].batch_size == FAST["batch_size"]


WRONG = [
    ({}, {}, "strategies.stilts.sources: is missing"),
    ({"sources": ["stop"], "chains": [["stop"]]}, {}, "is no chain"),
    ({"sources": ["stop"], "sizes": [-1]}, {}, "-1 is no number of questions"),
    ({"sources": ["stop"], "head": "old"}, {}, "choices: new, carried, matched"),
    ({"sources": ["stop"], "chains": [["stop", "mnlii"]]}, {}, "there is no task called 'mnlii'"),
    ({"sources": ["stop"], "recipe": {"epoch": 1}}, {}, "strategies.stilts.recipe.epoch: is not a key"),
    ({"sources": ["stop"], "recipe": {"epochs": 0}}, {}, "strategies.stilts.recipe.epochs"),
    ({"sources": ["stop"], "recipe": {"task": {"rte": {"epochs": 1}}}}, {}, "no task 'rte' is in this study"),
    ({"sources": ["stop"], "recipe": {"dropout": 0.1}}, {"sweep": {"dropout": [0.0, 0.1]}}, "is swept too"),
    ({"sources": ["stop"]}, {"sizes": {"target": [-1]}}, "sizes.target"),
    ({"sources": ["stop"]}, {"sizes": {"target": [8, 8]}}, "names a value twice"),
]


@pytest.mark.parametrize(("stilts", "more", "told"), WRONG, ids=[told for _, _, told in WRONG])
def test_what_cannot_be_is_refused(stilts: Any, more: Any, told: str, bert: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError) as error:
        Study(**words(bert, tmp_path, stilts, uses=["mine", "stop"], **more))
    assert told in str(error.value), json.dumps(str(error.value))


def test_a_study_that_was_planned_before_these_words_is_still_the_same(bert: Path, tmp_path: Path) -> None:
    old = run(Study(**words(bert, tmp_path, {"sources": ["stop"]}, uses=["mine", "stop"])), store=tmp_path / "a")
    table = {"sources": ["stop"], "sizes": [0], "head": "new", "recipe": {}}
    new = run(Study(**words(bert, tmp_path, table, uses=["mine", "stop"])), store=tmp_path / "b")
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert old.plan.steps.keys() == new.plan.steps.keys()

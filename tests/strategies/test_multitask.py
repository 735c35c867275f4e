"""Several tasks trained at once: which joint trainings a study asks for, what it refuses, and what comes of them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, Command, numbers, own_table, study_words, write_study

from layover import Session
from layover.errors import StudyError
from layover.plan import Plan, compile_plan
from layover.step import Joint, Member, Mixture, Train, key_of
from layover.study import Study

KINDS = {"a": "single", "b": "pair", "c": "choice", "d": "single"}
DIRECT = {"kind": "direct"}


def words(encoder: Path, folder: Path, targets: list[str], strategies: dict[str, Any], **more: Any) -> dict[str, Any]:
    tables = {name: own_table(folder / name, KINDS[name]) for name in more.pop("uses", targets)}
    return study_words(encoder, folder, tasks={"target": targets}, strategies=strategies, task=tables, **more)


def joints(plan: Plan) -> list[Joint]:
    return [step for step in plan.steps.values() if isinstance(step, Joint)]


def names(joint: Joint) -> list[str]:
    return [ref.name for ref in joint.tasks]


@pytest.fixture
def grid(bert: Path, tmp_path: Path) -> dict[str, Any]:
    """Three targets that are each other's partners, in pairs and all together."""
    both = {"pairs": {"kind": "multitask", "sources": ["c", "b", "a"]}, "all": {"kind": "multitask_all"}}
    return words(bert, tmp_path, ["a", "b", "c"], {"direct": DIRECT, **both})


def test_a_pair_is_one_training_whichever_task_is_looked_at(grid: dict[str, Any]) -> None:
    plan = compile_plan(Study(**grid))
    assert sorted(map(names, joints(plan))) == [["a", "b"], ["a", "b", "c"], ["a", "c"], ["b", "c"]]
    cells = {(s.source, s.target): s.key for s in plan.scores if s.strategy == "pairs"}
    assert sorted(cells) == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]  # no diagonal
    for (source, target), key in cells.items():
        member = plan.steps[key]
        other = plan.steps[cells[target, source]]
        assert isinstance(member, Member)
        assert isinstance(other, Member)
        assert member.task.name == target
        assert member.of == other.of
        assert key != cells[target, source]


def test_all_tasks_are_trained_once_per_seed_and_each_is_scored(grid: dict[str, Any]) -> None:
    plan = compile_plan(Study(**{**grid, "seeds": [1, 2]}))
    found = [plan.steps[s.key] for s in plan.scores if s.strategy == "all"]
    assert len(found) == 6
    assert len({step.of for step in found if isinstance(step, Member)}) == 2
    assert {(s.source, s.target, s.role) for s in plan.scores if s.strategy == "all"} == {
        ("", name, "target") for name in "abc"
    }


def test_sources_besides_the_targets_are_in_the_training_of_all(bert: Path, tmp_path: Path) -> None:
    study = words(
        bert, tmp_path, ["a", "b"], {"all": {"kind": "multitask_all", "sources": ["c"]}}, uses=["a", "b", "c"]
    )
    plan = compile_plan(Study(**study))
    assert [names(joint) for joint in joints(plan)] == [["a", "b", "c"]]
    assert {s.target for s in plan.scores} == {"a", "b"}


def test_labels_say_what_was_trained_with_what(grid: dict[str, Any], bert: Path) -> None:
    plan = compile_plan(Study(**grid))
    labels = {label.replace(str(bert), "e") for label in plan.labels.values()}
    assert {"e · a + b · s1", "e · a + b → a · s1", "e · a + b → b · s1", "e · a + b + c → c · s1"} <= labels


def test_settings_reach_the_step_and_weights_go_by_name(bert: Path, tmp_path: Path) -> None:
    table = {
        "kind": "multitask", "sources": ["b"], "sampler": "capped", "cap": 5, "heads": "labels", "epoch": "shortest",
        "conflict": "log", "fixed": {"b": 0.25}, "recipe": {"learning_rate": 1e-4},
    }  # fmt: skip
    study = words(
        bert, tmp_path, ["a"], {"m": table}, uses=["a", "b"], recipe={**FAST, "role": {"joint": {"epochs": 3}}}
    )
    (joint,) = joints(compile_plan(Study(**study)))
    assert joint.mixture == Mixture(
        sampler="capped", cap=5, heads="labels", epoch="shortest", conflict="log", fixed=(1.0, 0.25)
    )
    assert (joint.recipe.epochs, joint.recipe.learning_rate) == (3, 1e-4)


def test_what_the_sampler_does_not_read_is_in_no_key(bert: Path, tmp_path: Path) -> None:
    def step(**settings: Any) -> str:
        table = {"kind": "multitask", "sources": ["b"], **settings}
        return key_of(joints(compile_plan(Study(**words(bert, tmp_path, ["a"], {"m": table}, uses=["a", "b"]))))[0])

    plain = step()
    assert step(temperature=3.0, cap=7, gradnorm_alpha=0.5, fixed={"a": 1.0}) == plain
    assert step(sampler="temperature", temperature=3.0) != step(sampler="temperature") != plain


def test_the_dynamic_sampler_stands_on_the_trainings_of_each_task_alone(bert: Path, tmp_path: Path) -> None:
    table = {"kind": "multitask", "sources": ["b"], "sampler": "dynamic"}
    plan = compile_plan(Study(**words(bert, tmp_path, ["a"], {"direct": DIRECT, "m": table}, uses=["a", "b"])))
    (joint,) = joints(plan)
    alone = [plan.steps[key] for key in joint.alone]
    assert [step.task.name for step in alone if isinstance(step, Train)] == ["a", "b"]
    assert joint.alone[0] == next(s.key for s in plan.scores if s.strategy == "direct")
    assert set(joint.alone) <= set(joint.parents)


def test_a_target_of_several_sizes_is_joined_at_each(bert: Path, tmp_path: Path) -> None:
    table = {"kind": "multitask", "sources": ["b"]}
    study = words(bert, tmp_path, ["a"], {"m": table}, uses=["a", "b"], sizes={"target": [8, 0]})
    found = {
        tuple((ref.name, ref.limit_train, ref.drawn) for ref in j.tasks) for j in joints(compile_plan(Study(**study)))
    }
    assert found == {(("a", 8, 1), ("b", None, None)), (("a", None, None), ("b", None, None))}


# what is refused

MULTI = {"kind": "multitask", "sources": ["b"]}


@pytest.mark.parametrize(
    ("table", "place", "told"),
    [
        ({"kind": "multitask"}, "sources", "is missing"),
        ({**MULTI, "sources": ["a"]}, "sources", "goes with no target"),
        ({**MULTI, "sampler": "even"}, "sampler", "'proportional', 'uniform', 'temperature', 'capped' or 'dynamic'"),
        ({**MULTI, "temperature": 0.0}, "temperature", "say 1"),
        ({**MULTI, "cap": 0}, "cap", "say 1 or more"),
        ({**MULTI, "weights_rate": -1.0}, "weights_rate", "above 0"),
        ({**MULTI, "gradnorm_alpha": 0.0}, "gradnorm_alpha", "above 0"),
        ({**MULTI, "fixed": {"b": 0.0}}, "fixed.b", "above 0"),
        ({**MULTI, "fixed": {"bb": 2.0}}, "fixed.bb", "did you mean 'b'"),
        ({**MULTI, "fixed": {"b": 2.0}, "weights": "gradnorm"}, "fixed", "weights = 'fixed'"),
        ({**MULTI, "batches": "homogeneous", "conflict": "pcgrad"}, "conflict", "batches = 'heterogeneous'"),
        ({**MULTI, "batches": "homogeneous", "weights": "gradnorm"}, "weights", "batches = 'heterogeneous'"),
        ({"kind": "multitask_all", "weights": "gradnorm"}, "sources", "nothing to train jointly"),
        ({**MULTI, "epoch": "shortest", "recipe": {"batch_size": 1}}, "epoch", "batch_size to 2"),
        (
            {**MULTI, "sampler": "dynamic", "recipe": {"checkpoint": "last", "patience": 0}},
            "sampler", "set checkpoint = 'best' or a patience",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(
    bert: Path, tmp_path: Path, command: Command, table: dict[str, Any], place: str, told: str
) -> None:
    uses = ["a", "b"] if "b" in table.get("sources", ()) else ["a"]
    path = write_study(tmp_path / "study.toml", words(bert, tmp_path, ["a"], {"m": table}, uses=uses))
    ran = command("plan", path)
    shown = " ".join(ran.err.split())
    assert ran.code == 2, ran.out + ran.err
    assert f"strategies.m.{place}:" in shown
    assert told in shown


def test_all_that_is_wrong_with_a_table_is_told_at_once(bert: Path, tmp_path: Path) -> None:
    table = {"kind": "multitask", "cap": 0, "temperature": 0.5, "weights_rate": 0.0}
    with pytest.raises(StudyError) as error:
        Study(**words(bert, tmp_path, ["a"], {"m": table}))
    assert len(error.value.problems) == 4


def test_a_sweep_says_nothing_for_a_joint_training(bert: Path, tmp_path: Path) -> None:
    study = words(bert, tmp_path, ["a"], {"m": MULTI}, uses=["a", "b"], sweep={"learning_rate": [1e-3, 1e-4]})
    with pytest.raises(StudyError, match=r"^sweep: (?s:.*)\[recipe.role.joint\].*learning_rate"):
        compile_plan(Study(**study))
    said = {**FAST, "role": {"joint": {"learning_rate": 5e-4}}}
    (joint,) = joints(compile_plan(Study(**{**study, "recipe": said})))
    assert joint.recipe.learning_rate == 5e-4
    assert joint.recipe_from is None


def test_a_recipe_for_joint_trainings_needs_one(bert: Path, tmp_path: Path) -> None:
    said = {**FAST, "role": {"joint": {"epochs": 2}}}
    with pytest.raises(StudyError, match="no role 'joint'"):
        Study(**words(bert, tmp_path, ["a"], {"direct": DIRECT}, recipe=said))


# what comes of it


def test_a_grid_by_the_command(grid: dict[str, Any], tmp_path: Path, command: Command) -> None:
    grid["contrast"] = [{"of": ["pairs", "all"], "against": "direct"}]
    path, store = write_study(tmp_path / "study.toml", grid), tmp_path / "store"
    ran = command("run", path, "--store", store)
    assert ran.code == 0, ran.out + ran.err
    assert "16 steps run" in ran.out  # 3 alone, 3 pairs and their 6 members, all and its 3
    assert command("store", "verify", "--store", store).code == 0
    assert command("observations", path, "--store", store, "--out", tmp_path / "o.csv").code == 0
    with (tmp_path / "o.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["primary"] == "True"]
    cells = {(row["strategy"], row["source"], row["target"]): float(row["value"]) for row in rows}
    assert len(cells) == len(rows) == 3 + 6 + 3
    assert all(row["status"] == "ok" or row["status"].startswith("degenerate") for row in rows)
    assert command("report", path, "--store", store, "--out", tmp_path / "r.html").code == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "a + b" in page
    again = command("run", path, "--store", store)
    assert again.code == 0
    assert "0 steps run, 16 reused" in again.out


def test_a_member_is_what_its_joint_training_found_out_about_its_task(bert: Path, tmp_path: Path) -> None:
    study = words(bert, tmp_path, ["a", "b"], {"all": {"kind": "multitask_all", "conflict": "log"}})
    session = Session.open(Study(**study), store=tmp_path / "store")
    session = session.keeping(["a + b (log) → b"])
    assert session.run().complete
    store, plan = session.store, session.plan
    key = plan.find("a + b (log) → b")
    joint = plan.find("a + b (log) ·")
    rows = store.read(joint, "observations.jsonl")
    assert {row["task"] for row in rows} == {"a", "b"}
    assert store.read(key, "observations.jsonl") == [
        {name: value for name, value in row.items() if name != "task"} for row in rows if row["task"] == "b"
    ]
    facts = store.read(key, "provenance.json")
    assert facts["seconds"] == 0
    assert facts["examples"] == {"train": 22, "selection": 2, "validation": 12}
    assert store.read(joint, "provenance.json")["seconds"] > 0
    curve = store.read(joint, "curve.jsonl")
    assert set(curve[-1]) >= {"tasks", "probabilities", "weights", "cosines", "selection", "loss"}
    assert -1 <= curve[-1]["cosines"]["a · b"] <= 1
    folder = store.weights(key)
    assert folder is not None
    assert json.loads((folder / "head.json").read_text(encoding="utf-8"))["task"] == "b"
    assert store.weights(plan.find("a + b (log) → a")) is None
    exported = session.export("a + b (log) → b", tmp_path / "model")
    assert exported.model == "BertForSequenceClassification"
    lineage = json.loads((tmp_path / "model" / "layover.json").read_text(encoding="utf-8"))["steps"]
    assert [step["kind"] for step in lineage] == ["joint", "member"]


def test_a_joint_training_itself_is_no_model_to_export(bert: Path, tmp_path: Path, command: Command) -> None:
    path = write_study(tmp_path / "study.toml", words(bert, tmp_path, ["a", "b"], {"all": {"kind": "multitask_all"}}))
    assert command("run", path, "--store", tmp_path / "store").code == 0
    ran = command("store", "export", "a + b ·", tmp_path / "model", "--store", tmp_path / "store")
    assert ran.code == 2
    assert "name one of its members" in ran.err


def test_results_are_the_same_in_another_store_and_under_another_order_of_targets(bert: Path, tmp_path: Path) -> None:
    def run(targets: list[str], where: str) -> dict[str, bytes]:
        study = words(bert, tmp_path, targets, {"all": {"kind": "multitask_all", "sampler": "uniform"}})
        session = Session.open(Study(**study), store=tmp_path / where)
        assert session.run().complete
        return numbers(tmp_path / where)

    assert run(["a", "b"], "one") == run(["b", "a"], "two")


# text mixed into intermediate stages


def test_an_intermediate_stage_is_mixed_with_a_text(bert: Path, tmp_path: Path) -> None:
    table = {"kind": "stilts", "sources": ["b"], "text": "d", "text_cap": 6}
    plan = compile_plan(Study(**words(bert, tmp_path, ["a"], {"s": table}, uses=["a", "b", "d"])))
    (joint,) = joints(plan)
    assert names(joint) == ["b", "d"]
    assert joint.mixture == Mixture(sampler="capped", cap=6)
    target = next(plan.steps[s.key] for s in plan.scores if s.role == "target")
    assert isinstance(target, Train)
    before = plan.steps[target.start or ""]
    assert isinstance(before, Member)
    assert (before.task.name, before.of) == ("b", key_of(joint))
    assert {(s.target, s.role) for s in plan.scores} == {("a", "target"), ("b", "source")}
    assert {target.start, before.of} <= plan.kept()


def test_a_mixed_stage_hands_the_sources_best_weights_on(bert: Path, tmp_path: Path) -> None:
    table = {"kind": "stilts", "sources": ["b"], "text": "d", "text_cap": 6}
    study = words(bert, tmp_path, ["a"], {"s": table, "direct": DIRECT}, uses=["a", "b", "d"])
    session = Session.open(Study(**study), store=tmp_path / "store")
    assert session.run().complete
    joint = session.plan.find("b + d (capped) · s1")
    member = session.plan.find("b + d (capped) → b · s1")
    handed, own = (session.store.weights(key) for key in (member, joint))
    assert handed is not None
    assert own is not None
    same = [(handed / f).read_bytes() == (own / "0" / f).read_bytes() for f in ("encoder.safetensors", "head.json")]
    assert all(same)
    # an epoch reads 6 examples of each, which have 22, in batches of 8
    assert session.store.read(joint, "provenance.json")["steps"] == 2
    rows = session.observations()
    assert set(rows[rows.strategy == "s"].target) == {"a", "b"}


@pytest.mark.parametrize(("table", "place"), [({"text": "b"}, "text"), ({"text": "d", "text_cap": 0}, "text_cap")])
def test_a_text_that_makes_no_sense_is_refused(bert: Path, tmp_path: Path, table: dict[str, Any], place: str) -> None:
    uses = ["a", "b", *({table["text"]} - {"b"})]
    with pytest.raises(StudyError, match=f"strategies.s.{place}:"):
        Study(**words(bert, tmp_path, ["a"], {"s": {"kind": "stilts", "sources": ["b"], **table}}, uses=uses))

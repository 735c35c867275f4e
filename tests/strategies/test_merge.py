"""The strategy merge: what it plans, what it says of wrong settings, and a study from file to export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.kit import Command, own_table, study_words, write_study

from layover.encoders import Encoder
from layover.errors import StudyError
from layover.plan import Plan, compile_plan
from layover.session import Session
from layover.step import Merge, Train
from layover.study import Study

Words = dict[str, Any]


def words_of(folder: Path, merge: Words, **words: Any) -> Words:
    """A study with two sources, `one` and `two`, for the target `mine`."""
    task = {"mine": own_table(folder, "single"), "one": own_table(folder, "pair"), "two": own_table(folder, "value")}
    strategies = {"direct": {"kind": "direct"}, "soup": {"kind": "merge", **merge}}
    return study_words("bert", folder, **{"task": task, "strategies": strategies, **words})


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def find(name: str, base: Path | None = None) -> Encoder:
        return Encoder(name, f"sha256:{name}", f"/nowhere/{name}", 1000)

    monkeypatch.setattr("layover.encoders.find", find)
    return lambda merge, **words: compile_plan(Study(**words_of(tmp_path, merge, **words)))


def merges(plan: Plan) -> list[Merge]:
    return [step for step in plan.steps.values() if isinstance(step, Merge)]


# plan


def test_sources_are_trained_apart_merged_and_continued_on_the_target(planned: Any) -> None:
    plan = planned({"sources": ["one", "two"]}, seeds=[1, 2])
    for seed in (1, 2):
        key = plan.find(f"bert · one + two (average) · s{seed}")
        step, target = plan.steps[key], plan.steps[plan.find(f"bert · one + two (average) → mine · s{seed}")]
        assert isinstance(step, Merge)
        assert step.of == (plan.find(f"bert · one · s{seed}"), plan.find(f"bert · two · s{seed}"))
        assert isinstance(target, Train)
        assert (target.start, target.seed) == (key, seed)
        assert {key, *step.of} <= plan.kept()
    assert {(s.source, s.target, s.role) for s in plan.scores if s.strategy == "soup"} == {
        ("one + two", "mine", "target"), ("", "one", "source"), ("", "two", "source")
    }  # fmt: skip


def test_sources_are_shared_with_stilts_and_between_ways_to_merge(planned: Any) -> None:
    strategies = {
        "stilts": {"kind": "stilts", "sources": ["one", "two"]},
        "soup": {"kind": "merge", "sources": ["one", "two"]},
        "ties": {"kind": "merge", "sources": ["one", "two"], "method": "ties", "scale": 0.5, "density": 0.1},
    }
    plan = planned({}, strategies=strategies)
    labels = sorted(label for label in plan.labels.values() if "+" in label and "→" not in label)
    assert labels == ["bert · one + two (average) · s1", "bert · one + two (ties, scale 0.5, density 0.1) · s1"]
    assert len({step.of for step in merges(plan)}) == 1
    assert len(plan.steps) == 2 + 2 + 2 * 2  # two sources, two targets through one of them, and two mergers with theirs


def test_groups_are_columns(planned: Any) -> None:
    plan = planned({"groups": [["one", "two"], ["two", "mine"]]})
    assert {s.source for s in plan.scores if s.role == "target"} == {"", "one + two", "two + mine"}


def test_only_settings_that_change_the_merger_are_in_its_key(planned: Any) -> None:
    methods = ({}, {"method": "arithmetic"}, {"method": "arithmetic", "scale": 0.5}, {"method": "ties"},
               {"method": "ties", "density": 0.5})  # fmt: skip
    found = [merges(planned({"sources": ["one", "two"], **method}))[0] for method in methods]
    assert len(set(found)) == len(methods)


def test_mergers_that_differ_by_what_came_before_have_labels_of_their_own(planned: Any) -> None:
    merge = {"kind": "merge", "sources": ["one", "two"]}
    other = {**merge, "recipe": {"learning_rate": 1e-4}}
    plan = planned({}, strategies={"soup": merge, "slow": other})
    labels = [plan.labels[key] for key, step in plan.steps.items() if isinstance(step, Merge)]
    assert labels == ["bert · one + two (average) · s1", "bert · one + two (average) (slow) · s1"]


# wrong settings


@pytest.mark.parametrize(
    ("merge", "place", "told"),
    [
        ({}, "sources", "is missing"),
        ({"sources": ["one"]}, "sources", r"\['one'\] is nothing to merge"),
        ({"groups": [["one", "two"], ["two"]]}, "groups", r"\['two'\] is nothing to merge"),
        ({"groups": [["one", "one"]]}, "groups", "names a value twice"),
        ({"sources": ["one", "two"], "method": "mean"}, "method", "choices: average, arithmetic, ties"),
        ({"sources": ["one", "two"], "method": "ties", "density": 0.0}, "density", "0.0 is no share"),
        ({"sources": ["one", "two"], "method": "ties", "density": 1.5}, "density", "1.5 is no share"),
        ({"sources": ["one", "two"], "method": "arithmetic", "scale": 0.0}, "scale", "0.0 is not above 0"),
        ({"sources": ["one", "two"], "method": "arithmetic", "scale": float("nan")}, "scale", "nan is not above 0"),
        ({"sources": ["one", "two"], "scale": 0.5}, "scale", "is not used by method = 'average'"),
        ({"sources": ["one", "two"], "method": "arithmetic", "density": 0.5}, "density", "is not used"),
        ({"sources": ["one", "ttwo"]}, r"sources\[1\]", "did you mean 'two'"),
        ({"groups": [["one", "ttwo"]]}, r"groups\[1\]", "did you mean 'two'"),
        ({"sources": ["one", "two"], "weights": [1]}, "weights", "is not a key"),
    ],
)
def test_wrong_settings_are_told_with_their_place(tmp_path: Path, merge: Words, place: str, told: str) -> None:
    with pytest.raises(StudyError, match=rf"strategies\.soup\.{place}: (.|\n)*{told}"):
        Study(**words_of(tmp_path, merge))


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(StudyError) as caught:
        Study(**words_of(tmp_path, {"sources": ["one", "two"], "method": "ties", "scale": -1.0, "density": 2.0}))
    assert {problem.place for problem in caught.value.problems} >= {"strategies.soup.scale", "strategies.soup.density"}


# a study, from file to export


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    (tmp_path / "bert").symlink_to(bert)
    return write_study(tmp_path / "study.toml", words_of(tmp_path, {"sources": ["one", "two"], "method": "arithmetic"}))


def test_a_study_that_merges_from_plan_to_export(study: Path, bert: Path, command: Command, tmp_path: Path) -> None:
    ran = command("run", study, "--keep-weights", "→ mine")
    assert ran.code == 0, ran.err
    assert "5 steps run" in ran.out
    assert "bert · one + two (arithmetic) · s1" in ran.out
    session = Session.open(study)
    store, plan = session.store, session.plan
    key = plan.find("(arithmetic) · s1")

    # the merged weights are the plain ones and both changes, computed here once more
    plain = load_file(bert / "model.safetensors")
    one, two, both = (
        load_file(folder / "encoder.safetensors")
        for name in ("bert · one · s1", "bert · two · s1", key)
        if (folder := store.weights(plan.find(name)))
    )
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, one[name] + two[name] - plain[name], msg=name)
    assert any(not torch.equal(tensor, one[name]) for name, tensor in both.items())

    # what looks at stores and studies knows the merger
    assert command("run", study).out.count("5 reused") == 1
    assert "reuse: finished" in command("explain", study, key).out
    assert {step["action"] for step in command("status", study, "--json").json} == {"reuse"}
    assert command("store", "verify").code == 0
    kinds = {row["key"]: row["kind"] for row in command("store", "ls", "--json").json}
    assert kinds[key] == "merge"
    table = session.observations()
    assert table[table.strategy == "soup"].groupby("role").size().to_dict() == {"source": 4, "target": 2}
    target = table[(table.strategy == "soup") & (table.role == "target")]
    assert set(target.source) == {"one + two"}
    sizes = {name: store.read(plan.find(f"bert · {name} · s1"), "provenance.json")["examples"]["train"]
             for name in ("one", "two")}  # fmt: skip
    assert set(target.source_size) == {sum(sizes.values())}
    assert command("report", study, "--out", "r.html").code == 0
    assert "bert → one + two → mine · seed 1" in Path("r.html").read_text(encoding="utf-8")

    # an export says all that the model came from; the merger itself has no head
    assert command("store", "export", "→ mine", tmp_path / "model").code == 0
    lineage = json.loads((tmp_path / "model" / "layover.json").read_text(encoding="utf-8"))
    assert [step["kind"] for step in lineage["steps"]] == ["train", "train", "merge", "train"]
    assert "arithmetic of the above" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    refused = command("store", "export", key, tmp_path / "other")
    assert refused.code == 2
    assert "merged of several, which has no head" in " ".join(refused.err.split())

    # once everything is finished its weights are dropped, and made again where they are asked for
    assert command("store", "gc").code == 0
    assert store.weights(key) is None
    again = command("run", study, "--keep-weights", key)
    assert "3 steps run" in again.out, again.out + again.err
    assert store.weights(key) is not None

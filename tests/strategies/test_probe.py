"""Probe: the columns of its matrix, the steps of its cells, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, make_encoder, own_table, study_words, write_study

from layover.encoders import Encoder
from layover.errors import StudyError
from layover.plan import Plan, compile_plan
from layover.recipe import Recipe
from layover.step import Probe
from layover.study import Study


def plan_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int | None = 3, whole: dict[str, Any] | None = None,
    **table: Any,
) -> Plan:  # fmt: skip
    """The plan of a study with direct and probes, for an encoder of so many layers."""
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, "sha256:e", "/nowhere"))
    monkeypatch.setattr("layover.encoders.depth", lambda encoder: depth)
    strategies = {"direct": {"kind": "direct"}, "odd": {"kind": "probe", **table}}
    tasks = {"mine": own_table(tmp_path / "files", "single")}
    if "sources" in table:
        tasks["stop"] = own_table(tmp_path / "files", "pair")
    words = study_words("e", tmp_path, strategies=strategies, task=tasks, recipe=whole or {"epochs": 1})
    return compile_plan(Study(**words))


def probes(plan: Plan) -> dict[tuple[str, str], Probe]:
    """The step of every column: its source and condition."""
    found = {(score.source, score.condition): plan.steps[score.key] for score in plan.scores if score.strategy == "odd"}
    return {place: step for place, step in found.items() if isinstance(step, Probe)}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("all", [0, 1, 2, 3]), ([0, 3], [0, 3]), ("mix", ["mix"]), ("mean", ["mean"]),
     (["mix", 2, "mean"], ["mix", 2, "mean"]), (["all", "mix"], [0, 1, 2, 3, "mix"]), ([2, "all"], [2, 0, 1, 3])],
)  # fmt: skip
def test_columns(layers: Any, expected: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = probes(plan_of(tmp_path, monkeypatch, layers=layers))
    assert [step.layer for step in found.values()] == expected
    names = [name if isinstance(name, str) else f"layer {name}" for name in expected]
    assert list(found) == [("", name) for name in names]


def test_a_step_is_complete_and_labelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, monkeypatch, layers=[2], head="mlp", sources=["stop"])
    [(place, step)] = probes(plan).items()
    assert place == ("stop", "layer 2")
    assert (step.layer, step.head, step.seed, step.encoder) == (2, "mlp", 1, "sha256:e")
    assert plan.labels[step.start or ""] == "e · stop · s1"
    assert "e · stop → mine probe layer 2 mlp · s1" in plan.labels.values()
    assert plan.kept() == {step.start}


def test_what_keeps_encoders_from_forgetting_is_no_part_of_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"epochs": 3, "learning_rate": 1e-3, "layer_decay": 0.9, "reset_rate": 5.0, "l2sp": 0.1}
    [step] = probes(plan_of(tmp_path, monkeypatch, whole=recipe, layers=[1])).values()
    assert step.recipe == Recipe(epochs=3, learning_rate=1e-3)


def test_probes_have_a_recipe_of_their_own_where_the_study_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, monkeypatch, layers=[1], recipe={"learning_rate": 1e-3})
    assert [step.recipe.learning_rate for step in plan.steps.values()] == [2e-5, 1e-3]  # type: ignore[union-attr]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "too deep": ({"layers": [1, 4]}, r"odd.layers: 4 does not fit .* 3 layers\n    choices: 0 \(.*\) to 3, all"),
    "below": ({"layers": [-1]}, "odd.layers: -1 does not fit the encoder"),
    "a word": ({"layers": ["top"]}, "odd.layers: 'top' is no layer\n    choices: a number, all, mean, mix"),
    "one word": ({"layers": "top"}, "odd.layers: 'top' is no layer"),
    "twice": ({"layers": [1, 1]}, "odd.layers: names a value twice"),
    "none": ({"layers": []}, "odd.layers: is empty"),
    "head": ({"head": "deep"}, "odd.head: 'deep': .*'linear' or 'mlp'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_with_its_place_and_choices(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, told = WRONG[what]
    with pytest.raises(StudyError, match=told):
        plan_of(tmp_path, monkeypatch, **table)


def test_an_encoder_of_unknown_depth_can_be_probed_where_its_depth_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(probes(plan_of(tmp_path, monkeypatch, None, layers=[0, 9, "mix"]))) == 3
    with pytest.raises(StudyError, match=r"strategies\.odd\.layers: 'all' needs the encoder's number of layers"):
        plan_of(tmp_path, monkeypatch, None)
    with pytest.raises(StudyError, match=r"-1 is no layer\n    choices: 0 \(the embeddings\) or more"):
        plan_of(tmp_path, monkeypatch, None, layers=[-1])


def test_a_study_of_probes_runs_by_the_command(command: Command, tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path / "tiny", "roberta")
    strategies = {
        "direct": {"kind": "direct"},
        "layers": {"kind": "probe", "layers": ["all", "mix"], "recipe": {"learning_rate": 1e-3, "pooling": "mean"}},
        "after": {"kind": "probe", "layers": [2], "head": "mlp", "sources": ["stop"]},
    }
    words = study_words(encoder, tmp_path / "files", strategies=strategies)
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    assert "probe layer 0" in command("plan", study, "--store", store).out
    ran = command("run", study, "--store", store)
    assert ran.code == 0, ran.err
    assert "7 steps run, 0 reused, 0 failed" in ran.out
    table = command("observations", study, "--store", store).out
    for condition in ("layer 0", "layer 1", "layer 2", "mix"):
        assert f"layers,,{condition},mine" in table
    assert "after,stop,layer 2,mine" in table
    assert command("report", study, "--store", store, "--out", tmp_path / "r.html").code == 0
    kept = command("run", study, "--store", store, "--keep-weights", "probe mix")
    assert kept.code == 2
    assert "is a probe, which has no weights" in kept.err
    exported = command("store", "export", "probe mix", tmp_path / "model", "--store", store)
    assert exported.code == 2
    assert "is a probe, which has no weights" in exported.err
    assert "0 steps run" in command("run", study, "--store", store).out


def test_a_probe_takes_what_a_sweep_chose_but_nothing_that_only_an_encoder_has(
    command: Command, tmp_path: Path
) -> None:
    encoder = make_encoder(tmp_path / "tiny", "bert")
    tasks = {"mine": own_table(tmp_path / "files", "single")}
    words = study_words(
        encoder, tmp_path / "files", strategies={"probe": {"kind": "probe", "layers": ["mix"]}}, task=tasks,
        sweep={"learning_rate": [1e-3, 1e-4], "layer_decay": [0.9]},
    )  # fmt: skip
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    ran = command("run", study, "--store", store)
    assert ran.code == 0, ran.err
    [probe] = (path.parent for path in store.glob("steps/*/step.json") if '"probe"' in path.read_text())
    used = json.loads((probe / "provenance.json").read_text())["recipe"]
    assert used["learning_rate"] in (1e-3, 1e-4)
    assert used["layer_decay"] == 1.0

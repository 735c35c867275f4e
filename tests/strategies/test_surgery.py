"""Reinit and permute: the columns of their matrices, the steps of their cells, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, HERE, Command, make_encoder, own_table, study_words, write_study

from layover.encoders import Encoder
from layover.errors import StudyError, UserError
from layover.plan import Plan, compile_plan
from layover.session import Session
from layover.step import Surgery, Train
from layover.strategies.surgery import Permute, Reinit, Truncate, permutation
from layover.study import Study


def plan_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, depth: int | None = 6, **table: Any) -> Plan:
    """The plan of a study with direct and one other strategy, for an encoder of so many layers."""
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, "sha256:e", "/nowhere"))
    monkeypatch.setattr("layover.encoders.depth", lambda encoder: depth)
    strategies = {"direct": {"kind": "direct"}, "odd": table}
    tasks = {"mine": own_table(tmp_path / "files", "single")}
    if "sources" in table:
        tasks["stop"] = own_table(tmp_path / "files", "pair")
    return compile_plan(Study(**study_words("e", tmp_path, strategies=strategies, task=tasks)))


def cells(plan: Plan) -> dict[str, Train]:
    """The step of every condition of the strategy."""
    found = {score.condition: plan.steps[score.key] for score in plan.scores if score.strategy == "odd"}
    assert all(isinstance(step, Train) for step in found.values())
    return found  # type: ignore[return-value]


def resets(plan: Plan) -> dict[str, tuple[int, ...]]:
    return {name: step.surgery.reset if step.surgery else () for name, step in cells(plan).items()}


ASKED: dict[str, tuple[dict[str, Any], dict[str, tuple[int, ...]]]] = {
    "progressive": ({"keep": [0, 4, 6]}, {"keep 0": (0, 1, 2, 3, 4, 5), "keep 4": (4, 5), "keep 6": ()}),
    "all depths": ({"keep": "all"}, {f"keep {k}": tuple(range(k, 6)) for k in range(7)}),
    "blocks": (
        {"blocks": 3},
        {"block 0-2": (0, 1, 2), "block 1-3": (1, 2, 3), "block 2-4": (2, 3, 4), "block 3-5": (3, 4, 5)},
    ),
    "but a block": ({"blocks": 5, "inverse": True}, {"all but 0-4": (5,), "all but 1-5": (0,)}),
    "the whole": ({"blocks": 6}, {"block 0-5": (0, 1, 2, 3, 4, 5)}),
    "single": ({"layers": [5, 0]}, {"layer 5": (5,), "layer 0": (0,)}),
    "every one": ({"layers": "all"}, {f"layer {k}": (k,) for k in range(6)}),
    "but one": ({"layers": [1], "inverse": True}, {"all but 1": (0, 2, 3, 4, 5)}),
    "halves": ({"alternate": ["even", "odd"]}, {"even layers": (0, 2, 4), "odd layers": (1, 3, 5)}),
}


@pytest.mark.parametrize("what", ASKED)
def test_conditions_and_the_layers_that_they_reset(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, expected = ASKED[what]
    assert resets(plan_of(tmp_path, monkeypatch, kind="reinit", **table)) == expected


def test_a_step_says_how_its_layers_are_reset_and_its_label_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"layer_norm": "kept", "biases": "reset", "init": "released"}
    plan = plan_of(tmp_path, monkeypatch, kind="reinit", keep=[5], **how)
    [step] = cells(plan).values()
    assert step.surgery == Surgery((5,), "kept", "reset", "released")
    assert list(plan.labels.values()) == ["e · mine · s1", "e · mine keep 5 · s1"]


def test_keeping_all_layers_is_direct_and_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, monkeypatch, kind="reinit", keep=[6], init="released")
    assert len(plan.steps) == 1
    assert len({score.key for score in plan.scores}) == 1
    identity = next(seed for seed in range(99) if permutation(2, seed) == (0, 1))
    assert len(plan_of(tmp_path, monkeypatch, 2, kind="permute", permutations=[identity]).steps) == 1


@pytest.mark.parametrize("table", [{"kind": "reinit", "keep": [3, 6]}, {"kind": "permute", "permutations": [1, 2]}])
def test_after_a_source_the_same_is_done_to_its_encoder(
    table: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, monkeypatch, sources=["stop"], **table)
    source = next(key for key, label in plan.labels.items() if label == "e · stop · s1")
    found = [score for score in plan.scores if score.strategy == "odd" and score.role == "target"]
    assert {score.source for score in found} == {"stop"}
    assert [plan.steps[score.key].parents for score in found] == [(source,)] * 2
    assert plan.kept() == {source}
    assert all("stop → mine " in plan.labels[s.key] for s in found if plan.steps[s.key].surgery)  # type: ignore[union-attr]


def test_a_permutation_is_the_same_everywhere_and_its_seed_alone_decides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert permutation(12, 1) == (10, 0, 11, 8, 2, 7, 5, 1, 6, 9, 3, 4)  # a changed one would be another experiment
    assert len({permutation(12, seed) for seed in range(50)}) == 50
    assert all(sorted(permutation(7, seed)) == list(range(7)) for seed in range(50))
    first = [permutation(4, seed)[0] for seed in range(2000)]
    assert all(450 < first.count(layer) < 550 for layer in range(4))
    found = cells(plan_of(tmp_path, monkeypatch, kind="permute", permutations=[1, 7]))
    assert {name: step.surgery for name, step in found.items()} == {
        f"permutation {n}": Surgery(order=permutation(6, n)) for n in (1, 7)
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "strategies.odd: says nothing of which layers are reset\n    give one of: keep, blocks, layers"),
    "two ways": ({"keep": [1], "blocks": 2}, "strategies.odd: keep and blocks say different things"),
    "inverse of keep": ({"keep": [1], "inverse": True}, "strategies.odd.inverse: does not go with keep"),
    "a word": ({"keep": "some"}, "strategies.odd.keep: 'some' is no list of numbers\n    or say 'all'"),
    "twice": ({"layers": [1, 1]}, r"strategies.odd.layers: names a value twice: \[1, 1\]"),
    "parity": ({"alternate": ["third"]}, "strategies.odd.alternate: 'third' is no half .*\n    choices: even, odd"),
    "negative block": ({"blocks": -1}, "strategies.odd.blocks: -1 is no number of layers"),
    "init": ({"keep": [1], "init": "fancy"}, "strategies.odd.init: 'fancy': .*'intended' or 'released'"),
    "too deep": ({"keep": [2, 7]}, "odd.keep: 7 does not fit the encoder, which has 6 layers\n    choices: 0 to 6"),
    "no layer": ({"layers": [6]}, "strategies.odd.layers: 6 does not fit .* 6 layers\n    choices: 0 to 5, or 'all'"),
    "below": ({"keep": [-1]}, "strategies.odd.keep: -1 does not fit the encoder"),
    "large block": (
        {"blocks": 7},
        "strategies.odd.blocks: a block of 7 does not fit into the encoder's 6 layers\n    choices: 1 to 6",
    ),
    "no such task": ({"keep": [1], "sources": ["nowhere"]}, r"strategies.odd.sources\[0\]"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_does_not_fit_is_refused_with_its_place_and_choices(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, told = WRONG[what]
    with pytest.raises(StudyError, match=told):
        plan_of(tmp_path, monkeypatch, kind="reinit", **table)


def test_truncate_cuts_the_encoder_and_trains_the_head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, monkeypatch, kind="truncate", keep=[1, 5, 6])
    found = cells(plan)
    assert {name: step.surgery and step.surgery.depth for name, step in found.items()} == {
        "keep 1": 1, "keep 5": 5, "keep 6": None
    }  # fmt: skip
    assert {step.recipe.freeze for step in found.values()} == {"encoder"}
    assert "e · mine frozen keep 5 · s1" in plan.labels.values()
    assert len(plan.steps) == 4
    assert list(cells(plan_of(tmp_path, monkeypatch, kind="truncate"))) == [f"keep {k}" for k in range(1, 7)]
    with pytest.raises(StudyError, match=r"odd\.keep: 0 does not fit .* 6 layers\n    choices: 1 to 6"):
        plan_of(tmp_path, monkeypatch, kind="truncate", keep=[0])
    with pytest.raises(StudyError, match="keep: is empty"):
        Truncate(())


def test_of_a_truncated_encoder_nothing_is_trained_and_it_scores_as_a_probe_of_that_layer(tmp_path: Path) -> None:
    pytest.importorskip("layover.train.remedies", reason="freezing is one of the remedies")
    from safetensors.torch import load_file

    encoder = make_encoder(tmp_path / "tiny", "bert")
    strategies = {"cut": {"kind": "truncate", "keep": [1]}, "probe": {"kind": "probe", "layers": [1]}}
    recipe = {**FAST, "epochs": 3, "dropout": 0.0, "learning_rate": 0.01, "adam_epsilon": 1e-4}
    tasks = {"mine": own_table(tmp_path / "files", "single")}
    words = study_words(encoder, tmp_path, strategies=strategies, task=tasks, recipe=recipe)
    session = Session.open(Study(**words), tmp_path / "store")
    kinds = {step.kind: key for key, step in session.plan.steps.items()}
    cut, probe = kinds["train"], kinds["probe"]
    assert session.keeping([cut]).run().complete
    weights = session.store.weights(cut)
    assert weights is not None
    before, after = load_file(encoder / "model.safetensors"), load_file(weights / "encoder.safetensors")
    assert all(".layer.1." not in name for name in after)
    assert any(".layer.0." in name for name in after)
    assert all(before[name].equal(tensor) for name, tensor in after.items())
    losses = [
        [json.loads(line)["loss"] for line in (session.store.folder(k) / "curve.jsonl").open()] for k in (cut, probe)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_permute_refuses_none_and_repeated_seeds() -> None:
    with pytest.raises(StudyError, match="permutations: is missing"):
        Permute()
    with pytest.raises(StudyError, match="permutations: names a value twice"):
        Permute((1, 1))


def test_an_encoder_of_unknown_depth_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: tuple[dict[str, Any], ...] = ({"kind": "reinit", "keep": [1]}, {"kind": "permute", "permutations": [1]})
    for table in tables:
        with pytest.raises(StudyError, match=r"strategies\.odd: needs the encoder's number of layers"):
            plan_of(tmp_path, monkeypatch, None, **table)
    assert len(Reinit(alternate=("odd",)).columns(1)) == 1


def test_a_study_of_every_operation_runs_by_the_command(command: Command, tmp_path: Path) -> None:
    encoder = make_encoder(tmp_path / "tiny", "modernbert")
    strategies = {
        "direct": {"kind": "direct"},
        "progressive": {"kind": "reinit", "keep": [0, 1, 2], "init": "released"},
        "localized": {"kind": "reinit", "blocks": 1, "inverse": True, "sources": ["stop"]},
        "permuted": {"kind": "permute", "permutations": [2]},
    }
    words = study_words(
        encoder, tmp_path / "files", strategies=strategies, recipe={**FAST, "reset_rate": 5.0}, placement=HERE
    )
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    ran = command("run", study, "--store", store)
    assert ran.code == 0, ran.err
    assert "7 steps run, 0 reused, 0 failed" in ran.out
    table = command("observations", study, "--store", store).out
    for condition in ("keep 0", "keep 1", "keep 2", "all but 0", "all but 1", "permutation 2"):
        assert f",{condition}," in table
    assert command("report", study, "--store", store, "--out", tmp_path / "r.html").code == 0
    assert "permutation 2" in (tmp_path / "r.html").read_text(encoding="utf-8")
    again = command("run", study, "--store", store)
    assert "0 steps run" in again.out
    refused = write_study(
        tmp_path / "bad.toml", {**words, "strategies": {**strategies, "x": {"kind": "reinit", "keep": [3]}}}
    )
    ran = command("plan", refused, "--store", store)
    assert ran.code == 2
    assert "strategies.x.keep: 3 does not fit the encoder, which has 2 layers" in ran.err


def test_an_operated_encoder_is_exported_where_transformers_has_such_a_one(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    for family, moved in (("roberta", True), ("modernbert", False)):
        encoder = make_encoder(tmp_path / family, family)
        seed = next(seed for seed in range(99) if permutation(2, seed) == (1, 0))
        strategies = {"permuted": {"kind": "permute", "permutations": [seed]}, "half": {"kind": "reinit", "keep": [1]}}
        tasks = {"mine": own_table(tmp_path / "files", "single")}
        words = study_words(encoder, tmp_path, strategies=strategies, task=tasks)
        session = Session.open(Study(**words), tmp_path / f"store-{family}").keeping(["keep 1", "permutation"])
        assert session.run().complete
        session.export("keep 1", tmp_path / f"{family}-half")
        if not moved:
            with pytest.raises(UserError, match="holds other weights"):
                session.export("permutation", tmp_path / f"{family}-moved")
            continue
        session.export("permutation", tmp_path / f"{family}-moved")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / f"{family}-moved")
        assert model.config.layover_layers == [1, 0]

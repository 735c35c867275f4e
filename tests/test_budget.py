"""Budgets: operations, hours and disk of a plan by the formula, worked out again by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, publish_fake, study_words, write_rows, write_study

from layover.budget import PEAKS, UTILISATION, budget, evaluations, operations
from layover.encoders import SHAPES, Encoder, Shape
from layover.errors import UserError
from layover.files import write_json
from layover.integrity import seal
from layover.plan import Plan, compile_plan
from layover.recipe import Recipe
from layover.step import Joint, Mixture, Probe, Surgery, TaskRef, Train
from layover.store import Store
from layover.study import Study
from layover.tasks import TASKS
from layover.tasks.extent import STATED, Extent, extent
from layover.tasks.load import Source, locate

SHAPE = Shape(2, 10, 5000)
LAYERS = 12 * 2 * 10 * 10
OF = {"a": Extent(100, 20, 8.0), "b": Extent(1000, 40, 6.0), "c": Extent(50, 10, 40.0, inputs=2.0)}


def ref(name: str, **words: Any) -> TaskRef:
    return TaskRef(name, 1, "sha256:0", "accuracy", **{"selection": "validation", **words})


def train(name: str = "a", recipe: Recipe | None = None, **words: Any) -> Train:
    plain = Recipe(epochs=3, batch_size=10, patience=0, checkpoint="last")
    return Train("e", words.pop("task", ref(name)), recipe or plain, 1, **words)


def test_training_on_a_token_costs_six_times_the_parameters_and_reading_it_two() -> None:
    tokens, flops = operations(train(), SHAPE, OF)
    assert tokens == 100 * 3 * 8
    assert flops == LAYERS * (6 * 100 * 3 * 8 + 2 * 20 * 8)


def test_evaluations_on_the_selection_set_are_counted() -> None:
    recipe = Recipe(epochs=3, batch_size=10, evaluate_every=7)
    assert evaluations(recipe, 100) == 5  # of 30 steps
    _, flops = operations(train(recipe=recipe), SHAPE, OF)
    assert flops == LAYERS * (6 * 2400 + 2 * 20 * 8 * (5 + 1))
    assert evaluations(Recipe(epochs=3, evaluations_per_epoch=2), 100) == 6


def test_what_shortens_or_lengthens_a_training() -> None:
    assert operations(train(task=ref("a", limit_train=40)), SHAPE, OF)[0] == 40 * 3 * 8
    assert operations(train("c", Recipe(epochs=1, max_length=10)), SHAPE, OF)[0] == 50 * 2 * 10  # inputs are cut
    steps = Recipe(batch_size=10, max_steps=25)
    assert operations(train(recipe=steps), SHAPE, OF)[0] == pytest.approx(25 * 10 * 8)
    holdout = Recipe(epochs=1)
    assert operations(train(recipe=holdout, task=ref("a", selection="holdout")), SHAPE, OF)[0] == 90 * 8


def test_a_frozen_or_shorter_encoder_costs_less() -> None:
    frozen = Recipe(epochs=3, batch_size=10, patience=0, checkpoint="last", freeze="encoder")
    assert operations(train(recipe=frozen), SHAPE, OF)[1] == LAYERS * 2 * (2400 + 160)
    half = operations(train(surgery=Surgery(depth=1)), SHAPE, OF)[1]
    assert half == operations(train(), SHAPE, OF)[1] / 2
    probe = Probe("e", ref("a"), Recipe(epochs=9), 1, "mean")
    assert operations(probe, SHAPE, OF) == (0.0, LAYERS * 2 * (100 * 8 + 20 * 8))


def test_a_joint_epoch_that_ends_with_the_shortest_task_is_short() -> None:
    recipe = Recipe(epochs=1, batch_size=10, patience=0, checkpoint="last")
    made = {
        mixture.epoch: operations(Joint("e", (ref("a"), ref("b")), recipe, 1, mixture), SHAPE, OF)
        for mixture in (Mixture(sampler="uniform", epoch="shortest"), Mixture(sampler="uniform", epoch="full"))
    }
    assert made["shortest"][0] == 100 * 8 + 100 * 6
    assert made["full"][0] == 100 * 8 + 1000 * 6


def test_hours_are_operations_by_a_share_of_the_peak(tmp_path: Path) -> None:
    plan, store = _plan(tmp_path), Store.open(tmp_path / "store")
    found = budget(plan, store, plan.steps, "v100")
    assert found.speed == PEAKS["v100"] * 1e12 * UTILISATION
    assert found.hours == pytest.approx(found.flops / (125e12 * 0.35) / 3600)
    assert not found.measured
    # the one source's weights are kept: two seeds of minilm, four bytes to a parameter
    assert found.weights / 2 / 4 == pytest.approx(22_713_216, rel=1e-3)
    with pytest.raises(UserError, match="choices: a100"):
        budget(plan, store, plan.steps, "abacus")


def test_a_speed_that_was_measured_wins(tmp_path: Path) -> None:
    plan, store = _plan(tmp_path), Store.open(tmp_path / "store")
    step = next(step for step in plan.steps.values() if isinstance(step, Train))
    key = publish_fake(store, step)
    facts = {**store.read(key, "provenance.json"), "device": "NVIDIA A100-SXM4", "tokens": 5000, "seconds": 2.0}
    write_json(store.folder(key) / "provenance.json", facts)
    seal(store.folder(key))
    found = budget(plan, store, plan.steps, "a100")
    assert found.measured
    assert found.speed == 6 * 12 * 6 * 384**2 * 5000 / 2.0
    assert not budget(plan, store, plan.steps, "h100").measured


def test_a_plan_says_what_it_asks_for(tmp_path: Path, command: Command) -> None:
    study = write_study(tmp_path / "study.toml", study_words("minilm", tmp_path, seeds=[1, 2]))
    said = command("plan", study, "--store", tmp_path / "store", "--device", "a100").out
    assert "operations for" in said
    assert "on one a100 (109.2 TFLOPS, 35% of its peak)" in said
    found = command("plan", study, "--store", tmp_path / "store", "--device", "a100", "--json").json
    assert (found["trainings"], found["requested_trainings"], found["cells"]) == (6, 6, 6)
    assert found["budget"]["gpu_hours"] == pytest.approx(found["budget"]["flops"] / 109.2e12 / 3600)
    assert found["budget"]["known"] == {"data": 2, "published": 0, "guessed": 0}
    assert command("plan", study, "--store", tmp_path / "store", "--device", "abacus").code == 2


def _plan(folder: Path) -> Plan:
    return compile_plan(Study(**study_words("minilm", folder, seeds=[1, 2])))


# extents


def test_an_extent_is_that_of_the_data_where_it_is_here(tmp_path: Path) -> None:
    text = "x" * 89  # and a blank: twenty tokens of four and a half characters
    for split, n in (("train", 300), ("validation", 7)):
        write_rows(tmp_path / "sst2" / f"{split}.jsonl", [{"sentence": text, "label": 0}] * n)
    task = TASKS.get("sst2")
    assert extent(task, locate(task, [tmp_path])) == Extent(300, 7, 23.0)


def test_an_extent_is_that_of_the_publication_elsewhere() -> None:
    task = TASKS.get("hellaswag")
    train_rows, validation, tokens, choices = STATED["hellaswag"]
    found = extent(task, Source("hub:x", {}))
    assert found == Extent(train_rows, validation, tokens * choices, choices, "published")
    assert (train_rows, validation) == task.published


def test_stated_sizes_are_those_that_the_catalogue_says_are_published() -> None:
    """But for those of which the papers count other things than rows, and edge probing's of which a part is dropped."""
    counted_otherwise = {"multirc", "record", "edge_dep_ewt", "aj_wh", "aj_coord"}
    for name, (train_rows, validation, *_) in STATED.items():
        published = TASKS.get(name).published
        if published and name not in counted_otherwise:
            assert (train_rows, validation) == published, name


def test_well_known_encoders_are_as_large_as_their_names_say() -> None:
    layers = {name: 12 * one.layers * one.width**2 for name, one in SHAPES.items()}
    assert all(0.4 < layers[name] / one.parameters < 0.95 for name, one in SHAPES.items())
    from layover import encoders

    assert encoders.depth(Encoder("roberta-large", "absent:", "roberta-large@0123")) == 24
    assert encoders.depth(Encoder("mine", "absent:", "somebody/mine")) is None

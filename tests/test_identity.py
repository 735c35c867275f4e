"""Keys: equal for equal content everywhere, different for any difference, and frozen over versions."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import a_train

from layover import identity
from layover.errors import StoreError
from layover.identity import canonical, key, neutral
from layover.step import Choose, Recipe, Step, Surgery, TaskRef, Train, from_json, key_of, to_json

GOLDEN = Path(__file__).parent / "golden" / "keys.json"

DECLARATION = {
    "format": "choice", "context": "story", "choices": ["a", "b"], "question": None, "label": "right", "range": None,
    "spellings": {"y": "0"}, "labels": [],
}  # fmt: skip
OWN = TaskRef(
    "mine", 1, "sha256:" + "1" * 64, "accuracy", limit_train=100, selection="validation", declaration=DECLARATION
)
STEPS: dict[str, Step] = {
    "plain training": a_train(),
    "continued training": a_train(
        encoder="hub:roberta-large@" + "a" * 40,
        task=TaskRef("copa", 1, "hub:aps/super_glue/copa@" + "b" * 40, "accuracy", None, 50, "validation", 0.2),
        recipe=Recipe(
            5e-6, 4, 40, 512, 0.2, "output", "mean", 0.06, "constant", 0.0, 1e-8, 5.0, 100, 0, "last", "bf16"
        ),
        seed=3,
        start="0123456789abcdef",
        recipe_from="fedcba9876543210",
    ),
    "own task": a_train(task=OWN),
    "choice": Choose(("0123456789abcdef", "fedcba9876543210"), ("learning_rate", "dropout")),
}


def test_keys_are_those_of_every_version_before() -> None:
    assert {name: key_of(step) for name, step in STEPS.items()} == json.loads(GOLDEN.read_text())


def test_a_key_is_the_same_in_every_process() -> None:
    program = "from tests.test_identity import *; print(json.dumps({n: key_of(s) for n, s in STEPS.items()}))"
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(identity.__file__).parents[1])])
    for seed in ("0", "1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        ran = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(ran.stdout) == json.loads(GOLDEN.read_text())


def test_the_order_of_a_mapping_does_not_matter() -> None:
    turned = dict(reversed(DECLARATION.items()))
    assert list(turned) != list(DECLARATION)
    assert key_of(a_train(task=dataclasses.replace(OWN, declaration=turned))) == key_of(STEPS["own task"])
    assert key("x", OrderedDict(a=1, b=2)) == key("x", {"b": 2, "a": 1})


def test_the_order_of_a_list_and_the_kind_matter() -> None:
    assert key("x", [1, 2]) != key("x", [2, 1])
    assert key("x", [1]) != key("y", [1])


CHANGED: dict[type, dict[str, Any]] = {
    Train: {
        "encoder": "sha256:abd", "seed": 2, "start": "0" * 16, "recipe_from": "0" * 16,
        "task": OWN, "recipe": Recipe(1e-5), "surgery": Surgery(), "head": "carried",
    },
    Recipe: {
        "learning_rate": 1e-5, "batch_size": 33, "epochs": 3, "max_length": 128, "dropout": 0.0, "dropout_at": "output",
        "pooling": "mean", "warmup": 0.0, "schedule": "constant", "weight_decay": 0.0, "adam_epsilon": 1e-8,
        "max_grad_norm": 5.0, "evaluate_every": 10, "patience": None, "checkpoint": "last", "precision": "bf16",
        "l2sp": 0.1, "l2sp_head": 0.1, "ewc": 1.0, "ewc_examples": 9, "optimizer": "recadam",
        "recadam_k": 0.2, "recadam_t0": 9, "recadam_pull": 1.0, "mixout": 0.5, "layer_decay": 0.9, "freeze": "encoder",
        "lora": 8, "lora_alpha": 8.0, "lora_dropout": 0.1, "reset_rate": 5.0, "max_steps": 9,
        "evaluations_per_epoch": 2,
    },
    TaskRef: {
        "name": "cb", "version": 2, "data": "sha256:1", "select_by": "f1", "limit_train": 9, "limit_validation": 9,
        "selection": "validation", "holdout": 0.2, "declaration": {"format": "single"}, "drawn": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize("cls", CHANGED)
def test_every_field_moves_the_key(cls: type) -> None:
    assert {field.name for field in dataclasses.fields(cls)} == set(CHANGED[cls]), "a new field needs a value here"
    base = a_train()
    keys = {key_of(base)}
    for name, value in CHANGED[cls].items():
        if cls is Train:
            changed = dataclasses.replace(base, **{name: value})
        else:
            part = "recipe" if cls is Recipe else "task"
            changed = dataclasses.replace(base, **{part: dataclasses.replace(getattr(base, part), **{name: value})})
        keys.add(key_of(changed))
    assert len(keys) == 1 + len(CHANGED[cls])


def test_choose_is_its_steps_and_its_fields_in_order() -> None:
    of = ("a", "b")
    steps = [Choose(of, ("x",)), Choose(("b", "a"), ("x",)), Choose(of, ("y",)), Choose(of, ("x", "y"))]
    assert len({key_of(step) for step in steps}) == 4


def test_a_field_added_later_leaves_old_keys_while_it_is_neutral() -> None:
    @dataclasses.dataclass(frozen=True)
    class Before:
        size: int

    @dataclasses.dataclass(frozen=True)
    class After(Before):
        noise: float | None = neutral(None)
        flips: int = neutral(0)

    assert key("x", Before(1)) == key("x", After(1))
    others = [After(1, noise=0.0), After(1, flips=1), After(1, flips=False)]
    assert len({key("x", item) for item in [Before(1), *others]}) == 4


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, frozenset(), b"bytes", float("nan"), float("inf"), 1j, len, functools.partial(len), object(), Path("x"),
        Text("x"), Recipe, range(3), {1: "a"}, {None: 1},
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_has_no_single_form_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(TypeError, match=r"^recipe\.list\[1\]\.deep"):
        canonical({"recipe": {"list": [0, {"deep": value}]}})
    with pytest.raises(TypeError, match=r"^task\.declaration\.deep"):
        key_of(a_train(task=dataclasses.replace(OWN, declaration={"deep": value})))
    with pytest.raises(TypeError, match=r"^value"):
        canonical(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
    max_leaves=20,
)


@given(PLAIN)
def test_a_key_survives_json(value: Any) -> None:
    form = canonical(value)
    again = json.loads(json.dumps(form))
    assert again == form == canonical(form)
    assert key("x", again) == key("x", value)


@given(PLAIN, PLAIN)
def test_keys_are_equal_exactly_where_the_json_is(left: Any, right: Any) -> None:
    texts = [json.dumps(canonical(value), sort_keys=True) for value in (left, right)]
    assert (key("x", left) == key("x", right)) == (texts[0] == texts[1])


@pytest.mark.parametrize("name", STEPS)
def test_a_step_survives_its_file(name: str) -> None:
    step = STEPS[name]
    again = from_json(json.loads(json.dumps(to_json(step))))
    assert again == step
    assert key_of(again) == key_of(step)


@pytest.mark.parametrize(
    "newer",
    [{"scheme": identity.SCHEME + 1}, {"kind": "distil"}, {"version": 2}],
    ids=lambda change: next(iter(change)),
)
def test_a_step_of_a_newer_layover_is_refused(newer: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="newer layover"):
        from_json({**to_json(a_train()), **newer})


def test_a_step_with_a_field_from_the_future_is_refused() -> None:
    content = to_json(a_train())
    content["step"]["recipe"]["sharpness"] = 0.1
    with pytest.raises(StoreError, match=r"newer layover.*sharpness"):
        from_json(content)

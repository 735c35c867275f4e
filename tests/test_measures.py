"""Which checkpoints are measured, under which names, and what moves the key of a measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import own_table, study_words, text_table

from layover.encoders import Encoder
from layover.errors import StudyError
from layover.plan import Plan, compile_plan
from layover.recipe import Recipe
from layover.step import Measure, Train
from layover.study import Study

Words = dict[str, Any]


@pytest.fixture(autouse=True)
def no_real_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Encoder `mlm` says that it has a masked-LM head, `bare` that it has none, and `far` is not on this machine."""
    for name, kind in (("mlm", "BertForMaskedLM"), ("bare", "BertModel")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(f'{{"architectures": ["{kind}"], "num_hidden_layers": 2}}')

    def find(name: str, base: Path | None = None) -> Encoder:
        return Encoder(name, f"sha256:{name}", str(tmp_path / name), 1000)

    monkeypatch.setattr("layover.encoders.find", find)


@pytest.fixture
def words(tmp_path: Path) -> Words:
    tasks = {"mine": own_table(tmp_path, "single"), "one": own_table(tmp_path, "pair"),
             "two": own_table(tmp_path, "value"), "wiki": text_table(tmp_path)}  # fmt: skip
    forgetting = {"text": "wiki", "examples": 20, "max_length": 48}
    return study_words("mlm", tmp_path, task=tasks, forgetting=forgetting, strategies=strategies(["one"]))


def strategies(sources: list[str], **more: Any) -> Words:
    return {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": sources}, **more}


def plan_of(words: Words) -> Plan:
    """The plan of a study with those of its own tasks that it names."""
    said = json.dumps({name: table for name, table in words.items() if name != "task"})
    return compile_plan(Study(**{**words, "task": {n: t for n, t in words["task"].items() if f'"{n}"' in said}}))


def measured(plan: Plan) -> dict[str, list[str]]:
    """By the label of a checkpoint ("" for the plain encoder), the names under which it is measured."""
    found: dict[str, list[str]] = {}
    for score in plan.scores:
        if score.role == "forgetting":
            step = plan.steps[score.key]
            assert isinstance(step, Measure)
            assert score.target == "wiki"
            name = " | ".join((score.strategy, score.source, score.condition, str(score.rows or ""), f"s{score.seed}"))
            found.setdefault(plan.labels[step.start] if step.start else "", []).append(name)
    return found


def test_a_study_without_the_table_measures_nothing(words: Words) -> None:
    words.pop("forgetting")
    assert measured(plan_of(words)) == {}


def test_the_plain_encoder_and_every_source_are_measured_once(words: Words) -> None:
    plan = plan_of({**words, "seeds": [1, 2], "tasks": {"target": ["mine"], "probing": ["two"]}})
    assert measured(plan) == {
        "": ["plain |  |  |  | s0"],
        "mlm · one · s1": ["stilts | one |  |  | s1"],
        "mlm · one · s2": ["stilts | one |  |  | s2"],
    }
    assert [plan.labels[key] for key, step in plan.steps.items() if isinstance(step, Measure)] == [
        "mlm · forgetting on wiki", "mlm · one · forgetting on wiki · s1", "mlm · one · forgetting on wiki · s2"
    ]  # fmt: skip


def test_stages_of_a_chain_and_mergers_are_measured_and_shared(words: Words) -> None:
    more = {
        "chain": {"kind": "stilts", "chains": [["one", "two"]]},
        "soup": {"kind": "merge", "sources": ["one", "two"]},
    }
    assert measured(plan_of({**words, "strategies": strategies(["one"], **more)})) == {
        "": ["plain |  |  |  | s0"],
        "mlm · one · s1": ["stilts | one |  |  | s1", "chain | one |  |  | s1", "soup | one |  |  | s1"],
        "mlm · one → two · s1": ["chain | one → two |  |  | s1"],
        "mlm · one + two (average) · s1": ["soup | one + two |  |  | s1"],
        "mlm · two · s1": ["soup | two |  |  | s1"],
    }


def test_a_condition_is_that_of_the_last_stage(words: Words) -> None:
    chain = {"kind": "stilts", "chains": [["one", "two"]], "sizes": [8, 0]}
    found = measured(plan_of({**words, "strategies": {"direct": {"kind": "direct"}, "chain": chain}}))
    assert found["mlm · one · s1"] == ["chain | one |  |  | s1"]
    assert found["mlm · one → two 8 rows · s1"] == ["chain | one → two | 8 rows |  | s1"]
    assert found["mlm · one → two · s1"] == ["chain | one → two |  |  | s1"]


def test_target_sizes_do_not_count_where_checkpoints_do_not_differ(words: Words) -> None:
    plan = plan_of({**words, "sizes": {"target": [8, 12]}})
    assert measured(plan)["mlm · one · s1"] == ["stilts | one |  |  | s1"]


def test_weights_are_kept_for_measures(words: Words) -> None:
    plan = plan_of(words)
    assert plan.kept() == {plan.find("mlm · one · s1")}


# the head


def heads(plan: Plan) -> list[Train]:
    found = {step.head for step in plan.steps.values() if isinstance(step, Measure) and step.head}
    return [step for key, step in plan.steps.items() if key in found and isinstance(step, Train)]


def test_without_a_released_head_one_is_trained_once_on_the_frozen_plain_encoder(words: Words) -> None:
    recipe = {**words["recipe"], "l2sp": 0.1, "task": {"wiki": {"epochs": 7}}}
    plan = plan_of({**words, "encoders": ["bare"], "seeds": [1, 2], "recipe": recipe})
    [head] = heads(plan)
    assert (head.start, head.seed, head.task.name) == (None, 0, "wiki")
    assert head.recipe == Recipe(**{**words["recipe"], "epochs": 7, "freeze": "encoder"})
    key = plan.find("bare · wiki masked-LM head · s0")
    assert plan.steps[key] == head
    assert key in plan.kept()
    assert all(step.head == key for step in plan.steps.values() if isinstance(step, Measure))


@pytest.mark.parametrize(("encoder", "head", "trained"), [
    ("mlm", "auto", 0), ("mlm", "trained", 1), ("bare", "auto", 1), ("bare", "released", 0),
    ("far", "released", 0), ("far", "trained", 1),
])  # fmt: skip
def test_the_head_may_be_asked_for(words: Words, encoder: str, head: str, trained: int) -> None:
    plan = plan_of({**words, "encoders": [encoder], "forgetting": {"text": "wiki", "head": head}})
    assert len(heads(plan)) == trained


def test_an_encoder_that_is_not_here_needs_to_be_told(words: Words) -> None:
    with pytest.raises(StudyError, match=r"forgetting\.head: .*far .*not known before(.|\n)*released, trained"):
        plan_of({**words, "encoders": ["far"]})


# keys


def test_what_a_measure_does_not_read_does_not_move_its_key(words: Words) -> None:
    def plain(words: Words) -> str:
        return next(s.key for s in plan_of(words).scores if s.strategy == "plain")

    same = ({"limit": {"train": 12}}, {"holdout": 0.2}, {"selection": "validation"}, {"recipe": {"epochs": 3}},
            {"limit": {"validation": 400}})  # fmt: skip
    assert {plain({**words, **change}) for change in same} == {plain(words)}
    other = ({"limit": {"validation": 8}}, *({"forgetting": {**words["forgetting"], **change}}
             for change in ({"examples": 10}, {"max_length": 32}, {"head": "trained"})))  # fmt: skip
    assert len({plain({**words, **change}) for change in ({}, *other)}) == 5


def test_measuring_moves_no_other_key(words: Words) -> None:
    plan, more = plan_of({name: table for name, table in words.items() if name != "forgetting"}), plan_of(words)
    assert set(plan.steps) <= set(more.steps)
    assert {plan.labels[key] for key in plan.steps} == {more.labels[key] for key in plan.steps}


# wrong words


@pytest.mark.parametrize(("table", "place", "told"), [
    ({}, "forgetting.text", "is missing"),
    ({"text": "wikki"}, "forgetting.text", "did you mean 'wiki'"),
    ({"text": "mine"}, "forgetting.text", "'mine' is not plain text"),
    ({"text": "rte"}, "forgetting.text", "'rte' is not plain text"),
    ({"text": "wiki", "examples": 2}, "forgetting.examples", "greater than or equal to 4"),
    ({"text": "wiki", "max_length": 4}, "forgetting.max_length", "greater than or equal to 8"),
    ({"text": "wiki", "head": "own"}, "forgetting.head", "'auto', 'released' or 'trained'"),
    ({"text": "wiki", "heads": "own"}, "forgetting.heads", "did you mean 'head'"),
])  # fmt: skip
def test_wrong_words_are_told_with_their_place(words: Words, table: Words, place: str, told: str) -> None:
    with pytest.raises(StudyError, match=rf"{place}: (.|\n)*{told}"):
        Study(**{**words, "forgetting": table})

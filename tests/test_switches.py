"""Switches, seeds by role, grids, and what is asked of single strategies: words that any study file may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.kit import HERE, Command, study_words, write_study

from layover.errors import StudyError
from layover.plan import Plan, compile_plan
from layover.step import Train
from layover.study import Study, load_study
from layover.switches import without_tasks

MICRO: dict[str, Any] = {
    "schema": 1, "name": "base", "encoders": ["minilm"], "seeds": [1, 2],
    "tasks": {"target": ["micro_target", "micro_pair"], "probing": ["micro_probe"]},
    "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": ["micro_teacher"]}},
    "recipe": {"epochs": 3, "task": {"micro_probe": {"epochs": 9}}},
    "contrast": [{"of": ["stilts"], "against": "direct"}],
    "switch": {
        "short": {"about": "One epoch.", "recipe": {"epochs": 1}},
        "shorter": {"about": "Two epochs.", "recipe": {"epochs": 2}},
        "targets": {"about": "No probing.", "tasks": {"probing": []}},
        "plain": {"about": "No stop.", "without": ["strategies.stilts"]},
        "other": {"about": "Another stop.", "strategies": {"stilts": {"sources": ["micro_unrelated"]}}},
        "both": {"about": "Short, and no probing.", "also": ["short"], "tasks": {"probing": []}},
    },
}  # fmt: skip


def changed(**switches: Any) -> dict[str, Any]:
    return {**MICRO, "switch": switches}


def trains(plan: Plan) -> list[Train]:
    return [step for step in plan.steps.values() if isinstance(step, Train)]


def test_a_switch_is_merged_over_the_study_and_named() -> None:
    study = Study(**MICRO).switched("short")
    assert study.name == "base-short"
    assert study.recipe_for("micro_target", "target").epochs == 1
    assert study.recipe_for("micro_probe", "probing").epochs == 9  # tables are merged, not replaced
    assert not study.switch


def test_lists_are_replaced() -> None:
    assert Study(**MICRO).switched("other").strategies["stilts"] == {"kind": "stilts", "sources": ["micro_unrelated"]}


def test_overrides_of_what_a_switch_takes_away_go_with_it() -> None:
    study = Study(**MICRO)
    assert "task" not in study.switched("targets").words()["recipe"] or not study.switched("targets").recipe.task
    assert study.switched("plain").contrast == []
    assert list(study.switched("plain").strategies) == ["direct"]


def test_the_order_of_switches_does_not_matter_and_one_may_need_another() -> None:
    study = Study(**MICRO)
    assert study.switched("targets", "short").words() == study.switched("short", "targets").words()
    assert study.switched("both").name == "base-short-both"
    assert study.switched("both").recipe.epochs == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(("names", "said"), [
    (("shrt",), "did you mean 'short'?"),
    (("short", "shorter"), "short says recipe.epochs = 1, and shorter 2"),
    (("plain", "other"), "plain takes out strategies.stilts, and other changes it"),
])  # fmt: skip
def test_switches_that_are_none_or_contradict_each_other_are_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        Study(**MICRO).switched(*names)


@pytest.mark.parametrize(("table", "said"), [
    ({"recipe": {"epochs": 1}}, "switch.x.about: is missing"),
    ({"about": "Nothing."}, "switch.x: changes nothing"),
    ({"about": "A typo.", "without": ["strategies.stilt"]}, "did you mean 'strategies.stilts'"),
    ({"about": "Of another.", "also": ["y"], "seeds": [1]}, "'y' is not another switch"),
])  # fmt: skip
def test_what_is_wrong_with_a_switch_is_said_before_it_is_chosen(table: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError) as error:
        Study(**changed(x=table))
    assert said in str(error.value)


@pytest.mark.parametrize(("table", "said"), [
    ({"about": "A typo.", "recipe": {"epoch": 1}}, "switch.x: recipe.epoch: is not a key of a study"),
    ({"about": "Unused.", "recipe": {"task": {"rte": {"epochs": 1}}}}, "no task 'rte' is in this study"),
])  # fmt: skip
def test_a_file_whose_switch_breaks_the_study_is_refused(table: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = write_study(tmp_path / "study.toml", changed(x=table))
    with pytest.raises(StudyError) as error:
        load_study(file)
    assert said in str(error.value)


def test_the_command_takes_switches(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path / "study.toml", {**MICRO, "placement": HERE})
    assert command("plan", study, "--json", "--switch", "short", "--switch", "targets").json["study"] == (
        "base-short-targets"
    )
    wrong = command("plan", study, "--switch", "shrt")
    assert (wrong.code, "did you mean 'short'?" in wrong.err) == (2, True)
    shown = command("studies", study)
    assert shown.code == 0
    assert "No stop." in shown.out


def test_tasks_are_left_out_with_all_that_is_said_of_them() -> None:
    left = without_tasks(MICRO, ["micro_teacher", "micro_probe"])
    assert left["tasks"] == {"target": ["micro_target", "micro_pair"], "probing": []}
    assert list(left["strategies"]) == ["direct"]
    assert left["contrast"] == []
    Study(**left)  # nothing in it is about what has gone


def test_missing_data_is_named_and_left_out_where_that_is_asked_for(tmp_path: Path, command: Command) -> None:
    words = {**MICRO, "tasks": {"target": ["micro_target", "ccg"], "probing": ["se_tree_depth"]}, "recipe": {},
             "switch": {}, "placement": HERE}  # fmt: skip
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    refused = command("run", study, "--store", store)
    assert refused.code == 2
    assert all(word in refused.err for word in ("'ccg'", "'se_tree_depth'", "--skip-missing"))
    planned = command("plan", study, "--store", store, "--json").json
    assert planned["not_found"] == {"tasks": ["ccg", "se_tree_depth"], "encoders": []}
    blocked = [step["label"] for step in planned["steps"] if step["action"] == "blocked"]
    assert len(blocked) == 2 * 2 * 2  # both tasks, directly and after the stop, two seeds
    assert all("ccg" in label or "se_tree_depth" in label for label in blocked)
    left = command("plan", study, "--store", store, "--json", "--skip-missing")
    assert "left out" in left.err
    assert not left.json["not_found"]["tasks"]
    assert len(left.json["steps"]) == 3 * 2


# seeds by role


def test_roles_may_have_seeds_of_their_own() -> None:
    plan = compile_plan(Study(**{**MICRO, "role_seeds": {"source": [42, 42], "target": [7, 8]}}))
    seeds = {(s.task.name, s.start is None): set() for s in trains(plan)}
    for step in trains(plan):
        seeds[step.task.name, step.start is None].add(step.seed)
    assert seeds["micro_teacher", True] == {42}
    assert seeds["micro_target", True] == seeds["micro_target", False] == {7, 8}
    assert seeds["micro_probe", True] == {1, 2}
    assert {score.seed for score in plan.scores if score.target == "micro_target"} == {1, 2}  # restarts keep their name


def test_seeds_that_are_the_roles_own_are_no_change() -> None:
    """Keys are those of a study that says nothing of roles."""
    said = compile_plan(Study(**{**MICRO, "role_seeds": {"source": [1, 2], "target": [1, 2], "probing": [1, 2]}}))
    assert list(said.steps) == list(compile_plan(Study(**MICRO)).steps)


@pytest.mark.parametrize(("table", "said"), [
    ({"source": [1]}, "role_seeds.source: has 1 seeds, and the study 2"),
    ({"joint": [1, 2]}, "no role 'joint' is in this study"),
])  # fmt: skip
def test_seeds_of_roles_that_do_not_fit_are_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError) as error:
        Study(**{**MICRO, "role_seeds": table})
    assert said in str(error.value)


# grids


def test_every_trial_of_a_grid_is_a_cell_and_sources_are_shared() -> None:
    plan = compile_plan(Study(**{**MICRO, "grid": {"learning_rate": [1e-4, 1e-5], "warmup": [0.0, 0.1, 0.2]}}))
    sources = [step for step in trains(plan) if step.task.name == "micro_teacher"]
    assert {step.recipe.learning_rate for step in sources} == {2e-5}
    assert len(sources) == 2
    assert len(plan.steps) == len(sources) + 3 * 2 * 6 * 2  # tasks x ways x trials x seeds
    conditions = {score.condition for score in plan.scores if score.role == "target"}
    assert len(conditions) == 6
    assert "learning_rate=1e-05 warmup=0.2" in conditions
    assert len(set(plan.labels.values())) == len(plan.steps)


def test_a_trial_is_compared_with_the_same_trial() -> None:
    from layover.stats.transfer import transfer

    rows = [
        {"strategy": strategy, "source": source, "condition": f"lr={rate}", "target": "t", "seed": seed,
         "value": 10 * rate + gain + seed}
        for strategy, source, gain in (("direct", "", 0), ("stilts", "a", 3))
        for rate in (1, 2) for seed in (1, 2, 3)
    ]  # fmt: skip
    cells = transfer(rows).matrix().cells
    assert {key: cell.delta for key, cell in cells.items()} == {("a · lr=1", "t"): 3.0, ("a · lr=2", "t"): 3.0}


# what single strategies ask for


def test_a_strategy_may_ask_for_less_than_the_study(tmp_path: Path) -> None:
    words = study_words("minilm", tmp_path, seeds=[1, 2, 3], sizes={"target": [4, 8]})
    words["strategies"] = {"direct": {"kind": "direct"}, "one": {"kind": "direct", "rows": [6], "trials": 2}}
    del words["task"]["stop"]
    plan = compile_plan(Study(**words))
    asked = {(s.strategy, s.rows, s.seed) for s in plan.scores}
    assert asked == {("direct", n, seed) for n in (4, 8) for seed in (1, 2, 3)} | {("one", 6, 1), ("one", 6, 2)}


def test_a_strategy_may_have_some_of_its_conditions() -> None:
    words = {**MICRO, "switch": {}}
    words["strategies"] = {"reset": {"kind": "reinit", "keep": "all", "conditions": 3}}
    plan = compile_plan(Study(**{**words, "contrast": []}))
    assert {score.condition for score in plan.scores} == {"keep 0", "keep 3", "keep 6"}


def test_a_role_may_treat_a_task_otherwise() -> None:
    words = {**MICRO, "recipe": {"epochs": 1, "task": {"micro_pair": {"epochs": 2}},
                                 "role": {"source": {"task": {"micro_pair": {"epochs": 3}}}}},
             "strategies": {"stilts": {"kind": "stilts", "sources": ["micro_pair"]}}, "contrast": [],
             "switch": {}}  # fmt: skip
    study = Study(**words)
    found = [study.recipe_for("micro_pair", role).epochs for role in ("target", "source", "probing")]
    assert found == [2, 3, 2]
    del words["recipe"]["role"]["source"]["task"]["micro_pair"]
    words["recipe"]["role"]["source"]["task"] = {"micro_pare": {"epochs": 3}}
    with pytest.raises(StudyError, match="did you mean 'micro_pair'"):
        Study(**words)

"""Plans: the right steps, each once, parents first, under keys that depend on content alone."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tests.kit import own_table, pair_rows, publish_fake, study_words, write_rows, write_task

from layover.encoders import Encoder
from layover.errors import StudyError, UserError
from layover.observations import collect
from layover.plan import Plan, compile_plan
from layover.step import Choose, Train
from layover.store import Store
from layover.study import Study
from layover.tasks import TASKS

SWEEP = {"learning_rate": [1e-4, 2e-4, 3e-4, 4e-4], "dropout": [0.1, 0.2]}


@pytest.fixture(autouse=True)
def no_real_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, base: Path | None = None) -> Encoder:
        return Encoder(name, f"sha256:{name}", f"/nowhere/{name}", 1000)

    monkeypatch.setattr("layover.encoders.find", find)


@pytest.fixture
def words(tmp_path: Path) -> dict[str, Any]:
    return study_words("e", tmp_path / "files", seeds=[1, 2])


def plan_of(words: dict[str, Any], *data: Path) -> Plan:
    return compile_plan(Study(**words), data=data)


def trains(plan: Plan) -> list[Train]:
    return [step for step in plan.steps.values() if isinstance(step, Train)]


# the paper's size


@pytest.fixture
def paper(tmp_path: Path) -> tuple[dict[str, Any], Path]:
    """11 sources x 35 targets and probing tasks x 3 restarts, with a sweep of 4 x 2 (Pruksachatkun et al. 2020)."""
    names = [task.name for task in TASKS if not task.generate and not task.family][:31]
    for name in names:  # planning reads no row of a catalogue task, it only takes the digest of its files
        for split in ("train", "validation"):
            write_rows(tmp_path / "data" / name / f"{split}.jsonl", [{"task": name, "split": split}])
    own = {f"own_{i}": own_table(tmp_path / f"own_{i}") for i in range(35 + 11 - len(names))}
    every = [*names, *own]
    words = {
        "name": "paper",
        "encoders": ["e"],
        "seeds": [1, 2, 3],
        "tasks": {"target": every[11:21], "probing": every[21:46]},
        "strategies": {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": every[:11]}},
        "sweep": SWEEP,
        "task": own,
    }
    return words, tmp_path / "data"


def test_the_papers_study_is_planned_in_two_seconds_and_shares_what_it_can(paper: tuple[dict[str, Any], Path]) -> None:
    words, data = paper
    times, plan = [], plan_of(words, data)
    for _ in range(3):
        started = time.process_time()
        plan_of(words, data)
        times.append(time.process_time() - started)
    assert min(times) < 2.0, times
    sources, targets, seeds, cells = 11, 35, 3, 8
    sweeps = (sources + targets) * cells
    trainings = sweeps + sources * seeds + targets * seeds + sources * targets * seeds
    assert len(trains(plan)) == trainings == 1661
    assert len(plan.steps) == trainings + sources + targets
    assert plan.requested == sweeps + targets * seeds + 2 * sources * targets * seeds
    assert len(plan.scores) == targets * seeds * (1 + sources) + sources * seeds
    assert len(set(plan.labels.values())) == len(plan.steps)


# shape


def test_a_small_study_has_the_steps_that_one_expects(words: dict[str, Any]) -> None:
    plan = plan_of(words)
    assert sorted(plan.labels.values()) == [
        "e · mine · s1", "e · mine · s2", "e · stop · s1", "e · stop · s2",
        "e · stop → mine · s1", "e · stop → mine · s2",
    ]  # fmt: skip
    for seed in (1, 2):  # restarts are paired
        child, parent = (plan.steps[plan.find(f"e · {name} · s{seed}")] for name in ("stop → mine", "stop"))
        assert isinstance(child, Train)
        assert child.start == plan.find(f"e · stop · s{seed}")
        assert (child.seed, getattr(parent, "seed", None)) == (seed, seed)
    assert plan.kept() == {plan.find("e · stop · s1"), plan.find("e · stop · s2")}


def test_a_source_that_is_also_a_target_shares_its_direct_step(words: dict[str, Any]) -> None:
    plan = plan_of({**words, "tasks": {"target": ["mine", "stop"]}})
    direct = {s.key for s in plan.scores if (s.strategy, s.target, s.role) == ("direct", "stop", "target")}
    source = {s.key for s in plan.scores if (s.strategy, s.target, s.role) == ("stilts", "stop", "source")}
    assert direct == source == {plan.find("e · stop · s1"), plan.find("e · stop · s2")}
    # mine, stop, stop -> mine and stop -> stop, each with two seeds
    assert len(plan.steps) == 8


def test_encoders_seeds_and_strategies_multiply(words: dict[str, Any]) -> None:
    three = {**words["strategies"], "again": {"kind": "direct"}}
    plan = plan_of({**words, "encoders": ["e", "f", "g"], "seeds": [1, 2, 3, 4], "strategies": three})
    assert len(plan.steps) == 3 * 4 * 3
    assert len(plan.scores) == 3 * 4 * (1 + 1 + 1 + 1)
    assert plan.requested == 3 * 4 * (1 + 2 + 1)


@pytest.mark.parametrize("sweep", [None, {"learning_rate": [1e-3, 1e-4]}])
def test_parents_come_before_children(words: dict[str, Any], sweep: Any) -> None:
    plan = plan_of({**words, **({"sweep": sweep} if sweep else {})})
    seen: set[str] = set()
    for key, step in plan.steps.items():
        assert set(step.parents) <= seen
        seen.add(key)
    assert seen == set(plan.labels)


def test_a_sweep_runs_once_per_task_from_the_plain_encoder_with_its_own_seed(words: dict[str, Any]) -> None:
    plan = plan_of({**words, "sweep": {**SWEEP, "seed": 9}})
    chooses = {key: step for key, step in plan.steps.items() if isinstance(step, Choose)}
    assert len(chooses) == 2
    for step in chooses.values():
        tried = [plan.steps[key] for key in step.of]
        assert all(isinstance(t, Train) and t.seed == 9 and not t.start and not t.recipe_from for t in tried)
        cells = [(t.recipe.learning_rate, t.recipe.dropout) for t in tried if isinstance(t, Train)]
        assert cells == [(rate, drop) for rate in SWEEP["learning_rate"] for drop in SWEEP["dropout"]]
    chain = plan.steps[plan.find("e · stop → mine · s1")]
    direct = plan.steps[plan.find("e · mine · s1")]
    assert isinstance(chain, Train)
    assert isinstance(direct, Train)
    assert chain.recipe_from == direct.recipe_from == plan.find("e · mine · best of the sweep")


def test_labels_are_unique_where_a_tasks_roles_differ(words: dict[str, Any]) -> None:
    differing = {**words["recipe"], "role": {"source": {"epochs": 2}}}
    study = {**words, "tasks": {"target": ["mine", "stop"]}, "recipe": differing, "sweep": {"dropout": [0.0, 0.1]}}
    plan = plan_of(study)
    assert len(set(plan.labels.values())) == len(plan.labels) == len(plan.steps)
    assert plan.find("e · stop · s1") != plan.find("e · stop as source · s1")
    for key, label in plan.labels.items():
        assert plan.find(label) == key


def test_find_takes_a_label_a_key_or_a_part_and_says_what_it_cannot_tell_apart(words: dict[str, Any]) -> None:
    plan = plan_of(words)
    key = plan.find("e · mine · s1")
    assert plan.find(key) == plan.find(key[:9]) == plan.find("e · mine · s1") == key
    assert plan.find("stop → mine · s2") == plan.find("→ mine · s2")
    with pytest.raises(StudyError, match="3 steps match"):
        plan.find("s1")
    with pytest.raises(StudyError, match=r"no step matches(.|\n)*e · mine · s1"):
        plan.find("copa")


def test_one_error_names_every_encoder_and_task_that_is_not_found(
    words: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    absent = [task.name for task in TASKS if task.hub is None and not task.generate][:2]
    tasks = {"target": ["mine", *absent]}
    with pytest.raises(UserError) as caught:
        plan_of({**words, "encoders": ["./nothing", "./neither"], "tasks": tasks})
    assert len(caught.value.problems) == 2 + len(absent) + 1  # and one that says what to do about tasks without data
    assert "--skip-missing" in str(caught.value)


# what is in a key and what is not


def keys(words: dict[str, Any], *data: Path) -> set[str]:
    return set(plan_of(words, *data).steps)


def test_placement_changes_no_key(words: dict[str, Any]) -> None:
    other = {"device": "cuda", "threads": 7, "micro_tokens": 64, "checkpoint_seconds": 1.0, "executor": "local",
             "gradient_checkpointing": True, "graphs": "compiled", "cohort": 4}  # fmt: skip
    assert keys(words) == keys({**words, "placement": other})


def test_the_name_the_contrasts_and_the_order_change_no_key(words: dict[str, Any]) -> None:
    contrast = [{"of": ["stilts"], "against": "direct"}]
    turned = dict(reversed(words["strategies"].items()))
    assert keys(words) == keys({**words, "name": "x", "contrast": contrast, "strategies": turned, "seeds": [2, 1]})


def test_where_data_is_changes_no_key_but_its_content_does(words: dict[str, Any], tmp_path: Path) -> None:
    study = {**words, "tasks": {"target": ["mine", "rte"]}}
    here = write_task(tmp_path / "here", "rte", pair_rows)
    there = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(here, there)
    assert keys(study, here) == keys(study, there)
    with (there / "rte" / "validation.jsonl").open("a") as file:
        file.write('{"premise": "one", "hypothesis": "more", "label": 1}\n')
    moved = keys(study, here) - keys(study, there)
    assert len(moved) == 4  # direct and stilts, two seeds: `mine` and `stop` stand


def test_an_own_file_moves_no_key_by_its_path_but_by_its_content(words: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "files", tmp_path / "copy")
    copied = {
        name: {**table, **{split: table[split].replace("/files/", "/copy/") for split in ("train", "validation")}}
        for name, table in words["task"].items()
    }
    assert keys(words) == keys({**words, "task": copied})
    with Path(copied["mine"]["train"]).open("a") as file:
        file.write('{"text": "one more", "label": "yes"}\n')
    assert len(keys(words) & keys({**words, "task": copied})) == 2  # only the two trainings on `stop`


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"recipe": {"batch_size": 9}}, 6),
        ({"recipe": {"task": {"stop": {"batch_size": 9}}}}, 4),
        ({"recipe": {"role": {"target": {"batch_size": 9}}}}, 4),
        ({"limit": {"train": 12}}, 6),
        ({"limit": {"task": {"mine": {"validation": 8}}}}, 4),
        ({"selection": "validation"}, 6),
        ({"holdout": 0.25}, 6),
        ({"encoders": ["f"]}, 6),
    ],
)
def test_what_changes_a_number_moves_the_keys_of_the_steps_that_it_reaches(
    words: dict[str, Any], change: dict[str, Any], moved: int
) -> None:
    before = {**words, "recipe": {}}
    assert len(keys(before) - keys({**before, **change})) == moved


def test_adding_a_metric_retrains_nothing_and_its_scores_come_from_the_predictions(
    words: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    richer = {
        **words,
        "task": {**words["task"], "mine": {**words["task"]["mine"], "metrics": ["accuracy", "macro_f1"]}},
    }
    plan = plan_of(richer)
    assert set(plan.steps) == keys(words)
    store = Store.open(tmp_path / "store")
    for step in trains(plan):
        publish_fake(store, step, gold=[0, 1, 1])
    rows = [row for row in collect(plan, store) if row["metric"] == "macro_f1" and row["target"] == "mine"]
    assert [row["value"] for row in rows] == [100.0] * 4  # direct and stilts, two seeds
    assert not any(row["primary"] for row in rows)


def test_another_primary_metric_moves_the_key_since_it_selects(words: dict[str, Any]) -> None:
    mine = {**words["task"]["mine"], "metrics": ["macro_f1", "accuracy"]}
    assert len(keys({**words, "task": {**words["task"], "mine": mine}}) & keys(words)) == 2


def test_every_cell_gives_rows_even_where_nothing_has_run(words: dict[str, Any], tmp_path: Path) -> None:
    plan = plan_of(words)
    rows = collect(plan, Store.open(tmp_path / "store"))
    assert len(rows) == len(plan.scores) == 6
    assert {row["status"] for row in rows} == {"missing"}
    assert {row["value"] for row in rows} == {None}


def test_compiling_is_pure(words: dict[str, Any]) -> None:
    one, two = plan_of(words), plan_of(words)
    assert list(one.steps) == list(two.steps)
    assert one.labels == two.labels
    assert one.scores == two.scores

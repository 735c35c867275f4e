"""Studies: every problem of a file is reported at once, and the same words in Python mean the same study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit import own_table, write_study

from layover.errors import StudyError, UserError
from layover.step import Recipe
from layover.study import Study, load_study, presets
from layover.tasks.own import declaration

Words = dict[str, Any]


def words(**changes: Any) -> Words:
    base: Words = {
        "schema": 1,
        "name": "does-mnli-help",
        "encoders": ["minilm"],
        "seeds": [1, 2, 3],
        "tasks": {"target": ["rte", "cb"], "probing": ["cola"]},
        "strategies": {
            "direct": {"kind": "direct"},
            "stilts": {"kind": "stilts", "sources": ["mnli", "commonsenseqa"]},
        },
        "recipe": {"learning_rate": 2e-5, "task": {"rte": {"batch_size": 8}}},
        "sweep": {"learning_rate": [2e-5, 1e-5], "dropout": [0.1, 0.2]},
        "limit": {"train": 100, "task": {"mnli": {"train": 50}}},
        "contrast": [{"of": ["stilts"], "against": "direct"}],
        "placement": {"executor": "local"},
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def problems(study: Words) -> dict[str, str]:
    """What is wrong with a study, by place."""
    with pytest.raises(UserError) as caught:
        Study(**study)
    return {problem.place: f"{problem.message} | {problem.hint}" for problem in caught.value.problems}


def test_a_whole_study_is_read() -> None:
    study = Study(**words())
    assert study.seeds == [1, 2, 3]
    assert study.strategy_objects()["stilts"].uses() == ("mnli", "commonsenseqa")
    assert study.sweep is not None
    assert study.sweep.grid() == {"learning_rate": [2e-5, 1e-5], "dropout": [0.1, 0.2]}


def test_a_file_and_python_say_the_same(tmp_path: Path) -> None:
    own = {"task": {"mine": own_table(tmp_path)}, "tasks": {"target": ["mine", "rte"]}}
    study = words(**own)
    loaded, base = load_study(write_study(tmp_path / "study.toml", study))
    assert loaded == Study(**study)
    assert base == tmp_path


def test_the_study_of_the_design_page_is_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "design.md").read_text(encoding="utf-8")
    block = next(part for part in page.split("```toml\n")[1:]).split("```")[0]
    kept = [line for line in block.splitlines() if not line.startswith("joint") and "edge_dpr" not in line]
    text = "\n".join(kept).replace('["stilts", "joint"]', '["stilts"]')
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    study, _ = load_study(tmp_path / "study.toml")
    assert study.name == "does-mnli-help"
    assert study.recipe_for("rte", "target").learning_rate == 2e-5


def test_paths_of_own_tasks_start_from_the_study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = own_table(tmp_path / "there")
    table |= {split: Path(table[split]).name for split in ("train", "validation")}
    path = write_study(
        tmp_path / "there" / "study.toml", words(task={"mine": table}, tasks={"target": ["mine", "rte"]}, limit=None)
    )
    monkeypatch.chdir(tmp_path)
    assert declaration(load_study(path)[0].task["mine"])["labels"] == ["no", "yes"]


# one thing is wrong


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        ({"seed": [1]}, "seed", "did you mean 'seeds'"),
        ({"tasks": {"target": ["rte", "cb", "cola"], "probbing": ["rte"]}}, "tasks.probbing", "did you mean 'probing'"),
        ({"recipe": {"learnig_rate": 1e-5}}, "recipe.learnig_rate", "did you mean 'learning_rate'"),
        ({"recipe": {"task": {"rte": {"batchsize": 1}}}}, "recipe.task.rte.batchsize", "did you mean 'batch_size'"),
        ({"recipe": {"role": {"target": {"epoch": 1}}}}, "recipe.role.target.epoch", "did you mean 'epochs'"),
        ({"sweep": {"drop_out": [0.1]}}, "sweep.drop_out", "did you mean 'dropout'"),
        ({"limit": {"training": 10}}, "limit.training", "did you mean 'train'"),
        ({"limit": {"task": {"rte": {"valid": 10}}}}, "limit.task.rte.valid", "did you mean 'validation'"),
        ({"placement": {"excutor": "local"}}, "placement.excutor", "did you mean 'executor'"),
        ({"contrast": [{"of": ["stilts"], "against": "direct", "corect": "bh"}]}, "contrast[0].corect", "'correct'"),
        ({"tasks": {"target": ["rtee", "cb"]}, "recipe": None}, "tasks.target[0]", "did you mean 'rte'"),
        ({"tasks": {"target": ["rte"], "probing": ["colla"]}}, "tasks.probing[0]", "did you mean 'cola'"),
        ({"contrast": [{"of": ["stilt"], "against": "direct"}]}, "contrast[0].of", "did you mean 'stilts'"),
        ({"contrast": [{"of": ["stilts"], "against": "drect"}]}, "contrast[0].against", "did you mean 'direct'"),
        ({"contrast": [{"of": ["stilts"], "against": "direct", "correct": "hlm"}]}, "contrast[0].correct", "'holm'"),
        ({"contrast": [{"of": [], "against": "direct"}]}, "contrast[0].of", "at least 1"),
        ({"contrast": [{"against": "direct"}]}, "contrast[0].of", "is missing"),
        ({"recipe": {"task": {"copa": {"epochs": 1}}}}, "recipe.task.copa", "no task 'copa' is in this study"),
        ({"recipe": {"role": {"targets": {"epochs": 1}}}}, "recipe.role.targets", "did you mean 'target'"),
        ({"limit": {"task": {"copa": {"train": 9}}}}, "limit.task.copa", "no task 'copa' is in this study"),
        ({"tasks": {"target": ["rte"]}, "recipe": {"role": {"probing": {"epochs": 1}}}}, "recipe.role.probing", "no"),
        ({"limit": {"role": {"sources": {"train": 9}}}}, "limit.role.sources", "did you mean 'source'"),
        ({"seeds": [1, 2, 1]}, "seeds", "twice"),
        ({"encoders": ["minilm", "minilm"]}, "encoders", "twice"),
        ({"tasks": {"target": ["rte", "rte"]}}, "tasks.target", "twice"),
        ({"tasks": {"target": ["rte"], "probing": ["cola", "cola"]}}, "tasks.probing", "twice"),
        ({"seeds": []}, "seeds", "at least 1"),
        ({"encoders": []}, "encoders", "at least 1"),
        ({"tasks": {"target": []}, "recipe": None}, "tasks.target", "at least 1"),
        ({"sweep": {"learning_rate": []}}, "sweep.learning_rate", "at least 1"),
        ({"seeds": [-1]}, "seeds[0]", "greater than or equal to 0"),
        ({"seeds": [2**31]}, "seeds[0]", "less than"),
        ({"seeds": [True]}, "seeds[0]", "integer"),
        ({"recipe": {"learning_rate": 0.0}}, "recipe.learning_rate", "greater than 0"),
        ({"recipe": {"learning_rate": "2e-5"}}, "recipe.learning_rate", "number"),
        ({"recipe": {"dropout": 1.0}}, "recipe.dropout", "less than 1"),
        ({"recipe": {"max_length": 7}}, "recipe.max_length", "greater than or equal to 8"),
        ({"recipe": {"batch_size": 0}}, "recipe.batch_size", "greater than or equal to 1"),
        ({"recipe": {"batch_size": 2.5}}, "recipe.batch_size", "integer"),
        ({"recipe": {"epochs": 0}}, "recipe.epochs", "greater than or equal to 1"),
        ({"recipe": {"warmup": -0.1}}, "recipe.warmup", "greater than or equal to 0"),
        ({"recipe": {"precision": "fp16"}}, "recipe.precision", "'bf16'"),
        ({"sweep": {"learning_rate": [1e-5, 2.0]}}, "sweep.learning_rate[1]", "less than 1"),
        ({"limit": {"train": 3}}, "limit.train", "greater than or equal to 4"),
        ({"holdout": 0.6}, "holdout", "less than or equal to 0.5"),
        ({"selection": "test"}, "selection", "'holdout'"),
        ({"placement": {"executor": "cloud"}}, "placement.executor", "choices: local"),
        ({"placement": {"threads": -1}}, "placement.threads", "greater than or equal to 0"),
        ({"schema": 2}, "schema", "less than or equal to 1"),
        ({"name": "has blanks"}, "name", "not a name"),
        ({"name": None}, "name", "is missing"),
        ({"tasks": "rte"}, "tasks", "'rte'"),
    ],
)  # fmt: skip
def test_a_problem_is_named_with_its_place_and_what_to_write(change: Words, place: str, said: str) -> None:
    found = problems(words(**change))
    assert place in found, found
    assert said in found[place]


@pytest.mark.parametrize(
    ("table", "place", "said"),
    [
        ({"kind": "stilt", "sources": ["mnli"]}, "kind", "did you mean 'stilts'"),
        ({"sources": ["mnli"]}, "kind", "is missing"),
        ({"kind": "stilts"}, "sources", "is missing"),
        ({"kind": "stilts", "source": ["mnli"], "sources": ["mnli"]}, "source", "did you mean 'sources'"),
        ({"kind": "stilts", "sources": ["mnlii"]}, "sources[0]", "did you mean 'mnli'"),
        ({"kind": "stilts", "sources": "mnli"}, "sources", "'mnli'"),
        ({"kind": "stilts", "sources": [1]}, "sources[0]", "string"),
        ({"kind": "stilts", "sources": []}, "sources", "is empty"),
        ({"kind": "stilts", "sources": ["mnli", "mnli"]}, "sources", "twice"),
        ({"kind": "direct", "sources": ["mnli"]}, "sources", "is not a key"),
    ],
)
def test_a_problem_of_a_strategy_is_named(table: Words, place: str, said: str) -> None:
    strategies = {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": ["mnli"]}, "third": table}
    found = problems(words(strategies=strategies))
    assert said in found[f"strategies.third.{place}"]


def test_an_own_task_that_nothing_uses_is_a_problem(tmp_path: Path) -> None:
    assert "is used by nothing" in problems(words(task={"mine": own_table(tmp_path)}))["task.mine"]


def test_an_own_task_with_a_wrong_table_is_a_problem(tmp_path: Path) -> None:
    table = {**own_table(tmp_path), "lable": "label"}
    study = words(task={"mine": table}, tasks={"target": ["rte", "mine"]})
    assert "did you mean 'label'" in problems(study)["task.mine.lable"]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    wrong = words(
        seeds="one",
        holdout="much",
        recipe={"learning_rate": "fast", "bach_size": 3},
        tasks={"target": ["rtee"], "probing": ["colla"]},
        strategies={"direct": {"kind": "dirct"}},
        contrast=[{"of": ["x"], "against": "y"}],
        task={"mine": {**own_table(tmp_path), "format": "sngle"}},
    )
    assert set(problems(wrong)) >= {
        "seeds", "holdout", "recipe.learning_rate", "recipe.bach_size", "tasks.target[0]", "tasks.probing[0]",
        "strategies.direct.kind", "contrast[0].of", "contrast[0].against", "task.mine.format", "task.mine",
        "limit.task.mnli",
    }  # fmt: skip


def test_problems_of_a_file_name_the_file(tmp_path: Path) -> None:
    path = write_study(tmp_path / "study.toml", words(sede=[1], tasks={"target": ["rtee"]}, recipe={}))
    with pytest.raises(UserError) as caught:
        load_study(path)
    places = {problem.place for problem in caught.value.problems}
    assert places == {f"{path}: sede", f"{path}: tasks.target[0]"}


@pytest.mark.parametrize("text", ["name = study", "seeds = [1", "= 3", "\x00"])
def test_what_is_not_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(StudyError, match="is not a TOML file"):
        load_study(tmp_path / "study.toml")


def test_bytes_and_folders_are_not_toml_either(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_bytes(b"\xff\xfe")
    for path in (tmp_path / "study.toml", tmp_path):
        with pytest.raises(StudyError, match="is not a TOML file"):
            load_study(path)


def test_a_file_that_is_not_there_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="no such study file, and no preset"):
        load_study(tmp_path / "study.toml")


@pytest.mark.parametrize("name", presets())
def test_a_preset_loads(name: str) -> None:
    study, _ = load_study(name)
    assert study.tasks.target


# what a study means


def test_a_recipe_is_layered_by_role_and_then_by_task() -> None:
    tables = {
        "learning_rate": 1e-5,
        "batch_size": 16,
        "dropout": 0.3,
        "role": {"target": {"batch_size": 8, "dropout": 0.2}, "source": {"epochs": 2}},
        "task": {"rte": {"dropout": 0.1}},
    }
    study = Study(**words(recipe=tables))
    assert study.recipe_for("rte", "target") == Recipe(learning_rate=1e-5, batch_size=8, dropout=0.1)
    assert study.recipe_for("cb", "target") == Recipe(learning_rate=1e-5, batch_size=8, dropout=0.2)
    assert study.recipe_for("mnli", "source") == Recipe(learning_rate=1e-5, batch_size=16, dropout=0.3, epochs=2)
    assert study.recipe_for("cola", "probing") == Recipe(learning_rate=1e-5, batch_size=16, dropout=0.3)


def test_an_override_with_the_default_value_still_overrides() -> None:
    study = Study(**words(recipe={"batch_size": 16, "task": {"rte": {"batch_size": 32}}}))
    assert study.recipe_for("rte", "target").batch_size == 32


def test_limits_are_layered_like_recipes() -> None:
    tables = {"train": 100, "role": {"source": {"train": 80, "validation": 40}}, "task": {"mnli": {"train": 60}}}
    study = Study(**words(limit=tables))
    assert study.limit_for("mnli", "source") == {"train": 60, "validation": 40}
    assert study.limit_for("commonsenseqa", "source") == {"train": 80, "validation": 40}
    assert study.limit_for("rte", "target") == {"train": 100, "validation": None}


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"seeds": [7]}, lambda study: study.seeds == [7]),
        ({"recipe": {"epochs": 3}}, lambda study: study.recipe_for("rte", "target") == Recipe(epochs=3)),
    ],
)
def test_some_words_can_be_replaced(change: Words, read: Callable[[Study], bool]) -> None:
    study = Study(**words())
    changed = study.changed(**change)
    assert read(changed)
    assert not read(study)
    assert changed.strategies == study.strategies


def test_a_whole_number_means_the_same_as_a_real_one() -> None:
    whole, real = (Study(**words(recipe={"dropout": value})).recipe_for("rte", "target") for value in (0, 0.0))
    assert type(whole.dropout) is type(real.dropout) is float


def test_a_misspelt_encoder_is_told_with_the_other_problems_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'name = "x"\nencoders = ["minilmm"]\nseeds = [1]\nfoo = 2\n'
        '[tasks]\ntarget = ["rtee"]\n[strategies]\nd = { kind = "direct" }\n'
    )
    with pytest.raises(StudyError) as told:
        load_study(path)
    text = str(told.value)
    assert "encoders[0]: there is no encoder called 'minilmm'" in text
    assert "did you mean 'minilm'?" in text
    assert "foo" in text
    assert "did you mean 'rte'?" in text

"""Study: what a study file says, checked in full before anything is planned.

`Study(...)` takes the same words in Python as the file has in TOML. Every problem is reported at once, each with
its path, value, choices and a did-you-mean. Unknown and unused keys are errors.
"""

from __future__ import annotations

import dataclasses
import itertools
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from layover.checks import check_names, misspelt_encoders, strategy_of
from layover.errors import Problem, StudyError, UserError, did_you_mean, raise_all
from layover.placement import Placement
from layover.recipe import Recipe
from layover.schema import NAME, RecipeTable, SweepWords, Table, portable, problem_of
from layover.strategies import Strategy
from layover.switches import check_switches, switched

PRESETS = Path(__file__).parent / "studies"
SCHEMA = 1
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class LimitWords(Table):
    """How many rows to use at most: `train` for training and selection together, `validation` for scoring."""

    train: Annotated[int, Field(ge=4)] | None = None
    validation: Annotated[int, Field(ge=4)] | None = None


class Limit(LimitWords):
    """The `[limit]` table, with tables per role and per task that override it."""

    role: dict[str, LimitWords] = Field(default_factory=dict)
    task: dict[str, LimitWords] = Field(default_factory=dict)


class Sweep(SweepWords):  # type: ignore[valid-type, misc]
    """The `[sweep]` table: values of recipe fields, tried per task from the plain encoder with one seed of its own."""

    seed: int = 0

    def grid(self) -> dict[str, list[Any]]:
        """The swept fields and their values, in the file's order."""
        return {name: values for name, values in self.words().items() if name != "seed"}


class Grid(SweepWords):  # type: ignore[valid-type, misc]
    """The `[grid]` table: values of recipe fields; every combination is a trial of its own, and every trial is scored.

    They are those of the last training of each cell, as in Chang and Lu 2021; a sweep chooses one instead.
    """

    def trials(self) -> list[dict[str, Any]]:
        """The combinations, the last field's values one after the other."""
        words = self.words()
        return [dict(zip(words, values, strict=True)) for values in itertools.product(*words.values())]


class RoleSeeds(Table):
    """The `[role_seeds]` table: with what seeds the trainings of a role run, one for each of the study's `seeds`.

    So each stage of a restart may have a seed of its own, as in the code of Pruksachatkun et al. 2020, or all restarts
    one source, as in that of Chang and Lu 2021. A role that is not named has the study's.
    """

    source: list[Seed] = Field(default_factory=list)
    target: list[Seed] = Field(default_factory=list)
    probing: list[Seed] = Field(default_factory=list)
    joint: list[Seed] = Field(default_factory=list)


class Tasks(Table):
    """The `[tasks]` table: which tasks are targets, and which are probing tasks."""

    target: Annotated[list[str], Field(min_length=1)]
    probing: list[str] = Field(default_factory=list)

    @field_validator("target", "probing")
    @classmethod
    def _no_repeats(cls, values: list[str]) -> list[str]:
        return _once(values)


class Sizes(Table):
    """The `[sizes]` table: numbers of training questions of each target, one after the other; 0 stands for all.

    They are drawn by the seed, a smaller subset within a larger one.
    """

    target: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]

    @field_validator("target")
    @classmethod
    def _no_repeats(cls, values: list[int]) -> list[int]:
        return _once(values)


class Forgetting(Table):
    """The `[forgetting]` table: on which text task all checkpoints are measured, and through which masked-LM head.

    `examples` of its validation set are read at most, of `max_length` tokens at most. `head` is the one that the
    encoder was "released" with, or one "trained" once on the frozen plain encoder; "auto": the first if there is one.
    """

    text: str
    examples: Annotated[int, Field(ge=4)] = 500
    max_length: Annotated[int, Field(ge=8)] = 128
    head: Literal["auto", "released", "trained"] = "auto"


class ContrastWords(Table):
    """A `[[contrast]]`: the strategies to judge, what against, and how p-values are corrected."""

    of: Annotated[list[str], Field(min_length=1)]
    against: str
    correct: Literal["holm", "bh", "none"] = "holm"


class Study(Table):
    """Encoders x strategies x tasks x seeds, with recipes, sweeps, limits and the contrasts to judge."""

    schema_version: Annotated[int, Field(alias="schema", ge=1, le=SCHEMA)] = SCHEMA
    name: Annotated[str, Field(pattern=NAME), AfterValidator(portable)]
    encoders: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    tasks: Tasks
    strategies: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    recipe: RecipeTable = RecipeTable()
    sweep: Sweep | None = None
    grid: Grid | None = None
    role_seeds: RoleSeeds = RoleSeeds()
    limit: Limit = Limit()
    sizes: Sizes | None = None
    forgetting: Forgetting | None = None
    selection: Literal["holdout", "validation"] = "holdout"
    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    contrast: list[ContrastWords] = Field(default_factory=list)
    placement: Placement = Placement()
    task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    switch: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def __init__(self, **words: Any) -> None:
        problems: list[Problem] = []
        try:
            super().__init__(**words)
        except ValidationError as error:
            problems = [problem_of(item, Study) for item in error.errors()]
        raise_all(StudyError, [*problems, *check_names(words), *check_switches(words)])

    @field_validator("encoders", "seeds")
    @classmethod
    def _no_repeats(cls, values: list[Any]) -> list[Any]:
        return _once(values)

    def strategy_objects(self) -> dict[str, Strategy]:
        """The strategies by name, built from their tables."""
        return {name: strategy_of(name, table)[0] for name, table in self.strategies.items()}  # type: ignore[misc]

    def recipe_for(self, task: str, role: str, strategy: str = "") -> Recipe:
        """The recipe of a task in its role: `[recipe]`, overridden by `[recipe.role.*]`, then by `[recipe.task.*]`.

        The last word has `[recipe.role.*.task.*]`. A strategy's own `[strategies.*.recipe]`, layered in the same way,
        overrides them all.
        """
        own = self.strategies.get(strategy, {}).get("recipe", {})
        return Recipe(**{**_layers(self.recipe, task, role), **_layers(RecipeTable(**own), task, role)})

    def seed_for(self, role: str, seed: int) -> int:
        """The seed with which a role's trainings run, in the restart that one of the study's seeds names."""
        own = getattr(self.role_seeds, role, [])
        return own[self.seeds.index(seed)] if own else seed

    def rows(self, strategy: str = "") -> list[int]:
        """The numbers of training questions of each target that the study asks of a strategy; 0 for all."""
        own = self.strategies.get(strategy, {}).get("rows")
        return own or (self.sizes.target if self.sizes else [0])

    def seeds_of(self, strategy: str) -> list[int]:
        """The seeds with which a strategy runs: the study's, or the first of them where it says how many trials."""
        return self.seeds[: self.strategies[strategy].get("trials")]

    def limit_for(self, task: str, role: str) -> dict[str, int | None]:
        """The row limits of a task in its role, layered like recipes."""
        return {"train": None, "validation": None, **_layers(self.limit, task, role)}

    def trials(self) -> list[dict[str, Any]]:
        """The recipe fields of each trial of the grid; one without any where there is no grid."""
        return self.grid.trials() if self.grid else [{}]

    def switched(self, *names: str) -> Study:
        """The study with some of its switches on; raises StudyError where they are none or contradict each other."""
        return Study(**switched(self.words(), names)) if names else self

    def changed(self, **words: Any) -> Study:
        """The same study with some top-level words replaced."""
        return Study(**{**self.words(), **words})


def load_study(name: str | Path, switches: Sequence[str] = ()) -> tuple[Study, Path]:
    """The study in a file, or the preset of that name, and the folder that its paths are relative to.

    `switches` of the study are put on. Raises StudyError with every problem, each prefixed with the file's name.
    """
    path = file_of_study(name)
    try:
        words = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        near = did_you_mean(str(name), presets())
        raise StudyError(Problem(str(name), "there is no such study file, and no preset of this name", near)) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        hint = "strings need quotes, and lists need brackets: docs/tutorial.md shows a whole study"
        raise StudyError(Problem(str(path), f"is not a TOML file: {error}", hint)) from None
    try:
        study = Study(**_absolute(words, path.parent))
        raise_all(StudyError, [problem for name in study.switch for problem in _wrong_with(study, name)])
        return study.switched(*switches), path.parent
    except UserError as error:
        problems = [*error.problems, *misspelt_encoders(words, path.parent)]
        raise type(error)(*(dataclasses.replace(p, place=f"{path}: {p.place}") for p in problems)) from None


def file_of_study(name: str | Path) -> Path:
    """The file that is called so, or else that of the preset."""
    path, preset = Path(name), PRESETS / f"{name}.toml"
    return preset if not path.exists() and preset.is_file() else path


def _wrong_with(study: Study, switch: str) -> list[Problem]:
    """What is wrong with a study once a switch of it is on."""
    try:
        study.switched(switch)
    except UserError as error:
        return [dataclasses.replace(p, place=f"switch.{switch}: {p.place}") for p in error.problems]
    return []


def presets() -> list[str]:
    """The names of the studies that layover ships."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def _absolute(words: dict[str, Any], base: Path) -> dict[str, Any]:
    """`words` with the files of own tasks relative to the study file, not to the current folder."""
    switches = words.get("switch")
    for place in (words, *(switches.values() if isinstance(switches, Mapping) else ())):
        tables = place.get("task") if isinstance(place, Mapping) else None
        for table in tables.values() if isinstance(tables, Mapping) else ():
            for split in ("train", "validation"):
                if isinstance(table, dict) and isinstance(table.get(split), str):
                    table[split] = str(base / table[split])
    return words


def _layers(table: Any, task: str, role: str) -> dict[str, Any]:
    base = {name: value for name, value in table.words().items() if name not in ("role", "task")}
    within = table.role.get(role)
    for override in (within, table.task.get(task), getattr(within, "task", {}).get(task)):
        base |= {name: value for name, value in override.words().items() if name != "task"} if override else {}
    return base


def _once(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError(f"names a value twice: {values}")  # a cell that is there twice would count twice
    return values

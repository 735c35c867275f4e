"""Compiler: collects the steps that strategies ask for; a step asked for twice is one step."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from layover import encoders
from layover.encoders import Encoder
from layover.errors import Problem, StudyError, UserError, raise_all
from layover.measures import Reached, measured
from layover.step import Choose, Joint, Probe, Recipe, Step, TaskRef, Train, key_of
from layover.strategies import Cell, Column, Strategy
from layover.strategies.strategy import TRIED
from layover.study import Study
from layover.tasks import Task
from layover.tasks.load import Source

Made = TypeVar("Made")


@dataclass(frozen=True)
class Score:
    """One cell of the study and the key of the step whose scores are its observations.

    `condition` says which of a strategy's conditions it is, "" where there is one only; `rows` is the number of the
    target's training questions that the study asks for, 0 for all.
    """

    encoder: str
    strategy: str
    source: str
    target: str
    role: str
    seed: int
    key: str
    condition: str = ""
    rows: int = 0


@dataclass
class Compiler:
    """Steps with their labels, as strategies ask for them; `requested` trainings there would be if none were shared."""

    study: Study
    tasks: Mapping[str, Task]
    sources: Mapping[str, Source]
    declared: Mapping[str, Mapping[str, Any]]
    steps: dict[str, Step] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    requested: int = 0
    swept: dict[tuple[str, str, str], tuple[Recipe, str]] = field(default_factory=dict)
    refs: dict[tuple[Any, ...], TaskRef] = field(default_factory=dict)
    recipes: dict[tuple[str, ...], tuple[Recipe, str | None]] = field(default_factory=dict)
    trained: dict[tuple[Any, ...], Train] = field(default_factory=dict)  # each holds on to what its ids are of
    reached: list[Reached] = field(default_factory=list)

    def scores(self, found: Mapping[str, Encoder]) -> Iterator[Score]:
        """Every cell of the study, with its steps taken in."""
        strategies = self.study.strategy_objects()
        for name, strategy_name in itertools.product(self.study.encoders, strategies):
            yield from self._cells(found[name], strategy_name, strategies[strategy_name])
        if self.study.forgetting is not None:
            text = self.study.forgetting.text
            for name, strategy, source, condition, rows, key, seed in measured(self, found, self.reached):
                yield Score(name, strategy, source, text, "forgetting", seed, key, condition, rows)

    def _cells(self, encoder: Encoder, strategy_name: str, strategy: Strategy) -> Iterator[Score]:
        study, sources_seen = self.study, {}
        roles = [(t, "target") for t in study.tasks.target] + [(t, "probing") for t in study.tasks.probing]
        depth = encoders.depth(encoder)
        columns = _placed(strategy_name, lambda: strategy.columns(depth))
        columns = _some(columns, study.strategies[strategy_name].get("conditions"))
        empty = dict.fromkeys(column.source for column in columns)
        asked = itertools.product(
            columns, roles, study.rows(strategy_name), study.trials(), study.seeds_of(strategy_name)
        )
        for column, (target, role), rows, trial, seed in asked:
            maker, tried = _Maker(self, encoder, strategy_name, trial), _words(trial)
            cell = Cell(encoder.name, encoder.identity, depth, column, target, role, seed, rows or None, maker, tried)
            reached = _placed(strategy_name, partial(strategy.reach, cell))
            if reached is None:
                continue
            empty.pop(column.source, None)
            key = key_of(reached)
            where = encoder.name, strategy_name
            condition = " · ".join(filter(None, (column.condition, tried)))
            yield Score(*where, column.source, target, role, seed, key, condition, rows)
            own = tuple(made for made, (_, part) in maker.made.items() if part == "source")
            self.reached.append(Reached(encoder, strategy_name, condition, target, rows, seed, key, own))
            sources_seen |= {
                made: (task, seed, column.condition) for made, (task, role) in maker.made.items() if role == "source"
            }
        for key, (task, seed, condition) in sources_seen.items():
            yield Score(encoder.name, strategy_name, "", task, "source", seed, key, condition)
        place, hint = f"strategies.{strategy_name}.sources", f"name another source, or a target besides: {roles[0][0]}"
        raise_all(StudyError, [Problem(place, f"{name!r} goes with no target of this study", hint) for name in empty])

    def ref(self, name: str, role: str, seed: int, asked: int | None = None) -> TaskRef:
        """What a step takes from a task in its role; `asked` training questions are drawn by the seed.

        The same object for all steps that take the same.
        """
        place = name, role, asked, seed if asked else None
        if place not in self.refs:
            self.refs[place] = self._ref(*place)
        return self.refs[place]

    def _ref(self, name: str, role: str, asked: int | None, drawn: int | None) -> TaskRef:
        study, task = self.study, self.tasks[name]
        limit = study.limit_for(name, role)
        return TaskRef(
            name=task.name,
            version=task.version,
            data=self.sources[name].digest,
            select_by=task.primary,
            limit_train=asked or limit["train"],
            limit_validation=limit["validation"],
            selection=study.selection,
            holdout=study.holdout,
            declaration=self.declared.get(name),
            drawn=drawn,
        )

    def recipe(
        self, encoder: Encoder, task: str, role: str, strategy: str, trial: Mapping[str, Any] | None = None
    ) -> tuple[Recipe, str | None]:
        """A recipe, and the key of the step that chooses its swept fields where there is a sweep.

        In the roles that a grid is about, it has the fields of a `trial` of that. The same object for all steps that
        train with the same.
        """
        trial = trial if trial and role in TRIED else {}
        place = encoder.name, task, role, strategy, *map(str, trial.values())
        if place not in self.recipes:
            recipe, choice = self._recipe(encoder, task, role, strategy)
            self.recipes[place] = dataclasses.replace(recipe, **trial) if trial else recipe, choice
        return self.recipes[place]

    def _recipe(self, encoder: Encoder, task: str, role: str, strategy: str) -> tuple[Recipe, str | None]:
        if not (self.study.sweep and self.study.sweep.grid()):
            return self.study.recipe_for(task, role, strategy), None
        if role == "joint":
            return self._unswept(strategy), None
        place = (encoder.name, task, role)
        if place not in self.swept:
            self.swept[place] = self._sweep(encoder, task, role, self.study.recipe_for(task, role))
        first, choice = self.swept[place]
        fields = {name: getattr(first, name) for name in self.study.sweep.grid()}
        return dataclasses.replace(self.study.recipe_for(task, role, strategy), **fields), choice

    def same(self, step: Train) -> Train:
        """The step as it was made before, if it was: its key is known by the object."""
        rest = step.seed, step.start, step.recipe_from, step.surgery, step.head
        return self.trained.setdefault((step.encoder, id(step.task), id(step.recipe), *rest), step)

    def _unswept(self, strategy: str) -> Recipe:
        """The recipe of a joint training in a study with a sweep, which is of single tasks and says nothing for it."""
        assert self.study.sweep is not None
        said = self.study.recipe.role.get("joint")
        words = said.words() if said else {}
        place, hint = "sweep", "say under [recipe.role.joint] what joint trainings have: "
        missing = [name for name in self.study.sweep.grid() if name not in words]
        what = f"chooses {', '.join(missing)} for each task, and not for several trained jointly"
        raise_all(StudyError, [Problem(place, what, hint + ", ".join(missing))] if missing else [])
        return self.study.recipe_for("", "joint", strategy)

    def _sweep(self, encoder: Encoder, task: str, role: str, recipe: Recipe) -> tuple[Recipe, str]:
        """The recipe with its swept fields at their first value, and the key of the step that chooses among all."""
        sweep = self.study.sweep
        assert sweep is not None
        grid = sweep.grid()
        if not recipe.selects:
            message = f"chooses by selection score, and the recipe of {task!r} never looks at a selection set"
            raise StudyError(Problem("sweep", message, "set checkpoint = 'best', or a patience above 0"))
        cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        tried, ref = [], self.ref(task, role, sweep.seed)
        for cell in cells:
            step = Train(encoder.identity, ref, dataclasses.replace(recipe, **cell), sweep.seed)
            tried.append(self.add(step, f"{encoder.name} · {task} · sweep {_words(cell)}", task, role))
        self.requested += len(cells)
        choose = Choose(tuple(tried), tuple(grid))
        key = self.add(choose, f"{encoder.name} · {task} · best of the sweep", task, role)
        return dataclasses.replace(recipe, **cells[0]), key

    def add(self, step: Step, label: str, task: str, role: str, strategy: str = "") -> str:
        """Take a step in under a label that no other step has.

        Where a task's roles differ the role is named, and where strategies differ in a role the strategy.
        """
        key = key_of(step)
        if key not in self.steps:
            self.steps[key] = step
            begin, dot, end = label.rpartition(" · ")
            if role and self.taken.get(label, role) != role:
                label = f"{begin} as {role}{dot}{end}"
            if strategy and label in self.taken:
                label = f"{begin} ({strategy}){dot}{end}"
            number, plain = 2, label
            while label in self.taken:
                label, number = f"{plain} ({number})", number + 1
            self.labels[key] = label
            self.taken[label] = role
        return key


@dataclass
class _Maker:
    """What makes the steps of one cell; `made` says, by key, for which task in which role."""

    compiler: Compiler
    encoder: Encoder
    strategy: str
    trial: Mapping[str, Any]
    made: dict[str, tuple[str, str]] = field(default_factory=dict)

    def ref(self, task: str, role: str, seed: int, limit: int | None = None) -> TaskRef:
        return self.compiler.ref(task, role, seed, limit)

    def same(self, step: Train) -> Train:
        return self.compiler.same(step)

    def recipe(self, task: str, role: str) -> tuple[Recipe, str | None]:
        return self.compiler.recipe(self.encoder, task, role, self.strategy, self.trial)

    def add(self, step: Step, label: str, task: str, role: str) -> Step:
        key = self.compiler.add(step, label, task, role, self.strategy)
        self.compiler.requested += isinstance(step, Train | Joint | Probe)
        if task:
            self.made[key] = task, role
        return step

    def label(self, key: str) -> str:
        return self.compiler.labels[key]

    def seed(self, role: str, seed: int) -> int:
        return self.compiler.study.seed_for(role, seed)

    def roles(self) -> Mapping[str, str]:
        tasks = self.compiler.study.tasks
        known = dict.fromkeys(self.compiler.tasks, "source")
        return known | dict.fromkeys(tasks.probing, "probing") | dict.fromkeys(tasks.target, "target")


def _some(columns: Sequence[Column], most: int | None) -> Sequence[Column]:
    """At most so many columns of each source, evenly from its first to its last; all of them where that is None."""
    if most is None:
        return columns
    groups = [[c for c in columns if c.source == source] for source in dict.fromkeys(c.source for c in columns)]
    step = max(1, most - 1)
    return [
        column for group in groups for column in dict.fromkeys(group[(len(group) - 1) * i // step] for i in range(most))
    ]


def _words(trial: Mapping[str, Any]) -> str:
    """A trial of a grid as its condition: "learning_rate=1e-05 batch_size=8"."""
    return " ".join(f"{name}={value}" for name, value in trial.items())


def _placed(strategy: str, work: Callable[[], Made]) -> Made:
    """What a strategy makes; what it finds wrong is said with its place in the study file."""
    try:
        return work()
    except UserError as error:
        found = (
            p if p.place == "sweep" else dataclasses.replace(p, place=f"strategies.{strategy}.{p.place}".rstrip("."))
            for p in error.problems
        )
        raise type(error)(*found) from None

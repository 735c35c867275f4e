"""Plan: the steps of a study without duplicates, in order, each with a label."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover import encoders
from layover.encoders import Encoder
from layover.errors import EncoderError, Problem, StudyError, UserError, did_you_mean, raise_all
from layover.step import Choose, Places, Recipe, Step, TaskRef, Train, key_of
from layover.strategies import Cell
from layover.study import Study
from layover.tasks import TASKS, Task
from layover.tasks.hub import pinned
from layover.tasks.load import Source, locate
from layover.tasks.own import declaration, from_declaration, own_files


@dataclass(frozen=True)
class Score:
    """One cell of the study and the key of the step whose scores are its observations."""

    encoder: str
    strategy: str
    source: str
    target: str
    role: str
    seed: int
    key: str


@dataclass(frozen=True)
class Plan:
    """The steps of a study.

    `steps` maps keys to steps, parents first. `labels` names each key for people. `scores` are the study's cells.
    `requested` is the number of trainings there would be if nothing were shared. `wanted` are the keys of the steps
    whose weights are asked for, though no step starts from them: never part of any key.
    """

    study: Study
    steps: dict[str, Step]
    labels: Mapping[str, str]
    scores: tuple[Score, ...]
    requested: int
    tasks: Mapping[str, Task]
    sources: Mapping[str, Source]
    encoders: Mapping[str, Encoder]
    places: Places
    wanted: frozenset[str] = frozenset()

    def starts(self) -> set[str]:
        """Keys of the steps whose weights another step of this plan starts from."""
        return {step.start for step in self.steps.values() if isinstance(step, Train) and step.start}

    def kept(self) -> set[str]:
        """Keys of the steps whose weights are kept: those that a step starts from, and those asked for."""
        return self.starts() | self.wanted

    def baseline(self) -> str | None:
        """The name of the study's first direct strategy, which the others are measured against."""
        return next((name for name, table in self.study.strategies.items() if table["kind"] == "direct"), None)

    def find(self, label: str) -> str:
        """The key of the step with this label, key, or unambiguous part of either; raises StudyError otherwise."""
        return find(self.labels, label)


def find(labels: Mapping[str, str], label: str) -> str:
    """The key, of those with labels, that has this label or key, or an unambiguous part of either.

    Raises StudyError where none or several do; steps of several studies that share a label are told apart by key.
    """
    exact = [key for key, name in labels.items() if label in (name, key)]
    found = exact or [key for key, name in labels.items() if label in name or key.startswith(label)]
    if len(found) == 1:
        return found[0]
    shown, names = (found or list(labels))[:12], list(labels.values())
    some = [labels[key] if labels[key] and names.count(labels[key]) == 1 else f"{labels[key]} ({key})" for key in shown]
    what = f"{len(found)} steps match" if found else "no step matches"
    raise StudyError(
        Problem(label, what, "labels: " + " | ".join(some) + (" | ..." if len(found or labels) > 12 else ""))
    )


def compile_plan(study: Study, base: Path | None = None, data: Sequence[Path] = ()) -> Plan:
    """The plan of a study: finds its encoders and data, and asks every strategy for its steps.

    `base` is the folder of the study file; `data` are directories of task data. No torch, no training, and no network
    unless an encoder or a task names the Hub without a commit. Raises one error with every encoder and task not found.
    """
    declared = {name: declaration(table) for name, table in study.task.items()}
    tasks = {n: from_declaration(n, declared[n]) if n in declared else TASKS.get(n) for n in _task_names(study)}
    found, tasks, sources = _find(study, tasks, base, data)
    compiler = _Compiler(study, tasks, sources, {name: _identity_of(words) for name, words in declared.items()})
    scores = tuple(compiler.scores(found))
    files = {name: source.files for name, source in sources.items() if name in declared}
    places = Places(
        data=tuple(Path(d) for d in data),
        files=files,
        encoders={encoder.identity: encoder.location for encoder in found.values()},
        **study.placement.model_dump(exclude={"executor", "workers", "cohort"}),
    )
    return Plan(study, compiler.steps, compiler.labels, scores, compiler.requested, tasks, sources, found, places)


def _identity_of(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an own task's declaration that a step uses: adding a metric retrains nothing."""
    return {name: value for name, value in declared.items() if name != "metrics"}


def _task_names(study: Study) -> list[str]:
    columns = [name for s in study.strategy_objects().values() for name in s.columns() if name]
    return list(dict.fromkeys([*study.tasks.target, *study.tasks.probing, *columns]))


def _find(
    study: Study, tasks: Mapping[str, Task], base: Path | None, data: Sequence[Path]
) -> tuple[dict[str, Encoder], dict[str, Task], dict[str, Source]]:
    """Every encoder, and every task at a commit with its data; one error names all that are not found."""
    problems: dict[Problem, None] = {}
    found, fixed, sources, kind = {}, {}, {}, None
    for name in study.encoders:
        try:
            found[name] = encoders.find(name, base)
        except UserError as error:
            kind, problems = kind or type(error), problems | dict.fromkeys(error.problems)
    if texts := [name for name, task in tasks.items() if task.output == "tokens"]:
        lacking = [name for name, encoder in found.items() if encoders.lacks_mask(encoder)]
        kind = EncoderError if lacking else kind
        problems |= {_without_mask(name, texts): None for name in lacking}
    for name, task in tasks.items():
        try:
            fixed[name] = pinned(task)
            sources[name] = locate(fixed[name], data, own_files(study.task[name]) if name in study.task else None)
        except UserError as error:
            kind, problems = kind or type(error), problems | dict.fromkeys(error.problems)
    raise_all(kind or UserError, list(problems))
    return found, fixed, sources


def _without_mask(encoder: str, texts: Sequence[str]) -> Problem:
    message = (
        f"its tokenizer has no mask token, and {', '.join(map(repr, texts))} is plain text whose tokens are hidden"
    )
    others = did_you_mean("", encoders.WELL_KNOWN)
    return Problem(encoder, message, f"name an encoder that has one ({others}), or leave that task out")


@dataclass
class _Compiler:
    """Collects steps while strategies ask for them; a step asked for twice is one step."""

    study: Study
    tasks: Mapping[str, Task]
    sources: Mapping[str, Source]
    declared: Mapping[str, Mapping[str, Any]]
    steps: dict[str, Step] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    requested: int = 0
    swept: dict[tuple[str, str, str], tuple[Recipe, str]] = field(default_factory=dict)

    def scores(self, found: Mapping[str, Encoder]) -> Iterator[Score]:
        study, strategies = self.study, self.study.strategy_objects()
        roles = [(t, "target") for t in study.tasks.target] + [(t, "probing") for t in study.tasks.probing]
        for name, strategy_name in itertools.product(study.encoders, strategies):
            strategy = strategies[strategy_name]
            sources_seen: dict[tuple[str, int], str] = {}
            for source, (target, role), seed in itertools.product(strategy.columns(), roles, study.seeds):
                made: list[tuple[str, str, str]] = []
                cell = Cell(name, source, target, role, seed, self._maker(found[name], made))
                key = key_of(strategy.reach(cell))
                yield Score(name, strategy_name, source, target, role, seed, key)
                sources_seen |= {(task, seed): made_key for task, made_role, made_key in made if made_role == "source"}
            for (task, seed), key in sources_seen.items():
                yield Score(name, strategy_name, "", task, "source", seed, key)

    def _maker(self, encoder: Encoder, made: list[tuple[str, str, str]]):
        def make(task: str, role: str, seed: int, start: Train | None) -> Train:
            step = self._train(encoder, task, role, seed, start)
            key = key_of(step)
            chain = f"{self.labels[step.start].rsplit(' · ', 1)[0]} → " if step.start else f"{encoder.name} · "
            self._add(key, step, chain, task, role, f"s{seed}")
            self.requested += 1
            made.append((task, role, key))
            return step

        return make

    def _train(self, encoder: Encoder, task: str, role: str, seed: int, start: Train | None) -> Train:
        recipe, choice = self.study.recipe_for(task, role), None
        if self.study.sweep and self.study.sweep.grid():
            place = (encoder.name, task, role)
            if place not in self.swept:
                self.swept[place] = self._sweep(encoder, task, role, recipe)
            recipe, choice = self.swept[place]
        start_key = key_of(start) if start else None
        return Train(encoder.identity, self._ref(task, role), recipe, seed, start_key, choice)

    def _sweep(self, encoder: Encoder, task: str, role: str, recipe: Recipe) -> tuple[Recipe, str]:
        """The recipe with its swept fields at their first value, and the key of the step that chooses among all."""
        sweep = self.study.sweep
        assert sweep is not None
        grid = sweep.grid()
        if not recipe.selects:
            message = f"chooses by selection score, and the recipe of {task!r} never looks at a selection set"
            raise StudyError(Problem("sweep", message, "set checkpoint = 'best', or a patience above 0"))
        cells = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        tried = []
        for cell in cells:
            step = Train(encoder.identity, self._ref(task, role), dataclasses.replace(recipe, **cell), sweep.seed)
            text = " ".join(f"{name}={value}" for name, value in cell.items())
            tried.append(self._add(key_of(step), step, f"{encoder.name} · ", task, role, f"sweep {text}"))
        self.requested += len(cells)
        choose = Choose(tuple(tried), tuple(grid))
        key = self._add(key_of(choose), choose, f"{encoder.name} · ", task, role, "best of the sweep")
        return dataclasses.replace(recipe, **cells[0]), key

    def _ref(self, name: str, role: str) -> TaskRef:
        study, task = self.study, self.tasks[name]
        limit = study.limit_for(name, role)
        return TaskRef(
            name=task.name,
            version=task.version,
            data=self.sources[name].digest,
            select_by=task.primary,
            limit_train=limit["train"],
            limit_validation=limit["validation"],
            selection=study.selection,
            holdout=study.holdout,
            declaration=self.declared.get(name),
        )

    def _add(self, key: str, step: Step, chain: str, task: str, role: str, what: str) -> str:
        """Take a step in under a label that no other step has: the role is named where a task's roles differ."""
        if key not in self.steps:
            self.steps[key] = step
            label = f"{chain}{task} · {what}"
            label = f"{chain}{task} as {role} · {what}" if label in self.taken else label
            self.labels[key] = label
            self.taken.add(label)
        return key

"""Plan: the steps of a study without duplicates, in order, each with a label."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover import encoders
from layover.compiler import Compiler, Score
from layover.encoders import Encoder
from layover.errors import DataMissing, EncoderError, HubError, Problem, StudyError, UserError, did_you_mean, raise_all
from layover.lacking import Lacking, tasks_of, without_data, without_weights
from layover.step import Joint, Member, Places, Probe, Step, Train
from layover.study import Study
from layover.suits import unsuited
from layover.tasks import Task
from layover.tasks.hub import pinned
from layover.tasks.load import Source, locate
from layover.tasks.own import declaration, own_files


@dataclass(frozen=True)
class Plan:
    """The steps of a study.

    `steps` maps keys to steps, parents first. `labels` names each key for people. `scores` are the study's cells.
    `requested` is the number of trainings there would be if nothing were shared. `wanted` are the keys of the steps
    whose weights are asked for, though no step starts from them: never part of any key. `lacking` is what something
    stands in for, so that the plan can be looked at but not run.
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
    lacking: Lacking = field(default_factory=Lacking)

    def lacks(self, step: Step) -> list[str]:
        """The tasks and the encoder of a step that something stands in for."""
        named = {encoder.identity: name for name, encoder in self.encoders.items() if name in self.lacking.encoders}
        lost = [named[identity] for identity in [getattr(step, "encoder", None)] if identity in named]
        return [ref.name for ref in step.tasks if ref.name in self.lacking.tasks] + lost

    def kept(self) -> set[str]:
        """Keys of the steps whose weights are kept: those that another step needs, and those asked for."""
        found = set(self.wanted)
        for key, step in reversed(self.steps.items()):  # children come first here
            found.update(step.reads(key in found))
        return found

    @property
    def trainings(self) -> int:
        """How many steps train something."""
        return sum(isinstance(step, Train | Joint | Probe) for step in self.steps.values())

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


def compile_plan(
    study: Study, base: Path | None = None, data: Sequence[Path] = (), trust_remote_code: bool = False,
    stand_in: bool = False,
) -> Plan:  # fmt: skip
    """The plan of a study: finds its encoders and data, and asks every strategy for its steps.

    `base` is the folder of the study file; `data` are directories of task data. No torch, no training, and no network
    unless an encoder or a task names the Hub without a commit; nothing that comes with an encoder is run, whoever is
    trusted. Raises one error with every encoder and task not found; with `stand_in`, tasks without data and encoders
    that the Hub does not give are planned all the same, and the plan says which.
    """
    declared = {name: declaration(table) for name, table in study.task.items()}
    lost = Lacking({}, {}) if stand_in else None
    found, tasks, sources = _find(study, tasks_of(study), base, data, trust_remote_code, lost)
    compiler = Compiler(study, tasks, sources, {name: _identity_of(words) for name, words in declared.items()})
    scores = tuple(compiler.scores(found))
    depths = {encoder.identity: encoders.depth(encoder) for encoder in found.values()}
    wrong = unsuited(compiler.steps, compiler.labels, depths)
    raise_all(StudyError, [*_wrongly_carried(compiler.steps, compiler.labels, tasks), *wrong])
    files = {name: source.files for name, source in sources.items() if name in declared}
    places = Places(
        data=tuple(Path(d) for d in data),
        files=files,
        encoders={encoder.identity: encoder.location for encoder in found.values()},
        trust_remote_code=trust_remote_code,
        **study.placement.model_dump(include={field.name for field in dataclasses.fields(Places)}),
    )
    plan = Plan(study, compiler.steps, compiler.labels, scores, compiler.requested, tasks, sources, found, places)
    return dataclasses.replace(plan, lacking=lost) if lost else plan


def _wrongly_carried(steps: Mapping[str, Step], labels: Mapping[str, str], tasks: Mapping[str, Task]) -> list[Problem]:
    """Heads that are to be carried over to a task with other labels, as far as declarations tell; each pair once."""
    found: dict[Problem, None] = {}
    for step in steps.values():
        before = steps[step.start] if isinstance(step, Train) and step.head == "carried" and step.start else None
        if not isinstance(step, Train) or not isinstance(before, Train | Member):
            continue
        theirs, own = tasks[before.task.name], tasks[step.task.name]
        if theirs.labels_in_data or own.labels_in_data:
            continue  # which labels there are is known when the step runs, and compared then
        if (theirs.output, theirs.labels, theirs.bounds) != (own.output, own.labels, own.bounds):
            message = f"is 'carried', and the labels of {own.name!r} are not those of {theirs.name!r}"
            shown = [f"{task.name}: {', '.join(task.labels) or task.output}" for task in (theirs, own)]
            found[Problem("head", message, f"say head = 'new'; {'; '.join(shown)}")] = None
    return list(found)


def _identity_of(declared: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an own task's declaration that a step uses: adding a metric retrains nothing."""
    return {name: value for name, value in declared.items() if name != "metrics"}


def _find(
    study: Study, tasks: Mapping[str, Task], base: Path | None, data: Sequence[Path], trusted: bool,
    lost: Lacking | None,
) -> tuple[dict[str, Encoder], dict[str, Task], dict[str, Source]]:  # fmt: skip
    """Every encoder, and every task at a commit with its data; one error names all that are not found.

    Where there is a `lost`, it takes in what is not found, and something stands in for that.
    """
    problems: dict[Problem, None] = {}
    found, fixed, sources, kind, absent = {}, {}, {}, None, 0
    for name in study.encoders:
        try:
            encoder = encoders.find(name, base)
            found[name] = encoders.with_code(encoder) if trusted else encoder
        except UserError as error:
            if lost is not None and isinstance(error, HubError):
                lost.encoders[name], found[name] = error.problems[0], without_weights(name)
                continue
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
            if lost is not None and isinstance(error, DataMissing | HubError):
                fixed.setdefault(name, task)
                lost.tasks[name], sources[name] = error.problems[0], without_data(task)
                continue
            absent += isinstance(error, DataMissing)
            kind, problems = kind or type(error), problems | dict.fromkeys(error.problems)
    if absent:
        told = f"{absent} of the study's {len(tasks)} tasks {'have' if absent > 1 else 'has'} no data here"
        problems |= {
            Problem("", told, "--skip-missing leaves out what has none; `layover plan` shows the whole plan"): None
        }
    raise_all(kind or UserError, list(problems))
    return found, fixed, sources


def _without_mask(encoder: str, texts: Sequence[str]) -> Problem:
    message = (
        f"its tokenizer has no mask token, and {', '.join(map(repr, texts))} is plain text whose tokens are hidden"
    )
    others = did_you_mean("", encoders.WELL_KNOWN)
    return Problem(encoder, message, f"name an encoder that has one ({others}), or leave that task out")

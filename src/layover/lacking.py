"""Lacking: what of a study is not to be had on this machine: tasks without data, and encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layover import encoders
from layover.encoders import Encoder
from layover.errors import DataMissing, HubError, MissingExtra, Problem, UserError
from layover.study import Study
from layover.tasks import TASKS, Task
from layover.tasks.hub import hub_rows, pinned
from layover.tasks.load import Source, locate
from layover.tasks.own import declaration, from_declaration, own_files

ABSENT = "absent:"  # what the identities of stand-ins begin with


@dataclass(frozen=True)
class Lacking:
    """The tasks and encoders of a study that cannot be had, each with the reason."""

    tasks: dict[str, Problem] = field(default_factory=dict)
    encoders: dict[str, Problem] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.tasks or self.encoders)


def lacking(study: Study, base: Path | None, data: Sequence[Path]) -> Lacking:
    """What a run of the study would not find. A task on the Hub is asked for its first row.

    Whatever else is wrong is left to the plan, which says it.
    """
    tasks: dict[str, Problem] = {}
    lost: dict[str, Problem] = {}
    for name, task in tasks_of(study).items():
        try:
            source = locate(pinned(task), data, own_files(study.task[name]) if name in study.task else None)
            if not source.files and task.hub:
                next(iter(hub_rows(task, "train")), None)
        except (DataMissing, HubError, MissingExtra) as error:
            tasks[name] = error.problems[0]
        except UserError:
            continue
    for name in study.encoders:
        try:
            encoders.find(name, base)
        except HubError as error:
            lost[name] = error.problems[0]
        except UserError:
            continue
    return Lacking(tasks, lost)


def tasks_of(study: Study) -> dict[str, Task]:
    """The tasks that a study names, in its order, by name."""
    used = [name for strategy in study.strategy_objects().values() for name in strategy.uses()]
    used += [study.forgetting.text] if study.forgetting else []
    names = dict.fromkeys([*study.tasks.target, *study.tasks.probing, *used])
    declared = {name: declaration(table) for name, table in study.task.items()}
    return {n: from_declaration(n, declared[n]) if n in declared else TASKS.get(n) for n in names}


def without_data(task: Task) -> Source:
    """What stands in for a task's data in a plan that is only looked at."""
    return Source(f"{ABSENT}{task.name}", {})


def without_weights(name: str) -> Encoder:
    """What stands in for an encoder in a plan that is only looked at."""
    repo, _, revision = name.partition("@")
    return Encoder(name, f"{ABSENT}{name}", f"{repo}@{revision}" if revision else repo)

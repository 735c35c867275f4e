"""Formats: what tasks have in common before anything is trained, and what their sizes alone recommend.

Nothing here needs an encoder or a row of data; where a size is not known, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layover.select.candidate import Candidate
from layover.stats.size_rule import preferred
from layover.tasks import TASKS, Task
from layover.tasks.extent import extent
from layover.tasks.load import Source

READS = {
    "Single": "one text", "Pair": "two texts", "PassageAnswers": "two texts", "Span": "two texts", "Cloze": "two texts",
    "Choice": "several inputs", "Tagging": "marked text", "EdgeProbing": "marked text", "WordInContext": "marked text",
    "Coreference": "marked text", "Text": "plain text",
}  # fmt: skip


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task from its declaration.

    `reads`: what the encoder is given at once (one text, two texts, several inputs of which one is right, a text with
    marked stretches, or plain text). `predicts` is what its head predicts, as in `tasks.example.Output`; `scored` what
    metrics compare. `size` is its number of training examples, None where that is not known.
    """

    name: str
    reads: str
    predicts: str
    scored: str
    size: int | None = None


def facts_of(task: Task, source: Source | None = None) -> TaskFacts:
    """The facts of a task; its size is that of its data where that is at hand in `source`, else as published."""
    found = extent(task, source)
    size = None if found.known == "guessed" else found.train
    return TaskFacts(task.name, READS[type(task.format).__name__], task.output, task.format.scored, size)


def catalogue(names: Iterable[str]) -> dict[str, TaskFacts]:
    """The facts of those of the tasks that the catalogue has; others, such as a user's own, are left out."""
    return {name: facts_of(TASKS.get(name)) for name in sorted(set(names)) if name in TASKS}


def match(source: TaskFacts, target: TaskFacts) -> float:
    """How alike two tasks are in form: the share, 0 to 1, of three things in which they agree.

    They are what the encoder reads at once, what the head predicts, and what is scored. 1 means that the source's model
    could answer the target's questions if labels meant the same; 0 that they have only the encoder in common.
    """
    agree = (source.reads == target.reads, source.predicts == target.predicts, source.scored == target.scored)
    return sum(agree) / len(agree)


def match_scores(target: str, candidates: Iterable[Candidate], tasks: Mapping[str, TaskFacts]) -> list[float]:
    """`match` of each candidate's source with the target; NaN where one of them is not in `tasks`."""
    return [match(tasks[one.source], tasks[target]) if {one.source, target} <= tasks.keys() else math.nan
            for one in candidates]  # fmt: skip


def size_rule_scores(target: str, candidates: Iterable[Candidate], tasks: Mapping[str, TaskFacts]) -> list[float]:
    """1 for candidates that the rule of size recommends, 0 for the others, NaN where it says nothing.

    For each source it recommends multitask where the target is the smaller task, else stilts (Weller et al. 2022,
    section 4); of other strategies, and of tasks whose size is not known or the same, it says nothing. It chooses how
    to use a source, and not which: all that it recommends are tied.
    """
    scores = []
    for one in candidates:
        ratio = _ratio(tasks.get(one.source), tasks.get(target))
        choice = preferred(ratio) if one.strategy in ("multitask", "stilts") else None
        scores.append(math.nan if choice is None else float(choice == one.strategy))
    return scores


def size_scores(candidates: Iterable[Candidate], tasks: Mapping[str, TaskFacts]) -> list[float]:
    """The training examples of each candidate's source; NaN where they are not known."""
    sizes = [tasks[one.source].size if one.source in tasks else None for one in candidates]
    return [math.nan if size is None else float(size) for size in sizes]


def _ratio(source: TaskFacts | None, target: TaskFacts | None) -> float | None:
    """The source's size over the target's; None where one is not known."""
    if source is None or target is None or not source.size or not target.size:
        return None
    return source.size / target.size

"""Measures: the steps that measure what a study's intermediate checkpoints forgot of their plain encoder.

A checkpoint is measured if a later step of the study starts from it, whatever strategy made it: trainings, and encoders
merged of several. So is what a joint training made of each of its sources. What two strategies share is measured once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layover import encoders
from layover.encoders import Encoder
from layover.errors import Problem, StudyError
from layover.recipe import Recipe
from layover.step import Joint, Measure, Member, Merge, Step, TaskRef, Train, key_of

if TYPE_CHECKING:
    from layover.compiler import Compiler

PLAIN = "plain"  # what the plain encoder is called where strategies are named
SEED = 0  # of the plain encoder's measures, and of the head that is trained on it
Measured = tuple[str, str, str, str, int, str, int]
"""What a `Score` is made of: encoder, strategy, source, condition, rows, key, seed."""


@dataclass(frozen=True)
class Reached:
    """A planned cell, by the key of the step that it ends with; `made` are those that were made for sources."""

    encoder: Encoder
    strategy: str
    condition: str
    target: str
    rows: int
    seed: int
    key: str
    made: tuple[str, ...]


def measured(compiler: Compiler, found: Mapping[str, Encoder], cells: list[Reached]) -> Iterator[Measured]:
    """A measure of every plain encoder, then of every checkpoint of every strategy, with its steps taken in."""
    for encoder in found.values():
        head = _head(compiler, encoder)
        yield encoder.name, PLAIN, "", "", 0, _measure(compiler, encoder, None, head), SEED
        done: set[tuple[str, int, str]] = set()
        taken: set[tuple[str, int, str, str, int]] = set()
        for cell in (cell for cell in cells if cell.encoder == encoder):
            for key, condition in _checkpoints(compiler.steps, cell):
                if (cell.strategy, cell.seed, key) in done:
                    continue
                done.add((cell.strategy, cell.seed, key))
                source = _way(compiler.steps, key)
                ways = [(cell.strategy, cell.seed, source, *one) for one in _names(cell, condition)]
                name = next((way for way in ways if way not in taken), ways[-1])
                taken.add(name)
                measure = _measure(compiler, encoder, key, head)
                yield encoder.name, cell.strategy, *name[2:], measure, cell.seed


def _names(cell: Reached, condition: str) -> list[tuple[str, int]]:
    """A condition and a number of rows by which to call a checkpoint, the next where another has that name already.

    They say how the target comes in only where checkpoints differ by it, as those of a joint training do.
    """
    return [(condition, 0), (condition, cell.rows), (_joined(condition, f"for {cell.target}"), cell.rows)]


def _checkpoints(steps: Mapping[str, Step], cell: Reached) -> Iterator[tuple[str, str]]:
    """The checkpoints on the way to a cell, the last one first, each with its condition."""
    before, own = list(_starts(steps, cell.key)), cell.condition
    while before:
        key = before.pop(0)
        if not isinstance(steps[key], Joint):
            yield key, _joined(own, _condition(steps[key]))
            own = ""  # what a column says of its source, such as how many rows, is about the last one
        before += _starts(steps, key)
    for key in cell.made:
        if isinstance(steps[key], Member):
            yield key, _joined(cell.condition, _condition(steps[key]))


def _starts(steps: Mapping[str, Step], key: str) -> tuple[str, ...]:
    """The steps from whose weights a step starts; a member of a joint training starts where that does."""
    step = steps[key]
    return steps[step.of].reads(False) if isinstance(step, Member) else step.reads(False)


def _joined(*words: str) -> str:
    return " · ".join(filter(None, words))


def _condition(step: Step) -> str:
    return f"best for {step.task.name}" if isinstance(step, Member) else ""


def _way(steps: Mapping[str, Step], key: str) -> str:
    """How a checkpoint came about: "mnli", "mnli → rte", "mnli + qqp"."""
    step = steps[key]
    if isinstance(step, Merge):
        return " + ".join(_way(steps, one) for one in step.of)
    if isinstance(step, Member):
        return _way(steps, step.of)
    own = " + ".join(task.name for task in step.tasks)
    start = getattr(step, "start", None)
    return f"{_way(steps, start)} → {own}" if start else own


def _measure(compiler: Compiler, encoder: Encoder, checkpoint: str | None, head: str | None) -> str:
    words = compiler.study.forgetting
    assert words is not None
    step = Measure(encoder.identity, _text(compiler), words.max_length, checkpoint, head)
    label = compiler.labels[checkpoint] if checkpoint else f"{encoder.name} · s{SEED}"
    begin, _, seed = label.rpartition(" · ")
    what = f"forgetting on {words.text}"
    end = f" · {seed}" if checkpoint else ""
    return compiler.add(step, f"{begin} · {what}{end}", words.text, "forgetting")


def _text(compiler: Compiler) -> TaskRef:
    """The text: nothing of it but its validation set, so that no other setting of the study moves a measure's key."""
    words = compiler.study.forgetting
    assert words is not None
    most = compiler.study.limit_for(words.text, "forgetting")["validation"]
    ref = compiler.ref(words.text, "forgetting", SEED)
    limit = words.examples if most is None else min(words.examples, most)
    return dataclasses.replace(ref, limit_train=None, limit_validation=limit, selection="validation", holdout=0.1)


def _head(compiler: Compiler, encoder: Encoder) -> str | None:
    """The key of the step that trains a masked-LM head on the frozen plain encoder; None for the release's own."""
    words = compiler.study.forgetting
    assert words is not None
    kind = words.head
    if kind == "auto":
        released = encoders.masked_head(encoder)
        if released is None:
            told = f"whether {encoder.name} comes with a masked-LM head is not known before it is loaded"
            raise StudyError(Problem("forgetting.head", told, "choices: released, trained"))
        kind = "released" if released else "trained"
    if kind == "released":
        return None
    recipe = compiler.study.recipe_for(words.text, "source")
    plain = {f.name: f.metadata["neutral"] for f in dataclasses.fields(Recipe) if "neutral" in f.metadata}
    recipe = dataclasses.replace(recipe, **{**plain, "freeze": "encoder"})
    step = Train(encoder.identity, compiler.ref(words.text, "source", SEED), recipe, SEED)
    compiler.requested += key_of(step) not in compiler.steps
    return compiler.add(step, f"{encoder.name} · {words.text} masked-LM head · s{SEED}", words.text, "forgetting")

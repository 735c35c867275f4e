"""Checked: what of a target and of the sources in a store can be used, and why the rest cannot.

What makes every ranking of a target worthless is an error: a handful of rows, the same row again and again, one class.
What concerns one source leaves that source out and is told; what concerns one kind of evidence leaves that out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from layover.errors import EncoderError, Problem, TaskError, raise_all
from layover.select import leaks
from layover.select.sources import Source
from layover.select.target import Target
from layover.tasks import TASKS

Need = Literal["features", "outputs", "maps", "texts", "tasks"]
NEEDS: tuple[Need, ...] = ("features", "outputs", "maps", "texts", "tasks")
LEAST = 10  # different rows: fewer say nothing of a source that chance does not say as loudly


@dataclass(frozen=True)
class Checked:
    """A target with the sources that can be ranked for it.

    `excluded` says of each other source why not, by label; those that are `leaked` were trained on the target's own
    rows. `without` says of each kind of evidence that there is none of, why. `notes` are what a reader of a ranking has
    to know.
    """

    target: Target
    sources: tuple[Source, ...]
    excluded: dict[str, str]
    leaked: tuple[Source, ...]
    without: dict[Need, str]
    notes: tuple[str, ...]


def checked(target: Target, sources: Sequence[Source]) -> Checked:
    """What is usable of these, and the reasons for what is not.

    The target's rows are read by the plain encoder, as evidence needs them. Raises TaskError with everything that is
    wrong with the target's rows, and EncoderError where its encoder cannot be loaded.
    """
    notes = _check_rows(target)
    without: dict[Need, str] = {}
    if missing := _without_features(target):
        without = dict.fromkeys(NEEDS, missing)
    elif not target.labelled:
        without = {"tasks": "the target has no labels"}
        notes.append("the target has no labels: only estimators that need none can rank sources for it")
    usable, excluded, leaked = [], dict[str, str](), []
    for source in sources:
        why, leak = _why_not(target, source)
        if leak is not None and leak.leaked:
            leaked.append(source)
            excluded[source.label] = f"it was trained on the target's own rows: on {leak}"
        elif why:
            excluded[source.label] = why
        else:
            usable.append(source)
            notes += [f"{source.label} was trained on {leak}"] if leak else []
    if any(source.task.output == "tokens" for source in usable):
        notes.append("sources of plain text have no labels, and so neither outputs nor a TaskEmb")
    return Checked(target, tuple(usable), excluded, tuple(leaked), without, tuple(notes))


def _check_rows(target: Target) -> list[str]:
    """Notes about the target's rows; raises TaskError where no ranking can be made of them."""
    task, data = target.task, target.data
    place, more = f"task {task.name!r}", "give more rows, or train directly: there is nothing to choose by"
    asked, _ = leaks.inputs_of(data, data.train)
    n, different = len(asked), len(np.unique(asked))
    problems = []
    if n < LEAST:
        problems.append(Problem(place, f"has {n} training rows; a ranking needs {LEAST} or more", more))
    elif different < LEAST:
        repeated = f"{n:,} training rows that ask {different} different thing{'s' if different > 1 else ''}"
        problems.append(Problem(place, f"has {repeated}; a ranking needs {LEAST} or more", _look(target, more)))
    notes = [] if different == n else [f"{n - different:,} of the target's {n:,} rows ask what another one asks"]
    if target.labelled and task.output in ("classes", "labels", "value"):
        counts = _labels(target)
        if len(counts) < 2:
            every = f"all {n:,} training rows have the label {next(iter(counts), '')!r}"
            hint = "a ranking needs rows of two labels at least; "
            problems.append(Problem(place, every, hint + _look(target, "look at the column that `label` names")))
        alone = [name for name, count in counts.items() if count == 1]
        if alone and task.output == "classes":
            notes.append(f"labels with one row each: {', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}")
    raise_all(TaskError, problems)
    return notes


def _look(target: Target, otherwise: str) -> str:
    """The command that shows a catalogue task's rows, or what is to be done about a file."""
    name = target.task.name
    return f"look at them with: layover tasks {name} --check" if name in TASKS else otherwise


def _labels(target: Target) -> Counter[str]:
    """How many of the target's rows (or of what each asks) have each label, or each number."""
    from layover.tasks.load import surveyed

    task, data = target.task, target.data
    found: Counter[str] = Counter()
    for example in surveyed(data.survey, data.source, data.train):
        for asked in example.targets:
            numbers = asked.labels
            found["+".join(f"{x:g}" if task.output == "value" else task.labels[int(x)] for x in numbers)] += 1
    return found


def _without_features(target: Target) -> str:
    """Why the encoder gives no vectors of the kind that is asked for; empty where it does."""
    from layover.select.vectors import features_of
    from layover.train import warm

    if target.reading.pooling == "first":
        tokenizer = warm.tokenizer(target.encoder.location)
        ids = tokenizer("a")["input_ids"]
        if not ids or ids[0] not in tokenizer.all_special_ids:
            name = target.encoder.name
            return f"the tokenizer of {name} puts no token before a text whose vector stands for it: take pooling mean"
    try:
        features_of(target, target.plain)
    except EncoderError as error:
        if "hidden states" not in str(error):
            raise
        return f"the encoder {target.encoder.name} {error.problems[0].message}"
    return ""


def _why_not(target: Target, source: Source) -> tuple[str, leaks.Leak | None]:
    """Why a source cannot be read, empty where it can; what of the target's rows it has seen, None if nobody knows."""
    if source.step.encoder != target.encoder.identity:
        return f"it is a training of another encoder ({source.step.encoder[:19]})", None
    there = (source.weights / "encoder.safetensors").is_file()
    gone = "" if there else "its weights are gone: the next run of its study trains it again"
    try:
        return gone, leaks.seen_by(source, target)
    except TaskError as error:
        unknown = f"whether it has seen the target's rows cannot be known: {error.problems[0].message}"
        return gone or unknown, None

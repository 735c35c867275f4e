"""Facts: what was found in the data of tasks. All of it is numbers, names and places; no text of the data is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from layover.errors import Problem

LENGTHS = (128, 256)  # tokens: the lengths at which what is cut is counted
SAMPLE = 0.9  # a split with less than this share of the published questions is called a sample
SpreadOf = Literal["value", "choices", "labels", "answers", "candidates", "words"]
Against = Literal["equal", "sample", "differs", ""]


@dataclass(frozen=True)
class Spread:
    """The lowest, mean and highest of a number that every target or question has; `of` says which."""

    of: SpreadOf
    lowest: float
    mean: float
    highest: float


@dataclass(frozen=True)
class Tokens:
    """Lengths in tokens of the longest input of each example.

    `cut` is the share of examples longer than each of `LENGTHS`, `lost` the share of targets of which that cuts off a
    stretch (None where targets are about no stretch), `unheld` the targets with a stretch that no token holds at all.
    """

    median: int
    longest: int
    cut: Mapping[int, float]
    lost: Mapping[int, float] | None
    unheld: int


@dataclass(frozen=True)
class Split:
    """One split.

    `rows` are the file's, `questions` what they ask (most ask one thing), `examples` and `targets` what is learnt from
    them. `omitted` counts by reason what gives no example, `broken` the rows that cannot be read, `odd` what is unusual
    by kind. `labels` counts targets by label or by the position of the right choice. `repeats` are examples that ask
    what an earlier one asks, `disputed` the things asked that have more than one label; here and for lengths, the
    answers to a question about a passage are one example.
    """

    rows: int
    questions: int
    examples: int
    targets: int
    omitted: Mapping[str, int]
    broken: int
    odd: Mapping[str, int]
    labels: Mapping[str, int]
    spread: Spread | None
    repeats: int
    disputed: int
    published: int | None
    tokens: Tokens | None

    @property
    def against(self) -> Against:
        """How the questions, with those that give no example, compare with the published number."""
        if self.published is None:
            return ""
        here = self.questions + sum(self.omitted.values())
        if self.published in (here, self.questions):
            return "equal"
        return "sample" if self.questions < SAMPLE * self.published else "differs"


@dataclass(frozen=True)
class Overlap:
    """Validation examples that train has too.

    `asked` counts those with the same inputs and stretches, `relabelled` those among them whose label no such training
    example has, `texts` those whose first text (the passage, the premise) is the first text of a training example.
    """

    asked: int
    relabelled: int
    texts: int


@dataclass(frozen=True)
class Elsewhere:
    """Validation examples of a task that the train split of another, `source`, has: whole inputs, or first texts."""

    source: str
    inputs: int
    texts: int


@dataclass(frozen=True)
class TaskFacts:
    """What was found in one task's data; `train`, `validation` and `overlap` are None where it could not be read.

    `folders` are where it is, first the one that is used. `unseen` counts validation targets by labels that no training
    target has. `problems` are what is wrong with the data.
    """

    task: str
    format: str
    classes: int
    source: str
    licence: str
    folders: tuple[str, ...]
    digest: str = ""
    train: Split | None = None
    validation: Split | None = None
    overlap: Overlap | None = None
    unseen: Mapping[str, int] = field(default_factory=dict)
    elsewhere: tuple[Elsewhere, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class DataCheck:
    """The facts of all tasks that were looked at.

    `encoder` names the tokenizer that lengths are measured with, "" for none. `absent` are the catalogue's tasks
    without data in the directories, with what it takes to get a licence where they need one; `strangers` are folders
    that look like a task's and are none of the catalogue's.
    """

    encoder: str
    tasks: tuple[TaskFacts, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with the data."""
        return tuple(problem for facts in self.tasks for problem in facts.problems)

    def to_json(self) -> dict[str, Any]:
        """All of it, in JSON's types."""
        content = dataclasses.asdict(self)
        for facts, written in zip(self.tasks, content["tasks"], strict=True):
            for name, split in (("train", facts.train), ("validation", facts.validation)):
                if split is not None:
                    written[name]["against"] = split.against
        return {"lengths": LENGTHS, **content}

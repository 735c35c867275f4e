"""Example: one thing to learn from, ready to encode: what the encoder reads, and what is to be predicted about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Segment = tuple[str, ...]
"""Pieces of one segment, joined by a space when encoded; one piece may be cut to fit."""
Input = tuple[Segment, Segment | None]
"""What the encoder reads at once: one segment, or two with the tokenizer's own separator."""
Output = Literal["classes", "choice", "value", "labels", "extent", "tokens"]
"""What a head predicts: a class, the right one of several inputs, a number, labels, where an answer is, or tokens."""
Scored = Literal["classes", "choice", "value", "labels", "answers", "text", "tokens"]
"""What metrics compare: as `Output`, or classes in groups (the answers of a question), or texts."""


@dataclass(frozen=True)
class Mark:
    """A stretch of characters, `begin` to `end` (exclusive), in the first or second segment of an example's input."""

    segment: Literal[0, 1]
    begin: int
    end: int


@dataclass(frozen=True)
class Target:
    """One thing that is predicted.

    `labels` holds an index into the task's classes, the index of the right choice or a real number; for a set of labels
    any number of indices. `marks` are the stretches of text that it is about, as many for every target of a format.
    """

    labels: tuple[float, ...]
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True)
class Example:
    """One training example.

    `row` is the position of its row in its split's file, from 0: with it, predictions of two runs are paired. `part`
    counts what is asked about a row that asks several things (the questions about one passage). `inputs` holds one
    input, or one per choice. `text` is what predictions are texts of (the passage, or the candidate that this example
    is about), and `golds` the right answers, for formats that are scored by text.
    """

    row: int
    inputs: tuple[Input, ...]
    targets: tuple[Target, ...]
    part: int = 0
    text: str = ""
    golds: tuple[str, ...] = ()

    @property
    def label(self) -> float:
        """The label of an example with one target and one label."""
        return self.targets[0].labels[0]


@dataclass(frozen=True)
class Omitted:
    """A part of a row that no example is made of, and why; `layover tasks --check` counts them."""

    why: str


@dataclass(frozen=True)
class Reads:
    """What a head makes a target's vector of: the input's own vector, the vectors of `marks` stretches, or both.

    `pool`: a stretch is the mean over its tokens, its first token, or a self-attentive sum. `project` is the width that
    tokens are projected to before, 0 = not at all; `hidden` that of a layer between the vector and the scores.
    """

    sentence: bool = True
    marks: int = 0
    pool: Literal["mean", "first", "attentive"] = "mean"
    project: int = 0
    hidden: int = 0

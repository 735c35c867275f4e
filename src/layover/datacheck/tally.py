"""Tally: the counts of one split while its rows go by. It keeps numbers and hashes, so memory stays flat."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.datacheck.facts import LENGTHS, Split, Spread, SpreadOf, Tokens
from layover.datacheck.oddities import oddities
from layover.datacheck.prints import Prints
from layover.tasks.example import Example, Input, Omitted
from layover.tasks.fields import FieldError, Row
from layover.tasks.task import Task
from layover.train.encode import encode

CHUNK = 1024  # examples that are encoded at a time
UNCUT = 10**9  # tokens: longer than any input
SPREADS: dict[str, SpreadOf] = {"value": "value", "choice": "choices", "labels": "labels", "answers": "answers"}


class Tally:
    """Counts rows of one split of a task; with a tokenizer also lengths."""

    def __init__(self, task: Task, tokenizer: Any | None) -> None:
        self.prints = Prints()
        self.labels: Counter[float] = Counter()
        self.rows = self.broken = 0
        self._task = task
        self._lengths = Lengths(task, tokenizer) if tokenizer is not None else None
        self._questions = self._examples = self._targets = 0
        self._omitted: Counter[str] = Counter()
        self._odd: Counter[str] = Counter()
        self._numbers = array("d")  # what the spread is of, one per target or question

    def add(self, row: Row | Omitted) -> None:
        """Take in one row; raises FieldError where it cannot be read, and counts it as broken."""
        index, self.rows = self.rows, self.rows + 1
        try:
            for part, asked in enumerate(self._task.parts(row)):
                if isinstance(asked, Omitted):
                    self._omitted[asked.why] += 1
                elif examples := list(self._task.format.examples(index, part, asked, self._task)):
                    self._add_question(asked, examples)
                else:
                    self._omitted["there is nothing to predict"] += 1
        except FieldError:
            self.broken += 1
            raise

    def add_broken(self) -> None:
        """Take in a row that is none: its line cannot be read."""
        self.rows, self.broken = self.rows + 1, self.broken + 1

    def facts(self, names: Sequence[str], published: int | None) -> Split:
        """What was counted; `names` are the labels by index."""
        return Split(
            rows=self.rows,
            questions=self._questions,
            examples=self._examples,
            targets=self._targets,
            omitted=dict(self._omitted.most_common()),
            broken=self.broken,
            odd=dict(self._odd.most_common()),
            labels={names[int(index)]: n for index, n in self.labels.most_common()},
            spread=self._spread(),
            repeats=self.prints.repeats(),
            disputed=self.prints.disputed(),
            published=published,
            tokens=self._lengths.facts() if self._lengths else None,
        )

    def _add_question(self, asked: Row, examples: list[Example]) -> None:
        targets = [target for example in examples for target in example.targets]
        self._questions += 1
        self._examples += len(examples)
        self._targets += len(targets)
        self._odd.update(oddities(self._task, asked, examples))
        for example in _together(examples) if self._task.output == "extent" else examples:
            self.prints.add(example, self._task.output)
            if self._lengths:
                self._lengths.add(example)
        if self._task.output not in ("value", "extent"):
            self.labels.update(label for target in targets for label in target.labels)
        self._numbers.extend(_numbers(self._task, examples))

    def _spread(self) -> Spread | None:
        of = _spread_of(self._task)
        if of is None or not self._numbers:
            return None
        numbers = np.array(self._numbers)
        return Spread(of, float(numbers.min()), float(numbers.mean()), float(numbers.max()))


def _together(examples: Sequence[Example]) -> list[Example]:
    """Examples that differ in their answer alone, as one that asks their question."""
    return [replace(examples[0], targets=tuple(target for example in examples for target in example.targets))]


def _spread_of(task: Task) -> SpreadOf | None:
    """What number every question or target of a task has, if any."""
    scored = task.format.scored
    return SPREADS.get(scored) or (None if scored != "text" else "words" if task.output == "extent" else "candidates")


def _numbers(task: Task, examples: Sequence[Example]) -> list[float]:
    """That number, of the examples of one question."""
    match _spread_of(task):
        case "value":
            return [example.label for example in examples]
        case "choices":
            return [len(example.inputs) for example in examples]
        case "labels":
            return [len(target.labels) for example in examples for target in example.targets]
        case "words":
            return [len(gold.split()) for example in examples for gold in example.golds]
        case "answers" | "candidates":
            return [len(examples)]
        case None:
            return []


class Lengths:
    """Lengths in tokens, and what a cut loses: examples about stretches are encoded whole, those too long also cut."""

    def __init__(self, task: Task, tokenizer: Any) -> None:
        self._task, self._tokenizer = task, tokenizer
        self._pending: list[Example] = []
        self._counts = np.zeros(0, np.int64)  # examples by length
        self._lost: Counter[int] = Counter()
        self._targets = self._unheld = 0
        self._with_marks = task.format.reads.marks > 0 or task.output == "extent"

    def add(self, example: Example) -> None:
        """Take in an example."""
        self._pending.append(example)
        if len(self._pending) >= CHUNK:
            self._measure()

    def facts(self) -> Tokens | None:
        """What was measured, if anything."""
        self._measure()
        total = int(self._counts.sum())
        if not total:
            return None
        return Tokens(
            median=int(np.searchsorted(np.cumsum(self._counts), total / 2)),
            longest=len(self._counts) - 1,
            cut={length: float(self._counts[length + 1 :].sum() / total) for length in LENGTHS},
            lost={length: self._lost[length] / self._targets for length in LENGTHS} if self._with_marks else None,
            unheld=self._unheld,
        )

    def _measure(self) -> None:
        examples, self._pending = self._pending, []
        if not examples:
            return
        longest = self._with_stretches(examples) if self._with_marks else self._of_segments(examples)
        counts = np.bincount(longest, minlength=len(self._counts))
        counts[: len(self._counts)] += self._counts
        self._counts = counts

    def _of_segments(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """Tokens of the longest input of each example. A segment that many inputs share, a passage, is read once."""
        inputs = [item for example in examples for item in example.inputs]
        texts = list(dict.fromkeys(" ".join(segment) for item in inputs for segment in item if segment is not None))
        encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        tokens = dict(zip(texts, map(len, encoded["input_ids"]), strict=True))
        special = [self._tokenizer.num_special_tokens_to_add(pair=paired) for paired in (False, True)]

        def length(item: Input) -> int:
            return special[item[1] is not None] + sum(tokens[" ".join(part)] for part in item if part is not None)

        return np.array([max(map(length, example.inputs)) for example in examples], np.int64)

    def _with_stretches(self, examples: Sequence[Example]) -> NDArray[np.int64]:
        """Tokens of each example, encoded as for training; also counts the stretches that are lost."""
        whole = encode(examples, self._task, self._tokenizer, UNCUT)
        longest = whole.longest
        self._targets += len(whole.lost)
        self._unheld += int(whole.lost.sum())
        for length in LENGTHS:
            which = np.flatnonzero(longest > length)
            if len(which):
                short = encode([examples[i] for i in which.tolist()], self._task, self._tokenizer, length)
                self._lost[length] += int(short.lost.sum() - whole.take(which).lost.sum())
        return longest

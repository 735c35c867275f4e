"""Own tasks: a user's file as a task, declared by a table `[task.NAME]` of a study file, without code.

    [task.tickets]
    train  = "tickets.csv"       # validation = "...": optional, a fifth of train stands in for it
    format = "single"            # or another of own_layouts.LAYOUTS, each with keys of its own
    text   = "body"
    label  = "queue"             # labels = [...]: optional, else sorted from the train file; range = [0, 5]: regression

The declaration is the table without its paths and with every default filled in: it enters a step's identity,
and a task is built again from it where the file is not at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover.errors import Problem, TaskError, did_you_mean, raise_all
from layover.metrics import METRICS, fitting
from layover.tasks import TASKS, readers
from layover.tasks.fields import FieldError, label_text
from layover.tasks.load import file_problem, in_order, rows_in, shortened
from layover.tasks.own_layouts import LAYOUTS, Key, Layout, Prepare, Table
from layover.tasks.release import Release
from layover.tasks.task import Task

ALWAYS = ("train", "validation", "format", "metrics")
WITH_LABEL = ("label", "labels", "range", "spellings")
DEFAULT_METRICS = {
    "value": ["spearman"], "labels": ["micro_f1"], "answers": ["f1a_em"], "text": ["token_f1"],
    "tokens": ["masked_accuracy", "masked_loss"],
}  # fmt: skip
RIGHT_IS_LAST = ({"0", "1"}, {"false", "true"}, {"no", "yes"})  # of which it is known, once they are sorted
MAX_CLASSES = 1_500  # more distinct labels than this are texts or numbers in the wrong column; CCG has 1,363


def own_task(name: str, table: Table, place: str = "", base: Path = Path()) -> Task:
    """The task that a table declares; raises TaskError with everything that is wrong with it.

    `base` is the folder that relative paths start from.
    """
    check = _Check(table, place or f"task.{name}", base)
    if not re.fullmatch(r"[a-z0-9_]{1,80}", name):
        check.add("", f"{name!r:.100} is not a name for a task", "names consist of a-z, 0-9 and _, 80 at most")
    elif name in TASKS:
        check.add("", f"there is a task called {name!r} already", "choose another name; `layover tasks` lists all")
    declared = check.run()
    raise_all(TaskError, check.problems)
    return from_declaration(name, declared)


def declaration(table: Table, base: Path = Path()) -> dict[str, Any]:
    """The part of a table that enters identity: all but the paths, with defaults and inferred labels filled in."""
    check = _Check(table, "task", base)
    declared = check.run()
    raise_all(TaskError, check.problems)
    return declared


def own_files(table: Table, base: Path = Path()) -> dict[str, Path]:
    """The files of a table by split, as `load.locate` takes them."""
    return {split: base / table[split] for split in readers.SPLITS if split in table}


def from_declaration(name: str, declared: Table) -> Task:
    """The task that `declaration` describes: equal to the one that `own_task` gave."""
    layout = LAYOUTS[declared["format"]]
    bounds = declared.get("range")
    used = {key: declared[key] for key in ("format", *layout.own_keys(), "label") if key in declared}
    return Task(
        name=name,
        version=1,
        format=layout.build(declared),
        metrics=tuple(declared["metrics"]),
        labels=layout.labels or tuple(declared.get("labels", ())),
        label=declared.get("label", "label"),
        spellings=dict(declared.get("spellings", {})),
        bounds=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        prepare=Prepare(used) if layout.lists or layout.shape else None,
        release=Release(together=tuple(declared.get("group") or ()), plain=declared.get(layout.plain, "")),
        about="A task of the study file.",
        source="the user's own file",
    )


@dataclass
class _Check:
    """Reads a table key by key, and gathers what is wrong."""

    table: Table
    place: str
    base: Path
    problems: list[Problem] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """The declaration; it is complete where there are no problems."""
        self._paths()
        kind = self._one_of("format", tuple(LAYOUTS), None)
        self._known_keys(kind)
        metrics = self._metric_names()
        if kind is None:
            return {}
        layout, n_problems = LAYOUTS[kind], len(self.problems)
        declared: dict[str, Any] = {"format": kind, **{key.name: self._value(key) for key in layout.keys}}
        self._either(layout, declared)
        can_be_read = not layout.shape or len(self.problems) == n_problems
        if layout.label is not None:
            declared["label"] = self._text("label", "label")
            declared["range"] = self._range(kind, layout)
            declared["spellings"] = self._spellings(declared["range"])
            declared["labels"] = self._labels(declared, layout, can_be_read)
            self._spelt_labels(declared, layout)
        declared["metrics"] = self._suiting(metrics, declared, layout)
        if layout.plain and len(self.problems) == n_problems:
            self._some_text(declared)
        return declared

    def add(self, key: str, message: str, hint: str = "") -> None:
        """Note a problem of one key, or of the table."""
        self.problems.append(Problem(f"{self.place}.{key}" if key else self.place, message, hint))

    def _known_keys(self, kind: str | None) -> None:
        layouts = [LAYOUTS[kind]] if kind else list(LAYOUTS.values())
        known = [*ALWAYS, *(key for layout in layouts for key in layout.own_keys())]
        known += WITH_LABEL if any(layout.label for layout in layouts) else ()
        for key in self.table:
            if key not in known:
                where = f"format {kind!r} has no such key" if kind else "there is no such key"
                self.add(key, where, did_you_mean(key, known))

    def _paths(self) -> None:
        for split in readers.SPLITS:
            path = self._text(split, None, needed=split == "train")
            if path and (problem := file_problem(f"{self.place}.{split}", self.base / path)):
                self.problems.append(problem)

    def _text(self, key: str, default: str | None, needed: bool = False) -> str | None:
        value = self.table.get(key)
        if value is None:
            if needed:
                self.add(key, "is missing", f'add: {key} = "..."')
            return default
        if not isinstance(value, str) or not value.strip():
            self.add(key, f"is {value!r:.60}, not a text")
            return default
        return value

    def _one_of(self, key: str, choices: tuple[str, ...], default: str | None) -> str | None:
        value = self._text(key, default, needed=default is None)
        if value is not None and value not in choices:
            self.add(key, f"is {value!r}", did_you_mean(value, choices))
            return default
        return value

    def _value(self, key: Key) -> Any:
        if key.among:
            return self._one_of(key.name, key.among, key.default)
        if key.whole is not None:
            return self._whole(key, key.whole)
        if key.columns is not None:
            return self._columns(key, key.columns)
        return self._text(key.name, key.default, key.needed)

    def _whole(self, key: Key, allowed: range) -> int:
        value = self.table.get(key.name, key.default)
        if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
            what = f"is {value!r:.60}, not a whole number from {allowed.start:,} to {allowed[-1]:,}"
            self.add(key.name, what, key.hint)
            return key.default
        return value

    def _columns(self, key: Key, sizes: range) -> list[str] | None:
        value = self.table.get(key.name)
        if value is None and not key.needed:
            return None
        columns = [value] if isinstance(value, str) else value
        if not isinstance(columns, list) or not all(isinstance(v, str) and v.strip() for v in columns):
            self.add(key.name, "is missing" if value is None else f"is {value!r:.60}, not a list of texts", key.hint)
            return []
        if len(columns) not in sizes:
            self.add(key.name, f"is {value!r:.60}", key.hint)
            return []
        return columns

    def _either(self, layout: Layout, declared: Table) -> None:
        """Of groups of keys of which there is one, exactly that one, and all of it."""
        given = [group for group in layout.either if any(key in self.table for key in group)]
        if layout.either and len(given) != 1:
            choices = ", or ".join(" and ".join(group) for group in layout.either)
            self.add("", "has too many keys" if given else "lacks a key", f"give {choices}")
        elif given:
            for key in given[0]:
                if key not in self.table:
                    self.add(key, "is missing", f"give {' and '.join(given[0])}")
            sizes = {len(declared[key]) for key in given[0] if declared[key]}
            if len(sizes) > 1:
                self.add("", f"{' and '.join(given[0])} do not name equally many columns")

    def _range(self, kind: str, layout: Layout) -> list[float] | None:
        value = self.table.get("range")
        if value is None:
            return None
        if not layout.number:
            what = "the right choice" if layout.label == "position" else "labels"
            self.add("range", f"format {kind!r} predicts {what}, not a number")
        numbers = isinstance(value, list) and len(value) == 2 and all(type(v) in (int, float) for v in value)
        if not numbers or not float("-inf") < value[0] < value[1] < float("inf"):
            self.add("range", f"is {value!r:.60}", "give the lowest and the highest value, as in [0, 5]")
            return [0.0, 1.0]
        return [float(value[0]), float(value[1])]

    def _spellings(self, bounds: list[float] | None) -> dict[str, str]:
        value = self.table.get("spellings", {})
        if not isinstance(value, Mapping) or not all(isinstance(v, str | int) for v in value.values()):
            self.add("spellings", f"is {value!r:.60}", 'give a table such as { yes = "true", no = "false" }')
            return {}
        if value and bounds:
            self.add("spellings", "a task with a range has numbers, not labels")
        return {str(written): label_text(name) for written, name in value.items()}

    def _labels(self, declared: Table, layout: Layout, can_be_read: bool) -> list[str]:
        value = self.table.get("labels")
        if layout.label == "position" or declared["range"] is not None:
            if value is not None:
                self.add("labels", "only a task that predicts classes has labels", "take the line out")
            return []
        if value is None:
            return self._inferred(declared, layout) if can_be_read else []
        if not isinstance(value, list) or not all(isinstance(v, str | int) for v in value):
            self.add("labels", f"is {value!r:.60}, not a list of texts")
            return []
        names = [label_text(v) for v in value]
        if len(names) < 2 or len(set(names)) < len(names) or "" in names:
            self.add("labels", f"is {value!r:.60}", "give two or more labels, each once")
        if layout.right_last and len(names) > 2:
            self.add("labels", f"is {value!r:.60}", "give two: that of a wrong answer, then that of a right one")
        return names

    def _inferred(self, declared: Table, layout: Layout) -> list[str]:
        """The labels in the train file, sorted: as numbers where all are."""
        path = self.base / str(self.table.get("train"))
        if file_problem("", path):
            return []  # said already
        task = from_declaration("", {**declared, "labels": (), "metrics": ()})
        found: set[str] = set()
        problems: list[Problem] = []
        for place, row in rows_in(task, path):
            try:
                found.update([] if isinstance(row, Problem) else task.written_labels(row))
            except FieldError as error:
                problems.append(Problem(place, str(error), error.hint))
            else:
                problems += [row] if isinstance(row, Problem) else []
        self.problems += shortened(problems)
        seen = ", ".join(in_order(found)[:5])
        if not 2 <= len(found) <= MAX_CLASSES and not problems:
            numbers = ", or give range = [low, high] if the labels are numbers to predict" if layout.number else ""
            hint = f"name another column{numbers}"
            self.add("label", f"column {declared['label']!r} holds {len(found):,} different labels: {seen}", hint)
        elif layout.right_last and found not in RIGHT_IS_LAST and not problems:
            hint = "give labels = [that of a wrong answer, that of a right one]"
            self.add("label", f"which label is that of a right answer is not plain: {seen}", hint)
        return in_order(found)

    def _some_text(self, declared: Table) -> None:
        """Each file has to hold a text; the first one will do, and what comes before it has to be sound."""
        task = from_declaration("", declared)
        for split in readers.SPLITS:
            if split not in self.table or file_problem("", path := self.base / str(self.table[split])):
                continue
            place, row = next(iter(rows_in(task, path)))
            if isinstance(row, Problem):
                lines = "a .txt file holds a paragraph a line; other files need the column that `text` names"
                self.add(split, f"has no text to learn from: {row.message} ({place})", row.hint or lines)
            else:
                try:
                    task.examples(0, row)
                except FieldError as error:
                    self.add(split, f"has no text to learn from: {error} ({place})", error.hint)

    def _metric_names(self) -> list[str]:
        value = self.table.get("metrics", [])
        listed = isinstance(value, list) and all(isinstance(v, str) for v in value)
        if not listed or ("metrics" in self.table and not value):
            self.add("metrics", f"is {value!r:.60}", f"give a list, the primary one first, of: {', '.join(METRICS)}")
            return []
        if len(set(value)) < len(value):
            self.add("metrics", f"names a metric twice: {', '.join(value)}")
        for name in value:
            if name not in METRICS:
                self.add("metrics", f"there is no metric called {name!r}", did_you_mean(name, METRICS))
        return value

    def _suiting(self, metrics: list[str], declared: Table, layout: Layout) -> list[str]:
        """The metrics, or the default one; each has to suit what the task is scored by."""
        scored = layout.build(declared).scored
        suiting = fitting(scored, len(declared.get("labels", ())))
        for name in metrics:
            if name in METRICS and name not in suiting:
                self.add("metrics", f"{name!r} does not suit this task", f"metrics that do: {', '.join(suiting)}")
        if metrics and metrics[0] in METRICS and METRICS[metrics[0]].lower_is_better:
            higher = [name for name in suiting if not METRICS[name].lower_is_better]
            why = f"{metrics[0]!r} is better where it is lower, and the first metric chooses what is best"
            self.add("metrics", why, f"name one of these first: {', '.join(higher)}")
        return metrics or DEFAULT_METRICS.get(scored, ["accuracy"])

    def _spelt_labels(self, declared: Table, layout: Layout) -> None:
        """Spellings have to lead to a label."""
        names = declared["labels"]
        for written, name in declared["spellings"].items():
            if name not in names if names else layout.label == "position" and not name.isdecimal():
                hint = did_you_mean(name, names) if names else "the right choice is a number from 0"
                self.add("spellings", f"{written!r} stands for {name!r}, which is not a label", hint)

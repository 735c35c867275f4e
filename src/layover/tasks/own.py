"""Own tasks: a user's file as a task, declared by a table `[task.NAME]` of a study file, without code.

    [task.tickets]
    train  = "tickets.csv"       # validation = "...": optional, a fifth of train stands in for it
    format = "single"            # or "pair" (first, second, perhaps cut), "choice" (context, choices, perhaps question)
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
from layover.tasks.fields import FieldError, label_text, value_at
from layover.tasks.formats import Choice, Pair, Single
from layover.tasks.load import file_problem, in_order, shortened
from layover.tasks.task import Format, Task

NEEDED = {"single": ("text",), "pair": ("first", "second"), "choice": ("context", "choices")}
OPTIONAL = {"single": (), "pair": ("cut",), "choice": ("question",)}
COMMON = ("train", "validation", "format", "label", "labels", "range", "metrics", "spellings")
CUTS = ("longest", "first")
MAX_CLASSES = 1_000  # more distinct labels than this are texts or numbers in the wrong column
Table = Mapping[str, Any]


def own_task(name: str, table: Table, place: str = "", base: Path = Path()) -> Task:
    """The task that a table declares; raises TaskError with everything that is wrong with it.

    `base` is the folder that relative paths start from.
    """
    check = _Check(table, place or f"task.{name}", base)
    if not re.fullmatch(r"[a-z0-9_]+", name):
        check.add("", f"{name!r} is not a name for a task", "names consist of a-z, 0-9 and _")
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
    bounds = declared["range"]
    return Task(
        name=name,
        version=1,
        format=_format(declared),
        metrics=tuple(declared["metrics"]),
        labels=tuple(declared["labels"]),
        label=declared["label"],
        spellings=dict(declared["spellings"]),
        bounds=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        about="A task of the study file.",
        source="the user's own file",
    )


def _format(declared: Table) -> Format:
    output = "classes" if declared["range"] is None else "value"
    match declared["format"]:
        case "single":
            return Single(declared["text"], output)
        case "pair":
            return Pair(declared["first"], declared["second"], output, declared["cut"])
        case _:
            return Choice(declared["context"], tuple(declared["choices"]), declared["question"])


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
        declared: dict[str, Any] = {"format": self._one_of("format", tuple(NEEDED), None)}
        self._known_keys(declared["format"])
        if declared["format"] is not None:
            declared |= self._fields(declared["format"])
        declared["label"] = self._text("label", "label")
        declared["range"] = self._range(declared["format"])
        declared["spellings"] = self._spellings(declared["range"])
        declared["labels"] = self._labels(declared)
        declared["metrics"] = self._metrics(declared)
        self._spelt_labels(declared)
        return declared

    def add(self, key: str, message: str, hint: str = "") -> None:
        """Note a problem of one key, or of the table."""
        self.problems.append(Problem(f"{self.place}.{key}" if key else self.place, message, hint))

    def _known_keys(self, kind: str | None) -> None:
        kinds = [kind] if kind else list(NEEDED)
        known = [*COMMON, *(key for k in kinds for key in (*NEEDED[k], *OPTIONAL[k]))]
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

    def _fields(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {key: self._text(key, None, needed=True) for key in NEEDED[kind] if key != "choices"}
        if kind == "pair":
            found["cut"] = self._one_of("cut", CUTS, "longest")
        if kind == "choice":
            found["choices"] = self._choices()
            found["question"] = self._text("question", None)
        return found

    def _choices(self) -> list[str]:
        value = self.table.get("choices")
        hint = 'give the fields of the choices, as in ["a", "b"], or the one field that holds a list of them'
        if isinstance(value, str) and value.strip():
            return [value]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            self.add("choices", "is missing" if value is None else f"is {value!r:.60}, not a list of texts", hint)
            return []
        return value

    def _range(self, kind: str | None) -> list[float] | None:
        value = self.table.get("range")
        if value is None:
            return None
        if kind == "choice":
            self.add("range", "format 'choice' predicts the right choice, not a number")
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

    def _labels(self, declared: Table) -> list[str]:
        value = self.table.get("labels")
        if declared["format"] == "choice" or declared["range"] is not None:
            if value is not None:
                self.add("labels", "only a task that predicts classes has labels", "take the line out")
            return []
        if value is None:
            return self._inferred(declared)
        if not isinstance(value, list) or not all(isinstance(v, str | int) for v in value):
            self.add("labels", f"is {value!r:.60}, not a list of texts")
            return []
        names = [label_text(v) for v in value]
        if len(names) < 2 or len(set(names)) < len(names) or "" in names:
            self.add("labels", f"is {value!r:.60}", "give two or more labels, each once")
        return names

    def _inferred(self, declared: Table) -> list[str]:
        """The labels in the train file, sorted: as numbers where all are."""
        path = self.base / str(self.table.get("train"))
        if file_problem("", path):
            return []  # said already
        found: set[str] = set()
        problems: list[Problem] = []
        for line, row in readers.rows(path):
            name = row if isinstance(row, Problem) else self._label_of(row, declared, readers.place(path, line))
            if isinstance(name, Problem):
                problems.append(name)
            else:
                found.add(name)
        self.problems += shortened(problems)
        if not 2 <= len(found) <= MAX_CLASSES and not problems:
            seen = ", ".join(sorted(found)[:5])
            hint = "name another column, or give range = [low, high] if the labels are numbers to predict"
            self.add("label", f"column {declared['label']!r} holds {len(found):,} different labels: {seen}", hint)
        return in_order(found)

    def _label_of(self, row: Any, declared: Table, place: str) -> str | Problem:
        try:
            raw = value_at(row, declared["label"])
        except FieldError as error:
            return Problem(place, str(error), error.hint)
        written = label_text(raw)
        if not written or not isinstance(raw, str | int | float):
            return Problem(place, f"field {declared['label']!r} holds {raw!r:.60}, which cannot be a label")
        return declared["spellings"].get(written, written)

    def _metrics(self, declared: Table) -> list[str]:
        output = "choice" if declared["format"] == "choice" else "value" if declared["range"] else "classes"
        suiting = fitting(output, len(declared["labels"]))
        value = self.table.get("metrics")
        if value is None:
            return ["spearman"] if output == "value" else ["accuracy"]
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            self.add("metrics", f"is {value!r:.60}", f"give a list, the primary one first, of: {', '.join(suiting)}")
            return []
        if len(set(value)) < len(value):
            self.add("metrics", f"names a metric twice: {', '.join(value)}")
        for name in value:
            if name not in METRICS:
                self.add("metrics", f"there is no metric called {name!r}", did_you_mean(name, METRICS))
            elif name not in suiting:
                self.add("metrics", f"{name!r} does not suit this task", f"metrics that do: {', '.join(suiting)}")
        return value

    def _spelt_labels(self, declared: Table) -> None:
        """Spellings have to lead to a label."""
        names = declared["labels"]
        for written, name in declared["spellings"].items():
            if name not in names if names else declared["format"] == "choice" and not name.isdecimal():
                hint = did_you_mean(name, names) if names else "the right choice is a number from 0"
                self.add("spellings", f"{written!r} stands for {name!r}, which is not a label", hint)

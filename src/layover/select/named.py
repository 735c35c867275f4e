"""Named: the target that a user names: a task of the catalogue, a file with a `[task.NAME]` table, or rows alone.

Rows alone are read as one text or two by the names of their columns; whatever else they are takes a table, which the
error shows.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from layover.errors import Problem, TaskError
from layover.select.target import own_target
from layover.tasks import TASKS, Task, readers
from layover.tasks.load import file_problem

TEXTS = ("text", "sentence", "review", "body", "content")
PAIRS = (
    ("text_a", "text_b"), ("sentence1", "sentence2"), ("premise", "hypothesis"), ("question", "sentence"),
    ("question1", "question2"), ("first", "second"),
)  # fmt: skip
LABELS = ("label", "labels", "class", "category", "target")
TEMPLATE = """
[task.{name}]
train  = "{file}"
format = "single"     # or pair, choice, span, tagging, edges ...: docs/how-to/use-your-own-data.md
text   = "{column}"
label  = "label\""""


@dataclass(frozen=True)
class Named:
    """A target and where its rows are: `files` by split and its `[task.NAME]` table, none of the catalogue's tasks.

    Paths in the table are absolute. Where it is not `labelled` no run can be made for it.
    """

    task: Task
    files: Mapping[str, Path] = field(default_factory=dict)
    labelled: bool = True
    table: Mapping[str, Any] | None = None


def named(target: str) -> Named:
    """The target that is called so. Raises TaskError, with everything that is wrong with its table."""
    path = Path(target).expanduser()
    if path.suffix == ".toml":
        return _of_table(path)
    if path.is_file() or readers.kind(path):
        return _of_rows(path)
    return Named(TASKS.get(target, "--target", TaskError))


def _of_table(path: Path) -> Named:
    """The one task that a file declares, such as a study file."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("task", {})
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(Problem(str(path), f"is not a TOML file that can be read: {error}")) from None
    if not isinstance(tables, dict) or len(tables) != 1 or not isinstance(next(iter(tables.values())), dict):
        found = ", ".join(tables) if isinstance(tables, dict) and tables else "none"
        hint = "leave one table [task.NAME] in it: docs/how-to/use-your-own-data.md"
        raise TaskError(Problem(str(path), f"has to declare one task, and declares: {found}", hint))
    name, table = next(iter(tables.items()))
    return _own(name, table, path.resolve().parent)


def _of_rows(path: Path) -> Named:
    """A file of rows whose columns have names that everybody uses."""
    if problem := file_problem("--target", path):
        raise TaskError(problem)
    _, row = next(readers.rows(path))
    if isinstance(row, Problem):
        raise TaskError(row)
    columns = list(row) if isinstance(row, Mapping) else []
    name = re.sub(r"[^a-z0-9_]", "_", path.name.split(".")[0].lower())[:80]
    table: dict[str, Any] = {"train": path.name}
    text = next((column for column in TEXTS if column in columns), None)
    pair = next((pair for pair in PAIRS if set(pair) <= set(columns)), None)
    label = next((column for column in LABELS if column in columns), None)
    if pair:
        table |= {"format": "pair", "first": pair[0], "second": pair[1]}
    elif text:
        table |= {"format": "single", "text": text}
    else:
        wanted = f"its columns are {', '.join(columns)}, and none is called {', '.join(TEXTS)}"
        told = TEMPLATE.format(name=name, file=path, column=columns[0] if columns else "text")
        raise TaskError(Problem(str(path), wanted, f"write a file mine.toml and name it with --target:\n{told}"))
    return _own(name, {**table, "label": label} if label else table, path.resolve().parent)


def _own(name: str, table: Mapping[str, Any], base: Path) -> Named:
    task, files, labelled = own_target(name, table, base)
    absolute = {**table, **{split: str(base / table[split]) for split in readers.SPLITS if split in table}}
    return Named(task, files, labelled, absolute)

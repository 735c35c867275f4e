"""Target: the rows that sources are ranked for, where they are, and how they are read.

A target is a task of the catalogue or a user's own file. Of its train rows so many are drawn by a seed, as a study with
`[sizes]` draws them; its validation rows are never read by an estimator, so that a ranking may be judged on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from layover.encoders import Encoder
from layover.errors import Problem, TaskError
from layover.places import Places
from layover.store import Store
from layover.tasks import Task, readers
from layover.tasks.fields import FieldError, Row, value_at
from layover.tasks.load import file_problem, locate
from layover.tasks.own import WITH_LABEL, own_files, own_task

if TYPE_CHECKING:
    from layover.train.cache import Located
    from layover.train.features import Pooling
    from layover.train.frozen import Frozen

UNLABELLED = ("single", "pair", "choice")  # formats whose rows can be read without a label


@dataclass(frozen=True)
class Reading:
    """How rows are read.

    `rows` and `source_rows`: questions of the target and of each source at most. `cases`: vectors of the target at most
    (a question may have several choices, and a text many tags). All are drawn by `seed`. `pooling`, `max_length` in
    tokens and `precision` are those of a training's recipe.
    """

    rows: int = 1000
    source_rows: int = 2000
    cases: int = 10_000
    seed: int = 0
    pooling: Pooling = "first"
    max_length: int = 256
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"


@dataclass(frozen=True, eq=False)
class Target:
    """A target's rows (train's part of `data`), the plain encoder that they are read with, and how.

    `data` has no selection set. Where the target is not `labelled`, the labels in it are nothing.
    """

    data: Located
    encoder: Encoder
    places: Places
    reading: Reading = field(default_factory=Reading)
    labelled: bool = True

    @property
    def task(self) -> Task:
        """The task, with the labels that its data has."""
        return self.data.task

    @property
    def store(self) -> Store:
        """Where vectors are kept."""
        return self.data.store

    @property
    def plain(self) -> Frozen:
        """The plain encoder, to be read."""
        from layover.train.frozen import Frozen

        return Frozen(self.encoder.identity, self.encoder.location)


def target_of(
    store: Store,
    task: Task,
    encoder: Encoder,
    *,
    data: Sequence[Path] = (),
    files: Mapping[str, Mapping[str, Path]] | None = None,
    reading: Reading | None = None,
    labelled: bool = True,
    device: str = "auto",
    threads: int = 0,
) -> Target:
    """The target's rows, every one checked.

    `data` are directories of task data, for sources too; without any, those of the studies that ran in the store.
    `files` are users' own, by task and split, beside those that these studies declared. Raises TaskError where its data
    is not there or wrong, or it is plain text, which has nothing to predict.
    """
    from layover.train.cache import located

    if task.output == "tokens":
        hint = "name a task with labels; plain text can be a source"
        raise TaskError(Problem(f"task {task.name!r}", "is plain text, so there is nothing to rank sources for", hint))
    reading = reading or Reading()
    records = store.studies().values()
    known = [Path(place) for record in records for place in record.data]
    own = {name: own_files(table) for record in records for name, table in record.study.get("task", {}).items()}
    places = Places(
        data=tuple(data or dict.fromkeys(place for place in known if place.is_dir())),
        files={**own, **(files or {})},
        encoders={encoder.identity: encoder.location},
        device=device,
        threads=threads,
    )
    found = located(
        store, task, locate(task, places.data, places.files.get(task.name)),
        limit_train=reading.rows, limit_validation=None, selection=None, holdout=0.1, drawn=reading.seed,
    )  # fmt: skip
    return Target(found, encoder, places, reading, labelled)


@dataclass(frozen=True)
class Unlabelled:
    """Makes a row without a label what a format can read; the label that it puts in means nothing."""

    prepare: Any

    def __call__(self, row: Row) -> Row:
        """The row with a label."""
        return {**(self.prepare(row) if self.prepare else row), "label": "0"}


def own_target(name: str, table: Mapping[str, Any], base: Path = Path()) -> tuple[Task, dict[str, Path], bool]:
    """A user's file as a target: the task of a table `[task.NAME]`, its files, and whether it has labels.

    It has none where the table says nothing of labels and the first row has no column "label"; only single texts, pairs
    and choices can be read without. Raises TaskError with everything that is wrong with the table.
    """
    kind, train = table.get("format"), table.get("train")
    told = kind not in UNLABELLED or not isinstance(train, str) or any(word in table for word in WITH_LABEL)
    if told or not _lacks_labels(base / str(train)):
        return own_task(name, table, base=base), own_files(table, base), True
    declared = table if kind == "choice" else {**table, "labels": ["0", "1"]}
    task = own_task(name, declared, base=base)
    return replace(task, prepare=Unlabelled(task.prepare)), own_files(table, base), False


def _lacks_labels(path: Path) -> bool:
    """Whether the first row of a file that can be read has no column for a label."""
    if file_problem("", path):
        return False
    _, row = next(iter(readers.rows(path)))
    if isinstance(row, Problem):
        return False  # said where the file is read
    try:
        value_at(row, "label")
    except FieldError:
        return True
    return False

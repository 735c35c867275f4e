"""Predictions: what a run predicted on a validation set, and its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.tasks.example import Scored

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Predictions:
    """One run's predictions, n of them in the order of the file.

    `kind` says what `gold` and `predicted` are: class indices [n] ("classes", "answers"), positions of choices [n]
    ("choice"), ids of tokens [n] ("tokens"), numbers [n] ("value"), sets of labels as 0 and 1 [n, n_classes]
    ("labels"), or texts ("text": n tuples of accepted ones, n texts). A class of -1 is no prediction: what it is about
    was cut off. `rows` [n] are positions in the validation file, so that two runs are paired by row; `parts` [n] number
    what is asked about one row.
    `n_classes` is 0 for numbers and texts. `log_probabilities` [n] are what was given to the right tokens, in nats.
    """

    rows: NDArray[np.int64]
    gold: Array
    predicted: Array
    n_classes: int
    kind: Scored = "classes"
    parts: NDArray[np.int64] | None = None
    log_probabilities: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def questions(self) -> NDArray[np.int64]:
        """The number of the question that each prediction belongs to [n], from 0: a row and a part."""
        parts = self.part_of_each()
        _, number = np.unique(self.rows * (1 + parts.max(initial=0)) + parts, return_inverse=True)
        return number

    def part_of_each(self) -> NDArray[np.int64]:
        """What of its row each prediction is about [n]: `parts`, or 0 where each row asks one thing."""
        return np.zeros(len(self), np.int64) if self.parts is None else self.parts


def texts(values: Sequence[Any]) -> Array:
    """Texts, or tuples of texts, as an array [n] of objects."""
    array = np.empty(len(values), dtype=object)
    array[:] = list(values)
    return array


def write(path: Path, predictions: Predictions, scores: Sequence[Array], named: dict[str, str]) -> None:
    """Write one row per prediction: row, part, gold, predicted, and the head's scores (an array each).

    Classes are indices, sets of labels lists of them; `named` goes into the file's metadata, with names for them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "row": predictions.rows,
        "part": predictions.part_of_each().astype(np.int32),
        "gold": _column(predictions.gold),
        "predicted": _column(predictions.predicted),
        "scores": pa.array([row.astype(np.float32) for row in scores], pa.list_(pa.float32())),
    }
    facts = {"n_classes": str(predictions.n_classes), "kind": predictions.kind, **named}
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), path)


def read(path: Path) -> Predictions:
    """The predictions in a file, without the scores, but for those of tokens."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(path)
    table = pq.read_table(path, columns=[name for name in ("row", "part", "gold", "predicted") if name in schema.names])
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    n_classes = int(facts.get("n_classes", "0"))
    kind: Any = facts.get("kind") or _kind_before(n_classes, facts)
    gold, predicted = (_array(table.column(name), kind, n_classes) for name in ("gold", "predicted"))
    rows = table.column("row").to_numpy().astype(np.int64)
    parts = table.column("part").to_numpy().astype(np.int64) if "part" in table.column_names else None
    given = None
    if kind == "tokens":
        scores = pq.read_table(path, columns=["scores"]).column("scores").combine_chunks()
        given = scores.flatten().to_numpy().astype(np.float64)
    return Predictions(rows, gold, predicted, n_classes, kind, parts, given)


def _kind_before(n_classes: int, facts: dict[str, str]) -> Scored:
    """What a file holds that does not say it, as one written before there were more kinds: choices have no names."""
    if not n_classes:
        return "value"
    return "classes" if facts.get("labels", "-") else "choice"


def names(path: Path) -> tuple[str, ...]:
    """The names of the classes or labels of the predictions in a file, in the order of their indices."""
    import pyarrow.parquet as pq

    written = (pq.read_schema(path).metadata or {}).get(b"labels", b"").decode()
    return tuple(written.split("\t")) if written else ()


def _column(values: Array) -> Any:
    if values.ndim == 2:
        return [np.flatnonzero(row).astype(np.int32) for row in values]
    return [list(v) if isinstance(v, tuple) else v for v in values] if values.dtype == object else values


def _array(column: Any, kind: Scored, n_classes: int) -> Array:
    if kind == "text":
        return texts([tuple(v) if isinstance(v, list) else v for v in column.to_pylist()])
    if kind != "labels":
        return column.to_numpy().astype(np.float64)
    lists = column.combine_chunks()
    found = np.zeros((len(lists), n_classes), np.uint8)
    sizes = np.diff(lists.offsets.to_numpy())
    found[np.repeat(np.arange(len(lists)), sizes), lists.flatten().to_numpy()] = 1
    return found

"""Readers: the rows of a data file, one by one, with the line each starts on.

A reader yields a row, or the problem that stands in its place, so that one reading of a file shows
everything there is to mend. Lines end at a line feed and nowhere else: other line separators of Unicode
occur inside texts.
"""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from layover.errors import Problem
from layover.tasks.fields import MAX_CHARACTERS, FieldError, Row, value_at
from layover.tasks.task import Task

SPLITS = ("train", "validation")
ROWS = "(rows)"  # where a row that stands for several has them; no column is called so

Rows = Iterator[tuple[int, Row | Problem]]
"""(line, row), or (line, what is wrong with it)."""
Lines = Iterator[tuple[int, str | Problem]]


def kind(path: Path) -> str | None:
    """The ending of a file that can be read, such as `.jsonl.gz`, or None."""
    name = path.name.lower()
    return next((ending for ending in KINDS if name.endswith(ending)), None)


def layout(task: Task) -> str:
    """The files that a data directory needs for a task, in words."""
    endings = ",".join(ending.lstrip(".") for ending in KINDS)
    return f"DIR/{task.name}/{{{','.join(SPLITS)}}}.{{{endings}}} (fields {task.fields()})"


def place(path: Path, line: int) -> str:
    """Where a row is, as messages say it. Parquet has rows and no lines."""
    return f"{path}, {'row' if kind(path) == '.parquet' else 'line'} {line}"


def rows(path: Path) -> Rows:
    """The rows of a data file; one problem where there are none."""
    found = False
    for line, row in KINDS[kind(path) or ".jsonl"](path):
        found = True
        yield line, row
    if not found:
        yield 1, Problem(place(path, 1), "the file holds no rows")


def grouped(path: Path, columns: tuple[str, ...]) -> Rows:
    """The first of the rows that are alike in these columns, with all of them under `ROWS`."""
    groups: dict[str, tuple[int, list[Row]]] = {}
    for line, row in rows(path):
        if isinstance(row, Problem):
            yield line, row
            continue
        try:
            alike = json.dumps([value_at(row, column) for column in columns], default=str)
        except FieldError as error:
            yield line, Problem(place(path, line), str(error), error.hint)
        else:
            groups.setdefault(alike, (line, []))[1].append(row)
    for line, same in groups.values():
        yield line, {**same[0], ROWS: same}


def _lines(path: Path) -> Lines:
    """The lines of a text file, unpacked where its name ends in .gz."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                yield number, _decoded(path, number, raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "the gzip data ends early" if isinstance(error, EOFError) else f"not valid gzip data ({error})"
        hint = f"copy or fetch the file again; check it with: gzip -t {path}"
        yield number + 1, Problem(place(path, number + 1), f"cannot be unpacked: {reason}", hint)
    except OSError as error:
        yield number + 1, Problem(place(path, number + 1), f"cannot be read: {error.strerror or error}")


def _decoded(path: Path, number: int, raw: bytes) -> str | Problem:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")  # spreadsheets put a mark before the first line
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return Problem(place(path, number), message, "save the file as UTF-8")


def _jsonl(path: Path) -> Rows:
    """JSON Lines: one object per line; blank lines are no rows."""
    for number, text in _lines(path):
        if isinstance(text, Problem):
            yield number, text
        elif text.strip():
            yield number, _json_row(path, number, text)


def _json_row(path: Path, number: int, text: str) -> Row | Problem:
    hint = "a .jsonl file holds one JSON object per line"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return Problem(place(path, number), f"is not JSON: {reason}: {text.strip()!r:.60}", hint)
    if not isinstance(row, dict):
        return Problem(place(path, number), f"holds a {type(row).__name__}, not an object: {text.strip()!r:.60}", hint)
    return row


def _tsv(path: Path) -> Rows:
    """Tab-separated values without quoting, since the texts of GLUE's releases hold bare quotes."""

    def cells() -> Iterator[tuple[int, list[str] | Problem]]:
        for number, text in _lines(path):
            if isinstance(text, Problem):
                yield number, text
            elif text.strip("\r\n"):
                yield number, text.rstrip("\r\n").split("\t")

    return _table(path, cells())


def _csv(path: Path) -> Rows:
    """Comma-separated values with standard quoting; a quoted cell may hold line feeds."""
    return _table(path, _csv_cells(path))


def _csv_cells(path: Path) -> Iterator[tuple[int, list[str] | Problem]]:
    wrong: list[tuple[int, Problem]] = []

    def feed() -> Iterator[str]:
        for number, text in _lines(path):
            if isinstance(text, Problem):
                wrong.append((number, text))
            yield "\n" if isinstance(text, Problem) else text

    csv.field_size_limit(max(csv.field_size_limit(), 20 * MAX_CHARACTERS))
    reader = csv.reader(feed(), strict=True)  # not strict, a stray quote swallows the rows that follow it
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            hint = "put quotes around a cell that holds quotes or commas, and double the quotes inside it"
            yield from wrong or [(start, Problem(place(path, start), f"is not valid CSV: {error}", hint))]
            return
        yield from wrong
        if cells is None:
            return
        if cells and not wrong:
            yield start, cells
        wrong.clear()


def _table(path: Path, lines: Iterator[tuple[int, list[str] | Problem]]) -> Rows:
    """Rows from cells, named by the first line."""
    header: list[str] | None = None
    for number, cells in lines:
        if isinstance(cells, Problem):
            yield number, cells
        elif header is None:
            header = [name.strip() for name in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                yield number, Problem(place(path, number), f"the header names {', '.join(map(repr, twice))} twice")
        elif len(cells) != len(header):
            message = f"has {len(cells)} cells, but the header has {len(header)}: {', '.join(header)}"
            yield number, Problem(place(path, number), message, "the first line is read as the names of the columns")
        else:
            yield number, dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> Rows:
    """Parquet, in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                values: list[dict[str, Any]] = batch.to_pylist()
                for row in values:
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"cannot be read as Parquet: {reason}"
        yield number + 1, Problem(place(path, number + 1), message, "copy or fetch the file again")


KINDS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".tsv": _tsv,
    ".tsv.gz": _tsv,
    ".parquet": _parquet,
}

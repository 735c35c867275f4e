"""Readers: the rows of a data file, one by one, with the line each starts on.

A reader yields a row, or the problem that stands in its place, so that one reading of a file shows
everything there is to mend; `Omitted` stands for a line that is known to be broken in a release. Lines end at a line
feed and nowhere else: other line separators of Unicode occur inside texts.
"""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import Problem
from layover.tasks.example import Omitted
from layover.tasks.fields import MAX_CHARACTERS, Row
from layover.tasks.release import Columns, Release

if TYPE_CHECKING:
    from layover.tasks.task import Task

SPLITS = ("train", "validation")
STEMS = {  # what releases call the file of a split; the first that is there is read
    "train": ("train", "training", "tr"),
    "validation": ("validation", "dev", "val", "valid", "development", "va"),
    "test": ("test", "te"),
}

AS_IT_IS = Release()

Rows = Iterator[tuple[int, Row | Problem | Omitted]]
"""(line, row), or (line, what is wrong with it)."""
Lines = Iterator[tuple[int, str | Problem]]
Cells = Iterator[tuple[int, list[str] | Problem]]


@lru_cache(maxsize=64)  # asked for every row
def kind(path: Path) -> str | None:
    """The ending of a file that can be read, such as `.jsonl.gz`, or None."""
    name = path.name.lower()
    return next((ending for ending in KINDS if name.endswith(ending)), None)


def layout(task: Task) -> str:
    """The files that a data directory needs for a task, in words."""
    endings = ",".join(ending.lstrip(".") for ending in KINDS)
    plain = f"DIR/{task.name}/{{{','.join(SPLITS)}}}.{{{endings}}} (fields {task.fields()})"
    folder, gathered = task.release.folder or task.name, task.release.gathered
    if gathered:
        return f"{plain} or DIR/{folder}/{gathered.needs}"
    if folder == task.name or not all(task.release.files):
        return plain
    return f"{plain} or DIR/{folder}/{{{','.join(task.release.files)}}} of these kinds"


def file_of(folder: Path, stems: Iterable[str]) -> Path | None:
    """The first file in a folder that has one of these names and a kind that is read."""
    paths = (folder / (stem + ending) for stem in stems for ending in KINDS)
    return next((path for path in paths if path.is_file()), None)


def place(path: Path, line: int) -> str:
    """Where a row is, as messages say it. Parquet has rows and no lines."""
    return f"{path}, {'row' if kind(path) == '.parquet' else 'line'} {line}"


def rows(path: Path, release: Release = AS_IT_IS) -> Rows:
    """The rows of a data file; one problem where there are none.

    Of a `release` its columns, raggedness and field of plain lines are read, which concern tables and texts alone.
    """
    ending, found = kind(path) or ".jsonl", False
    if release.plain and ending.startswith(".txt"):
        made = _plain(path, release.plain)
    else:
        made = KINDS[ending](path, _Table(path, release.columns, release.ragged))
    for line, row in made:
        found = True
        yield line, row
    if not found:
        yield 1, Problem(place(path, 1), "the file holds no rows")


def lines(path: Path) -> Lines:
    """The lines of a text file, unpacked where its name ends in .gz or .xz."""
    number, packed = 0, path.suffix.lower().lstrip(".")
    opened = {"gz": gzip.open, "xz": lzma.open}.get(packed, Path.open)
    try:
        with opened(path, "rb") as file:
            for number, raw in enumerate(file, 1):
                yield number, _decoded(path, number, raw)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        name = "xz" if packed == "xz" else "gzip"
        reason = f"the {name} data ends early" if isinstance(error, EOFError) else f"not valid {name} data ({error})"
        hint = f"copy or fetch the file again; check it with: {name} -t {path}"
        yield number + 1, Problem(place(path, number + 1), f"cannot be unpacked: {reason}", hint)
    except OSError as error:
        yield number + 1, Problem(place(path, number + 1), f"cannot be read: {error.strerror or error}")


def _decoded(path: Path, number: int, raw: bytes) -> str | Problem:
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")  # spreadsheets put a mark before the first line
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start + 1}"
        return Problem(place(path, number), message, "save the file as UTF-8")


def _jsonl(path: Path, _: _Table) -> Rows:
    """JSON Lines: one object per line; blank lines are no rows."""
    for number, text in lines(path):
        if isinstance(text, Problem):
            yield number, text
        elif text.strip():
            yield number, _json_row(path, number, text)


def _json_row(path: Path, number: int, text: str) -> Row | Problem:
    hint = f"a {(kind(path) or '.jsonl').removesuffix('.gz')} file holds one JSON object per line"
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        return Problem(place(path, number), f"is not JSON: {reason}: {text.strip()!r:.60}", hint)
    if not isinstance(row, dict):
        return Problem(place(path, number), f"holds a {type(row).__name__}, not an object: {text.strip()!r:.60}", hint)
    return row


def _plain(path: Path, field: str) -> Rows:
    """Plain text: a line is a paragraph; blank lines are no rows."""
    for number, text in lines(path):
        if isinstance(text, Problem):
            yield number, text
        elif text.strip():
            yield number, {field: text.strip()}


def _tsv(path: Path, table: _Table) -> Rows:
    """Tab-separated values without quoting, since the texts of GLUE's releases hold bare quotes."""

    def cells() -> Cells:
        for number, text in lines(path):
            if isinstance(text, Problem):
                yield number, text
            elif text.strip("\r\n"):
                yield number, text.rstrip("\r\n").split("\t")

    return table.rows(cells())


def _csv(path: Path, table: _Table) -> Rows:
    """Comma-separated values with standard quoting; a quoted cell may hold line feeds."""
    return table.rows(_csv_cells(path))


def _csv_cells(path: Path) -> Cells:
    wrong: list[tuple[int, Problem]] = []

    def feed() -> Iterator[str]:
        for number, text in lines(path):
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


@dataclass
class _Table:
    """Rows from cells, named by the first line, or by the columns that a release without a header has."""

    path: Path
    columns: Columns
    ragged: bool
    header: list[str] | None = None

    def rows(self, lines: Cells) -> Rows:
        """The rows; the first line is none where it holds the names."""
        first = True
        for number, cells in lines:
            if isinstance(cells, Problem):
                yield number, cells
                continue
            if first and self._is_header(cells):
                self.header = [name.strip() for name in cells]
                twice = sorted({name for name in self.header if self.header.count(name) > 1})
                if twice:
                    message = f"the header names {', '.join(map(repr, twice))} twice"
                    yield number, Problem(place(self.path, number), message)
            else:
                yield number, self._row(number, cells)
            first = False

    def _is_header(self, cells: list[str]) -> bool:
        known = {name for columns in self.columns for name in columns}
        return not known or len(known & {cell.strip() for cell in cells}) >= 2

    def _row(self, number: int, cells: list[str]) -> Row | Problem | Omitted:
        names = [tuple(self.header)] if self.header else list(self.columns)
        if fitting := next((columns for columns in names if len(columns) == len(cells)), None):
            return dict(zip(fitting, cells, strict=True))
        wanted = " or ".join(f"{len(columns)}: {', '.join(columns)}" for columns in names)
        message = f"has {len(cells)} cells, but {'the header has' if self.header else 'rows have'} {wanted}"
        if self.ragged:
            return Omitted(f"a line of the release that is broken: it {message}")
        hint = "the first line is read as the names of the columns" if self.header else ""
        return Problem(place(self.path, number), message, hint)


def _parquet(path: Path, _: _Table) -> Rows:
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


KINDS: dict[str, Callable[[Path, _Table], Rows]] = {
    ".jsonl": _jsonl,
    ".jsonl.gz": _jsonl,
    ".jsonl.xz": _jsonl,
    ".json": _jsonl,
    ".json.gz": _jsonl,
    ".csv": _csv,
    ".csv.gz": _csv,
    ".tsv": _tsv,
    ".tsv.gz": _tsv,
    ".txt": _tsv,
    ".txt.gz": _tsv,
    ".txt.xz": _tsv,
    ".parquet": _parquet,
}

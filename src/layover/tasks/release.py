"""Release: how the files of a data set as it is released lie in a data directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Columns = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Gathered:
    """Files that are not one per split: the rows of a split are gathered from them.

    `needs` says in words what a task's folder has to hold. `find` gives the files in a folder by names of its own, none
    where the folder holds nothing of the kind; it raises TaskError where a part is missing. `rows` yields the rows of
    "train" or "validation" from these files: (place, row), or (place, what is wrong with it).
    """

    needs: str
    find: Callable[[Path], Mapping[str, Path]]
    rows: Callable[[Mapping[str, Path], str], Iterable[tuple[str, Any]]]


@dataclass(frozen=True)
class Release:
    """What a release calls its files, beside `<task>/{train,validation}.{jsonl,...}`, which is read for every task.

    `folder` is its folder where that is not called as the task: GLUE's `SST-2`, or the data of another task. `files`
    are the names of its train and validation file without their endings, `a|b` where they vary; in a folder that the
    task shares, no other names count. `columns` are those of a table without a header, which has a line of column names
    first where two of these names are in it; several tuples are told apart by their number. `ragged` says that lines
    with another number of cells are left out and counted. `together` are the fields of which equal values mark the rows
    of a file, wherever they stand, that are one row: it has a list of them, `rows`. `fields` are those of a row, for
    messages, where `prepare` makes others of them. `plain` is the field that a line of a `.txt` file is, where such a
    file holds plain text and no table.
    """

    folder: str = ""
    files: tuple[str, str] = ("", "")
    columns: Columns = ()
    ragged: bool = False
    together: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    plain: str = ""
    gathered: Gathered | None = None

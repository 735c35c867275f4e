"""Gathered: releases whose rows do not come from one file per split, as functions that declarations share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from layover.errors import Problem, TaskError
from layover.tasks import readers
from layover.tasks.example import Omitted
from layover.tasks.fields import FieldError, Row, list_at, value_at
from layover.tasks.release import Columns, Gathered, Release

Placed = Iterator[tuple[str, Any]]

FOLDS = 10
FOLD_PARTS = {"train": "train", "dev": "validation", "test": "test"}


def placed(path: Path, columns: Columns = ()) -> Placed:
    """The rows of a file, or what is wrong with them, each with its place."""
    return ((readers.place(path, line), row) for line, row in readers.rows(path, Release(columns=columns)))


def together(found: Placed, paths: tuple[str, ...]) -> Placed:
    """One row with a list of rows, `rows`, for all that have equal values at these paths, at the place of the first."""
    groups: dict[str, tuple[str, list[Row]]] = {}
    for place, row in found:
        if isinstance(row, Problem | Omitted):
            yield place, row
            continue
        try:
            alike = json.dumps([value_at(row, path) for path in paths], default=str)
        except FieldError as error:
            yield place, Problem(place, str(error), error.hint)
        else:
            groups.setdefault(alike, (place, []))[1].append(row)
    yield from ((place, {"rows": rows}) for place, rows in groups.values())


def refused(folder: Path, message: str, hint: str) -> TaskError:
    """The error of a folder that lacks a part of a release."""
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:12])
    return TaskError(Problem(str(folder), f"{message}; the folder holds: {there}", hint))


def one_file(stem: str, columns: tuple[str, ...], names: Mapping[str, str]) -> Gathered:
    """One table with a column `part`; `names` are its words for the parts, and the split that each is."""
    return Gathered(f"{stem}.txt", partial(_find_one, stem), partial(_rows_of_part, (columns,), dict(names)))


def _find_one(stem: str, folder: Path) -> dict[str, Path]:
    paths = (folder / f"{stem}{ending}" for ending in (".txt", ".txt.gz", ".tsv", ".tsv.gz"))
    return next(({"all": path} for path in paths if path.is_file()), {})


def _rows_of_part(columns: Columns, names: Mapping[str, str], files: Mapping[str, Path], split: str) -> Placed:
    for place, row in placed(files["all"], columns):
        if isinstance(row, Problem):
            yield place, row
        elif row["part"] not in names:
            message = f"field 'part' holds {row['part']!r:.60}, which is not a part"
            yield place, Problem(place, message, f"choices: {', '.join(names)}")
        elif names[row["part"]] == split:
            yield place, row


def fold(number: int) -> Gathered:
    """Fold `number`, from 1, of rows whose field `folds` says for each of ten folds which part they are in."""
    needs = "{train,validation,test}.* with a field 'folds'"
    return Gathered(needs, _find_folds, partial(_rows_of_fold, number))


def _find_folds(folder: Path) -> dict[str, Path]:
    found = {split: readers.file_of(folder, stems) for split, stems in readers.STEMS.items()}
    absent = [split for split, path in found.items() if path is None]
    if absent and len(absent) < len(found):
        hint = "a fold is made of the rows of all three files: train, validation and test"
        raise refused(folder, f"there is no {' and no '.join(absent)} file", hint)
    return {split: path for split, path in found.items() if path is not None}


def _rows_of_fold(number: int, files: Mapping[str, Path], split: str) -> Placed:
    for path in files.values():
        for place, row in placed(path):
            try:
                if isinstance(row, Problem) or fold_parts(row)[number - 1] == split:
                    yield place, row
            except FieldError as error:
                yield place, Problem(place, str(error), error.hint)


def fold_parts(row: Row) -> list[str]:
    """The split that a row is in, for each of the ten folds; raises FieldError where a fold is missing or unknown."""
    parts = list_at(row, "folds")
    if len(parts) != FOLDS:
        raise FieldError("folds", f"has {len(parts)} parts, one for each of {FOLDS} folds is needed")
    for number, part in enumerate(parts, 1):
        if not isinstance(part, str) or part not in FOLD_PARTS:
            raise FieldError("folds", f"holds {part!r:.60} for fold {number}", f"choices: {', '.join(FOLD_PARTS)}")
    return [FOLD_PARTS[part] for part in parts]


def labels_apart(train: str, validation: str, label: str) -> Gathered:
    """JSON Lines without labels, and for each file a list of them, one a line, in `<name>-labels.lst`."""
    needs = f"{{{train},{validation}}}{{.jsonl,-labels.lst}}"
    stems = {"train": train, "validation": validation}
    return Gathered(needs, partial(_find_lists, stems), partial(_labelled_rows, label))


def _find_lists(stems: Mapping[str, str], folder: Path) -> dict[str, Path]:
    files = {split: folder / f"{stem}.jsonl" for split, stem in stems.items()}
    files |= {f"{split} labels": folder / f"{stem}-labels.lst" for split, stem in stems.items()}
    return files if all(path.is_file() for path in files.values()) else {}


def _labelled_rows(label: str, files: Mapping[str, Path], split: str) -> Placed:
    path, labels = files[split], files[f"{split} labels"].read_text(encoding="utf-8").split()
    for number, (found, written) in enumerate(zip_longest(placed(path), labels), 1):
        place, row = found or (readers.place(files[f"{split} labels"], number), None)
        if isinstance(row, Problem):
            yield place, row
        elif row is None or written is None:
            message = f"{path.name} and its list of labels do not have as many lines"
            yield place, Problem(place, message, "copy or fetch both files again")
            return
        else:
            yield place, {**row, label: written}


def sections(root: str, numbers: Sequence[str], suffix: str, folder: Path) -> dict[str, Path]:
    """The files `NN/*suffix` under a folder of sections, by their paths; TaskError where a section is missing."""
    top = next((path for path in (folder / root, folder / "data" / root) if path.is_dir()), None)
    if top is None:
        return {}
    files = {f"{n}/{path.name}": path for n in numbers for path in sorted((top / n).glob(f"*{suffix}"))}
    present = {name[:2] for name in files}
    if absent := [number for number in numbers if number not in present]:
        raise refused(top, f"there are no {suffix} files of section {', '.join(absent)}", "copy the whole release")
    return files

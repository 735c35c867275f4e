"""CCG supertagging (CCGbank, Hockenmaier and Steedman 2007): the category of every word.

CCGbank's AUTO files hold one derivation a line, of which the leaves `(<L CAT POS POS WORD CAT>)` are read. The division
is that of Pruksachatkun et al. 2020: sections 00-18 train, 19-21 validation (22-24 would be test).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from layover.errors import Problem
from layover.tasks import readers
from layover.tasks.gathered import sections
from layover.tasks.release import Gathered, Release
from layover.tasks.spans import Tagging
from layover.tasks.task import Task

SECTIONS = {
    "train": tuple(f"{n:02}" for n in range(19)),
    "validation": tuple(f"{n:02}" for n in range(19, 22)),
}
LEAF = re.compile(r"\(<L (\S+) \S+ \S+ (\S+) \S+>\)")


def words_and_categories(files: Mapping[str, Path], split: str) -> Iterator[tuple[str, Any]]:
    """One row per derivation: its words and their categories."""
    for name, path in files.items():
        if name[:2] in SECTIONS[split]:
            for number, line in readers.lines(path):
                if isinstance(line, Problem):
                    yield readers.place(path, number), line
                elif line.startswith("(<"):
                    yield readers.place(path, number), _leaves(path, number, line)


def _leaves(path: Path, number: int, line: str) -> dict[str, list[str]] | Problem:
    found = LEAF.findall(line)
    if not found or len(found) != line.count("(<L "):
        message = f"{len(found)} of {line.count('(<L ')} leaves are whole: {line.strip()!r:.60}"
        return Problem(readers.place(path, number), message, "a leaf is (<L CAT POS POS WORD CAT>)")
    return {"words": [word for _, word in found], "tags": [category for category, _ in found]}


ccg = Task(
    name="ccg",
    version=1,
    format=Tagging("words"),
    label="tags",
    labels_in_data=True,
    metrics=("accuracy",),
    release=Release(
        gathered=Gathered(
            "AUTO/{00,...,21}/*.auto",
            partial(sections, "AUTO", (*SECTIONS["train"], *SECTIONS["validation"]), ".auto"),
            words_and_categories,
        )
    ),
    about="Which of some 1,300 categories of combinatory grammar has each word?",
    source="Hockenmaier and Steedman 2007 (Computational Linguistics), CCGbank",
    licence="needs CCGbank, licensed by the LDC as LDC2005T13; copy its folder data/AUTO",
    published=(38_015, 5_484),
)

"""Fields: how a row is read. Paths, texts and labels, each checked where it is read.

`question.stem` goes into an object, `choices[].text` collects over a list, and `premise|sentence1` takes the first
field that the row has (releases of one data set differ in their names).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

Row = Mapping[str, Any]

MAX_CHARACTERS = 100_000  # an encoder reads at most a few thousand; a longer row is a broken file


class FieldError(Exception):
    """One field of one row is wrong; the reader adds the file and the line."""

    def __init__(self, path: str, message: str, hint: str = "") -> None:
        self.path, self.message, self.hint = path, message, hint
        super().__init__(f"field {spelt(path)} {message}")


def spelt(path: str) -> str:
    """A path as a message shows it: 'label' or 'gold_label'."""
    return " or ".join(repr(alternative) for alternative in path.split("|"))


def label_text(raw: Any) -> str:
    """A label as text: 1 for 1.0, true for True, without blanks around it."""
    if isinstance(raw, bool):
        return str(raw).lower()
    return str(int(raw)) if isinstance(raw, float) and raw.is_integer() else str(raw).strip()


def value_at(row: Any, path: str) -> Any:
    """The value at a path such as `a.b`, `a[].b` or `a|b`; raises FieldError where the row lacks it."""
    if isinstance(row, dict | Mapping) and row.get(path) is not None:  # asking for dict first is fast
        return row[path]  # a column may be called `body.text`
    for alternative in _alternatives(path):
        value = _walk(row, alternative)
        if value is not None:
            return value
    have = ", ".join(map(str, list(row)[:12])) if isinstance(row, Mapping) else type(row).__name__
    raise FieldError(path, "is missing", f"the row has: {have}")


@lru_cache(maxsize=1024)
def _alternatives(path: str) -> tuple[list[str], ...]:
    return tuple(alternative.split(".") for alternative in path.split("|"))


def text_at(row: Row, path: str) -> str:
    """The text at a path, checked."""
    return checked_text(path, value_at(row, path))


def list_at(row: Row, path: str) -> list[Any]:
    """The list at a path; raises FieldError where there is none."""
    value = value_at(row, path)
    if not isinstance(value, list):
        raise FieldError(path, f"holds {value!r:.60}, not a list")
    return value


def object_at(row: Row, path: str) -> Row:
    """The object at a path; raises FieldError where there is none."""
    value = value_at(row, path)
    if not isinstance(value, Mapping):
        raise FieldError(path, f"holds {value!r:.60}, not an object")
    return value


def checked_text(path: str, value: Any) -> str:
    """`value` where it is a text with something in it and of sane length; raises FieldError otherwise."""
    if not isinstance(value, str) and _is_number(value):
        value = str(value)
    if not isinstance(value, str):
        raise FieldError(path, f"holds {value!r:.60}, not a text")
    if not value.strip():
        raise FieldError(path, "is empty")
    if len(value) >= MAX_CHARACTERS:
        long = f"has {len(value):,} characters (fewer than {MAX_CHARACTERS:,} are read)"
        raise FieldError(path, long, "shorten or split the row, or take it out")
    if not value.isascii() and not _encodes(value):
        half = "holds half a character (a lone surrogate such as \\ud83d), which no tokenizer reads"
        raise FieldError(path, half, "write the file again as UTF-8")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, parts: list[str]) -> Any:
    for position, part in enumerate(parts):
        if part.endswith("[]"):
            items = _walk(value, [part[:-2]])
            if not isinstance(items, list):
                return None
            rest = parts[position + 1 :]
            found = [_walk(item, rest) if rest else item for item in items]
            return None if any(item is None for item in found) else found
        if not isinstance(value, dict | Mapping) or part not in value:
            return None
        value = value[part]
    return value

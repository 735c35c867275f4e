"""Layouts: what a `[task.NAME]` table may say for each format, and how it becomes that format.

One entry of `LAYOUTS` is all that a format needs to be declared by a table: its keys, what its labels are, and how the
Format is built. Where a row of a user's file is not yet what the format reads, the entry also says how to turn it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from layover.tasks.fields import MAX_CHARACTERS, FieldError, Row, text_at, value_at
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers, Single
from layover.tasks.spans import Coreference, EdgeProbing, Span, Tagging, WordInContext
from layover.tasks.task import Format
from layover.tasks.text import CHARACTERS, Text

Table = Mapping[str, Any]
CUTS = ("longest", "first")
TARGETS = "(targets)"  # fields that a layout adds to a row; no column is called so
PLACES = ("(begin 1)", "(end 1)", "(begin 2)", "(end 2)")
ONE, TWO, ONE_OR_TWO, ANY = range(1, 2), range(2, 3), range(1, 3), range(1, 1000)


@dataclass(frozen=True)
class Key:
    """A key of a table: the name of a column, or of as many as `columns` allows.

    A key that is not `needed` may be left out and is `default` then. `among` are the words that it may hold, where it
    does not name a column, `whole` the whole numbers; `hint` says what to write.
    """

    name: str
    needed: bool = True
    default: Any = None
    columns: range | None = None
    among: tuple[str, ...] = ()
    whole: range | None = None
    hint: str = ""


@dataclass(frozen=True)
class Layout:
    """What a table of one format holds.

    `build` makes the Format of a declaration. `label` says what the label's column holds: "class" (one of the task's
    labels, or several), "position" (the number of the right choice), or None where there is no such column; `labels`
    are then those of the format itself. With `right_last` there are two, the second that of a right answer. `number`
    allows `range` instead of labels. `either` are groups of keys of which a table has exactly one. Cells of the columns
    that `lists` names may be JSON lists, and `shape` makes the row that the format reads. `plain` is the key whose
    column a line of a `.txt` file is, where such a file holds plain text.
    """

    keys: tuple[Key, ...]
    build: Callable[[Table], Format]
    label: Literal["class", "position"] | None = "class"
    labels: tuple[str, ...] = ()
    right_last: bool = False
    number: bool = False
    either: tuple[tuple[str, ...], ...] = ()
    lists: tuple[str, ...] = ()
    shape: Callable[[Row, Table], Row] | None = None
    plain: str = ""

    def own_keys(self) -> list[str]:
        """The names of its keys."""
        return [key.name for key in self.keys]


@dataclass(frozen=True)
class Prepare:
    """A row of a user's file, made into what its format reads: lists out of cells, then `shape`."""

    declared: Table

    def __call__(self, row: Row) -> Row:
        """The row that the format reads; raises FieldError where a cell is wrong."""
        layout = LAYOUTS[self.declared["format"]]
        row = {**row, **_lists(row, [path for key in layout.lists for path in _paths(self.declared[key])])}
        return layout.shape(row, self.declared) if layout.shape else row


def _paths(value: Any) -> list[str]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _lists(row: Row, columns: list[str]) -> Row:
    """The cells of these columns that are JSON lists, as lists."""
    found = {}
    for column in columns:
        cell = row.get(column)
        if isinstance(cell, str) and re.fullmatch(r"\s*\[.*\]\s*", cell, re.DOTALL):
            try:
                found[column] = json.loads(cell)
            except (ValueError, RecursionError):
                hint = 'write a list with double quotes, as in ["a", "b"]'
                raise FieldError(column, f"is no JSON list: {cell!r:.60}", hint) from None
    return found


def _output(declared: Table) -> Literal["classes", "value"]:
    return "classes" if declared["range"] is None else "value"


def _stretches(declared: Table) -> list[str]:
    """The names of the one or two stretches of an edge."""
    if declared["spans"]:
        return declared["spans"]
    pairs = zip(declared["starts"] or (), declared["ends"] or (), strict=False)
    return [f"{start}, {end}" for start, end in pairs]


def _edges(declared: Table) -> EdgeProbing:
    names = tuple(_stretches(declared))
    return EdgeProbing(2 if len(names) == 2 else 1, declared["text"], TARGETS, names)


def _with_targets(row: Row, declared: Table) -> Row:
    """The targets of an edge-probing row: those in its list, or the row itself as one."""
    path = declared["targets"]
    targets = value_at(row, path) if path else [row]
    if not isinstance(targets, list) or not all(isinstance(target, Mapping) for target in targets):
        raise FieldError(path, f"is {targets!r:.60}, not a list of objects")
    if declared["starts"]:
        pairs = list(zip(_stretches(declared), declared["starts"], declared["ends"], strict=True))
        targets = [{**t, **{name: [value_at(t, b), value_at(t, e)] for name, b, e in pairs}} for t in targets]
    return {**row, TARGETS: targets}


def _word_in_context(declared: Table) -> WordInContext:
    starts, ends = declared["starts"] or (), declared["ends"] or ()
    places = tuple(place for pair in zip(starts, ends, strict=False) for place in pair)
    return WordInContext(declared["first"], declared["second"], places if len(places) == 4 else PLACES)


def _with_places(row: Row, declared: Table) -> Row:
    """Where the word stands first in each text; for tables that name no places."""
    if not declared["word"]:
        return row
    places: list[int] = []
    for text_path, word_path in zip(
        (declared["first"], declared["second"]), (*declared["word"], *declared["word"]), strict=False
    ):
        text, word = text_at(row, text_path), text_at(row, word_path).strip()
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
        if found is None:
            hint = "where the word is inflected, name a column for each text, or give starts and ends in characters"
            raise FieldError(word_path, f"holds {word!r:.60}, which is no whole word of {text_path!r}", hint)
        places += found.span()
    return {**row, **dict(zip(PLACES, places, strict=True))}


def _with_answers(row: Row, declared: Table) -> Row:
    """All answers to a question: those in its lists, or one of each row that asks it."""
    columns = [declared["answers"], declared["label"]]
    if not declared["group"]:
        return {**row, **_lists(row, columns)}
    rows = row["rows"]
    for path in (declared["passage"], declared["question"]):
        if any(value_at(other, path) != value_at(rows[0], path) for other in rows):
            raise FieldError(path, "differs among the rows of one question", "name its column under group too")
    return {**rows[0], **{path: [value_at(other, path) for other in rows] for path in columns}}


CHOICES = 'give the fields of the choices, as in ["a", "b"], or the one field that holds a list of them'
EACH = 'give a column for each of the two, as in ["a", "b"]'
EDGES = 'give one column or two, as in ["a", "b"]'
PIECE = "give the most characters of an example, such as 1000: longer paragraphs become several"
PASSAGE = (Key("passage"), Key("question"), Key("answers"))

LAYOUTS: dict[str, Layout] = {
    "single": Layout((Key("text"),), lambda t: Single(t["text"], _output(t)), number=True),
    "pair": Layout(
        (Key("first"), Key("second"), Key("cut", needed=False, default="longest", among=CUTS)),
        lambda t: Pair(t["first"], t["second"], _output(t), t["cut"]),
        number=True,
    ),
    "choice": Layout(
        (Key("context"), Key("choices", columns=ANY, hint=CHOICES), Key("question", needed=False)),
        lambda t: Choice(t["context"], tuple(t["choices"]), t["question"]),
        label="position",
        lists=("choices",),
    ),
    "span": Layout(
        (*PASSAGE, Key("starts", needed=False)),
        lambda t: Span(t["passage"], t["question"], t["answers"], t["starts"]),
        label=None,
        lists=("answers", "starts"),
    ),
    "tagging": Layout((Key("words"),), lambda t: Tagging(t["words"]), lists=("words", "label")),
    "edges": Layout(
        (
            Key("text"),
            Key("targets", needed=False),
            Key("spans", needed=False, columns=ONE_OR_TWO, hint=EDGES),
            Key("starts", needed=False, columns=ONE_OR_TWO, hint=EDGES),
            Key("ends", needed=False, columns=ONE_OR_TWO, hint=EDGES),
        ),
        _edges,
        either=(("spans",), ("starts", "ends")),
        lists=("targets", "spans", "label"),
        shape=_with_targets,
    ),
    "words": Layout(
        (
            Key("first"),
            Key("second"),
            Key("word", needed=False, columns=ONE_OR_TWO, hint="give one column, or one for each text"),
            Key("starts", needed=False, columns=TWO, hint=EACH),
            Key("ends", needed=False, columns=TWO, hint=EACH),
        ),
        _word_in_context,
        either=(("word",), ("starts", "ends")),
        shape=_with_places,
    ),
    "coreference": Layout(
        (Key("text"), Key("spans", columns=TWO, hint=EACH), Key("words", columns=TWO, hint=EACH)),
        lambda t: Coreference(t["text"], tuple(t["spans"]), tuple(t["words"])),  # type: ignore[arg-type]
    ),
    "answers": Layout(
        (*PASSAGE, Key("group", needed=False, columns=ANY, hint="give the columns that name a question")),
        lambda t: PassageAnswers(t["passage"], t["question"], t["answers"]),
        right_last=True,
        shape=_with_answers,
    ),
    "cloze": Layout(
        (
            Key("passage"),
            Key("query"),
            Key("candidates"),
            Key("answers"),
            Key("gap", needed=False, default="@placeholder"),
        ),
        lambda t: Cloze(t["passage"], t["query"], t["candidates"], t["answers"], t["gap"]),
        label=None,
        labels=("false", "true"),
        lists=("candidates", "answers"),
    ),
    "text": Layout(
        (
            Key("text", needed=False, default="text"),
            Key("characters", needed=False, default=CHARACTERS, whole=range(40, MAX_CHARACTERS), hint=PIECE),
        ),
        lambda t: Text(t["text"], t["characters"]),
        label=None,
        plain="text",
    ),
}

"""Text: the format of plain text, of which hidden tokens are to be predicted (masked language modelling)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from layover.tasks.example import Example, Output, Reads, Scored
from layover.tasks.fields import Row, text_at

if TYPE_CHECKING:
    from layover.tasks.formats import Cut
    from layover.tasks.task import Task

CHARACTERS = 1000  # some 220 tokens of English: what 256 tokens hold


@dataclass(frozen=True)
class Text:
    """Plain text: a row is a paragraph. Tokens of it are hidden, and predicted from those around them.

    A paragraph of more than `characters` is several examples, cut at blanks into pieces of about one length. They are
    the same whatever encoder reads them, and stay together where rows are held out. There is no label: what is hidden
    is drawn anew each time that an example is read (see `layover.train.masking`).
    """

    output: ClassVar[Output] = "tokens"
    scored: ClassVar[Scored] = "tokens"
    reads: ClassVar[Reads] = Reads(sentence=False, marks=1, pool="first")
    cut: ClassVar[Cut] = "text"

    text: str
    characters: int = CHARACTERS

    def examples(self, index: int, part: int, row: Row, task: Task) -> Iterator[Example]:
        """One example per piece of the paragraph; its targets are drawn when it is read."""
        for number, piece in enumerate(pieces(text_at(row, self.text).strip(), self.characters), part):
            yield Example(index, (((piece,), None),), (), number)

    def labels(self, row: Row, task: Task) -> list[Any]:
        """None are written."""
        return []

    def paths(self) -> tuple[str, ...]:
        """The fields that are read."""
        return (self.text,)


def pieces(text: str, most: int) -> Iterator[str]:
    """A text in pieces of at most `most` characters and about one length, cut at blanks where there are any."""
    while len(text) > most:
        share = -(-len(text) // -(-len(text) // most))  # of so many pieces as there must be, that of the next one
        cut = max(text.rfind(" ", 0, share + 1), text.rfind("\t", 0, share + 1))
        if cut <= 0:
            cut = share
        yield text[:cut].rstrip()
        text = text[cut:].lstrip()
    yield text

"""Markdown: tables of text that is read as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    r"""Text in which nothing means anything to Markdown or HTML, and no line ends.

    >>> plain("a_b | <c>")
    'a\\_b \\| \\<c\\>'
    """
    return re.sub(r"([\\|*_`<>\[\]&])", r"\\\1", " ".join(text.split()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = False) -> str:
    """A table of cells that are Markdown already; with `numbers` all columns but the first are set to the right."""
    under = ["---", *(["---:" if numbers else "---"] * (len(head) - 1))]
    return "\n".join([_row(head), f"|{'|'.join(under)}|", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"

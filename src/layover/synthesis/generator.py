"""Generator: the folder with a small causal language model that was trained on a text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import Problem, TaskError, UserError
from layover.files import digest_once
from layover.synthesis.folder import Folder
from layover.synthesis.sentences import check_file, paragraphs

if TYPE_CHECKING:
    from layover.train.causal import Sizes

RECORD = "generator.json"


def make(text: Path, sizes: Sizes, out: Path, tell: Callable[[int, int], None]) -> dict[str, Any]:
    """Train a generator into the folder `out`, or go on with it; the record of what is in it.

    Raises UserError where the text or the folder is wrong.
    """
    from layover.train.causal import train

    check_file(text)
    settings = {"version": 1, "text": f"sha256:{digest_once(text)}", **dataclasses.asdict(sizes)}
    folder = Folder(out, RECORD, settings)
    if not folder.is_finished():
        found = [paragraph for _, paragraph in paragraphs(text)]
        if len(found) < 2:
            message = "holds no two paragraphs: one is held out"
            raise TaskError(Problem(str(text), message, "give a text file with one paragraph per line"))
        folder.begin()
        try:
            trained = train(found, sizes, folder.partial, tell)
        except UserError:
            folder.abandon()
            raise
        trained.save(out)
        folder.finish({"made_from": {"text": text.name}, "facts": trained.facts})
    return folder.recorded()

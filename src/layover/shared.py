"""Shared: what makes a store's directory the store of several machines. `Here`: the directory is itself shared.

The other one is `layover.bucket.Bucket`, where the directory is this machine's mirror of a bucket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from layover import integrity
from layover.claims import Slot

Wrong = list[tuple[Path, str]]
"""Files with what is wrong with each, by their places in the store's directory."""


class Shared(Protocol):
    """How a store's directory is kept in step with what all machines see. Frozen, and crosses process borders.

    `wait` is how long, in seconds, to wait before looking again for what another machine is doing.
    """

    @property
    def wait(self) -> float:
        """Seconds between two looks at what another machine is doing."""
        ...

    def address(self, path: Path) -> str:
        """What people call a place in the store's directory."""
        ...

    def refresh(self, keys: Iterable[str] | None = None) -> None:
        """Make the directory have the finished steps that there are now: these, or all, with records and claims."""
        ...

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        """Have files of a finished step in its folder, without names all but weights."""
        ...

    def fetch_weights(self, folder: Path) -> None:
        """Have the weights of a finished step in its folder, where they are kept."""
        ...

    def publish(self, key: str, attempt: Path) -> bool | None:
        """Publish a sealed attempt; whether it was the first, or None where a rename in the directory decides that."""
        ...

    def discard(self, key: str) -> None:
        """Remove what attempts at a finished step left."""
        ...

    def withdraw(self, key: str, part: Path, why: str) -> None:
        """Take back that a step, or its weights, is finished: it is damaged. Its files stay for now."""
        ...

    def drop_weights(self, folder: Path) -> None:
        """Remove the weights of a finished step."""
        ...

    def damage(self, part: Path, anew: bool) -> Wrong:
        """What is wrong with a part, a step's folder or its weights; with `anew` nothing read before is believed."""
        ...

    def suspect(self, folder: Path) -> bool:
        """Whether something may have happened to a finished step, without reading it."""
        ...

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Let others know what is damaged in a step; None where nothing is."""
        ...

    def size(self, part: Path) -> int | None:
        """The bytes of a part, None where it lies in the directory whole."""
        ...

    def slot(self, path: Path) -> Path | Slot:
        """Where the claim is that this file is for."""
        ...

    def keeping(self, key: str, folder: Path) -> AbstractContextManager[object]:
        """While a step is worked on: have its last checkpoint in this folder, and have others find later ones."""
        ...

    def failed(self, key: str, text: str) -> None:
        """Let others know with what error an attempt ended."""
        ...

    def record_study(self, name: str) -> None:
        """Let others know of a study whose record was written."""
        ...

    def check(self) -> None:
        """Raise StoreError, before any work, where nothing can be published."""
        ...

    def garbage(self) -> dict[str, int]:
        """What nobody needs beside what lies in the directory: names and bytes."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Remove garbage."""
        ...


@dataclass(frozen=True)
class Here:
    """The directory is what all machines see: there is nothing to do."""

    wait = 0.5

    def address(self, path: Path) -> str:
        """What people call a place: its path."""
        return str(path)

    def refresh(self, keys: Iterable[str] | None = None) -> None:
        """Nothing to do: the file system shows what there is now."""

    def fetch(self, folder: Path, names: Iterable[str]) -> None:
        """Nothing to do: files are where they are read."""

    def fetch_weights(self, folder: Path) -> None:
        """Nothing to do: weights are where they are read."""

    def publish(self, key: str, attempt: Path) -> None:
        """Nothing to do: a rename decides."""

    def discard(self, key: str) -> None:
        """Nothing to do: all that is left lies in the directory."""

    def withdraw(self, key: str, part: Path, why: str) -> None:
        """Nothing to do: the folder is put aside."""

    def drop_weights(self, folder: Path) -> None:
        """Nothing to do: the folder is removed."""

    def damage(self, part: Path, anew: bool) -> Wrong:
        """What is wrong with the files of a part: every byte is read."""
        return integrity.damage(part)

    def suspect(self, folder: Path) -> bool:
        """Whether sizes and times of files say that something happened to them."""
        return integrity.suspect(folder)

    def note(self, key: str, note: Mapping[str, str] | None) -> None:
        """Nothing to do: the note lies in the step's folder."""

    def size(self, part: Path) -> None:
        """Nothing to add: files are where they are counted."""

    def slot(self, path: Path) -> Path:
        """The file itself."""
        return path

    def keeping(self, key: str, folder: Path) -> AbstractContextManager[object]:
        """Nothing to do: the checkpoint is where it is read."""
        return nullcontext()

    def failed(self, key: str, text: str) -> None:
        """Nothing to do: the error lies in the attempt's folder."""

    def record_study(self, name: str) -> None:
        """Nothing to do: the record is where it is read."""

    def check(self) -> None:
        """Nothing to do: that the directory can be written is looked at anyway."""

    def garbage(self) -> dict[str, int]:
        """Nothing: all of it lies in the directory."""
        return {}

    def remove(self, names: Iterable[str]) -> None:
        """Nothing to do: there is none."""

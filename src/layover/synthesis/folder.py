"""Folder: what a command makes piece by piece in a folder, so that it can be killed and goes on, and is never mixed.

While it is made, `.partial/` holds the settings and the pieces. The file that is written last holds the settings again;
where it is, the folder is finished.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layover.errors import Problem, UserError
from layover.files import read_json, write_json

PARTIAL = ".partial"
SETTINGS = "settings.json"


@dataclass(frozen=True)
class Folder:
    """A folder, the name of the file that finishes it, and the settings with which its content is made."""

    path: Path
    record: str
    settings: Mapping[str, Any]

    @property
    def partial(self) -> Path:
        """Where pieces lie until the folder is finished."""
        return self.path / PARTIAL

    def is_finished(self) -> bool:
        """Whether it is; raises UserError where it is of other settings, or holds something else."""
        finished, begun = self.path / self.record, self.partial / SETTINGS
        for path in (finished, begun):
            if path.is_file():
                self._check_same(path)
                if path is finished:  # perhaps killed while the pieces were dropped
                    shutil.rmtree(self.partial, ignore_errors=True)
                return path is finished
        if self.path.exists() and not self.path.is_dir():
            raise UserError(Problem(str(self.path), "is a file", "name a new folder with --out"))
        if self.path.is_dir() and any(item.name != PARTIAL for item in self.path.iterdir()):
            message = "is not empty, and was not begun by this command"
            raise UserError(Problem(str(self.path), message, "name a new folder with --out"))
        return False

    def begin(self) -> None:
        """Make the folder, or go on with it; raises UserError where it cannot be written."""
        try:
            self.partial.mkdir(parents=True, exist_ok=True)
            write_json(self.partial / SETTINGS, {"settings": self.settings})
        except OSError as error:
            message = f"cannot be written: {error.strerror}"
            raise UserError(Problem(str(self.path), message, "name another folder with --out")) from error

    def abandon(self) -> None:
        """Drop the pieces of what cannot be finished, and the folder with them."""
        shutil.rmtree(self.partial)
        self.path.rmdir()

    def recorded(self) -> dict[str, Any]:
        """The record of a finished folder."""
        return read_json(self.path / self.record)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the record, the settings and other facts, and drop the pieces."""
        write_json(self.path / self.record, {"settings": self.settings, **facts})
        shutil.rmtree(self.partial, ignore_errors=True)

    def _check_same(self, path: Path) -> None:
        found = read_json(path).get("settings", {})
        names = [name for name in {**found, **self.settings} if found.get(name) != self.settings.get(name)]
        if names:
            differ = "; ".join(f"{n} was {_shown(found.get(n))}, now {_shown(self.settings.get(n))}" for n in names)
            hint = f"name another folder with --out, or remove this one to make it anew: rm -r {self.path}"
            raise UserError(Problem(str(self.path), f"was made with other settings: {differ}", hint))


def _shown(value: Any) -> str:
    return "not given" if value is None else f"{value:.20}" if isinstance(value, str) else str(value)

"""Live: progress bars on a terminal: of a run, the study's and those of the steps in hand; of reading data, one."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from layover.claims import read_claim

if TYPE_CHECKING:
    from layover.session import Session

REFRESH_SECONDS = 1.0


class Bars:
    """The study's bar, and one for each step in hand: from its claim, which whatever process it runs in keeps up."""

    def __init__(self, session: Session, console: Console, total: int) -> None:
        self._session = session
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._study = self._progress.add_task(session.plan.study.name, total=total)
        self._steps: dict[str, TaskID] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Bars:
        self._progress.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._progress.__exit__(None, None, None)

    def update(self, what: str, key: str, done: int) -> None:
        """Take in one event of the walk."""
        self._progress.update(self._study, completed=done)
        if what == "start":
            self._steps[key] = self._progress.add_task(self._session.plan.labels[key], total=None)
        elif (bar := self._steps.pop(key, None)) is not None:
            self._progress.remove_task(bar)

    def _poll(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            for key, bar in list(self._steps.items()):
                claim = read_claim(self._session.store.claim(key))
                progress = claim["progress"] if claim else {}
                if progress:
                    with suppress(KeyError):  # its step has ended meanwhile
                        self._progress.update(bar, completed=progress["step"], total=progress["steps"])


class Reading:
    """One bar of the tasks whose data has been read, with the task in hand; it goes when all is done."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._progress = Progress(*columns, TimeElapsedColumn(), console=console, transient=True)
        self._bar = self._progress.add_task("", total=None)

    def __enter__(self) -> Reading:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__(None, None, None)

    def __call__(self, task: str, done: int, total: int, rows: int) -> None:
        """Take in how far the reading is."""
        self._progress.update(self._bar, description=f"{task} {rows:,}", completed=done, total=total)


class Counting:
    """One bar of something that is counted, with time left; it goes when all is done."""

    def __init__(self, console: Console, what: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._bar = self._progress.add_task(what, total=None)

    def __enter__(self) -> Counting:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__(None, None, None)

    def __call__(self, done: int, total: int) -> None:
        """Take in how far it is."""
        self._progress.update(self._bar, completed=done, total=total)

"""Pulse: the sign of life that work gives wherever it moves on, and where it learns that it is to stop.

Whoever runs a step may ask it to stop (`ask`, from a signal's handler or another thread): the training loop then writes
its checkpoint and raises `Stopped`, between two optimizer steps. Whoever starts a step may also have it watched
(`watched`): a process whose step gives no sign of life for so many seconds is ended, and every thread's traceback is
written first. Both are the process's own: one step, or one cohort of steps, runs in a process at a time.
"""

from __future__ import annotations

import faulthandler
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO

from layover.errors import StepError

ARM_SECONDS = 1.0  # to set a watch again starts a thread: so seldom it is not felt

_asked = threading.Event()
_watch: tuple[IO[str], float] | None = None
_armed = 0.0


class Stopped(StepError):
    """A step ended because it was asked to. What it had done is in its checkpoint, and the next run goes on from it."""


def ask() -> None:
    """Ask what runs in this process to stop soon."""
    _asked.set()


def asked() -> bool:
    """Whether work in this process is to stop."""
    return _asked.is_set()


def clear() -> None:
    """Take back what was asked: what runs from now on goes to its end."""
    _asked.clear()


def beat() -> None:
    """Give a sign of life: work has moved on."""
    global _armed
    if _watch is None:
        return
    file, seconds = _watch
    if (now := time.monotonic()) - _armed >= min(ARM_SECONDS, seconds / 4):
        _armed = now
        faulthandler.dump_traceback_later(seconds, exit=True, file=file)


def check() -> None:
    """Give a sign of life where there is nothing to keep: raises `Stopped` where work is to stop."""
    beat()
    if asked():
        raise Stopped("was asked to stop")


def watched(seconds: float, file: Path) -> AbstractContextManager[None]:
    """End this process where it gives no sign of life for so many seconds (0: never), with tracebacks in `file`.

    The file has a folder of its own, which goes with it where all went well.

    The watch needs neither the interpreter nor the thread at work, so that a deadlock in a library ends too.
    """
    return _watched(seconds, file) if seconds else nullcontext()


@contextmanager
def _watched(seconds: float, file: Path) -> Iterator[None]:
    global _watch, _armed
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as opened:
        _watch, _armed = (opened, seconds), 0.0
        beat()
        try:
            yield
        finally:
            _watch = None
            faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(file.parent, ignore_errors=True)

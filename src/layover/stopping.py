"""Stopping: Ctrl-C once ends a run in good order, twice at once. So does the end of a cluster's time, by SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

HEARD = (signal.SIGINT, signal.SIGTERM)
# what clusters send to all processes of a job, to say that its time is nearly over
OF_CLUSTERS = tuple(signal.Signals[name] for name in ("SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


@contextmanager
def stopping(ask: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGINT or SIGTERM calls `ask`, which returns at once; a second one is as it is elsewhere.

    What was asked for comes true at the end: KeyboardInterrupt after SIGINT, and SystemExit after SIGTERM with the exit
    code of a process that it ended (143). In a thread other than the main one nothing is heard.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        if len(heard) > 1:
            _end(number)
        # in a thread: what this interrupted may hold a lock that `ask` needs, to print for one
        threading.Thread(target=ask, name="stopping").start()

    before = {number: signal.signal(number, handle) for number in HEARD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        _end(heard[0])


def _end(number: int) -> None:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)

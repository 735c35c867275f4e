"""Executors: `submit(fn, *args) -> Future`. An executor decides where a step runs, never whether."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol


class Executor(Protocol):
    """Somewhere that runs functions. `slots` is how many it can run at once."""

    slots: int

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run `fn(*args)` some time; the future holds its result or what it raised."""
        ...

    def close(self) -> None:
        """Give back what the executor holds."""
        ...

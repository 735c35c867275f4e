"""Local: this machine. Steps run here and now, in this process, or in warm processes of their own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar

from layover import pulse
from layover.errors import Problem, UserError
from layover.executors import devices
from layover.executors.executor import Executor, Needs, Site
from layover.executors.workers import Workers


@dataclass(frozen=True)
class Local:
    """The machine at hand: `workers` processes at once, dealt out over its GPUs; without any, this process."""

    kind: ClassVar[str] = "local"

    def make(self, site: Site) -> Executor:
        """As many processes as are asked for and have something to do; this one where that is one.

        Where steps are watched for a sign of life they run in a process that can be ended. Raises UserError where GPUs
        are asked for and there are too few.
        """
        gpus, each = devices.visible() if site.device != "cpu" else [], site.devices_per_step
        if site.workers == "gpus" and len(gpus) < each:
            found = f"{len(gpus)} of {each} GPUs are visible here" if gpus else "no GPU is visible here"
            raise UserError(
                Problem("placement.workers", f"is 'gpus', and {found}", "name a number, such as workers = 2")
            )
        asked = len(gpus) // each if site.workers == "gpus" else site.workers
        slots = min(asked, site.trainings)
        if slots <= 1 and not site.timeout:
            return InProcess()
        slots = max(1, slots)
        return Workers(slots, site.threads, site.prepare, devices.shares(slots, gpus, each))


class InProcess:
    """Runs a function when it is submitted; its future is done on return."""

    slots = sharing = 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Run `fn(*args)` before returning."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def stop(self) -> None:
        """Ask what runs to end soon; called while this process is at work."""
        pulse.ask()

    def close(self) -> None:
        """Nothing is held; this process may work again."""
        pulse.clear()

"""Errands: what one job of a cluster does, call after call, and how it ends in time and is queued again.

A cluster says that a job's time is nearly over, or that another one needs its place, by a signal. The work at hand is
then asked to stop (`layover.pulse`), writes its checkpoint, and the job is put back into the queue, where it goes on
from there. What decides is not which signal it was, since clusters differ, but who wants the end: the run that began
the job (a file says so), Slurm itself or a person with scancel (the job is no longer RUNNING), or else the clock.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from layover import pulse
from layover.errors import StepError
from layover.stopping import OF_CLUSTERS

SECONDS = 60.0  # for Slurm to answer

Call = tuple[Callable[..., Any], tuple[Any, ...]]
Answer = tuple[bool, Any]
"""Whether a call returned, and what it returned or raised."""


@dataclass
class Errands:
    """What one job does: calls in turn. `folder` is that of the run, `threads` as in `Site`.

    The answers so far go along where the job is queued again. An answer of None is for a call that was not begun.
    """

    calls: tuple[Call, ...]
    folder: Path
    threads: int = 0
    answers: list[Answer | None] = field(default_factory=list)

    def __call__(self) -> list[Answer | None]:
        """The answer to every call. Does not return where the job is queued again, or was ended by others."""
        queue_again = _listen()
        cores = os.environ.get("SLURM_CPUS_PER_TASK", "1")
        os.environ["OMP_NUM_THREADS"] = str(self.threads or os.environ.get("OMP_NUM_THREADS", cores))
        if stop_file(self.folder).exists():  # asked before this process could hear it
            pulse.ask()
        for fn, args in self.calls[len(self.answers) :]:
            answer = _answer(fn, args)
            if _was_stopped(answer) and not stop_file(self.folder).exists():
                self.answers.append((False, _not_queued_again(queue_again)))
                break
            self.answers.append(answer)
        return [*self.answers, *[None] * (len(self.calls) - len(self.answers))]

    def checkpoint(self) -> Any:
        """What submitit is to run when the job runs again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def stop_file(folder: Path) -> Path:
    """The file that is there where the run of this folder asks its jobs to stop for good."""
    return folder / "stop"


def _listen() -> Callable[[], Any]:
    """Ask work to stop on every signal of a cluster. Returns what submitit does on its own: to queue the job again."""
    from submitit import JobEnvironment

    number = signal.Signals["SIG" + JobEnvironment.USR_SIG]
    theirs: Any = signal.getsignal(number)
    for heard in OF_CLUSTERS:
        signal.signal(heard, lambda *_: pulse.ask())
    return partial(theirs, number, None)


def _answer(fn: Callable[..., Any], args: tuple[Any, ...]) -> Answer:
    """What comes of a call, which can be handed over."""
    if pulse.asked():
        return False, pulse.Stopped("was asked to stop")
    try:
        answer = True, fn(*args)
    except Exception as error:
        answer = False, error
    try:
        ForkingPickler.loads(ForkingPickler.dumps(answer))  # type: ignore[attr-defined]
    except Exception:  # what cannot be handed over is told in words
        return False, StepError(f"cannot be handed over: {answer[1]!r}")
    return answer


def _was_stopped(answer: Answer) -> bool:
    """Whether a call ended because it was asked to: it raised that, or one of its outcomes (`layover.run`) says so."""
    returned, value = answer
    if not returned:
        return isinstance(value, pulse.Stopped)
    return isinstance(value, list) and any(getattr(outcome, "status", "") == "stopped" for outcome in value)


def _not_queued_again(queue_again: Callable[[], Any]) -> StepError:
    """Queue this job again and end its process; returns why where that cannot be done."""
    from submitit.core.utils import UncompletedJobError

    if not _is_running():
        raise SystemExit(128 + signal.SIGTERM)  # Slurm has decided already, and its word is what the run reads
    try:
        queue_again()
    except UncompletedJobError:
        return StepError("did not end within the time limits of its job, however often it was queued again: allow more "
                         "minutes in [placement.needs], or more requeues in [placement.options]")  # fmt: skip
    except Exception as error:
        return StepError(f"its job could not be queued again: {error}")
    return StepError("its job could not be queued again")


def _is_running() -> bool:
    """Whether Slurm still wants this job to run; True outside of Slurm, and where it does not say."""
    if os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
        return True
    line = ["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={os.environ['SLURM_JOB_ID']}"]
    try:
        told = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return True
    return not told or "RUNNING" in told

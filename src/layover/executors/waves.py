"""Waves: an executor on a cluster. What is submitted together goes there together, and one thread watches it all."""

from __future__ import annotations

import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from layover.errors import Problem, StepError, UserError
from layover.executors.errands import Answer, Errands, stop_file
from layover.executors.executor import Needs
from layover.executors.workers import TRIES
from layover.pulse import Stopped

ARRAY_MOST = 1000  # jobs of one array; Slurm takes 1001 unless told otherwise
REFUSED_SECONDS = 60.0  # until a cluster is asked again that refused jobs while others are there
DONE = "DONE"  # a job's result is there
NOBODYS_FAULT = ("PREEMPTED",)  # how a job may end that says nothing of what it ran
WORDS = {
    "BOOT_FAIL": "could not be started on its node",
    "CANCELLED": "was cancelled",
    "COMPLETED": "ended without a result",
    "DEADLINE": "met its deadline",
    "FAILED": "ended without a result",
    "NODE_FAIL": "lost its node",
    "OUT_OF_MEMORY": "ran out of memory (memory_gb in [placement.needs])",
    "PREEMPTED": "was preempted",
    "TIMEOUT": "was ended at its time limit (minutes in [placement.needs])",
}

Item = TypeVar("Item")


class Cluster(Protocol):
    """Where jobs run. A job is one of submitit's; `tick` is how often, in seconds, it is looked at.

    A job may end for `patience` seconds before its result can be read, or before it is queued again.
    """

    tick: float
    patience: float

    def begin(self, errands: Sequence[Errands], needs: Needs) -> list[Any]:
        """Queue one job for each, all with the same needs; raises RuntimeError where the cluster refuses them."""
        ...

    def look(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        """How jobs ended that have, by their ids: DONE where the result is there, or one of the WORDS."""
        ...

    def ask(self, jobs: Sequence[Any]) -> None:
        """Ask jobs that run to stop, and cancel those that do not."""
        ...

    def cancel(self, jobs: Sequence[Any]) -> None:
        """End jobs."""
        ...


@dataclass
class _Errand:
    """A call that was submitted, and how often it was lost with its job."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    needs: Needs
    future: Future[Any] = field(default_factory=Future)
    lost: int = 0

    def settle(self, answer: Answer) -> None:
        """Tell whoever waits, unless it was told already."""
        returned, value = answer
        if not self.future.done():
            self.future.set_result(value) if returned else self.future.set_exception(value)

    def fail(self, error: BaseException) -> None:
        """Tell whoever waits what went wrong."""
        self.settle((False, error))


@dataclass
class _Running:
    """A job with what it does, and since when it is known to have ended without a result."""

    job: Any
    errands: list[_Errand]
    ended: float | None = None


class Waves:
    """An executor whose functions run as jobs of a cluster, `each` of them at most in one job.

    A wave is what is submitted until nothing more comes for a tick. What a wave has of equal needs is one array of
    jobs. `folder` is this executor's own. What a job was lost with is tried once more, in a job of its own.
    """

    sharing = 1

    def __init__(self, cluster: Cluster, folder: Path, slots: int, each: int = 1, threads: int = 0) -> None:
        self.slots = slots
        self._cluster, self._folder, self._each, self._threads = cluster, folder, each, threads
        self._lock = threading.Lock()
        self._new: list[_Errand] = []
        self._seen = 0  # how many there were of them in the last round
        self._not_before = 0.0
        self._running: dict[str, _Running] = {}
        self._stopping = self._asked = self._logs_matter = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="cluster", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Run `fn(*args)` in a job, with the wave that is forming."""
        errand = _Errand(fn, args, needs or Needs())
        errand.future.set_running_or_notify_cancel()
        with self._lock:
            if self._closed.is_set():
                raise StepError("the run was stopped")
            self._new.append(errand)
        return errand.future

    def stop(self) -> None:
        """Ask all jobs to end soon, with checkpoints, and not to come back."""
        with suppress(FileNotFoundError):  # it is closed, then
            stop_file(self._folder).touch()
        self._stopping = True

    def close(self) -> None:
        """Cancel whatever is left. Logs stay where a job went wrong."""
        self._closed.set()
        self._thread.join()
        if not self._logs_matter:
            shutil.rmtree(self._folder, ignore_errors=True)

    def round(self) -> None:
        """Send a wave that is complete, and see to the jobs that have ended; called once a tick."""
        if self._stopping:
            self._let_go(Stopped("was asked to stop"))
            if not self._asked and self._running:
                self._asked = True
                self._cluster.ask([running.job for running in self._running.values()])
        for needs, errands in _alike(self._wave()):
            self._send(needs, errands)
        if self._running:
            self._look()

    def _watch(self) -> None:
        error: BaseException = StepError("the run was stopped")
        try:
            while not self._closed.wait(self._cluster.tick):
                self.round()
        except BaseException as broke:  # whoever waits is to know
            error = broke
        with self._lock:
            self._closed.set()
        if self._running:
            self._logs_matter = True
            with suppress(Exception):
                self._cluster.cancel([running.job for running in self._running.values()])
        self._let_go(error)
        for running in self._running.values():
            for errand in running.errands:
                errand.fail(error)
        self._running.clear()

    def _let_go(self, error: BaseException) -> None:
        """Tell that what has not been sent will not be."""
        with self._lock:
            waiting, self._new, self._seen = self._new, [], 0
        for errand in waiting:
            errand.fail(error)

    def _wave(self) -> list[_Errand]:
        """What is to be sent now: nothing as long as more comes."""
        with self._lock:
            if len(self._new) != self._seen or time.monotonic() < self._not_before:
                self._seen = len(self._new)
                return []
            wave, self._new, self._seen = self._new, [], 0
            return wave

    def _send(self, needs: Needs, errands: list[_Errand]) -> None:
        """Queue one array of jobs for these."""
        once_lost = any(errand.lost for errand in errands)  # then it is to be seen which of them it was
        packs = list(_chunks(errands, 1 if once_lost else self._each))
        work = [Errands(tuple((e.fn, e.args) for e in pack), self._folder, self._threads) for pack in packs]
        more = f" and {len(errands) - 1} more" if len(errands) > 1 else ""
        try:
            jobs = self._cluster.begin(work, replace(needs, name=f"{errands[0].needs.name}{more}"))
        except RuntimeError as error:
            self._refused(errands, error)
            return
        self._running |= {job.job_id: _Running(job, pack) for job, pack in zip(jobs, packs, strict=True)}

    def _refused(self, errands: list[_Errand], error: RuntimeError) -> None:
        """Ask again later while other jobs are there, since a queue may be full; else it is for the user to mend."""
        if self._running:
            self._not_before = time.monotonic() + REFUSED_SECONDS
            self._again(errands)
            return
        hint = "mend [placement.needs] or [placement.options]; workers = N has so many steps in the queue at most"
        told = UserError(Problem("placement", f"the cluster takes no such job: {error}", hint))
        for errand in errands:
            errand.fail(told)

    def _again(self, errands: Iterable[_Errand]) -> None:
        with self._lock:
            self._new += errands

    def _look(self) -> None:
        ended, now = self._cluster.look([running.job for running in self._running.values()]), time.monotonic()
        for number, running in list(self._running.items()):
            how = ended.get(number)
            if how is None:
                running.ended = None  # it may have been queued again
            elif how == DONE:
                self._read(running)
                del self._running[number]
            elif running.ended is None:
                running.ended = now
            elif now - running.ended >= self._cluster.patience:
                self._lost(running, how, WORDS[how])
                del self._running[number]

    def _read(self, running: _Running) -> None:
        """Hand over the answers of a job that is done."""
        try:
            answers: list[Answer | None] = running.job.result()
        except Exception as error:  # the job could not so much as begin, or its result cannot be read
            self._lost(running, "FAILED", f"failed ({_reason(error)})")
            return
        went_well = all(answer is not None and answer[0] for answer in answers)
        self._logs_matter |= not went_well
        paths = running.job.paths
        for path in (paths.submitted_pickle, paths.result_pickle, *(paths.stdout, paths.stderr) * went_well):
            path.unlink(missing_ok=True)
        for errand, answer in zip(running.errands, answers, strict=True):
            self._again([errand]) if answer is None else errand.settle(answer)

    def _lost(self, running: _Running, how: str, words: str) -> None:
        """Try what was lost with its job once more, but not what somebody cancelled."""
        self._logs_matter = True
        job = running.job
        self._cluster.cancel([job])  # it is not to come back beside the new one
        for errand in running.errands:
            errand.lost += how not in NOBODYS_FAULT
            if self._stopping:
                errand.fail(Stopped("was asked to stop"))
            elif how == "CANCELLED" or errand.lost >= TRIES:
                again = "; the one before it was lost too" if errand.lost > 1 else ""
                errand.fail(StepError(f"its job {job.job_id} {words}{again}; its log: {job.paths.stderr}"))
            else:
                self._again([errand])


def _alike(wave: Iterable[_Errand]) -> list[tuple[Needs, list[_Errand]]]:
    """What is sent as one array: what has the same needs, and was not lost before. The order stays."""
    found: dict[tuple[Needs, bool], list[_Errand]] = defaultdict(list)
    for errand in wave:
        found[replace(errand.needs, name=""), errand.lost > 0].append(errand)
    return [(needs, part) for (needs, _), all_of in found.items() for part in _chunks(all_of, ARRAY_MOST)]


def _chunks(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    for begin in range(0, len(items), most):
        yield list(items[begin : begin + most])


def _reason(error: Exception) -> str:
    """What an error of submitit says in one line: the last one of the traceback within."""
    lines = [line.strip() for line in str(error).partition("\nYou can check")[0].splitlines()]
    return next((line for line in reversed(lines) if line and set(line) != {"-"}), type(error).__name__)

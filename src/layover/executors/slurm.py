"""Slurm: steps as jobs of a cluster, an array for every wave of the plan, queued again when their time is up."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from layover.errors import MissingExtra, Problem, UserError, did_you_mean, raise_all
from layover.executors.errands import Errands
from layover.executors.executor import Executor, Needs, Site
from layover.executors.waves import ARRAY_MOST, DONE, WORDS, Waves

PROGRAMS = ("sbatch", "srun", "sacct", "scancel", "squeue", "scontrol")
SETUP = "LAYOVER_SLURM_SETUP"  # shell lines to run first in a job; no word of a study, since they are code
NO_LIMIT = 10_000  # steps in the queue at once
STATES_SECONDS = 30.0  # between two questions to Slurm's accounting
HURRY_SECONDS = 4.0  # the same, once jobs are asked to stop
ENDING_SECONDS = 30.0  # until processes on this machine are given up
MISSING_SECONDS = 60.0  # after a job's end: files take their time to show on other machines, and so does queueing again
# what else a study may ask of sbatch: nothing that names a program, an environment or a file
SBATCH = (
    "begin", "clusters", "comment", "contiguous", "core-spec", "cores-per-socket", "cpus-per-gpu", "deadline",
    "distribution", "exclude", "exclusive", "gpu-bind", "gpu-freq", "hint", "licenses", "mail-type", "mail-user",
    "mem-bind", "mem-per-cpu", "mem-per-gpu", "network", "nice", "nodelist", "oversubscribe", "prefer", "priority",
    "requeue", "reservation", "sockets-per-node", "spread-job", "switches", "threads-per-core", "tmp", "use-min-nodes",
    "wckey",
)  # fmt: skip


@dataclass(frozen=True)
class Slurm:
    """A Slurm cluster. Its fields are the options of `[placement]`; "" leaves the choice to the cluster.

    `gres` asks for GPUs where a step needs any, "{gpus}" in it stands for how many. `minutes` are the time limit of
    steps of which nothing else is said; `notice` seconds before its end, or when its place is needed, a job
    writes its checkpoint and is queued again, after at most `requeues` time limits. `at_once` jobs of an array run at
    the same time at most (0: all). A job runs `steps_per_job` steps that have equal needs, one after the other, and has
    the time of all.
    `sbatch` are more of that program's options. `cluster` is "local" for processes on this machine instead of jobs.
    """

    kind: ClassVar[str] = "slurm"

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gres: str = ""
    minutes: int = 120
    notice: int = 120
    requeues: int = 10
    at_once: int = 0
    steps_per_job: int = 1
    sbatch: dict[str, str | int | bool] = field(default_factory=dict)
    cluster: Literal["slurm", "local"] = "slurm"

    def __post_init__(self) -> None:
        """Raise UserError where a value cannot be meant, or would be more than a word of a script."""
        least = {"minutes": 1, "notice": 1, "requeues": 0, "at_once": 0, "steps_per_job": 1}
        problems = [
            Problem(name, f"is {getattr(self, name)}", f"say {low} or more")
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if self.notice >= 60 * self.minutes:
            problems.append(Problem("notice", f"is {self.notice} s of {self.minutes} minutes", "leave time to work"))
        if unknown := set(self.sbatch) - set(SBATCH):
            name = min(unknown)
            mine = f"for yourself, any option can be in the environment: SBATCH_{name.upper().replace('-', '_')}"
            hint = f"{did_you_mean(name, SBATCH)}; {mine}"
            problems.append(Problem(f"sbatch.{name}", "is no option of sbatch that a study may set", hint))
        words = {**vars(self), **{f"sbatch.{name}": value for name, value in self.sbatch.items()}}
        odd = [name for name, value in words.items() if isinstance(value, str) and not value.isprintable()]
        problems += [Problem(name, "has a line break, or another character that cannot be seen", "") for name in odd]
        raise_all(UserError, problems)

    def make(self, site: Site) -> Executor:
        """The queue of this cluster. Raises MissingExtra without submitit, UserError where this is no Slurm cluster."""
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise MissingExtra("submitit", "slurm", "executor = 'slurm'") from None
        if site.workers == "gpus":
            hint = "say how many steps may be in the queue at once, or 0: as many as there are"
            raise UserError(Problem("placement.workers", "is 'gpus', which is for one machine", hint))
        missing = [name for name in PROGRAMS if shutil.which(name) is None]
        if self.cluster == "slurm" and missing:
            hint = (
                "run the command on a login node of the cluster; to try the study on this machine instead, say "
                'cluster = "local" in [placement.options], or --executor local'
            )
            raise UserError(Problem("placement.executor", f"is 'slurm', and there is no {missing[0]} here", hint))
        folder, gpus = _own_folder(site.folder), 0 if site.device == "cpu" else site.devices_per_step
        if self.cluster == "local":
            cluster, slots = Here(self, folder, gpus), site.workers or os.cpu_count() or 1
        else:
            cluster, slots = Queue(self, folder, gpus), site.workers or NO_LIMIT
        return Waves(cluster, folder, slots, self.steps_per_job, site.threads)

    def gpus_of(self, needs: Needs, gpus: int) -> int:
        """How many GPUs a job gets: Slurm deals out whole ones. `gpus` where the needs do not say."""
        return gpus if needs.gpus is None else math.ceil(needs.gpus)

    def parameters(self, needs: Needs, gpus: int, steps: int = 1) -> dict[str, Any]:
        """What submitit is to ask of sbatch for jobs of so many steps with these needs; `gpus` as in `gpus_of`."""
        gpus, minutes = self.gpus_of(needs, gpus), (needs.minutes or self.minutes) * steps
        setup = os.environ.get(SETUP, "").splitlines()
        more = {name: value for name, value in {"requeue": True, **self.sbatch}.items() if value is not False}
        return {
            "job_name": re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"layover {needs.name}").strip("-"),
            "time": minutes,
            "signal_delay_s": min(self.notice, 30 * minutes),  # some of a short job's time is for work
            "cpus_per_task": math.ceil(needs.cpus) if needs.cpus else None,
            "mem": f"{math.ceil(needs.memory_gb * 1024)}MB" if needs.memory_gb else None,
            "gpus_per_node": gpus if gpus and not self.gres else None,
            "gres": self.gres.replace("{gpus}", str(gpus)) if gpus and self.gres else None,
            "partition": self.partition or None,
            "account": self.account or None,
            "qos": self.qos or None,
            "constraint": self.constraint or None,
            "array_parallelism": self.at_once or ARRAY_MOST,
            "setup": setup or None,
            "wckey": None,
            "additional_parameters": more,
        }


def _own_folder(parent: Path) -> Path:
    """A new folder for a run's jobs that nobody else can write to: submitit keeps pickles in it."""
    folder = parent.absolute() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"
    parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    return folder


def _most_steps(errands: Sequence[Errands]) -> int:
    """How many steps one of these jobs runs at most."""
    return max(len(each.calls) for each in errands)


class Queue:
    """The queue of a Slurm cluster: sbatch, sacct and scancel, each called for many jobs at once."""

    tick = 2.0

    def __init__(self, options: Slurm, folder: Path, gpus: int) -> None:
        self._options, self._folder, self._gpus = options, folder, gpus
        self._states: Mapping[str, str] = {}
        self._ask_again, self._every = 0.0, STATES_SECONDS
        self.patience = MISSING_SECONDS

    def begin(self, errands: Sequence[Errands], needs: Needs) -> list[Any]:
        """Queue an array, or one job."""
        from submitit import SlurmExecutor
        from submitit.helpers import clean_env

        executor = SlurmExecutor(self._folder, max_num_timeout=self._options.requeues)
        executor.update_parameters(**self._options.parameters(needs, self._gpus, _most_steps(errands)))
        within_a_job = "SLURM_JOB_ID" in os.environ  # whose memory, cores and GPUs are not to be those of its own jobs
        with clean_env() if within_a_job else nullcontext(), executor.batch():
            jobs = [executor.submit(each) for each in errands]
        return jobs

    def look(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        """Results are looked for in one listing of the folder; sacct is called now and then, for all that is left."""
        self._folder.chmod(0o700)  # a network drive then looks again
        there = set(os.listdir(self._folder))
        done = {job.job_id: DONE for job in jobs if job.paths.result_pickle.name in there}
        left = [job for job in jobs if job.job_id not in done]
        if left and time.monotonic() >= self._ask_again:
            self._states = _states(left)
            self._ask_again = time.monotonic() + self._every
        return {**self._states, **done}

    def ask(self, jobs: Sequence[Any]) -> None:
        """Two calls of scancel: one takes back what waits, one is a signal to what runs."""
        self._ask_again, self._every, self.patience = 0.0, min(STATES_SECONDS, HURRY_SECONDS), 0.0  # somebody waits
        _call("scancel", "--state=PENDING", *_arrays(jobs))
        _call("scancel", "--signal=USR2", *_arrays(jobs))

    def cancel(self, jobs: Sequence[Any]) -> None:
        """One call of scancel."""
        _call("scancel", *(job.job_id for job in jobs))


def _states(jobs: Iterable[Any]) -> dict[str, str]:
    """The states in which jobs have ended, by their ids, as sacct names them. Empty where it does not answer."""
    from submitit.slurm.slurm import SlurmInfoWatcher

    told = _call("sacct", "-o", "JobID,State", "--parsable2", "-j", ",".join(_arrays(jobs)))
    found = SlurmInfoWatcher().read_info(told)
    # as in "CANCELLED by 1000"
    states = {number: row["State"].split()[0].rstrip("+") for number, row in found.items() if row.get("State")}
    return {number: state for number, state in states.items() if state in WORDS}


def _arrays(jobs: Iterable[Any]) -> list[str]:
    """The ids of the arrays that jobs are of, each once."""
    return list(dict.fromkeys(job.job_id.partition("_")[0] for job in jobs))


def _call(*line: str) -> str:
    """What a program of Slurm prints. That it fails now and then is a matter of course: it is called again."""
    try:
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


class Here:
    """submitit's local executor: every job is a process on this machine, with the same ways to end."""

    tick = 0.1
    patience = 0.0

    def __init__(self, options: Slurm, folder: Path, gpus: int) -> None:
        self._options, self._folder, self._gpus = options, folder, gpus

    def begin(self, errands: Sequence[Errands], needs: Needs) -> list[Any]:
        """Start a process for each."""
        from submitit import LocalExecutor

        executor = LocalExecutor(self._folder, max_num_timeout=self._options.requeues)
        asked = self._options.parameters(needs, self._gpus, _most_steps(errands))
        executor.update_parameters(
            timeout_min=asked["time"],
            signal_delay_s=asked["signal_delay_s"],
            gpus_per_node=self._options.gpus_of(needs, self._gpus),
        )
        return [executor.submit(each) for each in errands]

    def look(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        """A job is done when its process has ended."""
        ended = [job for job in jobs if job.done()]
        return {job.job_id: DONE if job.paths.result_pickle.exists() else "FAILED" for job in ended}

    def ask(self, jobs: Sequence[Any]) -> None:
        """A job's id is that of its process, which hands the signal on."""
        for job in jobs:
            if not job.done():
                os.kill(int(job.job_id), signal.SIGTERM)

    def cancel(self, jobs: Sequence[Any]) -> None:
        """End processes, and wait until they have ended."""
        for job in jobs:
            job.cancel()
        deadline = time.monotonic() + ENDING_SECONDS
        while not all(job.done() for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.02)

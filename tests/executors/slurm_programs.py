"""sbatch, srun, sacct, scancel, squeue and scontrol of a make-believe cluster, all of whose nodes are this machine.

Called as `python slurm_programs.py PROGRAM ARGUMENTS`. What the cluster knows is in the folder FAKE_SLURM: a file per
job, which the programs change under a lock, the calls that were made, and files by which a test has its way: "hold" (no
job begins), "refuse" (sbatch fails with its text), "no_requeue", "no_accounting", "kill_wait" (seconds from SIGTERM to
SIGKILL). Every job has a process that runs its script as slurmd would.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HOME = Path(os.environ["FAKE_SLURM"])
Job = dict[str, Any]


@contextmanager
def locked() -> Iterator[None]:
    with (HOME / "lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(number: int) -> Job:
    return json.loads((HOME / "jobs" / f"{number}.json").read_text(encoding="utf-8"))


def write(job: Job) -> None:
    path = HOME / "jobs" / f"{job['number']}.json"
    path.with_suffix(".tmp").write_text(json.dumps(job), encoding="utf-8")
    path.with_suffix(".tmp").replace(path)


def jobs() -> list[Job]:
    return [read(number) for number in sorted(int(path.stem) for path in (HOME / "jobs").glob("*.json"))]


def name_of(job: Job) -> str:
    return str(job["number"]) if job["array"] is None else f"{job['array']}_{job['task']}"


def named(names: list[str]) -> list[Job]:
    """The jobs that a program is told of: by their name, or all of an array."""
    return [job for job in jobs() if {name_of(job), str(job["array"]), str(job["number"])} & set(names)]


def kill(pid: int | None, number: int, group: bool = False) -> None:
    if pid:
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)


def sbatch(script: str) -> int:
    if (HOME / "refuse").exists():
        print((HOME / "refuse").read_text(encoding="utf-8"), file=sys.stderr)
        return 1
    text = Path(script).read_text(encoding="utf-8")
    array = re.search(r"^#SBATCH --array=0-(\d+)", text, re.M)
    with locked():
        first = max([int(path.stem) for path in (HOME / "jobs").glob("*.json")], default=100) + 1
        (HOME / "scripts" / f"{first}.sh").write_text(text, encoding="utf-8")
        made = range(first, first + int(array[1]) + 1) if array else [first]
        for task, number in enumerate(made):
            place = {"array": first, "task": task} if array else {"array": None, "task": None}
            pids = {"step": None, "shell": None, "daemon": None}
            write({"number": number, **place, "script": first, "state": "PENDING", "restarts": 0, **pids})
    for number in made:
        daemon = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, "slurmd", str(number)], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with locked():
            write({**read(number), "daemon": daemon.pid})
    print(f"Submitted batch job {first}")
    return 0


def slurmd(word: str) -> int:
    number = int(word)
    while True:
        while read(number)["state"] == "PENDING" and (HOME / "hold").exists():
            time.sleep(0.02)
        with locked():
            job = read(number)
            if job["state"] != "PENDING":
                return 0
            write({**job, "state": "RUNNING"})
        of_array = {"SLURM_ARRAY_JOB_ID": job["array"], "SLURM_ARRAY_TASK_ID": job["task"]}
        words = {"SLURM_JOB_ID": number, "SLURM_PROCID": 0, "SLURM_LOCALID": 0, "SLURM_NODEID": 0, "SLURM_NTASKS": 1,
                 "SLURM_JOB_NUM_NODES": 1, "SLURM_JOB_NODELIST": "here", "SLURM_RESTART_COUNT": job["restarts"],
                 **(of_array if job["array"] is not None else {})}  # fmt: skip
        with (HOME / f"{number}.log").open("a", encoding="utf-8") as log:
            shell = subprocess.Popen(
                ["bash", HOME / "scripts" / f"{job['script']}.sh"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env={**os.environ, **{name: str(value) for name, value in words.items()}},
            )  # fmt: skip
        with locked():
            write({**read(number), "shell": shell.pid})
        code = _until_it_ends(shell, number)
        with locked():
            job = read(number)
            if job["state"] == "RUNNING":
                write({**job, "state": "FAILED" if code else "COMPLETED"})
            elif job["state"] == "REQUEUED":
                write({**job, "state": "PENDING", "restarts": job["restarts"] + 1, "step": None, "shell": None})


def _until_it_ends(shell: Any, number: int) -> int:
    """The exit code of a job's script; it is killed where the job has been ended for so long."""
    ended = None
    while shell.poll() is None:
        if read(number)["state"] not in ("RUNNING", "REQUEUED"):
            ended = ended or time.monotonic()
            if time.monotonic() - ended >= float((HOME / "kill_wait").read_text(encoding="utf-8")):
                kill(shell.pid, signal.SIGKILL, group=True)
        time.sleep(0.02)
    return shell.returncode


def srun(*words: str) -> int:
    number = int(os.environ["SLURM_JOB_ID"])
    line = list(words)
    while line[0].startswith("-"):
        option = line.pop(0)
        if option in ("--output", "--error"):
            path = line.pop(0)
            for mark, name in (("%A", "ARRAY_JOB_ID"), ("%a", "ARRAY_TASK_ID"), ("%j", "JOB_ID"), ("%t", "PROCID")):
                path = path.replace(mark, os.environ.get(f"SLURM_{name}", mark))
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(file, 1 if option == "--output" else 2)
    with locked():
        write({**read(number), "step": os.getpid()})
    os.execvp(line[0], line)


def scancel(*words: str) -> int:
    options = dict(word.removeprefix("--").split("=") for word in words if word.startswith("--"))
    with locked():
        for job in named([word for word in words if not word.startswith("--")]):
            if options.get("signal"):
                kill(job["step"] if job["state"] == "RUNNING" else None, signal.Signals[f"SIG{options['signal']}"])
            elif job["state"] == "PENDING" and options.get("state", "PENDING") == "PENDING":
                write({**job, "state": "CANCELLED by 0"})
            elif job["state"] == "RUNNING" and not options:
                write({**job, "state": "CANCELLED by 0"})
                kill(job["step"], signal.SIGTERM)
    return 0


def scontrol(verb: str, name: str) -> int:
    assert verb == "requeue"
    with locked():
        (job,) = named([name])
        if (HOME / "no_requeue").exists() or job["state"] != "RUNNING":
            print("Requested operation is presently disabled", file=sys.stderr)
            return 1
        write({**job, "state": "REQUEUED"})
        kill(job["step"], signal.SIGTERM)
    return 0


def squeue(*words: str) -> int:
    (name,) = [word.removeprefix("--jobs=") for word in words if word.startswith("--jobs=")]
    (job,) = named([name])
    print("RUNNING" if job["state"] == "RUNNING" else "COMPLETING")
    return 0


def sacct(*words: str) -> int:
    if (HOME / "no_accounting").exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    print("JobID|State")
    waiting: dict[str, list[str]] = {}
    for job in named(words[words.index("-j") + 1].split(",")):
        if job["state"] == "PENDING" and job["array"] is not None:
            waiting.setdefault(job["array"], []).append(str(job["task"]))
        else:
            print(f"{name_of(job)}|{job['state']}")
            print(f"{name_of(job)}.batch|{job['state']}")
    for array, tasks in waiting.items():
        print(f"{array}_[{','.join(tasks)}%4]|PENDING")
    return 0


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    if program != "slurmd":
        with locked(), (HOME / "calls.jsonl").open("a", encoding="utf-8") as calls:
            calls.write(json.dumps([program, *arguments]) + "\n")
    sys.exit(globals()[program](*arguments))

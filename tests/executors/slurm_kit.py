"""A make-believe Slurm cluster for tests, and what its jobs do."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit import fake_work, study_words

from layover import pulse
from layover.encoders import Encoder
from layover.plan import Plan, compile_plan
from layover.study import Study

PROGRAMS = Path(__file__).with_name("slurm_programs.py")
NAMES = ("sbatch", "srun", "sacct", "scancel", "squeue", "scontrol")
WAIT = 120  # seconds: starting processes on a busy machine


def until(condition: Callable[[], Any], seconds: float = WAIT) -> Any:
    """What the condition says at last; fails where it never holds."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return found


class FakeSlurm:
    """The cluster as a test sees it: its jobs, the calls made of its programs, and its accidents."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        for name in ("jobs", "scripts", "bin"):
            (folder / name).mkdir(parents=True)
        (folder / "kill_wait").write_text("30")
        for name in NAMES:
            line = shlex.join([sys.executable, "-I", "-S", str(PROGRAMS), name])
            (self.bin / name).write_text(f'#!/bin/sh\nexec {line} "$@"\n')
            (self.bin / name).chmod(0o755)
        self.environment = {
            "FAKE_SLURM": str(folder),
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }

    def jobs(self) -> list[dict[str, Any]]:
        with self._programs() as programs:
            return programs.jobs()

    def states(self) -> list[str]:
        return [job["state"] for job in self.jobs()]

    def calls(self, program: str) -> list[list[str]]:
        lines = (self.folder / "calls.jsonl").read_text().splitlines()
        return [words[1:] for words in map(json.loads, lines) if words[0] == program]

    def scripts(self) -> list[str]:
        """The text of every script that sbatch took, in their order."""
        paths = sorted((self.folder / "scripts").iterdir(), key=lambda path: int(path.stem))
        return [path.read_text() for path in paths]

    def say(self, name: str, text: str = "") -> None:
        """Set one of the files by which the cluster is told how to be."""
        (self.folder / name).write_text(text)

    def unsay(self, name: str) -> None:
        (self.folder / name).unlink()

    def signal(self, index: int, number: int) -> None:
        """Send a signal to what a job runs, as Slurm does before it takes the job's place away."""
        os.kill(self.jobs()[index]["step"], number)

    def scancel(self, index: int) -> None:
        """What a person does."""
        with self._programs() as programs:
            programs.scancel(programs.name_of(programs.jobs()[index]))

    def lose(self, index: int, state: str) -> None:
        """End a job all at once, which is then in this state."""
        with self._programs() as programs, programs.locked():
            job = programs.jobs()[index]
            programs.write({**job, "state": state})
            programs.kill(job["shell"], signal.SIGKILL, group=True)

    def close(self) -> None:
        """Leave no process behind."""
        self.say("kill_wait", "0")
        with self._programs() as programs:
            programs.scancel(*map(programs.name_of, programs.jobs()))
            until(lambda: not any(is_there(job["daemon"]) for job in programs.jobs()))

    @contextmanager
    def _programs(self) -> Iterator[Any]:
        """The programs as a module that knows this cluster."""
        spec = importlib.util.spec_from_file_location("slurm_programs", PROGRAMS)
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def is_there(pid: int) -> bool:
    """Whether a process is alive; one that is dead and waits to be collected is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def fake_plan(folder: Path) -> Plan:
    """A direct training, and one after a stop at a source; of an encoder that does not exist."""
    import layover.encoders

    find = layover.encoders.find
    layover.encoders.find = lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere")  # type: ignore
    try:
        return compile_plan(Study(**study_words("e", folder)))
    finally:
        layover.encoders.find = find


# what jobs do


def works_in_parts(folder: Path, parts: int) -> list[int]:
    """Do parts of work that are kept in a folder, each once a file allows it; goes on from what was kept.

    Leaves "began.N" in the folder when it is called for the Nth time. Returns how many parts each call did.
    """
    folder.mkdir(exist_ok=True)
    call = len(list(folder.glob("began.*")))
    (folder / f"began.{call}").touch()
    for part in range(len(list(folder.glob("part.*"))), parts):
        while not (folder / f"may.{part}").exists():
            pulse.check()
            time.sleep(0.01)
        (folder / f"part.{part}").write_text(str(call))
    done = [int(path.read_text()) for path in folder.glob("part.*")]
    return [done.count(number) for number in range(call + 1)]


def never_looks_up(folder: Path) -> None:
    """Do not listen to anybody."""
    folder.mkdir(exist_ok=True)
    (folder / f"began.{len(list(folder.iterdir()))}").touch()
    while True:
        time.sleep(0.05)


def waits_in_trainings(folder: Path, fn: Any, *args: Any) -> Any:
    """Run `fn(*args)` where a training is a fake that leaves a file in a folder and ends when "go" is there too."""
    from layover.run import WORK
    from layover.step import Train, key_of

    def work(step: Any, store: Any, places: Any, attempt: Path, keep: bool, _: Any) -> None:
        (folder / f"{key_of(step)}.{os.getpid()}").touch()
        until(lambda: (folder / "go").exists())
        fake_work(store, attempt, keep)

    WORK[Train] = work
    return fn(*args)


def preempted_in_its_fifth_step(folder: Path, fn: Any, *args: Any) -> Any:
    """Run `fn(*args)`, which is told to go in the fifth optimizer step of its first call.

    Leaves a file for each call with the number of optimizer steps that it made.
    """
    from layover.train.update import Update

    count, real = folder / f"call.{len(list(folder.iterdir()))}", Update.apply
    count.write_text("0")

    def apply(update: Any) -> None:
        made = int(count.read_text()) + 1
        count.write_text(str(made))
        if made == 5 and count.name == "call.0":
            os.kill(os.getpid(), signal.SIGTERM)
        real(update)

    Update.apply = apply  # type: ignore[method-assign]
    return fn(*args)


def leaves(code: int) -> None:
    """End the process."""
    os._exit(code)


def surroundings(*names: str) -> list[str | None]:
    """Variables of the environment of a job, and its process as the last one."""
    return [*map(os.environ.get, names), str(os.getpid())]

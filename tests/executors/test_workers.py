"""Worker processes: what dies is replaced, nothing lingers, and a study ends with the numbers of one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Command, Faking, Terminal, numbers, site, study_words, write_study

from layover import pulse
from layover.errors import StepError, StudyError
from layover.executors import devices
from layover.executors.local import Local
from layover.executors.workers import Workers
from layover.session import Session
from layover.study import Study
from layover.upkeep import verify

WAIT = 60  # seconds: starting processes on a busy machine


@pytest.fixture
def workers() -> Iterator[Callable[..., Workers]]:
    """`workers(2)` is an executor of two processes, which end with the test."""
    made: list[Workers] = []

    def make(*args: Any, **options: Any) -> Workers:
        made.append(Workers(*args, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def is_there(pid: int) -> bool:
    """Whether a process has a thread that is alive; one that is dead and waits to be collected has none."""
    try:
        return any(
            task.read_text().rpartition(")")[2].split()[0] != "Z" for task in Path("/proc").glob(f"{pid}/task/*/stat")
        )
    except OSError:  # a thread has ended meanwhile
        return is_there(pid)


def gone(pids: list[int], seconds: float = WAIT) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(is_there, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_there, pids))


def dies(times: int, folder: Path, how: int = signal.SIGKILL) -> int:
    """Kill this process the first `times` times; how often it was called."""
    called = len(list(folder.iterdir()))
    (folder / str(called)).touch()
    if called < times:
        os.kill(os.getpid(), how)
    return called + 1


class TestOneThatDies:
    def test_what_it_ran_is_tried_again_in_a_new_one(self, workers: Any, tmp_path: Path) -> None:
        executor = workers(1)
        before = executor.submit(os.getpid).result(WAIT)
        assert executor.submit(dies, 1, tmp_path).result(WAIT) == 2
        after = executor.submit(os.getpid).result(WAIT)
        assert before != after
        assert gone([before])

    def test_dying_twice_is_the_steps_own_failure(self, workers: Any, tmp_path: Path) -> None:
        executor = workers(1)
        with pytest.raises(StepError, match=r"was killed \(SIGKILL\), as did the one before"):
            executor.submit(dies, 9, tmp_path).result(WAIT)
        assert len(list(tmp_path.iterdir())) == 2
        assert executor.submit(divmod, 7, 2).result(WAIT) == (3, 1)

    def test_leaving_is_dying(self, workers: Any) -> None:
        with pytest.raises(StepError, match="ended with exit code 7"):
            workers(1).submit(os._exit, 7).result(WAIT)

    def test_while_nothing_is_asked_of_it_counts_for_nothing(self, workers: Any, tmp_path: Path) -> None:
        executor = workers(1)
        pid = executor.submit(os.getpid).result(WAIT)
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        assert executor.submit(dies, 1, tmp_path).result(WAIT) == 2  # the one death that it may die is still there

    def test_the_others_go_on(self, workers: Any, tmp_path: Path) -> None:
        executor = workers(2)
        bad = executor.submit(dies, 9, tmp_path)
        good = [executor.submit(divmod, n, 2) for n in range(6)]
        assert [future.result(WAIT) for future in good] == [divmod(n, 2) for n in range(6)]
        assert isinstance(bad.exception(WAIT), StepError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_what_a_cluster_sends_before_time_is_over_is_heard_and_kills_nothing(workers: Any, number: int) -> None:
    asked = workers(1).submit(signalled, number)
    assert asked.result(WAIT) is True


def signalled(number: int) -> bool:
    os.kill(os.getpid(), number)
    return pulse.asked()


class TestEnds:
    def test_closing_ends_processes_at_work(self, workers: Any) -> None:
        executor = workers(2)
        pids = [future.result(WAIT) for future in [executor.submit(os.getpid) for _ in range(8)]]
        busy = [executor.submit(time.sleep, 3600) for _ in range(4)]
        executor.close()
        assert gone(pids)
        assert all(future.done() for future in busy)

    def test_it_can_be_closed_while_processes_start(self, workers: Any) -> None:
        began = time.monotonic()
        executor = workers(2, prepare=slow)
        executor.close()
        assert time.monotonic() - began < WAIT

    def test_processes_end_when_their_driver_is_killed(self, tmp_path: Path) -> None:
        """The driver is a script without a main guard, as a user might write it."""
        script = tmp_path / "driver.py"
        script.write_text(
            "import os, time\n"
            "from layover.executors.workers import Workers\n"
            "w = Workers(2)\n"
            "pids = {f.result() for f in [w.submit(os.getpid) for _ in range(8)]}\n"
            "busy = w.submit(time.sleep, 3600)\n"
            "print(*pids, flush=True)\n"
            "time.sleep(3600)\n"
        )
        driver = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        pids = list(map(int, driver.stdout.readline().split()))
        assert pids
        assert all(map(is_there, pids))
        driver.kill()
        driver.wait()
        assert gone(pids)


def slow() -> None:
    time.sleep(3600)


class TestThreads:
    @pytest.mark.parametrize(
        ("asked", "users", "found"), [(0, None, "1"), (3, None, "3"), (0, "5", "5"), (3, "5", "3")]
    )
    def test_one_unless_somebody_says_otherwise(
        self, workers: Any, monkeypatch: pytest.MonkeyPatch, asked: int, users: str | None, found: str
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if users:
            monkeypatch.setenv("OMP_NUM_THREADS", users)
        executor = workers(1, threads=asked)
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result(WAIT) == found

    def test_torch_has_them(self, workers: Any) -> None:
        assert workers(1, threads=2).submit(torch_threads).result(WAIT) == 2


def torch_threads() -> int:
    import torch

    return torch.get_num_threads()


# whole studies


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    (tmp_path / "bert").symlink_to(bert)
    words = study_words(bert, tmp_path, encoders=["bert"], seeds=[1, 2])
    return write_study(tmp_path / "study.toml", {**words, "placement": {**words["placement"], "workers": 2}})


@dataclass
class Deadly:
    """Workers that die `times` times at the step `key`."""

    inner: Any
    key: str
    times: int
    folder: Path
    slots: int = 2
    sharing: int = 1

    def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Any:
        return self.inner.submit(_deadly, self.key, self.times, self.folder, fn, *args)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


def _deadly(key: str, times: int, folder: Path, fn: Any, steps: Any, *args: Any) -> Any:
    from layover.step import key_of

    if key in [key_of(step) for step, _ in steps]:
        dies(times, folder)
    return fn(steps, *args)


def test_a_study_ends_with_the_numbers_of_one_process_and_its_driver_needs_no_torch(
    study: Path, tmp_path: Path, command: Command
) -> None:
    code = (
        f"import sys, layover; layover.run({str(study)!r}, store={str(tmp_path / 'two')!r}); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
    assert command("run", study, "--store", tmp_path / "one", "--workers", 1).code == 0
    assert numbers(tmp_path / "two") == numbers(tmp_path / "one")
    again = command("run", study, "--store", tmp_path / "two", "--workers", 2)
    assert "0 steps run, 6 reused" in again.out
    assert list((tmp_path / "two" / "claims").iterdir()) == []


def test_a_study_loses_nothing_when_a_worker_dies(study: Path, tmp_path: Path) -> None:
    session = Session.open(study, tmp_path / "store")
    (tmp_path / "deaths").mkdir()
    key = session.plan.find("bert · stop · s1")
    summary = session.run(Deadly(Workers(2), key, 1, tmp_path / "deaths"))
    assert summary.complete
    assert verify(session.store) == []
    assert list((session.store.root / "work").iterdir()) == []


@pytest.mark.parametrize("cohort", [1, 2])
def test_a_step_that_kills_its_workers_fails_alone(study: Path, tmp_path: Path, command: Command, cohort: int) -> None:
    """Also where it was begun in a cohort, whose other steps are then tried without it."""
    study.write_text(study.read_text().replace('"workers" = 2', f'"workers" = 2, "cohort" = {cohort}'))
    session = Session.open(study, tmp_path / "store")
    (tmp_path / "deaths").mkdir()
    key = session.plan.find("bert · stop · s1")
    summary = session.run(Deadly(Faking(Workers(2), tmp_path / "runs"), key, 9, tmp_path / "deaths"))
    assert list(summary.failed) == [key]
    assert "SIGKILL" in summary.failed[key]
    assert list(summary.blocked) == [session.plan.find("bert · stop → mine · s1")]
    assert len(summary.finished) == len(session.plan.steps) - 2
    assert "SIGKILL" in command("status", study, "--store", tmp_path / "store").out


def test_data_that_is_wrong_is_said_before_anything_runs(study: Path, tmp_path: Path, command: Command) -> None:
    with (tmp_path / "single.train.jsonl").open("a") as file:
        file.write('{"text": "", "label": "yes"}\n')
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == 2
    assert "field 'text' is empty" in ran.err
    assert list((tmp_path / "store" / "steps").iterdir()) == []


@pytest.mark.parametrize("workers", ["-1", "two", "1.5", ""])
def test_what_is_no_number_of_workers_is_refused(study: Path, command: Command, workers: str) -> None:
    ran = command("run", study, f"--workers={workers}")
    assert ran.code == (2 if workers else 0)
    assert not workers or "say a number of steps, or gpus" in ran.err


@pytest.mark.parametrize("workers", [-1, "two", 1.5, True])
def test_a_study_that_says_no_number_of_workers_is_refused(
    study: Path, bert: Path, tmp_path: Path, workers: Any
) -> None:
    words = study_words(bert, tmp_path, placement={"workers": workers})
    with pytest.raises(StudyError, match=r"placement\.workers: .*should be a number of steps") as caught:
        Study(**words)
    assert len(caught.value.problems) == 1


class TestGpus:
    def test_processes_are_dealt_out_over_them(self, workers: Any) -> None:
        executor = workers(4, devices=devices.shares(4, ["0", "2"]))
        assert executor.sharing == 2
        futures = [executor.submit(visible, 0.5) for _ in range(4)]
        assert sorted(future.result(WAIT) for future in futures) == ["0", "0", "2", "2"]

    def test_a_process_that_takes_the_place_of_one_that_died_has_its_gpu(self, workers: Any, tmp_path: Path) -> None:
        executor = workers(1, devices=["3"])
        assert executor.submit(dies, 1, tmp_path).result(WAIT) == 2
        assert executor.submit(visible).result(WAIT) == "3"

    @pytest.mark.parametrize(
        ("named", "found"),
        [("0,1", ["0", "1"]), ("GPU-ab12", ["GPU-ab12"]), ("", []), ("-1", []), ("0, 3 ,", ["0", "3"])],
    )
    def test_those_that_the_environment_names_are_found(
        self, monkeypatch: pytest.MonkeyPatch, named: str, found: list[str]
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert devices.visible() == found

    def test_those_that_the_driver_tells_of_are_found(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        command = tmp_path / "nvidia-smi"
        command.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert devices.visible() == ["0", "1"]
        command.write_text("#!/bin/sh\nexit 9\n")
        assert devices.visible() == []
        command.unlink()
        assert devices.visible() == []

    def test_one_step_on_each_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
        with closing(Local().make(site(workers="gpus", trainings=9))) as executor:
            assert (executor.slots, executor.sharing) == (2, 1)
        with closing(Local().make(site(workers=4, trainings=9))) as executor:
            assert (executor.slots, executor.sharing) == (4, 2)

    def test_without_any_that_is_refused_before_anything_runs(
        self, study: Path, command: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        ran = command("run", study, "--workers", "gpus")
        assert ran.code == 2
        assert "is 'gpus', and no GPU is visible here" in ran.err
        assert "name a number, such as workers = 2" in ran.err


def visible(seconds: float = 0.0) -> str:
    time.sleep(seconds)  # so that every process gets one
    return os.environ.get("CUDA_VISIBLE_DEVICES", "")


# on a terminal


def test_ctrl_c_ends_workers_and_the_next_run_goes_on_with_a_bar_for_each_step_in_hand(
    study: Path, tmp_path: Path
) -> None:
    terminal = Terminal(tmp_path, "run", str(study))
    terminal.read(until="[1/6] ")
    pids = children(terminal.process.pid)
    assert len(pids) == 2
    terminal.interrupt()
    assert terminal.end() == 130, terminal.shown
    assert "stopping: what runs writes its checkpoint first" in terminal.shown
    assert "stopped; run the same command again to go on" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert gone(pids)
    again = Terminal(tmp_path, "run", str(study))
    assert again.end() == 0, again.shown
    assert re.search(r"[2-5] steps run, [1-4] reused, 0 failed", again.shown)
    frames = again.shown.split("small ")
    assert max(len(set(re.findall(r"bert · (\S.*?) +[━╸╺]", frame))) for frame in frames) == 2


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

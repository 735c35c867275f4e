"""Slurm: arrays of jobs that are queued again when their time is up, on a make-believe cluster of fake programs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.executors.slurm_kit import (
    WAIT,
    FakeSlurm,
    fake_plan,
    is_there,
    leaves,
    never_looks_up,
    preempted_in_its_fifth_step,
    surroundings,
    until,
    waits_in_trainings,
    works_in_parts,
)
from tests.kit import HERE, Command, Faking, ends_badly, numbers, study_words, write_study

from layover import pulse
from layover.errors import MissingExtra, Problem, StepError, UserError
from layover.execute import execute
from layover.executors import Needs, Site, errands, slurm, waves
from layover.executors.errands import Errands
from layover.executors.slurm import Slurm
from layover.executors.waves import Waves
from layover.session import Session
from layover.session import run as run_study
from layover.store import Store

LONG = {"minutes": 600}  # so that a signal at once is no time limit


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """A cluster on the path, which is looked at all the time."""
    made = FakeSlurm(tmp_path / "slurm")
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(slurm.SETUP, raising=False)
    monkeypatch.setattr(slurm, "STATES_SECONDS", 0.0)
    monkeypatch.setattr(slurm, "MISSING_SECONDS", 0.0)
    monkeypatch.setattr(slurm.Queue, "tick", 0.05)
    yield made
    made.close()


def site(folder: Path, **words: Any) -> Site:
    plain: dict[str, Any] = {
        "workers": 0, "trainings": 9, "device": "cpu", "threads": 0, "timeout": 0.0, "devices_per_step": 1,
    }  # fmt: skip
    return Site(folder=folder / "jobs", prepare=lambda: None, **{**plain, **words})


Make = Callable[..., Waves]


@pytest.fixture
def make(cluster: FakeSlurm, tmp_path: Path) -> Iterator[Make]:
    """`make(minutes=5)` is the executor of that cluster; `where` are words of its site."""
    made: list[Any] = []

    def make(where: dict[str, Any] | None = None, **options: Any) -> Any:
        made.append(Slurm(**options).make(site(tmp_path, **(where or {}))))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def by_hand(make: Make, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Executors that look at the cluster when a test says so, with `round()`; no job begins."""
    monkeypatch.setattr(slurm.Queue, "tick", 3600.0)
    cluster.say("hold")
    return make


def directives(script: str) -> set[str]:
    return set(re.findall(r"^#SBATCH --(.*)$", script, re.M))


# what sbatch is asked for


def test_a_wave_of_equal_needs_is_one_array(by_hand: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    named = {"partition": "gpu", "account": "lab7", "qos": "long", "constraint": "a100|h100"}
    more = {"mail-user": "me@here", "exclusive": True}
    executor = by_hand(**named, gres="gpu:a100:{gpus}", minutes=30, notice=60, at_once=2, sbatch=more)
    for name in ("one", "two", "three"):
        executor.submit(divmod, 7, 2, needs=Needs(gpus=1.5, cpus=4, memory_gb=7.5, name=f"e · {name} → s1"))
    executor.round()
    executor.round()
    assert len(cluster.calls("sbatch")) == 1
    (script,) = cluster.scripts()
    (folder,) = (tmp_path / "jobs").iterdir()
    assert directives(script) == {
        "job-name=layover-e-one-s1-and-2-more", "partition=gpu", "account=lab7", "qos=long",
        "constraint='a100|h100'", "gres=gpu:a100:2", "time=30", "cpus-per-task=4", "mem=7680MB", "signal=USR2@60",
        "array=0-2%2", "nodes=1", "open-mode=append", "requeue", "mail-user=me@here", "exclusive",
        f"output={folder}/%A_%a_0_log.out", f"error={folder}/%A_%a_0_log.err",
    }  # fmt: skip
    assert [f"{job['array']}_{job['task']}" for job in cluster.jobs()] == ["101_0", "101_1", "101_2"]


def test_other_needs_are_another_array_and_one_job_is_none(by_hand: Make, cluster: FakeSlurm) -> None:
    executor = by_hand()
    for cpus in (1, 8, 1):
        executor.submit(divmod, 7, 2, needs=Needs(cpus=cpus))
    executor.round()
    executor.round()
    both, alone = map(directives, cluster.scripts())
    assert {"cpus-per-task=1", "array=0-1%2"} <= both
    assert "cpus-per-task=8" in alone
    assert not any(word.startswith("array") for word in alone)


def test_a_wave_goes_when_nothing_more_comes(by_hand: Make, cluster: FakeSlurm) -> None:
    executor = by_hand()
    for _ in range(3):
        executor.submit(divmod, 7, 2)
        executor.round()
    assert cluster.scripts() == []
    executor.round()
    (script,) = cluster.scripts()
    assert "array=0-2%3" in directives(script)


def test_an_array_has_no_more_jobs_than_slurm_takes(
    by_hand: Make, cluster: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "ARRAY_MOST", 2)
    executor = by_hand()
    for _ in range(3):
        executor.submit(divmod, 7, 2)
    executor.round()
    executor.round()
    assert ["array=0-1%2" in directives(script) for script in cluster.scripts()] == [True, False]


@pytest.mark.parametrize(
    ("options", "needs", "devices", "asked"),
    [
        ({}, Needs(), 1, {"gpus_per_node": 1, "time": 120}),
        ({}, Needs(), 0, {"gpus_per_node": None, "mem": None, "cpus_per_task": None}),
        ({}, Needs(), 4, {"gpus_per_node": 4}),
        ({}, Needs(gpus=0), 1, {"gpus_per_node": None}),
        ({}, Needs(gpus=0.25, minutes=7), 0, {"gpus_per_node": 1, "time": 7}),
        ({"gres": "gpu:1"}, Needs(), 1, {"gpus_per_node": None, "gres": "gpu:1"}),
        ({"gres": "gpu:h100:{gpus}"}, Needs(gpus=2), 1, {"gpus_per_node": None, "gres": "gpu:h100:2"}),
        ({"gres": "gpu:1"}, Needs(gpus=0, cpus=0.5), 1, {"gres": None, "cpus_per_task": 1}),
        ({}, Needs(memory_gb=0.5), 0, {"mem": "512MB"}),
        ({}, Needs(minutes=2), 0, {"time": 2, "signal_delay_s": 60}),
        ({"sbatch": {"requeue": False, "nice": 5}}, Needs(), 0, {"additional_parameters": {"nice": 5}}),
    ],
)
def test_needs_are_asked_for(options: Any, needs: Needs, devices: int, asked: dict[str, Any]) -> None:
    found = Slurm(**options).parameters(needs, devices)
    assert {name: found[name] for name in asked} == asked


def test_a_gpu_is_asked_for_where_the_study_does_not_say_cpu(by_hand: Make, cluster: FakeSlurm) -> None:
    executor = by_hand({"device": "auto", "devices_per_step": 2})
    executor.submit(divmod, 7, 2)
    executor.round()
    executor.round()
    assert "gpus-per-node=2" in directives(cluster.scripts()[0])


def test_lines_of_the_users_own_run_first(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slurm.SETUP, "export FIRST=1\nexport SECOND=$((FIRST + 1))")
    told = make().submit(surroundings, "FIRST", "SECOND").result(WAIT)
    assert told[:2] == ["1", "2"]


def test_a_job_has_the_threads_that_were_asked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    one, three = make().submit(surroundings, "OMP_NUM_THREADS"), make({"threads": 3})
    assert three.submit(surroundings, "OMP_NUM_THREADS").result(WAIT)[0] == "3"
    assert one.result(WAIT)[0] == "1"


def test_a_command_that_is_a_job_itself_hands_nothing_of_it_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "4096")
    told = make().submit(surroundings, "SLURM_MEM_PER_CPU", "SLURM_JOB_ID").result(WAIT)
    assert told[:2] == [None, "101"]
    assert os.environ["SLURM_MEM_PER_CPU"] == "4096"


# what comes of a job


def test_results_and_errors_come_through_futures(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    executor = make()
    good, bad, told, odd = (
        executor.submit(divmod, 7, 2), executor.submit(divmod, 7, 0), executor.submit(raises_a_problem),
        executor.submit(ends_badly),
    )  # fmt: skip
    assert good.result(WAIT) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        bad.result(WAIT)
    with pytest.raises(UserError) as caught:
        told.result(WAIT)
    assert caught.value.problems == (Problem("here", "is wrong", "mend it"),)
    with pytest.raises(StepError, match="cannot be handed over: ValueError"):
        odd.result(WAIT)
    assert not list(tmp_path.glob("jobs/*/*.pkl"))  # read once, and gone


def raises_a_problem() -> None:
    raise UserError(Problem("here", "is wrong", "mend it"))


def test_its_folder_is_its_own_and_goes_where_all_went_well(make: Make, tmp_path: Path) -> None:
    good, bad = make(), make()
    folders = list((tmp_path / "jobs").iterdir())
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]
    futures = good.submit(divmod, 7, 2), bad.submit(divmod, 7, 0)
    assert [future.exception(WAIT) is None for future in futures] == [True, False]
    good.close()
    bad.close()
    (left,) = (tmp_path / "jobs").iterdir()
    assert list(left.glob("*_log.err"))


def test_a_cluster_without_accounting_runs_what_goes_well(make: Make, cluster: FakeSlurm) -> None:
    cluster.say("no_accounting")
    assert make().submit(divmod, 7, 2).result(WAIT) == (3, 1)


def test_what_cannot_begin_says_why(
    make: Make, cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, [Path(slurm.__file__).parents[2]])))
    with pytest.raises(StepError, match=r"failed \(ModuleNotFoundError: No module named 'tests.*lost too; its log: /"):
        make().submit(surroundings).result(WAIT)
    assert len(cluster.jobs()) == 2


# preemption and time limits


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_job_that_must_go_is_queued_again_and_goes_on(
    make: Make, cluster: FakeSlurm, tmp_path: Path, number: int
) -> None:
    work = tmp_path / "work"
    future = make(**LONG, requeues=0).submit(works_in_parts, work, 3)
    until((work / "began.0").exists)
    (work / "may.0").touch()
    until((work / "part.0").exists)
    cluster.signal(0, number)
    until((work / "began.1").exists)
    (work / "may.1").touch()
    (work / "may.2").touch()
    assert future.result(WAIT) == [1, 2]
    assert [(job["state"], job["restarts"]) for job in until(lambda: ended(cluster))] == [("COMPLETED", 1)]
    assert len(cluster.calls("sbatch")) == 1


def ended(cluster: FakeSlurm) -> list[dict[str, Any]]:
    """All jobs, once none waits or runs."""
    return [] if {"PENDING", "RUNNING", "REQUEUED"} & set(cluster.states()) else cluster.jobs()


def test_time_limits_are_counted(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    future = make(minutes=5, requeues=1).submit(works_in_parts, tmp_path / "work", 1)
    for call in range(2):
        until((tmp_path / "work" / f"began.{call}").exists)
        cluster.signal(0, signal.SIGUSR2)
    with pytest.raises(StepError, match=r"time limits of its job.*allow more minutes in \[placement.needs\]"):
        future.result(WAIT)
    assert len(cluster.jobs()) == 1


def test_where_jobs_are_not_queued_again_the_step_says_so(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    cluster.say("no_requeue")
    future = make(**LONG).submit(works_in_parts, tmp_path / "work", 1)
    until((tmp_path / "work" / "began.0").exists)
    cluster.signal(0, signal.SIGTERM)
    with pytest.raises(StepError, match=r"its job could not be queued again.*scontrol"):
        future.result(WAIT)


def test_what_a_person_cancels_stays_cancelled(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    future = make(**LONG).submit(works_in_parts, tmp_path / "work", 1)
    until((tmp_path / "work" / "began.0").exists)
    cluster.scancel(0)
    with pytest.raises(StepError, match=r"its job 101 was cancelled; its log: .*101_0_log.err"):
        future.result(WAIT)
    assert cluster.calls("scontrol") == []
    assert cluster.states() == ["CANCELLED by 0"]


# jobs that are lost


@pytest.mark.parametrize(("state", "words"), [("NODE_FAIL", "lost its node"), ("OUT_OF_MEMORY", "ran out of memory")])
def test_what_is_lost_is_tried_once_more(
    make: Make, cluster: FakeSlurm, tmp_path: Path, state: str, words: str
) -> None:
    executor = make()
    future = executor.submit(never_looks_up, tmp_path / "work")
    until((tmp_path / "work" / "began.0").exists)
    other = executor.submit(divmod, 7, 2)
    until(lambda: len(cluster.jobs()) == 2)
    cluster.lose(0, state)
    until((tmp_path / "work" / "began.1").exists)
    cluster.lose(-1, state)
    with pytest.raises(StepError, match=f"{words}.*; the one before it was lost too; its log: .*_log.err"):
        future.result(WAIT)
    assert other.result(WAIT) == (3, 1)
    assert len(cluster.jobs()) == 3


def test_what_was_lost_once_may_end_well(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    future = make().submit(works_in_parts, tmp_path / "work", 1)
    until((tmp_path / "work" / "began.0").exists)
    cluster.lose(0, "TIMEOUT")
    until((tmp_path / "work" / "began.1").exists)
    (tmp_path / "work" / "may.0").touch()
    assert future.result(WAIT) == [0, 1]


def test_being_preempted_without_notice_counts_for_nothing(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    future = make().submit(works_in_parts, tmp_path / "work", 1)
    for call in range(3):
        until((tmp_path / "work" / f"began.{call}").exists)
        cluster.lose(call, "PREEMPTED")
    until((tmp_path / "work" / "began.3").exists)
    (tmp_path / "work" / "may.0").touch()
    assert future.result(WAIT) == [0, 0, 0, 1]


def test_a_process_that_ends_is_lost(make: Make, cluster: FakeSlurm) -> None:
    with pytest.raises(StepError, match="ended without a result; the one before"):
        make().submit(leaves, 7).result(WAIT)
    assert cluster.states() == ["FAILED", "FAILED"]


# several steps in a job


def test_a_job_runs_several_steps_in_one_process(by_hand: Make, cluster: FakeSlurm) -> None:
    executor = by_hand(steps_per_job=2, minutes=30)
    futures = [executor.submit(surroundings) for _ in range(5)]
    executor.round()
    executor.round()
    assert {"array=0-2%3", "time=60"} <= directives(cluster.scripts()[0])
    cluster.unsay("hold")
    until(lambda: executor.round() or all(future.done() for future in futures))
    pids = [future.result()[-1] for future in futures]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_what_a_job_has_done_is_not_done_again(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    executor = two_in_one_job(make, first, second)
    (first / "may.0").touch()
    until((second / "began.0").exists)
    cluster.signal(0, signal.SIGTERM)
    until((second / "began.1").exists)
    (second / "may.0").touch()
    assert [future.result(WAIT) for future in executor] == [[1], [0, 1]]


def test_steps_that_were_lost_together_are_tried_alone(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    futures = two_in_one_job(make, first, second)
    cluster.lose(0, "OUT_OF_MEMORY")
    until((first / "began.1").exists)
    until((second / "began.0").exists)
    (first / "may.0").touch()
    (second / "may.0").touch()
    assert [future.result(WAIT) for future in futures] == [[0, 1], [1]]
    assert len(cluster.jobs()) == 3


def test_steps_that_were_not_begun_when_time_was_up_go_into_another_job(
    make: Make, cluster: FakeSlurm, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    stuck, other = two_in_one_job(make, first, second, minutes=5, requeues=0)
    cluster.signal(0, signal.SIGUSR2)
    with pytest.raises(StepError, match="time limits"):
        stuck.result(WAIT)
    until((second / "began.0").exists)
    (second / "may.0").touch()
    assert other.result(WAIT) == [1]


def two_in_one_job(make: Make, first: Path, second: Path, **options: Any) -> list[Any]:
    """The futures of two pieces of work in one job, the first of which has begun."""
    executor = make(steps_per_job=2, **{**LONG, **options})
    with executor._lock:  # no round can see the one without the other
        pairs = [waves._Errand(works_in_parts, (folder, 1), Needs()) for folder in (first, second)]
        executor._new += pairs
    until((first / "began.0").exists)
    return [errand.future for errand in pairs]


# the end of a run


def test_stop_asks_what_runs_and_takes_back_what_waits(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    executor = make(**LONG)
    runs = executor.submit(works_in_parts, tmp_path / "work", 1)
    until((tmp_path / "work" / "began.0").exists)
    cluster.say("hold")
    waits = executor.submit(works_in_parts, tmp_path / "never", 1)
    until(lambda: len(cluster.jobs()) == 2)
    executor.stop()
    executor.stop()
    for future in (runs, waits):
        with pytest.raises(pulse.Stopped, match="asked to stop"):
            future.result(WAIT)
    with pytest.raises(pulse.Stopped):
        executor.submit(divmod, 7, 2).result(WAIT)
    assert until(lambda: len(ended(cluster)) == 2)
    assert cluster.states() == ["COMPLETED", "CANCELLED by 0"]
    assert cluster.calls("scontrol") == []
    assert not (tmp_path / "never").exists()
    told = cluster.calls("scancel")
    assert told[:2] == [["--state=PENDING", "101", "102"], ["--signal=USR2", "101", "102"]]


def test_a_job_that_could_not_yet_hear_asks_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "_listen", lambda: pytest.fail)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    errands.stop_file(tmp_path).touch()
    try:
        (answer,) = Errands(((divmod, (7, 2)),), tmp_path)()
    finally:
        pulse.clear()
    assert answer is not None
    assert answer[0] is False
    assert isinstance(answer[1], pulse.Stopped)


def test_closing_ends_jobs_at_work(make: Make, cluster: FakeSlurm, tmp_path: Path) -> None:
    cluster.say("kill_wait", "0")
    executor = make()
    busy = executor.submit(never_looks_up, tmp_path / "work")
    until((tmp_path / "work" / "began.0").exists)
    (job,) = cluster.jobs()
    executor.close()
    assert isinstance(busy.exception(0), StepError)
    assert until(lambda: not is_there(job["step"]))
    assert cluster.states() == ["CANCELLED by 0"]
    with pytest.raises(StepError, match="the run was stopped"):
        executor.submit(divmod, 7, 2)


def test_stopping_what_is_closed_is_harmless(make: Make) -> None:
    executor = make()
    executor.close()
    executor.stop()


class Broken:
    """A cluster of which nothing can be learnt."""

    tick, patience = 0.01, 0.0

    def begin(self, errands: Sequence[Errands], needs: Needs) -> list[Any]:
        return [SimpleNamespace(job_id=str(number)) for number in range(len(errands))]

    def look(self, jobs: Sequence[Any]) -> Mapping[str, str]:
        raise ValueError("a bug")

    def ask(self, jobs: Sequence[Any]) -> None: ...

    def cancel(self, jobs: Sequence[Any]) -> None: ...


def test_whoever_waits_learns_of_a_bug(tmp_path: Path) -> None:
    executor = Waves(Broken(), tmp_path / "none", 9)
    future = executor.submit(divmod, 7, 2)
    assert isinstance(future.exception(WAIT), ValueError)
    with pytest.raises(StepError):
        executor.submit(divmod, 7, 2)
    executor.close()


DRIVER = """
import sys
from pathlib import Path
from tests.executors import test_slurm
test_slurm.drive(Path(sys.argv[1]), print)
"""


def drive(folder: Path, say: Callable[..., Any]) -> Any:
    """Run a plan of three trainings as jobs, which wait for a file; `say` is told of each event."""
    plan, store = fake_plan(folder), Store.open(folder / "store")
    executor = Wrapped(Slurm(minutes=600).make(site(folder)), waits_in_trainings, folder / "trainings")
    try:
        return execute(plan, store, executor, lambda what, key, _: say(what, flush=True))
    finally:
        executor.inner.close()


class Wrapped:
    """An executor that runs `by(folder, fn, *args)` instead of `fn(*args)`."""

    def __init__(self, inner: Any, by: Callable[..., Any], folder: Path) -> None:
        self.inner, self.by, self.folder, self.slots, self.sharing = inner, by, folder, inner.slots, inner.sharing

    def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Any:
        return self.inner.submit(self.by, self.folder, fn, *args, needs=needs)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


def test_jobs_outlive_their_driver_and_the_next_one_waits_for_them(cluster: FakeSlurm, tmp_path: Path) -> None:
    trainings = tmp_path / "trainings"
    trainings.mkdir()
    first = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.DEVNULL)
    until(lambda: len(list(trainings.iterdir())) == 2)
    first.kill()
    first.wait()
    events: list[str] = []

    def say(what: str, **_: Any) -> None:
        events.append(what)
        if events.count("claimed") == 2:
            (trainings / "go").touch()

    summary = drive(tmp_path, say)
    assert summary.complete
    assert len(summary.finished) == 3
    assert events.count("claimed") == 2  # what is claimed is not asked for again as long as it is
    keys = [path.name.partition(".")[0] for path in trainings.iterdir() if path.name != "go"]
    assert len(keys) == len(set(keys)) == 3


# what a user may have wrong


def test_without_sbatch_it_says_where_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, bert: Path
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path))
    ran = command("run", study, "--store", tmp_path / "store", "--executor", "slurm")
    assert ran.code == 2
    assert "placement.executor: is 'slurm', and there is no sbatch here" in ran.err
    assert "login node" in ran.err


def test_without_submitit_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layover\[slurm\]'"):
        Slurm().make(site(tmp_path))


def test_workers_are_a_number(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is 'gpus', which is for one machine"):
        Slurm().make(site(tmp_path, workers="gpus"))


def test_as_many_steps_are_in_the_queue_as_a_study_says(make: Make) -> None:
    assert make({"workers": 7}).slots == 7
    assert make().slots >= 1000


@pytest.mark.parametrize(
    ("options", "place", "told"),
    [
        ({"partitoin": "gpu"}, "placement.options.partitoin", "did you mean 'partition'? choices: account, at_once"),
        ({"minutes": 0}, "placement.options.minutes", "say 1 or more"),
        ({"minutes": "1:00"}, "placement.options.minutes", "should be a valid integer"),
        ({"minutes": 2}, "placement.options.notice", "is 120 s of 2 minutes"),
        ({"cluster": "ray"}, "placement.options.cluster", "should be 'slurm' or 'local'"),
        ({"sbatch": {"mail_user": "me"}}, "placement.options.sbatch.mail_user", "did you mean 'mail-user'?"),
        ({"sbatch": {"export": "A=b"}}, "placement.options.sbatch.export", "SBATCH_EXPORT"),
        ({"partition": "a\nrm -rf x"}, "placement.options.partition", "has a line break"),
        ({"sbatch": {"comment": "a\nrm -rf x"}}, "placement.options.sbatch.comment", "has a line break"),
    ],
)
def test_what_is_wrong_with_options_is_told(
    tmp_path: Path, command: Command, bert: Path, options: dict[str, Any], place: str, told: str
) -> None:
    placement = {**HERE, "executor": "slurm", "options": options}
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, placement=placement))
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == 2
    assert place in ran.err
    assert told in " ".join(ran.err.split())


def test_what_the_cluster_refuses_is_the_users_to_mend(make: Make, cluster: FakeSlurm) -> None:
    cluster.say("refuse", "sbatch: error: invalid partition specified: gpuu")
    with pytest.raises(UserError, match=r"the cluster takes no such job: .*invalid partition specified: gpuu"):
        make().submit(divmod, 7, 2).result(WAIT)


def test_a_queue_that_is_full_is_asked_again(
    make: Make, cluster: FakeSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "REFUSED_SECONDS", 0.0)
    executor = make()
    first = executor.submit(works_in_parts, tmp_path / "work", 1)
    until((tmp_path / "work" / "began.0").exists)
    cluster.say("refuse", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    second = executor.submit(divmod, 7, 2)
    until(lambda: len(cluster.calls("sbatch")) >= 3)
    cluster.unsay("refuse")
    assert second.result(WAIT) == (3, 1)
    (tmp_path / "work" / "may.0").touch()
    assert first.result(WAIT) == [1]


# whole studies


def test_a_study_runs_by_the_command(
    cluster: FakeSlurm, tmp_path: Path, command: Command, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Faking] = []
    real = Slurm.make

    def faking(self: Slurm, site: Site) -> Any:
        made.append(Faking(real(self, site), tmp_path / f"runs.{len(made)}"))
        return made[-1]

    monkeypatch.setattr(Slurm, "make", faking)
    needs = {"cpus": 2, "kind": {"source": {"cpus": 4, "minutes": 77}}}
    placement = {**HERE, "needs": needs, "executor": "slurm", "options": {"partition": "short", "steps_per_job": 2}}
    study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, seeds=[1, 2], placement=placement))
    ran = command("run", study, "--store", tmp_path / "store", "--executor", "slurm")
    assert ran.code == 0
    assert "6 steps run, 0 reused" in ran.out
    assert len(made[0].runs()) == 6
    asked = [directives(script) for script in cluster.scripts()]
    assert all("partition=short" in words for words in asked)
    sources = [words for words in asked if "cpus-per-task=4" in words]
    assert sources
    assert all({"time=77", "time=154"} & words for words in sources)  # of one step, or of two
    assert all({"time=120", "time=240"} & words for words in asked if words not in sources)
    assert not list((tmp_path / "store" / "jobs").iterdir())
    again = command("run", study, "--store", tmp_path / "store", "--executor", "slurm")
    assert "0 steps run, 6 reused" in again.out


@pytest.mark.slow
def test_a_training_that_is_preempted_ends_with_the_numbers_of_a_calm_one(
    make: Make, cluster: FakeSlurm, tmp_path: Path, bert: Path
) -> None:
    words = study_words(bert, tmp_path, strategies={"direct": {"kind": "direct"}})
    words["task"].pop("stop")
    words["recipe"] = {**words["recipe"], "epochs": 2, "batch_size": 2}
    study = write_study(tmp_path / "study.toml", words)
    (tmp_path / "preempted").mkdir()
    executor = Wrapped(make(**LONG), preempted_in_its_fifth_step, tmp_path / "preempted")
    assert Session.open(study, tmp_path / "store").run(executor).complete
    assert [job["restarts"] for job in cluster.jobs()] == [1]
    steps = [path.read_text() for path in sorted((tmp_path / "preempted").iterdir())]
    assert steps == ["5", "17"]  # of 22: what was done before was not done again
    run_study(study, store=tmp_path / "calm")
    assert numbers(tmp_path / "store") == numbers(tmp_path / "calm")


def test_a_job_on_this_machine_is_begun_again_too(make: Make, tmp_path: Path) -> None:
    executor = make(cluster="local", **LONG)
    future = executor.submit(works_in_parts, tmp_path / "work", 2)
    until((tmp_path / "work" / "began.0").exists)
    (tmp_path / "work" / "may.0").touch()
    until((tmp_path / "work" / "part.0").exists)
    (number,) = executor._running
    os.kill(int(number), signal.SIGTERM)
    until((tmp_path / "work" / "began.1").exists)
    (tmp_path / "work" / "may.1").touch()
    assert future.result(WAIT) == [1, 1]

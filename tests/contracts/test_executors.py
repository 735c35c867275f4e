"""What every executor promises: run what is submitted, hold results and errors in the future, walk any plan."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.kit import Faking, ends_badly, publish_fake, site, study_words

from layover import pulse
from layover.claims import Claim
from layover.encoders import Encoder
from layover.execute import execute
from layover.executors import Executor, Needs
from layover.executors.local import InProcess
from layover.executors.slurm import Slurm
from layover.executors.workers import Workers
from layover.plan import Plan, compile_plan
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study


class Threads:
    """An executor that runs several functions at once, in any order."""

    slots, sharing = 3, 1

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.slots)

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        return self._pool.submit(fn, *args)

    def stop(self) -> None:
        pulse.ask()

    def close(self) -> None:
        self._pool.shutdown()
        pulse.clear()


def two_workers() -> Workers:
    return Workers(2)


def slurm_here() -> Executor:
    """Jobs of Slurm's executor, as processes on this machine, with files in the current directory."""
    return Slurm(cluster="local", steps_per_job=3).make(site(workers=3, trainings=9, device="cpu"))


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in_process": InProcess, "threads": Threads, "two_workers": two_workers, "slurm_here": slurm_here
}  # fmt: skip
CLUSTERS = {"on_ray": {"device": "cpu", "workers": 2}}  # fixtures that make executors, and of which site


@pytest.fixture(params=[*EXECUTORS, *CLUSTERS])
def executor(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))  # so that jobs find the tests
    monkeypatch.chdir(tmp_path)
    name = request.param
    made = EXECUTORS[name]() if name in EXECUTORS else request.getfixturevalue(name)(**CLUSTERS[name])
    yield made
    made.close()


@pytest.fixture
def faking(executor: Executor, tmp_path: Path) -> Faking:
    """The executor, whose trainings are fakes wherever they run."""
    return Faking(executor, tmp_path / "runs")


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two seeds of direct and stilts with a sweep: chains four steps long."""
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    words = study_words("e", tmp_path, seeds=[1, 2], sweep={"learning_rate": [1e-3, 1e-4]})
    return compile_plan(Study(**words))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def appears(path: Path) -> bool:
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


def runs_until_it_is_asked_to_stop(began: Path) -> None:
    began.touch()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pulse.check()
        time.sleep(0.01)


class TestExecutor:
    def test_it_has_room_for_one_at_least(self, executor: Executor) -> None:
        assert executor.slots >= 1

    def test_a_future_holds_the_result(self, executor: Executor) -> None:
        futures = [executor.submit(divmod, n, 3) for n in range(5)]
        assert [future.result(timeout=120) for future in futures] == [divmod(n, 3) for n in range(5)]

    def test_a_future_holds_what_was_raised(self, executor: Executor) -> None:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=120)
        assert executor.submit(divmod, 1, 1).result(timeout=120) == (1, 0)

    def test_what_runs_learns_that_it_is_to_stop(self, executor: Executor, tmp_path: Path) -> None:
        began = tmp_path / "began"

        def ask() -> None:
            assert appears(began)
            executor.stop()

        asking = threading.Thread(target=ask)
        asking.start()
        future = executor.submit(runs_until_it_is_asked_to_stop, began)
        with pytest.raises(pulse.Stopped, match="asked to stop"):
            future.result(timeout=120)
        asking.join()

    def test_closing_twice_is_harmless(self, executor: Executor) -> None:
        executor.close()
        executor.close()

    def test_what_cannot_be_told_of_is_an_error_too(self, executor: Executor) -> None:
        with pytest.raises(Exception, match="odd"):
            executor.submit(ends_badly).result(timeout=120)
        assert executor.submit(divmod, 1, 1).result(timeout=120) == (1, 0)

    def test_it_walks_a_plan_parents_first_and_runs_each_step_once(
        self, faking: Faking, plan: Plan, store: Store
    ) -> None:
        events: list[tuple[str, str]] = []
        summary = execute(plan, store, faking, lambda what, key, _: events.append((what, key)))
        assert summary.complete
        assert sorted(summary.finished) == sorted(plan.steps)
        runs = faking.runs()
        assert len(runs) == len(set(runs)) == sum(isinstance(step, Train) for step in plan.steps.values())
        assert {key for what, key in events if what == "finished"} == set(plan.steps)
        again = execute(plan, store, faking, lambda *_: None)
        assert (again.finished, sorted(again.reused)) == ([], sorted(plan.steps))
        assert list((store.root / "work").iterdir()) == list((store.root / "claims").iterdir()) == []

    def test_a_failed_step_blocks_its_descendants_alone(self, faking: Faking, plan: Plan, store: Store) -> None:
        faking.bad = plan.find("e · stop · s1")
        summary = execute(plan, store, faking, lambda *_: None)
        child = plan.find("e · stop → mine · s1")
        assert summary.failed == {faking.bad: "RuntimeError: it broke"}
        assert summary.blocked == {child: faking.bad}
        assert set(summary.finished) == set(plan.steps) - {faking.bad, child}
        assert not summary.complete

    def test_a_step_that_somebody_else_does_is_waited_for(
        self, faking: Faking, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("layover.execute.POLL_SECONDS", 0.02)
        key = plan.find("e · stop · s1")
        step = plan.steps[key]
        assert isinstance(step, Train)
        claim = Claim(store.root / "claims" / f"{key}.json", dict)
        assert claim.take()
        told = threading.Event()

        def elsewhere() -> None:
            with claim:
                assert told.wait(120)
                publish_fake(store, step, keep=True)

        worker = threading.Thread(target=elsewhere)
        worker.start()
        summary = execute(plan, store, faking, lambda what, *_: told.set() if what == "claimed" else None)
        worker.join()
        assert summary.complete
        assert key not in faking.runs()
        assert key_of(step) in summary.finished

"""What every executor promises: run what is submitted, hold results and errors in the future, walk any plan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.kit import fake_work, study_words

from layover.encoders import Encoder
from layover.execute import execute
from layover.executors import Executor
from layover.executors.local import InProcess
from layover.plan import Plan, compile_plan
from layover.run import WORK
from layover.step import Train, key_of
from layover.store import Store
from layover.study import Study


class Threads:
    """An executor that runs several functions at once, in any order."""

    slots = 3

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.slots)

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        return self._pool.submit(fn, *args)

    def close(self) -> None:
        self._pool.shutdown()


EXECUTORS: list[Callable[[], Executor]] = [InProcess, Threads]


@pytest.fixture(params=EXECUTORS, ids=lambda make: make.__name__)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Two seeds of direct and stilts with a sweep: chains four steps long."""
    monkeypatch.setattr("layover.encoders.find", lambda name, base=None: Encoder(name, f"sha256:{name}", "/nowhere"))
    words = study_words("e", tmp_path, seeds=[1, 2], sweep={"learning_rate": [1e-3, 1e-4]})
    return compile_plan(Study(**words))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


class TestExecutor:
    def test_it_has_room_for_one_at_least(self, executor: Executor) -> None:
        assert executor.slots >= 1

    def test_a_future_holds_the_result(self, executor: Executor) -> None:
        futures = [executor.submit(divmod, n, 3) for n in range(5)]
        assert [future.result(timeout=30) for future in futures] == [divmod(n, 3) for n in range(5)]

    def test_a_future_holds_what_was_raised(self, executor: Executor) -> None:
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=30)
        assert executor.submit(divmod, 1, 1).result(timeout=30) == (1, 0)

    def test_closing_twice_is_harmless(self, executor: Executor) -> None:
        executor.close()
        executor.close()

    def test_it_walks_a_plan_parents_first_and_runs_each_step_once(
        self, executor: Executor, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs: list[str] = []

        def work(step: Any, store: Store, places: Any, attempt: Path, keep: bool, report: Any) -> None:
            assert all(store.finished(parent) for parent in step.parents)
            assert store.weights(step.start) if step.start else True
            runs.append(key_of(step))
            fake_work(store, attempt, keep)

        monkeypatch.setitem(WORK, Train, work)
        events: list[tuple[str, str]] = []
        summary = execute(plan, store, executor, lambda what, key, _: events.append((what, key)))
        assert summary.complete
        assert sorted(summary.finished) == sorted(plan.steps)
        assert len(runs) == len(set(runs)) == sum(isinstance(step, Train) for step in plan.steps.values())
        assert {key for what, key in events if what == "finished"} == set(plan.steps)
        again = execute(plan, store, executor, lambda *_: None)
        assert (again.finished, sorted(again.reused)) == ([], sorted(plan.steps))
        assert list((store.root / "work").iterdir()) == list((store.root / "claims").iterdir()) == []

    def test_a_failed_step_blocks_its_descendants_alone(
        self, executor: Executor, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bad = plan.find("e · stop · s1")

        def work(step: Any, store: Store, places: Any, attempt: Path, keep: bool, report: Any) -> None:
            if key_of(step) == bad:
                raise RuntimeError("it broke")
            fake_work(store, attempt, keep)

        monkeypatch.setitem(WORK, Train, work)
        summary = execute(plan, store, executor, lambda *_: None)
        child = plan.find("e · stop → mine · s1")
        assert summary.failed == {bad: "RuntimeError: it broke"}
        assert summary.blocked == {child: bad}
        assert set(summary.finished) == set(plan.steps) - {bad, child}
        assert not summary.complete

    def test_a_step_that_somebody_else_does_is_waited_for(
        self, executor: Executor, plan: Plan, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tests.kit import publish_fake

        from layover.claims import Claim

        monkeypatch.setattr("layover.execute.POLL_SECONDS", 0.02)
        key = plan.find("e · stop · s1")
        step = plan.steps[key]
        assert isinstance(step, Train)
        runs: list[str] = []

        def work(step: Any, store: Store, places: Any, attempt: Path, keep: bool, report: Any) -> None:
            runs.append(key_of(step))
            fake_work(store, attempt, keep)

        monkeypatch.setitem(WORK, Train, work)
        claim = Claim(store.root / "claims" / f"{key}.json", dict)
        assert claim.take()
        told = threading.Event()

        def elsewhere() -> None:
            with claim:
                assert told.wait(30)
                publish_fake(store, step, keep=True)

        worker = threading.Thread(target=elsewhere)
        worker.start()
        summary = execute(plan, store, executor, lambda what, *_: told.set() if what == "claimed" else None)
        worker.join()
        assert summary.complete
        assert key not in runs
        assert key_of(step) in summary.finished

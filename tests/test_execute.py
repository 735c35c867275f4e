"""Runs of real studies: failures, two drivers at once, dropped weights, and kills at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, HERE, Command, a_train, fake_work, numbers, own_table, study_words, write_study

import layover.run
from layover import claims
from layover.executors.local import InProcess
from layover.files import write_jsonl
from layover.run import WORK, run_step
from layover.session import Session
from layover.session import run as run_study
from layover.step import Choose, Places, Recipe, Train, key_of
from layover.store import Store
from layover.upkeep import collect_garbage, verify

Words = dict[str, Any]


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    return write_study(tmp_path / "study.toml", study_words(bert, tmp_path, encoders=["bert"]))


@pytest.fixture(autouse=True)
def _encoder_beside_the_study(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "bert").symlink_to(bert)


def test_a_failing_step_blocks_its_descendants_and_the_next_run_completes(
    study: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = WORK[Train]

    def fails(step: Any, *rest: Any) -> Any:
        if step.task.name == "stop":
            raise RuntimeError("out of luck\nsecond line")
        return real(step, *rest)

    monkeypatch.setitem(WORK, Train, fails)
    ran = command("run", study, "--store", "s")
    assert ran.code == 1
    assert "1 steps run, 0 reused, 1 failed, 1 blocked" in ran.out
    assert "failed bert · stop · s1: RuntimeError: out of luck" in ran.err
    status = command("status", study, "--store", "s")
    assert status.code == 0
    lines = [line.strip() for line in status.out.splitlines()]
    assert "bert · stop · s1: RuntimeError: out of luck" in lines
    assert "bert · stop → mine · s1: stands on: bert · stop · s1" in lines
    assert [f"1 {word}" in lines for word in ("finished", "failed", "blocked")] == [True] * 3
    table = command("observations", study, "--store", "s").out
    assert "failed: RuntimeError: out of luck" in table
    assert "missing" in table
    monkeypatch.setitem(WORK, Train, real)
    again = command("run", study, "--store", "s")
    assert again.code == 0
    assert "2 steps run, 1 reused, 0 failed, 0 blocked" in again.out
    assert "failed" not in command("observations", study, "--store", "s").out
    assert list(Path("s/work").iterdir()) == list(Path("s/claims").iterdir()) == []


@pytest.mark.parametrize("slots", [1, 3])
def test_steps_are_told_how_many_processes_share_the_machine(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: int
) -> None:
    told = set()

    def noted(step: Any, store: Store, places: Places, attempt: Path, keep: bool, *_: Any) -> None:
        told.add(places.sharing)
        fake_work(store, attempt, keep)

    class Some(InProcess):
        """So many on one device."""

    Some.sharing = slots
    monkeypatch.setitem(WORK, Train, noted)
    assert Session.open(study, tmp_path / "s").run(executor=Some()).complete
    assert told == {slots}


def test_a_run_does_not_depend_on_where_it_is_or_how_it_is_split(study: Path, tmp_path: Path) -> None:
    whole = run_study(study, store=tmp_path / "a")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in tmp_path.glob("*.jsonl"):
        shutil.copy(path, moved / path.name)
    shutil.copytree(tmp_path / "bert", moved / "bert")
    words = study_words("bert", moved, placement={**HERE, "checkpoint_seconds": 0.0})
    other = run_study(write_study(moved / "study.toml", words), store=tmp_path / "b")
    assert list(whole.plan.steps) == list(other.plan.steps)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_weights_that_were_dropped_are_made_again_and_the_numbers_stand(study: Path, tmp_path: Path) -> None:
    session = run_study(study, store=tmp_path / "store")
    store, before = session.store, numbers(tmp_path / "store")
    stop, child = session.plan.find("bert · stop · s1"), session.plan.find("→")
    kept = (store.folder(stop) / "weights" / "encoder.safetensors").read_bytes()
    provenance = store.read(stop, "provenance.json")
    collect_garbage(store, dry_run=False)
    assert store.weights(stop) is None
    shutil.rmtree(store.folder(child))
    again = run_study(study, store=tmp_path / "store")
    assert numbers(tmp_path / "store") == before
    assert store.read(stop, "provenance.json") == provenance  # the first attempt's, that of the numbers
    assert (again.store.folder(stop) / "weights" / "encoder.safetensors").read_bytes() == kept


def test_whatever_stands_on_a_failed_step_is_blocked_down_to_the_last(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sweep -> choice -> source -> target: four steps in a row."""
    words = study_words(bert, tmp_path, encoders=["bert"], sweep={"learning_rate": [1e-3, 1e-4]})
    real = WORK[Train]

    def fails(step: Any, *rest: Any) -> Any:
        if step.task.name == "stop" and step.recipe_from is None:
            raise RuntimeError("no")
        return real(step, *rest)

    monkeypatch.setitem(WORK, Train, fails)
    session = Session.open(write_study(tmp_path / "study.toml", words), tmp_path / "store")
    summary = session.run()
    label = session.plan.labels
    assert {label[key].split(" · ", 1)[1] for key in summary.blocked} == {
        "stop · best of the sweep", "stop · s1", "stop → mine · s1",
    }  # fmt: skip
    assert len(summary.failed) == 2
    assert len(summary.finished) == 4  # the target's two cells, its choice, and direct


def test_a_sweep_never_chooses_a_run_that_collapsed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    scores = {1e-3: (90.0, "degenerate: constant prediction"), 1e-4: (70.0, "ok"), 1e-5: (60.0, "ok")}
    cells = []
    for rate, (value, status) in scores.items():
        step = a_train(recipe=Recipe(learning_rate=rate))
        attempt = store.attempt(key_of(step))
        fake_work(store, attempt, keep=False)
        row = {"split": "selection", "metric": "accuracy", "value": value, "primary": False, "status": status}
        write_jsonl(attempt / "observations.jsonl", [row])
        store.publish(step, attempt)
        cells.append(key_of(step))
    choose = Choose(of=tuple(cells), fields=("learning_rate",))
    assert run_step(choose, store, Places()).status == "finished"
    choice = store.read(key_of(choose), "choice.json")
    assert choice["chosen"] == {"learning_rate": 1e-4}
    assert [(cell["score"], cell["status"]) for cell in choice["tried"]] == list(scores.values())


def test_a_sweep_uses_its_best_cell(bert: Path, tmp_path: Path) -> None:
    words = study_words(bert, tmp_path, encoders=["bert"], sweep={"learning_rate": [1e-9, 1e-3], "seed": 5})
    session = run_study(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")
    store, plan = session.store, session.plan
    choice = store.read(plan.find("mine · best of the sweep"), "choice.json")
    scores = [cell["score"] for cell in choice["tried"]]
    statuses = [cell["status"] for cell in choice["tried"]]
    ranked = max(range(2), key=lambda i: (statuses[i] == "ok", scores[i], -i))
    assert choice["chosen"] == choice["tried"][ranked]["recipe"]
    used = store.read(plan.find("bert · mine · s1"), "provenance.json")["recipe"]
    assert used["learning_rate"] == choice["chosen"]["learning_rate"]


def test_a_task_whose_data_changed_since_planning_is_refused_by_the_worker(study: Path, tmp_path: Path) -> None:
    session = Session.open(study, tmp_path / "store")
    with (tmp_path / "single.train.jsonl").open("a") as file:
        file.write('{"text": "late", "label": "yes"}\n')
    step = next(s for s in session.plan.steps.values() if isinstance(s, Train) and s.task.name == "mine")
    outcome = run_step(step, session.store, session.plan.places)
    assert outcome.status == "failed"
    assert "is not the data planned" in outcome.error


# several processes


PRELOADED = [
    "layover.session", "layover.train.work", "layover.upkeep", "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert", "transformers.tokenization_utils_tokenizers", "sklearn.metrics",
    "scipy.stats", "pyarrow.parquet", "pandas",
]  # fmt: skip


@pytest.fixture(scope="module")
def started() -> Callable[..., Any]:
    """`started(study, store=...)`: a process that runs a study, forked from one that has imported torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    first = context.Process(target=int)  # starts the server, so that what follows is cheap
    first.start()
    first.join(120)

    def start(study: Path, run: Callable[..., Any] = run_study, **options: Any) -> Any:
        process = context.Process(target=run, args=(str(study),), kwargs=options)
        process.start()
        return process

    return start


def test_two_drivers_at_once_finish_a_study_and_publish_each_step_once(
    bert: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    words = study_words(bert, tmp_path, encoders=["bert"], seeds=[1, 2])
    study = write_study(tmp_path / "study.toml", words)
    both = [started(study, store=str(tmp_path / "store")) for _ in range(2)]
    for process in both:
        process.join(120)
        assert process.exitcode == 0
    store = Store.open(tmp_path / "store", create=False)
    session = Session.open(study, tmp_path / "store")
    assert store.finished_keys() == sorted(session.plan.steps)
    assert verify(store) == []
    assert list((store.root / "work").iterdir()) == list((store.root / "claims").iterdir()) == []
    run_study(study, store=tmp_path / "alone")
    assert numbers(tmp_path / "store") == numbers(tmp_path / "alone")


def run_with_short_leases(study: str, **options: Any) -> None:
    """`run`, in a process whose claims are renewed five times a second and run out after two seconds."""
    claims.LEASE_SECONDS = 2.0
    layover.run.Claim = partial(claims.Claim, beat=0.2)  # type: ignore[misc,assignment]
    run_study(study, **options)


def stopped_at_work(process: Any, store: Path) -> str:
    """Stop a process (SIGSTOP) that holds a claim on a step that it has begun; the step's key."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(store.glob("work/*.resume/checkpoint.safetensors")):
            os.kill(process.pid, signal.SIGSTOP)
            if held := list(store.glob("claims/*.json")):
                return held[0].stem
            os.kill(process.pid, signal.SIGCONT)  # it was between two steps
        time.sleep(0.001)
    raise AssertionError("it never began a step")


def test_a_driver_that_sleeps_through_its_lease_wakes_up_to_find_its_work_done(
    bert: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    words = study_words(bert, tmp_path, encoders=["bert"], recipe={**FAST, "epochs": 20, "dropout": 0.1})
    words["placement"] = {**HERE, "checkpoint_seconds": 0.0}
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    sleeper = started(study, run_with_short_leases, store=str(store))
    try:
        key = stopped_at_work(sleeper, store)
        assert not Store.open(store).finished(key)
        other = started(study, run_with_short_leases, store=str(store))
        other.join(300)
        assert other.exitcode == 0
        assert Store.open(store).finished_keys() == sorted(Session.open(study, store).plan.steps)
        published = {path: path.stat().st_mtime_ns for path in (store / "steps").rglob("*")}
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    sleeper.join(300)
    assert sleeper.exitcode == 0
    assert {path: path.stat().st_mtime_ns for path in (store / "steps").rglob("*")} == published
    assert verify(Store.open(store)) == []
    assert list((store / "work").iterdir()) == list((store / "claims").iterdir()) == []
    run_study(study, store=tmp_path / "calm")
    assert numbers(store) == numbers(tmp_path / "calm")


@pytest.mark.slow
def test_a_study_killed_at_random_moments_ends_with_the_same_numbers(
    bert: Path, tmp_path: Path, started: Callable[..., Any]
) -> None:
    words = study_words(
        bert,
        tmp_path,
        encoders=["bert"],
        recipe={**FAST, "epochs": 4, "evaluate_every": 2, "dropout": 0.1, "batch_size": 4},
        sweep={"learning_rate": [1e-3, 3e-4]},
        placement={**HERE, "checkpoint_seconds": 0.0},
        task={"mine": own_table(tmp_path, "single", 32), "stop": own_table(tmp_path, "choice", 32)},
    )
    study, store = write_study(tmp_path / "study.toml", words), tmp_path / "store"
    began = time.monotonic()
    calm = started(study, store=str(tmp_path / "calm"))
    calm.join(120)
    assert calm.exitcode == 0
    undisturbed = time.monotonic() - began
    draw, kills, resumed = random.Random(4711), 0, 0
    while kills < 30:
        process = started(study, store=str(store))
        process.join(draw.uniform(0.15, 0.5) * undisturbed)
        if process.exitcode is None:
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
            resumed += len(list(store.glob("work/*.resume/checkpoint.safetensors")))
        else:
            assert process.exitcode == 0
            finished = sorted(store.glob("steps/*"))
            assert len(finished) == 9
            for path in draw.sample(finished, 5):  # all is done: forget half of it, and go on
                shutil.rmtree(path)
    last = started(study, store=str(store))
    last.join(120)
    assert last.exitcode == 0
    assert resumed >= 3  # else the kills did not hit runs that had begun
    assert numbers(store) == numbers(tmp_path / "calm")
    assert verify(Store.open(store)) == []
    for key in Session.open(study, store).plan.steps:
        step = json.loads((store / "steps" / key / "step.json").read_text())
        assert step == json.loads((tmp_path / "calm" / "steps" / key / "step.json").read_text())
    assert list((store / "work").iterdir()) == []


def test_the_plan_keeps_its_keys_while_it_runs(study: Path, tmp_path: Path) -> None:
    session = run_study(study, store=tmp_path / "store")
    assert {key_of(step) for step in session.plan.steps.values()} == set(session.store.finished_keys())

"""Pulse and stopping: what is asked to stop keeps its work, and what hangs is ended and says where."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import FAST, HERE, Command, Faking, numbers, own_table, study_words, write_study

from layover import pulse
from layover.claims import read_claim
from layover.execute import execute
from layover.executors.local import InProcess
from layover.executors.workers import Workers
from layover.run import WORK
from layover.session import Session
from layover.session import run as run_study
from layover.step import Train, key_of
from layover.stopping import stopping


@pytest.fixture(autouse=True)
def _nothing_is_asked() -> Iterator[None]:
    yield
    pulse.clear()


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    """A source of 16 optimizer steps, and a target from it and by itself."""
    (tmp_path / "bert").symlink_to(bert)
    tables = {"mine": own_table(tmp_path, "single"), "stop": own_table(tmp_path, "pair", 36)}
    recipe = {**FAST, "epochs": 2, "batch_size": 4, "dropout": 0.1}
    return write_study(
        tmp_path / "study.toml", study_words(bert, tmp_path, encoders=["bert"], recipe=recipe, task=tables)
    )


# asked to stop


def test_what_is_asked_stays_asked_until_it_is_taken_back() -> None:
    pulse.check()
    pulse.ask()
    assert pulse.asked()
    with pytest.raises(pulse.Stopped):
        pulse.check()
    pulse.clear()
    pulse.check()


def test_a_training_stops_between_two_steps_and_goes_on_from_there(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked in its fifth step, it has its checkpoint of that step, though none was due for a minute."""
    from layover.train import checkpoint
    from layover.train.update import Update

    session = Session.open(study, tmp_path / "store")
    key = session.plan.find("bert · stop · s1")
    taken, real = [], Update.apply

    def fifth(update: Update) -> None:
        taken.append(1)
        if len(taken) == 5:
            pulse.ask()
        real(update)

    monkeypatch.setattr(Update, "apply", fifth)
    alone = dataclasses.replace(session.plan, steps={key: session.plan.steps[key]})
    summary = execute(alone, session.store, InProcess(), lambda *_: None)
    assert summary.stopped == [key]
    assert not summary.complete
    state = checkpoint.state_in(session.store.resume_folder(key))
    assert state is not None
    assert state.step == 5
    assert [path.name for path in (session.store.root / "work").iterdir()] == [f"{key}.resume"]
    assert list((session.store.root / "claims").iterdir()) == []
    monkeypatch.setattr(Update, "apply", real)
    pulse.clear()
    assert session.run().complete
    run_study(study, store=tmp_path / "calm")
    assert numbers(tmp_path / "store") == numbers(tmp_path / "calm")


def test_a_cohort_stops_with_a_checkpoint_of_each(
    study: Path, tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from layover.train import loop

    words = study_words(bert, tmp_path, encoders=["bert"], seeds=[1, 2], placement={**HERE, "cohort": 2})
    words["strategies"] = {"direct": {"kind": "direct"}}
    words["task"].pop("stop")
    session = Session.open(write_study(tmp_path / "two.toml", words), tmp_path / "store")
    real = loop.learning_rate

    def asks(*arguments: Any) -> float:
        pulse.ask()
        return real(*arguments)

    monkeypatch.setattr(loop, "learning_rate", asks)
    summary = execute(session.plan, session.store, InProcess(), lambda *_: None)
    assert sorted(summary.stopped) == sorted(session.plan.steps)
    assert all(session.store.resume_folder(key).is_dir() for key in session.plan.steps)


# signals


def test_the_first_signal_asks_and_comes_true_at_the_end() -> None:
    asked = threading.Event()

    def interrupted() -> None:
        with stopping(asked.set):
            os.kill(os.getpid(), signal.SIGINT)
            reached.append(asked.wait(30))

    reached: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == [True]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_ends_with_its_exit_code() -> None:
    with pytest.raises(SystemExit) as caught, stopping(lambda: None):
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143


def test_the_second_signal_interrupts() -> None:
    def twice() -> None:
        with stopping(lambda: None):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
            reached.append(True)

    reached: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        twice()
    assert reached == []


def test_in_another_thread_nothing_is_heard() -> None:
    before = signal.getsignal(signal.SIGINT)
    heard = []

    def inside() -> None:
        with stopping(lambda: None):
            heard.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert heard == [before]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_asked_to_stop_loses_nothing(
    study: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The signal comes while the first step trains; nothing else has begun, and the next run ends as it would have."""
    from layover.train.update import Update

    taken, real = [], Update.apply

    def third(update: Update) -> None:
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), number)
            assert settles(pulse.asked)
        real(update)

    monkeypatch.setattr(Update, "apply", third)
    ran = command("run", study, "--store", tmp_path / "store")
    assert ran.code == (130 if number == signal.SIGINT else 143)
    assert "stopping: what runs writes its checkpoint first; Ctrl-C again stops at once" in ran.out
    assert len(taken) == 3
    assert len(list((tmp_path / "store" / "work").glob("*.resume/checkpoint.safetensors"))) == 1
    assert list((tmp_path / "store" / "steps").iterdir()) == []
    again = command("run", study, "--store", tmp_path / "store")
    assert again.code == 0
    assert "3 steps run, 0 reused" in again.out
    run_study(study, store=tmp_path / "calm")
    assert numbers(tmp_path / "store") == numbers(tmp_path / "calm")


def test_a_second_ctrl_c_ends_a_command_at_once(
    study: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a step never looks up from its work."""

    def stuck(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(600)

    monkeypatch.setitem(WORK, Train, stuck)
    began = time.monotonic()
    assert command("run", study, "--store", tmp_path / "store").code == 130
    assert time.monotonic() - began < 300
    assert list((tmp_path / "store" / "claims").iterdir()) == []


def settles(condition: Any, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


# steps that hang


def test_a_process_without_a_sign_of_life_is_ended_and_says_where(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from layover import pulse\n"
        "def stuck(): time.sleep(600)\n"
        "with pulse.watched(0.5, Path(sys.argv[1])): stuck()"
    )
    trace = tmp_path / "hung" / "traceback.txt"
    environment = {**os.environ, "PYTHONPATH": str(Path(pulse.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", code, str(trace)], timeout=120, check=False, env=environment)
    assert ended.returncode == 1
    assert "in stuck" in trace.read_text()


def test_signs_of_life_set_the_watch_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, armed = [100.0], []
    monkeypatch.setattr(pulse.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        pulse.faulthandler, "dump_traceback_later", lambda seconds, **_: armed.append((clock[0], seconds))
    )
    with pulse.watched(60.0, tmp_path / "hung" / "traceback.txt"):
        for moment in (110.0, 110.5, 110.9, 111.0, 130.0):
            clock[0] = moment
            pulse.beat()
    assert armed == [(100.0, 60.0), (110.0, 60.0), (111.0, 60.0), (130.0, 60.0)]
    assert not (tmp_path / "hung").exists()
    clock[0] = 199.0
    pulse.beat()
    assert len(armed) == 4


def test_a_step_that_hangs_fails_alone_and_the_next_run_completes(
    study: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = study.read_text().replace('"threads" = 1', '"threads" = 1, "timeout" = 10')
    study.write_text(words)
    session = Session.open(study, tmp_path / "store")
    stuck, child = session.plan.find("bert · stop · s1"), session.plan.find("→")
    executor = Sticking(Faking(Workers(1), tmp_path / "runs"), stuck)
    summary = session.run(executor)
    assert list(summary.failed) == [stuck]
    assert "gave no sign of life in time (timeout in [placement])" in summary.failed[stuck]
    assert summary.blocked == {child: stuck}
    assert len(summary.finished) == 1
    trace = session.store.hung(stuck)
    assert str(trace) in summary.failed[stuck]
    assert "hangs" in trace.read_text()
    assert "gave no sign of life" in command("status", study, "--store", tmp_path / "store").out
    again = session.run(Faking(InProcess(), tmp_path / "again"))
    assert again.complete
    assert not trace.exists()


def test_a_study_that_watches_its_steps_runs_them_in_a_process_that_can_be_ended(study: Path, tmp_path: Path) -> None:
    study.write_text(study.read_text().replace('"threads" = 1', '"threads" = 1, "timeout" = 300'))
    session = Session.open(study, tmp_path / "store")
    assert session.run().complete
    facts = {key: session.store.read(key, "provenance.json") for key in session.plan.steps}
    assert len(facts) == 3
    assert list((tmp_path / "store" / "work").iterdir()) == []
    run_study(study, store=tmp_path / "again")
    assert numbers(tmp_path / "store") == numbers(tmp_path / "again")


class Sticking:
    """An executor whose step `key` never ends."""

    def __init__(self, inner: Any, key: str) -> None:
        self.inner, self.key, self.slots, self.sharing = inner, key, inner.slots, inner.sharing

    def submit(self, fn: Any, /, *args: Any, needs: Any = None) -> Any:
        return self.inner.submit(hangs, self.key, fn, *args)

    def stop(self) -> None:
        self.inner.stop()

    def close(self) -> None:
        self.inner.close()


def hangs(key: str, fn: Any, steps: Any, store: Any, places: Any) -> Any:
    real = WORK[Train]

    def work(step: Any, *rest: Any) -> Any:
        if key_of(step) == key:
            claim = read_claim(store.claim(key))
            assert claim is not None
            time.sleep(600)
        return real(step, *rest)

    WORK[Train] = work
    try:
        return fn(steps, store, places)
    finally:
        WORK[Train] = real

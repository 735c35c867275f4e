"""Claims: a live one is respected, a dead or expired one is taken over, and none has to be unlocked."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from layover import claims
from layover.claims import POINTS, Claim, alive, read_claim, told


def claim(path: Path, **progress: Any) -> Claim:
    return Claim(path, lambda: progress, beat=0.05)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "step.json"


def test_a_live_claim_is_respected_until_it_is_released(path: Path) -> None:
    first, second = claim(path), claim(path)
    assert first.take()
    with first:
        assert not second.take()
    assert not path.exists()
    assert second.take()


def test_a_claim_on_another_machine_is_respected_while_its_lease_runs(path: Path) -> None:
    assert claim(path).take()
    edit(path, host="elsewhere", pid=1, born="0", expires=time.time() + 60)
    assert not claim(path).take()
    edit(path, expires=time.time() - 0.01)
    assert claim(path).take()


def test_an_expired_claim_is_taken_over_even_from_a_live_process(path: Path) -> None:
    assert claim(path).take()
    edit(path, expires=time.time() - 1)
    assert claim(path).take()


def test_a_claim_that_nobody_renews_is_taken_over_whatever_the_clock_says(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the clock of its machine, or of this one, was set back by an hour."""
    clock = [100.0]
    monkeypatch.setattr(claims.time, "monotonic", lambda: clock[0])
    assert claim(path).take()
    edit(path, host="elsewhere", expires=time.time() + 3600)
    assert not claim(path).take()
    clock[0] += claims.LEASE_SECONDS - 1
    assert not claim(path).take()
    edit(path, beats=2)  # its holder lives
    clock[0] += claims.LEASE_SECONDS - 1
    assert not claim(path).take()
    clock[0] += claims.LEASE_SECONDS + 1
    assert claim(path).take()


def test_a_holder_that_slept_through_its_lease_leaves_the_claim_to_its_successor(path: Path) -> None:
    sleeper = Claim(path, dict, beat=0.02)
    assert sleeper.take()
    edit(path, expires=0)  # as it is when its process was stopped for longer than a lease
    successor = Claim(path, dict, beat=60)
    assert successor.take()
    own = json.loads(path.read_text())["id"]
    with sleeper:
        time.sleep(0.2)
        assert json.loads(path.read_text())["id"] == own
    assert json.loads(path.read_text())["id"] == own


def taken_by_another_process(path: Path) -> subprocess.Popen[str]:
    program = (
        "import sys, time; from pathlib import Path; from layover.claims import Claim\n"
        "with_ = Claim(Path(sys.argv[1]), dict); print(with_.take(), flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "True\n"
    return process


def test_a_dead_process_is_taken_over_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(claims.__file__).parents[1]))
    process = taken_by_another_process(path)
    assert not claim(path).take()
    process.kill()
    deadline = time.monotonic() + 10
    while alive(json.loads(path.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)  # not reaped yet: even as a zombie it holds nothing
    assert claim(path).take()
    assert json.loads(path.read_text())["expires"] > time.time() + 30  # the old lease had not run out
    process.wait()


@pytest.mark.skipif(not Path("/proc/self/comm").exists(), reason="a process has no name in a file here")
def test_a_process_may_have_a_name_that_was_cut_within_a_character(path: Path) -> None:
    """As Ray's workers do, which are called after the step that they run: "ray::minilm → rte"."""
    own = Path("/proc/self/comm")
    before = own.read_bytes()
    own.write_bytes("ray::minilm → rte".encode()[:13])
    try:
        one = claim(path)
        assert one.take()
        assert alive(read_claim(path) or {})
    finally:
        own.write_bytes(before.strip())


def test_a_reused_process_id_is_not_its_predecessor(path: Path) -> None:
    assert claim(path).take()
    edit(path, born="1")
    assert claim(path).take()


def test_a_heartbeat_renews_the_lease_and_tells_the_progress(path: Path) -> None:
    progress = {"step": 1}
    held = Claim(path, lambda: progress, beat=0.02)
    assert held.take()
    with held:
        edit(path, expires=time.time() + 1)
        progress["step"] = 7
        deadline = time.monotonic() + 5
        while json.loads(path.read_text())["progress"] != {"step": 7} and time.monotonic() < deadline:
            time.sleep(0.01)
        found = json.loads(path.read_text())
    assert found["progress"] == {"step": 7}
    assert found["expires"] > time.time() + 30


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 1000, 1001])
def test_a_claim_tells_of_the_curve_what_fits(n: int) -> None:
    curve = [{"epoch": i / 10, "step": i, "loss": 1 / i, "selection": 50.0, "tasks": {}} for i in range(1, n + 1)]
    found = told({"step": n, "loss": math.nan, "curve": curve})
    assert found["loss"] is None
    assert found["step"] == n
    points = found["curve"]
    assert min(n, POINTS // 2) <= len(points) <= POINTS
    assert points == [{"step": p["step"], "loss": 1 / p["step"], "selection": 50.0} for p in points]
    assert [p["step"] for p in points] == sorted({p["step"] for p in points})
    if n:
        assert points[-1]["step"] == n  # the newest is always among them


def test_a_claim_of_work_that_has_no_curve_is_as_it_was() -> None:
    assert told({}) == {}
    assert told({"step": 1, "steps": 2}) == {"step": 1, "steps": 2}


def test_releasing_leaves_a_claim_that_somebody_else_took_over(path: Path) -> None:
    first = Claim(path, dict, beat=60)
    assert first.take()
    with first:
        edit(path, expires=0)
        assert claim(path).take()
        successor = json.loads(path.read_text())["id"]
    found = read_claim(path)
    assert found is not None
    assert found["id"] == successor


def test_a_missed_beat_does_not_end_the_work(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = claim(path)
    assert held.take()
    beats: list[int] = []

    def full(*_: object, **__: object) -> None:
        beats.append(1)
        raise OSError(28, "No space left on device")

    with held:
        monkeypatch.setattr(claims, "write_json", full)
        deadline = time.monotonic() + 5
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "{}", '{"expires": "soon"}', '{"id": "x", "expires": 9e12}'])
def test_a_claim_that_cannot_be_read_holds_nothing(path: Path, content: str) -> None:
    path.write_text(content)
    assert read_claim(path) is None
    assert claim(path).take()

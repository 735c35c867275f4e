"""The benchmarks of large plans run, tiny, as they are called, and say what they are to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(script: str, *words: str) -> str:
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    command = [sys.executable, str(ROOT / "bench" / script), *words, "--tiny"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("compile", "steps", 295), ("resume", "of them left to do", 6), ("driver", "steps", 295),
     ("query", "observations", 1180)],
)  # fmt: skip
def test_what_a_large_plan_costs_is_measured_on_as_many_steps_as_it_has(part: str, name: str, value: int) -> None:
    lines = [line.strip().rpartition(" ") for line in printed("scale.py", part).splitlines()]
    found = {key.strip(): float(number.replace(",", "")) for key, _, number in lines}
    assert found[name] == value
    assert all(number >= 0 for number in found.values())


def test_the_end_that_is_foretold_is_near_the_end_of_a_walk() -> None:
    rows = [line.strip("| ").split(" | ") for line in printed("schedule.py").splitlines() if line.startswith("| ")]
    off = {row[0]: abs(float(row[3].rstrip("%"))) for row in rows[2:]}
    assert set(off) == {"1", "8", "32", "128"}
    assert max(off.values()) < 15

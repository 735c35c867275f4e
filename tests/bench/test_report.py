"""The report of the largest study is small enough to send, and a tiny one of its kind is made as it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def measured(*words: str) -> dict[str, float]:
    source = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    command = [sys.executable, str(ROOT / "bench" / "report.py"), *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.rpartition(" ") for line in done.stdout.splitlines()]
    return {name.strip(): float(number.replace(",", "")) for name, _, number in lines}


def test_a_tiny_one_is_made(tmp_path: Path) -> None:
    found = measured("--tiny", "--examples", "2", "--out", str(tmp_path / "tiny.html"))
    assert found["observations"] == (1 + 3) * 4 * 3
    assert found["page in MB"] == pytest.approx((tmp_path / "tiny.html").stat().st_size / 1e6, abs=0.01)


@pytest.mark.slow
def test_the_size_of_the_papers_study_fits_into_five_megabytes(tmp_path: Path) -> None:
    found = measured("--examples", "4", "--out", str(tmp_path / "full.html"))
    assert found["observations"] == 1260
    assert found["page in MB"] < 5

"""The benchmark of LogME runs, tiny, as it is called, and both sides find the same scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_layover_and_the_published_algorithm_score_sources_alike() -> None:
    source = os.pathsep.join([str(BENCH.parent / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    command = [sys.executable, str(BENCH / "estimators.py"), "--tiny", "--rounds", "2"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    _, *rows = [line for line in lines if "---" not in line]
    assert [row[:2] for row in rows] == [
        [what, way] for what in ("maps", "features") for way in ("layover", "gram", "svd")
    ]
    assert all(row[3] == "x 1.0" for row in rows if row[1] == "layover")
    assert all(float(row[4]) < 1e-3 and float(row[5]) > 0.99 for row in rows)

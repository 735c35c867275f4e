"""The benchmark of LogME runs, tiny, as it is called, and both sides find the same scores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.kit import pair_rows, write_task

BENCH = Path(__file__).parents[2] / "bench"


def run(*words: str) -> tuple[list[list[str]], str]:
    """The cells of the table that the benchmark prints, without its head, and all that it prints."""
    source = os.pathsep.join([str(BENCH.parent / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    command = [sys.executable, str(BENCH / "estimators.py"), "--tiny", *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    _, *rows = [line for line in lines if "---" not in line]
    return rows, done.stdout


def test_layover_and_the_published_algorithm_score_sources_alike() -> None:
    rows, _ = run("--rounds", "2")
    assert [row[:2] for row in rows] == [
        [what, way] for what in ("maps", "features") for way in ("layover", "gram", "svd")
    ]
    assert all(row[3] == "x 1.0" for row in rows if row[1] == "layover")
    assert all(float(row[4]) < 1e-3 and float(row[5]) > 0.99 for row in rows)


def test_with_an_encoder_passes_count_and_both_sides_read_and_score_the_same_rows(bert: Path, tmp_path: Path) -> None:
    data = write_task(tmp_path, "rte", pair_rows, n_train=60)
    rows, printed = run("--encoder", str(bert), "--data", str(data), "--rounds", "1")
    assert [row[:2] for row in rows] == [["peers", "6"], ["features", "6"], ["maps", "1"]]
    assert "measured on 2 sources and multiplied" in printed
    assert "for 40 rows of rte" in printed
    assert rows[0][-1] == "x 1.0"
    for row in rows:  # what is made once, all passes and all scores are the whole
        one, once, passes, scoring, whole = map(float, row[2:7])
        assert abs(once + passes + scoring - whole) < 0.01
        assert abs(passes - int(row[1]) * one) < 0.01
    assert float(printed.split("differ by ")[1].split(" ")[0]) < 1e-2

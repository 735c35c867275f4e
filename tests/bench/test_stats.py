"""The benchmark of intervals, corrections and power runs, tiny, as it is called, and its truths are true."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


def rows(*words: str) -> list[list[str]]:
    source = os.pathsep.join([str(BENCH.parent / "src"), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep)
    command = [sys.executable, str(BENCH / "stats.py"), *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line[1:].strip().rstrip("|") for line in done.stdout.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.split("|")] for line in lines if "---" not in line]


def test_intervals_of_a_few_studies_mostly_hold_the_truth() -> None:
    found = [row for row in rows("coverage", "--tiny", "--replicates", "12") if row[0] != "" or row[1].isdigit()]
    assert len(found) == 16
    assert all(float(row[5]) >= 50 for row in found)


def test_few_tables_without_an_effect_show_one() -> None:
    _, *found = rows("family", "--tiny", "--replicates", "12")
    assert len(found) == 5
    assert all(float(value) <= 34 for row in found for value in row[5:])


def test_power_is_foretold() -> None:
    _, *found = rows("power", "--tiny", "--replicates", "60")
    assert all(abs(float(row[6]) - float(row[7])) < 25 for row in found)
    assert {row[4] for row in found} == {"60"}


@pytest.mark.parametrize("metric", ["accuracy", "f1", "mcc", "pearson"])
def test_the_population_is_what_very_many_seeds_and_examples_give(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("stats_bench", BENCH / "stats.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stats_bench", module)
    spec.loader.exec_module(module)
    setting = module.Setting(150, 2000, 6.0, ((5.0,),), hard=0.0, apart=0.0, shared=0.0, metric=metric)
    made = list(module.study(setting, np.random.default_rng(1), ""))
    for arm, effect in (("direct", 0.0), ("stilts", 5.0)):
        values = [row["value"] for row, _, _ in made if row["strategy"] == arm]
        assert np.mean(values) == pytest.approx(module.population(setting, effect), abs=2.0)

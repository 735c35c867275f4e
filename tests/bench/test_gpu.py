"""The benchmark for GPUs takes its whole course on a CPU, and counts right."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
LAYOVER = ("eager", "graphs", "graphs, 1 process", "graphs, 2 processes", "compiled graphs")


def dry(out: Path, *words: str) -> tuple[str, dict[str, Any]]:
    """What the dry run prints, and what it found."""
    source = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT / "src")]).strip(os.pathsep)
    command = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--dry", "--minilm", "none", "--out", str(out), *words]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(out.read_text())["found"]


@pytest.mark.slow
def test_the_whole_course_is_taken_on_a_cpu(tmp_path: Path) -> None:
    printed, found = dry(tmp_path / "out.json")
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in printed.splitlines() if line.startswith("|")}
    for name in LAYOVER:
        assert "failed" not in found[name], found[name]
        each = found[name]["seconds"][0] / found[name].get("at_once", 1)
        assert float(rows[name][1]) == pytest.approx(3600 / each, abs=1)
    needs = {"in-process Trainer": "accelerate", "Trainer, one process per run": "accelerate",
             "cohort of 8, eager": "layover.train.cohort"}  # fmt: skip
    for name, module in needs.items():
        assert ("failed" in found[name]) == (importlib.util.find_spec(module) is None), found[name]
    assert "minutes for 1700 runs, projected" in printed
    assert found["RoBERTa-large"]["tflops"] > 0


def test_what_does_not_fit_into_the_time_is_left_out_and_said(tmp_path: Path) -> None:
    printed, found = dry(tmp_path / "out.json", "--seconds", "0")
    assert "nothing to compare with: the time was up" in printed
    assert {part["failed"] for part in found.values()} == {"the time was up"}
    assert len(found) == 10


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_runs", ROOT / "bench" / "gpu_runs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_runs"] = module
    spec.loader.exec_module(module)
    return module


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), min_size=1, max_size=12)


@given(spans=SPANS)
def test_idle_is_the_time_that_no_kernel_covers(runs: ModuleType, spans: list[tuple[int, int]]) -> None:
    ends = sorted((start, start + length) for start, length in spans)
    first, last = ends[0][0], max(end for _, end in ends)
    covered = {moment for start, end in ends for moment in range(start, end)}
    assert runs.idle_among(ends) == pytest.approx(1 - len(covered) / (last - first))


def test_operations_are_those_that_torch_counts(runs: ModuleType) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import BertConfig, BertModel

    config = BertConfig(**runs.CONFIGS["tiny"])
    model = BertModel(config, add_pooling_layer=False)
    ids = torch.ones(3, 20, dtype=torch.long)
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids).last_hidden_state.sum().backward()
    assert runs.flops(config, np.full(3, 20)) == pytest.approx(counted.get_total_flops(), rel=0.03)

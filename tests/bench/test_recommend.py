"""The benchmarks of advice run on a store with tiny trainings, as they are called, and on the published matrix."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.kit import own_table, single_rows, study_words, write_rows

from layover.select.candidate import Candidate
from layover.select.truth import Truth
from layover.session import Session
from layover.study import Study

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


def single(folder: Path, name: str, seed: int, n: int = 24) -> dict[str, Any]:
    parts = {"train": single_rows(n, seed), "validation": single_rows(12, seed + 100)}
    files = {part: str(write_rows(folder / f"{name}.{part}.jsonl", rows)) for part, rows in parts.items()}
    return {**files, "format": "single", "text": "text", "labels": ["no", "yes"]}


@pytest.fixture(scope="module")
def store(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recommend")
    targets, sources = ["t1", "t2", "t3"], ["s1", "s2", "pick"]
    task = {name: single(folder, name, seed) for seed, name in enumerate([*targets, "s1", "s2"])}
    task["pick"] = own_table(folder, "choice")
    strategies = {"direct": {"kind": "direct"}, "stilts": {"kind": "stilts", "sources": sources}}
    words = study_words(bert, folder, task=task, strategies=strategies, seeds=[1, 2], tasks={"target": targets})
    session = Session.open(Study(**words), folder / "store")
    assert not session.run().failed
    return folder / "store"


def called(module: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[Any]:
    """The tables that a benchmark prints: of each its title, and its rows by their first cell."""
    monkeypatch.setattr(sys, "argv", ["bench", *words])
    module.main()
    tables: list[Any] = []
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("| ---"):
            continue
        if line.startswith("|"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            tables[-1][1][name] = cells
        elif line:
            tables.append((line, {}))
    return tables


def test_the_published_matrix(bench: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [(title, rows)] = called(bench("recommend"), monkeypatch, capsys)
    assert title == "published matrix: 10 targets, 108 stops"
    assert rows["same best source"][:2] == ["0.68", "0.82"]
    assert rows["no transfer"][:2] == ["3.32", "4.50"]
    assert rows["learnt from others"][0] == "0.67"


def test_a_store(
    bench: Any, store: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    module, keep = bench("recommend"), tmp_path / "keep.json"
    words = [str(store), "--study", "small", "--encoder", str(bert), "--layers", "last,best", "--keep", str(keep)]
    found = called(module, monkeypatch, capsys, *words)
    titles = [title for title, _ in found]
    assert titles[1] == "targets: 3 targets, 9 stops"
    rows = found[1][1]
    for name in ("same best source", "no transfer", "logme", "logme:best", "esm_logme", "textemb", "learnt from others",
                 "learnt + logme", "learnt + all, last layer", "mean place of all, last layer"):  # fmt: skip
        one, three = float(rows[name][0]), float(rows[name][2])
        assert 0 <= three <= one + 0.01, name
        assert -1 <= float(rows[name][6] or 0) <= 1, name
    truth = module.Measured.of(module.opened(str(store), "small", []), "target").truth
    best = np.maximum(0, truth.delta.max(1))
    assert float(rows["no transfer"][0]) == pytest.approx(best.mean(), abs=0.006)
    assert float(rows["random source"][0]) == pytest.approx((best - truth.delta.mean(1)).mean(), abs=0.006)
    kept = json.loads(keep.read_text("utf-8"))
    said = np.array([[kept[t]["scores"]["logme"][kept[t]["sources"].index(one.source)] for one in truth.candidates]
                     for t in truth.targets])  # fmt: skip
    lost = best - truth.delta[np.arange(3), said.argmax(1)]
    assert float(rows["logme"][0]) == pytest.approx(lost.mean(), abs=0.006)
    again = called(module, monkeypatch, capsys, *words)
    assert again == found  # from what is kept, the seconds too


def test_a_truth_of_other_targets_is_joined_by_its_sources(bench: Any) -> None:
    nan = float("nan")

    def truth(target: str, *cells: tuple[str, float]) -> Truth:
        delta = np.array([[value for _, value in cells]])
        return Truth((target,), tuple(Candidate(name) for name, _ in cells), delta, delta / 10, np.array([50.0]))

    both = bench("recommend").joined(truth("x", ("b", 1.0), ("c", 2.0)), truth("y", ("a", 3.0), ("c", 4.0)))
    assert both.targets == ("x", "y")
    assert [one.source for one in both.candidates] == ["a", "b", "c"]
    assert np.array_equal(both.delta, [[nan, 1, 2], [3, nan, 4]], equal_nan=True)
    assert both.error[1, 2] == pytest.approx(0.4)


def test_searches(bench: Any, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    words = [str(store), "--study", "small", "--targets", "t1,t2", "--budget", "0.5", "--rows", "8"]
    halving, few, judged = called(bench("search"), monkeypatch, capsys, *words)
    assert list(halving[1]) == ["target", "t1", "t2"]
    for found in ("t1", "t2"):
        _, _, lost, within, _, share = halving[1][found]
        assert within == "the same" if lost == "0" else within in ("yes", "no")
        assert float(share.rstrip("%")) > 0
    assert list(few[1]) == ["target", "t1", "t2"]
    assert judged[0] == "few-shot fine-tuning: 2 targets, 6 stops"
    assert {"same best source", "few-shot, a source always", "learnt + few-shot"} <= judged[1].keys()

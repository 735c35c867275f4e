"""Correlations of tasks over sources and restarts: against scipy and statsmodels, and what is told beside them."""

# pyright: reportArgumentType=false, reportOptionalOperand=false
# pyright: reportAttributeAccessIssue=false, reportOperatorIssue=false, reportCallIssue=false, reportOptionalMemberAccess=false
from __future__ import annotations

import json
import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.stats.tables import row

from layover.errors import ObservationsError
from layover.stats.correlate import correlations

SOURCES = ("mnli", "qqp", "sst2", "ccg", "qamr", "cosmosqa")
TARGETS, PROBES = ("rte", "cb"), ("edge", "word", "depth")
REFERENCE = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


def table(seed=0, restarts=3, sources=SOURCES):
    """A target follows what its source is worth, a probe `edge` too; the other probes are noise."""
    rng = np.random.default_rng(seed)
    rows = [row("direct", "", t, s, 60.0, role="target" if t in TARGETS else "probing")
            for t in (*TARGETS, *PROBES) for s in range(restarts)]  # fmt: skip
    for source in sources:
        worth = rng.normal() * 5
        for task in (*TARGETS, *PROBES):
            for s in range(restarts):
                shown = worth if task in ("rte", "edge") else rng.normal() * 5
                role = "target" if task in TARGETS else "probing"
                rows.append(row("stilts", source, task, s, 60 + shown + rng.normal(), role=role))
    return rows


ROWS = table()


def values(rows, task):
    return [r["value"] for r in rows if r["target"] == task and r["source"]]


@pytest.mark.parametrize("method", ["spearman", "pearson"])
@pytest.mark.parametrize("family", ["targets-x-probing", "targets-x-all"])
def test_r_p_and_holm_are_scipys_and_statsmodels(method, family) -> None:
    found = correlations(ROWS, method, family)
    others = [*sorted(TARGETS), *sorted(PROBES)] if family == "targets-x-all" else sorted(PROBES)
    assert [(c.target, c.probe) for c in found.cells] == [(t, o) for t in sorted(TARGETS) for o in others]
    expected = [REFERENCE[method](values(ROWS, c.target), values(ROWS, c.probe)) for c in found.cells]
    assert [c.r for c in found.cells] == pytest.approx([e.statistic for e in expected])
    assert [c.p for c in found.cells] == pytest.approx([e.pvalue for e in expected])
    holm = multipletests([e.pvalue for e in expected], method="holm")[1]
    assert [c.p_adjusted for c in found.cells] == pytest.approx(holm)
    assert found.significant == sum(holm < 0.05)
    assert {c.n for c in found.cells} == {18}
    clustered = multipletests([c.p_clustered for c in found.cells], method="holm")[1]
    assert [c.p_clustered_adjusted for c in found.cells] == pytest.approx(clustered)


def test_the_papers_cut_is_stricter_than_holm_by_one_test() -> None:
    found = correlations(table(4), family="targets-x-all")
    p = sorted(c.p for c in found.cells)
    passing = next((i for i, one in enumerate(p) if one >= 0.05 / (len(p) + 1 - i)), len(p))
    assert sum(c.significant_as_published for c in found.cells) == passing
    assert {c.p for c in found.cells if c.significant_as_published} == set(p[:passing])
    # of one test, Holm's cut is 0.05 and the paper's 0.025
    y = [r for r in table(5) if r["target"] == "cb"]
    drawings = (np.random.default_rng(seed).normal(size=18) for seed in range(1000))
    noise = next(one for one in drawings if 0.03 < stats.pearsonr(values(y, "cb"), one).pvalue < 0.045)
    drawn = iter(noise)
    x = [r | {"target": "word", "role": "probing", "value": 60 + next(drawn) if r["source"] else 60.0} for r in y]
    [cell] = correlations(y + x, "pearson").cells
    assert cell.significant
    assert not cell.significant_as_published


def test_what_the_paper_lacks_is_told_beside() -> None:
    cell = next(c for c in correlations(ROWS).cells if (c.target, c.probe) == ("rte", "edge"))
    assert cell.significant
    assert cell.p < 1e-4
    assert cell.p_clustered >= 1 / 720  # of six sources there are 720 orders
    assert cell.low < cell.r < cell.high
    left = [r for r in ROWS if r["source"] != SOURCES[0]]
    again = next(c for c in correlations(left).cells if (c.target, c.probe) == ("rte", "edge"))
    assert cell.low <= again.r <= cell.high


def test_a_failed_run_drops_its_point_from_its_pairs_alone() -> None:
    rows = [
        r | {"value": None, "status": "failed: no disk"}
        if (r["source"], r["target"], r["seed"]) == ("mnli", "edge", 1)
        else r | {"status": "ok"}
        for r in ROWS
    ]
    cells = {(c.target, c.probe): c for c in correlations(rows).cells}
    assert {probe: cells["rte", probe].n for probe in PROBES} == {"edge": 17, "word": 18, "depth": 18}
    kept = [r for r in ROWS if (r["source"], r["seed"]) != ("mnli", 1)]
    expected = stats.spearmanr(values(kept, "rte"), values(kept, "edge"))
    assert cells["rte", "edge"].r == pytest.approx(expected.statistic)
    assert cells["rte", "edge"].p == pytest.approx(expected.pvalue)


def test_degenerate_runs_are_kept_and_the_rest_is_told_beside() -> None:
    collapsed = {"value": 5.0, "status": "degenerate: constant prediction"}
    lost = {("qqp", "edge", s) for s in range(3)}
    rows = [r | (collapsed if (r["source"], r["target"], r["seed"]) in lost else {"status": "ok"}) for r in ROWS]
    cell = next(c for c in correlations(rows).cells if (c.target, c.probe) == ("rte", "edge"))
    kept = [r for r in ROWS if r["source"] != "qqp"]
    assert (cell.n, cell.without_degenerate.n) == (18, 15)
    assert cell.without_degenerate.r == pytest.approx(stats.spearmanr(values(kept, "rte"), values(kept, "edge"))[0])
    assert cell.r == pytest.approx(stats.spearmanr(values(rows, "rte"), values(rows, "edge"))[0])


def test_sources_of_positive_transfer_alone_and_nothing_without_a_baseline() -> None:
    means = {s: np.mean([r["value"] for r in ROWS if (r["source"], r["target"]) == (s, "rte")]) for s in SOURCES}
    gaining = [s for s, mean in means.items() if mean > 60]
    assert 1 < len(gaining) < 6
    kept = [r for r in ROWS if r["source"] in gaining]
    cell = next(c for c in correlations(ROWS).cells if (c.target, c.probe) == ("rte", "edge"))
    assert cell.positive.n == 3 * len(gaining)
    assert cell.positive.r == pytest.approx(stats.spearmanr(values(kept, "rte"), values(kept, "edge"))[0])
    alone = correlations([r for r in ROWS if r["source"]])
    assert {(c.positive.r, c.positive.n) for c in alone.cells} == {(None, 0)}
    assert [c.r for c in alone.cells] == [c.r for c in correlations(ROWS).cells]


def test_a_task_that_never_moves_gives_null_and_no_test() -> None:
    rows = [r | {"value": 58.3} if r["target"] == "word" else r for r in ROWS]
    data = json.loads(json.dumps(correlations(rows).to_json(), allow_nan=False))
    still = [c for c in data["cells"] if c["probe"] == "word"]
    assert [(c["r"], c["p"], c["p_adjusted"], c["significant"], c["n"]) for c in still] == [
        (None, None, None, False, 18)
    ] * 2
    left = multipletests([c["p"] for c in data["cells"] if c["p"] is not None], method="holm")[1]
    assert [c["p_adjusted"] for c in data["cells"] if c["p"] is not None] == pytest.approx(left)


def test_the_square_is_symmetric_and_one_on_its_diagonal() -> None:
    data = correlations(ROWS).to_json(square=True)["square"]
    assert data["tasks"] == ("cb", "rte", "depth", "edge", "word")
    r = np.array(data["r"])
    assert np.diag(r) == pytest.approx(1)
    assert r == pytest.approx(r.T)
    assert r[1, 3] == pytest.approx(stats.spearmanr(values(ROWS, "rte"), values(ROWS, "edge")).statistic)


def test_seeds_need_not_be_the_same_for_every_source() -> None:
    rows = [r | {"seed": r["seed"] + 10 * SOURCES.index(r["source"])} if r["source"] else r for r in ROWS]
    numbers = [(c.r, c.p, c.p_clustered) for c in correlations(ROWS).cells]
    assert [(c.r, c.p, c.p_clustered) for c in correlations(rows).cells] == numbers


@settings(max_examples=4)
@given(order=st.randoms(use_true_random=False), names=st.permutations("abcdefghijk"), many=st.booleans())
def test_the_order_of_rows_and_the_names_of_tasks_move_no_number(order: random.Random, names, many) -> None:
    rows = table(1, 2, (*SOURCES, "scitail", "hellaswag")) if many else ROWS
    tasks = sorted({r["target"] for r in rows} | {r["source"] for r in rows if r["source"]})
    called = dict(zip(tasks, [f"{n}{i}" for i, n in enumerate(names * 2)], strict=False)) | {"": ""}
    moved = [r | {"source": called[r["source"]], "target": called[r["target"]]} for r in rows]
    moved = order.sample(moved, len(moved))
    first = {(called[c.target], called[c.probe]): c for c in correlations(rows).cells}
    for cell in correlations(moved).cells:
        other = first[cell.target, cell.probe]
        for field in ("r", "p", "p_adjusted", "low", "high", "p_clustered", "p_clustered_adjusted"):
            assert getattr(cell, field) == pytest.approx(getattr(other, field), rel=1e-9)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(ObservationsError, match="no row with a source has the role probing"):
        correlations([r for r in ROWS if r["role"] == "target"])
    with pytest.raises(ObservationsError, match="no row has a source"):
        correlations([r for r in ROWS if not r["source"]])
    with pytest.raises(ObservationsError, match=r"(?s)strategy: there are several.*multitask, stilts"):
        correlations(ROWS + [r | {"strategy": "multitask"} for r in ROWS if r["source"]])
    with pytest.raises(ObservationsError, match="did you mean 'spearman'"):
        correlations(ROWS, "spearmen")
    assert len(correlations([r for r in ROWS if r["role"] == "target"], family="targets-x-all").cells) == 4


def test_the_command_prints_the_matrix_and_the_contract(command, tmp_path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "o.csv", index=False)
    shown = command("analyze", "correlations", "--observations", tmp_path / "o.csv", "--square")
    assert shown.code == 0
    assert "1 of 6 significant at 0.05 after Holm over targets-x-probing" in shown.out
    data = json.loads(command("analyze", "correlations", "--observations", tmp_path / "o.csv", "--json").out)
    assert (data["method"], data["family"], data["significant"]) == ("spearman", "targets-x-probing", 1)
    assert {"target", "probe", "r", "p", "p_adjusted", "significant"} <= set(data["cells"][0])
    assert math.isclose(data["cells"][0]["r"], correlations(ROWS).cells[0].r)
    assert command("analyze", "correlations", "--observations", tmp_path / "o.csv", "--strategy", "stilt").code == 2

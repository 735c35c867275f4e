"""All trials of a grid: numbers by hand, trials paired by setting and seed."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import json
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tests.stats.tables import row

from layover.errors import ObservationsError
from layover.stats.grid import grid

RATES = ("5e-5", "1e-4", "2e-4")


def table(gain=3.0, seed=0, seeds=(12, 42), targets=("rte", "wic")):
    """A trial's worth is the same with and without a source, but for the gain and a little noise."""
    rng, rows = np.random.default_rng(seed), []
    for target in targets:
        for rate in RATES:
            for s in seeds:
                worth = 60 + 5 * rng.normal()
                rows.append(row(f"direct {rate}", "", target, s, worth, status="ok"))
                for source in ("hellaswag", "syn"):
                    more = gain if source == "hellaswag" else 0.0
                    rows.append(row(f"stilts {rate}", source, target, s, worth + more + rng.normal(), status="ok"))
    return rows


ROWS = table()


def of(rows, first, source, target):
    return {
        (r["strategy"].split()[1], r["seed"]): r["value"]
        for r in rows
        if r["strategy"].startswith(first) and (r["source"], r["target"]) == (source, target)
    }


def cells(found):
    return {(c.grid, c.source, c.target): c for c in found.cells}


def test_every_trial_counts_and_strategies_are_settings_by_their_first_word() -> None:
    found = grid(ROWS)
    assert {name: set(of) for name, of in found.grids.items()} == {
        "direct": {f"direct {rate}" for rate in RATES}, "stilts": {f"stilts {rate}" for rate in RATES},
    }  # fmt: skip
    assert len(found.cells) == 6
    for (name, source, target), cell in cells(found).items():
        values = list(of(ROWS, name, source, target).values())
        assert cell.values.values == tuple(sorted(values))
        assert (cell.trials, cell.values.high) == (6, max(values))
        assert cell.values.mean == pytest.approx(np.mean(values))
        assert cell.values.sd == pytest.approx(np.std(values, ddof=1))
        assert cell.values.quarter == pytest.approx(np.percentile(values, 25))


def test_gains_are_over_the_same_setting_and_seed() -> None:
    cell = cells(grid(ROWS, correct="none"))["stilts", "hellaswag", "rte"]
    one, base = of(ROWS, "stilts", "hellaswag", "rte"), of(ROWS, "direct", "", "rte")
    deltas = [one[trial] - base[trial] for trial in one]
    assert cell.mean.delta == pytest.approx(np.mean(deltas))
    assert cell.best.delta == pytest.approx(max(one.values()) - max(base.values()))
    low, high = stats.t.interval(0.95, 5, np.mean(deltas), stats.sem(deltas))
    assert (cell.mean.low, cell.mean.high) == (pytest.approx(low), pytest.approx(high))
    assert cell.mean.p == pytest.approx(stats.ttest_1samp(deltas, 0).pvalue)
    assert cell.mean.p < 0.02
    assert cell.best.low <= cell.best.delta <= cell.best.high
    assert cell.best.high - cell.best.low < 8  # unpaired, trials differ by 5 points for reasons that both share
    assert cells(grid(ROWS))["direct", "", "rte"].mean is None


def test_a_lost_trial_is_left_out_on_both_sides_and_counted() -> None:
    best = max(of(ROWS, "direct", "", "rte").items(), key=lambda item: item[1])[0]
    lost = (f"stilts {best[0]}", "hellaswag", "rte", best[1])
    rows = [
        r | {"value": None, "status": "failed: x"}
        if (r["strategy"], r["source"], r["target"], r["seed"]) == lost else r
        for r in ROWS
    ]  # fmt: skip
    cell = cells(grid(rows))["stilts", "hellaswag", "rte"]
    one, base = of(ROWS, "stilts", "hellaswag", "rte"), of(ROWS, "direct", "", "rte")
    one.pop(best)
    base.pop(best)
    assert (cell.trials, cell.failed, cell.mean.n) == (5, 1, 5)
    assert cell.best.delta == pytest.approx(max(one.values()) - max(base.values()))


def test_degenerate_trials_are_a_share_and_can_be_left_out() -> None:
    rows = [r | {"status": "degenerate: x", "value": 50.0} if r["seed"] == 12 and r["source"] == "syn" else r
            for r in ROWS]  # fmt: skip
    kept, left = (cells(grid(rows, without_degenerate=without))["stilts", "syn", "rte"] for without in (False, True))
    assert (kept.trials, kept.degenerate) == (6, 3)
    assert (left.trials, left.degenerate) == (3, 0)
    shares = {c["source"]: c["degenerate_share"] for c in grid(rows).to_json()["cells"]}
    assert shares == {"": 0, "hellaswag": 0, "syn": 0.5}


def test_grids_can_be_named_and_their_settings_go_by_position() -> None:
    words = {"direct": "plain", "stilts": "stop"}
    rows = [
        r | {"strategy": f"{words[r['strategy'].split()[0]]}-{RATES.index(r['strategy'].split()[1])}"} for r in ROWS
    ]
    named = {"none": ["plain-0", "plain-1", "plain-2"], "after": ["stop-0", "stop-1", "stop-2"]}
    found, first = cells(grid(rows, named, against="none")), cells(grid(ROWS))
    assert found["after", "syn", "wic"].values == first["stilts", "syn", "wic"].values
    assert found["after", "syn", "wic"].mean.delta == pytest.approx(first["stilts", "syn", "wic"].mean.delta)
    with pytest.raises(ObservationsError, match=r"(?s)did you mean 'stop-0'.*there is no grid 'direct'"):
        grid(rows, {"after": ["stop0"]})


def test_a_setting_may_be_a_condition_instead_of_a_strategy() -> None:
    rows = []
    for r in ROWS:
        name, rate = r["strategy"].split()
        # on the way there is a condition of another kind, which stays with the source
        before = "500 rows · " if r["source"] == "syn" else ""
        rows.append(r | {"strategy": name, "condition": f"{before}learning_rate={rate} warmup=0.2"})
    found, first = cells(grid(rows)), cells(grid(ROWS))
    assert set(found) == {
        (name, "syn · 500 rows" if source == "syn" else source, target) for name, source, target in first
    }
    for source, called in (("hellaswag", "hellaswag"), ("syn", "syn · 500 rows")):
        one, other = first["stilts", source, "rte"], found["stilts", called, "rte"]
        assert (one.values, one.best, one.mean) == (other.values, other.best, other.mean)


def test_one_trial_has_no_interval() -> None:
    rows = [row("direct", "", "rte", 1, 60.0), row("stilts", "mnli", "rte", 1, 62.0)]
    cell = cells(grid(rows))["stilts", "mnli", "rte"]
    assert (cell.mean.delta, cell.mean.low, cell.mean.p) == (2.0, None, None)
    assert (cell.best.delta, cell.best.low) == (2.0, None)


def test_differences_that_do_not_differ_have_no_interval() -> None:
    rows = [row(f"{name} {rate}", "" if name == "direct" else "mnli", "rte", 1, 60.0 + (name != "direct"))
            for name in ("direct", "stilts") for rate in RATES]  # fmt: skip
    cell = cells(grid(rows))["stilts", "mnli", "rte"]
    assert (cell.mean.delta, cell.mean.low, cell.mean.p_adjusted) == (1.0, None, None)
    assert (cell.best.delta, cell.best.low, cell.best.high) == (1.0, 1.0, 1.0)


def test_without_an_effect_few_cells_of_a_large_family_are_significant() -> None:
    found = grid(table(0.0, 4, targets=[f"task{i}" for i in range(40)]), correct="none")
    p = [cell.mean.p for cell in found.cells if cell.mean]
    assert len(p) == 80
    assert sum(one < 0.05 for one in p) <= 10  # 4 expected
    assert not any(cell.mean.p_adjusted < 0.05 for cell in grid(table(0.0, 4)).cells if cell.mean)


@settings(max_examples=8)
@given(order=st.randoms(use_true_random=False), names=st.permutations("abcd"))
def test_the_order_of_rows_and_the_names_of_tasks_move_no_number(order: random.Random, names) -> None:
    called = dict(zip(("hellaswag", "syn", "rte", "wic"), names, strict=True)) | {"": ""}
    moved = [r | {"source": called[r["source"]], "target": called[r["target"]]} for r in ROWS]
    found = cells(grid(order.sample(moved, len(moved))))
    for (name, source, target), cell in cells(grid(ROWS)).items():
        other = found[name, called[source], called[target]]
        assert (cell.values, cell.best, cell.mean) == (other.values, other.best, other.mean)


def test_the_command_prints_a_table_and_json(command, tmp_path) -> None:
    pd.DataFrame(ROWS).to_csv(tmp_path / "o.csv", index=False)
    shown = command("analyze", "grid", "--observations", tmp_path / "o.csv").out
    assert "grid stilts: stilts 1e-4, stilts 2e-4, stilts 5e-5" in shown
    words = [f"{name}=" + ",".join(f"{name} {rate}" for rate in RATES) for name in ("direct", "stilts")]
    options = [word for one in words for word in ("--grid", one)]
    data = json.loads(command("analyze", "grid", "--observations", tmp_path / "o.csv", *options, "--json").out)
    assert len(data["cells"]) == 6
    wrong = command("analyze", "grid", "--observations", tmp_path / "o.csv", "--grid", "stilts")
    assert (wrong.code, "names no strategies" in wrong.err) == (2, True)

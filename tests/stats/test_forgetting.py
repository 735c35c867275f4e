"""What checkpoints forgot against transfer: against scipy and a regression with collapse as a covariate."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportOptionalOperand=false, reportOperatorIssue=false, reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import json
import random

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tests.stats.tables import row

from layover.errors import ObservationsError
from layover.stats.forgetting import forgetting

SOURCES = ("mnli", "qqp", "sst2", "ccg", "qamr", "cosmosqa")
COLLAPSED = {"ccg", "qamr"}


def table(seed=0, through_collapse=True, sources=SOURCES):
    """Two sources forget much and their runs collapse; within the others forgetting goes with nothing, or with all."""
    rng = np.random.default_rng(seed)
    rows = [row("direct", "", t, s, 60 + s, metric="accuracy", primary=True) for t in ("rte", "cb") for s in (1, 2, 3)]
    rows.append(row("plain", "", "wiki", 0, 0.0, metric="mlm_loss_rise", role="forgetting", primary=False))
    for source in sources:
        bad = source in COLLAPSED
        for s in (1, 2, 3):
            rise = (2.0 if bad else 0.3) + 0.1 * rng.normal()
            for metric, value in (("mlm_loss_rise", rise), ("cka", 100 - 20 * rise + rng.normal())):
                rows.append(row("stilts", source, "wiki", s, value, metric=metric, role="forgetting", primary=False))
            for target in ("rte", "cb"):
                own = 62 + s + rng.normal() - (0 if through_collapse else 60 * (rise - 0.3))
                value, status = (50.0 + rng.normal(), "degenerate: x") if bad else (own, "ok")
                rows.append(row("stilts", source, target, s, value, status=status, metric="accuracy", primary=True))
    return rows


ROWS = table()


def arrays(rows, target, measure="mlm_loss_rise"):
    base = {r["seed"]: r["value"] for r in rows if (r["strategy"], r["target"]) == ("direct", target)}
    runs = [r for r in rows if (r["strategy"], r["target"]) == ("stilts", target)]
    forgot = {(r["source"], r["seed"]): r["value"] for r in rows if r["metric"] == measure}
    y = np.array([r["value"] - base[r["seed"]] for r in runs])
    x = np.array([forgot[r["source"], r["seed"]] for r in runs])
    return y, x, np.array([float(r["status"] != "ok") for r in runs])


def link(found, measure, target):
    return next(one for one in found.links if (one.measure, one.target) == (measure, target))


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_links_are_scipys_and_given_collapse_those_of_a_regression(method) -> None:
    found = forgetting(ROWS, method=method)
    assert [(one.measure, one.target) for one in found.links] == [
        (measure, target) for measure in ("mlm_loss_rise", "cka") for target in ("", "cb", "rte")
    ]
    for target in ("cb", "rte"):
        one = link(found, "mlm_loss_rise", target)
        y, x, z = arrays(ROWS, target)
        expected = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[method](y, x)
        assert (one.n, one.degenerate) == (18, 6)
        assert (one.r, one.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
        if method == "spearman":
            y, x, z = map(stats.rankdata, (y, x, z))
        fitted = sm.OLS(y, sm.add_constant(np.column_stack([x, z]))).fit()
        assert one.partial_p == pytest.approx(fitted.pvalues[1])
        assert np.sign(one.partial) == np.sign(fitted.params[1])
    own = [one for one in found.links if one.target]
    assert [one.p_adjusted for one in own] == pytest.approx(multipletests([one.p for one in own], method="holm")[1])


def test_forgetting_that_works_through_collapse_alone_is_told_from_forgetting_that_does_not() -> None:
    for through_collapse in (True, False):
        one = link(forgetting(table(2, through_collapse), method="pearson"), "mlm_loss_rise", "rte")
        assert one.r < -0.5
        assert one.p < 0.02
        assert one.p_clustered > one.p  # six sources, of which two collapse, are not eighteen points
        assert (one.partial_p < 0.05) is not through_collapse


def test_the_mean_over_targets_is_of_points_that_all_have() -> None:
    lost, none = ("qqp", "cb", 2), {"value": None, "status": "failed: x"}
    rows = [r | none if (r["source"], r["target"], r["seed"]) == lost else r for r in ROWS]
    found = forgetting(rows, method="pearson")
    assert [link(found, "mlm_loss_rise", t).n for t in ("", "cb", "rte")] == [17, 17, 18]
    y = np.mean([arrays(ROWS, t)[0] for t in ("rte", "cb")], axis=0)
    whole = link(forgetting(ROWS, method="pearson"), "mlm_loss_rise", "")
    assert whole.targets == 2
    assert whole.r == pytest.approx(stats.pearsonr(y, arrays(ROWS, "rte")[1]).statistic)


def test_without_a_collapse_there_is_nothing_to_hold() -> None:
    rows = [r | {"status": "ok"} for r in ROWS]
    assert {(one.degenerate, one.partial, one.partial_p) for one in forgetting(rows).links} == {(0, None, None)}


def test_measures_can_be_chosen_and_what_is_missing_is_said() -> None:
    assert {one.measure for one in forgetting(ROWS, ["cka"]).links} == {"cka"}
    with pytest.raises(ObservationsError, match="did you mean 'cka'"):
        forgetting(ROWS, ["ckaa"])
    with pytest.raises(ObservationsError, match="no checkpoint of 'stilts' has a measure of forgetting"):
        forgetting([r for r in ROWS if r.get("role") != "forgetting"])
    with pytest.raises(ObservationsError, match="has measures of forgetting and transfer against 'direct'"):
        forgetting([r for r in ROWS if r["strategy"] != "direct"])


@settings(max_examples=3)
@given(order=st.randoms(use_true_random=False), names=st.permutations("abcdefghijk"), many=st.booleans())
def test_the_order_of_rows_and_the_names_of_tasks_move_no_number(order: random.Random, names, many) -> None:
    rows = table(1, sources=(*SOURCES, "squad", "scitail")) if many else ROWS
    tasks = sorted({r["target"] for r in rows} | {r["source"] for r in rows if r["source"]})
    called = dict(zip(tasks, names, strict=False)) | {"": ""}
    moved = [r | {"source": called[r["source"]], "target": called[r["target"]]} for r in rows]
    first, other = forgetting(rows), forgetting(order.sample(moved, len(moved)))
    for one in first.links:
        same = link(other, one.measure, called[one.target])
        for field in ("n", "degenerate", "r", "p", "p_adjusted", "p_clustered", "low", "high", "partial", "partial_p",
                      "partial_p_clustered"):  # fmt: skip
            assert getattr(one, field) == pytest.approx(getattr(same, field), rel=1e-9)


def test_the_command_prints_a_table_and_json(command, tmp_path) -> None:
    pd.DataFrame(ROWS).fillna({"role": "target", "status": "ok"}).to_csv(tmp_path / "o.csv", index=False)
    shown = command("analyze", "forgetting", "--observations", tmp_path / "o.csv")
    assert "mean of 2 target tasks" in shown.out
    data = json.loads(command("analyze", "forgetting", "--observations", tmp_path / "o.csv", "--json").out)
    assert (data["sources"], len(data["links"])) == (6, 6)

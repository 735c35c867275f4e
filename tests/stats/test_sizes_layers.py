"""Curves over sizes and layers: known answers, intervals against scipy, the bar of Tamkin et al. by hand."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false
# pyright: reportAttributeAccessIssue=false, reportCallIssue=false
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
from tests.stats.tables import row

from layover.errors import ObservationsError
from layover.stats.layers import layers
from layover.stats.sizes import sizes
from layover.stats.spread import distribution_of, spread_of

WORTH = {1250: 0.0, 2500: 1.0, 0: 4.0}


def size_rows():
    """Two targets after mnli at three sizes; `cb` has another level and no third seed at the full size."""
    rng = np.random.default_rng(3)
    rows = [row("direct", "", t, s, {"rte": 55.0, "cb": 70.0}[t] + s) for t in ("rte", "cb") for s in (1, 2, 3)]
    for size, worth in WORTH.items():
        for target, level in (("rte", 60), ("cb", 75)):
            for s in (1, 2, 3):
                more = {"condition": f"{size} rows" if size else "", "source_size": size or 9000}
                value = level + worth + rng.normal()
                rows.append(row("stilts", "mnli", target, s, value, **more, status="ok"))
    return [r | ({"value": None, "status": "failed: x"} if _lost(r) else {"status": "ok"}) for r in rows]


def _lost(r):
    return (r["target"], r["seed"], r.get("condition")) == ("cb", 3, "") and r["source"] != ""


SIZES = size_rows()


def values(rows, **wanted):
    return [r["value"] for r in rows if all(r.get(k, "") == v for k, v in wanted.items()) and r["value"] is not None]


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_the_interval_is_scipys_and_the_bar_is_the_papers(found) -> None:
    spread = spread_of([*found, math.nan])
    low, high = stats.t.interval(0.95, len(found) - 1, np.mean(found), stats.sem(found)) if np.std(found) else (
        spread.mean, spread.mean)  # fmt: skip
    assert (spread.low, spread.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))
    assert spread.bar == pytest.approx(2.667 / math.sqrt(len(found)) * np.std(found))
    assert (spread.n, spread.sd) == (len(found), pytest.approx(np.std(found, ddof=1)))
    box = distribution_of(found)
    assert (box.low, box.median, box.high) == (min(found), pytest.approx(np.median(found)), max(found))
    assert (box.quarter, box.three_quarters) == tuple(pytest.approx(q) for q in np.percentile(found, [25, 75]))


def test_one_run_has_no_interval_and_none_has_nothing() -> None:
    assert spread_of([50.0]).__dict__ == {"mean": 50, "sd": None, "low": None, "high": None, "bar": None, "n": 1}
    assert (spread_of([]).mean, distribution_of([]).median) == (None, None)


def test_curves_over_intermediate_sizes_with_the_average_over_targets() -> None:
    average, cb, rte = sizes(SIZES).curves
    assert (average.targets, cb.targets, rte.targets) == (("cb", "rte"), ("cb",), ("rte",))
    assert [(p.asked, p.size) for p in rte.points] == [(1250, 1250), (2500, 2500), (0, 9000)]
    for point in rte.points:
        condition = f"{point.asked} rows" if point.asked else ""
        found = values(SIZES, target="rte", strategy="stilts", condition=condition)
        assert point.spread == spread_of(found)
    both = [(values(SIZES, target="rte", strategy="stilts", condition="", seed=s)
             + values(SIZES, target="cb", strategy="stilts", condition="", seed=s)) for s in (1, 2)]  # fmt: skip
    assert average.points[-1].spread.n == 2  # in seed 3 one target failed: its mean would be about another task
    assert average.points[-1].spread.mean == pytest.approx(np.mean(both))
    assert rte.baseline.mean == pytest.approx(57)
    assert average.baseline.mean == pytest.approx((57 + 72) / 2)


def test_curves_over_target_sizes_are_apart_by_source_and_strategy() -> None:
    rows = [
        row(strategy, source, "rte", s, 50 + n / 100 + s + bool(source), rows=n, size=n or 2490)
        for strategy, source in (("direct", ""), ("stilts", "mnli"))
        for n in (100, 500, 0)
        for s in (1, 2)
    ]
    found = sizes(rows).curves
    assert [(c.strategy, c.source, c.targets, c.axis) for c in found] == [
        ("direct", "", ("rte",), "target"), ("stilts", "mnli", ("rte",), "target"),
    ]  # fmt: skip
    assert [(p.asked, p.size, p.spread.mean) for p in found[1].points] == [
        (100, 100, 53.5), (500, 500, 57.5), (0, 2490, 52.5),
    ]  # fmt: skip
    assert [c.strategy for c in sizes(rows, strategy="stilts").curves] == ["direct", "stilts"]
    with pytest.raises(ObservationsError, match="did you mean 'stilts'"):
        sizes(rows, strategy="stilt")


def test_degenerate_runs_are_counted_and_can_be_left_out() -> None:
    rows = [r | {"status": "degenerate: x", "value": 50.0} if (r["target"], r["seed"]) == ("rte", 2) and r["source"]
            else r for r in SIZES]  # fmt: skip
    kept, left = (sizes(rows, without_degenerate=without).curves[-1].points for without in (False, True))
    assert [(p.degenerate, p.spread.n) for p in kept] == [(1, 3)] * 3
    assert [(p.degenerate, p.spread.n) for p in left] == [(0, 2)] * 3


def test_a_table_without_sizes_or_layers_says_what_they_look_like() -> None:
    rows = [row("direct", "", "rte", 1, 60), row("stilts", "mnli", "rte", 1, 61)]
    with pytest.raises(ObservationsError, match='"1250 rows"'):
        sizes(rows)
    with pytest.raises(ObservationsError, match='"keep 3"'):
        layers(rows)
    with pytest.raises(ObservationsError, match="did you mean 'stilts'"):
        layers(rows, probing=["stilt"])


def layer_rows():
    rng = np.random.default_rng(8)
    made = [("direct", "", 90.0)]
    made += [("progressive", f"keep {n}", 60 + 10 * n) for n in range(3)]
    made += [("probe", f"layer {n}", 55 + 5 * n) for n in range(4)] + [("probe", "mix", 70)]
    made += [("blocks", "block 0-1", 70), ("blocks", "block 1-2", 80), ("inverse", "all but 0-1", 65)]
    made += [("single", "layer 2", 85), ("single", "layer 0", 75), ("other", "odd layers", 77)]
    bad = {1: 5.0, 2: 20.0, 3: 12.0, 4: 1.0}
    made += [("permute", f"permutation {n}", 80 - worse) for n, worse in bad.items()]
    return [
        row(strategy, "", target, s, value * (1 if target == "sst2" else 0.5) + rng.normal(), condition=condition)
        for strategy, condition, value in made
        for target in ("sst2", "cola")
        for s in (1, 2, 3)
    ]


LAYERS = layer_rows()


def test_every_kind_of_curve_is_told_from_its_conditions() -> None:
    found = {(c.strategy, c.kind, c.target): c for c in layers(LAYERS).curves}
    assert {key[:2] for key in found} == {
        ("progressive", "progressive"), ("probe", "probing"), ("blocks", "block"), ("inverse", "inverse"),
        ("single", "single"), ("other", "alternate"), ("permute", "permutation"),
    }  # fmt: skip
    blocks = found["blocks", "block", "sst2"]
    assert [(p.position, p.condition) for p in blocks.points] == [(0, "block 0-1"), (1, "block 1-2")]
    assert [p.position for p in found["single", "single", "sst2"].points] == [0, 2]
    for point in found["progressive", "progressive", "cola"].points:
        expected = values(LAYERS, strategy="progressive", target="cola", condition=f"keep {point.position}")
        assert point.spread == spread_of(expected)
        assert point.values == tuple(expected)
    assert blocks.baseline == spread_of(values(LAYERS, strategy="direct", target="sst2"))


def test_the_probing_curve_lies_over_the_progressive_one() -> None:
    found = layers(LAYERS)
    progressive = next(c for c in found.curves if (c.kind, c.target) == ("progressive", "sst2"))
    probing = found.probing(progressive)
    assert (probing.kind, probing.target, [p.position for p in probing.points]) == ("probing", "sst2", [0, 1, 2, 3])
    assert found.probing(probing) is None
    renamed = [r | {"strategy": "heads"} if r["strategy"] == "probe" else r for r in LAYERS]
    kinds = {c.strategy: c.kind for c in layers(renamed, probing=["heads"]).curves}
    assert (kinds["heads"], kinds["single"]) == ("probing", "single")
    truncated = [row("truncate", "", "sst2", 1, 60.0, condition="keep 2")]
    assert {c.kind for c in layers(LAYERS + truncated).curves if c.strategy == "truncate"} == {"probing"}


def test_a_progressive_curve_at_few_rows_is_laid_over_by_probing_with_all() -> None:
    few = [r | {"rows": 500} for r in LAYERS if r["strategy"] in ("progressive", "direct")]
    found = layers(few + [r for r in LAYERS if r["strategy"] == "probe"])
    curve = next(c for c in found.curves if c.target == "cola @ 500")
    assert found.probing(curve).target == "cola"


def test_permutations_beside_the_whole_and_the_reset_encoder() -> None:
    cola, sst2 = layers(LAYERS).orders
    assert (cola.target, len(cola.permuted.values)) == ("cola", 12)
    assert sst2.full.values == tuple(sorted(values(LAYERS, strategy="direct", target="sst2")))
    assert sst2.reset.values == tuple(sorted(values(LAYERS, condition="keep 0", target="sst2")))


def test_tasks_are_alike_over_the_means_of_the_same_permutations() -> None:
    [alike] = layers(LAYERS).alike
    means = [
        [np.mean(values(LAYERS, target=t, condition=f"permutation {n}")) for n in (1, 2, 3, 4)]
        for t in ("cola", "sst2")
    ]
    assert (alike.targets, alike.n) == (("cola", "sst2"), 4)
    assert alike.pearson == pytest.approx(stats.pearsonr(*means).statistic)
    assert alike.pearson_p == pytest.approx(stats.pearsonr(*means).pvalue)
    assert alike.spearman == pytest.approx(stats.spearmanr(*means).statistic)


@settings(max_examples=10)
@given(order=st.randoms(use_true_random=False), which=st.sampled_from([(SIZES, sizes), (LAYERS, layers)]))
def test_the_order_of_rows_and_the_names_of_tasks_move_no_number(order: random.Random, which) -> None:
    rows, analysis = which
    names = {"rte": "z1", "cb": "a1", "mnli": "k9", "sst2": "b4", "cola": "y2", "": ""}
    moved = [r | {"source": names[r["source"]], "target": names[r["target"]]} for r in rows]
    moved = order.sample(moved, len(moved))

    def told(found, called):
        return {
            (c.strategy, c.source and called[c.source], *sorted(called[t] for t in getattr(c, "targets", None)
             or [c.target]), getattr(c, "kind", "")): [(p.spread, p.degenerate) for p in c.points]
            for c in found.curves
        }  # fmt: skip

    assert told(analysis(moved), {name: name for name in names.values()}) == told(analysis(rows), names)


def test_the_commands_print_tables_and_json(command, tmp_path) -> None:
    for name, rows in (("sizes", SIZES), ("layers", LAYERS)):
        pd.DataFrame(rows).to_csv(tmp_path / f"{name}.csv", index=False)
    shown = command("analyze", "sizes", "--observations", tmp_path / "sizes.csv").out
    assert "stilts · mnli: mean of 2 target tasks; direct: 64.5" in shown
    data = json.loads(command("analyze", "sizes", "--observations", tmp_path / "sizes.csv", "--json").out)
    assert data["curves"][0]["points"][2]["n"] == 2
    shown = command("analyze", "layers", "--observations", tmp_path / "layers.csv").out
    assert "progressive: sst2, progressive; direct:" in shown
    assert "permutations" in shown
    data = json.loads(command("analyze", "layers", "--observations", tmp_path / "layers.csv", "--json").out)
    progressive = next(c for c in data["curves"] if c["kind"] == "progressive")
    assert [p["position"] for p in progressive["probing"]] == [0, 1, 2, 3]
    assert len(data["permutations"]) == 2
    assert data["tasks"][0]["n"] == 4

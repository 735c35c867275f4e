# pyright: reportArgumentType=false, reportOperatorIssue=false, reportOptionalOperand=false
# pyright: reportOptionalMemberAccess=false
from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.predicted import SUITING
from tests.stats.tables import row, study

from layover.errors import ObservationsError
from layover.metrics import METRICS
from layover.predictions import read, write
from layover.stats.contrast import contrast
from layover.stats.judge import adjust
from layover.stats.transfer import transfer

EFFECTS = {("mnli", "rte"): 12.0, ("mnli", "cb"): 0.0, ("cosmosqa", "rte"): 0.0, ("cosmosqa", "cb"): -15.0}


def test_true_effects_are_found_and_null_effects_are_not():
    rows, predictions = study(EFFECTS, examples=800)
    cells = transfer(rows, predictions.get).matrix().cells
    assert cells["mnli", "rte"].verdict == "helps"
    assert cells["cosmosqa", "cb"].verdict == "hurts"
    assert {cells[key].verdict for key in [("mnli", "cb"), ("cosmosqa", "rte")]} == {"within noise"}
    assert all(cells[key].low < effect < cells[key].high for key, effect in EFFECTS.items())


def test_null_intervals_cover_zero_at_their_rate():
    rows, predictions = study({("mnli", f"task{i}"): 0.0 for i in range(60)}, examples=200, noise=0.03, seed=5)
    cells = transfer(rows, predictions.get).matrix().cells.values()
    assert 50 <= sum(cell.low <= 0 <= cell.high for cell in cells) <= 60  # 57 expected
    seeds_only = transfer(rows).matrix().cells.values()
    assert 50 <= sum(cell.low <= 0 <= cell.high for cell in seeds_only) <= 60


def test_the_delta_is_the_mean_over_common_seeds():
    rows = [row("direct", "", "rte", s, v) for s, v in [(1, 60), (2, 62), (3, 10)]]
    rows += [row("stilts", "mnli", "rte", s, v) for s, v in [(1, 65), (2, 64), (4, 90)]]
    matrix = transfer(rows).matrix()
    cell = matrix.cells["mnli", "rte"]
    assert (cell.delta, cell.n) == (3.5, 2)
    assert cell.values == {1: 65.0, 2: 64.0, 3: None, 4: 90.0}
    assert cell.baseline_values == {1: 60.0, 2: 62.0, 3: 10.0, 4: None}
    assert matrix.baseline == {"rte": pytest.approx(44.0)}


ROWS, PREDICTIONS = study(EFFECTS, examples=40)


@settings(max_examples=4)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_changes_nothing(seed):
    shuffled = random.Random(seed).sample(ROWS, len(ROWS))
    assert transfer(shuffled, PREDICTIONS.get) == transfer(ROWS, PREDICTIONS.get)


def test_other_cells_do_not_change_the_interval_of_a_cell():
    alone = transfer([r for r in ROWS if r["source"] in ("", "mnli")], PREDICTIONS.get).matrix().cells["mnli", "rte"]
    among = transfer(ROWS, PREDICTIONS.get).matrix().cells["mnli", "rte"]
    assert (alone.low, alone.high, alone.p) == (among.low, among.high, among.p)


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, None, 0.04, 0.03]
    assert adjust(p, "holm") == [pytest.approx(0.03), None, pytest.approx(0.06), pytest.approx(0.06)]
    assert adjust(p, "bh") == [pytest.approx(0.03), None, pytest.approx(0.04), pytest.approx(0.04)]
    assert adjust(p, "none") == p


def test_each_role_is_a_family_of_its_own():
    rows, predictions = study({("mnli", "rte"): 5.0, ("mnli", "cola"): 5.0, ("mnli", "cb"): 5.0}, examples=300)
    rows = [r | {"role": "probing" if r["target"] == "cola" else "target"} for r in rows]
    cells = transfer(rows, predictions.get).matrix().cells
    assert cells["mnli", "cola"].p_adjusted == cells["mnli", "cola"].p
    smaller = min(cells["mnli", "rte"].p, cells["mnli", "cb"].p)
    assert min(cells["mnli", t].p_adjusted for t in ("rte", "cb")) == pytest.approx(min(1, 2 * smaller))


def test_an_effect_beyond_doubt_survives_the_correction_of_a_large_family():
    effects = {(f"source{i}", "rte"): 0.0 for i in range(79)} | {("mnli", "rte"): 22.0}
    rows, predictions = study(effects, examples=500)
    cell = transfer(rows, predictions.get).matrix().cells["mnli", "rte"]
    assert cell.p_adjusted < 0.05  # 2,000 resamples alone could not give less than 0.08


def test_seeds_only_where_one_run_has_no_predictions():
    kept = {key: run for key, run in PREDICTIONS.items() if key != "stilts-mnli-rte-1"}
    cells = transfer(ROWS, kept.get).matrix().cells
    assert cells["mnli", "rte"].basis == "seeds"
    assert cells["mnli", "cb"].basis == "seeds and examples"


def test_one_seed_gives_an_interval_over_examples_or_none():
    rows, predictions = study(EFFECTS, seeds=1)
    with_examples = transfer(rows, predictions.get).matrix().cells["mnli", "rte"]
    assert (with_examples.basis, with_examples.n) == ("examples", 1)
    assert with_examples.low < with_examples.delta < with_examples.high
    without = transfer(rows).matrix().cells["mnli", "rte"]
    assert (without.basis, without.low, without.p, without.verdict) == ("none", None, None, "untested")


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_a_metric_of_real_numbers(metric):
    rows, predictions = study({("mnli", "stsb"): 8.0, ("squad", "stsb"): 0.0}, metric=metric, kind="value")
    cells = transfer(rows, predictions.get).matrix().cells
    assert cells["mnli", "stsb"].verdict == "helps"
    assert cells["squad", "stsb"].verdict == "within noise"
    assert cells["squad", "stsb"].basis == "seeds and examples"


def degenerate_rows(count):
    rows = [row("direct", "", "rte", s, 60 + s, status="ok") for s in range(4)]
    for s in range(4):
        status = "degenerate: constant prediction" if s < count else "ok"
        rows.append(row("stilts", "mnli", "rte", s, 50.0 if s < count else 66 + s, status=status))
    return rows


@pytest.mark.parametrize("count, collapsed", [(0, False), (2, False), (3, True)])
def test_a_cell_whose_runs_mostly_collapse_is_called_a_collapse(count, collapsed):
    cell = transfer(degenerate_rows(count)).matrix().cells["mnli", "rte"]
    assert (cell.degenerate, cell.verdict == "collapse") == (count, collapsed)


def test_degenerate_runs_can_be_left_out():
    kept = transfer(degenerate_rows(2)).matrix().cells["mnli", "rte"]
    left = transfer(degenerate_rows(2), without_degenerate=True).matrix().cells["mnli", "rte"]
    assert (kept.n, kept.delta) == (4, pytest.approx(-2.25))
    assert (left.n, left.delta, left.degenerate) == (2, pytest.approx(6.0), 0)


def test_missing_and_failed_runs_make_a_missing_cell():
    rows = [
        row("direct", "", "rte", 1, 60, status="ok"),
        row("stilts", "mnli", "rte", 1, float("nan"), status="failed: no disk"),
    ]
    cell = transfer(rows).matrix().cells["mnli", "rte"]
    assert (cell.verdict, cell.delta, cell.n) == ("missing", None, 0)
    assert cell.pairs[0].run.status == "failed: no disk"


def test_averages_are_means_of_cells_and_see_that_seeds_are_shared():
    rows = [row("direct", "", t, s, 60.0) for t in ("rte", "cb") for s in range(3)]
    swing = {0: -4.0, 1: 0.0, 2: 4.0}
    rows += [row("same", "mnli", t, s, 60 + swing[s]) for t in ("rte", "cb") for s in range(3)]
    rows += [
        row("opposed", "mnli", t, s, 60 + swing[s] * sign) for t, sign in (("rte", 1), ("cb", -1)) for s in range(3)
    ]
    found = transfer(rows)
    same, opposed = (found.matrix(strategy=name).averages["target", "mnli"] for name in ("same", "opposed"))
    assert same.delta == opposed.delta == 0
    assert same.high - same.low > 5
    assert opposed.high - opposed.low == pytest.approx(0, abs=1e-6)
    assert (same.targets, same.verdict) == (2, "within noise")


def test_seeds_that_tasks_do_not_share_vary_apart():
    swing = (-4.0, 0.0, 4.0)
    rows = []
    for target, sign, seeds in (("rte", 1, (0, 1, 2)), ("cb", -1, (3, 4, 5))):
        rows += [row("direct", "", target, seed, 60.0) for seed in seeds]
        rows += [row("stilts", "mnli", target, seed, 60 + sign * up) for seed, up in zip(seeds, swing, strict=True)]
    average = transfer(rows).matrix().averages["target", "mnli"]
    assert average.delta == 0
    assert average.high - average.low > 5  # drawn jointly, as if seed 3 were seed 0, the swings would cancel


def test_only_the_full_size_and_no_source_scores_enter():
    rows = []
    for strategy, source, value in (("direct", "", 60), ("stilts", "mnli", 64)):
        for seed in (1, 2):
            rows.append(row(strategy, source, "rte", seed, value - 30, size=100))
            rows.append(row(strategy, source, "rte", seed, value + seed, size=2490))
    rows.append(row("stilts", "mnli", "mnli", 1, 80, role="source", size=1))
    matrix = transfer(rows).matrix()
    assert list(matrix.cells) == [("mnli", "rte")]
    assert matrix.baseline["rte"] == pytest.approx(61.5)
    assert matrix.cells["mnli", "rte"].delta == pytest.approx(4.0)


def test_json_is_plain_and_keeps_unknown_numbers_null():
    rows = [
        *ROWS,
        row("stilts", "squad", "rte", 0, None, metric="accuracy", key="", encoder="minilm", status="missing"),
    ]
    data = json.loads(json.dumps(transfer(rows).to_json(), allow_nan=False))
    assert data["delta"]["rte"]["squad"]["mean"] is None
    assert data["delta"]["rte"]["mnli"]["n"] == 3
    mean = np.mean([data["delta"][t]["mnli"]["mean"] for t in ("rte", "cb")])
    assert data["average"]["target"]["mnli"] == pytest.approx(mean)
    assert set(data["baseline"]) == {"rte", "cb"}


def test_choosing_a_matrix_says_what_there_is():
    two = [*ROWS, *(r | {"encoder": "roberta"} for r in ROWS)]
    found = transfer(two)
    assert found.matrix(encoder="roberta").encoder == "roberta"
    with pytest.raises(ObservationsError, match=r"(?s)encoder: there are several.*minilm, roberta"):
        found.matrix()
    with pytest.raises(ObservationsError, match="did you mean 'roberta'"):
        found.matrix(encoder="robertas")


def test_another_metric_and_an_unknown_one():
    rows = [r | {"primary": True} for r in ROWS]
    rows += [r | {"primary": False, "metric": "f1", "value": r["value"] / 2} for r in ROWS]
    primary, f1 = (transfer(rows, metric=name).matrix().cells["mnli", "rte"].delta for name in (None, "f1"))
    assert f1 == pytest.approx(primary / 2)
    with pytest.raises(ObservationsError, match="did you mean 'accuracy'"):
        transfer(rows, metric="acuracy")


def test_a_contrast_with_direct_has_the_numbers_of_the_matrix():
    cells = transfer(ROWS, PREDICTIONS.get, correct="none").matrix().cells
    rows = contrast(ROWS, ["stilts"], "direct", PREDICTIONS.get, correct="none").rows
    assert {(r.source, r.target): r for r in rows} == cells


def test_the_rows_of_a_contrast_are_corrected_as_one_family():
    plain, holm = (
        [r.p_adjusted for r in contrast(ROWS, ["stilts"], "direct", PREDICTIONS.get, correct=how).rows]
        for how in ("none", "holm")
    )
    assert holm == pytest.approx(adjust(plain, "holm"))
    assert holm != plain


def test_a_contrast_pairs_the_same_source_where_both_have_sources():
    rows = [row("direct", "", "rte", s, 50) for s in (1, 2)]
    rows += [row("stilts", src, "rte", s, v + s) for src, v in (("mnli", 60), ("squad", 40)) for s in (1, 2)]
    rows += [row("joint", "mnli", "rte", s, 63 + s) for s in (1, 2)]
    rows += [row("reinit", "", "rte", s, 55 + s) for s in (1, 2)]
    found = contrast(rows, ["joint", "reinit"], "stilts").rows
    assert {(r.strategy, r.source): r.delta for r in found} == {
        ("joint", "mnli"): 3.0, ("reinit", "mnli"): -5.0, ("reinit", "squad"): 15.0,
    }  # fmt: skip
    with pytest.raises(ObservationsError, match="did you mean 'stilts'"):
        contrast(rows, ["joint"], "stilt")


SCORES = [(name, kind) for name, kind in SUITING if not METRICS[name].lower_is_better]


def test_a_loss_is_not_compared_as_if_more_were_better():
    rows, predictions = study({("mnli", "rte"): 20.0}, metric="masked_accuracy", kind="tokens")
    rows += [{**row, "metric": "masked_loss", "value": 3.0, "primary": False} for row in rows]
    rows = [{"primary": True, **row} for row in rows]
    assert transfer(rows, predictions.get).matrix().cells["mnli", "rte"].verdict == "helps"
    with pytest.raises(ObservationsError, match="'masked_loss' is a loss"):
        transfer(rows, predictions.get, metric="masked_loss")


@pytest.mark.parametrize(("metric", "kind"), SCORES)
def test_every_metric_that_a_study_may_use_takes_part_in_pairing_by_example(metric, kind):
    rows, predictions = study({("mnli", "rte"): 20.0}, metric=metric, kind=kind, examples=600, each=3)
    cell = transfer(rows, predictions.get).matrix().cells["mnli", "rte"]
    assert (cell.basis, cell.verdict) == ("seeds and examples", "helps")
    assert cell.low <= cell.delta <= cell.high


@pytest.mark.parametrize(
    ("metric", "kind"),
    [("mcc", "classes"), ("accuracy", "choice"), ("f1a_em", "answers"), ("micro_f1", "labels"), ("pearson", "value"),
     ("token_f1_em", "text")],
)  # fmt: skip
def test_predictions_of_every_kind_are_paired_from_their_files(metric, kind, tmp_path):
    effects = {("mnli", "rte"): 20.0, ("squad", "rte"): 0.0}
    rows, predictions = study(effects, metric=metric, kind=kind, examples=600, each=3)
    for key, run in predictions.items():
        write(tmp_path / f"{key}.parquet", run, [np.zeros(1)] * len(run), {})
    cells = transfer(rows, lambda key: read(tmp_path / f"{key}.parquet")).matrix().cells
    assert cells == transfer(rows, predictions.get).matrix().cells
    assert [cells[source, "rte"].basis for source in ("mnli", "squad")] == ["seeds and examples"] * 2
    assert [cells[source, "rte"].verdict for source in ("mnli", "squad")] == ["helps", "within noise"]


@pytest.mark.parametrize(("metric", "kind"), [("f1a", "answers"), ("exact_labels", "labels"), ("token_f1", "text")])
def test_what_is_asked_about_one_row_is_one_observation(metric, kind):
    """Ten predictions about a row that stand or fall together tell no more than one."""
    rows, predictions = study({("mnli", "rte"): 0.0}, seeds=1, metric=metric, kind=kind, examples=80)
    each = np.repeat(np.arange(80), 10)
    copied = {
        key: replace(run, rows=each, gold=run.gold[each], predicted=run.predicted[each])
        for key, run in predictions.items()
    }
    apart = {key: replace(run, rows=np.arange(800)) for key, run in copied.items()}
    once, together, ten_times = (
        transfer(rows, found.get).matrix().cells["mnli", "rte"] for found in (predictions, copied, apart)
    )
    assert (together.low, together.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert ten_times.high - ten_times.low < 0.5 * (once.high - once.low)

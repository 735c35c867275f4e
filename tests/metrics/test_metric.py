"""What holds for every metric: both forms agree, every kind has one, and names are looked up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.predicted import KINDS, SUITING, predictions

from layover.errors import TaskError
from layover.metrics import METRICS, fitting, get_metric
from layover.tasks import formats, spans, text

SUMMED = [(name, kind) for name, kind in SUITING if METRICS[name].summands]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")


@pytest.mark.parametrize(("name", "kind"), SUMMED)
@settings(max_examples=40)
@given(data=st.data())
def test_score_is_a_function_of_the_sums(name, kind, data) -> None:
    run, metric = data.draw(predictions(kind)), METRICS[name]
    assert metric.summands is not None
    assert metric.from_sums is not None
    summands = metric.summands(run)
    assert len(summands) == len(run)
    assert float(metric.from_sums(summands.sum(0))) == pytest.approx(metric.score(run), abs=1e-9)


@pytest.mark.parametrize(("name", "kind"), SUMMED)
@settings(max_examples=10)
@given(data=st.data())
def test_many_sums_at_once_give_what_each_gives_alone(name, kind, data) -> None:
    metric = METRICS[name]
    assert metric.summands is not None
    assert metric.from_sums is not None
    summands = metric.summands(data.draw(predictions(kind)))
    sums = np.array([summands[: end + 1].sum(0) for end in range(len(summands))], float)
    one_by_one = [float(metric.from_sums(each)) for each in sums]
    assert metric.from_sums(sums).tolist() == pytest.approx(one_by_one)
    assert metric.from_sums(sums[None]).shape == (1, len(sums))


@pytest.mark.parametrize(("name", "kind"), SUITING)
@settings(max_examples=20)
@given(data=st.data())
def test_scores_are_points(name, kind, data) -> None:
    run = data.draw(predictions(kind))
    lowest = -100 if name in ("mcc", "spearman", "pearson") else 0
    assert lowest - 1e-9 <= METRICS[name].score(run) <= 100 + 1e-9


def test_every_metric_but_correlations_has_a_fast_form_and_every_kind_a_metric() -> None:
    for metric in METRICS.values():
        assert (metric.summands is None) == (metric.from_sums is None) == (metric.kinds == ("value",)), metric.name
    assert all(fitting(kind) for kind in KINDS)


def test_metrics_that_suit_what_a_task_is_scored_by() -> None:
    assert fitting("choice") == ["accuracy"]
    assert set(fitting("value")) == {"spearman", "pearson"}
    assert fitting("classes", 2) == fitting("classes") == ["accuracy", "f1", "macro_f1", "accuracy_f1", "mcc"]
    assert fitting("classes", 3) == ["accuracy", "macro_f1", "mcc"]
    assert set(fitting("answers", 2)) == {"accuracy", "macro_f1", "mcc", "f1a", "group_em", "f1a_em"}
    assert set(fitting("answers", 3)) == {"accuracy", "macro_f1", "mcc", "group_em"}
    assert set(fitting("labels", 19)) == {"micro_f1", "last_label_f1", "exact_labels"}
    texts = {"token_f1", "exact_match", "token_f1_em", "token_f1_any", "exact_match_any"}
    assert set(fitting("text")) == texts


def test_an_unknown_metric_is_named_with_the_choices() -> None:
    with pytest.raises(TaskError, match="no metric called 'accuracyy'") as caught:
        get_metric("accuracyy", "task.mine")
    assert "did you mean 'accuracy'?" in str(caught.value)
    assert str(caught.value).startswith("task.mine: ")
    assert get_metric("mcc") is METRICS["mcc"]


def test_the_reference_says_which_formats_every_metric_suits() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \| .*? \| (.*) \|$", page.split("| metric | is |")[1].split("##")[0], re.M)
    listed = {name: set(re.findall(r"`(\w+)`", of)) for names, of in rows for name in re.findall(r"`(\w+)`", names)}
    every = {**vars(formats), **vars(spans), **vars(text)}
    kinds = {name: found.scored for name, found in every.items() if hasattr(found, "scored")}
    plain = {"Single", "Pair"}  # which predict classes or numbers
    scored = {name: {"classes", "value"} if name in plain else {kind} for name, kind in kinds.items()}
    assert listed == {
        metric.name: {name for name, of in scored.items() if of & set(metric.kinds)} for metric in METRICS.values()
    }

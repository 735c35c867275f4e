"""What every estimator promises: one number for each source, that depends on what it says and on nothing else."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.select.made import evidence

from layover.select.estimator import ESTIMATORS, FIELDS, REFERENCES, Estimator, Evidence

NAMES = [estimator.name for estimator in ESTIMATORS if estimator.needs in FIELDS]
BOTH = ["classes", "values"]
PAGE = (Path(__file__).parents[2] / "docs" / "select.md").read_text(encoding="utf-8")


@pytest.fixture(params=NAMES)
def estimator(request: pytest.FixtureRequest) -> Estimator:
    return ESTIMATORS.get(request.param)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def only(estimator: Estimator, whole: Evidence) -> Evidence:
    """The parts that an estimator says it needs, and nothing else."""
    kept = {name: getattr(whole, name) for name in FIELDS[estimator.needs]}
    return Evidence(whole.labels if estimator.labels else None, whole.kind, **kept)


def rows(whole: Evidence, chosen: Any) -> Evidence:
    """The same of some rows, in the order given."""
    assert whole.labels is not None
    assert whole.plain is not None
    return replace(
        whole,
        labels=whole.labels[chosen],
        features=[one[:, chosen] for one in whole.features if one is not None],
        plain=whole.plain[:, chosen],
        outputs=[one[chosen] for one in whole.outputs if one is not None],
    )


def same(one: Any, other: Any) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)


def test_the_estimators_of_the_issue_are_there() -> None:
    expected = {"logme", "hscore", "knn", "parc", "gbc", "transrate", "nce", "leep", "textemb", "taskemb", "esm_logme"}
    assert expected <= set(ESTIMATORS.names())


def test_every_estimator_names_a_paper(estimator: Estimator) -> None:
    assert "20" in REFERENCES[estimator.name]


def test_the_page_says_of_every_estimator_what_it_needs_and_reads(estimator: Estimator) -> None:
    rows = {m[1]: m[0].split(" | ") for m in re.finditer(r"^\| `(\w+)` \|.*$", PAGE, re.M)}
    values = "yes" if np.isfinite(estimator.score(evidence(kind="values"))).all() else "no"
    expected = [estimator.needs, "yes" if estimator.labels else "no", values]
    assert rows[estimator.name][1:4] == expected


def test_what_the_page_shows_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code, *_ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)
    exec(code, {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == ["logme", "hscore", "knn", "there"]


@pytest.mark.parametrize("kind", BOTH)
def test_what_it_needs_is_enough_and_what_it_lacks_makes_it_silent(estimator: Estimator, kind: Any) -> None:
    whole = evidence(kind=kind)
    scores = estimator.score(whole)
    assert scores.shape == (3,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all() or (kind == "values" and np.isnan(scores).all())
    assert whole.lacks(estimator) == ""
    same(estimator.score(only(estimator, whole)), scores)
    for field in FIELDS[estimator.needs]:
        left = replace(whole, **{field: () if field in ("features", "outputs") else None})
        assert field in left.lacks(estimator)
        assert np.isnan(estimator.score(left)).all()


def test_the_best_source_is_first(estimator: Estimator) -> None:
    for seed in range(3):
        assert list(np.argsort(-estimator.score(evidence(n=150, seed=seed)))) == [1, 2, 0]


@pytest.mark.parametrize("name", ["logme", "knn", "esm_logme"])
def test_the_best_source_for_values_is_first(name: str) -> None:
    assert list(np.argsort(-ESTIMATORS.get(name).score(evidence(n=150, kind="values")))) == [1, 2, 0]


@pytest.mark.parametrize("kind", BOTH)
def test_the_order_of_rows_and_sources_does_not_count(estimator: Estimator, kind: Any) -> None:
    whole = evidence(kind=kind)
    before = estimator.score(whole)
    same(estimator.score(rows(whole, np.random.default_rng(1).permutation(60))), before)
    turned = {name: part[::-1] for name, part in whole.by_source().items()}
    same(estimator.score(replace(whole, **turned)), before[::-1])


def test_names_of_classes_do_not_count(estimator: Estimator) -> None:
    whole = evidence()
    assert whole.labels is not None
    renamed = np.array([7, 0, 40])[whole.labels]
    same(estimator.score(replace(whole, labels=renamed)), estimator.score(whole))


def test_a_source_is_rated_whatever_the_others_are(estimator: Estimator) -> None:
    whole = evidence()
    alone = {name: part[1:2] for name, part in whole.by_source().items()}
    same(estimator.score(replace(whole, **alone)), estimator.score(whole)[1:2])


def test_a_source_of_which_nothing_is_known_is_nan_and_the_others_stay(estimator: Estimator) -> None:
    whole = evidence()
    field, *_ = FIELDS[estimator.needs]
    part = list(getattr(whole, field))
    part[1] = np.full_like(part[1], np.nan) if field.startswith("source") else None
    there = np.array(part) if field.startswith("source") else part
    scores, before = estimator.score(replace(whole, **{field: there})), estimator.score(whole)
    assert np.isnan(scores[1])
    same(scores[[0, 2]], before[[0, 2]])


def test_without_labels_only_those_run_that_read_none(estimator: Estimator) -> None:
    whole = replace(evidence(), labels=None)
    assert (whole.lacks(estimator) == "the target has no labels") == estimator.labels
    assert np.isnan(estimator.score(whole)).all() == estimator.labels


@pytest.mark.parametrize("kind", BOTH)
def test_a_target_with_one_class_or_value_says_nothing(estimator: Estimator, kind: Any) -> None:
    whole = evidence(kind=kind)
    assert whole.labels is not None
    flat = replace(whole, labels=np.full_like(whole.labels, 2))
    assert bool(flat.lacks(estimator)) == estimator.labels
    assert np.isnan(estimator.score(flat)).all() == estimator.labels


ODD: dict[str, Callable[[Evidence], Evidence]] = {
    "three rows": lambda e: rows(e, [int(np.flatnonzero(e.labels == c)[0]) for c in np.unique(np.array(e.labels))][:3]),
    "two rows": lambda e: rows(e, [0, int(np.flatnonzero(e.labels != e.labels[0])[0])]),  # type: ignore[index]
    "rows twice": lambda e: rows(e, np.repeat(np.arange(60), 2)),
    "two rows many times": lambda e: rows(e, [0, int(np.flatnonzero(e.labels != e.labels[0])[0])] * 20),  # type: ignore[index]
    "rows that are all one": lambda e: replace(
        rows(e, np.zeros(60, int)), labels=e.labels
    ),
    "a class with one row": lambda e: replace(e, labels=np.where(np.arange(60) == 3, 9, e.labels)),  # type: ignore[arg-type]
    "every row a class of its own": lambda e: replace(e, labels=np.arange(60)),
    "a constant feature": lambda e: replace(
        e, features=[np.insert(one, 0, 0.1, axis=-1) for one in e.features if one is not None]
    ),
    "features of 0": lambda e: replace(
        e,
        features=[np.zeros_like(one) for one in e.features if one is not None],
        plain=np.zeros_like(np.array(e.plain)),
    ),
    "maps to nothing": lambda e: replace(e, maps=[np.zeros_like(one) for one in e.maps or () if one is not None]),
    "one feature": lambda e: replace(e, features=[one[..., :1] for one in e.features if one is not None]),
    "one source class": lambda e: replace(e, outputs=[np.ones((60, 1))] * 3),
    "certain heads": lambda e: replace(e, outputs=[np.eye(4)[np.arange(60) % 3]] * 3),
    "large numbers": lambda e: replace(e, features=[one * 1e15 for one in e.features if one is not None]),
    "small numbers": lambda e: replace(e, features=[one * 1e-15 for one in e.features if one is not None]),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_evidence_gives_finite_numbers_or_nan(estimator: Estimator, odd: str) -> None:
    scores = estimator.score(ODD[odd](evidence()))
    assert scores.shape == (3,)
    assert not np.isinf(scores).any()
    pairless = {"three rows", "two rows", "every row a class of its own"}  # no two rows are of one class
    assert np.isnan(scores).any() == (estimator.name in ("gbc", "parc") and odd in pairless)


@pytest.mark.parametrize("n", [5, 60])
def test_more_features_than_rows_are_no_trouble(estimator: Estimator, n: int) -> None:
    assert np.isfinite(estimator.score(evidence(n=n, d=70, classes=2))).all()

"""What is wrong with evidence: shapes that do not fit, numbers that are not finite, labels that are none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, did_you_mean

if TYPE_CHECKING:
    from layover.select.estimator import Evidence

SUM = 1e-3  # how far from 1 the probabilities of a row may sum: half precision
OUT = "leave this source out, or give None for it: its training may have collapsed"


def problems(evidence: Evidence) -> list[Problem]:
    """All that is wrong."""
    if evidence.kind not in ("classes", "values"):
        choices = did_you_mean(evidence.kind, ["classes", "values"])
        return [Problem("kind", f"labels are no {evidence.kind!r}", choices)]
    found = list(_ranks(evidence))  # with another number of axes, nothing else can be looked at
    return found or [*_counts(evidence), *_labels(evidence), *_widths(evidence), *_numbers(evidence)]


def _parts(evidence: Evidence) -> Iterator[tuple[str, NDArray[Any], int, str]]:
    """Every array that is there, but the labels: its place, itself, its number of axes and their names."""
    for name, axes in (("features", "layers, n, d"), ("maps", "d + 1, d"), ("outputs", "n, classes")):
        part = getattr(evidence, name)
        for number, one in enumerate(() if part is None else part):
            if one is not None:
                yield f"{name}[{number}]", one, axes.count(",") + 1, axes
    for name, axes in (
        ("plain", "layers, n, d"), ("source_texts", "sources, d"), ("target_text", "d"),
        ("source_tasks", "sources, p"), ("target_task", "p"),
    ):  # fmt: skip
        one = getattr(evidence, name)
        if one is not None:
            yield name, one, axes.count(",") + 1, axes


def _ranks(evidence: Evidence) -> Iterator[Problem]:
    for place, one, axes, names in _parts(evidence):
        if one.ndim != axes or 0 in one.shape:
            yield Problem(place, f"has the shape {one.shape}", f"it is [{names}], and no axis is empty")
        elif not np.issubdtype(one.dtype, np.floating):
            yield Problem(place, f"holds {one.dtype}", "give floating-point numbers")
    if evidence.labels is not None and (evidence.labels.ndim != 1 or not len(evidence.labels)):
        yield Problem("labels", f"has the shape {evidence.labels.shape}", "it is [n], and not empty")


def _counts(evidence: Evidence) -> Iterator[Problem]:
    """Sources and rows have to be as many everywhere."""
    for name, part in evidence.by_source().items():
        if len(part) != evidence.sources:
            first = next(iter(evidence.by_source()))
            yield Problem(
                name, f"is of {len(part)} sources, and {first} of {evidence.sources}", "name all in one order"
            )
    for place, one, *_ in _parts(evidence):
        kind = place.split("[")[0]
        rows = {"features": one.shape[-2:-1], "plain": one.shape[-2:-1], "outputs": one.shape[:1]}.get(kind, ())
        if rows and rows[0] != evidence.rows:
            of = "labels are" if evidence.labels is not None else "others are"
            yield Problem(place, f"is of {rows[0]} rows, and {of} of {evidence.rows}", "give the same rows everywhere")


def _labels(evidence: Evidence) -> Iterator[Problem]:
    labels = evidence.labels
    if labels is None:
        return
    whole = np.issubdtype(labels.dtype, np.integer)
    if evidence.kind == "classes" and not (whole or labels.dtype == bool):
        yield Problem(
            "labels", f"classes are whole numbers, and these are {labels.dtype}", 'for numbers, kind="values"'
        )
    elif evidence.kind == "classes" and labels.min() < 0:
        missing = int((labels < 0).sum())
        yield Problem("labels", f"{missing} of {len(labels)} are below 0", "leave rows without a label out")
    elif evidence.kind == "values" and not (whole or np.issubdtype(labels.dtype, np.floating)):
        yield Problem("labels", f"values are numbers, and these are {labels.dtype}")
    elif evidence.kind == "values" and not np.isfinite(labels).all():
        missing = int((~np.isfinite(labels)).sum())
        yield Problem("labels", f"{missing} of {len(labels)} are not finite", "leave rows without a label out")


def _widths(evidence: Evidence) -> Iterator[Problem]:
    for name, sources, target in (("text", "source_texts", "target_text"), ("task", "source_tasks", "target_task")):
        many, one = getattr(evidence, sources), getattr(evidence, target)
        if many is not None and one is not None and many.shape[1] != len(one):
            yield Problem(sources, f"is {many.shape[1]} wide, and target_{name} {len(one)}", "use one encoder for all")
    if evidence.plain is not None:
        width = evidence.plain.shape[2]
        for place, one, *_ in _parts(evidence):
            if place.startswith("maps") and one.shape[0] != width + 1:
                hint = "the last row is the offset"
                yield Problem(place, f"has {one.shape[0]} rows, and plain is {width} wide", hint)


def _numbers(evidence: Evidence) -> Iterator[Problem]:
    for place, one, *_ in _parts(evidence):
        bad = ~np.isfinite(one)
        if place in ("source_texts", "source_tasks"):
            bad[np.isnan(one).all(1)] = False  # of these sources there is none
        if bad.any():
            hint = OUT if "[" in place or place.startswith("source") else "look at the rows it is computed from"
            yield Problem(place, f"{int(bad.sum())} of {one.size} numbers are not finite", hint)
        elif place.startswith("outputs") and (one.min() < 0 or np.abs(one.sum(1, dtype=np.float64) - 1).max() > SUM):
            yield Problem(
                place, "its rows are no probabilities", "they are at least 0, and each row's sum is 1: softmax"
            )

"""Estimator: what gives every source a number for one target, and the evidence that it may look at.

Evidence is arrays alone: whoever reads rows and encoders makes it, and an estimator is a function of it. An estimator
is registered by existing in a module of this folder. Higher is better; numbers of two estimators or of two targets are
not of one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from layover.errors import EvidenceError, Problem, did_you_mean, raise_all
from layover.registry import Registry
from layover.select.checks import problems

Array = NDArray[np.float64]
Kind = Literal["classes", "values"]
Needs = Literal["features", "outputs", "texts", "maps", "tasks", "knowledge"]
Layer = Literal["last", "mean", "best"]
LAYERS = ("last", "mean", "best")
FIELDS: dict[str, tuple[str, ...]] = {
    "features": ("features",),
    "outputs": ("outputs",),
    "texts": ("source_texts", "target_text"),
    "maps": ("maps", "plain"),
    "tasks": ("source_tasks", "target_task"),
}  # of the evidence, by what an estimator needs; knowledge is in none


@dataclass(frozen=True, eq=False)
class Labels:
    """What a target's rows are labelled with, as numbers to be found: `targets` [n, k].

    Of classes, as many columns as are seen, a 1 in that of a row's class; of values, one column.
    """

    kind: Kind
    targets: Array

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        """The class [n] of every row, counted from 0 without gaps."""
        return self.targets.argmax(1)

    @cached_property
    def counts(self) -> Array:
        """The rows [k] of every class."""
        return self.targets.sum(0)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of a target with n rows and of its candidate sources; a part that is not known is left out.

    - `labels` [n]: classes as integers from 0 on, or values, as `kind` says. A class below 0, as releases have it for a
      row without a label, is an error.
    - `features`: of each source [layers, n, d], the target's rows through its trained encoder.
    - `plain` [layers, n, d]: the same through the encoder as it was before any source.
    - `maps`: of each source [d + 1, d]: what it makes of a row is nearly `plain[-1] @ map[:-1] + map[-1]`.
    - `outputs`: of each source [n, its classes]: the probabilities that its own head gives to the target's rows.
    - `source_texts` [sources, d], `target_text` [d]: mean vectors of their texts.
    - `source_tasks` [sources, p], `target_task` [p]: diagonals of Fisher information.

    Of a source, features, map or outputs may be None, and a row of `source_texts` or `source_tasks` nan: there is none.
    Raises EvidenceError, with all that is wrong, for shapes that do not fit, numbers that are not finite and labels
    that are none.
    """

    labels: NDArray[Any] | None = None
    kind: Kind = "classes"
    features: Sequence[NDArray[Any] | None] = ()
    plain: NDArray[Any] | None = None
    maps: Sequence[NDArray[Any] | None] | None = None
    outputs: Sequence[NDArray[Any] | None] = ()
    source_texts: NDArray[Any] | None = None
    target_text: NDArray[Any] | None = None
    source_tasks: NDArray[Any] | None = None
    target_task: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        raise_all(EvidenceError, problems(self))

    @property
    def sources(self) -> int:
        """How many sources there are."""
        return next((len(part) for part in self.by_source().values()), 0)

    @property
    def rows(self) -> int | None:
        """How many rows of the target there are, None where nothing says it."""
        three = [part for part in (*self.features, self.plain) if part is not None]
        two = [part for part in self.outputs if part is not None]
        found = [part.shape[1] for part in three] + [len(part) for part in two]
        return len(self.labels) if self.labels is not None else next(iter(found), None)

    def by_source(self) -> dict[str, Sequence[Any]]:
        """The parts that have one entry for each source, by name, but for those that are left out."""
        names = ("features", "maps", "outputs", "source_texts", "source_tasks")
        parts = {name: getattr(self, name) for name in names}
        return {name: part for name, part in parts.items() if part is not None and len(part)}

    def lacks(self, estimator: Estimator) -> str:
        """Why an estimator can say nothing of any source, in words; "" where it can."""
        missing = [name for name in FIELDS.get(estimator.needs, ()) if _empty(getattr(self, name))]
        if missing:
            return f"there is nothing in {' and '.join(missing)}"
        if not estimator.labels:
            return ""
        if self.labels is None:
            return "the target has no labels"
        several = "one class" if self.kind == "classes" else "one value"
        return f"all rows of the target have {several}" if len(np.unique(self.labels)) < 2 else ""

    @cached_property
    def gold(self) -> Labels:
        """The labels as numbers to be found."""
        if self.labels is None:
            raise ValueError("this target has no labels")
        if self.kind == "values":
            return Labels("values", self.labels.astype(np.float64)[:, None])
        names, codes = np.unique(self.labels, return_inverse=True)
        targets = np.zeros((len(self.labels), len(names)))
        targets[np.arange(len(targets)), codes.ravel()] = 1
        return Labels("classes", targets)


def _empty(part: Any) -> bool:
    """Whether a part of the evidence has nothing of any source."""
    return part is None or not len(part) or all(one is None for one in part)


class Estimator(Protocol):
    """What rates the sources of a target."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def needs(self) -> Needs:
        """Which part of the evidence it looks at."""
        ...

    @property
    def labels(self) -> bool:
        """Whether it reads the target's labels, or what is made from them."""
        ...

    @property
    def reference(self) -> str:
        """The paper that it is taken from."""
        ...

    def score(self, evidence: Evidence) -> Array:
        """How good every source [sources] is for the target, higher better; nan where it cannot say."""
        ...


Rate = Callable[[Iterator[Array], Labels], Array]


@dataclass(frozen=True)
class OfFeatures:
    """An estimator that rates features [n, d] of the target's rows; `values`: also where these have values for labels.

    `layer` says which features: those of the last layer, the mean of all layers' (Garbas et al. 2024), or
    each layer's, of which the highest score counts. `rate` takes an iterator of features and gives a score for each.
    """

    name: str
    reference: str
    rate: Rate
    values: bool = False
    layer: Layer = "last"
    needs: Needs = "features"
    labels: bool = True

    def __post_init__(self) -> None:
        if self.layer not in LAYERS:
            raise EvidenceError(Problem("layer", f"there is no {self.layer!r}", did_you_mean(self.layer, LAYERS)))

    def score(self, evidence: Evidence) -> Array:
        """How good every source [sources] is for the target; nan for one without features."""
        found = np.full(evidence.sources, np.nan)
        if evidence.lacks(self) or (evidence.kind == "values" and not self.values):
            return found
        layers = [0 if one is None else len(one) if self.layer == "best" else 1 for one in evidence.features]
        scores = self.rate(self._read(evidence), evidence.gold)
        for source, part in enumerate(np.split(scores, np.cumsum(layers)[:-1])):
            found[source] = max(part[~np.isnan(part)], default=np.nan)
        return found

    def _read(self, evidence: Evidence) -> Iterator[Array]:
        for one in evidence.features:
            if one is not None and self.layer == "mean":
                yield one.mean(0, dtype=np.float64)
            elif one is not None:
                yield from (layer.astype(np.float64) for layer in (one if self.layer == "best" else one[-1:]))


def centred(features: Array) -> Array:
    """Features [n, d] around their mean; exactly 0 where all rows are equal, whose mean need not be."""
    moved = features - features[0]
    return moved - moved.mean(0)


def each(function: Callable[[Array, Labels], float]) -> Rate:
    """A function of the features of one source as one of many."""
    return lambda features, labels: np.array([function(one, labels) for one in features], dtype=np.float64)


def is_estimator(value: object) -> bool:
    """Whether something is an estimator, and not a kind of one."""
    return not isinstance(value, type) and callable(getattr(value, "score", None)) and hasattr(value, "needs")


ESTIMATORS: Registry[Estimator] = Registry("layover.select", "estimator", is_estimator, lambda e: e.name)


def __getattr__(name: str) -> dict[str, str]:
    if name == "REFERENCES":  # of all estimators, which are only known once the folder's modules are imported
        return {estimator.name: estimator.reference for estimator in ESTIMATORS}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Evidence: everything that estimators read of a target and its sources, out of a store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layover.errors import Problem, StoreError
from layover.select import maps, taskvectors
from layover.select.checked import NEEDS, Checked, Need
from layover.select.vectors import Tell, outputs, rows_of, vectors

if TYPE_CHECKING:
    from layover.select.estimator import Evidence


def evidence(found: Checked, needs: Collection[Need] = NEEDS, tell: Tell = lambda *_: None) -> Evidence:
    """What estimators with these needs read of a checked target and its sources, in the order of these.

    Labels and plain vectors are always there. What is not needed, or not to be had, is None, or nothing where features
    are. Raises StoreError where the encoder gives no vectors at all, or no source is left.
    """
    target, sources = found.target, found.sources
    wanted = [need for need in needs if need not in found.without]
    if "features" in found.without or not sources:
        reasons = [f"{label}: {why}" for label, why in found.excluded.items()]
        message = found.without.get("features") or "no source is left to rank"
        raise StoreError(Problem(target.store.place, message, "; ".join(reasons) or "run a study that trains sources"))
    passed = sources if "features" in wanted or "outputs" in wanted else ()
    read = vectors(target, passed, tell)

    def each(what: str, make: Callable[[Any], Any]) -> list[Any]:
        """One of these for every source, and progress."""
        made = []
        for number, source in enumerate(sources):
            tell(f"{what} of {source.label}", number, len(sources))
            made.append(make(source))
        return made

    def rows(make: Callable[..., Any]) -> Callable[[Any], Any]:
        return lambda source: make(target, rows_of(target, source))

    def mapped(source: Any) -> NDArray[np.float32]:
        return maps.widened(maps.map_of(target, source).weights, read.parts)

    from layover.select.estimator import Evidence

    tasks = "tasks" in wanted
    return Evidence(
        labels=read.labels,
        kind=read.kind,
        features=read.trained if "features" in wanted else (),
        plain=read.plain,
        maps=each("map", mapped) if "maps" in wanted else None,
        outputs=outputs(target, sources) if "outputs" in wanted else (),
        source_texts=np.stack(each("texts", rows(taskvectors.text_vector))) if "texts" in wanted else None,
        target_text=taskvectors.text_vector(target) if "texts" in wanted else None,
        source_tasks=stacked(each("task", rows(taskvectors.task_vector))) if tasks else None,
        target_task=taskvectors.task_vector(target) if tasks else None,
    )


def stacked(found: Sequence[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """Vectors as rows, of not-a-numbers where there is none; None where there is none at all."""
    there = next((one for one in found if one is not None), None)
    if there is None:
        return None
    return np.stack([np.full_like(there, np.nan) if one is None else one for one in found])

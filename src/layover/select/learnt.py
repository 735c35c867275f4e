"""Learnt: what a store knows for a target: results of all its studies and the published matrix, and what estimators
say of its sources, for this target and for those of which the store has results.

So an estimator is believed in points as far as it was right before, and one that never was moves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from layover.errors import UserError
from layover.select.candidate import Candidate
from layover.select.checked import Checked, checked
from layover.select.formats import facts_of
from layover.select.knowledge import Knowledge, knowledge
from layover.select.observed import Observed, of_figure2
from layover.select.rated import Rated, rate
from layover.select.sources import Source
from layover.select.target import Target, target_of
from layover.select.vectors import Tell
from layover.tasks import TASKS


@dataclass(frozen=True)
class Learnt:
    """What is known for a target: the knowledge, what estimators say of its sources, and what could not be learnt from.

    `rated` is None where no estimator can say anything.
    """

    known: Knowledge
    rated: Rated | None
    notes: tuple[str, ...]

    def results_of(self, one: Candidate, without: str, encoder: str) -> list[Observed]:
        """What a stop was measured to add to other targets than this, with the encoder or with any other ("")."""
        return [seen for seen in self.known.observed
                if (seen.source, seen.strategy) == (one.source, one.strategy) and seen.target != without
                and (seen.encoder == encoder if encoder else True)]  # fmt: skip

    def measured(self, one: Candidate, target: str, encoder: str) -> Observed | None:
        """What a stop was measured to add to this very target with this encoder, the surest result of several."""
        found = [seen for seen in self.known.observed
                 if (seen.source, seen.strategy, seen.target, seen.encoder)
                 == (one.source, one.strategy, target, encoder)]  # fmt: skip
        return min(found, key=lambda seen: math.inf if math.isnan(seen.error) else seen.error, default=None)


def of_target(
    found: Checked, seen: Sequence[Observed], by: Sequence[str], tell: Tell = lambda *_: None
) -> Learnt:  # fmt: skip
    """What is known for a checked target from what its store has `seen`; the estimators `by` rate its sources.

    Other targets that the store has results of with this encoder are read as this one is. Those whose data is not here,
    or of which a source has seen rows, are left out, and named.
    """
    target, notes = found.target, list[str]()
    known = knowledge(seen, of_figure2())
    known = known.about(facts_of(target.task, target.data.source), *(facts_of(one.task) for one in found.sources))
    encoder = target.encoder.name
    if not any(one.encoder == encoder for one in known.observed):
        others = ", ".join(sorted({one.encoder or "an encoder without a name" for one in known.observed}))
        notes.append(f"no result with {encoder} is known: what is expected was measured with {others}, and how far "
                     "encoders differ is in no interval")  # fmt: skip
    if not by or not found.sources or "features" in found.without:
        return Learnt(known, None, tuple(notes))
    rated = [rate(found, by, tell)]
    for name in _others(known, target, found.sources):
        try:
            other = checked(_like(target, name), found.sources)
            rated.append(rate(other, by, tell))
            notes += [f"{label} says nothing of {name}: {why}" for label, why in other.excluded.items()]
        except UserError as error:
            notes.append(f"nothing is learnt from the results on {name}: {error.problems[0].message}")
    return Learnt(known.seeing(*rated), rated[0], tuple(notes))


def _others(known: Knowledge, target: Target, sources: Sequence[Source]) -> list[str]:
    """The other targets of which results with these sources and this encoder are known."""
    names = {source.name for source in sources}
    return sorted(
        {one.target for one in known.observed if one.encoder == target.encoder.name and one.source in names}
        - {target.task.name}
    )


def _like(target: Target, name: str) -> Target:
    """Another target, read as this one is; raises TaskError where it is not to be had."""
    return target_of(
        target.store, TASKS.get(name), target.encoder, data=target.places.data, files=target.places.files,
        reading=target.reading, device=target.places.device, threads=target.places.threads,
    )  # fmt: skip

"""Reasons: an answer, and what stands behind a candidate, in plain words out of the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from layover.select.candidate import Candidate
from layover.select.formats import TaskFacts, match
from layover.select.knowledge import Expected
from layover.select.learnt import Learnt
from layover.select.observed import Observed


def answer(target: str, stop: bool, first: Expected | None, worth: float, sure: float) -> str:
    """What to do, of the best stop or without any: at most three sentences."""
    if first is None:
        return f"Train on {target} directly: no stop is left to choose."
    name, gain = _called(first.candidate), "" if worth == 0 else f" {worth:g} points"
    if math.isnan(first.mean):
        return f"Train on {target} directly: nothing is known of any stop before it."
    said = f"{first.mean:+.1f} points (95%: {first.low:+.1f} to {first.high:+.1f})"
    if not stop:
        more = f"more than{gain}" if gain else "anything"
        return (f"Train on {target} directly: no stop is expected to add {more}. The best of them, {name}, is expected "
                f"to add {said}; that it helps at all has a chance of {percent(first.chance)}.")  # fmt: skip
    certain = "" if first.chance >= sure else " That is not certain: confirm it before you rely on it."
    return (f"Before {target}, {name}: expected to add {said}, and to help at all with a chance of "
            f"{percent(first.chance)}.{certain}")  # fmt: skip


def why(learnt: Learnt, one: Candidate, target: str, encoder: str, measured: Observed | None) -> str:
    """What a candidate's expected gain is made of, the strongest first."""
    tasks, parts = learnt.known.tasks, []
    if measured is not None:
        error = "" if math.isnan(measured.error) else f" ± {measured.error:.1f}"
        parts.append(f"measured here: {measured.delta:+.1f}{error}")
    elsewhere = [seen for seen in learnt.results_of(one, "", "") if seen.target == target and seen.encoder != encoder]
    parts += [f"{seen.delta:+.1f} before this very task with {_encoders([seen])}" for seen in elsewhere]
    own = learnt.results_of(one, target, encoder)
    others = [seen for seen in learnt.results_of(one, target, "") if seen.encoder != encoder]
    parts += [said for said in (_before(own, encoder), _before(others, _encoders(others))) if said]
    if not parts:
        parts.append("no result of this stop is known: taken as a source like any other")
    if learnt.rated and one.source in learnt.rated.sources:
        for name in learnt.rated.of(one.source):
            place, of = learnt.rated.rank(name, one.source)
            parts.append(f"{name} puts it at {place} of {of}")
    if one.source in tasks and target in tasks:
        parts += _alike(tasks[one.source], tasks[target])
    return "; ".join(parts)


def _before(seen: Sequence[Observed], encoder: str) -> str:
    """What results of a stop with an encoder say: on average, and how often it helped."""
    if not seen:
        return ""
    mean, helped = sum(one.delta for one in seen) / len(seen), sum(one.delta > 0 for one in seen)
    with_encoder = f" with {encoder}" if encoder else ""
    if len(seen) == 1:
        return f"{mean:+.1f} before one other task{with_encoder}"
    return f"{mean:+.1f} on average before {len(seen)} other tasks{with_encoder}, of which it helped {helped}"


def _encoders(seen: Sequence[Observed]) -> str:
    names = sorted({one.encoder or "another encoder" for one in seen})
    return " and ".join(names) if len(names) < 3 else f"{len(names)} other encoders"


def _alike(source: TaskFacts, target: TaskFacts) -> list[str]:
    """What the tasks' forms and sizes have to say."""
    parts = ["of the same form"] if match(source, target) == 1 else []
    if source.size and target.size and source.size >= 10 * target.size:
        parts.append(f"{source.size / target.size:,.0f} times the target's rows")
    elif source.size and target.size and source.size < target.size:
        parts.append("fewer rows than the target")
    return parts


def _called(one: Candidate) -> str:
    if one.strategy == "stilts":
        return f"make a stop at {one.source}"
    return f"train together with {one.source}" if one.strategy == "multitask" else f"{one.strategy} with {one.source}"


def percent(chance: float) -> str:
    """A chance, which no model of a few results may call certain: "<1%" to ">99%"; a dash where it is not known."""
    if math.isnan(chance):
        return "–"
    return "<1%" if chance < 0.01 else ">99%" if chance > 0.99 else f"{100 * chance:.0f}%"

"""Spent: the time that a study's steps took, by kind, and what sharing them saved."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from layover.report.facts import ReportInputs, RunFacts

TRAINING = ("train", "joint", "probe")


@dataclass(frozen=True)
class Spent:
    """Time of the finished steps, one after the other, in seconds: by kind (steps, total, longest), and in all.

    `alone` is the time that the scores would have taken if each had made every step before it for itself, None where
    nothing is shared; `requested` and `made` count trainings, without and with sharing.
    """

    kinds: tuple[tuple[str, int, float, float], ...]
    total: float
    alone: float | None
    requested: int
    made: int


def spent(inputs: ReportInputs) -> Spent | None:
    """The cost of a study; None where no finished step has a time."""
    times: dict[str, list[float]] = defaultdict(list)
    for run in inputs.runs:
        if run.seconds is not None:
            times[_kind(run)].append(run.seconds)
    if not times:
        return None
    kinds = sorted(((kind, len(found), sum(found), max(found)) for kind, found in times.items()), key=lambda k: -k[2])
    total = sum(kind[2] for kind in kinds)
    alone = _alone(inputs)
    made = sum(run.kind in TRAINING for run in inputs.runs)
    return Spent(tuple(kinds), total, alone if alone > total * 1.0001 else None, inputs.requested, made)


def _kind(run: RunFacts) -> str:
    words = {
        "train": "training, from the plain encoder" if not run.start else "training, from a stop",
        "probe": "probing a frozen encoder", "joint": "joint training", "member": "scoring a task of a joint training",
        "merge": "merging encoders", "measure": "measuring forgetting", "choose": "choosing from a sweep",
    }  # fmt: skip
    return words.get(run.kind, run.kind)


def _alone(inputs: ReportInputs) -> float:
    """The time of every score's own chain of steps, summed over the scores that are finished."""
    runs = {run.key: run for run in inputs.runs}
    chains: dict[str, set[str]] = {}

    def chain(key: str) -> set[str]:
        if key not in chains:
            parents = runs[key].parents or ([runs[key].start] if runs[key].start else [])
            chains[key] = {key}.union(*(chain(parent) for parent in parents if parent in runs))
        return chains[key]

    columns = [name for name in ("encoder", "strategy", "source", "condition", "target", "rows", "role", "seed", "key")
               if name in inputs.observations]  # fmt: skip
    scored = inputs.observations[columns].drop_duplicates()["key"] if len(inputs.observations) else []
    return sum(sum(runs[one].seconds or 0.0 for one in chain(key)) for key in scored if key in runs)

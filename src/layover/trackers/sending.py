"""Sending: the runs of a study, out of its store into a tracker, each once; and on, while the study runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from layover.errors import MissingExtra
from layover.plan import Plan, Score
from layover.secrets import redacted, redacted_words
from layover.step import Step
from layover.store import Store
from layover.trackers import TRACKERS
from layover.trackers.tracker import Run, Tracker

CURVED = ("train", "probe", "member")
PRESENT = ("strategy", "source", "condition", "target", "role")


def tracker(kind: str, study: str, out: Path) -> Tracker:
    """The tracker of a kind for a study; raises UserError for another word, MissingExtra without its package."""
    found = TRACKERS.get(kind, "--to")
    if find_spec(found.package) is None:
        raise MissingExtra(found.package, kind, f"tracking in {kind}")
    return found.at(study, out)


def send(plan: Plan, store: Store, to: Tracker, sent: set[str], tell: Callable[[str], Any]) -> set[str]:
    """Send what is finished and not among `sent`; returns the keys that are there now."""
    store.refresh()
    there, cells = set(sent), cells_of(plan)
    for key in plan.steps:
        if key not in there and store.finished(key):
            there.add(key)
            if run := run_of(plan, store, key, cells[key]):
                to.send(run)
                tell(run.label)
    return there


def cells_of(plan: Plan) -> dict[str, list[Score]]:
    """The cells of a study by the key of the step that answers them; none for any other."""
    found: dict[str, list[Score]] = defaultdict(list)
    for score in plan.scores:
        found[score.key].append(score)
    return found


def run_of(plan: Plan, store: Store, key: str, cells: Sequence[Score]) -> Run | None:
    """A finished step, which answers these cells, as a tracker shows it; None where it has no scores."""
    scores = store.read(key, "observations.jsonl")
    if not scores:
        return None
    step, facts = plan.steps[key], store.read(key, "provenance.json")
    curve = store.read(key, "curve.jsonl") if step.kind in CURVED else []
    found = {f"{row['split']}/{row['metric']}": row["value"] for row in scores}
    tags = {
        "layover.key": key, "layover.study": plan.study.name, "layover.label": plan.labels[key],
        "layover.kind": step.kind, "layover.status": scores[0]["status"],
        "layover.version": str(facts.get("versions", {}).get("layover", "")),
    }  # fmt: skip
    return Run(
        key=key,
        label=redacted(plan.labels[key]),
        params=redacted_words(_params(plan, key, cells, facts)),
        curve=[(int(point["step"]), _numbers(point)) for point in curve],
        scores={name: float(value) for name, value in found.items() if value is not None},
        tags=redacted_words(tags),
        ended=store.folder(key).stat().st_mtime,
    )


def _params(
    plan: Plan, key: str, cells: Sequence[Score], facts: Mapping[str, Any]
) -> dict[str, str | int | float | bool]:
    """What was asked for. A step that several cells share names all that they differ in."""
    step, names = plan.steps[key], {encoder.identity: name for name, encoder in plan.encoders.items()}
    encoder = getattr(step, "encoder", "")
    params: dict[str, Any] = {"key": key, "kind": step.kind, "encoder": names.get(encoder, encoder)}
    params |= {"task": "+".join(task.name for task in step.tasks), "seed": getattr(step, "seed", None)}
    params |= {"limit_train": step.tasks[0].limit_train if step.tasks else None}
    params |= {name: ", ".join(values) for name, values in _shared(cells).items()}
    params |= {"lineage": " → ".join([params["encoder"], *_lineage(plan, key)])}
    params |= {"lineage.keys": ", ".join(_before(plan, key))}
    recipe = facts.get("recipe") or getattr(getattr(step, "recipe", None), "__dict__", {})
    params |= {f"recipe.{name}": value for name, value in recipe.items()}
    plain = (str, int, float, bool)
    return {
        name: value if isinstance(value, plain) else str(value) for name, value in params.items() if value is not None
    }


def _shared(cells: Sequence[Score]) -> dict[str, list[str]]:
    """What cells are called, by the name of the column, each word once."""
    words = {name: dict.fromkeys(str(getattr(cell, name)) for cell in cells) for name in PRESENT}
    return {name: [word for word in found if word] for name, found in words.items() if any(found)}


def _lineage(plan: Plan, key: str) -> list[str]:
    """What the encoder went through, in words, the step itself last."""
    return [_stage(plan.steps[one]) for one in (*_before(plan, key), key)]


def _stage(step: Step) -> str:
    return "+".join(task.name for task in step.tasks) or step.kind


def _before(plan: Plan, key: str) -> list[str]:
    """The keys of the steps whose weights led to a step, the first one first."""
    return list(
        dict.fromkeys(one for parent in plan.steps[key].reads(True) for one in (*_before(plan, parent), parent))
    )


def _numbers(point: Mapping[str, Any]) -> dict[str, float]:
    return {f"curve/{name}": value for name, value in _flat(point) if name != "step"}


def _flat(point: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    for name, value in point.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}/")
        elif isinstance(value, int | float):
            yield f"{above}{name}", float(value)

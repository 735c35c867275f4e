"""Export: a trained step as a standard transformers directory, which says where the model came from.

config.json model.safetensors tokenizer.json tokenizer_config.json    what AutoModelFor... and AutoTokenizer load
layover.json    its lineage: every step from the plain encoder on, with recipe, seed, data digests and scores
README.md       its model card: the same for people, and in short for the Hub
"""

from __future__ import annotations

import dataclasses
import inspect
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from layover.encoders import ALIASES
from layover.errors import Problem, UserError
from layover.files import write_json, write_text
from layover.kinds.common import task_of
from layover.model_card import model_card
from layover.step import Choose, Joint, Measure, Member, Merge, Probe, Train, from_json
from layover.store import Store
from layover.tasks import Task
from layover.upkeep import find_step, labels_of

WITHOUT_WEIGHTS = {Choose.kind: "the choice of a sweep", Probe.kind: "a probe", Measure.kind: "a measure"}


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written: the folder, the name of the model's class, and what its user has to know."""

    folder: Path
    model: str
    notes: tuple[str, ...]


def export(store: Store, name: str, folder: Path) -> Exported:
    """Write the model of a finished step to a new folder; `name` is its label or key, or a part that only it has.

    Raises UserError where there is no such step, its weights are not in the store, no standard class has its kind of
    head, or the folder is not empty.
    """
    labels = labels_of(store)
    key = find_step(store, name)
    label = labels.get(key) or key
    _check_folder(folder)
    weights = _weights(store, key, label)
    step = store.step(key)
    assert isinstance(step, Train | Member)
    labelled = tuple(store.read(key, "weights/head.json")["labels"])
    task = dataclasses.replace(task_of(step.task), labels=labelled)
    steps = [_record(store, labels, one) for one in _chain(store, key)]
    steps[-1]["scores"] = store.read(key, "weights/observations.jsonl")
    provenance = steps[-1]["provenance"]
    max_length = provenance["max_length"]

    from layover.train import standard  # torch and transformers, which take seconds

    kind = standard.standard_class(task)
    if kind is None:
        raise UserError(_without_a_class(task, label, weights))
    model = standard.standard_model(weights, task, provenance["recipe"]["pooling"])
    exported = Exported(folder, type(model).__name__, _notes(task, max_length, steps[-1]["scores"]))
    facts = {
        "layover": provenance["versions"]["layover"],
        "key": key,
        "label": label,
        "class": exported.model,
        "encoder": step.encoder,
        "lineage": _lineage(step.encoder, steps),
        "input": _input(task, max_length),
        "notes": list(exported.notes),
        "steps": steps,
    }

    def write(target: Path) -> None:
        standard.save(model, weights, max_length, target)
        write_json(target / "layover.json", facts)
        write_text(target / "README.md", model_card(facts, kind))

    _publish(folder, write)
    return exported


def _without_a_class(task: Task, label: str, weights: Path) -> Problem:
    what = f"its head ({type(task.format).__name__}, task {task.name}) is of a shape that no class of transformers has"
    loads = "encoder.safetensors loads in AutoModel, and head.json and head.safetensors are layover's head"
    return Problem(label, what, f"the weights are in {weights}: {loads}")


def _check_folder(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(Problem(str(folder), "exists, and nothing is overwritten", "name a new or an empty folder"))


def _weights(store: Store, key: str, label: str) -> Path:
    """The weights of a finished training; raises UserError where there are none, with what to do about it."""
    again = f"train it with them: layover run STUDY --keep-weights {label!r} --store {store.place}"
    if not store.finished(key):
        raise UserError(Problem(label, "is not finished", again))
    step = store.step(key)
    if isinstance(step, Merge):
        folder = store.weights(key) or store.folder(key) / "weights"
        hint = f"name a training that starts from it; AutoModel loads {folder}"
        raise UserError(Problem(label, "is an encoder merged of several, which has no head", hint))
    if not isinstance(step, Train | Member):
        hint = "name one of the trainings: `layover store ls` lists them"
        what = f"is {WITHOUT_WEIGHTS.get(step.kind)}, which has no weights"
        if isinstance(step, Joint):
            what, hint = "is a joint training, which has a model for each of its tasks", "name one of its members"
        raise UserError(Problem(label, what, hint))
    weights = store.weights(key)
    if weights is None:
        why = "its weights are not in the store: only those that a later step starts from are kept"
        raise UserError(Problem(label, why, again))
    if not (weights / "config.json").is_file():
        why = f"its weights were written by an older layover, without the encoder's configuration: {weights}"
        raise UserError(Problem(label, why, f"remove that folder, then {again}"))
    return weights


def _chain(store: Store, key: str) -> list[str]:
    """The keys of the steps whose weights led to a step, and its own, the first one first."""
    before = store.step(key).reads(True) if store.finished(key) else ()
    return list(dict.fromkeys([*(one for parent in before for one in _chain(store, parent)), key]))


def _record(store: Store, labels: dict[str, str], key: str) -> dict[str, Any]:
    """What the store holds of a step; its key alone where somebody removed it."""
    record: dict[str, Any] = {"key": key, "label": labels.get(key, "")}
    if store.finished(key):
        record |= store.read(key, "step.json")
        record |= {"scores": store.read(key, "observations.jsonl"), "provenance": store.read(key, "provenance.json")}
    return record


def _lineage(encoder: str, steps: list[dict[str, Any]]) -> list[str]:
    """What the encoder went through, in words, from the plain one on."""
    known = [name for name, alias in ALIASES.items() if alias.identity == encoder]
    names = [known[0] if known else encoder.removeprefix("hub:")]
    for record in steps:
        step = from_json(record) if "step" in record else None
        names.append(
            "+".join(ref.name for ref in step.tasks) or step.kind if step else record["label"] or record["key"]
        )
    return names


def _input(task: Task, max_length: int) -> dict[str, Any]:
    """How a row of the task's data becomes what the encoder reads, in the format's own words."""
    return {
        "format": type(task.format).__name__,
        "fields": dataclasses.asdict(task.format),
        "reads": " ".join((inspect.getdoc(task.format) or "").split()),
        "max_length": max_length,
        "labels": list(task.labels),
        "bounds": task.bounds,
    }


def _notes(task: Task, max_length: int, scores: list[dict[str, Any]]) -> tuple[str, ...]:
    """What the class leaves to its user and layover does by itself, and whether the run learned nothing."""
    notes = [f"The run is marked {status}." for status in {score["status"] for score in scores} - {"ok"}]
    if task.format.cut == "first":
        notes.append(
            f"Where an input has more than {max_length} tokens, its passage or context loses its end, and what follows "
            "stays: nearly what truncation='only_first' does."
        )
    if task.output == "value" and task.bounds:
        notes.append(f"Scores are not held within {task.bounds[0]:g} and {task.bounds[1]:g}: clamp them.")
    if task.output == "extent":
        notes.append(
            "The passage comes first, then the question: tokenizer(passage, question). The question-answering pipeline "
            "of transformers turns them round and gives other answers."
        )
        notes.append(
            "The begin is the best token of the passage, the end the best that is not before it, and the answer is "
            "widened to whole words."
        )
    if task.format.scored == "answers":
        notes.append("Each answer to a question is an input of its own; any number of them may be right.")
    if task.format.scored == "text" and task.output == "classes":
        notes.append(f"Each candidate is an input of its own; the one with most of {task.labels[-1]!r} is the answer.")
    return tuple(notes)


def _publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Write into a folder beside the one asked for, which then takes its place: it is whole, or not there."""
    folder = folder.absolute()
    made = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        made.mkdir(parents=True)
        write(made)
        if folder.is_dir():
            folder.rmdir()  # it is empty
        made.rename(folder)
    except OSError as error:
        hint = "name another folder"
        raise UserError(Problem(str(folder), f"cannot be written: {error.strerror or error}", hint)) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)

"""Joint: one training run on several tasks, from their examples to the predictions of each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from layover.step import Mixture, Places, Recipe
from layover.tasks.load import TaskData
from layover.tasks.task import Task
from layover.train import model, remedies
from layover.train.cache import Located
from layover.train.checkpoint import State
from layover.train.cohort import Run, by_itself
from layover.train.determinism import pick_device, prepare_process
from layover.train.encode import Encoded
from layover.train.loop import Job
from layover.train.memory import micro_tokens, prepare_heap
from layover.train.network import Network
from layover.train.team import spread
from layover.train.together import Part, Together, beside
from layover.train.work import Result, ended, n_classes_of, placed, read, scorer


@dataclass(frozen=True)
class Asked:
    """One task as it is trained and scored."""

    task: Task
    part: Part
    validation: Encoded
    n_classes: int


def train(*arguments: Any, **named: Any) -> tuple[State, list[Result]]:
    """One joint training; takes what `training` takes. All results share an encoder, which ends as the last one's."""
    state, results = by_itself(training(*arguments, **named))
    return state, list(results)


def training(
    data: Sequence[Located | TaskData],
    mixture: Mixture,
    alone: Sequence[float],
    recipe: Recipe,
    seed: int,
    location: str,
    start: Path | None,
    places: Places,
    resume: Path,
    report: Callable[[dict[str, Any]], None],
) -> Generator[Job, Run, tuple[State, Iterator[Result]]]:
    """Fine-tune the encoder at `location`, with the weights in `start` if given, on all tasks; predict each one's data.

    `alone` are the tasks' scores by themselves (0-1), for the dynamic sampler. Ends with where the run stands, and the
    results one after the other: while one is at hand its network has the best weights of its task, or the last ones
    where the recipe says so.
    """
    device = pick_device(places.device)
    prepare_process(places.threads, device)
    prepare_heap()
    loaded = model.load(location, start, data[0].task, recipe, seed)
    remedies.prepare(loaded.network, recipe, seed)
    network = placed(loaded.network, location, places, device)
    heads: dict[Any, Any] = {_labels(data[0].task, mixture): network.head}
    asked = [_asked(one, loaded, network, heads, mixture, recipe, seed, location) for one in data]
    first = asked[0].part
    job = Job(
        network=network,
        padding=loaded.tokenizer.pad_token_id,
        train=first.train,
        selection=first.selection,
        recipe=recipe,
        seed=seed,
        score=first.score,
        micro_tokens=places.micro_tokens or micro_tokens(network, recipe.precision, loaded.max_length, places.sharing),
        checkpoint_seconds=places.checkpoint_seconds,
        device=device,
        resume=resume,
        report=report,
        anchor=remedies.anchor(network, recipe, None),
        together=Together([one.part for one in asked], mixture, alone, device),
    )
    again = partial(training, data, mixture, alone, recipe, seed, location, start, resume=resume)
    run = yield from spread(job, places, again)
    state = run.ended()
    return state, _results(loaded, run, asked, state)


def _asked(
    data: Located | TaskData, loaded: model.Loaded, network: Network, heads: dict[Any, Any], mixture: Mixture,
    recipe: Recipe, seed: int, location: str,
) -> Asked:  # fmt: skip
    """A task with a head of its own, or with that of the task before it that has the same labels."""
    task, found = data.task, read(data, loaded, seed)
    shared = _labels(task, mixture)
    if shared not in heads:
        head = model.new_head(location, network.encoder, loaded.tokenizer, task, recipe, seed, network.noise)
        heads[shared] = head.to(next(network.parameters()).device)
    own = network if heads[shared] is network.head else beside(network, heads[shared])
    selection = found.selection if recipe.selects else None
    n_classes = n_classes_of(task, found.train, found.validation)
    part = Part(task.name, own, found.train, selection, scorer(task, selection, n_classes))
    return Asked(task, part, found.validation, n_classes)


def _labels(task: Task, mixture: Mixture) -> Any:
    """What tasks must have in common to share a head: the same labels in order, or as many, and what is read."""
    if mixture.heads == "task":
        return task.name
    labels = len(task.labels) if mixture.heads == "count" else task.labels
    return task.output, labels, task.bounds, task.format.reads


def _results(loaded: model.Loaded, run: Run, asked: Sequence[Asked], state: State) -> Iterator[Result]:
    for one in asked:
        name = one.part.name
        if one.part.best:
            one.part.network.load_state_dict(one.part.best)
        score, step = state.best.get(name, (None, 0))
        curve = [{"epoch": point["epoch"], "step": point["step"], **point["tasks"][name]} for point in state.curve]
        own = replace(state, best_score=score, best_step=step, curve=curve, best={}, mixing={})
        yield ended(loaded, run, one.part, own, one.task, one.validation, one.n_classes)

"""Work: one training run from examples to predictions, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from layover import predictions
from layover.errors import EncoderError, Problem, StepError
from layover.files import write_json
from layover.metrics import get_metric
from layover.predictions import Predictions
from layover.step import Places, Recipe, Surgery
from layover.tasks.load import TaskData
from layover.tasks.task import Task
from layover.train import model, remedies
from layover.train.cache import Located, Splits, splits
from layover.train.checkpoint import State
from layover.train.cohort import Run, by_itself
from layover.train.collapse import collapse
from layover.train.decode import Decoded, Raw, decode
from layover.train.determinism import pick_device, prepare_process
from layover.train.encode import Encoded
from layover.train.fisher import Before, fisher
from layover.train.loop import Job, predict
from layover.train.masking import Masking, hidden_once
from layover.train.memory import micro_tokens, prepare_heap
from layover.train.network import Network
from layover.train.team import spread
from layover.train.together import Part


@dataclass(frozen=True)
class Result:
    """What a run ends with: its network, its predictions on the validation set, and what is known about it.

    `examples` and `questions` count them per split. `truncated` is the share of examples that was cut, `lost` that of
    targets whose text was cut off, `majority` the share of the commonest label in validation (None where there is no
    one label), `collapsed` why the run is degenerate, or "". `runs` is how many runs its cohort has, and `cohort` what
    is known about that; `processes` is how many shared its batches.
    """

    network: Network
    tokenizer: Any
    state: State
    decoded: Decoded
    examples: dict[str, int]
    questions: dict[str, int]
    truncated: dict[str, float]
    lost: dict[str, float]
    max_length: int
    majority: float | None
    collapsed: str
    runs: int
    cohort: dict[str, Any]
    device: str
    threads: int
    micro_tokens: int
    processes: int


def train(*arguments: Any, **named: Any) -> Result:
    """One training run, by itself; takes what `training` takes."""
    return by_itself(training(*arguments, **named))


def training(
    data: Located | TaskData,
    recipe: Recipe,
    seed: int,
    location: str,
    start: Path | None,
    places: Places,
    resume: Path,
    report: Callable[[dict[str, Any]], None],
    carried: bool | Literal["matched"] = False,
    surgery: Surgery | None = None,
    before: Before | None = None,
) -> Generator[Job, Run, Result]:
    """Fine-tune the encoder at `location`, with the weights in `start` if given, and predict the validation set.

    `carried`: the head in `start` goes on being trained, instead of a new one ("matched": where it fits). `surgery` is
    done to the encoder first. `before` is what `start` was trained on, where the recipe asks for EWC.

    Asks whoever drives it, by itself or with others, to fit its job. A run that was killed goes on from the checkpoint
    in `resume`, and ends with the same numbers on a CPU.
    """
    device = pick_device(places.device)
    prepare_process(places.threads, device)
    prepare_heap()
    matters = None
    if recipe.ewc:
        if before is None or start is None:
            raise StepError("ewc holds a run to what its encoder was trained on before: this one starts from no task")
        matters = _matters(before, location, start, recipe, seed, device)
    loaded = model.load(location, start, data.task, recipe, seed, carried, surgery)

    task = data.task
    found = read(data, loaded, seed)
    selection, validation = found.selection if recipe.selects else None, found.validation
    n_classes = n_classes_of(task, found.train, validation)
    score = scorer(task, selection, n_classes)
    remedies.prepare(loaded.network, recipe, seed)
    network = placed(loaded.network, location, places, device)
    job = Job(
        network=network,
        padding=loaded.tokenizer.pad_token_id,
        train=found.train,
        selection=selection,
        recipe=recipe,
        seed=seed,
        score=score,
        micro_tokens=places.micro_tokens or micro_tokens(network, recipe.precision, loaded.max_length, places.sharing),
        checkpoint_seconds=places.checkpoint_seconds,
        device=device,
        resume=resume,
        report=report,
        graphs="off"
        if device.type != "cuda" or places.gradient_checkpointing or recipe.mixout or places.devices_per_step > 1
        else places.graphs,
        anchor=remedies.anchor(network, recipe, matters),
    )
    without = replace(recipe, ewc=0.0)  # which the first process alone adds to the gradients
    again = partial(training, data, without, seed, location, start, resume=resume, carried=carried, surgery=surgery)
    run = yield from spread(job, places, again)
    remedies.finish(network, recipe)
    return ended(loaded, run, job.parts()[0], run.ended(), task, validation, n_classes)


def scorer(task: Task, selection: Encoded | None, n_classes: int) -> Callable[[Raw], float]:
    """What maps predictions on the selection set to points, by the task's deciding metric."""
    metric = get_metric(task.primary)

    def score(raw: Raw) -> float:
        assert selection is not None
        return metric.score(decode(task, selection, raw, n_classes).predictions)

    return score


def ended(
    loaded: model.Loaded, run: Run, part: Part, state: State, task: Task, validation: Encoded, n_classes: int
) -> Result:
    """What a run ends with for one of its tasks, whose network stands as it is to be scored."""
    job, training, selection = run.job, part.train, part.selection
    decoded = decode(task, validation, predict(job, validation, part.network), n_classes)
    named = {"train": training, "selection": selection, "validation": validation}
    parts = {name: part for name, part in named.items() if part is not None}
    return Result(
        network=part.network,
        tokenizer=loaded.tokenizer,
        state=state,
        decoded=decoded,
        examples={name: 0 if part is None else len(part) for name, part in named.items()},
        questions={
            name: 0 if part is None else int(part.questions().max(initial=-1)) + 1 for name, part in named.items()
        },
        truncated=_shares({name: part.truncated for name, part in parts.items()}),
        lost=_shares({name: part.lost for name, part in parts.items()}),
        max_length=loaded.max_length,
        majority=_majority(decoded.predictions),
        runs=run.runs,
        cohort={"cohort": run.runs, "together": run.together, "apart": run.apart} if run.runs > 1 else {},
        collapsed=collapse(task, state.stopped, decoded.predictions, training, state.curve),
        device=_device_name(job.device),
        threads=torch.get_num_threads(),
        micro_tokens=job.room.tokens,
        processes=job.team.size if job.team else 1,
    )


def read(data: Located | TaskData, loaded: model.Loaded, seed: int) -> Splits:
    """A task's data as a network reads it; of plain text, tokens are hidden."""
    found = splits(data, loaded.tokenizer, loaded.max_length)
    return _hiding(found, loaded, seed) if data.task.output == "tokens" else found


def _matters(
    before: Before, location: str, start: Path, recipe: Recipe, seed: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """How much each weight in `start` matters to what it was trained on, by the head that was trained with it."""
    loaded = model.load(location, start, before.data.task, before.recipe, seed, carried=True)
    encoded, padding = read(before.data, loaded, seed).train, loaded.tokenizer.pad_token_id
    return fisher(loaded.network.prepare(device), encoded, padding, recipe.ewc_examples, seed, device)


def placed(network: Network, location: str, places: Places, device: torch.device) -> Network:
    """The network on its device, set up as asked for: none of this changes what it computes."""
    network.prepare(device)
    if places.gradient_checkpointing:
        try:
            network.recompute()
        except ValueError as error:
            hint = "leave gradient_checkpointing out of [placement]"
            raise EncoderError(Problem(location, "has no layers that can be computed again", hint)) from error
    return network


def write_predictions(path: Path, task: Task, result: Result) -> None:
    """Write one row per prediction on the validation set: its row in the file, gold, predicted, the head's scores.

    Classes are indices; their names are in the file's metadata, so that nothing is ever aligned by position alone.
    """
    named = {"labels": "\t".join(task.labels), "task": task.name}
    predictions.write(path, result.decoded.predictions, result.decoded.scores, named)


def write_weights(folder: Path, task: Task, result: Result) -> None:
    """Write encoder and head as separate files: a head never blocks a transfer.

    Configuration and tokenizer are with them: whoever takes the weights elsewhere needs nothing else.
    """
    folder.mkdir()
    for name, module in (("encoder", result.network.encoder), ("head", result.network.head)):
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in module.state_dict().items()}
        save_file(tensors, folder / f"{name}.safetensors")
    head = {
        "task": task.name,
        "version": task.version,
        "output": task.output,
        "labels": list(task.labels),
        "bounds": task.bounds,
    }
    write_json(folder / "head.json", head)
    encoder: Any = result.network.encoder
    encoder.config.save_pretrained(folder)
    result.tokenizer.save_pretrained(folder)


def _hiding(found: Splits, loaded: model.Loaded, seed: int) -> Splits:
    """Plain text of which tokens are hidden: anew in every step of training, once for what is evaluated."""
    encoder: Any = loaded.network.encoder
    masking = Masking.of(loaded.tokenizer, encoder.get_input_embeddings().num_embeddings, seed)
    train = replace(found.train, masking=masking)
    selection = None if found.selection is None else hidden_once(found.selection, masking)
    return Splits(train, selection, hidden_once(found.validation, masking))


def n_classes_of(task: Task, *encoded: Encoded) -> int:
    """Number of classes or labels, of choices at most, or of tokens; 0 for numbers and texts."""
    if masking := encoded[0].masking:
        return masking.vocabulary
    if task.format.scored in ("value", "text"):
        return 0
    return len(task.labels) or max(int(np.diff(part.groups).max()) for part in encoded)


def _shares(marked: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    return {name: float(which.mean()) if len(which) else 0.0 for name, which in marked.items()}


def _majority(found: Predictions) -> float | None:
    if found.kind not in ("classes", "choice", "answers"):
        return None
    return float(np.bincount(found.gold.astype(int)).max() / len(found))


@lru_cache(maxsize=2)
def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"

"""Work: one training run from examples to predictions, and the files that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from layover.files import write_json
from layover.metrics import get_metric
from layover.step import Places, Recipe
from layover.tasks.load import TaskData
from layover.tasks.task import Example, Task
from layover.train import loop, model
from layover.train.checkpoint import State
from layover.train.collapse import collapse
from layover.train.determinism import MICRO_TOKENS, derive, pick_device, prepare_process
from layover.train.encode import Encoded, encode
from layover.train.model import Network


@dataclass(frozen=True)
class Result:
    """What a run ends with. `gold` and `predicted` are [n]; `scores` [n, outputs] are the head's own.

    `truncated` is the share of examples cut per split, `majority` the share of the commonest label in validation (None
    for real numbers), `collapsed` why the run is degenerate, or "".
    """

    network: Network
    state: State
    rows: NDArray[np.int64]
    gold: NDArray[np.float64]
    predicted: NDArray[np.float64]
    scores: NDArray[np.float64]
    n_classes: int
    truncated: dict[str, float]
    max_length: int
    majority: float | None
    collapsed: str
    device: str
    threads: int
    micro_tokens: int


def train(
    task: Task,
    data: TaskData,
    recipe: Recipe,
    seed: int,
    location: str,
    start: Path | None,
    places: Places,
    resume: Path,
    report: Callable[[dict[str, Any]], None],
) -> Result:
    """Fine-tune the encoder at `location`, with the weights in `start` if given, and predict the validation set.

    A run that was killed goes on from the checkpoint in `resume`, and ends with the same numbers on a CPU.
    """
    prepare_process(places.threads)
    device = pick_device(places.device)
    torch.manual_seed(derive(seed, "initialise"))
    loaded = model.load(location, start, task, recipe, seed)

    def encoded(examples: tuple[Example, ...]) -> Encoded:
        return encode(examples, task.format.cut, loaded.tokenizer, loaded.max_length)

    training, validation = encoded(data.train), encoded(data.validation)
    selection = None
    if recipe.selects and data.selection:
        selection = validation if data.selection is data.validation else encoded(data.selection)
    n_classes = _n_classes(task, training, validation)
    metric = get_metric(task.primary)

    def score(predicted: NDArray[np.float64]) -> float:
        assert selection is not None
        return metric.score(selection.labels, predicted, n_classes)

    job = loop.Job(
        network=loaded.network,
        tokenizer=loaded.tokenizer,
        train=training,
        selection=selection,
        recipe=recipe,
        seed=seed,
        score=score,
        micro_tokens=places.micro_tokens or MICRO_TOKENS[device.type],
        checkpoint_seconds=places.checkpoint_seconds,
        device=device,
        resume=resume,
        report=report,
    )
    state = loop.fit(job)
    predicted, scores = loop.predict(job, validation)
    n_inputs = np.diff(training.groups)
    return Result(
        network=loaded.network,
        state=state,
        rows=validation.rows,
        gold=validation.labels,
        predicted=predicted,
        scores=scores,
        n_classes=n_classes,
        truncated=_truncated(train=training, selection=selection, validation=validation),
        max_length=loaded.max_length,
        majority=_majority(validation) if n_classes else None,
        collapsed=collapse(task, state.stopped, predicted, validation.labels, training.labels, n_inputs, state.curve),
        device=_device_name(device),
        threads=torch.get_num_threads(),
        micro_tokens=job.micro_tokens,
    )


def write_predictions(path: Path, task: Task, result: Result) -> None:
    """Write one row per validation example: its row in the file, gold, predicted, and the head's scores.

    Classes are indices; their names are in the file's metadata, so that nothing is ever aligned by position alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "row": result.rows,
            "gold": result.gold,
            "predicted": result.predicted,
            "scores": [row[np.isfinite(row)].astype(np.float32) for row in result.scores],
        }
    )
    named = {"n_classes": str(result.n_classes), "labels": "\t".join(task.labels), "task": task.name}
    pq.write_table(table.replace_schema_metadata(named), path)


def write_weights(folder: Path, task: Task, result: Result) -> None:
    """Write encoder and head as separate files: a head never blocks a transfer."""
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


def _n_classes(task: Task, *encoded: Encoded) -> int:
    """Number of classes, or of choices at most; 0 for a real number."""
    if task.output == "value":
        return 0
    return len(task.labels) or max(int(np.diff(part.groups).max()) for part in encoded)


def _truncated(**splits: Encoded | None) -> dict[str, float]:
    return {name: part.truncated / max(1, len(part)) for name, part in splits.items() if part is not None}


def _majority(encoded: Encoded) -> float:
    return float(np.bincount(encoded.labels.astype(int)).max() / len(encoded))


@lru_cache(maxsize=2)
def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"

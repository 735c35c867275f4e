"""Loop: the one training loop, read from top to bottom.

Variation enters as data (the recipe) or as a plain function (`score`), never as callbacks or subclasses. The optimizer,
the schedule and the stopping counter are made here and die here: nothing but weights crosses from one step to the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from layover.predictions import Array
from layover.step import Recipe
from layover.train import checkpoint
from layover.train.batching import collate, epoch_order, micro_batches
from layover.train.checkpoint import State
from layover.train.decode import Raw
from layover.train.determinism import derive
from layover.train.encode import Encoded
from layover.train.model import Network

Report = Callable[[dict[str, Any]], None]
EVALUATION_FACTOR = 4  # a forward pass without gradients may hold this many times the tokens of one with


@dataclass(frozen=True)
class Job:
    """What one run trains: its network, tokenizer, data, recipe and seed, and how its predictions are scored.

    `selection` is None where the recipe never looks at one. `score` maps predictions on the selection set to points.
    `micro_tokens` bounds the padded tokens per forward pass. `resume` is the folder of its checkpoint, written every
    `checkpoint_seconds`. `report` is told where the run stands.
    """

    network: Network
    tokenizer: Any
    train: Encoded
    selection: Encoded | None
    recipe: Recipe
    seed: int
    score: Callable[[Raw], float]
    micro_tokens: int
    checkpoint_seconds: float
    device: torch.device
    resume: Path
    report: Report


def fit(job: Job) -> State:
    """Train; the network ends with the best or the last weights, as the recipe says. Returns where the run ended."""
    recipe, network = job.recipe, job.network.to(job.device)
    torch.manual_seed(derive(job.seed, "dropout"))
    optimizer = _optimizer(network, recipe)
    state, best = checkpoint.restore(job.resume, network, optimizer)
    n_epochs = recipe.n_epochs(len(job.train))
    per_epoch = math.ceil(len(job.train) / recipe.batch_size)
    total, saved = n_epochs * per_epoch, time.monotonic()

    while state.step < total and not state.stopped:
        for examples in epoch_order(len(job.train), recipe.batch_size, job.seed, state.epoch)[state.batch :]:
            rate = learning_rate(state.step, total, recipe)
            loss = _optimize(job, optimizer, examples, rate, state)
            state.step, state.batch = state.step + 1, state.batch + 1
            if not math.isfinite(loss):
                state.stopped = "nan"
                break
            state.loss_sum, state.loss_count = state.loss_sum + loss, state.loss_count + len(job.train.known(examples))
            due = state.step % (recipe.evaluate_every or per_epoch) == 0 or state.step == total
            if due and _evaluate(job, state, per_epoch):
                best = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
            _report(job, state, total, n_epochs)
            if time.monotonic() - saved >= job.checkpoint_seconds:
                checkpoint.save(job.resume, network, optimizer, best, state)
                saved = time.monotonic()
            if state.stopped:
                break
        state.epoch, state.batch = state.epoch + 1, 0

    if recipe.checkpoint == "best" and best is not None:
        network.load_state_dict(best)
    return state


def predict(job: Job, encoded: Encoded) -> Raw:
    """The head's predictions and scores for every target, in order, without dropout."""
    job.network.eval()
    head = job.network.head
    found: list[tuple[NDArray[np.int64], Array, Array]] = []
    with torch.inference_mode(), _precision(job):
        for part in micro_batches(encoded, np.arange(len(encoded)), EVALUATION_FACTOR * job.micro_tokens):
            batch = collate(encoded, part, job.tokenizer, job.device)
            scores = job.network(batch)
            predicted = head.predict(scores, batch)
            kept = head.kept(scores, predicted, batch)
            found.append((batch.targets, predicted.double().cpu().numpy(), kept.double().cpu().numpy()))
    return _in_order(found, encoded, 0.0 if head.output in ("labels", "extent") else -1.0)


def _in_order(found: list[tuple[NDArray[np.int64], Array, Array]], encoded: Encoded, nothing: float) -> Raw:
    """What was predicted batch by batch, in the order of the targets; `nothing` stands where a target was cut off."""
    width = max(scores.shape[1] for _, _, scores in found)
    predicted = np.full((len(encoded.lost), *found[0][1].shape[1:]), nothing)
    kept = np.full((len(encoded.lost), width), -np.inf)
    for targets, values, scores in found:
        predicted[targets] = values
        kept[targets, : scores.shape[1]] = scores
    return Raw(predicted, kept)


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The rate of optimizer step `step` (from 0) of `total`: linear warm-up, then linear decay to zero, or constant."""
    warm = recipe.warmup * total
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (total - step) / max(1.0, total - warm)


def _optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW with decay on matrices only (biases and normalisation have one dimension)."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, eps=recipe.adam_epsilon, fused=True)


def _optimize(
    job: Job, optimizer: torch.optim.Optimizer, examples: NDArray[np.int64], rate: float, state: State
) -> float:
    """One optimizer step on the mean loss of a batch; returns the summed loss, and steps only where it is finite."""
    job.network.train()
    optimizer.zero_grad(set_to_none=True)
    total, n_targets = 0.0, max(1, len(job.train.known(examples)))
    for part in micro_batches(job.train, examples, job.micro_tokens):
        batch = collate(job.train, part, job.tokenizer, job.device)
        with _precision(job):
            loss = job.network.head.loss(job.network(batch), batch)
        (loss / n_targets).backward()
        total += float(loss.detach())
        state.tokens += int(batch.tokens["attention_mask"].sum())
    if math.isfinite(total):
        nn.utils.clip_grad_norm_(job.network.parameters(), job.recipe.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return total


def _evaluate(job: Job, state: State, per_epoch: int) -> bool:
    """Add a point to the curve; True where the selection score is the best so far (the first one wins a tie)."""
    point: dict[str, Any] = {
        "epoch": round(state.step / per_epoch, 4),
        "step": state.step,
        "loss": state.loss_sum / max(1, state.loss_count),
    }
    state.loss_sum, state.loss_count = 0.0, 0
    improved = False
    if job.selection is not None:
        point["selection"] = score = job.score(predict(job, job.selection))
        improved = state.best_score is None or score > state.best_score
        state.stale = 0 if improved else state.stale + 1
        if improved:
            state.best_score, state.best_step = score, state.step
        if 0 < job.recipe.patience <= state.stale:
            state.stopped = "patience"
    state.curve.append(point)
    return improved and job.recipe.checkpoint == "best"


def _report(job: Job, state: State, total: int, n_epochs: int) -> None:
    job.report(
        {"step": state.step, "steps": total, "epoch": state.epoch + 1, "epochs": n_epochs, "best": state.best_score}
    )


def _precision(job: Job) -> AbstractContextManager[Any]:
    if job.recipe.precision == "bf16":
        return torch.autocast(job.device.type, dtype=torch.bfloat16)
    return nullcontext()

"""Loop: the one training loop, read from top to bottom.

Variation enters as data (the recipe) or as a plain function (`score`), never as callbacks or subclasses. The optimizer,
the schedule and the stopping counter are made here and die here: nothing but weights crosses from one step to the next.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layover import pulse
from layover.predictions import Array
from layover.step import Recipe
from layover.train import checkpoint
from layover.train.batching import collate, epoch_order, micro_batches
from layover.train.checkpoint import State, Weights
from layover.train.decode import Raw
from layover.train.determinism import derive
from layover.train.encode import Encoded
from layover.train.graphs import Graphs
from layover.train.memory import Room, fits
from layover.train.network import Network
from layover.train.precision import computing
from layover.train.remedies import Anchor, mixing
from layover.train.together import Part, Together
from layover.train.update import Losses, Update

if TYPE_CHECKING:
    from layover.train.team import Team

Report = Callable[[dict[str, Any]], None]
EVALUATION_FACTOR = 4  # a forward pass without gradients may hold this many times the tokens of one with


@dataclass(frozen=True)
class Job:
    """What one run trains: its network, data, recipe and seed, and how its predictions are scored.

    `selection` is None where the recipe never looks at one. `score` maps predictions on the selection set to points.
    `padding` is the token that pads inputs, and `micro_tokens` bounds the tokens per forward pass; `room` is what has
    become of that bound, where memory ran out. `resume` is the
    folder of its checkpoint, written every `checkpoint_seconds`. `report` is told where the run stands. `graphs`
    says whether steps that look alike are captured as CUDA graphs, of a compiled encoder or not; a CPU has none.
    `steps` are the optimizer steps in all, where the recipe's epochs do not say it.
    `anchor` is what the recipe's remedies for forgetting hold the run to, None where it has none that do.
    `together` holds the tasks of a joint training, of which the fields before are the first's. `team` are the processes
    that share its batches, None for one alone.
    """

    network: Network
    padding: int
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
    graphs: Literal["off", "on", "compiled"] = "off"
    steps: int | None = None
    anchor: Anchor | None = None
    together: Together | None = None
    team: Team | None = None
    room: Room = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        data = self.data  # not through `self`: a cycle would keep every run's network until Python looks for cycles
        room = Room(self.micro_tokens, lambda: int(data.tokens.max(initial=1)))
        object.__setattr__(self, "room", room)

    @property
    def data(self) -> Encoded | Together:
        """All that is trained on."""
        return self.train if self.together is None else self.together

    def parts(self) -> tuple[Part, ...]:
        """The tasks that are trained on; one without a name where there is one only."""
        if self.together is not None:
            return self.together.parts
        return (Part("", self.network, self.train, self.selection, self.score),)

    def take(self, part: Part, examples: NDArray[np.int64], step: int, weight: float = 1.0) -> torch.Tensor:
        """`passes` of this job, in this process or in its team's."""
        return (self.team.passes if self.team else passes)(self, part, examples, step, weight)

    def order(self, state: State) -> list[NDArray[np.int64]]:
        """The batches of the epoch that a run is in."""
        if self.together is not None:
            return self.together.order(self.recipe, self.seed, state)
        return epoch_order(len(self.train), self.recipe.batch_size, self.seed, state.epoch)


@dataclass(frozen=True, eq=False)
class Turn:
    """What a run asks for: the gradients of a batch of examples, in its optimizer step `step`."""

    examples: NDArray[np.int64]
    step: int


def fit(job: Job) -> State:
    """Train; the network ends with the best or the last weights, as the recipe says. Returns where the run ended."""
    run, take = started(job)
    try:
        turn = next(run)
        while True:
            turn = run.send(take(turn))
    except StopIteration as ended:
        return ended.value


def started(job: Job) -> tuple[Generator[Turn, torch.Tensor, State], Callable[[Turn], torch.Tensor]]:
    """The course of a run by itself, and what gives it the gradients that it asks for: graphs where they are wanted."""
    take, apply = partial(gradients, job), Update.apply
    if job.together is not None:
        take = partial(job.together.gradients, job.take, job.seed)
    elif job.graphs != "off":
        graphs = Graphs(job, take)
        take, apply = graphs.gradients, graphs.update
    return course(job, apply), fitting(job, take)


def fitting(job: Job, take: Callable[[Turn], torch.Tensor]) -> Callable[[Turn], torch.Tensor]:
    """What gives a run its gradients, in smaller passes where memory runs out: the batch is the same."""
    return lambda turn: fits(job.room, partial(take, turn))


def course(job: Job, apply: Callable[[Update], None] = Update.apply) -> Generator[Turn, torch.Tensor, State]:
    """The course of a run: asks for the gradients of one batch after the other, and is sent the batch's summed loss.

    Whoever drives it leaves the gradients in the network's parameters; everything else about a run is here. `apply`
    does the work of an update on the device.
    """
    recipe, network, parts = job.recipe, job.network.prepare(job.device).train(), job.parts()
    whole = network if job.together is None else job.together.whole
    torch.manual_seed(derive(job.seed, "dropout"))
    update, losses = Update(whole, recipe, job.device, job.anchor), Losses(job.device)
    state, best = checkpoint.restore(job.resume, whole, update.optimizer)
    per_epoch = math.ceil(len(job.train) / recipe.batch_size)
    if job.together is not None:
        job.together.begin(state)
        per_epoch = job.together.steps(recipe)
    _give_back(best or {}, parts)
    asked = job.steps or recipe.max_steps
    n_epochs = math.ceil(asked / per_epoch) if asked else recipe.n_epochs(len(job.data))
    total, saved = asked or n_epochs * per_epoch, time.monotonic()

    while state.step < total and state.epoch < n_epochs and not state.stopped:
        batches = job.order(state)
        for examples in batches[state.batch :]:
            loss = yield Turn(examples, state.step)
            losses.add(loss, len(job.data.known(examples)))
            update.take(loss, learning_rate(state.step, total, recipe), state.step)
            apply(update)
            state.step, state.batch = state.step + 1, state.batch + 1
            state.tokens += int(job.data.tokens[examples].sum())
            pulse.beat()
            late = pulse.asked() or time.monotonic() - saved >= job.checkpoint_seconds
            over = state.batch == len(batches)
            last = state.step == total or (over and state.epoch + 1 == n_epochs)
            due = last or evaluates(recipe, state.step, state.batch, len(batches))
            if not (due or late or losses.full):
                continue
            if not losses.read(state, update.broken):
                break
            for part in _evaluate(job, state, parts, len(batches)) if due else ():
                part.best = {name: tensor.detach().clone() for name, tensor in part.network.state_dict().items()}
            _report(job, state, total, n_epochs)
            if late:
                if job.together is not None:
                    job.together.settle()
                checkpoint.save(job.resume, whole, update.optimizer, _all_best(parts), state)
                saved = time.monotonic()
            if state.stopped or state.step == total:
                break
            if pulse.asked():
                raise pulse.Stopped(f"was asked to stop, and did in step {state.step} of {total}")
        state.epoch, state.batch = state.epoch + 1, 0

    for part in parts:  # several tasks share an encoder: it ends as the last one's
        if recipe.checkpoint == "best" and part.best:
            part.network.load_state_dict(part.best)
    return state


def gradients(job: Job, turn: Turn) -> torch.Tensor:
    """The summed loss of a batch, with the gradient of its mean left in the network's parameters."""
    if not job.network.training:  # which takes a small model as long as a pass
        job.network.train()
    job.network.zero_grad(set_to_none=True)
    return job.take(job.parts()[0], turn.examples, turn.step)


def passes(
    job: Job,
    part: Part,
    examples: NDArray[np.int64],
    step: int,
    weight: float = 1.0,
    of: NDArray[np.int64] | None = None,
) -> torch.Tensor:
    """The summed loss of a task's examples; `weight` times the gradient of its mean is added to that at hand.

    Where they are a share of a batch, `of` is the batch, over whose targets the mean is.
    """
    network, train = part.network, part.train
    total = torch.zeros((), device=job.device)
    n_targets = max(1, len(train.known(examples if of is None else of)))
    with (
        mixing(network, job.recipe, job.anchor, job.seed, step),
        computing(network, job.recipe.precision, job.device) as now,
    ):
        for micro in micro_batches(train, examples, job.room.tokens, network.packed, job.device):
            batch = collate(train, micro, job.padding, job.device, network.packed, step)
            batch.layout.names[:, 0] += part.first  # no example shares a stream of dropout with another task's
            loss = network.head.loss(now.scores(batch, job.seed, step), batch)
            now.backward(loss / n_targets if weight == 1.0 else weight * loss / n_targets)
            total += loss.detach()
    return total


def predict(job: Job, encoded: Encoded, network: Network | None = None) -> Raw:
    """The head's predictions and scores for every target, in order, without dropout; the device is waited for once.

    Without a `network`, those of the job's.
    """
    network = (network or job.network).prepare(job.device).eval()
    return fits(job.room, partial(_predicted, job, encoded, network))


def _predicted(job: Job, encoded: Encoded, network: Network) -> Raw:
    head = network.head
    found: list[tuple[NDArray[np.int64], torch.Tensor, torch.Tensor]] = []
    with torch.inference_mode(), computing(network, job.recipe.precision, job.device) as now:
        most = EVALUATION_FACTOR * job.room.tokens
        for part in micro_batches(encoded, np.arange(len(encoded)), most, network.packed, job.device):
            pulse.beat()
            batch = collate(encoded, part, job.padding, job.device, network.packed)
            scores = now.scores(batch)
            predicted = head.predict(scores, batch)
            found.append((batch.targets, predicted, head.kept(scores, predicted, batch)))
    nothing = 0.0 if head.output in ("labels", "extent") else -1.0
    targets, *tensors = zip(*found, strict=True)
    predicted, kept = (_fetched(part) for part in tensors)
    return _in_order(list(zip(targets, predicted, kept, strict=True)), encoded, nothing)


def _fetched(tensors: Sequence[torch.Tensor]) -> list[Array]:
    """Tensors of any shapes as arrays, by one transfer."""
    flat = torch.cat([tensor.double().flatten() for tensor in tensors]).cpu().numpy()
    ends = np.cumsum([tensor.numel() for tensor in tensors])
    return [part.reshape(tensor.shape) for part, tensor in zip(np.split(flat, ends[:-1]), tensors, strict=True)]


def _in_order(found: list[tuple[NDArray[np.int64], Array, Array]], encoded: Encoded, nothing: float) -> Raw:
    """What was predicted batch by batch, in the order of the targets; `nothing` stands where a target was cut off."""
    width = max(scores.shape[1] for _, _, scores in found)
    predicted = np.full((len(encoded.lost), *found[0][1].shape[1:]), nothing)
    kept = np.full((len(encoded.lost), width), -np.inf)
    for targets, values, scores in found:
        predicted[targets] = values
        kept[targets, : scores.shape[1]] = scores
    return Raw(predicted, kept)


def evaluates(recipe: Recipe, step: int, batch: int, per_epoch: int) -> bool:
    """Whether it is time to evaluate after `step` optimizer steps, the last of them the `batch`-th of the epoch's."""
    if parts := recipe.evaluations_per_epoch:
        return batch * parts // per_epoch > (batch - 1) * parts // per_epoch
    return step % recipe.evaluate_every == 0 if recipe.evaluate_every else batch == per_epoch


def learning_rate(step: int, total: int, recipe: Recipe) -> float:
    """The rate of optimizer step `step` (from 0) of `total`: linear warm-up, then linear decay to zero, or constant."""
    warm = recipe.warmup * total
    if step < warm:
        return recipe.learning_rate * (step + 1) / (warm + 1)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (total - step) / max(1.0, total - warm)


def _evaluate(job: Job, state: State, parts: Sequence[Part], per_epoch: int) -> list[Part]:
    """Add a point to the curve; the parts whose selection score is the best so far (the first one wins a tie).

    Patience runs out when no task gets better. None is said to be best where the last weights are kept.
    """
    point: dict[str, Any] = {
        "epoch": round((state.epoch * per_epoch + state.batch) / per_epoch, 4),
        "step": state.step,
        "loss": state.loss_sum / max(1, state.loss_count),
    }
    state.loss_sum, state.loss_count = 0.0, 0
    if job.together is not None:
        point |= job.together.point()
    improved: list[Part] = []
    if job.selection is not None:
        scores = {
            part.name: part.score(predict(job, part.selection, part.network))
            for part in parts
            if part.selection is not None
        }
        point["selection"] = sum(scores.values()) / len(scores)
        for part in parts:
            score = scores[part.name]
            if job.together is not None:
                point["tasks"][part.name]["selection"] = score
            if part.name not in state.best or score > state.best[part.name][0]:
                state.best[part.name] = [score, state.step]
                improved.append(part)
        state.stale = 0 if improved else state.stale + 1
        if improved:
            state.best_score = sum(score for score, _ in state.best.values()) / len(parts)
            state.best_step = state.step
        if 0 < job.recipe.patience <= state.stale:
            state.stopped = "patience"
    state.curve.append(point)
    return improved if job.recipe.checkpoint == "best" else []


def _all_best(parts: Sequence[Part]) -> Weights:
    """The best weights of all parts, under their names, for a checkpoint."""
    return {f"{p.name}/{name}" if p.name else name: tensor for p in parts for name, tensor in p.best.items()}


def _give_back(best: Weights, parts: Sequence[Part]) -> None:
    """Give each part the best weights that are its own among a checkpoint's."""
    named = {part.name: part for part in parts}
    for name, tensor in best.items():
        task, _, rest = name.rpartition("/")
        named[task].best[rest] = tensor


def _report(job: Job, state: State, total: int, n_epochs: int) -> None:
    since = state.loss_sum / state.loss_count if state.loss_count else None  # the last point of the curve
    where = {"step": state.step, "steps": total, "epoch": state.epoch + 1, "epochs": n_epochs}
    job.report({**where, "best": state.best_score, "loss": since, "curve": state.curve})

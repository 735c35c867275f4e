"""Graphs: optimizer steps that look alike, captured once as CUDA graphs and then replayed by one call each.

A small model on a GPU waits for the host to launch its kernels, some 500 per step. A graph launches all of them at
once, but it knows tensors by their address: what changes from step to step is copied to where the captured step reads
it, and the gradients are where the captured update reads them.

Captured are whole batches without stretches of text, of which every example has as many inputs as the others, padded
to one rung of the ladder of lengths, and small enough for one pass. Everything else is done step by step as without
graphs: the last batch of an epoch where it is smaller, formats about stretches (their number varies), examples with
more or fewer choices than others, pooling by the mean, micro-batches. So is everything where a step waits for the GPU
(DeBERTa's relative positions), because such a step cannot be captured.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from layover.train.batching import Batch, collate, micro_batches
from layover.train.precision import computing
from layover.train.update import Update

if TYPE_CHECKING:
    from layover.train.loop import Job, Turn
    from layover.train.network import Network

MOST_SHAPES = 256  # that an encoder is compiled for in a process; torch gives up after 8
WARM_UP = 2  # times that work is done before it is captured: libraries make themselves ready in the first
Work = Callable[[], None]  # on tensors that stay where they are
Record = Callable[[Work], Work]  # work as something that does the same again


class CannotCapture(Exception):
    """Work that cannot be a graph; the text says why."""


@dataclass(frozen=True, eq=False)
class Pass:
    """A captured forward and backward pass: `replay` reads `inputs`, and writes `loss` and the gradients."""

    inputs: list[torch.Tensor]
    loss: torch.Tensor
    replay: Work


class Graphs:
    """The steps of one run. `eager` computes the gradients of a batch as without graphs.

    What is captured draws the dropout that the same steps would draw without graphs, and leaves the same weights, up
    to the rounding of sums on a GPU.
    """

    def __init__(self, job: Job, eager: Callable[[Turn], torch.Tensor], record: Record | None = None) -> None:
        self.job, self.eager = job, eager
        self.record = record or OnGpu()
        self.passes: dict[Any, Pass] = {}
        self.kept: dict[torch.nn.Parameter, torch.Tensor] = {}  # the gradients of replayed passes
        self.step: Work | None = None
        self.replayed = False  # whether the gradients at hand are these
        self.cannot = ""

    def gradients(self, turn: Turn) -> torch.Tensor:
        """The summed loss of a batch, with the gradient of its mean left in the network's parameters."""
        job, self.replayed = self.job, False
        parts = micro_batches(job.train, turn.examples, job.room.tokens, job.network.packed, job.device)
        if not self.cannot and alike(job, parts):
            batch = collate(job.train, parts[0], job.padding, job.device, job.network.packed)
            try:
                return self._replay(batch)
            except CannotCapture as error:
                self.cannot = str(error)
                warnings.warn(f"trained without CUDA graphs: {error}", RuntimeWarning, stacklevel=2)
        return self.eager(turn)

    def update(self, update: Update) -> None:
        """Clip and step, by a graph where the gradients come from one."""
        if not self.replayed:
            return update.apply()
        if self.step is None:
            self.step = self._captured(update)
        return self.step()

    def _replay(self, batch: Batch) -> torch.Tensor:
        key = (batch.tokens["input_ids"].shape, batch.sizes[0])
        if key not in self.passes:
            self.passes[key] = self._pass(batch)
        made = self.passes[key]
        for there, given in zip(made.inputs, _read(batch), strict=True):
            there.copy_(given)
        made.replay()
        for parameter, gradient in self.kept.items():
            parameter.grad = gradient
        self.replayed = True
        return made.loss.clone()

    def _pass(self, batch: Batch) -> Pass:
        job, network = self.job, self.job.network.train()
        tokens = {name: tensor.clone() for name, tensor in batch.tokens.items()}
        inputs = replace(batch.inputs, begins=batch.inputs.begins.clone())
        batch = replace(batch, tokens=tokens, inputs=inputs, labels=batch.labels.clone())
        loss, n_targets = torch.zeros((), device=job.device), len(batch.targets)

        def work() -> None:
            network.zero_grad(set_to_none=True)
            with computing(network, job.recipe.precision, job.device) as now:
                total = network.head.loss(now.scores(batch, job.seed), batch)
                now.backward(total / n_targets)
            loss.copy_(total.detach())
            found = {p: p.grad for p in network.parameters() if p.grad is not None}
            self.kept = self.kept or {p: torch.empty_like(gradient) for p, gradient in found.items()}
            torch._foreach_copy_(list(self.kept.values()), list(found.values()))  # pyright: ignore[reportPrivateImportUsage]
            network.zero_grad(set_to_none=True)

        with _same_dropout(job.device), _compiling(network, job.graphs == "compiled"):
            replay = self.record(work)
        return Pass(_read(batch), loss, replay)

    def _captured(self, update: Update) -> Work:
        """An update as a graph. Trying it out changes nothing: a step that is broken changes no weight."""
        gradients, broken = list(self.kept.values()), update.broken.clone()
        before = [gradient.clone() for gradient in gradients]
        update.broken.fill_(1)
        step = self.record(update.apply)
        update.broken.copy_(broken)
        torch._foreach_copy_(gradients, before)  # pyright: ignore[reportPrivateImportUsage]
        return step


def alike(job: Job, parts: Sequence[NDArray[np.int64]]) -> bool:
    """Whether a batch, split into these parts, is one of those that are captured; see above."""
    data, examples = job.train, parts[0]
    one_size = len(set(np.diff(data.groups)[examples].tolist())) == 1
    one_size = one_size and not data.spans.shape[1] and data.masking is None
    return len(examples) == job.recipe.batch_size and one_size and job.network.pooling == "first"


def _read(batch: Batch) -> list[torch.Tensor]:
    """What a pass over such a batch reads."""
    return [*batch.tokens.values(), batch.inputs.begins, batch.labels]


@contextmanager
def _same_dropout(device: torch.device) -> Iterator[None]:
    """Leave the random numbers of a GPU where they are."""
    if device.type != "cuda":
        yield
        return
    state = torch.cuda.get_rng_state(device)
    try:
        yield
    finally:
        torch.cuda.set_rng_state(state, device)


@contextmanager
def _compiling(network: Network, on: bool) -> Iterator[None]:
    """Compile the encoder for what is recorded, and for nothing else: other batches have shapes of all kinds."""
    network.compiling = on
    try:
        with torch._dynamo.config.patch(recompile_limit=MOST_SHAPES) if on else nullcontext():
            yield
    finally:
        network.compiling = False


class OnGpu:
    """Captures work on the current GPU. All graphs share their memory, because one runs at a time."""

    def __init__(self) -> None:
        self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()

    def __call__(self, work: Work) -> Work:
        """Work as a graph; raises CannotCapture where it waits for the GPU."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP - 1):
                work()
            with _waiting_refused():
                work()
        current.wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            work()
        return graph.replay


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Raise CannotCapture where the host waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch does not find every wait, and says so: the capture finds the others
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise CannotCapture("a step of this encoder waits for the GPU") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)

"""Team: several processes that share the batches of one training, each with a device of its own.

The first process drives the run as always: order, optimizer, schedule, evaluation and checkpoints are its own. For
every batch it sends the others the weights and says which examples there are; each computes the gradient of its share,
and the first is left with the sum. On a CPU dropout is every example's own, so that the numbers are those of one
process up to the rounding of sums; a GPU draws its dropout for whole passes.

torch's DistributedDataParallel is not used: it hooks into a module's own forward, and here a pass is made of packed
micro-batches under a cast of the weights, with means over targets that lie in several processes. What it would hide,
the sending of gradients while others are still computed, is not hidden here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed as dist
from torch import nn

from layover import pulse
from layover.errors import StepError
from layover.executors import devices
from layover.executors.workers import Workers
from layover.places import Places
from layover.train.determinism import derive
from layover.train.memory import fits
from layover.train.together import Part

PATIENCE = timedelta(days=7)  # the others wait while the first one evaluates
END = -1  # in the place of a part's number
NONE, TRAINED, ALL = range(3)  # which weights are sent
SECONDS = 60.0  # for what a process raised to arrive
POLL_SECONDS = 0.02


def unheard(_: dict[str, Any]) -> None:
    """Reports of where a run stands come from the first process alone."""


Again = Callable[[], Generator[Any, Any, Any]]
"""What prepares the same training in another process, up to the job that it asks to be fitted."""


@dataclass
class Team:
    """One of `size` processes that share the batches of a run; the first, of rank 0, drives it."""

    rank: int
    size: int
    control: Any
    others: tuple[Future[None], ...] = ()
    sent: int | None = None  # the first one's: the optimizer step whose weights all have

    def passes(self, job: Any, part: Part, examples: NDArray[np.int64], step: int, weight: float = 1.0) -> torch.Tensor:
        """What `loop.passes` does, shared with the others. Raises StepError where one of them is lost."""
        trained = _trained(job)
        before = [p.grad for p in trained]
        number = [one.name for one in job.parts()].index(part.name)
        fresh = ALL if self.sent is None else TRAINED if step != self.sent else NONE
        with self._heard():
            self._told([number, step, len(examples), fresh], weight)
            self._given(job, examples, fresh)
        self.sent = step
        loss = self._share(job, part, examples, step, weight)
        with self._heard():
            total = self._summed(job, trained, loss, failed=False)
        for parameter, held in zip(trained, before, strict=True):
            if held is not None:
                parameter.grad = held if parameter.grad is None else parameter.grad + held
        return total

    def serve(self, job: Any) -> None:
        """Compute shares until the run has ended."""
        for part in job.parts():
            part.network.prepare(job.device).train()
        torch.manual_seed(derive(job.seed, f"dropout of {self.rank}"))
        trained = _trained(job)
        while True:
            (number, step, count, fresh), weight = self._told([0] * 4, 0.0)
            if number == END:
                return
            examples = self._given(job, np.zeros(count, np.int64), fresh)
            try:
                loss = self._share(job, job.parts()[number], examples, step, weight)
            except Exception:
                self._summed(job, trained, torch.zeros(()), failed=True)
                raise
            self._summed(job, trained, loss, failed=False)

    def end(self) -> None:
        """Let the others go."""
        self._told([END, 0, 0, NONE], 0.0)

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Raise StepError where one of the others is not heard any more."""
        try:
            yield
        except RuntimeError as error:
            raise _lost(self.size, self.others, error) from error

    def _told(self, numbers: list[int], weight: float) -> tuple[list[int], float]:
        """What the first one says: the part's number, the step, how many examples there are, and which weights come."""
        said = torch.tensor([*map(float, numbers), weight], dtype=torch.float64)
        dist.broadcast(said, 0, self.control)
        *found, weight = said.tolist()
        return [int(number) for number in found], weight

    def _given(self, job: Any, examples: NDArray[np.int64], fresh: int) -> NDArray[np.int64]:
        """The batch's examples; the weights of the step are copied where they are `fresh`."""
        which = torch.from_numpy(np.ascontiguousarray(examples))
        dist.broadcast(which, 0, self.control)
        if fresh != NONE:
            with torch.no_grad():
                tensors = list(_whole(job).parameters()) if fresh == ALL else _trained(job)
                flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
                dist.broadcast(flat, 0)
                if self.rank:
                    for tensor, values in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                        tensor.copy_(values.view_as(tensor))
        return which.numpy()

    def _share(self, job: Any, part: Part, examples: NDArray[np.int64], step: int, weight: float) -> torch.Tensor:
        """The summed loss of this process's share, with its part of the gradient in the parameters."""
        from layover.train.loop import passes

        longest_first = examples[np.argsort(-part.train.tokens[examples], kind="stable")]
        own, whole = longest_first[self.rank :: self.size], _whole(job)

        def work() -> torch.Tensor:
            whole.zero_grad(set_to_none=True)
            if not len(own):
                return torch.zeros((), device=job.device)
            return passes(job, part, own, step, weight, of=examples)

        return fits(job.room, work)

    def _summed(self, job: Any, trained: list[nn.Parameter], loss: torch.Tensor, failed: bool) -> torch.Tensor:
        """The sum of all losses; in the first process gradients become the sum of all gradients.

        A parameter that no process has a gradient of keeps none: an optimizer leaves such a one alone.
        """
        with torch.no_grad():
            found = [None if failed else p.grad for p in trained]
            there = torch.tensor([float(gradient is not None) for gradient in found], device=job.device)
            flags = torch.cat([there, torch.tensor([float(failed), float(loss)], device=job.device)])
            pieces = [torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True)]
            flat = torch.cat([*(piece.flatten().float() for piece in pieces), flags])
            dist.reduce(flat, 0)
            *sums, there, (lost, total) = flat.split([*(p.numel() for p in trained), len(trained), 2])
            if self.rank:
                return total
            if lost:
                raise _lost(self.size, self.others)
            for parameter, values, is_there in zip(trained, sums, there.tolist(), strict=True):
                parameter.grad = values.view_as(parameter).to(parameter.dtype) if is_there else None
        return total


def _lost(size: int, others: Sequence[Future[None]], error: BaseException | None = None) -> StepError:
    """What one of the others raised, or that it was lost."""
    place = f"one of the {size} processes that share this training"
    for future in wait(others, SECONDS, FIRST_COMPLETED).done:
        return StepError(f"{place} failed: {future.exception()}")
    return StepError(f"{place} was lost: {error}")


def spread(job: Any, places: Places, again: Callable[..., Generator[Any, Any, Any]]) -> Generator[Any, Any, Any]:
    """Ask for a job to be fitted, by as many processes as `places` say; the run, once it has ended well.

    `again(places=..., report=...)` prepares the same training in each of the others, up to its job.
    """
    alone = partial(again, places=replace(places, devices_per_step=1), report=unheard)
    with gathered(places.devices_per_step, alone, job.device, places.threads) as team:
        run = yield replace(job, team=team)
        run.ended()
        if team is not None:
            team.end()
    return run


@contextmanager
def gathered(size: int, again: Again, device: torch.device, threads: int) -> Iterator[Team | None]:
    """The team of `size` processes of a training that `again` prepares in each of the others; None for one alone.

    Raises StepError where there are not as many GPUs.
    """
    if size == 1:
        yield None
        return
    visible = devices.visible() if device.type == "cuda" else []
    if device.type == "cuda" and len(visible) < size:
        raise StepError(f"devices_per_step in [placement] is {size}, and {len(visible)} GPUs are visible to this step")
    folder = Path(tempfile.mkdtemp(prefix="layover-team-"))
    workers = Workers(size - 1, threads, devices=visible[1:size])
    try:
        others = tuple(workers.submit(_serve, rank, size, str(folder), again) for rank in range(1, size))
        while not all((folder / f"{rank}.ready").exists() for rank in range(1, size)):
            pulse.check()
            if any(future.done() for future in others):
                raise _lost(size, others)
            time.sleep(POLL_SECONDS)
        with _met(0, size, folder, device) as team:
            team.others = others
            yield team
    finally:
        workers.close()
        shutil.rmtree(folder, ignore_errors=True)


def _serve(rank: int, size: int, folder: str, again: Again) -> None:
    """Be one of the others: prepare the same training, and compute shares of its batches."""
    begun = Path(folder) / f"{rank}"
    if begun.exists():
        raise StepError("its process died")
    begun.touch()
    preparing = again()
    job = next(preparing)
    (Path(folder) / f"{rank}.ready").touch()
    with _met(rank, size, Path(folder), job.device) as team:
        team.serve(job)
    preparing.close()


@contextmanager
def _met(rank: int, size: int, folder: Path, device: torch.device) -> Iterator[Team]:
    """A process in its team, once all have come."""
    if "GLOO_SOCKET_IFNAME" not in os.environ and os.path.exists("/sys/class/net/lo"):
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # all are on this machine, whatever it is called in its network
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        yield Team(rank, size, dist.new_group(backend="gloo", timeout=PATIENCE))
    finally:
        dist.destroy_process_group()


def _whole(job: Any) -> nn.Module:
    return job.network if job.together is None else job.together.whole


def _trained(job: Any) -> list[nn.Parameter]:
    return [p for p in _whole(job).parameters() if p.requires_grad]

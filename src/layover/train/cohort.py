"""Cohort: several runs trained in lockstep, as one stacked network.

Every run keeps its own course: its optimizer, schedule, clipping, evaluation, early stop and checkpoint are those of a
run by itself. Only the passes forward and backward are made together. A run that ends, or fails, leaves the others.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any, TypeVar

import torch

from layover.train import loop
from layover.train.batching import collate, micro_batches
from layover.train.checkpoint import State
from layover.train.layers import CannotStack
from layover.train.loop import Job, Turn
from layover.train.precision import computing
from layover.train.stacked import Stack, stack

Ended = TypeVar("Ended")


@dataclass(eq=False)
class Run:
    """One of `runs` runs: what it asks for next, and how it ended once it has, or what it raised.

    `gradients` gives it what it asks for where it goes on by itself.
    `together` counts its steps that were made together with others; `apart` says why others were not.
    """

    job: Job
    course: Generator[Turn, Any, State]
    gradients: Callable[[Turn], torch.Tensor]
    runs: int = 1
    turn: Turn | None = None
    state: State | None = None
    error: Exception | None = None
    together: int = 0
    apart: str = ""

    def go(self, loss: torch.Tensor | None) -> None:
        """Go on to the next turn, with the summed loss of this one."""
        self.turn = None
        try:
            self.turn = self.course.send(loss)
        except StopIteration as ended:
            self.state = ended.value
        except Exception as error:
            self.error = error

    def ended(self) -> State:
        """Where the run ended; raises what it raised."""
        if self.error is not None:
            raise self.error
        assert self.state is not None
        return self.state


def by_itself(training: Generator[Job, Run, Ended]) -> Ended:
    """What a training ends with, whose one job is fitted alone."""
    (run,) = fit_together([next(training)])
    try:
        training.send(run)
    except StopIteration as done:
        return done.value
    raise AssertionError("a training asks for one job")


def fit_together(jobs: Sequence[Job]) -> Iterator[Run]:
    """Train runs whose encoders are of one structure, and give out each as soon as it has ended.

    Each ends as `loop.fit` would let it end, up to rounding. Where they cannot be stacked, or a pass of all of them
    fails, each is trained by itself, and fails by itself.
    """
    if len(jobs) == 1:
        going = [Run(job, *loop.started(job)) for job in jobs]
    else:
        alone = [loop.fitting(job, partial(loop.gradients, job)) for job in jobs]
        going = [Run(job, loop.course(job), take, len(jobs)) for job, take in zip(jobs, alone, strict=True)]
    for run in going:
        run.go(None)
    together = True
    while going:
        yield from (run for run in going if run.turn is None)
        going = [run for run in going if run.turn is not None]
        if together and len(going) > 1:
            together = _lockstep(going)
        elif going:
            _alone(going[0])


def _lockstep(runs: Sequence[Run]) -> bool:
    """Let runs go on together until one of them has ended; False where they cannot."""
    runs = sorted(runs, key=lambda run: run.job.recipe.dropout or 0.0)  # attention is a call per rate
    whole = None
    try:
        whole = stack([run.job.network for run in runs])
        while turns := [run.turn for run in runs if run.turn is not None]:
            if len(turns) < len(runs):
                break
            for run, loss in zip(runs, gradients(whole, [run.job for run in runs], turns), strict=True):
                run.together += 1
                run.go(loss)
    except Exception as error:
        for run in runs:
            run.apart = str(error) if isinstance(error, CannotStack) else f"{type(error).__name__}: {error}"
        return False
    finally:
        if whole is not None:
            whole.release()
    return True


def _alone(run: Run) -> None:
    try:
        while run.turn is not None:
            run.go(run.gradients(run.turn))
    except Exception as error:
        run.turn, run.error = None, error


def gradients(whole: Stack, jobs: Sequence[Job], turns: Sequence[Turn]) -> list[torch.Tensor]:
    """The summed loss of each run's batch, with the gradient of its mean left in the run's parameters.

    All runs have the same precision and device, and share the tokens that one of them may have in a pass.
    """
    whole.forget()
    for job in jobs:
        if not job.network.training:  # which takes as long as a pass of a small model
            job.network.train()
        job.network.head.zero_grad(set_to_none=True)
    first, packed = jobs[0], jobs[0].network.packed
    seeds, steps = [job.seed for job in jobs], [turn.step for turn in turns]
    most = min(job.room.tokens for job in jobs) // len(jobs)
    parts = [micro_batches(job.train, turn.examples, most, packed, job.device)
             for job, turn in zip(jobs, turns, strict=True)]  # fmt: skip
    counts = [max(1, len(job.train.known(turn.examples))) for job, turn in zip(jobs, turns, strict=True)]
    totals = [torch.zeros((), device=first.device) for _ in jobs]
    with computing(whole, first.recipe.precision, first.device) as now:  # type: ignore[arg-type]
        for group in zip_longest(*parts):
            batches = [part if part is None else collate(job.train, part, job.padding, job.device, packed, step)
                       for job, part, step in zip(jobs, group, steps, strict=True)]  # fmt: skip
            scores: Any = now.scores(batches, seeds, steps)  # type: ignore[arg-type]
            losses = []
            for run, (job, batch) in enumerate(zip(jobs, batches, strict=True)):
                if batch is not None:
                    loss = job.network.head.loss(scores[run], batch)
                    losses.append(loss / counts[run])
                    totals[run] += loss.detach()
            now.backward(torch.stack(losses).sum())
    return totals

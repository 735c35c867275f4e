"""Mixture: which examples of several tasks each optimizer step reads, and how much each task's loss counts.

Pure functions of seed, epoch, sizes and the settings (`step.Mixture`); a joint training of one task reads what a
training by itself reads. Examples are numbered through: those of a task begin behind those of the tasks before it.

An epoch has exact shares and a random arrangement. A "full" pass reads every task as often as its probability asks, and
the task that this asks most of exactly once: proportional, every example of every task once; evenly, small tasks
again and again until the largest has been read; up to a cap, the cap's number of a larger task, others each epoch. The
dynamic sampler reads as many examples as there are, shared out by its probabilities. An epoch to the "shortest" ends
before a task would have to be read again (Weller et al. 2022, whose batches hold a fixed number of each task).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layover.step import Mixture
from layover.train.batching import epoch_order
from layover.train.determinism import derive

Order = NDArray[np.int64]
Shares = NDArray[np.float64]


def probabilities(sizes: Sequence[int], mixture: Mixture) -> Shares:
    """How likely each task is drawn [tasks], before scores are known: the dynamic sampler begins in proportion."""
    n = np.asarray(sizes, dtype=float)
    weights = {
        "uniform": np.ones_like(n),
        "temperature": (n / n.max()) ** (1 / mixture.temperature),
        "capped": np.minimum(n, mixture.cap),
    }.get(mixture.sampler, n)
    return weights / weights.sum()


def by_gap(alone: Sequence[float], now: Sequence[float]) -> Shares:
    """The probabilities of the next epoch: a softmax of how far each task is behind its score alone.

    Scores are on a scale from 0 to 1 (Gottumukkala et al. 2020, as the code of Weller et al. 2022 has it).
    """
    gaps = np.asarray(alone, dtype=float) - np.asarray(now, dtype=float)
    raised = np.exp(gaps - gaps.max())
    return raised / raised.sum()


def shared_out(total: int, shares: Shares) -> Order:
    """`total` things shared out by largest remainder, one at least for each share; raises ValueError for too few."""
    if total < len(shares):
        raise ValueError(f"{total} for {len(shares)}")
    found = np.maximum(1, np.floor(total * shares)).astype(np.int64)
    while found.sum() > total:  # the shares below 1 were rounded up
        found[np.argmax(np.where(found > 1, found - total * shares, -np.inf))] -= 1
    for _ in range(total - int(found.sum())):
        found[np.argmax(total * shares - found)] += 1
    return found


def epoch_of(
    sizes: Sequence[int], shares: Shares, mixture: Mixture, batch_size: int, seed: int, epoch: int
) -> list[Order]:
    """The examples of each optimizer step of an epoch; raises ValueError for a batch that cannot hold every task."""
    draw = np.random.default_rng(derive(seed, "tasks", epoch))
    mixed, shortest = mixture.batches == "heterogeneous", mixture.epoch == "shortest"
    held = shared_out(batch_size, shares) if mixed and shortest else np.full(len(sizes), batch_size)
    counts = _shortest(sizes, shares, held, mixed) if shortest else full_pass(sizes, shares, mixture)
    firsts = np.cumsum([0, *sizes[:-1]])
    each = zip(firsts, sizes, counts.tolist(), strict=True)
    streams = [first + _stream(n, count, seed, epoch) for first, n, count in each]
    if mixed and not shortest:
        places = _arranged(counts, draw)
        order = np.empty(len(places), np.int64)
        for task, stream in enumerate(streams):
            order[places == task] = stream
        return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    cut = [[s[at : at + size] for at in range(0, len(s), size)] for s, size in zip(streams, held.tolist(), strict=True)]
    if mixed:
        return [np.concatenate(parts) for parts in zip(*cut, strict=True)]
    return [cut[task].pop(0) for task in _arranged([len(parts) for parts in cut], draw)]


def full_pass(sizes: Sequence[int], shares: Shares, mixture: Mixture) -> Order:
    """How many examples of each task a full pass reads [tasks]."""
    n = np.asarray(sizes)
    if mixture.sampler == "dynamic":
        return shared_out(int(n.sum()), shares)
    asked = np.minimum(n, mixture.cap) if mixture.sampler == "capped" else n
    return np.maximum(asked, np.round(shares * (asked / shares).max())).astype(np.int64)


def _shortest(sizes: Sequence[int], shares: Shares, held: Order, mixed: bool) -> Order:
    """How many examples of each task an epoch reads that ends before a task is read again: whole batches of `held`."""
    n = np.asarray(sizes)
    whole = np.maximum(1, n // held)
    steps = whole.min() if mixed else np.floor(shares * (whole / shares).min() + 1e-9).clip(1, whole)
    return np.minimum(n, held * steps).astype(np.int64)


def _stream(n: int, count: int, seed: int, epoch: int) -> Order:
    """The first `count` of a task's n examples in an epoch: permutation after permutation, the first as if alone."""
    passes = [epoch_order(n, n, seed, epoch)[0]]
    passes += [
        np.random.default_rng(derive(seed, "order", epoch, again)).permutation(n) for again in range(1, -(-count // n))
    ]
    return np.concatenate(passes)[:count]


def _arranged(counts: Sequence[int] | Order, draw: np.random.Generator) -> Order:
    """Each task's number as often as it counts, in random order."""
    return draw.permutation(np.repeat(np.arange(len(counts)), counts))

"""Many sources scored for one target: layover's batched LogME against one per source, as the authors' code has it.

    python bench/estimators.py [--sources S] [--rows N] [--width D] [--classes C] [--rounds R] [--tiny]     one thread
    python bench/estimators.py --encoder minilm --data DIR [--task rte] [--measured K] [...]     passes included

maps: small linear maps of the plain encoder's vectors (ESM), applied as well: layover from one triangular factor, the
others by making each source's features. features: vectors of each source's own encoder. Two forms of the published
algorithm: svd decomposes the features of each source (You et al. 2021), gram their Gram matrix and then finds the left
vectors, which is what the authors' later code does where there are more rows than features. Both iterate alpha and beta
11 times at most, until their ratio moves by less than a thousandth. Vectors fall off as an encoder's do and differ by
class. Prints medians over rounds of processor time in one process, their ratios to layover's, and how the
scores agree. Machines differ and are noisy: quote ratios. With an encoder, the vectors are those of a real task's rows,
and what it takes to make them counts: see selection.py.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import show
from numpy.typing import NDArray
from scipy.stats import spearmanr

from layover.select.estimator import Evidence
from layover.select.logme import ESM_LOGME, LOGME

Array = NDArray[np.float64]
ITERATIONS, CLOSE = 11, 1e-3
WAYS = ("layover", "gram", "svd")


def made(sources: int, rows: int, width: int, classes: int) -> Evidence:
    """A target whose classes differ along a few directions, and maps that keep more or less of these."""
    draw = np.random.default_rng(0)
    codes = draw.permutation(np.arange(rows) % classes)
    turn, _ = np.linalg.qr(draw.normal(size=(width, width)))
    falling = np.exp(-np.linspace(0, 5, width))
    plain = (draw.normal(size=(rows, width)) * falling) @ turn + draw.normal(size=width)
    plain += (draw.normal(size=(classes, width)) * falling)[codes] @ turn
    maps, features = [], []
    for strength in np.linspace(0, 1, sources):
        change = draw.normal(size=(width, width)) / np.sqrt(width) * (1 - strength)
        one = np.concatenate([np.eye(width) + change, draw.normal(size=(1, width))]).astype(np.float32)
        maps.append(one)
        features.append((plain @ one[:-1] + one[-1]).astype(np.float32)[None])
    return Evidence(codes, features=features, plain=plain.astype(np.float32)[None], maps=maps)


def published(features: Array, codes: NDArray[np.int64], gram: bool) -> float:
    """LogME of one source, by the singular vectors of its features [n, d]."""
    if gram and len(features) > features.shape[1]:
        _, squares, right = np.linalg.svd(features.T @ features)
        kept = squares > 1e-10
        squares, left = squares[kept], features @ right[kept].T / np.sqrt(squares[kept])
    else:
        left, singular, _ = np.linalg.svd(features, full_matrices=False)
        squares = singular**2
    found = [_evidence(left.T @ y, squares, float(y @ y), len(y)) for y in np.eye(codes.max() + 1)[codes].T]
    return float(np.mean(found))


def one_by_one(features: NDArray[Any], labels: NDArray[Any]) -> float:
    """LogME of one source as the authors' later code has it."""
    return published(features, np.unique(labels, return_inverse=True)[1], gram=True)


def _evidence(turned: Array, squares: Array, total: float, n: int) -> float:
    x, alpha, beta, found = turned**2, 1.0, 1.0, -np.inf
    outside = total - x.sum()
    for _ in range(ITERATIONS):
        t = alpha / beta
        known = (squares / (squares + t)).sum()
        weights = (squares * x / (squares + t) ** 2).sum()
        error = (x / (1 + squares / t) ** 2).sum() + outside
        alpha, beta = known / weights, (n - known) / error
        determinant = np.log(alpha + beta * squares).sum() - len(squares) * np.log(alpha)
        found = n * np.log(beta / (2 * np.pi)) - determinant - beta * error - alpha * weights
        if abs(alpha / beta - t) <= CLOSE * t:
            break
    return found / 2 / n


def scores(what: str, way: str, evidence: Evidence) -> Array:
    """The scores of all sources, from what the evidence holds."""
    if way == "layover":
        return (ESM_LOGME if what == "maps" else LOGME).score(evidence)
    assert evidence.labels is not None
    if what == "maps":
        assert evidence.plain is not None
        plain = np.column_stack([evidence.plain[-1], np.ones(len(evidence.labels))]).astype(np.float64)
        features = (plain @ one.astype(np.float64) for one in evidence.maps or () if one is not None)
    else:
        features = (one[-1].astype(np.float64) for one in evidence.features if one is not None)
    return np.array([published(one, evidence.labels, way == "gram") for one in features])


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gives."""
    begun = time.process_time()
    found = function(*arguments)
    return time.process_time() - begun, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("sources", 100), ("rows", 1000), ("width", 384), ("classes", 3), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--encoder", help="its name or folder: time its passes too")
    parser.add_argument("--data", type=Path, help="the directory that holds the task")
    parser.add_argument("--task", default="rte", help="of classes, one text or a pair")
    parser.add_argument("--measured", type=int, default=3, help="sources whose passes are measured")
    asked = parser.parse_args()
    if (asked.encoder is None) != (asked.data is None):
        parser.error("--encoder and --data go together")
    if asked.encoder is not None:
        from selection import Sizes, compare

        whole = Sizes(*((6, 2, 40) if asked.tiny else (asked.sources, asked.measured, asked.rows)), asked.rounds)
        compare(asked.encoder, asked.data, asked.task, whole, one_by_one)
        return
    sizes = (6, 80, 16, 3) if asked.tiny else (asked.sources, asked.rows, asked.width, asked.classes)
    evidence = made(*sizes)
    scores("maps", "layover", made(2, 20, 4, 2))  # so that what it imports is there
    shown = []
    for what in ("maps", "features"):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        found: dict[str, Array] = {}
        for number in range(asked.rounds):
            for way in WAYS if number % 2 else WAYS[::-1]:
                spent, found[way] = timed(scores, what, way, evidence)
                seconds[way].append(spent)
        for way in WAYS:
            ratio = statistics.median(b / a for a, b in zip(seconds["layover"], seconds[way], strict=True))
            apart = np.abs(found[way] / found["layover"] - 1).max()
            agreed = spearmanr(found[way], found["layover"])[0]
            shown.append(
                [what, way, f"{statistics.median(seconds[way]):.3f}", f"x {ratio:.1f}", f"{apart:.1e}", f"{agreed:.4f}"]
            )
    title = "LogME of {} sources, {} rows of width {}, {} classes".format(*sizes)
    head = ["from", "by", "processor s", "to layover's", "largest relative difference", "rank correlation"]
    show(f"{title}; medians of {asked.rounds} rounds", head, shown)


if __name__ == "__main__":
    main()

"""Many sources scored for one target with one encoder, features included: what `estimators.py --encoder` measures.

peers: for each source its encoder is loaded, reads the rows in padded batches of 32 in the data's order (stock
transformers, fp32), and the published LogME runs once on the last layer's vectors. features: each source's encoder
reads the rows as `select/vectors.py` does, without padding and out of one encoding of the rows, all layers into a
store; LogME of all sources at once. maps: the plain encoder reads the rows once, and LogME of all sources comes from
their maps, which were fitted before (ESM).

A few sources are made by noise on the plain encoder's weights and measured, each once per round; a pass and a published
LogME are the means over these, times the number of sources. LogME of all sources at once is measured on as many
sources, these in turn.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import show
from numpy.typing import NDArray

from layover.encoders import find
from layover.select import maps
from layover.select.estimator import Evidence
from layover.select.logme import ESM_LOGME, LOGME
from layover.select.target import Reading, Target, target_of
from layover.select.vectors import features_of, vectors
from layover.store import Store
from layover.tasks import TASKS
from layover.train.frozen import Frozen

Array = NDArray[Any]
Published = Callable[[Array, Array], float]
BATCH, MAX_LENGTH, NOISE = 32, 256, 0.05  # of a tensor's own deviation
WAYS = ("peers", "features", "maps")


@dataclass(frozen=True)
class Sizes:
    """How many sources are reckoned with, how many of them are measured, rows of the target, and rounds."""

    sources: int
    measured: int
    rows: int
    rounds: int


@dataclass(frozen=True)
class Spent:
    """Processor seconds of one round for all sources: what is done once, all passes, and LogME; and of one pass."""

    once: float
    passes: float
    scoring: float
    one_pass: float

    @property
    def whole(self) -> float:
        """All of it."""
        return self.once + self.passes + self.scoring


def timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Processor seconds of a call, and what it gives."""
    begun = time.process_time()
    found = function(*arguments)
    return time.process_time() - begun, found


def make_sources(location: str, folder: Path, many: int) -> list[Path]:
    """Copies of an encoder with noise on their weights: directories that transformers and layover read."""
    from safetensors.torch import save_file
    from transformers import AutoModel, AutoTokenizer

    tokenizer, found = AutoTokenizer.from_pretrained(location), []
    for number in range(many):
        draw = torch.Generator().manual_seed(number)
        model = AutoModel.from_pretrained(location)
        with torch.no_grad():
            for tensor in model.parameters():
                spread = tensor.std(correction=0)
                tensor += NOISE * spread * torch.randn(tensor.shape, generator=draw)
        own = folder / f"source{number}"
        model.save_pretrained(own)
        tokenizer.save_pretrained(own)
        save_file({name: one.contiguous() for name, one in model.state_dict().items()}, own / "encoder.safetensors")
        found.append(own)
    return found


def padded_pass(location: str | Path, texts: Sequence[tuple[str, str | None]]) -> Array:
    """The first token's vectors [rows, width] of the last layer, as a script of the peers gets them."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(location), AutoModel.from_pretrained(location).eval()
    longest, found = min(MAX_LENGTH, tokenizer.model_max_length), []
    for begin in range(0, len(texts), BATCH):
        some = texts[begin : begin + BATCH]
        second = None if some[0][1] is None else [two for _, two in some]
        tokens = tokenizer([one for one, _ in some], second, truncation=True, max_length=longest, padding=True,
                           return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            found.append(encoder(**tokens).last_hidden_state[:, 0])
    return torch.cat(found).numpy()


def texts_of(target: Target) -> list[tuple[str, str | None]]:
    """The rows that the target's cases are, as one text or two."""
    from layover.tasks.load import surveyed

    found = []
    for example in surveyed(target.data.survey, target.data.source, target.data.train):
        [(first, second)] = example.inputs
        found.append((" ".join(first), None if second is None else " ".join(second)))
    return found


def one_round(target: Target, sources: Sequence[Path], sizes: Sizes, published: Published) -> tuple[Any, ...]:
    """All ways once, in a new store: what each spent, seconds of fitting one map, and how far scores differ."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(Path(folder) / "store")
        target = replace(target, data=replace(target.data, store=store))
        texts = texts_of(target)
        trained = [Frozen(target.encoder.identity, target.encoder.location, one.name, one) for one in sources]
        warmed, _ = timed(encoded, target)
        plain, _ = timed(features_of, target, target.plain)
        passes = [timed(features_of, target, one) for one in trained]
        read = vectors(target, ())
        labels = np.asarray(read.labels)
        ours = [one.layer(-1).float().numpy() for _, one in passes]
        fits = [timed(maps.fit, read.plain[-1], one) for one in ours]
        turns = range(sizes.sources)
        features = Evidence(labels, features=[ours[i % len(ours)][None] for i in turns])
        mapped = Evidence(labels, plain=read.plain, maps=[fits[i % len(fits)][1].weights for i in turns])
        batched, scores = timed(LOGME.score, features)
        by_maps, _ = timed(ESM_LOGME.score, mapped)
        theirs = [timed(padded_pass, one, texts) for one in sources]
        singles = [timed(published, one.astype(np.float64), labels) for _, one in theirs]
    for own, (_, other) in zip(ours, theirs, strict=True):  # they read the same rows alike, so that times compare
        np.testing.assert_allclose(own, other, rtol=2**-7, atol=5e-3)
    padded, single, own = (statistics.mean(one for one, _ in found) for found in (theirs, singles, passes))
    spent = {
        "peers": Spent(0.0, sizes.sources * padded, sizes.sources * single, padded),
        "features": Spent(warmed, sizes.sources * own, batched, own),
        "maps": Spent(warmed, plain, by_maps, plain),
    }
    apart = max(abs(one / score - 1) for (_, one), score in zip(singles, scores, strict=False))
    return spent, statistics.mean(one for one, _ in fits), apart


def encoded(target: Target) -> None:
    """Encode the target's rows, which every pass then reads."""
    from layover.train import cache, warm

    tokenizer = warm.tokenizer(target.encoder.location)
    longest = min(MAX_LENGTH, tokenizer.model_max_length)
    cache.encoded(target.data, [target.data.train], tokenizer, longest)


def compare(encoder: str, data: Path, task: str, sizes: Sizes, published: Published) -> None:
    """Measure and print."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    reading = Reading(rows=sizes.rows, max_length=MAX_LENGTH)
    with tempfile.TemporaryDirectory() as folder:
        store, found = Store.open(Path(folder) / "store"), find(encoder)
        target = target_of(store, TASKS.get(task), found, data=[data], reading=reading, device="cpu", threads=1)
        if target.task.format.reads.marks or target.task.output != "classes":
            raise SystemExit(f"{task}: name a task of classes, of one text or a pair")
        sources = make_sources(found.location, Path(folder), sizes.measured)
        padded_pass(sources[0], texts_of(target)[:2])  # so that what is imported is there
        rounds = [one_round(target, sources, sizes, published) for _ in range(sizes.rounds)]
    rows = []
    for way in WAYS:
        spent = [one[0][way] for one in rounds]
        ratio = statistics.median(one[0]["peers"].whole / one[0][way].whole for one in rounds)
        parts = ("one_pass", "once", "passes", "scoring", "whole")
        numbers = [statistics.median(getattr(one, part) for one in spent) for part in parts]
        count = 1 if way == "maps" else sizes.sources
        rows.append([way, str(count), *(f"{number:.3f}" for number in numbers), f"x {ratio:.1f}"])
    read = int(target.data.train.kept.sum())
    title = (f"Scoring {sizes.sources} sources for {read:,} rows of {task} with {found.name}, passes included: "
             f"measured on {sizes.measured} sources and multiplied; medians of {sizes.rounds} rounds")  # fmt: skip
    head = ["way", "passes", "one pass, processor s", "encoding, once", "all passes", "LogME of all", "in all",
            "peers' time to this"]  # fmt: skip
    show(title, head, rows)
    fitting, apart = statistics.median(one[1] for one in rounds), max(one[2] for one in rounds)
    print(f"\nOne map, fitted once for all targets to {read:,} rows: {fitting:.3f} s, after a pass of the source's "
          f"encoder over them. Published and batched LogME differ by {apart:.1e} at most, relative.")  # fmt: skip

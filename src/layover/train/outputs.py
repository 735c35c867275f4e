"""Outputs: what a head that was trained on one task says of another task's cases, read from frozen features.

These are the "dummy labels" of NCE and LEEP (Tran et al. 2019; Nguyen et al. 2020): a distribution over the source's
classes for every case of the target.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from layover.tasks.task import Task
from layover.train.batching import Batch
from layover.train.cases import Cases, chunks
from layover.train.features import Features, Pooling
from layover.train.heads import Head
from layover.train.noise import Noise


def unlike(source: Task, target: Task) -> str:
    """Why a source's head says nothing of a target's cases; empty where it does.

    It has to give a distribution over classes, and to read what the target's cases are made of.
    """
    if source.output in ("value", "extent", "tokens"):
        what = {"value": "a number", "extent": "a place in a passage", "tokens": "hidden tokens"}[source.output]
        return f"its head predicts {what}, not one of several classes"
    if target.output in ("extent", "tokens") or (source.output == "choice") != (target.output == "choice"):
        return f"its head reads other inputs: {_read_by(source)} there, {_read_by(target)} in the target"
    ours, theirs = source.format.reads, target.format.reads
    if ours.marks and ours.marks == theirs.marks and ours.sentence == theirs.sentence:
        return ""
    if not ours.marks and theirs.sentence:
        return ""
    return f"its head reads other inputs: {_read_by(source)} there, {_read_by(target)} in the target"


def _read_by(task: Task) -> str:
    if task.output in ("choice", "extent", "tokens"):
        return {"choice": "choices", "extent": "passages", "tokens": "plain text"}[task.output]
    reads = task.format.reads
    stretches = f"{reads.marks} stretch{'es' if reads.marks > 1 else ''} of a text"
    return "whole texts" if not reads.marks else f"texts and {stretches}" if reads.sentence else stretches


def outputs(
    features: Features, cases: Cases, source: Task, target: Task, weights: Path, pooling: Pooling
) -> NDArray[np.float32] | None:
    """The probabilities [n, classes] that the head in `weights` gives each case; None where the two are `unlike`.

    `source` is the task that the head was trained on, with its labels, and `pooling` that of its recipe. A choice's are
    (wrong, right), by a softmax over the choices of its question. A head for sets of labels gives one probability for
    each: they are scaled so that they sum to 1.
    """
    if unlike(source, target):
        return None
    head = Head(features.width, source, 0.0, 0, Noise())
    head.load_state_dict(load_file(weights / "head.safetensors"))
    head.eval()
    found = [np.zeros((0, 2 if source.output == "choice" else len(source.labels)), np.float32)]
    for which, read in chunks(features, cases, [features.n_layers - 1], pooling):
        whole = not head.marks and bool(read.batch.spans)  # the target's head reads more than this one does
        batch = replace(read.batch, spans=[]) if whole else read.batch
        with torch.inference_mode():
            given = _probabilities(source, head(read.hidden[0], read.pooled[0], batch), batch)
        given = given[batch.example] if whole else given
        found.append(given[which].numpy())
    return np.concatenate(found)


def _probabilities(task: Task, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """A head's scores as a distribution for each input, or for each target."""
    if task.output == "labels":
        each = scores.sigmoid()
        return each / each.sum(-1, keepdim=True)
    given = scores.softmax(-1)
    if task.output != "choice":
        return given
    right = torch.cat([row[:n] for row, n in zip(given, batch.sizes, strict=True)])
    return torch.stack([1 - right, right], dim=1)

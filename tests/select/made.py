"""Evidence that is made up: sources of which it is known how good they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from layover.select.estimator import Evidence, Kind

SIGNALS = (0.0, 4.0, 1.5)  # of the three sources of `evidence`: none, much, little


def labels_of(n: int, classes: int, seed: int = 0) -> NDArray[np.int64]:
    """Classes [n], each of as many rows as there are to give, in any order."""
    return np.random.default_rng(seed).permutation(np.arange(n) % classes)


def evidence(n: int = 60, d: int = 8, classes: int = 3, kind: Kind = "classes", seed: int = 0) -> Evidence:
    """Three sources whose features, maps, outputs, texts and Fisher vectors have `SIGNALS` of the labels in them."""
    draw = np.random.default_rng(seed)
    codes = labels_of(n, classes, seed)
    labels: NDArray[Any] = codes if kind == "classes" else codes + 0.1 * draw.normal(size=n)
    centres = draw.normal(size=(classes, d))
    centres *= 1 / np.linalg.norm(centres, axis=1, keepdims=True)
    plain = np.stack([draw.normal(size=(n, d)), draw.normal(size=(n, d)) + 2 * centres[codes]])
    onto = np.linalg.pinv(centres) @ centres  # onto what the centres span
    features, maps, outputs = [], [], []
    for signal in SIGNALS:
        layers = [draw.normal(size=(n, d)) + share * signal * centres[codes] for share in (0.0, 0.5, 1.0)]
        features.append(np.stack(layers).astype(np.float32))
        noise = (
            (np.eye(d) - onto) @ draw.normal(size=(d, d)) @ onto
        )  # from where classes do not differ to where they do
        maps.append(np.concatenate([signal * onto + noise, draw.normal(size=(1, d))]).astype(np.float32))
        scores = draw.normal(size=(n, classes)) + signal * np.eye(classes)[codes]
        outputs.append(np.exp(scores) / np.exp(scores).sum(1, keepdims=True))
    target_text, target_task = draw.normal(size=5), draw.random(7)
    return Evidence(
        labels, kind, features, plain.astype(np.float32), maps, outputs,
        draw.normal(size=(3, 5)) + np.outer(SIGNALS, target_text), target_text,
        draw.random((3, 7)) + np.outer(SIGNALS, target_task), target_task,
    )  # fmt: skip


def of(features: NDArray[Any], labels: NDArray[Any], kind: Kind = "classes") -> Evidence:
    """One source with one layer [n, d]."""
    return Evidence(labels, kind, [np.asarray(features, np.float64)[None]])

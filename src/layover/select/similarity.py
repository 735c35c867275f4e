"""How alike a source and a target are as vectors: TextEmb and TaskEmb. Cosines, from -1 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from layover.select.estimator import Array, Evidence

VU = "Vu et al. 2020, exploring and predicting transferability across NLP tasks (EMNLP)"


def cosines(many: Array, one: Array) -> Array:
    """The cosine [sources] of each row [sources, d] with a vector [d]; nan for a row of nan, or where either is 0."""
    there = np.isfinite(many).all(1) & many.any(1)
    found = np.full(len(many), np.nan)
    if one.any() and there.any():
        rows, target = (part / np.abs(part).max(-1, keepdims=True) for part in (many[there], one))  # so none overflows
        norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(target)
        found[there] = np.clip(rows @ target / norms, -1, 1)
    return found


@dataclass(frozen=True)
class Similarity:
    """The cosine of a source's vector with the target's.

    TextEmb: the mean over a task's texts of the plain encoder's vectors; no label is read. TaskEmb: the diagonal of the
    Fisher information that a task's rows and labels have of the encoder's weights. The paper compares TaskEmb for each
    part of the encoder and merges the rankings; here all weights are one vector.
    """

    name: str
    needs: Literal["texts", "tasks"]
    labels: bool
    reference: str = VU

    def score(self, evidence: Evidence) -> Array:
        """How like the target every source [sources] is; nan for one without a vector."""
        names = ("source_texts", "target_text") if self.needs == "texts" else ("source_tasks", "target_task")
        many, one = (getattr(evidence, name) for name in names)
        if evidence.lacks(self):
            return np.full(evidence.sources, np.nan)
        return cosines(many.astype(np.float64), one.astype(np.float64))


TEXTEMB = Similarity("textemb", "texts", labels=False)
TASKEMB = Similarity("taskemb", "tasks", labels=True)

"""What a source's own head says of a target's rows: NCE and LEEP, log-likelihoods in nats per row, at most 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from layover.select.estimator import Array, Evidence, Labels, Needs


def nce(outputs: Array, labels: Labels) -> float:
    """Minus the entropy of the target's classes given the source's, from -log classes to 0.

    Tran et al. 2019 ("Transferability and hardness of supervised classification tasks", ICCV): the mean of
    log P(y | z), with z the source's most likely class for a row and P the shares among the rows that have it. Of
    classes that are equally likely the row counts a part to each.
    """
    top = outputs >= outputs.max(1, keepdims=True)
    hard = top / top.sum(1, keepdims=True)
    seen = _conditional(hard, labels)[labels.codes]  # [n, z]
    return float((hard * np.log(np.where(hard > 0, seen, 1))).sum() / len(hard))


def leep(outputs: Array, labels: Labels) -> float:
    """The mean of log sum_z P(y | z) p(z | x), at most 0, with p(z | x) the outputs [n, source classes].

    Nguyen et al. 2020 ("LEEP: a new measure to evaluate transferability of learned representations", ICML):
    P(y | z) comes from the mean of p(z | x) over the rows of class y. No less than minus the entropy of the classes.
    """
    likely = (_conditional(outputs, labels)[labels.codes] * outputs).sum(1)
    return float(np.log(np.minimum(likely / outputs.sum(1), 1)).mean())


def _conditional(outputs: Array, labels: Labels) -> Array:
    """P(y | z) [classes, source classes], 0 where no row has any of z."""
    joint = labels.targets.T @ outputs
    mass = joint.sum(0)
    return joint / np.where(mass > 0, mass, 1)


@dataclass(frozen=True)
class OfOutputs:
    """An estimator that rates the outputs of a source's head; it says nothing of values."""

    name: str
    reference: str
    rate: Callable[[Array, Labels], float]
    needs: Needs = "outputs"
    labels: bool = True

    def score(self, evidence: Evidence) -> Array:
        """How good every source [sources] is for the target; nan for one without outputs."""
        if evidence.lacks(self) or evidence.kind == "values":
            return np.full(evidence.sources, np.nan)
        scores = [
            np.nan if one is None else self.rate(one.astype(np.float64), evidence.gold) for one in evidence.outputs
        ]
        return np.array(scores, dtype=np.float64)


NCE = OfOutputs("nce", "Tran et al. 2019, negative conditional entropy (ICCV)", nce)
LEEP = OfOutputs("leep", "Nguyen et al. 2020, LEEP (ICML)", leep)

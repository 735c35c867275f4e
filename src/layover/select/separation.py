"""How well a source's features tell a target's classes apart: shrinkage H-score, GBC and TransRate.

All three look at how classes lie in the features, and say nothing of values. None is changed by turning the features.
"""

from __future__ import annotations

import numpy as np

from layover.select.estimator import Array, Labels, OfFeatures, centred, each

NOTHING = 1e-12  # of the largest eigenvalue, or of all variance: what is smaller is rounding
COMPONENTS = 64  # of a principal component analysis
DISTORTION = 1e-4


def h_score(features: Array, labels: Labels) -> float:
    """The shrinkage H-score of features [n, d]: tr(S^-1 (1 - a) B), from 0 (classes have one mean) to classes - 1.

    Ibrahim et al. 2022 ("Newer is not always better: rethinking transferability metrics, their peculiarities, stability
    and performance", ECML PKDD): B is the covariance of the class means, each counted as often as it has
    rows, and S the covariance of the features, shrunk by a towards a multiple of the identity (Ledoit & Wolf 2004).
    """
    moved = centred(features)
    covariance = moved.T @ moved / len(moved)
    shrinkage = ledoit_wolf(moved, covariance)
    level = np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh((1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance)))
    kept = values > NOTHING * values[-1]
    turned = _means(moved, labels) @ vectors[:, kept]
    return float((1 - shrinkage) * (labels.counts @ (turned**2 / values[kept]).sum(1)) / len(moved))


def ledoit_wolf(moved: Array, covariance: Array) -> float:
    """How far the covariance [d, d] of centred features [n, d] is to be drawn towards a multiple of the identity.

    From 0 to 1. Ledoit & Wolf 2004 ("A well-conditioned estimator for large-dimensional covariance matrices", Journal
    of Multivariate Analysis).
    """
    n, squared = len(moved), float((covariance**2).sum())
    apart = squared - np.trace(covariance) ** 2 / len(covariance)
    noise = (float(((moved**2).sum(1) ** 2).sum()) / n - squared) / n
    return min(max(noise, 0.0), apart) / apart if apart > NOTHING * squared else 0.0


def gbc(features: Array, labels: Labels) -> float:
    """How little classes overlap in features [n, d]: from -classes (classes - 1), all in one place, to 0, far apart.

    Pándy et al. 2022 ("Transferability estimation using Bhattacharyya class separability", CVPR): minus the sum over
    ordered pairs of classes of exp(-D), D the Bhattacharyya distance of two normal distributions that are fitted to the
    first 64 principal components, here with one variance for all components (the spherical form). A class with one row
    has no variance and is left out; nan where fewer than two are left.
    """
    moved = _principal(centred(features))
    kept = labels.counts > 1
    if kept.sum() < 2:
        return np.nan
    counts, width = labels.counts[kept], moved.shape[1]
    means = _means(moved, labels)[kept]
    squares = (labels.targets.T @ (moved**2).sum(1))[kept] / counts - (means**2).sum(1)
    total = float((moved**2).sum()) / len(moved)
    variances = np.maximum(squares, NOTHING * max(total, np.finfo(float).tiny / NOTHING)) / width
    norms = (means**2).sum(1)
    between = np.maximum(norms[:, None] + norms - 2 * means @ means.T, 0)
    pair = (variances[:, None] + variances) / 2
    shape = np.log(pair) - (np.log(variances)[:, None] + np.log(variances)) / 2
    overlap = np.exp(-(between / pair / 8 + width * shape / 2))
    return float(np.trace(overlap) - overlap.sum())


def transrate(features: Array, labels: Labels) -> float:
    """How much less it takes to code features [n, d] once classes are known, in nats: 0 (nothing) or more.

    Huang et al. 2022 ("Frustratingly easy transferability estimation", ICML): R(Z) - sum over classes of
    n_c / n R(Z_c), with Z centred and R(Z) = log det(I + Z'Z / (n e)) / 2 the rate at a distortion e = 1e-4. That is of
    the scale of the features, so that sources whose features are larger score higher. (The paper's listing takes the
    plain mean over classes.)
    """
    moved = centred(features)
    parts = [moved[labels.codes == code] for code in range(len(labels.counts))]
    within = sum(len(part) / len(moved) * _rate(part) for part in parts)
    return max(_rate(moved) - float(within), 0.0)  # it is no less, but by rounding


def _rate(moved: Array) -> float:
    wide = len(moved) < moved.shape[1]
    gram = (moved @ moved.T if wide else moved.T @ moved) / (len(moved) * DISTORTION)
    return float(np.linalg.slogdet(gram + np.eye(len(gram)))[1]) / 2


def _means(features: Array, labels: Labels) -> Array:
    """The mean features [k, d] of every class."""
    return labels.targets.T @ features / labels.counts[:, None]


def _principal(moved: Array) -> Array:
    """The first principal components [n, 64] of centred features, or these where they are no wider."""
    if moved.shape[1] <= COMPONENTS:
        return moved
    _, vectors = np.linalg.eigh(moved.T @ moved)
    return moved @ vectors[:, -COMPONENTS:]


HSCORE = OfFeatures("hscore", "Ibrahim et al. 2022, shrinkage H-score (ECML PKDD)", each(h_score))
GBC = OfFeatures("gbc", "Pándy et al. 2022, Gaussian Bhattacharyya coefficient (CVPR)", each(gbc))
TRANSRATE = OfFeatures("transrate", "Huang et al. 2022, TransRate (ICML)", each(transrate))

"""Parts: what steps are made of beside a recipe: a task's data, what is done to layers, how tasks are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from layover.identity import neutral


@dataclass(frozen=True)
class TaskRef:
    """What a step takes from its task: the data by digest or revision, how it is split, and the deciding metric.

    `declaration` holds a user's own task in full; a catalogue task is named with its version instead. `drawn` is the
    seed by which the `limit_train` questions are drawn, so that every restart sees others; None: the same for all.
    """

    name: str
    version: int
    data: str
    select_by: str
    limit_train: int | None = None
    limit_validation: int | None = None
    selection: Literal["holdout", "validation"] = "holdout"
    holdout: float = 0.1
    declaration: Mapping[str, Any] | None = None
    drawn: int | None = neutral(None)


@dataclass(frozen=True)
class Surgery:
    """What is done to an encoder's layers (numbered from 0) before a step trains it (Tamkin et al. 2020).

    First the layers are put into the `order` given, then cut to the lowest `depth`, then those in `reset` are drawn
    anew: the weights of every linear map, from a truncated normal, "intended" with sd 0.02 or as the paper's code
    "released" it, with sd 0.00046; layer norms to 1 and 0 unless kept; biases to 0 if they are reset. Embeddings
    always stay.
    """

    reset: tuple[int, ...] = ()
    layer_norm: Literal["reset", "kept"] = "reset"
    biases: Literal["kept", "reset"] = "kept"
    init: Literal["intended", "released"] = "intended"
    order: tuple[int, ...] = ()
    depth: int | None = None


@dataclass(frozen=True)
class Mixture:
    """How the tasks of a joint training are mixed: which is drawn when, what batches hold, and what a loss counts.

    `sampler`: by size, evenly, by size to the power 1 / `temperature`, by size up to `cap` (Raffel et al. 2020), or
    anew each epoch by the gap to each task's score alone (Gottumukkala et al. 2020). `batches` hold one task each or
    all. `heads`: one per task, or one for all tasks with the same labels, or with the same count of them. `weights` of
    the losses: fixed (1 each without `fixed`, which is in the order of the tasks), by uncertainty (Kendall et al.
    2018), or GradNorm (Chen et al. 2018), both learned at `weights_rate`. An epoch ends with the `shortest` task, as
    the code of Weller et al. 2022 does, or is a `full` pass. `conflict` between gradients is ignored, logged as
    cosines, or resolved by PCGrad (Yu et al. 2020).
    """

    sampler: Literal["proportional", "uniform", "temperature", "capped", "dynamic"] = "proportional"
    temperature: float = 2.0
    cap: int = 16384
    batches: Literal["homogeneous", "heterogeneous"] = "heterogeneous"
    heads: Literal["task", "labels", "count"] = "task"
    weights: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    fixed: tuple[float, ...] = ()
    gradnorm_alpha: float = 1.5
    weights_rate: float = 0.025
    epoch: Literal["shortest", "full"] = "full"
    conflict: Literal["ignore", "log", "pcgrad"] = "ignore"

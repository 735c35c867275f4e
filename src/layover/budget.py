"""Budget: what a plan asks for where nothing of it has run yet: operations, hours on a named device, and disk.

A token costs about 2 operations for each parameter of the layers forward and twice that backward: training on it 6
times the parameters, reading it 2 times (Kaplan et al. 2020, section 2.1). Parameters are those of the layers, 12 x
layers x width^2: embeddings are looked up, and attention between tokens is little at a few hundred of them. Trainings
are counted to their last epoch: early stopping only makes them shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layover import encoders
from layover.catalog import catalog
from layover.encoders import Shape
from layover.errors import Problem, UserError, did_you_mean
from layover.plan import Plan
from layover.recipe import Recipe, frozen_parts
from layover.step import Joint, Measure, Probe, Step, TaskRef, Train
from layover.store import Store
from layover.tasks.extent import Extent, extent

FORWARD, TRAINING = 2, 6  # operations for each parameter and token
BYTES = 4  # of a weight in a store
ROW_BYTES = 40  # of a prediction: row, part, gold, predicted, and a score or two
STEP_BYTES = 20_000  # of a step's other files
UTILISATION = 0.35  # of a device's peak, as fine-tuning with short inputs reaches it
TERA = 1e12

PEAKS = {  # TFLOPS, dense, in the fastest of bf16 and fp16 that sums in fp32, by the makers' data sheets; P40: fp32
    "p40": 11.8, "t4": 65.0, "v100": 125.0, "rtx3090": 71.0, "rtx4090": 165.2, "a6000": 154.8, "l4": 121.0,
    "l40s": 362.0, "a100": 312.0, "h100": 989.4, "h200": 989.4,
}  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What some steps of a plan ask for.

    `flops` of trainings and what they evaluate, at most. `disk` in bytes: weights that are kept, and predictions.
    `tokens` that are trained on. `known` counts tasks by where their extent is from, `unknown` names encoders of which
    the size is not known, which are left out. `hours` are those of `device`, whose `speed` is in FLOPS, `measured` in
    the store or a share of its peak.
    """

    flops: float
    tokens: float
    weights: int
    predictions: int
    known: Mapping[str, int]
    unknown: tuple[str, ...]
    device: str = ""
    speed: float = 0.0
    measured: bool = False

    @property
    def hours(self) -> float | None:
        """Hours on one device, None where none is named."""
        return self.flops / self.speed / 3600 if self.speed else None

    @property
    def disk(self) -> int:
        """Bytes in the store."""
        return self.weights + self.predictions

    def to_json(self) -> dict[str, object]:
        """The budget as plain data."""
        return {**self.__dict__, "gpu_hours": self.hours, "disk": self.disk}


def budget(plan: Plan, store: Store, todo: Iterable[str], device: str = "") -> Budget:
    """What the steps in `todo` ask for; raises UserError where the device is not one that is known."""
    if device and device not in PEAKS:
        raise UserError(Problem("--device", f"{device!r} is not in the table of devices", did_you_mean(device, PEAKS)))
    extents = {name: extent(task, plan.sources.get(name)) for name, task in plan.tasks.items()}
    shapes = {one.identity: encoders.shape(one) for one in plan.encoders.values()}
    todo, kept = set(todo), plan.kept()
    flops = tokens = 0.0
    weights = predictions = 0
    read: set[tuple[object, ...]] = set()
    for key in (key for key in plan.steps if key in todo):
        step = plan.steps[key]
        predictions += STEP_BYTES + ROW_BYTES * sum(_scored(ref, extents[ref.name]) for ref in step.tasks)
        shape = shapes.get(getattr(step, "encoder", ""))
        if shape is None:
            continue
        if key in kept:
            weights += BYTES * shape.parameters * max(1, len(step.tasks) if isinstance(step, Joint) else 1)
        if isinstance(step, Probe):  # the encoder reads a data set once for all probes of it
            place = step.encoder, step.start, step.task.name
            if place in read:
                continue
            read.add(place)
        trained, cost = operations(step, shape, extents)
        flops, tokens = flops + cost, tokens + trained
    known = {source: sum(e.known == source for e in extents.values()) for source in ("data", "published", "guessed")}
    unknown = tuple(name for name, one in plan.encoders.items() if shapes[one.identity] is None)
    found = Budget(flops, tokens, weights, predictions, known, unknown)
    return _on(found, device, plan, store, shapes) if device else found


def operations(step: Step, shape: Shape, extents: Mapping[str, Extent]) -> tuple[float, float]:
    """The tokens that a step trains on, and the operations of all that it does, at most."""
    if isinstance(step, Measure):
        return 0.0, FORWARD * layer_parameters(shape) * min(
            step.text.limit_validation or math.inf, 500
        ) * step.max_length
    if not isinstance(step, Train | Joint | Probe):
        return 0.0, 0.0
    surgery = getattr(step, "surgery", None)
    each = layer_parameters(shape) * ((surgery.depth or shape.layers) / shape.layers if surgery else 1)
    recipe = step.recipe
    sizes = _sizes(step, extents)
    examples = sum(n for n, _ in sizes)
    scored = sum(_scored(ref, extents[ref.name]) * _tokens(extents[ref.name], recipe) for ref in step.tasks)
    once = sum(n * tokens for n, tokens in sizes)
    if isinstance(step, Probe):
        return 0.0, FORWARD * each * (once + scored)
    passes = recipe.passes(examples)
    selected = 0.0
    if recipe.selects:
        held = sum(
            _scored(ref, extents[ref.name]) * _tokens(extents[ref.name], recipe)
            if ref.selection == "validation"
            else n * ref.holdout * tokens
            for ref, (n, tokens) in zip(step.tasks, sizes, strict=True)
        )
        selected = held * evaluations(recipe, round(examples))
    backward = FORWARD if frozen_parts(recipe.freeze).whole else TRAINING
    return once * passes, each * (backward * once * passes + FORWARD * (selected + scored))


def examples_trained(step: Step, extents: Mapping[str, Extent]) -> float:
    """The examples that a step trains on, each as often as it is read, at most; 0 for one that trains nothing."""
    if not isinstance(step, Train | Joint | Probe):
        return 0.0
    examples = sum(n for n, _ in _sizes(step, extents))
    return examples * step.recipe.passes(examples)


def _sizes(step: Train | Joint | Probe, extents: Mapping[str, Extent]) -> list[tuple[float, float]]:
    """The examples that a step reads of each task in an epoch, and the tokens of one of them."""
    recipe = step.recipe
    sizes = [(_trained(ref, recipe, extents[ref.name]), _tokens(extents[ref.name], recipe)) for ref in step.tasks]
    if isinstance(step, Joint) and step.mixture.epoch == "shortest" and step.mixture.sampler in ("uniform", "dynamic"):
        least = min(n for n, _ in sizes)  # each task gives as many as the smallest has
        sizes = [(least, tokens) for _, tokens in sizes]
    return sizes


def layer_parameters(shape: Shape) -> float:
    """The parameters of an encoder's layers: 4 x width^2 for attention and 8 x width^2 for the rest of each."""
    return 12 * shape.layers * shape.width**2


def evaluations(recipe: Recipe, examples: int) -> int:
    """How often a training looks at its selection set, at most."""
    steps, epochs = recipe.n_steps(examples), recipe.n_epochs(examples)
    if recipe.evaluations_per_epoch:
        return recipe.evaluations_per_epoch * epochs
    return math.ceil(steps / recipe.evaluate_every) if recipe.evaluate_every else epochs


def _trained(ref: TaskRef, recipe: Recipe, of: Extent) -> float:
    held = ref.holdout if recipe.selects and ref.selection == "holdout" else 0.0
    return (1 - held) * min(ref.limit_train or math.inf, of.train)


def _scored(ref: TaskRef, of: Extent) -> int:
    return int(min(ref.limit_validation or math.inf, of.validation))


def _tokens(of: Extent, recipe: Recipe) -> float:
    """Tokens of an example, none of its inputs longer than the recipe lets them be."""
    return min(of.tokens, of.inputs * recipe.max_length)


def _on(found: Budget, device: str, plan: Plan, store: Store, shapes: Mapping[str, Shape | None]) -> Budget:
    """The budget on a device: at the speed measured in the store on one that is called so, else a share of its peak."""
    done, seconds = 0.0, 0.0
    columns = catalog(store, without_damaged=True).select(["device", "tokens", "encoder", "seconds"]).to_pydict()
    for name, tokens, encoder, took in zip(*columns.values(), strict=True):
        shape = shapes.get(encoder)
        if shape and tokens and device in (name or "").lower().replace(" ", "").replace("-", ""):
            done += TRAINING * layer_parameters(shape) * tokens
            seconds += took
    speed = done / seconds if seconds else PEAKS[device] * TERA * UTILISATION
    return Budget(**{**found.__dict__, "device": device, "speed": speed, "measured": seconds > 0})


def in_words(found: Budget) -> list[str]:
    """The budget as lines for people."""
    weights, rest = found.weights / 1e9, found.predictions / 1e9
    lines = [
        f"at most {found.flops:.2g} operations for {found.tokens:.2g} tokens (lengths of "
        + ", ".join(f"{n} tasks {_where(source)}" for source, n in found.known.items() if n)
        + f"); disk {found.disk / 1e9:,.1f} GB: weights {weights:,.1f}, predictions and the like {rest:,.1f}"
    ]
    if found.unknown:
        lines.append(f"without {', '.join(found.unknown)}, of which the size is not known here")
    if found.hours is not None:
        how = "measured in this store" if found.measured else f"{UTILISATION:.0%} of its peak"
        lines.append(f"about {found.hours:,.0f} hours on one {found.device} ({found.speed / TERA:,.1f} TFLOPS, {how})")
    return lines


def _where(source: str) -> str:
    return {"data": "from their data", "published": "as published", "guessed": "guessed"}[source]

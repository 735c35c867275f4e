"""Multitask: train on several tasks at once, in pairs or all together (Weller et al. 2022)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from layover.errors import Problem, StudyError, did_you_mean
from layover.step import Joint, Member, Mixture, Recipe, Step, key_of
from layover.strategies.strategy import Cell, Column

SHOWN = 4  # tasks that a label names


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """What both kinds say of a joint training; see `step.Mixture`."""

    sources: tuple[str, ...] = ()
    sampler: Literal["proportional", "uniform", "temperature", "capped", "dynamic"] = "proportional"
    temperature: float = 2.0
    cap: int = 16384
    batches: Literal["homogeneous", "heterogeneous"] = "heterogeneous"
    heads: Literal["task", "labels", "count"] = "task"
    weights: Literal["fixed", "uncertainty", "gradnorm"] = "fixed"
    fixed: dict[str, float] = field(default_factory=dict)
    gradnorm_alpha: float = 1.5
    weights_rate: float = 0.025
    epoch: Literal["shortest", "full"] = "full"
    conflict: Literal["ignore", "log", "pcgrad"] = "ignore"

    def uses(self) -> tuple[str, ...]:
        """Every source."""
        return self.sources


@dataclass(frozen=True, kw_only=True)
class Multitask(Mixing):
    """Train on the target and one source at once; every pair is trained once, and scored on each task that is a target.

    `sources` are the partners, one column each; a target is no partner of itself. Which examples a batch holds: of
    tasks in proportion to size, evenly ("uniform"), by size to the power 1 / `temperature`, by size up to `cap` (Raffel
    et al. 2020), or "dynamic", by how far each task is behind its score alone (Gottumukkala et al. 2020). `batches` are
    of one task each ("homogeneous") or of all; an `epoch` is a "full" pass, or ends with the "shortest" task, as in the
    code of Weller et al. `heads`: one per "task", or shared by tasks with the same "labels", or the same "count" of
    them. `weights` of the losses: "fixed" at 1, or at what `fixed` says by task; by "uncertainty" (Kendall et al.
    2018), or "gradnorm" (Chen et al. 2018) with `gradnorm_alpha`; learned ones move at `weights_rate`. `conflict`
    between the tasks' gradients: ignored, logged as cosines ("log"), or resolved by "pcgrad" (Yu et al. 2020), and
    logged too.
    """

    kind: ClassVar[str] = "multitask"
    roles: ClassVar[tuple[str, ...]] = ("joint",)

    def __post_init__(self) -> None:
        problems = wrong(self)
        if not self.sources:
            problems.append(Problem("sources", "is missing", 'name the partners: sources = ["mnli"]'))
        if problems:
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per partner."""
        return tuple(Column(source) for source in self.sources)

    def reach(self, cell: Cell) -> Member | None:
        """Train on the pair, and look at the target; None where it would be its own partner."""
        if cell.source == cell.target:
            return None
        return together(self, (cell.source, cell.target), cell)


@dataclass(frozen=True, kw_only=True)
class MultitaskAll(Mixing):
    """Train on all targets and sources of the study at once, and score every target from that one training.

    `sources` are tasks besides the targets; the other settings are those of multitask.
    """

    kind: ClassVar[str] = "multitask_all"
    roles: ClassVar[tuple[str, ...]] = ("joint",)

    def __post_init__(self) -> None:
        if problems := wrong(self):
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One, without a source: everything is."""
        return (Column(),)

    def reach(self, cell: Cell) -> Member | None:
        """Train on all targets and sources, and on the cell's own task, and look at the latter."""
        targets = [task for task, role in cell.make.roles().items() if role == "target"]
        return together(self, (*self.sources, *targets, cell.target), cell)


def together(settings: Mixing, tasks: Iterable[str], cell: Cell) -> Member:
    """The step that looks at the cell's target in a joint training, which is the same whichever task is looked at.

    Raises StudyError where the settings do not fit the tasks or the recipe.
    """
    roles, names = cell.make.roles(), sorted(set(tasks))
    recipe, chosen = cell.make.recipe("", "joint")
    mixture = mixed(settings, names)
    problems = [
        Problem(f"fixed.{name}", "is no task of this study", did_you_mean(name, roles))
        for name in settings.fixed
        if name not in roles
    ]
    problems += unfit(mixture, recipe, names)
    if problems:
        raise StudyError(*problems)
    alone = tuple(key_of(cell.train(name, roles[name])) for name in names) if settings.sampler == "dynamic" else ()
    refs = tuple(cell.ref(name, roles[name]) for name in names)
    joint = Joint(cell.encoder, refs, recipe, cell.seeded("joint"), mixture, recipe_from=chosen, alone=alone)
    return member(joint, cell.target, cell.role, cell)


def member(joint: Joint, task: str, role: str, cell: Cell, start: Step | None = None) -> Member:
    """The step that takes one task out of a joint training, which goes on from `start`; the plan takes both in."""
    names, plain = [ref.name for ref in joint.tasks], dataclasses.asdict(Mixture())
    shown = " + ".join(names) if len(names) <= SHOWN else f"{len(names)} tasks jointly"
    said = [v for f, v in dataclasses.asdict(joint.mixture).items() if isinstance(v, str) and v != plain[f]]
    part = "" if role == "source" else "joint"  # a stage before the last is no trial of a grid
    cell.add(joint, "", part, f"{shown} ({', '.join(said)})" if said else shown, start)
    ref = joint.tasks[names.index(task)]
    found = Member(joint.encoder, ref, joint.seed, key_of(joint))
    cell.add(found, task, role, start=joint)
    return found


def mixed(settings: Mixing, names: Iterable[str]) -> Mixture:
    """A strategy's settings as a step has them for these tasks; what nothing reads is as if it were not said."""
    taken = {f.name: getattr(settings, f.name) for f in dataclasses.fields(Mixture) if f.name != "fixed"}
    plain = Mixture()
    if settings.sampler != "temperature":
        taken["temperature"] = plain.temperature
    if settings.sampler != "capped":
        taken["cap"] = plain.cap
    if settings.weights != "gradnorm":
        taken["gradnorm_alpha"] = plain.gradnorm_alpha
    if settings.weights == "fixed":
        taken["weights_rate"] = plain.weights_rate
    weights = tuple(float(settings.fixed.get(name, 1.0)) for name in names)
    return Mixture(**taken, fixed=weights if set(weights) != {1.0} else ())


def wrong(settings: Mixing) -> list[Problem]:
    """What is wrong with settings by themselves."""
    positive: Mapping[str, float] = {
        **{name: getattr(settings, name) for name in ("gradnorm_alpha", "weights_rate")},
        **{f"fixed.{name}": value for name, value in settings.fixed.items()},
    }
    problems = [
        Problem(place, f"{value} is not above 0", "say a number above 0")
        for place, value in positive.items()
        if not 0 < value < math.inf
    ]
    if not 1 <= settings.temperature < math.inf:
        what = f"{settings.temperature} would take tasks further apart than their sizes are"
        problems.append(Problem("temperature", what, "say 1, which is in proportion to size, or more"))
    if settings.cap < 1:
        what = f"{settings.cap} is no number of examples"
        problems.append(Problem("cap", what, "say 1 or more, such as 16384"))
    if settings.fixed and settings.weights != "fixed":
        what = f"are weights that {settings.weights!r} would learn anew"
        problems.append(Problem("fixed", what, "leave it out, or say weights = 'fixed'"))
    if settings.batches == "homogeneous":
        needs = {"conflict": (settings.conflict, "ignore"), "weights": (settings.weights == "gradnorm", False)}
        problems += [
            Problem(word, f"{getattr(settings, word)!r} compares tasks in a batch, and batches are 'homogeneous'",
                    "say batches = 'heterogeneous'")
            for word, (value, without) in needs.items() if value != without
        ]  # fmt: skip
    return problems


def unfit(mixture: Mixture, recipe: Recipe, names: list[str]) -> list[Problem]:
    """What of a mixture does not fit its tasks or the recipe."""
    problems = []
    if len(names) < 2:
        hint = "name other sources"
        problems.append(Problem("sources", f"{names[0]!r} alone is nothing to train jointly", hint))
    if mixture.sampler == "dynamic" and not recipe.selects:
        what = "'dynamic' looks at selection scores, and the recipe never does"
        problems.append(Problem("sampler", what, "set checkpoint = 'best' or a patience, or another sampler: "
                                "proportional, uniform, temperature, capped"))  # fmt: skip
    if mixture.epoch == "shortest" and mixture.batches == "heterogeneous" and recipe.batch_size < len(names):
        what = f"'shortest' puts every task into each batch, and {recipe.batch_size} examples are fewer than the tasks"
        problems.append(Problem("epoch", what, f"set batch_size to {len(names)} at least, or epoch = 'full'"))
    return problems

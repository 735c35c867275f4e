"""Suits: whether recipes suit the steps that they are for, as far as that is known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec

from layover.errors import MissingExtra, Problem
from layover.recipe import FREEZABLE, Recipe, frozen_parts
from layover.step import Joint, Step, Train

PULLS = ("l2sp", "ewc", "mixout")  # what holds weights that LoRA does not train
MOST_PULL = 2.0  # rate times RecAdam's pull from which a step jumps further past the start than it was away


def unsuited(steps: Mapping[str, Step], labels: Mapping[str, str], depths: Mapping[str, int | None]) -> list[Problem]:
    """What in the recipes of a plan's steps cannot be followed, each named once with the first step that it is of.

    `depths` are the numbers of layers of encoders by identity, None where that is not known before they are loaded.
    """
    found: dict[tuple[str, str], Problem] = {}
    recipes = {
        key: recipe for key, step in steps.items() if isinstance(recipe := getattr(step, "recipe", None), Recipe)
    }
    plain = {id(recipe) for recipe in {id(recipe): recipe for recipe in recipes.values()}.values() if recipe.plain}
    for key, recipe in recipes.items():
        if id(recipe) not in plain:
            step = steps[key]
            surgery = getattr(step, "surgery", None)
            depth = (surgery and surgery.depth) or depths.get(step.encoder)  # type: ignore[union-attr]
            faults = (*_faults(recipe, depth), *_of_kind(recipe, step), *_of_ewc(recipe, step, steps))
            for place, message, hint in faults:
                found.setdefault((place, message), Problem(f"recipe.{place}", f"{message} ({labels[key]})", hint))
    return list(found.values())


def check_extras(steps: Iterable[Step]) -> None:
    """Raise MissingExtra where a step's recipe needs a package that is not installed here."""
    recipes = [recipe for step in steps if isinstance(recipe := getattr(step, "recipe", None), Recipe)]
    if any(recipe.lora for recipe in recipes) and find_spec("peft") is None:
        raise MissingExtra("peft", "lora", "a recipe with lora")


def _faults(recipe: Recipe, depth: int | None) -> Iterator[tuple[str, str, str]]:
    """What is wrong with a recipe for an encoder of `depth` layers: place, message, hint."""
    frozen = frozen_parts(recipe.freeze)
    if depth is not None and frozen.highest >= depth:
        message = f"{recipe.freeze!r}: layer {frozen.highest} is not in the encoder, whose layers are 0 to {depth - 1}"
        yield "freeze", message, f"choices: {FREEZABLE}"
    recadam = recipe.optimizer == "recadam"
    if recadam and recipe.learning_rate * recipe.recadam_pull >= MOST_PULL:
        most = MOST_PULL / recipe.learning_rate
        message = (
            f"{recipe.recadam_pull:g} is too much for a learning rate of {recipe.learning_rate:g}: steps would grow"
        )
        yield "recadam_pull", message, f"stay well below {most:g}; the paper's 5000 is for rates such as 2e-5"
    if recipe.lora:
        held = [name for name in PULLS if getattr(recipe, name)] + ["optimizer"] * recadam
        if recipe.freeze and frozen.whole:
            held.append("freeze")
        for name in held:
            message = f"{getattr(recipe, name)!r}: with lora the encoder's own weights are not trained, so that nothing"
            yield name, f"{message} could pull on them", f"leave out lora, or {name}"


def _of_kind(recipe: Recipe, step: Step) -> Iterator[tuple[str, str, str]]:
    """What the recipe of a joint training cannot ask for."""
    if recipe.lora and isinstance(step, Joint):
        yield "lora", "is for trainings on one task: the best weights of several cannot share one merge", "leave it out"


def _of_ewc(recipe: Recipe, step: Step, steps: Mapping[str, Step]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with where EWC is to learn which weights matter."""
    if not recipe.ewc:
        return
    start = steps.get(getattr(step, "start", None) or "")
    if not isinstance(step, Train):
        yield "ewc", f"is for trainings on one task, and this is a step of kind {step.kind!r}", "leave it out"
    elif step.start is None:
        hint = "set it for later stages alone, such as [strategies.NAME.recipe.role.target], or leave it out"
        yield "ewc", "holds to what the stage before learnt, and there is none before the first", hint
    elif not isinstance(start, Train):
        yield "ewc", "needs a stage before that was trained on one task", "leave it out, or choose l2sp"
    elif step.surgery is not None:
        yield "ewc", "holds weights that this step's surgery puts elsewhere or draws anew", "leave out one of the two"

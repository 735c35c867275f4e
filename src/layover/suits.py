"""Suits: whether recipes suit the steps that they are for, as far as that is known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from layover.errors import Problem
from layover.recipe import FREEZABLE, Recipe, frozen_parts
from layover.step import Step


def unsuited(steps: Mapping[str, Step], labels: Mapping[str, str], depths: Mapping[str, int | None]) -> list[Problem]:
    """What in the recipes of a plan's steps cannot be followed, each named once with the first step that it is of.

    `depths` are the numbers of layers of encoders by identity, None where that is not known before they are loaded.
    """
    found: dict[tuple[str, str], Problem] = {}
    for key, step in steps.items():
        recipe = getattr(step, "recipe", None)
        if isinstance(recipe, Recipe) and not recipe.plain:
            for place, message, hint in _faults(recipe, depths.get(step.encoder)):  # type: ignore[union-attr]
                found.setdefault((place, message), Problem(place, f"{message} ({labels[key]})", hint))
    return list(found.values())


def _faults(recipe: Recipe, depth: int | None) -> Iterator[tuple[str, str, str]]:
    frozen = frozen_parts(recipe.freeze)
    if depth is not None and frozen.highest >= depth:
        message = f"{recipe.freeze!r}: layer {frozen.highest} is not in the encoder, whose layers are 0 to {depth - 1}"
        yield "recipe.freeze", message, f"choices: {FREEZABLE}"

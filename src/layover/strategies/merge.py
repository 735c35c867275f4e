"""Merge: fine-tune on several intermediate tasks apart, make one encoder of the results, and go on from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from layover import step
from layover.errors import Problem, StudyError
from layover.step import Train, key_of
from layover.strategies.strategy import Cell, Column

PLUS = " + "
METHODS = ("average", "arithmetic", "ties")
SCALE, DENSITY = 1.0, 0.2  # Yadav et al. 2023: what they take where nothing can be tuned


@dataclass(frozen=True)
class Merge:
    """Train on each source by itself, merge the encoders, then continue the merged one on the target.

    `sources` are merged into one encoder; `groups` are several such lists, one column each. `method`: the "average" of
    their weights (Wortsman et al. 2022), task "arithmetic": the plain encoder and the sum of the sources' changes
    (Ilharco et al. 2023), or "ties": of each source only the largest changes, of these only those that agree in sign
    with the most of them (Yadav et al. 2023). `scale` is what the changes are multiplied by, with the latter two;
    `density` the share of a source's changes that ties keeps. Sources are trained as in stilts, with the same seeds,
    and shared with it.
    """

    kind: ClassVar[str] = "merge"

    sources: tuple[str, ...] = ()
    groups: tuple[tuple[str, ...], ...] = ()
    method: str = "average"
    scale: float = SCALE
    density: float = DENSITY

    def __post_init__(self) -> None:
        problems = [Problem(*told) for told in self._faults()]
        if problems:
            raise StudyError(*problems)

    def _faults(self) -> list[tuple[str, str, str]]:
        found = []
        if not self.sources and not self.groups:
            found.append(("sources", "is missing", 'name two intermediate tasks or more: sources = ["mnli", "qqp"]'))
        for place, group in [("sources", self.sources), *(("groups", group) for group in self.groups)]:
            if len(group) == 1 or (place == "groups" and not group):
                found.append((place, f"{list(group)} is nothing to merge", "name two intermediate tasks at least"))
            if place == "groups" and len(set(group)) < len(group):
                found.append((place, f"{list(group)} names a value twice", "name each source once"))
        if self.method not in METHODS:
            found.append(("method", f"{self.method!r} is not a way to merge", f"choices: {', '.join(METHODS)}"))
        if not (math.isfinite(self.scale) and self.scale > 0):
            found.append(("scale", f"{self.scale} is not above 0", "1.0 adds the changes as they are"))
        elif self.scale != SCALE and self.method == "average":
            found.append(("scale", "is not used by method = 'average'", "leave it out, or say another method"))
        if not 0 < self.density <= 1:
            found.append(("density", f"{self.density} is no share", "above 0, at most 1"))
        elif self.density != DENSITY and self.method in ("average", "arithmetic"):
            found.append(
                ("density", f"is not used by method = {self.method!r}", "leave it out, or say method = 'ties'")
            )
        return found

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per list of sources."""
        groups = [*([self.sources] if self.sources else []), *self.groups]
        return tuple(Column(PLUS.join(group), setting=group) for group in dict.fromkeys(groups))

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task."""
        return tuple(dict.fromkeys([*self.sources, *(task for group in self.groups for task in group)]))

    def reach(self, cell: Cell) -> Train:
        """Train on each source, merge, then train on the target from there."""
        trained = [cell.train(task, "source") for task in cell.column.setting]
        made = step.Merge(cell.encoder, tuple(map(key_of, trained)), self.method, self.scale, self.density)  # type: ignore[arg-type]
        what = f"{cell.source} ({', '.join([self.method, *self._settings()])}) · s{cell.seed}"
        return cell.train(cell.target, cell.role, cell.add(made, "", "", what))

    def _settings(self) -> list[str]:
        """What is not as it is by default, for the label."""
        own = {"scale": (self.scale, SCALE), "density": (self.density, DENSITY)}
        return [f"{name} {value:g}" for name, (value, default) in own.items() if value != default]

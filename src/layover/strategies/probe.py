"""Probe: what is in an encoder's layers, asked by a small head on vectors that are not trained (Tenney et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from layover.errors import Problem, StudyError
from layover.step import Probe, key_of
from layover.strategies.strategy import Cell, Column

ALL, MIXTURES = "all", ("mean", "mix")
WORDS = (ALL, *MIXTURES)


@dataclass(frozen=True)
class Probing:
    """Train a head alone, on the hidden states of the frozen plain encoder, or of the encoder of each of `sources`.

    `layers`: numbers of hidden states, 0 for the embeddings and n for what layer n gives, counted from 1; "all" for
    each; "mean" of all; "mix" for a learned scalar mix. `head`: one linear layer, or an MLP with a hidden layer. The
    encoder reads a data set once for all probes of it.
    """

    kind: ClassVar[str] = "probe"

    layers: tuple[int | str, ...] | str = ALL
    head: Literal["linear", "mlp"] = "linear"
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked = self._asked()
        problems = [
            Problem("layers", f"{word!r} is no layer", f"choices: a number, {', '.join(WORDS)}")
            for word in asked
            if isinstance(word, str) and word not in WORDS
        ]
        if not asked:
            problems.append(Problem("layers", "is empty", f"choices: numbers, {', '.join(WORDS)}"))
        if len(set(asked)) < len(asked):
            problems.append(Problem("layers", f"names a value twice: {list(asked)}", "name each layer once"))
        if problems:
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per layer or mixture, for every source."""
        asked = self._asked()
        if depth is None and ALL in asked:
            told = "'all' needs the encoder's number of layers, which its configuration does not say here"
            hint = "name layers, or load the encoder once on this machine, or name a directory that holds it"
            raise StudyError(Problem("layers", told, hint))
        every = range(0 if depth is None else depth + 1)
        if wrong := [n for n in asked if isinstance(n, int) and (n < 0 or (depth is not None and n not in every))]:
            told = f"{', '.join(map(str, wrong))} does not fit the encoder, which has {depth} layers"
            told = told if depth is not None else f"{', '.join(map(str, wrong))} is no layer"
            hint = "choices: 0 (the embeddings)" + (f" to {depth}" if depth else " or more") + f", {', '.join(WORDS)}"
            raise StudyError(Problem("layers", told, hint))
        layers = dict.fromkeys(n for word in asked for n in (every if word == ALL else (word,)))
        return tuple(
            Column(source, f"layer {n}" if isinstance(n, int) else n, n)
            for source in self.sources or ("",)
            for n in layers
        )

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task."""
        return self.sources

    def reach(self, cell: Cell) -> Probe:
        """Train on the source if there is one, then a head on what that encoder, or the plain one, makes of the target.

        Of the recipe nothing is used that keeps an encoder from forgetting: a probe has none that could.
        """
        start = cell.train(cell.source, "source") if cell.source else None
        recipe, chosen = cell.make.recipe(cell.target, cell.role)
        step = Probe(
            cell.encoder,
            cell.ref(cell.target, cell.role),
            recipe.bare,
            cell.seeded(cell.role),
            cell.column.setting,
            self.head,
            key_of(start) if start else None,
            chosen,
        )
        what = f"probe {cell.column.condition}" + (" mlp" if self.head == "mlp" else "")
        cell.add(step, cell.target, cell.role, what, start)
        return step

    def _asked(self) -> tuple[int | str, ...]:
        return (self.layers,) if isinstance(self.layers, str) else self.layers

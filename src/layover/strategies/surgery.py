"""Surgery: layers of the encoder are drawn anew, permuted, or cut off before the target (Tamkin et al. 2020).

Layers are numbered from 0, the lowest. With `sources`, the same is done to the encoder that comes from each of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from layover.errors import Problem, StudyError
from layover.step import Surgery, Train
from layover.strategies.strategy import Cell, Column

ALL = "all"
WAYS = ("keep", "blocks", "layers", "alternate")
PARITIES = ("even", "odd")


@dataclass(frozen=True)
class Reinit:
    """Draw layers anew before the target, to see what the pretrained weights of each are worth.

    Exactly one of: `keep`, numbers of lowest layers that are kept while those above are reset ("all" for every number
    from 0); `blocks`, the size of a block that is reset, in every position; `layers` that are reset one at a time
    ("all" for each); `alternate`, "even" or "odd" layers, or both. With `inverse` all but the block or layer is reset.
    """

    kind: ClassVar[str] = "reinit"

    keep: tuple[int, ...] | str = ()
    blocks: int = 0
    layers: tuple[int, ...] | str = ()
    alternate: tuple[str, ...] = ()
    inverse: bool = False
    layer_norm: Literal["reset", "kept"] = "reset"
    biases: Literal["kept", "reset"] = "kept"
    init: Literal["intended", "released"] = "intended"
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        given = [way for way in WAYS if getattr(self, way) not in ((), 0)]
        problems = [*_not_numbers("keep", self.keep), *_not_numbers("layers", self.layers)]
        if len(given) != 1:
            told = f"{' and '.join(given)} say different things" if given else "says nothing of which layers are reset"
            problems.append(Problem("", told, f"give one of: {', '.join(WAYS)}"))
        if self.blocks < 0:
            problems.append(Problem("blocks", f"{self.blocks} is no number of layers", "a block has 1 layer at least"))
        problems += [
            Problem("alternate", f"{word!r} is no half of the layers", f"choices: {', '.join(PARITIES)}")
            for word in self.alternate
            if word not in PARITIES
        ]
        if self.inverse and given and given[0] not in ("blocks", "layers"):
            problems.append(Problem("inverse", f"does not go with {given[0]}", "it goes with blocks or layers"))
        if problems:
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per set of layers that are reset, for every source."""
        return _columns(self.sources, self._conditions(_known(depth)))

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task."""
        return self.sources

    def reach(self, cell: Cell) -> Train:
        """Train on the source if there is one, reset, and train on the target."""
        return _reach(cell)

    def _conditions(self, depth: int) -> Iterator[tuple[str, Surgery]]:
        """What each condition is called, and what is done."""
        every = range(depth)
        for n in _numbers("keep", self.keep, range(depth + 1), depth):
            yield f"keep {n}", self._reset(every[n:])
        for n in _numbers("layers", self.layers, every, depth):
            yield self._but([n], depth)
        for word in self.alternate:
            yield f"{word} layers", self._reset(every[PARITIES.index(word) :: 2])
        if self.blocks > depth:
            told = f"a block of {self.blocks} does not fit into the encoder's {depth} layers"
            raise StudyError(Problem("blocks", told, f"choices: 1 to {depth}"))
        for n in range(depth - self.blocks + 1) if self.blocks else ():
            yield self._but(range(n, n + self.blocks), depth)

    def _but(self, block: Sequence[int], depth: int) -> tuple[str, Surgery]:
        name = f"layer {block[0]}" if len(block) == 1 else f"block {block[0]}-{block[-1]}"
        if not self.inverse:
            return name, self._reset(block)
        return f"all but {name.partition(' ')[2]}", self._reset([n for n in range(depth) if n not in block])

    def _reset(self, layers: Sequence[int]) -> Surgery:
        return Surgery(tuple(layers), self.layer_norm, self.biases, self.init) if layers else Surgery()


@dataclass(frozen=True)
class Permute:
    """Put the encoder's layers into another order before the target, to see what that is worth.

    `permutations` are the seeds of orders, which are the same for every task and every seed of the study.
    """

    kind: ClassVar[str] = "permute"

    permutations: tuple[int, ...] = ()
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.permutations:
            raise StudyError(Problem("permutations", "is missing", "name seeds of orders: permutations = [1, 2, 3]"))
        if len(set(self.permutations)) < len(self.permutations):
            raise StudyError(
                Problem("permutations", f"names a value twice: {list(self.permutations)}", "name each seed once")
            )

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per order, for every source."""
        layers = _known(depth)
        found = ((f"permutation {n}", Surgery(order=permutation(layers, n))) for n in self.permutations)
        return _columns(self.sources, found)

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task."""
        return self.sources

    def reach(self, cell: Cell) -> Train:
        """Train on the source if there is one, permute, and train on the target."""
        return _reach(cell)


@dataclass(frozen=True)
class Truncate:
    """Cut the encoder to its lowest layers and train the head alone, as Tamkin et al. 2020 probed (Figure 1).

    `keep` are numbers of lowest layers ("all" for every one from 1). Dropout within the frozen layers goes on, as in
    the paper; a `probe` reads them without, from one pass.
    """

    kind: ClassVar[str] = "truncate"

    keep: tuple[int, ...] | str = ALL
    sources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = _not_numbers("keep", self.keep)
        if not self.keep:
            problems.append(Problem("keep", "is empty", f"name numbers of layers, or {ALL!r}"))
        if problems:
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per number of layers, for every source."""
        layers = _known(depth)
        kept = _numbers("keep", self.keep, range(1, layers + 1), layers)
        return _columns(self.sources, ((f"keep {n}", Surgery(depth=n if n < layers else None)) for n in kept))

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task."""
        return self.sources

    def reach(self, cell: Cell) -> Train:
        """Train on the source if there is one, cut, and train a head on the target."""
        return _reach(cell, {"freeze": "encoder"}, "frozen ")


def permutation(n: int, seed: int) -> tuple[int, ...]:
    """The order of n layers for a seed: layers sorted by sha256 of "permute/seed/layer". The same everywhere.

    >>> permutation(6, 1)
    (0, 2, 5, 1, 3, 4)
    """
    return tuple(sorted(range(n), key=lambda layer: hashlib.sha256(f"permute/{seed}/{layer}".encode()).digest()))


def _columns(sources: Sequence[str], conditions: Iterator[tuple[str, Surgery]]) -> tuple[Column, ...]:
    found = list(conditions)
    return tuple(Column(source, name, done) for source in sources or ("",) for name, done in found)


def _reach(cell: Cell, recipe: Mapping[str, Any] | None = None, what: str = "") -> Train:
    """The target after what the cell's condition says; a condition that changes no layer is the run without it."""
    done: Surgery = cell.column.setting
    start = cell.train(cell.source, "source") if cell.source else None
    nothing = not done.reset and done.order in ((), tuple(range(len(done.order)))) and done.depth is None
    surgery = None if nothing else done
    return cell.train(
        cell.target, cell.role, start, what=f"{what}{cell.column.condition}", surgery=surgery, recipe=recipe
    )


def _known(depth: int | None) -> int:
    if depth is None:
        told = "needs the encoder's number of layers, which its configuration does not say here"
        raise StudyError(Problem("", told, "load the encoder once on this machine, or name a directory that holds it"))
    return depth


def _numbers(field: str, asked: Sequence[int] | str, choices: range, depth: int) -> Sequence[int]:
    """The numbers that a field asks for; raises StudyError where one is beyond the encoder's depth."""
    if isinstance(asked, str):
        return choices
    if wrong := [n for n in asked if n not in choices]:
        told = f"{', '.join(map(str, wrong))} does not fit the encoder, which has {depth} layers"
        raise StudyError(Problem(field, told, f"choices: {choices[0]} to {choices[-1]}, or {ALL!r}"))
    return asked


def _not_numbers(field: str, asked: Sequence[int] | str) -> list[Problem]:
    """What is wrong with numbers of layers whatever the encoder."""
    if isinstance(asked, str):
        return [] if asked == ALL else [Problem(field, f"{asked!r} is no list of numbers", f"or say {ALL!r}")]
    if len(set(asked)) < len(asked):
        return [Problem(field, f"names a value twice: {list(asked)}", "name each number once")]
    return []

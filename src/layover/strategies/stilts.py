"""STILTs: fine-tune on one intermediate task, or on several in turn, then on the target (Phang et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from layover.errors import Problem, StudyError
from layover.step import Joint, Mixture, Step, Train, key_of
from layover.strategies.multitask import member
from layover.strategies.strategy import Cell, Column

ARROW = " → "
HEADS = ("new", "carried", "matched")


@dataclass(frozen=True)
class Stilts:
    """Train on a source, then continue its encoder on the target with a fresh optimizer.

    Seed s of the target starts from seed s of the source, so that a restart varies both stages, as in Pruksachatkun et
    al. 2020, section 3. `sources` are columns of one intermediate task each; `chains` are columns of several in turn.
    `sizes` are numbers of training questions of the (last) intermediate task, drawn by the seed, a smaller subset
    within a larger one; 0 stands for all. `head` "carried" goes on with the source's head, where the labels are the
    target's; "matched" does where there are as many, whatever they are called, as in Weller et al. 2022, and begins
    with a new one elsewhere. `to_itself` false leaves out targets that the last stage is on. Which checkpoint a stage
    hands on is its recipe's `checkpoint`. `text` is a task that every intermediate stage is mixed with, each as large
    as it is, up to `text_cap` examples (papers.md 1.9); what is handed on is the intermediate task's checkpoint.
    """

    kind: ClassVar[str] = "stilts"

    sources: tuple[str, ...] = ()
    chains: tuple[tuple[str, ...], ...] = ()
    sizes: tuple[int, ...] = ()
    head: str = "new"
    text: str = ""
    text_cap: int = 16384
    to_itself: bool = True

    def __post_init__(self) -> None:
        problems = []
        if not self.sources and not self.chains:
            problems.append(Problem("sources", "is missing", 'name intermediate tasks: sources = ["mnli"]'))
        problems += [
            Problem("chains", f"{list(c)} is no chain", "a chain has two tasks at least")
            for c in self.chains
            if len(c) < 2
        ]
        problems += [
            Problem("sizes", f"{n} is no number of questions", "0 stands for all") for n in self.sizes if n < 0
        ]
        if self.head not in HEADS:
            what = f"{self.head!r} is not a way to begin"
            problems.append(Problem("head", what, f"choices: {', '.join(HEADS)}"))
        if self.text in {*self.sources, *(task for chain in self.chains for task in chain)}:
            problems.append(Problem("text", f"{self.text!r} is an intermediate task too", "mix them with another one"))
        if self.text_cap < 1:
            what = f"{self.text_cap} is no number of examples"
            problems.append(Problem("text_cap", what, "say 1 or more, such as 16384"))
        if problems:
            raise StudyError(*problems)

    def columns(self, depth: int | None) -> tuple[Column, ...]:
        """One column per source or chain, and per size where sizes are given."""
        ways = [*((source,) for source in self.sources), *self.chains]
        sized = [(way, size) for way in ways for size in (self.sizes or (0,))]
        return tuple(Column(ARROW.join(way), f"{size} rows" if size else "", (way, size)) for way, size in sized)

    def uses(self) -> tuple[str, ...]:
        """Every intermediate task, and what they are mixed with."""
        named = [*self.sources, *(task for chain in self.chains for task in chain), *filter(None, [self.text])]
        return tuple(dict.fromkeys(named))

    def reach(self, cell: Cell) -> Train | None:
        """Train on each source in turn, then on the target from there; None where that is not to be the last again."""
        way, size = cell.column.setting
        if cell.target == way[-1] and not self.to_itself:
            return None
        start: Step | None = None
        for number, task in enumerate(way):
            limit = size if size and number == len(way) - 1 else None
            if self.text:
                start = self._mixed(cell, task, start, limit)
            else:
                start = cell.train(task, "source", start, limit=limit, what=f"{limit} rows" if limit else "")
        return cell.train(cell.target, cell.role, start, head=self.head)

    def _mixed(self, cell: Cell, task: str, start: Step | None, limit: int | None) -> Step:
        """Train on a source and the text at once, from `start`; what goes on is the source's."""
        recipe, chosen = cell.make.recipe(task, "source")
        refs = [cell.ref(task, "source", limit), cell.ref(self.text, "source")]
        before = key_of(start) if start else None
        mixture = Mixture(sampler="capped", cap=self.text_cap)
        in_order = tuple(sorted(refs, key=lambda ref: ref.name))
        joint = Joint(cell.encoder, in_order, recipe, cell.seeded("source"), mixture, before, chosen)
        return member(joint, task, "source", cell, start)

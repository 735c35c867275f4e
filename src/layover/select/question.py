"""Question: what is asked of a recommendation, and the stops that it leaves to choose among."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layover.encoders import Encoder
from layover.errors import Problem, UserError, did_you_mean, raise_all
from layover.select import leaks
from layover.select.named import Named
from layover.select.observed import Observed, of_figure2
from layover.select.sources import Source, sources_in
from layover.select.target import Reading, Target
from layover.select.vectors import Tell
from layover.store import Store
from layover.strategies import STRATEGIES
from layover.tasks import TASKS
from layover.tasks.load import locate
from layover.train.cache import located


@dataclass(frozen=True)
class Question:
    """What is asked: a target, the encoder, and the sources and strategies to choose among.

    Without `sources`, all that the store has trained with this encoder or has results of, or else those of the
    published matrix. `by` are estimators, by default none, `worth` the points that a stop has to add to be worth its
    trouble.
    """

    store: Store
    target: Named
    encoder: Encoder
    sources: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ("stilts",)
    by: tuple[str, ...] = ()
    worth: float = 0.0
    data: tuple[Path, ...] = ()
    reading: Reading = field(default_factory=Reading)
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True)
class Untrained:
    """Sources that are not trained yet: those that have the target's rows, with what they have, and those whose data is
    not here, of which nobody can say.
    """

    names: tuple[str, ...]
    leaked: dict[str, str]
    lacking: tuple[str, ...]


def choices(asked: Question, seen: Iterable[Observed]) -> tuple[tuple[str, ...], dict[str, Source]]:
    """The sources to choose among, by name, and the trainings that there are of them.

    `seen` is what the store has results of. Raises UserError for names that are none, and for strategies that do not
    use one source at a time.
    """
    trained = _trained(asked)
    return _names(asked, trained, seen), trained


def untrained(target: Target, names: Sequence[str], tell: Tell = lambda *_: None) -> Untrained:
    """Look through the data of sources that are not trained yet for the target's rows."""
    leaked, lacking = dict[str, str](), list[str]()
    for number, name in enumerate(names):
        tell(f"rows of {name}", number, len(names))
        try:
            task = TASKS.get(name)
            data = located(target.store, task, locate(task, target.places.data), limit_train=None,
                           limit_validation=None, selection=None, holdout=0.1)  # fmt: skip
        except UserError:
            lacking.append(name)
            continue
        if (leak := leaks.among(target, data)).leaked:
            leaked[name] = f"it has the target's own rows: {leak}"
    return Untrained(tuple(names), leaked, tuple(lacking))


def _trained(asked: Question) -> dict[str, Source]:
    """One training of each source by its task: of most rows, and of those with the smallest seed."""
    wanted = [one for one in sources_in(asked.store) if one.step.encoder == asked.encoder.identity]
    wanted.sort(key=lambda one: (-(one.step.task.limit_train or math.inf), one.step.seed, one.key))
    found: dict[str, Source] = {}
    for one in wanted:
        if one.name != asked.target.task.name and (not asked.sources or one.name in asked.sources):
            found.setdefault(one.name, one)
    return found


def _names(asked: Question, trained: dict[str, Source], seen: Iterable[Observed]) -> tuple[str, ...]:
    """The sources to choose among; raises UserError for names that are none, and for strategies without sources."""
    target = asked.target.task.name
    problems = [
        Problem("--sources", f"there is no task called {name!r}", did_you_mean(name, [*TASKS.names(), *trained]))
        for name in asked.sources
        if name not in TASKS and name not in trained
    ]
    kinds = [kind for kind in STRATEGIES.names() if _by_source(kind)]
    problems += [
        Problem("--strategies", f"{kind!r} is no strategy that uses one source at a time", did_you_mean(kind, kinds))
        for kind in asked.strategies
        if kind not in kinds
    ]
    raise_all(UserError, problems)
    known = {*trained, *(one.source for one in seen if one.encoder == asked.encoder.name)}
    given = asked.sources or sorted(known or {one.source for one in of_figure2()})
    found = [name for name in dict.fromkeys(given) if name != target]
    if not found:
        raise UserError(Problem("--sources", f"names nothing but the target, {target}", "name other tasks"))
    return tuple(found)


def _by_source(kind: str) -> bool:
    """Whether a strategy of this kind has a result for each source."""
    try:
        columns = STRATEGIES.get(kind)(sources=("one", "other")).columns(None)  # type: ignore[call-arg]
    except (TypeError, UserError):  # it takes no sources, or needs more to be said
        return False
    return [column.source for column in columns] == ["one", "other"]

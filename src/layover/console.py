"""Console: everything that prints. Progress bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from layover import cost
from layover.errors import Problem, UserError
from layover.secrets import redacted
from layover.step import Choose

if TYPE_CHECKING:
    from layover.datacheck.facts import DataCheck
    from layover.execute import Summary
    from layover.explain import Decision, Difference
    from layover.run import Outcome
    from layover.session import Session
    from layover.stats.power import CellPower
    from layover.stats.ranks import Ranks
    from layover.stats.transfer import Matrix
    from layover.store import Store

OUT = Console(highlight=False, soft_wrap=True)
ERROR = Console(stderr=True, highlight=False, soft_wrap=True)
SHOWN = 40  # steps of a plan; --json has them all
WORD = {"run": "bold", "reuse": "green", "running": "cyan", "failed": "red", "blocked": "yellow"}


def say(text: str = "") -> None:
    """Print one line as it is."""
    OUT.print(escape(text))


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def show_error(error: UserError) -> None:
    """Print what is wrong with the input, one problem after the other, without a traceback."""
    show_problems(error.problems)


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems: place, what is wrong, and what to do about it."""
    for problem in problems:
        place = f"[bold]{escape(redacted(problem.place))}[/bold]: " if problem.place else ""
        ERROR.print(f"[red]error[/red] {place}{escape(redacted(problem.message))}")
        if problem.hint:
            ERROR.print(f"      [dim]{escape(redacted(problem.hint))}[/dim]")


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[str] = ()) -> None:
    """Print a table; the columns named in `right` are aligned there."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(item)) for item in row))
    Console(highlight=False, width=OUT.width if OUT.is_terminal else 160).print(table)


def show_plan(session: Session, decisions: Sequence[Decision], workers: int = 1) -> None:
    """Print what would run, what is reused, why, and about how long, one step at a time and so many at once."""
    from layover.explain import to_do

    study, counts = session.plan.study, Counter(decision.action for decision in decisions)
    sizes = f"{len(study.encoders)} encoder(s), {len(study.strategies)} strategies, {len(session.plan.tasks)} tasks"
    say(f"study {study.name}: {sizes}, {len(study.seeds)} seed(s), {len(session.plan.scores)} cells")
    trainings = sum(decision.kind in ("train", "joint") for decision in decisions)
    say(f"{len(decisions)} steps, {trainings} of them trainings: sharing saves {session.plan.requested - trainings} of "
        f"{session.plan.requested}; {', '.join(f'{n} {word}' for word, n in counts.items())}")  # fmt: skip
    say(estimate_line(session, to_do(decisions), workers))
    for decision in decisions[:SHOWN]:
        style = WORD[decision.action]
        OUT.print(
            f"  [{style}]{decision.action:8}[/{style}] {escape(decision.label)}  [dim]{escape(decision.reason)}[/dim]"
        )
    if len(decisions) > SHOWN:
        say(f"  ... and {len(decisions) - SHOWN} more (layover plan --json lists all)")


def estimate_line(session: Session, todo: Sequence[str], workers: int) -> str:
    """About how long the steps in `todo` take, in words."""
    if not todo:
        return "nothing to run: every step is finished"
    found = cost.estimate(session.plan, session.store, todo, workers)
    if not found.similar:
        return "no estimate of the time yet: nothing similar has finished in this store"
    more = f", without {found.unknown} steps of a kind not seen yet" if found.unknown else ""
    at_once = f", {cost.words(found.makespan)} with {workers} workers" if workers > 1 else ""
    return f"about {cost.words(found.seconds)} one after the other{at_once} (from {found.similar} finished steps{more})"


def show_differences(differences: Sequence[Difference]) -> None:
    """Print the fields in which two steps differ."""
    rows = [(item.path, item.other, "→", item.this) for item in differences]
    show_table(("field", "nearest", "", "this"), rows)


def show_summary(summary: Summary, labels: dict[str, str], store: Store) -> None:
    """Print how a run ended."""
    say(f"{len(summary.finished)} steps run, {len(summary.reused)} reused, {len(summary.failed)} failed, "
        f"{len(summary.blocked)} blocked; store: {store.place}")  # fmt: skip
    for key, error in summary.failed.items():
        ERROR.print(f"[red]failed[/red] {escape(labels[key])}: {escape(error)}")
        ERROR.print(f"      [dim]log and traceback: {escape(str(store.root))}/work/{key}.*/error.txt[/dim]")


def show_matrix(matrix: Matrix) -> None:
    """Print the cells of a transfer matrix."""
    names = ("source", "target", "role", "delta", "95% interval", "p adjusted", "seeds", "degenerate", "verdict")
    rows = []
    for c in matrix.cells.values():
        interval, adjusted = (
            f"{points(c.low)} to {points(c.high)}",
            "" if c.p_adjusted is None else f"{c.p_adjusted:.3f}",
        )
        rows.append((c.source, c.target, c.role, points(c.delta), interval, adjusted, c.n, c.degenerate, c.verdict))
    show_table(names, rows, right=("delta", "p adjusted", "seeds", "degenerate"))


def show_ranks(found: Ranks) -> None:
    """Print mean ranks, best first, and which of them can be told apart."""
    left = f", {len(found.left_out)} left out for a missing cell" if found.left_out else ""
    say(f"{found.encoder} · {found.strategy}: ranks over {len(found.targets)} {found.role} task(s){left}")
    if found.critical_difference is None or found.p is None:
        return say("  ranks need two tasks at least of which no cell is missing")
    letters = [(chr(ord("a") + number), group) for number, group in enumerate(found.groups)]
    rows = [
        (name, f"{rank:.2f}", "".join(letter if name in group else " " for letter, group in letters))
        for name, rank in found.ranks.items()
    ]
    show_table(("source", "mean rank", "group"), rows, right=("mean rank",))
    verdict = "differ" if found.p < 0.05 else "cannot be said to differ"
    say(f"Together they {verdict} (Friedman, Iman-Davenport: p {found.p:.2g}); those of one group, within "
        f"{found.critical_difference:.2f} ranks, cannot be told apart (Nemenyi, 5%).\n")  # fmt: skip
    return None


def show_power(found: Sequence[CellPower]) -> None:
    """Print what would settle each cell."""
    names = ("source", "target", "role", "delta", "verdict", "seeds", "examples", "seed SD", "shows from", "effect",
             "power", "seeds needed", "examples needed")  # fmt: skip
    rows = []
    for one in found:
        numbers = ("–" if value is None else f"{value:.1f}" for value in (one.seed_sd, one.detectable))
        rows.append((
            one.source, one.target, one.role, points(one.delta), one.verdict, one.seeds, one.examples or "–", *numbers,
            points(one.effect), "–" if one.power is None else f"{one.power:.0%}", _needed(one, one.seeds_needed),
            "–" if one.power is None or one.examples is None else one.examples_needed or "no number",
        ))  # fmt: skip
    show_table(names, rows, right=names[3:4] + names[5:])
    say("SDs and effects in points. \"shows from\": the smallest true effect that is found 80% of the time with these "
        "seeds and examples.\nneeded: for 80% power, seeds at these examples and examples at these seeds. Tests at 5% "
        "divided by the tests of the family (Holm's first step).")  # fmt: skip


def _needed(one: CellPower, seeds: int | None) -> str:
    if one.power is None or one.seed_sd is None:
        return "–"
    if seeds is not None:
        return str(seeds)
    return "over 1,000" if one.limit is None else f"none: ±{one.limit:.1f}"


def show_data(found: DataCheck) -> None:
    """Print what a check of data found: tables, what has to be known about each task, and what is wrong."""
    from layover.datacheck import words

    for table in words.tables(found):
        OUT.print(f"[bold]{escape(table.title)}[/bold]")
        show_table(table.columns, table.rows, right=table.columns[1:])
        say()
    if not found.encoder:
        say("no lengths: name an encoder with --encoder, or install minilm (see layover doctor)")
    for facts in found.tasks:
        if said := words.sentences(facts):
            OUT.print(f"[bold]{facts.task}[/bold]: {escape('; '.join(said))}")
    for line in words.outside(found):
        say(line)
    show_problems(found.problems)


@contextmanager
def reading() -> Iterator[Callable[[str, int, int, int], None]]:
    """What is told of (task, tasks done, tasks in all, rows read) and shows it: a bar on a terminal, else lines."""
    if ERROR.is_terminal:
        from layover.live import Reading

        with Reading(ERROR) as bar:
            yield bar
        return

    def line(task: str, done: int, total: int, rows: int) -> None:
        if task and not rows:
            ERROR.print(f"[{done + 1}/{total}] {task}", markup=False)

    yield line


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """What is told of (done, total) and shows it: a bar on a terminal, else a line for each tenth."""
    if ERROR.is_terminal:
        from layover.live import Counting

        with Counting(ERROR, what) as bar:
            yield bar
        return
    shown = -1

    def line(done: int, total: int) -> None:
        nonlocal shown
        if total and (tenth := 10 * done // total) > shown:
            shown = tenth
            ERROR.print(f"{done:,} of {total:,} {what}", markup=False)

    yield line


def points(value: float | None) -> str:
    """A difference in points, signed, with one decimal; a dash where it is not known."""
    return "–" if value is None else f"{value:+.1f}"


class Progress:
    """Shows a run while it goes: the study and the step in hand, with time left. Told of events by the walk."""

    def __init__(self, session: Session) -> None:
        self._session, self._labels = session, session.plan.labels
        self._total, self._done = 0, 0
        self._bars = None

    def __enter__(self) -> Progress:
        from layover.execute import needed

        self._total = len(needed(self._session.plan, self._session.store))
        if OUT.is_terminal:
            from layover.live import Bars

            self._bars = Bars(self._session, OUT, self._total)
            self._bars.__enter__()
        return self

    def __exit__(self, *exit_info: object) -> None:
        if self._bars:
            self._bars.__exit__(*exit_info)

    def __call__(self, what: str, key: str, outcome: Outcome | None) -> None:
        """Take in one event of the walk."""
        if what == "stopping":
            say("stopping: what runs writes its checkpoint first; Ctrl-C again stops at once")
        if what == "damaged":
            self._total += 1
            say(f"{self._labels[key]}: {outcome.error if outcome else ''}: it is done again")
        self._done += what in ("finished", "failed", "blocked")
        if self._bars:
            self._bars.update(what, key, self._done)
        if what not in ("finished", "failed", "blocked"):
            return
        line = f"[{self._done}/{self._total}] {self._labels[key]}"
        if what == "finished":
            line += f"  {self._score(key)}  {cost.words(outcome.seconds if outcome else 0.0)}"
        else:
            line += f"  {what}{f': {outcome.error}' if outcome else ''}"
        say(line)

    def _score(self, key: str) -> str:
        """The primary score of a finished step, or the choice of a sweep; nothing for a step that has neither."""
        store = self._session.store
        for row in store.read(key, "observations.jsonl"):
            if row.get("primary"):
                note = "" if row["status"] == "ok" else f"  ({row['status']})"
                return f"{row['metric']} {row['value']:.1f}{note}"
        if not isinstance(self._session.plan.steps[key], Choose):
            return ""
        chosen = store.read(key, "choice.json")["chosen"]
        return "chose " + " ".join(f"{name}={value}" for name, value in chosen.items())

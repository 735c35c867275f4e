"""`layover recommend`: which stop, if any, before a target, how sure that is, and what it costs to find out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from layover import console, cost
from layover.asked import DataOption, JsonOption, StoreOption, data_directories, store_place, writing_to
from layover.errors import Problem, UserError, raise_all

if TYPE_CHECKING:
    import pandas as pd

    from layover.execute import Summary
    from layover.plan import Plan
    from layover.select.confirm import Cost
    from layover.select.halving import Halved
    from layover.select.question import Question
    from layover.select.recommend import Recommendation
    from layover.session import Session
    from layover.store import Store
    from layover.study import Study


def recommend(
    target: Annotated[
        str, typer.Option("--target", metavar="TASK_OR_FILE", help="A task, a file of rows, or one with a [task.NAME].")
    ],
    encoder: Annotated[str, typer.Option("--encoder", help="The encoder: an alias, a directory or a Hub id.")],
    sources: Annotated[
        str, typer.Option("--sources", metavar="A,B", help="Stops to choose among. Default: those the store knows.")
    ] = "",
    strategies: Annotated[
        str, typer.Option("--strategies", metavar="A,B", help="How a source may be used: stilts, multitask.")
    ] = "stilts",
    by: Annotated[
        str, typer.Option("--by", metavar="A,B", help="Estimators of docs/select.md; none: results alone.")
    ] = "none",
    worth: Annotated[float, typer.Option("--worth", min=0.0, help="Points that a stop has to add to pay.")] = 0.0,
    rows: Annotated[int, typer.Option("--rows", min=10, help="Rows of a target that estimators read.")] = 500,
    run: Annotated[
        str, typer.Option("--run", metavar="WHAT", help="Then try them: top:3, or search at a quarter of all runs.")
    ] = "",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Restarts of a confirming run.")] = 3,
    like: Annotated[
        str, typer.Option("--like", metavar="STUDY", help="Recipe and limits of a run. Default: the store's.")
    ] = "",
    store: StoreOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the answer as an HTML page here.")] = None,
) -> None:
    """Which stop, if any, before a target: expected gain, how sure it is, why, and what it costs to find out."""
    todo = _to_run(run)
    asked = _asked(target, encoder, sources, strategies, by, worth, rows, store, data)
    found, study, ran = _answered(asked, todo, range(1, seeds + 1), like, quiet=as_json)
    if out is not None:
        _write_page(found, ran, out)
    if as_json:
        return console.print_json({**found.to_json(), "search": ran.to_json() if ran else None})
    show(found, ran)
    if out is not None:
        console.say(f"page: {out.resolve()}")
    if study is not None:
        console.say(f"its runs are the study {study.name}: layover query, or docs/how-to/choose-a-stop.md")
    return None


@dataclass(frozen=True)
class ToRun:
    """What to try: the best `top` stops, or all by successive halving at a `share` of the full matrix's cost."""

    top: int = 3
    share: float = 0.0
    wanted: bool = False


def _to_run(text: str) -> ToRun:
    """What `--run` says; raises UserError where it is neither."""
    from layover.select.search import BUDGET

    if not text:
        return ToRun()
    if found := re.fullmatch(r"top:([1-9]\d{0,2})", text):
        return ToRun(int(found[1]), wanted=True)
    if found := re.fullmatch(r"search(?::(0?\.\d+|1(?:\.0*)?))?", text):
        return ToRun(share=float(found[1] or BUDGET), wanted=True)
    raise UserError(Problem("--run", f"is {text!r}", "say top:3 (or another number), search, or search:0.5"))


def _asked(
    target: str, encoder: str, sources: str, strategies: str, by: str, worth: float, rows: int,
    store: str | None, data: list[Path] | None,
) -> Question:  # fmt: skip
    """The question; raises UserError with everything that is wrong with it."""
    from layover.encoders import find
    from layover.select.named import named
    from layover.select.question import Question
    from layover.select.rated import estimators_named
    from layover.select.target import Reading
    from layover.store import Store

    problems: list[Problem] = []

    def tried(make: Any, *words: Any) -> Any:
        try:
            return make(*words)
        except UserError as error:
            problems.extend(error.problems)

    chosen = () if by == "none" else _words(by)
    task, plain = tried(named, target), tried(find, encoder)
    for name in chosen:
        tried(estimators_named, [name])
    directories = tried(data_directories, data)
    raise_all(UserError, problems)
    return Question(
        Store.open(store_place(store)), task, plain, _words(sources), _words(strategies) or ("stilts",), chosen,
        worth, tuple(directories), Reading(rows=rows),
    )  # fmt: skip


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _answered(
    asked: Question, todo: ToRun, seeds: Sequence[int], like: str, quiet: bool
) -> tuple[Recommendation, Study | None, Halved | None]:
    """The answer, the study that was run for it, and the search; the answer is given again after a run."""
    from layover.select.confirm import alike, confirming, cost_of
    from layover.select.recommend import recommend as answer
    from layover.study import load_study

    with console.reading() as line:
        found = answer(asked, lambda what, done, total: line(what, done, total, 0))
    if not todo.wanted and not (found.stops and asked.target.labelled):
        return found, None, None
    pattern = load_study(like)[0] if like else alike(asked.store, asked.encoder.name)
    candidates = [one.candidate for one in found.stops]
    if todo.share:
        candidates = [one for one in candidates if one.strategy == asked.strategies[0]]
    study = confirming(asked.target, asked.encoder, candidates if todo.share else candidates[: todo.top], pattern,
                       seeds)  # fmt: skip
    if not todo.wanted:
        return replace(found, confirm=cost_of(study, lambda one: _open(asked, one, stand_in=True))), None, None
    ran = _run(asked, study, todo, quiet)
    with console.reading() as line:
        after = answer(asked, lambda what, done, total: line(what, done, total, 0))
    return after, study, ran


def _open(asked: Question, study: Study, stand_in: bool = False) -> Session:
    from layover.session import Session

    return Session.open(study, asked.store.place, asked.data, stand_in=stand_in)


def _run(asked: Question, study: Study, todo: ToRun, quiet: bool) -> Halved | None:
    """Run the study, or search among its sources; raises typer's Exit, 1, where runs failed."""
    if todo.share:
        from layover.select.search import search

        def shown(one: Study) -> Session | Shown:
            return _open(asked, one) if quiet else Shown(_open(asked, one))

        return search(study, asked.target.task.name, shown, asked.strategies[0], todo.share)
    session = _open(asked, study)
    summary = session.run() if quiet else Shown(session).run()
    if not quiet:
        console.show_summary(summary, dict(session.plan.labels), session.store)
    if not summary.complete:
        raise typer.Exit(1)
    return None


@dataclass(frozen=True)
class Shown:
    """A session that shows its progress while it runs."""

    session: Session

    @property
    def plan(self) -> Plan:
        """The session's plan."""
        return self.session.plan

    @property
    def store(self) -> Store:
        """The session's store."""
        return self.session.store

    def observations(self) -> pd.DataFrame:
        """The session's observations."""
        return self.session.observations()

    def run(self) -> Summary:
        """Run what is not finished."""
        with console.Progress(self.session) as progress:
            return self.session.run(on_event=progress)


def _write_page(found: Recommendation, ran: Halved | None, out: Path) -> None:
    from layover.files import write_text
    from layover.report.recommendation import page

    with writing_to(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page(found, ran))


def show(found: Recommendation, ran: Halved | None = None) -> None:
    """Print an answer: what to do, the candidates in order, and what else there is to know."""
    from layover.select.candidate import DIRECT
    from layover.select.reasons import percent

    console.say(found.answer)
    console.say()
    rows, several = [], len({one.candidate.strategy for one in found.stops}) > 1
    for one in found.options:
        known, stop = one.expected, one.candidate
        if stop == DIRECT:
            rows.append(("(train directly)", "0", "", "", "", one.reason))
            continue
        scores = "\n".join(f"{name} {score:.3g}" for name, score in one.scores.items())
        name, between = str(stop) if several else stop.source, f"{known.low:+.1f} to {known.high:+.1f}"
        rows.append((name, f"{known.mean:+.1f}", between, percent(known.chance), scores, one.reason))
    rated = any(row[4] for row in rows)
    columns = ("", "gain", "95%", "helps", *(("estimators",) if rated else ()), "why")
    shown = rows if rated else [(*row[:4], row[5]) for row in rows]
    console.show_table(columns, shown, right=("gain", "95%", "helps"))
    console.say()
    for source, why in found.excluded.items():
        console.say(f"left out: {source}: {why}")
    for name, why in found.silent.items():
        console.say(f"silent: {name}: {why}")
    for note in found.notes:
        console.say(f"note: {note}")
    if ran is not None:
        for rung, decision in ran.rungs:
            console.say(f"rung {rung.number}: {rung.share:.0%} of the rows, {rung.seeds} seed(s), "
                        f"{len(rung.sources)} sources; kept: {', '.join(decision.kept) or 'none'}")  # fmt: skip
        console.say(f"searched with {ran.share:.0%} of the training examples of all of them")
    if found.confirm is not None:
        console.say(cost_line(found.confirm))


def cost_line(one: Cost) -> str:
    """What a confirming study costs, in words."""
    if not one.new:
        return (f"the store has all {one.trainings} trainings of a study of the best stops; more restarts would say "
                "more: --run top:3 --seeds 5")  # fmt: skip
    took = "no time is known, since nothing similar has finished in this store"
    if one.seconds is not None:
        took = f"about {cost.words(one.seconds)} one after the other"
    lost = f"; no data is found of {', '.join(one.lacking)}" if one.lacking else ""
    return (f"to find out: {one.trainings} trainings, {one.new} of them new: {one.examples:,.0f} examples, "
            f"{took}{lost}. Add: --run top:3")  # fmt: skip

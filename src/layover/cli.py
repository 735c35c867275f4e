"""The layover command.

Exit codes: 0 all done; 1 some steps failed or are blocked, or a check found something wrong; 2 the input is wrong
(nothing was run).
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from layover import cli_papers, cli_recommend, cli_synthesize, cli_watch, console
from layover.asked import (
    Asked,
    DataOption,
    JsonOption,
    StoreOption,
    about_a_study,
    data_directories,
    store_place,
    writing_to,
)
from layover.cli_pretrain import pretrain
from layover.cli_store import store_app
from layover.errors import Problem, UserError
from layover.executors import EXECUTORS
from layover.secrets import redacted

app = typer.Typer(
    help="Should a pretrained encoder make a stop at another task before yours, which one, and why?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cli_papers.analyze_app, name="analyze")
app.add_typer(store_app, name="store")
app.command("pretrain")(pretrain)
app.command()(cli_recommend.recommend)
app.command()(cli_watch.serve)
app.command()(cli_watch.track)
app.command()(cli_synthesize.synthesize)
app.command()(cli_synthesize.generator)

INTERRUPTED = 130  # what typer exits with on Ctrl-C


@app.command("run")
@about_a_study
def run_command(
    asked: Asked,
    executor: Annotated[
        str, typer.Option("--executor", help="Where steps run: local, ray or slurm. Default: the study's.")
    ] = "",
    workers: Annotated[
        str, typer.Option("--workers", help="Steps that run at once, or gpus: one on each. Default: the study's.")
    ] = "",
    keep_weights: Annotated[
        list[str] | None, typer.Option("--keep-weights", metavar="LABEL", help="Keep this step's weights, to export.")
    ] = None,
) -> None:
    """Run a study: whatever is not finished, each step once. Kill it and run it again as you like."""
    session = asked.session(_placed(executor, workers)).keeping(keep_weights or [])
    with console.Progress(session) as progress:
        summary = session.run(on_event=progress)
    console.show_summary(summary, dict(session.plan.labels), session.store)
    console.say(f"next: layover report {asked.study}{asked.options()}")
    if not summary.complete:
        raise typer.Exit(1)


def _placed(executor: str, workers: str) -> dict[str, Any]:
    """The words of `[placement]` that options replace; raises UserError where they are none."""
    words: dict[str, Any] = {}
    if executor:
        EXECUTORS.get(executor, "--executor")
        words["executor"] = executor
    if workers:
        if workers != "gpus" and not workers.isdecimal():
            raise UserError(Problem("--workers", f"is {workers!r}", "say a number of steps, or gpus: one on each"))
        words["workers"] = workers if workers == "gpus" else int(workers)
    return words


@app.command()
@about_a_study
def plan(
    asked: Asked,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="How long with so many steps at once. Default: the study's.")
    ] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Also hours on one device, such as a100, v100 or p40.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """What would run, what is reused, why, and about how long. Works without data and weights, and says what lacks."""
    from layover.explain import decide, to_do

    session = asked.session(stand_in=True)
    decisions = decide(session.plan, session.store)
    placed = session.plan.study.placement.workers
    workers = workers or (placed if isinstance(placed, int) else 0) or 1
    if as_json:
        from layover.budget import budget
        from layover.cost import estimate

        plan, store, todo = session.plan, session.store, to_do(decisions)
        content = {"study": plan.study.name, "cells": len(plan.scores), "trainings": plan.trainings,
                   "requested_trainings": plan.requested,
                   "not_found": {"tasks": list(plan.lacking.tasks), "encoders": list(plan.lacking.encoders)},
                   "budget": budget(plan, store, todo, device).to_json(),
                   "estimate": estimate(plan, store, todo, workers).__dict__,
                   "steps": [decision.__dict__ for decision in decisions]}  # fmt: skip
        return console.print_json(content)
    return console.show_plan(session, decisions, workers, device)


@app.command()
@about_a_study
def explain(
    asked: Asked,
    label: Annotated[str, typer.Argument(help="A step's label or key, or a part that only one step has.")],
) -> None:
    """Why a step would run or be reused: what differs from the nearest finished step."""
    from layover.explain import decide, drift, nearest

    session = asked.session()
    key = session.plan.find(label)
    decision = next(d for d in decide(session.plan, session.store) if d.key == key)
    console.say(f"{decision.label}  ({key})\n{decision.action}: {decision.reason}")
    if decision.action == "reuse":
        changes = drift(session.store, key)
        console.say(
            "since it ran, nothing has changed"
            if not changes
            else "since it ran, these have changed (nothing re-runs):"
        )
        return console.show_differences(changes) if changes else None
    found = nearest(session.plan, session.store, key)
    if found is None:
        return console.say("no finished step of its kind is in the store")
    console.say(f"nearest finished step: {session.plan.labels.get(found[0], found[0])}, which differs in")
    return console.show_differences(found[1])


@app.command()
@about_a_study
def status(asked: Asked, as_json: JsonOption = False) -> None:
    """Finished, running, failed (with the error) and blocked steps."""
    from layover.explain import decide

    session = asked.session()
    decisions = decide(session.plan, session.store)
    if as_json:
        return console.print_json([decision.__dict__ for decision in decisions])
    words = {"reuse": "finished", "run": "to run"}
    for action in ("reuse", "running", "run", "failed", "blocked"):
        found = [decision for decision in decisions if decision.action == action]
        console.say(f"{len(found):5} {words.get(action, action)}")
        if action in ("running", "failed", "blocked"):
            for decision in found:
                at = decision.progress or {}
                steps = f"  (step {at['step']} of {at['steps']})" if at else ""
                console.say(f"      {decision.label}: {decision.reason}{steps}")
    return None


@app.command()
@about_a_study
def report(
    asked: Asked,
    out: Annotated[Path | None, typer.Option("--out", help="Default: <name of the study>.html here.")] = None,
    tables: Annotated[Path | None, typer.Option("--tables", help="Also CSV, LaTeX and Markdown tables, here.")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="Also SVG, PNG and PDF figures, here.")] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=12, help="Texts on the page, of each cell's examples that flipped.")
    ] = 0,
) -> None:
    """One self-contained HTML page with everything that was found."""
    session = asked.session()
    with writing_to(out or Path()):
        path = session.report(out or Path(f"{session.plan.study.name}.html"), tables, figures, examples)
    console.say(f"report: {path.resolve()}")
    for folder in (tables, figures):
        if folder:
            console.say(f"written: {folder.resolve()}")


@app.command()
@about_a_study
def observations(
    asked: Asked,
    out: Annotated[
        Path | None, typer.Option("--out", help="A .csv or .parquet file. Default: CSV to standard output.")
    ] = None,
) -> None:
    """The study's observations, one row per cell, seed and metric."""
    from layover.observations import collect, frame, write

    session = asked.session()
    rows = collect(session.plan, session.store)
    if out is None:
        sys.stdout.write(frame(rows).to_csv(index=False, float_format="%.6g"))
    else:
        with writing_to(out):
            write(rows, out)
        console.say(f"{len(rows)} observations: {out.resolve()}")


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="One task, in full.")] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read the data and say what is in it and what is odd.")
    ] = False,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Whose tokenizer --check measures with. Default: minilm.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write what --check finds as Markdown here.")] = None,
) -> None:
    """The tasks that can be named in a study."""
    from layover.listing import describe_task, list_tasks

    if check:
        return _check_data(name, data_directories(data), encoder, out, as_json)
    if encoder or out:
        raise UserError(Problem("--encoder" if encoder else "--out", "goes with --check", "add --check"))
    if name is not None:
        facts = describe_task(name, data_directories(data))
        return console.print_json(facts) if as_json else console.show_table(("", name), list(facts.items()))
    found = list_tasks(data_directories(data), families=not as_json)
    if as_json:
        return console.print_json(found)
    return console.show_table(
        ("name", "format", "output", "primary", "data", "about"), [tuple(row.values()) for row in found]
    )


def _check_data(name: str | None, data: list[Path], encoder: str | None, out: Path | None, as_json: bool) -> None:
    """Check the data of tasks; exit code 1 where something is wrong with it."""
    from layover.datacheck.check import check
    from layover.datacheck.words import markdown
    from layover.files import write_text

    with console.reading() as tell:
        found = check(name, data, encoder, tell)
    if as_json:
        console.print_json(found.to_json())
    else:
        console.show_data(found)
    if out is not None:
        with writing_to(out):
            write_text(out, markdown(found))
    if found.problems:
        raise typer.Exit(1)


@app.command()
def studies(
    name: Annotated[
        str | None, typer.Argument(help="One study, a preset or a file: what it is, and its switches.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The studies that come with layover."""
    from layover.listing import describe_study, study_row
    from layover.study import presets

    if name is None:
        found = {preset: describe_study(preset) for preset in presets()}
        rows = [study_row(preset, facts) for preset, facts in found.items()]
        return (
            console.print_json(found)
            if as_json
            else console.show_table(tuple(rows[0]), [tuple(row.values()) for row in rows])
        )
    facts = describe_study(name)
    if as_json:
        return console.print_json(facts)
    console.say(facts["about"])
    console.say()
    console.show_table(
        ("", name), [(word, value) for word, value in facts.items() if word not in ("about", "switches")]
    )
    if facts["switches"]:
        console.say()
        console.show_table(("--switch", "does"), list(facts["switches"].items()))
    return None


@app.command()
def strategies(as_json: JsonOption = False) -> None:
    """The strategies that a study can use, and their settings."""
    from layover.listing import list_strategies

    found = list_strategies()
    if as_json:
        return console.print_json(found)
    return console.show_table(("kind", "settings", "what it does"), [tuple(row.values()) for row in found])


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help="SQL over the views steps, scores, cells and observations.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask the whole store in SQL (DuckDB)."""
    from layover.query import ask
    from layover.store import Store

    columns, rows = ask(Store.open(store_place(store), create=False), sql)
    if as_json:
        return console.print_json([dict(zip(columns, row, strict=True)) for row in rows])
    return console.show_table(columns, rows)


@app.command()
def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """What this machine has, and what to do about what it lacks."""
    from layover.doctor import examine

    found = examine(store_place(store))
    if as_json:
        return console.print_json([finding.__dict__ for finding in found])
    console.show_table(("", "", "found", "advice"), [(f.topic, f.state, f.text, f.advice) for f in found])
    if any(finding.state == "missing" for finding in found):
        raise typer.Exit(1)
    return None


def main() -> None:
    """Run the command; user errors are shown without a traceback and end with exit code 2."""
    try:
        app()  # exits by itself: 2 where the command line is wrong, and with the code of typer.Exit
    except UserError as error:
        console.show_error(error)
        sys.exit(2)
    except Exception:  # a bug, whose traceback is shown as Python shows it, without what nobody should read
        sys.stderr.write(redacted(traceback.format_exc()))
        sys.exit(1)
    except SystemExit as done:
        if done.code == INTERRUPTED:
            console.say("stopped; run the same command again to go on")
        raise


if __name__ == "__main__":
    main()

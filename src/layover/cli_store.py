"""The commands `layover store ...`, which look after a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from layover import console
from layover.asked import JsonOption, StoreOption, store_place
from layover.errors import Problem, UserError

store_app = typer.Typer(help="Look after a store.", no_args_is_help=True)


@store_app.command("ls")
def store_ls(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """The finished steps of a store, and the data sets that it keeps encoded."""
    from layover.store import Store
    from layover.upkeep import listing

    found = listing(Store.open(store_place(store), create=False))
    if as_json:
        return console.print_json(found)
    return console.show_table(
        ("key", "kind", "label", "MB", "weights"), [tuple(row.values()) for row in found], right=("MB",)
    )


@store_app.command("verify")
def store_verify(store: StoreOption = None) -> None:
    """Read every file of every step and data set and check their keys; exit code 1 where something is wrong."""
    from layover.store import Store
    from layover.upkeep import verify

    opened = Store.open(store_place(store), create=False)
    wrong = verify(opened)
    for problem in wrong:
        console.say(f"{problem.place}: {problem.message}")
    console.say(f"{len(opened.finished_keys())} finished steps, {len(wrong)} problems")
    if wrong:
        raise typer.Exit(1)


@store_app.command("export")
def store_export(
    step: Annotated[str, typer.Argument(help="A step's label or key, or a part that only one step has.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    store: StoreOption = None,
) -> None:
    """Write a step's model as a standard transformers directory, with where it comes from."""
    from layover.export import export
    from layover.store import Store

    exported = export(Store.open(store_place(store), create=False), step, folder)
    console.say(f"exported: {exported.folder.resolve()} ({exported.model})")
    for note in exported.notes:
        console.say(note)


@store_app.command("pack")
def store_pack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file, such as results.layover.")],
    study: Annotated[list[str] | None, typer.Option("--study", help="This study alone; may be repeated.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Weights too, where the store has them.")] = False,
    store: StoreOption = None,
) -> None:
    """Write finished steps and their studies into one file, which another store can take in."""
    from layover.bundle import pack
    from layover.store import Store

    index = pack(Store.open(store_place(store), create=False), file, study or (), weights)
    size = file.stat().st_size / 1e6
    console.say(f"packed: {len(index.steps)} steps, {len(index.studies)} studies, {size:.1f} MB: {file.resolve()}")


@store_app.command("unpack")
def store_unpack(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `layover store pack` wrote.")],
    store: StoreOption = None,
) -> None:
    """Take in the steps and studies of a file, once all of it has been checked: names, sizes, digests and keys."""
    from layover.bundle import unpack
    from layover.store import Store

    opened = Store.open(store_place(store))
    new, known = unpack(opened, file)
    console.say(f"unpacked: {len(new)} steps, {len(known)} were here before; store: {opened.place}")


@store_app.command("labels")
def store_labels(
    step: Annotated[str, typer.Argument(help="A step's label or key, or a part that only one step has.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """How well a finished step predicts each class or label: precision, recall and F1 on validation."""
    from layover import predictions
    from layover.stats.labels import by_label
    from layover.store import Store
    from layover.upkeep import find_step

    opened = Store.open(store_place(store), create=False)
    path = opened.fetched(find_step(opened, step), "predictions.parquet") / "predictions.parquet"
    if not path.is_file():
        raise UserError(Problem(step, "is no training, or not finished", "see: layover store ls"))
    found = by_label(predictions.read(path), predictions.names(path))
    if as_json:
        return console.print_json(found)
    rows = [
        (f["label"], f["gold"], f["predicted"], *(f"{f[n]:.1f}" for n in ("precision", "recall", "f1"))) for f in found
    ]
    return console.show_table(tuple(found[0]), rows, right=tuple(found[0])[1:])


@store_app.command("gc")
def store_gc(store: StoreOption = None, dry_run: Annotated[bool, typer.Option("--dry-run")] = False) -> None:
    """Drop weights that no recorded study still starts from, what dead attempts left, and encoded data. Scores stay."""
    from layover.store import Store
    from layover.upkeep import collect_garbage

    dropped = collect_garbage(Store.open(store_place(store), create=False), dry_run)
    for path, size in dropped:
        console.say(f"{'would drop' if dry_run else 'dropped'} {path}  {size / 1e6:.1f} MB")
    console.say(f"{sum(size for _, size in dropped) / 1e6:.1f} MB in {len(dropped)} folders")

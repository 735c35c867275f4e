"""`layover analyze`: conclusions from a table of observations, layover's or anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from layover import console
from layover.asked import JsonOption

analyze_app = typer.Typer(
    help="Conclusions from a table of observations, layover's or anybody's.", no_args_is_help=True
)


@analyze_app.command("transfer")
def analyze_transfer(
    table: Annotated[Path, typer.Option("--observations", help="A CSV or Parquet file of observations.")],
    store: Annotated[
        str | None, typer.Option("--store", help="Pair by example with the predictions in this store.")
    ] = None,
    against: Annotated[str, typer.Option("--against", help="The baseline strategy.")] = "direct",
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="The strategy to judge, where there are several.")
    ] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="The encoder, where there are several.")] = None,
    metric: Annotated[str | None, typer.Option("--metric", help="Default: each task's primary metric.")] = None,
    correct: Annotated[Literal["holm", "bh", "none"], typer.Option("--correct", help="Of p-values.")] = "holm",
    without_degenerate: Annotated[bool, typer.Option("--without-degenerate", help="Leave collapsed runs out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The transfer matrix: delta to the baseline with 95% intervals."""
    from layover.stats.table import read_table
    from layover.stats.transfer import transfer
    from layover.store import Store

    predictions = Store.open(store, create=False).predictions if store else None
    found = transfer(read_table(table), predictions, against=against, metric=metric, correct=correct,
                     without_degenerate=without_degenerate)  # fmt: skip
    if as_json:
        return console.print_json(found.to_json(encoder, strategy))
    for matrix in found.matrices:
        if encoder not in (None, matrix.encoder) or strategy not in (None, matrix.strategy):
            continue
        console.say(f"{matrix.encoder} · {matrix.strategy} against {against}, in points")
        console.show_matrix(matrix)
    return None

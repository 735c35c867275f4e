"""`layover analyze`: conclusions from a table of observations, layover's or anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from layover import console
from layover.asked import JsonOption
from layover.errors import ObservationsError, Problem

if TYPE_CHECKING:
    from layover.stats.paired import Lookup

analyze_app = typer.Typer(
    help="Conclusions from a table of observations, layover's or anybody's.", no_args_is_help=True
)

TableOption = Annotated[Path, typer.Option("--observations", help="A CSV or Parquet file of observations.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Pair by example with the predictions in this store.")]
AgainstOption = Annotated[str, typer.Option("--against", help="The baseline strategy.")]
StrategyOption = Annotated[str | None, typer.Option("--strategy", help="The strategy, where there are several.")]
EncoderOption = Annotated[str | None, typer.Option("--encoder", help="The encoder, where there are several.")]
MetricOption = Annotated[str | None, typer.Option("--metric", help="Default: each task's primary metric.")]
CorrectOption = Annotated[Literal["holm", "bh", "none"], typer.Option("--correct", help="Of p-values.")]
WithoutOption = Annotated[bool, typer.Option("--without-degenerate", help="Leave collapsed runs out.")]


def predictions_in(store: str | None) -> Lookup | None:
    """What finds the predictions of a run in that store; nothing without a store, which must exist."""
    from layover.store import Store

    return Store.open(store, create=False).predictions if store else None


@analyze_app.command("transfer")
def analyze_transfer(
    table: TableOption,
    store: StoreOption = None,
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    correct: CorrectOption = "holm",
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """The transfer matrix: delta to the baseline with 95% intervals."""
    from layover.stats.table import read_table
    from layover.stats.transfer import transfer

    found = transfer(read_table(table), predictions_in(store), against=against, metric=metric, correct=correct,
                     without_degenerate=without_degenerate)  # fmt: skip
    if as_json:
        return console.print_json(found.to_json(encoder, strategy))
    for matrix in found.matrices:
        if encoder not in (None, matrix.encoder) or strategy not in (None, matrix.strategy):
            continue
        console.say(f"{matrix.encoder} · {matrix.strategy} against {against}, in points")
        console.show_matrix(matrix)
    return None


@analyze_app.command("ranks")
def analyze_ranks(
    table: TableOption,
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sources ranked over all targets, and which of them can be told apart (Friedman, Nemenyi)."""
    from layover.stats.ranks import ranks
    from layover.stats.table import read_table
    from layover.stats.transfer import transfer

    found = transfer(read_table(table), against=against, metric=metric, without_degenerate=without_degenerate)
    chosen = [one for one in ranks(found) if encoder in (None, one.encoder) and strategy in (None, one.strategy)]
    if not chosen:
        found.matrix(encoder, strategy)  # says what there is
    if as_json:
        return console.print_json([one.to_json() for one in chosen])
    for one in chosen:
        console.show_ranks(one)
    return None


@analyze_app.command("power")
def analyze_power(
    table: TableOption,
    store: StoreOption = None,
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    correct: CorrectOption = "holm",
    without_degenerate: WithoutOption = False,
    effect: Annotated[
        float | None, typer.Option("--effect", help="The effect in points to be found; default: the observed one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many seeds and examples would settle each cell, and what the present ones can show."""
    from layover.stats.power import power
    from layover.stats.table import read_table

    found = power(
        read_table(table, against), predictions_in(store), against, metric, correct, without_degenerate, effect
    )
    chosen = [one for one in found if encoder in (None, one.encoder) and strategy in (None, one.strategy)]
    if found and not chosen:
        known = sorted({f"{one.encoder or '(unnamed)'} × {one.strategy}" for one in found})
        raise ObservationsError(Problem("", "there is no such matrix", f"choices: {', '.join(known)}"))
    if as_json:
        return console.print_json([one.to_json() for one in chosen])
    console.show_power(chosen)
    return None

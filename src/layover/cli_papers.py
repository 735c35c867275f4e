"""`layover analyze` as papers on intermediate tasks did: correlations, strategies, sizes, layers, grids, forgetting."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from layover import console, console_papers
from layover.asked import JsonOption
from layover.cli_analyze import (
    AgainstOption,
    CorrectOption,
    EncoderOption,
    MetricOption,
    StoreOption,
    StrategyOption,
    TableOption,
    WithoutOption,
    analyze_app,
    predictions_in,
)
from layover.errors import ObservationsError, Problem

MethodOption = Annotated[Literal["spearman", "pearson"], typer.Option("--method", help="Of correlation.")]


@analyze_app.command("correlations")
def analyze_correlations(
    table: TableOption,
    method: MethodOption = "spearman",
    family: Annotated[
        Literal["targets-x-probing", "targets-x-all"],
        typer.Option("--family", help="Which tests p-values are corrected over; targets-x-all is the paper's."),
    ] = "targets-x-probing",
    square: Annotated[bool, typer.Option("--square", help="Also all tasks with all.")] = False,
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    as_json: JsonOption = False,
) -> None:
    """Between scores on targets and on probing tasks, over sources and restarts (Pruksachatkun et al. 2020)."""
    from layover.stats.correlate import correlations
    from layover.stats.table import read_table

    found = correlations(read_table(table), method, family, strategy, encoder, against, metric)
    if as_json:
        return console.print_json(found.to_json(square))
    return console_papers.show_correlations(found, square)


@analyze_app.command("strategies")
def analyze_strategies(
    table: TableOption,
    multitask: Annotated[
        list[str] | None, typer.Option("--multitask", help="A strategy of joint training. Default: multitask.")
    ] = None,
    stilts: Annotated[str, typer.Option("--stilts", help="The strategy with a stop.")] = "stilts",
    together: Annotated[
        str | None, typer.Option("--all", help="The strategy with all tasks at once. Default: multitask_all, if any.")
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option("--size", metavar="TASK=N", help="Training examples, where the table has none.")
    ] = None,
    store: StoreOption = None,
    against: AgainstOption = "direct",
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    correct: CorrectOption = "holm",
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Both tasks at once against a stop, and whether sizes tell which is better (Weller et al. 2022)."""
    from layover.stats.rivals import rivals
    from layover.stats.table import read_table

    sizes = dict(map(_size, size or []))
    found = rivals(read_table(table), multitask or ("multitask",), stilts, together, against, sizes,
                   predictions_in(store), encoder, metric, correct, without_degenerate)  # fmt: skip
    if as_json:
        return console.print_json([one.to_json() for one in found])
    return console_papers.show_rivals(found, against)


def _size(word: str) -> tuple[str, int]:
    name, _, number = word.partition("=")
    if not (name and number.isdigit() and int(number)):
        raise ObservationsError(Problem("--size", f"{word!r} is no size of a task", "say TASK=N, such as rte=2490"))
    return name, int(number)


@analyze_app.command("sizes")
def analyze_sizes(
    table: TableOption,
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Scores over sizes of targets and of intermediate tasks, with 95% intervals over seeds."""
    from layover.stats.sizes import sizes
    from layover.stats.table import read_table

    found = sizes(read_table(table), strategy, encoder, against, metric, without_degenerate)
    return console.print_json(found.to_json()) if as_json else console_papers.show_sizes(found)


@analyze_app.command("layers")
def analyze_layers(
    table: TableOption,
    probing: Annotated[
        list[str] | None,
        typer.Option("--probing", help="A strategy that trains a head alone. Default: probe, probing, truncate."),
    ] = None,
    against: AgainstOption = "direct",
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Scores over layers that were drawn anew, permuted or frozen, with 95% intervals (Tamkin et al. 2020)."""
    from layover.stats.layers import layers
    from layover.stats.table import read_table

    found = layers(read_table(table), probing or (), against, encoder, metric, without_degenerate)
    return console.print_json(found.to_json()) if as_json else console_papers.show_layers(found)


@analyze_app.command("grid")
def analyze_grid(
    table: TableOption,
    grid_of: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", metavar="NAME=S1,S2,...", help="The strategies of a grid. Default: by their first word."
        ),
    ] = None,
    against: Annotated[str, typer.Option("--against", help="The grid of the baseline.")] = "direct",
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    correct: CorrectOption = "holm",
    without_degenerate: WithoutOption = False,
    as_json: JsonOption = False,
) -> None:
    """Best, mean and spread over all trials of a grid, by condition and target (Chang & Lu 2021)."""
    from layover.stats.grid import grid
    from layover.stats.table import read_table

    grids = {name: of.split(",") for name, of in map(_grid, grid_of)} if grid_of else None
    found = grid(read_table(table), grids, against, encoder, metric, correct, without_degenerate)
    return console.print_json(found.to_json()) if as_json else console_papers.show_grid(found)


def _grid(word: str) -> tuple[str, str]:
    name, equals, strategies = word.partition("=")
    if not (name and equals and strategies):
        raise ObservationsError(Problem("--grid", f"{word!r} names no strategies", "say NAME=STRATEGY,STRATEGY,..."))
    return name, strategies


@analyze_app.command("forgetting")
def analyze_forgetting(
    table: TableOption,
    measure: Annotated[
        list[str] | None,
        typer.Option("--measure", help="A measure of forgetting. Default: mlm_loss_rise, cka and l2."),
    ] = None,
    method: MethodOption = "spearman",
    against: AgainstOption = "direct",
    strategy: StrategyOption = None,
    encoder: EncoderOption = None,
    metric: MetricOption = None,
    as_json: JsonOption = False,
) -> None:
    """What checkpoints forgot against what they add to targets, also with collapse held."""
    from layover.stats.forgetting import forgetting
    from layover.stats.table import read_table

    found = forgetting(read_table(table), measure or (), method, strategy, encoder, against, metric)
    return console.print_json(found.to_json()) if as_json else console_papers.show_forgetting(found)

"""Answer: what a study found, in sentences made of its numbers: what pays, what hurts, what is noise and collapse."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from layover.report.words import arrow, effect, interval, joined, p_value, plural, points, title
from layover.stats.paired import Cell
from layover.stats.ranks import Ranks
from layover.stats.transfer import Average, Matrix, Transfer

NAMED = 3  # cells that are named in a sentence; the page has all


@dataclass(frozen=True)
class Answer:
    """The answer of one matrix: a sentence, then what is to be known beside it, each with a word for it."""

    title: str
    lead: str
    details: tuple[tuple[str, str], ...] = ()


def answers(found: Sequence[Transfer]) -> list[Answer]:
    """The answer of each encoder and strategy; `found` is with all runs first, then without degenerate ones."""
    if not found or not found[0].matrices:
        against = found[0].against if found else "the baseline"
        return [Answer("", f"There is nothing to compare yet: no strategy has been run against {against}.")]
    first, several = found[0], len(found[0].matrices) > 1
    left = {title(matrix): matrix for one in found[1:] for matrix in one.matrices}
    overall = [Answer("", _overall(first))] if several else []
    return overall + [
        Answer(
            title(matrix) if several else "",
            _lead(matrix, first.against),
            tuple(_details(matrix, first.against, left.get(title(matrix)))),
        )
        for matrix in first.matrices
    ]


def _overall(first: Transfer) -> str:
    cells = [cell for matrix in first.matrices for cell in matrix.cells.values()]
    count = Counter(cell.verdict for cell in cells)
    pays, hurts = (
        f"{number or 'none'} {verb}{'s' if number < 2 else ''}"
        for number, verb in ((count["helps"], "pay"), (count["hurts"], "hurt"))
    )
    return f"Of {len(cells):,} cells against {first.against}, {pays} and {hurts} beyond noise; {_rest(count)}."


def _lead(matrix: Matrix, against: str) -> str:
    cells = list(matrix.cells.values())
    if len(cells) == 1:
        return _of_one(cells[0], against)
    count, total = Counter(cell.verdict for cell in cells), f"{len(cells):,}"
    if not count["helps"] and not count["hurts"]:
        return _nothing(matrix, cells)
    pays = f"pays in {count['helps']} of {total} cells" if count["helps"] else f"pays in none of {total} cells"
    hurts = f"hurts in {count['hurts']}" if count["hurts"] else "hurts in none"
    return f"{matrix.strategy} {pays} and {hurts}; {_rest(count)}."


def _of_one(cell: Cell, against: str) -> str:
    name = cell.source or cell.strategy
    if cell.verdict == "missing":
        return f"Nothing is known yet of {arrow(cell.source, cell.target)}: the cell is missing."
    if cell.verdict == "collapse":
        runs = f"{cell.degenerate} of {plural(cell.n, 'pair')} of runs {'has' if cell.degenerate == 1 else 'have'}"
        return f"{name} before {cell.target} is a collapse: {runs} a degenerate one."
    if cell.verdict in ("helps", "hurts"):
        return f"{name} {cell.verdict} {cell.target}: {effect(cell)} against {against}."
    noise = "within noise" if cell.verdict == "within noise" else "which one pair of runs cannot tell from noise"
    return f"{name} changes {cell.target} by {effect(cell)}: {noise}."


def _nothing(matrix: Matrix, cells: Sequence[Cell]) -> str:
    known = [cell for cell in cells if cell.delta is not None and cell.verdict == "within noise"]
    rest = _rest(Counter(cell.verdict for cell in cells), len(cells))
    if not known:
        return f"No effect of {matrix.strategy} can be told from these runs: {rest}."
    largest = max(known, key=lambda cell: abs(cell.delta or 0))
    where = arrow(largest.source, largest.target)
    return (
        f"{matrix.strategy} changes no task beyond noise: {rest}. "
        f"The largest difference is {where} ({effect(largest)})."
    )


def _rest(count: Counter[str], total: int | None = None) -> str:
    """The cells that neither gain nor lose: "76 are within noise and 5 are collapses"."""
    kinds = {
        "within noise": ("is within noise", "are within noise"),
        "collapse": ("is a collapse", "are collapses"),
        "untested": ("has one pair of runs and no interval", "have one pair of runs and no interval"),
        "missing": ("is missing", "are missing"),
    }
    parts = [f"{count[verdict]:,} {one if count[verdict] == 1 else many}" for verdict, (one, many) in kinds.items()
             if count[verdict]]  # fmt: skip
    if total and parts:
        number, _, what = parts[0].partition(" ")
        parts[0] = f"{number} of {total:,} cells {what}"
    return joined(parts) or "no cell is within noise"


def _details(matrix: Matrix, against: str, without: Matrix | None) -> list[tuple[str, str]]:
    cells = list(matrix.cells.values())
    found = []
    if len(cells) > 1:
        found += [("Pays", _named(sorted(_of(cells, "helps"), key=lambda cell: -(cell.delta or 0))))]
        found += [("Hurts", _named(sorted(_of(cells, "hurts"), key=lambda cell: cell.delta or 0)))]
    found += [("On average", _average(matrix, role, against)) for role in matrix.roles]
    found += [("Noise", _noise(cells)), ("Collapse", _collapse(matrix, without)), ("Caution", _caution(cells))]
    return [(label, sentence) for label, sentence in found if sentence]


def _of(cells: Sequence[Cell], verdict: str) -> list[Cell]:
    return [cell for cell in cells if cell.verdict == verdict]


def _named(cells: Sequence[Cell]) -> str:
    if not cells:
        return ""
    named = [f"{arrow(cell.source or cell.strategy, cell.target)} {_short(cell)}" for cell in cells[:NAMED]]
    more = len(cells) - NAMED
    return joined([*named, *([f"{more} more {'cell' if more == 1 else 'cells'}"] if more > 0 else [])]) + "."


def _short(one: Cell | Average) -> str:
    known = f" (95% {interval(one.low, one.high)})" if one.low is not None else ""
    return f"{points(one.delta)}{known}"


def _average(matrix: Matrix, role: str, against: str) -> str:
    """The best source over the tasks of a role, and whether it beats the baseline."""
    means = {source: mean for (of, source), mean in matrix.averages.items() if of == role and mean.delta is not None}
    tasks = max((mean.targets for mean in means.values()), default=0)
    if tasks < 2:
        return ""
    source, best = max(means.items(), key=lambda item: item[1].delta or 0)
    name, over = source or matrix.strategy, f"Over {tasks} {'targets' if role == 'target' else f'{role} tasks'}"
    effect_of_it = f"{points(best.delta)} points, 95% {interval(best.low, best.high)}"
    if best.low is None:
        effect_of_it = f"{points(best.delta)} points, no interval"
    said = {"helps": "beyond noise", "hurts": "a loss beyond noise", "untested": "not tested"}.get(
        best.verdict, best.verdict
    )
    if len(means) == 1:
        return f"{over} {name} makes {effect_of_it}: {said}."
    beat, lose = (sum(mean.verdict == verdict for mean in means.values()) for verdict in ("helps", "hurts"))
    beyond = f"{beat or 'none'} of {len(means)} {'beats' if beat == 1 else 'beat'} {against} beyond noise"
    lost = f", {lose} {'does' if lose == 1 else 'do'} worse beyond noise" if lose else ""
    return f"{over} {name} does best: {effect_of_it}, {said}; {beyond}{lost}."


def _noise(cells: Sequence[Cell]) -> str:
    """How small an effect these runs could have seen."""
    halves = [(cell.high - cell.low) / 2 for cell in cells if cell.low is not None and cell.high is not None]
    if not halves:
        return ""
    seeds = sorted({cell.n for cell in cells if cell.low is not None})
    counted = plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    which = "a typical interval reaches" if len(halves) > 1 else "the interval reaches"
    half = f"{statistics.median(halves):.1f}"
    return f"With {counted}, {which} {half} points to either side; smaller effects look like none."


def rank_words(one: Ranks) -> str:
    """What the ranks of sources over targets say, in a sentence or two."""
    first, last = next(iter(one.ranks)), list(one.ranks)[-1]
    over = f"over {plural(len(one.targets), f'{one.role} task')}"
    known = f"Friedman's test in Iman and Davenport's form gives p {p_value(one.p)}" if one.p is not None else ""
    told = f"{first} ranks first and {last} last {over}; {known}."
    if one.critical_difference is None:
        return told
    apart = (
        f"Two can be told apart where their mean ranks differ by {one.critical_difference:.1f} or more (Nemenyi, 5%)"
    )
    together = any(set(group) == set(one.ranks) for group in one.groups)
    return f"{told} {apart}; here no two can." if together else f"{told} {apart}."


def _collapse(matrix: Matrix, without: Matrix | None) -> str:
    cells = list(matrix.cells.values())
    runs = {run.key or id(run): run for cell in cells for pair in cell.pairs for run in (pair.run, pair.baseline)
            if run is not None and run.value is not None}  # fmt: skip
    collapsed = sum(run.status.startswith("degenerate") for run in runs.values())
    if not collapsed:
        return ""
    share = f"{collapsed:,} of {len(runs):,} runs ({100 * collapsed / len(runs):.1f}%) learnt nothing (degenerate)"
    if without is None:
        return share + "."
    now = Counter(cell.verdict for cell in without.cells.values())
    gain, lose = (now[verdict] or "none" for verdict in ("helps", "hurts"))
    verbs = "gains" if now["helps"] < 2 else "gain", "loses" if now["hurts"] < 2 else "lose"
    return f"{share}; without them {gain} of {len(without.cells):,} cells {verbs[0]} and {lose} {verbs[1]}."


def _caution(cells: Sequence[Cell]) -> str:
    known = [cell for cell in cells if cell.delta is not None]
    if known and all(cell.n == 1 for cell in known):
        seen = any(cell.basis == "examples" for cell in known)
        what = "intervals are over validation examples alone" if seen else "there is no interval"
        return f"One seed: {what}, and nothing is known of what another seed would do."
    single = sum(cell.n == 1 for cell in known)
    return f"{single} of {len(cells):,} cells have one seed only." if single else ""

"""Words: a check of data as tables, sentences and a page of Markdown. None of them holds text of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from layover.datacheck.facts import LENGTHS, DataCheck, Overlap, Split, TaskFacts

WORTH_SAYING = 0.01  # share of a split's examples from which on a repeat, a cut or a text in common gets a sentence
NAMED = 3  # labels, reasons or tasks that a sentence names; the rest is counted
LABEL = 20  # characters of a label in a table
NONE = "–"
ABOUT = (
    "Questions are what rows ask (most ask one thing). *Published* compares them with what the release or the papers "
    f"count: a *sample* has clearly fewer. *Cut* is the share of examples longer than {LENGTHS[0]} and {LENGTHS[1]} "
    "tokens, *lost* the share of targets of which that cuts off a stretch. *Repeats* are examples whose inputs and "
    "stretches an earlier one of the split has, *in train* the validation examples that train has too, *relabelled* "
    "those whose label no such training example has. Texts are compared in lower case with single blanks. *Share* is "
    "how often the label (or the position of the right choice) that is commonest in train is right in validation; of "
    "sets of labels, how often it is one of them. A first text is the passage, the premise or the only text. What is "
    f"below {WORTH_SAYING:.0%} of a split is not always said below; `--json` has all of it."
)


@dataclass(frozen=True)
class Table:
    """A titled table, ready to print; all columns but the first are numbers or short words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(check: DataCheck) -> list[Table]:
    """Counts, lengths (where a tokenizer was there), repeats and labels: a row per task that could be read."""
    found = [(facts, facts.train, facts.validation) for facts in check.tasks if facts.train and facts.validation]
    first, second = map(str, LENGTHS)
    count = ("task", "train", "validation", "published", "examples", "targets", "omitted", "broken")
    length = ("task", "median", "longest", f"cut {first}", f"cut {second}", f"lost {first}", f"lost {second}")
    repeat = ("task", "repeats", "in train", "relabelled", "labels", "commonest", "share")
    made = [Table("Counts (examples and targets are train's)", count, tuple(_counts(*row) for row in found))]
    if check.encoder:
        title = f"Lengths of train in tokens of {check.encoder}"
        made.append(Table(title, length, tuple(_lengths(facts, train) for facts, train, _ in found)))
    title = "Repeats (train / validation) and labels"
    return [*made, Table(title, repeat, tuple(_labels(*row) for row in found))]


def sentences(facts: TaskFacts) -> list[str]:
    """What has to be known about a task's data, one fact each; empty where there is nothing."""
    said: list[str] = []
    if facts.problems:
        said.append(f"{_n(len(facts.problems), 'problem')} with the data, the first at {facts.problems[0].place}")
    if len(facts.folders) > 1:
        used, *others = (path.replace("\\", "/").split("/") for path in facts.folders)
        said.append(f"{'/'.join(used[-2:])} is read, not {', '.join('/'.join(other[-2:]) for other in others)}")
    if facts.train and facts.validation:
        splits = {"train": facts.train, "validation": facts.validation}
        said += [*_of_counts(splits), *_of_repeats(splits, facts.overlap), *_of_lengths(splits)]
        said += _of_others(facts, facts.validation)
    return said


def markdown(check: DataCheck) -> str:
    """A page: the tables, and under them what has to be known about each task."""
    lines = ["# What is in the data", "", ABOUT, "", "Made with `layover tasks --check --out FILE.md`.", ""]
    for table in tables(check):
        marks = ["---"] + ["---:"] * (len(table.columns) - 1)
        rows = [table.columns, marks, *((f"`{task}`", *cells) for task, *cells in table.rows)]
        cells = ([cell.replace("|", "\\|") for cell in row] for row in rows)
        lines += [f"## {table.title}", "", *(f"| {' | '.join(row)} |" for row in cells), ""]
    said = {facts.task: sentences(facts) for facts in check.tasks}
    lines += ["## What to know", "", *(f"- `{task}`: {'; '.join(facts)}." for task, facts in said.items() if facts), ""]
    return "\n".join([*lines, *(f"- {line}" for line in outside(check))]).rstrip() + "\n"


def outside(check: DataCheck) -> list[str]:
    """What of the catalogue is not in the data directories, and what in them is not of the catalogue."""
    said = []
    free = [f"`{task}`" for task, licence in check.absent.items() if not licence]
    if free:
        said.append(f"Not in these directories: {', '.join(free)}.")
    said += [
        f"`{task}` is not in these directories: it {licence}." for task, licence in check.absent.items() if licence
    ]
    if check.strangers:
        names = sorted({path.replace("\\", "/").rsplit("/", 1)[-1] for path in check.strangers})
        said.append(f"In these directories, but no task of the catalogue: {', '.join(f'`{name}`' for name in names)}.")
    return said


def _counts(facts: TaskFacts, train: Split, validation: Split) -> tuple[str, ...]:
    compared = dict.fromkeys(split.against or NONE for split in (train, validation))
    omitted = sum(train.omitted.values()) + sum(validation.omitted.values())
    numbers = (train.examples, train.targets, omitted, train.broken + validation.broken)
    both = f"{train.questions:,}", f"{validation.questions:,}"
    return (facts.task, *both, " / ".join(compared), *(f"{number:,}" for number in numbers))


def _lengths(facts: TaskFacts, train: Split) -> tuple[str, ...]:
    tokens = train.tokens
    if tokens is None:
        return (facts.task, *[NONE] * 6)
    lost = [share(tokens.lost[n]) for n in LENGTHS] if tokens.lost is not None else [NONE] * len(LENGTHS)
    return (facts.task, str(tokens.median), str(tokens.longest), *(share(tokens.cut[n]) for n in LENGTHS), *lost)


def _labels(facts: TaskFacts, train: Split, validation: Split) -> tuple[str, ...]:
    shared = facts.overlap
    repeats = f"{train.repeats:,} / {validation.repeats:,}"
    common = next(iter(train.labels), None)
    right = NONE if common is None else share(validation.labels.get(common, 0) / max(1, validation.targets))
    both = (f"{shared.asked:,}", f"{shared.relabelled:,}") if shared else (NONE, NONE)
    return (facts.task, repeats, *both, _kinds(facts, train), NONE if common is None else common[:LABEL], right)


def _kinds(facts: TaskFacts, train: Split) -> str:
    """How many labels there are, or what takes their place."""
    spread = train.spread
    if spread is None or spread.of in ("answers", "candidates"):
        return str(facts.classes)
    if spread.of == "labels":
        return f"{facts.classes} ({spread.mean:.2f} each)" if spread.highest > 1 else str(facts.classes)
    if spread.of == "words":
        return f"{spread.mean:.1f} words"
    low, high = f"{spread.lowest:g}", f"{spread.highest:g}"
    return f"{low if low == high else f'{low}-{high}'} {'' if spread.of == 'value' else spread.of}".strip()


def _of_counts(splits: Mapping[str, Split]) -> Iterator[str]:
    for name, split in splits.items():
        if split.against == "sample":
            yield f"{name} is a sample, {split.questions:,} of {split.published:,}"
        elif split.against == "differs":
            yield f"{name} has {split.questions:,} questions where {split.published:,} are published"
    if any(split.broken for split in splits.values()):
        yield _per_split("rows that cannot be read", {name: split.broken for name, split in splits.items()})
    for words, found in (
        ("without an example: ", {name: split.omitted for name, split in splits.items()}),
        ("", {name: split.odd for name, split in splits.items()}),
    ):
        for what in dict.fromkeys(kind for counts in found.values() for kind in counts):
            yield _per_split(words + what, {name: counts.get(what, 0) for name, counts in found.items()})


def _of_repeats(splits: Mapping[str, Split], shared: Overlap | None) -> Iterator[str]:
    if any(split.repeats >= WORTH_SAYING * split.examples > 0 for split in splits.values()):
        yield _per_split("examples that repeat an earlier one", {name: s.repeats for name, s in splits.items()})
    if any(split.disputed for split in splits.values()):
        yield _per_split("inputs with more than one label", {name: split.disputed for name, split in splits.items()})
    if shared and shared.asked:
        other = f", {shared.relabelled:,} of them with another label" if shared.relabelled else ""
        yield f"{shared.asked:,} of validation are in train{other}"
    if shared and shared.texts > shared.asked and shared.texts >= WORTH_SAYING * splits["validation"].examples:
        yield f"{shared.texts:,} of validation have a first text of train's"


def _of_lengths(splits: Mapping[str, Split]) -> Iterator[str]:
    measured = {name: split.tokens for name, split in splits.items() if split.tokens}
    limit = LENGTHS[-1]
    if any(tokens.cut[limit] >= WORTH_SAYING for tokens in measured.values()):
        cut = " and ".join(f"{share(tokens.cut[limit])} of {name}" for name, tokens in measured.items())
        yield f"longer than {limit} tokens: {cut}"
    if any(tokens.unheld for tokens in measured.values()):
        yield _per_split("targets that no token holds", {name: tokens.unheld for name, tokens in measured.items()})


def _of_others(facts: TaskFacts, validation: Split) -> Iterator[str]:
    if facts.unseen:
        yield f"validation has {_n(len(facts.unseen), 'label')} that train has not ({_listed(facts.unseen)})"
    near = {one.source: one.texts for one in facts.elsewhere if one.texts > WORTH_SAYING * validation.examples}
    if near:
        ranked = dict(sorted(near.items(), key=lambda item: -item[1]))
        yield f"texts of validation that the train split of other tasks has: {_listed(ranked)}"


def _per_split(what: str, counts: Mapping[str, int]) -> str:
    """'empty answers: 3 of train'; splits that have none are left out."""
    return f"{what}: {' and '.join(f'{n:,} of {name}' for name, n in counts.items() if n)}"


def _listed(counts: Mapping[str, int]) -> str:
    """The first names with their counts, and how many more there are."""
    named: Sequence[str] = [f"{name} {n:,}" for name, n in list(counts.items())[:NAMED]]
    more = len(counts) - NAMED
    return ", ".join([*named, f"{more} more"] if more > 0 else named)


def share(value: float) -> str:
    """A share in percent: 0 only where it is none."""
    return "0" if value == 0 else "<0.1%" if value < 0.001 else f"{value:.1%}"


def _n(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

"""The commands that make a task out of plain text: `layover synthesize`, and `layover generator` for its model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from layover import console
from layover.errors import Problem, UserError

TextArgument = Annotated[
    Path, typer.Argument(metavar="TEXT", help="A text file, one paragraph per line; .gz and .xz are unpacked.")
]
NAME = r"[a-z0-9_]+"


def synthesize(
    text: TextArgument,
    out: Annotated[Path, typer.Option("--out", help="The folder of the task: new, or begun with these settings.")],
    generator: Annotated[
        str | None, typer.Option("--generator", help="Fakes by this causal model: a Hub id, or a directory.")
    ] = None,
    corrupt: Annotated[
        str | None, typer.Option("--corrupt", help="Fakes without a model: shuffle, ngram or swap.")
    ] = None,
    sentences: Annotated[int, typer.Option("--sentences", min=1, help="Training sentences at most.")] = 30_000,
    validation: Annotated[int, typer.Option("--validation", min=0, help="Validation sentences at most.")] = 1_000,
    fakes: Annotated[int, typer.Option("--fakes", min=1, help="Fake endings of a sentence.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 42,
    top_p: Annotated[float, typer.Option("--top-p", help="Mass of the nucleus that a model samples from.")] = 0.9,
    temperature: Annotated[float, typer.Option("--temperature", help="Of a model's sampling.")] = 1.0,
    order: Annotated[int, typer.Option("--order", min=1, help="Words of the longest n-gram of ngram.")] = 3,
    min_words: Annotated[int, typer.Option("--min-words", help="Shorter sentences are dropped.")] = 20,
    max_words: Annotated[int, typer.Option("--max-words", help="Longer sentences are cut.")] = 30,
    form: Annotated[
        Literal["choice", "single"], typer.Option("--as", help="Ask which ending is real, or of each whether it is.")
    ] = "choice",
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Endings that a model makes at once.")] = 48,
    name: Annotated[str | None, typer.Option("--name", help="The task's name. Default: that of the folder.")] = None,
) -> None:
    """Make a real-vs-fake task from a text: a human wrote one ending of a sentence, and a machine the others."""
    from layover.synthesis.sentences import Rules
    from layover.synthesis.synthesize import Synthesis, study_table
    from layover.synthesis.synthesize import synthesize as make

    called = _checked_name(name, out)
    wanted = Synthesis(
        text, generator, corrupt, sentences, validation, fakes, seed, top_p, temperature, order, form,
        Rules(min_words, max_words),
    )  # fmt: skip
    with console.counted("sentences") as tell:
        record = make(wanted, out, batch_size, tell)
    counts = record["counts"]
    console.say(f"{out}: {counts['train']:,} questions to train on, {counts['validation']:,} to validate with")
    if counts["train"] < sentences:
        console.say(f"{text.name} has no more: {sentences:,} and {validation:,} were asked for")
    console.show_table(("", "sentences"), [(n, f"{c:,}") for n, c in counts.items()], right=("sentences",))
    console.say("put this into a study file, and name the task in its [strategies]:")
    console.say(f"\n{study_table(out, called, record)}")


def generator(
    text: TextArgument,
    out: Annotated[Path, typer.Option("--out", help="The model's folder: new, or begun with these settings.")],
    layers: Annotated[int, typer.Option("--layers", min=1, help="Transformer layers.")] = 4,
    width: Annotated[int, typer.Option("--width", min=8, help="Width of a layer.")] = 192,
    vocabulary: Annotated[int, typer.Option("--vocabulary", min=260, help="Tokens of the tokenizer.")] = 4_000,
    length: Annotated[int, typer.Option("--length", min=8, help="Tokens that the model reads at most.")] = 128,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Updates.")] = 2_000,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Blocks of text in an update.")] = 16,
    learning_rate: Annotated[float, typer.Option("--learning-rate", min=0.0, help="The highest.")] = 2e-3,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option("--precision", help="In which matrices are multiplied.")
    ] = "fp32",
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and held-out paragraphs.")] = 1,
) -> None:
    """Train a small language model on a text, as a generator for `layover synthesize` where there is no GPT-2."""
    from layover.synthesis.generator import make
    from layover.train.causal import Sizes

    sizes = Sizes(layers, width, vocabulary, length, steps, batch_size, learning_rate, precision, seed)
    with console.counted("steps") as tell:
        record = make(text, sizes, out, tell)
    console.show_table(("", out.name), [(name, f"{value:,.6g}") for name, value in record["facts"].items()])
    console.say(f"next: layover synthesize {text} --generator {out} --out DIR")


def _checked_name(name: str | None, out: Path) -> str:
    from layover.tasks import TASKS

    called, place = name or out.resolve().name, "--out" if name is None else "--name"
    if not re.fullmatch(NAME, called):
        raise UserError(Problem(place, f"{called!r} is not a name for a task", "give one of a-z, 0-9, _ with --name"))
    if called in TASKS:
        raise UserError(Problem(place, f"there is a task called {called!r} already", "give another name with --name"))
    return called

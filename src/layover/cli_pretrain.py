"""The command `layover pretrain`, which makes an encoder from nothing but text."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from layover import console

EVERY = 10.0  # seconds between lines that say where a run stands


def pretrain(
    text: Annotated[list[Path], typer.Argument(metavar="TEXT", help="Files: .txt (a paragraph a line), .jsonl, ...")],
    out: Annotated[Path, typer.Option("--out", help="The encoder's directory: new, or one in which a run was begun.")],
    held: Annotated[
        list[Path] | None, typer.Option("--held", help="A file to hold out. Default: the last hundredth of TEXT.")
    ] = None,
    layers: Annotated[int, typer.Option("--layers", help="Layers.")] = 4,
    width: Annotated[int, typer.Option("--width", help="Width of the hidden states.")] = 256,
    heads: Annotated[int, typer.Option("--heads", help="Attention heads.")] = 4,
    vocabulary: Annotated[int, typer.Option("--vocabulary", help="Tokens of the tokenizer, at most.")] = 8192,
    max_length: Annotated[int, typer.Option("--max-length", help="Tokens of an input, at most.")] = 128,
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps in all.")] = 20_000,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Blocks of --max-length tokens in a batch.")] = 256,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="The highest learning rate.")] = 5e-4,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16"] | None,
        typer.Option("--precision", help="Default: bf16 on a GPU that has it, else fp32."),
    ] = None,
    evaluate_every: Annotated[
        int | None, typer.Option("--evaluate-every", min=1, help="Steps between held-out losses. Default: a fortieth.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and hidden tokens.")] = 1,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0, help="Train for so long; the same command then goes on.")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to train.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", min=0, help="Of a CPU; 0: torch's choice.")] = 0,
) -> None:
    """Train a tokenizer and a small RoBERTa-style encoder from nothing. Kill it and run it again as you like."""
    from layover.provenance import provenance_now
    from layover.train.corpus import Texts
    from layover.train.determinism import quiet
    from layover.train.pretrain import Piece, Settings
    from layover.train.pretrain import pretrain as train

    quiet()
    settings = Settings(
        layers=layers,
        width=width,
        heads=heads,
        vocabulary=vocabulary,
        max_length=max_length,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        evaluate_every=evaluate_every,
        precision=precision,
        seed=seed,
    )
    piece = Piece(seconds, device, threads, _telling())
    record = train(settings, Texts(tuple(text), tuple(held or ())), out, piece, provenance_now())
    loss = f"held-out loss {record['held_out']['loss']:.3f} nats" if record["held_out"] else "not evaluated yet"
    if not record["finished"]:
        console.say(f"{out.resolve()}: step {record['steps']:,} of {steps:,}, {loss}; run the same command to go on")
    elif record["stopped"]:
        console.say(f"{out.resolve()}: stopped at step {record['steps']:,}: the loss became NaN; nothing was written")
        console.say("begin again with a lower --learning-rate, in another folder")
        raise typer.Exit(1)
    else:
        console.say(f"encoder: {out.resolve()}  ({record['steps']:,} steps, {loss})")


def _telling() -> Callable[[dict[str, Any]], None]:
    """What prints where a run stands, with the time that is left by the pace of this call."""
    shown: list[tuple[float, int]] = []

    def tell(at: dict[str, Any]) -> None:
        if "step" not in at:
            return console.say("reading the text, and making a tokenizer and blocks of it where there are none yet")
        now = time.monotonic()
        if not shown:
            shown.append((now, at["step"]))
        elif now - shown[-1][0] < EVERY and at["step"] < at["steps"]:
            return None
        shown.append((now, at["step"]))
        took, made = now - shown[0][0], at["step"] - shown[0][1]
        left = f", about {took / made * (at['steps'] - at['step']) / 60:,.0f} min left" if made else ""
        best = "" if at["best"] is None else f", held-out loss {-at['best']:.3f} at best"
        return console.say(f"step {at['step']:,} of {at['steps']:,}{best}{left}")

    return tell

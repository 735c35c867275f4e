"""What one GPU does with many short runs and with one large model, measured in one call of less than eight minutes.

    python bench/gpu.py [--minilm DIR] [--out FILE.json] [--seconds 460]
    python bench/gpu.py --dry        the same with a tiny model on a CPU, in a minute or two: its numbers mean nothing

A short run: minilm, 10 epochs of 2,490 examples of 80 random tokens on average (16 to 256, spread like RTE's), batches
of 32, bf16, then predictions for 277 more. Each arrangement has a process of its own, in which one such run, not
counted, comes first; the model is loaded anew for each. Arithmetic counts real tokens, not padding, and its ceiling is
a product of two bf16 matrices of 8192 x 8192 here. Of the profiled steps, "idle" is the share of the time in which no
kernel ran: the GPU waited for the host to launch one. Needs the packages that train, no network and no data; `Trainer`
needs accelerate. Prints a table, what became of the goals, and writes all of it as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from gpu_runs import Size

PROCESSES = (1, 2, 4, 8)
STUDY = 1700
GOALS = {"in-process Trainer": 8.0, "Trainer, one process per run": 25.0}
LARGE_SHARE, STUDY_MINUTES = 0.45, 30.0
ENOUGH, OVER = 5.0, "the time was up"  # seconds without which nothing is begun


class Course:
    """The sections one after the other, each in a process of its own, until the time is up."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds
        self.found: dict[str, dict[str, Any]] = {}

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return self.ends - time.monotonic()

    def section(self, name: str, size: Size, most: float) -> None:
        """Do a section, in `most` seconds at most; it is noted where it fails or is left out."""
        if (limit := min(most, self.left)) < ENOUGH:
            return self._note(name, {"failed": OVER})
        began = time.perf_counter()
        try:
            done = subprocess.run(command(name, size), capture_output=True, text=True, timeout=limit)
            lines = done.stdout.splitlines() or [""]
            found = {"failed": last_line(done.stderr)} if done.returncode else json.loads(lines[-1])
        except subprocess.TimeoutExpired:
            found = {"failed": f"not done after {limit:.0f} s"}
        return self._note(name, {**found, "wall": time.perf_counter() - began})

    def processes(self, count: int, size: Size, most: float) -> None:
        """Let `count` processes train at once; seconds are those from the start of all to the end of the last."""
        name, environment = f"graphs, {count} process{'es' * (count > 1)}", {**os.environ, "OMP_NUM_THREADS": "1"}
        if (limit := min(most, self.left)) < ENOUGH:
            return self._note(name, {"failed": OVER})
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        going: list[Any] = [subprocess.Popen(command("ready", size), text=True, env=environment, **pipes)
                            for _ in range(count)]  # fmt: skip
        over = threading.Timer(limit, lambda: [process.kill() for process in going])
        over.start()
        try:
            for process in going:
                process.stdout.readline()
            began = time.perf_counter()
            for process in going:
                print("go", file=process.stdin, flush=True)
            done = [process.stdout.readline() for process in going]
            found: dict[str, Any] = {"seconds": [time.perf_counter() - began], "at_once": count * size.runs}
            errors = [process.communicate()[1] for process in going]
            if not all(done):
                found = {"failed": last_line("".join(errors)) if over.is_alive() else f"not done after {limit:.0f} s"}
        except BrokenPipeError:
            found = {
                "failed": "a process ended before it began" if over.is_alive() else f"not done after {limit:.0f} s"
            }
        finally:
            over.cancel()
            for process in going:
                process.kill()
        return self._note(name, found)

    def _note(self, name: str, found: dict[str, Any]) -> None:
        self.found[name] = found
        print(f"{self.left:5.0f} s left: {name}: {found}", file=sys.stderr, flush=True)


def command(name: str, size: Size) -> list[str]:
    return [sys.executable, str(Path(__file__).with_name("gpu_runs.py")), name, json.dumps(asdict(size))]


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1][:200]


def course(short: Size, big: Size, seconds: float, counts: Sequence[int]) -> dict[str, Any]:
    """Everything, the most telling first: what does not fit into the time is left out."""
    going = Course(seconds)
    going.section("ceiling", short, 60)
    for name in ("eager", "graphs", "in-process Trainer"):
        going.section(name, short, 90)
    going.section("Trainer, one process per run", short, 60)
    if "failed" not in (one := going.found["Trainer, one process per run"]):
        one["seconds"] = [one["wall"]]  # imports and all
    for count in counts:
        going.processes(count, short, 60)
    going.section("cohort of 8, eager", short, 80)
    going.section("RoBERTa-large", big, 80)
    going.section("compiled graphs", short, 240)
    return going.found


# what it comes to


def row(name: str, found: dict[str, Any], ceiling: dict[str, Any], bases: Sequence[float | None]) -> list[str]:
    """The cells of an arrangement."""
    if "failed" in found:
        return [name, f"not measured: {found['failed']}", *["-"] * 6]
    each, idle = per_run(found), found.get("idle")
    rate = (ceiling["flops"] / each if each else 0) / 1e12
    times = ["-" if base is None else f"{base / each:.1f}" for base in bases]
    share = f"{rate / ceiling['tflops']:.1%}"
    return [
        name,
        f"{each:.2f}",
        f"{3600 / each:.0f}",
        f"{rate:.1f}",
        share,
        "-" if idle is None else f"{idle:.0%}",
        *times,
    ]


def per_run(found: dict[str, Any]) -> float:
    return statistics.median(found["seconds"]) / found.get("at_once", 1)


def told(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table and the goals, line by line."""
    done = {name: part for name, part in found.items() if "failed" not in part}
    if "ceiling" not in done:
        yield f"nothing to compare with: {found['ceiling']['failed']}"
        return
    top = done["ceiling"]
    bases = [per_run(done[name]) if name in done else None for name in GOALS]
    yield f"{top['device']}: {top['tflops']:.0f} TFLOP/s in a matrix product, bf16"
    head = [
        "arrangement",
        "s per run",
        "runs per hour",
        "TFLOP/s",
        "of ceiling",
        "GPU idle",
        *(f"x {n}" for n in GOALS),
    ]
    short = {name: part for name, part in found.items() if name not in ("ceiling", "RoBERTa-large")}
    for cells in (head, ["---"] * len(head), *(row(name, part, top, bases) for name, part in short.items())):
        yield f"| {' | '.join(cells)} |"
    ours = {name: per_run(part) for name, part in done.items() if name in short and "Trainer" not in name}
    if ours:
        best = min(ours, key=lambda name: ours[name])
        idle = [f"{name}: idle {part['idle']:.0%}" for name, part in done.items() if part.get("idle") is not None]
        why = f"best is {best}; of the time, the GPU is, {', '.join(idle)}" if idle else f"best is {best}"
        for (name, wanted), base in zip(GOALS.items(), bases, strict=True):
            yield goal(f"times {name}", None if base is None else base / ours[best], wanted, why)
        yield goal(f"minutes for {STUDY} runs, projected", STUDY * ours[best] / 60, STUDY_MINUTES, why, less=True)
    big = found["RoBERTa-large"]
    if "failed" in big:
        yield f"RoBERTa-large: not measured: {big['failed']}"
    else:
        why = f"{big['tflops']:.0f} TFLOP/s in micro-batches of {big['micro_tokens']} tokens"
        yield goal("RoBERTa-large, share of the ceiling", big["tflops"] / top["tflops"], LARGE_SHARE, why)


def goal(what: str, found: float | None, wanted: float, why: str, less: bool = False) -> str:
    """Whether a goal is reached, and what is known of why not."""
    if found is None:
        return f"{what}: not measured (goal {wanted:g})"
    reached = found < wanted if less else found >= wanted
    return f"{what}: {found:.2f} (goal {wanted:g}): {'reached' if reached else f'falls short: {why}'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--minilm", default="", help="its directory; else the installed one, or random weights of its shape"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seconds", type=float, default=460.0)
    parser.add_argument("--dry", action="store_true")
    asked = parser.parse_args()
    from layover.encoders import ALIASES

    if asked.dry:
        short = Size("tiny", "cpu", "fp32", 24, 8, 12, 24, 1, 8, runs=1, seconds=1.0, matrix=64)
        big = replace(short, batch=4)
    else:
        short = Size(asked.minilm or str(ALIASES["minilm"].directory() or "minilm"))
        big = Size("large", tokens=256, longest=256, batch=64)
    found = course(short, big, asked.seconds, PROCESSES[:2] if asked.dry else PROCESSES)
    print("\n".join(told(found)))
    if asked.out:
        asked.out.write_text(json.dumps({"short": asdict(short), "large": asdict(big), "found": found}, indent=1))


if __name__ == "__main__":
    main()

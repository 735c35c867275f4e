"""The table of docs/results/tasks.md, from a store in which studies/all-tasks.toml was run.

layover run studies/all-tasks.toml --data DIR --store STORE
python bench/tasks.py STORE
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from pathlib import Path

from layover.metrics import get_metric
from layover.stats.chance import best_constant, chance
from layover.step import Train
from layover.store import Store


def main(folder: Path) -> None:
    store = Store.open(folder, create=False)
    runs: dict[str, dict[int, str]] = defaultdict(dict)
    steps = [(store.read(key, "provenance.json").get("started", ""), key) for key in store.finished_keys()]
    for _, key in sorted(steps):
        step = store.step(key)
        if isinstance(step, Train):
            runs[step.task.name][step.seed] = key  # the latest, where the study was changed and run again
    print("| task | metric | score, each seed | chance | constant | train | validation | cut | CPU s | |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, keys in sorted(runs.items()):
        print(line(store, name, [keys[seed] for seed in sorted(keys)]))


def line(store: Store, name: str, keys: list[str]) -> str:
    rows = [next(r for r in store.read(key, "observations.jsonl") if r["primary"]) for key in keys]
    facts = [store.read(key, "provenance.json") for key in keys]
    predictions = store.predictions(keys[0])
    assert predictions is not None
    metric = get_metric(rows[0]["metric"])
    best = best_constant(predictions, metric)
    seen, cut = facts[0]["examples"], facts[0]["truncated"]["train"]
    cells = [
        name,
        metric.name,
        ", ".join(f"{row['value']:.1f}" for row in rows),
        f"{chance(predictions, metric):.1f}",
        "" if best is None else f"{best:.1f}",
        f"{seen['train']:,}",
        f"{seen['validation']:,}",
        f"{cut:.0%}",
        f"{statistics.mean(fact['cpu_seconds'] for fact in facts):.0f}",
        "; ".join(sorted({row["status"] for row in rows} - {"ok"})),
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]))

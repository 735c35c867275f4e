"""Tables with known answers."""

from __future__ import annotations

import numpy as np

from layover.metrics import METRICS, Predictions


def row(strategy, source, target, seed, value, **more):
    return {"strategy": strategy, "source": source, "target": target, "seed": seed, "value": value} | more


def study(effects, seeds=3, examples=400, noise=0.0, seed=0, metric="accuracy", classes=2):
    """Rows and predictions of direct and stilts; `effects` is {(source, target): points}."""
    rng = np.random.default_rng(seed)
    rows, predictions = [], {}
    for target in sorted({target for _, target in effects}):
        gold = rng.integers(classes, size=examples).astype(float) if classes else rng.normal(size=examples)
        arms = [("direct", "", 0.0), *(("stilts", s, e) for (s, t), e in effects.items() if t == target)]
        for strategy, source, effect in arms:
            for number in range(seeds):
                key = f"{strategy}-{source}-{target}-{number}"
                right = rng.random(examples) < 0.7 + effect / 100 + noise * rng.normal()
                wrong = np.mod(gold + 1, classes) if classes else -gold
                predicted = np.where(right, gold, wrong)
                if not classes:
                    predicted = gold + rng.normal(size=examples) * (1.5 - effect / 10)
                run = Predictions(np.arange(examples), gold, predicted, classes)
                predictions[key] = run
                value = METRICS[metric].score(gold, predicted, classes)
                rows.append(row(strategy, source, target, number, value, metric=metric, key=key, encoder="minilm"))
    return rows, predictions

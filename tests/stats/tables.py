"""Tables with known answers."""

from __future__ import annotations

import numpy as np

from layover.metrics import METRICS
from layover.predictions import Predictions, texts
from layover.tasks.example import Scored

CLASSES = {"classes": 2, "choice": 2, "answers": 2, "labels": 3, "value": 0, "text": 0, "tokens": 2}


def row(strategy, source, target, seed, value, **more):
    return {"strategy": strategy, "source": source, "target": target, "seed": seed, "value": value} | more


def study(effects, seeds=3, examples=400, noise=0.0, seed=0, metric="accuracy", kind: Scored = "classes", each=1):
    """Rows and predictions of direct and stilts; `effects` is {(source, target): points}.

    Of `examples` predictions `each` are about one row of the validation file.
    """
    rng = np.random.default_rng(seed)
    rows, predictions, classes = [], {}, CLASSES[kind]
    for target in sorted({target for _, target in effects}):
        gold = rng.integers(2, size=examples).astype(float) if kind != "value" else rng.normal(size=examples)
        arms = [("direct", "", 0.0), *(("stilts", s, e) for (s, t), e in effects.items() if t == target)]
        for strategy, source, effect in arms:
            for number in range(seeds):
                key = f"{strategy}-{source}-{target}-{number}"
                right = rng.random(examples) < 0.7 + effect / 100 + noise * rng.normal()
                predicted = np.where(right, gold, 1 - gold)
                if kind == "value":
                    predicted = gold + rng.normal(size=examples) * (1.5 - effect / 10)
                run = Predictions(
                    np.arange(examples) // each, _as(kind, gold, True), _as(kind, predicted), classes, kind
                )
                predictions[key] = run
                value = METRICS[metric].score(run)
                rows.append(row(strategy, source, target, number, value, metric=metric, key=key, encoder="minilm"))
    return rows, predictions


def _as(kind, values, accepted=False):
    """Classes 0 and 1 as sets of labels or as (accepted) texts; numbers as they are."""
    if kind == "labels":
        return np.stack([values == 0, values == 1, values == 1], axis=1).astype(np.uint8)
    if kind == "text":
        said = [("yes it is", "no it was")[int(value)] for value in values]
        return texts([(text, "nothing of the kind") for text in said] if accepted else said)
    return values

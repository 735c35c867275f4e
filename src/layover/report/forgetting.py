"""Forgetting: the report's table of what checkpoints forgot, from the observations with that role."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from layover.stats.table import labelled

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("encoder", "strategy", "source", "text", "loss", "rise", "sd", "alike", "layer", "mean_alike", "moved", "n")
MEASURES = {"loss": "mlm_loss", "rise": "mlm_loss_rise", "mean_alike": "cka", "moved": "l2"}


def forgetting_rows(observations: DataFrame) -> list[dict[str, Any]]:
    """One row per encoder, strategy, source and text: means over seeds, None for what is not measured yet.

    `loss` and `rise` are in nats, `sd` the rise's over seeds; `alike` is CKA of the last layer that was compared, of
    number `layer`, and `mean_alike` that of all layers, in points; `moved` is the distance in per cent.
    """
    measured = observations.loc[observations["role"] == "forgetting"]
    if measured.empty:
        return []
    groups: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in labelled(measured).to_dict("records"):
        values = groups[row["encoder"], row["strategy"], row["source"], row["target"]][row["metric"]]
        if row["value"] is not None and row["value"] == row["value"]:
            values.append(float(row["value"]))
    return [_row(group, measures) for group, measures in groups.items()]


def _row(group: tuple[str, ...], measures: dict[str, list[float]]) -> dict[str, Any]:
    encoder, strategy, source, text = group
    layers = [int(found[1]) for name in measures if (found := re.fullmatch(r"cka_(\d+)", name))]
    last, rises = max(layers, default=None), measures.get("mlm_loss_rise", [])
    return {
        "encoder": encoder, "strategy": strategy, "source": source, "text": text,
        **{name: _mean(measures.get(metric, [])) for name, metric in MEASURES.items()},
        "alike": _mean(measures.get(f"cka_{last}", [])), "layer": last,
        "sd": statistics.stdev(rises) if len(rises) > 1 else None, "n": len(rises),
    }  # fmt: skip


def _mean(values: list[float]) -> float | None:
    return statistics.fmean(values) if values else None

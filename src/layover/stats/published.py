"""Published: numbers of a paper's figure, to hold conclusions against."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

AVERAGE = "Avg. Target"
NAMES = {  # the figure's tasks as the catalogue calls them; its probing tasks are other releases than the catalogue's
    "QAMR": "qamr", "CSenseQA": "commonsenseqa", "SciTail": "scitail", "CosmosQA": "cosmosqa", "SocialIQA": "socialiqa",
    "CCG": "ccg", "HellaSwag": "hellaswag", "QA-SRL": "qasrl", "SST-2": "sst2", "QQP": "qqp", "MNLI": "mnli",
    "CB": "cb", "COPA": "copa", "WSC": "wsc", "RTE": "rte", "MultiRC": "multirc", "WiC": "wic", "BoolQ": "boolq",
    "ReCoRD": "record",
}  # fmt: skip


@dataclass(frozen=True)
class Figure:
    """A published matrix in points: baselines by task, differences by (source, task), the printed means by source.

    Tasks are named as in the figure; `roles` says which are target and which are probing tasks.
    """

    baseline: dict[str, float]
    delta: dict[tuple[str, str], float]
    average: dict[str, float]
    roles: dict[str, str]


def figure2() -> Figure:
    """The matrix of Pruksachatkun et al. 2020 (Figure 2): 11 sources x 10 target and 25 probing tasks."""
    text = files("layover").joinpath("reference", "pruksachatkun2020_figure2.csv").read_text(encoding="utf-8")
    lines = csv.DictReader(text.splitlines())
    rows = {line.pop("task"): {name: float(value) for name, value in line.items()} for line in lines}
    average = rows.pop(AVERAGE)
    average.pop("baseline")
    baseline = {task: row.pop("baseline") for task, row in rows.items()}
    delta = {(source, task): value for task, row in rows.items() for source, value in row.items()}
    roles = {task: "probing" if task.startswith(("EP-", "SE-", "AJ-")) else "target" for task in rows}
    return Figure(baseline, delta, average, roles)

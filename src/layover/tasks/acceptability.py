"""Acceptability of function words (Kim et al. 2019, *SEM): four small sets, each in ten folds.

`aj_wh` and its like are divided as their files are, which is fold 1, the one that Pruksachatkun et al. 2020 use.
`aj_wh_fold1` to `aj_wh_fold10` pool the train, validation and test files and divide them anew by each row's `folds`;
validation is the fold's part `dev`. The mean over folds is what Kim et al. report. (AJ-CoLA is the task `cola`.)
"""

from __future__ import annotations

from dataclasses import replace

from layover.tasks.formats import Single
from layover.tasks.gathered import FOLDS, fold
from layover.tasks.release import Release
from layover.tasks.task import Task


def _acceptability(name: str, about: str, licence: str, published: tuple[int, int] | None = None) -> Task:
    """One of the sets, scored by the mean of accuracy and F1 as in Pruksachatkun et al. 2020."""
    return Task(
        name=name,
        version=1,
        format=Single("sentence"),
        labels=("unacceptable", "acceptable"),
        metrics=("accuracy_f1", "accuracy"),
        about=about,
        source=f"Kim et al. 2019 (*SEM), first of ten folds; licences of the texts: {licence}",
        published=published,
    )


def _fold(task: Task, number: int) -> Task:
    """A set divided as in fold `number`."""
    return replace(
        task,
        name=f"{task.name}_fold{number}",
        release=Release(folder=task.name, gathered=fold(number)),
        family=f"{task.name}_fold1..{FOLDS}",
        source=task.source.replace("first of ten folds", "one of ten folds"),
        published=None,
    )


aj_wh = _acceptability("aj_wh", "Is the wh-word in this sentence the right one?", "Apache 2.0", (464, 60))
aj_def = _acceptability("aj_def", "Is the article in this sentence the right one?", "licence not stated")
aj_coord = _acceptability(
    "aj_coord", "Is the coordinating conjunction in this sentence the right one?", "Apache 2.0", (364, 46)
)
aj_eos = _acceptability(
    "aj_eos",
    "Is this text, without capitals and punctuation, divided into sentences at the right place?",
    "CC BY-SA 3.0",
    (382, 48),
)
ALL_FOLDS = tuple(_fold(task, k) for task in (aj_wh, aj_def, aj_coord, aj_eos) for k in range(1, FOLDS + 1))

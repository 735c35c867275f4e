"""The Hub: the rows of a task's data set at its pinned revision."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from layover.errors import HubError, MissingExtra, Problem
from layover.tasks.fields import value_at
from layover.tasks.readers import layout
from layover.tasks.task import Hub, Task

CACHING = (
    "run once with a network: what is fetched stays under HF_HOME, and with HF_HUB_OFFLINE=1 later runs read it "
    "from there"
)


def hub_rows(task: Task, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) of one split, `train` or `validation`; raises HubError where it cannot be had."""
    hub = task.hub
    assert hub is not None
    name = hub.train if split == "train" else hub.validation
    rows = ((f"{hub} {name}, row {number}", dict(row)) for number, row in enumerate(_loaded(task, hub, name), 1))
    yield from _together(rows, hub.together) if hub.together else rows


def _together(rows: Iterable[tuple[str, dict[str, Any]]], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row with a list of rows for each run of equal values at a path, at the place of its first."""
    for _, same in itertools.groupby(rows, key=lambda found: value_at(found[1], path)):
        (place, first), *others = same
        yield place, {"rows": [first, *(row for _, row in others)]}


def _loaded(task: Task, hub: Hub, name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"reading task {task.name!r} from the Hub") from None
    with _no_progress_bars():
        try:
            return datasets.load_dataset(hub.repo, hub.config, revision=hub.revision, split=name)
        except Exception as error:  # what goes wrong is the Hub, the network or the cache, in dozens of classes
            raise _unreachable(task, hub, name, error) from error


def _unreachable(task: Task, hub: Hub, name: str, error: Exception) -> HubError:
    reason = " ".join(str(error).split())[:300]
    message = f"split {name!r} of {hub} cannot be had from the Hub: {type(error).__name__}: {reason}"
    return HubError(Problem(f"task {task.name!r}", message, f"{CACHING}; or pass --data DIR with {layout(task)}"))


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep the bars of `datasets` and `huggingface_hub` out of our output; leave their settings as they were."""
    import datasets.utils
    import huggingface_hub.utils

    enabled = [module for module in (datasets.utils, huggingface_hub.utils) if not module.are_progress_bars_disabled()]
    for module in enabled:
        module.disable_progress_bars()
    try:
        yield
    finally:
        for module in enabled:
            module.enable_progress_bars()

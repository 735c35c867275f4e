"""The Hub: the rows of a task's data set at its pinned revision, and how a revision is pinned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from layover.encoders import COMMIT, HUB_SECONDS
from layover.errors import HubError, MissingExtra, Problem, UserError
from layover.tasks.gathered import together
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
    yield from together(rows, (hub.together,)) if hub.together else rows


def _loaded(task: Task, hub: Hub, name: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "hub", f"reading task {task.name!r} from the Hub") from None
    with _no_progress_bars():
        try:
            if hub.load:
                loaded = hub.load(hub)[name]
            else:
                loaded = datasets.load_dataset(hub.repo, hub.config, revision=hub.revision, split=name)
        except UserError:
            raise
        except Exception as error:  # what goes wrong is the Hub, the network or the cache, in dozens of classes
            raise _unreachable(task, hub, name, error) from error
    if (other := _other_commit(loaded, hub.revision)) is not None:
        message = f"the Hub did not give {hub}, and the cache has another revision of it: {other}"
        raise HubError(Problem(f"task {task.name!r}", message, CACHING))
    return loaded


def _other_commit(loaded: Any, revision: str) -> str | None:
    """The commit of the data, where it is not the one asked for: `datasets` takes any that is cached when offline.

    It keeps the data of a repository in a folder that is called after the commit.
    """
    parts = [part for file in getattr(loaded, "cache_files", ()) for part in Path(file["filename"]).parts]
    commits = {part for part in parts if COMMIT.fullmatch(part)}
    return min(commits) if commits and revision not in commits else None


def pinned(task: Task) -> Task:
    """The task at a commit: itself, or under the name `NAME@COMMIT` where its revision is not one yet.

    The commit is what its revision stands for on the Hub now, or without network the one that the cache has. Raises
    HubError where there is none, or more than one.
    """
    hub = task.hub
    if hub is None or COMMIT.fullmatch(hub.revision):
        return task
    commit = _commit(task, hub)
    return replace(task, name=f"{task.name}@{commit}", hub=replace(hub, revision=commit))


def _commit(task: Task, hub: Hub) -> str:
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(hub.repo, revision=hub.revision or None, timeout=HUB_SECONDS).sha
    except Exception as error:  # the Hub client raises many kinds here; each means the same to a user
        cached = _cached_commits(hub.repo)
        if len(cached) == 1:
            return cached[0]
        held = f"the cache has {len(cached)} revisions: {', '.join(cached)}" if cached else "the cache has none of it"
        message = f"the Hub did not say which commit {hub} is ({type(error).__name__}), and {held}"
        hint = f"pin one: {task.name}@<40 hex digits>; or {CACHING}"
        raise HubError(Problem(f"task {task.name!r}", message, hint)) from error
    if commit is None:
        raise HubError(Problem(f"task {task.name!r}", f"the Hub gave no commit for {hub}", "pin one"))
    return commit


def _cached_commits(repo: str) -> list[str]:
    """The commits of a data set of which the Hub's client has files."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE, "datasets--" + repo.replace("/", "--"), "snapshots")
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


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

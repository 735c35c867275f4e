"""Mending: finished steps whose files are not what was written are put aside, so that they are done again.

Before a walk, everything that the steps to run read of finished ones is read once, weights included. After it, all
other finished steps of the plan are looked at: where sizes and times of files say that something happened to them, or
`layover store verify` noted damage, they are read too. What is put aside stays in `quarantine/` until it is collected.
Only the step itself is done again, or its weights alone, and what has to start from them: a step that is finished read
what was sound then, since every worker checks the weights that it starts from.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from layover.integrity import WEIGHTS
from layover.plan import Plan
from layover.store import Store


def put_aside_before(plan: Plan, store: Store, todo: Iterable[str]) -> dict[str, str]:
    """Put aside the damaged steps that those to do read from; what was wrong with each, by key.

    A step that was put aside is to be done itself, and reads from others: that is for the next look.
    """
    run = set(todo)
    kept = plan.kept()
    read = {key for child in run for key in plan.steps[child].reads(child in kept)}
    parents = {key for child in run for key in plan.steps[child].parents} - run
    found = {key: _wrong(store, key, with_weights=key in read) for key in sorted(parents)}
    return {key: _put_aside(store, key, wrong) for key, wrong in found.items() if wrong}


def put_aside_after(store: Store, keys: Iterable[str]) -> dict[str, str]:
    """Put aside those of these finished steps that something has happened to; what was wrong with each, by key."""
    suspects = [key for key in keys if store.shared.suspect(store.folder(key))]
    found = {key: _wrong(store, key, with_weights=True, anew=True) for key in suspects}
    for key in (key for key, wrong in found.items() if not wrong):
        store.note(key, None)  # what was noted has been mended by hand
    return {key: _put_aside(store, key, wrong) for key, wrong in found.items() if wrong}


def _wrong(store: Store, key: str, with_weights: bool, anew: bool = False) -> list[tuple[Path, str]]:
    folder, damage = store.folder(key), store.shared.damage
    return damage(folder, anew) + (damage(folder / WEIGHTS, anew) if with_weights and store.has_weights(key) else [])


def _put_aside(store: Store, key: str, wrong: list[tuple[Path, str]]) -> str:
    """Put a step aside, or its weights where they alone are damaged; what was wrong, in one line."""
    weights = store.folder(key) / WEIGHTS
    part = weights if all(weights in path.parents for path, _ in wrong) else store.folder(key)
    path, what = wrong[0]
    more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    told = f"{path.relative_to(store.folder(key))} {what}{more}"
    store.quarantine(key, part, told)
    return told

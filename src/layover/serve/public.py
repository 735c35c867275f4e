"""Public: what may be sent to whoever opens the page: no secrets, and no path of this machine."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from layover.plan import Plan
from layover.secrets import redacted
from layover.store import Store

# what begins at the root and goes at least one folder deep: with a drive, a share, or a slash that ends no word
PATH = re.compile(r"""(?:(?<![\w.])[A-Za-z]:[\\/]|\\\\|(?<![\w./…])/)(?:[^\s/\\'"<>|:;,()]+[\\/])+""")
ELSEWHERE = "…"


def hider(plan: Plan, store: Store) -> Callable[[Any], Any]:
    """What takes paths and secrets out of plain data, and turns numbers that JSON does not have into null.

    Of a path its last part stays. The folders that a study has to do with go whatever they are called.
    """
    files = [path.parent for files in plan.places.files.values() for path in files.values()]
    known = _known([store.root, store.root.resolve(), *plan.places.data, *files, Path.home(), Path.cwd()])

    def hidden(value: Any) -> Any:
        if isinstance(value, str):
            return _text(value, known)
        if isinstance(value, Mapping):
            return {hidden(name): hidden(item) for name, item in value.items()}
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        return [hidden(item) for item in value] if isinstance(value, list | tuple) else value

    return hidden


def _known(folders: Iterable[Any]) -> list[str]:
    """Absolute folders as they are written with what follows them, the longest first."""
    texts = {str(folder).rstrip("/\\") for folder in folders if Path(str(folder)).is_absolute()}
    return sorted((text for text in texts if len(text) > 1), key=len, reverse=True)


def _text(text: str, known: Iterable[str]) -> str:
    text = redacted(text)
    for folder in known:
        text = text.replace(folder, ELSEWHERE)
    return PATH.sub(f"{ELSEWHERE}/", text)

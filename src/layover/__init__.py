"""Layover answers with evidence: should a pretrained encoder make a stop at another task before yours.

The public names, each imported when it is first used: importing layover imports no torch, transformers or pandas.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layover.errors import LayoverError, UserError
    from layover.session import Session, run
    from layover.stats.transfer import transfer
    from layover.store import Store
    from layover.study import Study, load_study

_HOMES = {
    "LayoverError": "layover.errors",
    "Session": "layover.session",
    "Store": "layover.store",
    "Study": "layover.study",
    "UserError": "layover.errors",
    "load_study": "layover.study",
    "run": "layover.session",
    "transfer": "layover.stats.transfer",
}

__all__ = ["LayoverError", "Session", "Store", "Study", "UserError", "load_study", "run", "transfer"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'layover' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # importing the module layover.run would put it in the place of the function layover.run
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

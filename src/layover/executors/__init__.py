"""Executors: `submit(fn, *args) -> Future`. One kind a module, found by its name."""

from layover.executors.executor import Executor, Kind, Needs, Site, is_kind
from layover.registry import Registry

EXECUTORS: Registry[type[Kind]] = Registry("layover.executors", "executor", is_kind, lambda kind: kind.kind)

__all__ = ["EXECUTORS", "Executor", "Kind", "Needs", "Site"]

"""Trackers: where finished runs can be sent besides the store. One kind a module, found by its name."""

from layover.registry import Registry
from layover.trackers.tracker import Run, Tracker, is_tracker

TRACKERS: Registry[type[Tracker]] = Registry("layover.trackers", "tracker", is_tracker, lambda tracker: tracker.kind)

__all__ = ["TRACKERS", "Run", "Tracker"]

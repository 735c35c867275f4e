"""Strategies: how a target is reached. One frozen dataclass each, found by its kind."""

from layover.registry import Registry
from layover.strategies.strategy import Cell, Column, Maker, Strategy, is_strategy

STRATEGIES: Registry[type[Strategy]] = Registry("layover.strategies", "strategy", is_strategy, lambda s: s.kind)

__all__ = ["STRATEGIES", "Cell", "Column", "Maker", "Strategy"]

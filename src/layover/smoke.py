"""Smoke: a study once and tiny, to see that it runs at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layover.switches import Words, without_tasks

SMOKE_ROWS = 32
SMOKE_TOKENS = 64  # of an input; what is behind them is cut off
MOST_TRAININGS = 16  # of a small encoder on two CPU cores: about a minute
FEWER = (5, 3, 2, 1)  # tasks of a role, one number after the other, until there are few enough trainings
CONDITIONS = 2

Caps = Mapping[str, int | None]


def tiny(words: Mapping[str, Any]) -> Words:
    """The words of a study with one epoch, few rows and short inputs, and two trials of its grid; its name says so."""
    found = {**words, "switch": {}, "name": f"{words['name']}-smoke", "recipe": _one_epoch(words.get("recipe", {}))}
    strategies: Words = {}
    for name, table in words["strategies"].items():
        own = {word: _few_rows(table[word]) for word in ("rows", "sizes") if table.get(word)}
        own |= {"recipe": _shortened(table["recipe"])} if "recipe" in table else {}
        strategies[name] = {**table, **own}
    found["strategies"] = strategies
    if "sizes" in words:
        found["sizes"] = {"target": _few_rows(words["sizes"]["target"])}
    if "grid" in words:
        first, *rest = words["grid"].items()
        found["grid"] = {first[0]: _ends(first[1]), **{name: values[:1] for name, values in rest}}
    return found


def fewer(words: Mapping[str, Any], n: int) -> Words:
    """The words with the first `n` tasks of each role, and two conditions of each strategy."""
    sources = [_sources(table) for table in words["strategies"].values()]
    roles = [*words["tasks"].values(), *sources]
    kept = {name for names in roles for name in names[:n]} | {words.get("forgetting", {}).get("text")}
    found = without_tasks(words, [name for names in roles for name in names if name not in kept])
    few = {name: {**table, "conditions": CONDITIONS} for name, table in found["strategies"].items()}
    return {**found, "strategies": few}


def _sources(table: Mapping[str, Any]) -> list[str]:
    named = [*table.get("sources", []), *table.get("chains", []), *table.get("groups", [])]
    return list(dict.fromkeys(task for one in named for task in ([one] if isinstance(one, str) else one)))


def _few_rows(rows: list[int]) -> list[int]:
    return list(dict.fromkeys(min(n, SMOKE_ROWS) for n in rows))


def _ends(values: list[Any]) -> list[Any]:
    return values if len(values) < 2 else [values[0], values[-1]]


def _one_epoch(recipe: Mapping[str, Any]) -> Words:
    """A recipe table in which everything trains for one epoch."""
    return {**_shortened(recipe), "epochs": 1, "max_length": min(SMOKE_TOKENS, recipe.get("max_length", SMOKE_TOKENS))}


def _shortened(recipe: Mapping[str, Any]) -> Words:
    """A recipe table in which whatever says how long it trains or reads says little."""
    least = {"epochs": 1, "max_steps": 0, "max_length": min(SMOKE_TOKENS, recipe.get("max_length", SMOKE_TOKENS))}
    own = {word: value for word, value in least.items() if word in recipe}
    nested = {
        kind: {name: _shortened(inner) for name, inner in recipe[kind].items()}
        for kind in ("role", "task")
        if kind in recipe
    }
    return {**recipe, **own, **nested}


def lowered(table: Mapping[str, Any], caps: Caps) -> Words:
    """A limit table in which nothing is above the caps."""
    nested = {
        kind: {
            name: {word: min(rows, caps[word] or rows) for word, rows in inner.items()}
            for name, inner in tables.items()
        }
        for kind, tables in table.items()
        if kind in ("role", "task")
    }
    own = {word: min(cap, table.get(word, cap)) for word, cap in caps.items() if cap is not None}
    return {**table, **nested, **own}

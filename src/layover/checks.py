"""Checks: names in a study that nothing answers to, and tables that nothing uses.

They look at the words as they were written and skip whatever has the wrong shape, which the models report: so all
problems of a file are told at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from layover import encoders
from layover.errors import Problem, UserError, did_you_mean
from layover.executors import EXECUTORS
from layover.schema import RecipeTable, made_of, problem_of
from layover.strategies import STRATEGIES, Strategy
from layover.tasks import TASKS
from layover.tasks.own import own_task

ROLES = ("source", "target", "probing")
TASK_WORDS = ("sources", "chains", "groups", "text")  # of a strategy's table: where it names tasks


def check_names(words: Mapping[str, Any]) -> list[Problem]:
    """Names that nothing answers to, and tables that nothing uses. Skips whatever has the wrong shape."""
    problems: list[Problem] = []
    own = _tables(words, "task")
    for name, table in own.items():
        try:
            own_task(name, table, f"task.{name}")
        except UserError as error:
            problems.extend(error.problems)
    strategies = _tables(words, "strategies")
    listed = {role: _strings(names) for role, names in _tables(words, "tasks", values=object).items()}
    used: list[str] = []
    for role in ("target", "probing"):
        problems += _unknown_tasks(f"tasks.{role}", listed.get(role, []), own)
        used += listed.get(role, [])
    for name, table in strategies.items():
        problems += strategy_of(name, table)[1]
        for word in TASK_WORDS:
            problems += _check_tasks(f"strategies.{name}.{word}", table.get(word), own)
    text = _tables(words, "forgetting", values=str).get("text")
    problems += _check_text(text, own)
    used += [text] if text else []
    listed["source"] = [n for table in strategies.values() for word in TASK_WORDS for n in _named(table.get(word))]
    used += listed["source"]
    roles = [role for role in ROLES if listed.get(role)]
    with_recipes = list(dict.fromkeys([*roles, *(role for table in strategies.values() for role in _roles_of(table))]))
    problems += _check_recipes(words, strategies, used, with_recipes)
    problems += _unused("recipe", words, used, with_recipes) + _unused("limit", words, used, roles)
    problems += [
        Problem(f"task.{n}", "is used by nothing", "name it under [tasks] or as a source") for n in own if n not in used
    ]
    return problems + _check_contrasts(words, strategies) + _check_placement(words)


def _roles_of(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The roles that recipes have in a strategy of this kind, besides those of tasks."""
    kind = table.get("kind")
    return getattr(STRATEGIES.get(kind), "roles", ()) if isinstance(kind, str) and kind in STRATEGIES else ()


def _check_tasks(place: str, named: Any, own: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the tasks that a strategy's table names under one word."""
    names = _named(named)
    problems = _unknown_tasks(place, names, own)
    if isinstance(named, (list, tuple)):
        several = [tuple(item) if isinstance(item, (list, tuple)) else item for item in named]
        if not several or len(set(map(str, several))) < len(several):
            fault = "names a value twice" if several else "is empty"
            problems.append(Problem(place, f"{fault}: {names}", "name each source once"))
    return problems


def _check_text(text: str | None, own: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the task on which forgetting is to be measured."""
    if text is None:
        return []
    if problems := _unknown_tasks("forgetting.text", [text], own):
        return [dataclasses.replace(problem, place="forgetting.text") for problem in problems]
    try:
        task = own_task(text, own[text], f"task.{text}") if text in own else TASKS.get(text)
    except UserError:
        return []  # what is wrong with it is told already
    if task.output == "tokens":
        return []
    hint = 'a text of your own is one: format = "text"'
    return [Problem("forgetting.text", f"{text!r} is not plain text, of which tokens are hidden", hint)]


def _check_recipes(
    words: Mapping[str, Any], strategies: Mapping[str, Any], used: list[str], roles: list[str]
) -> list[Problem]:
    """What is wrong with the recipes that strategies have of their own."""
    problems: list[Problem] = []
    swept = set(_tables(words, "sweep", values=object)) if not isinstance(words.get("sweep"), BaseModel) else set()
    for name, table in strategies.items():
        place, recipe = f"strategies.{name}", table.get("recipe")
        if recipe is None:
            continue
        try:
            RecipeTable.model_validate(recipe)
        except ValidationError as error:
            problems += [problem_of(item, RecipeTable, (*place.split("."), "recipe")) for item in error.errors()]
            continue
        problems += [
            dataclasses.replace(problem, place=f"{place}.{problem.place}")
            for problem in _unused("recipe", table, used, roles)
        ]
        own = {*recipe, *(word for kind in ("role", "task") for part in recipe.get(kind, {}).values() for word in part)}
        problems += [
            Problem(f"{place}.recipe.{word}", "is swept too", "leave it out here, or out of [sweep]")
            for word in sorted(own & swept)
        ]
    return problems


def _check_contrasts(words: Mapping[str, Any], strategies: Mapping[str, Any]) -> list[Problem]:
    contrasts, problems = words.get("contrast"), []
    for index, contrast in enumerate(contrasts if isinstance(contrasts, list) else []):
        named = contrast if isinstance(contrast, Mapping) else {}
        for word in ("of", "against"):
            names = _strings(named.get(word)) or ([named[word]] if isinstance(named.get(word), str) else [])
            problems += [
                Problem(
                    f"contrast[{index}].{word}",
                    f"{name!r} is not a strategy of this study",
                    did_you_mean(name, strategies),
                )
                for name in names
                if name not in strategies
            ]
    return problems


def _unknown_tasks(place: str, names: list[str], own: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for index, name in enumerate(names):
        if name not in own:
            where = f"{place}[{index}]"
            try:
                TASKS.get(name, where, others=own)
            except UserError as error:
                problems += [dataclasses.replace(problem, place=problem.place or where) for problem in error.problems]
    return problems


def _unused(table: str, words: Mapping[str, Any], used: list[str], roles: list[str]) -> list[Problem]:
    """Overrides for tasks and roles that the study does not have."""
    problems = []
    for kind, known in (("task", sorted(set(used))), ("role", roles)):
        named = _tables(words.get(table), kind) if isinstance(words.get(table), Mapping) else {}
        problems += [
            Problem(f"{table}.{kind}.{name}", f"no {kind} {name!r} is in this study", did_you_mean(name, known))
            for name in named
            if name not in known
        ]
    return problems


def _tables(words: Any, name: str, values: type = Mapping) -> dict[str, Any]:
    table = words.get(name)
    if isinstance(table, BaseModel):
        table = table.model_dump(exclude_unset=True)
    return {k: v for k, v in table.items() if isinstance(v, values)} if isinstance(table, Mapping) else {}


def strategy_of(name: str, table: Mapping[str, Any]) -> tuple[Strategy | None, list[Problem]]:
    """A strategy from its table, and what is wrong with the table."""
    place, words = f"strategies.{name}", dict(table)
    kind = words.pop("kind", None)
    words.pop("recipe", None)  # whose fields no strategy looks at
    if not isinstance(kind, str) or kind not in STRATEGIES:
        hint = did_you_mean(str(kind), STRATEGIES.names())
        return None, [Problem(f"{place}.kind", f"{kind!r} is not a kind of strategy" if kind else "is missing", hint)]
    return made_of(STRATEGIES.get(kind), words, place)


def _check_placement(words: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the executor that a study names, and with its options."""
    placement = _tables(words, "placement", values=object)
    name, options = placement.get("executor", "local"), placement.get("options", {})
    if not isinstance(name, str) or not isinstance(options, Mapping):
        return []
    try:
        return made_of(EXECUTORS.get(name, "placement.executor"), options, "placement.options")[1]
    except UserError as error:
        return list(error.problems)


def misspelt_encoders(words: Mapping[str, Any], base: Path) -> list[Problem]:
    """Encoder names that are nearly an alias: said with a file's other problems, though a plan would find them too."""
    names = enumerate(_strings(words.get("encoders")))
    return [Problem(f"encoders[{i}]", *told) for i, name in names if (told := encoders.misspelt(name, base))]


def _named(value: Any) -> list[str]:
    """The names in a string, a list, or a list of lists."""
    if isinstance(value, str):
        return [value] if value else []
    return [name for item in value for name in _named(item)] if isinstance(value, (list, tuple)) else []


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, (list, tuple)) else []

"""Checks: names in a study that nothing answers to, and tables that nothing uses.

They look at the words as they were written and skip whatever has the wrong shape, which the models report: so all
problems of a file are told at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from layover import encoders
from layover.errors import Problem, UserError, did_you_mean
from layover.executors import EXECUTORS
from layover.schema import OfStrategy, RecipeTable, made_of, problem_of
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
    used, roles = used_tasks(words), role_words(words)
    listed = {role: _strings(names) for role, names in _tables(words, "tasks", values=object).items()}
    for role in ("target", "probing"):
        problems += _unknown_tasks(f"tasks.{role}", listed.get(role, []), own)
    for name, table in strategies.items():
        problems += strategy_of(name, table)[1]
        for word in TASK_WORDS:
            problems += _check_tasks(f"strategies.{name}.{word}", table.get(word), own)
    problems += _check_text(_tables(words, "forgetting", values=str).get("text"), own)
    problems += _check_recipes(words, strategies, used, roles)
    problems += _unused("recipe", words, used, roles)
    problems += _unused("limit", words, used, [role for role in roles if role in ROLES])
    problems += _check_seeds(words, roles)
    problems += [
        Problem(f"task.{n}", "is used by nothing", "name it under [tasks] or as a source") for n in own if n not in used
    ]
    return problems + _check_contrasts(words, strategies) + _check_placement(words)


def used_tasks(words: Mapping[str, Any]) -> list[str]:
    """The names of the tasks that a study's words use, in whatever role, each as often as it is named."""
    listed = _tables(words, "tasks", values=object)
    used = [name for role in ("target", "probing") for name in _strings(listed.get(role))]
    text = _tables(words, "forgetting", values=str).get("text")
    return [*used, *([text] if text else []), *_sources(words)]


def role_words(words: Mapping[str, Any]) -> list[str]:
    """The roles that a study's words have recipes for: those of its tasks, and those that its strategies add."""
    listed = {**_tables(words, "tasks", values=object), "source": _sources(words)}
    roles = [role for role in ROLES if _strings(listed.get(role))]
    added = (role for table in _tables(words, "strategies").values() for role in _roles_of(table))
    return list(dict.fromkeys([*roles, *added]))


def _sources(words: Mapping[str, Any]) -> list[str]:
    tables = _tables(words, "strategies").values()
    return [name for table in tables for word in TASK_WORDS for name in _named(table.get(word))]


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
    swept = {
        word: table
        for table in ("sweep", "grid")
        if not isinstance(words.get(table), BaseModel)
        for word in _tables(words, table, values=object)
    }
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
        own = set(_words_in(recipe))
        problems += [
            Problem(f"{place}.recipe.{word}", f"is swept too, by [{swept[word]}]", "leave it out in one of the two")
            for word in sorted(own & set(swept))
        ]
    return problems


def _check_seeds(words: Mapping[str, Any], roles: list[str]) -> list[Problem]:
    """What is wrong with the seeds that roles have of their own."""
    problems, seeds = [], words.get("seeds")
    for role, own in _tables(words, "role_seeds", values=(list, tuple)).items():
        place = f"role_seeds.{role}"
        if role not in roles:
            problems.append(Problem(place, f"no role {role!r} is in this study", did_you_mean(role, roles)))
        elif isinstance(seeds, (list, tuple)) and len(own) != len(seeds):
            problems.append(Problem(place, f"has {len(own)} seeds, and the study {len(seeds)}", "name one for each"))
    return problems


def _words_in(recipe: Mapping[str, Any]) -> Iterator[str]:
    """The fields that a recipe table says somewhere."""
    for word, value in recipe.items():
        if word in ("role", "task"):
            yield from (found for part in value.values() for found in _words_in(part))
        else:
            yield word


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
    roles_said = _tables(words.get(table), "role") if isinstance(words.get(table), Mapping) else {}
    return problems + [
        Problem(f"{table}.role.{role}.task.{name}", f"no task {name!r} is in this study", did_you_mean(name, set(used)))
        for role, part in roles_said.items()
        for name in _tables(part, "task")
        if name not in used
    ]


def _tables(words: Any, name: str, values: type | tuple[type, ...] = Mapping) -> dict[str, Any]:
    table = words.get(name)
    if isinstance(table, BaseModel):
        table = table.model_dump(exclude_unset=True)
    return {k: v for k, v in table.items() if isinstance(v, values)} if isinstance(table, Mapping) else {}


def strategy_of(name: str, table: Mapping[str, Any]) -> tuple[Strategy | None, list[Problem]]:
    """A strategy from its table, and what is wrong with the table."""
    place, words = f"strategies.{name}", dict(table)
    kind = words.pop("kind", None)
    words.pop("recipe", None)  # whose fields no strategy looks at
    problems = _of_every_strategy({word: words.pop(word) for word in OfStrategy.model_fields if word in words}, place)
    if not isinstance(kind, str) or kind not in STRATEGIES:
        hint = did_you_mean(str(kind), STRATEGIES.names())
        told = f"{kind!r} is not a kind of strategy" if kind else "is missing"
        return None, [Problem(f"{place}.kind", told, hint), *problems]
    made, found = made_of(STRATEGIES.get(kind), words, place)
    return made, problems + found


def _of_every_strategy(words: Mapping[str, Any], place: str) -> list[Problem]:
    """What is wrong with the words that every strategy's table may have."""
    try:
        OfStrategy(**words)
    except ValidationError as error:
        return [problem_of(item, OfStrategy, tuple(place.split("."))) for item in error.errors()]
    rows = words.get("rows") or ()
    repeated = len(set(rows)) < len(rows)
    return [Problem(f"{place}.rows", f"names a value twice: {rows}", "name each number once")] if repeated else []


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

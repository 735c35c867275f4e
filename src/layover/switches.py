"""Switches: named changes to a study that its file declares, such as what a paper's code did and what its text says.

A `[switch.NAME]` table has `about`, `without` (places that are taken out, such as "strategies.stilts"), `also`
(switches that it needs and puts on too) and words of a study, which are merged over the file's: tables into tables,
anything else in place of what was there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from layover.checks import ROLES, TASK_WORDS, role_words, used_tasks
from layover.errors import Problem, StudyError, did_you_mean, raise_all

Words = dict[str, Any]
OWN = ("about", "without", "also")  # what a switch says of itself


def check_switches(words: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with the switches of a study, each by itself: how it is declared, and what it takes out."""
    problems, tables = [], words.get("switch", {})
    for name, table in tables.items() if isinstance(tables, Mapping) else ():
        place = f"switch.{name}"
        if not isinstance(table, Mapping):
            problems.append(Problem(place, f"is {table!r:.40}, not a table", 'about = "...", and words of a study'))
            continue
        if not isinstance(table.get("about"), str):
            problems.append(Problem(f"{place}.about", "is missing", "say in a sentence what the switch does"))
        taken, needed = table.get("without", []), table.get("also", [])
        problems += [
            Problem(f"{place}.also", f"{other!r} is not another switch", did_you_mean(str(other), {*tables} - {name}))
            for other in (needed if isinstance(needed, list) else [needed])
            if other == name or other not in tables
        ]
        if not isinstance(taken, list) or not all(isinstance(path, str) for path in taken):
            problems.append(Problem(f"{place}.without", "is no list of places", 'such as ["strategies.stilts"]'))
            continue
        problems += [
            Problem(f"{place}.without", f"{path!r} is nothing that this study says", did_you_mean(path, _places(words)))
            for path in taken
            if path not in _places(words)
        ]
        if not set(table) - set(OWN) and not taken:
            problems.append(Problem(place, "changes nothing", "name what it takes out, or words of a study"))
    return problems


def switched(words: Mapping[str, Any], names: Sequence[str]) -> Words:
    """The words of a study with some of its switches on, and what they need; its name says which, `switch` is gone.

    Overrides for tasks and roles that the study no longer has, or only with another switch, are gone too. Raises
    StudyError for a name that is no switch, and where two switches contradict each other.
    """
    tables: Mapping[str, Any] = words.get("switch", {})
    hint = "" if tables else "it has none"
    problems = [
        Problem("--switch", f"{name!r} is not a switch of {words['name']}", hint or did_you_mean(name, tables))
        for name in dict.fromkeys(names)
        if name not in tables
    ]
    wanted = {*names, *(other for name in names if name in tables for other in tables[name].get("also", []))}
    chosen = [name for name in tables if name in wanted]  # in the file's order, whatever the command's
    for number, name in enumerate(chosen):
        problems += [p for other in chosen[:number] for p in _contradictions(other, name, tables)]
    raise_all(StudyError, problems)
    found = copy.deepcopy({name: value for name, value in words.items() if name != "switch"})
    for path in (path for name in chosen for path in tables[name].get("without", [])):
        _take_out(found, path)
    said: Words = {}
    for name in chosen:
        said = _merged(said, {word: value for word, value in tables[name].items() if word not in OWN})
    # what is said of a task that the file or a switch names may lose its task; of any other it is a slip of the pen
    found = pruned(_merged(found, said), [words, *tables.values()])
    return {**found, "name": "-".join([found["name"], *chosen])}


def without_tasks(words: Mapping[str, Any], names: Sequence[str]) -> Words:
    """The words of a study without some tasks: with no strategy that then has no source, and nothing said of either.

    Its switches, which may be about them, are gone too.
    """
    found, gone = copy.deepcopy({name: value for name, value in words.items() if name != "switch"}), set(names)
    for role in [role for role in ROLES if role in found["tasks"]]:
        found["tasks"][role] = [name for name in found["tasks"][role] if name not in gone]
    strategies: Words = {}
    for name, table in found["strategies"].items():
        kept = {word: _left(value, gone) if word in TASK_WORDS else value for word, value in table.items()}
        kept = {word: value for word, value in kept.items() if word not in TASK_WORDS or value or not table[word]}
        if "fixed" in kept:
            kept["fixed"] = {task: weight for task, weight in kept["fixed"].items() if task not in gone}
        lost = [word for word in TASK_WORDS if table.get(word) and word not in kept]
        sourced = any(kept.get(word) for word in TASK_WORDS if word != "text")
        if not lost or ("text" not in lost and (sourced or table.get("kind") == "multitask_all")):
            strategies[name] = kept
    found["strategies"] = strategies
    if found.get("forgetting", {}).get("text") in gone:
        del found["forgetting"]
    return pruned(found, [words])


def _left(named: Any, gone: set[str]) -> Any:
    """A strategy's tasks without those that are gone: chains and groups that have one go as a whole."""
    if isinstance(named, str):
        return "" if named in gone else named
    if any(isinstance(item, list) for item in named):
        return [item for item in named if not gone.intersection(item)]
    return [name for name in named if name not in gone]


def pruned(words: Words, said: Sequence[Mapping[str, Any]]) -> Words:
    """The words, from which overrides and contrasts are taken out that nothing is left for.

    Only where something `said` once had their task or role: any other is a slip of the pen, which is reported.
    """
    used, roles = set(used_tasks(words)), set(role_words(words))
    gone = (
        {name for one in said for name in used_tasks(one)} - used,
        {r for one in said for r in role_words(one)} - roles,
    )
    for table in (words, *words["strategies"].values()):
        for kind in ("recipe", "limit"):
            for part, lost in zip(("task", "role"), gone, strict=True):
                _drop(table.get(kind, {}).get(part, {}), lost)
        for part in table.get("recipe", {}).get("role", {}).values():
            _drop(part.get("task", {}), gone[0])
    _drop(words.get("role_seeds", {}), gone[1])
    _drop(words.get("task", {}), gone[0])
    if "contrast" in words:
        strategies = {name for one in said for name in one.get("strategies", {})} - set(words["strategies"])
        left = [{**one, "of": [n for n in one["of"] if n not in strategies]} for one in words["contrast"]]
        words["contrast"] = [one for one in left if one["of"] and one["against"] not in strategies]
    return words


def _drop(table: Words, names: set[str]) -> None:
    for name in names.intersection(table):
        del table[name]


def _merged(words: Mapping[str, Any], over: Mapping[str, Any]) -> Words:
    found = dict(words)
    for name, value in over.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if both else copy.deepcopy(value)
    return found


def _contradictions(first: str, second: str, tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Where two switches say different things of one place, or one takes out what the other changes."""
    said = {name: dict(_leaves(tables[name])) for name in (first, second)}
    hint = "choose one of the two"
    for path in said[first].keys() & said[second].keys():
        if said[first][path] != said[second][path]:
            values = f"{first} says {path} = {said[first][path]}, and {second} {said[second][path]}"
            yield Problem("--switch", values, hint)
    for one, other in ((first, second), (second, first)):
        for path in tables[one].get("without", []):
            if any(f"{changed}.".startswith(f"{path}.") for changed in said[other]):
                yield Problem("--switch", f"{one} takes out {path}, and {other} changes it", hint)


def _leaves(table: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if not place and name in OWN:
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{place}{name}.")
        else:
            yield f"{place}{name}", value


def _places(words: Mapping[str, Any], place: str = "") -> list[str]:
    """The places of a study: of every table and every value in one."""
    found = []
    for name, value in words.items():
        if not place and name == "switch":
            continue
        found.append(f"{place}{name}")
        found += _places(value, f"{place}{name}.") if isinstance(value, Mapping) else []
    return found


def _take_out(words: Words, path: str) -> None:
    """Take out what is at a place; nothing where another switch has done so."""
    for name, value in list(words.items()):
        if path == name:
            del words[name]
        elif path.startswith(f"{name}.") and isinstance(value, dict):
            _take_out(value, path.removeprefix(f"{name}."))

"""`layover analyze ranks` and `power`, from a CSV as anybody has it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from tests.stats.tables import row

ADDS = {"mnli": [6.0, 5.0, 7.0, 4.0], "ccg": [-3.0, -2.0, 1.0, -4.0]}


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Three seeds of direct and two sources on four targets; one run of ccg on t3 is not there."""
    rows: list[dict[str, Any]] = []
    for target in range(4):
        for seed, swing in enumerate((-1.0, 0.0, 1.0)):
            rows.append(row("direct", "", f"t{target}", seed, 60.0))
            rows += [row("stilts", s, f"t{target}", seed, 60 + adds[target] + swing) for s, adds in ADDS.items()]
    rows = [one for one in rows if (one["source"], one["target"]) != ("ccg", "t3")]
    with (tmp_path / "o.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(tmp_path / "o.csv")


def test_ranks(command: Any, table: str) -> None:
    done = command("analyze", "ranks", "--observations", table)
    assert done.code == 0
    assert "ranks over 3 target task(s)" in done.out
    assert [line.split()[:2] for line in done.out.splitlines()[2:5]] == [
        ["mnli", "1.00"],
        ["direct", "2.33"],
        ["ccg", "2.67"],
    ]
    (told,) = json.loads(command("analyze", "ranks", "--observations", table, "--json").out)
    assert list(told["ranks"]) == ["mnli", "direct", "ccg"]
    assert told["groups"] == [["mnli", "direct", "ccg"]]  # the critical difference is 1.91


def test_power(command: Any, table: str) -> None:
    done = command("analyze", "power", "--observations", table, "--effect", "5", "--correct", "none")
    assert done.code == 0
    assert "seeds needed" in done.out
    told = json.loads(command("analyze", "power", "--observations", table, "--effect", "5", "--json").out)
    assert {one["effect"] for one in told} == {5.0}
    assert {round(one["level"], 6) for one in told} == {round(0.05 / 7, 6)}
    assert all(one["seed_sd"] == pytest.approx(1.0) and one["seeds_needed"] > 3 for one in told)


def test_a_matrix_that_is_not_there(command: Any, table: str) -> None:
    for name in ("ranks", "power"):
        done = command("analyze", name, "--observations", table, "--strategy", "stilt")
        assert done.code == 2
        assert "stilts" in done.err

"""Flips: which examples a stop turned, counted by hand; what is said of them, and whose text is read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.stats.tables import row

from layover.predictions import Predictions, texts
from layover.report.flips import CellFlips, Flip, Wording, cut, flips_of, is_right
from layover.stats.transfer import transfer

GOLD = [0, 1, 0, 1, 0, 1]
SAID = {
    ("", 1): [0, 1, 0, 1, 1, 0], ("", 2): [0, 1, 0, 0, 1, 0],
    ("mnli", 1): [1, 1, 0, 0, 0, 0], ("mnli", 2): [1, 1, 1, 0, 0, 0],
}  # fmt: skip


def study(kept: dict[str, Predictions]):
    rows = []
    for (source, seed), said in SAID.items():
        value = 100 * float(np.mean([a == b for a, b in zip(said, GOLD, strict=True)]))
        rows.append(row("stilts" if source else "direct", source, "rte", seed, value, key=f"{source}{seed}"))
    return [transfer(rows, kept.get)]


@pytest.fixture
def kept() -> dict[str, Predictions]:
    return {
        f"{source}{seed}": Predictions(np.arange(10, 16), np.array(GOLD, float), np.array(said, float), 2)
        for (source, seed), said in SAID.items()
    }


def only(found) -> CellFlips:
    (one,) = found.cells.values()
    return one


WORDING = Wording(lambda key: "rte", lambda key: ("no", "yes"))


def test_examples_that_turned_are_counted_by_seed(kept) -> None:
    one = only(flips_of(study(kept), kept.get, WORDING))
    assert one.n == 6
    assert dict(one.seeds) == {1: (2, 1), 2: (2, 1)}  # seed 1 loses rows 10 and 13 and gains 14; seed 2 loses 10, 12
    assert one.churn == 1  # the two direct runs differ on row 13 alone
    assert list(one.examples) == [
        Flip((10, 0), "lost", 2, "no", "no", "yes"), Flip((12, 0), "lost", 1, "no", "no", "yes"),
        Flip((13, 0), "lost", 1, "yes", "yes", "no"), Flip((14, 0), "gained", 2, "no", "yes", "no"),
    ]  # fmt: skip


def test_the_order_of_predictions_in_a_file_changes_nothing(kept) -> None:
    turned = np.array([3, 1, 5, 0, 4, 2])
    other = {
        key: replace(one, rows=one.rows[turned], gold=one.gold[turned], predicted=one.predicted[turned])
        for key, one in kept.items()
    }
    mixed = kept | {key: other[key] for key in ("mnli1", "2")}
    assert only(flips_of(study(kept), mixed.get, WORDING)) == only(flips_of(study(kept), kept.get, WORDING))


def test_only_the_text_of_what_is_shown_is_read(kept) -> None:
    asked = []

    def read(task, rows):
        asked.append((task, list(rows)))
        return {(row, 0): f"row {row} " + "x" * 300 for row in rows}

    found = flips_of(study(kept), kept.get, replace(WORDING, texts=read), shown=2)
    assert asked == [("rte", [10, 14])]
    assert found.shown == 2
    shown = [flip.text for flip in only(found).examples]
    assert [bool(text) for text in shown] == [True, False, False, True]
    assert all(len(text) == 200 and text.endswith("…") for text in shown if text)
    without = flips_of(study(kept), kept.get, WORDING, shown=2)
    assert without.shown == 0
    assert not any(flip.text for flip in only(without).examples)


def test_no_more_than_a_dozen_are_listed() -> None:
    n = 40
    gold = np.zeros(n)
    kept = {"1": Predictions(np.arange(n), gold, gold, 2), "mnli1": Predictions(np.arange(n), gold, gold + 1, 2)}
    rows = [row("direct", "", "rte", 1, 100, key="1"), row("stilts", "mnli", "rte", 1, 0, key="mnli1")]
    one = only(flips_of([transfer(rows, kept.get)], kept.get, WORDING))
    assert dict(one.seeds) == {1: (n, 0)}
    assert one.churn is None
    assert [flip.place[0] for flip in one.examples] == list(range(12))


def test_runs_that_were_asked_different_things_have_no_flips(kept) -> None:
    moved = {key: replace(one, rows=one.rows + (key == "mnli1")) for key, one in kept.items()}
    assert dict(only(flips_of(study(kept), moved.get, WORDING)).seeds) == {2: (2, 1)}
    assert flips_of(study(kept), {}.get, WORDING).cells == {}


def test_what_is_right_depends_on_the_kind_of_answer() -> None:
    rows = np.arange(3)
    labels = Predictions(rows, np.array([[1, 0], [1, 1], [0, 0]]), np.array([[1, 0], [1, 0], [0, 0]]), 2, "labels")
    assert is_right(labels).tolist() == [True, False, True]
    said = Predictions(rows, texts([("The cat",), ("a", "b c"), ("x",)]), texts(["cat", "B c!", ""]), 0, "text")
    assert is_right(said).tolist() == [True, True, False]
    cut_off = Predictions(rows, np.array([0.0, 1, 1]), np.array([0.0, -1, 1]), 2)
    assert is_right(cut_off).tolist() == [True, False, True]
    numbers = {"1": Predictions(rows, rows * 1.0, rows * 1.0, 0, "value")}
    numbers["mnli1"] = numbers["1"]
    table = [row("direct", "", "stsb", 1, 50, key="1"), row("stilts", "mnli", "stsb", 1, 50, key="mnli1")]
    assert flips_of([transfer(table)], numbers.get, WORDING).cells == {}


def test_answers_that_are_parts_of_a_text_are_shown_only_with_texts() -> None:
    rows = np.arange(2)
    gold = texts([("the red house",), ("blue",)])
    kept = {"1": Predictions(rows, gold, texts(["red house", "no"]), 0, "text"),
            "mnli1": Predictions(rows, gold, texts(["no", "blue"]), 0, "text")}  # fmt: skip
    table = [row("direct", "", "squad", 1, 50, key="1"), row("stilts", "mnli", "squad", 1, 50, key="mnli1")]
    hidden = only(flips_of([transfer(table)], kept.get, WORDING)).examples
    assert [(flip.gold, flip.baseline, flip.run) for flip in hidden] == [
        ("a text", "right", "wrong"), ("a text", "wrong", "right"),
    ]  # fmt: skip
    told = replace(WORDING, texts=lambda task, rows: {})
    shown = only(flips_of([transfer(table)], kept.get, told, shown=2)).examples
    assert [(flip.gold, flip.baseline, flip.run) for flip in shown] == [
        ("the red house", "red house", "no"), ("blue", "no", "blue"),
    ]  # fmt: skip


def test_a_text_is_cut_on_one_line() -> None:
    assert cut("two\n  lines") == "two lines"
    assert len(cut("word " * 100)) <= 200

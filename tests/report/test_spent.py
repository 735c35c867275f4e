"""What a study cost: by kind of step, and what sharing saved."""

from __future__ import annotations

from tests.stats.tables import row

from layover.report.build import build
from layover.report.facts import ReportInputs, RunFacts
from layover.report.spent import spent
from layover.stats.table import check


def run(key: str, seconds: float | None, *parents: str, kind: str = "train", start: str = "") -> RunFacts:
    status = "ok" if seconds is not None else "missing"
    return RunFacts(key, key, kind, status, parents=parents, start=start, seconds=seconds)


def study() -> ReportInputs:
    """A sweep that three runs share, a stop that two share, and one that is not finished."""
    runs = [
        run("sweep", 100.0, kind="choose"), run("mnli", 1000.0, "sweep"), run("direct", 50.0, "sweep"),
        run("rte", 60.0, "mnli", "sweep", start="mnli"), run("cb", 40.0, "mnli", start="mnli"),
        run("late", None, "mnli", start="mnli"),
    ]  # fmt: skip
    rows = [row("direct", "", "rte", 1, 60, key="direct"), row("stilts", "mnli", "rte", 1, 61, key="rte"),
            row("stilts", "mnli", "cb", 1, 62, key="cb")]  # fmt: skip
    twice = [
        {**one, "metric": metric, "primary": metric == "accuracy"} for one in rows for metric in ("accuracy", "f1")
    ]
    return ReportInputs(study={}, observations=check(twice), runs=runs, requested=9)


def test_time_is_that_of_the_steps_and_of_each_score_alone() -> None:
    found = spent(study())
    assert found is not None
    assert found.total == 100 + 1000 + 50 + 60 + 40
    assert found.alone == (100 + 50) + (100 + 1000 + 60) + (100 + 1000 + 40)
    assert (found.requested, found.made) == (9, 5)
    assert found.kinds == (
        ("training, from the plain encoder", 2, 1050.0, 1000.0),
        ("choosing from a sweep", 1, 100.0, 100.0),
        ("training, from a stop", 2, 100.0, 60.0),
    )


def test_the_page_says_what_sharing_saved() -> None:
    html = build(study())
    assert "The finished steps took 21 min, one after the other." in html
    assert "it would have been 41 min: steps that are shared saved 20 min." in html
    assert "Without sharing the study asks for 9 trainings; it has 5 trainings." in html


def test_nothing_is_said_where_no_step_has_a_time() -> None:
    bare = ReportInputs(study={}, observations=study().observations)
    assert spent(bare) is None
    assert 'id="cost"' not in build(bare)

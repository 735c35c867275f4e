"""The report's table of forgetting: means over seeds, what is missing, and how it looks on the page and as CSV."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.report.factory import ODD_SOURCE, inputs
from tests.stats.tables import row

from layover.report.build import build
from layover.report.facts import ReportInputs
from layover.report.forgetting import forgetting_rows
from layover.report.outputs import write_tables
from layover.stats.table import check


def measures(strategy: str, source: str, seed: int, loss: float, rise: float, *cka: float, l2: float) -> list[Any]:
    values = {"mlm_loss": loss, "mlm_loss_rise": rise, "cka": sum(cka) / len(cka), "l2": l2,
              **{f"cka_{layer}": value for layer, value in enumerate(cka)}}  # fmt: skip
    return [
        row(strategy, source, "wiki", seed, value, role="forgetting", metric=metric, primary=False, split="validation")
        for metric, value in values.items()
    ]


@pytest.fixture(scope="module")
def study() -> ReportInputs:
    made = [
        *measures("plain", "", 0, 2.0, 0.0, 100.0, 100.0, 100.0, l2=0.0),
        *measures("stilts", ODD_SOURCE, 1, 2.5, 0.5, 99.0, 95.0, 90.0, l2=130.0),
        *measures("stilts", ODD_SOURCE, 2, 2.75, 0.75, 97.0, 93.0, 80.0, l2=150.0),
    ]
    missing = [row("slow", "mnli", "wiki", 1, None, role="forgetting", metric="mlm_loss_rise", status="missing")]
    whole = inputs()
    rows = [*whole.observations.to_dict("records"), *made, *({**one, "primary": False} for one in missing)]
    return replace(whole, observations=check(rows))


def test_rows_are_means_over_seeds(study: ReportInputs) -> None:
    plain, stilts, slow = forgetting_rows(study.observations)
    assert (plain["strategy"], plain["source"], plain["rise"], plain["alike"], plain["n"]) == (
        "plain",
        "",
        0.0,
        100.0,
        1,
    )
    assert (stilts["loss"], stilts["rise"], stilts["n"], stilts["text"]) == (2.625, 0.625, 2, "wiki")
    assert stilts["sd"] == pytest.approx(0.25 / 2**0.5)
    assert (stilts["alike"], stilts["layer"], stilts["moved"]) == (85.0, 2, 140.0)
    assert stilts["mean_alike"] == pytest.approx((99 + 95 + 90 + 97 + 93 + 80) / 6)
    assert (slow["rise"], slow["alike"], slow["layer"], slow["n"]) == (None, None, None, 0)


def test_a_study_that_measures_none_has_no_rows() -> None:
    assert forgetting_rows(inputs().observations) == []


def test_the_page_shows_what_was_forgotten(study: ReportInputs) -> None:
    html = build(replace(study, transfer=[], contrasts=[], runs=[]))
    section = html.split('id="forgetting"')[1].split("</section>")[0]
    assert "+0.625" in section
    assert "140.0" in section
    assert ODD_SOURCE not in section  # it is escaped
    assert 'href="#forgetting"' in html
    scores = html.split('id="scores"')[1].split("</section>")[0]
    assert "wiki" not in scores


def test_tables_have_it_as_csv(study: ReportInputs, tmp_path: Path) -> None:
    assert tmp_path / "forgetting.csv" in write_tables(replace(study, transfer=[]), tmp_path)
    with (tmp_path / "forgetting.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(one["rise"]) if one["rise"] else None for one in rows] == [0.0, 0.625, None]
    assert tmp_path / "forgetting.csv" not in write_tables(replace(inputs(), transfer=[]), tmp_path)

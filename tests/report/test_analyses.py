"""Sections of the papers' analyses: there where the table allows them, with their numbers; absent elsewhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import gaussian_kde
from tests.stats.tables import row

from layover.report.analyses import Analyses, analyses_of, ranked
from layover.report.build import build
from layover.report.facts import ReportInputs
from layover.report.figures_papers import trials
from layover.report.maps import correlation_map, decimal, rival_map
from layover.report.outputs import write_figures
from layover.stats.table import check
from layover.stats.transfer import transfer

SECTIONS = ("ranks", "correlations", "rivals", "sizes", "layers", "grid")
ODD = "</svg><script>alert(1)</script>"


def table(**more: Any) -> list[dict[str, Any]]:
    """Four stops with three seeds before a target and a probing task that go together."""
    rng = np.random.default_rng(3)
    rows = [row("direct", "", name, seed, 60, role=role)
            for name, role in (("rte", "target"), ("edge", "probing")) for seed in range(3)]  # fmt: skip
    for source, up in (("a", 8), ("b", 3), ("c", -2), ("d", -7)):
        for seed in range(3):
            rows.append(row("stilts", source, "rte", seed, 60 + up + rng.normal(0, 0.5), role="target"))
            rows.append(row("stilts", source, "edge", seed, 60 + up / 2 + rng.normal(0, 0.5), role="probing"))
    return [{**one, **more} for one in rows]


def inputs(rows: list[dict[str, Any]], kinds: dict[str, str], against: str = "direct") -> ReportInputs:
    found = check(rows)
    analyses = analyses_of(found, kinds, against)
    return ReportInputs(study={}, observations=found, transfer=[transfer(rows, against=against)], analyses=analyses)


def sections(html: str) -> list[str]:
    return [name for name in SECTIONS if f'<h2 id="{name}">' in html]


KINDS = {"direct": "direct", "stilts": "stilts"}


def test_correlations_are_a_map_with_every_r() -> None:
    study = inputs(table(), KINDS)
    (found,) = study.analyses.correlations
    assert (found.encoder, found.strategy) == ("", "stilts")
    html = build(study)
    assert sections(html) == ["correlations"]
    (cell,) = found.cells
    ((name, (square,)),) = correlation_map(found).rows
    assert square is not None
    assert (name, square.text) == ("rte", decimal(cell.r) + "*")
    assert square.text in html.split('id="correlations"')[1].split("</section>")[0]
    assert "1 of 1 pairs are significant with restarts as points of their own, 0 with the restarts of each" in html


def test_a_study_without_these_rows_has_no_empty_section() -> None:
    few = [one for one in table() if one["source"] in ("", "a") and one["role"] == "target"]
    study = inputs(few, KINDS)
    assert study.analyses == Analyses(correlations=[], rivals=[], links=[])
    assert sections(build(study)) == []


def test_joint_training_against_a_stop() -> None:
    rows = table(size=100, source_size=1000)
    both = [{**one, "strategy": "both", "value": one["value"] + 4} for one in rows if one["strategy"] == "stilts"]
    study = inputs([*rows, *both], KINDS | {"both": "multitask"})
    (found,) = study.analyses.rivals
    squares = [one for _, row_of in rival_map(found).rows for one in row_of if one]
    assert {one.text.rstrip("*") for one in squares} == {"+4.0"}
    assert "rivals" in sections(build(study))


def curves(kind: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    if kind == "layers":
        rows = [row("reinit", "", "cola", seed, 40 + 3 * k + rng.normal(), condition=f"keep {k}")
                for k in range(4) for seed in range(3)]  # fmt: skip
    else:
        rows = [row("stilts", ODD, "cola", seed, 40 + n / 100 + rng.normal(), condition=f"{n} rows" if n < 900 else "")
                for n in (100, 300, 900) for seed in range(3)]  # fmt: skip
    return [row("direct", "", "cola", seed, 55 + rng.normal()) for seed in range(3)] + rows


@pytest.mark.parametrize("kind", ["sizes", "layers"])
def test_curves_are_figures_with_a_name(kind: str) -> None:
    html = build(inputs(curves(kind), KINDS | {"reinit": "reinit"}))
    assert sections(html) == [kind]
    drawn = html.split(f'id="{kind}"')[1].split("</section>")[0]
    assert re.search(r'role="img" aria-label="\w+: \w+"', drawn)
    assert "<svg" in drawn
    assert "<script>alert" not in html


def test_trials_of_a_grid() -> None:
    rng = np.random.default_rng(6)
    rows = [row(f"{name} {rate}", source, "rte", seed, 60 + up + rng.normal())
            for name, source, up in (("direct", "", 0), ("stilts", "a", 3)) for rate in ("1e-4", "5e-5")
            for seed in range(2)]  # fmt: skip
    study = inputs(rows, {one["strategy"]: "direct" for one in rows}, "direct 5e-5")
    grids = study.analyses.grids
    assert grids is not None
    assert "grid" in sections(build(study))
    drawn = trials(grids).to_dict()["data"]["values"]
    for place, cell in enumerate(sorted(grids.cells, key=lambda cell: cell.grid)):
        marks = {mark: [row for row in drawn if row["mark"] == mark and row["name"].startswith(cell.grid)]
                 for mark in ("dot", "median", "shape")}  # fmt: skip
        assert sorted(row["value"] for row in marks["dot"]) == sorted(cell.values.values)
        assert [row["value"] for row in marks["median"]] == [pytest.approx(np.median(cell.values.values))]
        halves = np.array([row["high"] - place for row in marks["shape"]])
        assert [place - row["low"] for row in marks["shape"]] == pytest.approx(halves)
        exact = gaussian_kde(cell.values.values)([row["value"] for row in marks["shape"]])
        assert halves / halves.max() == pytest.approx(exact / exact.max())
        ends = [marks["shape"][0]["value"], marks["shape"][-1]["value"]]
        assert ends == [min(cell.values.values), max(cell.values.values)]


def test_trials_that_are_all_alike_have_no_violin() -> None:
    rows = [row(f"direct {rate}", "", "rte", seed, 60) for rate in ("1e-4", "5e-5") for seed in range(2)]
    grids = inputs(rows, {one["strategy"]: "direct" for one in rows}, "direct 5e-5").analyses.grids
    assert grids is not None
    drawn = trials(grids).to_dict()["data"]["values"]
    assert {row["mark"] for row in drawn} == {"dot", "median"}


def test_ranks_say_who_is_first_and_who_can_be_told_apart(tmp_path: Path) -> None:
    ups = {"a": 6, "b": 3, "c": -4}
    rows = [row("direct", "", target, seed, 60) for target in "rstu" for seed in range(2)]
    rows += [row("stilts", source, target, seed, 60 + up + (target == "s"))
             for source, up in ups.items() for target in "rstu" for seed in range(2)]  # fmt: skip
    study = inputs(rows, {})
    html = build(study)
    assert sections(html) == ["ranks"]
    (one,) = ranked(study.transfer[0])
    assert list(one.ranks) == ["a", "b", "direct", "c"]
    assert "a ranks first and c last over 4 target tasks" in html
    assert f"differ by {one.critical_difference:.1f} or more (Nemenyi, 5%)." in html
    names = {path.name for path in write_figures(study, tmp_path)}
    assert "ranks-1-stilts-target.svg" in names


def test_every_figure_of_the_page_is_a_file(tmp_path: Path) -> None:
    study = inputs(table(), KINDS)
    other = inputs(curves("layers"), KINDS | {"reinit": "reinit"})
    whole = replace(study, transfer=[], analyses=replace(study.analyses, layers=other.analyses.layers))
    paths = write_figures(whole, tmp_path)
    stems = {"correlations-1-stilts", "layers-progressive"}
    assert {path.name for path in paths} == {f"{stem}.{end}" for stem in stems for end in ("svg", "png", "pdf")}
    assert all(path.stat().st_size > 1000 for path in paths)

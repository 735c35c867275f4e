"""The report page in a browser: read by pointer and by keyboard, wide and narrow, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.factory import COLLAPSED, TEXT, inputs

from layover.report import words
from layover.report.build import build
from layover.report.facts import ReportInputs
from layover.report.flips import runs_of

CELLS = ".view:not([hidden]) .heat button.c"


@pytest.fixture(scope="module")
def study() -> ReportInputs:
    return inputs()


@pytest.fixture(scope="module")
def address(study, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(build(study), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    assert said == []
    assert [url for url in asked if url != address and not url.startswith("data:")] == []
    page.close()


def cell(page: Any, name: str) -> Any:
    return page.locator(CELLS + f'[aria-label^="{name}"]')


def test_every_number_of_the_matrix_stands_in_its_cell(page, study) -> None:
    for one in study.transfer[0].matrix().cells.values():
        drawn = page.locator(CELLS + f"[aria-label={quoted(words.describe(one))}]")
        assert drawn.inner_text().rstrip("†‡") == ("–" if one.delta is None else words.points(one.delta))
    assert page.locator(CELLS).count() == 9


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def test_a_cell_opens_its_runs_and_a_link_leads_to_each(page, study) -> None:
    assert page.locator(".panel:visible").count() == 0
    cell(page, "mnli → rte").click()
    panel = page.locator(".panel:visible")
    assert panel.count() == 1
    for pair in study.transfer[0].matrix().cells["mnli", "rte"].pairs:
        line = panel.locator("tbody tr").filter(has_text=f"seed {pair.seed}").inner_text()
        assert words.score(pair.run.value) in line
        assert words.score(pair.baseline.value) in line
        assert words.points(pair.delta) in line
    link = panel.get_by_role("link", name="minilm → mnli → rte · seed 1")
    target = link.get_attribute("href")
    link.click()
    assert "minilm → mnli → rte · seed 1" in page.locator(f"[id='{target[1:]}']").inner_text()
    cell(page, "mnli → rte").click()
    assert page.locator(".panel:visible").count() == 0, "a second click closes it"


def test_a_cell_shows_the_curves_of_both_arms(page, study) -> None:
    cell(page, "mnli → rte").click()
    lines = page.locator(".panel:visible figure polyline")
    titles = [line.text_content() for line in lines.all()]
    wanted = [f"minilm → {way}rte · seed {seed}" for way in ("", "mnli → ") for seed in (1, 2, 3)]
    assert sorted(titles) == sorted(wanted)
    assert page.locator(".panel:visible figure circle").count() == 6


def test_a_cell_shows_the_examples_that_flipped(page, study) -> None:
    found = study.transfer[0].matrix().cells["mnli", "rte"]
    flips = study.flips.cells[runs_of(found)]
    cell(page, "mnli → rte").click()
    panel = page.locator(".panel:visible")
    rows = panel.locator(".flips tbody tr")
    assert rows.count() == len(flips.examples) == 12
    first = flips.examples[0]
    assert f"{first.place[0]}" in rows.first.inner_text()
    assert rows.first.locator("td").nth(0).inner_text() == {"lost": "wrong", "gained": "right"}[first.way]
    shown = [text for text in panel.locator(".flips td.text").all_inner_texts() if text != "–"]
    assert len(shown) == 4
    assert TEXT.format(first.place[0]) in shown, "as text, whatever it holds"
    for seed, (lost, gained) in flips.seeds.items():
        line = panel.locator("tbody tr").filter(has_text=f"seed {seed}").inner_text().split("\t")
        assert [lost, gained] == [int(line[4]), int(line[5])]


def test_cells_are_reached_by_keyboard(page) -> None:
    page.locator(CELLS).first.focus()
    page.keyboard.press("Enter")

    def focused() -> str:
        return page.evaluate("document.activeElement.getAttribute('aria-label')")

    def shown() -> str:
        return page.locator(".panel:visible .lead strong").inner_text()

    first = focused()
    assert first.startswith(shown())
    page.keyboard.press("ArrowRight")
    second = focused()
    page.keyboard.press("ArrowDown")
    third = focused()
    assert second != first
    assert second.split(" → ")[1].split(":")[0] == first.split(" → ")[1].split(":")[0]
    assert third.split(" → ")[0] == second.split(" → ")[0] != first.split(" → ")[0]
    assert third.startswith(shown())
    page.keyboard.press("Escape")
    assert page.locator(".panel:visible").count() == 0
    assert focused() == third, "the focus stays where it was"


def test_a_failed_run_says_so_in_its_cell(page) -> None:
    cell(page, "mnli → cb").click()
    assert "failed: OutOfMemory: <img" in page.locator(".panel:visible").inner_text()


def test_filters_and_the_search_choose_cells_in_table_and_map(page) -> None:
    filters = page.locator(".view:not([hidden]) .filters").first
    rows = page.locator("table.cells:visible tbody tr:visible")
    filters.get_by_label("source").select_option("mnli")
    assert rows.count() == page.locator(CELLS + ":visible").count() == 3
    assert filters.locator("output").inner_text() == "3 of 9"
    filters.get_by_label("verdict").select_option("helps")
    assert [row.inner_text().split("\t")[:2] for row in rows.all()] == [["mnli", "rte"]]
    filters.get_by_label("verdict").select_option("")
    filters.get_by_label("search").fill("cb within")
    assert [row.inner_text().split("\t")[:2] for row in rows.all()] == [["mnli", "cb"]]
    filters.get_by_label("search").fill("nothing has this name")
    assert rows.count() == 0
    filters.get_by_label("search").fill("")
    filters.get_by_label("source").select_option("")
    assert rows.count() == page.locator(CELLS + ":visible:not(.off)").count() == 9


def test_the_search_over_runs_finds_those_of_a_cell(page) -> None:
    filters = page.locator(".filters[data-for=all-runs]")
    filters.get_by_label("search").fill("rte mnli")
    rows = page.locator("#all-runs tbody tr:visible")
    found = [row.locator("td").first.inner_text() for row in rows.all()]
    assert found == [f"minilm → mnli → rte · seed {seed}" for seed in (1, 2, 3)]


def test_every_run_has_a_learning_curve(page, study) -> None:
    drawn = page.locator("#all-curves polyline title").all_text_contents()
    assert sorted(drawn) == sorted(run.way for run in study.runs if run.curve)
    page.locator("#all-curves").get_by_label("Show").select_option("training loss")
    assert "training loss" in page.locator("#all-curves svg[role=img]").first.get_attribute("aria-label")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("opened", [False, True])
def test_axe_finds_nothing_serious(page, scheme, opened) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.emulate_media(color_scheme=scheme)
    if opened:
        cell(page, "mnli → rte").click()
    found = axe.Axe().run(page).response["violations"]  # of any impact
    assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []


def test_a_click_on_a_heading_sorts_numbers_as_numbers(page) -> None:
    table = page.locator("table.cells:visible")
    column = [cell.inner_text() for cell in table.locator("thead th").all()].index("difference")

    def shown() -> list[float]:
        texts = table.locator(f"tbody td:nth-child({column + 1})").all_inner_texts()
        return [float(text.replace(words.MINUS, "-")) for text in texts]

    unsorted = shown()
    table.get_by_role("button", name="difference").click()
    assert shown() == sorted(unsorted) != unsorted
    table.get_by_role("button", name="difference").click()
    assert shown() == sorted(unsorted, reverse=True)
    assert table.locator("th[aria-sort=descending]").inner_text() == "difference"


def test_degenerate_runs_can_be_left_out(page, study) -> None:
    source, target, _ = COLLAPSED
    kept, left = (one.matrix().cells[source, target] for one in study.transfer)
    one = cell(page, f"{source} → {target}")
    assert words.points(kept.delta) in one.get_attribute("aria-label")
    page.get_by_label("without degenerate runs").check()
    assert words.points(left.delta) in one.get_attribute("aria-label")
    assert "degenerate" not in one.get_attribute("aria-label")
    one.click()
    assert page.locator(".panel:visible").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_makes_the_page_itself_scroll_sideways(page, width) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(CELLS).first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator(CELLS).first.click()
    contrast = page.evaluate(
        """() => {
          const light = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
              .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = (node) => {
            const colour = getComputedStyle(node).backgroundColor;
            return colour !== 'rgba(0, 0, 0, 0)' ? colour : ground(node.parentElement);
          };
          const texts = 'p, td, th, a, li, dt, dd, h1, h2, h3, h4, label, figcaption, .heat .c';
          const nodes = [...document.querySelectorAll(texts)];
          return Math.min(...nodes.filter((node) => node.offsetParent).map((node) => {
            const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          }));
        }"""
    )
    assert contrast >= 4.5  # WCAG 2.2, 1.4.3

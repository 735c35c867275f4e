"""The report page in a browser: read by pointer and by keyboard, wide and narrow, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.report.factory import COLLAPSED, inputs

from layover.report import words
from layover.report.build import build
from layover.report.facts import ReportInputs

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
CELLS = ".view:not([hidden]) .heat path[role=button]"


@pytest.fixture(scope="module")
def study() -> ReportInputs:
    return inputs()


@pytest.fixture(scope="module")
def address(study, tmp_path_factory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(build(study), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not executable:
        pytest.skip("no Chromium is installed (set CHROMIUM to its path)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


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


def test_every_number_of_the_matrix_stands_in_its_cell(page, study) -> None:
    drawn = page.locator(".view:not([hidden]) .heat svg text").all_text_contents()
    for cell in study.transfer[0].matrix().cells.values():
        assert any(text.split(" ")[0] == words.points(cell.delta) for text in drawn)
        assert page.locator(CELLS + f'[aria-label*="{words.points(cell.delta)} point"]').count() >= 1
    assert page.locator(CELLS).count() == 9


def test_pointing_at_a_cell_shows_its_runs(page, study) -> None:
    assert page.locator(".panel:visible").count() == 0
    page.locator(CELLS + '[aria-label^="mnli → rte"]').hover()
    panel = page.locator(".panel:visible")
    assert panel.count() == 1
    for pair in study.transfer[0].matrix().cells["mnli", "rte"].pairs:
        line = panel.locator("tbody tr").filter(has_text=f"seed {pair.seed}").inner_text()
        assert words.score(pair.run.value) in line
        assert words.score(pair.baseline.value) in line
        assert words.points(pair.delta) in line
    page.locator(CELLS + '[aria-label^="mnli → rte"]').click()
    page.locator(CELLS).last.hover()
    assert "mnli → rte" in panel.inner_text(), "a click keeps the panel while the pointer travels to it"
    link = panel.get_by_role("link", name="minilm → mnli → rte · seed 1")
    target = link.get_attribute("href")
    link.click()
    assert "minilm → mnli → rte · seed 1" in page.locator(f"[id='{target[1:]}']").inner_text()


def test_cells_are_reached_by_keyboard(page) -> None:
    page.locator("input[name=degenerate]").first.focus()
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert page.locator(".panel:visible").get_attribute("data-label") == first
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowDown")
    third = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert second != first
    assert second.split(" → ")[1].split(":")[0] == first.split(" → ")[1].split(":")[0]
    assert third.split(" → ")[0] == second.split(" → ")[0] != first.split(" → ")[0]
    assert page.locator(".panel:visible").get_attribute("data-label") == third
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.tagName") == "A"


def test_a_failed_run_says_so_in_its_cell(page) -> None:
    page.locator(CELLS + '[aria-label^="mnli → cb"]').hover()
    assert "failed: OutOfMemory: <img" in page.locator(".panel:visible").inner_text()


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
    cell = page.locator(CELLS + f'[aria-label^="{source} → {target}"]')
    assert words.points(kept.delta) in cell.get_attribute("aria-label")
    page.get_by_label("without degenerate runs").check()
    assert words.points(left.delta) in cell.get_attribute("aria-label")
    assert "degenerate" not in cell.get_attribute("aria-label")
    cell.hover()
    assert page.locator(".panel:visible").count() == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_makes_the_page_itself_scroll_sideways(page, width) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator(CELLS).first.hover()
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme) -> None:
    page.emulate_media(color_scheme=scheme)
    page.locator(CELLS).first.hover()
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
          const nodes = [...document.querySelectorAll('p, td, th, a, li, dt, dd, h1, h2, h3, label')];
          return Math.min(...nodes.filter((node) => node.offsetParent).map((node) => {
            const [a, b] = [light(getComputedStyle(node).color), light(ground(node))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          }));
        }"""
    )
    assert contrast >= 4.5  # WCAG 2.2, 1.4.3

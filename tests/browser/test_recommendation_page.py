"""The page of a recommendation in a browser: what it shows, wide and narrow, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from layover.report.recommendation import page as made
from layover.select.candidate import DIRECT, Candidate
from layover.select.confirm import Cost
from layover.select.halving import Decision, Halved, Rung
from layover.select.knowledge import Expected
from layover.select.recommend import Option, Recommendation

SEARCHED = Halved("mnli", (), ((Rung(1, ("mnli", "qqp"), 0.25, 1), Decision(("mnli",), {"qqp": "failed"})),), 25.0, 100)


def answer() -> Recommendation:
    """Three candidates, one of which has a name that is no HTML."""
    return Recommendation(
        "tickets", "minilm", 0.5,
        (
            Option(Expected(Candidate("mnli"), 2.0, 1.0, 0.96, 0.1, 3.9), "of the same form", {"logme": 0.71}),
            Option(Expected(DIRECT, 0.0, 0.0, 0.0, 0.0, 0.0), "what every stop is measured against"),
            Option(Expected(Candidate("<i>qqp</i>"), -4.0, 3.0, 0.1, -10.0, 2.0), "no result of this stop is known"),
        ),
        {"sst2": "it was trained on the target's own rows"}, {"nce": "there is nothing in outputs"}, ("a note",),
        Cost("recommend-tickets", 21, 14, 70_000, 812.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "answer.html"
    path.write_text(made(answer(), SEARCHED), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(params=[1280, 390])
def page(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_the_answer_comes_first_and_all_candidates_are_there(page: Any) -> None:
    assert page.locator("h1").inner_text() == "Which stop before tickets?"
    assert "make a stop at mnli: expected to add +2.0 points" in page.locator(".answer").inner_text()
    names = [one.inner_text() for one in page.locator("tbody th").all()]
    assert names == ["mnli recommended", "train directly", "<i>qqp</i>"]
    assert page.locator("tr.chosen").count() == 1
    text = page.locator("main").inner_text()
    assert [one.inner_text() for one in page.locator("dl dt").all()] == ["mnli", "<i>qqp</i>"]
    for told in (
        "0.71",
        "of the same form",
        "sst2",
        "nce",
        "a note",
        "21 trainings",
        "the store lacks 14",
        "25%",
        "--run top:3",
    ):
        assert told in text


def test_nothing_but_the_tables_is_wider_than_the_window(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], one["impact"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []

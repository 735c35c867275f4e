"""The page of a running study in a browser, while a real study runs: it fills without being loaded again."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit import publish_fake, study_words, write_study

from layover import Session
from layover.claims import Claim, told
from layover.step import Train

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("starlette", reason="starlette is not installed")

DEADLINE = 240  # seconds that a busy machine may take for anything


class Served:
    """A server in a thread, on the same port whenever it is started."""

    def __init__(self, session: Session) -> None:
        self._session, self._port = session, 0
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    def start(self) -> None:
        from layover.serve.app import application
        from layover.serve.watch import Watch

        taken = socket.create_server(("127.0.0.1", self._port))
        self._port = taken.getsockname()[1]
        app = application(Watch(self._session.plan, self._session.store), "127.0.0.1", lambda: self._server.should_exit)
        config = uvicorn.Config(app, lifespan="off", log_level="warning", timeout_graceful_shutdown=3)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [taken]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


@pytest.fixture
def session(bert: Path, tmp_path: Path) -> Session:
    words = study_words(bert, tmp_path, seeds=[1, 2])
    return Session.open(write_study(tmp_path / "study.toml", words), store=tmp_path / "store")


@pytest.fixture
def served(session: Session) -> Iterator[Served]:
    server = Served(session)
    yield server
    server.stop()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(1000 * DEADLINE)
    wrong, asked = [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(served.address)
    page.evaluate("window.never = 'loaded again'")
    yield page
    assert wrong == []
    assert [url for url in asked if not url.startswith((served.address, "data:"))] == []
    page.close()


class Stepwise:
    """A study that runs in a thread, and waits after every step until it is told to go on."""

    def __init__(self, session: Session) -> None:
        self._finished: queue.Queue[str] = queue.Queue()
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=session.run, kwargs={"on_event": self._event})

    def _event(self, what: str, key: str, _: Any) -> None:
        if what == "finished":
            self._finished.put(key)
            assert self._go.acquire(timeout=DEADLINE)

    def step(self) -> str:
        """Run until one more step is finished, and say which."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        return self._finished.get(timeout=DEADLINE)

    def end(self) -> None:
        self._go.release(100)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


@pytest.fixture
def study(session: Session) -> Iterator[Stepwise]:
    study = Stepwise(session)
    yield study
    study.end()


def shows(page: Any, place: str, text: str) -> None:
    """Wait until what a selector finds has this text in it. The page's policy lets no test wait by evaluating code."""
    sync_api.expect(page.locator(place)).to_contain_text(text, timeout=1000 * DEADLINE)


def filled(page: Any) -> str:
    """The cell of each row of the matrix, as people see it."""
    rows = page.locator("#matrices tbody tr").all()
    return " | ".join(
        row.locator("td b").inner_text() + " " + row.locator("td small").first.inner_text() for row in rows
    )


def test_a_study_is_seen_while_it_runs(page: Any, session: Session, served: Served, study: Stepwise) -> None:
    shows(page, "#sentence", "0 of 6 steps finished. Nothing is running.")
    assert filled(page) == "– 0/2 | – 0/2"
    strategies = {score.key: score.strategy for score in session.plan.scores if score.role == "target"}
    done = {"direct": 0, "stilts": 0}
    for number in range(1, 7):
        if number == 4:  # the server goes, and the study goes on
            served.stop()
            shows(page, "#connection", "cannot be reached")
        key = study.step()
        if number == 4:
            served.start()
            shows(page, "#connection", "live")
        if key in strategies:
            done[strategies[key]] += 1
        shows(page, "#sentence", "Complete: all 6" if number == 6 else f"{number} of 6 steps finished")
        for row, count in enumerate(done.values()):
            shows(page, f"#matrices tbody tr:nth-child({row + 1}) td > small:not(br + small)", f"{count}/2")
        shows(page, "#recent li:first-child", session.plan.labels[key].rpartition("/")[2])
    assert page.evaluate("window.never") == "loaded again"
    (cell,) = session.transfer().matrix().cells.values()
    scores = [value for value in cell.baseline_values.values() if value is not None]
    assert cell.delta is not None
    assert filled(page).startswith(f"{sum(scores) / 2:.1f} 2/2 | ")
    assert f"{abs(cell.delta):.1f}" in filled(page).partition(" | ")[2]
    assert page.locator("#running-section").is_hidden()


@pytest.fixture
def half_way(session: Session) -> Iterator[None]:
    """One step failed, one is in hand with a curve, and others are finished, one of them degenerate."""
    store, plan = session.store, session.plan
    for label, value in (("bert · mine · s1", 50.0), ("bert · stop · s2", 70.0), ("→ mine · s2", 61.0)):
        step = plan.steps[plan.find(label)]
        assert isinstance(step, Train)
        publish_fake(store, step, keep=True, value=value)
    failed = plan.find("bert · stop · s1")
    store.failed(failed, store.attempt(failed), "OutOfMemory: <img src=x onerror=alert(1)>\n")
    curve = [{"step": i, "loss": 1 / i, "selection": 50.0 + i} for i in range(1, 8)]
    progress = {"step": 8, "steps": 10, "epoch": 1, "epochs": 1, "best": 57.0, "loss": 0.1, "curve": curve}
    with Claim(store.claim(plan.find("bert · mine · s2")), lambda: told(progress)) as claim:
        assert claim.take()
        yield


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_left_out(half_way: None, page: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector("#running svg")
    page.locator("#blocked-title").click()
    found = axe.Axe().run(page).response
    assert [f"{v['id']}: {v['nodes'][0]['html']}" for v in found["violations"]] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_all_of_it_is_told(half_way: None, page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.wait_for_selector("#running svg")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    shows(page, "#sentence", "3 of 6 steps finished, 1 running, about ")
    failed = page.locator("#failed li").inner_text()
    assert "bert · stop · s1" in failed
    assert "OutOfMemory: <img src=x onerror=alert(1)>" in failed  # as text
    assert "1 step blocked" in page.locator("#blocked-title").inner_text()
    card = page.locator("#running .card").inner_text()
    assert "step 8 of 10" in card
    assert "accuracy 57.0 on selection" in card
    words = page.get_by_role("img").get_attribute("aria-label")
    assert (
        words == "Learning curve up to step 8: loss from 1.00 to 0.100, accuracy on the selection set from 51.0 to 57.0"
    )
    assert page.locator("#running polyline.loss").get_attribute("points").count(",") == 8  # and the loss since then
    assert filled(page) == "50.0 1/2 | 61.0 1/2"


def test_it_is_heard_and_not_too_often(half_way: None, page: Any, session: Session) -> None:
    live = page.locator("[aria-live]")
    assert live.count() == 1  # everything else changes in silence
    shows(page, "#spoken", "3 of 6 steps finished")
    assert "1 failed" in live.inner_text()
    page.evaluate("window.heard = 0; new MutationObserver(() => window.heard++).observe("
                  "document.querySelector('#spoken'), { childList: true })")  # fmt: skip
    step = session.plan.steps[session.plan.find("bert · mine · s2")]
    assert isinstance(step, Train)
    publish_fake(session.store, step)
    shows(page, "#spoken", "4 of 6 steps finished")
    assert page.evaluate("window.heard") == 1


def test_the_table_is_scrolled_by_keyboard(half_way: None, page: Any) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    page.wait_for_selector("#matrices td b")
    region = page.get_by_role("region", name="Scores and differences of")
    region.focus()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "region"

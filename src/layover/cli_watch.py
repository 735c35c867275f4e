"""`layover serve`: a study while it runs, as a page. `layover track`: its results in somebody's tracker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from layover import console
from layover.asked import Asked, about_a_study
from layover.errors import Problem, UserError

if TYPE_CHECKING:
    from layover.session import Session
    from layover.trackers import Tracker

PORT = 7007
POLL_SECONDS = 2.0


@about_a_study
def serve(
    asked: Asked,
    host: Annotated[
        str, typer.Option("--host", help="The address to listen on. Others than this machine's own see the study.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: any that is free.")] = PORT,
) -> None:
    """Show a study while it runs: a page with progress, curves, failures and results. Read-only; ends with Ctrl-C."""
    from layover.serve.server import check_extra
    from layover.serve.server import serve as show

    check_extra()
    session = asked.session(create=False)
    show(session.plan, session.store, host, port, lambda url: console.say(f"serving: {url}  (Ctrl-C ends it)"))
    console.say("stopped")


@about_a_study
def track(
    asked: Asked,
    to: Annotated[str, typer.Option("--to", metavar="TRACKER", help="tensorboard, mlflow or wandb.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the tracker's files go. Default: layover-tracking here.")
    ] = Path("layover-tracking"),
    follow: Annotated[bool, typer.Option("--follow", help="Go on while the study runs, until it ends.")] = False,
) -> None:
    """Send the finished runs of a study to TensorBoard, MLflow or W&B, each once: those that are there stay."""
    from layover.trackers.sending import tracker
    from layover.trackers.tracker import TrackerError

    session, told = asked.session(create=False), []

    def tell(label: str) -> None:
        told.append(label)
        console.say(f"sent: {label}")

    try:
        place = tracker(to, session.plan.study.name, out)
        _send(session, place, follow, tell)
    except TrackerError as error:
        raise UserError(Problem("--to", str(error), "what was sent stays; run the same command again")) from error
    console.say(f"{len(told)} runs sent to {place.place}")


def _send(session: Session, place: Tracker, follow: bool, tell: Callable[[str], None]) -> None:
    """Send what is finished; to follow, until nothing more can come or somebody presses Ctrl-C."""
    from layover.explain import decide
    from layover.trackers.sending import send

    plan, store = session.plan, session.store
    try:
        there = place.sent()
        while True:
            # asked before sending: what finishes meanwhile is sent now, or by the next turn
            moving = any(decision.action in ("run", "running") for decision in decide(plan, store))
            there = send(plan, store, place, there, tell)
            if not (follow and moving):
                return
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        if not follow:
            raise
        console.say("stopped following")

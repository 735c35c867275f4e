"""`layover serve`: a study while it runs, as a page. `layover track`: its results in somebody's tracker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from layover import console
from layover.asked import Asked, about_a_study
from layover.errors import Problem, UserError

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
    from layover.explain import decide
    from layover.trackers.sending import send, tracker
    from layover.trackers.tracker import TrackerError

    session = asked.session(create=False)
    plan, store = session.plan, session.store
    told = []

    def tell(label: str) -> None:
        told.append(label)
        console.say(f"sent: {label}")

    try:
        place = tracker(to, plan.study.name, out)
        there = place.sent()
        while True:
            # asked before sending: what finishes meanwhile is sent by the next turn, or was sent by this one
            moving = any(decision.action in ("run", "running") for decision in decide(plan, store))
            there = send(plan, store, place, there, tell)
            if not (follow and moving):
                break
            time.sleep(POLL_SECONDS)
    except TrackerError as error:
        raise UserError(Problem("--to", str(error), "what was sent stays; run the same command again")) from error
    except KeyboardInterrupt:  # how following is ended
        console.say("stopped following")
    console.say(f"{len(told)} runs sent to {place.place}")

"""Ray cluster: connecting to one, or starting one on this machine; what it has, and what went wrong, in words."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layover.errors import Problem, UserError
from layover.stopping import HEARD

if TYPE_CHECKING:
    from layover.executors.ray import Ray

STARTS = 3  # Ray gives its processes half a minute to begin, which on a busy machine may be too little
SECONDS = 10.0  # for a cluster's port to answer: Ray itself tries for five minutes
OBJECTS_BYTES = 80 << 20  # Ray's shared memory: what steps hand over is small, and files go through the store
JOB = "ray job submit --address {} --working-dir . -- layover run STUDY --executor ray --store SHARED_FOLDER"
TEMPORARY = Path("/tmp")  # sockets lie below it, and their paths may have 107 characters
CURRENT = TEMPORARY / "ray" / "ray_current_cluster"  # where `ray start` notes the address for "auto"


def connected(options: Ray, cpu_only: bool) -> Callable[[], None]:
    """Connect this process to a cluster; what is returned leaves it again, and ends it if it was started here.

    A process that is connected already stays so. Raises UserError where the cluster cannot be had.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        return lambda: None
    address = options.address
    if address != "local":
        address = os.environ.get("RAY_ADDRESS") or address or "local"
    if address == "local":
        return _started(options, cpu_only)
    check_takes_tasks(address, "RAY_ADDRESS")
    _check_answers(address)
    _init(address)
    return ray.shutdown


def _started(options: Ray, cpu_only: bool) -> Callable[[], None]:
    """Start a cluster of this machine alone, whose processes end with this one however that ends."""
    import ray

    folder = tempfile.mkdtemp(prefix=f"layover-ray-{os.getpid()}-", dir=TEMPORARY if TEMPORARY.is_dir() else None)

    def leave() -> None:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)

    # workers import what the command can, wherever it was started
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    cpus = _cores() if options.num_cpus is None else options.num_cpus
    gpus = 0 if cpu_only and options.num_gpus is None else options.num_gpus
    try:
        _init(
            "local", STARTS, runtime_env={"env_vars": path}, num_cpus=cpus, num_gpus=gpus, include_dashboard=False,
            object_store_memory=OBJECTS_BYTES, _temp_dir=folder,
        )  # fmt: skip
    except BaseException:
        leave()
        raise
    return leave


def _init(address: str, tries: int = 1, **words: Any) -> None:
    """Call `ray.init`, again where it failed and may go well; raises UserError where it does not."""
    import ray

    for left in range(tries - 1, -1, -1):
        try:
            with _own_signals():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **words)
            return
        except (Exception, SystemExit) as error:  # Ray exits where a cluster stops answering
            with suppress(Exception):
                ray.shutdown()
            if not left or isinstance(error, ValueError):
                local = address == "local"
                what = "no Ray cluster can be started here" if local else f"{address!r}: cannot be connected to"
                hint = "look at [placement.options] and RAY_ADDRESS, or run with --executor local"
                raise UserError(Problem("placement.executor", f"{what}: {_first_line(error)}", hint)) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's ways of being stopped: Ray puts its own in their place."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in HEARD}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def check_takes_tasks(address: str, place: str) -> None:
    """Raise UserError for the address of a dashboard: what is sent there is a command, which runs in the cluster."""
    if address.startswith(("http://", "https://")):
        hint = f"submit the command itself: {JOB.format(address)}"
        raise UserError(Problem(place, f"{address!r} takes jobs, not tasks", hint))


def _check_answers(address: str) -> None:
    """Raise UserError where nobody listens at an address, long before Ray would give up."""
    named, place = address, "RAY_ADDRESS"
    if address == "auto":
        place = str(CURRENT)
        with suppress(OSError):
            named = CURRENT.read_text(encoding="utf-8").strip()
        if named == "auto":
            return  # Ray looks for a cluster among this machine's processes, and says at once where there is none
    host, _, port = named.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        hint = "say RAY_ADDRESS=host:6379 or ray://host:10001; is it up? ray status --address host:6379"
        told = f"{named!r}: no Ray cluster answers there: {_first_line(error)}"
        raise UserError(Problem(place, told, hint)) from None


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machines() -> list[Mapping[str, float]]:
    """What each machine of the cluster has in all, by Ray's names: CPU, GPU, memory (bytes)."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def too_much(wanted: Mapping[str, float], has: Sequence[Mapping[str, float]]) -> str:
    """That no machine has what is wanted, in words."""
    largest = {name: max((machine.get(name, 0.0) for machine in has), default=0.0) for name in wanted}
    return (
        f"needs {_amounts(wanted)} on one machine, and of its {len(has)} the largest have {_amounts(largest)}: ask for"
        " less in [placement.needs], or say autoscaling = true in [placement.options] where more may come"
    )


def _amounts(found: Mapping[str, float]) -> str:
    return ", ".join(
        f"{amount / 1e9:.1f} GB of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in found.items()
    )


def was_cancelled(error: BaseException) -> bool:
    """Whether a task ended because it was asked to before it had begun, or by a second asking."""
    from ray.exceptions import TaskCancelledError

    return isinstance(error, TaskCancelledError)


def was_lost(error: BaseException) -> bool:
    """Whether a task ended with its worker or its machine, and may end well elsewhere."""
    from ray.exceptions import RayError, RayTaskError, RuntimeEnvSetupError, TaskUnschedulableError

    own = (RayTaskError, RuntimeEnvSetupError, TaskUnschedulableError)
    return isinstance(error, RayError) and not isinstance(error, own)


def in_words(error: BaseException) -> str:
    """Why a task came to nothing."""
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, RuntimeEnvSetupError

    name = type(error).__name__
    if isinstance(error, RayTaskError):
        return f"could not begin on the cluster, where this layover must be installed too: {_last_line(error)}"
    if isinstance(error, RuntimeEnvSetupError):
        return f"Ray could not set up its environment (runtime_env): {_last_line(error)}"
    if isinstance(error, OutOfMemoryError):
        what = "the memory of its machine ran out, as it did before: say memory_gb in [placement.needs]"
    elif isinstance(error, NodeDiedError):
        what = "its machine was lost, as was the one before"
    elif was_lost(error):
        what = "its process was lost, as was the one before: more memory_gb in [placement.needs] leaves each more room"
    else:
        what = _first_line(error)
    return f"{what} ({name})"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)

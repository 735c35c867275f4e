"""Ray: steps are tasks of a Ray cluster: one that is there, or one that is started here and ends with the run."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

from layover import pulse
from layover.errors import MissingExtra, Problem, StepError, UserError
from layover.executors import ray_cluster
from layover.executors.executor import Executor, Needs, Site
from layover.places import Places

TRIES = 2  # a second loss says more about the step than about the machine


@dataclass(frozen=True)
class Ray:
    """Tasks of a Ray cluster, each with the GPUs, cores and memory that `[placement.needs]` gives its kind of step.

    `address`: "local" starts a cluster on this machine, with `num_cpus` and `num_gpus` (None: what is there), and ends
    it with the run; "auto" is the one that runs here; "" is what RAY_ADDRESS says, as in a Ray job, or else "local".
    Any other is for RAY_ADDRESS alone: whoever answers there can run code here, which no study may choose. With
    `autoscaling`, what no machine of the cluster can run is waited for, since one may come.
    """

    kind: ClassVar[str] = "ray"

    address: str = ""
    num_cpus: int | None = None
    num_gpus: int | None = None
    autoscaling: bool = False

    def __post_init__(self) -> None:
        ray_cluster.check_takes_tasks(self.address, "address")
        if self.address not in ("", "local", "auto"):
            hint = f'choices: "local", "auto"; or say it to the command: RAY_ADDRESS={self.address} layover run STUDY'
            message = f"{self.address!r} is not for a study to say: whoever answers there can run code here"
            raise UserError(Problem("address", message, hint))
        for name in ("num_cpus", "num_gpus"):
            if (getattr(self, name) or 0) < 0:
                raise UserError(Problem(name, f"is {getattr(self, name)}", "say a number, 0 or more"))
            if getattr(self, name) is not None and self.address == "auto":
                hint = 'leave it out, or say address = "local"'
                raise UserError(Problem(name, "is for a cluster that is started here", hint))

    def make(self, site: Site) -> Executor:
        """Tasks of the cluster that this process is connected to, or else of the one that the options name.

        Raises MissingExtra without Ray, and UserError where there is no such cluster, or no GPU is in it and they are
        asked for.
        """
        if find_spec("ray") is None:
            raise MissingExtra("ray", "ray", "the executor 'ray'")
        leave = ray_cluster.connected(self, cpu_only=site.device == "cpu")
        try:
            return Tasks(site, self.autoscaling, leave)
        except BaseException:
            leave()
            raise


@dataclass(eq=False)
class _Task:
    """One function on the cluster: what it needs, its future, and the reference of its latest try."""

    name: str
    fn: Callable[..., Any]
    args: Sequence[Any]
    needs: dict[str, float]
    future: Future[Any] = field(default_factory=Future)
    reference: Any = None
    tries: int = 0


class Tasks:
    """Functions as tasks of the cluster that this process is connected to; `leave` is called in the end.

    What Ray loses, with a worker, its memory or a machine, is tried once more, and its future then holds StepError.
    Functions, arguments and results cross machines, so a function must be one that can be imported there.
    """

    sharing = 1  # of whole GPUs; what has a part of one is told so as it is submitted

    def __init__(self, site: Site, autoscaling: bool, leave: Callable[[], None]) -> None:
        import ray

        self._site, self._autoscaling, self._leave = site, autoscaling, leave
        self._machines = ray_cluster.machines()
        self._usual = self._needs_of(Needs())
        self._most = self._most_at_once()
        site.folder.mkdir(parents=True, exist_ok=True)  # a machine that shares the store has it
        threads = str(site.threads or os.environ.get("OMP_NUM_THREADS", 1))
        self._place = (os.getcwd(), "" if site.everywhere else str(site.folder.resolve()), threads)
        # a process that has used a GPU keeps to it, whichever Ray gives to the next task: it runs one task alone
        self._on_gpu: Any = ray.remote(max_retries=0, max_calls=1)(_run_on_gpu)
        self._on_cpu: Any = ray.remote(max_retries=0)(_run_on_cpu)
        self._lock, self._closed, self._stopping = threading.Lock(), False, False
        self._tasks: set[_Task] = set()
        self._ended: SimpleQueue[tuple[_Task, Future[Any]] | None] = SimpleQueue()
        self._waiter = threading.Thread(target=self._wait, name="ray", daemon=True)
        self._waiter.start()

    @property
    def slots(self) -> int:
        """What is submitted, and what there is room for beside it: of the usual needs, or one more of any."""
        with self._lock:
            begun = list(self._tasks)
        if self._autoscaling:
            return self._most
        left = {name: self._total(name) - sum(task.needs[name] for task in begun) for name in self._usual}
        asked = {name: amount for name, amount in self._usual.items() if amount}
        full = any(left[name] < 1e-6 for name in asked)  # parts of a GPU add up to one but for rounding
        more = 0 if full else max(1, min(int(left[name] / amount) for name, amount in asked.items()))
        return max(1, min(len(begun) + more, self._most))

    def submit(self, fn: Callable[..., Any], /, *args: Any, needs: Needs | None = None) -> Future[Any]:
        """Run `fn(*args)` where there is room for what it needs; StepError where no machine of the cluster has that."""
        needs = needs or Needs()
        wanted = self._needs_of(needs)
        if 0 < wanted["GPU"] < 1:
            sharing = int(1 / wanted["GPU"] + 1e-6)
            args = tuple(replace(arg, sharing=sharing) if isinstance(arg, Places) else arg for arg in args)
        task = _Task(needs.name or getattr(fn, "__name__", "step"), fn, args, wanted)
        self._begin(task)
        return task.future

    def stop(self) -> None:
        """Ask what runs to end soon with its checkpoint; what has not begun does not begin."""
        import ray

        self._stopping = True
        with self._lock:
            begun = list(self._tasks)
        for task in begun:
            ray.cancel(task.reference, force=False)

    def close(self) -> None:
        """End what still runs at once, and the cluster too if it was started for this run."""
        import ray

        with self._lock:
            if self._closed:
                return
            self._closed = True
            begun, self._tasks = self._tasks, set()
        for task in begun:
            with suppress(Exception):  # of a cluster that is gone
                ray.cancel(task.reference, force=True)
            task.future.set_exception(StepError("the run was stopped"))
        self._ended.put(None)
        self._waiter.join()
        self._leave()

    def _needs_of(self, needs: Needs) -> dict[str, float]:
        """What a task asks of Ray, by Ray's names. Without a word about GPUs: whole ones, if the cluster has any."""
        gpus = needs.gpus
        if gpus is None:
            has = self._site.device == "cuda" or (self._site.device == "auto" and self._total("GPU") > 0)
            gpus = self._site.devices_per_step if has else 0
        cpus = needs.cpus or self._site.threads or 1
        return {"CPU": cpus, "GPU": gpus, "memory": int(needs.memory_gb * 1e9)}

    def _total(self, name: str) -> float:
        return sum(machine.get(name, 0.0) for machine in self._machines)

    def _most_at_once(self) -> int:
        """How many tasks there may be at once, as asked for; without a word, as many as there is work for."""
        each, gpus = self._site.devices_per_step, int(self._total("GPU"))
        if self._site.workers != "gpus":
            return self._site.workers or max(1, self._site.trainings, int(self._total("CPU")))
        if gpus < each and not self._autoscaling:
            found = f"{gpus} of {each} GPUs are in the cluster" if gpus else "no GPU is in the cluster"
            hint = "name a number, such as workers = 2, or leave it out"
            raise UserError(Problem("placement.workers", f"is 'gpus', and {found}", hint))
        return gpus // each or max(1, self._site.trainings)

    def _begin(self, task: _Task) -> None:
        """Give a task to Ray; its future holds StepError where nothing can come of it."""
        if task.needs["GPU"] > 1 and task.needs["GPU"] % 1:
            message = f"needs {task.needs['GPU']:g} GPUs: say a whole number, or a part of one, in [placement.needs]"
            task.future.set_exception(StepError(message))
            return
        self._machines = ray_cluster.machines()
        wanted = {name: amount for name, amount in task.needs.items() if amount}
        if not self._autoscaling and not any(
            all(machine.get(name, 0.0) >= amount for name, amount in wanted.items()) for machine in self._machines
        ):
            task.future.set_exception(StepError(ray_cluster.too_much(wanted, self._machines)))
            return
        amounts = {"num_cpus": task.needs["CPU"], "num_gpus": task.needs["GPU"], "memory": task.needs["memory"] or None}
        run = self._on_gpu if task.needs["GPU"] else self._on_cpu
        with self._lock:
            if self._closed or self._stopping:
                task.future.set_exception(pulse.Stopped("was asked to stop"))
                return
            task.reference = run.options(name=task.name, **amounts).remote(self._place, task.fn, task.args)
            task.tries += 1
            self._tasks.add(task)
        # Ray calls back in a thread of its own, in which nothing of Ray may be called
        task.reference.future().add_done_callback(lambda done: self._ended.put((task, done)))

    def _wait(self) -> None:
        """Settle what has ended, one after the other, until this is closed."""
        while (item := self._ended.get()) is not None:
            try:
                self._settle(*item)
            except Exception as error:  # a try that cannot be begun: the cluster is gone
                item[0].future.set_exception(StepError(ray_cluster.in_words(error)))

    def _settle(self, task: _Task, done: Future[Any]) -> None:
        with self._lock:
            if task not in self._tasks:
                return  # closed meanwhile
            self._tasks.discard(task)
        error = done.exception()
        if error is None:
            went_well, value = done.result()
            task.future.set_result(value) if went_well else task.future.set_exception(value)
        elif ray_cluster.was_cancelled(error) or (self._stopping and ray_cluster.was_lost(error)):
            task.future.set_exception(pulse.Stopped("was asked to stop"))
        elif ray_cluster.was_lost(error) and task.tries < TRIES:
            self._begin(task)
        else:
            task.future.set_exception(StepError(ray_cluster.in_words(error)))


def _run_on_gpu(*arguments: Any) -> tuple[bool, Any]:
    return _run(*arguments)


def _run_on_cpu(*arguments: Any) -> tuple[bool, Any]:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # of which Ray keeps no account for this task
    return _run(*arguments)


def _run(place: tuple[str, str, str], fn: Callable[..., Any], args: Sequence[Any]) -> tuple[bool, Any]:
    """Be a worker: whether `fn(*args)` went well, and what it returned or raised, which must be a value for Ray.

    Ray asks a task to stop by SIGINT: the first one is heard where work looks for it, a second one ends the task.
    """
    from ray import cloudpickle

    folder, shared, os.environ["OMP_NUM_THREADS"] = place  # which torch reads when it is loaded
    pulse.clear()
    before = signal.signal(signal.SIGINT, _asked)
    try:
        _go_to(folder, shared)
        answer = (True, fn(*args))
    except Exception as error:
        answer = (False, error)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        return cloudpickle.loads(cloudpickle.dumps(answer))  # type: ignore[attr-defined]
    except Exception:  # what cannot be pickled is told in words
        return (False, StepError(f"cannot be handed over: {answer[1]!r}"))


def _asked(*_: object) -> None:
    if pulse.asked():
        raise KeyboardInterrupt
    pulse.ask()


def _go_to(folder: str, shared: str) -> None:
    """Go where the command runs, so that relative paths mean the same; StepError where the store is not shared."""
    with suppress(OSError):
        os.chdir(folder)
    if shared and not Path(shared).is_dir():
        store, machine = Path(shared).parent, socket.gethostname()
        raise StepError(f"the store {store} is not on the machine {machine}: it must be in a folder that all share")

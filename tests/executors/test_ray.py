"""Ray: what is lost is tried again, nothing waits for what no machine has, and a study ends with the same numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.executors.test_workers import children, gone
from tests.kit import Command, Terminal, numbers, site, study_words, write_study

from layover import pulse
from layover.errors import MissingExtra, StepError, StudyError, UserError
from layover.executors import Needs, ray_cluster
from layover.executors.ray import Ray
from layover.places import Places
from layover.study import Study

errors = pytest.importorskip("ray.exceptions", reason="Ray is not installed")

WAIT = 300  # seconds: starting processes on a busy machine
OnRay = Callable[..., Any]


def appears(path: Path) -> bool:
    deadline = time.monotonic() + WAIT
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return path.exists()


def meets(folder: Path, mine: str, other: str) -> tuple[bool, str]:
    """Leave a file and wait for the other's: whether it came, and the GPU that this process may use."""
    (folder / mine).touch()
    return appears(folder / other), os.environ.get("CUDA_VISIBLE_DEVICES", "none")


def dies(times: int, folder: Path) -> int:
    """Kill this process the first `times` times; how often it was called."""
    called = len(list(folder.iterdir()))
    (folder / str(called)).touch()
    if called < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return called + 1


def told(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


def waits_for_good(began: Path) -> None:
    """Do what cannot be asked to stop."""
    began.touch()
    time.sleep(3600)


def sharing(places: Places) -> tuple[int, int]:
    return places.sharing, os.getpid()


class TestOneThatDies:
    def test_what_it_ran_is_tried_again(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray(device="cpu")
        assert executor.submit(dies, 1, tmp_path).result(WAIT) == 2
        executor.close()

    def test_dying_twice_is_the_steps_own_failure(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray(device="cpu")
        with pytest.raises(StepError, match="its process was lost, as was the one before") as caught:
            executor.submit(dies, 9, tmp_path).result(WAIT)
        assert not isinstance(caught.value, pulse.Stopped)
        assert len(list(tmp_path.iterdir())) == 2
        assert executor.submit(divmod, 7, 2).result(WAIT) == (3, 1)
        executor.close()

    def test_while_it_is_to_stop_it_has_stopped(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray(device="cpu")
        future = executor.submit(stops_by_dying, tmp_path / "began")
        assert appears(tmp_path / "began")
        executor.stop()
        with pytest.raises(pulse.Stopped):
            future.result(WAIT)
        executor.close()


def stops_by_dying(began: Path) -> None:
    began.touch()
    while not pulse.asked():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


class TestStops:
    def test_what_has_not_begun_does_not_begin(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray()
        first = executor.submit(stops, tmp_path / "first", needs=Needs(gpus=1))
        assert appears(tmp_path / "first")
        second = executor.submit(stops, tmp_path / "second", needs=Needs(gpus=1))
        executor.stop()
        for future in (first, second):
            with pytest.raises(pulse.Stopped):
                future.result(WAIT)
        assert not (tmp_path / "second").exists()
        executor.close()

    def test_closing_ends_what_cannot_be_asked(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray(device="cpu")
        future = executor.submit(waits_for_good, tmp_path / "began")
        assert appears(tmp_path / "began")
        executor.close()
        with pytest.raises(StepError, match="the run was stopped"):
            future.result(WAIT)
        assert on_ray(device="cpu").submit(divmod, 7, 2, needs=Needs(cpus=2)).result(WAIT) == (
            3,
            1,
        )  # it has given back its core


def stops(began: Path) -> None:
    began.touch()
    while True:
        pulse.check()
        time.sleep(0.01)


class TestNeeds:
    def test_parts_of_a_gpu_are_used_at_once(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = on_ray()
        half = Needs(gpus=0.5)
        futures = [executor.submit(meets, tmp_path, *pair, needs=half) for pair in (("a", "b"), ("b", "a"))]
        assert [future.result(2 * WAIT) for future in futures] == [(True, "0"), (True, "0")]
        executor.close()

    def test_who_shares_a_gpu_knows_with_how_many_and_uses_no_process_that_had_another(self, on_ray: OnRay) -> None:
        executor = on_ray()
        shared = [executor.submit(sharing, Places(), needs=Needs(gpus=gpus)).result(WAIT) for gpus in (0.1, 1, 0)]
        assert [number for number, _ in shared] == [10, 1, 1]
        assert len({pid for _, pid in shared}) == 3
        executor.close()

    def test_a_step_has_a_whole_gpu_if_there_is_one_unless_it_is_said_otherwise(self, on_ray: OnRay) -> None:
        executor = on_ray(threads=2)
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        assert executor.submit(told, *names).result(WAIT) == ["0", "2"]
        assert executor.submit(told, *names, needs=Needs(gpus=0)).result(WAIT) == ["", "2"]
        executor.close()

    @pytest.mark.parametrize(
        ("needs", "words"),
        [
            (Needs(gpus=2), "needs 1 CPU, 2 GPU on one machine, and of its 1 the largest have 2 CPU, 1 GPU"),
            (Needs(gpus=1.5), "needs 1.5 GPUs: say a whole number, or a part of one"),
            (Needs(cpus=3, gpus=0), "needs 3 CPU on one machine"),
            (Needs(memory_gb=1e6, gpus=0), "1000000.0 GB of memory on one machine"),
        ],
    )
    def test_what_no_machine_has_is_said_at_once(self, on_ray: OnRay, needs: Needs, words: str) -> None:
        executor = on_ray(device="cpu")
        with pytest.raises(StepError, match=words):
            executor.submit(divmod, 7, 2, needs=needs).result(WAIT)
        assert executor.submit(divmod, 7, 2).result(WAIT) == (3, 1)
        executor.close()

    def test_it_is_waited_for_where_machines_may_come(self, tmp_path: Path, on_ray: OnRay) -> None:
        on_ray().close()
        executor = Ray(autoscaling=True).make(site(folder=tmp_path / "jobs", device="cpu", trainings=7))
        future = executor.submit(divmod, 7, 2, needs=Needs(gpus=2))
        assert executor.submit(divmod, 7, 2).result(WAIT) == (3, 1)
        assert not future.done()
        assert executor.slots == 7
        executor.close()


class TestMachines:
    def test_one_without_the_store_is_named(self, on_ray: OnRay, tmp_path: Path) -> None:
        executor = Ray().make(site(folder=tmp_path / "store" / "jobs", device="cpu"))
        (tmp_path / "store" / "jobs").rmdir()
        where = f"the store {tmp_path / 'store'} is not on the machine {socket.gethostname()}"
        with pytest.raises(StepError, match=where):
            executor.submit(divmod, 7, 2).result(WAIT)
        executor.close()

    def test_one_that_lacks_a_module_is_told_of(self, on_ray: OnRay, monkeypatch: pytest.MonkeyPatch) -> None:
        here_alone = types.ModuleType("here_alone")
        exec("def nothing(): pass", vars(here_alone))
        monkeypatch.setitem(sys.modules, "here_alone", here_alone)
        executor = on_ray(device="cpu")
        with pytest.raises(StepError, match=r"could not begin on the cluster, .*No module named 'here_alone'"):
            executor.submit(here_alone.nothing).result(WAIT)
        executor.close()

    def test_the_folder_of_the_command_is_that_of_its_steps(
        self, on_ray: OnRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        executor = on_ray(device="cpu")
        assert executor.submit(os.getcwd).result(WAIT) == str(tmp_path)
        executor.close()


@pytest.mark.parametrize(
    ("error", "lost", "words"),
    [
        (errors.OutOfMemoryError("96% used"), True, "the memory of its machine ran out, .* memory_gb"),
        (errors.NodeDiedError("it is gone"), True, "its machine was lost, as was the one before"),
        (errors.WorkerCrashedError(), True, "its process was lost, as was the one before"),
        (errors.ObjectLostError("ab", "cd", "ef"), True, "its process was lost"),
        (errors.RuntimeEnvSetupError("pip failed"), False, "could not set up its environment .*pip failed"),
        (errors.TaskUnschedulableError("its node is gone"), False, r"its node is gone \(TaskUnschedulableError\)"),
        (ConnectionError("no answer"), False, r"no answer \(ConnectionError\)"),
    ],
)  # fmt: skip
def test_what_is_lost_is_told_from_what_cannot_be(error: Exception, lost: bool, words: str) -> None:
    assert ray_cluster.was_lost(error) is lost
    assert re.search(words, ray_cluster.in_words(error))


class TestSlots:
    def test_there_is_room_for_as_many_as_the_cluster_holds(self, on_ray: OnRay, tmp_path: Path) -> None:
        """With two cores and one GPU: one step that has the GPU, or two that have none, or four with a quarter each."""
        whole, none = on_ray(trainings=20), on_ray(trainings=20, device="cpu")
        assert (whole.slots, none.slots) == (1, 2)
        quarter = Needs(gpus=0.25, cpus=0.1)
        held = [whole.submit(stops, tmp_path / str(n), needs=quarter) for n in range(3)]
        assert whole.slots == 4  # these, and one more
        held.append(whole.submit(stops, tmp_path / "3", needs=quarter))
        assert whole.slots == 4
        assert not any(future.done() for future in held)
        whole.close()
        none.close()

    def test_workers_are_the_most_at_once(self, on_ray: OnRay) -> None:
        for workers, device, slots in ((1, "cpu", 1), (9, "cpu", 2), ("gpus", "auto", 1)):
            executor = on_ray(workers=workers, device=device, trainings=20)
            assert executor.slots == slots
            executor.close()

    def test_one_on_each_gpu_needs_so_many(self, on_ray: OnRay) -> None:
        with pytest.raises(UserError, match="is 'gpus', and 1 of 2 GPUs are in the cluster"):
            on_ray(workers="gpus", devices_per_step=2)


class TestStart:
    def test_it_is_tried_again_where_the_machine_is_busy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        begun: list[str] = []
        before = set(ray_cluster.TEMPORARY.glob(f"layover-ray-{os.getpid()}-*"))

        def init(address: str, **_: Any) -> None:
            begun.append(address)
            if len(begun) < 3:
                raise RuntimeError("The current node timed out during startup.")

        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.init", init)
        monkeypatch.setattr("ray.shutdown", lambda: None)
        leave = ray_cluster.connected(Ray(address="local"), cpu_only=True)
        assert begun == ["local"] * 3
        leave()
        begun.clear()
        monkeypatch.setattr(ray_cluster, "STARTS", 2)
        with pytest.raises(UserError, match="no Ray cluster can be started here: The current node timed out"):
            ray_cluster.connected(Ray(address="local"), cpu_only=True)
        assert set(ray_cluster.TEMPORARY.glob(f"layover-ray-{os.getpid()}-*")) == before


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"address": "http://head:8265"}, "ray job submit --address http://head:8265 .* layover run STUDY"),
            ({"address": "ray://head:10001"}, "say it to the command: RAY_ADDRESS=ray://head:10001 layover run STUDY"),
            ({"address": "auto", "num_cpus": 2}, "placement.options.num_cpus: is for a cluster that is started here"),
            ({"adress": "auto"}, "did you mean 'address'"),
            ({"num_cpus": -1}, "placement.options.num_cpus: is -1"),
            ({"num_gpus": "two"}, "placement.options.num_gpus"),
        ],
    )
    def test_options_that_mean_nothing(self, bert: Path, tmp_path: Path, options: Any, words: str) -> None:
        placement = {"executor": "ray", "options": options}
        with pytest.raises(StudyError, match=words):
            Study(**study_words(bert, tmp_path, placement=placement))

    def test_an_address_for_jobs_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
        with pytest.raises(UserError, match="RAY_ADDRESS: 'http://head:8265' takes jobs, not tasks"):
            Ray().make(site())

    def test_ray_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("layover.executors.ray.find_spec", lambda name: None)
        with pytest.raises(MissingExtra, match=r"pip install 'layover\[ray\]'"):
            Ray().make(site())

    def test_an_address_that_was_noted_and_is_stale(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray_cluster, "CURRENT", tmp_path / "noted")
        with socket.socket() as taken:  # nobody listens there
            taken.bind(("127.0.0.1", 0))
            (tmp_path / "noted").write_text(f"127.0.0.1:{taken.getsockname()[1]}\n")
            with pytest.raises(UserError, match=r"noted: '127\.0\.0\.1:.*': no Ray cluster answers there"):
                Ray(address="auto").make(site())

    @pytest.mark.parametrize(
        ("address", "options", "words"),
        [
            ("127.0.0.1:{}", {}, "RAY_ADDRESS: '127.0.0.1:{}': no Ray cluster answers there"),
            ("ray://127.0.0.1:{}", {"address": "auto"}, "'ray://127.0.0.1:{}': no Ray cluster answers there"),
        ],
    )
    def test_a_cluster_that_cannot_be_had(
        self, bert: Path, tmp_path: Path, address: str, options: Any, words: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In a process of its own: this one may be connected, and then stays so."""
        with socket.socket() as taken:  # nobody listens there
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            monkeypatch.setenv("RAY_ADDRESS", address.format(port))
            placement = {"executor": "ray", "options": options}
            study = write_study(tmp_path / "study.toml", study_words(bert, tmp_path, placement=placement))
            done = layover("run", study, "--store", tmp_path / "store")
        assert done.returncode == 2, done.stderr
        assert words.format(port) in done.stderr.replace("\n", " ")
        assert "Traceback" not in done.stderr


def layover(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, to its end."""
    line = [sys.executable, "-m", "layover.cli", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment, stdin=subprocess.DEVNULL)


NODES = """
import json, os, signal, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster
from layover.executors.ray import Ray
from tests.executors.test_ray import tells_its_node_and_waits
from tests.kit import site

def patiently(make):  # Ray gives its processes half a minute to begin
    for _ in range(3):
        try:
            return make()
        except Exception as error:
            print(error, file=sys.stderr)
    sys.exit(75)

folder = Path(sys.argv[1])
head = {"num_cpus": 0, "include_dashboard": False}
cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
nodes = [patiently(lambda: cluster.add_node(num_cpus=1, object_store_memory=80 << 20)) for _ in range(2)]
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
os.environ["RAY_ADDRESS"] = cluster.address
executor = Ray().make(site(folder=folder / "jobs", device="cpu"))
try:
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    future = executor.submit(tells_its_node_and_waits, folder)
    while not (began := list(folder.glob("*.began"))):
        assert not future.done(), future.exception()
        time.sleep(0.05)
    first = began[0].stem
    cluster.remove_node(next(node for node in nodes if node.node_id == first), allow_graceful=False)
    found = [first, future.result(600), executor.submit(divmod, 7, 2).result(600)]
    (folder / "found.json").write_text(json.dumps(found))  # not printed: Ray writes there too
finally:
    executor.close()
    cluster.shutdown()
"""


def tells_its_node_and_waits(folder: Path) -> str:
    import ray

    node = ray.get_runtime_context().get_node_id()
    alone = not list(folder.glob("*.began"))
    (folder / f"{node}.began").touch()
    if alone:
        time.sleep(3600)
    return node


@pytest.mark.slow
def test_a_machine_that_is_lost_costs_a_try(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NODES, tmp_path], capture_output=True, text=True, check=False)
    if done.returncode == 75:
        pytest.skip(
            "this machine is too busy to start the machines of Ray's test cluster in the time that Ray gives them"
        )
    assert done.returncode == 0, done.stderr
    first, second, result = json.loads((tmp_path / "found.json").read_text())
    assert first != second
    assert len(list(tmp_path.glob("*.began"))) == 2
    assert result == [3, 1]


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    (tmp_path / "bert").symlink_to(bert)
    return write_study(tmp_path / "study.toml", study_words(bert, tmp_path, encoders=["bert"], seeds=[1, 2]))


@pytest.mark.slow
def test_a_study_whose_driver_is_killed_goes_on_and_ends_with_the_numbers_of_one_process(
    study: Path, tmp_path: Path, command: Command, on_ray: OnRay
) -> None:
    store = tmp_path / "ray"
    line = [sys.executable, "-m", "layover.cli", "run", str(study), "--store", str(store), "--executor", "ray"]
    driver = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 2 * WAIT
    while not list(store.glob("steps/*")):
        assert driver.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    cluster = children(driver.pid)
    cluster += [pid for process in cluster for pid in children(process)]
    driver.kill()
    driver.wait()
    assert len(cluster) > 2
    assert gone(cluster, WAIT)
    for left in ray_cluster.TEMPORARY.glob(f"layover-ray-{driver.pid}-*"):
        shutil.rmtree(left)
    on_ray().close()  # the command is connected as this process is
    again = command("run", study, "--store", store, "--executor", "ray")
    assert again.code == 0, again.err
    assert "0 failed" in again.out
    assert command("run", study, "--store", tmp_path / "here").code == 0
    assert numbers(store) == numbers(tmp_path / "here")
    assert list((store / "claims").iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_ends_the_run_in_good_order_and_the_cluster_with_it(study: Path, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "run", str(study), "--executor", "ray")
    terminal.read(until="[1/6] ")
    cluster = children(terminal.process.pid)
    terminal.interrupt()
    assert terminal.end() == 130, terminal.shown
    assert "stopping: what runs writes its checkpoint first" in terminal.shown
    assert "stopped; run the same command again to go on" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert cluster
    assert gone(cluster, WAIT)
    assert list(ray_cluster.TEMPORARY.glob(f"layover-ray-{terminal.process.pid}-*")) == []

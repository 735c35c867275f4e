"""Fixtures that any test may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.kit import Command, make_encoder, make_generator, site

from layover.kinds import WORK

# how long an example takes says something of the machine and what else it does, and nothing of the code
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the user's settings, waits for the network, or leaves fake work to the next."""
    for kind, work in WORK.items():
        monkeypatch.setitem(WORK, kind, work)
    for name in ("LAYOVER_STORE", "LAYOVER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`encoder("bert")` is the directory of a tiny random encoder of that family, made once."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = make_encoder(tmp_path_factory.mktemp("encoders") / family, family)
        return made[family]

    return get


@pytest.fixture(scope="session")
def bert(encoder: Callable[[str], Path]) -> Path:
    return encoder("bert")


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny random causal language model."""
    return make_generator(tmp_path_factory.mktemp("generators") / "tiny")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """The command, run in an empty folder."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Any]]:
    """`on_ray(workers=2)` is an executor on a Ray cluster with two cores and one GPU that it only says it has.

    The cluster is started once for all tests of a module: it takes seconds.
    """
    pytest.importorskip("ray", reason="Ray is not installed")
    from layover.executors.ray import Ray

    folder = tmp_path_factory.mktemp("ray")

    def make(**words: Any) -> Any:
        return Ray().make(site(folder=folder / "jobs", **words))

    cluster = Ray(address="local", num_cpus=2, num_gpus=1).make(site(folder=folder / "cluster"))
    try:
        yield make
    finally:
        cluster.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the slow tests first, so that no worker is left alone with one at the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)

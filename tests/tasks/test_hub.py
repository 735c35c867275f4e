"""Reading from the Hub, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from layover.errors import HubError, MissingExtra
from layover.tasks import TASKS
from layover.tasks.formats import Single
from layover.tasks.load import locate, read
from layover.tasks.task import Hub, Task

TASK = Task("mine", 1, Single("text"), ("accuracy",), labels=("no", "yes"), hub=Hub("a/b", "c", "d" * 40))


def test_rows_come_from_the_pinned_revision_with_integer_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "y"])})
    asked = []

    def load_dataset(*args, **options):
        asked.append((args, options))
        return datasets.Dataset.from_list([{"text": "a", "label": 1}, {"text": "b", "label": 0}], features=features)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert [e.label for e in read(TASK, locate(TASK, []), "train")] == [1, 0]
    assert asked == [(("a/b", "c"), {"revision": "d" * 40, "split": "train"})]


def test_rows_that_are_one_row_of_the_release_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    answers = [(0, 0, "a", 1), (0, 0, "b", 0), (0, 1, "c", 0), (1, 2, "d", 1)]
    rows = [
        {"paragraph": f"text {p}", "question": f"{q}?", "answer": a, "label": x, "idx": {"paragraph": p, "question": q}}
        for p, q, a, x in answers
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows)
    task = TASKS.get("multirc")
    found = read(task, locate(task, []), "validation")
    assert [(e.row, e.part, e.label) for e in found] == [(0, 0, 1), (0, 0, 0), (0, 1, 0), (1, 0, 1)]
    rows[2]["label"] = 7
    with pytest.raises(Exception, match=r"multirc@3de24cf8022e validation, row 1: .*holds 7, which is not a label"):
        read(task, locate(task, []), "validation")


class Cached(list[dict[str, object]]):
    cache_files: ClassVar = [{"filename": f"/cache/a___b/c/0.0.0/{'e' * 40}/b-train.arrow"}]


def test_another_revision_from_the_cache_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **o: Cached([{"text": "a", "label": 1}]))
    with pytest.raises(HubError, match=f"the cache has another revision of it: {'e' * 40}"):
        read(TASK, locate(TASK, []), "train")
    right = replace(TASK, hub=Hub("a/b", "c", "e" * 40))
    assert len(read(right, locate(right, []), "train")) == 1


def test_a_bad_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **o: [{"text": "a", "label": -1}])
    with pytest.raises(Exception, match="a/b/c@dddddddddddd validation, row 1: field 'label' holds -1"):
        read(TASK, locate(TASK, []), "validation")


@pytest.mark.parametrize("error", [ConnectionError("no route"), FileNotFoundError("no such set"), ValueError("config")])
def test_whatever_goes_wrong_is_a_hub_error_with_the_way_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    datasets = pytest.importorskip("datasets")

    def load_dataset(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(HubError) as caught:
        read(TASK, locate(TASK, []), "train")
    text = str(caught.value)
    for part in ("task 'mine'", "a/b/c@dddddddddddd", str(error), "--data DIR", "DIR/mine/{train,validation}.{jsonl",
                 "HF_HOME", "HF_HUB_OFFLINE=1"):  # fmt: skip
        assert part in text


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'layover\[hub\]'") as caught:
        read(TASK, locate(TASK, []), "train")
    assert "task 'mine'" in str(caught.value)


def in_a_fresh_process(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_offline_and_not_cached(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = (
        "from layover.tasks import TASKS\nfrom layover.tasks.load import locate, read\n"
        "from layover.errors import HubError\n"
        "task = TASKS.get('cola')\n"
        "try:\n    read(task, locate(task, []), 'train')\nexcept HubError as error:\n    print(error)\n"
    )
    done = in_a_fresh_process(code, tmp_path)
    assert "task 'cola': split 'train' of nyu-mll/glue/cola@bcdcba79d07b cannot be had from the Hub" in done.stdout
    assert done.stderr == ""


def test_no_progress_bar_and_the_layout_of_a_converted_revision(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    code = f"""
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from layover.tasks.formats import Single
from layover.tasks.load import locate, read
from layover.tasks.task import Hub, Task
for split in ("train", "validation", "test"):
    folder = Path({str(tmp_path)!r}, "repo", "default", split)
    folder.mkdir(parents=True)
    pq.write_table(pa.table({{"text": [split], "label": [1]}}), folder / "0000.parquet")
hub = Hub({str(tmp_path / "repo")!r}, None, "0" * 40)
task = Task("mine", 1, Single("text"), ("accuracy",), labels=("no", "yes"), hub=hub)
for split in ("train", "validation"):
    print(read(task, locate(task, []), split)[0].inputs[0][0][0])
"""
    done = in_a_fresh_process(code, tmp_path / "home")
    assert done.stdout.split() == ["train", "validation"]
    assert done.stderr == ""


def test_nothing_heavy_is_imported_to_read_a_file() -> None:
    code = (
        "import sys\nfrom layover.tasks import TASKS\nimport layover.tasks.load\nassert len(TASKS.names()) > 20\n"
        "heavy = ('torch', 'transformers', 'datasets', 'pyarrow', 'pandas', 'pydantic', 'sklearn', 'scipy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = in_a_fresh_process(code, Path())
    assert done.stdout.strip() == "[]", done.stderr


def test_revisions_are_pinned() -> None:
    for task in TASKS:
        if task.hub:
            assert len(task.hub.revision) == 40, task.name

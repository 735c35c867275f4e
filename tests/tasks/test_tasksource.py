"""tasksource's declarations as tasks, without a network; what needs the package is skipped where it is absent."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.kit import HERE, trained

from layover.errors import HubError, MissingExtra, StudyError, TaskError
from layover.kinds.common import data_of
from layover.metrics import fitting
from layover.plan import compile_plan
from layover.step import Recipe, Train
from layover.store import Store
from layover.study import Study
from layover.tasks import TASKS
from layover.tasks.example import Omitted
from layover.tasks.formats import Choice, Pair
from layover.tasks.hub import pinned
from layover.tasks.load import load, locate, read, resolved
from layover.tasks.spans import Tagging
from layover.tasks.task import Hub, Task
from layover.tasks.tasksource import SHAPES

ELEVEN = [str(i) for i in range(11)]
COMMIT, OTHER = "a" * 40, "b" * 40


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    return pytest.importorskip("tasksource", reason="tasksource is not installed: pip install 'layover[tasksource]'")


class Api:
    """A Hub that is at one commit."""

    asked: list[tuple[str, str | None]]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        import huggingface_hub

        self.asked = []

        class Info:
            sha = COMMIT

        def dataset_info(repo: str, revision: str | None, timeout: float) -> Info:
            if error:
                raise error
            self.asked.append((repo, revision))
            return Info()

        class Client:
            def __init__(self) -> None:
                self.dataset_info = dataset_info

        monkeypatch.setattr(huggingface_hub, "HfApi", Client)


def unpinned() -> Task:
    hub = Hub("org/set", "small", "", load=lambda _: {}, by="maker-1.0")
    return Task("maker:set", 1, Pair("a", "b"), ("accuracy",), ("no", "yes"), hub=hub)


def test_without_the_package_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tasksource", None)
    with pytest.raises(MissingExtra, match=r"'tasksource:glue/rte' needs .*\n.*pip install 'layover\[tasksource\]'"):
        TASKS.get("tasksource:glue/rte")
    with pytest.raises(StudyError, match=r"tasks.target\[0\]: task 'tasksource:glue/rte' needs the package"):
        study("tasksource:glue/rte")


def study(*targets: str, encoder: str = "minilm", **words: Any) -> Study:
    tasks = {"target": list(targets)}
    direct = {"direct": {"kind": "direct"}}
    return Study(name="s", encoders=[encoder], seeds=[1], tasks=tasks, strategies=direct, placement=HERE, **words)


def test_a_revision_is_pinned_under_a_name_that_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(monkeypatch)
    task = pinned(unpinned())
    assert task.name == f"maker:set@{COMMIT}"
    assert locate(task, []).digest == f"hub:org/set/small@{COMMIT}+maker-1.0"
    assert pinned(task) is task
    assert pinned(TASKS.get("rte")) is TASKS.get("rte")
    assert api.asked == [("org/set", None)]


def test_without_network_the_one_cached_commit_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    Api(monkeypatch, ConnectionError("no route"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        HubError, match=r"task 'maker:set': .*org/set/small@newest .*the cache has none of it\n.*pin one"
    ):
        pinned(unpinned())
    snapshots = tmp_path / "datasets--org--set" / "snapshots"
    (snapshots / OTHER).mkdir(parents=True)
    assert pinned(unpinned()).name == f"maker:set@{OTHER}"
    (snapshots / COMMIT).mkdir()
    with pytest.raises(HubError, match=rf"the cache has 2 revisions: {COMMIT}, {OTHER}"):
        pinned(unpinned())


PREPARED: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("Classification", {"sentence1": "a", "sentence2": "b", "labels": "x"}, {"sentence1": "a", "sentence2": "b"}),
    ("Classification", {"sentence1": "a", "labels": "x"}, {"sentence1": "a", "sentence2": ""}),
    ("Classification", {"sentence1": " ", "sentence2": "b", "labels": "x"}, {"sentence1": "b", "sentence2": ""}),
    ("Classification", {"sentence1": "", "sentence2": None, "labels": "x"}, None),
    ("Classification", {"sentence1": "a", "labels": None}, None),
    ("MultipleChoice", {"inputs": "q", "choice0": "a", "choice1": "b", "labels": 1}, {"choices": ["a", "b"]}),
    ("MultipleChoice", {"inputs": None, "choice0": "a", "choice1": "b", "labels": 1}, {"inputs": ""}),
    ("MultipleChoice", {"choice0": "a", "choice1": "b", "choice2": None, "labels": 0}, {"choices": ["a", "b"]}),
    ("MultipleChoice", {**{f"choice{i}": i for i in reversed(ELEVEN)}, "labels": 0}, {"choices": ELEVEN}),
    ("MultipleChoice", {"inputs": "q", "choice0": "a", "choice1": " ", "choice2": "c", "labels": 2}, None),
    ("MultipleChoice", {"inputs": "q", "choice0": "a", "choice1": None, "labels": 0}, None),
    ("MultipleChoice", {"inputs": "q", "choice0": "a", "choice1": "b", "labels": -1}, None),
    ("TokenClassification", {"tokens": ["a", "b"], "labels": ["X", "O"]}, {"tokens": ["a", "b"]}),
    ("TokenClassification", {"tokens": ["a", ""], "labels": ["X", "O"]}, None),
    ("TokenClassification", {"tokens": ["a"], "labels": [None]}, None),
]  # fmt: skip


@pytest.mark.parametrize(("template", "row", "expected"), PREPARED)
def test_rows_are_made_ready_or_omitted(template: str, row: dict[str, Any], expected: dict[str, Any] | None) -> None:
    found = SHAPES[template].prepare(row)
    if expected is None:
        assert isinstance(found, list)
        assert isinstance(found[0], Omitted)
    else:
        assert isinstance(found, dict)
        assert found == {**row, **expected, **{key: found[key] for key in found if key not in {**row, **expected}}}
        assert list(SHAPES[template].format.examples(0, 0, {**found, "labels": found["labels"]}, anything(row)))


def anything(row: dict[str, Any]) -> Task:
    labels = () if "choice0" in row else ("O", "X", "x")
    return Task("t", 1, Pair("a", "b"), ("accuracy",), labels, label="labels")


def declared(identifier: str) -> Task | None:
    """The task of a declaration; None where its data is at an address that has no revisions."""
    try:
        return TASKS.get(f"tasksource:{identifier}")
    except TaskError as error:
        if "is not on the Hub and has no revision to pin" in str(error):
            return None
        raise


def test_hundreds_of_declarations_are_tasks(package: Any) -> None:
    formats: Counter[type] = Counter()
    refused: list[str] = []
    for identifier in package.list_tasks().id:
        task = declared(identifier)
        if task is None:
            refused.append(identifier)
            continue
        formats[type(task.format)] += 1
        assert task.name == f"tasksource:{identifier}"
        assert task.hub is not None
        assert task.hub.repo.count("/") == 1
        assert task.about
        assert set(task.metrics) <= set(fitting(task.format.scored, len(task.labels)))
        assert len(task.labels) != 1
        assert task.labels or task.labels_in_data or task.output in ("choice", "value")
        assert (task.bounds is not None) == (task.output == "value")
    assert formats[Pair] > 400
    assert formats[Choice] > 80
    assert formats[Tagging] > 10
    assert len(refused) < 10


def test_a_declaration(package: Any) -> None:
    from importlib.metadata import version

    task = TASKS.get(f"tasksource:glue/mnli@{COMMIT}")
    assert task.hub is not None
    assert task.hub.digest == f"hub:nyu-mll/glue/mnli@{COMMIT}+tasksource-{version('tasksource')}"
    assert task.name == f"tasksource:glue/mnli@{COMMIT}"
    ratings = TASKS.get("tasksource:glue/stsb")
    assert (ratings.output, ratings.bounds, ratings.primary) == ("value", (0.0, 5.0), "spearman")


def test_wrong_names_are_told(package: Any) -> None:
    with pytest.raises(StudyError) as caught:
        study("tasksource:glue/rtee", "tasksource:glue/rte@main", "rtee")
    expected = (
        "tasks.target[0]: tasksource has no task called 'glue/rtee'",
        "did you mean 'tasksource:glue/rte'?",
        "tasks.target[1]: 'main' is not a commit",
        "tasks.target[2]: there is no task called 'rtee'",
    )
    assert [part for part in expected if part not in str(caught.value)] == []


def rows_of(n: int, **columns: Any) -> list[dict[str, Any]]:
    return [{name: value(i) if callable(value) else value for name, value in columns.items()} for i in range(n)]


@pytest.fixture
def hub(package: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """`hub(features, rows)`: what `datasets.load_dataset` gives to tasksource; the returned list is what was asked."""
    import datasets

    from layover.tasks import tasksource

    tasksource._loaded.cache_clear()
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    Api(monkeypatch)

    def serve(rows: list[dict[str, Any]], **features: Any) -> list[Any]:
        asked: list[Any] = []

        def load_dataset(repo: str, config: str | None, **options: Any) -> Any:
            asked.append((repo, config, options))
            made = datasets.Dataset.from_list(rows, features=datasets.Features(features))
            splits: dict[str, Any] = {"train": made, "validation": made.select(range(6)), "test": made.select(range(4))}
            return datasets.DatasetDict(
                {name: datasets.Dataset.from_list(list(s), s.features) for name, s in splits.items()}
            )

        monkeypatch.setattr(package.access, "load_dataset", load_dataset)
        return asked

    return serve


def loaded(name: str) -> tuple[Task, Any]:
    task = pinned(TASKS.get(name))
    source = locate(task, [])
    return resolved(task, source), read(task, source, "train")


def test_pairs_and_their_label_names(hub: Any) -> None:
    import datasets

    names = datasets.ClassLabel(names=["entailment", "not_entailment"])
    rows = rows_of(12, sentence1=lambda i: f"one {i}", sentence2="two", label=lambda i: i % 2, idx=0)
    text = datasets.Value("string")
    asked = hub(rows, sentence1=text, sentence2=text, label=names, idx=datasets.Value("int32"))
    task, examples = loaded("tasksource:glue/rte")
    assert asked == [("nyu-mll/glue", "rte", {"revision": COMMIT})]
    assert task.labels == ("entailment", "not_entailment")
    assert [(e.inputs, e.label) for e in examples[:2]] == [
        (((("one 0",), ("two",)),), 0), (((("one 1",), ("two",)),), 1)
    ]  # fmt: skip


def test_one_text_is_read_alone(hub: Any) -> None:
    import datasets

    rows = rows_of(12, question=lambda i: f"word {i}", label=lambda i: i % 2)
    hub(rows, question=datasets.Value("string"), label=datasets.ClassLabel(names=["False", "True"]))
    task, examples = loaded("tasksource:super_glue/boolq")
    assert task.labels == ("False", "True")
    assert examples[1].inputs == ((("word 1",), None),)


def test_numbers_choices_and_words(hub: Any) -> None:
    import datasets

    text = datasets.Value("string")
    rows = rows_of(12, sentence1="a", sentence2="b", label=lambda i: i / 4)
    hub(rows, sentence1=text, sentence2=text, label=datasets.Value("float32"))
    assert [e.label for e in loaded("tasksource:glue/stsb")[1][:3]] == [0, 0.25, 0.5]

    choices = {"text": ["a", "b", "c", "d"], "label": list("ABCD")}
    rows = rows_of(12, question_stem="it fell", choices=choices, answerKey=lambda i: "ABCD"[i % 4])
    hub(rows, question_stem=text, choices={"text": datasets.List(text), "label": datasets.List(text)}, answerKey=text)
    task, examples = loaded("tasksource:openbookqa")
    assert isinstance(task.format, Choice)
    right = [example.inputs[int(example.label)][1] for example in examples[:4]]
    assert right == [("a",), ("b",), ("c",), ("d",)]  # in whatever order tasksource puts them

    tags = datasets.ClassLabel(names=["O", "B-PER"])
    rows = rows_of(12, tokens=["Ida", "called"], ner_tags=[1, 0], pos_tags=[0, 0], chunk_tags=[0, 0])
    columns = dict.fromkeys(("ner_tags", "pos_tags", "chunk_tags"), datasets.List(tags))
    hub(rows, tokens=datasets.List(text), **columns)
    task, examples = loaded("tasksource:conll2003/ner_tags")
    assert task.labels == ("B-PER", "O")
    assert [t.labels for t in examples[0].targets] == [(0.0,), (1.0,)]


def test_numbers_without_a_range_are_refused(hub: Any) -> None:
    import datasets

    text = datasets.Value("string")
    rows = rows_of(12, sentence1="a", sentence2="b", label=lambda i: i / 7)
    hub(rows, sentence1=text, sentence2=text, label=datasets.Value("float32"))
    with pytest.raises(
        TaskError, match=r"row 2: field 'labels' holds 0.14.*: numbers, whose range tasksource does not declare"
    ):
        loaded("tasksource:glue/wnli")


def test_a_plan_pins_the_commit_and_a_worker_reads_it(hub: Any, bert: Path, tmp_path: Path) -> None:
    import datasets

    text = datasets.Value("string")
    rows = rows_of(24, sentence1=lambda i: f"the film {i}", sentence2="was good", label=lambda i: i % 2)
    hub(rows, sentence1=text, sentence2=text, label=datasets.ClassLabel(names=["no", "yes"]))
    plan = compile_plan(study("tasksource:glue/rte", encoder=str(bert)))
    again = compile_plan(study(f"tasksource:glue/rte@{COMMIT}", encoder=str(bert)))
    assert list(plan.steps) == list(again.steps)
    step = next(iter(plan.steps.values()))
    assert isinstance(step, Train)
    assert step.task.name == f"tasksource:glue/rte@{COMMIT}"
    assert "tasksource:glue/rte · s1" in next(iter(plan.labels.values()))
    data = data_of(step.task, Store.open(tmp_path / "store"), plan.places)
    assert data.task.labels == ("no", "yes")
    assert len(trained(bert, data, tmp_path, Recipe(epochs=1, max_length=32)).decoded.predictions) == 6


def test_a_limit_and_a_holdout_are_drawn_from_such_a_task(hub: Any) -> None:
    import datasets

    rows = rows_of(20, question=lambda i: f"word {i}", label=lambda i: i % 2)
    hub(rows, question=datasets.Value("string"), label=datasets.ClassLabel(names=["False", "True"]))
    task = pinned(TASKS.get("tasksource:super_glue/boolq"))
    data = load(task, locate(task, []), selection="holdout", holdout=0.25, limit_train=8)
    assert (len(data.train), len(data.selection), len(data.validation)) == (6, 2, 6)

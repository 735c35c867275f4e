"""Model card: what a trained model is, for people and for the Hub: its lineage, recipe, data, scores, use and limits.

Written in the Hub's form: metadata in YAML, then Markdown (huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from layover.encoders import ALIASES
from layover.errors import UserError
from layover.kinds.common import task_of
from layover.markdown import plain, table
from layover.recipe import Recipe
from layover.step import Joint, Member, Merge, TaskRef, Train, from_json
from layover.tasks import TASKS, Task
from layover.tasks.task import Hub

PIPELINES = {
    "SequenceClassification": "text-classification",
    "MultipleChoice": "multiple-choice",
    "QuestionAnswering": "question-answering",
    "TokenClassification": "token-classification",
    "MaskedLM": "fill-mask",
}
HUB_METRICS = {"mcc": "matthews_correlation", "macro_f1": "f1", "micro_f1": "f1", "pearson": "pearsonr",
               "spearman": "spearmanr"}  # fmt: skip
Facts = Mapping[str, Any]


def model_card(facts: Facts, kind: str) -> str:
    """The README of a model that was exported.

    `facts` is the content of its `layover.json`, and `kind` says which AutoModelFor... loads it.
    """
    facts = {**facts, "label": _short(facts["label"])}
    facts["steps"] = [{**record, "label": _short(record["label"])} for record in facts["steps"]]
    parts = [_title(facts), _loading(kind), _reading(facts), _lineage(facts), _scores(facts), _selection(facts)]
    parts += [_recipe(facts), _data(facts), _limits(facts), _provenance(facts)]
    return f"---\n{metadata(facts, kind)}\n---\n\n" + "\n".join(parts)


def _short(label: str) -> str:
    """A label in which an encoder that was named by its path is called by its folder: a card goes to others."""
    return re.sub(r"(?<!\S)(?:[A-Za-z]:)?[/\\](?:[^\s/\\]+[/\\])+", "", label)


def metadata(facts: Facts, kind: str) -> str:
    """The metadata as YAML: only what is known. No licence: what follows from the data's is for people to say."""
    from huggingface_hub import EvalResult, ModelCardData

    last, tasks, pipeline = facts["steps"][-1], _tasks(facts), PIPELINES[kind]
    name, hub = tasks[-1].ref.name, tasks[-1].hub
    shown = [row for row in last["scores"] if row["split"] == "validation"]
    results = [
        EvalResult(
            task_type=pipeline,
            dataset_type=hub.repo if hub else name,
            dataset_name=name,
            dataset_config=hub.config if hub else None,
            dataset_split=hub.validation if hub else "validation",
            dataset_revision=(hub.revision or None) if hub else None,
            metric_type=_metric(row),
            metric_name=f"{row['metric']}, in points",
            metric_value=round(row["value"], 4),
        )
        for row in shown
    ]
    found = ModelCardData(
        model_name=facts["label"],
        library_name="transformers",
        pipeline_tag=pipeline,
        base_model=_base_model(facts["encoder"]),
        datasets=list(dict.fromkeys(one.hub.repo for one in tasks if one.hub)) or None,
        language="en" if all(_is_english(one.task) for one in tasks) else None,
        metrics=list(dict.fromkeys(map(_metric, shown))),
        tags=["layover", *(["intermediate-task-transfer"] if len(tasks) > 1 else [])],
        eval_results=results or None,
    )
    return found.to_yaml().strip()


def _metric(row: Facts) -> str:
    """A metric as the Hub calls it."""
    name = str(row["metric"])
    return HUB_METRICS.get(name, name)


def _is_english(task: Task | None) -> bool:
    """Whether a task is known to be in English: the released ones that come with layover all are."""
    return task is not None and task.name in TASKS.names() and task.generate is None


def _base_model(encoder: str) -> str | None:
    """The Hub id of an encoder's identity; None where only a digest is known."""
    if encoder.startswith("hub:"):
        return encoder.removeprefix("hub:").partition("@")[0]
    return next((alias.hub.partition("@")[0] for alias in ALIASES.values() if alias.identity == encoder), None)


def _encoder(encoder: str) -> str:
    """An encoder for people: its Hub id and commit, or the digest of its files."""
    known = [alias.hub for alias in ALIASES.values() if alias.identity == encoder]
    return f"{known[0]} ({encoder[:19]}...)" if known else encoder


@dataclass(frozen=True)
class Used:
    """A task that the weights were trained on: what a step takes of it, and its declaration where that is known."""

    ref: TaskRef
    task: Task | None
    record: Facts

    @property
    def hub(self) -> Hub | None:
        """Its data set on the Hub, where it has one."""
        return self.task.hub if self.task else None


def _tasks(facts: Facts) -> list[Used]:
    """Every task that the weights were trained on, in order, each once."""
    found: dict[str, Used] = {}
    for record in facts["steps"]:
        step = from_json(record) if "step" in record else None
        for ref in step.tasks if isinstance(step, Train | Member | Joint) else ():
            with suppress(UserError):  # a package that this installation lacks
                found.setdefault(ref.name, Used(ref, task_of(ref), record))
            found.setdefault(ref.name, Used(ref, None, record))
    return list(found.values())


def _title(facts: Facts) -> str:
    stages = " → ".join(facts["lineage"])
    return (
        f"# {facts['label']}\n\n"
        f"A `{facts['class']}` that [layover](https://pypi.org/project/layover/) {facts['layover']} trained: {stages}. "
        "Everything that is known of it is in `layover.json`.\n"
    )


def _loading(kind: str) -> str:
    return (
        f"## How to load it\n\n```python\nfrom transformers import AutoModelFor{kind}, AutoTokenizer\n\n"
        f'model = AutoModelFor{kind}.from_pretrained(".")  # this folder\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n```\n'
    )


def _reading(facts: Facts) -> str:
    given = facts["input"]
    lines = [
        f"## What it reads\n\n{given['reads']}\n",
        *(f"- {name}: `{value}`" for name, value in given["fields"].items()),
    ]
    lines.append(f"- tokens at most: {given['max_length']}")
    lines += [f"- labels: {', '.join(given['labels'])}"] if given["labels"] else []
    return "\n".join([*lines, *(f"\n{note}" for note in facts["notes"])]) + "\n"


def _lineage(facts: Facts) -> str:
    """One row per step, from the plain encoder on."""
    rows = [["0", "encoder", plain(_encoder(facts["encoder"])), "", ""]]
    for number, record in enumerate(facts["steps"], 1):
        step = from_json(record) if "step" in record else None
        seed = getattr(step, "seed", "")
        what = "+".join(ref.name for ref in step.tasks) if step and step.tasks else "no longer in the store"
        what = f"{step.method} of the above" if isinstance(step, Merge) else what
        what = plain(f"{what} ({record['label'] or 'no label'})")
        rows.append([str(number), record.get("kind", ""), what, str(seed), f"`{record['key']}`"])
    return f"## Where it comes from\n\n{table(['', 'kind', 'what', 'seed', 'step key'], rows)}\n"


def _scores(facts: Facts) -> str:
    rows = [
        [plain(step["label"] or step["key"]), str(step["step"]["seed"]), plain(score["metric"]), score["split"],
         f"{score['value']:.2f}", plain(score["status"])]
        for step in facts["steps"]
        for score in step.get("scores", [])
    ]  # fmt: skip
    return f"## Scores\n\n{table(['step', 'seed', 'metric', 'split', 'points', 'status'], rows)}\n"


def _selection(facts: Facts) -> str:
    """How the weights and settings were chosen, and therefore what the scores are."""
    last = facts["steps"][-1]
    ref, known = last["step"]["task"], last["provenance"]
    on = "the validation set itself" if ref["selection"] == "validation" else "examples held out of the training set"
    lines = ["The scores are of the validation set, in points (0-100); no test set was looked at."]
    if known["recipe"]["checkpoint"] == "best" and "selection" in {row["split"] for row in last["scores"]}:
        held = known.get("examples", {}).get("selection")
        count = f"{held} " if held and ref["selection"] != "validation" else ""
        lines.append(f"The weights are those of the optimizer step with the best {ref['select_by']} on {count}{on}.")
        if ref["selection"] == "validation":
            lines.append("The validation scores were selected on, and are therefore optimistic.")
    else:
        lines.append("The weights are the last ones: none were selected.")
    if last["step"].get("recipe_from"):
        lines.append(f"A sweep chose settings of the recipe, on {on} (step `{last['step']['recipe_from']}`).")
    lines.append("They are of one run with one seed: another seed gives other scores.")
    return "\n".join(lines) + "\n"


def _recipe(facts: Facts) -> str:
    """The settings of every training, of which only those that differ from the defaults have a row of their own."""
    usual, found = Recipe(), [step for step in facts["steps"] if step.get("provenance", {}).get("recipe")]
    main = ("learning_rate", "batch_size", "epochs", "max_length", "schedule", "warmup", "checkpoint", "precision")
    names = [*main, *(n for n in usual.__dict__ if n not in main and any(_set(s, n, usual) for s in found))]
    head = ["setting", *(plain(step["label"] or step["key"]) for step in found)]
    rows = [[name, *(plain(str(s["provenance"]["recipe"].get(name))) for s in found)] for name in names]
    return f"## Recipe\n\n{table(head, rows)}\n\nEverything else is layover's default for this version.\n"


def _set(step: Facts, name: str, usual: Recipe) -> bool:
    return step["provenance"]["recipe"].get(name) != getattr(usual, name)


def _data(facts: Facts) -> str:
    """The data of every task: what pins it, how much of it was used, and what is known of where it may be used."""
    rows = []
    for one in _tasks(facts):
        count = (one.record["provenance"].get("examples") or {}).get("train", "")
        said = [one.task.source, one.task.licence] if one.task else []
        where = "; ".join(filter(None, said)) or "layover knows of none"
        rows.append([plain(one.ref.name), f"`{one.ref.data}`", str(count), plain(where)])
    return (
        "## Data and its licences\n\n"
        + table(["task", "data", "examples trained on", "source and licence"], rows)
        + "\n\nNo licence is set for this model: the encoder's and those of this data decide which one it can have.\n"
    )


def _limits(facts: Facts) -> str:
    last = _tasks(facts)[-1]
    question = last.task.about if last.task and last.task.about else f"what the task {last.ref.name} asks."
    lines = [
        f"## Intended use and limits\n\nMade to study transfer between tasks. It answers one thing: {question}\n",
        f"- It has seen inputs of at most {facts['input']['max_length']} tokens in the form above: its scores say "
        "nothing of others.",
        "- Nothing was done about biases in the encoder or the data, and nothing about them was measured.",
        "- To train on, take its encoder alone (`model.base_model`) and a new head.",
    ]
    statuses = {row["status"] for row in facts["steps"][-1]["scores"]} - {"ok"}
    lines += [f"- **The run is marked {status}.**" for status in sorted(statuses)]
    return "\n".join(lines) + "\n"


def _provenance(facts: Facts) -> str:
    versions: Mapping[str, str] = facts["steps"][-1]["provenance"]["versions"]
    named: Sequence[str] = [f"{name} {version}" for name, version in versions.items()]
    return f"## Provenance\n\nStep `{facts['key']}`, with {', '.join(named)}.\n"

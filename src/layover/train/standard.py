"""Standard: a trained encoder and head as a model of a standard transformers class, with the same predictions.

A head is one linear layer. For tokens, most standard classes have just that. For whole inputs they put a dense layer
and an activation before it, ModernBERT's a layer norm too. There the dense layer computes the scores s and -s, and the
last layer their difference, in which the activation f is undone, since f(s) - f(-s) is

    s itself, where f is gelu, relu or silu (f(s) = s g(s) with g(s) + g(-s) = 1);
    2 s, where f is tanh and s is small: s is scaled by 2^-12, and tanh(e s) / e differs from s by e^2 s^3 / 3;

and a layer norm is made to divide by a constant, by two more outputs, k and -k, so large that they alone decide the
variance (there the activation is a setting, and set to none). All of these keep the order of the scores. Which one a
class needs is found by trying, not by a table of families, and every model is compared with the linear layer that it
stands for before it is given out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from layover.errors import Problem, UserError
from layover.tasks.example import Reads
from layover.tasks.task import Task
from layover.train.determinism import quiet
from layover.train.masked import in_model

SMALL = 2.0**-12  # of a score of 20, tanh keeps all but 8e-6; smaller would be too small for half precision
LARGE = 2.0**13  # what a layer norm's variance is made of, beside scores of 20
WAYS = ((1.0, 1.0), (1.0, 2.0), (SMALL, 2 * SMALL))  # scale, and what f(s) - f(-s) is times s: gelu, none, tanh
TOLERANCE = 1e-4  # largest difference of a score, relative to the largest one where that is above 1
PROBES, PROBE_TOKENS = 4, 12  # random inputs on which a model is compared with its linear layer

SEQUENCE, CHOICE, ANSWER, TOKENS, MASKED = (
    "SequenceClassification", "MultipleChoice", "QuestionAnswering", "TokenClassification", "MaskedLM"
)  # fmt: skip


@dataclass(frozen=True)
class Linear:
    """Layover's head: `weight` [outputs, width] and `bias` [outputs]; what it says is times `gain` plus `offset`."""

    weight: torch.Tensor
    bias: torch.Tensor
    gain: float = 1.0
    offset: float = 0.0

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores [..., outputs] for vectors [..., width]."""
        return (hidden @ self.weight.T + self.bias) * self.gain + self.offset


def standard_class(task: Task) -> str | None:
    """What follows AutoModelFor in the name of the class that has a head like this task's; None where none has."""
    reads = task.format.reads
    if task.output in ("extent", "tokens"):
        return ANSWER if task.output == "extent" else MASKED
    if reads == Reads():
        return {"classes": SEQUENCE, "value": SEQUENCE, "choice": CHOICE}.get(task.output)
    tags = reads == Reads(sentence=False, marks=1, pool="first") and task.output == "classes"
    return TOKENS if tags else None


def standard_model(weights: Path, task: Task, pooling: str) -> Any:
    """The model of a standard class with the encoder and head in a folder of weights, in single precision.

    Raises UserError where transformers has no such class for the encoder's family, or where no weights make it compute
    what layover's head does.
    """
    import transformers

    quiet()
    kind = standard_class(task)
    assert kind is not None
    config = transformers.AutoConfig.from_pretrained(weights)
    if kind != MASKED:
        _configure(config, task, kind, pooling)
    place = f"{config.model_type} with {pooling} pooling, {task.name}"
    try:
        model = getattr(transformers, f"AutoModelFor{kind}").from_config(config, dtype=torch.float32)
    except ValueError:
        raise UserError(Problem(place, f"transformers has no class of this family for {kind}")) from None
    model.eval()
    encoder, head = load_file(weights / "encoder.safetensors"), load_file(weights / "head.safetensors")
    model.base_model.load_state_dict(encoder, strict=False)
    own = {f"{model.base_model_prefix}.{name}" for name in encoder}
    if not own <= set(model.state_dict()):
        raise UserError(Problem(place, f"the {type(model).__name__} of this transformers holds other weights"))
    if not all(bool(tensor.isfinite().all()) for tensor in (*encoder.values(), *head.values())):
        raise UserError(Problem(place, "its weights are not numbers: the loss of its run became NaN"))
    if kind == MASKED:
        return _with_masked_head(model, head, place)
    bias = head.get("linear.bias", torch.zeros(len(head["linear.weight"])))
    low, high = task.bounds or (0.0, 1.0)
    scaled = (high - low, low) if task.output == "value" else (1.0, 0.0)
    _fit(model, kind, pooling, Linear(head["linear.weight"], bias, *scaled), own, place)
    return model


def _with_masked_head(model: Any, weights: dict[str, torch.Tensor], place: str) -> Any:
    """The model with the head that predicts hidden tokens: its class has the very same one, found and tried."""
    model.tie_weights()
    head = in_model(model)
    if head is None or {name: p.shape for name, p in head.named_parameters()} != {
        n: p.shape for n, p in weights.items()
    }:
        what = f"the head of {type(model).__name__} is not of the form that layover trained"
        raise UserError(Problem(place, what, "the weights are safetensors: load the encoder with AutoModel"))
    head.load_state_dict(weights)
    return model


def _configure(config: Any, task: Task, kind: str, pooling: str) -> None:
    """Set what a class reads from its configuration: labels, and where the head's shape is a setting, that."""
    if kind == SEQUENCE:
        config.problem_type = "regression" if task.output == "value" else "single_label_classification"
    if kind in (SEQUENCE, TOKENS):
        config.id2label = dict(enumerate(task.labels)) if task.labels else {0: task.name}
    else:
        config.id2label = {0: "LABEL_0", 1: "LABEL_1"}  # an answer's begin and end; choices have no use for it
    config.label2id = {name: number for number, name in config.id2label.items()}
    if hasattr(config, "classifier_pooling"):
        config.classifier_pooling = {"first": "cls"}.get(pooling, pooling)
    if hasattr(config, "classifier_bias"):
        config.classifier_bias = True
    if hasattr(config, "classifier_activation"):
        config.classifier_activation = "linear"


def _fit(model: Any, kind: str, pooling: str, linear: Linear, own: set[str], place: str) -> None:
    """Give what a class adds to its encoder (whose weights are `own`) the weights that make it compute `linear`."""
    name, expected = type(model).__name__, _expected(model, kind, pooling, linear)
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))

    def difference(way: Callable[[], None]) -> float:
        way()
        return float((_scores(model, kind) - expected).abs().max())

    ways = _ways(model, linear, own, place)
    best = min(ways, key=difference, default=None)
    if best is None or not difference(best) <= allowed:
        what = f"no weights make {name} compute what layover's head does, which is one linear layer"
        raise UserError(Problem(place, what, "the weights are safetensors: load the encoder with AutoModel"))


def _ways(model: Any, linear: Linear, own: set[str], place: str) -> list[Callable[[], None]]:
    """What may be done with the layers that a class adds, each as a function that does it."""
    added = [part for name, part in model.named_modules() if f"{name}.weight" not in own]
    layers = [part for part in added if isinstance(part, nn.Linear)]
    norms = [part for part in added if isinstance(part, nn.LayerNorm)]
    if any(layer.bias is None or layer.in_features != linear.weight.shape[1] for layer in layers):
        return []
    if len(layers) == 1 and not norms:
        return [partial(_fill_directly, layers[0], linear)]
    if len(layers) != 2 or len(norms) > 1:
        return []
    room = (layers[0].out_features - 2 * len(norms)) // 2
    if len(linear.weight) > room:
        raise UserError(
            Problem(place, f"has {len(linear.weight):,} classes, {type(model).__name__} has room for {room}")
        )
    return [partial(_fill, layers, norms, linear, *way) for way in WAYS]


def _fill_directly(layer: nn.Linear, linear: Linear) -> None:
    with torch.no_grad():
        layer.weight.copy_(linear.weight * linear.gain)
        layer.bias.copy_(linear.bias * linear.gain + linear.offset)


def _fill(layers: list[nn.Linear], norms: list[nn.LayerNorm], linear: Linear, scale: float, gain: float) -> None:
    """Scores and their negatives, times `scale`, in the dense layer; their difference over `gain` in the last."""
    (dense, last), n = layers, len(linear.weight)
    with torch.no_grad():
        for parameter in (*dense.parameters(), *last.parameters()):
            parameter.zero_()
        for begin, sign in ((0, scale), (n, -scale)):
            dense.weight[begin : begin + n] = sign * linear.weight
            dense.bias[begin : begin + n] = sign * linear.bias
        for norm in norms:
            for parameter in norm.parameters():
                parameter.zero_()
            norm.weight.fill_(1.0)
            dense.bias[2 * n], dense.bias[2 * n + 1] = LARGE, -LARGE
            gain /= LARGE * math.sqrt(2 / dense.out_features)  # the deviation of these two among zeros
        identity = torch.eye(n) * (linear.gain / gain)
        last.weight[:, :n], last.weight[:, n : 2 * n] = identity, -identity
        last.bias.fill_(linear.offset)


def _probe(model: Any) -> dict[str, torch.Tensor]:
    """Random inputs [4, 12] of different lengths."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.config.vocab_size, (PROBES, PROBE_TOKENS), generator=draw)
    lengths = torch.tensor([PROBE_TOKENS, PROBE_TOKENS, PROBE_TOKENS // 2, PROBE_TOKENS // 3])
    return {"input_ids": ids, "attention_mask": (torch.arange(PROBE_TOKENS) < lengths.unsqueeze(1)).long()}


def _expected(model: Any, kind: str, pooling: str, linear: Linear) -> torch.Tensor:
    """What layover's head says of the probe, per input, or per token that is no padding."""
    probe = _probe(model)
    with torch.inference_mode():
        hidden = model.base_model(**probe).last_hidden_state
        mask = probe["attention_mask"].unsqueeze(-1)
        if kind in (ANSWER, TOKENS):
            return linear(hidden) * mask
        if pooling == "mean":
            return linear((hidden * mask).sum(1) / mask.sum(1))
        return linear(hidden[:, 0])


def _scores(model: Any, kind: str) -> torch.Tensor:
    """What the model says of the probe, in the same shape."""
    probe = _probe(model)
    with torch.inference_mode():
        if kind == CHOICE:
            return model(**{name: tensor.unsqueeze(0) for name, tensor in probe.items()}).logits.reshape(-1, 1)
        found = model(**probe)
        scores = torch.stack([found.start_logits, found.end_logits], dim=-1) if kind == ANSWER else found.logits
        return scores * probe["attention_mask"].unsqueeze(-1) if kind in (ANSWER, TOKENS) else scores


def save(model: Any, weights: Path, max_length: int, folder: Path) -> None:
    """Write a model, and the tokenizer in a folder of weights, which cuts where the run did, to a folder."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(weights)
    tokenizer.model_max_length = max_length
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

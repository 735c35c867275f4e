"""Masked: the head that predicts hidden tokens, and where it comes from.

Every family has the same one: a dense layer, an activation, a layer norm, then the encoder's own word vectors as the
decoder, and a bias (Devlin et al. 2019). Its parts are found in transformers' class for the encoder by their shapes and
then tried: what they give has to be what the class gives. Where the release has weights for them, these are taken.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from layover.encoders import location_parts
from layover.errors import EncoderError, Problem
from layover.tasks.example import Output
from layover.train import warm
from layover.train.batching import Batch
from layover.train.determinism import derive, quiet
from layover.train.heads import INITIAL_SD

PROBED = 12  # tokens on which a head is compared with the class that it was found in
CLOSE = 1e-4  # relative; another activation differs by 1e-2


class MaskedHead(nn.Module):
    """Dense layer, activation, layer norm, decoder and bias: a score for every token of the vocabulary.

    Only hidden tokens are decoded: scores are [targets, vocabulary]. The decoder is `embedding`, which stays the
    encoder's and is no part of this module, unless the release has one of its own, `decoder` [vocabulary, size].
    """

    output: Output = "tokens"
    reads_inputs = False
    bias: nn.Parameter | None
    decoder: nn.Parameter | None

    def __init__(
        self, dense: nn.Module, activation: nn.Module, norm: nn.Module, bias: Any, embedding: Any, decoder: Any = None
    ) -> None:
        super().__init__()
        self.dense, self.activation, self.norm = dense, activation, norm
        self.register_parameter("bias", bias)
        self.register_parameter("decoder", decoder)
        self._embedding = (embedding,)  # a tuple: it is no part of this module

    def forward(self, hidden: torch.Tensor, pooled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The scores of the batch's hidden tokens, for hidden states [rows, width]."""
        return self.scores(hidden[batch.spans[0].begins])

    def scores(self, vectors: torch.Tensor) -> torch.Tensor:
        """The scores [..., vocabulary] of vectors [..., width]."""
        found = self.norm(self.activation(self.dense(vectors)))
        weight = self._embedding[0].weight if self.decoder is None else self.decoder
        scores = functional.linear(found.to(weight.dtype), weight).float()
        return scores if self.bias is None else scores + self.bias

    def loss(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The sum over hidden tokens of cross-entropy."""
        return functional.cross_entropy(scores, batch.labels.long(), reduction="sum")

    def predict(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The ids of the most probable tokens [n]."""
        return scores.nan_to_num(nan=float("-inf"), neginf=float("-inf")).argmax(-1)

    def kept(self, scores: torch.Tensor, predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The log-probability of each right token [n, 1], in nats."""
        right = scores.gather(1, batch.labels.long().unsqueeze(1))
        return right - scores.logsumexp(-1, keepdim=True)

    def tied_to(self, encoder: Any) -> MaskedHead:
        """A copy of this head with the word vectors of an encoder as its decoder."""
        own = {name: copy.deepcopy(getattr(self, name)) for name in ("dense", "activation", "norm", "bias", "decoder")}
        return MaskedHead(**own, embedding=encoder.get_input_embeddings())


@dataclass(frozen=True)
class Known:
    """The head of an encoder's class, and whether the release has all of its weights."""

    head: MaskedHead
    released: bool


def head_for(location: str, encoder: Any, seed: int) -> MaskedHead:
    """A head for a copy of the encoder at `location`: the release's own where it has one, else one with new weights."""
    found = _known(location, warm.stamp(location))
    if found is not None and found.released:
        return found.head.tied_to(encoder)
    head = _plain(encoder) if found is None else found.head.tied_to(encoder)
    _initialise(head, torch.Generator().manual_seed(derive(seed, "head")))
    return head


def released_head(location: str, encoder: Any) -> MaskedHead | None:
    """The masked-LM head in the release at `location`, decoding with the word vectors of `encoder`; None without one.

    A trained encoder of the same release may be given, to see what its own head still makes of it.
    """
    found = _known(location, warm.stamp(location))
    return found.head.tied_to(encoder) if found is not None and found.released else None


def check_mask(tokenizer: Any, encoder: Any, location: str) -> None:
    """Raise EncoderError where an encoder cannot hide tokens: it has no mask token, or no vector for it."""
    mask, vectors = tokenizer.mask_token_id, encoder.get_input_embeddings().num_embeddings
    hint = (
        "name an encoder that was trained with one, such as bert-base-uncased or roberta-base; or no task of plain text"
    )
    if mask is None:
        raise EncoderError(Problem(location, "its tokenizer has no mask token, so that no token can be hidden", hint))
    if mask >= vectors:
        raise EncoderError(Problem(location, f"has no vector for its mask token: id {mask} of {vectors}", hint))


def in_model(model: Any) -> MaskedHead | None:
    """The head of a transformers model for masked LM, made of the model's own parts; None where it is of another form.

    Which activation it has is found by trying those that its configuration names.
    """
    base, embedding = model.base_model, model.base_model.get_input_embeddings()
    inside = {id(module) for module in base.modules()}
    added = [module for module in model.modules() if id(module) not in inside and module is not model]
    linears = [module for module in added if isinstance(module, nn.Linear)]
    dense = [linear for linear in linears if linear.in_features == model.config.hidden_size
             and linear.out_features == embedding.weight.shape[1]]  # fmt: skip
    norms = [module for module in added if type(module).__name__.endswith("Norm")]
    own = {id(p) for p in base.parameters()}
    others = {id(p): p for p in model.parameters() if id(p) not in own}.values()
    biases = [p for p in others if p.shape == embedding.weight.shape[:1]]
    decoders = [p for p in others if p.shape == embedding.weight.shape]
    if len(dense) != 1 or len(norms) != 1 or len(biases) > 1 or len(decoders) > 1:
        return None
    bias, decoder = next(iter(biases), None), next(iter(decoders), None)
    tried = (MaskedHead(dense[0], each, norms[0], bias, embedding, decoder) for each in _activations(model.config))
    return next((head for head in tried if _same(head, model)), None)


def _activations(config: Any) -> Iterator[nn.Module]:
    from transformers.activations import ACT2FN

    names = [getattr(config, key, None) for key in ("classifier_activation", "hidden_act", "hidden_activation")]
    for name in dict.fromkeys([*names, "gelu"]):
        if isinstance(name, str) and name in ACT2FN:
            yield ACT2FN[name]


def _same(head: MaskedHead, model: Any) -> bool:
    ids = torch.randint(model.config.vocab_size, (1, PROBED), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(input_ids=ids).logits
        found = head.scores(model.base_model(input_ids=ids).last_hidden_state)
    return found.shape == expected.shape and torch.allclose(found, expected, CLOSE, CLOSE * float(expected.abs().max()))


@lru_cache(maxsize=warm.KEPT)
def _known(location: str, stamp: Any) -> Known | None:
    """The head of the class that transformers has for an encoder; None where it has none, or one of another form."""
    from transformers import AutoModelForMaskedLM

    quiet()
    name, revision = location_parts(location)
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    options |= warm.trusting()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(warm.INITIAL_SEED)
            model, info = AutoModelForMaskedLM.from_pretrained(name, revision=revision, **options)
    except (OSError, ValueError, KeyError):  # there is no such class; that the encoder loads was seen before
        return None
    head = in_model(model.eval())
    if head is None:
        return None
    missing = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if name in info["missing_keys"]}
    return Known(head, missing.isdisjoint(map(id, head.parameters())))


def _plain(encoder: Any) -> MaskedHead:
    """A head for an encoder that transformers has no class for."""
    embedding = encoder.get_input_embeddings()
    dense = nn.Linear(encoder.config.hidden_size, embedding.embedding_dim)
    bias = nn.Parameter(torch.zeros(embedding.num_embeddings))
    return MaskedHead(dense, nn.GELU(), nn.LayerNorm(embedding.embedding_dim), bias, embedding)


def _initialise(head: MaskedHead, generator: torch.Generator) -> None:
    """New weights: matrices as in BERT and RoBERTa, nothing added, nothing scaled."""
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, INITIAL_SD, generator=generator)
            else:
                parameter.fill_(1.0 if name == "norm.weight" else 0.0)

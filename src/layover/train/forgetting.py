"""Forgetting: what a checkpoint has lost of the plain encoder that it began as, measured on held-out text.

Three answers. The masked-LM loss, through a head that knew the plain encoder: the release's own, or one that
was trained on it while it was frozen; decoder and all, so that what the checkpoint did to its word vectors counts. The
same tokens are hidden for all checkpoints. Then, layer by layer, how much the vectors of the text's tokens are still
alike (`layover.train.alike`; nothing hidden, special tokens left out), and how far the weights have moved (L2).

Layers are numbered as probes number them: 0 are the embeddings, i is what layer i gives. Where a checkpoint has fewer
layers than the plain encoder, the lowest ones of both are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from layover import pulse
from layover.errors import EncoderError, Problem, StepError
from layover.step import Places
from layover.train import cache, frozen, masked
from layover.train.alike import LEAST, Alike
from layover.train.batching import Batch, collate, micro_batches
from layover.train.cache import Located
from layover.train.encode import Encoded, stretches
from layover.train.frozen import Frozen, Reader
from layover.train.groups import layer_numbers, layers_of
from layover.train.masking import Masking, hidden_once, specials
from layover.train.precision import computing

SEED = 0  # of what is hidden; `hidden_once` has one of its own for all that is evaluated


@dataclass(frozen=True)
class Forgotten:
    """What a checkpoint forgot.

    `loss` and `plain_loss` are nats per hidden token, of which there are `hidden`. `cka` has one value per hidden
    state that both encoders have, embeddings first, at most 1, over `tokens`. `moved` and `norms` are, for each layer
    whose weights both have, the distance (L2) from the plain encoder's weights and the length of these.
    """

    loss: float
    plain_loss: float
    cka: list[float]
    moved: list[float]
    norms: list[float]
    hidden: int
    tokens: int
    examples: int
    truncated: float
    layers: dict[str, int]
    max_length: int
    device: str

    def metrics(self) -> dict[str, float]:
        """The values that are observed: losses in nats, CKA in points, distances in per cent of the plain weights."""
        whole = float(np.linalg.norm(self.moved) / np.linalg.norm(self.norms))
        shares = [one / norm if norm else 0.0 for one, norm in zip(self.moved, self.norms, strict=True)]
        return {
            "mlm_loss": self.loss,
            "mlm_loss_rise": self.loss - self.plain_loss,
            "cka": 100 * float(np.mean(self.cka)),
            **{f"cka_{layer}": 100 * value for layer, value in enumerate(self.cka)},
            "l2": 100 * whole,
            **{f"l2_{layer}": 100 * share for layer, share in enumerate(shares)},
        }


def measure(
    data: Located, location: str, start: Path | None, head: Path | None, max_length: int, places: Places
) -> Forgotten:
    """What the encoder with the weights in `start` forgot of the plain one at `location`, on the text's validation set.

    `head` has the masked-LM head that was trained on the plain encoder; without it the release's own is taken. Without
    `start` the plain encoder is compared with itself. Raises EncoderError where an encoder cannot hide tokens or give
    its layers, and StepError where the release has no head or the text is too short.
    """
    plain = frozen.load(Frozen("", location), data.task, max_length, "fp32", places)
    trained = plain
    if start is not None:
        trained = frozen.load(Frozen("", location, None, start), data.task, max_length, "fp32", places)
    _give_head(plain, trained, location, head)
    [encoded] = cache.encoded(data, [data.validation], plain.tokenizer, plain.max_length)
    encoder: Any = plain.network.encoder
    masking = Masking.of(plain.tokenizer, encoder.get_input_embeddings().num_embeddings, SEED)
    hidden = hidden_once(encoded, masking)
    losses = _losses(plain, trained, hidden)
    alike = _alike(plain, trained, _shown(hidden))
    if not len(hidden.labels) or alike[0].tokens < LEAST:
        told = f"has {alike[0].tokens} tokens, and {len(hidden.labels)} of them to hide"
        raise StepError(f"the validation text of {data.task.name!r} {told}: too few to measure forgetting on")
    moved, norms = _distances(plain.network.encoder, start)
    own: Any = trained.network.encoder.config
    return Forgotten(
        loss=losses[1],
        plain_loss=losses[0],
        cka=[layer.cka() for layer in alike],
        moved=moved,
        norms=norms,
        hidden=len(hidden.labels),
        tokens=alike[0].tokens,
        examples=len(encoded),
        truncated=float(encoded.truncated.mean()),
        layers={"plain": encoder.config.num_hidden_layers, "here": own.num_hidden_layers, "compared": len(alike) - 1},
        max_length=plain.max_length,
        device=str(plain.device),
    )


def _give_head(plain: Reader, trained: Reader, location: str, folder: Path | None) -> None:
    """Let both encoders be read through the head that knew the plain one, which decodes with the plain word vectors."""
    encoder = plain.network.encoder
    found = masked.released_head(location, encoder) if folder is None else masked.head_for(location, encoder, SEED)
    if found is None:
        raise StepError("the release has no masked-LM head of its own: say head = 'trained' in [forgetting]")
    if folder is not None:
        found.load_state_dict(load_file(folder / "head.safetensors"))
    for reader in (plain, trained):
        reader.network.head = found.to(plain.device).eval()


def _batches(reader: Reader, encoded: Encoded) -> Iterator[tuple[np.ndarray[Any, Any], Batch]]:
    """The examples in micro-batches; two encoders' hidden states are held at once."""
    packed, most = reader.network.packed, max(1, reader.most // 2)
    for examples in micro_batches(encoded, np.arange(len(encoded)), most, packed, reader.device):
        pulse.check()
        yield examples, collate(encoded, examples, reader.tokenizer.pad_token_id, reader.device, packed)


def _losses(plain: Reader, trained: Reader, hidden: Encoded) -> list[float]:
    """The mean loss of hidden tokens in nats, of the plain encoder and of the trained one."""
    readers, sums = [plain] if trained is plain else [plain, trained], []
    for reader in readers:
        head, total = reader.network.head, 0.0
        with torch.inference_mode(), computing(reader.network, reader.precision, reader.device) as now:
            for _, batch in _batches(reader, hidden):
                total += float(head.loss(now.scores(batch), batch))
        sums.append(total / max(1, len(hidden.labels)))
    return [sums[0], sums[-1]]


def _alike(plain: Reader, trained: Reader, shown: Encoded) -> list[Alike]:
    """What is seen of each layer's vectors of all tokens that are not special, of both encoders."""
    special, found = specials(plain.tokenizer), defaultdict(Alike)
    with (
        torch.inference_mode(),
        computing(plain.network, plain.precision, plain.device) as first,
        computing(trained.network, trained.precision, trained.device) as second,
    ):
        for examples, batch in _batches(plain, shown):
            flat = stretches(*shown.offsets[examples].T)  # one input per example
            rows = torch.from_numpy(batch.layout.tokens()[~special[shown.ids[flat]]]).to(plain.device)
            before = first.states(batch)
            after = before if trained is plain else second.states(batch)
            if before is None or after is None:
                message = "does not give the hidden states of its layers (output_hidden_states)"
                raise EncoderError(Problem(plain.location, message, "take another encoder"))
            for layer, (one, other) in enumerate(zip(before, after, strict=False)):
                found[layer].add(one.flatten(0, 1)[rows].float(), other.flatten(0, 1)[rows].float())
    return [found[layer] for layer in sorted(found)] or [Alike()]


def _shown(hidden: Encoded) -> Encoded:
    """The text as it was before tokens were hidden."""
    ids, owner = hidden.ids.copy(), hidden.example_of_target()
    ids[hidden.offsets[owner, 0] + hidden.spans[:, 0, 0]] = hidden.labels
    return replace(hidden, ids=ids)


def _distances(plain: nn.Module, start: Path | None) -> tuple[list[float], list[float]]:
    """For embeddings and layers that both have: how far the weights in `start` are away (L2), and the plain length.

    What follows the last layer counts with it. A truncated encoder's layers are those of the same numbers.
    """
    numbers, before = layer_numbers(plain), dict(plain.named_parameters())
    depth = len(layers_of(plain))
    after = before if start is None else load_file(start / "encoder.safetensors")
    moved: dict[int, float] = defaultdict(float)
    norms: dict[int, float] = defaultdict(float)
    for name, tensor in before.items():
        own = after.get(name)
        if own is not None and own.shape == tensor.shape:
            layer, old = min(numbers[name] + 1, depth), tensor.detach().cpu().double()
            moved[layer] += float((own.detach().cpu().double() - old).square().sum())
            norms[layer] += float(old.square().sum())
    layers = sorted(norms)
    return [moved[layer] ** 0.5 for layer in layers], [norms[layer] ** 0.5 for layer in layers]

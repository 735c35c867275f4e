"""Causal: a small causal language model, trained from nothing on any text, to generate fake endings with.

GPT-2's architecture (Radford et al. 2019) and its kind of tokenizer, byte-level BPE, at any size; trained on blocks of
packed text. It can be killed and goes on from its last checkpoint, to the same weights.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from layover.errors import Problem, UserError
from layover.train import checkpoint
from layover.train.determinism import derive, pick_device, prepare_process

END = "<|endoftext|>"
HELD_OUT, HELD_OUT_MOST = 0.01, 2_000  # share of the paragraphs that perplexity is measured on, and how many at most
TOKENIZER_CHARACTERS = 20_000_000  # more of them change a small vocabulary hardly
CHECKPOINT_SECONDS = 60.0
WARMUP = 0.05
HEAD = 64  # width of an attention head, as in GPT-2

Blocks = NDArray[np.int32]
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Sizes:
    """What to train: the model's size, and how much of the text it reads (steps x batch_size x length tokens)."""

    layers: int = 4
    width: int = 192
    vocabulary: int = 4_000
    length: int = 128
    steps: int = 2_000
    batch_size: int = 16
    learning_rate: float = 2e-3
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 1

    @property
    def heads(self) -> int:
        """Attention heads of 64 where the width allows."""
        return self.width // HEAD if self.width % HEAD == 0 else 1


@dataclass(frozen=True)
class Trained:
    """A trained generator, and what is known of it: its loss in nats per token, perplexities of held-out text."""

    model: Any
    tokenizer: Any
    facts: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write it as save_pretrained does."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def train(paragraphs: Sequence[str], sizes: Sizes, work: Path, tell: Tell) -> Trained:
    """Train a generator on paragraphs of text. `work` keeps tokenizer and checkpoint; `tell` is told of (step, steps).

    Raises UserError where the text is too short for one batch.
    """
    device = pick_device("auto")
    prepare_process(0, device)
    held_out, rest = _divided(paragraphs, sizes.seed)
    tokenizer = _tokenizer(rest, sizes, work)
    blocks = _blocks(tokenizer, rest, sizes.length, sizes.steps * sizes.batch_size)
    if len(blocks) < sizes.batch_size:
        message = f"the text holds {len(blocks):,} blocks of {sizes.length} tokens, a batch has {sizes.batch_size}"
        raise UserError(Problem("--length, --batch-size", message, "give a longer text, or lower one of the two"))
    model = _model(sizes, len(tokenizer), tokenizer.convert_tokens_to_ids(END)).to(device)
    loss = _fit(model, blocks, sizes, work, tell)
    facts = {"parameters": sum(p.numel() for p in model.parameters()), "blocks": len(blocks), "loss": loss}
    return Trained(model, tokenizer, {**facts, **perplexity(model, tokenizer, held_out, sizes.length)})


@torch.inference_mode()
def perplexity(model: Any, tokenizer: Any, paragraphs: Sequence[str], length: int) -> dict[str, float]:
    """Perplexity of paragraphs, per token and per word between blanks, each block of `length` tokens read by itself.

    That per word does not depend on how a tokenizer divides words.
    """
    model.eval()
    device = next(model.parameters()).device
    total, n_tokens = 0.0, 0
    blocks = _blocks(tokenizer, paragraphs, length, None)
    for at in range(0, len(blocks), 16):
        ids = torch.from_numpy(blocks[at : at + 16]).long().to(device)
        n = ids.numel() - len(ids)  # the first token of a block has no prediction
        total += float(model(input_ids=ids, labels=ids, use_cache=False).loss) * n
        n_tokens += n
    if not n_tokens:
        return {}
    words = sum(len(paragraph.split()) for paragraph in paragraphs) * n_tokens / _n_tokens(tokenizer, paragraphs)
    return {"perplexity": math.exp(total / n_tokens), "perplexity per word": math.exp(total / words)}


def _divided(paragraphs: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """(held out, the rest), both in random order."""
    drawn = [paragraph for paragraph in paragraphs if paragraph.strip()]
    random.Random(f"{seed}/paragraphs").shuffle(drawn)
    n = min(math.ceil(len(drawn) * HELD_OUT), HELD_OUT_MOST)
    return drawn[:n], drawn[n:]


def _tokenizer(paragraphs: Sequence[str], sizes: Sizes, work: Path) -> Any:
    """A byte-level BPE tokenizer, trained once: a later start reads it from `work`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    path = work / "tokenizer.json"
    if not path.is_file():
        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(  # type: ignore[call-arg]
            vocab_size=sizes.vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator(_up_to(paragraphs, TOKENIZER_CHARACTERS), trainer)
        made.save(str(path))
    ends = dict.fromkeys(("bos_token", "eos_token", "pad_token"), END)
    return PreTrainedTokenizerFast(tokenizer_file=str(path), model_max_length=sizes.length, **ends)


def _up_to(paragraphs: Iterable[str], characters: int) -> Iterator[str]:
    for paragraph in paragraphs:
        if characters <= 0:
            return
        characters -= len(paragraph)
        yield paragraph


def _blocks(tokenizer: Any, paragraphs: Sequence[str], length: int, most: int | None) -> Blocks:
    """Paragraphs end to end, each ended by a token of its own, in blocks [n, length]; as many as `most` if given."""
    end, parts, n_tokens = tokenizer.convert_tokens_to_ids(END), [], 0
    for at in range(0, len(paragraphs), 1_000):
        for ids in _encoded(tokenizer, paragraphs[at : at + 1_000]):
            parts.append(np.array([*ids, end], np.int32))
            n_tokens += len(ids) + 1
        if most is not None and n_tokens >= most * length:
            break
    n = n_tokens // length if most is None else min(n_tokens // length, most)
    return np.concatenate([*parts, np.zeros(0, np.int32)])[: n * length].reshape(n, length)


def _encoded(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    return [found.ids for found in tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _n_tokens(tokenizer: Any, paragraphs: Sequence[str]) -> int:
    return sum(len(ids) + 1 for ids in _encoded(tokenizer, paragraphs))


def _model(sizes: Sizes, vocabulary: int, end: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary, n_positions=sizes.length, n_embd=sizes.width, n_layer=sizes.layers, n_head=sizes.heads,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=end, eos_token_id=end,
    )  # fmt: skip
    torch.manual_seed(derive(sizes.seed, "weights"))
    return GPT2LMHeadModel(config)


def _fit(model: Any, blocks: Blocks, sizes: Sizes, work: Path, tell: Tell) -> float:
    """Train the model in place; the mean loss of the last tenth of the steps."""
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=sizes.learning_rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    state, _ = checkpoint.restore(work, model, optimizer)
    model.train()
    saved, last = time.monotonic(), max(1, sizes.steps // 10)
    for step in range(state.step, sizes.steps):
        for group in optimizer.param_groups:
            group["lr"] = sizes.learning_rate * _schedule(step, sizes.steps)
        ids = torch.from_numpy(blocks[_drawn(step, len(blocks), sizes)]).long().to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=sizes.precision == "bf16"):
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.step = step + 1
        if step >= sizes.steps - last:
            state.loss_sum, state.loss_count = state.loss_sum + float(loss.detach()), state.loss_count + 1
        tell(state.step, sizes.steps)
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            checkpoint.save(work, model, optimizer, None, state)
            saved = time.monotonic()
    checkpoint.save(work, model, optimizer, None, state)
    return state.loss_sum / max(state.loss_count, 1)


def _schedule(step: int, steps: int) -> float:
    """The share of the learning rate: a linear rise, then a cosine to a tenth."""
    rise = max(1, int(steps * WARMUP))
    if step < rise:
        return (step + 1) / rise
    return 0.55 + 0.45 * math.cos(math.pi * (step - rise) / max(1, steps - rise))


def _drawn(step: int, n_blocks: int, sizes: Sizes) -> NDArray[np.int64]:
    """The blocks of a step: each pass over the text in an order of its own, without the rest that fills no batch."""
    per_pass = n_blocks // sizes.batch_size
    order = np.random.default_rng(derive(sizes.seed, "order", step // per_pass)).permutation(n_blocks)
    at = step % per_pass * sizes.batch_size
    return order[at : at + sizes.batch_size]

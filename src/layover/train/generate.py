"""Generate: fake endings from a causal language model, by nucleus sampling with a key-value cache.

A token is the argmax over the nucleus of logit plus Gumbel noise, which draws it with its probability. The noise is a
pure function of (seed, sentence, place, attempt, position, token), so that no draw depends on what else is in the
batch. Logits do, in their last digits: where these could decide, the token is decided again from a pass over its own
fake alone. Batch size, order and a resumed run therefore never change an ending.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from layover.encoders import Encoder, location_parts
from layover.errors import EncoderError, Problem
from layover.synthesis import GENERATORS
from layover.synthesis.corruption import REDRAWS
from layover.synthesis.sentences import NO_BORDER, NO_FAKES, TOO_LONG, Dropped, Made, Sentence
from layover.train.determinism import derive, pick_device, prepare_process

DOUBT = 1e-3  # of a logit or a mass; 3e-6 was seen between fp32 logits of a batch with a cache and of one fake alone
SHORT = 4096  # tokens among which the nucleus nearly always is
GAMMA, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
NO_CHARACTER = "\ufffd"  # what a part of a character decodes to


@dataclass
class Fake:
    """One fake in the making: the tokens of its prompt, how many follow, and the key of its noise."""

    prompt: list[int]
    length: int
    key: int
    tokens: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Generator:
    """A causal language model, with how it is sampled from."""

    model: Any
    tokenizer: Any
    banned: torch.Tensor
    positions: int
    start: tuple[int, ...]
    top_p: float = 0.9
    temperature: float = 1.0
    batch_size: int = 32
    doubt: float = DOUBT

    def made(self, sentences: Sequence[Sentence], fakes: int, seed: int) -> list[Made | Dropped]:
        """Each sentence with its fakes, all decoded by this tokenizer, or why there are none.

        The fakes have as many tokens as the true ending (Chang and Lu 2021, Syn_GPT2).
        """
        found = [_Question.of(self, sentence, fakes) for sentence in sentences]
        todo = [(each, place) for each in found if isinstance(each, _Question) for place in range(fakes)]
        for attempt in range(REDRAWS):
            drawn = []
            for question, place in todo:
                key = derive(seed, "fake", question.number, place, attempt)
                drawn.append(Fake(question.prompt, len(question.ending), key))
            self._draw(drawn)
            for (question, place), sequence in zip(todo, drawn, strict=True):
                question.fakes[place] = self.text(sequence.tokens)
            todo = [(question, place) for question, place in todo if question.clashes(place)]
            for question, place in todo:
                question.fakes[place], question.redrawn = "", question.redrawn + 1
        return [each.finished(self) if isinstance(each, _Question) else each for each in found]

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text with single blanks."""
        return " ".join(self.tokenizer.decode(tokens, clean_up_tokenization_spaces=False).split())

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without special ones."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _draw(self, sequences: Sequence[Fake]) -> None:
        """Fill in the tokens of all sequences."""
        by_length = sorted(sequences, key=lambda s: (len(s.prompt), s.length))
        for batch in _alike(by_length, self.batch_size):
            self._draw_batch(batch)

    @torch.inference_mode()
    def _draw_batch(self, batch: list[Fake]) -> None:
        """Fill in the tokens of sequences whose prompts have equally many tokens."""
        device = self.banned.device
        prompts = list({tuple(s.prompt): None for s in batch})
        out = self.model(input_ids=torch.tensor(prompts, device=device), use_cache=True)
        cache, logits = out.past_key_values, out.logits[:, -1]
        at = {prompt: i for i, prompt in enumerate(prompts)}
        rows = torch.tensor([at[tuple(s.prompt)] for s in batch], device=device)
        for position in range(max(s.length for s in batch)):
            if position:
                last = torch.tensor([[s.tokens[-1]] for s in batch], device=device)
                logits = self.model(input_ids=last, past_key_values=cache, use_cache=True).logits[:, -1]
            else:
                cache.batch_select_indices(rows)
                logits = logits[rows]
            keys = torch.tensor([s.key for s in batch], device=device)
            drawn, certain = self._choose(logits, keys, position, self.doubt)
            for s, token, sure in zip(batch, drawn.tolist(), certain.tolist(), strict=True):
                s.tokens.append(token if sure else self._alone(s, position))
            going = [i for i, s in enumerate(batch) if s.length > position + 1]
            if len(going) < len(batch):
                cache.batch_select_indices(torch.tensor(going, dtype=torch.long, device=device))
                batch = [batch[i] for i in going]

    def _alone(self, sequence: Fake, position: int) -> int:
        """The next token of a sequence, from one pass over it and nothing else."""
        ids = torch.tensor([[*sequence.prompt, *sequence.tokens]], device=self.banned.device)
        logits = self.model(input_ids=ids, use_cache=False).logits[:, -1]
        keys = torch.tensor([sequence.key], device=self.banned.device)
        return int(self._choose(logits, keys, position, 0.0)[0])

    def _choose(
        self, logits: torch.Tensor, keys: torch.Tensor, position: int, doubt: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """For each row (the token drawn, whether logits that are `doubt` away would draw the same)."""
        doubt = doubt / min(1.0, self.temperature)
        logits = logits.masked_fill(self.banned, -torch.inf) / self.temperature
        logs, tokens, inside = candidates(logits, self.top_p, doubt)
        scores = logs + gumbel(keys, position * logits.shape[1] + tokens)
        best = scores.masked_fill(~inside, -torch.inf).topk(2)
        drawn = best.indices[:, :1]
        masses, own = logs.exp(), logs.gather(1, drawn)
        before = (masses * (logs >= own - doubt)).sum(1) - own[:, 0].exp()
        clear = best.values[:, 0] - best.values[:, 1] > 2 * doubt
        return tokens.gather(1, drawn)[:, 0], clear & (before < self.top_p - doubt)


def candidates(logits: torch.Tensor, top_p: float, doubt: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log-probabilities, tokens, whether in the nucleus) of the most probable tokens, in order: of all, if need be."""
    total = logits.logsumexp(-1, keepdim=True).double()
    size = min(SHORT, logits.shape[1])
    top, tokens = logits.topk(size)
    logs = top.double() - total
    inside = nucleus(logs, top_p, doubt)
    if size == logits.shape[1] or not inside[:, -1].any():
        return logs, tokens, inside
    top, tokens = logits.sort(descending=True)  # the nucleus goes on
    logs = top.double() - total
    return logs, tokens, nucleus(logs, top_p, doubt)


def nucleus(logs: torch.Tensor, top_p: float, doubt: float = 0.0) -> torch.Tensor:
    """Which tokens are in the nucleus (Holtzman et al. 2020): the fewest, most probable first, of mass `top_p`.

    `logs` are log-probabilities [rows, tokens], each row from the highest to the lowest; so is the answer. With a
    `doubt`, also those are in it that logits and masses which are that far away might put in.
    """
    masses = logs.exp()
    inside = masses.cumsum(-1) - masses < top_p + doubt
    last = inside.sum(-1, keepdim=True) - 1
    return inside | (logs >= logs.gather(1, last) - doubt) if doubt else inside


def gumbel(keys: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Gumbel noise: the numbers `at` [keys, n], from 0, of each key's stream (SplitMix64, Steele et al. 2014)."""
    z = keys[:, None] + (at + 1) * _signed(GAMMA)
    z = (z ^ _shifted(z, 30)) * _signed(MIX_1)
    z = (z ^ _shifted(z, 27)) * _signed(MIX_2)
    uniform = (_shifted(z ^ _shifted(z, 31), 11).double() + 0.5) * 2.0**-53
    return -(-uniform.log()).log()


def load(found: Encoder, top_p: float, temperature: float, batch_size: int) -> Generator:
    """The generator that was found under a name; raises EncoderError where it is no causal language model."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = pick_device("auto")
    prepare_process(0, device)
    name, revision = location_parts(found.location)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, revision=revision, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        message = f"cannot be loaded as a causal language model: {str(error).splitlines()[0]}"
        raise _refused(found.name, message) from error
    model, loading = loaded
    if missing := sorted(loading["missing_keys"]):
        raise _refused(found.name, f"is no causal language model: its weights lack {', '.join(missing[:3])}")
    model = model.eval().to(device)
    if reason := _unfit(model, device):
        raise _refused(found.name, reason)
    size = model.get_output_embeddings().weight.shape[0]
    banned = torch.arange(size, device=device) >= len(tokenizer)
    banned[[i for i in tokenizer.all_special_ids if i < size]] = True
    starts = tokenizer("")["input_ids"][:1]
    positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    start = tuple(starts) if starts == [tokenizer.bos_token_id] else ()
    return Generator(model, tokenizer, banned, positions, start, top_p, temperature, batch_size)


@dataclass
class _Question:
    """A sentence in tokens, and its fakes so far."""

    number: int
    prompt: list[int]
    ending: list[int]
    fakes: list[str]
    gold: str
    redrawn: int = 0

    @staticmethod
    def of(generator: Generator, sentence: Sentence, fakes: int) -> _Question | Dropped:
        """The question, or why there is none."""
        prompt = generator.tokens(sentence.prompt)
        whole = generator.tokens(f"{sentence.prompt} {sentence.ending}")
        if len(generator.start) + len(whole) > generator.positions:
            return TOO_LONG
        ending = whole[len(prompt) :]
        if whole != [*prompt, *ending] or not (gold := generator.text(ending)):
            return NO_BORDER
        return _Question(sentence.number, [*generator.start, *prompt], ending, [""] * fakes, gold)

    def clashes(self, place: int) -> bool:
        """Whether a fake is no text, or the true ending, or the same as another fake."""
        text = self.fakes[place]
        return not text or NO_CHARACTER in text or text == self.gold or self.fakes.count(text) > 1

    def finished(self, generator: Generator) -> Made | Dropped:
        """The question as text, where all of its fakes are."""
        if any(self.clashes(place) for place in range(len(self.fakes))):
            return NO_FAKES
        prompt = generator.text(self.prompt[len(generator.start) :])
        return Made(prompt, self.gold, tuple(self.fakes), self.redrawn)


def _alike(sequences: Sequence[Fake], size: int) -> Iterator[list[Fake]]:
    """Batches of at most `size` neighbours whose prompts have equally many tokens."""
    batch: list[Fake] = []
    for sequence in sequences:
        if batch and (len(batch) == size or len(batch[0].prompt) != len(sequence.prompt)):
            yield batch
            batch = []
        batch.append(sequence)
    if batch:
        yield batch


@torch.inference_mode()
def _unfit(model: Any, device: torch.device) -> str:
    """Why a model cannot be sampled from; "" where it can: shown by what it does, since names of classes do not say."""
    outs = [model(input_ids=torch.tensor([[1, 2, 3, last]], device=device), use_cache=True) for last in (0, 4)]
    if not torch.allclose(outs[0].logits[:, :3], outs[1].logits[:, :3], atol=1e-4):
        return "is no causal language model: what it says of a token depends on later ones"
    if not hasattr(getattr(outs[0], "past_key_values", None), "batch_select_indices"):
        return "keeps no key-value cache, which sampling needs"
    return ""


def _refused(name: str, message: str) -> EncoderError:
    return EncoderError(Problem(name, message, f"choices: {GENERATORS}"))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _shifted(values: torch.Tensor, n: int) -> torch.Tensor:
    """A logical shift to the right of 64-bit integers."""
    return (values >> n) & ((1 << (64 - n)) - 1)

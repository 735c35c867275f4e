"""Corpus: text as a byte-level BPE tokenizer and as full blocks of tokens, made once and then memory-mapped.

Paragraphs are laid end to end, each closed by the end token, and cut into blocks of one length, each between a begin
and an end token (RoBERTa's full sentences: Liu et al. 2019, section 4.2). No token of a block is padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from layover import arrays, identity
from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.example import Omitted
from layover.tasks.fields import FieldError, text_at
from layover.tasks.load import shortened
from layover.tasks.locate import digest_of, file_problem
from layover.tasks.release import Release
from layover.train import masking
from layover.train.encode import Encoded

FIELD = "text"  # of a row, where a file has rows
SPECIAL = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
BYTES = 256  # tokens that a byte-level tokenizer has before it learns any
HELD_SHARE, HELD_BLOCKS = 0.01, 512  # of the paragraphs, the last; and at most so many blocks of them
CHUNK = 2000  # paragraphs encoded at a time


@dataclass(frozen=True, eq=False)
class Corpus:
    """A tokenizer, the blocks to train on, those held out, and what was counted."""

    tokenizer: Any
    train: Encoded
    held: Encoded
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Texts:
    """Files of text: those to learn from, and those held out; without any, the last paragraphs of the former are."""

    files: tuple[Path, ...]
    held: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raise TaskError where a file cannot be read."""
        found = [file_problem("TEXT", path) for path in self.files] + [
            file_problem("--held", path) for path in self.held
        ]
        raise_all(TaskError, [problem for problem in found if problem is not None])

    def digest(self) -> str:
        """What they hold, wherever they lie."""
        named = {f"{part} {i}": path for part in ("files", "held") for i, path in enumerate(getattr(self, part))}
        return digest_of(named)


def prepared(folder: Path, texts: Texts, vocabulary: int, max_length: int) -> Corpus:
    """The corpus that these texts make, out of `folder` where it has been made before.

    Raises TaskError with what is wrong with the texts, or where there is too little of them.
    """
    made_of = {"texts": texts.digest(), "vocabulary": vocabulary, "max_length": max_length}
    own = folder / identity.key("corpus", made_of)[:16]
    if not (own / "tokenizer").is_dir():
        _tokenizer(texts, vocabulary, max_length).save_pretrained(own / "half")
        (own / "half").rename(own / "tokenizer")
    tokenizer = load_tokenizer(own / "tokenizer")
    parts = {}
    for part in ("train", "held"):
        found = arrays.opened(own / part, made_of)
        if found is None:
            tokens = _blocks(_paragraphs_of(texts, part), tokenizer, max_length)
            blocks = ({"ids": chunk} for chunk in tokens)
            arrays.publish(own / part, made_of, {}, _checked(blocks, part, max_length))
            found = arrays.opened(own / part, made_of)
        assert found is not None
        ids = found.columns["ids"]
        shown = ids[: HELD_BLOCKS * max_length] if part == "held" else ids
        parts[part] = _encoded(shown, max_length, masking.specials(tokenizer))
    facts = {
        "digest": made_of["texts"],
        "files": [path.name for path in texts.files],
        "held_files": [path.name for path in texts.held],
        "vocabulary": len(tokenizer),
        **{f"{name}_blocks": len(part) for name, part in parts.items()},
        **{f"{name}_tokens": len(part.ids) for name, part in parts.items()},
    }
    return Corpus(tokenizer, parts["train"], parts["held"], facts)


def paragraphs(files: Iterable[Path]) -> Iterator[str]:
    """The paragraphs of files; raises TaskError, at the end, with what is wrong with them."""
    problems: list[Problem] = []
    for path in files:
        for line, row in readers.rows(path, Release(plain=FIELD)):
            if isinstance(row, Problem):
                problems.append(row)
            elif not isinstance(row, Omitted):
                try:
                    yield text_at(row, FIELD)
                except FieldError as error:
                    problems.append(Problem(readers.place(path, line), str(error), error.hint))
    raise_all(TaskError, shortened(problems))


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _paragraphs_of(texts: Texts, part: str) -> Iterator[str]:
    """The paragraphs of "train" or of "held"."""
    if texts.held:
        return paragraphs(texts.files if part == "train" else texts.held)
    total = sum(1 for _ in paragraphs(texts.files))
    if total < 2:
        hint = "give more text, a paragraph a line, or name files to hold out with --held"
        raise TaskError(Problem("TEXT", f"holds {total} paragraph, and one has to be held out", hint))
    first = total - max(1, round(HELD_SHARE * total))
    every = paragraphs(texts.files)
    return islice(every, first) if part == "train" else islice(every, first, None)


def _tokenizer(texts: Texts, vocabulary: int, max_length: int) -> Any:
    """A byte-level BPE tokenizer (Radford et al. 2019) of the training text, with RoBERTa's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_paragraphs_of(texts, "train"), trainer)
    begin, end = (list(SPECIAL).index(name) for name in ("bos_token", "eos_token"))  # special tokens come first
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", begin), add_prefix_space=False)
    named = {**SPECIAL, "cls_token": "<s>", "sep_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named, model_max_length=max_length)


def _blocks(texts: Iterable[str], tokenizer: Any, max_length: int) -> Iterator[Any]:
    """Chunks of blocks, end to end; what does not fill a block at the end is left out."""
    backend, inside = tokenizer.backend_tokenizer, max_length - 2
    rest, texts = np.zeros(0, np.int32), iter(texts)
    while chunk := list(islice(texts, CHUNK)):
        encodings = backend.encode_batch_fast(chunk, add_special_tokens=False)
        parts = [np.array([*one.ids, tokenizer.eos_token_id], np.int32) for one in encodings]
        stream = np.concatenate([rest, *parts])
        n = len(stream) // inside
        rest = stream[n * inside :]
        blocks = np.full((n, max_length), tokenizer.eos_token_id, np.int32)
        blocks[:, 0], blocks[:, 1:-1] = tokenizer.bos_token_id, stream[: n * inside].reshape(n, inside)
        yield blocks.ravel()


def _checked(blocks: Iterable[Mapping[str, Any]], part: str, max_length: int) -> Iterator[Mapping[str, Any]]:
    """The blocks; raises TaskError at the end where there was none."""
    some = False
    for chunk in blocks:
        some = some or len(chunk["ids"]) > 0
        yield chunk
    if not some:
        what = "to train on" if part == "train" else "held out"
        hint = "give more text, or a smaller --max-length; files to hold out are named with --held"
        raise TaskError(Problem("TEXT", f"the text {what} does not fill one block of {max_length} tokens", hint))


def _encoded(ids: Any, max_length: int, special: Any) -> Encoded:
    """Blocks as encoded examples, one each."""
    n = len(ids) // max_length
    ends, nothing = np.arange(n + 1) * max_length, np.zeros(n, np.int64)
    counts = masking.numbers(ids, np.full(n, max_length), np.arange(n), nothing, special)
    bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return Encoded(
        ids=ids,
        types=None,
        offsets=np.stack([ends[:-1], ends[1:]], axis=1),
        groups=np.arange(n + 1),
        bounds=bounds,
        labels=np.broadcast_to(0.0, bounds[-1]),
        spans=np.zeros((bounds[-1], 0, 2), np.int32),
        lost=np.broadcast_to(False, bounds[-1]),
        rows=np.arange(n),
        parts=nothing,
        truncated=np.broadcast_to(False, n),
    )

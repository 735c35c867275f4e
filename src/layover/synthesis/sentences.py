"""Sentences: a text file as prompts and their true endings, and which of them train and which validate.

The length rules are those of Chang and Lu 2021 for Syn_GPT2: paragraphs part at ". ", a sentence is its first 30 words,
one of fewer than 20 is dropped, the first half of the words is the prompt and the second half without the last word is
the true ending.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from layover.errors import Problem, TaskError, raise_all
from layover.tasks import readers
from layover.tasks.load import shortened

BORDER = ". "


@dataclass(frozen=True)
class Rules:
    """How long a sentence is, in words between blanks: it is cut to `max_words`, and has to have `min_words`."""

    min_words: int = 20
    max_words: int = 30


@dataclass(frozen=True)
class Sentence:
    """A usable sentence: its number among all sentences of the text, the line of its paragraph, and its two parts."""

    number: int
    paragraph: int
    prompt: str
    ending: str


@dataclass(frozen=True)
class Made:
    """A question: a prompt, its true ending and the fakes, and how many fakes were drawn again."""

    prompt: str
    ending: str
    fakes: tuple[str, ...]
    redrawn: int = 0


class Dropped(str):
    """Why no question could be made of a sentence."""

    __slots__ = ()


NO_FAKES = Dropped("no usable fakes")  # that are texts and differ from the true ending and each other
TOO_LONG = Dropped("too long for the generator")
NO_BORDER = Dropped("no border between tokens")  # where prompt and ending part
DROPPED = (NO_FAKES, TOO_LONG, NO_BORDER)


@dataclass(frozen=True)
class Text:
    """What a text file holds: its usable sentences, and how many were read and dropped, by reason."""

    usable: tuple[Sentence, ...]
    counts: dict[str, int]


def parts(sentence: str, rules: Rules) -> tuple[str, str] | None:
    """(prompt, true ending) of a sentence; None where it is too short."""
    words = sentence.split()[: rules.max_words]
    if len(words) < rules.min_words:
        return None
    half = len(words) // 2
    return " ".join(words[:half]), " ".join(words[half:-1])


def check_file(path: Path) -> None:
    """Raise TaskError where there is no such file."""
    if not path.is_file():
        message = "is a folder, not a text file" if path.is_dir() else "there is no such file"
        raise TaskError(Problem(str(path), message, "give a text file with one paragraph per line: .txt, .gz or .xz"))


def paragraphs(path: Path) -> Iterator[tuple[int, str]]:
    """(line, paragraph) of a text file with one paragraph per line, plain or packed as .gz or .xz.

    Raises TaskError where the file cannot be read or is not UTF-8.
    """
    check_file(path)
    problems: list[Problem] = []
    for line, text in readers.lines(path):
        if isinstance(text, Problem):
            problems.append(text)
        elif text.strip() and not problems:
            yield line, text.strip()
    raise_all(TaskError, shortened(problems))


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """(line of its paragraph, sentence) of a text file: see `paragraphs`."""
    for line, text in paragraphs(path):
        yield from ((line, sentence) for sentence in text.split(BORDER) if sentence.strip())


def read(path: Path, rules: Rules) -> Text:
    """The usable sentences of a text, each once; raises TaskError where there are none."""
    usable: list[Sentence] = []
    seen: set[tuple[str, str]] = set()
    counts = {"paragraphs": 0, "sentences": 0, "too short": 0, "cut": 0, "duplicates": 0, "usable": 0}
    last, longest = 0, 0
    for number, (line, sentence) in enumerate(sentences(path)):
        n_words = len(sentence.split())
        counts["sentences"] += 1
        counts["paragraphs"] += line != last
        last, longest = line, max(longest, n_words)
        found = parts(sentence, rules)
        if found is None:
            counts["too short"] += 1
        elif found in seen:
            counts["duplicates"] += 1
        else:
            seen.add(found)
            counts["cut"] += n_words > rules.max_words
            usable.append(Sentence(number, line, *found))
    counts["usable"] = len(usable)
    if not usable:
        raise TaskError(_none_usable(path, rules, counts["sentences"], longest))
    return Text(tuple(usable), counts)


def divide(
    usable: Sequence[Sentence], train: int, validation: int, seed: int
) -> tuple[list[Sentence], list[Sentence], int]:
    """Draw sentences of different paragraphs: (train, validation, how many questions to validate with).

    More than that many follow for both, as a reserve: for validation, those of the paragraphs that it has sentences of.
    Where there are fewer than asked for, both get less, in proportion.
    """
    drawn = list(usable)
    random.Random(f"{seed}/order").shuffle(drawn)
    if len(drawn) < train + validation:
        validation = min(max(1, len(drawn) * validation // (train + validation)), validation)
    held = drawn[:validation]
    paragraphs = {sentence.paragraph for sentence in held}
    train_only = [sentence for sentence in drawn if sentence.paragraph not in paragraphs]
    beside = [sentence for sentence in drawn[validation:] if sentence.paragraph in paragraphs]
    return train_only, [*held, *beside], validation


def _none_usable(path: Path, rules: Rules, n: int, longest: int) -> Problem:
    if not n:
        return Problem(str(path), "the file holds no text", "give a text file with one paragraph per line")
    message = f"no usable sentence: {n:,} are there, the longest has {longest} words, {rules.min_words} are needed"
    hint = f"give another text, or a number of at most {longest} with --min-words; paragraphs part at {BORDER!r}"
    return Problem(str(path), message, hint)

"""Corruption: fake endings without a neural model: words in another order, an n-gram model, another sentence's ending.

Every fake has a random stream of its own, named by seed, sentence, place and attempt. A fake that equals the true
ending or another fake is drawn again.
"""

from __future__ import annotations

import random
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from layover.synthesis.sentences import NO_FAKES, Dropped, Made, Sentence

KINDS = ("shuffle", "ngram", "swap")
REDRAWS = 10  # attempts at one fake before its sentence is given up
ENOUGH = 50  # endings to choose from: where fewer are of the same length, the next lengths join

Draw = Callable[[Sentence, random.Random], str]


def corrupted(sentence: Sentence, draw: Draw, fakes: int, seed: int) -> Made | Dropped:
    """The sentence with its fakes, where fakes that differ can be drawn."""
    taken, redrawn = [sentence.ending], 0
    for place in range(fakes):
        for attempt in range(REDRAWS):
            text = draw(sentence, random.Random(f"{seed}/{sentence.number}/{place}/{attempt}"))
            if text and text not in taken:
                taken.append(text)
                break
            redrawn += 1
        else:
            return NO_FAKES
    return Made(sentence.prompt, sentence.ending, tuple(taken[1:]), redrawn)


def shuffled(sentence: Sentence, stream: random.Random) -> str:
    """The words of the true ending in another order."""
    words = sentence.ending.split()
    stream.shuffle(words)
    return " ".join(words)


class Endings:
    """The endings of many sentences, to be swapped: one of the same length in words, or of about the same."""

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        by_length: dict[int, list[Sentence]] = defaultdict(list)
        for sentence in sentences:
            by_length[len(sentence.ending.split())].append(sentence)
        self._near = {length: _near(by_length, length) for length in by_length}

    def draw(self, sentence: Sentence, stream: random.Random) -> str:
        """The ending of another sentence; "" where there is none."""
        near = self._near[len(sentence.ending.split())]
        while len(near) > 1:
            other = stream.choice(near)
            if other.number != sentence.number:
                return other.ending
        return ""


def _near(by_length: Mapping[int, Sequence[Sentence]], length: int) -> list[Sentence]:
    """The sentences whose endings are the nearest in length: `ENOUGH` or more, where there are."""
    found: list[Sentence] = []
    for distance in range(max(by_length) + 1):
        found += [other for n in sorted({length - distance, length + distance}) for other in by_length.get(n, ())]
        if len(found) >= ENOUGH:
            break
    return found


class NGrams:
    """An n-gram model of a text with Witten-Bell smoothing, which forgets the sentence that it is asked about.

    With n the occurrences of a context and t the different words that follow it,
    P(word | context) = (count(context word) + t P(word | shorter context)) / (n + t); of single words,
    P(word) = count / n (Witten and Bell 1991, method C, interpolated). Counts are of whole sentences, none goes over
    the end of one, and leave the sentence in question out: else the model would mostly recite its true ending.
    """

    def __init__(self, sentences: Iterable[Sequence[str]], order: int) -> None:
        """Count the n-grams of up to `order` words in sentences given as lists of words."""
        self._vocabulary: dict[str, int] = {}
        read, lengths = array("q"), array("q")
        for words in sentences:
            read.extend(self._vocabulary.setdefault(word, len(self._vocabulary)) for word in words)
            lengths.append(len(words))
        self._words, self._order = list(self._vocabulary), order
        self._flat = flat = np.frombuffer(read, np.int64)
        self._ends = np.cumsum(np.frombuffer(lengths, np.int64))
        left = np.repeat(self._ends, lengths) - np.arange(len(flat))  # words to the end of the sentence
        self._grams: list[NDArray[np.int64]] = []  # [k]: sorted, one per occurrence of k + 1 words
        self._contexts: list[NDArray[np.int64]] = []  # [k]: the different ones: a longer gram names its context so
        self._n_types: list[NDArray[np.int64]] = []  # [k]: how many different grams there are before each
        names = np.zeros(len(flat), np.int64)
        for k in range(order):
            inside = left > k
            grams = np.full(len(flat), -1, np.int64)
            grams[inside] = names[inside] * self._size + flat[np.flatnonzero(inside) + k]
            different, names = np.unique(grams, return_inverse=True)
            names -= int(len(different) > 0 and different[0] == -1)
            ordered = np.sort(grams[inside])
            self._grams.append(ordered)
            self._contexts.append(different[different >= 0])
            self._n_types.append(np.concatenate([[0], np.cumsum(np.diff(ordered, prepend=-1) != 0)]))

    @property
    def _size(self) -> int:
        return len(self._words)

    def probability(self, word: str, context: Sequence[str], without: int | None = None) -> float:
        """P(word | context), of a text without its sentence number `without`."""
        found = 0.0
        for k, (name, own) in enumerate(self._levels(context, without)):
            n, t = self._follow(k, name, own)
            here = self._count(k, name, self._vocabulary.get(word, -1), own)
            found = here / n if k == 0 and n else (here + t * found) / (n + t) if n else found
        return found

    def draw(self, context: Sequence[str], stream: random.Random, without: int | None = None) -> str:
        """A word that follows the context, drawn from `probability`; "" where the text has no other words."""
        for k, (name, own) in reversed(list(enumerate(self._levels(context, without)))):
            n, t = self._follow(k, name, own)
            if n and (k == 0 or stream.random() < n / (n + t)):
                return self._words[self._occurrence(k, name, own, stream)]
        return ""

    def ending(self, sentence: Sentence, stream: random.Random) -> str:
        """As many words as the true ending has, as if the sentence were not in the text."""
        words = sentence.prompt.split()
        length = len(words)
        for _ in sentence.ending.split():
            words.append(self.draw(words[1 - self._order :] if self._order > 1 else [], stream, sentence.number))
        return " ".join(words[length:]).strip()

    def _levels(self, context: Sequence[str], without: int | None) -> list[tuple[int, Counter[int]]]:
        """For each length of context from 0 on that the text has: (its name, the words after it in `without`)."""
        ids = [self._vocabulary.get(word, -1) for word in context][-(self._order - 1) :] if self._order > 1 else []
        own = self._ids(without) if without is not None else []
        found: list[tuple[int, Counter[int]]] = []
        for k in range(len(ids) + 1):
            last = ids[len(ids) - k :]
            name = self._name(last)
            if name is None:
                break  # a longer context is not there either
            following = Counter(own[i + k] for i in range(len(own) - k) if own[i : i + k] == last)
            found.append((name, following))
        return found

    def _ids(self, sentence: int) -> list[int]:
        start = self._ends[sentence - 1] if sentence else 0
        return self._flat[start : self._ends[sentence]].tolist()

    def _name(self, ids: Sequence[int]) -> int | None:
        name = 0
        for k, word in enumerate(ids):
            gram = name * self._size + word
            at = int(np.searchsorted(self._contexts[k], gram))
            if word < 0 or at == len(self._contexts[k]) or self._contexts[k][at] != gram:
                return None
            name = at
        return name

    def _span(self, k: int, low: int, high: int) -> tuple[int, int]:
        first, last = np.searchsorted(self._grams[k], (low, high))
        return int(first), int(last)

    def _count(self, k: int, name: int, word: int, own: Counter[int]) -> int:
        if word < 0:
            return 0
        first, last = self._span(k, name * self._size + word, name * self._size + word + 1)
        return last - first - own[word]

    def _follow(self, k: int, name: int, own: Counter[int]) -> tuple[int, int]:
        """(occurrences of a context that a word follows, different words that do)."""
        first, last = self._span(k, name * self._size, (name + 1) * self._size)
        types = int(self._n_types[k][last] - self._n_types[k][first])
        return last - first - own.total(), types - sum(self._count(k, name, word, own) == 0 for word in own)

    def _occurrence(self, k: int, name: int, own: Counter[int], stream: random.Random) -> int:
        """The word after a random occurrence of a context outside of the sentence that is left out."""
        first, last = self._span(k, name * self._size, (name + 1) * self._size)
        while True:
            at = stream.randrange(first, last)
            gram = int(self._grams[k][at])
            if at - self._span(k, gram, gram + 1)[0] >= own[gram % self._size]:
                return gram % self._size

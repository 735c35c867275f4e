"""Masking: which tokens of a text are hidden from the encoder, to be predicted (Devlin et al. 2019, section 3.1).

15% of the tokens that are not special are chosen; of these 80% become the mask token, 10% a random token and 10% stay.
Training draws anew whenever an example is read (RoBERTa's dynamic masking, Liu et al. 2019, section 4.1); what is
evaluated is hidden once, in the same way for all encoders that share a tokenizer.

Everything is a pure function of the run's seed, the optimizer step, the example (its row and part) and the place of a
token in it: not of the examples beside it, of padding, or of how a batch is split. How many tokens of an example are
hidden does not change from step to step, so that they can be counted before they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from layover.train.seeds import derive

if TYPE_CHECKING:
    from layover.train.encode import Encoded

RATE = 0.15  # of the tokens that are not special
HIDDEN, REPLACED = 0.8, 0.1  # of these, by the mask token and by a random one
EVALUATED = 0  # the seed by which all selection and validation sets are hidden
DRAWS, PLACE_BITS = 1 << 24, 16  # of an integer of 64 bits: how finely tokens are drawn, and their places
Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Masking:
    """How a run hides tokens.

    `mask` is the mask token's id, `others` [n] the ids that are not special, of which random tokens are, and `special`
    [ids] says which are. `vocabulary` is how many tokens the encoder tells apart.
    """

    mask: int
    others: NDArray[np.int64]
    special: NDArray[np.bool_]
    vocabulary: int
    seed: int

    @staticmethod
    def of(tokenizer: Any, vocabulary: int, seed: int) -> Masking:
        """The masking of a run with this tokenizer, of which the encoder knows the ids below `vocabulary`."""
        special = specials(tokenizer)
        others = np.unique([number for number in tokenizer.get_vocab().values() if number < vocabulary])
        return Masking(int(tokenizer.mask_token_id), others[~special[others]], special, vocabulary, seed)

    def hide(
        self, encoded: Encoded, examples: NDArray[np.int64], ids: NDArray[Any], step: int
    ) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """The tokens of some examples, end to end, as they are read in an optimizer step; then what was hidden.

        That is the places of the targets among `ids` [tokens], in their order, and the ids that were there [targets].
        """
        sizes, counts = encoded.tokens[examples], np.diff(encoded.bounds)[examples]
        owner, firsts = np.repeat(np.arange(len(examples)), sizes), np.cumsum(sizes) - sizes
        keys = _mixed(_hashes(derive(self.seed, "masking", step), encoded, examples))[owner]
        inside = np.arange(len(ids)) - firsts[owner]
        keys = _then(keys, inside)
        drawn = np.where(
            self.special[ids], DRAWS - 1, np.minimum((_uniform(keys, 0) * DRAWS).astype(np.int64), DRAWS - 2)
        )
        # one number each, no two alike: sorting it is fast. Of each example the tokens to hide come first
        order = np.argsort(((owner * DRAWS + drawn) << PLACE_BITS) + inside)
        places = np.sort(order[inside < counts[owner]])
        what, which = _uniform(keys[places], 1), _uniform(keys[places], 2)
        random = self.others[(which * len(self.others)).astype(np.int64)]
        right, read = ids[places].astype(np.int64), ids.copy()
        read[places] = np.where(what < HIDDEN, self.mask, np.where(what < HIDDEN + REPLACED, random, right))
        return read, places, right


def hidden_once(encoded: Encoded, masking: Masking) -> Encoded:
    """Examples of which tokens are hidden for good: an encoded data set like that of any task about single tokens."""
    masking, every = replace(masking, seed=EVALUATED), np.arange(len(encoded))
    begins = encoded.offsets[:, 0]
    flat = np.repeat(begins - (np.cumsum(encoded.tokens) - encoded.tokens), encoded.tokens)
    flat = flat + np.arange(len(flat))  # one input per example; those of a part lie apart
    ids, places, right = masking.hide(encoded, every, np.asarray(encoded.ids[flat]), 0)
    ends = np.cumsum(encoded.tokens)
    inside = places - (ends - encoded.tokens)[encoded.example_of_target()]
    spans = np.stack([inside, inside + 1], axis=1)[:, None].astype(np.int32)
    offsets = np.stack([ends - encoded.tokens, ends], axis=1)
    types = None if encoded.types is None else encoded.types[flat]
    return replace(
        encoded, ids=ids, types=types, offsets=offsets, labels=right.astype(float), spans=spans, masking=None
    )


def numbers(ids: NDArray[Any], sizes: NDArray[Any], rows: Any, parts: Any, special: NDArray[np.bool_]) -> Any:
    """How many tokens of each example are hidden: 15% in the mean, and one at least where there is one to hide.

    `ids` [tokens] are those of the examples end to end, of which `sizes` says how many each has.
    """
    ends = np.cumsum(sizes)
    known = np.concatenate([[0], np.cumsum(~special[ids])])
    there = known[ends] - known[ends - sizes]
    rest = _uniform(_mixed(_then(_then(np.uint64(derive(EVALUATED, "number")), rows), parts)), 0)
    return np.minimum(there, np.maximum(1, np.floor(RATE * there + rest))).astype(np.int32)


def specials(tokenizer: Any) -> NDArray[np.bool_]:
    """Which ids of a tokenizer are special [ids]: they are never hidden, and never stand in for others."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    found = np.zeros(1 + max(tokenizer.get_vocab().values()), np.bool_)
    found[[number for number, token in added.items() if token.special]] = True
    return found


def _hashes(key: int, encoded: Encoded, examples: NDArray[np.int64]) -> Hashes:
    return _then(_then(np.uint64(key), encoded.rows[examples]), encoded.parts[examples])


def _then(state: Any, value: Any) -> Hashes:
    """The state of a stream of random numbers, and what it is to depend on next."""
    with np.errstate(over="ignore"):
        return _mixed(state) + np.asarray(value).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: Any) -> Hashes:
    """The output function of SplitMix64 (Steele et al. 2014, Fast splittable pseudorandom number generators)."""
    with np.errstate(over="ignore"):
        state = np.asarray(state, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def _uniform(keys: Hashes, number: int) -> NDArray[np.float64]:
    """The `number`-th draw of each key, in [0, 1)."""
    return (_mixed(_then(keys, number)) >> np.uint64(11)).astype(np.float64) * 2.0**-53

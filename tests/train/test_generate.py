"""Generate: the nucleus is that worked by hand, draws have their probabilities, and nothing depends on the batch."""

from __future__ import annotations

import dataclasses
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.kit import FILLER, make_generator, sentence
from transformers import BertConfig, BertLMHeadModel

from layover.encoders import find
from layover.errors import EncoderError
from layover.synthesis.sentences import NO_BORDER, NO_FAKES, TOO_LONG, Made, Rules, Sentence, parts
from layover.train import generate as module
from layover.train.generate import DOUBT, Generator, gumbel, load, nucleus


def loaded(folder: Path, batch_size: int = 8) -> Generator:
    return load(find(str(folder)), top_p=0.9, temperature=1.0, batch_size=batch_size)


def some(n: int, seed: int = 0) -> list[Sentence]:
    draw = random.Random(seed)
    found = [parts(sentence(draw, None, 28), Rules()) for _ in range(n)]
    return [Sentence(i, i, *both) for i, both in enumerate(found) if both]


def changed(generator: Generator, **fields: Any) -> Generator:
    return dataclasses.replace(generator, **fields)


@pytest.mark.parametrize(
    ("top_p", "n"), [(0.3, 1), (0.49, 1), (0.51, 2), (0.79, 2), (0.81, 3), (0.94, 3), (0.96, 4), (1.0, 4)]
)
def test_the_nucleus_is_the_smallest_set_of_that_mass(top_p: float, n: int) -> None:
    logs = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    assert nucleus(logs, top_p).tolist() == [[place < n for place in range(4)]]


def some_logs(rows: int, draw: torch.Generator) -> torch.Tensor:
    logits = 2 * torch.randn(rows, 40, dtype=torch.float64, generator=draw)
    return logits.sort(descending=True).values.log_softmax(-1)


def test_no_smaller_set_has_the_mass() -> None:
    logs = some_logs(50, torch.Generator().manual_seed(1))
    masses, inside = logs.exp(), nucleus(logs, 0.9)
    held = (masses * inside).sum(-1)
    least = masses.masked_fill(~inside, 2).min(-1).values
    assert (held >= 0.9).all()
    assert (held - least < 0.9).all()
    assert (masses.masked_fill(inside, 0).max(-1).values <= least).all()


def test_in_doubt_the_nucleus_has_all_that_might_be_in_it() -> None:
    draw = torch.Generator().manual_seed(1)
    logs = some_logs(20, draw)
    sure, wide = nucleus(logs, 0.9), nucleus(logs, 0.9, 0.01)
    assert (sure <= wide).all()
    assert (sure < wide).any()
    for _ in range(50):
        near = logs + 0.004 * (2 * torch.rand(logs.shape, generator=draw) - 1)
        ordered, places = near.log_softmax(-1).sort(descending=True)
        found = torch.zeros_like(wide).scatter(1, places, nucleus(ordered, 0.9))
        assert (found <= wide).all()


def test_noise_is_gumbel_and_a_stream_of_its_key() -> None:
    keys, at = torch.tensor([5, 6, 2**62 + 3]), torch.arange(100_000).expand(3, -1)
    found = gumbel(keys, at)
    assert found.mean(1).tolist() == pytest.approx([0.5772] * 3, abs=0.02)
    assert found.var(1).tolist() == pytest.approx([math.pi**2 / 6] * 3, abs=0.05)
    assert torch.corrcoef(found)[0, 1].abs() < 0.02
    assert torch.equal(gumbel(keys[1:2], at[:1])[0], found[1])
    assert torch.equal(gumbel(keys[:1], torch.tensor([[77, 3]]))[0], found[0, [77, 3]])
    assert torch.corrcoef(torch.stack([found[0, :-1], found[0, 1:]]))[0, 1].abs() < 0.02


def test_splitmix_is_the_published_one() -> None:
    """The first outputs of SplitMix64 from seed 1234567, as its authors' program gives them."""
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    expected = [-math.log(-math.log(((x >> 11) + 0.5) / 2**53)) for x in outputs]
    assert gumbel(torch.tensor([1234567]), torch.arange(3)[None])[0].tolist() == pytest.approx(expected)


def test_looking_at_the_most_probable_tokens_alone_changes_nothing(
    generator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, draw = loaded(generator), torch.Generator().manual_seed(1)
    made = changed(made, banned=torch.zeros(300, dtype=torch.bool))
    logits = torch.cat([4 * torch.randn(200, 300, generator=draw), 0.1 * torch.randn(200, 300, generator=draw)])
    keys = torch.arange(400) * 77
    expected = made._choose(logits, keys, 3, DOUBT)
    for short in (2, 50):
        monkeypatch.setattr(module, "SHORT", short)
        for part in (slice(0, 200), slice(200, 400)):
            found = made._choose(logits[part], keys[part], 3, DOUBT)
            assert torch.equal(found[0], expected[0][part])
            assert torch.equal(found[1], expected[1][part])


def test_tokens_are_drawn_with_their_probability_in_the_nucleus(generator: Path) -> None:
    made = changed(loaded(generator), banned=torch.tensor([False, False, True, False, False]), top_p=0.8)
    masses = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])  # without the third: 0.588, 0.235, 0.118, 0.059
    n = 20_000
    drawn, _ = made._choose(masses.log().expand(n, 5), torch.arange(n) * 977, 3, 0.0)
    share = Counter(drawn.tolist())
    assert set(share) == {0, 1}
    assert share[0] / n == pytest.approx(5 / 7, abs=0.013)


def test_a_temperature_sharpens(generator: Path) -> None:
    made = changed(loaded(generator), banned=torch.zeros(2, dtype=torch.bool), temperature=0.5, top_p=1.0)
    drawn, _ = made._choose(torch.tensor([0.6, 0.4]).log().expand(20_000, 2), torch.arange(20_000), 0, 0.0)
    assert float((drawn == 0).double().mean()) == pytest.approx(0.36 / 0.52, abs=0.015)


def test_fakes_have_as_many_tokens_as_the_true_ending(generator: Path) -> None:
    made, sentences = loaded(generator), some(20)
    for each, found in zip(sentences, made.made(sentences, 3, 1), strict=True):
        assert isinstance(found, Made)
        assert (found.prompt, found.ending) == (each.prompt, each.ending)  # this tokenizer changes nothing
        assert len({found.ending, *found.fakes}) == 4
        assert {len(fake.split()) for fake in found.fakes} == {len(each.ending.split())}
        assert not any("<" in fake for fake in found.fakes)


def test_nothing_depends_on_the_batch(generator: Path) -> None:
    sentences, made = some(6), loaded(generator)
    expected = changed(made, batch_size=1).made(sentences, 3, 1)
    for size in (5, 200):
        assert changed(made, batch_size=size).made(sentences, 3, 1) == expected
    assert made.made(sentences[3:], 3, 1) == expected[3:]
    assert made.made(sentences[::-1], 3, 1) == expected[::-1]
    other = made.made(sentences, 3, 2)
    assert all(a != b for a, b in zip(expected, other, strict=True))


class Recording:
    """A model that notes every call: what went in besides the cache, and the last logits."""

    def __init__(self, model: Any) -> None:
        self.model, self.calls = model, []

    def __call__(self, **inputs: Any) -> Any:
        out = self.model(**inputs)
        self.calls.append((inputs["input_ids"], "past_key_values" in inputs, out.logits[:, -1]))
        return out


def test_logits_with_the_cache_are_those_of_a_full_pass(generator: Path) -> None:
    made, sentences = changed(loaded(generator), doubt=0.0), [s for s in some(30) if len(s.prompt.split()) == 13][:2]
    recording = Recording(made.model)
    found = changed(made, model=recording).made(sentences, 1, 1)
    checked = 0
    for each, question in zip(sentences, found, strict=True):
        assert isinstance(question, Made)
        prompt, ending = made.tokens(each.prompt), made.tokens(question.fakes[0])
        full = made.model(input_ids=torch.tensor([prompt + ending])).logits[0]
        cached = [(ids, logits) for ids, with_cache, logits in recording.calls if with_cache]
        for position, token in enumerate(ending[:-1]):
            ids, logits = cached[position]
            near = [row for row, last in zip(logits, ids[:, 0].tolist(), strict=True) if last == token]
            expected = full[len(prompt) + position]
            assert any(torch.allclose(row, expected, atol=1e-4) for row in near)
            checked += 1
    assert checked > 20


class Shaken:
    """A model whose logits are off by up to `by` wherever it reads several fakes, or from a cache."""

    def __init__(self, model: Any, by: float) -> None:
        self.model, self.by, self.draw = model, by, torch.Generator().manual_seed(1)

    def __call__(self, **inputs: Any) -> Any:
        out = self.model(**inputs)
        if inputs["use_cache"]:
            out.logits += self.by * (2 * torch.rand(out.logits.shape, generator=self.draw) - 1)
        return out


def test_the_last_digits_of_logits_decide_nothing(generator: Path) -> None:
    made, sentences = loaded(generator, 64), some(32)
    expected = made.made(sentences, 3, 1)
    assert changed(made, model=Shaken(made.model, 0.4 * DOUBT)).made(sentences, 3, 1) == expected
    wild = changed(made, model=Shaken(made.model, 0.02), doubt=0.0).made(sentences, 3, 1)
    assert wild != expected  # without doubt, such digits do decide
    assert changed(made, model=Shaken(made.model, 0.02), doubt=0.05).made(sentences, 3, 1) == expected


def test_few_tokens_are_decided_twice(generator: Path) -> None:
    recording = Recording((made := loaded(generator, 64)).model)
    changed(made, model=recording).made(some(60), 3, 1)
    alone = sum(not with_cache and len(ids) == 1 for ids, with_cache, _ in recording.calls)
    tokens = sum(len(ids) for ids, with_cache, _ in recording.calls if with_cache)
    assert alone < 0.03 * tokens


def test_a_fake_like_the_true_ending_is_drawn_again(generator: Path) -> None:
    made = loaded(generator)
    only = torch.ones_like(made.banned)
    only[[5, 6]] = False  # two words: 8 endings of three tokens
    few = changed(made, banned=only, top_p=1.0)
    words = made.tokenizer.convert_ids_to_tokens([5, 6, 5])
    ten = [Sentence(i, i, " ".join(FILLER[:4]), " ".join(words)) for i in range(10)]
    found = few.made(ten, 4, 1)
    questions = [each for each in found if isinstance(each, Made)]
    assert len(questions) > 5
    assert all(len({each.ending, *each.fakes}) == 5 for each in questions)
    assert sum(each.redrawn for each in questions) > 0
    assert set(few.made(ten, 8, 1)) == {NO_FAKES}  # with the true one that would be nine


def test_sentences_that_the_generator_cannot_read_are_dropped(tmp_path: Path) -> None:
    short = loaded(make_generator(tmp_path / "short", positions=25))
    words = " ".join(FILLER * 2).split()
    fits, long = (Sentence(0, 0, " ".join(words[:12]), " ".join(words[12:n])) for n in (25, 26))
    assert [isinstance(each, Made) for each in short.made([fits, long], 1, 1)] == [True, False]
    assert short.made([long], 1, 1) == [TOO_LONG]


def test_a_sentence_without_a_border_between_tokens_is_dropped(generator: Path) -> None:
    made = loaded(generator)
    lookup = {"a": [3], "a b": [4]}

    def odd(text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": lookup[text]}

    assert changed(made, tokenizer=odd).made([Sentence(0, 0, "a", "b")], 1, 1) == [NO_BORDER]


def test_an_encoder_is_no_generator(bert: Path) -> None:
    with pytest.raises(EncoderError, match=r"is no causal language model: its weights lack (.|\n)*choices: gpt2"):
        loaded(bert)


def test_a_model_that_looks_ahead_is_no_generator(generator: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertLMHeadModel(config).save_pretrained(tmp_path / "m")
    for file in generator.glob("token*"):
        (tmp_path / "m" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EncoderError, match="depends on later ones"):
        loaded(tmp_path / "m")

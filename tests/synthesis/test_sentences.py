"""Sentences: the length rules of Chang and Lu 2021 by hand, what a text file may be, and how sentences are divided."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from layover.errors import TaskError
from layover.synthesis.sentences import Rules, Sentence, divide, parts, read


def words(n: int, start: int = 0) -> str:
    return " ".join(f"w{i}" for i in range(start, start + n))


@pytest.mark.parametrize(
    ("n", "prompt", "ending"),
    [(20, (0, 10), (10, 19)), (21, (0, 10), (10, 20)), (30, (0, 15), (15, 29)), (31, (0, 15), (15, 29)),
     (90, (0, 15), (15, 29))],
)  # fmt: skip
def test_a_sentence_parts_in_the_middle_and_loses_its_last_word(
    n: int, prompt: tuple[int, int], ending: tuple[int, int]
) -> None:
    expected = tuple(words(end - start, start) for start, end in (prompt, ending))
    assert parts(words(n), Rules()) == expected


def test_a_sentence_of_fewer_than_twenty_words_is_dropped() -> None:
    assert parts(words(19), Rules()) is None
    assert parts(words(19), Rules(19, 30)) == (words(9), words(9, 9))
    assert parts(words(19), Rules(4, 6)) == (words(3), words(2, 3))


def test_blanks_of_any_kind_part_words() -> None:
    assert parts(words(20).replace(" ", " \t "), Rules()) == (words(10), words(9, 10))


def test_what_was_read_and_dropped_is_counted(tmp_path: Path) -> None:
    long, cut, short = words(20), words(40, 100), words(3)
    text = f"{long}. {short}. {cut}.\n\n{short}\n{long}. {words(25, 200)}\n"
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    found = read(tmp_path / "t.txt", Rules())
    expected = {"paragraphs": 3, "sentences": 6, "too short": 2, "cut": 1, "duplicates": 1, "usable": 3}
    assert found.counts == expected
    assert [(s.number, s.paragraph) for s in found.usable] == [(0, 1), (2, 1), (5, 4)]
    assert found.usable[0].prompt == words(10)


PACKED: dict[str, Callable[[bytes], bytes]] = {".txt.gz": gzip.compress, ".txt.xz": lzma.compress, ".md": bytes}


@pytest.mark.parametrize("ending", PACKED)
def test_a_text_may_be_packed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t{ending}"
    path.write_bytes(PACKED[ending](f"{words(20)}\n".encode()))
    assert read(path, Rules()).usable == (Sentence(0, 1, words(10), words(9, 10)),)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "holds no text"), (b"\n \n", "holds no text"), (b"too short\nalso", "longest has 2 words, 20 are needed"),
     (b"ab\xff\n", "line 1: is not UTF-8")],
)  # fmt: skip
def test_a_text_without_a_usable_sentence_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(TaskError, match=said) as raised:
        read(tmp_path / "t.txt", Rules())
    assert str(tmp_path / "t.txt") in str(raised.value)


@pytest.mark.parametrize(("name", "said"), [("t.xz", "xz data"), ("t.gz", "gzip data"), ("absent", "no such file")])
def test_a_text_that_cannot_be_read_is_refused(tmp_path: Path, name: str, said: str) -> None:
    if name != "absent":
        packed = {"t.xz": lzma.compress, "t.gz": gzip.compress}[name](words(20_000).encode())
        (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    with pytest.raises(TaskError, match=said):
        read(tmp_path / name, Rules())


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="is a folder"):
        read(tmp_path, Rules())


def usable(paragraphs: int, each: int) -> list[Sentence]:
    return [Sentence(p * each + i, p, f"p{p}", f"e{p} {i}") for p in range(paragraphs) for i in range(each)]


def test_validation_is_of_other_paragraphs_than_train() -> None:
    train, validation, size = divide(usable(40, 5), 100, 10, 1)
    assert size == 10
    assert len(train) >= 100
    assert {s.paragraph for s in train}.isdisjoint(s.paragraph for s in validation)
    assert {s.paragraph for s in validation} == {s.paragraph for s in validation[:size]}
    assert len(train) + len(validation) == 200
    assert len({s.number for s in [*train, *validation]}) == 200


def test_a_text_that_is_too_short_is_divided_in_proportion() -> None:
    train, _, size = divide(usable(62, 1), 30_000, 1_000, 1)
    assert (len(train), size) == (60, 2)
    assert divide(usable(2, 1), 30_000, 1_000, 1)[2] == 1
    assert divide(usable(5, 1), 30_000, 0, 1)[2] == 0


def test_a_seed_decides_which_sentences() -> None:
    first, again, other = (divide(usable(50, 2), 20, 5, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other

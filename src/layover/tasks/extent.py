"""Extent: about how much there is to read of a task, so that a plan can be costed where its data is not at hand."""

from __future__ import annotations

import itertools
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from gzip import open as gzip_open
from pathlib import Path
from typing import Literal

from layover.errors import UserError
from layover.tasks.divide import OWN_VALIDATION
from layover.tasks.example import Example
from layover.tasks.load import Source, rows
from layover.tasks.readers import rows as read_rows
from layover.tasks.task import Task

SAMPLE = 200  # rows of the train split from which lengths are taken
CHARACTERS = 4.5  # of a token of English, with its blank, in the vocabularies of BERT and RoBERTa
MARKS = 3  # tokens that a tokenizer adds to an input
USUAL_TOKENS, USUAL_ROWS = 60, (10_000, 1_000)


@dataclass(frozen=True)
class Extent:
    """Training and validation examples of a task, tokens of an example (all of its choices), and inputs it has.

    `known` says where they come from: the "data" at hand, the "published" sizes with a stated mean length, or nowhere.
    """

    train: int
    validation: int
    tokens: float
    inputs: float = 1.0
    known: Literal["data", "published", "guessed"] = "data"


# Training and validation examples, tokens of an input, inputs of an example: of Pruksachatkun et al. 2020 as trained on
# (papers' tables count rows where their code counts answers or questions), lengths to the nearest five or ten.
STATED: dict[str, tuple[int, int, int, int]] = {
    "sst2": (67_349, 872, 15, 1), "socialiqa": (33_410, 1_954, 35, 3), "qqp": (363_846, 40_430, 30, 1),
    "mnli": (392_702, 9_815, 40, 1), "scitail": (23_596, 1_304, 40, 1), "qasrl": (637_989, 110_000, 40, 1),
    "qamr": (50_615, 18_908, 40, 1), "cosmosqa": (25_262, 2_985, 95, 4), "hellaswag": (39_905, 10_042, 85, 4),
    "hellaswag_p": (39_905, 10_042, 30, 4), "syn_gpt2": (30_000, 1_000, 40, 4), "ccg": (38_015, 5_484, 30, 1),
    "commonsenseqa": (9_741, 1_221, 25, 5), "rte": (2_490, 277, 70, 1), "rte_glue": (2_490, 277, 70, 1),
    "boolq": (9_427, 3_270, 150, 1), "cb": (250, 56, 85, 1), "copa": (400, 100, 25, 2),
    "multirc": (27_243, 4_848, 375, 1), "record": (1_796_856, 110_000, 300, 1), "wic": (5_428, 638, 25, 1),
    "wsc": (554, 104, 30, 1), "cola": (8_551, 1_043, 12, 1), "mrpc": (3_668, 408, 55, 1), "stsb": (5_749, 1_500, 30, 1),
    "qnli": (104_743, 5_463, 50, 1), "wnli": (635, 71, 35, 1), "mednli": (11_232, 1_395, 35, 1),
    "socialiqa_clip60": (33_410, 1_954, 35, 3), "winogrande_xs": (160, 1_267, 30, 2),
    "winogrande_s": (640, 1_267, 30, 2), "winogrande_m": (2_558, 1_267, 30, 2), "winogrande_l": (10_234, 1_267, 30, 2),
    "edge_srl": (231_480, 35_297, 30, 1), "edge_const": (115_812, 15_680, 25, 1), "edge_pos": (115_812, 15_680, 25, 1),
    "edge_ner": (49_706, 7_610, 30, 1), "edge_coref": (41_777, 5_044, 40, 1), "edge_dep_ewt": (12_496, 2_002, 30, 1),
    "edge_semeval_rel": (6_851, 1_149, 25, 1), "edge_spr1": (3_843, 518, 30, 1), "edge_spr2": (2_226, 291, 20, 1),
    "edge_dpr": (958, 223, 25, 1), "aj_wh": (432, 54, 40, 1), "aj_def": (404, 50, 40, 1), "aj_eos": (382, 48, 55, 1),
    "aj_coord": (332, 42, 40, 1),
    **{f"se_{name}": (100_000, 10_000, 15, 1) for name in (
        "sentence_length", "word_content", "tree_depth", "top_constituents", "bigram_shift", "past_present",
        "subj_number", "obj_number", "odd_man_out", "coordination_inversion")},
}  # fmt: skip


def extent(task: Task, source: Source | None) -> Extent:
    """The extent of a task, of a sample of its data where that is in files here, else as published."""
    if source is not None and source.files:
        try:
            return _sampled(task, source)
        except (UserError, OSError):  # what is wrong with the data is said when it is read
            pass
    if task.name in STATED:
        train, validation, tokens, inputs = STATED[task.name]
        return Extent(train, validation, tokens * inputs, inputs, "published")
    if task.published:
        return Extent(*task.published, USUAL_TOKENS, known="published")
    return Extent(*USUAL_ROWS, USUAL_TOKENS, known="guessed")


def _sampled(task: Task, source: Source) -> Extent:
    """From the first rows of the train split, and the number of lines of both."""
    made = list(_first(task, source))
    examples = [example for part in made for example in part]
    inputs = [text for example in examples for text in example.inputs]
    characters = sum(len(piece) + 1 for text in inputs for segment in text if segment for piece in segment)
    count = max(1, len(examples))
    each = len(examples) / max(1, len(made))
    train = _rows(task, source, "train")
    if source.gathered or "validation" in source.files:
        validation = _rows(task, source, "validation")
    else:  # a user's task, of which a part of train stands in
        train, validation = (1 - OWN_VALIDATION) * train, OWN_VALIDATION * train
    train, validation = (max(1, round(count * each)) for count in (train, validation))
    return Extent(train, validation, (characters / CHARACTERS + MARKS * len(inputs)) / count, len(inputs) / count)


def _first(task: Task, source: Source) -> Iterator[Sequence[Example]]:
    """The examples of each of the first rows; with the labels of these rows, where the data says which there are."""
    found = [row for _, row in itertools.islice(rows(task, source, "train"), SAMPLE) if isinstance(row, dict)]
    if task.labels_in_data and not task.labels:
        task = replace(task, labels=tuple(sorted({label for row in found for label in task.written_labels(row)})))
    for index, row in enumerate(found):
        yield task.examples(index, row)


def _rows(task: Task, source: Source, split: str) -> int:
    """How many rows a split has: lines where a file has a row in each, else counted one by one."""
    path = source.files.get(split)
    if path is None or source.gathered or task.release.together or ".csv" in path.suffixes:
        return sum(1 for _ in rows(task, source, split))
    if path.suffix == ".parquet":
        return sum(1 for _ in read_rows(path, task.release))
    return _lines(path)


def _lines(path: Path) -> int:
    opened = {".gz": gzip_open, ".xz": lzma.open}.get(path.suffix, open)
    with opened(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

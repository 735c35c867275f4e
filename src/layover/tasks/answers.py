"""QAMR and QA-SRL: which stretch of a sentence answers a question about its words, in the manner of SQuAD.

As Pruksachatkun et al. 2020 cast them, with two differences: sentences stay tokenised as they are, and the end of a
QA-SRL span is exclusive, as the release's FORMAT.md says (jiant v1 adds one token to every answer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from layover.errors import Problem
from layover.tasks import readers
from layover.tasks.example import Mark, Omitted
from layover.tasks.fields import FieldError, Row, list_at, object_at, text_at, value_at
from layover.tasks.gathered import Placed, placed, refused
from layover.tasks.release import Gathered, Release
from layover.tasks.spans import Span, whole_number, word_marks, word_span
from layover.tasks.task import Task

METRICS = ("token_f1_em", "token_f1", "exact_match", "token_f1_any", "exact_match_any")
ASKED = Span("passage", "question", "answers", starts="starts", each=True)
QAMR_COLUMNS = (
    ("sent_id", "target_ids", "worker_id", "qa_index", "qa_word", "question", "answer", "response1", "response2"),
)
SENTENCES = (("sent_id", "sent"),)


def _asked(words: Sequence[str], marks: Sequence[Mark], question: Any, spans: Sequence[Any], path: str) -> Row:
    """A row as `ASKED` reads it, of the stretches `[begin, end)` of words that answer."""
    passage = " ".join(words)
    places = [word_span(span, marks, path) for span in spans]
    texts = [passage[place.begin : place.end] for place in places]
    return {"passage": passage, "question": question, "answers": texts, "starts": [place.begin for place in places]}


def stretch_of_indices(row: Row) -> Row:
    """A row of QAMR, of which `answer` lists the numbers of words, rarely with gaps: the stretch from least to most."""
    words = text_at(row, "sent").split(" ")
    numbers = [whole_number(number, "answer") for number in text_at(row, "answer").split()]
    return _asked(words, word_marks(words), value_at(row, "question"), [[min(numbers), max(numbers) + 1]], "answer")


def filtered_stretch(row: Row) -> Sequence[Row | Omitted]:
    """As `stretch_of_indices`, of a row that is in the filtered set or does not say."""
    kept = row.get("in_filtered") is not False
    return [stretch_of_indices(row) if kept else Omitted("not in the filtered set (the task qamr_full has it)")]


def each_question(row: Row) -> list[Row | Omitted]:
    """The questions about every verb of a sentence of QA-SRL, with all spans of the judgements that call it valid.

    Judgements mostly agree and each counts, so a span may be there several times, and spans may overlap: every one is
    an answer of its own.
    """
    words = list_at(row, "sentenceTokens")
    if not words or not all(isinstance(word, str) for word in words):
        raise FieldError("sentenceTokens", f"holds {words!r:.60}, not a list of words")
    marks = word_marks(words)
    parts: list[Row | Omitted] = []
    for entry in object_at(row, "verbEntries").values():
        for question, asked in object_at(entry, "questionLabels").items():
            spans = _valid_spans(asked)
            none = Omitted("no judgement calls the question valid")
            parts.append(_asked(words, marks, question, spans, "spans") if spans else none)
    return parts


def _valid_spans(asked: Row) -> list[Any]:
    valid = [judgement for judgement in list_at(asked, "answerJudgments") if value_at(judgement, "isValid")]
    return [span for judgement in valid for span in list_at(judgement, "spans")]


def _find_qamr(version: str, folder: Path) -> dict[str, Path]:
    """The release's three tables for one version, `full` or `filtered`; sentences are in a table of their own."""
    for top in (folder, folder / "data"):
        found = {split: readers.file_of(top / version, readers.STEMS[split]) for split in readers.SPLITS}
        found["sentences"] = readers.file_of(top, ["wiki-sentences"])
        if all(found.values()):
            return {name: path for name, path in found.items() if path is not None}
        if any(found[split] for split in readers.SPLITS):
            raise refused(top, f"{version}/ has tables, but not all that are needed", f"needed: {_qamr_needs(version)}")
    return {}


def _qamr_needs(version: str) -> str:
    return f"{{{version}/train.tsv,{version}/dev.tsv,wiki-sentences.tsv}}"


def _rows_with_sentence(files: Mapping[str, Path], split: str) -> Placed:
    """The rows of a split, each with its sentence."""
    sentences: dict[str, str] = {}
    for place, row in placed(files["sentences"], SENTENCES):
        if isinstance(row, Problem):
            yield place, row
        else:
            sentences[row["sent_id"]] = row["sent"]
    for place, row in placed(files[split], QAMR_COLUMNS):
        if isinstance(row, Problem):
            yield place, row
        elif row["sent_id"] not in sentences:
            yield (
                place,
                Problem(place, f"field 'sent_id' holds {row['sent_id']!r:.60}, which is no sentence of the file"),
            )
        else:
            yield place, {**row, "sent": sentences[row["sent_id"]]}


def _qamr_release(version: str) -> Release:
    gathered = Gathered(_qamr_needs(version), partial(_find_qamr, version), _rows_with_sentence)
    return Release("qamr", fields=("sent", "question", "answer"), gathered=gathered)


# Filtered, as the paper trained on it (50,615 questions), though its table counts the full version: rows that say that
# they are not in the filtered set are omitted, and files that do not say are taken as they are.
qamr = Task(
    name="qamr",
    version=1,
    format=ASKED,
    metrics=METRICS,
    prepare=filtered_stretch,
    release=_qamr_release("filtered"),
    about="Which words answer a question about a sentence? Questions that were found valid and begin with a wh-word.",
    source="Michael et al. 2018 (NAACL); MIT",
)

qamr_full = Task(
    name="qamr_full",
    version=1,
    format=ASKED,
    metrics=METRICS,
    prepare=stretch_of_indices,
    release=_qamr_release("full"),
    about="Which words answer a question about a sentence? All questions.",
    source="Michael et al. 2018 (NAACL); MIT",
    published=(73_561, 27_535),
)

# The paper's table counts sentences (44,837 and 7,895), and its code 637,989 training examples.
qasrl = Task(
    name="qasrl",
    version=1,
    format=ASKED,
    metrics=METRICS,
    prepare=each_question,
    release=Release(fields=("sentenceTokens", "verbEntries")),
    about="Which words answer a question about a verb's arguments? QA-SRL Bank 2.0, its part `orig`.",
    source="FitzGerald et al. 2018 (ACL); MIT",
)

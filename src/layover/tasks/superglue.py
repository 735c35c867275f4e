"""The tasks of SuperGLUE (Wang et al. 2019, NeurIPS).

A label's place in `labels` is its integer on the Hub; SuperGLUE's folders are found by their own names.
"""

from __future__ import annotations

import itertools

from layover.tasks.fields import FieldError, Row, list_at, text_at, value_at
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers
from layover.tasks.release import Release
from layover.tasks.spans import Coreference, WordInContext, whole_number
from layover.tasks.task import Hub, Task

REPO, REVISION = "aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"
COPA_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def spell_out_question(row: Row) -> Row:
    """COPA's `cause` or `effect` as the question that Pruksachatkun et al. 2020 put to the encoder."""
    asked = value_at(row, "question")
    if asked not in COPA_QUESTIONS:
        raise FieldError("question", f"holds {asked!r:.60}", f"choices: {', '.join(COPA_QUESTIONS)}")
    return {**row, "question": COPA_QUESTIONS[asked]}


def each_question(row: Row) -> list[Row]:
    """The questions about one passage of MultiRC, as the release nests them; on the Hub every answer is a row."""
    if "rows" not in row:
        text = text_at(row, "passage.text")
        return [{**question, "text": text} for question in list_at(row, "passage.questions")]
    grouped = itertools.groupby(list_at(row, "rows"), key=lambda answer: value_at(answer, "idx.question"))
    answered = [list(answers) for _, answers in grouped]
    return [
        {
            "text": answers[0]["paragraph"],
            "question": answers[0]["question"],
            "answers": [{"text": answer["answer"], "label": answer["label"]} for answer in answers],
        }
        for answers in answered
    ]


def each_query(row: Row) -> list[Row]:
    """The queries about one passage of ReCoRD, with names and answers as texts; on the Hub a row is one query."""
    if isinstance(row.get("passage"), str):
        return [{**row, "text": row["passage"]}]
    text = text_at(row, "passage.text")
    names = [_entity(text, place) for place in list_at(row, "passage.entities")]
    return [
        {
            "query": value_at(query, "query"),
            "text": text,
            "entities": names,
            "answers": value_at(query, "answers[].text"),
        }
        for query in list_at(row, "qas")
    ]


def _entity(text: str, place: Row) -> str:
    """A name in the passage by its place, of which the release's end is inclusive."""
    begin, end = (whole_number(value_at(place, side), f"passage.entities[].{side}") for side in ("start", "end"))
    if not 0 <= begin <= end < len(text):
        raise FieldError("passage.entities", f"has [{begin}, {end}], but the passage has {len(text)} characters")
    return text[begin : end + 1]


cb = Task(
    name="cb",
    version=1,
    format=Pair("premise", "hypothesis"),
    labels=("entailment", "contradiction", "neutral"),
    metrics=("macro_f1", "accuracy"),
    hub=Hub(REPO, "cb", REVISION),
    release=Release("CB"),
    about="How far is the writer of a text committed to the truth of a clause in it?",
    source="de Marneffe, Simons and Tonhauser 2019 (Sinn und Bedeutung); licence not stated in SuperGLUE",
    published=(250, 56),
)

copa = Task(
    name="copa",
    version=1,
    format=Choice("premise", ("choice1", "choice2"), question="question"),
    metrics=("accuracy",),
    hub=Hub(REPO, "copa", REVISION),
    release=Release("COPA"),
    prepare=spell_out_question,
    about="Which of two sentences is the cause or the effect of a third?",
    source="Roemmele, Bejan and Gordon 2011 (AAAI Spring Symposium); licence not stated in SuperGLUE",
    published=(400, 100),
)

boolq = Task(
    name="boolq",
    version=1,
    format=Pair("passage", "question", cut="first"),
    labels=("false", "true"),
    label="label|answer",
    spellings={"False": "false", "True": "true"},
    metrics=("accuracy_f1", "accuracy", "f1"),
    hub=Hub(REPO, "boolq", REVISION),
    release=Release("BoolQ"),
    about="Does a paragraph of Wikipedia answer a question with yes or no?",
    source="Clark et al. 2019 (NAACL); CC BY-SA 3.0",
    published=(9_427, 3_270),
)

rte = Task(
    name="rte",
    version=1,
    format=Pair("premise|sentence1", "hypothesis|sentence2"),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    hub=Hub(REPO, "rte", REVISION),
    release=Release("RTE"),
    about="Does the first text entail the second?",
    source="RTE1, 2, 3 and 5: Dagan et al. 2005 to Bentivogli et al. 2009; licence not stated",
    published=(2_490, 277),
)

multirc = Task(
    name="multirc",
    version=1,
    format=PassageAnswers("text", "question", "answers[].text", blank=True),
    labels=("false", "true"),
    label="answers[].label",
    spellings={"False": "false", "True": "true"},
    metrics=("f1a_em", "f1a", "group_em"),
    hub=Hub(REPO, "multirc", REVISION, together="idx.paragraph"),
    prepare=each_question,
    release=Release("MultiRC", fields=("passage.text", "passage.questions")),
    about="Which of several answers to a question about a paragraph are right?",
    source="Khashabi et al. 2018 (NAACL); licence not stated in SuperGLUE",
    published=(5_131, 953),
)

record = Task(
    name="record",
    version=1,
    format=Cloze("text", "query", "entities", "answers"),
    labels=("false", "true"),
    metrics=("token_f1_em", "token_f1", "exact_match"),
    hub=Hub(REPO, "record", REVISION),
    prepare=each_query,
    release=Release("ReCoRD", fields=("passage.text", "passage.entities", "qas")),
    about="Which of the names in a news article fills the gap in a sentence about it?",
    source="Zhang et al. 2018 (arXiv 1810.12885); licence not stated in SuperGLUE",
    published=(100_730, 10_000),
)

wic = Task(
    name="wic",
    version=1,
    format=WordInContext("sentence1", "sentence2", ("start1", "end1", "start2", "end2")),
    labels=("false", "true"),
    spellings={"False": "false", "True": "true"},
    metrics=("accuracy",),
    hub=Hub(REPO, "wic", REVISION),
    release=Release("WiC"),
    about="Does a word mean the same in two sentences?",
    source="Pilehvar and Camacho-Collados 2019 (NAACL); licence not stated in SuperGLUE",
    published=(5_428, 638),
)

wsc = Task(
    name="wsc",
    version=1,
    format=Coreference(
        "text",
        ("target.span1_text|span1_text", "target.span2_text|span2_text"),
        ("target.span1_index|span1_index", "target.span2_index|span2_index"),
    ),
    labels=("false", "true"),
    spellings={"False": "false", "True": "true"},
    metrics=("accuracy",),
    hub=Hub(REPO, "wsc", REVISION),
    release=Release("WSC"),
    about="Does a pronoun mean a noun phrase earlier in the text?",
    source="Levesque, Davis and Morgenstern 2012 (KR); licence not stated in SuperGLUE",
    published=(554, 104),
)

"""Tasks of SuperGLUE (Wang et al. 2019, NeurIPS) that are texts or choices.

A label's place in `labels` is its integer on the Hub.
"""

from __future__ import annotations

from layover.tasks.fields import FieldError, Row, text_at, value_at
from layover.tasks.formats import Choice, Cloze, Pair, PassageAnswers
from layover.tasks.spans import Coreference, WordInContext
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
    """The questions about one passage of MultiRC, as the release nests them."""
    passage = value_at(row, "passage")
    return [{**question, "text": passage["text"]} for question in value_at(passage, "questions")]


def each_query(row: Row) -> list[Row]:
    """The queries about one passage of ReCoRD, with the names that the passage marks by their places."""
    text = text_at(row, "passage.text")
    places = value_at(row, "passage.entities")
    names = [text[place["start"] : place["end"] + 1] for place in places]  # the release's ends are inclusive
    return [{**query, "text": text, "entities": names} for query in value_at(row, "qas")]


cb = Task(
    name="cb",
    version=1,
    format=Pair("premise", "hypothesis"),
    labels=("entailment", "contradiction", "neutral"),
    metrics=("macro_f1", "accuracy"),
    hub=Hub(REPO, "cb", REVISION),
    about="How far is the writer of a text committed to the truth of a clause in it?",
    source="de Marneffe, Simons and Tonhauser 2019 (Sinn und Bedeutung); licence not stated in SuperGLUE",
)

copa = Task(
    name="copa",
    version=1,
    format=Choice("premise", ("choice1", "choice2"), question="question"),
    metrics=("accuracy",),
    hub=Hub(REPO, "copa", REVISION),
    prepare=spell_out_question,
    about="Which of two sentences is the cause or the effect of a third?",
    source="Roemmele, Bejan and Gordon 2011 (AAAI Spring Symposium); licence not stated in SuperGLUE",
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
    about="Does a paragraph of Wikipedia answer a question with yes or no?",
    source="Clark et al. 2019 (NAACL); CC BY-SA 3.0",
)

rte = Task(
    name="rte",
    version=1,
    format=Pair("premise|sentence1", "hypothesis|sentence2"),
    labels=("entailment", "not_entailment"),
    metrics=("accuracy",),
    hub=Hub(REPO, "rte", REVISION),
    about="Does the first text entail the second?",
    source="RTE1, 2, 3 and 5: Dagan et al. 2005 to Bentivogli et al. 2009; licence not stated",
)

multirc = Task(
    name="multirc",
    version=1,
    format=PassageAnswers("text", "question", "answers[].text", blank=True),
    labels=("false", "true"),
    label="answers[].label",
    spellings={"False": "false", "True": "true"},
    metrics=("f1a_em", "f1a", "group_em"),
    prepare=each_question,
    about="Which of several answers to a question about a paragraph are right?",
    source="Khashabi et al. 2018 (NAACL); licence not stated in SuperGLUE",
)

record = Task(
    name="record",
    version=1,
    format=Cloze("text", "query", "entities", "answers[].text"),
    labels=("false", "true"),
    metrics=("token_f1_em", "token_f1", "exact_match"),
    prepare=each_query,
    about="Which of the names in a news article fills the gap in a sentence about it?",
    source="Zhang et al. 2018 (arXiv 1810.12885); licence not stated in SuperGLUE",
)

wic = Task(
    name="wic",
    version=1,
    format=WordInContext("sentence1", "sentence2", ("start1", "end1", "start2", "end2")),
    labels=("false", "true"),
    spellings={"False": "false", "True": "true"},
    metrics=("accuracy",),
    hub=Hub(REPO, "wic", REVISION),
    about="Does a word mean the same in two sentences?",
    source="Pilehvar and Camacho-Collados 2019 (NAACL); licence not stated in SuperGLUE",
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
    about="Does a pronoun mean a noun phrase earlier in the text?",
    source="Levesque, Davis and Morgenstern 2012 (KR); licence not stated in SuperGLUE",
)

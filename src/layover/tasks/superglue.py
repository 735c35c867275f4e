"""Tasks of SuperGLUE (Wang et al. 2019, NeurIPS) that are texts or choices.

A label's place in `labels` is its integer on the Hub.
"""

from __future__ import annotations

from layover.tasks.task import Choice, FieldError, Hub, Pair, Row, Task, value_at

REPO, REVISION = "aps/super_glue", "3de24cf8022e94f4ee4b9d55a6f539891524d646"
COPA_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}


def spell_out_question(row: Row) -> Row:
    """COPA's `cause` or `effect` as the question that Pruksachatkun et al. 2020 put to the encoder."""
    asked = value_at(row, "question")
    if asked not in COPA_QUESTIONS:
        raise FieldError("question", f"holds {asked!r:.60}", f"choices: {', '.join(COPA_QUESTIONS)}")
    return {**row, "question": COPA_QUESTIONS[asked]}


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

"""SentEval's ten probing tasks (Conneau et al. 2018, ACL), and ten that ask the same about other, open texts.

`se_*` read SentEval's own files: one table per task with the part (tr, va, te), the label and the sentence, divided by
tabs. (The script behind Pruksachatkun et al. 2020 read them by column widths, which may cut long sentences.) The scores
of `sestyle_*` are not comparable with SentEval's. Labels are those in the data.
"""

from __future__ import annotations

from layover.tasks.formats import Single
from layover.tasks.gathered import one_file
from layover.tasks.release import Release
from layover.tasks.task import Task

PARTS = {"tr": "train", "va": "validation", "te": "test"}
WHOLE = ("part", "label", "sentence")
NOVELS = "novels of 1852 to 1920, in the public domain in the United States"
TREEBANKS = "UD EWT, ParTUT and PUD, and GUM; CC BY to CC BY-NC-SA"
GUM = "GUM; CC BY to CC BY-NC-SA"

# about, and the texts of the task in SentEval's manner
QUESTIONS = {
    "sentence_length": (
        "Which of six bins is the number of words in: 5-8, 9-12, 13-16, 17-20, 21-25 or 26-28?",
        NOVELS,
    ),
    "word_content": ("Which one of a thousand words is in this sentence?", NOVELS),
    "tree_depth": ("How deep is the sentence's tree?", TREEBANKS),
    "top_constituents": (
        "Which sequence of constituents is right below the top of the tree: one of the commonest, or another?",
        GUM,
    ),
    "bigram_shift": ("Have two adjacent words been swapped (I), or is the sentence as written (O)?", NOVELS),
    "past_present": ("Is the main verb in the present or the past tense?", TREEBANKS),
    "subj_number": ("Is the main clause's subject singular (NN) or plural (NNS)?", TREEBANKS),
    "obj_number": ("Is the main verb's direct object singular (NN) or plural (NNS)?", TREEBANKS),
    "odd_man_out": ("Has a noun or verb been replaced by another (C), or is the sentence as written (O)?", NOVELS),
    "coordination_inversion": (
        "Have the two main clauses been exchanged (I), or is the sentence as written (O)?",
        TREEBANKS,
    ),
}


def _senteval(name: str) -> Task:
    """One of SentEval's own tasks."""
    return Task(
        name=f"se_{name}",
        version=1,
        format=Single("sentence"),
        labels_in_data=True,
        metrics=("accuracy",),
        release=Release(columns=(WHOLE, WHOLE[1:]), gathered=one_file(name, WHOLE, PARTS)),
        about=QUESTIONS[name][0],
        source="Conneau et al. 2018 (ACL), SentEval's data/probing; sentences of the Toronto Book Corpus",
        published=None if name == "sentence_length" else (100_000, 10_000),  # balancing left a few fewer there
    )


def _sestyle(name: str) -> Task:
    """The same question about other texts."""
    about, texts = QUESTIONS[name]
    return Task(
        name=f"sestyle_{name}",
        version=2,
        format=Single("sentence"),
        labels_in_data=True,
        metrics=("accuracy",),
        about=f"{about} SentEval's question about other texts.",
        source=f"in the manner of Conneau et al. 2018 (ACL), on other texts; {texts}",
    )


SENTEVAL = tuple(_senteval(name) for name in QUESTIONS)
SESTYLE = tuple(_sestyle(name) for name in QUESTIONS)

"""Probing tasks on single sentences: acceptability of function words, and tasks in the manner of SentEval.

The `sestyle_*` tasks ask SentEval's questions with SentEval's label names about other, open texts; their
scores are not comparable with SentEval's. Word content (1,000 words as classes) is left out: its words
come from the data, so a user declares it as a task of their own, which reads the labels from the file.
"""

from __future__ import annotations

from layover.tasks.formats import Single
from layover.tasks.task import Task

NOVELS = "novels of 1852 to 1920, in the public domain in the United States"
TREEBANKS = "UD EWT, ParTUT and PUD, and GUM; CC BY to CC BY-NC-SA"
TOP_CONSTITUENTS = """
    ADVP_NP_VP_. ADVP_VP_. CC_ADVP_NP_VP_. CC_NP_VP_. MD_NP_VP_. NP_ADVP_VP_. NP_NP_VP_. NP_PP_. NP_SQ_. NP_VP_.
    OTHER PP_NP_VP_. RB_NP_VP_. S_CC_S_. S_VP_. VBP_NP_VP_. VP_. WHADVP_SQ_. WHNP_SQ_.
"""


def _acceptability(name: str, about: str, licence: str) -> Task:
    """One of the sets of function words, scored by the mean of accuracy and F1 as in Pruksachatkun et al. 2020."""
    return Task(
        name=name,
        version=1,
        format=Single("sentence"),
        labels=("unacceptable", "acceptable"),
        metrics=("accuracy_f1", "accuracy"),
        about=about,
        source=f"Kim et al. 2019 (*SEM), first of ten folds; licences of the texts: {licence}",
    )


def _sestyle(name: str, labels: str, about: str, texts: str) -> Task:
    """One of SentEval's ten questions about other texts; `labels` are divided by blanks."""
    return Task(
        name=f"sestyle_{name}",
        version=1,
        format=Single("sentence"),
        labels=tuple(labels.split()),
        metrics=("accuracy",),
        about=about,
        source=f"in the manner of Conneau et al. 2018 (ACL), on other texts; {texts}",
    )


aj_wh = _acceptability("aj_wh", "Is the wh-word in this sentence the right one?", "Apache 2.0")
aj_coord = _acceptability("aj_coord", "Is the coordinating conjunction in this sentence the right one?", "Apache 2.0")
aj_eos = _acceptability(
    "aj_eos",
    "Is this text, without capitals and punctuation, divided into sentences at the right place?",
    "CC BY-SA 3.0",
)
aj_def = _acceptability("aj_def", "Is the article in this sentence the right one?", "licence not stated")

bigram_shift = _sestyle(
    "bigram_shift", "O I", "Have two adjacent words been swapped (I), or is the sentence as written (O)?", NOVELS
)
coordination_inversion = _sestyle(
    "coordination_inversion",
    "O I",
    "Have the two main clauses been exchanged (I), or is the sentence as written (O)?",
    TREEBANKS,
)
obj_number = _sestyle(
    "obj_number", "NN NNS", "Is the main verb's direct object singular (NN) or plural (NNS)?", TREEBANKS
)
odd_man_out = _sestyle(
    "odd_man_out",
    "O C",
    "Has a noun or verb been replaced by another (C), or is the sentence as written (O)?",
    NOVELS,
)
past_present = _sestyle("past_present", "PRES PAST", "Is the main verb in the present or the past tense?", TREEBANKS)
sentence_length = _sestyle(
    "sentence_length",
    "0 1 2 3 4 5",
    "Which of six bins is the number of words in: 5-8, 9-12, 13-16, 17-20, 21-25 or 26-28?",
    NOVELS,
)
subj_number = _sestyle(
    "subj_number", "NN NNS", "Is the main clause's subject singular (NN) or plural (NNS)?", TREEBANKS
)
tree_depth = _sestyle("tree_depth", "4 5 6 7", "How deep is the dependency tree, from 4 to 7?", TREEBANKS)
top_constituents = _sestyle(
    "top_constituents",
    TOP_CONSTITUENTS,
    "Which sequence of constituents is right below the top of the tree: one of the 18 commonest, or another?",
    "GUM; CC BY to CC BY-NC-SA",
)

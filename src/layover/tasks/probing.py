"""Probing tasks on single sentences: acceptability of function words, and tasks in the manner of SentEval.

The `sestyle_*` tasks ask SentEval's questions with SentEval's label names about other, open texts; their
scores are not comparable with SentEval's. Word content (1,000 words as classes) is left out: its words
come from the data, so a user declares it as a task of their own, which reads the labels from the file.
"""

from __future__ import annotations

from layover.tasks.task import Single, Task

SENTENCE = Single("sentence")
ACCEPTABLE = ("unacceptable", "acceptable")
BOTH = ("accuracy_f1", "accuracy")
KIM = "Kim et al. 2019 (*SEM), first of ten folds; licences of the texts: "
SENTEVAL = "in the manner of Conneau et al. 2018 (ACL), on other texts; "
NOVELS = SENTEVAL + "novels of 1852 to 1920, in the public domain in the United States"
TREEBANKS = SENTEVAL + "UD EWT, ParTUT and PUD, and GUM; CC BY to CC BY-NC-SA"

aj_wh = Task(
    name="aj_wh",
    version=1,
    format=SENTENCE,
    labels=ACCEPTABLE,
    metrics=BOTH,
    about="Is the wh-word in this sentence the right one?",
    source=KIM + "Apache 2.0",
)

aj_coord = Task(
    name="aj_coord",
    version=1,
    format=SENTENCE,
    labels=ACCEPTABLE,
    metrics=BOTH,
    about="Is the coordinating conjunction in this sentence the right one?",
    source=KIM + "Apache 2.0",
)

aj_eos = Task(
    name="aj_eos",
    version=1,
    format=SENTENCE,
    labels=ACCEPTABLE,
    metrics=BOTH,
    about="Is this text, without capitals and punctuation, divided into sentences at the right place?",
    source=KIM + "CC BY-SA 3.0",
)

aj_def = Task(
    name="aj_def",
    version=1,
    format=SENTENCE,
    labels=ACCEPTABLE,
    metrics=BOTH,
    about="Is the article in this sentence the right one?",
    source=KIM + "licence not stated",
)

sestyle_bigram_shift = Task(
    name="sestyle_bigram_shift",
    version=1,
    format=SENTENCE,
    labels=("O", "I"),
    metrics=("accuracy",),
    about="Have two adjacent words been swapped (I), or is the sentence as written (O)?",
    source=NOVELS,
)

sestyle_coordination_inversion = Task(
    name="sestyle_coordination_inversion",
    version=1,
    format=SENTENCE,
    labels=("O", "I"),
    metrics=("accuracy",),
    about="Have the two main clauses been exchanged (I), or is the sentence as written (O)?",
    source=TREEBANKS,
)

sestyle_obj_number = Task(
    name="sestyle_obj_number",
    version=1,
    format=SENTENCE,
    labels=("NN", "NNS"),
    metrics=("accuracy",),
    about="Is the main verb's direct object singular (NN) or plural (NNS)?",
    source=TREEBANKS,
)

sestyle_odd_man_out = Task(
    name="sestyle_odd_man_out",
    version=1,
    format=SENTENCE,
    labels=("O", "C"),
    metrics=("accuracy",),
    about="Has a noun or verb been replaced by another (C), or is the sentence as written (O)?",
    source=NOVELS,
)

sestyle_past_present = Task(
    name="sestyle_past_present",
    version=1,
    format=SENTENCE,
    labels=("PRES", "PAST"),
    metrics=("accuracy",),
    about="Is the main verb in the present or the past tense?",
    source=TREEBANKS,
)

sestyle_sentence_length = Task(
    name="sestyle_sentence_length",
    version=1,
    format=SENTENCE,
    labels=("0", "1", "2", "3", "4", "5"),
    metrics=("accuracy",),
    about="Which of six bins is the number of words in: 5-8, 9-12, 13-16, 17-20, 21-25 or 26-28?",
    source=NOVELS,
)

sestyle_subj_number = Task(
    name="sestyle_subj_number",
    version=1,
    format=SENTENCE,
    labels=("NN", "NNS"),
    metrics=("accuracy",),
    about="Is the main clause's subject singular (NN) or plural (NNS)?",
    source=TREEBANKS,
)

sestyle_tree_depth = Task(
    name="sestyle_tree_depth",
    version=1,
    format=SENTENCE,
    labels=("4", "5", "6", "7"),
    metrics=("accuracy",),
    about="How deep is the dependency tree, from 4 to 7?",
    source=TREEBANKS,
)

TOP_CONSTITUENTS = """
    ADVP_NP_VP_. ADVP_VP_. CC_ADVP_NP_VP_. CC_NP_VP_. MD_NP_VP_. NP_ADVP_VP_. NP_NP_VP_. NP_PP_. NP_SQ_. NP_VP_.
    OTHER PP_NP_VP_. RB_NP_VP_. S_CC_S_. S_VP_. VBP_NP_VP_. VP_. WHADVP_SQ_. WHNP_SQ_.
"""

sestyle_top_constituents = Task(
    name="sestyle_top_constituents",
    version=1,
    format=SENTENCE,
    labels=tuple(TOP_CONSTITUENTS.split()),
    metrics=("accuracy",),
    about="Which sequence of constituents is right below the top of the tree: one of the 18 commonest, or another?",
    source=SENTEVAL + "GUM; CC BY to CC BY-NC-SA",
)

"""The nine tasks of GLUE (Wang et al. 2019, ICLR).

A label's place in `labels` is its integer on the Hub. Where the release's own TSV names a field otherwise,
that name follows a bar; GLUE's folders are found by their own names.
"""

from __future__ import annotations

from layover.tasks.formats import Pair, Single
from layover.tasks.release import Release
from layover.tasks.task import Hub, Task

REPO, REVISION = "nyu-mll/glue", "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"
ENTAILMENT = ("entailment", "not_entailment")

cola = Task(
    name="cola",
    version=1,
    format=Single("sentence"),
    labels=("unacceptable", "acceptable"),
    metrics=("mcc", "accuracy"),
    hub=Hub(REPO, "cola", REVISION),
    release=Release("CoLA", ("train|in_domain_train", "dev|in_domain_dev"), (("source", "label", "star", "sentence"),)),
    about="Is this sentence acceptable English?",
    source="Warstadt et al. 2019 (TACL); licence not stated for the texts, which are from published linguistics",
    published=(8_551, 1_043),
)

sst2 = Task(
    name="sst2",
    version=1,
    format=Single("sentence"),
    labels=("negative", "positive"),
    metrics=("accuracy",),
    hub=Hub(REPO, "sst2", REVISION),
    release=Release("SST-2"),
    about="Is this phrase from a film review negative or positive?",
    source="Socher et al. 2013 (EMNLP); licence not stated",
    published=(67_349, 872),
)

mrpc = Task(
    name="mrpc",
    version=1,
    format=Pair("sentence1|#1 String", "sentence2|#2 String"),
    labels=("not_equivalent", "equivalent"),
    label="label|Quality",
    metrics=("accuracy_f1", "accuracy", "f1"),
    hub=Hub(REPO, "mrpc", REVISION),
    release=Release("MRPC"),
    about="Do two sentences from the news say the same?",
    source="Dolan and Brockett 2005 (IWP); licence not stated in GLUE",
    published=(3_668, 408),
)

rte_glue = Task(
    name="rte_glue",
    version=1,
    format=Pair("premise|sentence1", "hypothesis|sentence2"),
    labels=ENTAILMENT,
    metrics=("accuracy",),
    hub=Hub(REPO, "rte", REVISION),
    release=Release("RTE"),
    about="Does the first text entail the second? The pairs of rte, as GLUE releases them.",
    source="RTE1, 2, 3 and 5: Dagan et al. 2005 to Bentivogli et al. 2009; licence not stated",
    published=(2_490, 277),
)

qnli = Task(
    name="qnli",
    version=1,
    format=Pair("question", "sentence"),
    labels=ENTAILMENT,
    metrics=("accuracy",),
    hub=Hub(REPO, "qnli", REVISION),
    release=Release("QNLI"),
    about="Does this sentence answer the question?",
    source="Wang et al. 2019 from SQuAD, Rajpurkar et al. 2016 (EMNLP); CC BY-SA 4.0",
    published=(104_743, 5_463),
)

wnli = Task(
    name="wnli",
    version=1,
    format=Pair("sentence1", "sentence2"),
    labels=("not_entailment", "entailment"),
    metrics=("accuracy",),
    hub=Hub(REPO, "wnli", REVISION),
    release=Release("WNLI"),
    about="Does the sentence still hold once its pronoun is replaced by a noun?",
    source="Wang et al. 2019 from Levesque et al. 2012 (KR); licence not stated in GLUE",
    published=(635, 71),
)

stsb = Task(
    name="stsb",
    version=1,
    format=Pair("sentence1", "sentence2", output="value"),
    label="label|score",
    bounds=(0.0, 5.0),
    metrics=("spearman", "pearson"),
    hub=Hub(REPO, "stsb", REVISION),
    release=Release("STS-B"),
    about="How alike in meaning are two sentences, from 0 to 5?",
    source="Cer et al. 2017 (SemEval); scores CC BY-SA 4.0, texts under several licences",
    published=(5_749, 1_500),
)

qqp = Task(
    name="qqp",
    version=1,
    format=Pair("question1", "question2"),
    labels=("not_duplicate", "duplicate"),
    label="label|is_duplicate",
    metrics=("accuracy_f1", "accuracy", "f1"),
    hub=Hub(REPO, "qqp", REVISION),
    release=Release("QQP", ragged=True),  # a few lines of GLUE's file lack cells
    about="Do two questions from Quora ask the same?",
    source="Iyer, Dandekar and Csernai 2017 (Quora); Quora's own terms",
    published=(363_846, 40_430),
)

mnli = Task(
    name="mnli",
    version=1,
    format=Pair("premise|sentence1", "hypothesis|sentence2"),
    labels=("entailment", "neutral", "contradiction"),
    label="label|gold_label",
    metrics=("accuracy",),
    hub=Hub(REPO, "mnli", REVISION, validation="validation_matched"),
    release=Release("MNLI", ("train", "dev_matched|validation_matched")),
    about="Does the first text entail the second, contradict it, or neither? Validation is the matched set.",
    source="Williams, Nangia and Bowman 2018 (NAACL); OANC's licence for most texts, others for the fiction",
    published=(392_702, 9_815),
)

"""Intermediate tasks of Pruksachatkun et al. 2020 that are classes or choices and neither in GLUE nor in SuperGLUE."""

from __future__ import annotations

from layover.tasks.formats import Choice, Pair
from layover.tasks.gathered import labels_apart
from layover.tasks.release import Release
from layover.tasks.task import Hub, Task

commonsenseqa = Task(
    name="commonsenseqa",
    version=1,
    format=Choice("question.stem|question", ("question.choices[].text|choices.text",)),
    label="answerKey",
    spellings={"A": "0", "B": "1", "C": "2", "D": "3", "E": "4"},
    metrics=("accuracy",),
    hub=Hub("tau/commonsense_qa", None, "94630fe30dad47192a8546eb75f094926d47e155"),
    release=Release(files=("train_rand_split", "dev_rand_split")),
    about="Which of five answers to a question of common sense is right? The random split of v1.11.",
    source="Talmor et al. 2019 (NAACL); licence not stated in the release",
    published=(9_741, 1_221),
)

cosmosqa = Task(
    name="cosmosqa",
    version=1,
    format=Choice("context", ("answer0", "answer1", "answer2", "answer3"), question="question"),
    metrics=("accuracy",),
    hub=Hub("allenai/cosmos_qa", None, "ed50fe83db62b355759053b1cd5eef344ee371e0"),
    about="Which of four answers follows from reading between the lines of a blog post?",
    source="Huang et al. 2019 (EMNLP); CC BY 4.0 by the Hub's card",
    published=(25_262, 2_985),
)

socialiqa = Task(
    name="socialiqa",
    version=1,
    format=Choice("context", ("answerA", "answerB", "answerC"), question="question"),
    label="label|correct",
    spellings={"1": "0", "2": "1", "3": "2", "A": "0", "B": "1", "C": "2"},
    metrics=("accuracy",),
    hub=Hub("lighteval/siqa", None, "54c6a1f8cb6daf4f5abf24a601852612fb35eb25"),
    release=Release(gathered=labels_apart("train", "dev", "label")),
    about="Which of three answers says how people feel or act in a social situation?",
    source="Sap et al. 2019 (EMNLP); licence not stated",
    published=(33_410, 1_954),
)

hellaswag = Task(
    name="hellaswag",
    version=1,
    format=Choice("ctx", ("endings",)),
    metrics=("accuracy",),
    hub=Hub("Rowan/hellaswag", None, "218ec52e09a7e7462a5400043bb9a69a41d06b76"),
    release=Release(files=("hellaswag_train", "hellaswag_val")),
    about="Which of four endings continues the description of a scene?",
    source="Zellers et al. 2019 (ACL); MIT",
    published=(39_905, 10_042),
)

scitail = Task(
    name="scitail",
    version=1,
    format=Pair("premise|sentence1", "hypothesis|sentence2"),
    labels=("entailment", "neutral"),
    label="label|gold_label",
    spellings={"entails": "entailment"},
    metrics=("accuracy",),
    hub=Hub("allenai/scitail", "tsv_format", "0cc4353235b289165dfde1c7c5d1be983f99ce44"),
    release=Release(files=("scitail_1.0_train", "scitail_1.0_dev"), columns=(("premise", "hypothesis", "label"),)),
    about="Does a sentence from the web support the answer to a science question?",
    source="Khot, Sabharwal and Clark 2018 (AAAI); licence not stated",
    published=(23_596, 1_304),
)

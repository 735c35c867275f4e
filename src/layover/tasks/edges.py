"""Edge probing (Tenney et al. 2019, ICLR): what stretches of a text are, or how two of them are related.

All read the JSON Lines of jiant's probing/README.md: `text`, and `targets` with `span1`, `span2` and `label`, where
stretches count words. Five of the ten sets of Pruksachatkun et al. 2020 are made of OntoNotes 5.0 and one of the Penn
Treebank, which are licensed; `*_ewt`, `*_gum` and `*_wnut17` ask alike of open texts and have names of their own, since
their scores are not comparable. Labels are those in the data, but where the last one has to be the positive one.
"""

from __future__ import annotations

from typing import Literal

from layover.tasks.release import Release
from layover.tasks.spans import EdgeProbing
from layover.tasks.task import Task

ONTONOTES = (
    "needs OntoNotes 5.0, licensed by the LDC as LDC2013T19; extract_ontonotes_all.py of jiant v1 (probing/data) makes "
    "a JSON file per part of its CoNLL-2012 form"
)
TREES = f"{ONTONOTES}, which split_constituent_data.py divides into parts of speech and constituents"
PTB = (
    "needs SPR1 joined with the Penn Treebank, licensed by the LDC as LDC99T42 (jiant v1 names whom to ask for the "
    "joined data); convert-spr1-rudinger.py of jiant v1 (probing/data) makes a JSON file per part of it"
)
EWT = "UD English EWT r2.2, CC BY-SA 4.0"
GUM = "GUM; annotation CC BY 4.0, texts CC BY to CC BY-NC-SA"
ENTITIES = ("0", "1")
RESOLVED = ("not-entailed", "entailed")


def _edges(
    name: str,
    spans: Literal[1, 2],
    about: str,
    source: str,
    *,
    labels: tuple[str, ...] = (),
    files: tuple[str, str] = ("", ""),
    licence: str = "",
    published: tuple[int, int] | None = None,
) -> Task:
    """One set, scored by micro F1 over all labels; with `labels` also by the F1 of the last."""
    return Task(
        name=f"edge_{name}",
        version=1,
        format=EdgeProbing(spans),
        labels=labels,
        labels_in_data=not labels,
        metrics=("micro_f1", *(["last_label_f1"] if labels else []), "exact_labels"),
        release=Release(files=files),
        about=about,
        source=source,
        licence=licence,
        published=published,
    )


SOURCE = "Tenney et al. 2019 (ICLR) from OntoNotes 5.0"
pos = _edges("pos", 1, "What part of speech is a word, in Penn Treebank tags?", SOURCE, licence=TREES)
ner = _edges("ner", 1, "What kind of thing is a named entity?", SOURCE, licence=ONTONOTES)
const = _edges("const", 1, "What kind of constituent is a stretch of words?", SOURCE, licence=TREES)
srl = _edges("srl", 2, "What role does a phrase have for a verb?", SOURCE, licence=ONTONOTES)
coref = _edges(
    "coref", 2, "Are two mentions in a sentence the same entity?", SOURCE, labels=ENTITIES, licence=ONTONOTES
)
spr1 = _edges(
    "spr1",
    2,
    "Which properties does a verb give its argument, such as awareness or change of state?",
    "Reisinger et al. 2015 (TACL), as in Tenney et al. 2019",
    files=("spr1.train", "spr1.dev"),
    licence=PTB,
    published=(3_843, 518),
)
spr2 = _edges(
    "spr2",
    2,
    "Which properties does a verb give its argument, in texts of the web?",
    "White et al. 2016 (EMNLP), as in Tenney et al. 2019; UD English EWT, CC BY-SA 4.0",
    files=("edges.train|train.edges", "edges.dev|dev.edges"),
    published=(2_226, 291),
)
dpr = _edges(
    "dpr",
    2,
    "Does a pronoun mean this candidate?",
    "Rahman and Ng 2012 (EMNLP), recast by White et al. 2017 (IJCNLP); licence not stated",
    labels=RESOLVED,
    files=("train.edges", "dev.edges"),
    published=(958, 223),
)
semeval_rel = _edges(
    "semeval_rel",
    2,
    "How are two nouns related, and in which direction?",
    "Hendrickx et al. 2010 (SemEval-2010 Task 8); CC BY 3.0",
    files=("train.0.85", "dev"),
    published=(6_851, 1_149),
)
dep_ewt = _edges(
    "dep_ewt",
    2,
    "How does a word depend on its head?",
    f"EP-UD of Pruksachatkun et al. 2020; {EWT}",
    files=("en_ewt-ud-train", "en_ewt-ud-dev"),
    published=(12_543, 2_002),
)

pos_ewt = _edges("pos_ewt", 1, "What part of speech is a word, in Penn Treebank tags? Open texts.", EWT)
upos_ewt = _edges("upos_ewt", 1, "What part of speech is a word, in universal tags? Open texts.", EWT)
srl_ewt = _edges(
    "srl_ewt", 2, "What role does a phrase have for a verb? Open texts.", f"PropBank, CC BY-SA 4.0, on {EWT}"
)
const_gum = _edges("const_gum", 1, "What kind of constituent is a stretch of words? Open texts.", GUM)
entity_gum = _edges("entity_gum", 1, "What kind of thing is mentioned, by name or not? Open texts.", GUM)
coref_gum = _edges("coref_gum", 2, "Are two mentions in a sentence the same entity? Open texts.", GUM, labels=ENTITIES)
ner_wnut17 = _edges(
    "ner_wnut17",
    1,
    "What kind of thing is a named entity? Open texts.",
    "Derczynski et al. 2017 (W-NUT); CC BY 4.0",
)

"""Tasks of Chang and Lu 2021 (Findings of EMNLP) that are declared nowhere else.

Their target tasks besides these are `rte`, `wic` and `cola`, their intermediate tasks `hellaswag` and `hellaswag_p`.
"""

from __future__ import annotations

from layover.tasks.fields import FieldError, Row, text_at
from layover.tasks.formats import Choice, Pair
from layover.tasks.gathered import labels_apart
from layover.tasks.intermediate import socialiqa
from layover.tasks.release import Release
from layover.tasks.task import Hub, Task

WINOGRANDE_SIZES = {"xs": 160, "s": 640, "m": 2_558, "l": 10_234}
GAP = "_"


def fill_gap(row: Row) -> Row:
    """A sentence of WinoGrande as (what is before the gap, each option with what is behind it)."""
    before, gap, behind = text_at(row, "sentence").partition(GAP)
    if not gap:
        raise FieldError("sentence", f"has no gap {GAP!r}: {row['sentence']!r:.60}")
    filled = {name: f"{text_at(row, name)} {behind.strip()}".strip() for name in ("option1", "option2")}
    return {**row, "before": before.strip(), **filled}


def _winogrande(size: str, train: int) -> Task:
    return Task(
        name=f"winogrande_{size}",
        version=1,
        format=Choice("before", ("option1", "option2")),
        label="answer",
        spellings={"1": "0", "2": "1"},
        metrics=("accuracy",),
        hub=Hub("allenai/winogrande", f"winogrande_{size}", "01e74176c63542e6b0bcb004dcdea22d94fb67b5"),
        prepare=fill_gap,
        release=Release("winogrande", (f"train_{size}", "dev"), fields=("sentence", "option1", "option2")),
        about=f"Which of two names fills the gap in a sentence? Training set {size.upper()}.",
        source="Sakaguchi et al. 2020 (AAAI); CC BY",
        published=(train, 1_267),
    )


WINOGRANDE = tuple(_winogrande(size, train) for size, train in WINOGRANDE_SIZES.items())

hellaswag_p = Task(
    name="hellaswag_p",
    version=1,
    format=Choice(None, ("endings",)),
    metrics=("accuracy",),
    hub=Hub("Rowan/hellaswag", None, "218ec52e09a7e7462a5400043bb9a69a41d06b76"),
    release=Release("hellaswag", ("train|hellaswag_train", "validation|dev|val|hellaswag_val")),
    about="Which of four endings did a human write? HellaSwag without the scene that they end.",
    source="Chang and Lu 2021 (Findings of EMNLP) from Zellers et al. 2019 (ACL); MIT",
    published=(39_905, 10_042),
)

mednli = Task(
    name="mednli",
    version=1,
    format=Pair("sentence1", "sentence2"),
    labels=("entailment", "contradiction", "neutral"),
    label="gold_label",
    metrics=("accuracy",),
    release=Release(files=("mli_train_v1", "mli_dev_v1")),
    about="Does a sentence of a clinical note entail a statement, contradict it, or neither?",
    source="Romanov and Shivade 2018 (EMNLP)",
    licence="needs MedNLI, which PhysioNet gives to credentialed users who have signed its data use agreement",
    published=(11_232, 1_395),
)

socialiqa_clip60 = Task(
    name="socialiqa_clip60",
    version=1,
    format=socialiqa.format,
    label=socialiqa.label,
    spellings=socialiqa.spellings,
    metrics=("accuracy",),
    release=Release("socialiqa", ("clip60_iqa_train", "dev|validation|val"),
                    gathered=labels_apart("clip60_iqa_train", "dev", "label")),
    about="Social IQa with the training set that Chang and Lu 2021 call clip60.",
    source="Chang and Lu 2021 (Findings of EMNLP) from Sap et al. 2019 (EMNLP); licence not stated",
    licence="needs the training set clip60 of Social IQa, which Chang and Lu 2021 neither released nor described: only "
    "its file's name, clip60_iqa_train.jsonl, is known from their code",
)  # fmt: skip

syn_gpt2 = Task(
    name="syn_gpt2",
    version=1,
    format=Choice("context", ("endings",)),
    metrics=("accuracy",),
    about="Which of four endings of a sentence did a human write? The others are GPT-2's.",
    source="Chang and Lu 2021 (Findings of EMNLP), from contexts of SQuAD 1.1; CC BY-SA 4.0. Made, not released",
    licence="needs SQuAD's training paragraphs, one a line, and GPT-2: layover synthesize squad.txt --out DIR/syn_gpt2 "
    "--generator gpt2-medium --sentences 30000",
)

"""One training run by transformers' `Trainer` or by layover, in this process: `python bench/engines.py RUN`.

RUN is a `common.Run` as JSON. Prints, as JSON, processor seconds since the process began at the end of every optimizer
step, those of the whole process, its largest memory in MB, and what was predicted for the rows of validation.

Both: AdamW (fused) with weight decay 0.01 and epsilon 1e-6, clipping at 1.0, the encoder's own dropout, 10 % warm-up
and linear decay, batches collated in the process, nothing logged or saved on the way. Else the Trainer has its
defaults, and the standard classes: a pooler (BERT) or a dense layer (RoBERTa), a linear layer, padding collators.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Run, as_data, read_rows


def with_trainer(run: Run) -> dict[str, Any]:
    import torch
    import transformers as hf

    rows = read_rows(run.rows)
    choice = len(rows["train"][0][0]) > 1
    tokenizer = hf.AutoTokenizer.from_pretrained(run.encoder)
    hf.set_seed(run.seed)
    kind = hf.AutoModelForMultipleChoice if choice else hf.AutoModelForSequenceClassification
    model = kind.from_pretrained(run.start or run.encoder, num_labels=rows["n_labels"] or 2, dtype=torch.float32,
                                 ignore_mismatched_sizes=True)  # fmt: skip
    collator = hf.DataCollatorForMultipleChoice if choice else hf.DataCollatorWithPadding
    stamps: list[float] = []

    class Stamp(hf.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stamps.append(time.process_time())

    trainer = hf.Trainer(
        model=model,
        args=arguments(run),
        train_dataset=features(rows["train"], tokenizer, run.max_length, choice),  # type: ignore[arg-type]
        data_collator=collator(tokenizer, padding=run.padding, max_length=run.max_length),
        callbacks=[Stamp()],
    )
    trainer.train()
    if run.save:
        trainer.save_model(run.save)
    found = trainer.predict(features(rows["validation"], tokenizer, run.max_length, choice))  # type: ignore[arg-type]
    return {"stamps": stamps, "predicted": found.predictions.argmax(-1).tolist()}  # type: ignore[union-attr]


def arguments(run: Run) -> Any:
    """The Trainer's settings, so that both engines take the same optimizer steps; all else is its default."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=tempfile.gettempdir(),
        per_device_train_batch_size=run.batch_size,
        num_train_epochs=run.epochs,
        learning_rate=run.learning_rate,
        warmup_steps=0.1,  # below 1: a share of all steps
        weight_decay=0.01,
        adam_epsilon=1e-6,
        bf16=run.precision == "bf16",
        train_sampling_strategy="sequential" if run.ordered else "random",
        seed=run.seed,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )


def features(rows: Sequence[Any], tokenizer: Any, max_length: int, choice: bool) -> list[dict[str, Any]]:
    """The rows as the examples of transformers prepare them: token ids, and for choices a list of them."""
    made = []
    for inputs, label in rows:
        firsts = [" ".join(first) for first, _ in inputs]
        seconds = None if inputs[0][1] is None else [" ".join(second) for _, second in inputs]
        tokens = tokenizer(firsts, seconds, truncation=True, max_length=max_length)
        made.append({**{name: ids if choice else ids[0] for name, ids in tokens.items()}, "label": label})
    return made


def with_layover(run: Run) -> dict[str, Any]:
    from layover.step import Places, Recipe
    from layover.train.work import train

    rows = read_rows(run.rows)
    stamps: list[float] = []
    recipe = Recipe(learning_rate=run.learning_rate, batch_size=run.batch_size, epochs=run.epochs, patience=0,
                    max_length=run.max_length, checkpoint="last", precision=run.precision)  # type: ignore[arg-type]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        result = train(
            as_data(rows, placed(len(rows["train"]), run)),
            recipe,
            run.seed,
            run.encoder,
            None,
            Places(device="cpu", threads=1, checkpoint_seconds=1e9),
            Path(folder) / "resume",
            lambda _: stamps.append(time.process_time()),
        )
    return {"stamps": stamps, "predicted": result.decoded.predictions.predicted.tolist()}


def placed(n: int, run: Run) -> list[int]:
    """The order of n rows from which layover's first epoch makes its batches: one that comes out as they lie."""
    if not run.ordered:
        return list(range(n))
    from layover.train.batching import epoch_order

    drawn = [int(i) for batch in epoch_order(n, run.batch_size, run.seed, 0) for i in batch]
    return sorted(range(n), key=drawn.__getitem__)


if __name__ == "__main__":
    asked = Run(**json.loads(sys.argv[1]))
    result = (with_trainer if asked.engine == "trainer" else with_layover)(asked)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**result, "cpu": time.process_time(), "peak": peak}))

"""Card: what is said of an encoder that was trained from nothing, for people."""

from __future__ import annotations

from typing import Any

RECORD = "pretrain.json"  # the same for programs, and all of it


def card(record: dict[str, Any]) -> str:
    """The model card: what it is, what it was trained on, for how long, and how good it is."""
    settings, data, held = record["settings"], record["data"], record["held_out"]
    state = (
        "" if record["finished"] else f" It is **not finished**: {record['steps']:,} of {settings['steps']:,} steps."
    )
    devices = ", ".join(sorted({piece["device"] for piece in record["pieces"]}))
    lines = [
        "---\nlibrary_name: transformers\npipeline_tag: fill-mask\n---\n",
        "# An encoder trained from nothing with layover\n",
        f"RoBERTa-style: {settings['layers']} layers of width {settings['width']} with {settings['heads']} heads, "
        f"{data['vocabulary']:,} byte-level BPE tokens, inputs of {settings['max_length']} tokens at most, "
        f"{record['parameters']:,} parameters.{state}\n",
        "```python\nfrom transformers import AutoModelForMaskedLM, AutoTokenizer\n\n"
        'model = AutoModelForMaskedLM.from_pretrained(".")  # this folder\n'
        'tokenizer = AutoTokenizer.from_pretrained(".")\n```\n',
        "| | |\n|---|---|",
        f"| text | {', '.join(data['files'])} ({data['digest'][:19]}) |",
        f"| tokens of text | {data['train_tokens']:,} to train on, {data['held_tokens']:,} held out |",
        f"| steps | {record['steps']:,} of {settings['batch_size']} blocks of {settings['max_length']} tokens: "
        f"{record['tokens']:,} tokens, {record['epochs']} epochs |",
        f"| compute | {record['seconds']:,.0f} s on {devices}, {settings['precision']} |",
        *([f"| held-out loss | {held['loss']:.3f} nats per hidden token |"] if held else []),
        *([f"| held-out accuracy | {held['accuracy']:.1f} % of hidden tokens |"] if "accuracy" in held else []),
        f"| seed | {settings['seed']} |",
        f"\nEverything that is known of it is in `{RECORD}`.",
    ]
    return "\n".join(lines) + "\n"

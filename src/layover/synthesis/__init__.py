"""Synthesis: real-vs-fake discrimination tasks from any text (Chang and Lu 2021)."""

GENERATORS = "gpt2, gpt2-medium, another causal model of the Hub, or a directory such as `layover generator` writes"

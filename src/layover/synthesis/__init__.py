"""Synthesis: real-vs-fake discrimination tasks from any text (Chang and Lu 2021)."""

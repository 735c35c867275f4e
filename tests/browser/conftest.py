"""Tests share their makers of synthetic tables: `tests.stats.tables` and `tests.report.factory`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

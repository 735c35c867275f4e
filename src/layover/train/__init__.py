"""Training: the only folder that imports torch."""

import os

# Idle threads spin briefly and then sleep. With torch's default they spin for long, and where anything else uses the
# cores they starve the thread that works: bench/step.py, figures in docs/benchmarks.md.
# It is read when torch is loaded, so it stands here, before any import of torch; a user's own setting is kept.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

"""Metrics: functions from predictions to a score in points (0-100), found by name in METRICS."""

from layover.metrics import classes, sets, texts, tokens, values  # each registers its own
from layover.metrics.metric import METRICS, Array, Metric, fitting, get_metric

__all__ = ["METRICS", "Array", "Metric", "classes", "fitting", "get_metric", "sets", "texts", "tokens", "values"]

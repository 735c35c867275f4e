"""Heads: what turns an encoder's output into predictions. One linear layer, shared by all tasks of an output kind."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from layover.tasks.task import Task
from layover.train.determinism import derive

INITIAL_SD = 0.02  # BERT's and RoBERTa's initializer_range


class Head(nn.Module):
    """Dropout, then one linear layer on the pooled vector: no pooler and no tanh (jiant's `log_reg`; papers.md 1.5).

    Outputs [examples, classes] for classes, [examples, most choices] for choices (-inf where an example has
    fewer), [examples] for a real number (scaled to 0-1 by the task's bounds).
    """

    def __init__(self, width: int, task: Task, dropout: float, seed: int) -> None:
        super().__init__()
        self.output = task.output
        self.dropout = nn.Dropout(dropout)
        # the choices of an example share whatever a bias adds: it would have no gradient but rounding noise
        self.linear = nn.Linear(width, len(task.labels) if task.output == "classes" else 1, self.output != "choice")
        generator = torch.Generator().manual_seed(derive(seed, "head"))
        with torch.no_grad():
            self.linear.weight.normal_(0.0, INITIAL_SD, generator=generator)
            if self.linear.bias is not None:
                self.linear.bias.zero_()
        self.low, self.high = task.bounds or (0.0, 1.0)

    def forward(self, pooled: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """The head's scores for pooled vectors [inputs, width]; `sizes` are the inputs per example."""
        scores = self.linear(self.dropout(pooled)).float()
        if self.output == "classes":
            return scores
        if self.output == "value":
            return scores[:, 0]
        per_example = torch.split(scores[:, 0], sizes)
        return nn.utils.rnn.pad_sequence(list(per_example), batch_first=True, padding_value=float("-inf"))

    def loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The sum over examples of cross-entropy, or of squared error for a real number."""
        if self.output == "value":
            scaled = (labels.float() - self.low) / (self.high - self.low)
            return functional.mse_loss(scores, scaled, reduction="sum")
        return functional.cross_entropy(scores, labels.long(), reduction="sum")

    def predict(self, scores: torch.Tensor) -> torch.Tensor:
        """Predictions in the task's own terms: class or choice indices, or numbers within the bounds."""
        if self.output == "value":
            # a network that became NaN still predicts something: its run is finished, and marked degenerate
            return (scores.nan_to_num(0.0) * (self.high - self.low) + self.low).clamp(self.low, self.high)
        return scores.nan_to_num(nan=float("-inf")).argmax(-1)

"""Heads: what turns an encoder's output into predictions. A few parts, put together as a task's format says.

The parts are those of jiant v1, with which Pruksachatkun et al. 2020 worked (papers.md 1.5): one linear layer on the
first token's vector without pooler or tanh; per stretch of text a projection and self-attentive pooling (Lee et al.
2017); for edge probing a hidden layer with tanh and layer norm.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from layover.tasks.task import Task
from layover.train.batching import Batch
from layover.train.determinism import derive

INITIAL_SD = 0.02  # BERT's and RoBERTa's initializer_range
INNER_DROPOUT = 0.3  # in the hidden layer of edge probing: jiant v1
MOST_SCORES = 128  # more scores than this per prediction are not kept: 1,363 for every word would be gigabytes


class Head(nn.Module):
    """Dropout, the vector of each target, perhaps a hidden layer (with dropout `inner`), then one linear layer.

    Scores are [targets, classes] for classes and sets of labels, [examples, most choices] for choices (-inf where an
    example has fewer), [targets] for a real number (scaled to 0-1 by the task's bounds), [examples, 2, tokens] for
    where an answer begins and ends.
    """

    def __init__(self, width: int, task: Task, dropout: float, seed: int, inner: float = INNER_DROPOUT) -> None:
        super().__init__()
        reads, self.output = task.format.reads, task.output
        self.sentence, self.pool = reads.sentence, reads.pool
        self.dropout = nn.Dropout(dropout)
        outputs = {"classes": len(task.labels), "labels": len(task.labels), "extent": 2}.get(self.output, 1)
        features = width * int(reads.sentence or self.output == "extent") + (reads.project or width) * reads.marks
        attentive = reads.marks if reads.pool == "attentive" else 0
        self.stretches = nn.ModuleList(Attentive(width, reads.project) for _ in range(attentive))
        self.hidden = Hidden(features, reads.hidden, inner) if reads.hidden else nn.Identity()
        # the choices of an example share whatever a bias adds: it would have no gradient but rounding noise
        self.linear = nn.Linear(reads.hidden or features, outputs, bias=self.output != "choice")
        self._initialise(torch.Generator().manual_seed(derive(seed, "head")))
        self.low, self.high = task.bounds or (0.0, 1.0)

    def _initialise(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.linear.weight.normal_(0.0, INITIAL_SD, generator=generator)
            for module in self.modules():
                if isinstance(module, nn.Linear) and module is not self.linear:
                    bound = 1 / math.sqrt(module.in_features)  # torch's own default, from our own stream
                    module.weight.uniform_(-bound, bound, generator=generator)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()

    def forward(self, hidden: torch.Tensor, pooled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The scores for hidden states [inputs, tokens, width] and the inputs' pooled vectors [inputs, width]."""
        if self.output == "extent":
            scores = self.linear(self.dropout(hidden)).float().transpose(1, 2)
            return scores.masked_fill(batch.tokens["attention_mask"].unsqueeze(1) == 0, float("-inf"))
        scores = self.linear(self.hidden(self._vectors(hidden, pooled, batch))).float()
        if self.output in ("classes", "labels"):
            return scores
        if self.output == "value":
            return scores[:, 0]
        per_example = torch.split(scores[:, 0], batch.sizes)
        return nn.utils.rnn.pad_sequence(list(per_example), batch_first=True, padding_value=float("-inf"))

    def _vectors(self, hidden: torch.Tensor, pooled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What the linear layer reads: the inputs' vectors, or one of each target's own [targets, features]."""
        marks = batch.spans.shape[1]
        if not marks:
            return self.dropout(pooled)
        tokens = self.dropout(hidden)
        parts = [self.dropout(pooled)[batch.example]] if self.sentence else []
        for mark in range(marks):
            span = batch.spans[:, mark]
            if self.pool == "first":
                parts.append(tokens[batch.example, span[:, 0]])
            elif self.pool == "mean":
                parts.append(mean_of(tokens, batch.example, span))
            else:
                parts.append(self.stretches[mark](tokens, batch.example, span))
        return torch.cat(parts, dim=-1)

    def loss(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The sum over targets of cross-entropy, or of squared error for a real number.

        Of a set of labels, the mean over labels of the binary cross-entropy; of an answer's place, the mean of those of
        its begin and its end.
        """
        labels = batch.labels
        if self.output == "value":
            scaled = (labels.float() - self.low) / (self.high - self.low)
            return functional.mse_loss(scores, scaled, reduction="sum")
        if self.output == "labels":
            each = functional.binary_cross_entropy_with_logits(scores, labels.float(), reduction="none")
            return each.mean(-1).sum()
        if self.output == "extent":
            asked = scores[batch.example]
            begin = functional.cross_entropy(asked[:, 0], batch.spans[:, 0, 0], reduction="sum")
            return (begin + functional.cross_entropy(asked[:, 1], batch.spans[:, 0, 1] - 1, reduction="sum")) / 2
        return functional.cross_entropy(scores, labels.long(), reduction="sum")

    def predict(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Predictions in the task's own terms.

        [n] class or choice indices, or numbers within the bounds; [n, classes] of 0 and 1 for sets of labels (1 where
        the score is not negative); [n, 2] for an answer's tokens, begin and end (exclusive): the best begin in the
        passage, and the best end that is not before it.
        """
        if self.output == "value":
            # a network that became NaN still predicts something: its run is finished, and marked degenerate
            return (scores.nan_to_num(0.0) * (self.high - self.low) + self.low).clamp(self.low, self.high)
        scores = scores.nan_to_num(nan=float("-inf"), neginf=float("-inf"))
        if self.output == "labels":
            return (scores >= 0).to(torch.uint8)
        if self.output == "extent":
            return self._extents(scores, batch)
        return scores.argmax(-1)

    def _extents(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        assert batch.inside is not None
        asked = scores.masked_fill(~batch.inside.unsqueeze(1), float("-inf"))[batch.example]
        begin = asked[:, 0].argmax(-1)
        before = torch.arange(asked.shape[-1], device=asked.device) < begin.unsqueeze(1)
        end = asked[:, 1].masked_fill(before, float("-inf")).argmax(-1)
        return torch.stack([begin, torch.maximum(begin, end) + 1], dim=1)

    def kept(self, scores: torch.Tensor, predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The scores that a run keeps [n, outputs]: all, or of many classes that of the predicted one.

        Of an answer's place, those of its begin and end.
        """
        if self.output == "extent":
            asked = scores[batch.example]
            ends = torch.stack([predicted[:, 0], predicted[:, 1] - 1], dim=1)
            return asked.gather(2, ends.unsqueeze(-1)).squeeze(-1)
        scores = scores.reshape(len(scores), -1)
        return scores.max(-1, keepdim=True).values if scores.shape[1] > MOST_SCORES else scores


class Attentive(nn.Module):
    """Self-attentive pooling of stretches of tokens, after a projection of every token (a 1 x 1 convolution).

    A stretch's vector [targets, project] is the sum of its projected tokens, weighted by a softmax of learned scores.
    """

    def __init__(self, width: int, project: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, project)
        self.attend = nn.Linear(project, 1, bias=False)  # a softmax does not see what all tokens share

    def forward(self, hidden: torch.Tensor, example: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
        """Vectors for stretches [targets, 2] of examples [targets], from hidden states [inputs, tokens, width]."""
        owner, inputs, tokens = flattened(example, span)
        projected = self.project(hidden)[inputs, tokens]
        score = self.attend(projected).float().squeeze(-1)
        highest = score.new_full((len(span),), float("-inf")).scatter_reduce(0, owner, score.detach(), "amax")
        weight = (score - highest[owner]).exp()
        total = weight.new_zeros(len(span)).index_add(0, owner, weight)
        share = (weight / total[owner]).to(projected.dtype).unsqueeze(-1)
        return projected.new_zeros(len(span), projected.shape[-1]).index_add(0, owner, share * projected)


class Hidden(nn.Sequential):
    """The hidden layer of edge probing: linear, tanh, layer norm, dropout."""

    def __init__(self, features: int, width: int, dropout: float) -> None:
        super().__init__(nn.Linear(features, width), nn.Tanh(), nn.LayerNorm(width), nn.Dropout(dropout))


def flattened(example: torch.Tensor, span: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every token of every stretch: which target it belongs to, in which input it is, and where."""
    lengths = span[:, 1] - span[:, 0]
    owner = torch.repeat_interleave(torch.arange(len(span), device=span.device), lengths)
    first = torch.cumsum(lengths, 0) - lengths
    tokens = torch.arange(len(owner), device=span.device) - first[owner] + span[owner, 0]
    return owner, example[owner], tokens


def mean_of(hidden: torch.Tensor, example: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens of stretches [targets, 2]: [targets, width]."""
    owner, inputs, tokens = flattened(example, span)
    share = (1 / (span[:, 1] - span[:, 0])).to(hidden.dtype)[owner].unsqueeze(-1)
    return hidden.new_zeros(len(span), hidden.shape[-1]).index_add(0, owner, share * hidden[inputs, tokens])

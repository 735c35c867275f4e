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
from layover.train.batching import Batch, Stretches
from layover.train.determinism import derive
from layover.train.noise import Dropout, Noise

INITIAL_SD = 0.02  # BERT's and RoBERTa's initializer_range
INNER_DROPOUT = 0.3  # in the hidden layer of edge probing: jiant v1
MOST_SCORES = 128  # more scores than this per prediction are not kept: 1,363 for every word would be gigabytes


class Head(nn.Module):
    """Dropout, the vector of each target, perhaps a hidden layer (with dropout `inner`), then one linear layer.

    `hidden` is the width of the hidden layer instead of that of the task's format, 0 for none.

    Scores are [targets, classes] for classes and sets of labels, [examples, most choices] for choices (-inf where an
    example has fewer), [targets] for a real number (scaled to 0-1 by the task's bounds), [examples, 2, tokens] for
    where an answer begins and ends.
    """

    def __init__(
        self, width: int, task: Task, dropout: float, seed: int, noise: Noise, inner: float = INNER_DROPOUT,
        hidden: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        reads, self.output = task.format.reads, task.output
        hidden = reads.hidden if hidden is None else hidden
        self.sentence, self.pool, self.marks = reads.sentence, reads.pool, reads.marks
        self.dropout = Dropout(dropout, noise)
        outputs = {"classes": len(task.labels), "labels": len(task.labels), "extent": 2}.get(self.output, 1)
        features = width * int(reads.sentence or self.output == "extent") + (reads.project or width) * reads.marks
        attentive = reads.marks if reads.pool == "attentive" else 0
        self.stretches = nn.ModuleList(Attentive(width, reads.project) for _ in range(attentive))
        self.hidden = Hidden(features, hidden) if hidden else None
        self.inner = Dropout(inner, noise)
        # the choices of an example share whatever a bias adds: it would have no gradient but rounding noise
        self.linear = nn.Linear(hidden or features, outputs, bias=self.output != "choice")
        self._initialise(torch.Generator().manual_seed(derive(seed, "head")))
        self.low, self.high = task.bounds or (0.0, 1.0)

    @property
    def reads_inputs(self) -> bool:
        """Whether the vector of each input is all that is read, and nothing of its tokens."""
        return not self.marks and self.output != "extent"

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
        """The scores for hidden states [rows, width] and the inputs' pooled vectors [inputs, width]."""
        if self.output == "extent":
            tokens = self.dropout(hidden)
            tokens = tokens if self.hidden is None else self.inner(self.hidden(tokens))
            return _by_input(self.linear(tokens).float(), batch)
        scores = self.linear(self._hidden(self._vectors(hidden, pooled, batch), batch)).float()
        if self.output in ("classes", "labels"):
            return scores
        if self.output == "value":
            return scores[:, 0]
        per_example = torch.split(scores[:, 0], batch.sizes)
        return nn.utils.rnn.pad_sequence(list(per_example), batch_first=True, padding_value=float("-inf"))

    def _vectors(self, hidden: torch.Tensor, pooled: torch.Tensor, batch: Batch) -> torch.Tensor:
        """What the linear layer reads: the inputs' vectors, or one of each target's own [targets, features]."""
        one_each = [1] * len(batch.inputs)
        if not batch.spans:
            return self.dropout(pooled, one_each)
        tokens = self.dropout(hidden)
        parts = [self.dropout(pooled, one_each)[batch.example]] if self.sentence else []
        for mark, span in enumerate(batch.spans):
            if self.pool == "first":
                parts.append(tokens[span.begins])
            elif self.pool == "mean":
                parts.append(mean_of(tokens, span))
            else:
                parts.append(self.stretches[mark](tokens, span))
        return torch.cat(parts, dim=-1)

    def _hidden(self, vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
        if self.hidden is None:
            return vectors
        return self.inner(self.hidden(vectors), batch.counts if batch.spans else [1] * len(batch.inputs))

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
            asked, first = scores[batch.example], batch.inputs.begins[batch.example]
            begin = functional.cross_entropy(asked[:, 0], batch.spans[0].begins - first, reduction="sum")
            end = functional.cross_entropy(asked[:, 1], batch.spans[0].ends - 1 - first, reduction="sum")
            return (begin + end) / 2
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

    def forward(self, hidden: torch.Tensor, span: Stretches) -> torch.Tensor:
        """Vectors for stretches [n, project] from hidden states [rows, width]."""
        projected = self.project(hidden)[span.rows]
        score = self.attend(projected).float().squeeze(-1)
        highest = score.new_full((len(span),), float("-inf")).scatter_reduce(0, span.owner, score.detach(), "amax")
        weight = (score - highest[span.owner]).exp()
        total = weight.new_zeros(len(span)).index_add(0, span.owner, weight)
        parts = (weight / total[span.owner]).unsqueeze(-1) * projected  # fp32 at least
        found = parts.new_zeros(len(span), projected.shape[-1])
        return found.index_add(0, span.owner, parts).to(projected.dtype)


class Hidden(nn.Sequential):
    """The hidden layer of edge probing before its dropout: linear, tanh, layer norm."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__(nn.Linear(features, width), nn.Tanh(), nn.LayerNorm(width))


def mean_of(hidden: torch.Tensor, span: Stretches) -> torch.Tensor:
    """The mean over the tokens of n stretches [n, width], of hidden states [rows, width]."""
    parts = (1 / (span.ends - span.begins))[span.owner].unsqueeze(-1) * hidden[span.rows]  # fp32 at least
    return parts.new_zeros(len(span), hidden.shape[-1]).index_add(0, span.owner, parts).to(hidden.dtype)


def _by_input(scores: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The scores of rows [rows, outputs] as [inputs, outputs, longest], -inf behind an input's end."""
    inputs = batch.inputs
    found = scores.new_full((len(inputs), int(batch.layout.lengths.max()), scores.shape[1]), float("-inf"))
    place = inputs.rows - inputs.begins[inputs.owner]
    return found.index_put((inputs.owner, place), scores[inputs.rows]).transpose(1, 2)

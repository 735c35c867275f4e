"""Vectors: a target's cases through the plain encoder and through that of every source, out of the store.

One pass per encoder and data set is made, by whoever asks first; it is kept in the store as the features of probes are
(`layover.train.features`), so that a probe's features serve here and these serve a probe. What a case is, and how
pairs, choices and stretches are read, is in `layover.train.cases`: all of it is encoded as in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layover.kinds.common import data_of
from layover.select.sources import Source
from layover.select.target import Target

if TYPE_CHECKING:
    from layover.train.cache import Located
    from layover.train.cases import Cases
    from layover.train.features import Features
    from layover.train.frozen import Frozen

Tell = Callable[[str, int, int], None]
"""Told of (what is read, how many are done, how many there are)."""


class Lazy(Sequence[Any]):
    """A sequence whose items are made whenever they are asked for.

    The vectors of a hundred sources are read out of the store one source at a time, and never are all in memory.
    """

    def __init__(self, make: Callable[[int], Any], n: int) -> None:
        self._make, self._n = make, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self._make(i) for i in range(*number.indices(self._n))]
        if not -self._n <= number < self._n:
            raise IndexError(number)
        return self._make(range(self._n)[number])


@dataclass(frozen=True, eq=False)
class Vectors:
    """The vectors of a target's n cases, in float32: `plain` and each of `trained` [layers, n, d], embeddings first.

    `labels` [n] are classes or values (`kind`), None where the target has no labels. d is the encoder's width times
    `parts`, as many vectors as a case's has end to end.
    """

    labels: NDArray[Any] | None
    kind: Literal["classes", "values"]
    names: tuple[str, ...]
    plain: NDArray[np.float32]
    trained: Sequence[NDArray[np.float32]]
    parts: int


def vectors(target: Target, sources: Sequence[Source], tell: Tell = lambda *_: None) -> Vectors:
    """The vectors of a target's cases through the plain encoder and those of sources, every pass made.

    Raises EncoderError where an encoder cannot be loaded or gives no hidden states, StoreError where weights are gone.
    """
    from layover.train import cases as reading

    read = features_of(target, target.plain)
    cases, pooling = cases_of(target, read), target.reading.pooling
    found: list[Features] = []
    for number, source in enumerate(sources):
        tell(source.label, number, len(sources))
        found.append(features_of(target, source.frozen(target.encoder.location)))
    tell("", len(sources), len(sources))

    def trained(number: int) -> NDArray[np.float32]:
        return reading.vectors(found[number], cases, target.task, pooling)

    return Vectors(
        labels=cases.labels if target.labelled else None,
        kind="values" if cases.names is None else "classes",
        names=cases.names or (),
        plain=reading.vectors(read, cases, target.task, pooling),
        trained=Lazy(trained, len(sources)),
        parts=reading.parts(target.task),
    )


def outputs(target: Target, sources: Sequence[Source]) -> list[NDArray[np.float32] | None]:
    """The probabilities [n, classes] that each source's own head gives a target's cases, None where it gives none."""
    from layover.train import outputs as heads

    cases = cases_of(target, features_of(target, target.plain))
    found: list[NDArray[np.float32] | None] = []
    for source in sources:
        if heads.unlike(source.task, target.task):
            found.append(None)
            continue
        read, pooling = features_of(target, source.frozen(target.encoder.location)), source.pooling(target.store)
        given = heads.outputs(read, cases, source.task, target.task, source.weights, pooling)
        found.append(given)
    return found


def features_of(target: Target, encoder: Frozen, data: Located | None = None) -> Features:
    """The features of a target's rows, or of a source's in `data`, through an encoder: a pass, or out of the store."""
    from layover.train.features import features

    reading = target.reading
    return features(
        data or target.data, "train", encoder,
        max_length=reading.max_length, precision=reading.precision, places=target.places,
    )  # fmt: skip


def cases_of(target: Target, read: Features) -> Cases:
    """The target's cases, the same through whatever encoder its rows were read."""
    from layover.train.cases import cases_of

    return cases_of(target.task, read.encoded, target.reading.cases, target.reading.seed)


def rows_of(target: Target, source: Source) -> Located:
    """Train rows of a source (its selection set's among them), as many as the target's `reading` allows.

    Raises TaskError where its data is not here, or is not the data that it was trained on.
    """
    ref, most = source.step.task, target.reading.source_rows
    limit = most if ref.limit_train is None else min(most, ref.limit_train)
    # a limit draws by position and a name: the rows of a smaller one are among those of a larger
    some = replace(ref, limit_train=limit, selection="validation")
    return replace(data_of(some, target.store, target.places), selects=False)

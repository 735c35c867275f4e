"""Analyses: those of the papers that a study's table allows, beside transfer; what it does not allow is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from layover.errors import ObservationsError
from layover.stats.correlate import Correlations, correlations
from layover.stats.forgetting import ForgettingLinks, forgetting
from layover.stats.layers import Layers, layers
from layover.stats.ranks import Ranks, ranks
from layover.stats.rivals import Rivalry, rivals
from layover.stats.sizes import Sizes, sizes

if TYPE_CHECKING:
    from pandas import DataFrame

    from layover.stats.grid import Grids
    from layover.stats.paired import Lookup
    from layover.stats.transfer import Transfer

Found = TypeVar("Found")
LEAST_SOURCES = 3  # of which a correlation over sources says anything


@dataclass(frozen=True)
class Analyses:
    """Correlations and forgetting by encoder and strategy, rivals by encoder, and curves of a whole study."""

    correlations: Sequence[Correlations] = ()
    rivals: Sequence[Rivalry] = ()
    sizes: Sizes | None = None
    layers: Layers | None = None
    grids: Grids | None = None
    links: Sequence[ForgettingLinks] = ()


def analyses_of(
    table: DataFrame, strategies: Mapping[str, str], against: str, predictions: Lookup | None = None
) -> Analyses:
    """Every analysis that a table has the rows for; `strategies` is the kind of each of a study's strategies."""
    with_source = table.loc[(table["source"] != "") & table["role"].isin(["target", "probing"])]
    arms = sorted({(row["encoder"], row["strategy"], row["source"]) for row in with_source.to_dict("records")})
    pairs = sorted({arm[:2] for arm in arms if sum(other[:2] == arm[:2] for other in arms) >= LEAST_SOURCES})
    encoders = sorted(set(table["encoder"]))
    kinds = {kind: [name for name in strategies if strategies[name] == kind] for kind in set(strategies.values())}
    together, stops = kinds.get("multitask", []), kinds.get("stilts", [])
    frozen = [name for name in (*kinds.get("probe", []), *kinds.get("truncate", [])) if name in set(table["strategy"])]
    return Analyses(
        correlations=_all(lambda e, s: correlations(table, strategy=s, encoder=e, against=against), pairs),
        rivals=[one for found in _all(lambda e: rivals(table, together, stops[0], against=against,
                                                       predictions=predictions, encoder=e),
                                      [(encoder,) for encoder in encoders] if together and stops else [])
                for one in found],
        sizes=_if_any(lambda: sizes(table, against=against)),
        layers=_if_any(lambda: layers(table, frozen, against=against)),
        grids=_grids(table, against),
        links=_all(lambda e, s: forgetting(table, strategy=s, encoder=e, against=against), pairs),
    )  # fmt: skip


def ranked(found: Transfer) -> list[Ranks]:
    """The ranks of sources of each matrix and role that has two of them, the baseline beside them, and two targets."""
    return [one for one in ranks(found) if len(one.ranks) >= LEAST_SOURCES and len(one.targets) > 1]


def _grids(table: DataFrame, against: str) -> Grids | None:
    """The trials of a grid: where several strategies share the first word of the baseline's name."""
    first = against.partition(" ")[0]
    if sum(name.partition(" ")[0] == first for name in set(table["strategy"])) < 2:
        return None
    from layover.stats.grid import grid

    return _if_any(lambda: grid(table, against=first))


def _all(made: Callable[..., Found], given: Sequence[tuple[Any, ...]]) -> list[Found]:
    found = (_if_any(lambda one=one: made(*one)) for one in given)
    return [one for one in found if one is not None]


def _if_any(made: Callable[[], Found]) -> Found | None:
    try:
        return made()
    except ObservationsError:  # the table has no rows for it
        return None

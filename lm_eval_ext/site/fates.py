"""Which layers each model lost, and how important its method found them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lm_eval_ext.analysis.entries import Entry
from lm_eval_ext.runs.run import Pruning, layers
from lm_eval_ext.site.lines import Family

_MOST = 36  # models
_SHADES = 9


class Fates(NamedTuple):
    """One model's layers.

    Attributes:
        name, dropped, merged: its name, and its layers as text.
        of: all layers.
        shades: a shade and the SVG path of the layers that have it; from the method's scores, by their order.
        gone, into: paths of the dropped layers, and of those that others were merged into.
    """

    name: str
    dropped: str
    merged: str
    of: range
    shades: Sequence[tuple[int, str]]
    gone: str
    into: str


def fates_of(family: Family) -> list[Fates]:
    """The layers of each pruned model of a base."""
    return [
        _fates(str(family.names[entry.key]), pruning)
        for entry in family.entries[:_MOST]
        if (pruning := _pruning(entry)) is not None
    ]


def _pruning(entry: Entry) -> Pruning | None:
    pruning = entry.latest.pruning
    return pruning if pruning and pruning.dropped else None


def _fates(name: str, pruning: Pruning) -> Fates:
    into = sorted(int(layer) for layer in pruning.merged if layer.isdecimal() and int(layer) < pruning.depth)
    by_shade: dict[int, list[int]] = {}
    for layer, place in enumerate(_order(pruning.layer_scores)[: pruning.depth]):
        if place is not None:
            by_shade.setdefault(round(place * (_SHADES - 1)), []).append(layer)
    return Fates(
        name,
        layers(pruning.dropped),
        layers(into),
        range(pruning.depth),
        [(shade, _path(some, 1.0)) for shade, some in sorted(by_shade.items())],
        _path(pruning.dropped, 1.0),
        _path(into, 0.5),
    )


def _path(some: Iterable[int], height: float) -> str:
    return "".join(f"M{layer + 0.06:g} {1 - height:g}h.88v{height:g}h-.88z" for layer in some)


def _order(scores: Sequence[float | None]) -> list[float | None]:
    """Scores as ranks from 0 to 1, because methods differ in units and some scores span orders of magnitude."""
    known = sorted({score for score in scores if score is not None})
    places = {score: place / max(1, len(known) - 1) for place, score in enumerate(known)}
    return [None if score is None else places[score] for score in scores]

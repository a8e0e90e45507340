"""What a pruning method decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lm_eval_ext.pruning.merging import Merge


class Removal(NamedTuple):
    """Which layers go, and why.

    Attributes:
        drop: indices, ascending.
        scores: one per layer, None where a layer was not scored; the method says what they are.
        merges: what is merged, in order, before `drop` goes.
    """

    drop: tuple[int, ...]
    scores: tuple[float | None, ...] = ()
    merges: tuple[Merge, ...] = ()


Removals = dict[int, Removal]


def lowest(scores: Sequence[float], remove: Sequence[int]) -> Removals:
    """For every number of layers those that score lowest; of equal ones the earlier."""
    order = sorted(range(len(scores)), key=lambda layer: (scores[layer], layer))
    return {count: Removal(tuple(sorted(order[:count])), tuple(scores)) for count in remove}

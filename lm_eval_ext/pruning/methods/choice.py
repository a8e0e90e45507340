"""What a pruning method decides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from lm_eval_ext.errors import ArchitectureError
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
    check_finite(scores)
    order = sorted(range(len(scores)), key=lambda layer: (scores[layer], layer))
    return {count: Removal(tuple(sorted(order[:count])), tuple(scores)) for count in remove}


def check_finite(scores: Sequence[float]) -> None:
    """Refuse scores that are no numbers, which order nothing.

    Raises:
        ArchitectureError: says of which layer.
    """
    wrong = [layer for layer, score in enumerate(scores) if not math.isfinite(score)]
    if wrong:
        raise ArchitectureError(
            f"the score of layer {wrong[0]} is {scores[wrong[0]]}: hidden states overflow; "
            "try dtype=bfloat16 or float32"
        )

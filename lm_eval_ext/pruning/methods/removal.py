"""What a pruning method returns, and what methods have in common: the lowest scores, at once or one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.experts import NO_EXPERTS, Dropped
from lm_eval_ext.pruning.layers import bypassed
from lm_eval_ext.pruning.merging import LinearMap, Merge
from lm_eval_ext.pruning.sparsity import Sparsity


class Removal(NamedTuple):
    """What is to be removed, by the fields of a recipe, and the scores.

    Attributes:
        drop: ascending indices of layers.
        scores: one per layer, None if the layer was not scored; each method defines its own scores. For attention and
            MLP blocks together, those of attention come first.
        merge: merges to apply, in order, before the layers are dropped.
        drop_attention, drop_mlp: layers whose attention or MLP block is left out.
        linear_map: a map that stands in for the dropped layers.
        drop_experts: experts to drop, by layer.
        sparsity: which weights become zero.
    """

    drop: tuple[int, ...] = ()
    scores: tuple[float | None, ...] = ()
    merge: tuple[Merge, ...] = ()
    drop_attention: tuple[int, ...] = ()
    drop_mlp: tuple[int, ...] = ()
    linear_map: LinearMap | None = None
    drop_experts: Dropped = NO_EXPERTS
    sparsity: Sparsity | None = None


Removals = dict[int, Removal]


def lowest(scores: Sequence[float], remove: Sequence[int], among: Sequence[int] | None = None) -> Removals:
    """For each number of layers, those with the lowest scores; ties go to the earlier layer.

    Args:
        scores: of all layers.
        remove: the numbers of layers to remove.
        among: the layers to choose from; all by default.
    """
    check_finite(scores)
    order = sorted(range(len(scores)) if among is None else among, key=lambda layer: (scores[layer], layer))
    return {count: Removal(tuple(sorted(order[:count])), tuple(scores)) for count in remove}


def check_finite(scores: Sequence[float], what: str = "layer {}") -> None:
    """Refuse scores that are not finite, because they cannot be ordered.

    Raises:
        ArchitectureError: a score is not finite; the message names what has it.
    """
    wrong = next((number for number, score in enumerate(scores) if not math.isfinite(score)), None)
    if wrong is not None:
        raise ArchitectureError(
            f"the score of {what.format(wrong)} is {scores[wrong]}: weights or hidden states overflow; try "
            "dtype=bfloat16 or float32"
        )


def one_at_a_time(
    context: PruningContext, remove: Sequence[int], score: Callable[[Sequence[int]], Mapping[int, float]]
) -> Removals:
    """For each number of layers, those with the lowest scores when they were dropped; the others are scored anew then.

    Args:
        context: the base model and its calibration texts.
        remove: the numbers of layers to remove.
        score: the scores of layers that may follow, when some were dropped.
    """
    dropped: tuple[int, ...] = ()
    found: Removals = {}
    for count in range(1, max(remove) + 1):
        scores = score(dropped)
        check_finite([scores.get(layer, 0.0) for layer in range(context.depth)])
        _, lowest = min((scores[layer], layer) for layer in scores if layer in context.removable)
        dropped = (*dropped, lowest)
        found[count] = Removal(tuple(sorted(dropped)), tuple(scores.get(layer) for layer in range(context.depth)))
    return {count: found[count] for count in remove}


def scored_anew(
    context: PruningContext, remove: Sequence[int], score: Callable[[PruningContext], Sequence[float]]
) -> Removals:
    """`one_at_a_time`, by the scores of all layers of the model as it runs when some of them are bypassed."""

    def of_others(dropped: Sequence[int]) -> dict[int, float]:
        with bypassed(context.layers, dropped):
            return {layer: one for layer, one in enumerate(score(context)) if layer not in dropped}

    return one_at_a_time(context, remove, of_others)

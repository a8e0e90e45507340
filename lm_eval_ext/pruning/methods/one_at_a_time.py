"""Drops one layer at a time, and scores the others anew each time (`iterative`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import bypassed
from lm_eval_ext.pruning.methods.choice import Removal, Removals, check_finite


def one_at_a_time(
    context: PruningContext, remove: Sequence[int], score: Callable[[PruningContext], Sequence[float]]
) -> Removals:
    """For each number of layers, those with the lowest scores when they were dropped.

    Args:
        context: the base model and its calibration texts.
        remove: the numbers of layers to remove.
        score: the score of every layer, of the model as it runs then; those of layers that are bypassed are not used.
    """
    dropped: tuple[int, ...] = ()
    found: Removals = {}
    for count in range(1, max(remove) + 1):
        with bypassed(context.layers, dropped):
            scores = score(context)
        left = [layer for layer in range(context.depth) if layer not in dropped]
        check_finite([scores[layer] for layer in left])
        listed = tuple(scores[layer] if layer in left else None for layer in range(context.depth))
        lowest = min((scores[layer], layer) for layer in left if layer in context.removable)
        dropped = (*dropped, lowest[1])
        found[count] = Removal(tuple(sorted(dropped)), listed)
    return {count: found[count] for count in remove}

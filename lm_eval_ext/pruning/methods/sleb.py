"""SLEB: repeatedly drops the layer whose removal from the model pruned so far gives the lowest perplexity.

The score of a layer is the perplexity of the calibration texts without it and the layers dropped before it; layers
dropped before the last step have no score. The first and the last layers that are left are never dropped, as in the
authors' program (`early_barrier` and `latter_barrier`, 1 each). Source: arXiv 2402.09025, algorithm 1 and metric 3.
"""

from collections.abc import Callable, Sequence

from tqdm import tqdm

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.methods.perplexity import perplexity_without

SOURCE = "arXiv 2402.09025"
NEEDS_TEXTS = True


def choose(
    context: PruningContext, remove: Sequence[int], *, early_barrier: int = 1, latter_barrier: int = 1
) -> Removals:
    """Choose layers greedily, one at a time.

    Raises:
        ArgumentError: the barriers leave no layer to choose.
    """
    if min(early_barrier, latter_barrier) < 0 or early_barrier + latter_barrier + max(remove) > context.depth:
        raise ArgumentError(
            f"early_barrier={early_barrier}, latter_barrier={latter_barrier}: leave fewer than {max(remove)} of "
            f"{context.depth} layers to choose from"
        )
    return greedy(context, remove, perplexity_without, early_barrier, latter_barrier)


def greedy(
    context: PruningContext,
    remove: Sequence[int],
    score_without: Callable[[PruningContext, Sequence[int]], float],
    early_barrier: int = 0,
    latter_barrier: int = 0,
) -> Removals:
    """For each number of layers, those that were dropped one after the other, each because the score is lowest without.

    Args:
        context: the base model and its calibration texts.
        remove: the numbers of layers to remove.
        score_without: the score of the model without some layers.
        early_barrier, latter_barrier: how many of the first and last layers that are left are never dropped.
    """
    dropped: tuple[int, ...] = ()
    found: Removals = {}
    for count in range(1, max(remove) + 1):
        living = [layer for layer in range(context.depth) if layer not in dropped]
        between = living[early_barrier : len(living) - latter_barrier]
        left = [layer for layer in between if layer in context.removable]
        scores = {layer: score_without(context, (*dropped, layer)) for layer in tqdm(left, desc=f"Removal {count}")}
        dropped = (*dropped, min(left, key=scores.__getitem__))
        found[count] = Removal(tuple(sorted(dropped)), tuple(scores.get(layer) for layer in range(context.depth)))
    return {count: found[count] for count in remove}

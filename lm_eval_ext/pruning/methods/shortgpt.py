"""ShortGPT: drops the layers with the lowest Block Influence.

BI_i = 1 - E[cos(h_i, h_i+1)], the mean over all tokens (without padding) of the cosine between a layer's input and
output, in float32. The last layer's output is taken before the final norm. Source: arXiv 2403.03853, equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, cosines, visit_layers
from lm_eval_ext.pruning.methods.choice import Removals, lowest
from lm_eval_ext.pruning.methods.one_at_a_time import one_at_a_time

if TYPE_CHECKING:
    import torch

SOURCE = "arXiv 2403.03853"
NEEDS_TEXTS = True


def choose(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers with the lowest Block Influence; `iterative` scores anew after each."""
    if iterative:
        return one_at_a_time(context, remove, block_influence)
    return lowest(block_influence(context), remove, context.removable)


def block_influence(context: PruningContext) -> list[float]:
    """Block Influence of every layer."""
    sums, tokens = [0.0] * context.depth, 0

    def of_batch(mask: torch.Tensor) -> Visit:
        nonlocal tokens
        tokens += int(mask.sum())

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            similar = cosines(before, after)
            sums[layer] += float((similar * mask.to(similar.device)).double().sum())

        return seen

    visit_layers(context.model, context.batches(), of_batch)
    return [1 - total / tokens for total in sums]

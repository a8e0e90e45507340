"""Angular distance: drops the block of n consecutive layers whose input and output are most similar.

d(x_l, x_l+n) = arccos(cos(x_l, x_l+n)) / pi at the last token of each text, averaged over the texts. The block starts
at the l with the smallest distance. The score of layer l is the distance over the block that starts there. Source:
arXiv 2403.17887 (Gromov et al.), equations 7 and 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, visit_layers
from lm_eval_ext.pruning.methods.choice import Removal, Removals, check_finite
from lm_eval_ext.pruning.methods.one_at_a_time import one_at_a_time

if TYPE_CHECKING:
    import torch

SOURCE = "arXiv 2403.17887"
NEEDS_TEXTS = True


def choose(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """For each number of layers, the block with the smallest angular distance; `iterative`: one layer after another."""
    if iterative:
        return one_at_a_time(context, remove, lambda now: distances(last_token_states(now), 1))
    states = last_token_states(context)
    return {count: _block(distances(states, count), count, context.removable) for count in remove}


def _block(found: list[float], count: int, removable: range) -> Removal:
    check_finite(found)
    start = min(range(removable.start, removable.stop - count + 1), key=found.__getitem__)
    return Removal(tuple(range(start, start + count)), (*found, *[None] * (count - 1)))


def last_token_states(context: PruningContext) -> list[torch.Tensor]:
    """Inputs of all layers and output of the last, at the last token of each text: depth + 1 of (texts, width)."""
    import torch

    states: list[list[torch.Tensor]] = [[] for _ in range(context.depth + 1)]

    def of_batch(mask: torch.Tensor) -> Visit:
        last = mask.sum(dim=1) - 1

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            rows = torch.arange(len(last), device=before.device)
            at = last.to(before.device)
            states[layer].append(before[rows, at].float().cpu())
            if layer == context.depth - 1:
                states[layer + 1].append(after[rows, at].float().cpu())

        return seen

    visit_layers(context.model, context.batches(), of_batch)
    return [torch.cat(parts) for parts in states]


def distances(states: Sequence[torch.Tensor], count: int) -> list[float]:
    """Mean angular distance over `count` layers, by the index of the first one.

    In float64, because arccos near 1 loses half of the digits.
    """
    from torch.nn.functional import cosine_similarity

    return [
        float(cosine_similarity(before.double(), after.double(), eps=1e-12).clamp(-1, 1).arccos().mean()) / math.pi
        for before, after in zip(states, states[count:], strict=False)
    ]

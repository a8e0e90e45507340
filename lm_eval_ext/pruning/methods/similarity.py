"""Methods that drop layers whose output is most like their input: one by one (ShortGPT), or as a block (angular)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, cosines, visit_layers
from lm_eval_ext.pruning.methods.removal import Removal, Removals, check_finite, lowest, scored_anew

if TYPE_CHECKING:
    import torch


def shortgpt(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers with the lowest Block Influence; `iterative` scores anew after each.

    BI_i = 1 - E[cos(h_i, h_i+1)], the mean over all tokens (without padding) of the cosine between a layer's input and
    output, in float32. The last layer's output is taken before the final norm. Source: arXiv 2403.03853, equation 1.
    """
    if iterative:
        return scored_anew(context, remove, block_influence)
    return lowest(block_influence(context), remove, context.removable)


def block_influence(context: PruningContext) -> list[float]:
    """Block Influence of every layer."""
    return cosine_distances(context, [1])[1]


def cosine_distances(context: PruningContext, counts: Sequence[int]) -> dict[int, list[float]]:
    """Mean cosine distance over each number of layers, by the index of the first one."""
    sums = {count: [0.0] * (context.depth - count + 1) for count in counts}
    tokens = 0

    def of_batch(mask: torch.Tensor) -> Visit:
        nonlocal tokens
        tokens += int(mask.sum())
        inputs: deque[torch.Tensor] = deque(maxlen=max(counts))

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            inputs.append(before)
            for count, so_far in sums.items():
                if count <= len(inputs):
                    similar = cosines(inputs[-count].to(after.device), after)
                    so_far[layer + 1 - count] += float((similar * mask.to(after.device)).double().sum())

        return seen

    visit_layers(context.model, context.batches(), of_batch)
    return {count: [1 - total / tokens for total in so_far] for count, so_far in sums.items()}


def angular(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """For each number of layers, the block with the smallest angular distance; `iterative`: one layer after another.

    d(x_l, x_l+n) = arccos(cos(x_l, x_l+n)) / pi at the last token of each text, averaged over the texts. The block of n
    consecutive layers starts at the l with the smallest distance. The score of layer l is the distance over the block
    that starts there. Source: arXiv 2403.17887 (Gromov et al.), equations 7 and 8.
    """
    if iterative:
        return scored_anew(context, remove, lambda now: distances(last_token_states(now), 1))
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

"""Methods that drop the layers without which texts stay likeliest: by leaving each out, or to first order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import bypassed, loss_sum, matrices, mean_loss
from lm_eval_ext.pruning.methods.removal import Removals, lowest, one_at_a_time, scored_anew
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch


def one_shot(context: PruningContext, remove: Sequence[int]) -> Removals:
    """The layers whose individual removal gives the lowest perplexity.

    The score of a layer is the perplexity of the calibration texts (exp of the mean loss per token) without that layer.
    Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2.
    """
    scores = [perplexity_without(context, (layer,)) for layer in tqdm(range(context.depth), desc="Layers left out")]
    return lowest(scores, remove, context.removable)


def perplexity_without(context: PruningContext, dropped: Sequence[int]) -> float:
    """Perplexity of the calibration texts without some layers; cached, because it takes a pass over all texts."""
    return _without(context, dropped, "perplexity", lambda: math.exp(mean_loss(context.model, context.batches())))


def loss_without(context: PruningContext, dropped: Sequence[int]) -> float:
    """Mean loss per token of the replies without some layers; cached too."""
    return _without(context, dropped, "loss of replies", lambda: mean_loss(context.model, context.replies()))


def _without(context: PruningContext, dropped: Sequence[int], what: str, measured: Callable[[], float]) -> float:
    def found() -> float:
        with bypassed(context.layers, dropped):
            return measured()

    return context.score_cache.value(f"{what} without {' '.join(map(str, sorted(dropped)))}", found)


def sleb(
    context: PruningContext, remove: Sequence[int], *, early_barrier: int = 1, latter_barrier: int = 1
) -> Removals:
    """Repeatedly the layer whose removal from the model pruned so far gives the lowest perplexity.

    The score of a layer is the perplexity of the calibration texts without it and the layers dropped before it; layers
    dropped before the last step have no score. The first and the last layers that are left are never dropped, as in the
    authors' program (1 each). Source: arXiv 2402.09025, algorithm 1 and metric 3.

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

    def of_candidates(dropped: Sequence[int]) -> dict[int, float]:
        living = [layer for layer in range(context.depth) if layer not in dropped]
        between = living[early_barrier : len(living) - latter_barrier]
        left = [layer for layer in between if layer in context.removable]
        progress = tqdm(left, desc=f"Removal {len(dropped) + 1}")
        return {layer: score_without(context, (*dropped, layer)) for layer in progress}

    return one_at_a_time(context, remove, of_candidates)


def trace(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers whose removal costs the model's own correct traces least; `iterative` scores anew after each.

    The score of a layer is the mean loss per token, in nats, of the replies in the results of an earlier run of the
    base model (`calibration=run:FOLDER`) without that layer; the prompts are read, but don't count. Source: this
    project.

    Raises:
        ArgumentError: the calibration texts are not replies.
    """
    context.replies()  # fails before the first of many passes
    if iterative:
        return greedy(context, remove, loss_without)
    layers = tqdm(range(context.depth), desc="Layers left out")
    return lowest([loss_without(context, (layer,)) for layer in layers], remove, context.removable)


def taylor(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers whose removal would change the loss least, to first order; `iterative` scores anew after each.

    The score is the sum of |w * dL/dw| over the weights of a layer's linear maps, where L is the mean loss per token of
    the calibration texts; gradients are summed in float32. Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2.
    """
    if quantization_of(context.config) is not None:
        raise ArchitectureError("taylor needs gradients, and rounding has none; score the unquantized model")
    if iterative:
        return scored_anew(context, remove, influence)
    return lowest(influence(context), remove, context.removable)


def influence(context: PruningContext) -> list[float]:
    """The sum of |w * dL/dw| for every layer."""
    import torch

    weights = [list(matrices(layer).values()) for layer in context.layers]
    gradients = {weight: torch.zeros_like(weight, dtype=torch.float32) for some in weights for weight in some}

    def add(weight: torch.Tensor) -> None:
        assert weight.grad is not None  # the hook runs once it has been computed
        gradients[weight] += weight.grad.float()
        weight.grad = None

    handles = [
        weight.requires_grad_(True).register_post_accumulate_grad_hook(add)  # type: ignore[no-untyped-call]  # torch's
        for weight in gradients
    ]
    tokens = 0  # in the loss
    try:
        for ids, mask in context.batches():
            loss, count = loss_sum(context.model, ids, mask)
            torch.autograd.backward(loss)
            tokens += count
    finally:
        for handle in handles:
            handle.remove()
        context.model.requires_grad_(False)
    return [
        sum(float((weight.float() * gradients[weight] / tokens).abs().double().sum()) for weight in some)
        for some in weights
    ]

"""Taylor: drops the layers whose removal would change the loss least, to first order.

The score is the sum of |w * dL/dw| over the weights of a layer's linear maps, where L is the mean loss per token of the
calibration texts; gradients are summed in float32. Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import loss_sum, matrices
from lm_eval_ext.pruning.methods.removal import Removals, lowest, one_at_a_time
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch


def taylor(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers with the lowest first-order influence; `iterative` scores anew after each."""
    if quantization_of(context.config) is not None:
        raise ArchitectureError("taylor needs gradients, and rounding has none; score the unquantized model")
    if iterative:
        return one_at_a_time(context, remove, influence)
    return lowest(influence(context), remove, context.removable)


def influence(context: PruningContext) -> list[float]:
    """The sum of |w * dL/dw| for every layer."""
    import torch

    weights = [list(matrices(layer).values()) for layer in context.layers]
    gradients = {weight: torch.zeros_like(weight, dtype=torch.float32) for some in weights for weight in some}
    add = _into(gradients)
    handles = [
        weight.requires_grad_(True).register_post_accumulate_grad_hook(add)  # type: ignore[no-untyped-call]  # torch's
        for weight in gradients
    ]
    try:
        tokens = _backward(context)
    finally:
        for handle in handles:
            handle.remove()
        context.model.requires_grad_(False)
    return [
        sum(float((weight.float() * gradients[weight] / tokens).abs().double().sum()) for weight in some)
        for some in weights
    ]


def _into(gradients: dict[torch.Tensor, torch.Tensor]) -> Callable[[torch.Tensor], None]:
    def add(weight: torch.Tensor) -> None:
        assert weight.grad is not None  # the hook runs once it has been computed
        gradients[weight] += weight.grad.float()
        weight.grad = None

    return add


def _backward(context: PruningContext) -> int:
    """Sum the gradients of the loss over all texts; returns the number of tokens in the loss."""
    import torch

    tokens = 0
    for ids, mask in context.batches():
        loss, count = loss_sum(context.model, ids, mask)
        torch.autograd.backward(loss)
        tokens += count
    return tokens

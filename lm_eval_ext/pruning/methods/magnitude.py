"""Magnitude: drops the layers with the smallest weights.

l1 is the sum of |w| over the weights of a layer's linear maps, l2 the root of the sum of w^2, both in float32. It uses
no calibration texts. Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2, which uses l1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import matrices
from lm_eval_ext.pruning.methods.choice import Removals, lowest

if TYPE_CHECKING:
    import torch

SOURCE = "arXiv 2402.02834"
NEEDS_TEXTS = False


def choose(context: PruningContext, remove: Sequence[int], *, norm: Literal["l1", "l2"] = "l1") -> Removals:
    """The layers with the smallest norm."""
    return lowest([magnitude(layer, norm) for layer in context.layers], remove, context.removable)


def magnitude(layer: torch.nn.Module, norm: str) -> float:
    """Norm of all weights of a layer's linear maps."""
    weights = [weight.float() for weight in matrices(layer).values()]
    if norm == "l1":
        return sum(float(weight.abs().double().sum()) for weight in weights)
    return math.sqrt(sum(float(weight.square().double().sum()) for weight in weights))

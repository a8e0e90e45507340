"""Methods that look at no texts: layers by hand, the last ones, random ones, and those with the smallest weights."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import matrices
from lm_eval_ext.pruning.methods.removal import Removal, Removals, lowest
from lm_eval_ext.pruning.recipe import kept_layers, parse_layers

if TYPE_CHECKING:
    import torch


def by_hand(context: PruningContext, remove: Sequence[int], *, layers: int | str | list[int]) -> Removals:
    """The first n of the given `layers`, e.g. `25-27`, as the authors of arXiv 2510.22228 choose them for Qwen3-8B."""
    named = parse_layers(layers)
    kept_layers(named, context.depth)
    longer = [count for count in remove if count > len(named)]
    if longer:
        raise ArgumentError(f"remove={longer[0]}: layers={layers} only lists {len(named)}")
    return {count: Removal(named[:count]) for count in remove}


def reverse(context: PruningContext, remove: Sequence[int]) -> Removals:
    """The last layers. Source: arXiv 2510.22228, section 3."""
    return {count: Removal(tuple(context.removable[-count:])) for count in remove}


def random_order(context: PruningContext, remove: Sequence[int], *, seed: int = 0) -> Removals:
    """The first n of a seeded random permutation, as a baseline; a smaller set is always part of a larger one."""
    order = random.Random(seed).sample(context.removable, len(context.removable))
    return {count: Removal(tuple(sorted(order[:count]))) for count in remove}


def smallest_weights(context: PruningContext, remove: Sequence[int], *, norm: Literal["l1", "l2"] = "l1") -> Removals:
    """The layers with the smallest weights.

    l1 is the sum of |w| over the weights of a layer's linear maps, l2 the root of the sum of w^2, both in float32.
    Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2, which uses l1.
    """
    return lowest([magnitude(layer, norm) for layer in context.layers], remove, context.removable)


def magnitude(layer: torch.nn.Module, norm: str) -> float:
    """Norm of all weights of a layer's linear maps."""
    weights = [weight.float() for weight in matrices(layer).values()]
    if norm == "l1":
        return sum(float(weight.abs().double().sum()) for weight in weights)
    return math.sqrt(sum(float(weight.square().double().sum()) for weight in weights))

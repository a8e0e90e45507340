"""Layers chosen by hand, like the authors of arXiv 2510.22228 do for Qwen3-8B. No calibration texts."""

from collections.abc import Sequence

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.recipe import kept_layers, parse_layers

SOURCE = "layers given by hand"
NEEDS_TEXTS = False


def choose(context: PruningContext, remove: Sequence[int], *, layers: int | str | list[int]) -> Removals:
    """The first n of the given `layers`, e.g. `25-27`."""
    named = parse_layers(layers)
    kept_layers(named, context.depth)
    longer = [count for count in remove if count > len(named)]
    if longer:
        raise ArgumentError(f"remove={longer[0]}: layers={layers} only lists {len(named)}")
    return {count: Removal(named[:count]) for count in remove}

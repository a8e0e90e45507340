"""Layers given by hand, as the authors of arXiv 2510.22228 do for Qwen3-8B; no calibration."""

from collections.abc import Sequence

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.recipe import kept_layers, parse_layers

SOURCE = "layers given by hand"
NEEDS_TEXTS = False


def choose(context: PruningContext, remove: Sequence[int], *, layers: int | str | list[int]) -> Removals:
    """The layers `layers`, as `25-27`; or the first n of them for n given."""
    named = parse_layers(layers)
    kept_layers(named, context.depth)
    longer = [count for count in remove if count > len(named)]
    if longer:
        raise ArgumentError(f"remove={longer[0]}: layers={layers} names {len(named)}")
    return {count: Removal(named[:count]) for count in remove}

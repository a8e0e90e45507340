"""Reverse-order pruning: drops the last n layers. Source: arXiv 2510.22228, section 3. No calibration texts."""

from collections.abc import Sequence

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals

SOURCE = "arXiv 2510.22228"
NEEDS_TEXTS = False


def choose(context: PruningContext, remove: Sequence[int]) -> Removals:
    """The last layers."""
    return {count: Removal(tuple(context.removable[-count:])) for count in remove}

"""Random layers, as a baseline: drops the first n layers of a seeded random permutation. No calibration texts."""

import random
from collections.abc import Sequence

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals

SOURCE = "a baseline"
NEEDS_TEXTS = False


def choose(context: PruningContext, remove: Sequence[int], *, seed: int = 0) -> Removals:
    """Random layers; a smaller set is always part of a larger one."""
    order = random.Random(seed).sample(context.removable, len(context.removable))
    return {count: Removal(tuple(sorted(order[:count]))) for count in remove}

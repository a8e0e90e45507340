"""Random layers, as a baseline: the first n of a permutation of all layers drawn from a seed; no calibration."""

import random
from collections.abc import Sequence

from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.subject import Subject


def choose(subject: Subject, remove: Sequence[int], *, seed: int = 0) -> Removals:
    """Random layers; those of a smaller number are among those of a larger one."""
    order = random.Random(seed).sample(range(subject.depth), subject.depth)
    return {count: Removal(tuple(sorted(order[:count]))) for count in remove}

"""Perplexity, one-shot: drops the layers whose individual removal gives the lowest perplexity.

The score of a layer is the perplexity of the calibration texts (exp of the mean loss per token) without that layer.
Source: arXiv 2402.02834 (Shortened LLaMA), section 3.2.
"""

import math
from collections.abc import Sequence

from tqdm import tqdm

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import bypassed, mean_loss
from lm_eval_ext.pruning.methods.choice import Removals, lowest

SOURCE = "arXiv 2402.02834"
NEEDS_TEXTS = True


def choose(context: PruningContext, remove: Sequence[int]) -> Removals:
    """The layers whose individual removal gives the lowest perplexity."""
    scores = [perplexity_without(context, (layer,)) for layer in tqdm(range(context.depth), desc="Layers left out")]
    return lowest(scores, remove, context.removable)


def perplexity_without(context: PruningContext, dropped: Sequence[int]) -> float:
    """Perplexity of the calibration texts without some layers; cached, because it takes a pass over all texts."""

    def found() -> float:
        with bypassed(context.layers, dropped):
            return math.exp(mean_loss(context.model, context.batches()))

    return context.score_cache.value("perplexity without " + " ".join(map(str, sorted(dropped))), found)

"""Trace: drops the layers without which the base model's own correct reasoning traces stay likeliest.

The score of a layer is the mean loss per token, in nats, of the replies in the results of an earlier run of the base
model (`calibration=run:FOLDER`) without that layer; the prompts are read, but don't count. It differs from `perplexity`
in its texts: the model's own long chains in place of web text. Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import bypassed, mean_loss
from lm_eval_ext.pruning.methods.choice import Removals, lowest
from lm_eval_ext.pruning.methods.sleb import greedy

SOURCE = "lm-eval-tts"
NEEDS_TEXTS = True


def choose(context: PruningContext, remove: Sequence[int], *, iterative: bool = False) -> Removals:
    """The layers whose removal costs the traces least; `iterative` scores the others anew after each.

    Raises:
        ArgumentError: the calibration texts are not replies.
    """
    context.replies()  # fails before the first of many passes
    if iterative:
        return greedy(context, remove, loss_without)
    layers = tqdm(range(context.depth), desc="Layers left out")
    return lowest([loss_without(context, (layer,)) for layer in layers], remove, context.removable)


def loss_without(context: PruningContext, dropped: Sequence[int]) -> float:
    """Mean loss per token of the replies without some layers; cached, because it takes a pass over all texts."""

    def found() -> float:
        with bypassed(context.layers, dropped):
            return mean_loss(context.model, context.replies())

    return context.score_cache.value("loss of replies without " + " ".join(map(str, sorted(dropped))), found)

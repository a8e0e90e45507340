"""SLEB: repeatedly drops the layer whose removal from the model pruned so far gives the lowest perplexity.

The score of a layer is the perplexity of the calibration texts without it and the layers dropped before it; layers
dropped before the last step have no score. Source: arXiv 2402.09025, algorithm 1 and metric 3.
"""

from collections.abc import Sequence

from tqdm import tqdm

from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.methods.perplexity import perplexity_without

SOURCE = "arXiv 2402.09025"
NEEDS_TEXTS = True


def choose(context: PruningContext, remove: Sequence[int]) -> Removals:
    """Choose layers greedily, one at a time."""
    dropped: tuple[int, ...] = ()
    found: Removals = {}
    for count in range(1, max(remove) + 1):
        left = [layer for layer in range(context.depth) if layer not in dropped]
        scores = {
            layer: perplexity_without(context, (*dropped, layer)) for layer in tqdm(left, desc=f"Removal {count}")
        }
        dropped = (*dropped, min(left, key=scores.__getitem__))
        found[count] = Removal(tuple(sorted(dropped)), tuple(scores.get(layer) for layer in range(context.depth)))
    return {count: found[count] for count in remove}

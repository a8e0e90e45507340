"""MLP blocks: leaves out the feed-forward networks that change the residual stream least.

The score is defined in `block_cosine`. Source: arXiv 2406.15786 (What Matters in Transformers?), section 3.
"""

from collections.abc import Sequence

from lm_eval_ext.pruning.blocks import MLP
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.block_cosine import lowest_blocks
from lm_eval_ext.pruning.methods.choice import Removals

SOURCE = "arXiv 2406.15786"
NEEDS_TEXTS = True
BLOCKS = (MLP,)  # the numbers are of these, not of layers


def choose(context: PruningContext, remove: Sequence[int]) -> Removals:
    """The blocks with the lowest scores."""
    return lowest_blocks(context, remove, BLOCKS)

"""Methods that leave out the attention and MLP blocks that change the residual stream least.

The score of a block is 1 - E[cos(x, x + f(x))], the mean over all tokens (without padding) of the cosine between the
residual stream before and after what the block adds, in float32. What it adds is what comes behind a norm or a factor
that follows the block, so the stream is measured as the output of the layer while other parts of it return zeros.
Source: arXiv 2406.15786 (What Matters in Transformers?), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.architecture import Block
from lm_eval_ext.pruning.block_verification import ensure_blocks_exact, ensure_blocks_known
from lm_eval_ext.pruning.blocks import ATTENTION, KINDS, MLP, Blocks, blocks_of, parts, silent
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, by_token, cosines, hidden_states, reruns, visit_layers
from lm_eval_ext.pruning.methods.removal import Removal, Removals, check_finite

if TYPE_CHECKING:
    import torch


def lowest_blocks(context: PruningContext, remove: Sequence[int], kinds: Sequence[str]) -> Removals:
    """For each number of blocks, those of some kinds with the lowest scores; ties go to the earlier one.

    Raises:
        ArchitectureError: blocks of this model, or those with the lowest scores, cannot be left out.
        ArgumentError: the model has fewer blocks of these kinds.
    """
    ensure_blocks_known(context.config, kinds, trust_remote_code=context.trust_remote_code)
    scores = influence(context, kinds)
    removable = [block for block in scores if block.layer in context.removable]
    if max(remove) > len(removable):
        what = " and ".join(kinds)
        raise ArgumentError(
            f"remove={max(remove)}: only {len(removable)} parts of the layers are known as {what} blocks that may go"
        )
    order = sorted(removable, key=lambda block: (scores[block], block.layer, block.kind))
    check_finite([scores[block] for block in order])
    removals = {count: _removal(order[:count], scores, context.depth) for count in remove}
    for removal in removals.values():
        chosen = Blocks(removal.drop_attention, removal.drop_mlp)
        ensure_blocks_exact(context.config, chosen, trust_remote_code=context.trust_remote_code)
    return removals


def _removal(chosen: Sequence[Block], scores: Mapping[Block, float], depth: int) -> Removal:
    by_kind = {kind: tuple(sorted(block.layer for block in chosen if block.kind == kind)) for kind in KINDS}
    kinds = sorted({block.kind for block in scores})
    listed = tuple(scores.get(Block(kind, layer)) for kind in kinds for layer in range(depth))
    return Removal(scores=listed, drop_attention=by_kind[ATTENTION], drop_mlp=by_kind[MLP])


def influence(context: PruningContext, kinds: Sequence[str]) -> dict[Block, float]:
    """The score of every block of some kinds."""
    blocks = blocks_of(context.model, kinds)
    sums = dict.fromkeys(blocks, 0.0)
    tokens = 0

    def of_batch(mask: torch.Tensor) -> Visit:
        nonlocal tokens
        tokens += int(mask.sum())

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            run = runs.pop(layer, None)  # none if the layer was skipped

            @cache  # the same parts may be asked for twice
            def without(some: tuple[torch.nn.Module, ...]) -> torch.Tensor:
                if run is None:
                    return before
                with silent(some):
                    output = hidden_states(run())
                return by_token(output, before.shape[:2]).to(before.device)

            for block in (one for one in blocks if one.layer == layer):
                if block.kind == ATTENTION:
                    others = (part for part in parts(context.layers[layer]) if part is not blocks[block])
                    similar = cosines(before, without(tuple(others)))
                else:
                    similar = cosines(without((blocks[block],)), after)
                sums[block] += float((similar * mask.to(similar.device)).double().sum())

        return seen

    with reruns(context.layers) as runs:
        visit_layers(context.model, context.batches(), of_batch)
    return {block: 1 - total / tokens for block, total in sums.items()}


def _lowest(kinds: Sequence[str]) -> Callable[[PruningContext, Sequence[int]], Removals]:
    def method(context: PruningContext, remove: Sequence[int]) -> Removals:
        return lowest_blocks(context, remove, kinds)

    return method


attention, mlp, joint = _lowest([ATTENTION]), _lowest([MLP]), _lowest(KINDS)

"""How much attention and MLP blocks change the residual stream, for the methods `attention`, `mlp` and `joint`.

The score of a block is 1 - E[cos(x, x + f(x))], the mean over all tokens (without padding) of the cosine between the
residual stream before and after what the block adds, in float32. Source: arXiv 2406.15786 (What Matters in
Transformers?), section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.blocks import ATTENTION, KINDS, MLP, block_named
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, cosines, visit_layers
from lm_eval_ext.pruning.methods.choice import Removal, Removals, check_finite

if TYPE_CHECKING:
    import torch

_SUM = 0.02  # of the largest value: how far a layer's output may be from the sum of its input and what its blocks add


class Block(NamedTuple):
    """A block: its kind, and the index of its layer."""

    kind: str
    layer: int


def lowest_blocks(context: PruningContext, remove: Sequence[int], kinds: Sequence[str]) -> Removals:
    """For each number of blocks, those of some kinds with the lowest scores; ties go to the earlier one."""
    scores = influence(context, kinds)
    order = sorted(scores, key=lambda block: (scores[block], block.layer, block.kind))
    check_finite([scores[block] for block in order])
    return {count: _removal(order[:count], scores, context.depth) for count in remove}


def _removal(chosen: Sequence[Block], scores: dict[Block, float], depth: int) -> Removal:
    by_kind = {kind: tuple(sorted(block.layer for block in chosen if block.kind == kind)) for kind in KINDS}
    kinds = sorted({block.kind for block in scores})
    listed = tuple(scores.get(Block(kind, layer)) for kind in kinds for layer in range(depth))
    return Removal((), listed, attention=by_kind[ATTENTION], mlp=by_kind[MLP])


def influence(context: PruningContext, kinds: Sequence[str]) -> dict[Block, float]:
    """The score of every block of some kinds."""
    sums: dict[Block, float] = {}
    tokens = 0
    added: dict[Block, torch.Tensor] = {}

    def of_batch(mask: torch.Tensor) -> Visit:
        nonlocal tokens
        tokens += int(mask.sum())

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            between = _between(layer, before, after, added)
            for kind, (one, other) in {ATTENTION: (before, between), MLP: (between, after)}.items():
                if kind in kinds and Block(kind, layer) in added:
                    similar = cosines(one, other)
                    total = float((similar * mask.to(similar.device)).double().sum())
                    sums[Block(kind, layer)] = sums.get(Block(kind, layer), 0.0) + total
                added.pop(Block(kind, layer), None)

        return seen

    with ExitStack() as hooks:
        for number, layer in enumerate(context.layers):
            for kind in KINDS:
                if (module := block_named(layer, number, kind)) is not None:
                    hooks.callback(module.register_forward_hook(_keeping(added, Block(kind, number))).remove)
        visit_layers(context.model, context.batches(), of_batch)
    return {block: 1 - total / tokens for block, total in sums.items()}


def _keeping(added: dict[Block, torch.Tensor], block: Block) -> Callable[..., None]:
    def hook(_: object, __: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
        added[block] = output[0] if isinstance(output, (tuple, list)) else output  # on the device of its layer

    return hook


def _between(layer: int, before: torch.Tensor, after: torch.Tensor, added: dict[Block, torch.Tensor]) -> torch.Tensor:
    """The residual stream between the two blocks of a layer."""
    import torch

    nothing = torch.zeros_like(before)
    attention, mlp = (added.get(Block(kind, layer), nothing).to(before.device).float() for kind in (ATTENTION, MLP))
    between = before.float() + attention
    expected = between + mlp
    if float((after.float() - expected).abs().max()) > _SUM * float(expected.abs().max()):
        raise ArchitectureError(
            f"layer {layer} doesn't add what its blocks return, as where a norm follows a block, so this method is not "
            "defined for it"
        )
    return between

"""ReplaceMe: drops a run of n consecutive layers, and lets a linear map do what they did.

The run is the one whose input and output are most alike: the mean over all tokens of 1 - cos(x_l, x_l+n) is smallest.
The score of layer l is this distance over the run that starts there.

The feed-forward network of the layer before the run adds f to a residual stream y; the map is the T that minimises
||y + f T - x_l+n||^2 over all tokens, by least squares in float64. It is multiplied into the network's last projection.
`alpha` pulls T towards the identity, as if `alpha` more tokens for each of its w rows said so: a ridge of alpha w/t
times the mean of diag(f'f), for t tokens. Without it, as published (`alpha=0`), a map that is fitted to a few thousand
tokens makes a model worse than dropping the layers alone.

Source: arXiv 2505.02819 (ReplaceMe), sections 3.1 and 3.2; arXiv 2403.19135 (LLM-Streamline) chooses the same runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.architecture import Block
from lm_eval_ext.pruning.block_verification import ensure_map_exact
from lm_eval_ext.pruning.blocks import MLP, blocks_of, silent
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import Visit, by_token, hidden_states, reruns, visit_layers
from lm_eval_ext.pruning.merging import save_map
from lm_eval_ext.pruning.methods.removal import Removal, Removals, check_finite
from lm_eval_ext.pruning.methods.similarity import cosine_distances
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch


def replaceme(context: PruningContext, remove: Sequence[int], *, alpha: float = 1.0) -> Removals:
    """For each number of layers, the run with the smallest cosine distance, and the map that stands in for it."""
    if not alpha >= 0:
        raise ArgumentError(f"alpha={alpha}: must not be negative")
    if quantization_of(context.config) is not None:
        raise ArchitectureError(
            "packed weights are never mapped; use replaceme on the unquantized model, and quantize that"
        )
    if max(remove) > context.depth - max(1, context.removable.start) - context.barriers[1]:
        raise ArgumentError(f"remove={max(remove)}: replaceme keeps the first layer, because the map follows one")
    found = cosine_distances(context, remove)
    return {count: _removal(context, scores, count, alpha) for count, scores in found.items()}


def _removal(context: PruningContext, scores: Sequence[float], count: int, alpha: float) -> Removal:
    check_finite(scores)
    starts = range(max(1, context.removable.start), context.removable.stop - count + 1)
    start = min(starts, key=scores.__getitem__)
    ensure_map_exact(context.config, start - 1, trust_remote_code=context.trust_remote_code)
    linear_map = save_map(start - 1, fitted(context, start, count, alpha))
    return Removal(tuple(range(start, start + count)), (*scores, *[None] * (count - 1)), linear_map=linear_map)


def fitted(context: PruningContext, start: int, count: int, alpha: float) -> torch.Tensor:
    """T for a run of layers, float64, of shape (width, width).

    Raises:
        ArgumentError: the texts don't determine T.
        ArchitectureError: T is not finite.
    """
    import torch

    block = blocks_of(context.model, [MLP])[Block(MLP, start - 1)]
    squares, products, tokens = None, None, 0

    def of_batch(mask: torch.Tensor) -> Visit:
        added = rest = mask

        def seen(layer: int, before: torch.Tensor, after: torch.Tensor) -> None:
            nonlocal added, rest, squares, products, tokens
            if layer == start - 1:
                with silent([block]):
                    output = hidden_states(runs[layer]())
                without = by_token(output, before.shape[:2]).to(after.device)
                chosen = mask.to(after.device).bool()
                added, rest = (after.double() - without.double())[chosen], after.double()[chosen]
            elif layer == start + count - 1:
                # T = 1 + D, and y + f = rest, so f D is to be what the layers add to rest
                wanted = after.double()[mask.to(after.device).bool()].to(added.device) - rest
                squares = added.T @ added + (0 if squares is None else squares)
                products = added.T @ wanted + (0 if products is None else products)
                tokens += len(added)

        return seen

    with reruns(context.layers) as runs:
        visit_layers(context.model, context.batches(), of_batch)
    assert squares is not None and products is not None
    width = len(squares)
    identity = torch.eye(width, dtype=squares.dtype, device=squares.device)
    ridge = alpha * width / tokens * squares.diagonal().mean()
    factor, failed = torch.linalg.cholesky_ex(squares + ridge * identity)
    if failed or (alpha == 0 and tokens < width):
        raise ArgumentError(
            f"replaceme: alpha={alpha}: {tokens} tokens don't determine a map of width {width}; give a larger alpha or "
            "more calibration texts"
        )
    found = identity + torch.cholesky_solve(products, factor)
    if not torch.isfinite(found).all():
        raise ArchitectureError("the linear map is not finite: hidden states overflow; try dtype=bfloat16 or float32")
    return found

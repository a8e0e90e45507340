"""SparseGPT: sets weights to zero, column by column, and changes those that stay to make up for it.

For the inputs X of a matrix, of shape (tokens, in): H = X'X + `dampening` times the mean of its diagonal, and U the
upper Cholesky factor of its inverse. In each block of columns, the weights with the smallest w^2 / U_jj^2 become zero;
then, from left to right, each column's error (w - w') / U_jj is taken from the columns to its right, by row j of U.

The changed tensors are kept in the file beside the recipe, which is therefore as large as the model's matrices.
Source: arXiv 2301.00774, algorithm 1, and the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.methods.removal import Removal
from lm_eval_ext.pruning.methods.weights import (
    Allocation,
    Matrix,
    Pruned,
    SparseRemovals,
    StoredMatrix,
    allocated,
    pruned_by,
    visited,
)
from lm_eval_ext.pruning.sparsity import Amount, Sparsity, lowest_scores

if TYPE_CHECKING:
    import torch


def sparsegpt(
    context: PruningContext, remove: Sequence[Amount], *, dampening: float = 0.01, block: int = 128,
    allocation: Allocation = "uniform", owl_lambda: float = 0.08, owl_outlier: float = 5.0,
) -> SparseRemovals:  # fmt: skip
    """The weights whose loss the others can best make up for become zero, and the others change."""
    if not 0 < dampening < 1 or block < 1:
        raise ArgumentError(f"sparsegpt: dampening={dampening}, block={block}: give 0 to 1, and a number of columns")
    wrong = [amount for amount in remove if amount.group and block % amount.group]
    if wrong:
        raise ArgumentError(f"sparsegpt: block={block} is not a multiple of {wrong[0].group}, as {wrong[0]} needs")
    shares = allocated(context, remove, allocation, owl_lambda, owl_outlier)
    return {
        amount: Removal(sparsity=_pruned(context, amount, of_layers, dampening, block))
        for amount, of_layers in shares.items()
    }


def _pruned(context: PruningContext, amount: Amount, shares: Sequence[float], dampening: float, block: int) -> Sparsity:
    def prune(part: StoredMatrix, matrix: Matrix, share: float) -> Pruned:
        if matrix.factor is None:
            matrix.factor = upper_factor(matrix, dampening)
        weight = part.read()
        amount.check_width(weight.shape[1])
        changed = without(weight, matrix.factor, amount, share, block).to(weight.dtype)
        return Pruned(changed, changed == 0, base=weight)

    visits = visited(context, products=True)
    return pruned_by(context, prune, {"criterion": "sparsegpt"}, amount, shares, (), visits, keep=True)


def upper_factor(matrix: Matrix, dampening: float) -> torch.Tensor:
    """U, float32, of shape (in, in).

    Args:
        matrix: the matrix; without products it was multiplied with nothing, as an expert that was never chosen.
        dampening: share of the mean of the diagonal that is added to it.

    Raises:
        ArchitectureError: the inputs are not finite.
    """
    import torch

    width, products = matrix.weight.shape[1], matrix.products
    damped = torch.eye(width, device=matrix.weight.device) if products is None else products.clone()
    diagonal = damped.diagonal()
    diagonal[diagonal == 0] = 1  # a column that is never used
    diagonal += dampening * diagonal.mean()
    factor, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ArchitectureError(
            "sparsegpt: the hidden states overflow, or there are too few of them; try dtype=bfloat16 or float32, more "
            "texts, or a larger dampening"
        )
    upper: torch.Tensor = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    return upper


def without(weight: torch.Tensor, factor: torch.Tensor, amount: Amount, share: float, block: int) -> torch.Tensor:
    """The matrix with zeros, and with its other weights changed.

    Args:
        weight: of shape (out, in).
        factor: U, of shape (in, in).
        amount: how many weights become zero.
        share: of this layer's weights, where the amount is a share.
        block: number of columns of a block.

    Returns:
        float32, of shape (out, in).
    """
    import torch

    left = weight.to(factor.device).float().clone()
    for start in range(0, left.shape[1], block):
        columns = slice(start, min(start + block, left.shape[1]))
        inside, inverse = left[:, columns].clone(), factor[columns, columns]
        scale = inverse.diagonal()
        errors, zeros = torch.zeros_like(inside), torch.zeros_like(inside, dtype=torch.bool)
        if not amount.group:
            losses = (inside.square() / scale.square()).flatten()
            zeros = lowest_scores(losses, int(losses.numel() * share)).reshape(inside.shape)
        for column in range(inside.shape[1]):
            if amount.group and column % amount.group == 0:
                group = slice(column, column + amount.group)
                zeros[:, group] = lowest_scores(inside[:, group].square() / scale[group].square(), amount.zeros)
            before = inside[:, column].clone()
            after = before.masked_fill(zeros[:, column], 0)
            errors[:, column] = (before - after) / scale[column]
            inside[:, column:] -= errors[:, column, None] * inverse[column, column:]
            inside[:, column] = after
        left[:, columns] = inside
        left[:, columns.stop :] -= errors @ factor[columns, columns.stop :]
    return left.cpu()

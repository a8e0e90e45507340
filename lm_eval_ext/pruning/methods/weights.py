"""Methods that set weights to zero, layer by layer: what a layer is given comes from layers that are already pruned.

Only the linear maps of the decoder layers are pruned, and the matrices of experts; never a router, norms, embeddings
or the head. `allocation=owl` gives each layer a share of its own (arXiv 2310.05175, equations 1 to 3): those with more
outliers by Wanda's scores keep more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tqdm import tqdm

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.architecture import within_layer
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, kept_tensors
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.expert_verification import find_experts
from lm_eval_ext.pruning.experts import expert_of, is_single
from lm_eval_ext.pruning.layers import check_in_memory, hooked
from lm_eval_ext.pruning.merging import LazyTensor
from lm_eval_ext.pruning.methods.removal import Removal
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.sparsity import (
    Amount,
    Criterion,
    Masked,
    Sparsity,
    digest_of,
    save_sparsity,
    scores,
    zeros_of,
)

if TYPE_CHECKING:
    import torch
    from torch.overrides import TorchFunctionMode

Allocation = Literal["uniform", "owl"]
SparseRemovals = dict[Amount, Removal]
Key = tuple[str, int]  # a parameter's name within its layer, and the number of a matrix in it
_LEAST_COVERED = 0.9  # of the weights in a layer's matrices


def _by(criterion: Criterion) -> Callable[..., SparseRemovals]:
    def method(
        context: PruningContext, remove: Sequence[Amount], *, allocation: Allocation = "uniform",
        owl_lambda: float = 0.08, owl_outlier: float = 5.0,
    ) -> SparseRemovals:  # fmt: skip
        return _sparse(context, remove, criterion, allocation, owl_lambda, owl_outlier)

    return method


# The smallest weights of each matrix become zero; texts are only read for `allocation=owl`. Source: as arXiv 2306.11695
# compares with it.
magnitude_weights = _by("magnitude-weights")
# The weights of each row become zero whose size, times the norm of what they are multiplied with, is smallest. Source:
# arXiv 2306.11695.
wanda = _by("wanda")


def ria(
    context: PruningContext, remove: Sequence[Amount], *, exponent: float = 0.5, allocation: Allocation = "uniform",
    owl_lambda: float = 0.08, owl_outlier: float = 5.0,
) -> SparseRemovals:  # fmt: skip
    """The weights of each matrix become zero whose share of their row and column, times a norm, is smallest.

    Without the permutation of channels that the paper adds for n of m. Source: Plug-and-Play, ICLR 2024.
    """
    return _sparse(context, remove, "ria", allocation, owl_lambda, owl_outlier, exponent)


def _sparse(
    context: PruningContext, remove: Sequence[Amount], criterion: Criterion, allocation: Allocation, owl_lambda: float,
    owl_outlier: float, exponent: float = 0.5,
) -> SparseRemovals:  # fmt: skip
    shares = allocated(context, remove, allocation, owl_lambda, owl_outlier)
    return {
        amount: Removal(sparsity=_pruned(context, criterion, amount, of_layers, exponent))
        for amount, of_layers in shares.items()
    }


def allocated(
    context: PruningContext, remove: Sequence[Amount], allocation: Allocation, owl_lambda: float, owl_outlier: float
) -> dict[Amount, tuple[float, ...]]:
    """The share of zeros of each layer, for each amount; none if all layers lose the same share."""
    if quantization_of(context.config) is not None:
        raise ArchitectureError("weights of a quantized checkpoint can't be set to zero; prune the unquantized model")
    if not 0 <= owl_lambda < 1 or owl_outlier <= 0:
        raise ArgumentError(f"owl_lambda={owl_lambda}, owl_outlier={owl_outlier}: give 0 to 1, and a positive number")
    if allocation == "uniform":
        return dict.fromkeys(remove, ())
    for amount in remove:  # before the pass over all texts
        owl_shares([0.0] * context.depth, amount, owl_lambda)
    outliers = _outliers(context, owl_outlier)
    return {amount: owl_shares(outliers, amount, owl_lambda) for amount in remove}


def owl_shares(outliers: Sequence[float], amount: Amount, spread: float) -> tuple[float, ...]:
    """The share of zeros of each layer: the mean is the amount, and layers differ by at most twice the spread.

    Args:
        outliers: share of outliers in each layer.
        amount: share of zeros over all layers.
        spread: lambda.

    Raises:
        ArgumentError: the amount is n of m, or a layer would keep all weights or none.

    >>> owl_shares([0.01, 0.03], Amount.parse("20%"), 0.08)
    (0.28, 0.12)
    """
    if amount.group:
        raise ArgumentError(f"remove={amount}: allocation=owl gives layers different shares; give a share such as 50%")
    low, span = min(outliers), max(outliers) - min(outliers)
    kept = [2 * spread * (one - low) / span if span else 0.0 for one in outliers]
    mean = sum(kept) / len(kept)
    shares = tuple(round(amount.share - one + mean, 9) for one in kept)
    if not all(0 <= share < 1 for share in shares):
        lost = f"{min(shares):.0%} to {max(shares):.0%}"
        raise ArgumentError(f"remove={amount}: with owl_lambda={spread}, layers would lose {lost} of their weights")
    return shares


# Layer by layer ----------------------------------------------------------------------------------------------


@dataclass
class Matrix:
    """A matrix of a layer, as it is in memory, and what it is multiplied with.

    Attributes:
        weight: of shape (out, in); a view, so that changing it changes the model.
        squares: sums of squares of the inputs over all tokens, float64, of shape (in,); None before the first.
        products: X'X of all inputs, float32, of shape (in, in), where it is asked for.
        factor: what `sparsegpt` makes of it.
    """

    weight: torch.Tensor
    squares: torch.Tensor | None = None
    products: torch.Tensor | None = None
    factor: torch.Tensor | None = None

    def add(self, states: torch.Tensor, *, products: bool) -> None:
        """Take an input into account, of any shape that ends with (in,)."""
        flat = states.detach().reshape(-1, states.shape[-1])
        total = flat.double().square().sum(0)
        self.squares = total if self.squares is None else self.squares + total
        if products:
            product = flat.float().T @ flat.float()
            self.products = product if self.products is None else self.products + product

    def norms(self) -> torch.Tensor:
        """||X_j||_2, float32, of shape (in,); ones if it was multiplied with nothing, as an expert never chosen."""
        import torch

        if self.squares is None or not self.squares.any():
            return torch.ones(self.weight.shape[1])
        return self.squares.sqrt().float().cpu()


def matrices_of(context: PruningContext, layer: int) -> dict[Key, Matrix]:
    """The matrices of a layer that are pruned.

    Raises:
        ArchitectureError: some are in a form that is not known, so that only a part of the layer would be pruned.
    """
    import torch

    module = context.layers[layer]
    check_in_memory(module)
    experts = find_experts(context.config, trust_remote_code=context.trust_remote_code) if context.experts else None
    linear = {f"{name}.weight" for name, one in module.named_modules() if isinstance(one, torch.nn.Linear)}
    transposed = tuple(f"{name}." for name, one in module.named_modules() if getattr(one, "is_transposed", False))
    found: dict[Key, Matrix] = {}
    covered = total = 0
    for name, weight in module.named_parameters():
        axis = experts.axis_of(name) if experts else None
        router = axis is not None and not axis.blocks and weight.ndim < 3
        if weight.ndim < 2 or router or weight.shape[0] == 1:  # the gate of shared experts, too
            continue
        total += weight.numel()
        if name in linear and weight.ndim == 2:
            found[name, 0] = Matrix(weight.data)
        elif axis is not None and axis.dimension == 0 and weight.ndim == 3 and not name.startswith(transposed):
            found |= {(name, number): Matrix(one) for number, one in enumerate(weight.data)}
        else:
            continue
        covered += weight.numel()
    if not found or covered < _LEAST_COVERED * total:
        raise ArchitectureError(
            f"only {covered:,} of the {total:,} weights in the matrices of layer {layer} are linear maps that can be "
            "pruned; use a method that drops layers or experts"
        )
    return found


def _watching(matrices: Mapping[Key, Matrix], *, products: bool) -> TorchFunctionMode:
    """Show each matrix what it is multiplied with by `torch.nn.functional.linear`."""
    import torch
    from torch.overrides import TorchFunctionMode

    places = {matrix.weight.data_ptr(): matrix for matrix in matrices.values()}

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # as torch's
            if func is torch.nn.functional.linear:
                named = dict(zip(("input", "weight"), args, strict=False)) | (kwargs or {})
                states, weight = named["input"], named["weight"]
                matrix = places.get(weight.data_ptr())
                if matrix is not None and matrix.weight.shape == weight.shape:
                    matrix.add(states, products=products)
            return func(*args, **(kwargs or {}))

    return Watch()


class _Done(Exception):  # not an error: ends a forward pass behind the layer that is looked at
    pass


def _run_through(context: PruningContext, layer: int) -> None:
    """Run the calibration texts, one at a time so that nothing is padded, up to the end of a layer."""
    import torch

    def stop(*_: object) -> None:
        raise _Done

    with hooked([(context.layers[layer], stop)]), torch.no_grad():
        for ids, mask in context.batches(1):
            try:
                context.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
            except _Done:
                continue


@contextmanager
def _one_expert_at_a_time(context: PruningContext) -> Iterator[None]:
    """Compute experts one by one, so that it shows what each is multiplied with."""
    model: Any = context.model
    if not context.experts or not hasattr(model, "set_experts_implementation"):
        yield
        return
    before = model.config._experts_implementation
    model.set_experts_implementation("eager")
    try:
        yield
    finally:
        model.set_experts_implementation(before)


def visited(
    context: PruningContext, *, reads: bool = True, products: bool = False
) -> Iterator[tuple[int, dict[Key, Matrix]]]:
    """The matrices of each layer with what they are multiplied with, one layer after the other.

    What is changed in a layer before the next is asked for changes what later layers are given.

    Args:
        context: the base model and its calibration texts.
        reads: whether the texts are run at all.
        products: whether to sum products of the inputs, too.

    Raises:
        ArchitectureError: it is not known what a matrix is multiplied with.
    """
    with _one_expert_at_a_time(context):
        for layer in tqdm(range(context.depth), desc="Weights of layers"):
            matrices = matrices_of(context, layer)
            if reads:
                with _watching(matrices, products=products):
                    _run_through(context, layer)
                seen = {name for (name, _), one in matrices.items() if one.squares is not None}
                if unseen := {name for name, _ in matrices} - seen:
                    raise ArchitectureError(
                        f"it is not known what {min(unseen)} of layer {layer} is multiplied with; use "
                        "magnitude-weights, or a method that drops layers or experts"
                    )
            yield layer, matrices


def _outliers(context: PruningContext, factor: float) -> list[float]:
    """For each layer of the base model, the share of weights whose score by Wanda is above so many times the mean."""
    import torch

    found = []
    for _, matrices in visited(context):
        every = torch.cat(
            [some.flatten() for one in matrices.values() for some in scores("wanda", one.weight, one.norms())]
        )
        found.append(float((every > factor * every.double().mean()).double().mean()))
    return found


def _pruned(
    context: PruningContext, criterion: Criterion, amount: Amount, shares: Sequence[float], exponent: float
) -> Sparsity:
    """Prune the model in memory, and keep what gives the same masks again."""
    norms: list[torch.Tensor] = []

    def prune(part: StoredMatrix, matrix: Matrix, share: float) -> Pruned:
        used = None if criterion == "magnitude-weights" else matrix.norms()
        weight = part.read()
        mask = zeros_of(criterion, amount, share, weight, used, exponent)
        return Pruned(weight.masked_fill(mask, 0), mask, None if used is None else _number(norms, used))

    fields = {"criterion": criterion, "exponent": exponent}
    reads = criterion != "magnitude-weights"
    return pruned_by(context, prune, fields, amount, shares, norms, visited(context, reads=reads))


class Pruned(NamedTuple):
    """A matrix of the checkpoint after pruning.

    Attributes:
        weight: of shape (out, in), as it is stored.
        zeros: which weights have become zero.
        norms: number of the norms that scored it.
        base: as it was before; None if the norms and it give the zeros again.
    """

    weight: torch.Tensor
    zeros: torch.Tensor
    norms: int | None = None
    base: torch.Tensor | None = None


def pruned_by(
    context: PruningContext, prune: Callable[[StoredMatrix, Matrix, float], Pruned], fields: Mapping[str, object],
    amount: Amount, shares: Sequence[float], norms: Sequence[torch.Tensor],
    visits: Iterator[tuple[int, dict[Key, Matrix]]], *, keep: bool = False,
) -> Sparsity:  # fmt: skip
    """Prune the model in memory, layer by layer, and then forget it.

    Args:
        context: the base model and its calibration texts.
        prune: called with a matrix of the checkpoint, the one in memory that it is part of, and the layer's share.
        fields: of the recipe, besides amount and shares.
        amount, shares: how many weights become zero, of each layer if they differ.
        norms: those that `prune` has numbered.
        visits: as `visited` gives them.
        keep: whether to keep the pruned tensors themselves.
    """
    import torch

    entries: dict[str, Masked] = {}
    kept: dict[str, torch.Tensor] = {}
    zeros, hub = 0, {"revision": context.revision}
    try:
        with ExitStack() as files:
            stored = kept_tensors(context.pretrained, range(context.depth), NO_CHANGES, hub, files)
            for layer, matrices in visits:
                share = shares[layer] if shares else amount.share
                for name, parts in stored_matrices(stored, layer, matrices):
                    done = [prune(part, matrices[part.key], share) for part in parts]
                    for part, one in zip(parts, done, strict=True):
                        part.inside(matrices).copy_(one.weight)
                    numbers = tuple(one.norms for one in done if one.norms is not None)
                    entries[name] = Masked(
                        numbers, tuple(digest_of(one.zeros if one.base is None else one.base) for one in done)
                    )
                    zeros += sum(int(one.zeros.sum()) for one in done)
                    if keep:
                        alone = parts[0].number is None
                        kept[name] = done[0].weight if alone else torch.stack([one.weight for one in done])
    finally:
        context.release()  # the model in memory is not the base any more
    if not zeros:
        raise ArgumentError(f"remove={amount}: so small a share sets no weight to zero; give a larger one")
    return save_sparsity({**fields, "amount": str(amount), "shares": shares, "zeros": zeros}, entries, norms, kept)


def _number(norms: list[torch.Tensor], one: torch.Tensor) -> int:
    """The number of these norms among those that are kept: matrices with the same inputs share them."""
    for number in range(len(norms) - 1, max(-1, len(norms) - 8), -1):
        if norms[number].shape == one.shape and bool((norms[number] == one).all()):
            return number
    norms.append(one)
    return len(norms) - 1


class StoredMatrix(NamedTuple):
    """A matrix of a tensor in the checkpoint, and the rows of a matrix in memory that it is."""

    tensor: LazyTensor
    number: int | None  # in the tensor, if that has several
    key: Key
    start: int

    def read(self) -> torch.Tensor:
        """The matrix, of shape (out, in), as it is stored."""
        return self.tensor[...] if self.number is None else self.tensor[slice(self.number, self.number + 1)][0]

    def inside(self, matrices: Mapping[Key, Matrix]) -> torch.Tensor:
        """Its rows in memory."""
        return matrices[self.key].weight[self.start : self.start + self.tensor.get_shape()[-2]]


def stored_matrices(
    stored: Mapping[str, LazyTensor], layer: int, matrices: Mapping[Key, Matrix]
) -> Iterator[tuple[str, list[StoredMatrix]]]:
    """The tensors of a checkpoint that hold the matrices of a layer: by their names, or else by their values.

    Experts are one tensor in memory and often many in a checkpoint.

    Raises:
        ArchitectureError: for some matrices they are not known.
    """
    missing = {key: one.weight.shape[0] for key, one in matrices.items()}
    for name, tensor in stored.items():
        place, shape = within_layer(name), tensor.get_shape()
        if not place or place[0] != layer or len(shape) not in (2, 3):
            continue
        numbers = [None] if len(shape) == 2 else list(range(shape[0]))
        parts: list[StoredMatrix | None] = [
            StoredMatrix(tensor, number, (place[1], number or 0), 0) for number in numbers
        ]
        if not all(part and part.key in matrices for part in parts):
            of_expert = is_single(f".{place[1]}")
            parts = [_found_by_value(name, part, matrices) if part and of_expert else None for part in parts]
        known = [part for part in parts if part and list(part.inside(matrices).shape) == shape[-2:]]
        if len(known) < len(parts):
            continue
        for part in known:
            missing[part.key] -= shape[-2]
        yield name, known
    wrong = [name for (name, _), rows in missing.items() if rows]
    if wrong:
        raise ArchitectureError(
            f"which tensors of the checkpoint hold {wrong[0]} of layer {layer} is not known, so its weights can't be "
            "set to zero; use a method that drops layers or experts"
        )


def _found_by_value(name: str, part: StoredMatrix, matrices: Mapping[Key, Matrix]) -> StoredMatrix | None:
    """The rows in memory that equal a matrix of the checkpoint; None if there are none, or several."""
    read = part.read()
    number = expert_of(name)
    for same_number in (True, False):  # an expert mostly has the same number in both
        found = []
        for key, one in matrices.items():
            if (key[1] == number) is not same_number or one.weight.shape[1] != read.shape[1]:
                continue
            same = read.to(one.weight)
            starts = (one.weight[: max(0, len(one.weight) - len(read) + 1)] == same[0]).all(-1).nonzero()
            found += [
                part._replace(key=key, start=at)
                for at in starts.flatten().tolist()
                if bool((one.weight[at : at + len(read)] == same).all())
            ]
        if found:
            break
    return found[0] if len(found) == 1 else None

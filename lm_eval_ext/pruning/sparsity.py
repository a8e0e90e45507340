"""Zeros in the weights of a model: a share of them, or n of each m consecutive ones. No tensor gets smaller.

A mask is not stored, because it would be large, but computed while a tensor is read, by any engine: from the weights
and from the norms of what they are multiplied with, which lie beside the recipe. Products are float32 and equal scores
go by position, so the same mask comes out everywhere; its digest is checked.

Scores, lowest first, of W with the shape (out, in), for inputs X of shape (tokens, in):

- `magnitude-weights`: |W|, by matrix.
- `wanda` (arXiv 2306.11695, equation 1): |W| * ||X_j||_2, by row.
- `ria` ("Plug-and-Play: An Efficient Post-training Pruning Method", ICLR 2024, section 3.1):
  (|W| / sum over rows + |W| / sum over columns) * ||X_j||_2^a, by matrix.

"By matrix" and "by row" say what a share is taken of: its int(share * n) lowest of n, of equal ones the first. n of m
are always consecutive ones of a row. Where a share is taken by matrix, the authors' programs also prune all that equal
the threshold.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, field_validator
from safetensors import SafetensorError

from lm_eval_ext.errors import ArchitectureError, ArgumentError, RecipeError
from lm_eval_ext.pruning.architecture import layer_of_tensor
from lm_eval_ext.pruning.attachment import Attachment, written
from lm_eval_ext.pruning.merging import ChangedTensor

if TYPE_CHECKING:
    import torch

Criterion = Literal["magnitude-weights", "ria", "sparsegpt", "wanda"]
BY_MATRIX = ("magnitude-weights", "ria")  # the others take a share of each row
_AMOUNT = re.compile(r"(\d+(?:\.\d{1,4})?)%|(\d+)of(\d+)", re.ASCII)
_DIGITS = 16  # of a mask's digest
_PIECE = 1 << 18  # weights scored at a time, to save memory
_HALF = 16  # bits of half a float32
_NORMS = "norms."


class Amount(NamedTuple):
    """How many weights become zero: a share of them, or `zeros` of each `group` consecutive ones in a row."""

    share: float
    zeros: int = 0
    group: int = 0

    @classmethod
    def parse(cls, text: str, written: str | None = None) -> Self:
        """Read `20%` or `2of4`; `written` is how the user wrote it, for messages.

        Raises:
            ArgumentError: it is neither, or all weights or none would become zero.

        >>> str(Amount.parse("2of4"))
        '2of4'
        """
        found = _AMOUNT.fullmatch(text.strip())
        share = float(found[1] or 0) / 100 if found else 0.0
        zeros, group = (int(found[2] or 0), int(found[3] or 0)) if found else (0, 0)
        if not (0 < share < 1 or 0 < zeros < group <= 1024):
            raise ArgumentError(
                f"{written or f'remove={text}'}: of weights, give a share above 0% and below 100% such as 20%, or n of "
                "each m such as 2of4"
            )
        return cls(share or zeros / group, zeros, group)

    def __str__(self) -> str:
        return f"{self.zeros}of{self.group}" if self.group else f"{f'{100 * self.share:.4f}'.rstrip('0').rstrip('.')}%"

    def check_width(self, width: int) -> None:
        """Check that rows of so many weights consist of whole groups.

        Raises:
            ArchitectureError: they don't.
        """
        if self.group and width % self.group:
            raise ArchitectureError(f"{self}: rows of {width} weights don't consist of groups of {self.group}")


def scores(
    criterion: Criterion, weight: torch.Tensor, norms: torch.Tensor | None = None, exponent: float = 0.5
) -> Iterator[torch.Tensor]:
    """How much each weight matters, some rows at a time, since all scores are twice as large as the weights.

    Args:
        criterion: `magnitude-weights`, `ria` or `wanda`.
        weight: of shape (out, in).
        norms: ||X_j||_2, float32, of shape (in,); not for `magnitude-weights`.
        exponent: a of `ria`.

    Returns:
        float32, none negative, of shapes (rows, in), one after the other.

    Raises:
        ArchitectureError: a score is not finite.
    """
    import torch

    pieces = torch.split(weight, max(1, _PIECE // max(1, weight.shape[1])))
    factors = norms.to(weight.device) if norms is not None and criterion != "magnitude-weights" else None
    columns = None
    if criterion == "ria" and factors is not None:
        factors = (factors.double() ** exponent).float()
        columns = _sums(pieces, 0)
    for piece in pieces:
        found = piece.float().abs()
        if columns is not None:
            found = found / columns + found / _sums([piece], 1)
        if factors is not None:
            found = found * factors
        if found.numel() and not bool(found.max().isfinite()):
            raise ArchitectureError(
                "a weight's score is not finite: weights or hidden states overflow; try dtype=bfloat16"
            )
        yield found


def _sums(pieces: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    """Sums of sizes along an axis, of all pieces; in float64, so that their order doesn't matter for the result."""
    import torch

    each = [piece.float().abs().sum(axis, keepdim=True, dtype=torch.float64) for piece in pieces]
    return torch.stack(each).sum(0).float().clamp(min=1e-38)  # a row or column of zeros has no share of its sum


def lowest_scores(found: torch.Tensor, count: int) -> torch.Tensor:
    """A mask of the `count` lowest along the last dimension; of equal ones, the first: as a stable sort has them."""
    import torch

    if count == 0:
        return found.isnan()  # none is
    threshold = _nth(found, count)
    rows = found.reshape(-1, found.shape[-1])
    lowest = rows <= threshold.reshape(-1, 1)
    surplus = lowest.sum(-1) - count
    if bool(surplus.any()):  # the last ones that equal a row's threshold
        row, column = (rows == threshold.reshape(-1, 1)).nonzero(as_tuple=True)
        rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        late = rank >= (torch.bincount(row, minlength=len(rows)) - surplus)[row]
        lowest[row[late], column[late]] = False
    return lowest.reshape(found.shape)


def _nth(found: torch.Tensor, count: int) -> torch.Tensor:
    """The `count`-th lowest along the last dimension, which has length 1 then; NumPy is ten times faster on a CPU."""
    import numpy
    import torch

    if found.device.type != "cpu":
        return found.kthvalue(count, dim=-1, keepdim=True).values
    return torch.from_numpy(numpy.partition(found.numpy(), count - 1, axis=-1)[..., count - 1 : count].copy())


def lowest_of_all(pieces: Callable[[], Iterator[torch.Tensor]], rows: int, count: int) -> torch.Tensor:
    """A mask of the `count` lowest of all scores; of equal ones, the first. The scores are never in memory together.

    The bits of float32 numbers that are not negative are in the numbers' order, so that counts by their upper and then
    by their lower half give the threshold exactly.

    Args:
        pieces: makes the scores again each time, some rows after the other.
        rows: how many these are together.
        count: how many are masked, at least 1.

    >>> import torch
    >>> lowest_of_all(lambda: iter(torch.tensor([[0.5, 0.25], [0.25, 2.0]]).split(1)), rows=2, count=2)
    tensor([[False,  True],
            [ True, False]])
    """
    import torch

    def bits() -> Iterator[torch.Tensor]:
        return (piece.contiguous().view(torch.int32) for piece in pieces())

    upper, before = _bin(((some >> _HALF).flatten() for some in bits()), count)
    lower, less = _bin((some[some >> _HALF == upper] & (1 << _HALF) - 1 for some in bits()), count - before)
    threshold, left = upper << _HALF | lower, count - before - less
    mask, at = torch.empty(0, dtype=torch.bool), 0
    for some in bits():
        mask = some.new_empty(rows, some.shape[1], dtype=torch.bool) if at == 0 else mask  # once: two would be large
        equal = some == threshold
        first = equal.flatten().cumsum(0, dtype=torch.int32).reshape(equal.shape) <= left
        left -= int(equal.logical_and_(first).sum())
        torch.logical_or(some < threshold, equal, out=mask[at : (at := at + len(some))])
    return mask


def _bin(values: Iterable[torch.Tensor], count: int) -> tuple[int, int]:
    """The value of the `count`-th lowest of many small whole numbers, and how many are below that value."""
    import torch

    counts = sum(torch.bincount(some, minlength=1 << _HALF) for some in values)
    assert isinstance(counts, torch.Tensor)
    upto = counts.cumsum(0)
    found = int(torch.searchsorted(upto, count))
    return found, int(upto[found] - counts[found])


def zeros_of(
    criterion: Criterion, amount: Amount, share: float, weight: torch.Tensor, norms: torch.Tensor | None = None,
    exponent: float = 0.5,
) -> torch.Tensor:  # fmt: skip
    """Which weights of a matrix become zero: a mask of its shape.

    Args:
        criterion, weight, norms, exponent: as in `scores`.
        amount: how many.
        share: of this layer's weights, where the amount is a share.

    Raises:
        ArchitectureError: rows don't consist of whole groups, or a score is not finite.
    """
    import torch

    width = weight.shape[1]
    pieces = partial(scores, criterion, weight, norms, exponent)
    if amount.group:
        amount.check_width(width)
        shape = (-1, width // amount.group, amount.group)
        return torch.cat([lowest_scores(some.reshape(shape), amount.zeros).reshape(some.shape) for some in pieces()])
    if criterion in BY_MATRIX and (count := int(weight.numel() * share)):
        return lowest_of_all(pieces, len(weight), count)
    return torch.cat([lowest_scores(some, int(width * share)) for some in pieces()])


class Masked(NamedTuple):
    """What the file beside a recipe says of a tensor, for each matrix that it consists of.

    Attributes:
        norms: numbers of the norms that score it; none for `magnitude-weights` and `sparsegpt`.
        digests: of its mask, or of the base's weights where the pruned ones are in the file (`digest_of`).
    """

    norms: tuple[int, ...]
    digests: tuple[str, ...]


class Sparsity(Attachment):
    """Which weights of a recipe's model are zero.

    Its file lists the tensors, by their names in the checkpoint, and has the norms of what they are multiplied with; of
    `sparsegpt`, which changes the weights that stay as well, it has the tensors themselves.
    """

    FIELD, SUFFIX = "sparsity", ".sparsity"  # in safetensors' format, under a name that no loader of models reads

    criterion: Annotated[Criterion, Field(description="how weights are scored")]
    amount: Annotated[str, Field(description="`20%` of the weights, or `2of4`")]
    shares: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(description="share of each layer, if they differ")
    ] = ()
    exponent: Annotated[float, Field(ge=0, le=2, description="of the norms, for ria")] = 0.5
    zeros: Annotated[int, Field(ge=0, description="number of weights that are zero")] = 0

    @field_validator("amount", mode="before")
    @classmethod
    def _amount(cls, value: object) -> str:
        return str(Amount.parse(str(value), f"amount={value}"))

    @property
    def parsed(self) -> Amount:
        """The amount."""
        return Amount.parse(self.amount)

    def __str__(self) -> str:
        return f"zeros {self.amount}"

    def applies_to(self, name: str) -> bool:
        """Whether some weights of a tensor of the checkpoint are zero.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        return name in _opened(self)[0]

    def matrix(self, name: str, number: int, weight: torch.Tensor) -> torch.Tensor:
        """A matrix of a tensor of the checkpoint, with zeros.

        Raises:
            RecipeError: the mask is another one than when the recipe was made, or the file cannot be read.
        """
        entries, file = _opened(self)
        norms, digests = entries[name]
        layer = layer_of_tensor(name)
        try:
            if self.criterion == "sparsegpt":
                stored = file.get_slice(name)
                pruned = stored[...] if len(stored.get_shape()) == 2 else stored[number : number + 1][0]
                digest = digest_of(weight)
            else:
                share = self.shares[layer] if self.shares and layer is not None else self.parsed.share
                used = file.get_tensor(f"{_NORMS}{norms[number]}") if norms else None
                mask = zeros_of(self.criterion, self.parsed, share, weight, used, self.exponent)
                pruned, digest = weight.masked_fill(mask, 0), digest_of(mask)
            same = digest == digests[number] and (pruned.shape, pruned.dtype) == (weight.shape, weight.dtype)
        except (IndexError, RuntimeError, SafetensorError, ArchitectureError) as error:
            reason = " ".join(str(error).split())
            raise RecipeError(f"sparsity: {name}: its shape or weights are not the recipe's ({reason})") from error
        if not same:
            raise RecipeError(
                f"sparsity: the recipe was made from another base, because the weights in {name} are others; use its "
                "base in the same revision"
            )
        on_device: torch.Tensor = pruned.to(weight.device)
        return on_device


def digest_of(values: torch.Tensor) -> str:
    """First digits of the SHA-256 of a mask, packed into bits row by row, or of weights as they are stored."""
    import numpy
    import torch

    if values.dtype == torch.bool:
        content = numpy.packbits(values.cpu().numpy()).tobytes()
    else:
        content = values.cpu().contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def save_sparsity(
    fields: Mapping[str, object], entries: Mapping[str, Masked], norms: Sequence[torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
) -> Sparsity:  # fmt: skip
    """Keep what the file beside a recipe has in the cache, where a recipe in memory can refer to it.

    Args:
        fields: of the recipe.
        entries: what is said of each tensor.
        norms: float32, in the order of their numbers.
        tensors: those that are not computed, of `sparsegpt`.
    """
    from safetensors.torch import save_file

    def write(path: Path) -> None:
        try:
            save_file(arrays, path, metadata={"masks": listed})
        except SafetensorError as error:  # a full disk, too
            raise OSError(str(error)) from error

    listed = json.dumps({name: list(entry) for name, entry in sorted(entries.items())})
    arrays = {f"{_NORMS}{number}": one.contiguous() for number, one in enumerate(norms)} | dict(sorted(tensors.items()))
    file, sha256 = written(write, Sparsity.SUFFIX)
    return Sparsity.model_validate({**fields, "file": file, "sha256": sha256})


@lru_cache(maxsize=2)
def _opened(sparsity: Sparsity) -> tuple[dict[str, Masked], Any]:
    """What the file says of each tensor, and the file."""
    from safetensors import safe_open

    path = sparsity.checked()
    try:
        file = safe_open(path, framework="pt")
        listed = json.loads((file.metadata() or {})["masks"])  # type: ignore[no-untyped-call]  # safetensors'
        return {name: Masked(tuple(numbers), tuple(masks)) for name, (numbers, masks) in listed.items()}, file
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(f"sparsity: {path} is not a file of norms and masks ({error!r})") from error


@dataclass(frozen=True)
class SparseTensor(ChangedTensor):
    """A tensor with zeros, computed when it is read, like a slice of a safetensors file; of experts, one by one."""

    name: str
    sparsity: Sparsity

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        if len(shape := self.tensor.get_shape()) == 2:
            return self.sparsity.matrix(self.name, 0, self.tensor[...])[key]
        first, *rest = key if isinstance(key, tuple) else (slice(None) if key is ... else key,)
        experts = range(shape[0])[first]
        read: torch.Tensor | None = None
        for at, expert in enumerate(experts):  # not a stack of all, which are in memory twice then
            pruned = self.sparsity.matrix(self.name, expert, self.tensor[slice(expert, expert + 1)][0])[tuple(rest)]
            if read is None:
                read = pruned.new_empty(len(experts), *pruned.shape)
            read[at] = pruned
        assert read is not None, "a layer has experts"
        return read

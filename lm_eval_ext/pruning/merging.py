"""LaCo's merges as linear combinations of the base model's layers.

In both variants, a merged layer is a weighted sum of layers of the base model. So a loader only needs `MergeWeights`:
for each merged layer, the layers it sums and their weights.

A linear map in place of dropped layers, multiplied into the weights before them.

The feed-forward network of the layer before them adds f to the residual stream; with the map it adds f T, which is to
do what the dropped layers did. T is multiplied into the network's last projection, so the model has no parameters more.
Source: ReplaceMe, arXiv 2505.02819, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from pydantic import Field

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ArchitectureError, RecipeError
from lm_eval_ext.pruning.architecture import (
    Block,
    block_of_tensor,
    is_block_output,
    is_merged,
    layer_of_tensor,
    renamed_tensor,
)
from lm_eval_ext.pruning.attachment import Attachment, written

if TYPE_CHECKING:
    import torch


Variant = Literal["rdsc", "reference_code"]
MergeWeights = dict[int, dict[int, float]]  # merged layer -> layer of the base model -> its weight


class Merge(Declared):
    """A merge step of LaCo: `layers` are merged into `into` and dropped; layer numbers are the base model's."""

    into: Annotated[int, Field(ge=0)]
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


def combinations(merges: Sequence[Merge], variant: Variant) -> MergeWeights:
    """The weights of every merged layer.

    `rdsc`, as in the paper (arXiv 2402.11187, equation 1): theta_l + sum_k (theta_l+k - theta_l), where all differences
    are taken against the original theta_l. `reference_code`: the authors' program subtracts the layer as merged so far,
    so the sum telescopes to the last layer merged.
    """
    made: MergeWeights = {}
    for merge in merges:
        parts = [made.pop(layer, {layer: 1.0}) for layer in merge.layers]
        own = made.get(merge.into, {merge.into: 1.0})
        if variant == "reference_code":
            made[merge.into] = parts[-1]
        else:
            made[merge.into] = _sum([(own, 1.0 - len(parts)), *((part, 1.0) for part in parts)])
    return made


def _sum(terms: Sequence[tuple[Mapping[int, float], float]]) -> dict[int, float]:
    total: dict[int, float] = {}
    for layers, share in terms:
        for layer, part in layers.items():
            total[layer] = total.get(layer, 0.0) + share * part
    return {layer: part for layer, part in sorted(total.items()) if part}


def check_merges(merges: Sequence[Merge], drop: Sequence[int]) -> None:
    """Refuse merges of layers that are not neighbours, and those that contradict each other or the dropped layers.

    Raises:
        RecipeError: a merge is invalid; the message says which.
    """
    gone: set[int] = set()
    for merge in merges:
        there = {merge.into, *merge.layers}
        if len(there) != len(merge.layers) + 1:
            raise RecipeError(f"merge into {merge.into} of {list(merge.layers)}: a layer is listed twice")
        if there & gone:
            already = min(there & gone)
            raise RecipeError(
                f"merge into {merge.into} of {list(merge.layers)}: layer {already} was already merged into another"
            )
        following = islice((layer for layer in count(merge.into + 1) if layer not in gone), len(merge.layers))
        if merge.layers != (neighbours := tuple(following)):
            raise RecipeError(
                f"merge into {merge.into} of {list(merge.layers)}: LaCo merges the layers that follow directly, which "
                f"are {list(neighbours)} here"
            )
        gone |= set(merge.layers)
    if gone - set(drop):
        raise RecipeError(f"merge: layer {min(gone - set(drop))} is merged into another, so it must be in `drop` too")
    lost = {merge.into for merge in merges} - gone & set(drop)
    if lost & set(drop):
        raise RecipeError(f"merge: others are merged into layer {min(lost & set(drop))}, so it must not be in `drop`")


def sources(name: str, made: MergeWeights) -> dict[str, float]:
    """The tensors (by name) that are summed for a tensor, and their weights; only itself if it is not merged."""
    layer = layer_of_tensor(name)
    if layer is None or layer not in made or not is_merged(name):
        return {name: 1.0}
    prefix, _, suffix = name.rpartition(f".{layer}.")
    return {f"{prefix}.{source}.{suffix}": share for source, share in made[layer].items()}


def merged_tensor(parts: Mapping[str, float], read: Callable[[str], torch.Tensor]) -> torch.Tensor:
    """The weighted sum of tensors, computed in float32 and returned in their own dtype."""
    import torch

    (first, share), *others = parts.items()
    tensor = read(first)
    total = tensor.to(torch.float32) * share
    for name, share in others:
        total = total + read(name).to(torch.float32) * share
    return total.to(tensor.dtype)


def merged_weights(
    weights: Iterable[tuple[str, torch.Tensor]], kept: Sequence[int], made: MergeWeights
) -> Iterator[tuple[str, torch.Tensor]]:
    """Convert a stream of the base model's tensors to the pruned model's; only tensors to be merged are held back."""
    target_of = {layer: target for target, parts in made.items() for layer in parts}
    waiting: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in weights:
        layer = layer_of_tensor(name)
        if layer is None or not is_merged(name) or layer not in {*target_of, *made}:
            if (new := renamed_tensor(name, kept)) is not None:
                yield new, tensor
        elif layer in target_of:  # otherwise other layers replace it
            target = name.replace(f".{layer}.", f".{target_of[layer]}.", 1)
            held = waiting.setdefault(target, {})
            held[name] = tensor.clone()  # the loader may reuse its buffer
            if len(held) == len(parts := sources(target, made)):
                yield str(renamed_tensor(target, kept)), merged_tensor(parts, waiting.pop(target).__getitem__)


class LinearMap(Attachment):
    """The map of a recipe."""

    FIELD, SUFFIX = "linear_map", ".npy"

    after: Annotated[int, Field(ge=0, description="the layer whose feed-forward network it follows")]

    @property
    def matrix(self) -> torch.Tensor:
        """T, float32, of shape (width, width): a row of what the network adds is multiplied by it from the right.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        return _matrix(self)

    def applies_to(self, name: str) -> bool:
        """Whether a tensor of the base model's checkpoint is multiplied by the map."""
        return block_of_tensor(name) == Block("mlp", self.after) and is_block_output(name)


def save_map(after: int, matrix: torch.Tensor, folder: Path | None = None) -> LinearMap:
    """Keep a matrix in a folder, by default in the cache, where a recipe in memory can refer to it."""
    import numpy

    array = matrix.float().cpu().numpy()
    file, sha256 = written(lambda path: numpy.save(path, array, allow_pickle=False), LinearMap.SUFFIX, folder)
    return LinearMap(after=after, file=file, sha256=sha256)


@lru_cache(maxsize=1)
def _matrix(linear_map: LinearMap) -> torch.Tensor:
    import numpy
    import torch

    file = linear_map.file
    try:
        array = numpy.load(linear_map.checked(), allow_pickle=False)
    except ValueError as error:
        raise RecipeError(f"linear_map: {file} is no NumPy file ({error})") from error
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.dtype != numpy.float32:
        raise RecipeError(f"linear_map: {file} holds {array.dtype} of shape {array.shape}; expected a float32 square")
    return torch.from_numpy(array)


@dataclass(frozen=True)
class ChangedTensor:
    """A tensor of a checkpoint that is changed when it is read, mostly without another shape or dtype."""

    tensor: LazyTensor

    def get_shape(self) -> list[int]:
        """Its shape."""
        return self.tensor.get_shape()

    def get_dtype(self) -> str:
        """Its dtype, as safetensors names it."""
        return self.tensor.get_dtype()


@dataclass(frozen=True)
class MappedTensor(ChangedTensor):
    """A last projection, of shape (width, inner), or its bias, of shape (width,), multiplied by a map when it is read.

    It is computed in float32.
    """

    name: str
    linear_map: LinearMap

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        read = self.tensor[slice(None), *columns] if columns else self.tensor[...]
        matrix = self.linear_map.matrix
        if read.ndim > 2 or read.shape[0] != len(matrix):  # as where experts are packed in one tensor
            raise ArchitectureError(
                f"{self.name} has the shape {tuple(read.shape)}, so a linear map of width {len(matrix)} cannot be "
                "multiplied into it; use a method that only drops layers"
            )
        return (matrix.T[rows].to(read.device) @ read.float()).to(read.dtype)


def check_map(linear_map: LinearMap | None, drop: Sequence[int]) -> None:
    """Check that a map stands in for dropped layers.

    Raises:
        RecipeError: the layer before the map is dropped, or the next one is not.
    """
    if linear_map is None:
        return
    after = linear_map.after
    if after in drop or after + 1 not in drop:
        raise RecipeError(
            f"linear_map: after={after}: the map stands in for dropped layers, so layer {after} must be kept and layer "
            f"{after + 1} dropped"
        )


class LazyTensor(Protocol):
    """A tensor in a safetensors file, read when it is indexed."""

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor: ...

    def get_shape(self) -> list[int]:
        """Its shape."""

    def get_dtype(self) -> str:
        """Its dtype, as safetensors names it."""

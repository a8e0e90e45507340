"""A linear map in place of dropped layers, multiplied into the weights before them.

The feed-forward network of the layer before them adds f to the residual stream; with the map it adds f T, which is to
do what the dropped layers did. T is multiplied into the network's last projection, so the model has no parameters more.
Source: ReplaceMe, arXiv 2505.02819, section 3.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from lm_eval_ext.errors import ArchitectureError, RecipeError
from lm_eval_ext.pruning.architecture import block_of_tensor, is_block_output

if TYPE_CHECKING:
    import torch

    from lm_eval_ext.pruning.checkpoint import LazyTensor


class LinearMap(BaseModel):
    """The map of a recipe. Its matrix is in a file of its own, which lies beside the recipe's."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Annotated[int, Field(ge=0, description="the layer whose feed-forward network it follows")]
    file: Annotated[str, Field(min_length=1, description="the matrix, as a NumPy file beside the recipe")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file")]

    @property
    def matrix(self) -> torch.Tensor:
        """T, float32, of shape (width, width): a row of what the network adds is multiplied by it from the right.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        return _matrix(self.file, self.sha256)

    def applies_to(self, name: str) -> bool:
        """Whether a tensor of the base model's checkpoint is multiplied by the map."""
        return block_of_tensor(name) == (self.after, "mlp") and is_block_output(name)

    def beside(self, recipe: Path) -> LinearMap:
        """The map whose file, if it is given by its name alone, lies beside a recipe."""
        return self.model_copy(update={"file": str(recipe.parent / self.file)})

    def copied_beside(self, recipe: Path) -> LinearMap:
        """Copy the file beside a recipe, and name it after the recipe.

        Raises:
            RecipeError: the file is missing, or is another one.
        """
        target = recipe.with_suffix(".npy")
        content = _content(self.file, self.sha256)
        part = target.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(target)  # atomic, in case several processes write it
        return self.model_copy(update={"file": target.name})


def save_map(after: int, matrix: torch.Tensor, folder: Path) -> LinearMap:
    """Write a matrix to a folder, under a name that says its content."""
    import io

    import numpy

    buffer = io.BytesIO()
    numpy.save(buffer, matrix.float().cpu().numpy(), allow_pickle=False)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{sha256[:16]}.npy"
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_bytes(buffer.getvalue())
    part.replace(path)
    return LinearMap(after=after, file=str(path), sha256=sha256)


def _content(file: str, sha256: str) -> bytes:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise RecipeError(
            f"linear_map: {file} cannot be read ({error.strerror}); the recipe needs it beside its own file"
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise RecipeError(f"linear_map: {file} is not the recipe's: its SHA-256 is {found}, expected {sha256}")
    return content


@lru_cache(maxsize=1)
def _matrix(file: str, sha256: str) -> torch.Tensor:
    import io

    import numpy
    import torch

    try:
        array = numpy.load(io.BytesIO(_content(file, sha256)), allow_pickle=False)
    except ValueError as error:
        raise RecipeError(f"linear_map: {file} is no NumPy file ({error})") from error
    if array.ndim != 2 or array.shape[0] != array.shape[1] or array.dtype != numpy.float32:
        raise RecipeError(f"linear_map: {file} holds {array.dtype} of shape {array.shape}; expected a float32 square")
    return torch.from_numpy(array)


@dataclass(frozen=True)
class MappedTensor:
    """A last projection, or its bias, multiplied by a map when it is read, like a slice of a safetensors file."""

    name: str
    tensor: LazyTensor
    linear_map: LinearMap

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        rows, *columns = key if isinstance(key, tuple) else (key,)
        read = self.tensor[slice(None), *columns] if columns else self.tensor[...]
        return mapped(self.name, read, self.linear_map, rows)

    def get_shape(self) -> list[int]:
        """Its shape."""
        return self.tensor.get_shape()

    def get_dtype(self) -> str:
        """Its dtype, as safetensors names it."""
        return self.tensor.get_dtype()


def mapped(name: str, tensor: torch.Tensor, linear_map: LinearMap, rows: EllipsisType | slice = ...) -> torch.Tensor:
    """A last projection, of shape (width, inner), or its bias, of shape (width,), multiplied by a map.

    Args:
        name: of the tensor, for messages.
        tensor: as it is in the checkpoint of the base model.
        linear_map: the map.
        rows: of the result.

    Returns:
        These rows, computed in float32 and returned in the tensor's dtype.

    Raises:
        ArchitectureError: its first dimension is not the width, as where experts are packed in one tensor.
    """
    matrix = linear_map.matrix
    if tensor.ndim > 2 or tensor.shape[0] != len(matrix):
        raise ArchitectureError(
            f"{name} has the shape {tuple(tensor.shape)}, so a linear map of width {len(matrix)} cannot be multiplied "
            "into it; use a method that only drops layers"
        )
    chosen = matrix.T[rows].to(tensor.device)
    return (chosen @ tensor.float()).to(tensor.dtype)


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

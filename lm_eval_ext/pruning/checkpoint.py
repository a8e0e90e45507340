"""The kept tensors of a safetensors checkpoint, by their names in the pruned model; tensors are read lazily."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Protocol

from lm_eval_ext.errors import CheckpointError
from lm_eval_ext.paths import json_object
from lm_eval_ext.pruning.architecture import layer_of_tensor, packed_by_layer, renamed_tensor
from lm_eval_ext.pruning.experts import KeptExperts, Rows
from lm_eval_ext.pruning.merging import (
    ChangedTensor,
    LazyTensor,
    LinearMap,
    MappedTensor,
    MergeWeights,
    merged_tensor,
    sources,
)
from lm_eval_ext.pruning.sparsity import SparseTensor, Sparsity

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Changes:
    """How weights of the kept layers are computed from the base model's, where they are not the same.

    Attributes:
        merged: weights of LaCo's merged layers.
        linear_map: a map that stands in for dropped layers.
        experts: the experts that are kept; None for all.
        sparsity: which weights are zero; None for none.
    """

    merged: MergeWeights = field(default_factory=dict)
    linear_map: LinearMap | None = None
    experts: KeptExperts | None = None
    sparsity: Sparsity | None = None

    @property
    def computed(self) -> bool:
        """Whether values differ from those in the checkpoint."""
        return bool(self.merged or self.linear_map or self.sparsity)

    def renamed(self, name: str, kept: Sequence[int]) -> str | None:
        """The name of a checkpoint's tensor in the pruned model; None if its layer or its expert is dropped."""
        new = self.experts.renamed(name) if self.experts else name
        return None if new is None else renamed_tensor(new, kept)


NO_CHANGES = Changes()


class TensorFile(Protocol):
    """An open safetensors file; safetensors' own type stubs don't describe it."""

    def get_slice(self, name: str) -> LazyTensor:
        """A tensor that is read lazily."""


@dataclass(frozen=True)
class InMemory:
    """A tensor that is in memory already, as one of a file."""

    tensor: torch.Tensor

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        return self.tensor[key]

    def get_shape(self) -> list[int]:
        """Its shape."""
        return list(self.tensor.shape)

    def get_dtype(self) -> str:
        """Its dtype, as torch names it."""
        return str(self.tensor.dtype)


@dataclass(frozen=True)
class MergedTensor(ChangedTensor):
    """A weighted sum of tensors of one shape, the first of which is `tensor`, computed when it is read."""

    parts: Mapping[str, float]
    files: Mapping[str, TensorFile]

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        return merged_tensor(self.parts, lambda name: self.files[name].get_slice(name)[key])


@dataclass(frozen=True)
class KeptRows(ChangedTensor):
    """Some of a tensor's rows; no others are read."""

    rows: Rows

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        import torch

        dimension, parts, length = self.rows
        keys = [] if key is ... else list(key) if isinstance(key, tuple) else [key]
        keys += [slice(None)] * (dimension + 1 - len(keys))
        start, stop, _ = keys[dimension].indices(length * len(parts))
        found = []
        for number, part in enumerate(parts):
            first, last = (place - number * length for place in (start, stop))
            if first < length and last > 0 and first < last:
                inside = slice(part * length + max(first, 0), part * length + min(last, length))
                found.append(self.tensor[*keys[:dimension], inside, *keys[dimension + 1 :]])
        return torch.cat(found, dimension)

    def get_shape(self) -> list[int]:
        """Its shape."""
        shape = list(self.tensor.get_shape())
        shape[self.rows.dimension] = self.rows.length * len(self.rows.parts)
        return shape


class Zeros(ChangedTensor):
    """Zeros in the form of a tensor."""

    def __getitem__(self, key: EllipsisType | slice | tuple[slice, ...]) -> torch.Tensor:
        found = self.tensor[key]
        return found.new_zeros(found.shape)


def kept_tensors(
    pretrained: str, kept: Sequence[int], changes: Changes, hub: Mapping[str, object], files: ExitStack
) -> dict[str, LazyTensor]:
    """Lazy slices of the kept tensors, by their new names.

    Args:
        pretrained: Hub name or local folder.
        kept: ascending indices of the layers to keep.
        changes: how weights of these layers are changed.
        hub: arguments of `cached_file`, such as the revision.
        files: exit stack that keeps the files open.

    Raises:
        CheckpointError: there are no safetensors weights, or a file is missing or damaged.
    """
    where = {name: file for path in weight_files(pretrained, kept, changes, hub) for name, file in _opened(path, files)}
    new = {name: changes.renamed(name, kept) for name in where}
    return {to: _slice(name, kept, changes, where) for name, to in new.items() if to is not None}


def _slice(name: str, kept: Sequence[int], changes: Changes, where: Mapping[str, TensorFile]) -> LazyTensor:
    packed = packed_by_layer(name)
    if packed is not None and packed[1] in where:
        (length,) = where[packed[1]].get_slice(packed[1]).get_shape()
        return KeptRows(where[name].get_slice(name), Rows(packed[0], tuple(kept), length))
    parts = sources(name, changes.merged)
    if parts != {name: 1.0}:
        first = next(iter(parts))
        return MergedTensor(where[first].get_slice(first), parts, where)
    return changed(name, where[name].get_slice(name), changes)


def changed(name: str, tensor: LazyTensor, changes: Changes) -> LazyTensor:
    """A tensor of the base's checkpoint with all changes but merges, which need several."""
    linear_map, sparsity = changes.linear_map, changes.sparsity
    if sparsity and sparsity.applies_to(name):
        tensor = SparseTensor(tensor, name, sparsity)
    if changes.experts and (rows := changes.experts.rows_of(name, tensor.get_shape())):
        return KeptRows(tensor, rows)
    return MappedTensor(tensor, name, linear_map) if linear_map and linear_map.applies_to(name) else tensor


def weight_files(pretrained: str, kept: Sequence[int], changes: Changes, hub: Mapping[str, object]) -> list[Path]:
    """Files with tensors that are used; shards with only dropped layers are not even downloaded.

    Raises:
        CheckpointError: there are no safetensors weights, or a file is missing.
    """
    single = find_file(pretrained, _SINGLE, hub)
    if single is not None:  # whether or not there is an index, as transformers does
        return [single]
    index = find_file(pretrained, _INDEX, hub)
    if index is None:
        raise CheckpointError(
            f"pretrained={pretrained}: no {_SINGLE} or {_INDEX}; layers can only be dropped from safetensors, "
            "so convert the checkpoint first (load it and call save_pretrained)"
        )
    names = sorted({shard for tensor, shard in _weight_map(index).items() if is_used(tensor, kept, changes)})
    found = {name: find_file(pretrained, name, hub) for name in names}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise CheckpointError(f"pretrained={pretrained}: shard {missing[0]}, listed in {_INDEX}, is missing")
    return [path for path in found.values() if path is not None]


def _weight_map(index: Path) -> Mapping[str, str]:
    """The shard of each tensor."""
    found = json_object(index, CheckpointError).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(shard, str) for shard in found.values()):
        raise CheckpointError(f"{index}: weight_map is missing, or is no mapping of tensors to files")
    return found


def tensor_names(pretrained: str, hub: Mapping[str, object]) -> list[str]:
    """Names of all tensors of a checkpoint; without reading them, and without downloading shards.

    Raises:
        CheckpointError: there are no safetensors weights.
    """
    index = None if find_file(pretrained, _SINGLE, hub) else find_file(pretrained, _INDEX, hub)
    if index is not None:
        return sorted(_weight_map(index))
    with ExitStack() as files:
        return sorted(
            name for path in weight_files(pretrained, (), NO_CHANGES, hub) for name, _ in _opened(path, files)
        )


def check_one_checkpoint(pretrained: str, hub: Mapping[str, object]) -> None:
    """Refuse a single file beside an index where it is vLLM that reads the weights.

    Raises:
        CheckpointError: there are both.
    """
    if find_file(pretrained, _SINGLE, hub) and find_file(pretrained, _INDEX, hub):
        raise CheckpointError(
            f"pretrained={pretrained}: has both {_SINGLE} and {_INDEX}: vLLM reads the files of the index, and "
            "transformers the single one; remove one of them"
        )


def weight_bytes(
    pretrained: str, kept: Sequence[int], hub: Mapping[str, object], held: Callable[[str], bool] = lambda name: False,
    changes: Changes = NO_CHANGES,
) -> int:  # fmt: skip
    """Bytes of all tensors that the pruned model uses, as they are stored.

    Args:
        pretrained: Hub name or local folder.
        kept: ascending indices of the layers to keep.
        hub: arguments of `cached_file`, such as the revision.
        changes: how weights of these layers are changed.
        held: whether a tensor, by its new name, belongs to a block that is left out.

    Raises:
        CheckpointError: there are no safetensors weights, or a file is missing or damaged.
    """
    with ExitStack() as files:
        found = kept_tensors(pretrained, kept, changes, hub, files)
        return sum(stored_bytes(tensor) for name, tensor in found.items() if not held(name))


def stored_bytes(tensor: LazyTensor) -> int:
    """Bytes of a tensor, by its shape and dtype, such as `BF16`, `I8`, `F8_E4M3` or `F4`."""
    dtype = tensor.get_dtype()
    bits = 8 if dtype == "BOOL" else int(re.sub(r"^[A-Z]+(\d+).*", r"\1", dtype))
    return math.prod(tensor.get_shape()) * bits // 8


def is_used(name: str, kept: Sequence[int], changes: Changes) -> bool:
    """Whether the pruned model uses this tensor of the base model."""
    return changes.renamed(name, kept) is not None or any(
        layer_of_tensor(name) in parts for parts in changes.merged.values()
    )


def read_config(pretrained: str, revision: str, trust_remote_code: bool = False) -> PreTrainedConfig:
    """The config of a base model.

    Raises:
        CheckpointError: the model does not exist or cannot be reached.
    """
    from transformers import AutoConfig

    check_folder(pretrained)
    try:
        return AutoConfig.from_pretrained(pretrained, revision=revision, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{pretrained} (revision {revision}): its config cannot be read: {reason}") from error


def check_folder(pretrained: str) -> None:
    """Refuse a folder that isn't there, which transformers takes for a malformed name on the Hub.

    Raises:
        CheckpointError: it isn't there.
    """
    if pretrained.startswith((".", "/", "~")) and not Path(pretrained).is_dir():
        raise CheckpointError(f"pretrained={pretrained}: folder not found")


def card_metadata(pretrained: str, hub: Mapping[str, object]) -> dict[str, object]:
    """The metadata at the top of a model card; empty if there is none."""
    import yaml

    found = find_file(pretrained, "README.md", hub)
    text = found.read_text("utf-8", errors="replace") if found else ""
    front = re.match(r"\s*---[ \t]*\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)
    try:
        metadata = yaml.safe_load(front[1]) if front else {}
    except (ValueError, yaml.YAMLError):  # ValueError: also a date that does not exist
        metadata = {}
    return metadata if isinstance(metadata, dict) else {}


def find_file(pretrained: str, name: str, hub: Mapping[str, object]) -> Path | None:
    """Local path of a file in the repository, downloaded if necessary; None if the repository has no such file."""
    from transformers.utils.hub import cached_file

    found = cached_file(pretrained, name, _raise_exceptions_for_missing_entries=False, **hub)
    return Path(found) if found else None


def _opened(path: Path, files: ExitStack) -> list[tuple[str, TensorFile]]:
    from safetensors import SafetensorError, safe_open

    try:
        file = files.enter_context(safe_open(path, framework="pt"))
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error})") from error
    return [(name, file) for name in file.keys()]  # noqa: SIM118  # safe_open is no mapping

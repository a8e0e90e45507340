"""Loads a model with fewer layers, once it is known that dropping the others is exact; and what identifies models."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArchitectureError, ArgumentError, CheckpointError
from lm_eval_ext.pruning.architecture import depth, slice_config, text_config
from lm_eval_ext.pruning.block_verification import ensure_blocks_exact, ensure_map_exact
from lm_eval_ext.pruning.blocks import NO_BLOCKS, Blocks, leave_out
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, find_file, kept_tensors, tensor_names
from lm_eval_ext.pruning.expert_verification import ensure_experts_exact, find_experts
from lm_eval_ext.pruning.experts import NO_EXPERTS, Dropped, is_single, kept_experts, set_kept
from lm_eval_ext.pruning.merging import LazyTensor
from lm_eval_ext.pruning.quantization import check_quantization, plain_tensors, quantization_of, sliced_quantization
from lm_eval_ext.pruning.recipe import kept_layers
from lm_eval_ext.pruning.sliced_model import load_sliced
from lm_eval_ext.pruning.verification import ensure_exact

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from lm_eval_ext.pruning.recipe import Recipe

_NOT_THE_MODEL = ("_name_or_path", "transformers_version", "architectures")  # about the config file
_MODELOPT = "hf_quant_config.json"
_VALUES, _OF_AN_EXPERT = 64, 8  # values of a tensor, or of each matrix in a stack, that identify it


def load_pruned(
    pretrained: str,
    config: PreTrainedConfig,
    kept: Sequence[int],
    *,
    changes: Changes = NO_CHANGES,
    blocks: Blocks = NO_BLOCKS,
    experts: Dropped = NO_EXPERTS,
    trust_layer_fields: bool = False,
    revision: str = "main",
    subfolder: str = "",
    dtype: str | torch.dtype = "auto",
    trust_remote_code: bool = False,
    **options: object,
) -> PreTrainedModel:
    """Load the causal language model at `pretrained` with only the layers `kept`.

    Args:
        pretrained: Hub name or local folder with safetensors weights.
        config: config of the base model.
        kept: ascending indices of the layers to keep.
        changes: how weights of these layers are changed.
        blocks: attention or MLP blocks to leave out, by the layers of the base model.
        experts: experts to drop, by the layers of the base model.
        trust_layer_fields: don't check that dropping layers of an unverified architecture is exact, and assume that
            unknown lists in the config with as many entries as layers have one entry per layer.
        revision: branch, tag or commit on the Hub.
        subfolder: folder of the weights within the repository.
        dtype: as in `from_pretrained`.
        trust_remote_code: run the model code that the repository ships.
        options: further arguments of `from_pretrained`, such as `device_map` or `attn_implementation`.

    Raises:
        ArchitectureError: the layers or experts cannot be dropped safely.
        ArgumentError: a layer or expert does not exist, or too few experts are left.
        CheckpointError: there are no safetensors weights, or they do not fit the pruned model.
    """
    hub = {"revision": revision, "subfolder": subfolder}
    changes = with_experts(changes, config, experts, trust_remote_code)
    sliced = pruned_config(
        pretrained, config, kept, hub, trust_layer_fields, trust_remote_code, changes=changes, blocks=blocks
    )
    return load_sliced(pretrained, config, sliced, kept, changes, hub, dtype, trust_remote_code, options)


def with_experts(
    changes: Changes, config: PreTrainedConfig, dropped: Dropped, trust_remote_code: bool = False
) -> Changes:
    """The same changes, and experts that are dropped.

    Args:
        changes: how weights are changed otherwise.
        config: of the base model.
        dropped: experts, by the layers of the base model.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the model has no experts, or which tensors hold them could not be told.
        ArgumentError: a layer or expert does not exist, or too few are left.
    """
    if not dropped:
        return changes
    tensors = find_experts(config, trust_remote_code=trust_remote_code)
    return replace(changes, experts=kept_experts(config, tensors, dropped))


def pruned_config(
    pretrained: str,
    config: PreTrainedConfig,
    kept: Sequence[int],
    hub: Mapping[str, object],
    trust_layer_fields: bool = False,
    trust_remote_code: bool = False,
    *,
    changes: Changes = NO_CHANGES,
    blocks: Blocks = NO_BLOCKS,
) -> PreTrainedConfig:
    """The config of a pruned model, with the `quantization_config` of the kept layers.

    Architectures that are not verified are checked now, on a tiny twin.

    Args:
        pretrained: Hub name or local folder of the base model.
        config: config of the base model.
        kept: ascending indices of the layers to keep.
        hub: arguments of `cached_file`, such as the revision.
        trust_layer_fields: skip this check.
        trust_remote_code: run the model code that the repository ships.
        changes: how weights of the kept layers are changed, and which experts are kept.
        blocks: further blocks to leave out, by the layers of the base model.

    Raises:
        ArchitectureError: dropping the layers is not exact, or not possible in a checkpoint of this format.
        ArgumentError: no attention block would be left.
    """
    check_quantization(config, changes=changes.computed)
    _check_where_quantization_is_said(pretrained, config, hub)
    if len(kept) == depth(config):
        sliced = _whole(config)
    else:
        if not trust_layer_fields:
            ensure_exact(config, kept, trust_remote_code=trust_remote_code)
        sliced = slice_config(config, kept)
    if changes.linear_map:
        ensure_map_exact(config, changes.linear_map.after, trust_remote_code=trust_remote_code)
    if changes.experts:
        fused = changes.experts.tensors.single and not any(map(is_single, tensor_names(pretrained, hub)))
        _set_experts(sliced, changes.experts.within(kept), fused, trust_layer_fields, trust_remote_code)
    if any(blocks):
        inside = blocks.within(kept)
        if len(inside.attention) == len(kept):
            raise ArgumentError(f"drop_attention: drops all {len(kept)} attention blocks; at least one must be kept")
        ensure_blocks_exact(sliced, inside, trust_remote_code=trust_remote_code)
        leave_out(sliced, inside)
    fields = quantization_of(config)
    if fields is not None:
        names, nested = tensor_names(pretrained, hub), text_config(config) is not config
        of_experts = changes.experts.renamed if changes.experts else None
        sliced.quantization_config = sliced_quantization(fields, names, kept, nested=nested, of_experts=of_experts)
    return sliced


class Sliced(NamedTuple):
    """What a recipe leaves of a model.

    Attributes:
        kept: ascending indices of the layers.
        changes: how their weights are changed, and which experts are kept.
        config: of the pruned model, as `pruned_config` makes it.
    """

    kept: tuple[int, ...]
    changes: Changes
    config: PreTrainedConfig


def sliced_by(
    recipe: Recipe,
    pretrained: str,
    config: PreTrainedConfig,
    hub: Mapping[str, object],
    trust_layer_fields: bool = False,
    trust_remote_code: bool = False,
) -> Sliced:
    """What a recipe leaves of a model; arguments and errors are those of `pruned_config`.

    Raises:
        ArgumentError: also if a layer or expert of the recipe does not exist.
    """
    kept = kept_layers(recipe.drop, depth(config))
    changes = with_experts(recipe.changes, config, recipe.drop_experts, trust_remote_code)
    trust = trust_layer_fields, trust_remote_code
    return Sliced(
        kept, changes, pruned_config(pretrained, config, kept, hub, *trust, changes=changes, blocks=recipe.blocks)
    )


def _whole(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of a config from which no layer is dropped, without any `quantization_config`."""
    copied = copy.deepcopy(config)
    for part in (copied, text_config(copied)):
        vars(part).pop("quantization_config", None)
    return copied


def _set_experts(
    sliced: PreTrainedConfig, kept: Mapping[int, tuple[int, ...]], fused: bool, trusted: bool, trust_remote_code: bool
) -> None:
    if not trusted:
        even = len({len(experts) for experts in kept.values()}) == 1
        ensure_experts_exact(sliced, even=even, fused=fused, trust_remote_code=trust_remote_code)
    set_kept(sliced, kept)


def _check_where_quantization_is_said(pretrained: str, config: PreTrainedConfig, hub: Mapping[str, object]) -> None:
    if quantization_of(config) is None and find_file(pretrained, _MODELOPT, hub) is not None:
        raise ArchitectureError(
            f"{pretrained}: layers cannot be dropped, because its quantization is only described in {_MODELOPT}, which "
            "vLLM alone reads; export it with a newer ModelOpt, which also writes it to config.json"
        )


def fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits that change with the model.

    They cover the config, and the name, shape, dtype and 64 evenly spaced values of each tensor; of a tensor of
    experts, 8 of each expert.
    """
    digest = hashlib.sha256(config_content(model.config))
    for name, tensor in plain_tensors(model.state_dict()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        if tensor.device.type == "meta":  # an offloaded tensor has no values; use the model's name
            digest.update(str(model.config.name_or_path).encode())
        elif tensor.numel():
            parts, values = _sampling(tensor.shape)
            flat = tensor.reshape(parts, -1)
            sample = flat[:, :: max(1, flat.shape[1] // values)][:, :values]
            digest.update(repr(sample.flatten().tolist()).encode())
    return digest.hexdigest()[:16]


def checkpoint_fingerprint(
    pretrained: str, config: PreTrainedConfig, kept: Sequence[int], revision: str, changes: Changes = NO_CHANGES
) -> str:
    """16 hex digits that change with a checkpoint's kept layers, for models whose tensors are not accessible.

    They cover the config, and the name, shape and values of each kept tensor (`sampled`); without safetensors, the
    checkpoint's name and revision instead.
    """
    digest = hashlib.sha256(config_content(config))
    if changes.sparsity:  # instead of the masks of whole tensors, for a few values of each
        digest.update(changes.sparsity.model_dump_json(exclude={"file"}).encode())
        changes = replace(changes, sparsity=None)
    with ExitStack() as files:
        try:
            tensors = kept_tensors(pretrained, kept, changes, {"revision": revision}, files)
        except CheckpointError:
            digest.update(f"{pretrained} {revision}".encode())
            return digest.hexdigest()[:16]
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tensor.get_shape()} {sampled(tensor)}".encode())
    return digest.hexdigest()[:16]


def sampled(tensor: LazyTensor) -> list[float]:
    """64 evenly spaced values of a tensor, from its first to its last, or 8 of each expert in a tensor of experts.

    Only the rows that they are in are read.
    """
    import numpy

    *outer, width = tensor.get_shape() or [1]
    total = math.prod(outer) * width
    parts, values = _sampling(tensor.get_shape())
    size = total // parts
    chosen = sorted({number * (size - 1) // (values - 1) for number in range(values)}) if total else []
    places = [part * size + place for part in range(parts) for place in chosen]
    found: list[float] = []
    for row, inside in groupby(places, lambda place: place // width):
        index = tuple(slice(int(one), int(one) + 1) for one in numpy.unravel_index(row, outer))
        line = tensor[index or ...]
        found += line.reshape(-1).float()[[place % width for place in inside]].tolist()
    return found


def _sampling(shape: Sequence[int]) -> tuple[int, int]:
    """How many parts of a tensor are looked at one by one, and how many values of each.

    Each matrix of a stack is, because experts that are dropped leave no other trace than these.
    """
    stacked = len(shape) == 3 and math.prod(shape[1:]) > _VALUES
    return (shape[0], _OF_AN_EXPERT) if stacked and shape[0] else (1, _VALUES)


def config_content(config: PreTrainedConfig) -> bytes:
    """The part of a config that describes the model and not the file, as JSON."""
    fields = {key: value for key, value in config.to_dict().items() if key not in _NOT_THE_MODEL}
    return json.dumps(fields, sort_keys=True, default=str).encode()

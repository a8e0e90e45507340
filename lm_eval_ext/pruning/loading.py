"""Loads a model with fewer layers, once it is known that dropping the others is exact; and what identifies models."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArchitectureError, ArgumentError, CheckpointError
from lm_eval_ext.pruning.architecture import depth, slice_config, text_config, without_quantization
from lm_eval_ext.pruning.block_verification import ensure_blocks_exact, ensure_map_exact
from lm_eval_ext.pruning.blocks import NO_BLOCKS, Blocks, leave_out
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, find_file, kept_tensors, tensor_names
from lm_eval_ext.pruning.expert_verification import ensure_experts_exact, find_experts
from lm_eval_ext.pruning.experts import NO_EXPERTS, Dropped, is_single, kept_experts, set_kept
from lm_eval_ext.pruning.quantization import check_quantization, plain_tensors, quantization_of, sliced_quantization
from lm_eval_ext.pruning.recipe import kept_layers
from lm_eval_ext.pruning.sliced_model import load_sliced
from lm_eval_ext.pruning.verification import ensure_exact

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from lm_eval_ext.pruning.recipe import Recipe

_NOT_THE_MODEL = ("_name_or_path", "transformers_version", "architectures")  # about the config file
_NOT_THE_ADAPTER = ("base_model_name_or_path", "revision", "inference_mode", "auto_mapping", "peft_version")
_SHIPPED = "transformers_modules."  # begins the names of modules that transformers makes of code in checkpoints
_MODELOPT = "hf_quant_config.json"
_OTHER_WEIGHTS = {".bin", ".pt", ".pth", ".gguf"}  # suffixes of files
_ROW, _ROWS = 4096, 256  # words of a row of a checksum, and rows that are summed at once
_MULTIPLIER = 0x1E3779B97F4A7C15


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
        sliced = without_quantization(config)
    else:
        if not trust_layer_fields:
            ensure_exact(config, kept, trust_remote_code=trust_remote_code)
        sliced = slice_config(config, kept)
    if changes.linear_map:
        ensure_map_exact(config, changes.linear_map.after, trust_remote_code=trust_remote_code)
    if changes.experts:
        fused = changes.experts.tensors.single and not any(map(is_single, tensor_names(pretrained, hub)))
        inside = changes.experts.within(kept)
        if not trust_layer_fields:
            even = len({len(experts) for experts in inside.values()}) == 1
            ensure_experts_exact(sliced, even=even, fused=fused, trust_remote_code=trust_remote_code)
        set_kept(sliced, inside)
    if any(blocks):
        left_out = blocks.within(kept)
        if len(left_out.attention) == len(kept):
            raise ArgumentError(f"drop_attention: drops all {len(kept)} attention blocks; at least one must be kept")
        ensure_blocks_exact(sliced, left_out, trust_remote_code=trust_remote_code)
        leave_out(sliced, left_out)
    fields = quantization_of(config)
    if fields is not None:
        names, nested = tensor_names(pretrained, hub), text_config(config) is not config
        sliced.quantization_config = sliced_quantization(fields, names, kept, nested=nested, changes=changes)
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


def _check_where_quantization_is_said(pretrained: str, config: PreTrainedConfig, hub: Mapping[str, object]) -> None:
    if quantization_of(config) is None and find_file(pretrained, _MODELOPT, hub) is not None:
        raise ArchitectureError(
            f"{pretrained}: layers cannot be dropped, because its quantization is only described in {_MODELOPT}, which "
            "vLLM alone reads; export it with a newer ModelOpt, which also writes it to config.json"
        )


def fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits that change with a model's config and the name, shape, dtype and any value of each tensor.

    And with what computes something else from the same tensors: how an adapter is applied, and code of a checkpoint.
    """
    digest = hashlib.sha256(config_content(model.config) + _adapters_content(model) + _code_of(type(model)))
    for name, tensor in plain_tensors(model.state_dict()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_offloaded(model, name) if tensor.device.type == "meta" else checksum(tensor))
    return digest.hexdigest()[:16]


def _adapters_content(model: PreTrainedModel) -> bytes:
    """What the configs of PEFT adapters say of how their tensors are used, such as `lora_alpha`; empty without any."""
    found: dict[str, dict[str, object]] = {}
    for name, config in getattr(model, "peft_config", {}).items():
        fields = {key: value for key, value in config.to_dict().items() if key not in _NOT_THE_ADAPTER}
        found[name] = {key: sorted(value) if isinstance(value, set) else value for key, value in fields.items()}
    return json.dumps(found, sort_keys=True, default=str).encode() if found else b""


def _code_of(kind: type[PreTrainedModel]) -> bytes:
    """The code that a checkpoint ships of a model's class, with all that was loaded beside it; empty if it has none."""
    found: dict[str, bytes] = {}
    for one in kind.__mro__:
        package = one.__module__.rpartition(".")[0]
        if package.startswith(_SHIPPED):
            files = (getattr(module, "__file__", None) for name, module in sys.modules.items()
                     if name.startswith(f"{package}."))  # fmt: skip
            found |= {Path(file).name: Path(file).read_bytes() for file in files if file and Path(file).is_file()}
    return b"".join(name.encode() + hashlib.sha256(code).digest() for name, code in sorted(found.items()))


def _offloaded(model: PreTrainedModel, name: str) -> bytes:
    """The checksum of a tensor that accelerate reads when it is needed; the model's name if it can't be read."""
    from accelerate.utils import align_module_device

    owner, _, own = name.rpartition(".")
    try:
        with align_module_device(module := model.get_submodule(owner)):
            return checksum(getattr(module, own))
    except (AttributeError, NotImplementedError):  # it has no such part, or its values are nowhere
        return str(model.config.name_or_path).encode()


def checksum(tensor: torch.Tensor) -> bytes:
    """Sums of the bytes of a tensor, eight at a time, by rows of `_ROW`, each position with a weight of its own.

    They differ if any value does (modulo 2^64, so for several values but for a chance of 2^-64), and cost one pass over
    the tensor on its device: no sample of values shows that a neuron or a head was set to zero.

    >>> import torch
    >>> values = torch.ones(100, 100)
    >>> before = checksum(values)
    >>> values[57, 1] = 0
    >>> before == checksum(values)
    False
    """
    import torch

    stored = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    stored = stored.clone() if stored.storage_offset() % 8 else stored
    whole = len(stored) // 8 * 8
    words, rest = stored[:whole].view(torch.int64), stored[whole:]
    position = torch.arange(1, _ROW + 1, device=tensor.device) * _MULTIPLIER
    weights = (position ^ (position >> 29)) * _MULTIPLIER | 1  # odd, so that no weight hides a change
    rows = words[: len(words) // _ROW * _ROW].view(-1, _ROW)
    last = words[rows.numel() :]
    sums = [(some * weights).sum(1) for some in torch.split(rows, _ROWS)]
    sums.append((last * weights[: len(last)]).sum(0, keepdim=True))
    return bytes(torch.cat(sums).cpu().numpy().tobytes()) + bytes(rest.tolist())


def checkpoint_fingerprint(
    pretrained: str, config: PreTrainedConfig, kept: Sequence[int], revision: str, changes: Changes = NO_CHANGES
) -> str:
    """16 hex digits that change with a checkpoint's kept layers, for models whose tensors are not accessible.

    They cover the config, the code that it names, and the name, shape and all values of each kept tensor; without
    safetensors, the checkpoint's name and revision instead, and all bytes of its files if it is a folder.
    """
    digest = hashlib.sha256(config_content(config) + _shipped_code(pretrained, config, revision))
    if changes.sparsity:  # instead of computing its masks again
        digest.update(changes.sparsity.model_dump_json(exclude={"file"}).encode())
        changes = replace(changes, sparsity=None)
    with ExitStack() as files:
        try:
            tensors = kept_tensors(pretrained, kept, changes, {"revision": revision}, files)
        except CheckpointError:
            digest.update(f"{pretrained} {revision}".encode())
            for path in sorted(path for path in Path(pretrained).glob("*") if path.suffix in _OTHER_WEIGHTS):
                with path.open("rb") as file:
                    digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
            return digest.hexdigest()[:16]
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tensor.get_shape()} {tensor.get_dtype()}".encode() + checksum(tensor[...]))
    return digest.hexdigest()[:16]


def _shipped_code(pretrained: str, config: PreTrainedConfig, revision: str) -> bytes:
    """The code that a checkpoint's config names, in a folder with all that is beside it; empty if it names none."""
    named = [str(one) for one in (getattr(config, "auto_map", None) or {}).values()]
    if not named:
        return b""
    if Path(pretrained).is_dir():
        found = sorted(Path(pretrained).glob("*.py"))
    else:
        places = (one.rpartition("--") for one in named)
        files = {(place or pretrained, f"{name.partition('.')[0]}.py") for place, _, name in places}
        there = [find_file(place, name, {} if place != pretrained else {"revision": revision}) for place, name in files]
        found = sorted(path for path in there if path)
    return b"".join(path.name.encode() + hashlib.sha256(path.read_bytes()).digest() for path in found)


def config_content(config: PreTrainedConfig) -> bytes:
    """The part of a config that describes the model and not the file, as JSON."""
    fields = {key: value for key, value in config.to_dict().items() if key not in _NOT_THE_MODEL}
    return json.dumps(fields, sort_keys=True, default=str).encode()

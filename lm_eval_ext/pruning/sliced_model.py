"""Loads a model with fewer layers directly from a safetensors checkpoint; dropped tensors are never read.

transformers' `key_mapping` cannot be used for this: a rename that matches nothing falls back to the original name and
silently loads the wrong layer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from lm_eval_ext.errors import CheckpointError
from lm_eval_ext.pruning.architecture import auto_class, layer_of_tensor
from lm_eval_ext.pruning.blocks import Blocks, left_out, remove
from lm_eval_ext.pruning.checkpoint import Changes, find_file, kept_tensors
from lm_eval_ext.pruning.experts import exchange_experts, uneven
from lm_eval_ext.pruning.layers import decoder_layers
from lm_eval_ext.pruning.merging import LazyTensor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel


def load_sliced(
    pretrained: str, base: PreTrainedConfig, sliced: PreTrainedConfig, kept: Sequence[int], changes: Changes,
    hub: Mapping[str, object], dtype: str | torch.dtype, trust_remote_code: bool, options: Mapping[str, object],
) -> PreTrainedModel:  # fmt: skip
    """The model of a config, with the kept layers of a checkpoint."""
    reach = dict(hub) | {name: options[name] for name in ("cache_dir", "token", "local_files_only") if name in options}
    empty, blocks = empty_model(sliced, trust_remote_code), left_out(sliced)
    with ExitStack() as files:
        found = kept_tensors(pretrained, kept, changes, reach, files)
        tensors = {name: tensor for name, tensor in found.items() if not blocks.hold(name)}
        model, report = type(empty).from_pretrained(
            None,
            config=empty.config,
            state_dict=tensors,
            dtype=_resolved_dtype(dtype, empty.config, tensors),
            output_loading_info=True,
            **options,
        )
    unused = {str(name) for name in report["unexpected_keys"] or ()}
    if unused:
        unused -= _unused_in_base(unused, empty_model(base, trust_remote_code), kept)
    _check_complete(pretrained, report | {"unexpected_keys": unused})
    _check_depth(pretrained, model, len(kept))
    _adopt_identity(model, pretrained, reach)
    loaded: PreTrainedModel = model
    return loaded


def empty_model(config: PreTrainedConfig, trust_remote_code: bool = False) -> PreTrainedModel:
    """A config's model on the meta device, without the blocks that the config leaves out; it takes no memory.

    Its config is that of the text alone if `config` is multimodal and the causal class is not.
    """
    import torch

    with torch.device("meta"):  # the Auto class itself does not accept a state dict
        model: PreTrainedModel = auto_class(config).from_config(config, trust_remote_code=trust_remote_code)
        blocks, counts = left_out(config), uneven(config)
        return _reduced_class(type(model), blocks, counts)(model.config) if any(blocks) or counts else model


def _reduced_class(whole: type[PreTrainedModel], blocks: Blocks, counts: Mapping[int, int]) -> type[PreTrainedModel]:
    """A model class whose instances lack the blocks, and whose layers have these numbers of experts."""

    class Reduced(whole):  # type: ignore[misc]  # a class of transformers, known at run time
        def __init__(self, config: PreTrainedConfig, *args: object, **kwargs: object) -> None:
            super().__init__(config, *args, **kwargs)
            exchange_experts(self, counts, lambda other: whole(other, *args, **kwargs))
            if any(blocks):
                self.cache_slots = remove(self, blocks)

    Reduced.__name__, Reduced.__qualname__, Reduced.__module__ = whole.__name__, whole.__qualname__, whole.__module__
    return Reduced


def _resolved_dtype(
    dtype: str | torch.dtype, config: PreTrainedConfig, tensors: Mapping[str, LazyTensor]
) -> str | torch.dtype:
    """Resolve `auto` if the config has no dtype: use that of the first floating-point tensor, like transformers.

    `from_pretrained` cannot get the dtype of a lazy slice itself.
    """
    import torch

    if dtype not in ("auto", None) or getattr(config, "dtype", None) is not None:
        return dtype
    floating = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    named = (tensor.get_dtype() for tensor in tensors.values())
    return next((floating[name] for name in named if name in floating), torch.float32)


def _check_depth(pretrained: str, model: PreTrainedModel, kept: int) -> None:
    """Check that all kept layers are there; this fails if an unknown config field sets the number of layers."""
    found = len(decoder_layers(model))
    if found != kept:
        raise CheckpointError(f"pretrained={pretrained}: the loaded model has {found} layers instead of {kept}")


_OF_PACKED = re.compile(r"scale|zero|packed|quant|absmax|g_idx")  # in names of tensors


def _unused_in_base(names: Iterable[str], base: PreTrainedModel, kept: Sequence[int]) -> set[str]:
    """The tensors that the base model doesn't use either: of other modalities, or of another kind of model.

    Those that packed weights need, such as scales, are not among them: weights without them would be wrong numbers.

    Args:
        names: tensors that the pruned model doesn't use, as it would call them.
        base: the base model, without values.
        kept: its layers in the pruned model.
    """
    layers = decoder_layers(base)
    used = {number: layers[layer].state_dict().keys() for number, layer in enumerate(kept)}
    unused = set()
    for name in names:
        number = layer_of_tensor(name)
        if number is not None and _OF_PACKED.search(name):
            continue
        if number is None or name.partition(f".{number}.")[2] not in used.get(number, ()):
            unused.add(name)
    return unused


def _check_complete(pretrained: str, report: Mapping[str, Iterable[object] | None]) -> None:
    """Check that all tensors of the model are loaded, and that all kept ones are used."""
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs", "conversion_errors"):
        entries = sorted(str(entry) for entry in report.get(kind) or ())
        if entries:
            raise CheckpointError(
                f"pretrained={pretrained}: the kept tensors do not fit the pruned model: "
                f"{len(entries)} {kind.replace('_', ' ')}, e.g. {entries[0]}"
            )


def _adopt_identity(model: PreTrainedModel, pretrained: str, hub: Mapping[str, object]) -> None:
    """Set the base model's name and generation defaults; from_pretrained got no name, so it could not find them."""
    from transformers import GenerationConfig

    model.config.name_or_path = pretrained
    defaults = find_file(pretrained, "generation_config.json", hub)
    if defaults is not None:  # otherwise keep those made from the config
        model.generation_config = GenerationConfig.from_pretrained(defaults.parent, defaults.name)


def parameter_count(config: PreTrainedConfig) -> int:
    """Number of parameters of a config's causal language model, computed without allocating memory for them."""
    return int(empty_model(config, bool(getattr(config, "auto_map", None))).num_parameters())

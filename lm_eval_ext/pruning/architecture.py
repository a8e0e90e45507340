"""Which config fields and tensor names depend on the layer index; declared in `architectures.yaml`.

A field is never cut to a prefix and never regenerated from a pattern: each kept layer keeps its own entry.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lm_eval_ext.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("architectures.yaml").read_text("utf-8"))
    return table


def depth(config: PreTrainedConfig) -> int:
    """Number of decoder layers."""
    return int(config.get_text_config().num_hidden_layers)


def slice_config(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    """A copy of `config` for the model that has only the layers `kept` (ascending indices).

    Raises:
        ArchitectureError: the architecture, or a field of one entry per layer, is not known to be safe to cut.
    """
    check_supported(config)
    sliced = copy.deepcopy(config)
    text = sliced.get_text_config()
    for name, value in _overrides(text, kept).items():
        setattr(text, name, value)
    return sliced


def config_overrides(config: PreTrainedConfig, kept: Sequence[int]) -> dict[str, Any]:
    """The fields in which the pruned model's config differs, for loaders that take such (vLLM's `hf_overrides`).

    Raises:
        ArchitectureError: as `slice_config`.
    """
    check_supported(config)
    text = config.get_text_config()
    return _overrides(text, kept) if text is config else {"text_config": _overrides(text, kept)}


def _overrides(text: PreTrainedConfig, kept: Sequence[int]) -> dict[str, Any]:
    sliced = _sliced_fields(text.to_dict(), kept, int(text.num_hidden_layers))
    return sliced | {"num_hidden_layers": len(kept)}


def check_supported(config: PreTrainedConfig) -> None:
    """Refuse what cannot be cut safely.

    Raises:
        ArchitectureError: says why.
    """
    text = config.get_text_config()
    kind = text.model_type
    why = _table()["refused"].get(kind) or _table()["refused"].get(config.model_type)
    rule = _table()["refused_if"].get(kind)
    if rule and getattr(text, rule["field"], None) == rule["value"]:
        why = rule["why"]
    if why is None and getattr(config, "quantization_config", None) is not None:
        why = "its checkpoint is quantized; drop layers from the unquantized one"
    if why:
        raise ArchitectureError(f"layers of a {kind} model cannot be dropped: {why}")


def _sliced_fields(fields: dict[str, Any], kept: Sequence[int], total: int) -> dict[str, Any]:
    table = _table()
    sliced: dict[str, Any] = {}
    for name, value in fields.items():
        if name in table["layer_indices"] and isinstance(value, list):
            sliced[name] = [kept.index(layer) for layer in value if layer in kept]
        elif name in table["leading"] and isinstance(value, int):
            sliced[name] = sum(layer < value for layer in kept)
        elif isinstance(value, (list, tuple)) and len(value) == total:
            sliced[name] = _one_per_layer(name, value, kept, fields["model_type"])
    return sliced | _sparse_step(fields, kept)


def _one_per_layer(name: str, value: Sequence[Any], kept: Sequence[int], kind: str) -> list[Any]:
    if name not in _table()["per_layer"]:
        raise ArchitectureError(
            f"layers of this {kind} model cannot be dropped: its config field {name!r} has one entry per layer "
            "and is not declared in lm_eval_ext/pruning/architectures.yaml"
        )
    return [value[layer] for layer in kept]


def _sparse_step(fields: dict[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Every n-th layer is sparse (qwen2_moe and its like): say so by listing the dense ones instead."""
    step = fields.get("decoder_sparse_step")
    if not isinstance(step, int) or step <= 1:
        return {}
    dense = set(fields.get("mlp_only_layers") or ())
    listed = [new for new, old in enumerate(kept) if old in dense or (old + 1) % step]
    return {"decoder_sparse_step": 1, "mlp_only_layers": listed}


def renamed_tensor(name: str, kept: Sequence[int]) -> str | None:
    """The name that a checkpoint's tensor has in the pruned model; None if its layer is dropped.

    Indices beyond the last decoder layer (multi-token prediction heads) are dropped too.
    """
    for pattern in _table()["tensor_names"]:
        match = re.match(pattern, name)
        if match:
            layer = int(match[2])
            return f"{match[1]}{kept.index(layer)}{name[match.end() :]}" if layer in kept else None
    return name

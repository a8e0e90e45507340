"""Tiny quantized checkpoints, packed by hand or by the formats' own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import write_checkpoint

Tensors = dict[str, torch.Tensor]
Pack = Callable[[str, torch.Tensor], Tensors]

_INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False, "strategy": "channel"}
_TOKENS = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}
W8A8: dict[str, Any] = {
    "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": _INT8, "input_activations": _TOKENS}},
    "ignore": ["lm_head"],
}  # fmt: skip
# Activations are quantized in the first half of the layers only, and layer 4 has a dense map.
MIXED: dict[str, Any] = {
    **W8A8,
    "config_groups": {
        "group_0": {"targets": [r"re:.*layers\.[0-2]\..*_proj"], "weights": _INT8, "input_activations": _TOKENS},
        "group_1": {"targets": [r"re:.*layers\.[3-5]\..*_proj"], "weights": _INT8, "format": "naive-quantized"},
    },
    "ignore": ["lm_head", "model.layers.4.mlp.down_proj"],
}
FP8: dict[str, Any] = {
    "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    "modules_to_not_convert": ["lm_head", "model.layers.4.mlp.down_proj"],
}  # fmt: skip


def write_quantized(folder: Path, fields: Mapping[str, Any], pack: Pack, kind: str = "llama", **extra: Any) -> Path:
    """A random checkpoint whose linear maps are packed, but for those that `fields` leave out."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 4} | extra
    write_checkpoint(kind, folder, shard_size="1GB", **sizes)
    tensors: Tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        module = name.removesuffix(".weight")
        dense = tensor.dim() < 2 or "embed" in name or module in _left_out(fields)
        tensors |= {name: tensor} if dense else pack(module, tensor)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": dict(fields)}))
    return folder


def _left_out(fields: Mapping[str, Any]) -> list[str]:
    return [*fields.get("ignore", ()), *fields.get("modules_to_not_convert", ())]


def int8(module: str, tensor: torch.Tensor) -> Tensors:
    """A row's largest value becomes 127."""
    scale = tensor.abs().amax(dim=1, keepdim=True) / 127
    return {f"{module}.weight": (tensor / scale).round().to(torch.int8), f"{module}.weight_scale": scale}


def fp8(module: str, tensor: torch.Tensor) -> Tensors:
    """A block's largest value becomes 448."""
    rows, columns = (size // 128 for size in tensor.shape)
    blocks = tensor.reshape(rows, 128, columns, 128)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    packed = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(tensor.shape)
    return {f"{module}.weight": packed, f"{module}.weight_scale_inv": scale}

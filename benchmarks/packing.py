"""Packs dense checkpoints as quantized ones, by hand or by the formats' own libraries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]
Pack = Callable[[str, "torch.Tensor"], Tensors]

_INT8 = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": False, "strategy": "channel"}
_TOKENS = {"num_bits": 8, "type": "int", "symmetric": True, "dynamic": True, "strategy": "token"}
W8A8: dict[str, object] = {
    "quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": _INT8, "input_activations": _TOKENS}},
    "ignore": ["lm_head"],
}  # fmt: skip
# Activations are quantized in the first half of the layers only, and layer 4 has a dense map.
MIXED: dict[str, object] = {
    **W8A8,
    "config_groups": {
        "group_0": {"targets": [r"re:.*layers\.[0-2]\..*_proj"], "weights": _INT8, "input_activations": _TOKENS},
        "group_1": {"targets": [r"re:.*layers\.[3-5]\..*_proj"], "weights": _INT8, "format": "naive-quantized"},
    },
    "ignore": ["lm_head", "model.layers.4.mlp.down_proj"],
}
# As MIXED, but a map of the first half matches two expressions, of which the first by its text wins.
OVERLAPPING: dict[str, object] = {
    **W8A8,
    "config_groups": {
        "group_0": {
            "targets": [r"re:.*layers\.[0-2]\..*_proj"], "weights": _INT8, "input_activations": _TOKENS,
        },
        "group_1": {"targets": ["re:.*down_proj"], "weights": _INT8, "format": "naive-quantized"},
        "group_2": {"targets": ["Linear"], "weights": _INT8, "format": "naive-quantized"},
    },
}  # fmt: skip
FP8: dict[str, object] = {
    "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
    "modules_to_not_convert": ["lm_head", "model.layers.4.mlp.down_proj"],
}  # fmt: skip
_INT4 = {"num_bits": 4, "type": "int", "symmetric": True, "dynamic": False, "strategy": "group", "group_size": 32}
W4A16: dict[str, object] = {
    "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
    "config_groups": {"group_0": {"targets": ["Linear"], "weights": _INT4, "format": "pack-quantized"}},
    "ignore": ["lm_head", "model.layers.4.mlp.down_proj"],
}  # fmt: skip
MXFP4: dict[str, object] = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}


def pack_checkpoint(folder: Path, fields: Mapping[str, object], pack: Pack) -> Path:
    """Pack the linear maps of a checkpoint in one file, but for those that `fields` leave out."""
    left_out = [*_listed(fields, "ignore"), *_listed(fields, "modules_to_not_convert")]

    def packed(name: str, tensor: torch.Tensor) -> Tensors:
        module = name.removesuffix(".weight")
        return {name: tensor} if tensor.dim() < 2 or "embed" in name or module in left_out else pack(module, tensor)

    return _rewrite(folder, fields, packed)


def pack_experts(folder: Path, fields: Mapping[str, object] = MXFP4) -> Path:
    """Replace the experts of a gpt-oss by random ones in MXFP4: two 4-bit numbers a byte, a scale for each 32."""
    import torch

    def packed(name: str, tensor: torch.Tensor) -> Tensors:
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            return {name: tensor}
        experts, width, out = tensor.shape
        return {
            f"{name}_blocks": torch.randint(256, (experts, out, width // 32, 16), dtype=torch.uint8),
            f"{name}_scales": torch.randint(122, 126, (experts, out, width // 32), dtype=torch.uint8),
        }

    return _rewrite(folder, fields, packed)


def _rewrite(folder: Path, fields: Mapping[str, object], packed: Callable[[str, torch.Tensor], Tensors]) -> Path:
    from safetensors.torch import load_file, save_file

    tensors: Tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        tensors |= packed(name, tensor)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": dict(fields)}), "utf-8")
    return folder


def _listed(fields: Mapping[str, object], name: str) -> list[str]:
    found = fields.get(name, ())
    return list(map(str, found)) if isinstance(found, (list, tuple)) else []


def int8(module: str, tensor: torch.Tensor) -> Tensors:
    """A row's largest value becomes 127."""
    import torch

    scale = tensor.abs().amax(dim=1, keepdim=True) / 127
    return {f"{module}.weight": (tensor / scale).round().to(torch.int8), f"{module}.weight_scale": scale}


def fp8(module: str, tensor: torch.Tensor) -> Tensors:
    """A block's largest value becomes 448."""
    import torch

    rows, columns = (size // 128 for size in tensor.shape)
    blocks = tensor.reshape(rows, 128, columns, 128)
    scale = blocks.abs().amax(dim=(1, 3)) / 448
    packed = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn).reshape(tensor.shape)
    return {f"{module}.weight": packed, f"{module}.weight_scale_inv": scale}


def int4(module: str, tensor: torch.Tensor) -> Tensors:
    """Eight numbers in an int32, with a scale for each 32, by compressed-tensors' own packing."""
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    groups = tensor.reshape(tensor.shape[0], -1, 32)
    scale = groups.abs().amax(dim=2) / 7
    packed = (groups / scale[:, :, None]).round().clamp(-8, 7).to(torch.int8).reshape(tensor.shape)
    return {
        f"{module}.weight_packed": pack_to_int32(packed, 4), f"{module}.weight_scale": scale,
        f"{module}.weight_shape": torch.tensor(tensor.shape),
    }  # fmt: skip


GPTQ: dict[str, object] = {
    "quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False, "sym": True, "lm_head": False,
    "modules_to_not_convert": ["lm_head"],
}  # fmt: skip
AWQ: dict[str, object] = {
    "quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True,
    "modules_to_not_convert": ["model.layers.4.mlp.down_proj", "lm_head"],
}  # fmt: skip
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # of eight columns in an int32


def gptq(module: str, tensor: torch.Tensor) -> Tensors:
    """GPTQ's layout: eight rows of the input in an int32, a scale for each 32, and the zero point 8 stored as 7."""
    import torch

    numbers, scales = _four_bits(tensor)
    zeros = torch.full((scales.shape[0], scales.shape[1]), 7)
    return {
        f"{module}.qweight": _in_int32(numbers.T, range(8)).T.contiguous(), f"{module}.scales": scales.half(),
        f"{module}.qzeros": _in_int32(zeros, range(8)), f"{module}.g_idx": torch.arange(tensor.shape[1]) // 32,
    }  # fmt: skip


def awq(module: str, tensor: torch.Tensor) -> Tensors:
    """AWQ's layout: eight columns of the output in an int32, in an order of its own."""
    import torch

    numbers, scales = _four_bits(tensor)
    zeros = torch.full((scales.shape[0], scales.shape[1]), 8)
    return {
        f"{module}.qweight": _in_int32(numbers, _AWQ_ORDER), f"{module}.scales": scales.half(),
        f"{module}.qzeros": _in_int32(zeros, _AWQ_ORDER),
    }  # fmt: skip


def _four_bits(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers from 0 to 15 of shape (in, out), and scales of shape (groups of 32 inputs, out)."""
    groups = tensor.T.reshape(-1, 32, tensor.shape[0])
    scales = groups.abs().amax(dim=1) / 7
    numbers = (groups / scales[:, None]).round().clamp(-8, 7) + 8
    return numbers.reshape(tensor.T.shape).long(), scales


def _in_int32(numbers: torch.Tensor, order: Sequence[int]) -> torch.Tensor:
    """Eight neighbouring columns in one."""
    import torch

    eight = numbers.reshape(numbers.shape[0], -1, 8)[:, :, list(order)]
    packed = (eight << (4 * torch.arange(8))).sum(dim=2)
    return (packed - ((packed >> 31) << 32)).to(torch.int32)

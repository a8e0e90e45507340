"""Tiny random checkpoints of several architectures, built on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

LAYERS = 6
_SHAPE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_WINDOWED = {"sliding_window": 4}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 3, **_WINDOWED},
    "qwen3": {},
    "qwen3_moe": {"decoder_sparse_step": 2, "mlp_only_layers": [1], **_EXPERTS},
    "gemma3_text": {"sliding_window_pattern": 3, "query_pre_attn_scalar": 8, **_WINDOWED},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, **_WINDOWED},
    "olmo3": dict(_WINDOWED),
}


def write_checkpoint(kind: str, folder: Path, shard_size: str = "40KB", **extra: Any) -> Path:
    """A seeded random float32 checkpoint of `kind`, in several safetensors shards."""
    torch.manual_seed(7)
    config = AutoConfig.for_model(kind, **{**_SHAPE, **ARCHITECTURES.get(kind, {}), **extra})
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():  # a default init is so small that a wrong layer would hardly show
        for parameter in model.parameters():
            parameter.copy_(
                torch.randn_like(parameter) * (0.3 if parameter.dim() > 1 else 0.1) + (parameter.dim() == 1)
            )
    model.save_pretrained(folder, max_shard_size=shard_size)
    return folder

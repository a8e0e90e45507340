"""Tiny random checkpoints in quantized formats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lm_eval_ext.testbed.packing import Pack, pack_checkpoint, pack_experts
from tests.checkpoints import write_checkpoint


def write_quantized(folder: Path, fields: Mapping[str, Any], pack: Pack, kind: str = "llama", **extra: Any) -> Path:
    """A random checkpoint whose linear maps are packed, but for those that `fields` leave out."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 4} | extra
    write_checkpoint(kind, folder, shard_size="1GB", **sizes)
    return pack_checkpoint(folder, fields, pack)


def write_mxfp4(folder: Path) -> Path:
    """A random gpt-oss whose experts are packed as in OpenAI's."""
    sizes = {"hidden_size": 128, "intermediate_size": 64, "head_dim": 32, "num_key_value_heads": 4}
    write_checkpoint("gpt_oss", folder, shard_size="1GB", **sizes)
    return pack_experts(folder)

"""Tiny random checkpoints in quantized formats, and the logits that they should have without some layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.packing import Pack, pack_checkpoint, pack_experts
from lm_eval_ext.pruning.loading import load_pruned
from tests.checkpoints import write_checkpoint
from tests.tokenizers import TEMPLATE, byte_tokenizer

KEPT = (0, 2, 3, 5)
IDS = torch.arange(3, 35).reshape(2, 16)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found.float()


def without(folder: Path, kept: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the whole quantized model, and with layers taken out of it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    whole = logits(model)
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in kept)
    model.config.num_hidden_layers = len(kept)
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[layer] for layer in kept]
    return whole, logits(model)


def pruned(folder: Path, kept: Sequence[int], **options: Any) -> Any:
    return load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, dtype=torch.float32, **options)


SIZES = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "num_key_value_heads": 4}


def write_quantized(folder: Path, fields: Mapping[str, Any], pack: Pack, kind: str = "llama", **extra: Any) -> Path:
    """A random checkpoint whose linear maps are packed, but for those that `fields` leave out."""
    write_checkpoint(kind, folder, shard_size="1GB", **SIZES | extra)
    return pack_checkpoint(folder, fields, pack)


def write_mxfp4(folder: Path) -> Path:
    """A random gpt-oss whose experts are packed as in OpenAI's."""
    sizes = {"hidden_size": 128, "intermediate_size": 64, "head_dim": 32, "num_key_value_heads": 4}
    write_checkpoint("gpt_oss", folder, shard_size="1GB", **sizes)
    return pack_experts(folder)


def dense(folder: Path) -> Path:
    """A dense model whose sizes all formats can pack, with a tokenizer."""
    write_checkpoint("llama", folder, shard_size="1GB", vocab_size=300, **SIZES)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder

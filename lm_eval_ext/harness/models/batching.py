"""Computes the batch size that fits in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHARE = 0.6  # of the memory that is free now; the rest is for activations and other processes


def affordable_batch_size(model: PreTrainedModel, tokens: int, at_most: int) -> int:
    """Number of rows of `tokens` tokens whose keys and values fit in free memory, between 1 and `at_most`.

    It is 1 if the config doesn't say how large they are, as some code of others doesn't.
    """
    try:
        per_row = tokens * bytes_per_token(model)
    except AttributeError:
        return 1
    return max(1, min(at_most, int(_free_bytes(model.device) * _SHARE // per_row)))


def bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of keys and values per token over all layers, assuming that every layer keeps every token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element = torch.empty((), dtype=model.dtype).element_size()
    return int(2 * config.num_hidden_layers * heads * width * element)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)

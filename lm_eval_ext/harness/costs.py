"""What a token of a model costs, from its config: the numbers that FLOPs and the size of the KV cache follow from."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from typing import TYPE_CHECKING

from lm_eval_ext.pruning.architecture import text_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("lm_eval.tts")

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_WINDOWED = ("sliding_attention", "chunked_attention")


def costs_of(config: PreTrainedConfig, element: int) -> dict[str, float]:
    """Sizes of a causal language model.

    Args:
        config: config of the model as it is loaded.
        element: bytes of a weight.

    Returns:
        `parameters`; `active_parameters`, those that a token is multiplied with; `weight_bytes`; `layers`,
        `attention_heads`, `kv_heads`, `head_size`; `window` and `windowed_layers` if some attend only to the last
        tokens; `kv_element_bytes`. Empty, with a warning, if they cannot be told from the config.
    """
    try:
        return _sizes(config, element)
    except Exception as error:  # a model class may raise anything, and this must not end a run that has its results
        logger.warning("what a token costs cannot be told from the config: %s", " ".join(str(error).split())[:200])
        return {}


def _sizes(config: PreTrainedConfig, element: int) -> dict[str, float]:
    model = _on_meta(config)
    text = text_config(config)
    heads = getattr(text, "num_attention_heads", None)
    total = sum(parameter.numel() for parameter in model.parameters())
    found = {"parameters": total, "active_parameters": _active(model, text), "weight_bytes": total * element}
    if not isinstance(heads, int):
        return {name: float(value) for name, value in found.items()}
    size = getattr(text, "head_dim", None) or text.hidden_size // heads
    kinds = list(getattr(text, "layer_types", None) or ())
    found |= {
        "layers": text.num_hidden_layers, "attention_heads": heads, "head_size": size,
        "kv_heads": getattr(text, "num_key_value_heads", None) or heads, "kv_element_bytes": element,
        "window": getattr(text, "sliding_window", None) or 0,
        "windowed_layers": sum(kind in _WINDOWED for kind in kinds),
    }  # fmt: skip
    return {name: float(value) for name, value in found.items()}


def _on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):  # allocates nothing
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, trust_remote_code=bool(getattr(config, "auto_map", None))
        )
    return model


def _active(model: PreTrainedModel, text: PreTrainedConfig) -> float:
    """Parameters that take part in a token's matrix products: no input embeddings, and only the chosen experts."""
    experts = next((count for name in _EXPERTS if (count := getattr(text, name, None))), 0)
    chosen = getattr(text, "num_experts_per_tok", None) or getattr(text, "moe_k", None) or 0
    share = chosen / experts if experts and chosen else 1.0
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    active = 0.0 if tied or embeddings is None else -float(embeddings.weight.numel())
    for name, parameter in model.named_parameters():
        active += parameter.numel() * (share if ".experts." in name else 1.0)
    return active


def peak_memory() -> float:
    """Largest memory of this process so far, in bytes: on the GPU if there is one, otherwise resident."""
    import torch

    if torch.cuda.is_available():
        return float(sum(torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())))
    return _peak_resident()


def _peak_resident() -> float:
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # what the systems count in
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def device_name() -> str:
    """Name of the GPU; `cpu` without one."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def digest_of_tokenizer(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """8 hex digits that change with the vocabulary; empty without a tokenizer."""
    return "" if tokenizer is None else _digest(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))


def digest_of_template(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """8 hex digits that change with the chat template; empty without one."""
    return _digest(tokenizer.chat_template) if tokenizer is not None and tokenizer.chat_template else ""


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()[:8]

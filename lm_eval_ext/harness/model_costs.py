"""What a token of a model costs: the numbers that FLOPs and the size of the KV cache follow from."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.pruning.architecture import layer_of_tensor, text_config
from lm_eval_ext.pruning.blocks import MLP, Blocks, blocks_of, leave_out, left_out
from lm_eval_ext.pruning.experts import experts_per_token, number_of_experts, uneven
from lm_eval_ext.pruning.sliced_model import empty_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("lm_eval.tts")


class _Held(NamedTuple):
    """What a cache holds after some tokens.

    Attributes:
        size: bytes of all keys, values and states.
        attention: keys and values of the layers that keep them, each (1, heads, tokens, width).
    """

    size: int
    attention: list[tuple[torch.Tensor, torch.Tensor]]


def costs_of(config: PreTrainedConfig, element: int) -> dict[str, float]:
    """Sizes of a causal language model, from its modules and its cache on the meta device, where they take no memory.

    Args:
        config: config of the model as it is loaded.
        element: bytes of a weight.

    Returns:
        `parameters`; `active_parameters`, those that a token is multiplied with; `weight_bytes`; `layers` that attend
        to earlier tokens, `attention_heads`, `kv_heads`, `head_size` (in the mean of these layers, and of keys and
        values); `window` and `windowed_layers` if some attend only to the last tokens; `kv_element_bytes`. Of the
        cache: `cache_token_bytes` for each token, `cache_windowed_token_bytes` for each token until the windows hold
        `cache_windowed_bytes`, and `cache_state_bytes` whatever the number of tokens. What cannot be told is left out,
        with a warning.
    """
    found: dict[str, float] = {}
    try:
        found |= _weights(config, element)
        found |= _attention(config, element)
    except Exception as error:  # a model class may raise anything, and this must not end a run that has its results
        logger.warning("what a token costs cannot be told from the config: %s", " ".join(str(error).split())[:200])
    return {name: float(value) for name, value in found.items()}


def _weights(config: PreTrainedConfig, element: int) -> dict[str, float]:
    model = _on_meta(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    return {
        "parameters": total,
        "active_parameters": _active(model, config),
        "weight_bytes": total * element,
    }


def _attention(config: PreTrainedConfig, element: int) -> dict[str, float]:
    model, text = _running(config, element), text_config(config)
    window = getattr(text, "sliding_window", None) or getattr(text, "attention_chunk_size", None) or 0
    tokens = 1 if 0 < window < 16 else 8  # twice as many must fit into the window
    once, twice = _cached(model, tokens), _cached(model, 2 * tokens)
    each = (twice.size - once.size) // tokens
    state = once.size - each * tokens
    full, more = (_cached(model, window + tokens) for tokens in (1, 2)) if window else (once, once)
    whole = more.size - full.size if window else each
    found: dict[str, float] = {
        "cache_token_bytes": whole,
        "cache_windowed_token_bytes": each - whole,
        "cache_windowed_bytes": full.size - state - whole * (window + 1) if window else 0,
        "cache_state_bytes": state,
    }
    heads = getattr(text, "num_attention_heads", None)
    if not isinstance(heads, int):
        return found
    pairs = twice.attention
    return found | {
        "layers": len(pairs) + (getattr(text, "num_kv_shared_layers", None) or 0), "attention_heads": heads,
        "head_size": _head_size(text, pairs), "kv_heads": fmean(keys.shape[1] for keys, _ in pairs) if pairs else 0,
        "kv_element_bytes": element, "window": window,
        "windowed_layers": sum(keys.shape[2] <= window for keys, _ in full.attention) if window else 0,
    }  # fmt: skip


def _head_size(text: PreTrainedConfig, pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Mean width of queries and values; a compressed cache (MLA) has another."""
    named = [getattr(text, name, None) for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")]
    sizes = [size for size in named if isinstance(size, int)]
    if len(sizes) == len(named):
        return sum(sizes) / 2
    return fmean(tensor.shape[-1] for pair in pairs for tensor in pair) if pairs else 0.0


def _on_meta(config: PreTrainedConfig) -> PreTrainedModel:
    return empty_model(config, trust_remote_code=bool(getattr(config, "auto_map", None)))


def _running(config: PreTrainedConfig, element: int) -> PreTrainedModel:
    """The model in a form that runs on the meta device.

    Where experts can't be chosen, for want of values, it lacks its feed-forward networks, which cache nothing.
    """
    import torch

    dtype = torch.bfloat16 if element == 2 else torch.float32
    model = _on_meta(config).to(dtype).eval()
    try:
        _cached(model, 1)
    except Exception:  # as above: a model class may raise anything
        mlp = tuple(block.layer for block in blocks_of(model, (MLP,)))
        lighter = copy.deepcopy(config)
        leave_out(lighter, Blocks(left_out(config).attention, mlp))
        model = _on_meta(lighter).to(dtype).eval()
    return model


def _cached(model: PreTrainedModel, tokens: int) -> _Held:
    """What the model's cache holds after so many tokens."""
    import torch

    with torch.no_grad(), torch.device("meta"):
        output = model(input_ids=torch.zeros(1, tokens, dtype=torch.long), use_cache=True)
    names = ("past_key_values", "cache_params", "state")
    cache = next((found for name in names if (found := getattr(output, name, None)) is not None), ())
    layers = getattr(cache, "layers", ())
    pairs = [(layer.keys, layer.values) for layer in layers if getattr(layer, "keys", None) is not None]
    held = {id(tensor): tensor for tensor in _tensors(cache)}.values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in held if tensor.is_floating_point())
    return _Held(size, [pair for pair in pairs if pair[0].numel()])


def _tensors(part: object) -> Iterator[torch.Tensor]:
    """The tensors in a cache, whatever it is made of."""
    import torch

    if isinstance(part, torch.Tensor):
        yield part
    elif isinstance(part, Mapping):
        yield from (tensor for inner in part.values() for tensor in _tensors(inner))
    elif isinstance(part, (list, tuple)):
        yield from (tensor for inner in part for tensor in _tensors(inner))
    elif "ache" in type(part).__name__ or "Layer" in type(part).__name__:
        yield from _tensors(vars(part))


def _active(model: PreTrainedModel, config: PreTrainedConfig) -> float:
    """Parameters that take part in a token's matrix products: no input embeddings, and only the chosen experts."""
    experts, chosen, counts = number_of_experts(config), experts_per_token(config), uneven(config)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is not None and head.weight is embeddings.weight
    active = 0.0 if tied or embeddings is None else -float(embeddings.weight.numel())
    for name, parameter in model.named_parameters():
        count = counts.get(layer_of_tensor(name) or 0, experts)
        active += parameter.numel() * (chosen / count if ".experts." in name and count and chosen else 1.0)
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

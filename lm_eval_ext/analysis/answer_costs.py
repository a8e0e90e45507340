"""What an answer costs: tokens, floating-point operations, and bytes of KV cache.

An answer of n tokens takes 2 * active parameters * n operations in matrix products with weights, and for token t, 4 *
heads * head size * t in each layer's attention (queries with keys, and weights with values), where t is at most the
layer's window. The prompt is left out.

Source: Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models" (arXiv 2203.15556), appendix F.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Cost(NamedTuple):
    """Cost of an answer of a model on a task; None where the run did not record what is needed.

    Attributes:
        tokens: thinking and answer, on average.
        forced, looped, unanswered: shares of answers that were cut at the budget, repeat themselves, or are missing.
        flops: floating-point operations of an answer of that length.
        cache_bytes: size of the KV cache at its end.
    """

    tokens: float | None
    forced: float | None
    looped: float | None
    unanswered: float | None
    flops: float | None
    cache_bytes: float | None


def cost_of(mean: Callable[[str], float | None], sizes: Mapping[str, float]) -> Cost:
    """Cost of a model's answers on a task.

    Args:
        mean: of a metric, by its name.
        sizes: of the model, as its run recorded them.
    """
    thinking, answer, answered = (mean(name) for name in ("thinking_tokens", "answer_tokens", "answered"))
    tokens = None if thinking is None or answer is None else thinking + answer
    return Cost(
        tokens,
        mean("forced"),
        mean("looped"),
        None if answered is None else 1 - answered,
        None if tokens is None else flops(tokens, sizes),
        None if tokens is None else cache_bytes(tokens, sizes),
    )


def flops(tokens: float, sizes: Mapping[str, float]) -> float | None:
    """Floating-point operations of an answer; None if a size is not known.

    >>> flops(10, {"active_parameters": 1e6, "layers": 1, "attention_heads": 1, "head_size": 1})
    20000220.0
    """
    if not {"active_parameters", "layers", "attention_heads", "head_size"} <= sizes.keys():
        return None
    windowed = sizes.get("windowed_layers", 0.0)
    whole = sizes["layers"] - windowed
    seen = whole * _seen(tokens, float("inf")) + windowed * _seen(tokens, sizes.get("window") or float("inf"))
    return 2 * sizes["active_parameters"] * tokens + 4 * sizes["attention_heads"] * sizes["head_size"] * seen


def _seen(tokens: float, window: float) -> float:
    """Sum over an answer's tokens of how many tokens each attends to."""
    full = min(tokens, window)
    return full * (full + 1) / 2 + max(0.0, tokens - window) * (window if tokens > window else 0.0)


_CACHED = {"cache_token_bytes", "cache_windowed_token_bytes", "cache_windowed_bytes", "cache_state_bytes"}


def cache_bytes(tokens: float, sizes: Mapping[str, float]) -> float | None:
    """Bytes of keys, values and states of an answer; None if a size is not known.

    Earlier runs recorded heads and layers alone, as if all layers cached keys and values of one size.

    >>> cache_bytes(10, {"layers": 2, "kv_heads": 1, "head_size": 4, "kv_element_bytes": 2})
    320.0
    """
    if sizes.keys() >= _CACHED:
        windowed = min(sizes["cache_windowed_token_bytes"] * tokens, sizes["cache_windowed_bytes"])
        return sizes["cache_state_bytes"] + sizes["cache_token_bytes"] * tokens + windowed
    if not {"layers", "kv_heads", "head_size", "kv_element_bytes"} <= sizes.keys():
        return None
    windowed = sizes.get("windowed_layers", 0.0)
    held = (sizes["layers"] - windowed) * tokens + windowed * min(tokens, sizes.get("window") or tokens)
    return float(2 * sizes["kv_heads"] * sizes["head_size"] * sizes["kv_element_bytes"] * held)

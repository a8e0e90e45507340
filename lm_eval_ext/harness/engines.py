"""What decodes, and what each engine can do: one entry a row, from which models, checks and results follow."""

from __future__ import annotations

from typing import NamedTuple


class EngineEntry(NamedTuple):
    """One engine.

    Attributes:
        model: what `lm_eval --model` calls it.
        target: the model class, imported when it is asked for.
        reproducible: whether a seed gives the same sample on any batch and machine, up to the logits.
        token_exact: whether budgets cut traces by their own tokens.
        drops_layers: whether it can load a model without some of its layers.
    """

    model: str
    target: str
    reproducible: bool
    token_exact: bool
    drops_layers: bool


ENGINES = {
    "hf": EngineEntry("pruned-hf", "lm_eval_ext.harness.models.pruned_hf:PrunedHFLM", True, True, True),
    "vllm": EngineEntry("pruned-vllm", "lm_eval_ext.harness.models.pruned_vllm:PrunedVLLM", False, True, True),
}


def models() -> dict[str, str]:
    """Model classes by the names that lm-eval has for them."""
    return {entry.model: entry.target for entry in ENGINES.values()}


def capabilities(model: str) -> dict[str, bool]:
    """What the engine of a model class can do, for the results."""
    entry = next(one for one in ENGINES.values() if one.model == model)
    return {"reproducible": entry.reproducible, "token_exact": entry.token_exact, "drops_layers": entry.drops_layers}

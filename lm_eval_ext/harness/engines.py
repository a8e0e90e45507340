"""Table of the decoding engines and their capabilities; model registration and results use it."""

from __future__ import annotations

from typing import NamedTuple


class EngineEntry(NamedTuple):
    """One engine.

    Attributes:
        model: its name in `lm_eval --model`.
        target: the model class, imported on first use.
        reproducible: whether a seed gives the same sample on any batch and machine, if the logits are equal.
        token_exact: whether budgets cut a trace at its own tokens, without decoding it to text and encoding it again.
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
    # What a server can do is found out by trying it.
    "server": EngineEntry("tts-server", "lm_eval_ext.harness.models.server:TTSServer", False, True, False),
}


def models() -> dict[str, str]:
    """Model classes by their names in lm-eval."""
    return {entry.model: entry.target for entry in ENGINES.values()}


def engine_of(model: str) -> str:
    """Name of a model class's engine."""
    return next(name for name, entry in ENGINES.items() if entry.model == model)


def capabilities(model: str) -> dict[str, bool]:
    """Capabilities of a model class's engine, for the results file."""
    entry = ENGINES[engine_of(model)]
    return {"reproducible": entry.reproducible, "token_exact": entry.token_exact, "drops_layers": entry.drops_layers}

"""What a token costs, against the loaded model and the cache that it fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import lm_eval_ext as tts
from lm_eval_ext.analysis.answer_costs import cache_bytes
from lm_eval_ext.harness.model_costs import costs_of
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from tests.checkpoints import write_checkpoint

LATENT: dict[str, Any] = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 12, "n_group": 1,
    "topk_group": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
    "num_key_value_heads": 4,
}  # fmt: skip
RECURRENT: dict[str, Any] = {"num_heads": 8, "head_dim": 8, "n_groups": 1, "expand": 2, "state_size": 8}


@pytest.mark.parametrize(
    ("kind", "fields", "layers"),
    [
        ("llama", {}, 6),
        ("gpt_oss", {}, 6),
        ("lfm2", {"layer_types": ["conv", "full_attention"] * 3}, 3),
        ("deepseek_v3", LATENT, 6),
        ("mamba2", RECURRENT, 0),
    ],
)
def test_a_cache_is_as_large_as_is_said(kind: str, fields: dict[str, Any], layers: int, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(write_checkpoint(kind, tmp_path, **fields))
    sizes = costs_of(model.config, 4)
    assert sizes["parameters"] == model.num_parameters() and sizes["layers"] == layers
    for tokens in (2, 9, 50):
        output = model(torch.ones(1, tokens, dtype=torch.long), use_cache=True)
        cache = getattr(output, "past_key_values", None) or output.cache_params
        parts = [part for layer in cache.layers for part in vars(layer).values()]
        parts += [inner for part in parts if isinstance(part, dict) for inner in part.values()]
        held = [part for part in parts if isinstance(part, torch.Tensor) and part.is_floating_point()]
        assert cache_bytes(tokens, sizes) == sum(part.numel() * part.element_size() for part in held)


def test_blocks_that_are_left_out_cost_nothing() -> None:
    whole = PrunedHFLM(journal="off").get_model_info()["costs"]
    lm = PrunedHFLM(recipe="tiny-chain-attention-2", journal="off")
    without = lm.get_model_info()["costs"]
    assert without["parameters"] == lm.model.num_parameters() < whole["parameters"]
    assert (whole["layers"], without["layers"]) == (12, 10)
    assert 12 * without["cache_token_bytes"] == 10 * whole["cache_token_bytes"]


def test_costs_that_cannot_be_told_do_not_end_a_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lm_eval_ext.harness import model_costs as costs

    def broken(config: object) -> None:
        raise RuntimeError("no such layer")

    monkeypatch.setattr(costs, "_on_meta", broken)
    assert set(tts.load(journal="off").get_model_info()["costs"]) == {"peak_memory"}
    assert "cannot be told from the config: no such layer" in caplog.text

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from transformers import CONFIG_MAPPING, AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import (
    _table,
    config_overrides,
    depth,
    renamed_tensor,
    slice_config,
    unknown_layer_fields,
)


def test_each_kept_layer_keeps_its_own_entry() -> None:
    types = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    config = AutoConfig.for_model("gemma3_text", num_hidden_layers=6, layer_types=types)
    sliced = slice_config(config, (1, 2, 5))
    assert (depth(sliced), sliced.layer_types) == (3, [types[1], types[2], types[5]])
    assert (depth(config), config.layer_types) == (6, types), "the given config was changed"


def test_index_lists_are_renumbered_and_steps_spelled_out() -> None:
    config = AutoConfig.for_model("qwen3_moe", num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=[1])
    dense = [layer for layer in range(6) if layer == 1 or (layer + 1) % 2]
    kept = (1, 3, 4)
    sliced = slice_config(config, kept)
    assert sliced.decoder_sparse_step == 1
    assert sliced.mlp_only_layers == [kept.index(layer) for layer in kept if layer in dense]


def test_leading_dense_layers_are_counted_anew() -> None:
    config = AutoConfig.for_model("deepseek_v3", num_hidden_layers=6, first_k_dense_replace=3)
    assert slice_config(config, (0, 2, 4)).first_k_dense_replace == 2


def test_the_last_layer_with_experts_is_counted_anew() -> None:
    config = AutoConfig.for_model("ernie4_5_moe", num_hidden_layers=6, moe_layer_start_index=1, moe_layer_end_index=4)
    sliced = slice_config(config, (0, 2, 3, 5))
    assert (sliced.moe_layer_start_index, sliced.moe_layer_end_index) == (1, 2)


def test_a_repeated_pattern_is_spelled_out() -> None:
    config = AutoConfig.for_model("recurrent_gemma", num_hidden_layers=6)
    pattern = list(config.block_types)
    assert slice_config(config, (1, 2, 3)).block_types == [pattern[1], pattern[2], pattern[0]]


def test_settings_by_layer_index_move_with_their_layers() -> None:
    config = AutoConfig.for_model("gemma4_text", num_hidden_layers=6, hidden_size_per_layer_input=0)
    config.per_layer_config = {"01": {"head_dim": 64}, "3": {"head_dim": 128}, "5": {"head_dim": 512}}
    sliced = slice_config(config, (0, 3, 5))
    assert {int(layer): one for layer, one in sliced.to_dict()["per_layer_config"].items()} == {
        1: {"head_dim": 128},
        2: {"head_dim": 512},
    }


def test_layers_counted_from_one_are_renumbered() -> None:
    layers = {"full_attn_layers": [3, 6], "kda_layers": [1, 2, 4, 5], "num_heads": 4}
    config = AutoConfig.for_model("kimi_linear", num_hidden_layers=6, linear_attn_config=layers)
    sliced = slice_config(config, (0, 2, 5))
    assert sliced.linear_attn_config == {"full_attn_layers": [2, 3], "kda_layers": [1], "num_heads": 4}
    assert sliced.layer_types == ["linear_attention", "full_attention", "full_attention"]


def test_a_layer_keeps_the_layer_whose_indexer_it_reuses() -> None:
    types = ["full", "shared", "full", "shared", "shared", "full"]
    config = AutoConfig.for_model("glm_moe_dsa", num_hidden_layers=6, indexer_types=types)
    assert slice_config(config, (0, 2, 4, 5)).indexer_types == ["full", "full", "shared", "full"]
    assert slice_config(config, (0, 1, 5)).indexer_types == ["full", "shared", "full"]
    with pytest.raises(ArchitectureError, match="layer 2 must be kept, because layer 3 reuses its indexer"):
        slice_config(config, (0, 1, 3, 5))


def test_a_layer_keeps_the_layer_whose_keys_and_values_it_reuses() -> None:
    types = (
        ["sliding_attention"] * 4
        + ["full_attention", "sliding_attention"]
        + ["sliding_attention", "full_attention"] * 2
    )
    config = AutoConfig.for_model("gemma4_text", num_hidden_layers=10, layer_types=types, num_kv_shared_layers=4)
    assert slice_config(config, (1, 4, 5, 6, 9)).num_kv_shared_layers == 2
    assert slice_config(config, (1, 4, 7)).num_kv_shared_layers == 1
    with pytest.raises(ArchitectureError, match="layer 4 must be kept, because layer 7 reuses its keys and values"):
        slice_config(config, (0, 5, 6, 7))


def test_what_is_divided_by_the_root_of_the_depth_stays_the_same() -> None:
    config = AutoConfig.for_model("minicpm3", num_hidden_layers=6, scale_depth=1.4)
    assert slice_config(config, (0, 2, 4)).scale_depth / 3**0.5 == pytest.approx(1.4 / 6**0.5)


def test_lists_of_a_fixed_length_stay_where_there_are_as_many_layers() -> None:
    config = AutoConfig.for_model("falcon_h1", num_hidden_layers=5)
    assert slice_config(config, (0, 1)).ssm_multipliers == [1.0] * 5
    config = AutoConfig.for_model("falcon_h1", num_hidden_layers=2)
    assert slice_config(config, (1,)).mlp_multipliers == [1.0] * 2


@pytest.mark.parametrize("kind", ["gemma3_text", "gemma3"])
def test_vllm_is_given_the_fields_of_the_sliced_config(kind: str) -> None:
    config = AutoConfig.for_model(kind)
    kept = tuple(range(0, depth(config), 2))
    overrides: dict[str, Any] = config_overrides(config, kept)
    fields = overrides if kind == "gemma3_text" else overrides["text_config"]
    text = slice_config(config, kept).get_text_config()
    assert fields["num_hidden_layers"] == len(kept) and len(fields["layer_types"]) == len(kept)
    assert all(getattr(text, name) == value for name, value in fields.items())


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("zamba2", {}),
        ("diffllama", {}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("ernie4_5_moe", {"moe_layer_interval": 2}),
        ("rwkv", {}),  # only its first layer, which is dropped here
    ],
)
def test_what_depends_on_the_index_is_refused(kind: str, extra: dict[str, Any]) -> None:
    config = AutoConfig.for_model(kind, **extra)
    with pytest.raises(ArchitectureError, match=f"layers of a {kind} model cannot be dropped: "):
        slice_config(config, tuple(range(1, depth(config))))


def test_a_model_begins_with_attention_where_its_base_does_and_tokens_are_counted_there() -> None:
    config = AutoConfig.for_model("minimax", num_hidden_layers=6)
    with pytest.raises(ArchitectureError, match=r"first kept layer must be one of its attention layers \(0, 2, 4\)"):
        slice_config(config, (1, 2, 3))
    assert depth(slice_config(config, (2, 3))) == 2
    config.layer_types = ["linear_attention", *config.layer_types[:-1]]
    assert depth(slice_config(config, (2, 3))) == 2, "the base model itself begins with another layer"


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("blt", "its layers are in several stacks, for bytes and for patches"),
        ("dac", "its config has no number of layers in num_hidden_layers"),
        ("lxmert", "its config has no number of layers in num_hidden_layers"),  # but a number for each of its parts
    ],
)
def test_a_config_without_a_number_of_layers_is_one_line(kind: str, why: str) -> None:
    with pytest.raises(ArchitectureError, match=f"^layers of a {kind} model cannot be dropped: {why}$"):
        depth(AutoConfig.for_model(kind))


def test_a_config_that_its_own_class_refuses_is_one_line() -> None:
    config = AutoConfig.for_model("olmo_hybrid", num_hidden_layers=6)
    with pytest.raises(ArchitectureError) as refusal:
        config_overrides(config, [layer for layer, kind in enumerate(config.layer_types) if kind == "full_attention"])
    message = (
        "layers of a olmo_hybrid model cannot be dropped: OLMoHybrid expects at least one 'linear_attention' layer"
    )
    assert str(refusal.value).startswith(message) and "\n" not in str(refusal.value)


def test_a_model_of_several_language_models_is_refused() -> None:
    config = AutoConfig.for_model("musicgen")
    with pytest.raises(ArchitectureError, match="a musicgen model cannot be dropped: its config describes several"):
        slice_config(config, (0, 1))


def test_a_sliced_config_says_nothing_of_quantization_which_names_modules_by_layer() -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=6)
    config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert not hasattr(slice_config(config, (0, 1)), "quantization_config")
    assert config.quantization_config["bits"] == 4


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("model.layers.0.mlp.up_proj.weight", None),
        ("model.layers.2.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"),
        ("model.layers.12.mlp.experts.3.up_proj.weight", None),
        ("language_model.model.layers.1.mlp.up_proj.weight", "language_model.model.layers.0.mlp.up_proj.weight"),
        ("vision_tower.encoder.layers.0.mlp.weight", "vision_tower.encoder.layers.0.mlp.weight"),
        ("transformer.h.2.attn.weight", "transformer.h.1.attn.weight"),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_tensors_are_renamed_by_their_layer(name: str, renamed: str | None) -> None:
    assert renamed_tensor(name, (1, 2)) == renamed


def test_every_list_of_one_entry_per_layer_is_declared() -> None:
    """Walks all config classes of causal language models in the installed transformers."""
    unknown, looked_at = {}, 0
    for kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        with contextlib.suppress(Exception):  # some cannot be made without arguments
            text = CONFIG_MAPPING[kind]().get_text_config()
            fields, total = text.to_dict(), getattr(text, "num_hidden_layers", 0)
            found = unknown_layer_fields(fields, total) if total else []
            looked_at += 1
            if found and kind not in _table()["refused"]:
                unknown[kind] = found
    assert looked_at > 150
    assert not unknown, "declare these in architectures.yaml"


def test_unknown_fields_are_cut() -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=3, odd_field=[7, 8, 9])
    assert slice_config(config, [0, 2]).odd_field == [7, 9]

"""Config of a tiny random model with the structure of a real one: same class, same layers, all sizes reduced.

It is used to check in seconds, without the real weights, whether dropping layers is exact (`verification`). Fields with
one entry per layer keep their entries, so a mixture of layer types is preserved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Upper limits for sizes; smaller values are kept.
_SIZES = {
    96: """vocab_size unpadded_vocab_size vocab_size_per_layer_input max_position_embeddings n_positions n_ctx""",
    64: """mamba_d_ssm""",
    32: """hidden_size d_model n_embd dim embed_dim lru_width embedding_size attention_hidden_size emb_dim embedding_dim
        word_embed_proj_dim base_channels codebook_size""",
    16: """qk_head_dim q_lora_rank kv_lora_rank o_lora_rank adapter_rank""",
    8: """head_dim global_head_dim mamba_d_head mamba_head_dim mamba_headdim d_head qk_nope_head_dim qk_rope_head_dim
        v_head_dim mamba_d_state state_size swa_head_dim swa_v_head_dim attention_head_dim ssm_state_size
        linear_key_head_dim linear_value_head_dim linear_head_dim rotary_dim d_kv index_head_dim indexer_head_dim
        hidden_size_per_layer_input laurel_rank time_step_rank dt_rank""",
    4: """num_attention_heads n_head n_heads num_heads attention_heads decoder_attention_heads encoder_attention_heads
        swa_num_attention_heads linear_num_value_heads mamba_n_heads mamba_num_heads index_n_heads num_experts
        num_local_experts n_routed_experts moe_num_experts index_topk""",
    2: """linear_num_key_heads num_experts_per_tok moe_k moe_top_k moe_topk num_selected_experts n_shared_experts
        num_shared_experts num_experts_per_token mamba_n_groups n_groups zero_expert_num""",
    1: """n_group topk_group num_expert_group""",
}
_AT_MOST = {name: limit for limit, names in _SIZES.items() for name in names.split()}
_FEED_FORWARD = ("intermediate_size", "ffn_dim", "ffn_hidden_size", "d_ff", "d_inner", "n_inner", "hidden_dim")
_STATE_SPACE_HEADS = ("mamba_n_heads", "mamba_num_heads", "num_heads", "n_mamba_heads")
_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
_WINDOW = 4  # tokens that a layer sees or computes at once, whatever the field is called
_WINDOWS = re.compile(r"(?!.*(?:pattern|layers|ids|indices|num_|experts|blocks|theta|freq)).*(?:window|chunk|local)")
_WIDTH = 48  # of feed-forward networks
_DERIVED = {"head_dim": 8, "num_key_value_heads": 4}  # values for None, if config classes would derive them
_ROPE_WITHOUT_LISTS = ("default", "linear", "dynamic", "yarn", "llama3")


def tiny_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A config of the same class and depth, with small sizes.

    Args:
        config: config of any model, including multimodal ones.

    Raises:
        Exception: whatever the config's class raises if the reduced sizes are inconsistent.
    """
    fields = config.to_dict()
    tiny: PreTrainedConfig = type(config)(**_cut(fields))
    return tiny


def _cut(fields: Mapping[str, object]) -> dict[str, object]:
    cut = {name: _small(name, value, fields) for name, value in fields.items()}
    return {name: value for name, value in cut.items() if name not in ("quantization_config", "transformers_version")}


def _small(name: str, value: object, fields: Mapping[str, object]) -> object:
    """The value of a field in the twin's config."""
    if name in _TOKENS and isinstance(value, int):
        return _TOKENS.index(name) % 3
    if isinstance(value, Mapping):
        return _plain_rope(value) if name in ("rope_parameters", "rope_scaling") else _cut(value)
    if isinstance(value, (list, tuple)) and _limit(name) is not None:
        return [_small(name, one, fields) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return _small_number(name, value, fields)
    return _DERIVED.get(name) if value is None else value


def _small_number(name: str, value: int, fields: Mapping[str, object]) -> int:
    expand = fields.get("mamba_expand") or fields.get("expand")
    if name in _STATE_SPACE_HEADS and expand and isinstance(expand, (int, float)):
        return int(expand * _AT_MOST["hidden_size"] // _AT_MOST["head_dim"])
    if "num_key_value_heads" in name or name in ("num_kv_heads", "n_head_kv", "num_global_key_value_heads"):
        heads = fields.get(name.replace("key_value", "attention"), fields.get("num_attention_heads"))
        return min(value, 4 if value == heads else 2)
    limit = _limit(name)
    return value if limit is None else min(value, limit)


def _limit(name: str) -> int | None:
    if name in _AT_MOST:
        return _AT_MOST[name]
    if any(name.endswith(ending) for ending in _FEED_FORWARD):
        return _WIDTH
    return _WINDOW if _WINDOWS.match(name) else None


def _plain_rope(rope: Mapping[str, object]) -> dict[str, object]:
    """Rotary embedding parameters without per-dimension factors, whose lists only fit the real head size."""
    if any(isinstance(value, Mapping) for value in rope.values()):  # by layer type
        return {kind: _plain_rope(value) if isinstance(value, Mapping) else value for kind, value in rope.items()}
    kept = {name: value for name, value in rope.items() if not isinstance(value, (list, tuple))}
    if "mrope_section" in rope:  # of time, height and width, which are the same for text
        share = kept.get("partial_rotary_factor", 1.0)
        kept["mrope_section"] = [int(_DERIVED["head_dim"] // 2 * share) if isinstance(share, (int, float)) else 0, 0, 0]
    if kept.get("rope_type", "default") not in _ROPE_WITHOUT_LISTS:
        kept["rope_type"] = "default"
    return kept

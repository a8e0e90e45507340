"""Checks on a tiny twin of a model whether dropping layers is exact for its architecture.

The twin (`twin`) is saved as a checkpoint and loaded again without the dropped layers. Its logits must equal those of
the full twin with these layers bypassed (their outputs replaced by their inputs), and generation with a cache must
equal generation without, also with padding on the left. Models that fail this check, or that it cannot be run on, are
refused.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from packaging.version import Version

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import (
    auto_class,
    check_supported,
    depth,
    slice_config,
    text_config,
    unknown_layer_fields,
)
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.sliced_model import load_sliced

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel


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
    """A config of the same class and depth, with small sizes, for checks in seconds without the real weights.

    Fields with one entry per layer keep their entries, so a mixture of layer types is preserved.

    Args:
        config: config of any model, including multimodal ones.

    Raises:
        Exception: whatever the config's class raises if the reduced sizes are inconsistent.
    """
    fields = config.to_dict()
    tiny: PreTrainedConfig = type(config)(**_cut(fields))
    return tiny


_NOT_OF_A_TWIN = ("quantization_config", "transformers_version", "experts_of_layers")


def _cut(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: _small(name, value, fields) for name, value in fields.items() if name not in _NOT_OF_A_TWIN}


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


logger = logging.getLogger("lm_eval.tts")

TOLERANCE = 1e-4  # for float32 logits, relative to the largest
VISIBLE = 1e-2  # the dropped layers must change the logits by at least this, or the check is meaningless
_CACHE_TOLERANCE = 1e-2
_PROMPT, _NEW_TOKENS, _PADDING = 70, 5, 3  # many times the twin's windows, and more than one of 64 of unknown name
_LARGEST = 50_000_000  # parameters; a larger twin means that its sizes could not be reduced


_shown_exact: set[tuple[str, tuple[int, ...]]] = set()  # configs and kept layers checked in this process


class NotExactError(ArchitectureError):
    """The model with dropped layers differs from the model with these layers bypassed."""


def ensure_exact(config: PreTrainedConfig, kept: Sequence[int], *, trust_remote_code: bool = False) -> None:
    """Refuse to drop layers unless that is known to be exact for the architecture, or a check shows it now.

    Args:
        config: config of the base model.
        kept: ascending indices of the layers to keep.
        trust_remote_code: run the model code that the repository ships.

    Raises:
        ArchitectureError: the layers cannot be dropped; the message says why, and how to override the check.
    """
    check_supported(config, kept)
    what = (config.to_json_string(use_diff=False), tuple(kept))
    if is_verified(config, "exact") or what in _shown_exact:
        return
    kind = text_config(config).model_type
    refusal = f"layers of a {kind} model cannot be dropped: a tiny twin could not show that this is exact"
    with (
        refusing(refusal, "; trust_layer_fields=true skips this check"),
        tiny_twin(config, trust_remote_code=trust_remote_code) as twin,
    ):
        difference = twin.difference(kept)
    _shown_exact.add(what)
    logger.info(
        "%s is not a verified architecture: checked on a tiny random twin, dropping is exact to %.0e", kind, difference
    )


@contextmanager
def refusing(refusal: str, advice: str = "") -> Iterator[None]:
    """Raise an `ArchitectureError` with the reason if anything is raised within the context."""
    try:
        yield
    except Exception as error:  # an unknown model class may raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArchitectureError(f"{refusal} ({reason}){advice}") from error


def is_verified(config: PreTrainedConfig, what: Literal["exact", "decoded"]) -> bool:
    """Whether the benchmarks found a model's architecture right, in a way that holds for this model.

    Args:
        config: config of the model.
        what: `exact` for dropping layers, `decoded` for the engine that is chosen by its cache.
    """
    own_code = bool(getattr(config, "auto_map", None))
    if own_code or config.model_type not in verified()[what] or _is_newer_transformers():
        return False
    return not unknown_layer_fields(text_config(config).to_dict(), depth(config))


def _is_newer_transformers() -> bool:
    """Whether the installed transformers is a later minor release than the one used for verification."""
    import transformers

    return Version(transformers.__version__).release[:2] > Version(verified()["transformers"]).release[:2]


@dataclass(frozen=True)
class Twin:
    """A tiny random model with the structure of another model, in float32.

    Attributes:
        folder: folder of its checkpoint.
        config: its config, which differs from the other model's only in sizes.
        model: the model itself, with all layers.
        trust_remote_code: run the model code that the repository ships.
    """

    folder: str
    config: PreTrainedConfig
    model: PreTrainedModel
    trust_remote_code: bool = False

    def loaded(
        self, sliced: PreTrainedConfig, kept: Sequence[int] | None = None, changes: Changes = NO_CHANGES
    ) -> PreTrainedModel:
        """A version of it, loaded from its checkpoint as a real model is."""
        layers, hub = range(depth(self.config)) if kept is None else kept, {"revision": "main"}
        model = load_sliced(
            self.folder, self.config, sliced, layers, changes, hub, "float32", self.trust_remote_code, {}
        )
        return model.eval()

    def difference(self, kept: Sequence[int]) -> float:
        """Compare its logits when it is loaded without some layers with those when these are bypassed.

        Args:
            kept: ascending indices of the layers to keep.

        Returns:
            The largest difference, relative to the largest logit.

        Raises:
            NotExactError: the logits differ, or generation with a cache differs from generation without.
            Exception: whatever saving, loading or running a model of this class raises.
        """
        pruned = self.loaded(slice_config(self.config, kept), kept)
        layers, ids = decoder_layers(self.model), token_ids(self.model)
        dropped = [layer for layer in range(len(layers)) if layer not in kept]
        whole = logits_of(self.model, ids)
        with bypassed(layers, dropped):
            expected = logits_of(self.model, ids)
        if dropped and relative_difference(whole, expected) < VISIBLE:
            raise ArchitectureError("its layers change nothing in a random twin")
        return check_equal(self.model, pruned, ids, expected)


@contextmanager
def tiny_twin(
    config: PreTrainedConfig,
    *,
    trust_remote_code: bool = False,
    shrunk: Callable[[PreTrainedConfig], PreTrainedConfig] = tiny_config,
) -> Iterator[Twin]:
    """Create a twin whose checkpoint exists as long as the context.

    Args:
        config: of the other model.
        trust_remote_code: run the model code that the repository ships.
        shrunk: makes the twin's config from it.

    Raises:
        Exception: whatever building, saving or loading a model of this class raises.
    """
    with quiet_transformers(), tempfile.TemporaryDirectory(prefix="lm-eval-tts-twin-") as folder:
        tiny = shrunk(config)
        _write(tiny, folder, trust_remote_code)
        model = auto_class(config).from_pretrained(folder, dtype="float32", trust_remote_code=trust_remote_code)
        yield Twin(folder, tiny, model.eval(), trust_remote_code)


def _write(tiny: PreTrainedConfig, folder: str, trust_remote_code: bool) -> None:
    """Write a random checkpoint with all modalities in the config."""
    import torch
    from transformers import AutoModelForImageTextToText

    auto = AutoModelForImageTextToText if _causal_is_text_alone(tiny) else auto_class(tiny)
    with torch.device("meta"):
        size = auto.from_config(tiny, trust_remote_code=trust_remote_code).num_parameters()
    if size > _LARGEST:
        raise ArchitectureError(f"its sizes could not be reduced: {size} parameters are left")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = auto.from_config(tiny, trust_remote_code=trust_remote_code, dtype=torch.float32)
        _shake(model)
    model.save_pretrained(folder)


def _causal_is_text_alone(config: PreTrainedConfig) -> bool:
    """Whether a multimodal model's causal class only covers the text part, so that checkpoints have another class."""
    from transformers import AutoModelForCausalLM

    causal = AutoModelForCausalLM._model_mapping.get(type(config), None)
    of_text = config.sub_configs.get("text_config")
    return of_text is not None and getattr(causal, "config_class", None) is of_text


def _shake(model: PreTrainedModel) -> None:
    """Set random weights that are large enough to reveal a wrong layer; transformers' own are nearly zero.

    So are buffers that a checkpoint has and that are mostly zero, such as the biases of routers.
    """
    import torch

    stored = model.state_dict(keep_vars=True)
    buffers = [
        stored[name]
        for name, buffer in model.named_buffers()
        if name in stored and 2 * buffer.count_nonzero() < buffer.numel()
    ]
    with torch.no_grad():
        for parameter in (*model.parameters(), *buffers):
            if parameter.is_floating_point():
                noise = torch.randn_like(parameter) * (0.2 if parameter.dim() > 1 else 0.1)
                parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)


def relative_difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of two tensors, relative to the largest value that is expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def check_equal(twin: PreTrainedModel, pruned: PreTrainedModel, ids: torch.Tensor, expected: torch.Tensor) -> float:
    """Check a pruned twin's logits and its generation; returns the largest difference, relative to the largest logit.

    Args:
        twin: with all layers.
        pruned: without some layers or blocks.
        ids: prompts, of shape (batch, length).
        expected: logits for them.

    Raises:
        NotExactError: its logits are not those expected, or generation with a cache differs from that without.
    """
    difference = relative_difference(logits_of(pruned, ids), expected)
    if not difference <= TOLERANCE:  # also true for NaN
        raise NotExactError(f"its logits differ by {difference:.1e} from those expected")
    for padding in (0, _PADDING):
        found = _cache_difference(pruned, ids, padding)
        if found > _CACHE_TOLERANCE >= _cache_difference(twin, ids, padding):
            how = " and padding on the left" if padding else ""
            raise NotExactError(f"generation with a cache{how} differs by {found:.1e} from generation without")
    return difference


def token_ids(model: PreTrainedModel, rows: int = 2) -> torch.Tensor:
    """Random prompts for a twin, of shape (rows, length)."""
    import torch

    generator = torch.Generator().manual_seed(5)
    return torch.randint(5, int(text_config(model.config).vocab_size), (rows, _PROMPT), generator=generator)


def logits_of(model: PreTrainedModel, ids: torch.Tensor, **options: object) -> torch.Tensor:
    """A model's logits in float32, of shape (batch, length, vocabulary)."""
    import torch

    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False, **options).logits
    return logits.float()


def _cache_difference(model: PreTrainedModel, ids: torch.Tensor, padding: int) -> float:
    """Largest difference between the logits of generation with and without a cache, relative to the largest logit."""
    cached, uncached = (_generated(model, ids, padding, use_cache=use_cache) for use_cache in (True, False))
    return max(map(relative_difference, cached, uncached))


def _generated(model: PreTrainedModel, ids: torch.Tensor, padding: int, *, use_cache: bool) -> Sequence[torch.Tensor]:
    """Logits of each step of greedy generation after prompts with some padding on the left."""
    import torch
    from torch.nn.functional import pad

    length = {"max_new_tokens": _NEW_TOKENS, "min_new_tokens": _NEW_TOKENS}
    told = {"return_dict_in_generate": True, "output_logits": True}
    with torch.no_grad():
        output = model.generate(
            pad(ids, (padding, 0)),
            attention_mask=pad(torch.ones_like(ids), (padding, 0)),
            do_sample=False,
            use_cache=use_cache,
            **length,
            **told,
        )
    logits: Sequence[torch.Tensor] = output.logits
    return logits


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence transformers' warnings and progress bars within the context."""
    from transformers.utils import logging as theirs

    level, bars = theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()


@cache
def verified(file: str = "verified.yaml") -> dict[str, Any]:
    """What benchmarks found: `benchmarks.architectures` with transformers, `benchmarks.vllm_kinds` with vLLM."""
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name(file).read_text("utf-8"))
    return table


def verdict_in_vllm(kind: str) -> str:
    """What came out when layers of a model type were dropped in vLLM; `not tried` for most types."""
    return str(verified("verified_vllm.yaml")["kinds"].get(kind, "not tried"))

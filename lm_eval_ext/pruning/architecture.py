"""Config fields and tensor names that depend on the layer index, as declared in `architectures.yaml`.

A field is never cut to a prefix or regenerated from a pattern: each kept layer keeps its own entry.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from lm_eval_ext.errors import ArchitectureError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


# Fields that list the type of each layer; in some configs they are properties, so they are read as attributes.
_KINDS_OF_LAYERS = ("layer_types", "layers_block_type")


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("architectures.yaml").read_text("utf-8"))
    return table


def depth(config: PreTrainedConfig) -> int:
    """Number of decoder layers.

    Raises:
        ArchitectureError: the config does not say it.
    """
    text = text_config(config)
    field = next(iter(_depth_fields(text)))
    layers = getattr(text, field, None)
    if not isinstance(layers, int):
        check_supported(config)  # knows a better reason for some
        reason = f"its config has no number of layers in {field}"
        raise ArchitectureError(f"layers of a {text.model_type} model cannot be dropped: {reason}")
    return layers


def _depth_fields(text: PreTrainedConfig) -> dict[str, int]:
    """The fields that count decoder layers, and how often each counts a layer; the first counts each once."""
    fields: dict[str, int] = _table()["depth"].get(text.model_type, {"num_hidden_layers": 1})
    return fields


def slice_config(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    """A copy of `config` for the model with only the layers `kept`, without any `quantization_config`.

    Lists that aren't declared and have as many entries as layers are taken to have one for each.

    Args:
        config: config of the base model.
        kept: ascending indices of the layers to keep.

    Raises:
        ArchitectureError: the architecture cannot be cut safely.
    """
    check_supported(config, kept)
    return _sliced(config, kept)


def _sliced(config: PreTrainedConfig, kept: Sequence[int]) -> PreTrainedConfig:
    sliced = without_quantization(config)
    text = text_config(sliced)
    for name, value in _overrides(text, kept).items():
        setattr(text, name, value)
    return sliced


def without_quantization(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy without any `quantization_config`: it names modules by layer, and is made anew (`quantization`)."""
    copied = copy.deepcopy(config)
    for part in (copied, text_config(copied)):
        vars(part).pop("quantization_config", None)
    return copied


def config_overrides(config: PreTrainedConfig, kept: Sequence[int]) -> dict[str, object]:
    """The config fields that change in the pruned model, for loaders that accept overrides (vLLM's `hf_overrides`).

    Raises:
        ArchitectureError: see `slice_config`.
    """
    check_supported(config, kept)
    text = text_config(config)
    overrides = _overrides(text, kept)
    return overrides if text is config else {"text_config": overrides}


def _overrides(text: PreTrainedConfig, kept: Sequence[int]) -> dict[str, object]:
    sliced = _sliced_fields(text.to_dict(), kept, depth(text))
    return sliced | {field: times * len(kept) for field, times in _depth_fields(text).items()}


def check_supported(config: PreTrainedConfig, kept: Sequence[int] | None = None) -> None:
    """Refuse models whose layers cannot be dropped safely.

    Args:
        config: config of the base model.
        kept: ascending indices of the layers to keep; None if they are not chosen yet.

    Raises:
        ArchitectureError: the layers cannot be dropped; the message says why.
    """
    text = text_config(config)
    reasons = chain(_reasons_against(config, text), _reasons_against_set(config, kept) if kept is not None else ())
    if reason := next(reasons, None):  # later checks only hold where earlier ones found nothing
        raise ArchitectureError(f"layers of a {text.model_type} model cannot be dropped: {reason}")


def _reasons_against(config: PreTrainedConfig, text: PreTrainedConfig) -> Iterator[str]:
    """Reasons why no layer of this model can be dropped."""
    table = _table()
    yield from (table["refused"][kind] for kind in (text.model_type, config.model_type) if kind in table["refused"])
    for rule in table["refused_if"].get(text.model_type, ()):
        if _applies(rule, getattr(text, rule["field"], None)):
            yield rule["why"]


def _applies(rule: Mapping[str, object], value: object) -> bool:
    if "set" in rule:
        return bool(value) is rule["set"]
    if "unless" in rule:
        return value is not None and value != rule["unless"]
    return bool(value == rule["value"])


def _reasons_against_set(config: PreTrainedConfig, kept: Sequence[int]) -> Iterator[str]:
    """Reasons why this particular set of layers cannot be dropped."""
    from huggingface_hub.errors import StrictDataclassError

    text, table = text_config(config), _table()
    kind = text.model_type
    if kind in table["keep_first"] and 0 not in kept:
        yield f"layer 0 must be kept, because {table['keep_first'][kind]}"
    if kind in table["keep_last"] and depth(text) - 1 not in kept:
        yield f"layer {depth(text) - 1} must be kept, because {table['keep_last'][kind]}"
    yield from _lost_sources(text, kept)
    with_cache = _layers_with_cache(text)
    layers = ", ".join(map(str, sorted(with_cache)))
    if with_cache and not with_cache & set(kept):
        yield f"one of its attention layers ({layers}) must be kept, for the cache"
    elif kind in table["attention_first"] and 0 in with_cache and kept[0] not in with_cache:
        yield f"the first kept layer must be one of its attention layers ({layers}), where its cache counts tokens"
    try:
        text_config(_sliced(config, kept)).validate()  # as loading and saving it does
    except StrictDataclassError as error:
        yield " ".join(str(error.__cause__ or error).split())


def _lost_sources(text: PreTrainedConfig, kept: Sequence[int]) -> Iterator[str]:
    """Kept layers that would reuse what another layer than before has computed."""
    for layer in kept:
        for what, source in _sources(text, layer):
            if source is None:
                yield f"layer {layer} reuses {what} of another model"
            elif source not in kept:
                yield f"layer {source} must be kept, because layer {layer} reuses its {what}"


def _sources(text: PreTrainedConfig, layer: int) -> Iterator[tuple[str, int | None]]:
    """What a layer reuses, and the layer that computes it; None if there is no such layer."""
    indexers = getattr(text, "indexer_types", None)  # glm_moe_dsa
    if indexers and indexers[layer] == "shared":
        yield "indexer", max((one for one in range(layer) if indexers[one] != "shared"), default=None)
    shared = getattr(text, "num_kv_shared_layers", None)  # gemma3n, gemma4
    if shared and layer >= (own := depth(text) - shared):
        types = text.layer_types
        yield "keys and values", max((one for one in range(own) if types[one] == types[layer]), default=None)


def _layers_with_cache(text: PreTrainedConfig) -> set[int]:
    """The layers that cache keys and values, in a model that also has layers that don't; otherwise empty."""
    types = next((types for name in _KINDS_OF_LAYERS if (types := getattr(text, name, None))), None) or ()
    cached = {layer for layer, kind in enumerate(types) if kind not in _table()["stateful"]}
    return cached if len(types) == depth(text) and len(cached) < len(types) else set()


def auto_class(config: PreTrainedConfig) -> Any:
    """The class of transformers that loads a model for text tasks; many image-text models have no causal class."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    own = getattr(config, "auto_map", None) or {}
    causal = type(config) in AutoModelForCausalLM._model_mapping or "AutoModelForCausalLM" in own
    both = not causal and type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if both else AutoModelForCausalLM


def takes_padding(config: PreTrainedConfig) -> bool:
    """Whether padding on the right leaves the results of the tokens before it as they are."""
    return text_config(config).model_type not in _table()["one_text_at_a_time"]


def text_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The language model's config, within a config that may be multimodal.

    Raises:
        ArchitectureError: the config has several language models.
    """
    try:
        return config.get_text_config()
    except ValueError as error:
        reason = "its config describes several text models and does not say which one generates"
        raise ArchitectureError(f"layers of a {config.model_type} model cannot be dropped: {reason}") from error


def unknown_layer_fields(fields: Mapping[str, object], total: int) -> list[str]:
    """List fields with as many entries as layers that are not declared in `architectures.yaml`."""
    known = {*_table()["per_layer"], *_table()["layer_indices"], *_table()["not_per_layer"]}
    return [name for name, value in fields.items() if _has_one_per_layer(value, total) and name not in known]


def _has_one_per_layer(value: object, total: int) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == total


def _sliced_fields(fields: Mapping[str, Any], kept: Sequence[int], total: int) -> dict[str, object]:
    table = _table()
    sliced: dict[str, object] = {}
    for name, value in fields.items():
        if name in table["layer_indices"] and isinstance(value, list):
            sliced[name] = [kept.index(layer) for layer in value if layer in kept]
        elif name in table["leading"] and isinstance(value, int):
            sliced[name] = sum(layer < value for layer in kept)
        elif name in table["trailing"] and isinstance(value, int):
            sliced[name] = sum(layer >= total - value for layer in kept)
        elif name in table["by_root_of_depth"] and isinstance(value, (int, float)):
            sliced[name] = value * math.sqrt(len(kept) / total)
        elif name in table["last"] and isinstance(value, int) and value >= 0:
            sliced[name] = sum(layer <= value for layer in kept) - 1
        elif name in table["by_index"] and isinstance(value, dict):
            sliced[name] = {kept.index(int(layer)): one for layer, one in value.items() if int(layer) in kept}
        elif name in table["counted_from_one"] and isinstance(value, dict):
            lists = [entry for entry in table["counted_from_one"][name] if entry in value]
            counted = {
                entry: [kept.index(layer - 1) + 1 for layer in value[entry] if layer - 1 in kept] for entry in lists
            }
            sliced[name] = value | counted
        elif name in table["repeated"].get(fields.get("model_type"), ()):
            sliced[name] = [value[layer % len(value)] for layer in kept]
        elif _has_one_per_layer(value, total) and name not in table["not_per_layer"]:
            sliced[name] = [value[layer] for layer in kept]
    return sliced | _sparse_step(fields, kept)


def _sparse_step(fields: Mapping[str, Any], kept: Sequence[int]) -> dict[str, object]:
    """Rewrite "every n-th layer is sparse" (qwen2_moe and similar) as an explicit list of the dense layers."""
    step = fields.get("decoder_sparse_step")
    if not isinstance(step, int) or step <= 1:
        return {}
    dense = set(fields.get("mlp_only_layers") or ())
    listed = [new for new, old in enumerate(kept) if old in dense or (old + 1) % step]
    return {"decoder_sparse_step": 1, "mlp_only_layers": listed}


def layer_of_tensor(name: str) -> int | None:
    """The decoder layer that a checkpoint's tensor belongs to; None if it belongs to none."""
    place = within_layer(name)
    return place[0] if place else None


def within_layer(name: str) -> tuple[int, str] | None:
    """The decoder layer that a checkpoint's tensor belongs to, and the tensor's name within it; None if to none."""
    match = _layer_name(name)
    return (int(match[2]), name[match.end() :].removeprefix(".")) if match else None


def _layer_name(name: str) -> re.Match[str] | None:
    matches = (re.match(pattern, name) for pattern in _table()["tensor_names"])
    return next((match for match in matches if match), None)


def packed_by_layer(name: str) -> tuple[int, str] | None:
    """For a tensor with the parts of all layers: their dimension, and the name of a tensor as long as one part."""
    for packed, dimension in _table()["packed_by_layer"].items():
        if name.endswith(packed):
            return dimension, name.removesuffix(packed) + _table()["length_of_part"]
    return None


class Block(NamedTuple):
    """A block: its kind (`attention` or `mlp`), and the index of its layer."""

    kind: str
    layer: int


def block_of_tensor(name: str) -> Block | None:
    """The block that a checkpoint's tensor belongs to, if any."""
    place = within_layer(name)
    block = place[1].partition(".")[0] if place else ""
    kind = next((kind for kind, names in _table()["blocks"].items() if block in names), None)
    return None if place is None or kind is None else Block(kind, place[0])


def is_block_output(name: str) -> bool:
    """Whether a tensor of a block is its last projection: with zeros there, the block adds nothing."""
    place = within_layer(name)
    return bool(place and re.fullmatch(_table()["block_outputs"], place[1].partition(".")[2]))


def returns_scores(block: str) -> bool:
    """Whether a feed-forward block of a class also returns its router's scores."""
    return block in _table()["blocks_with_scores"]


def is_merged(name: str) -> bool:
    """Whether LaCo merges this tensor: true for the linear maps of attention and feed-forward network."""
    place = within_layer(name)
    return bool(place and re.fullmatch(_table()["merged"], place[1]))


def renamed_tensor(name: str, kept: Sequence[int]) -> str | None:
    """The name of a checkpoint's tensor in the pruned model; None if its layer is dropped.

    Layers beyond the last decoder layer (multi-token prediction heads) are dropped too.
    """
    match = _layer_name(name)
    if match is None:
        return name
    layer = int(match[2])
    return f"{match[1]}{kept.index(layer)}{name[match.end() :]}" if layer in kept else None

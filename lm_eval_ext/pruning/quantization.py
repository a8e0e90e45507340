"""Quantized checkpoints with fewer layers: the fields of `quantization_config` that name modules follow their layers.

Each entry is matched against the modules of the base model, as its format does. If it matches the same modules of every
layer, it stays (`lm_head`, `Linear`, `re:.*mlp.gate$`); otherwise it becomes the new names of the kept modules that it
matches. A layer's number within a regular expression cannot be replaced in general.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import layer_of_tensor, renamed_tensor, text_config

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

Fields = Mapping[str, object]  # of a `quantization_config`, whose form depends on the format
Matches = Callable[[str, str], bool]  # whether an entry means a module

# Methods whose tensors don't each belong to one layer, or whose loaders don't take a state dict.
REFUSED = {
    "aqlm": "its codebooks were not tried with fewer layers",
    "eetq": "its loader was not tried with fewer layers",
    "gguf": "a GGUF file is read whole; convert it to safetensors first (load it and call save_pretrained)",
    "higgs": "its loader was not tried with fewer layers",
    "hqq": "transformers cannot load saved HQQ checkpoints",
    "quark": "its loader was not tried with fewer layers",
    "spqr": "its loader was not tried with fewer layers",
    "torchao": "transformers reads its metadata from the file and not from a state dict; quantize it while loading",
    "vptq": "its codebooks were not tried with fewer layers",
}
# Fields with a list of module names or patterns, and fields with a dictionary whose keys are such.
_LISTS = (
    "ignore", "modules_to_not_convert", "ignored_layers", "modules_to_convert", "llm_int8_skip_modules", "skip_modules",
    "exclude_modules", "exclude", "targets",
)  # fmt: skip
_KEYS = ("dynamic", "extra_config", "layer_quant_config", "quantized_layers", "module_fqn_to_config", "dynamic_config")
_NAMES_A_LAYER = re.compile(r"(?:layers|layer|blocks|h)\\?\.(?:[\[(]?\\?d|[\[(]?\d)")


def quantization_of(config: PreTrainedConfig) -> dict[str, object] | None:
    """The `quantization_config` of a checkpoint as a dictionary; None if it is not quantized."""
    found = getattr(config, "quantization_config", None) or getattr(text_config(config), "quantization_config", None)
    if found is None or isinstance(found, dict):
        return found or None
    return dict(found.to_dict())


def method_of(fields: Fields) -> str:
    """Name of the quantization method."""
    if fields.get("quant_method"):
        return str(getattr(fields["quant_method"], "value", fields["quant_method"]))
    return "bitsandbytes" if fields.get("load_in_4bit") or fields.get("load_in_8bit") else "unknown"


def bytes_of(model: torch.nn.Module) -> int:
    """Bytes of a loaded model's weights, with their scales."""
    scales = sum(_bytes_of_scales(parameter) for parameter in model.parameters())
    return scales + sum(tensor.nbytes for _, tensor in plain_tensors(dict(model.named_parameters())))


def plain_tensors(tensors: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors by name, and in place of a packed one (of torchao or quanto) its parts, which are ordinary."""
    for name, tensor in sorted(tensors.items()):
        flatten = getattr(tensor, "__tensor_flatten__", None)
        if flatten is None:
            yield name, tensor
        else:
            yield from plain_tensors({f"{name}.{part}": getattr(tensor, part) for part in flatten()[0]})


def _bytes_of_scales(parameter: torch.Tensor) -> int:
    """Bytes of what bitsandbytes keeps beside a parameter."""
    state = getattr(parameter, "quant_state", None)
    nested = getattr(state, "state2", None)
    kept = [getattr(state, "absmax", None), getattr(nested, "absmax", None), getattr(parameter, "SCB", None)]
    return sum(tensor.nbytes for tensor in kept if tensor is not None)


def check_quantization(config: PreTrainedConfig, *, changes: bool = False) -> None:
    """Refuse quantized checkpoints whose layers cannot be dropped.

    Args:
        config: of the checkpoint.
        changes: whether weights are to be merged, or multiplied by a map, too.

    Raises:
        ArchitectureError: with the reason.
    """
    fields = quantization_of(config)
    if fields is None:
        return
    method = method_of(fields)
    reason = REFUSED.get(method)
    if method == "gptq" and fields.get("dynamic"):
        reason = "transformers cannot load GPTQ with different settings by module; use pruned-vllm"
    if changes:
        reason = "its weights are packed, and only weights that are not can be merged or mapped"
    if reason:
        raise ArchitectureError(f"layers of a checkpoint quantized by {method} cannot be dropped: {reason}")


def sliced_quantization(
    fields: Fields, tensors: Iterable[str], kept: Sequence[int], *, nested: bool = False
) -> dict[str, object]:
    """A `quantization_config` for the model with only the layers `kept`.

    Args:
        fields: of the base model.
        tensors: names of all tensors of the base model.
        kept: ascending indices of the layers to keep.
        nested: whether the text model is part of a multimodal one, whose modules have other names than its tensors.

    Raises:
        ArchitectureError: an unknown field names a layer, or names of layers cannot be told.
    """
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    return _Slicing(method_of(fields), modules, kept, nested).mapping(fields)


def for_vllm(fields: Fields, tensors: Collection[str]) -> dict[str, object]:
    """Fields of a sliced `quantization_config`, written so that vLLM does not look into the base checkpoint for them.

    Args:
        fields: as `sliced_quantization` returns them.
        tensors: names of all tensors of the pruned model.
    """
    method, modules = method_of(fields), sorted({name.rpartition(".")[0] for name in tensors})
    packed = {name.rpartition(".")[0] for name in tensors if name.endswith(".qweight")}
    if method == "gptq":
        return {**fields, "modules_in_block_to_quantize": sorted(packed)}
    if method == "awq" and not fields.get("modules_to_not_convert"):
        return {**fields, "modules_to_not_convert": [name for name in modules if name not in packed] or ["lm_head"]}
    return dict(fields)


class _Slicing:
    def __init__(self, method: str, modules: Collection[str], kept: Sequence[int], nested: bool) -> None:
        self.modules, self.kept, self.nested = modules, kept, nested
        self.matches = _MATCHERS.get(method, _as_regex_or_suffix)
        self.places = _by_place(modules)

    def mapping(self, fields: Fields) -> dict[str, object]:
        for name in fields:
            self.check("a dictionary", name)
        return {name: self.value(str(name), value) for name, value in fields.items()}

    def value(self, name: str, value: object) -> object:
        if name in _LISTS and isinstance(value, (list, tuple)):
            return [new for entry in value for new in self.entry(str(entry))]
        if name in _KEYS and isinstance(value, Mapping):
            return {new: one for entry, one in value.items() for new in self.entry(str(entry))}
        if name == "config_groups" and isinstance(value, Mapping):
            groups = {key: self.mapping(group) for key, group in self.disjoint(value).items()}
            return {key: group for key, group in groups.items() if group.get("targets") != []}
        if isinstance(value, Mapping):
            return self.mapping(value)
        self.check(name, value)
        return value

    def check(self, name: str, value: object) -> None:
        for one in _strings(value):
            if _NAMES_A_LAYER.search(one):
                raise ArchitectureError(
                    f"layers of this checkpoint cannot be dropped: the field {name!r} of its quantization_config names "
                    f"a layer ({one!r}), and how is not known; declare it in lm_eval_ext/pruning/quantization.py"
                )

    def disjoint(self, groups: Mapping[str, Fields]) -> dict[str, Fields]:
        """Groups of compressed-tensors whose targets are names of modules, if any of them differs by layer.

        A module belongs to the group with its exact name, else to that with the first matching regular expression, else
        to that with its class. Names in place of some expressions would win over the others, so all are resolved.
        """
        targets = {key: [str(one) for one in _listed(group.get("targets"))] for key, group in groups.items()}
        if all(self.entry(one) == [one] for some in targets.values() for one in some):
            return dict(groups)
        owners: dict[str, str] = {}
        for module in self.modules:
            found = [(one.startswith("re:"), one, key) for key, some in targets.items() for one in some
                     if self.matches(one, module)]  # fmt: skip
            if found:
                owners[module] = min(found)[2]
        classes = {key: [one for one in some if not self.hits(one)] for key, some in targets.items()}
        owned = {key: [module for module, owner in owners.items() if owner == key] for key in groups}
        return {key: {**group, "targets": [*classes[key], *owned[key]]} for key, group in groups.items()}

    def hits(self, pattern: str) -> set[str]:
        return {module for module in self.modules if self.matches(pattern, module)}

    def entry(self, entry: str) -> list[str]:
        """The entry, or the names of the kept modules that it matches."""
        sign, pattern = _sign(entry)
        hits = self.hits(pattern)
        if not _NAMES_A_LAYER.search(entry) and self.same_everywhere(hits):
            return [entry]
        if self.nested and (not hits or any(layer_of_tensor(f"{one}.weight") is not None for one in hits)):
            raise ArchitectureError(
                f"layers of this multimodal checkpoint cannot be dropped: its quantization_config names a layer "
                f"({entry!r}), and the modules of the loaded model may have other names than the checkpoint's tensors"
            )
        named = (renamed_tensor(f"{module}.weight", self.kept) for module in sorted(hits))
        return [self.written(sign, name.removesuffix(".weight")) for name in named if name is not None]

    def same_everywhere(self, hits: set[str]) -> bool:
        return all(hits.isdisjoint(places) or places <= hits for places in self.places)

    def written(self, sign: str, module: str) -> str:
        return f"{sign}{re.escape(module)}$" if sign or self.matches is _as_regex else module


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, (list, tuple)) else ()


def _strings(value: object) -> Iterator[str]:
    """The strings in a field's value, also in lists and dictionaries within."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _strings(one)
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _strings(pair)


def _by_place(modules: Collection[str]) -> list[frozenset[str]]:
    """The modules at the same place of each layer, such as all `self_attn.q_proj`."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        layer = layer_of_tensor(f"{module}.weight")
        if layer is not None:
            found[re.sub(rf"\.{layer}(?=\.|$)", ".*", module, count=1)].add(module)
    return [frozenset(places) for places in found.values()]


def _sign(entry: str) -> tuple[str, str]:
    """GPTQModel's `+:` or `-:` before a regular expression, and the rest."""
    return (entry[:2], entry[2:]) if entry[:2] in ("+:", "-:") else ("", entry)


def _as_regex_or_suffix(entry: str, module: str) -> bool:
    """transformers' rule: a regular expression up to the end of a module's name, or a suffix."""
    try:
        return bool(re.match(rf"(?:{entry})(?:(?<=\.)|(?=\.|$))", module)) or module.endswith(entry)
    except re.error:
        return module.endswith(entry)


def _as_compressed_tensors(entry: str, module: str) -> bool:
    """compressed-tensors' rule: `re:` and a regular expression, or a full name, also of a parent."""
    if entry.startswith("re:"):
        return _begins(entry[3:], module)
    return module == entry or module.startswith(f"{entry}.")


def _as_wildcard(entry: str, module: str) -> bool:
    """ModelOpt's rule: a wildcard, also of a parent."""
    return fnmatch.fnmatchcase(module, entry) or fnmatch.fnmatchcase(module, f"{entry}.*")


def _as_regex(entry: str, module: str) -> bool:
    """GPTQModel's rule: a regular expression from the start."""
    return _begins(entry, module)


def _begins(pattern: str, module: str) -> bool:
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise ArchitectureError(
            f"layers of this checkpoint cannot be dropped: {pattern!r} in its quantization_config is no regular "
            f"expression ({error})"
        ) from error


_MATCHERS: dict[str, Matches] = {
    "compressed-tensors": _as_compressed_tensors,
    "modelopt": _as_wildcard,
    "gptq": _as_regex,
}

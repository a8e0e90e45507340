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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ArchitectureError, ArgumentError, TTSError
from lm_eval_ext.pruning.architecture import layer_of_tensor, text_config
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin


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
    return sum(bytes_by_parameter(model).values())


def bytes_by_parameter(model: torch.nn.Module) -> dict[str, int]:
    """The same for each of its parameters."""
    return {
        name: _bytes_of_scales(parameter) + sum(tensor.nbytes for _, tensor in plain_tensors({name: parameter}))
        for name, parameter in model.named_parameters()
    }


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
        changes: whether weights are to be merged, multiplied by a map, or set to zero, too.

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
        reason = "its weights are packed, and only weights that are not can be merged, mapped or set to zero"
    if reason:
        raise ArchitectureError(f"layers of a checkpoint quantized by {method} cannot be dropped: {reason}")


def sliced_quantization(
    fields: Fields,
    tensors: Iterable[str],
    kept: Sequence[int],
    *,
    nested: bool = False,
    changes: Changes = NO_CHANGES,
) -> dict[str, object]:
    """A `quantization_config` for the model with only the layers `kept`.

    Args:
        fields: of the base model.
        tensors: names of all tensors of the base model.
        kept: ascending indices of the layers to keep.
        nested: whether the text model is part of a multimodal one, whose modules have other names than its tensors.
        changes: which experts are kept.

    Raises:
        ArchitectureError: an unknown field names a layer, or names of layers cannot be told.
    """
    modules = sorted({name.rpartition(".")[0] for name in tensors})
    return _Slicing(method_of(fields), modules, kept, nested, changes).mapping(fields)


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
    def __init__(
        self, method: str, modules: Collection[str], kept: Sequence[int], nested: bool, changes: Changes
    ) -> None:
        self.modules, self.kept, self.nested, self.changes = modules, kept, nested, changes
        self.matches = _MATCHERS.get(method, _as_regex_or_suffix)
        self.places = _by_place(modules, experts=changes.experts is not None)

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
        named = (self.changes.renamed(f"{module}.weight", self.kept) for module in sorted(hits))
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


def _by_place(modules: Collection[str], *, experts: bool) -> list[frozenset[str]]:
    """The modules at the same place of each layer, such as all `self_attn.q_proj`, and if asked of each expert."""
    found: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        layer = layer_of_tensor(f"{module}.weight")
        if layer is not None:
            place = re.sub(rf"\.{layer}(?=\.|$)", ".*", module, count=1)
            found[re.sub(r"\bexperts\.\d+", "experts.*", place) if experts else place].add(module)
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
        return _as_regex(entry[3:], module)
    return module == entry or module.startswith(f"{entry}.")


def _as_wildcard(entry: str, module: str) -> bool:
    """ModelOpt's rule: a wildcard, also of a parent."""
    return fnmatch.fnmatchcase(module, entry) or fnmatch.fnmatchcase(module, f"{entry}.*")


def _as_regex(pattern: str, module: str) -> bool:
    """GPTQModel's rule: a regular expression from the start."""
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


WEIGHTS = {
    "bitsandbytes": ("nf4", "fp4", "int8"),
    "torchao": ("int8", "int4", "float8"),
    "quanto": ("int8", "int4", "int2", "float8"),
}
FOUR_BITS = ("bitsandbytes:nf4", "bitsandbytes:fp4")
_BLOCK = 64  # weights with a scale of their own in bitsandbytes' 4 bits
_PACKAGES = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "quanto": "optimum-quanto"}


class Quantization(Declared):
    """How weights are quantized while they are loaded."""

    method: Annotated[
        Literal["bitsandbytes", "torchao", "quanto"], Field(description="the library that quantizes them")
    ]
    weights: Annotated[str, Field(description="their type: `nf4`, `fp4`, `int8`, `int4`, `int2` or `float8`")]

    @model_validator(mode="after")
    def _fits(self) -> Quantization:
        allowed = WEIGHTS[self.method]
        if self.weights not in allowed:
            raise ValueError(f"weights={self.weights!r}: {self.method} has {', '.join(allowed)}")
        return self

    def __str__(self) -> str:
        return f"{self.method}:{self.weights}"

    def config(self, dtype: torch.dtype | None) -> QuantizationConfigMixin:
        """The configuration for `from_pretrained`.

        Args:
            dtype: in which the model computes; None for bfloat16.

        Raises:
            ArgumentError: the library is not installed.
        """
        try:
            return _CONFIGS[self.method](self.weights, dtype)
        except ImportError as error:
            package = _PACKAGES[self.method]
            raise ArgumentError(f"quantize={self}: needs {package} ({error}); pip install {package}") from error


def parse_quantize(value: object) -> Quantization | None:
    """The quantization that `METHOD:WEIGHTS` or a mapping names; None for None.

    Raises:
        ArgumentError: the method or the type of the weights is unknown.

    >>> str(parse_quantize("bitsandbytes:nf4"))
    'bitsandbytes:nf4'
    """
    if value is None or isinstance(value, Quantization):
        return value
    method, _, weights = str(value).partition(":")
    given = dict(value) if isinstance(value, Mapping) else {"method": method, "weights": weights}
    try:
        return Quantization.model_validate(given)
    except ValidationError as error:
        known = ", ".join(f"{method}:{one}" for method, some in WEIGHTS.items() for one in some)
        raise ArgumentError(f"expected METHOD:WEIGHTS, one of: {known}") from error


def bitsandbytes_config(given: Mapping[str, object], *, drops: bool) -> QuantizationConfigMixin | None:
    """The configuration that bitsandbytes' own arguments ask for; None if they ask for none.

    Args:
        given: the arguments, such as `load_in_4bit`.
        drops: whether layers are dropped.

    Raises:
        ArgumentError: they contradict each other, or name modules of layers whose numbers change.
    """
    from transformers import BitsAndBytesConfig

    chosen = [name for name in ("load_in_4bit", "load_in_8bit") if given.get(name)]
    if not chosen:
        used = [name for name, value in given.items() if value]
        if used:
            raise ArgumentError(f"{used[0]} is only used with load_in_4bit=True or load_in_8bit=True; give one")
        return None
    if len(chosen) > 1:
        raise ArgumentError("load_in_4bit and load_in_8bit contradict each other; give one")
    skipped = given.get("llm_int8_skip_modules")
    names = [skipped] if isinstance(skipped, str) else skipped
    if drops and isinstance(names, list) and any(layer_of_tensor(f"{name}.weight") is not None for name in names):
        raise ArgumentError(
            f"llm_int8_skip_modules={skipped}: modules cannot be named by layer if layers are dropped, because their "
            "numbers change"
        )
    return BitsAndBytesConfig(**{**given, **({"llm_int8_skip_modules": names} if names else {})})


@contextmanager
def loading_explained(quantize: object | None) -> Iterator[None]:
    """Say in one line what is missing for a quantized checkpoint, or why weights cannot be quantized.

    Args:
        quantize: how weights are quantized while they are loaded within the context, if they are.
    """
    try:
        yield
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ArgumentError(f"the model needs a package that is not installed: {reason}") from error
    except (RuntimeError, ValueError) as error:
        if quantize is None or isinstance(error, TTSError):
            raise
        reason = " ".join(str(error).split())[:300]
        raise ArgumentError(f"quantize={quantize}: cannot be done on this machine with this model: {reason}") from error


def check_packed(model: PreTrainedModel, quantize: object) -> None:
    """Refuse a model of which no weight was quantized, as where all maps are narrower than a group."""
    if not any(hasattr(one, "__tensor_flatten__") or not one.is_floating_point() for one in model.parameters()):
        raise ArgumentError(f"quantize={quantize}: no weight of this model can be quantized so; use another method")


def check_on_load(config: PreTrainedConfig, *, four_bits: bool) -> None:
    """Refuse what cannot be quantized on load: packed weights, and on a CPU maps too narrow for bitsandbytes.

    Args:
        config: of the checkpoint.
        four_bits: whether bitsandbytes is to pack them in 4 bits.

    Raises:
        ArgumentError: with the reason.
    """
    import torch

    already = quantization_of(config)
    if already is not None:
        raise ArgumentError(f"the checkpoint is quantized already, by {method_of(already)}; leave that out")
    text = text_config(config)
    widths = [getattr(text, name, None) or _BLOCK for name in ("hidden_size", "intermediate_size")]
    if four_bits and not torch.cuda.is_available() and any(width % _BLOCK for width in widths):
        raise ArgumentError(
            f"bitsandbytes packs 4 bits on a CPU only in maps whose width is a multiple of {_BLOCK}, not {widths}; use "
            "quanto:int4 or a GPU"
        )


def _bitsandbytes(weights: str, dtype: torch.dtype | None) -> QuantizationConfigMixin:
    import bitsandbytes  # noqa: F401  # fails now, not after the weights were downloaded
    import torch
    from transformers import BitsAndBytesConfig

    if weights == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=weights, bnb_4bit_compute_dtype=dtype or torch.bfloat16
    )


def _torchao(weights: str, dtype: torch.dtype | None) -> QuantizationConfigMixin:
    import torchao.quantization as torchao
    from transformers import TorchAoConfig

    named = {"int8": "Int8WeightOnlyConfig", "int4": "Int4WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}
    return TorchAoConfig(getattr(torchao, named[weights])())


def _quanto(weights: str, dtype: torch.dtype | None) -> QuantizationConfigMixin:
    import optimum.quanto  # noqa: F401  # fails now, not after the weights were downloaded
    from transformers import QuantoConfig

    return QuantoConfig(weights=weights)


_CONFIGS = {"bitsandbytes": _bitsandbytes, "torchao": _torchao, "quanto": _quanto}

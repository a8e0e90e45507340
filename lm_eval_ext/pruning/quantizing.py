"""Quantizing a model while it is loaded, as far as transformers does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lm_eval_ext.errors import ArgumentError, TTSError
from lm_eval_ext.pruning.architecture import layer_of_tensor, text_config
from lm_eval_ext.pruning.quantization import method_of, quantization_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin

WEIGHTS = {
    "bitsandbytes": ("nf4", "fp4", "int8"),
    "torchao": ("int8", "int4", "float8"),
    "quanto": ("int8", "int4", "int2", "float8"),
}
FOUR_BITS = ("bitsandbytes:nf4", "bitsandbytes:fp4")
_BLOCK = 64  # weights with a scale of their own in bitsandbytes' 4 bits
_PACKAGES = {"bitsandbytes": "bitsandbytes", "torchao": "torchao", "quanto": "optimum-quanto"}


class Quantization(BaseModel):
    """How weights are quantized while they are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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

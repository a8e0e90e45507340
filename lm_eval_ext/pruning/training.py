"""Settings of further training, and the memory it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.architecture import auto_class

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_OPTIMIZER_BYTES = (
    16  # of a trained number: weight, gradient and AdamW's two moments, in float32; besides a copy of the
)
# weight in the computation's precision, if that is another
_KEPT = 2  # of a layer's inputs, for each token: its own and a copy in the computation's precision
_RECOMPUTED = 8  # of the largest width, for each token: what one layer's backward pass holds
_OF_LOGITS = 3  # for each token: logits, their float32 copy, and their gradient

Precision = Literal["float32", "bfloat16"]


class Training(BaseModel):
    """How a pruned model is trained further.

    Either `steps` or `epochs` says how long. A step uses `batch_size` texts, `micro_batch_size` of them at a time.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Annotated[str, Field(description="source of the texts, as for `prune --calibration`")]
    lora: Annotated[bool, Field(description="train an adapter instead of all weights")] = False
    rank: Annotated[int, Field(gt=0, description="of the adapter")] = 16
    alpha: Annotated[int, Field(gt=0, description="of the adapter")] = 32
    samples: Annotated[int, Field(gt=0, description="most texts")] = 1000
    steps: Annotated[int | None, Field(gt=0, description="optimizer steps")] = None
    epochs: Annotated[float | None, Field(gt=0, description="passes over the texts")] = None
    batch_size: Annotated[int, Field(gt=0, description="texts of a step")] = 8
    micro_batch_size: Annotated[int, Field(gt=0, description="texts in memory at once")] = 1
    learning_rate: Annotated[float | None, Field(gt=0, description="AdamW's, decaying by a cosine")] = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the steps with a growing rate")] = 0.05
    max_tokens: Annotated[int, Field(gt=1, description="most tokens of a text")] = 2048
    precision: Annotated[Precision | None, Field(description="of the computation; the trained weights are float32")] = (
        None
    )
    seed: int = 0

    @property
    def rate(self) -> float:
        """The learning rate: ten times as high for an adapter, unless it was given."""
        return self.learning_rate or (2e-4 if self.lora else 1e-5)

    @property
    def accumulation(self) -> int:
        """How many micro-batches make a step."""
        return self.batch_size // self.micro_batch_size

    def total_steps(self, texts: int) -> int:
        """Number of optimizer steps on so many texts."""
        return self.steps or math.ceil((self.epochs or 1.0) * math.ceil(texts / self.batch_size))


# By name, as papers have them. s1: simplescaling's recipe as arXiv 2510.22228 uses it on pruned models.
LIKE: dict[str, dict[str, object]] = {
    "s1": {
        "data": "s1k-chat", "samples": 1000, "rank": 16, "alpha": 32, "epochs": 5.0, "learning_rate": 1e-5,
        "weight_decay": 1e-4, "batch_size": 16, "max_tokens": 32_768,
    },
}  # fmt: skip
_LENGTH = 100  # steps, unless steps or epochs are given


def training(like: str | None = None, **given: object) -> Training:
    """The settings of a paper, or ours, with those that are given in their place.

    Args:
        like: name of a paper's settings, one of `LIKE`.
        given: settings; None leaves one as it is.

    Raises:
        ArgumentError: a setting is missing, unknown or invalid.

    >>> training("s1", lora=True, epochs=1).rate
    1e-05
    """
    if like is not None and like not in LIKE:
        raise ArgumentError(f"like={like}: expected one of: {', '.join(LIKE)}")
    known = {**(LIKE[like] if like else {}), **{name: value for name, value in given.items() if value is not None}}
    if given.get("steps") is not None:
        if given.get("epochs") is not None:
            raise ArgumentError("steps and epochs contradict each other; give one of them")
        known.pop("epochs", None)
    if known.get("steps") is None and known.get("epochs") is None:
        known["steps"] = _LENGTH
    if "data" not in known:
        raise ArgumentError("data is missing; give the training texts, such as s1k or run:FOLDER, or like=s1")
    try:
        found = Training.model_validate(known)
    except ValidationError as error:
        fault = error.errors()[0]
        raise ArgumentError(f"{fault['loc'][0]}={fault['input']!r}: {fault['msg']}") from error
    if found.batch_size % found.micro_batch_size:
        raise ArgumentError(
            f"batch_size={found.batch_size}: is not a multiple of micro_batch_size={found.micro_batch_size}"
        )
    return found


@dataclass(frozen=True)
class Memory:
    """An estimate of the memory that training takes, in bytes.

    Attributes:
        weights: of frozen weights.
        trained: of trained weights, with gradients and optimizer.
        activations: of one micro-batch of the longest texts, where each layer's are computed again.
    """

    weights: int
    trained: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.trained + self.activations

    def __str__(self) -> str:
        parts = {"frozen weights": self.weights, "trained weights": self.trained, "activations": self.activations}
        said = ", ".join(f"{name} {_gigabytes(size)}" for name, size in parts.items() if size)
        return f"{_gigabytes(self.total)} ({said})"

    def check(self, available: int) -> None:
        """Refuse training that does not fit; raises ArgumentError."""
        if self.total > available:
            raise ArgumentError(
                f"training takes about {self}, but {_gigabytes(available)} are free; use a smaller max_tokens or "
                "micro_batch_size, lora, or more memory"
            )


def estimated(settings: Training, config: PreTrainedConfig, tokens: int, width: int, frozen_width: int) -> Memory:
    """Estimate the memory for a model.

    Args:
        settings: of the training.
        config: of the pruned model.
        tokens: of the longest text.
        width: bytes of a number in the computation.
        frozen_width: bytes of a number of the frozen weights.
    """
    import torch

    with torch.device("meta"):
        model = auto_class(config).from_config(config)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    maps = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    adapter = settings.rank * sum(one.in_features + one.out_features for one in maps)
    widest = max(one.out_features for one in maps)
    vocabulary = head.weight.shape[0]
    text = config.get_text_config()
    kept = _KEPT * text.hidden_size * text.num_hidden_layers * width
    each = kept + _RECOMPUTED * widest * width + _OF_LOGITS * vocabulary * 4
    copied = width if width < 4 else 0  # of a trained weight, in the computation's precision
    return Memory(
        weights=numbers * frozen_width if settings.lora else 0,
        trained=(_OPTIMIZER_BYTES + copied) * (adapter if settings.lora else numbers),
        activations=settings.micro_batch_size * tokens * each,
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.3f} GB"

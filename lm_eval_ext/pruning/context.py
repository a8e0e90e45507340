"""The base model that a pruning method works on, loaded when first needed, with its calibration texts."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.architecture import auto_class, check_supported, depth, takes_padding
from lm_eval_ext.pruning.calibration import (
    Batches,
    Calibration,
    Exchange,
    ReplyBatches,
    TokenRow,
    reply_batches,
    token_batches,
    token_rows,
    with_replies,
)
from lm_eval_ext.pruning.experts import number_of_experts
from lm_eval_ext.pruning.layers import decoder_layers
from lm_eval_ext.pruning.quantization import quantization_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger("lm_eval.tts")


@dataclass(eq=False)
class ScoreCache:
    """Cache of scores that take long to compute, in a file of JSON lines, so that a restarted run can reuse them."""

    path: Path | None = None

    @cached_property
    def _values(self) -> dict[str, float]:
        """What is kept, read when it is needed: then another process may have added to it."""
        found: dict[str, float] = {}
        if self.path is not None and self.path.is_file():
            for line in self.path.read_text("utf-8", "replace").splitlines():
                with suppress(ValueError, TypeError, RecursionError):  # of a killed run, or a damaged file
                    key, value = json.loads(line)
                    found[str(key)] = float(value)
        return found

    def value(self, key: str, found: Callable[[], float]) -> float:
        """The score stored under `key`; `found` computes it if it is missing."""
        if key not in self._values:
            self._values[key] = found()
            self._keep(key)
        return self._values[key]

    def _keep(self, key: str) -> None:
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps([key, self._values[key]])}")
        except OSError as error:
            logger.warning("scores are not kept for a restart (%s)", error)
            self.path = None


def _unpack(model: PreTrainedModel) -> None:
    """Let compressed-tensors unpack the weights, which it does when the whole model is first called, and only then."""
    import torch

    with torch.no_grad():
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)


@dataclass
class PruningContext:
    """A base model to be pruned.

    Attributes:
        pretrained: Hub name or folder.
        config: its config.
        calibration_texts: returns the calibration texts; only called for methods that use them.
        revision: branch, tag or commit.
        dtype: as in `from_pretrained`.
        device_map: as in `from_pretrained`; `auto` spreads a model over several GPUs.
        batch_size: number of texts per batch; a model that takes no padding gets one at a time.
        max_tokens: number of tokens used from each text.
        trust_remote_code: run the model code that the repository ships.
        score_cache: cache for scores that take long to compute.
        barriers: how many of the first and of the last layers no method removes.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # for pydantic 2.10

    pretrained: str
    config: Any  # pydantic evaluates these annotations at run time, when transformers is not imported
    calibration_texts: Callable[[], Calibration]
    revision: str = "main"
    dtype: str = "auto"
    device_map: str | None = None
    batch_size: int = 1
    max_tokens: int = 512
    trust_remote_code: bool = False
    score_cache: ScoreCache = field(default_factory=ScoreCache)
    barriers: tuple[int, int] = (0, 0)

    @property
    def depth(self) -> int:
        """Number of layers of the base model."""
        return depth(self.config)

    @property
    def experts(self) -> int:
        """Number of routed experts of a layer; 0 if the model has none."""
        return number_of_experts(self.config)

    @property
    def removable(self) -> range:
        """The layers that a method may remove."""
        early, latter = self.barriers
        return range(early, self.depth - latter)

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration texts."""
        return self.calibration_texts()

    @property
    def token_ids(self) -> list[list[int]]:
        """What the model reads of the calibration texts, which depends on its tokenizer and chat template."""
        return [[row.start, *row.ids] for row in self._rows]

    @cached_property
    def model(self) -> PreTrainedModel:
        """The base model, in evaluation mode."""
        check_supported(self.config)
        check_dtype(self.dtype)
        model = auto_class(self.config).from_pretrained(
            self.pretrained, revision=self.revision, dtype=self.dtype, device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
        )  # fmt: skip
        if quantization_of(self.config) is not None:
            _unpack(model)
        return model.eval().requires_grad_(False)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base model's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(
            self.pretrained, revision=self.revision, trust_remote_code=self.trust_remote_code
        )

    @cached_property
    def layers(self) -> list[torch.nn.Module]:
        """The base model's decoder layers."""
        return decoder_layers(self.model)

    def release(self) -> None:
        """Free the model's memory; it is loaded again when it is needed."""
        import torch

        if "model" not in vars(self):
            return
        for name in ("model", "layers"):
            vars(self).pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def batches(self, size: int | None = None) -> Batches:
        """The calibration texts as token ids and attention mask, in batches of a size."""
        return token_batches(self._rows, size or self._texts_at_once, self._device)

    def replies(self) -> ReplyBatches:
        """The same with a mask of the replies, for calibration texts that are replies to prompts.

        Raises:
            ArgumentError: no text is, or none begins within `max_tokens`.
        """
        texts = tuple(text for text in self.calibration.texts if isinstance(text, Exchange))
        if not texts:
            raise ArgumentError(
                f"calibration={self.calibration.name}: contains no replies; give run:FOLDER, results of the base model "
                "that were saved with --log_samples"
            )
        rows = with_replies(token_rows(texts, self.tokenizer, self.max_tokens), self.max_tokens)
        return reply_batches(rows, self._texts_at_once, self._device)

    @property
    def _texts_at_once(self) -> int:
        return self.batch_size if takes_padding(self.config) else 1

    @property
    def _device(self) -> torch.device | str:
        """Where inputs go; "meta" means that the first weights are offloaded: accelerate then moves the inputs."""
        device = self.model.device
        return "cpu" if device.type == "meta" else device

    @cached_property
    def _rows(self) -> list[TokenRow]:
        return token_rows(self.calibration.texts, self.tokenizer, self.max_tokens)


def check_dtype(value: object, name: str = "dtype") -> None:
    """Refuse a type of weights that torch doesn't have.

    Args:
        value: a name such as `bfloat16` or `auto`, a `torch.dtype`, or None.
        name: of the argument that it was given for.

    Raises:
        ArgumentError: it is no type of floating point numbers.
    """
    import torch

    found = getattr(torch, value, None) if isinstance(value, str) else value
    if value is None or value == "auto" or (isinstance(found, torch.dtype) and found.is_floating_point):
        return
    raise ArgumentError(f"{name}={value}: give auto, float32, float16, bfloat16, or another float type of torch")

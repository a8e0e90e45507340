"""`--model pruned-hf`: lm-eval's HFLM, with layers dropped on load and thinking budgets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation import noise
from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.engines.hf.decoding import engine_for
from lm_eval_ext.harness.models.batching import affordable_batch_size
from lm_eval_ext.harness.models.pruned import PrunedLM, explain_unknown_argument
from lm_eval_ext.harness.patches import DefaultBatchSize
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.loading import adapter_depth, exact_config, fingerprint, load_pruned, parameter_count
from lm_eval_ext.pruning.recipe import kept_layers

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel


class PrunedHFLM(PrunedLM, HFLM):  # type: ignore[misc]  # lm-eval has no type information
    """A causal language model that is loaded without some of its layers.

    Takes all arguments of lm-eval's `hf`, and those of `PrunedLM`. By default, `pretrained` is the base of `recipe`.

    Raises:
        TTSError: an argument, recipe or checkpoint cannot be used.
    """

    NAME = "pruned-hf"
    sampler = noise.VERSION
    NOT_WITH_DROPPED_LAYERS: ClassVar[Mapping[str, str]] = {
        "delta": "delta weights are added by the names of the base model's layers",
        "autogptq": "its loader cannot drop layers; export the pruned model first",
        "gptqmodel": "its loader cannot drop layers; export the pruned model first",
        "gguf_file": "a GGUF file is read whole; convert it to safetensors first (load it and call save_pretrained)",
        "tp_plan": "tensor parallel loading reads checkpoints itself; use parallelize=True or device_map",
    }
    _config: PreTrainedConfig
    AUTO_MODEL_CLASS: object

    def __init__(
        self, pretrained: str | PreTrainedModel | None = None, *, revision: str | None = None, **kwargs: object
    ) -> None:
        pretrained, revision = self._take(pretrained, revision, kwargs)
        self._dense_config: PreTrainedConfig = None
        self._chooses_batch_size = isinstance(kwargs.get("batch_size"), (DefaultBatchSize, NoneType))
        # Without a device, lm-eval's command line falls back to the CPU, but its functions don't.
        if kwargs.get("device") is None and not torch.cuda.is_available():
            kwargs["device"] = "cpu"
        try:
            HFLM.__init__(self, pretrained=pretrained, revision=revision, **kwargs)
        except TypeError as error:
            explain_unknown_argument(error, type(self), HFLM)
        self._log_pruning()

    # Loading ----------------------------------------------------------------------------------------------

    def _get_config(self, *args: object, **kwargs: object) -> None:
        super()._get_config(*args, **kwargs)
        if self.recipe is not None:
            self._dense_config = self._config
            self._kept = kept_layers(self.recipe.drop, depth(self._config))
            self._config = exact_config(
                self._config, self._kept, self.arguments.trust_layer_fields, bool(kwargs.get("trust_remote_code"))
            )

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        if self._kept is None:
            super()._create_model(pretrained, **kwargs)
            return
        if kwargs.get("peft"):
            self._check_adapter(kwargs["peft"], kwargs.get("revision"))
        whole, self.AUTO_MODEL_CLASS = self.AUTO_MODEL_CLASS, self  # so that lm-eval calls our from_pretrained
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = whole

    def from_pretrained(self, pretrained: str, **options: Any) -> PreTrainedModel:
        """Stand-in for the `from_pretrained` of HFLM's Auto class: loads the model without the dropped layers."""
        for unused in ("gguf_file", "quantization_config"):
            if options.get(unused) is None:
                options.pop(unused, None)
        return load_pruned(
            pretrained,
            self._dense_config,
            self._kept or (),
            merged=self.recipe.merged if self.recipe else None,
            trust_layer_fields=self.arguments.trust_layer_fields,
            **options,
        )

    def _check_adapter(self, peft: str, revision: str | None) -> None:
        kept = len(self._kept or ())
        layers = adapter_depth(peft, revision)
        if layers is not None and layers > kept:
            raise ArgumentError(
                f"peft={peft}: the adapter has weights for {layers} layers, but the pruned model has {kept}; "
                "it was trained for another depth"
            )

    # Generation -------------------------------------------------------------------------------------------

    def decoding_engine(
        self, tokens: int, decode: Callable[[Sequence[int]], str], on_tokens: Callable[[int], None]
    ) -> Engine:
        """An engine for rows of up to `tokens` tokens."""
        return engine_for(self.model, self._decoding_batch_size(tokens), decode, on_tokens)

    def _decoding_batch_size(self, tokens: int) -> int:
        if self._chooses_batch_size or self.batch_size == "auto":
            return affordable_batch_size(self.model, tokens, int(self.max_batch_size or 64))
        return int(self.batch_size)

    def decoding_context(self) -> AbstractContextManager[object]:
        """Autocast, if mixed precision is enabled."""
        dtype = self.mixed_precision_dtype
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def generation_defaults(self) -> GenerationConfig:
        """The checkpoint's generation config."""
        return self.model.generation_config

    @property
    def versions(self) -> str:
        """Software versions that affect the decoded tokens."""
        return f"torch {torch.__version__}, transformers {transformers.__version__}"

    # Results ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def fingerprint(self) -> str:
        """Identifier that changes with the weights and the config."""
        return fingerprint(self.model)

    def _pretrained_name(self) -> str:
        return self.pretrained if isinstance(self.pretrained, str) else ""

    def _depth(self) -> int:
        return depth(self._dense_config or self.config)

    def _parameters(self) -> tuple[int, int]:
        loaded = int(self.model.num_parameters())
        return (self._dense_parameters if self.recipe else loaded), loaded

    @functools.cached_property
    def _dense_parameters(self) -> int:
        return parameter_count(self._dense_config)

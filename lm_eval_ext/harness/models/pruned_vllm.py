"""`--model pruned-vllm`: lm-eval's VLLM, with layers dropped on load and thinking budgets."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.engines.vllm import VLLMEngine
from lm_eval_ext.harness.effects import changed_fingerprint, changing
from lm_eval_ext.harness.models.pruned import ModelFacts, PrunedLM, explain_unknown_argument
from lm_eval_ext.pruning.architecture import depth, text_config
from lm_eval_ext.pruning.blocks import forget_left_out
from lm_eval_ext.pruning.lineage import check_fits
from lm_eval_ext.pruning.loading import checkpoint_fingerprint, sliced_by
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.sliced_model import parameter_count
from lm_eval_ext.pruning.verification import verdict_in_vllm
from lm_eval_ext.pruning.vllm_loader import engine_arguments

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig


try:
    import vllm
    from lm_eval.models.vllm_causallms import VLLM
except (ImportError, OSError) as error:  # OSError: a library is incompatible with the installed torch
    raise ArgumentError(
        f"--model pruned-vllm needs vLLM, which cannot be imported ({error}); pip install 'lm-eval-tts[vllm]' on a "
        "machine with a GPU, or use --model pruned-hf"
    ) from error

logger = logging.getLogger("lm_eval.tts")


class PrunedVLLM(PrunedLM, VLLM):  # type: ignore[misc]  # lm-eval has no type information
    """A causal language model in vLLM that is loaded without some of its layers.

    Takes all arguments of lm-eval's `vllm`, and those of `PrunedLM`. By default, `pretrained` is the base of `recipe`.
    vLLM's own thinking budget is not used, because its model runners behave differently at a budget.

    Raises:
        TTSError: an argument, recipe or checkpoint cannot be used.
    """

    NAME = "pruned-vllm"
    NOT_WITH_DROPPED_LAYERS: ClassVar[Mapping[str, str]] = {
        "load_format": "dropping layers uses a load format of its own",
        "hf_overrides": "dropping layers uses config overrides of its own",
        "lora_local_path": "only pruned-hf fits adapters to the layers that are kept",
    }

    def __init__(self, pretrained: str | None = None, *, revision: str | None = None, **kwargs: object) -> None:
        from transformers import AutoConfig

        self.pretrained, self.revision = self._take(pretrained, revision, kwargs)
        if self.quantization is not None:
            raise ArgumentError(f"quantize={self.quantization}: pruned-vllm quantizes by vLLM's argument quantization=")
        self._changing = changing(kwargs)
        trusted = bool(kwargs.get("trust_remote_code"))
        self._dense_config: PreTrainedConfig = AutoConfig.from_pretrained(
            self.pretrained, revision=self.revision, trust_remote_code=trusted
        )
        check_fits(self.recipe, str(self.pretrained), self._dense_config, self.arguments.base)
        if self.recipe is not None and self._drops:
            place, hub = str(self.pretrained), {"revision": self.revision}
            sliced = sliced_by(self.recipe, place, self._dense_config, hub, self.arguments.trust_layer_fields, trusted)
            self._kept, self._changes, self._sliced_config = sliced
            kwargs |= engine_arguments(place, self._dense_config, sliced, hub, trusted)
        kwargs.setdefault("enable_prefix_caching", True)  # so that an answer does not prefill its trace again
        if self.arguments.seed is not None:
            kwargs.setdefault("seed", self.arguments.seed)
        if self.replicas is not None:
            kwargs["data_parallel_size"] = 2  # any number above 1 keeps lm-eval's class from loading the model here
        try:
            VLLM.__init__(self, pretrained=self.pretrained, revision=self.revision, **kwargs)
        except TypeError as error:
            explain_unknown_argument(error, type(self), VLLM)
        self._use_chat_template()
        self._log_pruning()
        if self._kept is not None and self._verdict() != "exact":
            logger.warning("dropping layers of a %s model in vLLM: %s", self._kind(), self._verdict())

    def _kind(self) -> str:
        return str(text_config(self._dense_config).model_type)

    def _verdict(self) -> str:
        return verdict_in_vllm(self._kind())

    def get_model_info(self) -> dict[str, Any]:
        """As in the base class, and whether dropping layers of this model type in vLLM was tried."""
        info = super().get_model_info()
        if self._kept is not None:
            info["engine"]["verified"] = self._verdict()
        return info

    def gpus_of_replica(self, kwargs: Mapping[str, object]) -> int | None:
        """Number of GPUs that one replica needs; None for one, if there are any."""
        sizes = [int(str(kwargs.get(name, 1))) for name in ("tensor_parallel_size", "pipeline_parallel_size")]
        return math.prod(sizes) if math.prod(sizes) > 1 else None

    # Generation -------------------------------------------------------------------------------------------

    @property
    def sampler(self) -> int | None:  # type: ignore[override]  # a plain attribute elsewhere
        """None: vLLM samples with the seeds of requests; 0 if they have none, so that the journal keeps them apart."""
        return None if self.arguments.reproducible else 0

    @property
    def max_length(self) -> int:
        """The context length that vLLM uses, in tokens."""
        if self.replicas is None:
            return int(super().max_length)
        return int(self._max_length or self.replicas.identity.facts["max_length"])

    def decoding_engine(
        self,
        tokens: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None],
        on_replicas: Callable[[int, int], None] = lambda up, asked: None,
    ) -> Engine:
        """An engine on vLLM's scheduler, or on all replicas."""
        if self.replicas is not None:
            return self.replicas.decoding_engine(tokens, on_tokens, on_replicas)
        return VLLMEngine(self.model, decode, on_tokens, self.lora_request, self.arguments.reproducible)

    def decoding_context(self) -> AbstractContextManager[object]:
        """No context: vLLM handles precision itself."""
        return nullcontext()

    def generation_defaults(self) -> GenerationConfig | None:
        """The checkpoint's generation config; None if it has none."""
        from transformers import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self.pretrained, revision=self.revision)
        except OSError:
            return None

    # Results ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def facts(self) -> ModelFacts:
        """What the loaded model is; the weights are in vLLM's own processes, so their bytes are not known."""
        identity = None if self.replicas is None else self.replicas.identity
        config = self._sliced_config if self._kept else self._dense_config
        computed = copy.deepcopy(config)
        forget_left_out(computed)  # vLLM has these blocks, with zeros
        return ModelFacts(
            pretrained=str(self.pretrained),
            config=config,
            computed=computed,
            depth=depth(self._dense_config),
            parameters=(parameter_count(self._dense_config), parameter_count(computed)),
            element_bytes=self._element_bytes(),
            bytes=None,
            fingerprint=identity.fingerprint if identity else self._own_fingerprint(config),
            versions=identity.versions if identity else f"vllm {vllm.__version__}, {self.model_args['dtype']}",
            shared={"max_length": self.max_length},
        )

    def _own_fingerprint(self, config: PreTrainedConfig) -> str:
        kept = self._kept or tuple(range(depth(self._dense_config)))
        stored = checkpoint_fingerprint(self.pretrained, config, kept, self.revision, self._changes)
        return changed_fingerprint(stored, self._changing)

    def _method_on_load(self) -> str | None:
        """vLLM's own, by its argument `quantization`."""
        given = self._changing.get("quantization")
        return None if given is None or quantization_of(self._dense_config) is not None else str(given)

    def _element_bytes(self) -> int:
        import torch

        named = str(self.model_args["dtype"])
        dtype = getattr(torch, named, None) or getattr(self._dense_config, "dtype", None) or torch.bfloat16
        return int(torch.empty((), dtype=dtype).element_size())

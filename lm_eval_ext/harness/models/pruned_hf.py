"""`--model pruned-hf`: lm-eval's HFLM, with layers dropped on load and thinking budgets."""

from __future__ import annotations

import functools
import json
import logging
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import psutil
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import resolve_max_length
from pydantic import BaseModel
from safetensors import SafetensorError

from lm_eval_ext.errors import ArchitectureError, ArgumentError, CheckpointError, EngineError, TTSError, reason_of
from lm_eval_ext.generation import sampling
from lm_eval_ext.generation.engine import Engine, LocalEngine
from lm_eval_ext.generation.engines.hf import HFEngine, SingleRowEngine, engine_for, engine_types
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.generation.sampling import next_tokens
from lm_eval_ext.harness.effects import changed_fingerprint, unseen
from lm_eval_ext.harness.models.pruned import ModelFacts, PrunedLM, explain_unknown_argument
from lm_eval_ext.harness.patches import DefaultBatchSize
from lm_eval_ext.pruning.adapters import fitted_adapter
from lm_eval_ext.pruning.architecture import auto_class, depth, text_config
from lm_eval_ext.pruning.blocks import NO_BLOCKS
from lm_eval_ext.pruning.checkpoint import check_folder
from lm_eval_ext.pruning.context import check_dtype
from lm_eval_ext.pruning.lineage import check_fits
from lm_eval_ext.pruning.loading import fingerprint, load_pruned, sliced_by
from lm_eval_ext.pruning.quantization import (
    FOUR_BITS,
    bitsandbytes_config,
    bytes_of,
    check_on_load,
    check_packed,
    loading_explained,
    quantization_of,
)
from lm_eval_ext.pruning.sliced_model import parameter_count
from lm_eval_ext.pruning.verification import is_verified, logits_of, tiny_twin, token_ids

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel
    from transformers.utils.quantization_config import QuantizationConfigMixin


# Arguments of bitsandbytes, which transformers takes in a config only.
_BITS_AND_BYTES = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")


class LoadedFacts(BaseModel):
    """Properties of a loaded model.

    Attributes:
        fingerprint: changes with the weights and the config.
        parameters: number of parameters.
        bytes: of all weights in memory.
        dtype: of the weights, such as `bfloat16`.
        generation_config: the checkpoint's defaults for generation.
    """

    fingerprint: str
    parameters: int
    bytes: int
    dtype: str
    generation_config: dict[str, object]


class RemoteModel:
    """Stands in for a model that runs in replicas; knows what lm-eval reads from a model that it does not run."""

    def __init__(self, facts: Callable[[], LoadedFacts]) -> None:
        self.facts = facts

    def num_parameters(self) -> int:
        """Number of parameters."""
        return self.facts().parameters

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        found: torch.dtype = getattr(torch, self.facts().dtype)
        return found

    def to(self, device: object) -> Self:
        """Return itself: there are no weights to move."""
        return self


class PrunedHFLM(PrunedLM, HFLM):  # type: ignore[misc]  # lm-eval has no type information
    """A causal language model that is loaded without some of its layers.

    Takes all arguments of lm-eval's `hf`, and those of `PrunedLM`. By default, `pretrained` is the base of `recipe`.

    Raises:
        TTSError: an argument, recipe or checkpoint cannot be used.
    """

    NAME = "pruned-hf"
    sampler = sampling.VERSION
    NOT_WITH_DROPPED_LAYERS: ClassVar[Mapping[str, str]] = {
        "delta": "delta weights are added by the names of the base model's layers",
        "autogptq": "its loader cannot drop layers; export the pruned model first",
        "gptqmodel": "its loader cannot drop layers; export the pruned model first",
        "gguf_file": "a GGUF file is read whole; convert it to safetensors first (load it and call save_pretrained)",
        "tp_plan": "tensor parallel loading reads checkpoints itself; use parallelize=True or device_map",
    }
    _config: PreTrainedConfig
    _model: PreTrainedModel | RemoteModel
    AUTO_MODEL_CLASS: object
    _ready = False  # whether lm-eval's constructor, which looks at the model, has ended

    def __init__(
        self, pretrained: str | PreTrainedModel | None = None, *, revision: str | None = None, **kwargs: object
    ) -> None:
        for name in ("dtype", "mixed_precision_dtype"):  # lm-eval looks them up in torch by their names
            check_dtype(kwargs.get(name), name)
        pretrained, revision = self._take(pretrained, revision, kwargs)
        self._bits_and_bytes = {name: kwargs.pop(name) for name in list(kwargs) if name.startswith(_BITS_AND_BYTES)}
        sparsity = self.recipe.sparsity if self.recipe else None
        self._unseen = unseen(kwargs) | ({"sparsity": sparsity.sha256} if sparsity else {})
        self._dense_config: PreTrainedConfig = None
        self._chooses_batch_size = isinstance(kwargs.get("batch_size"), (DefaultBatchSize, NoneType))
        # Without a device, lm-eval's command line falls back to the CPU, but its functions don't.
        if kwargs.get("device") is None and not torch.cuda.is_available():
            kwargs["device"] = "cpu"
        try:
            HFLM.__init__(self, pretrained=pretrained, revision=revision, **kwargs)
        except TypeError as error:
            explain_unknown_argument(error, type(self), HFLM)
        except (OSError, ValueError, SafetensorError) as error:
            if isinstance(error, TTSError) or not isinstance(pretrained, str):
                raise
            raise CheckpointError(f"pretrained={pretrained}: cannot be loaded ({reason_of(error)})") from error
        self._ready = True
        self._use_chat_template()
        self._log_pruning()

    def gpus_of_replica(self, kwargs: Mapping[str, object]) -> int | None:
        """Number of GPUs that one replica needs; None for one, if there are any."""
        if kwargs.get("parallelize") or kwargs.get("device_map"):
            raise ArgumentError(
                "parallelize and device_map don't say how many GPUs a replica needs; give replica_gpus too"
            )
        return 0 if kwargs.get("device") == "cpu" else None

    # Loading ----------------------------------------------------------------------------------------------

    def _get_config(self, pretrained: str, **options: object) -> None:
        check_folder(pretrained)
        try:
            super()._get_config(pretrained, **options)
        except OSError as error:
            raise CheckpointError(f"pretrained={pretrained}: {' '.join(str(error).split())}") from error
        check_fits(self.recipe, pretrained, self._config, self.arguments.base)
        if self.recipe is not None and self._drops:
            self._dense_config = self._config
            self._kept, self._changes, self._config = sliced_by(
                self.recipe,
                pretrained,
                self._dense_config,
                {"revision": options.get("revision") or "main", "subfolder": options.get("subfolder") or ""},
                self.arguments.trust_layer_fields,
                bool(options.get("trust_remote_code")),
            )

    def _get_backend(self, config: PreTrainedConfig, **options: object) -> None:
        if auto_class(config) is transformers.AutoModelForImageTextToText:  # lm-eval knows no backend of its text part
            self.AUTO_MODEL_CLASS = transformers.AutoModelForImageTextToText
            options["backend"] = "causal"
        super()._get_backend(config=config, **options)

    @property
    def _by_flag(self) -> bool:
        return bool(self._bits_and_bytes.get("load_in_4bit") or self._bits_and_bytes.get("load_in_8bit"))

    def _method_on_load(self) -> str | None:
        return "bitsandbytes" if self._by_flag else super()._method_on_load()

    def _quantization_on_load(self, dtype: object) -> QuantizationConfigMixin | None:
        """The configuration that quantizes weights while they are loaded; None if they are loaded as they are."""
        by_flag = bitsandbytes_config(self._bits_and_bytes, drops=self._drops)
        if by_flag is None and self.quantization is None:
            return None
        four_bits = self._bits_and_bytes.get("load_in_4bit") or str(self.quantization) in FOUR_BITS
        check_on_load(self._config, four_bits=bool(four_bits))
        if by_flag is not None and self.quantization is not None:
            raise ArgumentError("load_in_4bit or load_in_8bit, and quantize or a recipe that quantizes: give one")
        if by_flag is not None:
            return by_flag
        assert self.quantization is not None
        return self.quantization.config(dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None))

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        config = self._quantization_on_load(kwargs.get("dtype"))
        if config is not None:
            kwargs["quantization_config"] = config
        if self.replicas is not None:
            replicas = self.replicas
            self._model = RemoteModel(lambda: LoadedFacts.model_validate(replicas.identity.facts))
            return
        on_load = self.quantization or self._method_on_load()
        with tempfile.TemporaryDirectory() as scratch, loading_explained(on_load):
            if kwargs.get("peft"):
                kwargs["peft"] = fitted_adapter(
                    kwargs["peft"], kwargs.get("revision"), pretrained, self.recipe, self._depth(), Path(scratch)
                )
            if self._kept is None:
                super()._create_model(pretrained, **kwargs)
            else:
                self._create_pruned(pretrained, **kwargs)
        if on_load:
            check_packed(self._model, on_load)
        if on_load or quantization_of(self._config):  # some formats change their tensors in the first forward pass
            self.__dict__["_facts"] = self._found_facts()

    def _create_pruned(self, pretrained: str, **kwargs: Any) -> None:
        whole, self.AUTO_MODEL_CLASS = self.AUTO_MODEL_CLASS, self  # so that lm-eval calls our from_pretrained
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = whole

    @property
    def model(self) -> Any:
        """The loaded model.

        Raises:
            EngineError: the model runs in replicas.
        """
        if self.replicas is not None and self._ready:
            raise EngineError("this process has no weights, because the model runs in replicas")
        return super().model

    @property
    def max_length(self) -> int:
        """The model's context length, in tokens."""
        if isinstance(self._model, RemoteModel) and not self._max_length:
            return int(resolve_max_length(self.config, self.tokenizer, default=self._DEFAULT_MAX_LENGTH))
        return int(super().max_length)

    def from_pretrained(self, pretrained: str, **options: Any) -> PreTrainedModel:
        """Stand-in for the `from_pretrained` of HFLM's Auto class: loads the model without the dropped layers."""
        for unused in ("gguf_file", "quantization_config"):
            if options.get(unused) is None:
                options.pop(unused, None)
        return load_pruned(
            pretrained,
            self._dense_config,
            self._kept or (),
            changes=self._changes,
            blocks=self.recipe.blocks if self.recipe else NO_BLOCKS,
            trust_layer_fields=self.arguments.trust_layer_fields,
            **options,
        )

    # Generation -------------------------------------------------------------------------------------------

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Texts of the requests, by the weights as they are now: somebody may have changed them since the last call."""
        if not isinstance(self._model, RemoteModel) and quantization_of(self.model.config) is None:
            self.__dict__.pop("_facts", None)
        return super().generate_until(requests, disable_tqdm)

    def decoding_engine(
        self,
        tokens: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None],
        on_replicas: Callable[[int, int], None] = lambda up, asked: None,
    ) -> Engine:
        """An engine for rows of up to `tokens` tokens, or one on all replicas."""
        if self.replicas is not None:
            return self.replicas.decoding_engine(tokens, on_tokens, on_replicas)
        single_rows = needs_single_rows(self.model.config)
        return engine_for(self.model, self._decoding_batch_size(tokens), decode, on_tokens, single_rows=single_rows)

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
        if isinstance(self._model, RemoteModel):
            return transformers.GenerationConfig.from_dict(self._model.facts().generation_config)
        return self.model.generation_config

    # Results ----------------------------------------------------------------------------------------------

    @property
    def facts(self) -> ModelFacts:
        """What the loaded model is."""
        here = f"torch {torch.__version__}, transformers {transformers.__version__}"
        found = self._facts
        return ModelFacts(
            pretrained=self.pretrained if isinstance(self.pretrained, str) else "",
            config=self.config,
            computed=self.config,
            depth=self._depth(),
            parameters=(self._dense_parameters if self._kept else found.parameters, found.parameters),
            element_bytes=int(torch.empty((), dtype=self._model.dtype).element_size()),
            bytes=found.bytes,
            fingerprint=found.fingerprint,
            versions=here if self.replicas is None else self.replicas.identity.versions,
            shared=found.model_dump(),
        )

    @functools.cached_property
    def _facts(self) -> LoadedFacts:
        return self._model.facts() if isinstance(self._model, RemoteModel) else self._found_facts()

    def _found_facts(self) -> LoadedFacts:
        packed = quantization_of(self._config)
        return LoadedFacts(
            fingerprint=changed_fingerprint(fingerprint(self.model), self._unseen),
            parameters=parameter_count(self._config) if packed else int(self.model.num_parameters()),
            bytes=bytes_of(self.model),
            dtype=str(self.model.dtype).removeprefix("torch."),
            generation_config=json.loads(self.model.generation_config.to_json_string(use_diff=False)),
        )

    def _depth(self) -> int:
        try:
            return depth(self._dense_config or self.config)
        except ArchitectureError:  # a whole model runs all the same
            return 0

    @functools.cached_property
    def _dense_parameters(self) -> int:
        return parameter_count(self._dense_config)


_SHARE = 0.6  # of the memory that is free now; the rest is for activations and other processes


def affordable_batch_size(model: PreTrainedModel, tokens: int, at_most: int) -> int:
    """Number of rows of `tokens` tokens whose keys and values fit in free memory, between 1 and `at_most`.

    It is 1 if the config doesn't say how large they are, as some code of others doesn't.
    """
    try:
        per_row = tokens * bytes_per_token(model)
    except AttributeError:
        return 1
    return max(1, min(at_most, int(_free_bytes(model.device) * _SHARE // per_row)))


def bytes_per_token(model: PreTrainedModel) -> int:
    """Bytes of keys and values per token over all layers, assuming that every layer keeps every token."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    element = torch.empty((), dtype=model.dtype).element_size()
    return int(2 * config.num_hidden_layers * heads * width * element)


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return int(psutil.virtual_memory().available)


logger = logging.getLogger("lm_eval.tts")

_LENGTHS = (3, 7, 12, 20)  # of prompts, in one batch
_NEW_TOKENS = 12
_ENDS = frozenset({0, 1, 2})  # the twin's special tokens; after padding, some classes count positions otherwise
_SAMPLING = Sampling(temperature=2.0)  # a small error in the logits changes a sample sooner than the likeliest token

_found: dict[str, bool] = {}  # by config, in this process


def needs_single_rows(config: PreTrainedConfig) -> bool:
    """Whether a model has to be decoded one row at a time, though its layers cache keys and values.

    Raises:
        ArchitectureError: no engine decodes it as transformers computes it.
    """
    if is_verified(config, "decoded"):
        return False
    what = config.to_json_string(use_diff=False)
    if what not in _found:
        _found[what] = _single_rows_on_twin(config)
    return _found[what]


def _single_rows_on_twin(config: PreTrainedConfig) -> bool:
    kind, reasons = text_config(config).model_type, []
    try:
        with tiny_twin(config, trust_remote_code=bool(getattr(config, "auto_map", None))) as twin:
            logits_of(twin.model, token_ids(twin.model))  # if this fails, it says nothing about engines
            types = engine_types(twin.model)
            for engine in types:
                reason = why_wrong(twin.model, engine)
                if reason is None:
                    return engine is not types[0]
                reasons.append(reason)
    except Exception as error:  # an unknown model class may raise anything
        logger.warning("decoding of %s models could not be checked on a tiny twin (%s)", kind, _line(error))
        return False
    raise ArchitectureError(f"{kind} models cannot be decoded: {reasons[-1]}; their likelihoods can be scored")


def why_wrong(model: PreTrainedModel, engine: type[HFEngine] | type[SingleRowEngine]) -> str | None:
    """Why an engine does not decode a tiny model as transformers computes it without a cache; None if it does."""
    generator, vocabulary = random.Random(3), int(text_config(model.config).vocab_size)
    prompts = [tuple(generator.randrange(5, vocabulary) for _ in range(length)) for length in _LENGTHS]
    jobs = [Job(ids, _NEW_TOKENS, Stop(_ENDS), _SAMPLING, seed) for seed, ids in enumerate(prompts)]
    texts: dict[Job, Sequence[int]] = {}

    def finished(job: Job, done: Completion) -> Iterable[Job]:
        texts[job] = done.ids
        return ()

    try:
        started: LocalEngine = HFEngine(model, 4, str) if engine is HFEngine else SingleRowEngine(model, str)
        started.run(jobs, finished)
        right = all(
            ids == _without_cache(model, job, ids) or ids == _generated(model, job) for job, ids in texts.items()
        )
    except Exception as error:  # an unknown model class may raise anything
        return _line(error)
    return None if right else "the tokens that a tiny twin samples differ from those of transformers"


def _without_cache(model: PreTrainedModel, job: Job, ids: Sequence[int]) -> tuple[int, ...]:
    """The tokens that follow each prefix of a text."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*job.ids, *ids]]), use_cache=False).logits[0, len(job.ids) - 1 : -1]
    return tuple(next_tokens(logits, _SAMPLING, [job.seed] * len(ids), range(len(ids))))


def _generated(model: PreTrainedModel, job: Job) -> tuple[int, ...]:
    """What `generate` samples with its cache; with random weights, scores that are equal may choose otherwise there."""
    import torch

    def chosen(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        (token,) = next_tokens(scores, _SAMPLING, [job.seed], [ids.shape[1] - len(job.ids)])
        return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor([token]), 0.0)

    prompt = torch.tensor([job.ids])
    output = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=_NEW_TOKENS,
        do_sample=False,
        eos_token_id=sorted(_ENDS),
        logits_processor=[chosen],
    )
    return tuple(output[0, len(job.ids) :].tolist())


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, TTSError) else f"{type(error).__name__}: {text}"

"""`--model pruned-hf`: lm-eval's HFLM with layers dropped on load and thinking under a budget."""

from __future__ import annotations

import functools
import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.options import asks_for_thinking
from lm_eval_ext.models.arguments import budget, chosen_recipe, flag, parse_model_args
from lm_eval_ext.models.batching import affordable_batch_size
from lm_eval_ext.models.thinking_requests import ThinkingRequests
from lm_eval_ext.pruning.architecture import depth, slice_config
from lm_eval_ext.pruning.loading import adapter_depth, fingerprint, load_pruned
from lm_eval_ext.pruning.recipe import format_layers, kept_layers

logger = logging.getLogger("lm_eval.tts")

_OURS = (
    "drop_layers",
    "recipe",
    "thinking_format",
    "answer_token_budget",
    "auto_chat_template",
    "share_traces",
    "stop_loops",
    "journal",
    "seed",
)
_NOT_WITH_DROPPED_LAYERS = {
    "delta": "delta weights are added by the names of the whole model's layers",
    "autogptq": "its loader has no place to drop layers; export the pruned model first",
    "gptqmodel": "its loader has no place to drop layers; export the pruned model first",
    "gguf_file": "a GGUF file is read whole; convert it to safetensors first (load it and call save_pretrained)",
    "tp_plan": "tensor parallel loading reads checkpoints by itself; use parallelize=True or device_map",
}


class PrunedHFLM(HFLM):  # type: ignore[misc]  # lm-eval has no type information
    """A causal language model of which some layers are never loaded.

    Takes every argument of lm-eval's `hf` and these:

    Args:
        pretrained: Hub name or local folder; may be left out where `recipe` names the base.
        drop_layers: layers to drop, as `[25, 26]`, `"25-27"` or `"25+26"`.
        recipe: name of a recipe in `pruned_models/`, or path of a YAML.
        thinking_format: name of a format in `thinking_formats.yaml`; found from the tokenizer if left out.
        answer_token_budget: most tokens of an answer where the task says nothing; -1 is no limit.
        auto_chat_template: apply the tokenizer's chat template to thinking requests that come without it.
        share_traces: decode one trace for all budgets of a prompt; False gives the same results more slowly.
        stop_loops: end a trace that repeats itself exactly (8 copies, 256 tokens), and let it answer.
        journal: where finished generations are kept for a run that goes on after a crash: a path, or "off".
        seed: base of all sampling seeds; by default the seed that lm-eval gives torch (`--seed`).

    Raises:
        TTSError: an argument, recipe or checkpoint that cannot be used; the message is one line.
    """

    _config: Any
    AUTO_MODEL_CLASS: Any

    def __init__(
        self,
        pretrained: str | Any | None = None,
        *,
        drop_layers: object = None,
        recipe: str | None = None,
        thinking_format: str | None = None,
        answer_token_budget: int = 1024,
        auto_chat_template: bool = True,
        share_traces: bool = True,
        stop_loops: bool = False,
        journal: str | bool | None = "on",
        seed: int | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.recipe = chosen_recipe(pretrained, revision, drop_layers, recipe)
        if pretrained is None:
            pretrained, revision = self._base_of_recipe(revision)
        if self.recipe is not None:
            self._refuse(pretrained, kwargs)
        self._dense_config: Any = None
        self._kept: tuple[int, ...] | None = None
        self._thinking_arguments: dict[str, Any] = {
            "format_name": thinking_format,
            "answer_budget": budget("answer_token_budget", answer_token_budget),
            "auto_chat_template": flag("auto_chat_template", auto_chat_template),
            "share_traces": flag("share_traces", share_traces),
            "stop_loops": flag("stop_loops", stop_loops),
            "journal": journal,
            "seed": seed,
        }
        # Where no device is named, lm-eval's command line falls back to the CPU; its functions would not.
        if kwargs.get("device") is None and not torch.cuda.is_available():
            kwargs["device"] = "cpu"
        try:
            super().__init__(pretrained=pretrained, revision=revision or "main", **kwargs)
        except TypeError as error:
            _explain_unknown_argument(error)
        self._log_pruning()

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> PrunedHFLM:
        """As lm-eval's, but commas inside brackets do not separate arguments."""
        extra = {key: value for key, value in (additional_config or {}).items() if value is not None}
        return cls(**{**parse_model_args(arg_string), **extra})

    def _base_of_recipe(self, revision: str | None) -> tuple[str, str]:
        if self.recipe is None or not self.recipe.base:
            raise ArgumentError(
                "no model given: pass --model_args pretrained=NAME_OR_FOLDER, or recipe=NAME (a recipe names its base)"
            )
        return self.recipe.base, revision or self.recipe.revision

    def _refuse(self, pretrained: object, arguments: Mapping[str, Any]) -> None:
        if not isinstance(pretrained, str):
            raise ArgumentError(
                "layers are dropped while loading: pass pretrained as a name or folder, not a loaded model"
            )
        for key, why in _NOT_WITH_DROPPED_LAYERS.items():
            if arguments.get(key):
                raise ArgumentError(f"{key}={arguments[key]} does not go with dropped layers: {why}")

    # Loading ----------------------------------------------------------------------------------------------

    def _get_config(self, *args: Any, **kwargs: Any) -> None:
        super()._get_config(*args, **kwargs)
        if self.recipe is not None:
            self._dense_config = self._config
            self._kept = kept_layers(self.recipe.drop, depth(self._config))
            self._config = slice_config(self._config, self._kept)

    def _create_model(self, pretrained: str, **kwargs: Any) -> None:
        if self._kept is None:
            super()._create_model(pretrained, **kwargs)
            return
        if kwargs.get("peft"):
            self._check_adapter(kwargs["peft"], kwargs.get("revision"))
        whole, self.AUTO_MODEL_CLASS = self.AUTO_MODEL_CLASS, self  # lm-eval calls from_pretrained on it
        try:
            super()._create_model(pretrained, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = whole

    def from_pretrained(self, pretrained: str, **options: Any) -> Any:
        """What HFLM asks of its Auto class, without the dropped layers."""
        for unused in ("gguf_file", "quantization_config"):
            if options.get(unused) is None:
                options.pop(unused, None)
        return load_pruned(pretrained, self._dense_config, self._kept or (), **options)

    def _check_adapter(self, peft: str, revision: str | None) -> None:
        kept = len(self._kept or ())
        layers = adapter_depth(peft, revision)
        if layers is not None and layers > kept:
            raise ArgumentError(
                f"peft={peft}: the adapter has weights for {layers} layers, the pruned model has {kept}; "
                "it was trained on another depth"
            )

    def _log_pruning(self) -> None:
        if self._kept is not None and self.recipe is not None:
            logger.info(
                "dropped layers %s of %d: %d parameters of %d stay",
                format_layers(self.recipe.drop),
                len(self._kept) + len(self.recipe.drop),
                self.model.num_parameters(),
                self._dense_parameters,
            )

    # Generation -------------------------------------------------------------------------------------------

    @functools.cached_property
    def _thinking(self) -> ThinkingRequests:
        return ThinkingRequests(self, **self._thinking_arguments)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Requests that name a thinking budget by our engine, the others as `hf` does them."""
        ours = [index for index, request in enumerate(requests) if asks_for_thinking(request.args[1])]
        results: dict[int, str] = {}
        if ours:
            texts: Sequence[str] = self._thinking.run([requests[index] for index in ours], disable_tqdm)
            results.update(zip(ours, texts, strict=True))
        rest = [index for index in range(len(requests)) if index not in results]
        if rest:
            texts = super().generate_until([requests[index] for index in rest], disable_tqdm)
            results.update(zip(rest, texts, strict=True))
        return [results[index] for index in range(len(requests))]

    def decoding_batch_size(self, tokens: int) -> int:
        """Rows to decode at once, where each may grow to `tokens` tokens."""
        if self.batch_size == "auto":
            return affordable_batch_size(self.model, tokens, int(self.max_batch_size or 64))
        return int(self.batch_size)

    # Results ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _dense_parameters(self) -> int:
        from transformers import AutoModelForCausalLM

        with torch.device("meta"):
            trust = bool(getattr(self._dense_config, "auto_map", None))
            return int(AutoModelForCausalLM.from_config(self._dense_config, trust_remote_code=trust).num_parameters())

    def get_model_info(self) -> dict[str, Any]:
        """lm-eval's model information, and what was dropped from what."""
        info: dict[str, Any] = super().get_model_info()
        info["pruning"] = self._pruning_info()
        if "_thinking" in vars(self):
            # lm-eval asks the first rank alone, which knows of its own share of the requests.
            info["generation"] = self._thinking.totals.info() | {"of_rank": self.rank, "ranks": self.world_size}
        return info

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes with the weights and the config."""
        return fingerprint(self.model)

    def _pruning_info(self) -> dict[str, Any]:
        total = depth(self._dense_config or self.config)
        parameters = self.model.num_parameters()
        recipe = self.recipe
        return {
            "base": recipe.base if recipe else self.pretrained if isinstance(self.pretrained, str) else "",
            "method": recipe.method if recipe else "none",
            "source": recipe.source if recipe else "",
            "dropped_layers": list(recipe.drop) if recipe else [],
            "kept_layers": list(self._kept or range(total)),
            "parameters_before": self._dense_parameters if recipe else parameters,
            "parameters_after": parameters,
            "recipe_hash": recipe.digest if recipe else "",
            "model_fingerprint": self.fingerprint,
        }


def _explain_unknown_argument(error: TypeError) -> NoReturn:
    """Raise one line for a model argument that nobody knows; else the error as it was."""
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        raise error
    theirs = [name for name in inspect.signature(HFLM.__init__).parameters if name not in ("self", "kwargs")]
    raise ArgumentError(
        f"model argument {match[1]!r} is not known; pruned-hf takes {', '.join(_OURS)}, those of hf "
        f"({', '.join(theirs)}), and what transformers' from_pretrained takes"
    ) from error

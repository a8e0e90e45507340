"""Base class of our lm-eval models: runs requests that think under a budget, and says how in the results."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from lm_eval.api.instance import Instance

from lm_eval_ext.generation.request import asks_for_thinking
from lm_eval_ext.harness.arguments import ThinkingArguments, parse_model_args
from lm_eval_ext.harness.bridge import ThinkingRequests
from lm_eval_ext.harness.model_costs import digest_of_template, digest_of_tokenizer
from lm_eval_ext.harness.plugin import register, warn_of_what_tiny_chain_cannot_do
from lm_eval_ext.harness.registry import capabilities
from lm_eval_ext.plugins import own_version

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lm_eval_ext.pruning.recipe import Recipe


class ThinkingLM(ABC):
    """Mixin for lm-eval's model classes; list it before them.

    The concrete class says how the model decodes (see `ThinkingModel`).
    """

    NAME: ClassVar[str]
    is_tiny_chain: bool = False  # whether the embedded model is loaded
    sampler: int | None
    recipe: Recipe | None  # which layers are dropped
    tokenizer: PreTrainedTokenizerBase
    arguments: ThinkingArguments
    given_arguments: Mapping[str, object]  # only set if the model was loaded from Python

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        """Complete what lm-eval has not found by itself, where the package isn't loaded with it."""
        register()
        return super().__new__(cls)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, object] | None = None) -> Self:
        """Like lm-eval's method, but commas inside brackets do not separate arguments."""
        extra = {key: value for key, value in (additional_config or {}).items() if value is not None}
        return cls(**{**parse_model_args(arg_string), **extra})

    @functools.cached_property
    def _thinking(self) -> ThinkingRequests:
        return ThinkingRequests(self, self.arguments)  # type: ignore[arg-type]  # the concrete class implements it

    def _use_chat_template(self) -> None:
        """Put the chat template that was given in the place of the tokenizer's."""
        if self.arguments.chat_template is not None:
            self.tokenizer.chat_template = self.arguments.chat_template
            self.hf_chat_template = None  # lm-eval's `vllm` looks it up when it loads

    @property
    def journal(self) -> Path | None:
        """Where finished work is kept; None if it is not, or nothing was asked for yet."""
        runner: ThinkingRequests | None = vars(self).get("_thinking")
        return runner.journal.path if runner is not None and runner.journal is not None else None

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Run thinking requests on our engine, and all others as the concrete class does."""
        if self.is_tiny_chain:
            warn_of_what_tiny_chain_cannot_do(requests)
        ours = [index for index, request in enumerate(requests) if self._is_ours(request)]
        results: dict[int, str] = {}
        if ours:
            texts: Sequence[str] = self._thinking.run([requests[index] for index in ours], disable_tqdm)
            results.update(zip(ours, texts, strict=True))
        rest = [index for index in range(len(requests)) if index not in results]
        if rest:
            texts = self._other_texts([requests[index] for index in rest], disable_tqdm)
            results.update(zip(rest, texts, strict=True))
        return [results[index] for index in range(len(requests))]

    def _is_ours(self, request: Instance) -> bool:
        return asks_for_thinking(request.args[1])

    @abstractmethod
    def _other_texts(self, requests: list[Instance], disable_tqdm: bool) -> list[str]:
        """Texts of requests that are not run on our engine."""

    # Results ----------------------------------------------------------------------------------------------

    def get_model_info(self) -> dict[str, Any]:
        """lm-eval's model information, plus the engine's capabilities and generation totals."""
        theirs: Any = getattr(super(), "get_model_info", dict)
        info: dict[str, Any] = {
            **theirs(), "engine": self._capabilities(), "lm_eval_tts_version": own_version(),
        }  # fmt: skip
        if "_thinking" in vars(self):
            info["settings"] = self._settings()
            # lm-eval only calls this on the first rank, whose totals cover its own share of the requests.
            ranks = {"of_rank": getattr(self, "rank", 0), "ranks": getattr(self, "world_size", 1)}
            info["generation"] = self._thinking.totals.info() | ranks
        return info

    def _capabilities(self) -> dict[str, object]:
        """What the engine can do."""
        return dict(capabilities(self.NAME))

    def _settings(self) -> dict[str, str]:
        """What affects the samples and may differ between models."""
        answer = self.arguments.answer_token_budget
        return {
            "protocol": self.arguments.protocol,
            "thinking": "on" if self.arguments.thinking else "off",
            "thinking_format": self._thinking.thinking_format.name,
            "answer_token_budget": "-1" if answer is None else str(answer),
            "chat_template": digest_of_template(self.tokenizer),
            "tokenizer": digest_of_tokenizer(self.tokenizer),
            "stop_loops": str(self.arguments.stop_loops),
            "token_exact": str(self._capabilities()["token_exact"]),
            "device": self._device_named(),
            "seed": str(self._thinking.seed),
        }

    @abstractmethod
    def _device_named(self) -> str:
        """Name of the hardware that decodes."""

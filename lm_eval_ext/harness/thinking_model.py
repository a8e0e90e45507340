"""Interfaces of an lm-eval model class that runs thinking requests, and of what runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from lm_eval.api.instance import Instance

from lm_eval_ext.generation.engine import Engine
from lm_eval_ext.generation.journal import Journal
from lm_eval_ext.generation.request import Generation
from lm_eval_ext.harness.accounting import Totals
from lm_eval_ext.thinking_formats import ThinkingFormat

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


class RequestRunner(Protocol):
    """Runs the `generate_until` requests of a model class.

    Attributes:
        journal: where finished work is kept; None if it is not.
        totals: what was decoded so far.
        thinking_format: how the model marks its thinking.
    """

    journal: Journal | None
    totals: Totals
    thinking_format: ThinkingFormat

    @property
    def seed(self) -> int:
        """The seed from which all sampling seeds are derived."""

    def run(self, instances: Sequence[Instance], disable_tqdm: bool = False) -> list[Generation]:
        """Return one generation per instance, in order."""


class ThinkingModel(Protocol):
    """An lm-eval model class that can run thinking requests."""

    tokenizer: PreTrainedTokenizerBase
    pretrained: object
    max_gen_toks: int
    max_length: int
    rank: int
    sampler: int | None  # version of our own sampler; None where the engine has another

    @property
    def fingerprint(self) -> str:
        """Identifier that changes with the weights and the config."""

    @property
    def versions(self) -> str:
        """Software versions that affect the decoded tokens."""

    def tok_encode(self, text: str) -> list[int]:
        """Encode a prompt; special tokens are added unless the text already has them."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render a conversation as text, ending in a new assistant turn or (without generation prompt) in the last."""

    def decoding_engine(
        self,
        tokens: int,
        decode: Callable[[Sequence[int]], str],
        on_tokens: Callable[[int], None],
        on_replicas: Callable[[int, int], None],
    ) -> Engine:
        """An engine for texts of up to `tokens` tokens.

        It calls `on_tokens` with the number of tokens it has decoded, and if it runs several replicas of the model,
        `on_replicas` with the number of those that are up and of those asked for.
        """

    def decoding_context(self) -> AbstractContextManager[object]:
        """A context manager that is active while decoding."""

    def generation_defaults(self) -> GenerationConfig | None:
        """The checkpoint's generation config; None if it has none."""

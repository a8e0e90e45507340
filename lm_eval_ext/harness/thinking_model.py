"""Interface that an lm-eval model class implements to run thinking requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from lm_eval_ext.generation.engine import Engine

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedTokenizerBase


class ThinkingModel(Protocol):
    """A model class of lm-eval that can run thinking requests."""

    tokenizer: PreTrainedTokenizerBase
    pretrained: object
    max_gen_toks: int
    max_length: int
    rank: int
    fingerprint: str
    versions: str

    def tok_encode(self, text: str) -> list[int]:
        """Ids of a prompt, special tokens added where the text has none."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as text, up to where the model is to go on: a turn of its own, or the last one."""

    def decoding_engine(
        self, tokens: int, decode: Callable[[Sequence[int]], str], on_tokens: Callable[[int], None]
    ) -> Engine:
        """An engine for texts of up to so many tokens."""

    def decoding_context(self) -> AbstractContextManager[object]:
        """What is entered while decoding."""

    def generation_defaults(self) -> GenerationConfig | None:
        """The checkpoint's generation config, None where it has none."""

"""`--model tts-server` with `server=chat`: a model behind an endpoint that only offers chat."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lm_eval.api.instance import Instance

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engines.dialects.base import Vocabulary
from lm_eval_ext.generation.engines.dialects.chat import Conversation
from lm_eval_ext.harness.chat_requests import ChatRequests
from lm_eval_ext.harness.models.server import TTSServer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger("lm_eval.tts")


class TTSChat(TTSServer):
    """A model behind one or several chat endpoints, for tasks without a thinking budget.

    The endpoint applies the chat template. A tokenizer is only used to count tokens, where the endpoint doesn't say how
    many of them are thinking.
    """

    def _loaded_tokenizer(self) -> PreTrainedTokenizerBase | None:
        return super()._loaded_tokenizer() if self._tokenizer_name() else None

    def _tokenizer_name(self) -> str:
        return self.arguments.tokenizer or self._base()

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(lambda text: list(Conversation.of_text(text).ids()), _json, frozenset())

    def _decode(self, ids: Sequence[int]) -> str:
        return _json(ids)

    def _log(self) -> None:
        logger.info(
            "%s: chat, seeds %s; thinking budgets are not possible",
            ", ".join(server.root for server in self.servers),
            "kept" if self._seeded else "not kept",
        )
        self._warn()

    @property
    def max_length(self) -> int:
        """Context length in tokens; the endpoint itself refuses what is longer."""
        known = [found.facts.max_length for found in self.identities if found.facts.max_length]
        return self.arguments.max_length or min(known, default=2**31 - 1)

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as JSON, which is sent as messages."""
        if not add_generation_prompt:
            raise ArgumentError("a chat endpoint cannot go on from the middle of a reply; leave gen_prefix out")
        return json.dumps(chat_history, ensure_ascii=False)

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> NoReturn:
        """Refused."""
        raise ArgumentError("a chat endpoint gives no log-likelihoods; use tasks that generate, vLLM, or pruned-hf")

    loglikelihood_rolling = loglikelihood

    @functools.cached_property
    def _thinking(self) -> ChatRequests:
        return ChatRequests(self, self.arguments)

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {"answer_token_budget": "-1", "token_exact": "chat"}


def _json(ids: Sequence[int]) -> str:
    return bytes(ids).decode()

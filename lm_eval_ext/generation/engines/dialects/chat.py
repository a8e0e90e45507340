"""Endpoints that only offer chat: messages go in, a finished reply comes out, and nothing can be cut.

In place of token ids, jobs hold the bytes of a conversation's JSON, and completions those of a reply's. So the engine
and the journal work as they do for other servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.engines.dialects.base import (
    Body,
    Content,
    Reply,
    ReplyError,
    ServerFacts,
    Vocabulary,
    WithoutScores,
)
from lm_eval_ext.generation.engines.dialects.text import TextDialect
from lm_eval_ext.generation.request import Job, Sampling, Stop

_NO_LIMIT = 2**31 - 1  # of bytes: the limit of tokens is part of the conversation
_NEUTRAL = Sampling()


class _Bytes(Content):
    """A value that is kept as bytes where others keep token ids."""

    def ids(self) -> tuple[int, ...]:
        """Bytes of the JSON."""
        return tuple(self.model_dump_json().encode())

    @classmethod
    def of_ids(cls, ids: Sequence[int]) -> Self:
        """The value that has these ids."""
        return cls.model_validate_json(bytes(ids))


class Message(Content):
    """One turn of a conversation."""

    role: str
    content: str


class Conversation(_Bytes):
    """What a model is to reply to.

    Attributes:
        messages: the turns so far.
        max_tokens: most tokens of the reply, thinking included; None for the job's own limit.
    """

    messages: Annotated[tuple[Message, ...], Field(min_length=1)]
    max_tokens: int | None = None

    @classmethod
    def of_text(cls, text: str) -> Conversation:
        """A conversation that begins with a user's text."""
        return cls(messages=(Message(role="user", content=text),))

    def job(self, sampling: Sampling, seed: int) -> Job:
        """The job that asks for the reply."""
        return Job(self.ids(), _NO_LIMIT, Stop(), sampling, seed, phase="chat")


class ChatReply(_Bytes):
    """What a model has replied.

    Attributes:
        reasoning: the thinking, if the endpoint shows it apart from the answer.
        answer: the reply itself.
        cut: whether it was cut at its limit.
        tokens: number of tokens of both.
        thinking_tokens: of the thinking; None if the endpoint doesn't say.
        prompt_tokens: of the conversation; 0 if the endpoint doesn't say.
    """

    reasoning: str
    answer: str
    cut: bool
    tokens: int
    thinking_tokens: int | None = None
    prompt_tokens: int = 0


@dataclass(frozen=True)
class ChatDialect(WithoutScores):
    """Requests and replies of `/v1/chat/completions`, with only the parameters that OpenAI's API has.

    Attributes:
        limit: name of the limit of tokens; some of OpenAI's models refuse the one that everybody else knows.
    """

    limit: str = "max_tokens"
    name: ClassVar[str] = "chat"
    route: ClassVar[str] = "/v1/chat/completions"
    token_exact: ClassVar[bool] = False
    continues: ClassVar[bool] = False
    seeded: ClassVar[bool] = True

    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job."""
        check_sampling(job.sampling)
        asked = Conversation.of_ids(job.ids)
        return {
            "model": model, "messages": [turn.model_dump() for turn in asked.messages],
            self.limit: asked.max_tokens or job.max_tokens, "seed": job.seed % 2**31,
            "temperature": job.sampling.temperature, "top_p": job.sampling.top_p, "presence_penalty": 0.0,
            "frequency_penalty": 0.0, "n": 1, "stream": False,
        }  # fmt: skip

    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The reply, as bytes."""
        found = _Chat.of(content)
        choice, usage = found.choices[0], found.usage
        if usage is None:
            raise ReplyError("it doesn't say how many tokens it has decoded (usage), so they cannot be counted")
        said, details = choice.message, usage.completion_tokens_details
        reply = ChatReply(
            reasoning=said.reasoning_content or said.reasoning or "",
            answer=said.content or said.refusal or "",
            cut=choice.finish_reason == "length",
            tokens=usage.decoded,
            thinking_tokens=details.reasoning_tokens if details else None,
            prompt_tokens=usage.prompt_tokens or 0,
        )
        limit = Conversation.of_ids(job.ids).max_tokens
        short = reply.cut and limit is not None and usage.decoded < limit
        return Reply(reply.ids(), "stop", usage.decoded, finished=True, short=short)

    def fact_routes(self) -> Mapping[str, str]:
        """Served models."""
        return TextDialect().fact_routes()

    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """All servers fit."""
        return TextDialect().facts(found, model)

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """None: there is no common way."""
        return None


def check_sampling(sampling: Sampling) -> None:
    """Refuse sampling parameters that OpenAI's API doesn't have; raises ArgumentError."""
    for name in ("top_k", "min_p", "repetition_penalty"):
        if getattr(sampling, name) != getattr(_NEUTRAL, name):
            raise ArgumentError(f"{name}={getattr(sampling, name)}: a chat endpoint may ignore it; leave it out")


class _Said(Content):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Choice(Content):
    message: _Said
    finish_reason: Literal["stop", "length"]


class _Details(Content):
    reasoning_tokens: Annotated[int, Field(ge=0)] | None = None


class _Usage(Content):
    completion_tokens: Annotated[int, Field(ge=0)]
    prompt_tokens: int | None = None
    total_tokens: int | None = None
    completion_tokens_details: _Details | None = None

    @property
    def decoded(self) -> int:
        """Number of decoded tokens; some endpoints count those of the thinking apart, and only in the total."""
        if self.total_tokens is not None and self.prompt_tokens is not None:
            return max(self.completion_tokens, self.total_tokens - self.prompt_tokens)
        details = self.completion_tokens_details
        reasoning = (details.reasoning_tokens if details else None) or 0
        return self.completion_tokens + (reasoning if reasoning > self.completion_tokens else 0)


class _Chat(Content):
    usage: _Usage | None = None
    choices: Annotated[tuple[_Choice, ...], Field(min_length=1)]

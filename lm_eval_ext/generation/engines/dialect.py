"""What a dialect says of an inference server: the request for a job, the tokens in a reply, and what the server can do.

Dialects are pure: HTTP is in `generation/engines/http.py`, and when a job ends is decided in `engines/server.py`, by
the same rules as for every other engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lm_eval_ext.generation.request import Job

Body = dict[str, object]  # sent as JSON
TokenId = Annotated[int, Field(ge=0, lt=2**31, strict=True)]
_Content = TypeVar("_Content", bound="Content")


class ReplyError(Exception):
    """A reply cannot be used; the message is one line for the user."""


class Vocabulary(NamedTuple):
    """The tokenizer that prompts are encoded with.

    Attributes:
        encode: text to ids, without adding special tokens.
        text: ids to text, with special tokens.
        ends: ids that end a text.
        special: some ids that stand for no ordinary text.
        begin: the id that begins every text, which servers add to a text themselves; None if there is none.
    """

    encode: Callable[[str], list[int]]
    text: Callable[[Sequence[int]], str]
    ends: frozenset[int]
    special: tuple[int, ...] = ()
    begin: int | None = None


@dataclass(frozen=True)
class Reply:
    """What a server has decoded for a job.

    Attributes:
        ids: new tokens, including what ended them.
        reason: "length" if it ended at the limit that was asked for, or at the end of the context; else "stop".
        tokens: number of tokens, as the server counts them; None if it doesn't say.
    """

    ids: tuple[int, ...]
    reason: Literal["stop", "length"]
    tokens: int | None = None


class TokenScore(NamedTuple):
    """How likely a token is after those before it.

    Attributes:
        logprob: its log-probability.
        likeliest: log-probabilities of the likeliest tokens, as many as were asked for, and of this one.
    """

    logprob: float
    likeliest: Mapping[int, float]

    @property
    def greedy(self) -> bool:
        """Whether no other token is likelier."""
        return self.logprob >= max(self.likeliest.values())


class ServerFacts(NamedTuple):
    """What a server says of itself.

    Attributes:
        version: name and version of the software.
        name: of the served model.
        served: what identifies the model there: names, paths and sizes.
        max_length: context length of a request, in tokens; None if it doesn't say.
        slots: how many requests it runs at once; None if it doesn't say.
        recipe: how the model was made smaller, as JSON; empty if it doesn't say.
    """

    version: str
    name: str
    served: str
    max_length: int | None
    slots: int | None = None
    recipe: str = ""


class Dialect(ABC):
    """One kind of inference server.

    Attributes:
        name: as in `server=NAME`.
        route: path of completions, below the server's root.
        fact_routes: paths that are read to identify the server, each by a name of its own; all may be missing.
        token_exact: whether token ids go in and come out.
        seeded: whether a request's seed is meant to determine its sample.
        logprobs: whether the server gives log-probabilities of a prompt's tokens by id.
    """

    name: ClassVar[str]
    route: ClassVar[str]
    fact_routes: ClassVar[Mapping[str, str]]
    token_exact: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    logprobs: ClassVar[bool] = False

    @abstractmethod
    def body(self, job: Job, model: str, vocabulary: Vocabulary) -> Body:
        """The request for a job."""

    @abstractmethod
    def reply(self, content: object, job: Job, vocabulary: Vocabulary) -> Reply:
        """The decoded tokens in a reply.

        Raises:
            ReplyError: the reply has another form, or reports a failure.
        """

    @abstractmethod
    def facts(self, found: Mapping[str, object], model: str) -> ServerFacts | None:
        """What the answers to `fact_routes` say; None if this is another kind of server."""

    def score_body(self, ids: Sequence[int], model: str, likeliest: int) -> Body:
        """The request for the log-probabilities of a text's tokens, and of the likeliest, where `logprobs` is true."""
        raise NotImplementedError

    def scores(self, content: object, ids: Sequence[int]) -> list[TokenScore | None]:
        """The score of each token in a reply to `score_body`; None for the first.

        Raises:
            ReplyError: the reply has another form.
        """
        raise NotImplementedError

    def encode_request(self, text: str, model: str) -> tuple[str, Body] | None:
        """Path and request that encode a text with the server's own tokenizer; None if it offers that nowhere."""
        return None


class Content(BaseModel):
    """Part of a reply; unknown fields are ignored, because servers add new ones."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @classmethod
    def of(cls: type[_Content], content: object) -> _Content:
        """Validate a reply.

        Raises:
            ReplyError: a field is missing or has another type.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "reply"
            given = " ".join(repr(fault["input"]).split())[:80]
            raise ReplyError(f"{place}: {fault['msg']}, but the server replied {given}") from error


class Tokens(Content):
    """The reply of a tokenizer."""

    tokens: tuple[TokenId, ...]


def stop_ids(job: Job) -> list[int]:
    """Tokens at which a server should stop: those that end the job, and the last of each sequence that does.

    A token may also stand elsewhere, and then the job is continued.
    """
    return sorted(job.stop.tokens | {ids[-1] for ids in job.stop.sequences if ids})


def of_mapping(content: object, *path: str | int) -> object:
    """A nested value of parsed JSON; None if it is not there."""
    for step in path:
        if isinstance(content, Mapping) and isinstance(step, str):
            content = content.get(step)
        elif isinstance(content, list) and isinstance(step, int) and step < len(content):
            content = content[step]
        else:
            return None
    return content


def whole(value: object) -> int | None:
    """A positive whole number; None if it is anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

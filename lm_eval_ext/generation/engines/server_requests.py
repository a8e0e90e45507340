"""What is asked of an inference server for one text: to decode a job, or to score a passage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import advanced
from lm_eval_ext.generation.engines.dialects.base import Dialect, ReplyError, Vocabulary
from lm_eval_ext.generation.engines.http import RetryableError, ServerClient
from lm_eval_ext.generation.request import Completion, Job

_SLACK = 4  # tokens by which a text that is decoded and encoded again may differ


@dataclass(frozen=True)
class ServedModel:
    """How a model is asked for.

    Attributes:
        name: its name on the server.
        dialect: of the server.
        vocabulary: of the model.
        decode: ids to text, for stop strings.
    """

    name: str
    dialect: Dialect
    vocabulary: Vocabulary
    decode: Callable[[Sequence[int]], str]


class UnusableReplyError(RetryableError):
    """A reply has another form than the dialect's."""


class ShortReplyError(EngineError):
    """A server has ended a text before its limit and without a reason that the job has."""


async def decoded(client: ServerClient, model: ServedModel, job: Job) -> Completion:
    """Decode a job; where the server stops and the job has no end, go on from there.

    Raises:
        RetryableError: a request failed, and may succeed later.
        RefusedError: the server refuses the request.
        ShortReplyError: the server ends the text early, as at the end of a context shorter than it says.
    """
    out: list[int] = []
    while True:
        rest = continued(job, out) if out else job
        content = await client.post(model.dialect.route, model.dialect.body(rest, model.name, model.vocabulary))
        try:
            reply = model.dialect.reply(content, rest, model.vocabulary)
        except ReplyError as error:
            raise UnusableReplyError(f"{client.root}{model.dialect.route}: {client.clean(str(error))}") from error
        if reply.finished:
            if reply.short:
                raise _short(client, reply.tokens or 0, job)
            return Completion(reply.ids, reply.reason)
        completion = advanced(out, reply.ids, job, model.decode)
        if completion is not None:
            return completion
        counted = len(reply.ids) + _SLACK if reply.tokens is None else reply.tokens
        whole = counted >= rest.max_tokens
        if reply.reason == "length" and not model.dialect.token_exact and whole:
            return Completion(tuple(out), "length")
        if reply.reason == "length" or not reply.ids:
            raise _short(client, len(out), job)


def _short(client: ServerClient, tokens: int, job: Job) -> ShortReplyError:
    return ShortReplyError(
        f"{client.root}: the server ended a text after {tokens} of {job.max_tokens} tokens, without a stop and after a "
        f"prompt of {len(job.ids)}; if its context is shorter than it says, give max_length="
    )


@dataclass(frozen=True)
class Passage:
    """A text whose tokens from `start` on are to be scored, `start` being above 0."""

    ids: tuple[int, ...]
    start: int


async def scored(client: ServerClient, model: ServedModel, passage: Passage) -> tuple[float, bool]:
    """Log-probability of a passage's tokens from its start on, and whether each is the likeliest.

    Raises:
        RetryableError: a request failed, and may succeed later.
        RefusedError: the server refuses the request.
    """
    content = await client.post(model.dialect.route, model.dialect.score_body(passage.ids, model.name))
    try:
        scores = model.dialect.scores(content, passage.ids)[passage.start :]
    except ReplyError as error:
        raise UnusableReplyError(f"{client.root}{model.dialect.route}: {client.clean(str(error))}") from error
    known = [score for score in scores if score is not None]
    return sum(score.logprob for score in known), all(score.greedy for score in known)


def continued(job: Job, out: Sequence[int]) -> Job:
    """The rest of a job; its seed depends on the job's and on the place, so that no noise is used twice."""
    return replace(
        job,
        ids=(*job.ids, *out),
        max_tokens=job.max_tokens - len(out),
        seed=_further(job.seed, len(out)) if job.seed else 0,
    )


def _further(seed: int, place: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:8], "big") >> 1

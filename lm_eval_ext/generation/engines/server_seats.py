"""Servers during a run: how much each may be asked, what it has, and whether it can be trusted."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import advanced
from lm_eval_ext.generation.engines.dialects.base import Dialect, ReplyError, Vocabulary
from lm_eval_ext.generation.engines.http import RetryableError, ServerClient
from lm_eval_ext.generation.request import Completion, Job

_LONGEST_PAUSE = 60.0  # seconds between two tries
_BETWEEN = 2.0  # seconds between two checks of a server that closes its connections
_TRUSTED = 600.0  # seconds after which a server is asked again who it is


@dataclass(frozen=True)
class Server:
    """A server that was tried.

    Attributes:
        root: its address without a path.
        model: how its model is asked for.
        greedy: what its model says to fixed prompts, as a hash; empty if that is not to be asked again.
        slots: how many requests it runs at once; None if it doesn't say.
    """

    root: str
    model: ServedModel
    greedy: str
    slots: int | None = None


@dataclass(frozen=True)
class Limits:
    """How much is asked of servers.

    Attributes:
        concurrent: requests in flight to each server.
        retries: how often a request is tried again.
        pause: seconds before the first try; the next ones wait twice as long each.
        patience: seconds for which servers may be down before the run ends, if they have also failed `retries` times.
    """

    concurrent: int = 32
    retries: int = 8
    pause: float = 1.0
    patience: float = 600.0

    def wait(self, tries: int) -> float:
        """Seconds before the next try, drawn so that not everyone comes back at the same moment."""
        return min(self.pause * 2.0 ** min(tries - 1, 20), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)


@dataclass
class Task:
    """A job to decode or a passage to score, where its trace was decoded, and how often it has failed."""

    item: Any
    seat: Seat | None = None
    tries: int = 0


@dataclass
class Seat:
    """A server during a run.

    Attributes:
        busy: requests in flight.
        failures: how often it was found unreachable in a row; 0 if it is up.
        since, due: since when it is down, and when it is tried again, in seconds of the monotonic clock.
        troubles: requests in a row that it could not serve.
        rests_until: until when it has asked to be left alone, in seconds of the monotonic clock.
        retired: whether it refuses everything.
        checking: whether it is being asked who it is.
        doubtful: whether it has said something else than before, while it was busy; it is asked again when it is idle.
        trusted_connections, trusted_at: the client's connections when the last good check began, and when that was.
        held: results that are only used after a good check.
    """

    server: Server
    client: ServerClient
    busy: int = 0
    failures: int = 0
    since: float = 0.0
    due: float = 0.0
    troubles: int = 0
    rests_until: float = 0.0
    retired: bool = False
    checking: bool = False
    doubtful: bool = False
    trusted_connections: int = -1
    trusted_at: float = 0.0
    held: list[tuple[Task, Any]] = field(default_factory=list)

    def allowed(self, limits: Limits) -> int:
        """How many requests it gets at once, also while it is asked who it is."""
        return min(limits.concurrent, self.server.slots or limits.concurrent)

    def room(self, limits: Limits) -> int:
        """How many more requests it gets."""
        if not self.up or time.monotonic() < self.rests_until:
            return 0
        return self.allowed(limits) - self.busy - (self.checking or self.due_for_a_check)

    @property
    def due_for_a_check(self) -> bool:
        """Whether results wait for it to be asked who it is, which is not done all the time."""
        return bool(self.held) and (not self.busy or time.monotonic() - self.trusted_at >= _BETWEEN)

    @property
    def up(self) -> bool:
        """Whether it is used."""
        return not (self.failures or self.retired or self.doubtful)

    @property
    def trusted(self) -> bool:
        """Whether it is certainly the server that was tried: a new connection may lead to another one."""
        same = self.trusted_connections == self.client.connections
        return not self.server.greedy or (same and time.monotonic() - self.trusted_at < _TRUSTED)


@dataclass(frozen=True)
class Errand:
    """What a coroutine is for: a task on a server, or asking who the server is.

    Attributes:
        connections: the client's when a check began.
        held: number of results that were held then.
    """

    seat: Seat
    task: Task | None
    connections: int = 0
    held: int = 0


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

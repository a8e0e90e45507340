"""The engine on inference servers: which requests are in flight, what a failure means, and who a server is."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import FollowUp
from lm_eval_ext.generation.engines.dialect import TokenScore
from lm_eval_ext.generation.engines.http import (
    ConnectionOptions,
    LoopThread,
    RefusedError,
    RetryableError,
    ServerClient,
    Settled,
    UnreachableError,
)
from lm_eval_ext.generation.engines.server_identity import (
    Passage,
    ServedModel,
    ShortReplyError,
    asked_again,
    decoded,
    scored,
)
from lm_eval_ext.generation.engines.supervisor import Done, Down, Event, Failed, Supervisor, Task, Up
from lm_eval_ext.generation.request import Completion, Job

logger = logging.getLogger("lm_eval.tts")

_LONGEST_PAUSE = 60.0  # seconds between two tries
_TICK = 1.0  # seconds to wait at most before looking at what is due
_TROUBLES = 5  # requests in a row that a server cannot serve
_BETWEEN = 2.0  # seconds between two checks of a server that closes its connections

Work = Callable[[ServerClient, ServedModel, Any], Coroutine[object, object, Any]]
_Errand = tuple[int, Task[Any] | None]  # a server's number, and a task for it; None to ask who it is


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
class _Seat:
    """A server during a run.

    Attributes:
        slots: requests that it gets at once.
        waiting: tasks that were given to it, and are not sent yet.
        busy, peak: requests in flight, and the most that were.
        up, retired: whether it is used, and whether it refuses everything.
        checking, checked: whether it is being asked who it is, and when it was last.
        connections: how many the client had made when it was last asked, or may have by then.
        held: results over a new connection, which may lead to another model: used when it has said who it is.
        doubtful: whether it has said something else than before while it was busy; it is asked again when it is idle.
        failures: how often in a row it could not be reached.
        since, due: since when it is down, and when it is tried again.
        troubles: requests in a row that it could not serve.
        rests_until: until when it has asked to be left alone.
    """

    server: Server
    client: ServerClient
    slots: int
    waiting: deque[Task[Any]] = field(default_factory=deque)
    busy: int = 0
    peak: int = 0
    up: bool = False
    retired: bool = False
    checking: bool = False
    checked: float = 0.0
    connections: int = 0
    held: list[Done] = field(default_factory=list)
    doubtful: bool = False
    failures: int = 0
    since: float = 0.0
    due: float = 0.0
    troubles: int = 0
    rests_until: float = 0.0

    def is_due(self, now: float) -> bool:
        """Whether it should be asked who it is: before its first task, after a failure, and on a new connection."""
        if self.checking or self.retired:
            return False
        if not self.up:
            return now >= self.due and not (self.doubtful and self.busy)
        # Also if the number of requests in flight has grown meanwhile, which explains further connections.
        return (self.reopened or bool(self.held)) and (not self.busy or now - self.checked >= _BETWEEN)

    @property
    def trusted(self) -> bool:
        """Whether it is certainly the server that was tried."""
        doubts = self.checking or self.reopened or self.held or not self.up
        return not (self.server.greedy and doubts)

    @property
    def reopened(self) -> bool:
        """Whether there is a connection in the place of one that was closed since it was last asked who it is."""
        return bool(self.server.greedy) and self.client.connections > max(self.connections, self.peak)


class ServerFleet:
    """Inference servers as workers; see `Fleet`.

    Args:
        servers: at least one, all with the same model.
        options: how to connect.
        limits: how much to ask of them.
        work: what is done with an item, as a coroutine.
    """

    def __init__(self, servers: Sequence[Server], options: ConnectionOptions, limits: Limits, work: Work) -> None:
        self.asked = len(servers)
        self.limits = limits
        self.work = work
        self._seats = [
            _Seat(server, ServerClient(server.root, options), min(limits.concurrent, server.slots or limits.concurrent))
            for server in servers
        ]
        self._thread: LoopThread[_Errand] = LoopThread()
        self._events: list[Event] = []

    def __enter__(self) -> Self:
        self._thread.__enter__()
        try:
            for worker, seat in enumerate(self._seats):
                self._thread.result_of(seat.client.open())
                if not seat.server.greedy:
                    self._use(worker, seat)
        except BaseException:
            self._thread.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats:
            self._thread.result_of(seat.client.close())
        self._thread.__exit__()

    @property
    def coming(self) -> int:
        """Number of servers that are asked who they are, before the first task."""
        return sum(seat.checking and not (seat.up or seat.failures or seat.doubtful) for seat in self._seats)

    def send(self, worker: int, task: Task[Any]) -> None:
        """Give a task to a server, which gets it as soon as it has room."""
        seat = self._seats[worker]
        if not seat.up:  # it has failed since the last event was taken
            self._events.append(Failed(worker, task, "is down"))
            return
        (seat.waiting.appendleft if task.follows else seat.waiting.append)(task)
        self._flush(worker, seat)

    def _flush(self, worker: int, seat: _Seat) -> None:
        while seat.up and seat.waiting and seat.busy < seat.slots and time.monotonic() >= seat.rests_until:
            task = seat.waiting.popleft()
            seat.busy += 1
            seat.peak = max(seat.peak, seat.busy)
            self._thread.start((worker, task), self.work(seat.client, seat.server.model, task.item))

    def events(self, patience: float) -> list[Event]:
        """What has happened; see `Fleet`."""
        now = time.monotonic()
        for worker, seat in enumerate(self._seats):
            if seat.up and 0 < seat.rests_until <= now:
                self._use(worker, seat)
            if seat.is_due(now):
                seat.checking, seat.checked, seat.connections = True, now, max(seat.client.connections, seat.peak)
                self._thread.start((worker, None), asked_again(seat.client, seat.server.model))
            self._flush(worker, seat)
        outcome = self._thread.outcome(0.0 if self._events else self._until_due(patience))
        while outcome is not None:
            self._take(outcome)
            outcome = self._thread.outcome(0.0)
        events, self._events = self._events, []
        return events

    def _until_due(self, patience: float) -> float:
        """Seconds until something is due."""
        due = [seat.due for seat in self._seats if not (seat.up or seat.checking or seat.retired or seat.doubtful)]
        due += [seat.rests_until for seat in self._seats if seat.up and seat.rests_until]
        return max(0.0, min([_TICK, patience, *(at - time.monotonic() for at in due)]))

    def _take(self, outcome: Settled[_Errand]) -> None:
        worker, task = outcome.tag
        seat = self._seats[worker]
        if task is None:
            self._checked(worker, seat, outcome)
            return
        seat.busy -= 1
        match outcome.error:
            case None:
                seat.troubles = 0
                done = Done(worker, task, outcome.result)
                (self._events if seat.trusted else seat.held).append(done)
            case UnreachableError() as error:
                self._down(worker, seat, error)
                self._again(worker, task, error, 0.0)
            case RetryableError() as error:
                self._rest(worker, seat, error.wait)
                self._again(worker, task, error, max(error.wait, self.limits.wait(task.tries + 1)))
                seat.troubles += 1
                # A server that fails every request would attract all of them, so the others get them for a while.
                if seat.troubles >= _TROUBLES and any(other is not seat and other.up for other in self._seats):
                    self._down(worker, seat, error)
            case RefusedError(every=True) as error:
                self._retire(worker, seat, error)
                self._events.append(Failed(worker, task, str(error)))
            case RefusedError() | ShortReplyError() as error:
                self._events.append(Failed(worker, task, str(error), None))
            case error:
                raise error
        self._flush(worker, seat)

    def _again(self, worker: int, task: Task[Any], error: RetryableError, wait: float) -> None:
        task.tries += 1
        if task.tries > self.limits.retries:
            times = "once" if task.tries == 1 else f"{task.tries} times"
            self._events.append(Failed(worker, task, f"{error}, {times}", None))
        else:
            self._events.append(Failed(worker, task, str(error), wait))

    # Servers that are down, or other ones than before -----------------------------------------------------

    def _use(self, worker: int, seat: _Seat) -> None:
        seat.up, seat.rests_until = True, 0.0
        self._events.append(Up(worker, seat.slots))

    def _rest(self, worker: int, seat: _Seat, seconds: float) -> None:
        if seconds > 0 and seat.up:
            seat.rests_until = max(seat.rests_until, time.monotonic() + seconds)
            self._events.append(Up(worker, 0))

    def _leave(self, worker: int, seat: _Seat) -> None:
        """Use a server no more, for now; what it was given and has not begun is for the others."""
        seat.up = False
        back = [*seat.waiting, *(done.task for done in seat.held)]  # nobody can tell any more who has decoded these
        self._events += [Down(worker), *(Failed(worker, task, "is down") for task in back)]
        seat.waiting.clear()
        seat.held.clear()

    def _down(self, worker: int, seat: _Seat, error: Exception) -> None:
        if seat.up:
            self._leave(worker, seat)
        elif seat.failures:
            return
        logger.warning("%s; trying again", error)
        seat.since = time.monotonic()
        self._later(seat)

    def _later(self, seat: _Seat) -> None:
        seat.failures += 1
        seat.due = max(seat.rests_until, time.monotonic() + self.limits.wait(seat.failures))

    def _retire(self, worker: int, seat: _Seat, error: EngineError) -> None:
        """Never use a server again; raises if it was the last one."""
        if seat.retired:
            return
        seat.retired = True
        self._leave(worker, seat)
        if all(other.retired for other in self._seats):
            raise error
        logger.warning("%s; this server is no longer used", error)

    def _checked(self, worker: int, seat: _Seat, outcome: Settled[_Errand]) -> None:
        seat.checking = False
        if seat.retired:
            return
        if isinstance(outcome.error, RetryableError):
            if seat.failures:
                self._later(seat)
            else:
                self._down(worker, seat, outcome.error)
            self._check_patience(outcome.error)
        elif isinstance(outcome.error, RefusedError):
            self._retire(worker, seat, outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        elif seat.server.greedy and outcome.result != seat.server.greedy:
            self._doubt(worker, seat)
        else:
            if seat.failures:
                logger.info("%s answers again", seat.server.root)
            seat.failures = seat.troubles = 0
            seat.doubtful = False
            if not seat.up:
                self._use(worker, seat)
            if not seat.reopened:  # else another one was made meanwhile, and it is asked again
                self._events += seat.held
                seat.held.clear()

    def _doubt(self, worker: int, seat: _Seat) -> None:
        """The same model may say something else while it decodes other texts too, so it is asked again when idle."""
        if seat.doubtful or not seat.busy:
            raise EngineError(
                f"{seat.server.root}: serves another model than before, or the same one in another way; what was "
                "decoded before is in the journal, so run again if that is meant; or give weights=NAME if its greedy "
                "texts vary"
            )
        seat.doubtful = True
        if seat.up:
            self._leave(worker, seat)

    def _check_patience(self, error: RetryableError) -> None:
        now = time.monotonic()
        if all(
            seat.retired or (seat.failures > self.limits.retries and now - seat.since >= self.limits.patience)
            for seat in self._seats
        ):
            raise EngineError(
                f"{error}; what was decoded is in the journal, so run again to go on, when the server is up"
            )


@dataclass(eq=False)
class ServerEngine:
    """Decodes on one or several servers of the same model.

    Attributes:
        servers: at least one.
        options: how to connect.
        limits: how much to ask of them.
        on_tokens: called with the number of tokens of each completion.
        on_servers: called with the number of servers that answer and of all, when one changes.
    """

    servers: Sequence[Server]
    options: ConnectionOptions
    limits: Limits
    on_tokens: Callable[[int], None] = lambda tokens: None
    on_servers: Callable[[int, int], None] = lambda up, asked: None

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; a follow-up goes to the server that holds its trace.

        Raises:
            EngineError: no server answers, a server has another model than before, or some jobs could not be decoded;
                all that could be has been handed to `on_completion` by then.
        """

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            self.on_tokens(len(completion.ids))
            return on_completion(job, completion)

        with ServerFleet(self.servers, self.options, self.limits, decoded) as fleet:
            _check(Supervisor(fleet, finished, self.on_servers).run(jobs), "decoded", "run again to go on")

    def scores(self, passages: Sequence[Passage], on_score: Callable[[Passage, list[TokenScore]], None]) -> None:
        """Score passages; raises as `run` does."""

        def finished(passage: Passage, score: list[TokenScore]) -> Iterable[Passage]:
            on_score(passage, score)
            return ()

        with ServerFleet(self.servers, self.options, self.limits, scored) as fleet:
            lost = Supervisor(fleet, finished, self.on_servers).run(passages)
            _check(lost, "scored", "leave the question out; scores are not kept")


def _check(lost: Sequence[str], done: str, hint: str) -> None:
    if lost:
        raise EngineError(
            f"{len(lost)} {'texts' if len(lost) > 1 else 'text'} could not be {done} ({lost[0]}); the others are "
            f"finished, so {hint}"
        )

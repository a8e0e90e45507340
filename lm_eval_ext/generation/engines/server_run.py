"""One run on inference servers: what is sent where, what is tried again, and what happens to servers that are down."""

from __future__ import annotations

import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeVar

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engines.http import RefusedError, RetryableError, ServerClient, UnreachableError
from lm_eval_ext.generation.engines.loop_thread import LoopThread, Outcome
from lm_eval_ext.generation.engines.server_identity import greedy_digest
from lm_eval_ext.generation.engines.server_job import ServedModel, ShortReplyError

logger = logging.getLogger("lm_eval.tts")

_LONGEST_PAUSE = 60.0  # seconds between two tries
_TICK = 1.0  # seconds to wait at most before looking at what is due

OnServers = Callable[[int, int], None]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Work = Callable[[ServerClient, ServedModel, _Item], Coroutine[Any, Any, _Result]]
Finished = Callable[[_Item, _Result], Iterable[_Item]]


@dataclass(frozen=True)
class Server:
    """A server that was tried.

    Attributes:
        root: its address without a path.
        model: how its model is asked for.
        greedy: what its model says to fixed prompts, as a hash.
    """

    root: str
    model: ServedModel
    greedy: str


@dataclass(frozen=True)
class Limits:
    """How much is asked of servers.

    Attributes:
        concurrent: requests in flight to each server.
        retries: how often a request is tried again, and how often a server that is down.
        pause: seconds before the first of these; the next ones wait twice as long each.
    """

    concurrent: int = 32
    retries: int = 8
    pause: float = 1.0

    def wait(self, tries: int) -> float:
        """Seconds before the next try, drawn so that not everyone comes back at the same moment."""
        return min(self.pause * 2.0 ** min(tries - 1, 20), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # no secret


@dataclass
class Seat:
    """A server during a run.

    Attributes:
        busy: requests in flight.
        failures: how often it was found unreachable in a row; 0 if it is up.
        due: when it is tried again if it is down, in seconds of the monotonic clock.
        checking: whether it is being tried.
    """

    server: Server
    client: ServerClient
    busy: int = 0
    failures: int = 0
    due: float = 0.0
    checking: bool = False


@dataclass
class Task:
    """A job to decode or a passage to score, where its trace was decoded, and how often it has failed."""

    item: Any
    seat: Seat | None = None
    tries: int = 0


@dataclass(frozen=True)
class Errand:
    """What a coroutine is for: a task on a server, or to see whether the server is back."""

    seat: Seat
    task: Task | None


@dataclass
class ServerRun:
    """One run: what waits, what is on its way, and what was given up."""

    limits: Limits
    on_servers: OnServers
    thread: LoopThread[Errand]
    seats: Sequence[Seat]
    work: Work[Any, Any]
    finished: Finished[Any, Any]
    urgent: deque[Task] = field(default_factory=deque)  # follow-ups, before new traces
    new: deque[Task] = field(default_factory=deque)
    delayed: list[tuple[float, int, Task]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # why each job was given up
    in_flight: int = 0
    _numbers: count[int] = field(default_factory=count)

    def finish(self, items: Iterable[object]) -> None:
        """Do all the work; raises if some could not be done."""
        self.new.extend(map(Task, items))
        while self.new or self.urgent or self.delayed or self.in_flight:
            self._revive()
            self._send()
            outcome = self.thread.outcome(self._patience())
            if outcome is not None:
                self._take(outcome)
        if self.lost:
            raise EngineError(
                f"{len(self.lost)} texts could not be decoded ({self.lost[0]}); all others are in the journal, so run "
                "again to go on"
            )

    def _patience(self) -> float:
        """Seconds until something is due."""
        due = [self.delayed[0][0]] if self.delayed else []
        due += [seat.due for seat in self.seats if seat.failures and not seat.checking]
        return max(0.0, min([_TICK, *(at - time.monotonic() for at in due)]))

    # Sending ----------------------------------------------------------------------------------------------

    def _send(self) -> None:
        now = time.monotonic()
        while self.delayed and self.delayed[0][0] <= now:
            self.urgent.append(heapq.heappop(self.delayed)[2])
        for waiting in (self.urgent, self.new):
            for _ in range(len(waiting)):
                seat = self._seat_for(waiting[0])
                if seat is None and (waiting is self.new or not self._free()):
                    break
                task = waiting.popleft()
                if seat is None:  # its own server is full, and another task's may not be
                    waiting.append(task)
                else:
                    self._start(seat, task)

    def _start(self, seat: Seat, task: Task) -> None:
        task.seat = seat
        seat.busy += 1
        self.in_flight += 1
        self.thread.start(Errand(seat, task), self.work(seat.client, seat.server.model, task.item))

    def _free(self) -> list[Seat]:
        return [seat for seat in self.seats if not seat.failures and seat.busy < self.limits.concurrent]

    def _seat_for(self, task: Task) -> Seat | None:
        """The server of its trace if that is up, else the one with the most room; None if it has to wait."""
        if task.seat is not None and not task.seat.failures:
            return task.seat if task.seat.busy < self.limits.concurrent else None
        return min(self._free(), key=lambda seat: seat.busy, default=None)

    # Outcomes ---------------------------------------------------------------------------------------------

    def _take(self, outcome: Outcome[Errand]) -> None:
        seat, task = outcome.tag.seat, outcome.tag.task
        if task is None:
            self._checked(seat, outcome)
            return
        seat.busy -= 1
        self.in_flight -= 1
        match outcome.error:
            case None:
                self.urgent.extend(Task(item, seat) for item in self.finished(task.item, outcome.result))
            case UnreachableError() as error:
                self._down(seat, str(error))
                self._again(task, error, now=True)
            case RetryableError() as error:
                self._again(task, error)
            case RefusedError(every=False) | ShortReplyError() as error:
                self._give_up(task, str(error))
            case error:
                raise error

    def _again(self, task: Task, error: RetryableError, now: bool = False) -> None:
        task.tries += 1
        if task.tries > self.limits.retries:
            self._give_up(task, f"{error}, {task.tries} times")
        elif now:  # on another server, or on this one when it is back
            self.urgent.appendleft(task)
        else:
            wait = max(error.wait, self.limits.wait(task.tries))
            heapq.heappush(self.delayed, (time.monotonic() + wait, next(self._numbers), task))

    def _give_up(self, task: Task, reason: str) -> None:
        if not self.lost:
            logger.warning("%s; the other texts are finished first", reason)
        self.lost.append(reason)

    # Servers that are down --------------------------------------------------------------------------------

    def _down(self, seat: Seat, reason: str) -> None:
        if not seat.failures:
            logger.warning("%s; trying again", reason)
            self._fail(seat)
            self._report()

    def _fail(self, seat: Seat) -> None:
        seat.failures += 1
        seat.due = time.monotonic() + self.limits.wait(seat.failures)

    def _revive(self) -> None:
        """See whether servers that are down answer again, and with the same model."""
        for seat in self.seats:
            if seat.failures and not seat.checking and seat.due <= time.monotonic():
                seat.checking = True
                self.thread.start(Errand(seat, None), greedy_digest(seat.client, seat.server.model))

    def _checked(self, seat: Seat, outcome: Outcome[Errand]) -> None:
        seat.checking = False
        if isinstance(outcome.error, RetryableError):
            self._fail(seat)
            if all(one.failures > self.limits.retries for one in self.seats):
                raise EngineError(
                    f"{outcome.error}; what was decoded is in the journal, so run again to go on, when the server is up"
                )
        elif outcome.error is not None:
            raise outcome.error
        elif outcome.result != seat.server.greedy:
            raise EngineError(
                f"{seat.server.root}: serves another model than before, or the same one in another way; what was "
                "decoded is in the journal, each under its model, so run again if that is meant"
            )
        else:
            logger.info("%s answers again", seat.server.root)
            seat.failures = 0
            self._report()

    def _report(self) -> None:
        self.on_servers(sum(not seat.failures for seat in self.seats), len(self.seats))

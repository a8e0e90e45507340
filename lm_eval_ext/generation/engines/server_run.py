"""One run on inference servers: what is sent where, what is tried again, and what happens to servers that are down."""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, NamedTuple, TypeVar

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import FollowUp
from lm_eval_ext.generation.engines.http import (
    ConnectionOptions,
    LoopThread,
    Outcome,
    RefusedError,
    RetryableError,
    ServerClient,
    UnreachableError,
)
from lm_eval_ext.generation.engines.server_identity import asked_again
from lm_eval_ext.generation.engines.server_seats import (
    Errand,
    Limits,
    Passage,
    Seat,
    ServedModel,
    Server,
    ShortReplyError,
    Task,
    decoded,
    scored,
)
from lm_eval_ext.generation.request import Completion, Job

logger = logging.getLogger("lm_eval.tts")

_TICK = 1.0  # seconds to wait at most before looking at what is due
_TROUBLES = 5  # requests in a row that a server cannot serve

OnServers = Callable[[int, int], None]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Work = Callable[[ServerClient, ServedModel, _Item], Coroutine[object, object, _Result]]
Finished = Callable[[_Item, _Result], Iterable[_Item]]


class Words(NamedTuple):
    """How a run is spoken of: what is done with a text, and what to do if some could not be."""

    done: str
    hint: str


DECODED = Words("decoded", "run again to go on")
SCORED = Words("scored", "leave the question out; scores are not kept")


@dataclass
class ServerRun(Generic[_Item, _Result]):
    """One run: what waits, what is on its way, and what was given up."""

    limits: Limits
    on_servers: OnServers
    thread: LoopThread[Errand]
    seats: Sequence[Seat]
    work: Work[_Item, _Result]
    finished: Finished[_Item, _Result]
    words: Words = DECODED
    urgent: deque[Task] = field(default_factory=deque)  # follow-ups, before new traces
    new: deque[Task] = field(default_factory=deque)
    delayed: list[tuple[float, int, Task]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # why each job was given up
    in_flight: int = 0
    _numbers: count[int] = field(default_factory=count)

    def finish(self, items: Iterable[_Item]) -> None:
        """Do all the work; raises if some could not be done."""
        self.new.extend(map(Task, items))
        try:
            while self.new or self.urgent or self.delayed or self.in_flight or any(seat.held for seat in self.seats):
                self._check_servers()
                self._send()
                outcome = self.thread.outcome(self._patience())
                if outcome is not None:
                    self._take(outcome)
        except BaseException:
            self._drain()
            raise
        if self.lost:
            raise EngineError(
                f"{len(self.lost)} {'texts' if len(self.lost) > 1 else 'text'} could not be {self.words.done} "
                f"({self.lost[0]}); the others are finished, so {self.words.hint}"
            )

    def _patience(self) -> float:
        """Seconds until something is due."""
        due = [self.delayed[0][0]] if self.delayed else []
        due += [seat.due for seat in self.seats if seat.failures and not seat.checking]
        return max(0.0, min([_TICK, *(at - time.monotonic() for at in due)]))

    def _drain(self) -> None:
        """Use what has arrived, because it is finished."""
        while (outcome := self.thread.outcome(0.0)) is not None:
            seat, task = outcome.tag.seat, outcome.tag.task
            if task is not None and outcome.error is None and seat.trusted:
                self.finished(task.item, outcome.result)

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
        return [seat for seat in self.seats if seat.room(self.limits) > 0]

    def _seat_for(self, task: Task) -> Seat | None:
        """The server of its trace if that is up, else the one with the most room; None if it has to wait."""
        own = task.seat
        if own is not None and not (own.failures or own.retired):
            return own if own.room(self.limits) > 0 else None
        return max(self._free(), key=lambda seat: seat.room(self.limits), default=None)

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
                self._completed(seat, task, outcome.result)
            case UnreachableError() as error:
                self._down(seat, str(error))
                self._again(task, error, now=True)
            case RetryableError() as error:
                seat.rests_until = max(seat.rests_until, time.monotonic() + error.wait)
                self._again(task, error)
                self._trouble(seat, error)
            case RefusedError(every=True) as error:
                self._retire(seat, error)
                self.urgent.append(task)
            case RefusedError() | ShortReplyError() as error:
                self._give_up(task, str(error))
            case error:
                raise error

    def _completed(self, seat: Seat, task: Task, result: _Result) -> None:
        seat.troubles = 0
        if seat.trusted:
            self.urgent.extend(Task(item, seat) for item in self.finished(task.item, result))
        else:
            seat.held.append((task, result))

    def _again(self, task: Task, error: RetryableError, now: bool = False) -> None:
        task.tries += 1
        task.seat = None
        if task.tries > self.limits.retries:
            self._give_up(task, f"{error}, {'once' if task.tries == 1 else f'{task.tries} times'}")
        elif now:  # on another server, or on this one when it is back
            self.urgent.appendleft(task)
        else:
            wait = max(error.wait, self.limits.wait(task.tries))
            heapq.heappush(self.delayed, (time.monotonic() + wait, next(self._numbers), task))

    def _give_up(self, task: Task, reason: str) -> None:
        if not self.lost:
            logger.warning("%s; the other texts are finished first", reason)
        self.lost.append(reason)

    # Servers that are down, or other ones than before -----------------------------------------------------

    def _trouble(self, seat: Seat, error: RetryableError) -> None:
        """A server that fails every request would attract all of them, so the others get them for a while."""
        seat.troubles += 1
        if seat.troubles >= _TROUBLES and any(one is not seat and one.up for one in self.seats):
            self._down(seat, str(error))

    def _down(self, seat: Seat, reason: str) -> None:
        if seat.failures:
            return
        logger.warning("%s; trying again", reason)
        seat.since = time.monotonic()
        self.urgent.extend(task for task, _ in seat.held)  # who has decoded them can no longer be asked
        seat.held.clear()
        self._fail(seat)
        self._report()

    def _fail(self, seat: Seat) -> None:
        seat.failures += 1
        seat.due = max(seat.rests_until, time.monotonic() + self.limits.wait(seat.failures))

    def _retire(self, seat: Seat, error: EngineError) -> None:
        """Use a server no more; raises if it was the last one."""
        seat.retired = True
        if all(one.retired for one in self.seats):
            raise error
        logger.warning("%s; this server is no longer used", error)
        self.urgent.extend(task for task, _ in seat.held)
        seat.held.clear()
        self._report()

    def _check_servers(self) -> None:
        """Ask servers who they are, if they were down, or if there are new connections."""
        for seat in self.seats:
            if seat.failures:
                due = seat.due <= time.monotonic()
            elif seat.doubtful:
                due = not seat.busy
            else:
                due = seat.due_for_a_check and seat.busy < seat.allowed(self.limits)
            if due and not (seat.checking or seat.retired):
                seat.checking = True
                errand = Errand(seat, None, seat.client.connections, len(seat.held))
                self.thread.start(errand, asked_again(seat.client, seat.server.model))

    def _checked(self, seat: Seat, outcome: Outcome[Errand]) -> None:
        seat.checking = False
        if isinstance(outcome.error, RetryableError):
            if seat.failures:
                self._fail(seat)
            else:
                self._down(seat, str(outcome.error))
            self._check_patience(outcome.error)
        elif isinstance(outcome.error, RefusedError):
            self._retire(seat, outcome.error)
        elif outcome.error is not None:
            raise outcome.error
        elif seat.server.greedy and outcome.result != seat.server.greedy:
            self._doubt(seat)
        else:
            self._trust(seat, outcome.tag)

    def _check_patience(self, error: RetryableError) -> None:
        now = time.monotonic()
        if all(
            seat.retired or (seat.failures > self.limits.retries and now - seat.since >= self.limits.patience)
            for seat in self.seats
        ):
            raise EngineError(
                f"{error}; what was decoded is in the journal, so run again to go on, when the server is up"
            )

    def _doubt(self, seat: Seat) -> None:
        """The same model may say something else while it decodes other texts too, so it is asked again when idle."""
        if seat.doubtful or not seat.busy:
            raise EngineError(
                f"{seat.server.root}: serves another model than before, or the same one in another way; what was "
                "decoded before is in the journal, so run again if that is meant; or give weights=NAME if its greedy "
                "texts vary"
            )
        seat.doubtful = True

    def _trust(self, seat: Seat, errand: Errand) -> None:
        if seat.failures:
            logger.info("%s answers again", seat.server.root)
        seat.failures = seat.troubles = 0
        seat.doubtful = False
        seat.trusted_connections, seat.trusted_at = errand.connections, time.monotonic()
        sure = len(seat.held) if seat.trusted else errand.held
        for task, result in seat.held[:sure]:
            self.urgent.extend(Task(item, seat) for item in self.finished(task.item, result))
        del seat.held[:sure]
        self._report()

    def _report(self) -> None:
        self.on_servers(sum(not (seat.failures or seat.retired) for seat in self.seats), len(self.seats))


class ServerEngine:
    """Decodes on one or several servers of the same model.

    Args:
        servers: at least one.
        options: how to connect.
        limits: how much to ask of them.
        on_tokens: called with the number of tokens of each completion.
        on_servers: called with the number of servers that answer and of all, when one changes.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        options: ConnectionOptions,
        limits: Limits,
        on_tokens: Callable[[int], None] = lambda tokens: None,
        on_servers: OnServers = lambda up, asked: None,
    ) -> None:
        self.servers = servers
        self.options = options
        self.limits = limits
        self.on_tokens = on_tokens
        self.on_servers = on_servers

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; a follow-up goes to the server that holds its trace.

        Raises:
            EngineError: no server answers, a server has another model than before, or some jobs could not be decoded;
                all that could be has been handed to `on_completion` by then.
        """

        def finished(job: Job, completion: Completion) -> Iterable[Job]:
            self.on_tokens(len(completion.ids))
            return on_completion(job, completion)

        self._run(jobs, decoded, finished)

    def scores(self, passages: Sequence[Passage], on_score: Callable[[Passage, tuple[float, bool]], None]) -> None:
        """Score passages; raises as `run` does."""

        def finished(passage: Passage, score: tuple[float, bool]) -> Iterable[Passage]:
            on_score(passage, score)
            return ()

        self._run(passages, scored, finished, SCORED)

    def _run(
        self,
        items: Sequence[_Item],
        work: Work[_Item, _Result],
        finished: Finished[_Item, _Result],
        words: Words = DECODED,
    ) -> None:
        with LoopThread[Errand]() as thread:
            seats = [Seat(server, ServerClient(server.root, self.options)) for server in self.servers]
            for seat in seats:
                thread.result_of(seat.client.open())
            try:
                ServerRun(self.limits, self.on_servers, thread, seats, work, finished, words).finish(items)
            finally:
                for seat in seats:
                    thread.result_of(seat.client.close())

"""An engine over replicas: hands out jobs as replicas ask for more, and decodes again what a lost replica had."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engine import FollowUp
from lm_eval_ext.generation.engines.replica import Progress
from lm_eval_ext.generation.request import Job

logger = logging.getLogger("lm_eval.tts")

Numbered = tuple[int, Job]

_SPARE = 4  # a replica gets a quarter more jobs than it has slots, so that prompts can be prefilled together
_MOST_RESTARTS = 3  # of one replica without a completion in between


@dataclass(frozen=True)
class Ready:
    """A replica has loaded the model and can take jobs; after a restart, it has lost all it had."""

    replica: int
    slots: int


@dataclass(frozen=True)
class Advanced:
    """A replica has answered the last `advance`."""

    replica: int
    progress: Progress


@dataclass(frozen=True)
class Lost:
    """A replica's process has died; it is being started again."""

    replica: int
    reason: str


@dataclass(frozen=True)
class Called:
    """A replica has run requests that are no jobs."""

    replica: int
    results: list[object]


Event = Ready | Advanced | Lost | Called


class Restarts:
    """Counts how often each replica has died since it last finished something, and gives up after too many."""

    def __init__(self) -> None:
        self._deaths: dict[int, int] = {}

    def progress(self, replica: int) -> None:
        """A replica has finished something."""
        self._deaths.pop(replica, None)

    def lost(self, event: Lost) -> None:
        """A replica has died.

        Raises:
            EngineError: it has died four times without finishing anything.
        """
        deaths = self._deaths[event.replica] = self._deaths.get(event.replica, 0) + 1
        if deaths > _MOST_RESTARTS:
            raise EngineError(
                f"replica {event.replica} has died {deaths} times without finishing anything: {event.reason}; what "
                "has been finished is in the journal"
            )
        logger.warning("replica %d has died and is started again: %s", event.replica, event.reason)


class Pool(Protocol):
    """Replicas of one model, known by number; some may not be there yet.

    Attributes:
        asked: number of replicas asked for.
    """

    asked: int

    @property
    def loading(self) -> int:
        """Number of replicas that have their resources and are loading the model."""

    def begin(self, tokens: int) -> None:
        """Prepare all replicas for jobs of up to `tokens` tokens; each is then reported as `Ready`."""

    def advance(self, replica: int, follow_ups: Sequence[Numbered], new: Sequence[Numbered]) -> None:
        """Call `Replica.advance`, without waiting for the result."""

    def events(self) -> Sequence[Event]:
        """What has happened since the last call; waits for the first event, but not for ever.

        Raises:
            EngineError: a replica's model has failed, or none is left and none comes.
        """

    def close(self) -> None:
        """End all replicas."""


@dataclass
class _Seat:
    """A replica that is up.

    Attributes:
        slots: number of jobs it decodes at once.
        jobs: in its hands, by number.
        follow_ups: to be sent next.
        free: whether it waits for the next `advance`.
    """

    slots: int
    jobs: dict[int, Job] = field(default_factory=dict)
    follow_ups: list[Numbered] = field(default_factory=list)
    free: bool = True


class ReplicaEngine:
    """Decodes on the replicas of a pool.

    Args:
        pool: the replicas; it stays open after a run that ends well.
        tokens: most tokens in one text.
        on_tokens: called with the number of tokens that a replica has decoded.
        on_replicas: called with the number of replicas that are up and of those asked for, when one changes.
    """

    def __init__(
        self,
        pool: Pool,
        tokens: int,
        on_tokens: Callable[[int], None] = lambda tokens: None,
        on_replicas: Callable[[int, int], None] = lambda up, asked: None,
    ) -> None:
        self.pool = pool
        self.tokens = tokens
        self.on_tokens = on_tokens
        self.on_replicas = on_replicas

    def run(self, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        """Decode every job and its follow-ups; a follow-up goes to the replica that holds its trace.

        Raises:
            EngineError: a replica's model has failed, or replicas die again and again.
        """
        dispatch = _Dispatch(self, jobs, on_completion)
        try:
            self.pool.begin(self.tokens)
            while dispatch.unfinished:
                dispatch.send()
                for event in self.pool.events():
                    dispatch.take(event)
            dispatch.drain()
        except BaseException:
            self.pool.close()  # the replicas still hold jobs
            raise


class _Dispatch:
    """One run: the queue, and what each replica holds."""

    def __init__(self, engine: ReplicaEngine, jobs: Sequence[Job], on_completion: FollowUp) -> None:
        self.engine = engine
        self.pool = engine.pool
        self.queue = deque(jobs)
        self.on_completion = on_completion
        self.seats: dict[int, _Seat] = {}
        self.restarts = Restarts()
        self._numbers = count()

    @property
    def unfinished(self) -> int:
        """Number of jobs that have not been completed."""
        return len(self.queue) + sum(len(seat.jobs) for seat in self.seats.values())

    def send(self) -> None:
        """Call every free replica that has or gets jobs."""
        for replica, seat in self.seats.items():
            if not seat.free:
                continue
            new = [self._numbered(seat, self.queue.popleft()) for _ in range(min(self._room(seat), len(self.queue)))]
            if seat.jobs:
                self.pool.advance(replica, seat.follow_ups, new)
                seat.follow_ups, seat.free = [], False

    def _room(self, seat: _Seat) -> int:
        """How many new jobs a replica gets: what it can decode soon, but not more than its share of all."""
        share = -(-self.unfinished // (len(self.seats) + self.pool.loading))
        return max(0, min(seat.slots + seat.slots // _SPARE, share) - len(seat.jobs))

    def _numbered(self, seat: _Seat, job: Job) -> Numbered:
        number = next(self._numbers)
        seat.jobs[number] = job
        return number, replace(job, tag=None)  # the tag belongs to the caller, and need not be picklable

    def take(self, event: Event) -> None:
        """Handle one event."""
        if isinstance(event, Advanced):
            self._advanced(self.seats[event.replica], event)
            return
        lost = self.seats.pop(event.replica, None)
        self.queue.extendleft(reversed(list(lost.jobs.values())) if lost else ())
        if isinstance(event, Lost):
            self.restarts.lost(event)
        elif isinstance(event, Ready):
            self.seats[event.replica] = _Seat(event.slots)
        self.engine.on_replicas(len(self.seats), self.pool.asked)

    def _advanced(self, seat: _Seat, event: Advanced) -> None:
        progress = event.progress
        seat.free, seat.slots = True, progress.slots
        self.engine.on_tokens(progress.tokens)
        if progress.number is not None and progress.completion is not None:
            self.restarts.progress(event.replica)
            job = seat.jobs.pop(progress.number)
            follow_ups: Iterable[Job] = self.on_completion(job, progress.completion)
            seat.follow_ups = [self._numbered(seat, follow_up) for follow_up in follow_ups]

    def drain(self) -> None:
        """Take the last answers, so that the next run starts with free replicas."""
        while any(not seat.free for seat in self.seats.values()):
            for event in self.pool.events():
                self.take(event)


class CallingPool(Protocol):
    """Replicas of which methods can be called."""

    asked: int

    def free(self) -> list[int]:
        """The replicas that are loaded and have no call in flight."""

    def call(self, replica: int, method: str, requests: Sequence[object]) -> None:
        """Call `Replica.call`, without waiting for the result."""

    def events(self) -> Sequence[Event]:
        """What has happened since the last call; waits for the first event, but not for ever."""


_PARTS = 4  # per replica, so that a slow one takes fewer


def scattered(
    pool: CallingPool,
    method: str,
    requests: Sequence[object],
    on_results: Callable[[int], None] = lambda number: None,
) -> list[object]:
    """Results of a model class's method, in the order of the requests.

    Args:
        pool: replicas without jobs.
        method: name of the method, such as `loglikelihood`.
        requests: its requests.
        on_results: called with the number of results that have arrived.

    Raises:
        EngineError: the method has failed, or no replica is left.
    """
    size = max(1, -(-len(requests) // (pool.asked * _PARTS)))
    waiting = deque(range(0, len(requests), size))
    running: dict[int, int] = {}
    results: dict[int, list[object]] = {}
    restarts = Restarts()
    while waiting or running:
        for replica in pool.free():
            if waiting:
                running[replica] = waiting.popleft()
                pool.call(replica, method, requests[running[replica] : running[replica] + size])
        for event in pool.events():
            if isinstance(event, Called):
                restarts.progress(event.replica)
                results[running.pop(event.replica)] = event.results
                on_results(len(event.results))
            elif isinstance(event, Lost):
                restarts.lost(event)
                waiting.extendleft([running.pop(event.replica)] if event.replica in running else ())
    return [result for start in sorted(results) for result in results[start]]

"""One supervisor for everything that decodes elsewhere: it gives tasks to workers and takes them back.

A worker is a replica on Ray or an inference server. What they are, how they are reached and what a failure means is the
matter of a `Fleet`; the order of tasks, which worker gets which, and what happens to those that come back is decided
here.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

logger = logging.getLogger("lm_eval.tts")

_TICK = 10.0  # seconds to wait at most for the next event

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(eq=False)
class Task(Generic[_Item]):
    """One thing to do.

    Attributes:
        item: a job to decode, a passage to score, or requests for a model class.
        follows: whether it continues what its worker has just finished.
        tries: how often it has failed, as its fleet counts.
    """

    item: _Item
    follows: bool = False
    tries: int = 0


@dataclass(frozen=True)
class Up:
    """A worker takes up to `slots` tasks at once; 0 if it is to be left alone for a while."""

    worker: int
    slots: int


@dataclass(frozen=True)
class Down:
    """A worker takes no tasks until it is up again; each task that it had is reported on its own."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker has finished a task."""

    worker: int
    task: Task[Any]
    result: Any


@dataclass(frozen=True)
class Failed:
    """A task has come back.

    Attributes:
        again: seconds until it may be tried again; None if it is given up.
    """

    worker: int
    task: Task[Any]
    reason: str
    again: float | None = 0.0


Event = Up | Down | Done | Failed


class Fleet(Protocol):
    """Workers, known by number; some may not be there yet.

    Attributes:
        asked: number of workers asked for.
    """

    asked: int

    @property
    def coming(self) -> int:
        """Number of workers that will be up soon, so that tasks are left for them."""

    def send(self, worker: int, task: Task[Any]) -> None:
        """Give a task to a worker, without waiting; each comes back exactly once, as `Done` or `Failed`."""

    def events(self, patience: float) -> Sequence[Event]:
        """What has happened since the last call; waits for the first event, but not longer than `patience` seconds.

        Raises:
            EngineError: no worker can be used any more, or one must not be.
        """


@dataclass
class Supervisor(Generic[_Item, _Result]):
    """One run on a fleet.

    Attributes:
        fleet: the workers.
        on_result: called with each item and its result; may return items that continue it, which go to its worker.
        on_workers: called with the number of workers that are up and of those asked for, when one changes.
    """

    fleet: Fleet
    on_result: Callable[[_Item, _Result], Iterable[_Item]]
    on_workers: Callable[[int, int], None] = lambda up, asked: None
    _new: deque[Task[_Item]] = field(default_factory=deque)
    _urgent: deque[Task[_Item]] = field(default_factory=deque)  # has been started before, or continues what was
    _delayed: list[tuple[float, int, Task[_Item]]] = field(default_factory=list)
    _slots: dict[int, int] = field(default_factory=dict)  # of each worker that is up
    _held: dict[int, int] = field(default_factory=dict)  # number of tasks in each worker's hands
    _arrived: deque[Event] = field(default_factory=deque)
    _lost: list[str] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def run(self, items: Iterable[_Item]) -> list[str]:
        """Do all tasks and what follows them; returns why each that was given up could not be done.

        Raises:
            EngineError: no worker can be used any more; what has arrived by then was handed to `on_result`.
        """
        self._new.extend(map(Task, items))
        try:
            while self._unfinished:
                self._send()
                self._arrived.extend(self.fleet.events(self._patience()))
                while self._arrived:
                    self._take(self._arrived.popleft())
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to report
                for event in (*self._arrived, *self.fleet.events(0.0)):
                    if isinstance(event, Done):
                        self.on_result(event.task.item, event.result)
            raise
        return self._lost

    @property
    def _unfinished(self) -> int:
        return len(self._new) + len(self._urgent) + len(self._delayed) + sum(self._held.values())

    def _patience(self) -> float:
        return max(0.0, min(_TICK, self._delayed[0][0] - time.monotonic())) if self._delayed else _TICK

    def _send(self) -> None:
        """Give waiting tasks to whoever has most room for them."""
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            self._urgent.append(heapq.heappop(self._delayed)[2])
        if not (self._urgent or self._new) or not self._slots:
            return
        # Nobody takes more than a fair share, so that the last tasks are spread over all, also over those that come.
        share = -(-self._unfinished // (len(self._slots) + self.fleet.coming))
        room = [(self._held.get(worker, 0) - min(slots, share), worker) for worker, slots in self._slots.items()]
        heapq.heapify(room)
        while room[0][0] < 0 and (waiting := self._urgent or self._new):
            taken, worker = room[0]
            heapq.heapreplace(room, (taken + 1, worker))
            self._give(worker, waiting.popleft())

    def _give(self, worker: int, task: Task[_Item]) -> None:
        self._held[worker] = self._held.get(worker, 0) + 1
        self.fleet.send(worker, task)

    def _take(self, event: Event) -> None:
        match event:
            case Up(worker, slots):
                self._slots[worker] = slots
            case Down(worker):
                self._slots.pop(worker, None)
            case Done(worker, task, result):
                self._held[worker] -= 1
                for item in self.on_result(task.item, result):
                    if worker in self._slots:
                        self._give(worker, Task(item, follows=True))
                    else:
                        self._urgent.append(Task(item))
            case Failed(worker, task, reason, again):
                self._held[worker] -= 1
                task.follows = False
                self._came_back(task, reason, again)
        if isinstance(event, Up | Down):
            self.on_workers(len(self._slots), self.fleet.asked)

    def _came_back(self, task: Task[_Item], reason: str, again: float | None) -> None:
        if again is None:
            if not self._lost:
                logger.warning("%s; the other texts are finished first", reason)
            self._lost.append(reason)
        elif again > 0:
            heapq.heappush(self._delayed, (time.monotonic() + again, next(self._numbers), task))
        else:
            self._urgent.append(task)

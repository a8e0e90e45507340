"""An event loop in a thread of its own, so that it also works where one is running already, as in a notebook."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine
from functools import partial
from typing import Any, Generic, NamedTuple, Self, TypeVar

_Tag = TypeVar("_Tag")
_Result = TypeVar("_Result")


class Outcome(NamedTuple, Generic[_Tag]):
    """What came of a coroutine: its result, or the exception that ended it."""

    tag: _Tag
    result: Any
    error: BaseException | None


class LoopThread(Generic[_Tag]):
    """Runs coroutines in its thread, and hands their outcomes to the caller's; leaving it cancels what still runs."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._outcomes: queue.SimpleQueue[Outcome[_Tag]] = queue.SimpleQueue()
        self._running: set[asyncio.Task[object]] = set()  # the loop itself holds its tasks by weak references
        self._thread = threading.Thread(target=self._loop.run_forever, name="lm-eval-tts-requests", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.result_of(self._cancelled())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self, tag: _Tag, coroutine: Coroutine[object, object, object]) -> None:
        """Run a coroutine; its outcome is reported with the tag, unless it is cancelled."""
        self._loop.call_soon_threadsafe(self._begin, tag, coroutine)

    def result_of(self, coroutine: Coroutine[object, object, _Result]) -> _Result:
        """Run a coroutine and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def outcome(self, timeout: float | None) -> Outcome[_Tag] | None:
        """The next outcome; None if there is none within `timeout` seconds."""
        try:
            return self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None

    def _begin(self, tag: _Tag, coroutine: Coroutine[object, object, object]) -> None:
        task = self._loop.create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(partial(self._report, tag))

    def _report(self, tag: _Tag, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._outcomes.put(Outcome(tag, None if error else task.result(), error))

    async def _cancelled(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_apart(coroutine: Coroutine[object, object, _Result]) -> _Result:
    """Run a coroutine in a loop and a thread of its own, and wait for its result."""
    thread: LoopThread[None] = LoopThread()
    with thread:
        return thread.result_of(coroutine)

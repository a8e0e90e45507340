"""Worker processes that run the algebra system on untrusted answers, with limits on CPU time and memory.

Time is measured in CPU seconds of the worker itself, so that verdicts don't depend on the load of the machine; a much
larger wall-clock limit catches calls that hang without computing. Workers can be started from any process and exit
with it, even from a daemonic one of `multiprocessing`, which normally may not have children.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import GradingError
from lm_eval_ext.grading.worker_process import limited, prepare, warm_up

if TYPE_CHECKING:
    from pebble import ProcessPool

SECONDS_PER_ANSWER = 2.0  # of CPU time
_BY_THE_CLOCK = 30  # wall-clock limit of an answer as a multiple of that, for workers that hang without computing
_OUT_OF_TIME = getattr(signal, "SIGXCPU", 0)  # sent by the kernel to a worker that exceeds its CPU time
_ATTEMPTS = 3  # a worker may have been killed from outside, not by its answer
_STUCK = 60.0  # seconds beyond an answer's limit without any result, after which the workers are abandoned

logger = logging.getLogger("lm_eval.tts")

Failure = Literal["unparsable", "timeout", "memory"]
_Value = TypeVar("_Value")


class Outcome(NamedTuple, Generic[_Value]):
    """Outcome of a call: its value, or why it failed."""

    value: _Value | None = None
    failure: Failure | None = None


class _Workers:
    """The pool, started when first needed; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None
        self._owner = 0

    def get(self) -> ProcessPool:
        with self._lock:
            # A forked child has no workers of its own.
            if self._pool is None or self._owner != os.getpid() or not self._pool.active:
                self._pool, self._owner = _started(), os.getpid()
            return self._pool

    def replace(self, broken: ProcessPool) -> None:
        """Drop a broken pool; its processes are stopped in the background."""
        with self._lock:
            if self._pool is broken:
                self._pool = None
                atexit.unregister(_end)
        # In a separate thread: whatever broke the pool may block this forever.
        threading.Thread(target=_end, args=(broken, os.getpid()), daemon=True).start()


_workers = _Workers()


def in_workers(
    function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], *, seconds: float = SECONDS_PER_ANSWER
) -> list[Outcome[_Value]]:
    """Outcomes of `function` for each call, in order; each is limited to `seconds`, and none can break the others."""
    outcomes: dict[int, Outcome[_Value] | None] = dict.fromkeys(range(len(calls)))
    for attempt in range(_ATTEMPTS):
        open_ones = [number for number, outcome in outcomes.items() if outcome is None]
        if not open_ones:
            break
        # The last attempt runs one call at a time: if a worker dies then, it was its own call that killed it.
        groups = [open_ones] if attempt < _ATTEMPTS - 1 else [[number] for number in open_ones]
        for group in groups:
            outcomes.update(zip(group, _outcomes(function, [calls[i] for i in group], seconds), strict=True))
    final: list[Outcome[_Value]] = [outcome or Outcome(failure="memory") for outcome in outcomes.values()]
    _report(final)
    return final


def _outcomes(
    function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], seconds: float
) -> list[Outcome[_Value] | None]:
    """The outcome of each call; None if its worker or pool died."""
    pool = _workers.get()
    try:
        clock = seconds * _BY_THE_CLOCK
        futures = [pool.schedule(limited, args=(function, call, seconds), timeout=clock) for call in calls]
    except (RuntimeError, BrokenProcessPool):  # the pool is gone, with all its workers
        _workers.replace(pool)
        return [None] * len(calls)
    if not _finished(pool, futures, seconds) or not pool.active:
        _workers.replace(pool)
    return [_outcome(future) if future.done() else None for future in futures]


def _finished(pool: ProcessPool, futures: Sequence[Future[_Value]], seconds: float) -> bool:
    """Wait for all futures; False if the pool broke down meanwhile, which leaves futures that never complete."""
    waiting, news = set(futures), time.monotonic()
    while waiting:
        done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
        if done:
            news = time.monotonic()
        elif not pool.active or time.monotonic() - news > seconds * _BY_THE_CLOCK + _STUCK:
            return False
    return True


def _outcome(future: Future[_Value]) -> Outcome[_Value] | None:
    from pebble import ProcessExpired

    try:
        return Outcome(future.result())
    except TimeoutError:
        return Outcome(failure="timeout")
    except MemoryError:
        return Outcome(failure="memory")
    except ProcessExpired as error:
        return Outcome(failure="timeout") if error.exitcode == -_OUT_OF_TIME else None
    except (BrokenProcessPool, CancelledError):
        return None
    except Exception:  # any other failure in the worker is due to this one answer
        return Outcome(failure="unparsable")


def _report(outcomes: Sequence[Outcome[_Value]]) -> None:
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    if failures:
        counts = ", ".join(f"{failures.count(name)} {name}" for name in sorted(set(failures)))
        logger.warning("%d of %d answers could not be compared (%s)", len(failures), len(outcomes), counts)


def _started() -> ProcessPool:
    from loky.backend import get_context
    from pebble import ProcessPool

    # loky's processes start a fresh interpreter, and unlike multiprocessing's they do not import the caller's main
    # module again, so a script without `if __name__ == "__main__"` works.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # ours exit with it
    pool = ProcessPool(
        max_workers=max(1, min(8, os.cpu_count() or 1)),
        context=get_context("loky"),
        initializer=prepare,
        initargs=(os.getpid(),),
    )
    atexit.register(_end, pool, os.getpid())
    # Processes of multiprocessing don't run atexit, and wait for their children before they exit.
    Finalize(None, _end, (pool, os.getpid()), exitpriority=100)
    _check(pool)
    return pool


def _check(pool: ProcessPool) -> None:
    from pebble import ProcessExpired

    try:
        done = pool.schedule(warm_up)
    except RuntimeError:  # the pool is gone: `in_workers` starts another
        return
    try:
        done.result()
    except (ProcessExpired, BrokenProcessPool, CancelledError):  # killed from outside: `in_workers` retries
        return
    except Exception as error:
        raise GradingError(f"the algebra system that grades answers does not work: {error!r}") from error


def _end(pool: ProcessPool, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        pool.stop()
        pool.join()

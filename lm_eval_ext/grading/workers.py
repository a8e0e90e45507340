"""Worker processes in which untrusted answers meet the algebra system: bound in computing time and in memory.

A limit is CPU seconds of the worker itself, so that no verdict depends on what else the machine does; a limit by the
clock, far behind it, is for what hangs without computing. Workers live in any process and end with it, be it a daemonic
one of `multiprocessing`, which may have no children otherwise.
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
_BY_THE_CLOCK = 30  # times that, after which a worker is killed that does not compute
_OUT_OF_TIME = getattr(signal, "SIGXCPU", 0)  # what the kernel ends a worker with that is beyond its CPU time
_ATTEMPTS = 3  # a worker that was killed from outside is no fault of its answer
_STUCK = 60.0  # seconds over an answer's own without any news, after which the workers are given up

logger = logging.getLogger("lm_eval.tts")

Failure = Literal["unparsable", "timeout", "memory"]
_Value = TypeVar("_Value")


class Outcome(NamedTuple, Generic[_Value]):
    """What came of a call: its value, or why there is none."""

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
        """Let go of a pool that does not work any more; its processes end when they can."""
        with self._lock:
            if self._pool is broken:
                self._pool = None
                atexit.unregister(_end)
        # A thread of its own: what broke the pool may block this for ever.
        threading.Thread(target=_end, args=(broken, os.getpid()), daemon=True).start()


_workers = _Workers()


def in_workers(
    function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], *, seconds: float = SECONDS_PER_ANSWER
) -> list[Outcome[_Value]]:
    """Outcomes of `function` for each call, in order; none computes longer than `seconds`, or takes others with it."""
    outcomes: dict[int, Outcome[_Value] | None] = dict.fromkeys(range(len(calls)))
    for attempt in range(_ATTEMPTS):
        open_ones = [number for number, outcome in outcomes.items() if outcome is None]
        if not open_ones:
            break
        # Again one by one: a worker's death is then the fault of its own call.
        groups = [open_ones] if attempt < _ATTEMPTS - 1 else [[number] for number in open_ones]
        for group in groups:
            outcomes.update(zip(group, _outcomes(function, [calls[i] for i in group], seconds), strict=True))
    final: list[Outcome[_Value]] = [outcome or Outcome(failure="memory") for outcome in outcomes.values()]
    _report(final)
    return final


def _outcomes(
    function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], seconds: float
) -> list[Outcome[_Value] | None]:
    """None for a call whose worker, or whose pool, died."""
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
    """Wait for all; False if the pool broke down meanwhile. It then leaves futures that nobody will ever set."""
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
    except Exception:  # whatever an untrusted answer did to its worker is this answer's alone
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
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # ours end with it
    pool = ProcessPool(
        max_workers=max(1, min(8, os.cpu_count() or 1)),
        context=get_context("loky"),
        initializer=prepare,
        initargs=(os.getpid(),),
    )
    atexit.register(_end, pool, os.getpid())
    # A process of multiprocessing runs no atexit, and before it ends it waits for its children.
    Finalize(None, _end, (pool, os.getpid()), exitpriority=100)
    _check(pool)
    return pool


def _check(pool: ProcessPool) -> None:
    from pebble import ProcessExpired

    try:
        pool.schedule(warm_up).result()
    except (ProcessExpired, RuntimeError, CancelledError):  # killed from outside: `in_workers` starts again
        return
    except Exception as error:
        raise GradingError(f"the algebra system that grades answers does not work: {error!r}") from error


def _end(pool: ProcessPool, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        pool.stop()
        pool.join()

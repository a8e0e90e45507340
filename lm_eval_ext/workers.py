"""Worker processes that compute what untrusted texts say, with limits on CPU time and memory.

Time is measured in CPU seconds of the worker itself, so that outcomes don't depend on the load of the machine; a much
larger wall-clock limit catches calls that hang without computing. Workers can be started from any process and exit
with it, even from a daemonic one of `multiprocessing`, which normally may not have children.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import GradingError

if TYPE_CHECKING:
    from pebble import ProcessPool

MEMORY_PER_WORKER = 2 << 30  # bytes of address space
_BY_THE_CLOCK = 30  # wall-clock limit of a call as a multiple of its CPU time
_OUT_OF_TIME = getattr(signal, "SIGXCPU", 0)  # sent by the kernel to a worker that exceeds its CPU time
_AGAIN = 0.1  # CPU seconds until the timeout is raised again, if the computation caught it
_ATTEMPTS = 3  # a worker may have been killed from outside, not by its call
_START = 300.0  # seconds until the first call is done; else its process can't even start, however often it is tried
_STUCK = 60.0  # seconds beyond a call's limit without any result, after which the workers are abandoned

logger = logging.getLogger("lm_eval.tts")

Failure = Literal["unparsable", "timeout", "memory"]
_Value = TypeVar("_Value")


class Outcome(NamedTuple, Generic[_Value]):
    """Outcome of a call: its value, or why it failed."""

    value: _Value | None = None
    failure: Failure | None = None


class Workers:
    """A pool of processes, started when first needed; safe to use from any thread.

    Args:
        warm_up: called once in each process, before its time is limited: imports, and what takes long the first time.
    """

    def __init__(self, warm_up: Callable[[], None]) -> None:
        self._warm_up = warm_up
        self._lock = threading.Lock()
        self._pool: ProcessPool | None = None
        self._owner = 0

    def run(
        self, function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], *, seconds: float
    ) -> list[Outcome[_Value]]:
        """Outcomes of a function for each call, in order; each is limited to `seconds`, and none breaks the others."""
        outcomes: dict[int, Outcome[_Value] | None] = dict.fromkeys(range(len(calls)))
        for attempt in range(_ATTEMPTS):
            waiting = [number for number, outcome in outcomes.items() if outcome is None]
            # The last attempt runs one call at a time: if a worker dies then, it was its own call that killed it.
            last = attempt == _ATTEMPTS - 1
            for group in [[number] for number in waiting] if last else [waiting] if waiting else []:
                outcomes.update(zip(group, self._attempt(function, [calls[i] for i in group], seconds), strict=True))
        final: list[Outcome[_Value]] = [outcome or Outcome(failure="memory") for outcome in outcomes.values()]
        if failures := [outcome.failure for outcome in final if outcome.failure]:
            counts = ", ".join(f"{failures.count(name)} {name}" for name in sorted(set(failures)))
            logger.warning("%d of %d texts could not be computed (%s)", len(failures), len(final), counts)
        return final

    def _attempt(
        self, function: Callable[..., _Value], calls: Sequence[tuple[object, ...]], seconds: float
    ) -> list[Outcome[_Value] | None]:
        """The outcome of each call; None if its worker or pool died."""
        pool = self._running()
        try:
            clock = seconds * _BY_THE_CLOCK
            futures = [pool.schedule(_limited, args=(function, call, seconds), timeout=clock) for call in calls]
        except (RuntimeError, BrokenProcessPool):  # the pool is gone, with all its workers
            self._abandon(pool)
            return [None] * len(calls)
        if not _finished(pool, futures, seconds) or not pool.active:
            self._abandon(pool)
        return [_outcome(future) if future.done() else None for future in futures]

    def _running(self) -> ProcessPool:
        with self._lock:
            # A forked child has no workers of its own.
            if self._pool is None or self._owner != os.getpid() or not self._pool.active:
                self._pool, self._owner = _started(self._warm_up), os.getpid()
            return self._pool

    def _abandon(self, broken: ProcessPool) -> None:
        """Drop a broken pool; its processes are stopped in the background."""
        with self._lock:
            if self._pool is broken:
                self._pool = None
                atexit.unregister(_end)
        # In a separate thread: whatever broke the pool may block this forever.
        threading.Thread(target=_end, args=(broken, os.getpid()), daemon=True).start()


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
    except Exception:  # any other failure in the worker is due to this one call
        return Outcome(failure="unparsable")


def _started(warm_up: Callable[[], None]) -> ProcessPool:
    from loky.backend import get_context
    from pebble import ProcessExpired, ProcessPool

    # loky's processes start a fresh interpreter, and unlike multiprocessing's they do not import the caller's main
    # module again, so a script without `if __name__ == "__main__"` works.
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]  # ours exit with it
    pool = ProcessPool(
        max_workers=max(1, min(8, os.cpu_count() or 1)),
        context=get_context("loky"),
        initializer=_prepare,
        initargs=(os.getpid(), warm_up),
    )
    atexit.register(_end, pool, os.getpid())
    # Processes of multiprocessing don't run atexit, and wait for their children before they exit.
    Finalize(None, _end, (pool, os.getpid()), exitpriority=100)
    try:
        check = pool.schedule(warm_up)
    except RuntimeError:  # the pool is gone: `run` starts another
        return pool
    try:
        check.result(_START)
    except (ProcessExpired, BrokenProcessPool, CancelledError):  # killed from outside: `run` tries again
        pass
    except TimeoutError as error:
        raise GradingError(f"the processes that read answers and templates do not start within {_START:g} s") from error
    except Exception as error:
        raise GradingError(f"what reads answers and templates does not work: {error!r}") from error
    return pool


def _end(pool: ProcessPool, owner: int) -> None:
    if os.getpid() == owner:  # not in a forked child
        pool.stop()
        pool.join()


# In a worker ------------------------------------------------------------------------------------------


class _OutOfTimeError(BaseException):
    """Not an `Exception`, because parsers and algebra systems catch those."""


def _prepare(parent: int, warm_up: Callable[[], None]) -> None:
    """Initialise a worker of a process."""
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    # Plain Python integers: with gmpy2, `20!!!!!!` aborts the process instead of raising MemoryError.
    os.environ["SYMPY_GROUND_TYPES"] = "python"
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    with contextlib.suppress(Exception):  # the pool's check reports it; a worker that dies here would only be restarted
        warm_up()  # now, so that it doesn't count against the first call's time
    try:
        import resource
    except ImportError:  # Windows has no such limit; the wall-clock limit still applies
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_PER_WORKER if hard == resource.RLIM_INFINITY else min(MEMORY_PER_WORKER, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses limits of memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _exit_with(parent: int) -> None:
    """Exit when the parent is gone: if it was killed, it could not stop its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def _limited(function: Callable[..., _Value], arguments: tuple[object, ...], seconds: float) -> _Value:
    """Call a function with a limit of `seconds` of CPU time.

    Raises:
        TimeoutError: it took longer. If Python cannot interrupt the computation, SIGXCPU kills the process.
    """
    try:
        with _computing_at_most(seconds):
            return function(*arguments)
    except _OutOfTimeError:
        raise TimeoutError from None


@contextmanager
def _computing_at_most(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer"):  # Windows: only the wall-clock limit applies
        yield
        return
    import resource

    def spent(*_: object) -> None:
        raise _OutOfTimeError

    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    last = math.ceil(time.process_time() + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (last if hard == resource.RLIM_INFINITY else min(last, hard), hard))
    signal.signal(signal.SIGPROF, spent)
    signal.setitimer(signal.ITIMER_PROF, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)

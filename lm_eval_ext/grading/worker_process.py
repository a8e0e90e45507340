"""What a worker process of the grader does: bound itself, and end with the process that started it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_Value = TypeVar("_Value")
MEMORY_PER_WORKER = 2 << 30  # bytes of address space
_AGAIN = 0.1  # CPU seconds after which a computation that has caught its end is ended again


class _OutOfTimeError(BaseException):
    """Not an `Exception`, which parsers and algebra systems catch at will."""


def warm_up() -> None:
    """Have the parser meet the usual forms."""
    from lm_eval_ext.grading import comparison

    comparison.warm_up()


def prepare(parent: int) -> None:
    """Begin a worker.

    Args:
        parent: process id of who started it.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Plain Python integers: with gmpy2, `20!!!!!!` aborts the process instead of raising MemoryError.
    os.environ["SYMPY_GROUND_TYPES"] = "python"
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    with contextlib.suppress(Exception):  # the pool's check reports it; a worker that dies here is only started again
        warm_up()  # now, so that the first answer's time is its own
    try:
        import resource
    except ImportError:  # Windows has no such limit; the clock still holds
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_PER_WORKER if hard == resource.RLIM_INFINITY else min(MEMORY_PER_WORKER, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _end_with(parent: int) -> None:
    """A parent that is killed cannot end its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def limited(function: Callable[..., _Value], arguments: tuple[object, ...], seconds: float) -> _Value:
    """Call a function that may compute for so many CPU seconds.

    Raises:
        TimeoutError: it took more. A computation that Python cannot interrupt ends with its process, by SIGXCPU.
    """
    try:
        with _computing_at_most(seconds):
            return function(*arguments)
    except _OutOfTimeError:
        raise TimeoutError from None


@contextmanager
def _computing_at_most(seconds: float) -> Iterator[None]:
    if not hasattr(signal, "setitimer"):  # Windows: the clock holds
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

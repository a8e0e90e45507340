"""Code run in the grader's worker processes: they limit themselves, and exit with the process that started them."""

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
_AGAIN = 0.1  # CPU seconds until the timeout is raised again, if the computation caught it


class _OutOfTimeError(BaseException):
    """Not an `Exception`, because parsers and algebra systems catch those."""


def warm_up() -> None:
    """Parse the usual forms once, so that later answers parse fast."""
    from lm_eval_ext.grading import comparison

    comparison.warm_up()


def prepare(parent: int) -> None:
    """Initialise a worker.

    Args:
        parent: id of the process that started it.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Plain Python integers: with gmpy2, `20!!!!!!` aborts the process instead of raising MemoryError.
    os.environ["SYMPY_GROUND_TYPES"] = "python"
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    with contextlib.suppress(Exception):  # the pool's check reports it; a worker that dies here would only be restarted
        warm_up()  # now, so that it doesn't count against the first answer's time
    try:
        import resource
    except ImportError:  # Windows has no such limit; the wall-clock limit still applies
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_PER_WORKER if hard == resource.RLIM_INFINITY else min(MEMORY_PER_WORKER, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses limits of memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _end_with(parent: int) -> None:
    """Exit when the parent is gone: if it was killed, it could not stop its workers."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def limited(function: Callable[..., _Value], arguments: tuple[object, ...], seconds: float) -> _Value:
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

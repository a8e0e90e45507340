"""Worker processes in which untrusted answers meet the algebra system: killed by the clock, bound in memory."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError
from functools import cache
from typing import Any

SECONDS_PER_ANSWER = 5.0
MEMORY_PER_WORKER = 4 << 30  # bytes of address space; what a worker needs by itself is about 1 GiB of it
LONGEST_ANSWER = 2_000  # characters; no gold answer comes near

logger = logging.getLogger("lm_eval.tts")


def in_workers(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    otherwise: Any,
    seconds: float = SECONDS_PER_ANSWER,
) -> list[Any]:
    """Results of `function` for each call, in order; `otherwise` where a call was killed or failed."""
    futures = [_pool().schedule(function, args=call, timeout=seconds) for call in calls]
    return [_result(future, otherwise) for future in futures]


def _result(future: Any, otherwise: Any) -> Any:
    try:
        return future.result()
    except TimeoutError:
        logger.debug("an answer took longer than its time and counts as wrong")
    except Exception as error:  # whatever an untrusted answer did to its worker, it is this answer's alone
        logger.debug("an answer could not be compared (%s) and counts as wrong", type(error).__name__)
    return otherwise


@cache
def _pool() -> Any:
    from loky.backend import get_context
    from pebble import ProcessPool

    # loky's processes start a fresh interpreter, and unlike multiprocessing's they do not import the caller's main
    # module again, so a script without `if __name__ == "__main__"` works.
    pool = ProcessPool(
        max_workers=max(1, min(8, os.cpu_count() or 1)), context=get_context("loky"), initializer=_prepare
    )
    atexit.register(_end, pool)
    return pool


def _end(pool: Any) -> None:
    pool.stop()
    pool.join()


def _prepare() -> None:
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    import math_verify  # noqa: F401  # imported now, so that the first answer's time is its own

    try:
        import resource
    except ImportError:  # Windows has no such limit; the clock still holds
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_PER_WORKER, MEMORY_PER_WORKER))

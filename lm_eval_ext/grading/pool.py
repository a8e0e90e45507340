"""Worker processes in which untrusted answers meet the algebra system: killed by the clock, bound in memory."""

from __future__ import annotations

import atexit
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
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
    try:
        outcomes = _outcomes(function, calls, seconds)
    except (RuntimeError, BrokenProcessPool):  # all workers were killed from outside: start new ones, once
        _pool.cache_clear()
        outcomes = _outcomes(function, calls, seconds)
    failed = [type(error).__name__ for error, _ in outcomes if error is not None]
    if failed:
        logger.warning(
            "%d of %d answers could not be compared (%s) and count as wrong",
            len(failed),
            len(calls),
            ", ".join(f"{failed.count(name)} {name}" for name in sorted(set(failed))),
        )
    return [otherwise if error is not None else value for error, value in outcomes]


def _outcomes(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], seconds: float
) -> list[tuple[Exception | None, Any]]:
    futures = [_pool().schedule(function, args=call, timeout=seconds) for call in calls]
    return [_outcome(future) for future in futures]


def _outcome(future: Any) -> tuple[Exception | None, Any]:
    try:
        return None, future.result()
    except BrokenProcessPool:
        raise
    except Exception as error:  # whatever an untrusted answer did to its worker is this answer's alone
        return error, None


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
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_PER_WORKER if hard == resource.RLIM_INFINITY else min(MEMORY_PER_WORKER, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

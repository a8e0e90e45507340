"""Spreads requests that are no jobs, such as log-likelihoods, over the replicas of a pool."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from lm_eval_ext.generation.engines.dispatch import Called, Lost, Restarts
from lm_eval_ext.generation.engines.ray import RayPool

_PARTS = 4  # per replica, so that a slow one takes fewer


def scattered(
    pool: RayPool,
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

"""Plans which traces to decode and where to cut them: requests that only differ in budget share one trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lm_eval_ext.generation.request import Request


@dataclass(frozen=True)
class Cut:
    """Limit on one request's thinking.

    Attributes:
        request: index in the list of requests.
        limit: maximum thinking tokens.
        forced: whether to force an answer at the limit. False if the limit comes from the context or from `max_tokens`
            and not from a budget, because then there is no room left for an answer.
    """

    request: int
    limit: int
    forced: bool


@dataclass(frozen=True)
class Trace:
    """One stretch of thinking, decoded once to the largest limit of its cuts."""

    prompt: tuple[int, ...]
    repeat: int
    cuts: tuple[Cut, ...]

    @property
    def limit(self) -> int:
        """Maximum number of tokens to decode."""
        return max(cut.limit for cut in self.cuts)


@dataclass(frozen=True)
class Plan:
    """The traces to decode, ordered by their first request."""

    traces: tuple[Trace, ...]

    @property
    def asked(self) -> int:
        """Maximum number of thinking tokens that separate runs would decode."""
        return sum(cut.limit for trace in self.traces for cut in trace.cuts)

    @property
    def at_most(self) -> int:
        """Maximum number of thinking tokens that this plan decodes."""
        return sum(trace.limit for trace in self.traces)


def plan(requests: Sequence[Request], max_length: int, *, share: bool = True) -> Plan:
    """Group requests into traces.

    Args:
        requests: the requests to plan for.
        max_length: the model's context length, in tokens.
        share: False gives every request its own trace; the results are the same.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        groups[_trace_key(request) if share else index].append(index)
    return Plan(tuple(_trace(requests, members, max_length) for members in groups.values()))


def _trace_key(request: Request) -> Hashable:
    return (
        request.prompt,
        request.repeat,
        request.sampling,
        request.wait_count,
        request.wait_text,
        request.thinks,
        # Whether there is room for a wait depends on the limit, so traces with waits are not shared.
        (request.thinking_budget, request.max_tokens) if request.wait_count else None,
    )


def _trace(requests: Sequence[Request], members: Sequence[int], max_length: int) -> Trace:
    first = requests[members[0]]
    cuts = tuple(_cut(index, requests[index], max_length) for index in members)
    return Trace(first.prompt, first.repeat, cuts)


def _cut(index: int, request: Request, max_length: int) -> Cut:
    if not request.thinks:
        return Cut(index, 0, forced=False)
    room = min(request.max_tokens, max_length - len(request.prompt))
    budget = request.thinking_budget
    if budget is None or budget >= room:
        return Cut(index, room, forced=False)
    return Cut(index, budget, forced=True)

"""Looks for smaller models that still write what their base writes: a beam over steps. Pure, but for its score."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)


class SearchPoint(NamedTuple, Generic[Candidate]):
    """A candidate with its cost, and the bits a token by which it diverges from its base."""

    candidate: Candidate
    cost: float
    bits: float


def beam_search(
    start: Candidate,
    steps: Callable[[Candidate], Iterable[Candidate]],
    cost: Callable[[Candidate], float],
    bits: Callable[[Candidate], float],
    *,
    beam: int,
    worst: float,
) -> list[SearchPoint[Candidate]]:
    """All candidates that a beam search comes across.

    From the candidates of each number of steps, it goes on from those that diverge least for what they save. Equal
    ones are taken in the order in which steps come, so the same scores give the same search.

    Args:
        start: where it begins.
        steps: the candidates that are one step from another, each of a lower cost.
        cost: of a candidate.
        bits: divergence of a candidate.
        beam: how many it goes on from.
        worst: divergence at which a candidate is given up.
    """
    first = SearchPoint(start, cost(start), bits(start))
    found = {start: first}
    beams = [first] if first.bits < worst else []
    while beams:
        new: dict[Candidate, SearchPoint[Candidate]] = {}
        for one in beams:
            for candidate in steps(one.candidate):
                if candidate not in found and candidate not in new:
                    new[candidate] = SearchPoint(candidate, cost(candidate), bits(candidate))
        found |= new
        alive = [one for one in new.values() if one.bits < worst and one.cost < first.cost]
        beams = sorted(alive, key=lambda one: (one.bits - first.bits) / (first.cost - one.cost))[:beam]
    return list(found.values())


def front(scored: Sequence[SearchPoint[Candidate]], most: int, worst: float) -> list[SearchPoint[Candidate]]:
    """The candidates of which no other is as small and diverges less, from the largest to the smallest.

    Args:
        scored: all candidates.
        most: how many are kept, spread over their costs.
        worst: divergence at which a candidate is given up.

    >>> points = [SearchPoint("a", 3, 0.1), SearchPoint("b", 2, 0.2), SearchPoint("c", 2, 0.3)]
    >>> [point.candidate for point in front(points, 5, 1.0)]
    ['a', 'b']
    """
    found: list[SearchPoint[Candidate]] = []
    for one in sorted(scored, key=lambda one: (one.cost, one.bits)):
        if one.bits < worst and (not found or one.bits < found[-1].bits):
            found.append(one)
    found.reverse()
    return _spread(found, most)


def _spread(found: list[SearchPoint[Candidate]], most: int) -> list[SearchPoint[Candidate]]:
    """At most so many of them, with the smallest; evenly over the cost."""
    if len(found) <= most:
        return found
    largest, smallest = found[0].cost, found[-1].cost
    chosen = {len(found) - 1}
    for number in range(most - 1):
        wanted = largest + (smallest - largest) * number / max(1, most - 1)
        left = [place for place in range(len(found)) if place not in chosen]
        chosen.add(min(left, key=lambda place: (abs(found[place].cost - wanted), place)))
    return [found[place] for place in sorted(chosen)]

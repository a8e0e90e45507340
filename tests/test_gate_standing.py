"""Where a candidate stands: the same in whatever pieces its answers come, and stopped for the reason that it says."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.gating.standing import Policy, RowData, Standing, base_target, block_end, standing

POLICY = Policy(0.9, 0.05, "new questions", {"a": "critical", "b": "critical", "c": "supporting"}, 2)


def drawn(seed: int, kept: float, total: int, accuracy: float = 0.8, samples: int = 2) -> RowData:
    """A candidate that keeps some share, with all of its answers."""
    generator = np.random.default_rng(seed)
    skill = generator.beta(accuracy * 2, (1 - accuracy) * 2, total)
    base = [(float(one),) for one in generator.binomial(samples, skill) / samples]
    ours = [(float(one),) for one in generator.binomial(samples, skill * kept) / samples]
    costs = [float(one) for one in generator.integers(50, 150, total)]
    return RowData(base, ours, total, 0.0, 100.0, costs)


def shown(found: Standing) -> Any:
    return found.lost, [
        (row.task, row.verdict, row.reason, row.asked, row.test.units, row.tokens, row.test.e_kept, row.test.e_lost)
        for row in found.rows.values()
    ]


def until_over(policy: Policy, data: dict[str, RowData], base: dict[str, int], step: int) -> tuple[Standing, float]:
    """Answer what is asked until nothing is, in pieces; returns where it ends, and the tokens of all that was asked."""
    there = dict.fromkeys(data, 0)
    while True:
        known = {
            task: RowData(one.base[: base[task]], one.candidate[: there[task]], one.total, one.chance, one.base_tokens,
                          one.candidate_tokens[: there[task]])
            for task, one in data.items()
        }  # fmt: skip
        found = standing(policy, known)
        if found.next is not None:
            assert found.next.start == there[found.next.task]
            there[found.next.task] = found.next.end
        elif found.needs:
            for task, end in found.needs.items():
                base[task] = min(data[task].total, max(end, base[task] + step))
        else:
            return found, sum(sum(data[task].candidate_tokens[:count]) for task, count in there.items())


@settings(max_examples=12)
@given(
    seed=st.integers(0, 10_000), kept=st.sampled_from([0.4, 0.8, 0.9, 1.0]), step=st.sampled_from([1, 40, 1000]),
    first=st.integers(16, 120),
)  # fmt: skip
def test_it_does_not_depend_on_how_far_the_base_was_when(seed: int, kept: float, step: int, first: int) -> None:
    data = {task: drawn(seed + at, kept, 120 + 40 * at) for at, task in enumerate("abc")}
    whole = standing(POLICY, data)
    found, tokens = until_over(POLICY, data, dict.fromkeys(data, first), step)
    assert shown(found) == shown(whole)
    assert sum(row.tokens for row in found.rows.values()) == tokens, "nothing is asked that isn't counted, nor twice"


def test_a_lost_critical_benchmark_ends_the_candidate() -> None:
    data = {"a": drawn(1, 1.0, 300), "b": drawn(2, 0.3, 300), "c": drawn(3, 1.0, 300)}
    found = standing(POLICY, data)
    assert found.lost and found.rows["b"].verdict == "lost" and found.rows["b"].reason == "decided"
    assert found.rows["c"].asked == 0 and found.rows["c"].reason == "the candidate is lost"


def test_the_cheapest_evidence_is_asked_first() -> None:
    cheap, dear = drawn(1, 0.5, 300), drawn(2, 0.5, 300)
    dear = RowData(dear.base, dear.candidate, 300, 0.0, 5000.0, [5000.0] * 300)
    assert not standing(POLICY, {"a": dear, "b": cheap, "c": cheap}).rows["a"].asked
    assert not standing(POLICY, {"a": cheap, "b": dear, "c": cheap}).rows["b"].asked


def test_supporting_benchmarks_may_be_lost() -> None:
    data = {"a": drawn(1, 1.0, 400), "b": drawn(2, 1.0, 400), "c": drawn(3, 0.2, 300)}
    assert standing(POLICY, data).lost
    lenient = standing(Policy(0.9, 0.05, "new questions", POLICY.tiers, 2, supporting_may_lose=1), data)
    assert not lenient.lost and [row.verdict for row in lenient.rows.values()] == ["kept", "kept", "lost"]


def test_one_lost_supporting_benchmark_cuts_no_other_short() -> None:
    tiers: Any = {"a": "critical", "b": "supporting", "c": "supporting"}
    data = {"a": drawn(1, 1.0, 400), "b": drawn(2, 0.2, 300), "c": drawn(3, 0.2, 300)}
    one = standing(Policy(0.9, 0.05, "new questions", tiers, 1, supporting_may_lose=1), data)
    assert one.lost and [row.verdict for row in one.rows.values()] == ["kept", "lost", "lost"]
    two = standing(Policy(0.9, 0.05, "new questions", tiers, 1, supporting_may_lose=2), data)
    assert not two.lost and [row.reason for row in two.rows.values()] == ["decided"] * 3


def test_more_supporting_benchmarks_that_look_lost_than_allowed_leave_it_undecided() -> None:
    """Two of three are lost by themselves but not among three: the candidate is neither kept nor lost."""
    tiers: Any = {"a": "critical", "b": "supporting", "c": "supporting", "d": "supporting"}
    ours: Any = [(0.0,)] * 8 + [(1.0,)]
    looks_lost = RowData([(1.0,)] * 9, ours, 9)
    data = {"a": drawn(1, 1.0, 400), "b": looks_lost, "c": looks_lost, "d": drawn(3, 1.0, 400)}
    for may_lose, kept in ((1, False), (2, True)):
        policy = Policy(0.9, 0.05, "new questions", tiers, 1, supporting_may_lose=may_lose)
        found = standing(policy, data)
        assert [row.verdict for row in found.rows.values()] == ["kept", "lost", "lost", "kept"]
        assert not found.lost and found.is_kept(policy) is kept


def test_after_everything_is_asked_it_says_so() -> None:
    found = standing(Policy(0.9, 0.05, "new questions", {"a": "critical"}, 1), {"a": drawn(5, 0.93, 16, samples=1)})
    assert found.rows["a"].reason == "everything asked" and found.rows["a"].verdict == "undecided"


def test_what_is_out_of_reach_stops_before_the_end() -> None:
    found = standing(Policy(0.99, 0.05, "new questions", {"a": "critical"}, 1), {"a": drawn(5, 0.99, 400)})
    assert found.rows["a"].reason == "out of reach" and found.rows["a"].asked < 400


def test_an_allowance_is_kept() -> None:
    one, data = Policy(0.9, 0.05, "new questions", {"a": "critical"}, 1), {"a": drawn(5, 1.0, 400)}
    found = standing(one, data, 2000.0)
    assert found.rows["a"].reason == "budget" and 2000 <= found.rows["a"].tokens < 2000 + 16 * 150


@pytest.mark.parametrize(("ours", "theirs"), [(0.25, 0.25), (0.0, 0.0), (1.0, 0.0), (0.0, 0.25)])
def test_a_base_that_is_not_above_chance_decides_nothing(ours: float, theirs: float) -> None:
    level = RowData([(theirs,)] * 100, [(ours,)] * 100, 100, 0.25)
    found = standing(Policy(0.9, 0.05, "new questions", {"a": "critical"}, 1), {"a": level})
    assert found.rows["a"].verdict == "undecided" and not found.lost and not found.rows["a"].test.measurable


@pytest.mark.parametrize(("population", "first"), [("new questions", 16), ("these questions", 1)])
def test_blocks_grow_and_end_at_the_end(population: Any, first: int) -> None:
    policy = Policy(0.9, 0.05, population, {"a": "critical"}, 1)
    ends = [0]
    while ends[-1] < 1000:
        ends.append(block_end(ends[-1], 1000, policy))
    sizes = [after - before for before, after in pairwise(ends)]
    assert ends[1] == first and ends[-1] == 1000 and sizes[:-1] == sorted(sizes[:-1]) and max(sizes) <= 125


def test_the_base_answers_enough_for_most_and_then_twice_as_many() -> None:
    policy = Policy(0.9, 0.05, "new questions", {"a": "critical"}, 1)
    data = drawn(1, 1.0, 2000)
    head = RowData(data.base[:64], [], 2000)
    first, second = (base_target(policy, head, "critical", visit) for visit in (1, 2))
    assert 64 <= first < second <= 2000 and second >= 2 * first * 0.9
    assert standing(policy, {"a": data}).rows["a"].asked <= first * 1.5
    assert base_target(policy, head, "critical", 20) == 2000
    hopeless = RowData([(0.0,)] * 16, [], 500)
    assert base_target(policy, hopeless, "critical", 1) == 500
    assert math.isfinite(base_target(policy, RowData([(1.0,)] * 16, [], 16), "critical", 1))

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.generation.budget_forcing import plan
from lm_eval_ext.generation.request import Request, Sampling

budgets = st.one_of(st.none(), st.integers(0, 50))
requests = st.builds(
    Request,
    prompt=st.tuples(st.integers(0, 1)).map(lambda ids: (1, *ids)),
    repeat=st.integers(0, 1),
    sampling=st.sampled_from([Sampling(), Sampling(temperature=1.0)]),
    thinking_budget=budgets,
    max_tokens=st.integers(1, 60),
    wait_count=st.integers(0, 1),
    thinks=st.booleans(),
)


@given(st.lists(requests, max_size=12), st.integers(3, 80), st.booleans())
def test_every_request_has_one_cut(asked: list[Request], max_length: int, share: bool) -> None:
    planned = plan(asked, max_length, share=share)
    assert sorted(cut.request for trace in planned.traces for cut in trace.cuts) == list(range(len(asked)))
    assert planned.at_most <= planned.asked


@given(st.lists(requests, max_size=12), st.integers(3, 80))
def test_a_cut_respects_every_limit(asked: list[Request], max_length: int) -> None:
    for trace in plan(asked, max_length).traces:
        for cut in trace.cuts:
            request = asked[cut.request]
            assert cut.limit <= request.max_tokens and cut.limit + len(request.prompt) <= max_length
            assert not cut.forced or cut.limit == request.thinking_budget
            assert request.thinking_budget is None or cut.limit <= request.thinking_budget
            assert (trace.prompt, trace.repeat) == (request.prompt, request.repeat)


@given(st.lists(requests, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_order_does_not_change_the_traces(asked: list[Request], order: random.Random) -> None:
    shuffled = list(asked)
    order.shuffle(shuffled)

    def shape(all_requests: list[Request]) -> list[tuple[object, ...]]:
        return sorted(
            (trace.prompt, trace.repeat, sorted((cut.limit, cut.forced) for cut in trace.cuts))
            for trace in plan(all_requests, 100).traces
        )

    assert shape(asked) == shape(shuffled)


def test_a_sweep_decodes_its_largest_budget_once() -> None:
    sweep = [Request((1, 2), repeat, Sampling(), budget) for budget in (8, 32, 16) for repeat in (0, 1)]
    planned = plan(sweep, 1000)
    assert (planned.asked, planned.at_most, len(planned.traces)) == (112, 64, 2)
    assert plan(sweep, 1000, share=False).at_most == 112

"""The engine on inference servers, against fake servers in every dialect."""

from __future__ import annotations

import pytest

from lm_eval_ext.generation.engines.server import Limits
from lm_eval_ext.generation.request import Stop
from tests.fake_server import FakeServer, decode, scripted
from tests.inference import ENDS, EXACT, QUICK, STOPS, engine, jobs, results
from tests.scripted import ScriptedEngine


@pytest.mark.parametrize("dialect", EXACT)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_server_decodes_what_the_model_does(dialect: str, temperature: float) -> None:
    with FakeServer(dialect) as server:
        some = jobs(temperature=temperature, stops=ENDS[:2] if temperature else STOPS[:3])
        assert results(engine(server), some) == results(ScriptedEngine(scripted, decode), some)


@pytest.mark.parametrize("dialect", EXACT)
def test_where_only_the_server_stops_the_text_goes_on(dialect: str) -> None:
    """llama.cpp ends at its own ends, and all stop at the last token of a sequence, which may stand elsewhere."""
    some = jobs(range(30), [Stop(), Stop(sequences=((7, 9),))], temperature=0.0)
    with FakeServer(dialect) as server:
        assert results(engine(server), some) == results(ScriptedEngine(scripted, decode), some)
        assert len(server.asked) > 2 * len(some), "some texts took several requests"


def test_a_text_that_goes_on_is_the_same_at_any_concurrency() -> None:
    some = jobs(range(1, 30), [Stop(sequences=((7, 9),))])
    with FakeServer("vllm") as server:
        alone = results(engine(server, limits=Limits(1, 4, 0.001, 0.1)), some)
        assert server.most == 1
        assert results(engine(server, limits=Limits(16, 4, 0.001, 0.1)), some) == alone


def test_a_text_only_server_gives_texts_that_end_as_asked() -> None:
    with FakeServer("text") as server:
        found = results(engine(server), jobs(stops=STOPS[:2], temperature=0.0), follow=False)
        assert {one.reason for one in found.values()} == {"stop", "length"}
        for job, one in found.items():
            if one.reason == "stop":
                assert one.ids[-1] in job.stop.tokens or any(one.ids[-len(end) :] == end for end in job.stop.sequences)


def test_follow_ups_go_to_the_server_of_their_trace() -> None:
    with FakeServer() as first, FakeServer() as second:
        some = jobs(range(20), STOPS[:1])
        results(engine(first, second), some)
        for server in (first, second):
            starts = {tuple(body["prompt"][:3]) for body in server.asked if len(body["prompt"]) == 3}
            follow = {tuple(body["prompt"][:3]) for body in server.asked if len(body["prompt"]) > 3}
            assert starts and follow == starts


def test_no_more_requests_than_allowed_are_in_flight() -> None:
    with FakeServer() as server:
        server.seconds = 0.01
        results(engine(server), jobs(range(10)))
        assert server.most == QUICK.concurrent


def test_follow_ups_come_before_new_traces() -> None:
    with FakeServer() as server:
        results(engine(server, limits=Limits(1, 4, 0.001, 0.1)), jobs(range(5), STOPS[:1]))
        assert [len(body["prompt"]) > 3 for body in server.asked] == [False, True] * 5

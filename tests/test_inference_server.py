"""The engine on inference servers, against fake servers in every dialect."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import RetryableError
from lm_eval_ext.generation.engines.server import Limits
from lm_eval_ext.generation.request import Job, Sampling, Stop
from tests.fake_server import END, WORDS, FakeServer, decode, scripted, vocabulary
from tests.inference import ENDS, EXACT, QUICK, STOPS, engine, jobs, results, tried
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


# What a server is and can do, and what is asked of each kind ----------------------------------------------------------


@pytest.fixture(params=[*EXACT, "text"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# What a server is and can do -----------------------------------------------------------------------------


def test_a_server_is_recognised_by_its_replies(dialect: str) -> None:
    with FakeServer(dialect) as server:
        found = tried(server)
        assert found.dialect == dialect and found.facts.max_length == 4096
        assert found.seeded == (dialect != "llama.cpp"), "its logits depend on its cache and batch"
        assert tried(server).model == found.model
        server.script = lambda job: iter(lambda: 5, None)
        assert tried(server).model != found.model, "another model says something else"


def test_a_server_that_is_loading_is_not_taken_for_another_kind() -> None:
    with FakeServer() as server:
        server.loading = 1
        with pytest.raises(RetryableError, match="replied 503"):
            tried(server)
        assert tried(server).dialect == "vllm"


def test_a_server_without_seeds_is_noticed() -> None:
    draws = count()

    def unseeded(job: Job) -> Iterator[int]:
        shift = next(draws) if job.sampling.temperature > 0 else 0
        return iter((token + shift) % (WORDS + 1) for token in scripted(Job(job.ids, 99, Stop(), Sampling(), 0)))

    with FakeServer(script=unseeded) as server:
        assert not tried(server).seeded
    with FakeServer(script=lambda job: scripted(Job(job.ids, 99, Stop(), Sampling(), 0))) as server:
        assert not tried(server).seeded, "a seed without any effect"


def test_a_server_that_does_not_go_on_from_ids_is_refused() -> None:
    def forgetful(job: Job) -> Iterator[int]:
        return iter(token for token in range(1 + len(job.ids) % 7, 10**6))

    with FakeServer(script=forgetful) as server, pytest.raises(EngineError, match="would not be token-exact"):
        tried(server)


def test_a_server_that_returns_no_ids_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer() as server:
        usual = server._in_dialect
        monkeypatch.setattr(server, "_in_dialect", lambda *given: {
            "choices": [{key: value for key, value in usual(*given)["choices"][0].items() if key != "token_ids"}]
        })  # fmt: skip
        with pytest.raises(RetryableError, match="returns no token ids"):
            tried(server)


# What is asked of each server ----------------------------------------------------------------------------

BODY = Job((1, 2), 9, Stop(frozenset([END]), ((7, 9),), ("HI",)), Sampling(0.7, 0.9, 5, 0.1, 1.1), 2**62 + 5)


def test_llama_cpp_is_told_every_sampler_and_never_to_ignore_its_ends() -> None:
    body: dict[str, Any] = DIALECTS["llama.cpp"].body(BODY, "m", vocabulary)
    assert body["samplers"] == ["penalties", "temperature", "top_k", "top_p", "min_p"]
    assert (body["temperature"], body["top_k"], body["top_p"], body["min_p"]) == (0.7, 5, 0.9, 0.1)
    assert (body["repeat_penalty"], body["repeat_last_n"]) == (1.1, 11)
    assert not {"ignore_eos", "min_tokens"} & body.keys()
    assert 0 <= body["seed"] < 2**32 - 1, "it would cut larger ones, and the largest means a random one"
    assert body["stop"] == ["$", vocabulary.text([9]), "HI"], "it knows no stop by token"


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_no_default_of_a_servers_generation_config_counts(name: str) -> None:
    body: dict[str, Any] = DIALECTS[name].body(BODY, "m", vocabulary)
    options = body.get("sampling_params", body)
    for key, value in {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1}.items():
        assert options[key] == value
    assert options["presence_penalty"] == options["frequency_penalty"] == 0
    assert options["stop_token_ids"] == [END, 9]
    assert options["ignore_eos"] == (name == "vllm"), "in SGLang, it switches stop tokens off too"
    assert not {"min_tokens", "min_new_tokens"} & options.keys()


def test_a_text_only_server_is_not_asked_for_what_it_may_ignore() -> None:
    with pytest.raises(ArgumentError, match="top_k=5: a text-only server may ignore it"):
        DIALECTS["text"].body(BODY, "m", vocabulary)

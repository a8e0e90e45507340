"""The engine on inference servers, against fake servers in every dialect and with every fault."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.engine import ScriptedEngine
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.http import ConnectionOptions, RetryableError, ServerClient
from lm_eval_ext.generation.engines.loop_thread import run_apart
from lm_eval_ext.generation.engines.server import ServerEngine
from lm_eval_ext.generation.engines.server_identity import Identity, found_dialect, greedy_digest, identity
from lm_eval_ext.generation.engines.server_job import ServedModel, ShortReplyError
from lm_eval_ext.generation.engines.server_seats import Limits, Server
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from tests.fake_server import END, WORDS, FakeServer, decode, scripted, vocabulary

EXACT = ("vllm", "llama.cpp", "sglang")
QUICK = Limits(concurrent=4, retries=4, pause=0.001, patience=0.1)
OPTIONS = ConnectionOptions(timeout=10.0)
STOPS = [
    Stop(frozenset([END])),
    Stop(frozenset([END]), sequences=((7, 9), (3,))),
    Stop(frozenset([END]), strings=("H", "KL")),
    Stop(),
]

ENDS = [STOPS[0], STOPS[2], STOPS[3]]  # where a server stops, the job ends


@pytest.fixture(params=[*EXACT, "text"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def served(dialect: str) -> ServedModel:
    return ServedModel("m", DIALECTS[dialect], vocabulary, decode)


def tried(server: FakeServer, options: ConnectionOptions = OPTIONS) -> Identity:
    async def found() -> Identity:
        async with ServerClient(server.url, options) as client:
            dialect, facts = await found_dialect(client, "m", "auto")
            return await identity(client, ServedModel("m", dialect, vocabulary, decode), facts)

    return run_apart(found())


def greedy(server: FakeServer) -> str:
    async def found() -> str:
        async with ServerClient(server.url, OPTIONS) as client:
            return await greedy_digest(client, served(server.dialect))

    return run_apart(found())


def engine(
    *servers: FakeServer, limits: Limits = QUICK, options: ConnectionOptions = OPTIONS, **extra: Any
) -> ServerEngine:
    found = [Server(server.url, served(server.dialect), "") for server in servers]
    return ServerEngine(found, options, limits, **extra)


def jobs(seeds: Iterable[int] = range(1, 9), stops: Iterable[Stop] = STOPS, temperature: float = 1.0) -> list[Job]:
    return [
        Job((1 + seed % WORDS, 2, 3), 40, stop, Sampling(temperature), seed if temperature else 0)
        for seed in seeds
        for stop in stops
    ]


def results(engine: Any, some: list[Job], follow: bool = True) -> dict[Job, Completion]:
    """Completions of jobs and of one follow-up each."""
    found: dict[Job, Completion] = {}

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        found[job] = completion
        if not follow or len(job.ids) > 3:
            return []
        return [Job((*job.ids, *completion.ids[:5]), 12, job.stop, job.sampling, job.seed)]

    engine.run(some, on_completion)
    return found


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


FAULTS = ("429", "408", "500", "503", "cut", "reset", "html", "broken", "list", "null")


@pytest.mark.parametrize("dialect", EXACT)
@given(faults=st.lists(st.sampled_from([*FAULTS, ""]), max_size=30), seed=st.integers(1, 1000))
@settings(max_examples=15, deadline=None)
def test_faults_change_nothing_or_fail_the_run_with_its_work_kept(dialect: str, faults: list[str], seed: int) -> None:
    some = jobs(range(seed, seed + 4), STOPS[:1])
    right = results(ScriptedEngine(scripted, decode), some)
    with FakeServer(dialect) as server:
        server.faults.extend(faults)
        found: dict[Job, Completion] = {}
        digest = greedy_digest_of_a_good_server(dialect)
        one = ServerEngine([Server(server.url, served(dialect), digest)], OPTIONS, QUICK)
        try:
            found = results(one, some)
            assert found == right
        except EngineError as error:
            assert "run again to go on" in str(error) and "\n" not in str(error)


_DIGESTS: dict[str, str] = {}


def greedy_digest_of_a_good_server(dialect: str) -> str:
    if dialect not in _DIGESTS:
        with FakeServer(dialect) as server:
            _DIGESTS[dialect] = greedy(server)
    return _DIGESTS[dialect]


def kept_by(one: ServerEngine, some: list[Job]) -> tuple[dict[Job, Completion], str]:
    found: dict[Job, Completion] = {}

    def on_completion(job: Job, completion: Completion) -> list[Job]:
        found[job] = completion
        return []

    with pytest.raises(EngineError) as raised:
        one.run(some, on_completion)
    assert "\n" not in str(raised.value)
    return found, str(raised.value)


@pytest.mark.parametrize("status", ["400", "422"])
def test_a_refused_text_lets_the_others_finish(status: str) -> None:
    with FakeServer() as server:
        server.faults.extend(["", status])
        found, said = kept_by(engine(server), jobs(stops=STOPS[:1]))
        assert len(found) == 7 and len(server.asked) == 8, "it is not tried again"
        assert said.startswith("1 texts could not be decoded") and f"replied {status}: fault {status}" in said


def test_a_text_out_of_retries_lets_the_others_finish() -> None:
    with FakeServer() as server:
        server.faults.extend(["500"] * 5)
        one = engine(server, limits=Limits(1, 4, 0.0001, 0.1))
        some = jobs(range(1, 2), STOPS[:1])
        found, said = kept_by(one, some)
        assert not found and "replied 500: fault 500" in said and "5 times" in said


@pytest.mark.parametrize(
    ("status", "words"), [("401", "OPENAI_API_KEY"), ("403", "auth_token="), ("404", "replied 404")]
)
def test_what_would_refuse_every_text_ends_the_run_at_once(status: str, words: str) -> None:
    with FakeServer() as server:
        server.faults.extend([status] * 1000)
        options = ConnectionOptions(timeout=10.0, key="sk-secret")
        found, said = kept_by(engine(server, options=options), jobs(range(100)))
        assert not found and words in said and "sk-secret" not in said and len(server.asked) <= 12
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"


def test_a_redirect_is_not_followed() -> None:
    with FakeServer() as server:
        server.faults.append("redirect")
        assert "redirects to http://elsewhere.example/v1: give that as base_url" in kept_by(engine(server), jobs())[1]


def test_a_short_reply_is_an_error_never_a_text() -> None:
    """vLLM cuts what is asked for to its context in silence."""
    with FakeServer(max_length=20, says=4096) as server:
        found, said = kept_by(engine(server), jobs(range(1, 2), [Stop()]))
        assert not found and "after 17 of 40 tokens" in said and "max_length=" in said
    with FakeServer() as server:
        server.faults.append("empty")
        assert "after 0 of 40 tokens" in kept_by(engine(server), jobs(range(1, 2), [Stop()]))[1]


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_a_reply_that_does_not_end_is_tried_again(fault: str) -> None:
    with FakeServer() as server:
        server.faults.append(fault)
        some = jobs(range(1, 2), STOPS[:1])
        found = results(engine(server, options=ConnectionOptions(timeout=0.5)), some)
        assert found == results(ScriptedEngine(scripted, decode), some)


def test_a_server_that_is_started_again_goes_on() -> None:
    with FakeServer() as server:
        one = ServerEngine([Server(server.url, served("vllm"), greedy(server))], OPTIONS, QUICK)
        some, turns = jobs(range(20), ENDS), count()
        found: dict[Job, Completion] = {}

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            found[job] = completion
            if next(turns) in (5, 30):
                server.down()
                time.sleep(0.01)
                server.up()
            return []

        one.run(some, on_completion)
        assert found == results(ScriptedEngine(scripted, decode), some, follow=False)


def test_another_model_behind_the_same_name_stops_the_run() -> None:
    with FakeServer() as server:
        one = ServerEngine([Server(server.url, served("vllm"), greedy(server))], OPTIONS, QUICK)

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            server.down()
            server.script = lambda job: iter(lambda: 5, None)
            server.up()
            return []

        with pytest.raises(EngineError, match="serves another model than before"):
            one.run(jobs(range(20)), on_completion)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_no_text_of_another_model_is_used(concurrent: int) -> None:
    """Also if no request breaks, because the server was replaced between two."""
    some, turns = jobs(range(20), ENDS), count()
    right = results(ScriptedEngine(scripted, decode), some, follow=False)
    with FakeServer() as server:
        limits = Limits(concurrent, 4, 0.001, 0.1)
        one = ServerEngine([Server(server.url, served("vllm"), greedy(server))], OPTIONS, limits)
        found: dict[Job, Completion] = {}

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            found[job] = completion
            if next(turns) == 8:
                server.down()
                server.script = partial(scripted, words=WORDS - 1)
                server.up()
            return []

        with pytest.raises(EngineError, match="serves another model than before"):
            one.run(some, on_completion)
    assert len(found) >= 9 and all(right[job] == completion for job, completion in found.items())


@pytest.mark.parametrize("status", ["502", "404"])
def test_a_server_that_serves_nothing_loses_nothing(status: str) -> None:
    some = jobs(range(20), ENDS)
    with FakeServer() as sick, FakeServer() as sound:
        digest = greedy(sound)
        sick.faults.extend([status] * 10_000)
        servers = [Server(one.url, served("vllm"), digest) for one in (sick, sound)]
        found = results(ServerEngine(servers, OPTIONS, QUICK), some, follow=False)
        assert found == results(ScriptedEngine(scripted, decode), some, follow=False)


def test_no_more_is_asked_of_a_server_than_it_has_slots() -> None:
    with FakeServer() as server:
        server.seconds = 0.01
        one = ServerEngine([Server(server.url, served("vllm"), "", slots=2)], OPTIONS, QUICK)
        results(one, jobs(range(10)))
        assert server.most == 2


def test_a_server_that_stays_away_ends_the_run() -> None:
    with FakeServer() as server:
        one = engine(server, limits=Limits(4, 2, 0.001, 0.1))
        started = time.monotonic()
        server.down()
        try:
            found, said = kept_by(one, jobs())
        finally:
            server.up()
        assert not found and "cannot be reached" in said and "run again to go on" in said
        assert time.monotonic() - started < 20


def test_a_dead_servers_work_moves_to_the_others() -> None:
    with FakeServer() as first, FakeServer() as second:
        digest = greedy(first)
        up: list[tuple[int, int]] = []
        servers = [Server(one.url, served("vllm"), digest) for one in (first, second)]
        one = ServerEngine(servers, OPTIONS, QUICK, on_servers=lambda now, asked: up.append((now, asked)))
        some, turns = jobs(range(20), ENDS), count()
        found: dict[Job, Completion] = {}

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            found[job] = completion
            if next(turns) == 5:
                first.down()
            if len(found) == 60:
                first.up()
            return []

        one.run(some, on_completion)
        assert found == results(ScriptedEngine(scripted, decode), some, follow=False)
        assert (1, 2) in up


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


# What a server is and can do -----------------------------------------------------------------------------


def test_a_server_is_recognised_by_its_replies(dialect: str) -> None:
    with FakeServer(dialect) as server:
        found = tried(server)
        assert found.dialect == dialect and found.facts.max_length == 4096
        assert found.seeded == (dialect != "llama.cpp"), "its logits depend on its cache and batch"
        assert tried(server).model == found.model
        server.script = lambda job: iter(lambda: 5, None)
        assert tried(server).model != found.model, "another model says something else"


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


def test_a_short_context_is_an_error_of_its_own() -> None:
    assert issubclass(ShortReplyError, EngineError)


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

"""The engine on inference servers, with every fault that a server can have."""

from __future__ import annotations

import time
from functools import partial
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_eval_ext.errors import EngineError
from lm_eval_ext.generation.engines.http import ConnectionOptions
from lm_eval_ext.generation.engines.server import Limits, Server, ServerEngine
from lm_eval_ext.generation.request import Completion, Job, Stop
from lm_eval_ext.harness.models.tts_server import tried_servers
from lm_eval_ext.harness.server_arguments import ServerArguments
from tests.fake_server import WORDS, FakeServer, decode, scripted, vocabulary
from tests.inference import ENDS, EXACT, OPTIONS, QUICK, STOPS, engine, greedy, jobs, results, served
from tests.scripted import ScriptedEngine

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
            results(one, some, found=found)
            assert found == right
        except EngineError as error:
            assert "run again to go on" in str(error) and "\n" not in str(error)
            assert found.items() <= right.items(), "what was finished before is kept, and right"
            server.faults.clear()
            assert results(one, some) == right, "and the rest follows when all is well"


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


@pytest.mark.parametrize("fault", ["500", "reset"])
@pytest.mark.parametrize("dialect", [*EXACT, "text"])
def test_a_server_of_which_every_request_fails_twice_is_tried_to_the_end(
    dialect: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request is tried again alone: all of them together never go well."""
    monkeypatch.setattr(Limits, "wait", lambda limits, tries: 0.0)
    turns = count(1)
    with FakeServer(dialect) as server:
        server.loading = 2
        server.fault_of = lambda body: fault if next(turns) % 3 else ""
        arguments = ServerArguments.taken({"base_url": server.url, "exact": "allow_text", "max_retries": 2})
        _, (found,) = tried_servers(arguments, vocabulary, decode)
    assert found.dialect == dialect and found.greedy == greedy_digest_of_a_good_server(dialect)


@pytest.mark.parametrize("status", ["400", "422"])
def test_a_refused_text_lets_the_others_finish(status: str) -> None:
    with FakeServer() as server:
        server.faults.extend(["", status])
        found, said = kept_by(engine(server), jobs(stops=STOPS[:1]))
        assert len(found) == 7 and len(server.asked) == 8, "it is not tried again"
        assert said.startswith("1 text could not be decoded") and f"replied {status}: fault {status}" in said


def test_a_text_out_of_retries_lets_the_others_finish() -> None:
    some = jobs(range(1, 9), STOPS[:1])
    with FakeServer() as server:
        server.fault_of = lambda body: "500" if body["prompt"] == list(some[2].ids) else ""
        found, said = kept_by(engine(server, limits=Limits(2, 4, 0.0001, 0.1)), some)
        assert found.keys() == {*some} - {some[2]} and said.startswith("1 text could not be decoded")
        assert "replied 500: fault 500" in said and "5 times" in said


def test_a_server_that_asks_to_wait_is_left_alone() -> None:
    with FakeServer() as server:
        server.retry_after = "0.4"
        server.faults.extend(["", "", "429"])
        results(engine(server, limits=Limits(1, 4, 0.0001, 0.1)), jobs(range(6), STOPS[:1]), follow=False)
        pauses = [after - before for before, after in pairwise(server.times)]
        assert max(pauses) == pauses[2] >= 0.3 and len(pauses) == 6


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("400", ConnectionOptions(headers={"Authorization": "Bearer sk-secret"})),
        ("words", ConnectionOptions(key="sk-secret")),
    ],
)
def test_keys_stay_out_of_messages(fault: str, options: ConnectionOptions) -> None:
    with FakeServer() as server:
        server.faults.extend([fault] * 1000)
        _, said = kept_by(engine(server, options=options), jobs(range(1, 2), STOPS[:1]))
        assert "***" in said and "sk-secret" not in said and said.isprintable()


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


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_the_proxy_of_the_environment_is_used_unless_it_says_not_to(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeServer() as proxy:
        monkeypatch.setenv("http_proxy", scheme + proxy.url.removeprefix("http://"))
        behind = ServerEngine([Server("http://model.invalid", served("vllm"), "")], OPTIONS, QUICK)
        assert len(results(behind, jobs(range(1, 3), STOPS[:1]), follow=False)) == 2 == len(proxy.asked)
        monkeypatch.setenv("no_proxy", "model.invalid")
        assert "cannot be reached" in kept_by(behind, jobs(range(3, 4), STOPS[:1]))[1]


def test_a_proxy_that_is_no_address_refuses_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://[bad")
    with FakeServer() as server:
        assert "http://[bad" in kept_by(engine(server), jobs(range(1, 2), STOPS[:1]))[1]


def test_a_short_reply_is_an_error_never_a_text() -> None:
    """vLLM cuts what is asked for to its context in silence."""
    with FakeServer(max_length=20, says=4096) as server:
        found, said = kept_by(engine(server), jobs(range(1, 2), [Stop()]))
        assert not found and "after 17 of 40 tokens" in said and "max_length=" in said
    with FakeServer("text", max_length=20, says=4096) as server:
        found, said = kept_by(engine(server), jobs(range(1, 2), [Stop()]))
        assert not found and "after 17 of 40 tokens" in said, "also if it doesn't count them"
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
        server.seconds = 0.01  # so that texts are still to come once it is known who it is

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            server.down()
            server.script = lambda job: iter(lambda: 5, None)
            server.up()
            return []

        with pytest.raises(EngineError, match="serves another model than before"):
            one.run(jobs(range(20)), on_completion)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_no_text_of_another_model_is_used(concurrent: int) -> None:
    """Also if no request breaks, because the server was replaced between two, shortly before the end."""
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


def test_a_server_that_closes_every_connection_is_asked_who_it_is_now_and_then() -> None:
    some = jobs(range(40), STOPS[:1])
    with FakeServer() as server:
        server.closes = True
        one = ServerEngine([Server(server.url, served("vllm"), greedy(server))], OPTIONS, QUICK)
        assert results(one, some) == results(ScriptedEngine(scripted, decode), some)


def test_a_server_that_refuses_texts_while_it_says_who_it_is_is_used_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval_ext.generation.engines.server._BETWEEN", 0.0)
    some, turns = jobs(range(30), ENDS), count()
    with FakeServer() as sick, FakeServer() as sound:
        digest = greedy(sound)
        sick.closes = True  # so that it is asked all the time
        sick.fault_of = lambda body: "404" if len(body["prompt"]) == 3 and next(turns) > 6 else ""
        servers = [Server(one.url, served("vllm"), digest) for one in (sick, sound)]
        found = results(ServerEngine(servers, OPTIONS, QUICK), some, follow=False)
    assert found == results(ScriptedEngine(scripted, decode), some, follow=False)
    assert next(turns) < 30


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
        first.seconds = second.seconds = 0.02  # so that most texts are still to come once it is known who they are
        up: list[tuple[int, int]] = []
        servers = [Server(one.url, served("vllm"), digest) for one in (first, second)]
        one = ServerEngine(servers, OPTIONS, QUICK, on_servers=lambda now, asked: up.append((now, asked)))
        some = jobs(range(150), ENDS)
        found: dict[Job, Completion] = {}
        changes = iter([(5, first.down), (60, first.up)])
        due = next(changes)

        def on_completion(job: Job, completion: Completion) -> list[Job]:
            nonlocal due
            found[job] = completion
            noticed = due[1] == first.down or (1, 2) in up
            if len(found) >= due[0] and noticed:
                due[1]()
                due = next(changes, (999, first.up))
            return []

        one.run(some, on_completion)
        assert found == results(ScriptedEngine(scripted, decode), some, follow=False)
        assert (1, 2) in up and up[-1] == (2, 2), "and it is taken back"

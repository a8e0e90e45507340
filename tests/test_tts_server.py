"""`--model tts-server` from lm-eval's command line and from Python, against fake servers."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.request import Job, Sampling, Stop
from lm_eval_ext.harness.models.tts_server import TTSServer
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.paths import TINY_CHAIN
from tests.commands import LM_EVAL, cli, run
from tests.fake_server import FakeServer, scripted
from tests.shared import case_table, one_line

SCRIPT = partial(scripted, words=20)  # ids that tiny-chain has


def model(server: FakeServer, **arguments: Any) -> TTSServer:
    return TTSServer(**{"base_url": server.url, "tokenizer": str(TINY_CHAIN), "journal": "off", **arguments})


def evaluated(server: FakeServer, out: Path, *options: str, **arguments: object) -> Any:
    given = {"base_url": f"{server.url}/v1", "tokenizer": TINY_CHAIN, "journal": out / "journal.sqlite", **arguments}
    pairs = ",".join(f"{name}={value}" for name, value in given.items())
    return run(
        LM_EVAL, "--model", "tts-server", "--model_args", pairs, "--tasks", "tts_chain_b8,tts_chain_b16",
        "--limit", "5", "--output_path", out, "--log_samples", *options, OPENAI_API_KEY="sk-secret",
    )  # fmt: skip


def test_a_run_from_the_command_line_and_again(tmp_path: Path) -> None:
    with FakeServer(script=SCRIPT) as server:
        done = evaluated(server, tmp_path / "out", model="m")
        assert done.returncode == 0, done.stderr
        assert "vllm 0.32.0, context 4096 tokens, token ids exact, seeds kept, tokenizer not checked" in done.stderr
        texts = [body for body in server.asked if body["max_tokens"] <= 16 and len(body["prompt"]) > 20]
        assert texts and all(body["return_token_ids"] and body["ignore_eos"] for body in texts)
        before = len(server.asked)
        again = evaluated(server, tmp_path / "out", model="m")
        assert again.returncode == 0 and "were taken from the journal" in again.stderr
        tries = sum(len(body["prompt"]) <= 60 for body in server.asked[before:])
        assert len(server.asked) - before == tries, "only the server is tried again"
    (first, second) = sorted((tmp_path / "out").rglob("results_*.json"))
    content, other = (json.loads(path.read_text()) for path in (first, second))
    assert content["results"] == other["results"] and first.parent.name == "m"
    engine = content["config"]["engine"]
    assert engine["token_exact"] and engine["seed_reproducible"] and engine["dialect"] == "vllm"
    assert content["config"]["settings"]["token_exact"] == "True"
    assert "sk-secret" not in done.stdout + done.stderr + "".join(map(Path.read_text, [first, second]))
    added = cli("leaderboard", "add", first.parent, "--to", tmp_path / "published")
    assert added.exit_code == 0, added.output
    published = [path.read_text() for path in (tmp_path / "published").rglob("run.json")]
    assert published and not any(server.url in text for text in published)


def test_keys_that_are_given_as_arguments_are_neither_logged_nor_saved(tmp_path: Path) -> None:
    with FakeServer(script=SCRIPT) as server:
        arguments = {"base_url": server.url, "tokenizer": str(TINY_CHAIN), "auth_token": "sk-hidden"}
        config = {
            "model": "tts-server", "model_args": {**arguments, "header": {"X-Team": "team-key"}}, "limit": 2,
            "tasks": ["tts_chain_b8"], "output_path": str(tmp_path / "out"), "log_samples": True,
        }  # fmt: skip
        (tmp_path / "run.yaml").write_text(json.dumps(config))
        cache = str(tmp_path / "cache")
        done = run(LM_EVAL, "run", "--config", tmp_path / "run.yaml", XDG_CACHE_HOME=cache, LMEVAL_LOG_LEVEL="DEBUG")
        assert done.returncode == 0, done.stderr
        assert server.headers[-1]["Authorization"] == "Bearer sk-hidden" and server.headers[-1]["X-Team"] == "team-key"
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "run.yaml"]
    assert len(written) > 2
    for text in [done.stdout.encode(), done.stderr.encode(), *written]:
        assert b"sk-hidden" not in text and b"team-key" not in text


def test_one_request_at_a_time_is_reproducible_where_others_are_not() -> None:
    with FakeServer("llama.cpp", script=SCRIPT) as server:
        plain, single = model(server), model(server, reproducible=True)
        assert [lm.get_model_info()["engine"]["seed_reproducible"] for lm in (plain, single)] == [False, True]
        assert plain.fingerprint != single.fingerprint, "texts that a seed may not give again are not reused"
        server.seconds, server.most = 0.02, 0
        before = len(server.asked)
        found = tts.generate(single, ["1+2", "3+4"], budgets=[8], samples=3, answer_token_budget=4)
        assert len(found) == 6 and server.most == 1
        assert not any(body["cache_prompt"] for body in server.asked[before:])


def test_budgets_share_a_trace() -> None:
    with FakeServer(script=SCRIPT) as server:
        lm = model(server)
        before = len(server.asked)
        found = tts.generate(lm, ["1+2"], budgets=[8, 16, 32], samples=2, answer_token_budget=4)
        assert len(found) == 6
        assert all(one.text.thinking_tokens == one.budget for one in found if one.text.forced)
        assert sum(body["max_tokens"] == 32 for body in server.asked[before:]) == 2, "a trace for each sample"


def test_requests_without_thinking_take_the_same_engine() -> None:
    with FakeServer(script=SCRIPT) as server:
        lm = model(server)
        request = Instance("generate_until", {}, ("1+2=", {"until": [], "max_gen_toks": 9}), 0, metadata=("t", 0, 1))
        before = len(server.asked)
        (text,) = lm.generate_until([request], disable_tqdm=True)
        (body,) = (one for one in server.asked[before:] if one["max_tokens"] == 9)
        assert body["prompt"] == lm.tok_encode("1+2=") and body["max_tokens"] == 9 and body["temperature"] == 0
        job = Job(tuple(body["prompt"]), 9, Stop(), Sampling(), 0)
        ids = takewhile(lambda token: token not in body["stop_token_ids"], islice(SCRIPT(job), 9))
        assert str(text) == lm._decode(list(ids))


def test_log_likelihoods_are_asked_for_by_ids() -> None:
    with FakeServer(script=SCRIPT) as server:
        lm = model(server)
        requests = [
            Instance("loglikelihood", {}, pair, 0, metadata=("t", 0, 1)) for pair in (("1+2=", "3"), ("1+2=", "45"))
        ]
        found = lm.loglikelihood(requests, disable_tqdm=True)
        for (logprob, greedy), pair in zip(found, (one.args for one in requests), strict=True):
            ids = lm._encode_pair(*pair)[1]
            assert logprob == pytest.approx(sum(-0.1 * (token % 3) for token in ids))
            assert greedy == all(token % 3 == 0 for token in ids)
        (whole,) = lm.loglikelihood_rolling(
            [Instance("loglikelihood_rolling", {}, ("1+2=3",), 0, metadata=("t", 0, 1))], disable_tqdm=True
        )
        assert whole == pytest.approx(sum(-0.1 * (token % 3) for token in lm.tok_encode("1+2=3")))
    refused = pytest.raises(ArgumentError, match=r"a llama\.cpp server gives no log-likelihoods")
    with FakeServer("llama.cpp", script=SCRIPT) as server, refused:
        model(server).loglikelihood(requests, disable_tqdm=True)


@pytest.mark.parametrize(("arguments", "words"), case_table("wrong_arguments.yaml")["servers"])
def test_arguments_that_cannot_be_are_one_line(
    arguments: dict[str, object], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given: dict[str, object] = {"base_url": "http://127.0.0.1:9", "tokenizer": str(TINY_CHAIN), "journal": "off"}
    with one_line((ArgumentError, EngineError), words):
        TTSServer(**given | arguments)


def test_a_tokenizer_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with FakeServer(script=SCRIPT) as server, pytest.raises(ArgumentError, match="tokenizer=no/such: cannot be loaded"):
        TTSServer(base_url=server.url, tokenizer="no/such", journal="off")


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("http://a:1", "http://a:1"),
        ("http://a:1/v1/", "http://a:1"),
        ("http://a:1/v1/completions", "http://a:1"),
        ("https://proxy/models/x/v1", "https://proxy/models/x"),
        ("http://a:1/completion", "http://a:1"),
    ],
)
def test_addresses_are_given_in_any_form(url: str, root: str) -> None:
    assert ServerArguments.taken({"base_url": url}).base_url == (root,)


def test_headers_are_given_as_json() -> None:
    given = {"base_url": "http://[::1]:8000/completions", "header": '{"X-Team": "one"}'}
    arguments = ServerArguments.taken(given)
    assert arguments.header == {"X-Team": "one"} and arguments.base_url == ("http://[::1]:8000",)
    with pytest.raises(ArgumentError, match="give JSON, such as"):
        ServerArguments.taken({**given, "header": "X-Team: one"})


def test_several_addresses() -> None:
    assert ServerArguments.taken({"base_url": "[http://a:1/v1,http://b:2]"}).base_url == ("http://a:1", "http://b:2")


def test_a_model_that_is_not_served_is_one_line() -> None:
    with FakeServer(script=SCRIPT) as server, pytest.raises(EngineError, match="serves m, not typo; give model=m"):
        model(server, model="typo")


def test_an_endpoint_without_texts_is_one_line() -> None:
    with FakeServer("text", script=SCRIPT) as server:
        server.faults.extend(["404"] * 10)
        with pytest.raises(EngineError, match="one that only offers chat cannot keep a thinking budget"):
            model(server, exact="allow_text")


def test_text_only_servers_are_refused_unless_allowed() -> None:
    with FakeServer("text", script=SCRIPT) as server:
        with pytest.raises(EngineError, match=r"takes and returns text only.*exact=allow_text"):
            model(server)
        info = model(server, exact="allow_text").get_model_info()["engine"]
        assert not info["token_exact"] and info["dialect"] == "text"


def test_servers_of_different_models_are_refused() -> None:
    refused = pytest.raises(EngineError, match="serves another model than")
    with FakeServer(script=SCRIPT) as one, FakeServer(script=partial(scripted, words=19)) as other, refused:
        model(one, base_url=[one.url, other.url])


def test_another_tokenizer_is_refused() -> None:
    with FakeServer(script=SCRIPT) as server:
        server.tokenizer = lambda text: [1, 2, 3]
        with pytest.raises(EngineError, match="give tokenizer=NAME, that of the served model"):
            model(server)


def test_texts_of_other_weights_are_kept_apart() -> None:
    with FakeServer(script=SCRIPT) as server:
        first, named = model(server).fingerprint, model(server, weights="fp8").fingerprint
        server.script = partial(scripted, words=19)
        assert model(server).fingerprint != first, "another model"
        assert model(server, weights="fp8").fingerprint == named, "as declared"


def test_a_server_that_is_loading_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with FakeServer(script=SCRIPT) as server:
        server.loading = 1
        caplog.set_level("INFO", "lm_eval.tts")
        assert model(server).identities[0].dialect == "vllm"
        assert "replied 503" in caplog.text and "trying again" in caplog.text
        with pytest.raises(ArgumentError, match=r"max_length=9999: the server's context has 4096 tokens"):
            model(server, max_length=9999)


def test_how_many_texts_are_missing() -> None:
    with FakeServer(script=SCRIPT) as server:
        lm = model(server, max_retries=0)
        refused = lm.tok_encode(lm.apply_chat_template([{"role": "user", "content": "3+4"}]))
        server.fault_of = lambda body: "400" if body["prompt"][: len(refused)] == refused else ""
        with pytest.raises(EngineError, match=r"^6 of 12 texts are missing: 2 texts could not be decoded"):
            tts.generate(lm, ["1+2", "3+4"], budgets=[8, 16, 32], samples=2, answer_token_budget=4)

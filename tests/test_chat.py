"""`tts-server` with `server=chat`: endpoints that only offer chat, for tasks without a thinking budget."""

from __future__ import annotations

import json
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies
from lm_eval.api.instance import Instance

import lm_eval_ext as tts
from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.generation.engines.dialects import DIALECTS
from lm_eval_ext.generation.engines.dialects.chat import ChatReply, Conversation, Message
from lm_eval_ext.generation.journal import Journal
from lm_eval_ext.generation.request import Generation, Sampling
from lm_eval_ext.grading.extraction import answer_part
from lm_eval_ext.harness.chat_requests import generation, messages_of
from lm_eval_ext.harness.models.server import TTSServer
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.thinking_formats import format_named, thinking_of
from tests.fake_server import END, FakeServer, decode, scripted, vocabulary
from tests.test_plugin import LM_EVAL, run

SCRIPT = partial(scripted, words=20)
THINK = format_named("qwen3")


def model(server: FakeServer, **arguments: Any) -> TTSServer:
    return TTSServer(**{"base_url": server.url, "server": "chat", "journal": "off", **arguments})


def generated(lm: TTSServer, requests: list[Instance]) -> list[Generation]:
    return [text for text in lm.generate_until(requests, disable_tqdm=True) if isinstance(text, Generation)]


def asked(prompt: str = "1+2", repeats: int = 1, **options: Any) -> list[Instance]:
    arguments = (prompt, {"thinking_token_budget": -1, "max_gen_toks": 40, **options})
    return [Instance("generate_until", {}, arguments, 0, metadata=("t", 0, repeats))] * repeats


UNLIMITED = ("--gen_kwargs", "thinking_token_budget=-1,answer_token_budget=-1")


def evaluated(server: FakeServer, out: Path, tasks: str, *options: str) -> Any:
    arguments = f"base_url={server.url}/v1,server=chat,model=m,journal={out}/journal.sqlite"
    return run(
        LM_EVAL, "--model", "tts-server", "--model_args", arguments, "--tasks", tasks, "--limit", "4",
        "--output_path", out, "--log_samples", *options,
    )  # fmt: skip


def test_a_run_without_a_budget_and_again(tmp_path: Path) -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        first = evaluated(server, tmp_path, "tts_chain", *UNLIMITED)
        assert first.returncode == 0, first.stderr
        assert "chat, seeds kept; thinking budgets are not possible" in first.stderr
        assert "weights=NAME keeps its texts apart" in first.stderr
        asked = [body for body in server.asked if body["max_tokens"] > 100]
        assert len(asked) == 12 and all(body["messages"][0]["role"] == "user" for body in asked)
        again = evaluated(server, tmp_path, "tts_chain", *UNLIMITED)
        assert again.returncode == 0 and sum(body["max_tokens"] > 100 for body in server.asked) == 12, (
            "from the journal"
        )
    one, other = (json.loads(path.read_text()) for path in sorted(tmp_path.rglob("results_*.json")))
    assert one["results"] == other["results"]
    engine = one["config"]["engine"]
    assert (engine["token_exact"], engine["dialect"], engine["seed_reproducible"]) == (False, "chat", True)
    assert one["config"]["settings"]["token_exact"] == "chat"
    totals, resumed = (content["config"]["generation"] for content in (one, other))
    decoded = totals["thinking_tokens"] + totals["answer_tokens"]
    assert decoded == resumed["resumed_tokens"] > 0 and resumed["thinking_tokens"] == resumed["answer_tokens"] == 0
    assert totals["prompt_tokens"] == 12 * 7
    (held,) = Journal(tmp_path / "journal.sqlite").summaries()
    assert (held.completions, held.tokens) == (12, 0), "bytes are not tokens"
    runs = tts.read_runs(tmp_path)
    assert len(runs) == 2


def test_a_chat_template_is_the_endpoints(tmp_path: Path) -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        done = evaluated(
            server, tmp_path, "tts_chain", *UNLIMITED, "--apply_chat_template", "--system_instruction", "Be brief."
        )
        assert done.returncode == 0, done.stderr
        asked = [body["messages"] for body in server.asked if body["max_tokens"] > 100]
        assert [[turn["role"] for turn in messages] for messages in asked] == [["system", "user"]] * 12


@pytest.mark.parametrize("tasks", ["tts_chain_b8", "tts_chain,tts_chain_b16"])
def test_a_budget_is_refused_before_anything_is_asked(tasks: str, tmp_path: Path) -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        done = evaluated(server, tmp_path, tasks)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "needs a server that goes on from the middle of a text" in done.stderr.splitlines()[-1]
        assert not [body for body in server.asked if body["max_tokens"] > 100]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"thinking_token_budget": 512}, "t: thinking_token_budget=512 needs a server"),
        ({"answer_token_budget": 16}, "t: answer_token_budget=16 needs"),
        ({"wait_count": 1}, "t: wait_count=1 needs"),
        ({"thinking_end": "</x>"}, "t: thinking_start or thinking_end needs"),
        ({"do_sample": True, "top_k": 20}, "top_k=20: a chat endpoint may ignore it"),
        ({"repetition_penalty": 1.1}, "repetition_penalty=1.1: a chat endpoint may ignore it"),
    ],
)
def test_what_chat_cannot_do_is_one_line(options: dict[str, Any], words: str) -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        lm = model(server)
        with pytest.raises(ArgumentError) as raised:
            lm.generate_until(asked(**options), disable_tqdm=True)
        assert words in str(raised.value) and "\n" not in str(raised.value)
        with pytest.raises(ArgumentError, match="gives no log-likelihoods"):
            lm.loglikelihood([])


@pytest.mark.parametrize("argument", [{"thinking": "off"}, {"stop_loops": True}, {"answer_token_budget": 5}])
def test_arguments_without_effect_are_refused(argument: dict[str, object]) -> None:
    with FakeServer("chat", script=SCRIPT) as server, pytest.raises(ArgumentError, match="has no effect on a server"):
        model(server, **argument)


def test_samples_are_independent_and_repeat() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        first, again = (
            [str(text) for text in model(server, seed=5).generate_until(asked(repeats=6, temperature=1.0), True)]
            for _ in range(2)
        )
        assert first == again and len(set(first)) == 6
        before = len(server.asked)
        lm = model(server)
        tried = len(server.asked) - before
        greedy = lm.generate_until(asked(repeats=6), True)
        assert len(set(map(str, greedy))) == 1 and len(server.asked) - before == tried + 1, "asked once"


def test_the_limit_of_tokens_has_the_name_that_the_endpoint_knows() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        server.refused = "max_tokens"
        model(server).generate_until(asked(), True)
        assert server.asked[-1]["max_completion_tokens"] == 40


def test_replies_without_a_count_of_tokens_are_one_line() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        server.said = {"usage": None}
        with pytest.raises(EngineError, match="doesn't say how many tokens it has decoded"):
            model(server)


def test_thinking_is_counted_here_where_the_endpoint_does_not_say() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        server.said = {"usage": {"completion_tokens": 40}}
        with pytest.raises(ArgumentError, match=r"doesn't say how many of its 40 tokens are thinking; give tokenizer="):
            model(server).generate_until(asked(), True)
        lm = model(server, tokenizer=str(TINY_CHAIN))
        (text,) = generated(lm, asked())
        assert 0 < text.thinking_tokens < 40 and text.answer_tokens == 40 - text.thinking_tokens


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"completion_tokens": 119, "completion_tokens_details": {"reasoning_tokens": 110}}, (110, 9)),
        ({"prompt_tokens": 32, "completion_tokens": 119, "total_tokens": 151,
          "completion_tokens_details": {"reasoning_tokens": 110}}, (110, 9)),
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 151,
          "completion_tokens_details": {"reasoning_tokens": 110}}, (110, 9)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 110}}, (110, 9)),
        ({"completion_tokens": 0, "completion_tokens_details": {"reasoning_tokens": 60}}, (60, 0)),
    ],
)  # fmt: skip
def test_thinking_counts_also_where_it_is_counted_apart(usage: dict[str, Any], tokens: tuple[int, int]) -> None:
    content = {"choices": [{"finish_reason": "stop", "message": {"content": "4", "reasoning": "so"}}], "usage": usage}
    job = Conversation.of_text("1+2").job(Sampling(), 0)
    reply = ChatReply.of_ids(DIALECTS["chat"].reply(content, job, vocabulary).ids)
    made = generation(reply, THINK, None, (), 0)
    assert (made.thinking_tokens, made.answer_tokens) == tokens


def test_models_behind_names_that_are_not_listed_are_kept_apart() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        prints = {model(server, model=name).fingerprint for name in ("one", "other", "m")}
        assert len(prints) == 3


def test_a_connection_that_breaks_ends_no_run_of_a_model_that_only_samples() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        server.only_samples = True
        lm = model(server, max_retries=3)
        server.faults.append("reset")
        assert len(lm.generate_until(asked(repeats=3, temperature=1.0), True)) == 3


def test_a_reply_that_was_filtered_is_no_sample() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        lm = model(server, max_retries=0)
        message = {"role": "assistant", "content": ""}
        server.said = {"choices": [{"finish_reason": "content_filter", "message": message}]}
        with pytest.raises(EngineError, match=r"1 text could not be decoded .*finish_reason"):
            lm.generate_until(asked(), True)


def test_a_model_that_is_not_there_is_one_line() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        server.faults.extend(["404"] * 9)
        with pytest.raises(EngineError) as raised:
            model(server, model="typo")
        assert "replied 404" in str(raised.value) and "server=chat" not in str(raised.value)


def test_thinking_and_answer_are_told_apart() -> None:
    with FakeServer("chat", script=SCRIPT) as server:
        (text,) = generated(model(server), asked(max_gen_toks=4000))
        ids = [*takewhile(lambda token: token != END, SCRIPT(server._job(server.asked[-1]))), END]
        half = len(ids) // 2
        assert text.answer == decode(ids[half:]) and thinking_of(str(text)) == f"<think>\n{decode(ids[:half])}"
        assert (text.thinking_tokens, text.answer_tokens, text.finish_reason) == (half, len(ids) - half, "stop")


@pytest.mark.parametrize(
    ("reply", "answer", "tokens", "reason"),
    [
        ({"reasoning": "so", "answer": "It is 4.", "thinking_tokens": 3}, "It is 4.", (3, 7), "stop"),
        ({"reasoning": "so", "answer": "", "cut": True, "thinking_tokens": 10}, None, (10, 0), "length"),
        ({"reasoning": "so", "answer": "It is", "cut": True, "thinking_tokens": 8}, "It is", (8, 2), "length"),
        ({"answer": "<think>so</think>It is 4."}, "It is 4.", (5, 5), "stop"),
        ({"answer": "so</think>It is 4.", "thinking_tokens": 0}, "It is 4.", (5, 5), "stop"),
        ({"answer": "<think>so", "cut": True}, None, (5, 5), "length"),
        ({"answer": "It is 4."}, "It is 4.", (0, 10), "stop"),
        ({"answer": "It is 4.", "thinking_tokens": 6}, "It is 4.", (6, 4), "stop"),
        ({"answer": ""}, "", (0, 10), "stop"),
    ],
)
def test_replies_become_generations(
    reply: dict[str, Any], answer: str | None, tokens: tuple[int, int], reason: str
) -> None:
    found = ChatReply(**{"reasoning": "", "cut": False, "tokens": 10, **reply})
    made = generation(found, THINK, lambda text: 5, (), 0)
    assert (made.answer, made.finish_reason) == (answer, reason)
    assert (made.thinking_tokens, made.answer_tokens) == tokens
    again = answer_part(str.__str__(made))
    assert (again or "").strip() == (answer or "").strip(), "a text that is graded again has the same answer"


def test_strings_end_the_answer_and_not_the_thinking() -> None:
    found = ChatReply(reasoning="a\n\nb", answer="first\n\nsecond", cut=False, tokens=10, thinking_tokens=2)
    assert generation(found, THINK, None, ("\n\n", "zzz"), 0).answer == "first"


def test_a_prompt_is_what_the_user_says_unless_it_is_messages() -> None:
    assert messages_of("[1, 2]") == (Message(role="user", content="[1, 2]"),)
    assert messages_of('[{"role": "user"}]') == (Message(role="user", content='[{"role": "user"}]'),)
    turns = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    assert [turn.model_dump() for turn in messages_of(json.dumps(turns))] == turns


@given(strategies.text(), strategies.integers(1, 10**6))
def test_conversations_survive_as_bytes(text: str, most: int) -> None:
    said = Conversation(messages=(Message(role="user", content=text),), max_tokens=most)
    assert Conversation.of_ids(said.ids()) == said

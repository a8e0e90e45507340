"""Model classes that can't force a thinking budget are told so, before they decode anything."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from lm_eval_ext.paths import TINY_CHAIN
from tests.commands import LM_EVAL, run
from tests.fake_server import FakeServer, scripted

COMMAND = (LM_EVAL, "run", "--limit", "1")


@pytest.mark.parametrize("cached", [(), ("--use_cache", "cache")])
def test_hf_cannot_run_a_task_with_a_budget(cached: tuple[str, ...], tmp_path: Path) -> None:
    tasks = ("--tasks", "tts_chain_short_b8,tts_sums")
    model = ("--model", "hf", "--model_args", f"pretrained={TINY_CHAIN}")
    found = run(*COMMAND, *model, *tasks, *(str(tmp_path / one) if one == "cache" else one for one in cached))
    last = found.stderr.strip().splitlines()[-1]
    assert found.returncode == 1 and "Traceback" not in found.stderr
    assert last.startswith("lm-eval-tts: tts_chain_short_b8, tts_sums: HFLM can't force a thinking budget; expected")


def test_a_chat_endpoint_runs_tasks_without_a_budget(tmp_path: Path) -> None:
    """What only our models know is not sent; a budget is refused before anything is asked."""
    with FakeServer("chat", script=partial(scripted, words=20)) as server:
        arguments = f"base_url={server.url}/v1/chat/completions,model=m"
        command = (*COMMAND, "--model", "local-chat-completions", "--model_args", arguments, "--apply_chat_template")
        without = ("--gen_kwargs", "thinking_token_budget=-1,answer_token_budget=-1")
        done = run(*command, *without, "--tasks", "tts_chain_maj8", "--output_path", str(tmp_path), "--log_samples")
        assert done.returncode == 0, done.stderr
        assert "sends the same seed with every request" in done.stderr
        assert len(server.asked) == 8 and all("thinking_token_budget" not in body for body in server.asked)
        assert server.asked[0]["messages"][0]["role"] == "user" and server.asked[0]["temperature"] == 1.0
        found = run(*command, "--tasks", "tts_chain_maj8,tts_chain_b8")
        assert found.returncode == 1 and "Traceback" not in found.stderr and len(server.asked) == 8
        assert "tts_chain_maj8, tts_chain_b8: LocalChatCompletion can't force a thinking budget" in found.stderr
    (path,) = tmp_path.rglob("results_*.json")
    assert "maj@8,answer" in json.loads(path.read_text())["results"]["tts_chain_maj8"]


def test_a_model_that_decodes_nothing_may() -> None:
    assert run(*COMMAND, "--model", "dummy", "--tasks", "tts_chain_short_b8").returncode == 0


@pytest.mark.parametrize(("model", "said"), [("dummy", ""), ("pruned-hf", "run the same command again to go on")])
def test_ctrl_c_in_other_models_stays_as_it_is(model: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    import lm_eval
    from lm_eval.api.registry import get_model

    monkeypatch.setattr(get_model(model), "generate_until", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        lm_eval.simple_evaluate(model=model, tasks=["tts_chain_short_b8"], limit=1)
    assert str(stopped.value) == said

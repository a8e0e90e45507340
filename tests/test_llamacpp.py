"""`--model tts-server` on llama.cpp's real server, with the weights of SmolLM2 in float32."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.smollm2 import _GGUF, SMOLLM2, gguf_folder, questions, templated
from lm_eval_ext.errors import ArgumentError
from tests.llamacpp import CONTEXT, write_float32
from tests.servers import Process, asked, llamacpp_server, outcomes

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("xllamacpp") is None, reason="xllamacpp is not installed (make test-llamacpp installs it)"
)
GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 0.0, "max_gen_toks": 200, "answer_token_budget": 12}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    folder, ours = gguf_folder(), tmp_path_factory.mktemp("gguf")
    assert folder is not None
    model = write_float32(folder / _GGUF, ours / "smollm2.gguf")
    with llamacpp_server(model, ours / "log.txt") as process:
        yield process


def client(server: Process, **arguments: Any) -> Any:
    from lm_eval_ext.harness.models.tts_server import TTSServer

    arguments = {"thinking_format": "qwen3", "journal": "off", "weights": "smollm2", **arguments}
    return TTSServer(base_url=server.url, tokenizer=str(SMOLLM2), **arguments)


@pytest.fixture(scope="module")
def model(server: Process) -> Any:
    return client(server)


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SMOLLM2)
    return [templated(tokenizer, text) for text in questions(6)]


def test_greedy_texts_are_those_of_pruned_hf(model: Any, prompts: list[str]) -> None:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    assert model.identities[0].dialect == "llama.cpp" and model.max_length == CONTEXT
    info = model.get_model_info()["engine"]
    assert info["token_exact"]
    requests = asked(prompts[:4], [16, 32, 48], **GREEDY)
    hf = PrunedHFLM(str(SMOLLM2), dtype="float32", batch_size=4, journal="off", thinking_format="qwen3")
    assert outcomes(model, requests) == outcomes(hf, requests)


def test_samples_are_independent_and_marked(model: Any, prompts: list[str]) -> None:
    assert not model.get_model_info()["engine"]["seed_reproducible"]
    requests = asked(prompts[:1], [16], repeats=4, temperature=1.0, max_gen_toks=100, answer_token_budget=8)
    assert len({text for text, *_ in outcomes(model, requests)}) == 4


def test_what_does_not_fit_the_context_is_refused_or_cut(model: Any, prompts: list[str]) -> None:
    with pytest.raises(ArgumentError, match=f"leaves no room in the model's context of {CONTEXT}"):
        outcomes(model, asked([prompts[0] + "word " * CONTEXT], [16], **GREEDY))
    long = templated(model.tokenizer, "word " * (CONTEXT - 80))
    (found,) = outcomes(model, asked([long], [-1], **{**GREEDY, "max_gen_toks": 500}))
    _, _, thinking, answer, *_ = found
    assert 0 < thinking + answer <= CONTEXT - len(model.tok_encode(long)) < 500


def test_one_at_a_time_a_seed_gives_the_same_sample_again(server: Process, model: Any, prompts: list[str]) -> None:
    single = client(server, reproducible=True)
    assert single.get_model_info()["engine"]["seed_reproducible"]
    requests = asked(prompts[:3], [8, 16], temperature=1.0, max_gen_toks=24, answer_token_budget=8)
    first = outcomes(single, requests)
    outcomes(model, asked(prompts, [16], temperature=1.0, max_gen_toks=24))  # many at once, with caches
    assert outcomes(single, requests[::-1]) == first[::-1]
    server.kill()
    server.start()
    assert outcomes(single, requests) == first

"""`--model tts-server` on real `vllm serve`, which `lm-eval-tts serve` starts; `make test-vllm` sets it up on a CPU."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

import lm_eval_ext as tts
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.recipe import format_layers
from lm_eval_ext.testbed.problems import chains
from tests.servers import Process, asked, assert_lower_bound, outcomes, vllm_server
from tests.shared import BASE_RUN
from tests.test_pruned_vllm import needs_vllm

pytestmark = needs_vllm
BUDGETS = (8, 16, 32, 64)
GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 0.0, "max_gen_toks": 200, "answer_token_budget": 12}
PROMPTS = [f"Compute from left to right, modulo 10, and put the result in \\boxed{{}}: {one['question']}"
           for one in chains(40, 1, 30)]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with vllm_server(f"pretrained={TINY_CHAIN}", tmp_path_factory.mktemp("vllm") / "log.txt") as process:
        yield process


def client(server: Process, **arguments: Any) -> Any:
    from lm_eval_ext.harness.models.tts_server import TTSServer

    return TTSServer(**{"base_url": server.url, "tokenizer": str(TINY_CHAIN), "journal": "off", **arguments})


def hf(**arguments: Any) -> Any:
    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    return PrunedHFLM(str(TINY_CHAIN), dtype="float32", batch_size=40, journal="off", **arguments)


def test_greedy_texts_are_those_of_pruned_hf(server: Process) -> None:
    model = client(server)
    found = model.get_model_info()["engine"]
    assert found["token_exact"] and found["seed_reproducible"] and found["server"].startswith("vllm ")
    requests = asked(PROMPTS, BUDGETS, **GREEDY)
    assert len(requests) == 160 and outcomes(model, requests) == outcomes(hf(), requests)


def test_a_seed_gives_the_same_sample_at_any_concurrency(server: Process) -> None:
    requests = asked(PROMPTS[::4], [16, 64], repeats=4, temperature=1.0, max_gen_toks=100, answer_token_budget=12)
    alone = outcomes(client(server, num_concurrent=1), requests)
    assert outcomes(client(server, num_concurrent=32), requests) == alone
    assert len({text for text, *_ in alone}) > 30, "the samples vary"


def test_log_likelihoods_are_those_of_pruned_hf(server: Process) -> None:
    pairs = [(prompt, answer) for prompt in PROMPTS[:10] for answer in ("7", "12 3")]
    requests = [Instance("loglikelihood", {}, pair, 0, metadata=("t", 0, 1)) for pair in pairs]
    found = client(server).loglikelihood(requests, disable_tqdm=True)
    for (one, greedy), (other, as_greedy) in zip(found, hf().loglikelihood(requests, disable_tqdm=True), strict=True):
        assert one == pytest.approx(other, abs=1e-3) and greedy == as_greedy


def test_a_server_killed_in_the_middle_is_waited_for(server: Process) -> None:
    requests = asked(PROMPTS[::2], BUDGETS[2:], repeats=2, temperature=1.0, max_gen_toks=200, answer_token_budget=12)
    right = outcomes(client(server), requests)
    model = client(server, max_retries=10, num_concurrent=4)
    log = server.log.read_text().count("POST /v1/completions")
    running = threading.Event()
    killed: list[bool] = []

    def again() -> None:
        while server.log.read_text().count("POST /v1/completions") < log + 10:
            time.sleep(0.05)
        killed.append(running.is_set())
        server.kill()
        server.start()

    restarting = threading.Thread(target=again)
    restarting.start()
    running.set()
    found = outcomes(model, requests)
    running.clear()
    restarting.join()
    assert killed == [True] and found == right


def test_dropped_layers_behind_a_server(tmp_path: Path) -> None:
    name = f"{TINY_CHAIN.name}-drop{format_layers((10, 11))}"
    with vllm_server(f"pretrained={TINY_CHAIN},drop_layers=[10,11]", tmp_path / "log.txt") as server:
        model = client(server, model=name)
        pruning = model.get_model_info()["pruning"]
        assert pruning["dropped_layers"] == [10, 11] and len(pruning["kept_layers"]) == 10
        requests = asked(PROMPTS[::2], BUDGETS, **GREEDY)
        found = outcomes(model, requests)
        assert found == outcomes(hf(drop_layers=[10, 11]), requests)
        assert sum(one == other for one, other in zip(found, outcomes(hf(), requests), strict=True)) < 40
        served = {"base_url": server.url, "tokenizer": str(TINY_CHAIN), "model": name}
        here = {"pretrained": str(TINY_CHAIN), "drop_layers": [10, 11], "dtype": "float32"}
        base = {"pretrained": str(TINY_CHAIN), "dtype": "float32"}
        assert_lower_bound(*tts.diverge(base, {"served": served, "here": here}, BASE_RUN, samples=6).candidates)

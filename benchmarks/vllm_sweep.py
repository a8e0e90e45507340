"""Five thinking budgets with our engine on vLLM against five runs of stock vLLM with its own thinking budget.

    .venv-vllm/bin/python -m benchmarks.vllm_sweep [CHECKPOINT] [--questions 16] [--budgets 32,64,128,256,512]

Same prompts, greedy, float32; end-of-text tokens are ignored, so that no trace ends early. Each contender starts its
own engine in a separate process. If start time is included, stock's is counted once for each of its runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.smollm2 import SMOLLM2, questions, templated


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--questions", type=int, default=16)
    arguments.add_argument("--budgets", default="32,64,128,256,512")
    arguments.add_argument("--answer", type=int, default=32)
    arguments.add_argument("--contender", choices=["ours", "stock"], help="run one and print its figures")
    given = arguments.parse_args()
    if given.contender:
        print(json.dumps(run(given)))
        return
    ours, stock = (_in_a_process(name) for name in ("ours", "stock"))
    runs = len(given.budgets.split(","))
    print(f"{'':28}{'ours':>10}{'stock':>10}{'ratio':>8}")
    rows = {
        "tokens decoded": ("tokens", 0),
        "seconds, start excluded": ("seconds", 0),
        "seconds, start included": ("seconds", 1),
    }
    for label, (key, start) in rows.items():
        one, other = ours[key] + start * ours["start"], stock[key] + start * runs * stock["start"]
        print(f"{label:28}{one:10.1f}{other:10.1f}{other / one:8.2f}")


def _in_a_process(contender: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.vllm_sweep", *sys.argv[1:], "--contender", contender]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return figures


def run(given: argparse.Namespace) -> dict[str, float]:
    from vllm import LLM

    options: dict[str, Any] = {"dtype": "float32", "max_model_len": 2048, "enable_prefix_caching": True}
    if given.contender == "stock":
        from vllm.config import ReasoningConfig

        options["reasoning_config"] = ReasoningConfig(reasoning_start_str="<think>", reasoning_end_str="</think>")
    begun = time.perf_counter()
    llm = LLM(given.checkpoint, **options)
    start = time.perf_counter() - begun
    tokenizer = llm.get_tokenizer()
    prompts = [tokenizer.encode(templated(tokenizer, text) + "<think>") for text in questions(given.questions)]
    budgets = [int(budget) for budget in given.budgets.split(",")]
    sweep: Callable[..., int] = ours if given.contender == "ours" else stock
    sweep(llm, tokenizer, prompts[:2], [8], 4)  # warm up
    llm.reset_prefix_cache()
    begun = time.perf_counter()
    tokens = sweep(llm, tokenizer, prompts, budgets, given.answer)
    return {"start": start, "seconds": time.perf_counter() - begun, "tokens": tokens}


def ours(llm: Any, tokenizer: Any, prompts: list[list[int]], budgets: list[int], answer: int) -> int:
    from lm_eval_ext.generation.budget_forcing import BudgetForcing, plan
    from lm_eval_ext.generation.engine import codec_of
    from lm_eval_ext.generation.engines.vllm import VLLMEngine
    from lm_eval_ext.generation.journal import JournaledEngine
    from lm_eval_ext.generation.request import Request, Sampling
    from lm_eval_ext.harness.thinking_model import Totals
    from lm_eval_ext.thinking_formats import format_named

    requests = [
        Request(tuple(prompt), sampling=Sampling(0.0), thinking_budget=budget, answer_budget=answer)
        for budget in budgets
        for prompt in prompts
    ]
    totals = Totals()
    engine = JournaledEngine(lambda: VLLMEngine(llm, tokenizer.decode), None, "", str, count=totals.count)
    codec = replace(codec_of(tokenizer, ()), eos=frozenset())
    BudgetForcing(engine, codec, format_named("plain"), 0, 2048).run(requests, plan(requests, 2048))
    return totals.thinking_tokens + totals.answer_tokens


def stock(llm: Any, tokenizer: Any, prompts: list[list[int]], budgets: list[int], answer: int) -> int:
    from vllm import SamplingParams

    tokens = 0
    for budget in budgets:
        # The end-of-thinking marker is decoded too, and adds its tokens.
        marker = len(tokenizer.encode("</think>", add_special_tokens=False))
        params = SamplingParams(
            temperature=0.0, thinking_token_budget=budget, max_tokens=budget + marker + answer, ignore_eos=True
        )
        llm.reset_prefix_cache()  # keep the runs independent
        outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False)
        tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
    return tokens


if __name__ == "__main__":
    main()

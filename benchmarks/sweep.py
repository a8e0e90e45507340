"""Five thinking budgets from one trace against five separate runs: tokens decoded, wall time, and identical texts.

    python -m benchmarks.sweep [CHECKPOINT] [--questions 16] [--budgets 32,64,128,256,512]

In float32; end-of-text tokens are ignored, so that no trace ends early. With `--temperature 1 --apart 3` the separate
runs sample in batches of 3, and must produce the same texts.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

from lm_eval_ext.generation.budget_forcing import BudgetForcing
from lm_eval_ext.generation.codec import codec_of
from lm_eval_ext.generation.engines.hf.decoding import HFEngine
from lm_eval_ext.generation.journal import JournaledEngine
from lm_eval_ext.generation.planner import plan
from lm_eval_ext.generation.request import Generation, Request, Sampling
from lm_eval_ext.harness.accounting import Totals
from lm_eval_ext.testbed.real import SMOLLM2, questions, templated
from lm_eval_ext.thinking_formats import format_named


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--questions", type=int, default=16)
    arguments.add_argument("--budgets", default="32,64,128,256,512")
    arguments.add_argument("--answer", type=int, default=32)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--apart", type=int, help="batch size of the separate runs")
    arguments.add_argument("--temperature", type=float, default=0.0)
    given = arguments.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(given.checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)
    prompts = [tuple(tokenizer.encode(templated(tokenizer, text))) for text in questions(given.questions)]
    budgets = [int(budget) for budget in given.budgets.split(",")]

    sampling = Sampling(given.temperature)

    def run(some: list[int], batch: int) -> tuple[dict[tuple[int, int], Generation], Totals]:
        requests = [
            Request(prompt, sampling=sampling, thinking_budget=budget, answer_budget=given.answer)
            for budget in some
            for prompt in prompts
        ]
        totals = Totals()
        engine = JournaledEngine(HFEngine(model, batch, tokenizer.decode), None, "", str, count=totals.count)
        codec = replace(codec_of(tokenizer, ()), eos=frozenset())
        with totals.timed():
            results = BudgetForcing(engine, codec, format_named("plain"), 0, 8192).run(requests, plan(requests, 8192))
        keys = [(budget, number) for budget in some for number in range(len(prompts))]
        return dict(zip(keys, results, strict=True)), totals

    shared, once = run(budgets, given.batch)
    separate: dict[tuple[int, int], Generation] = {}
    apart = Totals()
    for budget in budgets:
        texts, totals = run([budget], given.apart or given.batch)
        separate |= texts
        apart = added(apart, totals)
    different = [key for key in shared if shared[key] != separate[key]]
    report(once, apart)
    print(f"texts: {len(shared) - len(different)} of {len(shared)} the same, others: {different}")


def added(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: value + getattr(other, name) for name, value in vars(one).items()})


def report(once: Totals, apart: Totals) -> None:
    rows: dict[str, tuple[Any, Any]] = {
        "thinking tokens": (once.thinking_tokens, apart.thinking_tokens),
        "answer tokens": (once.answer_tokens, apart.answer_tokens),
        "seconds": (once.seconds, apart.seconds),
    }
    print(f"{'':18}{'one trace':>12}{'separate':>12}{'ratio':>8}")
    for name, (first, second) in rows.items():
        print(f"{name:18}{first:12.0f}{second:12.0f}{second / first:8.2f}")


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"total {time.perf_counter() - started:.0f} s")

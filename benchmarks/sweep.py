"""Five thinking budgets from one trace against five separate runs: tokens decoded, wall time, and identical texts.

    python -m benchmarks.sweep [CHECKPOINT] [--questions 16] [--budgets 32,64,128,256,512] [--stock]

In float32; end-of-text tokens are ignored, so that no trace ends early. With `--temperature 1 --apart 3` the separate
runs sample in batches of 3, and must produce the same texts. With `--stock`, the five separate runs are those of
lm-eval's stock `hf`, which decodes as many tokens as the budget and the answer together have; one trace saves tokens,
and should save as much of the time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

from benchmarks.smollm2 import SMOLLM2, questions, templated
from lm_eval_ext.generation.budget_forcing import BudgetForcing, plan
from lm_eval_ext.generation.engine import codec_of
from lm_eval_ext.generation.engines.hf import HFEngine
from lm_eval_ext.generation.journal import JournaledEngine
from lm_eval_ext.generation.request import Generation, Request, Sampling
from lm_eval_ext.harness.thinking_model import Totals
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
    arguments.add_argument("--stock", action="store_true", help="compare with lm-eval's stock hf")
    given = arguments.parse_args()

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(given.checkpoint, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(given.checkpoint)
    texts = [templated(tokenizer, text) for text in questions(given.questions)]
    prompts = [tuple(tokenizer.encode(text)) for text in texts]
    budgets = [int(budget) for budget in given.budgets.split(",")]

    sampling = Sampling(given.temperature)

    def run(some: list[int], batch: int) -> tuple[dict[tuple[int, int], Generation], Totals]:
        requests = [
            Request(prompt, sampling=sampling, thinking_budget=budget, answer_budget=given.answer)
            for budget in some
            for prompt in prompts
        ]
        totals = Totals()
        engine = JournaledEngine(lambda: HFEngine(model, batch, tokenizer.decode), None, "", str, count=totals.count)
        codec = replace(codec_of(tokenizer, ()), eos=frozenset())
        with totals.timed():
            results = BudgetForcing(engine, codec, format_named("plain"), 0, 8192).run(requests, plan(requests, 8192))
        keys = [(budget, number) for budget in some for number in range(len(prompts))]
        return dict(zip(keys, results, strict=True)), totals

    run([8], given.batch)  # warm up
    shared, once = run(budgets, given.batch)
    if given.stock:
        report_stock(once, stock(given, texts, budgets))
        return
    separate: dict[tuple[int, int], Generation] = {}
    apart = Totals()
    for budget in budgets:
        generations, totals = run([budget], given.apart or given.batch)
        separate |= generations
        apart = added(apart, totals)
    different = [key for key in shared if shared[key] != separate[key]]
    report(once, apart)
    print(f"texts: {len(shared) - len(different)} of {len(shared)} the same, others: {different}")


def added(one: Totals, other: Totals) -> Totals:
    return Totals(**{name: value + getattr(other, name) for name, value in vars(one).items()})


def stock(given: argparse.Namespace, texts: list[str], budgets: list[int]) -> tuple[int, float]:
    """Tokens and seconds of lm-eval's own model class, one run for each budget."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(given.checkpoint, dtype="float32", device="cpu", batch_size=given.batch)
    lm.model.generation_config.eos_token_id = None

    def run(length: int) -> None:
        options = {"do_sample": False, "temperature": 0.0, "until": [], "max_gen_toks": length}
        lm.generate_until(
            [Instance("generate_until", {}, (text, options), number) for number, text in enumerate(texts)],
            disable_tqdm=True,
        )

    run(8)  # warm up
    start = time.perf_counter()
    for budget in budgets:
        run(budget + given.answer)
    return len(texts) * sum(budget + given.answer for budget in budgets), time.perf_counter() - start


def report_stock(once: Totals, separate: tuple[int, float]) -> None:
    ours, (tokens, seconds) = once.thinking_tokens + once.answer_tokens, separate
    print(f"tokens:  {ours} of stock hf's {tokens}, ratio {ours / tokens:.3f}")
    print(f"seconds: {once.seconds:.1f} of stock hf's {seconds:.1f}, ratio {once.seconds / seconds:.3f}")


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

"""Our step loop over vLLM's engine against `LLM.generate`, for the same requests: seconds and CPU seconds.

    .venv-vllm/bin/python -m benchmarks.vllm_steps [CHECKPOINT] [--prompts 64] [--tokens 256] [--rounds 3]

Both decode the same sampled tokens, in turns. With `--seedless`, our engine runs a second time without seeds of
requests (`reproducible=False`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.smollm2 import SMOLLM2, questions
from lm_eval_ext.generation.engines.vllm import VLLMEngine, sampling_params
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seedless", action="store_true")
    given = parser.parse_args()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM

    llm = LLM(given.checkpoint, dtype="float32", max_model_len=2048, enforce_eager=True, max_num_seqs=given.prompts)
    tokenizer = llm.get_tokenizer()
    texts = questions(given.prompts)
    jobs = [
        Job(tuple(tokenizer.encode(texts[number % len(texts)])), given.tokens, Stop(), Sampling(1.0), seed=number)
        for number in range(given.prompts)
    ]

    def ours(reproducible: bool = True) -> int:
        found: list[Completion] = []

        def keep(job: Job, completion: Completion) -> list[Job]:
            found.append(completion)
            return []

        VLLMEngine(llm, tokenizer.decode, reproducible=reproducible).run(jobs, keep)
        return sum(len(one.ids) for one in found)

    def theirs() -> int:
        prompts: Any = [{"prompt_token_ids": list(job.ids)} for job in jobs]
        outputs = llm.generate(prompts, [sampling_params(job) for job in jobs], use_tqdm=False)
        return sum(len(output.outputs[0].token_ids) for output in outputs)

    contenders: dict[str, Callable[[], int]] = {"LLM.generate": theirs, "our loop": ours}
    if given.seedless:
        contenders["without seeds"] = lambda: ours(reproducible=False)
    for run in contenders.values():
        run()  # warm up
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(given.rounds):
        for name, run in contenders.items():
            start, cpu = time.perf_counter(), time.process_time()
            tokens = run()
            took, cpu = time.perf_counter() - start, time.process_time() - cpu
            seconds[name].append(took)
            print(f"round {number + 1}, {name}: {tokens} tokens, {took:.2f} s, {cpu:.2f} s of CPU", flush=True)
    for name, found in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(found, seconds["LLM.generate"], strict=True))
        print(f"{name}: median ratio of seconds to LLM.generate {ratio:.3f}")


if __name__ == "__main__":
    main()

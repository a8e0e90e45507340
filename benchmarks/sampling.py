"""Sampling's share of a decoding step with a real vocabulary: 151,936 tokens, 64 rows, float32.

    python -m benchmarks.sampling [--rows 64] [--rounds 15]

A random model of width 128 gives the time of a forward pass, as small as it gets with such a vocabulary. Its logits are
nearly flat, which is the worst case for top_p; multiplied by 40, their entropy is that of a language model.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lm_eval_ext.generation.request import Sampling
from lm_eval_ext.generation.sampling import next_tokens

VOCABULARY = 151_936
CASES = {
    "greedy": Sampling(),
    "temperature 1": Sampling(1.0),
    "temperature 1, top_p 0.95": Sampling(1.0, top_p=0.95),
    "temperature 0.6, top_p 0.95, top_k 20": Sampling(0.6, top_p=0.95, top_k=20),
    "temperature 1, min_p 0.05": Sampling(1.0, min_p=0.05),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=15)
    given = arguments.parse_args()

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4
    )
    model = LlamaForCausalLM(config).eval()
    ids = torch.randint(0, VOCABULARY, (given.rows, 1))
    with torch.inference_mode():
        forward = median(lambda _: model(ids), given.rounds)
        logits = model(ids).logits[:, -1]
        print(f"forward: {forward * 1e3:.1f} ms, {given.rows} rows, {torch.get_num_threads()} threads")
        for sharpness in (1, 40):
            scores = logits * sharpness
            entropy = -(scores.softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()
            print(f"logits of entropy {entropy:.1f} nats")
            for name, sampling in CASES.items():
                report(name, scores, sampling, forward, given.rounds)


def report(name: str, scores: torch.Tensor, sampling: Sampling, forward: float, rounds: int) -> None:
    seeds = range(len(scores))
    seconds = median(lambda at: next_tokens(scores, sampling, seeds, [at] * len(scores)), rounds)
    print(f"  {name:40} {seconds * 1e3:6.1f} ms, {seconds / (seconds + forward):4.0%} of a step")


def median(call: Callable[[int], object], rounds: int) -> float:
    seconds = []
    for number in range(rounds + 2):
        start = time.perf_counter()
        call(number)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[2:])


if __name__ == "__main__":
    main()

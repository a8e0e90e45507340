"""Speed of our engine against lm-eval's stock `hf`, with the same prompts, greedy, at the same batch size.

python -m benchmarks.decode [CHECKPOINT] [--questions 64] [--batch 16] [--tokens 768] [--rounds 1]

One round runs both on all prompts, ours first; several rounds average out the machine's noise.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks.smollm2 import SMOLLM2, questions, templated


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("checkpoint", nargs="?", default=str(SMOLLM2))
    arguments.add_argument("--questions", type=int, default=64)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--tokens", type=int, default=768)
    arguments.add_argument("--rounds", type=int, default=1)
    given = arguments.parse_args()

    from lm_eval.api.instance import Instance

    from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

    lm = PrunedHFLM(
        given.checkpoint, dtype="float32", device="cpu", batch_size=given.batch, journal="off", thinking_format="plain"
    )
    greedy = {"do_sample": False, "temperature": 0.0, "max_gen_toks": given.tokens, "until": []}
    prompts = [templated(lm.tokenizer, question) for question in questions(given.questions)]

    def timed(some: list[str], **extra: int) -> tuple[float, list[str]]:
        requests = [
            Instance("generate_until", {}, (prompt, {**greedy, **extra}), 0, metadata=("t", number, 1))
            for number, prompt in enumerate(some)
        ]
        start = time.perf_counter()
        texts = lm.generate_until(requests, disable_tqdm=True)
        return time.perf_counter() - start, texts

    for extra in ({"thinking_token_budget": -1}, {}):  # warm up
        timed(prompts[:1], **extra)
    ratios = []
    for number in range(given.rounds):
        ours, our_texts = timed(prompts, thinking_token_budget=-1)
        stock, stock_texts = timed(prompts)
        ratios.append(stock / ours)
        print(f"round {number + 1}: ours {ours:.1f} s, stock hf {stock:.1f} s, ratio {ratios[-1]:.3f}", flush=True)
    lengths = [len(lm.tok_encode(text)) for text in our_texts]
    same = sum(str(one) == other for one, other in zip(our_texts, stock_texts, strict=True))
    print(f"{len(prompts)} prompts, batch {given.batch}, {min(lengths)}-{max(lengths)} tokens, {sum(lengths)} in total")
    print(f"median ratio {statistics.median(ratios):.3f}; {same} of {len(prompts)} texts the same")
    for number, (one, other) in enumerate(zip(our_texts, stock_texts, strict=True)):
        if str(one) != other:
            at = next(
                (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
            )
            print(f"  prompt {number} differs at character {at}: {one[at : at + 30]!r} or {other[at : at + 30]!r}")


if __name__ == "__main__":
    main()

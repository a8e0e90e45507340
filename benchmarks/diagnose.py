"""Speed of `lm-eval-tts diagnose`: traces of 4,000 words a minute, on two cores.

    python -m benchmarks.diagnose [--questions 50] [--samples 8] [--words 4000]

The traces are made of sentences of made-up words, a fifth of which are repeated, and of marks of reflection.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext import api as results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--words", type=int, default=4000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        right = scores(0.5, given.questions, given.samples, 0)
        write_output(Path(folder), {"tts_math500_b4096": right}, text=trace(given.words))
        started = time.perf_counter()
        results.diagnose(folder)
        seconds = time.perf_counter() - started
    traces = given.questions * given.samples
    print(f"{traces} traces of {given.words} words in {seconds:.1f} s: {60 * traces / seconds:.0f} a minute")


def trace(words: int) -> str:
    """A trace that ends in an answer, `%s`."""
    draw = random.Random(0)
    lexicon = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(2000)]
    sentences: list[str] = []
    count = 0
    while count < words:
        again = sentences and draw.random() < 0.2
        sentence = draw.choice(sentences) if again else " ".join(draw.choices(lexicon, k=draw.randint(6, 24)))
        sentences.append(f"Wait, {sentence}" if not again and draw.random() < 0.1 else sentence)
        count += len(sentence.split())
    return ". ".join(sentences) + "</think>\\boxed{%s}"


if __name__ == "__main__":
    main()

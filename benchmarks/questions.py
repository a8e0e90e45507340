"""Real prompts where the benchmarks' datasets are at hand, original ones otherwise."""

from __future__ import annotations

import json
from typing import Any

from lm_eval_ext.testbed.problems import sums
from tests.shared import HUB

INSTRUCTION = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."


def questions(count: int) -> list[str]:
    """MATH500's first questions, or one-step word problems."""
    file = HUB / "HuggingFaceH4" / "MATH-500" / "test.jsonl"
    if file.is_file():
        lines = file.read_text("utf-8").splitlines()[:count]
        return [json.loads(line)["problem"] + INSTRUCTION for line in lines]
    return [problem["question"] + INSTRUCTION for problem in sums(count)]


def templated(tokenizer: Any, question: str) -> str:
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return text

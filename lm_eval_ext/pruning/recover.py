"""SFT recovery, the negative control of arXiv 2510.22228: a pruned model trained further, which does not bring back
its long reasoning.

The outcome of LoRA is an adapter for `pruned-hf`'s `peft=`, that of full training a checkpoint of its own; both hold a
`recovery.json` by which a run's results are marked. Needs the extra `train` (trl, peft).
"""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.calibration import calibration
from lm_eval_ext.pruning.checkpoint import find_file
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.recipe import Recipe

MARK = "recovery.json"


def recover(
    recipe: Recipe,
    folder: Path,
    *,
    data: str,
    pretrained: str | None = None,
    lora: bool = False,
    samples: int = 1000,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float = 1e-5,
    max_tokens: int = 2048,
    seed: int = 0,
) -> Path:
    """Train the pruned model of a recipe on texts, and write what comes of it to a folder.

    Args:
        recipe: the pruned model.
        folder: new or empty.
        data: texts, as `calibration` takes them.
        pretrained: a local copy of the base.
        lora: train an adapter (rank 16 on all linear maps) instead of all weights.
        samples: most texts.
        steps: optimizer steps.
        batch_size: texts in a step.
        learning_rate: AdamW's, after a warm-up falling to zero by a cosine.
        max_tokens: tokens of a text.
        seed: of the order of texts and of new weights.

    Raises:
        ArgumentError: the extra `train` is not installed, or the folder holds something.
    """
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise ArgumentError(f"recover needs the extra `train`: pip install lm-eval-tts[train] ({error})") from error
    if folder.is_dir() and any(folder.iterdir()):
        raise ArgumentError(f"{folder}: is not empty; give a new folder")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = calibration(data, samples)
    with tempfile.TemporaryDirectory() as scratch:
        pruned = export(recipe, Path(scratch) / "pruned", pretrained=pretrained)
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(pruned, dtype="auto"),
            args=SFTConfig(
                output_dir=str(Path(scratch) / "trainer"), max_steps=steps, per_device_train_batch_size=batch_size,
                learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=steps // 20, seed=seed,
                max_length=max_tokens, report_to=[], save_strategy="no", logging_steps=max(1, steps // 20), bf16=False,
            ),
            train_dataset=Dataset.from_dict({"text": list(texts.texts)}),
            processing_class=AutoTokenizer.from_pretrained(pruned),
            peft_config=_adapter(seed) if lora else None,
        )  # fmt: skip
        trainer.train()
        trainer.save_model(str(folder))
    mark: dict[str, Any] = {
        "recipe": recipe.digest, "kind": "lora" if lora else "full", "data": texts.name, "samples": len(texts.texts),
        "sha256": texts.sha256, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
        "loss": [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row],
        "versions": {name: version(name) for name in ("trl", "peft", "torch", "transformers")},
    }  # fmt: skip
    (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf-8")
    return folder


def _adapter(seed: int) -> Any:
    import torch
    from peft import LoraConfig

    torch.manual_seed(seed)
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def recovery_of(*places: Any) -> dict[str, Any] | None:
    """How the first of these checkpoints or adapters that `recover` wrote came about; None if it wrote none."""
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is not None:
            mark: dict[str, Any] = json.loads(found.read_text("utf-8"))
            return mark
    return None

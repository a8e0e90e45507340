"""SFT recovery, the negative control of arXiv 2510.22228: training a pruned model further does not restore its long
reasoning.

LoRA produces an adapter for `pruned-hf`'s `peft=`; full training produces a complete checkpoint. Both contain a
`recovery.json`, which is used to mark a run's results. Needs the extra `train` (trl, peft).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.calibration import calibration
from lm_eval_ext.pruning.checkpoint import find_file
from lm_eval_ext.pruning.export import check_new_folder, export
from lm_eval_ext.pruning.recipe import Recipe

if TYPE_CHECKING:
    from peft import LoraConfig

MARK = "recovery.json"


def recover(
    recipe: Recipe,
    folder: Path,
    *,
    data: str,
    task_prompts: Callable[[str, int], list[str]] | None = None,
    pretrained: str | None = None,
    lora: bool = False,
    samples: int = 1000,
    steps: int = 100,
    batch_size: int = 8,
    learning_rate: float | None = None,
    max_tokens: int = 2048,
    seed: int = 0,
) -> Path:
    """Train the pruned model of a recipe on texts, and write the result to a folder.

    Args:
        recipe: recipe of the pruned model.
        folder: a new or empty folder.
        data: source of the texts, as for `calibration`.
        task_prompts: returns the first prompts of a task, given its name and a number.
        pretrained: a local copy of the base model.
        lora: train an adapter (rank 16 on all linear maps) instead of all weights.
        samples: maximum number of texts.
        steps: number of optimizer steps.
        batch_size: texts per step.
        learning_rate: AdamW's rate, with warm-up and cosine decay to zero; by default 2e-4 for LoRA, 1e-5 otherwise.
        max_tokens: maximum tokens used from each text.
        seed: seed for the order of the texts and for new weights.

    Raises:
        ArgumentError: the extra `train` is not installed, or the folder is not empty.
    """
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise ArgumentError(f"recover needs the extra `train`: pip install lm-eval-tts[train] ({error})") from error
    check_new_folder(folder)
    learning_rate = learning_rate or (2e-4 if lora else 1e-5)
    import torch
    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    texts = calibration(data, samples, task_prompts)
    with tempfile.TemporaryDirectory() as scratch:
        pruned = export(recipe, Path(scratch) / "pruned", pretrained=pretrained)
        trainer = SFTTrainer(
            # In float32, because steps of this size would be rounded away in bfloat16 weights.
            AutoModelForCausalLM.from_pretrained(pruned, dtype="float32"),
            args=SFTConfig(
                output_dir=str(Path(scratch) / "trainer"), max_steps=steps, per_device_train_batch_size=batch_size,
                learning_rate=learning_rate, lr_scheduler_type="cosine", warmup_steps=steps // 20, seed=seed,
                max_length=max_tokens, report_to=[], save_strategy="no", logging_steps=max(1, steps // 20),
                bf16=torch.cuda.is_available(),
            ),
            train_dataset=Dataset.from_dict({"text": list(texts.texts)}),
            processing_class=AutoTokenizer.from_pretrained(pruned),
            peft_config=_adapter(seed) if lora else None,
        )  # fmt: skip
        trainer.train()
        if not lora:
            trainer.model.to(AutoConfig.from_pretrained(pruned).dtype)
        trainer.save_model(str(folder))
        if lora:
            _name_base(folder / "adapter_config.json", pretrained or recipe.pretrained)
    mark: dict[str, object] = {
        "recipe": recipe.digest, "kind": "lora" if lora else "full", "data": texts.name, "samples": len(texts.texts),
        "sha256": texts.sha256, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
        "loss": [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row],
        "versions": {name: version(name) for name in ("trl", "peft", "torch", "transformers")},
    }  # fmt: skip
    (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf-8")
    return folder


def _name_base(path: Path, base: str) -> None:
    """Set the adapter's base model, as the temporary folder that it was trained on no longer exists."""
    content = json.loads(path.read_text("utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _adapter(seed: int) -> LoraConfig:
    import torch
    from peft import LoraConfig

    torch.manual_seed(seed)
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def recovery_of(*places: object) -> dict[str, object] | None:
    """The training record of the first of these checkpoints or adapters that `recover` wrote; None if there is none."""
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is not None:
            mark: dict[str, object] = json.loads(found.read_text("utf-8"))
            return mark
    return None

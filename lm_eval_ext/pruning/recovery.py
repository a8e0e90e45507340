"""SFT recovery, the negative control of arXiv 2510.22228: a pruned model trained further, which does not bring back
its long reasoning.

The outcome of LoRA is an adapter for `pruned-hf`'s `peft=`, that of full training a checkpoint of its own; both hold a
`recovery.json` by which a run's results are marked. Needs the extra `train` (trl, peft).
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
    """Train the pruned model of a recipe on texts, and write what comes of it to a folder.

    Args:
        recipe: the pruned model.
        folder: new or empty.
        data: texts, as `calibration` takes them.
        task_prompts: gives the prompts of a task by its name.
        pretrained: a local copy of the base.
        lora: train an adapter (rank 16 on all linear maps) instead of all weights.
        samples: most texts.
        steps: optimizer steps.
        batch_size: texts in a step.
        learning_rate: AdamW's, after a warm-up falling to zero by a cosine; by default 2e-4 for an adapter, 1e-5 else.
        max_tokens: tokens of a text.
        seed: of the order of texts and of new weights.

    Raises:
        ArgumentError: the extra `train` is not installed, or the folder holds something.
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
            # In float32: steps of this size are lost in bfloat16 weights.
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
            _name_base(folder / "adapter_config.json", pretrained or recipe.base)
    mark: dict[str, object] = {
        "recipe": recipe.digest, "kind": "lora" if lora else "full", "data": texts.name, "samples": len(texts.texts),
        "sha256": texts.sha256, "steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed,
        "loss": [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row],
        "versions": {name: version(name) for name in ("trl", "peft", "torch", "transformers")},
    }  # fmt: skip
    (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf-8")
    return folder


def _name_base(path: Path, base: str) -> None:
    """The adapter was trained on a folder that is gone."""
    content = json.loads(path.read_text("utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _adapter(seed: int) -> LoraConfig:
    import torch
    from peft import LoraConfig

    torch.manual_seed(seed)
    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")


def recovery_of(*places: object) -> dict[str, object] | None:
    """How the first of these checkpoints or adapters that `recover` wrote came about; None if it wrote none."""
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is not None:
            mark: dict[str, object] = json.loads(found.read_text("utf-8"))
            return mark
    return None

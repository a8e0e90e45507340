"""SFT recovery, the negative control of arXiv 2510.22228: training a pruned model further does not restore its long
reasoning.

LoRA produces an adapter for `pruned-hf`'s `peft=`; full training produces a complete checkpoint. Both contain a
`recovery.json`, which is used to mark a run's results. Needs the extra `train` (peft, accelerate). An interrupted
training goes on from its last checkpoint, in the folder's `training`.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.pruning.calibration import Calibration, calibration, token_rows
from lm_eval_ext.pruning.checkpoint import find_file, read_config
from lm_eval_ext.pruning.exchange import TokenRow
from lm_eval_ext.pruning.export import check_new_folder, export
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.training import Training, estimated
from lm_eval_ext.pruning.training_progress import progress

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, Trainer, TrainingArguments

logger = logging.getLogger("lm_eval.tts")

MARK = "recovery.json"
_UNFINISHED = "training"  # folder of checkpoints, while training is not finished
_SETTINGS = "settings.json"
_IGNORED = -100  # label of a token that doesn't count


class _Example(NamedTuple):
    """Ids and labels of a text; only what a model would write counts."""

    ids: list[int]
    labels: list[int]

    @classmethod
    def of(cls, row: TokenRow) -> _Example:
        return cls(row.ids, [_IGNORED] * row.start + row.ids[row.start :])


def recover(
    recipe: Recipe, folder: Path, settings: Training, *, pretrained: str | None = None, save_steps: int = 100
) -> Path:
    """Train the pruned model of a recipe on texts, and write the result to a folder.

    Args:
        recipe: recipe of the pruned model.
        folder: a new or empty folder, or that of an interrupted training with the same settings.
        settings: how to train.
        pretrained: a local copy of the base model.
        save_steps: number of steps between two checkpoints.

    Raises:
        ArgumentError: the extra `train` is not installed, the folder is not empty, the model is quantized, or the
            training does not fit into memory.
    """
    _check_installed()
    unfinished = folder / _UNFINISHED
    texts = calibration(settings.data, settings.samples)
    _check_folder(folder, _identity(recipe, settings, texts))
    with tempfile.TemporaryDirectory() as scratch:
        pruned = export(recipe, Path(scratch) / "pruned", pretrained=pretrained)
        rows = _rows(pruned, texts, settings)
        _check_memory(pruned, settings, max(len(row.ids) for row in rows))
        _begin(unfinished, _identity(recipe, settings, texts))
        trainer = _trainer(pruned, rows, settings, unfinished, save_steps)
        trainer.train(resume_from_checkpoint=_last_checkpoint(unfinished))
        _save(trainer, pruned, folder, settings, pretrained or recipe.pretrained)
    mark = _mark(recipe, settings, texts, trainer)
    (folder / MARK).write_text(json.dumps(mark, indent=1) + "\n", "utf-8")
    shutil.rmtree(unfinished)
    return folder


def _check_installed() -> None:
    try:
        import accelerate  # noqa: F401  # used by transformers' trainer
        import peft  # noqa: F401
    except ImportError as error:
        raise ArgumentError(f"recover needs the extra `train`: pip install lm-eval-tts[train] ({error})") from error


def _identity(recipe: Recipe, settings: Training, texts: Calibration) -> dict[str, object]:
    """What must be the same for a training to go on."""
    return {"recipe": recipe.digest, "sha256": texts.sha256, **settings.model_dump(mode="json")}


def _check_folder(folder: Path, identity: dict[str, object]) -> None:
    path = folder / _UNFINISHED / _SETTINGS
    if not path.is_file():
        check_new_folder(folder)
        return
    there = json.loads(path.read_text("utf-8"))
    other = next((name for name in identity if there.get(name) != identity[name]), None)
    if other is not None:
        raise ArgumentError(
            f"{folder}: holds an unfinished training with {other}={there.get(other)}, not {identity[other]}; give the "
            "same settings to go on, or another folder"
        )


def _begin(unfinished: Path, identity: dict[str, object]) -> None:
    unfinished.mkdir(parents=True, exist_ok=True)
    (unfinished / _SETTINGS).write_text(json.dumps(identity, indent=1) + "\n", "utf-8")


def _rows(pruned: Path, texts: Calibration, settings: Training) -> list[TokenRow]:
    from transformers import AutoTokenizer

    rows = token_rows(texts.texts, AutoTokenizer.from_pretrained(pruned), settings.max_tokens)
    counted = [row for row in rows if len(row.ids) > row.start]
    if not counted:
        raise ArgumentError(f"max_tokens={settings.max_tokens}: no reply begins before; give more than its prompt has")
    return counted


def _computes_in_bfloat16(settings: Training) -> bool:
    import torch

    return settings.precision == "bfloat16" or (settings.precision is None and torch.cuda.is_available())


def _check_memory(pruned: Path, settings: Training, tokens: int) -> None:
    config = read_config(str(pruned), "main", False)
    if quantization_of(config) is not None:
        raise ArgumentError("recover: the model is quantized, and packed weights can't be trained; give its base")
    width = 2 if _computes_in_bfloat16(settings) else 4
    needed = estimated(settings, config, tokens, width, _frozen_dtype(config.dtype).itemsize)
    logger.info("training takes about %s of memory, for texts of up to %d tokens", needed, tokens)
    needed.check(_free_bytes())


def _frozen_dtype(saved: torch.dtype | None) -> torch.dtype:
    """Of weights that an adapter is trained for: as they were saved."""
    import torch

    return saved or torch.float32


def _free_bytes() -> int:
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _trainer(pruned: Path, rows: Sequence[TokenRow], settings: Training, unfinished: Path, save_steps: int) -> Trainer:
    from transformers import PrinterCallback, Trainer

    examples = [_Example.of(row) for row in rows]
    made: Trainer = Trainer(
        model=_model(pruned, settings),
        args=_arguments(settings, settings.total_steps(len(rows)), unfinished, save_steps),
        train_dataset=[{"input_ids": one.ids, "labels": one.labels} for one in examples],
        data_collator=_padded,
        callbacks=[progress(logger)],
    )
    made.remove_callback(PrinterCallback)
    return made


def _model(pruned: Path, settings: Training) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM

    # All weights in float32 if they are trained, because steps of this size would be rounded away in bfloat16.
    dtype = _frozen_dtype(read_config(str(pruned), "main", False).dtype) if settings.lora else torch.float32
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(pruned, dtype=dtype)
    if model.supports_gradient_checkpointing:
        # Before transformers 5.24 by another name.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if settings.lora:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(settings.seed)
        adapter = LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        return get_peft_model(model, adapter)
    return model


def _arguments(settings: Training, steps: int, unfinished: Path, save_steps: int) -> TrainingArguments:
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(unfinished),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=steps,
        learning_rate=settings.rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        bf16=_computes_in_bfloat16(settings),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_steps=save_steps,
        save_total_limit=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )


def _padded(examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """A batch of shape (texts, longest), padded on the right."""
    import torch

    width = max(len(one["input_ids"]) for one in examples)

    def filled(name: str, value: int) -> torch.Tensor:
        return torch.tensor([one[name] + [value] * (width - len(one[name])) for one in examples])

    lengths = torch.tensor([len(one["input_ids"]) for one in examples])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {"input_ids": filled("input_ids", 0), "attention_mask": mask, "labels": filled("labels", _IGNORED)}


def _last_checkpoint(unfinished: Path) -> str | None:
    from transformers.trainer_utils import get_last_checkpoint

    found: str | None = get_last_checkpoint(str(unfinished))
    if found:
        logger.info("training goes on from %s", found)
    return found


def _save(trainer: Trainer, pruned: Path, folder: Path, settings: Training, base: str) -> None:
    from transformers import AutoTokenizer

    if not settings.lora:
        trainer.model.to(_frozen_dtype(read_config(str(pruned), "main", False).dtype))
    trainer.save_model(str(folder))
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle with paths of this machine
    if settings.lora:
        _name_base(folder / "adapter_config.json", base)
        return
    AutoTokenizer.from_pretrained(pruned).save_pretrained(folder)


def _name_base(path: Path, base: str) -> None:
    """Set the adapter's base model, as the temporary folder that it was trained on no longer exists."""
    content = json.loads(path.read_text("utf-8")) | {"base_model_name_or_path": base}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _mark(recipe: Recipe, settings: Training, texts: Calibration, trainer: Trainer) -> dict[str, object]:
    losses = [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row]
    return {
        "recipe": recipe.digest, "kind": "lora" if settings.lora else "full", **settings.model_dump(mode="json"),
        "data": texts.name, "samples": len(texts.texts), "sha256": texts.sha256, "steps": trainer.state.global_step,
        "learning_rate": settings.rate, "loss": losses[:: max(1, len(losses) // 20)],
        "versions": {name: version(name) for name in ("peft", "torch", "transformers")},
    }  # fmt: skip


def recovery_of(*places: object) -> dict[str, object] | None:
    """The training record of the first of these checkpoints or adapters that `recover` wrote; None if there is none."""
    for place in places:
        found = find_file(place, MARK, {}) if isinstance(place, str) and place else None
        if found is not None:
            mark: dict[str, object] = json.loads(found.read_text("utf-8"))
            return mark
    return None

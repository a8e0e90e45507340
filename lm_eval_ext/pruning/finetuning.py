"""The training loop of `recover`: transformers' Trainer on texts of which only a model's own words count."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval_ext.pruning.architecture import auto_class
from lm_eval_ext.pruning.blocks import Blocks
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.exchange import TokenRow
from lm_eval_ext.pruning.training import Training

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments


logger = logging.getLogger("lm_eval.tts")

_IGNORED = -100  # label of a token that doesn't count


class _Example(NamedTuple):
    """Ids and labels of a text; only what a model would write counts."""

    ids: list[int]
    labels: list[int]

    @classmethod
    def of(cls, row: TokenRow) -> _Example:
        return cls(row.ids, [_IGNORED] * row.start + row.ids[row.start :])


def trainer_of(
    pruned: Path, rows: Sequence[TokenRow], settings: Training, unfinished: Path, save_steps: int, left_out: Blocks
) -> Trainer:
    """A trainer for the model in a folder.

    Args:
        pruned: folder of the model.
        rows: the texts.
        settings: how to train; their precision is given.
        unfinished: folder for checkpoints.
        save_steps: number of steps between two of them.
        left_out: blocks that are not trained.
    """
    from transformers import PrinterCallback, Trainer

    examples = [_Example.of(row) for row in rows]
    made: Trainer = Trainer(
        model=_model(pruned, settings, left_out),
        args=_arguments(settings, settings.total_steps(len(rows)), unfinished, save_steps),
        train_dataset=[{"input_ids": one.ids, "labels": one.labels} for one in examples],
        data_collator=_padded,
        callbacks=[progress(logger)],
    )
    made.remove_callback(PrinterCallback)
    return made


def _model(pruned: Path, settings: Training, left_out: Blocks) -> PreTrainedModel:
    import torch

    # All weights in float32 if they are trained, because steps of this size would be rounded away in bfloat16.
    config = read_config(str(pruned), "main", False)
    dtype = frozen_dtype(config.dtype, settings) if settings.lora else torch.float32
    model: PreTrainedModel = auto_class(config).from_pretrained(pruned, dtype=dtype)
    for name, parameter in model.named_parameters():
        if left_out.hold(name):
            parameter.requires_grad_(False)
    if model.supports_gradient_checkpointing:
        # Before transformers 5.24 by another name.
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    if settings.lora:
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(settings.seed)
        adapter = LoraConfig(
            r=settings.rank, lora_alpha=settings.alpha, target_modules="all-linear", task_type="CAUSAL_LM",
            exclude_modules=[name for name, _ in model.named_modules() if left_out.hold(f"{name}.weight")] or None,
        )  # fmt: skip
        return get_peft_model(model, adapter)
    return model


def _arguments(settings: Training, steps: int, unfinished: Path, save_steps: int) -> TrainingArguments:
    import torch
    from transformers import TrainingArguments

    made = TrainingArguments(
        output_dir=str(unfinished),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.accumulation,
        max_steps=steps,
        learning_rate=settings.rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        seed=settings.seed,
        bf16=settings.precision == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        save_steps=save_steps,
        save_total_limit=1,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    assert made.device is not None  # counts the GPUs; with several, transformers would multiply the batch by them
    made._n_gpu = 1
    return made


def _padded(examples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """A batch of shape (texts, longest), padded on the right."""
    import torch

    width = max(len(one["input_ids"]) for one in examples)

    def filled(name: str, value: int) -> torch.Tensor:
        return torch.tensor([one[name] + [value] * (width - len(one[name])) for one in examples])

    lengths = torch.tensor([len(one["input_ids"]) for one in examples])
    mask = (torch.arange(width) < lengths[:, None]).long()
    return {"input_ids": filled("input_ids", 0), "attention_mask": mask, "labels": filled("labels", _IGNORED)}


def last_checkpoint(unfinished: Path) -> str | None:
    """The last checkpoint that was saved to its end; those that a kill left half-saved are deleted."""
    found = sorted(unfinished.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for path in [one for one in found if not _is_whole(one)]:
        shutil.rmtree(path)
        found.remove(path)
    if not found:
        return None
    logger.info("training goes on from %s", found[-1])
    return str(found[-1])


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))  # what transformers saves last
    except (OSError, ValueError):
        return False
    return True


def frozen_dtype(saved: torch.dtype | None, settings: Training) -> torch.dtype:
    """Of weights that an adapter is trained for: as they were saved, unless float32 was asked for."""
    import torch

    return torch.float32 if settings.precision == "float32" else saved or torch.float32


_LINES = 50  # in a training, at least a few seconds apart
_SECONDS = 5.0


def progress(logger: logging.Logger) -> TrainerCallback:
    """A callback of transformers' trainer that logs steps, loss, speed, and the time that is left."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # transformers' type is unknown here
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = self.logged = time.monotonic()
            self.first = state.global_step

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            now, last = time.monotonic(), state.global_step == state.max_steps
            due = last or (state.global_step % max(1, state.max_steps // _LINES) == 0 and now - self.logged > _SECONDS)
            if due and logs and "loss" in logs:
                self.logged = now
                each = (now - self.began) / max(1, state.global_step - self.first)
                left = each * (state.max_steps - state.global_step)
                logger.info(
                    "step %d of %d, loss %.3f, %.2f s a step, %s left",
                    state.global_step, state.max_steps, logs["loss"], each, _clock(left),
                )  # fmt: skip

    return Progress()


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds.

    >>> _clock(3725)
    '1:02:05'
    """
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"

"""The training loop of `recover`: transformers' Trainer on texts of which only a model's own words count."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError

from lm_eval_ext.declared import Declared
from lm_eval_ext.errors import ArgumentError, first_fault
from lm_eval_ext.pruning.architecture import auto_class
from lm_eval_ext.pruning.blocks import Blocks
from lm_eval_ext.pruning.calibration import TokenRow, reply_batches
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.wording import scaled

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, Trainer, TrainerCallback


logger = logging.getLogger("lm_eval.tts")

_IGNORED = -100  # label of a token that doesn't count


def trainer_of(
    pruned: Path, rows: Sequence[TokenRow], settings: Training, accumulation: int, unfinished: Path, save_steps: int,
    left_out: Blocks,
) -> Trainer:  # fmt: skip
    """A trainer for the model in a folder.

    Args:
        pruned: folder of the model.
        rows: the texts.
        settings: how to train; their precision is given.
        accumulation: how many micro-batches of a process make a step.
        unfinished: folder for checkpoints.
        save_steps: number of steps between two of them.
        left_out: blocks that are not trained.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    steps = settings.total_steps(len(rows))
    arguments = TrainingArguments(
        output_dir=str(unfinished),
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=accumulation,
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
    assert (
        arguments.device is not None
    )  # counts the GPUs; in one process, transformers would multiply the batch by them
    arguments._n_gpu = 1
    made: Trainer = Trainer(
        model=_model(pruned, settings, left_out), args=arguments, train_dataset=list(rows), data_collator=_batch,
        callbacks=[progress(logger)],
    )  # fmt: skip
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


def _batch(rows: Sequence[TokenRow]) -> dict[str, torch.Tensor]:
    """A batch of shape (texts, longest), padded on the right; only what a model would write counts."""
    ((ids, mask, counted),) = reply_batches(rows, len(rows))
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(counted == 0, _IGNORED)}


def last_checkpoint(unfinished: Path) -> str | None:
    """The last checkpoint that was saved to its end; those that a kill left half-saved are deleted."""
    numbered = [path for path in unfinished.glob("checkpoint-*") if path.name.partition("-")[2].isdecimal()]
    found = sorted(numbered, key=lambda path: int(path.name.partition("-")[2]))
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
            if due and state.is_world_process_zero and logs and "loss" in logs:
                self.logged = now
                each = (now - self.began) / max(1, state.global_step - self.first)
                left = each * (state.max_steps - state.global_step)
                logger.info(
                    "step %d of %d, loss %.3f, %.2f s a step, %s left",
                    state.global_step, state.max_steps, logs["loss"], each, timedelta(seconds=round(left)),
                )  # fmt: skip

    return Progress()


_OPTIMIZER_BYTES = (
    16  # of a trained number: weight, gradient and AdamW's two moments, in float32; besides a copy of the
)
# weight in the computation's precision, if that is another
_KEPT = 2  # of a layer's inputs, for each token: its own and a copy in the computation's precision
_RECOMPUTED = 8  # of the largest width, for each token: what one layer's backward pass holds
_OF_LOGITS = 3  # for each token: logits, their float32 copy, and their gradient

Precision = Literal["float32", "bfloat16"]


class Training(Declared):
    """How a pruned model is trained further.

    Either `steps` or `epochs` says how long. A step uses `batch_size` texts, `micro_batch_size` of them at a time.
    """

    data: Annotated[str, Field(description="source of the texts, as for `prune --calibration`")]
    lora: Annotated[bool, Field(description="train an adapter instead of all weights")] = False
    rank: Annotated[int, Field(gt=0, description="of the adapter")] = 16
    alpha: Annotated[int, Field(gt=0, description="of the adapter")] = 32
    samples: Annotated[int, Field(gt=0, description="most texts")] = 1000
    steps: Annotated[int | None, Field(gt=0, description="optimizer steps")] = None
    epochs: Annotated[float | None, Field(gt=0, description="passes over the texts")] = None
    batch_size: Annotated[int, Field(gt=0, description="texts of a step")] = 8
    micro_batch_size: Annotated[int, Field(gt=0, description="texts in memory at once")] = 1
    learning_rate: Annotated[float | None, Field(gt=0, description="AdamW's, decaying by a cosine")] = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    warmup: Annotated[float, Field(ge=0, lt=1, description="share of the steps with a growing rate")] = 0.05
    max_tokens: Annotated[int, Field(gt=1, description="most tokens of a text")] = 2048
    precision: Annotated[Precision | None, Field(description="of the computation; the trained weights are float32")] = (
        None
    )
    seed: int = 0

    @property
    def rate(self) -> float:
        """The learning rate: ten times as high for an adapter, unless it was given."""
        return self.learning_rate or (2e-4 if self.lora else 1e-5)

    def accumulation(self, processes: int) -> int:
        """How many micro-batches of a process make a step.

        Raises:
            ArgumentError: the processes cannot share a step's texts evenly.
        """
        if self.batch_size % (self.micro_batch_size * processes):
            raise ArgumentError(
                f"batch_size={self.batch_size}: is not a multiple of micro_batch_size={self.micro_batch_size} times "
                f"{processes} processes"
            )
        return self.batch_size // (self.micro_batch_size * processes)

    def total_steps(self, texts: int) -> int:
        """Number of optimizer steps on so many texts."""
        return self.steps or math.ceil((self.epochs or 1.0) * math.ceil(texts / self.batch_size))


# By name, as papers have them. s1: simplescaling's recipe as arXiv 2510.22228 uses it on pruned models.
LIKE: dict[str, dict[str, object]] = {
    "s1": {
        "data": "s1k-chat", "samples": 1000, "rank": 16, "alpha": 32, "epochs": 5.0, "learning_rate": 1e-5,
        "weight_decay": 1e-4, "batch_size": 16, "max_tokens": 32_768,
    },
}  # fmt: skip
_LENGTH = 100  # steps, unless steps or epochs are given


def training(like: str | None = None, **given: object) -> Training:
    """The settings of a paper, or ours, with those that are given in their place.

    Args:
        like: name of a paper's settings, one of `LIKE`.
        given: settings; None leaves one as it is.

    Raises:
        ArgumentError: a setting is missing, unknown or invalid.

    >>> training("s1", lora=True, epochs=1).rate
    1e-05
    """
    if like is not None and like not in LIKE:
        raise ArgumentError(f"like={like}: expected one of: {', '.join(LIKE)}")
    known = {**(LIKE[like] if like else {}), **{name: value for name, value in given.items() if value is not None}}
    if given.get("steps") is not None:
        if given.get("epochs") is not None:
            raise ArgumentError("steps and epochs contradict each other; give one of them")
        known.pop("epochs", None)
    if known.get("steps") is None and known.get("epochs") is None:
        known["steps"] = _LENGTH
    if "data" not in known:
        raise ArgumentError("data is missing; give the training texts, such as s1k or run:FOLDER, or like=s1")
    try:
        found = Training.model_validate(known)
    except ValidationError as error:
        raise ArgumentError(first_fault(error, known=Training.model_fields)) from error
    if found.batch_size % found.micro_batch_size:
        raise ArgumentError(
            f"batch_size={found.batch_size}: is not a multiple of micro_batch_size={found.micro_batch_size}"
        )
    return found


@dataclass(frozen=True)
class Memory:
    """An estimate of the memory that training takes, in bytes.

    Attributes:
        weights: of frozen weights.
        trained: of trained weights, with gradients and optimizer.
        activations: of one micro-batch of the longest texts, where each layer's are computed again.
    """

    weights: int
    trained: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.trained + self.activations

    def __str__(self) -> str:
        parts = {"frozen weights": self.weights, "trained weights": self.trained, "activations": self.activations}
        said = ", ".join(f"{name} {scaled(size, 'B')}" for name, size in parts.items() if size)
        return f"{scaled(self.total, 'B')} ({said})"

    def check(self, available: int) -> None:
        """Refuse training that does not fit; raises ArgumentError."""
        if self.total > available:
            raise ArgumentError(
                f"training takes about {self}, but {scaled(available, 'B')} are free; use a smaller max_tokens or "
                "micro_batch_size, lora, or more memory"
            )


def estimated(settings: Training, config: PreTrainedConfig, tokens: int, width: int, frozen_width: int) -> Memory:
    """Estimate the memory for a model.

    Args:
        settings: of the training.
        config: of the pruned model.
        tokens: of the longest text.
        width: bytes of a number in the computation.
        frozen_width: bytes of a number of the frozen weights.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.device("meta"):
        model = auto_class(config).from_config(config)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)  # GPT-2's maps are of the second kind
    maps = [one.weight.shape for one in model.modules() if isinstance(one, kinds) and one is not head]
    adapter = settings.rank * sum(sum(shape) for shape in maps)
    widest = max(max(shape) for shape in maps)
    vocabulary = head.weight.shape[0]
    text = config.get_text_config()
    kept = _KEPT * text.hidden_size * text.num_hidden_layers * width
    each = kept + _RECOMPUTED * widest * width + _OF_LOGITS * vocabulary * 4
    copied = width if width < 4 else 0  # of a trained weight, in the computation's precision
    return Memory(
        weights=numbers * frozen_width if settings.lora else 0,
        trained=(_OPTIMIZER_BYTES + copied) * (adapter if settings.lora else numbers),
        activations=settings.micro_batch_size * tokens * each,
    )

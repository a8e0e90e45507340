"""SFT recovery, the negative control of arXiv 2510.22228: training a pruned model further does not restore its long
reasoning.

Started by `torchrun` or `accelerate launch`, several processes share each step's texts; each holds all weights.
LoRA produces an adapter for `pruned-hf`'s `peft=`; full training produces a complete checkpoint. Both contain a
`recovery.json`, which is used to mark a run's results. Needs the extra `train` (peft, accelerate). An interrupted
training goes on from its last checkpoint, in the folder's `training`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError, TTSError
from lm_eval_ext.paths import json_object, write_json
from lm_eval_ext.pruning.adapters import MARK, layers_left_out
from lm_eval_ext.pruning.architecture import depth
from lm_eval_ext.pruning.calibration import Calibration, TokenRow, calibration, token_rows, with_replies
from lm_eval_ext.pruning.checkpoint import read_config
from lm_eval_ext.pruning.export import check_new_folder, export
from lm_eval_ext.pruning.finetuning import Precision, Training, estimated, frozen_dtype, last_checkpoint, trainer_of
from lm_eval_ext.pruning.loading import checkpoint_fingerprint
from lm_eval_ext.pruning.quantization import quantization_of
from lm_eval_ext.pruning.recipe import Recipe, kept_layers

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import PreTrainedConfig, Trainer

logger = logging.getLogger("lm_eval.tts")

_UNFINISHED = "training"  # folder of checkpoints, while training is not finished
_FINISHED = ".training-finished"  # the same while it is deleted, when nobody may take its rest for a training
_SETTINGS = "settings.json"
_PRUNED = "pruned"  # folder of the model that is trained


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
    check_installed()
    if recipe.sparsity and not settings.lora:
        raise ArgumentError("recover: training all weights would fill the zeros again; train an adapter with --lora")
    processes = _processes()
    settings = settings.model_copy(update={"precision": settings.precision or _usual_precision()})
    unfinished = folder / _UNFINISHED
    texts = calibration(settings.data, settings.samples)
    accumulation = settings.accumulation(processes.num_processes)
    pruned = unfinished / _PRUNED
    with processes.main_process_first():  # the others find what it has exported
        there = _read_settings(folder)
        try:
            if processes.is_main_process:
                shutil.rmtree(pruned, ignore_errors=True)
                export(recipe, pruned, pretrained=pretrained)
            config = read_config(str(pruned), "main", False)
            identity = _identity(recipe, settings, texts, pruned, config)
            _check_same(folder, there, identity)
            rows = _rows(pruned, texts, settings)
            _check_memory(config, settings, max(len(row.ids) for row in rows), processes)
        except TTSError:
            if there is None:
                shutil.rmtree(folder, ignore_errors=True)  # which was new, or empty
            raise
        write_json(unfinished / _SETTINGS, identity)
        checkpoint = last_checkpoint(unfinished)
    kept = kept_layers(recipe.drop, len(recipe.drop) + depth(config))
    left_out = recipe.blocks.within(kept)  # these add zeros in the exported model, and must not learn to add anything
    trainer = trainer_of(pruned, rows, settings, accumulation, unfinished, save_steps, left_out)
    trainer.train(resume_from_checkpoint=checkpoint)
    _save(trainer, pruned, folder, settings, pretrained or recipe.pretrained, config)
    processes.wait_for_everyone()  # the others still read the pruned model, and write the states of their generators
    if processes.is_main_process:
        write_json(folder / MARK, _mark(recipe, settings, texts, trainer, len(rows)))
        shutil.rmtree(unfinished.rename(folder / _FINISHED))
    processes.wait_for_everyone()
    return folder


def check_installed() -> None:
    """Refuse to train without the libraries that it needs.

    Raises:
        ArgumentError: the extra `train` isn't installed.
    """
    try:
        import accelerate  # noqa: F401  # used by transformers' trainer
        import peft  # noqa: F401
    except ImportError as error:
        raise ArgumentError(f"recover needs the extra `train`: pip install 'lm-eval-tts[train]' ({error})") from error


def _processes() -> PartialState:
    """All processes of this training, as `torchrun` or `accelerate launch` started them."""
    import torch
    from accelerate import PartialState

    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true"):
        raise ArgumentError("recover: FSDP is not supported; each process holds all weights, so train --lora, or fewer")
    return PartialState(cpu=not torch.cuda.is_available())


def _usual_precision() -> Precision:
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def _identity(
    recipe: Recipe, settings: Training, texts: Calibration, pruned: Path, config: PreTrainedConfig
) -> dict[str, object]:
    """What must be the same for a training to go on."""
    weights = checkpoint_fingerprint(str(pruned), config, range(depth(config)), "main")
    return {"recipe": recipe.digest, "weights": weights, "sha256": texts.sha256, **settings.model_dump(mode="json")}


def _read_settings(folder: Path) -> dict[str, object] | None:
    """The settings of an unfinished training; None if the folder is new.

    Raises:
        ArgumentError: the folder holds something else.
    """
    shutil.rmtree(folder / _FINISHED, ignore_errors=True)  # of a training that was killed at its very end
    path = folder / _UNFINISHED / _SETTINGS
    if not path.is_file():
        if not _is_barely_begun(folder):
            check_new_folder(folder)
        return None
    return json_object(path, ArgumentError, "give a new folder")


def _is_barely_begun(folder: Path) -> bool:
    """Whether it holds a training that was stopped before its settings were written, and nothing of anybody else's."""
    unfinished = folder / _UNFINISHED
    if not unfinished.is_dir() or any(one.name != _UNFINISHED for one in folder.iterdir()):
        return False
    ours = re.compile(rf"{_PRUNED}|\.{_PRUNED}-.+|{re.escape(_SETTINGS)}\..+\.part")
    return all(ours.fullmatch(one.name) for one in unfinished.iterdir())


def _check_same(folder: Path, there: dict[str, object] | None, identity: dict[str, object]) -> None:
    if there is None:
        return
    other = next((name for name in identity if there.get(name) != identity[name]), None)
    if other is not None:
        raise ArgumentError(
            f"{folder}: holds an unfinished training with {other}={there.get(other)}, not {identity[other]}; give the "
            "same settings to go on, or another folder"
        )


def _rows(pruned: Path, texts: Calibration, settings: Training) -> list[TokenRow]:
    from transformers import AutoTokenizer

    rows = token_rows(texts.texts, AutoTokenizer.from_pretrained(pruned), settings.max_tokens)
    counted = with_replies(rows, settings.max_tokens)
    logger.info(
        "%d texts: %d are cut at max_tokens=%d, and %d are left out because their replies begin after it",
        len(rows), sum(len(row.ids) == settings.max_tokens for row in counted), settings.max_tokens,
        len(rows) - len(counted),
    )  # fmt: skip
    return counted


def _check_memory(config: PreTrainedConfig, settings: Training, tokens: int, processes: PartialState) -> None:
    if quantization_of(config) is not None:
        raise ArgumentError("recover: the model is quantized, and packed weights can't be trained; give its base")
    width = 2 if settings.precision == "bfloat16" else 4
    needed = estimated(settings, config, tokens, width, frozen_dtype(config.dtype, settings).itemsize)
    each = " in each process" if processes.num_processes > 1 else ""
    logger.info("training takes about %s of memory%s, for texts of up to %d tokens", needed, each, tokens)
    needed.check(_free_bytes(processes))


def _free_bytes(processes: PartialState) -> int:
    """Memory for this process."""
    import psutil
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info(processes.device)[0])
    return int(psutil.virtual_memory().available) // int(processes.num_processes)


def _save(
    trainer: Trainer, pruned: Path, folder: Path, settings: Training, base: str, config: PreTrainedConfig
) -> None:
    from transformers import AutoTokenizer

    if not settings.lora:
        trainer.model.to(config.dtype or trainer.model.dtype)
    trainer.save_model(str(folder))
    if not trainer.args.should_save:
        return
    (folder / "training_args.bin").unlink(missing_ok=True)  # a pickle with paths of this machine
    if settings.lora:
        path = folder / "adapter_config.json"  # names a temporary folder as the base
        content = json_object(path, ArgumentError) | {"base_model_name_or_path": base}
        path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        return
    AutoTokenizer.from_pretrained(pruned).save_pretrained(folder)


def _mark(recipe: Recipe, settings: Training, texts: Calibration, trainer: Trainer, used: int) -> dict[str, object]:
    losses = [round(row["loss"], 4) for row in trainer.state.log_history if "loss" in row]
    return {
        "recipe": recipe.digest, "left_out": layers_left_out(recipe), "kind": "lora" if settings.lora else "full",
        **settings.model_dump(mode="json"),
        "data": texts.name, "samples": used, "sha256": texts.sha256, "steps": trainer.state.global_step,
        "learning_rate": settings.rate, "loss": losses[:: max(1, len(losses) // 20)],
        "versions": {name: version(name) for name in ("peft", "torch", "transformers")},
    }  # fmt: skip

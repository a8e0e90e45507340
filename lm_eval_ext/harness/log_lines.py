"""Lines of the log that are ours to add, and those of lm-eval that say nothing of our tasks."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lm_eval_ext.paths import TINY_CHAIN

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger("lm_eval.tts")
_TINY_CHAIN_CAN = ("tts_chain",)  # beginnings of the names of its tasks
_SHOWN = 3


def leave_out_hints_for_other_tasks() -> None:
    """Leave out lm-eval's hint at `--metadata` for tasks with generated datasets, which ours don't read."""
    logging.getLogger("lm_eval.api.task").addFilter(_says_something)  # adding it twice changes nothing


def _says_something(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not (said.startswith("tts_") and ": Custom kwargs can be passed" in said)


def leave_out_what_torchao_says_of_itself() -> None:
    """Leave out what torchao says when transformers imports it: of libraries for other GPUs, and to its developers."""
    logging.getLogger("torchao").addFilter(_not_of_other_gpus)
    logging.getLogger("torch.utils._pytree").addFilter(_not_to_developers)


def _not_of_other_gpus(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not (said.startswith("Failed to load ") and ".so: Could not load this library" in said)


def _not_to_developers(record: logging.LogRecord) -> bool:
    return "is an Enum subclass and is now natively supported" not in record.getMessage()


def warn_of_what_tiny_chain_cannot_do(requests: Iterable[Instance]) -> None:
    """Say which tasks the embedded model was not trained for."""
    names = {str(request.task_name) for request in requests}
    others = sorted(name for name in names if not name.startswith(_TINY_CHAIN_CAN))
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        logger.warning(
            "%s, the embedded model, only computes chains of sums: its scores on %s%s mean nothing; give "
            "pretrained=MODEL, or try --tasks tts_mini",
            TINY_CHAIN.name, ", ".join(others[:_SHOWN]), more,
        )  # fmt: skip

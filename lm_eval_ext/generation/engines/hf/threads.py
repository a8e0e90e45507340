"""How many threads decode on a CPU: a small model takes longer with several, which mostly wait for each other."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger("lm_eval.tts")

SMALL = 10_000_000  # parameters up to which sharing a step's work takes longer than the work
_CHOSEN_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def one_thread_if_small(model: PreTrainedModel) -> Iterator[None]:
    """Let torch use one thread for a small model on a CPU, unless somebody has chosen their number."""
    before = torch.get_num_threads()
    if before == 1 or model.device.type != "cpu" or model.num_parameters() > SMALL or not _is_torchs_choice(before):
        yield
        return
    _log(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_torchs_choice(threads: int) -> bool:
    """Whether nobody has chosen the number: torch takes one thread for each core, or for each two logical ones."""
    return threads in (_cores(), _cores() // 2) and not any(os.environ.get(name) for name in _CHOSEN_BY)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@functools.cache
def _log(threads: int) -> None:
    logger.info("decoding on one thread, not %d: faster for so small a model (OMP_NUM_THREADS= to choose)", threads)

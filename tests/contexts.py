"""Base models with calibration texts of different lengths, and what plain implementations of methods share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from lm_eval_ext.pruning.calibration import Calibration, TokenRow, calibration
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.verification import tiny_twin

TOKENS = 20
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def context_of(folder: Path, batch_size: int = 1, samples: int = 16, **options: Any) -> PruningContext:
    texts = calibration("embedded", samples)
    # Of different lengths, so that batches are padded.
    cut = Calibration("cut", tuple(str(text)[: 60 + 17 * number] for number, text in enumerate(texts.texts)))
    return PruningContext(
        str(folder),
        AutoConfig.from_pretrained(folder),
        lambda: cut,
        batch_size=batch_size,
        max_tokens=TOKENS,
        **options,
    )


def texts_of(context: PruningContext) -> list[torch.Tensor]:
    return [torch.tensor([context.tokenizer.encode(text)[:TOKENS]]) for text in context.calibration.texts]


@contextmanager
def twin_of(kind: str, batch_size: int = 1, **fields: Any) -> Iterator[PruningContext]:
    """A tiny random model of any kind, and calibration texts of different lengths, which are token ids."""
    with tiny_twin(AutoConfig.for_model(kind, **fields)) as twin:
        context = PruningContext(
            twin.folder, twin.config, lambda: Calibration("random", ("text",)), batch_size=batch_size
        )
        numbers = torch.Generator().manual_seed(1)
        rows = [torch.randint(5, 90, (length,), generator=numbers).tolist() for length in (9, 12, 7, 10, 11)]
        vars(context).update(model=twin.model.requires_grad_(False), _rows=[TokenRow(row, 1) for row in rows])
        yield context

"""Decoding without gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def without_gradients(model: PreTrainedModel) -> AbstractContextManager[object]:
    """Inference mode, or only no gradients for quanto, whose 4-bit weights fail in inference mode."""
    if getattr(model, "quantization_method", None) == "quanto":
        return torch.no_grad()
    return torch.inference_mode()

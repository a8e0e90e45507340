"""Choosing the next token: each row by its own counter-based noise, so that a row never depends on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lm_eval_ext.generation.request import Sampling

if TYPE_CHECKING:
    import torch


class Uniforms:
    """A stream of uniform numbers in [0, 1) that is a pure function of its seed (Philox, Salmon et al. 2011)."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed))

    def draw(self) -> float:
        """The next number."""
        return float(self._generator.random())


def next_tokens(
    logits: torch.Tensor, sampling: Sampling, uniforms: Sequence[float], seen: Sequence[Sequence[int]] | None = None
) -> list[int]:
    """Choose one token a row.

    Args:
        logits: [rows, vocabulary], any float dtype.
        sampling: the same for all rows.
        uniforms: one number in [0, 1) a row; unused when greedy.
        seen: ids so far of each row, needed where `repetition_penalty` is not 1.
    """
    import torch

    scores = logits.float()
    if sampling.repetition_penalty != 1.0 and seen is not None:
        scores = _penalised(scores, sampling.repetition_penalty, seen)
    if sampling.temperature == 0:
        greedy: list[int] = scores.argmax(-1).tolist()
        return greedy
    probabilities = _filtered(torch.softmax(scores / sampling.temperature, dim=-1), sampling)
    # Inverse transform sampling: one uniform a token is enough, whatever the size of the vocabulary.
    exact = torch.float32 if logits.device.type == "mps" else torch.float64  # Metal has no float64
    cumulative = probabilities.cumsum(-1, dtype=exact)
    point = torch.tensor(uniforms, dtype=exact, device=logits.device).unsqueeze(1) * cumulative[:, -1:]
    chosen: list[int] = torch.searchsorted(cumulative, point, right=True).squeeze(1).tolist()
    return [min(token, logits.shape[-1] - 1) for token in chosen]


def _penalised(scores: torch.Tensor, penalty: float, seen: Sequence[Sequence[int]]) -> torch.Tensor:
    """CTRL's repetition penalty (arXiv 1909.05858), on prompt and output alike."""
    import torch

    scores = scores.clone()
    for row, ids in zip(scores, seen, strict=True):
        index = torch.tensor(sorted(set(ids)), device=scores.device)
        values = row[index]
        row[index] = torch.where(values > 0, values / penalty, values * penalty)
    return scores


def _filtered(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Zero what top_k, then top_p, then min_p exclude; the most likely token always stays."""
    import torch

    if 0 < sampling.top_k < probabilities.shape[-1]:
        least = probabilities.topk(sampling.top_k, dim=-1).values[:, -1:]
        probabilities = torch.where(probabilities < least, 0.0, probabilities)
    if sampling.top_p < 1:
        ordered = probabilities.sort(dim=-1, descending=True)
        before = ordered.values.cumsum(-1) - ordered.values
        outside = before >= sampling.top_p * probabilities.sum(-1, keepdim=True)
        outside[:, 0] = False
        probabilities = probabilities.masked_fill(outside.scatter(-1, ordered.indices, outside), 0.0)
    if sampling.min_p > 0:
        floor = sampling.min_p * probabilities.max(-1, keepdim=True).values
        probabilities = torch.where(probabilities < floor, 0.0, probabilities)
    return probabilities

"""Choosing the next token: each row by noise of its own, so that a row never depends on the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.generation.request import Sampling

if TYPE_CHECKING:
    import torch


class Noise:
    """Gumbel noise for one row: a stream that is a pure function of its seed and the kind of device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        import torch

        self._device = device if device.type == "cuda" else torch.device("cpu")
        self._generator = torch.Generator(self._device).manual_seed(seed)

    def draw(self, vocabulary: int) -> torch.Tensor:
        """The next [vocabulary] values, float64: in float32 the rarest tokens could never win."""
        import torch

        uniform = torch.rand(vocabulary, dtype=torch.float64, device=self._device, generator=self._generator)
        return uniform.log_().neg_().log_().neg_()


def next_tokens(
    logits: torch.Tensor,
    sampling: Sampling,
    noises: Sequence[Noise],
    seen: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """Choose one token a row.

    Sampling takes the largest of log-probability plus Gumbel noise. Other ways to draw from a distribution
    (inverting its cumulative sum) let a rounding error anywhere in the vocabulary change the token; here only a
    near-tie of the two best can.

    Args:
        logits: [rows, vocabulary], any float dtype.
        sampling: the same for all rows.
        noises: one a row; unused when greedy.
        seen: ids so far of each row, needed where `repetition_penalty` is not 1.
    """
    import torch

    scores = logits.float()
    if sampling.repetition_penalty != 1.0 and seen is not None:
        scores = _penalised(scores, sampling.repetition_penalty, seen)
    if sampling.temperature > 0:
        scores = _filtered(scores / sampling.temperature, sampling)
        noise = torch.stack([noise.draw(logits.shape[-1]) for noise in noises])
        scores = scores.to(noise.device) + noise
    chosen: list[int] = scores.argmax(-1).tolist()
    return chosen


def _penalised(scores: torch.Tensor, penalty: float, seen: Sequence[Sequence[int]]) -> torch.Tensor:
    """CTRL's repetition penalty (arXiv 1909.05858), on prompt and output alike."""
    import torch

    scores = scores.clone()
    for row, ids in zip(scores, seen, strict=True):
        index = torch.tensor(sorted(set(ids)), dtype=torch.long, device=scores.device)
        values = row[index]
        row[index] = torch.where(values > 0, values / penalty, values * penalty)
    return scores


def _filtered(scores: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Exclude by top_k, then top_p, then min_p, each on what the one before left; the best token always stays."""
    if 0 < sampling.top_k < scores.shape[-1]:
        least = scores.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores = scores.masked_fill(scores < least, -float("inf"))
    if sampling.top_p < 1:
        ordered = scores.softmax(-1).sort(dim=-1, descending=True)
        before = ordered.values.cumsum(-1) - ordered.values
        outside = before >= sampling.top_p
        outside[:, 0] = False
        scores = scores.masked_fill(outside.scatter(-1, ordered.indices, outside), -float("inf"))
    if sampling.min_p > 0:
        probabilities = scores.softmax(-1)
        floor = sampling.min_p * probabilities.max(-1, keepdim=True).values
        scores = scores.masked_fill(probabilities < floor, -float("inf"))
    return scores

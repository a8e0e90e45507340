"""Choosing the next token of each row, independently of the other rows.

The next token is the one with the largest log-probability plus Gumbel noise. With other ways to sample, such as
inverting the cumulative distribution, a rounding error anywhere in the vocabulary can change the token; here only a
near-tie between the two best can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.generation.noise import BLOCK, Noise
from lm_eval_ext.generation.request import Sampling

if TYPE_CHECKING:
    import torch

_LOOKED_AT = 4  # blocks of tokens examined first
_SETTLING = 16  # blocks that contain the nucleus of most rows
_AT_ONCE = 4  # rows per pass over the vocabulary, so that intermediate results stay in a CPU's cache


def next_tokens(
    logits: torch.Tensor,
    sampling: Sampling,
    seeds: Sequence[int],
    positions: Sequence[int],
    seen: Sequence[Sequence[int]] | None = None,
) -> list[int]:
    """Choose one token per row.

    Args:
        logits: [rows, vocabulary], any float dtype.
        sampling: the same for all rows.
        seeds: one per row; unused when greedy.
        positions: how many tokens each row has sampled before.
        seen: the ids of each row so far; needed if `repetition_penalty` is not 1.
    """
    scores = logits.float()
    if sampling.repetition_penalty != 1.0 and seen is not None:
        scores = _penalised(scores, sampling.repetition_penalty, seen)
    if sampling.temperature > 0:
        if scores.device.type == "mps":  # has no float64
            scores = scores.cpu()
        noise = Noise(seeds, positions, scores.shape[1], scores.device)
        chosen: list[int] = _sampled(scores, sampling, noise).tolist()
    else:
        chosen = scores.argmax(-1).tolist()
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


def _sampled(scores: torch.Tensor, sampling: Sampling, noise: Noise) -> torch.Tensor:
    """One token per row, [rows], from those left by top_k, then top_p, then min_p; the best token is always left.

    Each filter excludes tokens whose score is below a floor. The floor of top_p would take a sort to find, but a sum
    tells whether the winner is below it. If so, the tokens above the winner race again, until one is in the nucleus.
    """
    import torch

    race = _Race(scores, sampling.temperature, noise)
    left = race.floor(sampling.top_k)
    floors = left.maximum(race.best + sampling.temperature * math.log(sampling.min_p)) if sampling.min_p > 0 else left
    rows = torch.arange(len(scores), device=scores.device)
    chosen = race.winners(rows, floors)
    while sampling.top_p < 1 and len(rows):
        won = scores.gather(1, chosen)
        rows = rows[(won < race.best).squeeze(1)[rows]]
        rows = rows[race.outside(rows, won[rows], left[rows], sampling)]
        floors = won.nextafter(torch.full_like(won, math.inf))
        chosen[rows] = race.winners(rows, floors[rows])
    return chosen.squeeze(1)


class _Race:
    """Finds the token of each row with the largest sum of score and noise.

    No token can do better than its block's best score with the block's best noise, so only blocks that could still
    win are examined.

    Attributes:
        maxima: the best score of each block, [rows, blocks].
        best: the best score of each row, [rows, 1].
    """

    def __init__(self, scores: torch.Tensor, temperature: float, noise: Noise) -> None:
        self.scores, self.temperature, self.noise = scores, temperature, noise
        self.maxima = _block_maxima(scores)
        self.best = self.maxima.amax(1, keepdim=True)
        self._reach = self.maxima / temperature - noise.least.log()

    def winners(self, rows: torch.Tensor, floors: torch.Tensor) -> torch.Tensor:
        """The winning tokens among those with scores at or above the floors, [rows, 1]."""
        import torch

        reach = self._reach[rows].masked_fill(self.maxima[rows] < floors, -math.inf)
        tokens = torch.empty_like(rows).unsqueeze(1)
        open_rows, looked = torch.arange(len(rows), device=rows.device), _LOOKED_AT
        while len(open_rows):
            first = reach[open_rows].topk(min(looked + 1, reach.shape[1]))
            blocks = first.indices[:, :looked]
            ids, scores = self._in(rows[open_rows], blocks)
            noise = self.noise.of(rows[open_rows], blocks).flatten(1)
            won = (scores / self.temperature - noise.log_()).masked_fill_(scores < floors[open_rows], -math.inf).max(1)
            tokens[open_rows] = ids.gather(1, won.indices.unsqueeze(1))
            if looked >= reach.shape[1]:
                break
            open_rows, looked = open_rows[first.values[:, looked] > won.values], 4 * looked
        return tokens

    def floor(self, top_k: int) -> torch.Tensor:
        """The score of the k-th best token, [rows, 1]; it is in one of the k blocks with the largest maxima."""
        import torch

        scores = self.scores
        if not 0 < top_k < scores.shape[1]:
            return torch.full_like(self.best, -math.inf)
        if top_k < self.maxima.shape[1]:
            rows = torch.arange(len(scores), device=scores.device)
            _, scores = self._in(rows, self.maxima.topk(top_k).indices)
        return scores.topk(top_k).values[:, -1:]

    def outside(
        self, rows: torch.Tensor, scores: torch.Tensor, floors: torch.Tensor, sampling: Sampling
    ) -> torch.Tensor:
        """Whether a token with this score is outside the nucleus of top_p, [rows].

        It is if the tokens with higher scores hold at least top_p of the probability left by top_k, that is, at or
        above the floors. Usually bounds decide: tokens are seen in the blocks with the largest maxima (with top_k, in
        all that matter), and another block weighs at least as much as its best token, and at most as if all its tokens
        were as good. Otherwise it takes a pass over the vocabulary.
        """
        import torch

        best, maxima, top_p = self.best[rows], self.maxima[rows], sampling.top_p
        first = maxima.topk(min(sampling.top_k or _SETTLING, maxima.shape[1]))
        _, seen = self._in(rows, first.indices)
        weights = self._weights(seen, best).masked_fill_(seen < floors, 0.0)
        total = weights.sum(1)
        above = weights.masked_fill_(seen <= scores, 0.0).sum(1)
        others = self._weights(maxima, best).masked_fill_(maxima < floors, 0.0).scatter_(1, first.indices, 0.0)
        rest = others.sum(1)
        rest_above = others.masked_fill_(maxima <= scores, 0.0).sum(1)
        outside = above + rest_above >= top_p * (total + BLOCK * rest)
        most_above, least_below = above + BLOCK * rest_above, total - above + rest - rest_above
        unsettled = (~outside & (most_above * (1 - top_p) >= top_p * least_below)).nonzero().flatten()
        for index in torch.split(unsettled, _AT_ONCE):
            seen = self.scores[rows[index]]
            weights = self._weights(seen, best[index]).masked_fill_(seen < floors[index], 0.0)
            total = weights.sum(1)
            outside[index] = weights.mul_(seen > scores[index]).sum(1) >= top_p * total
        return outside

    def _weights(self, scores: torch.Tensor, best: torch.Tensor) -> torch.Tensor:
        return (scores - best).div_(self.temperature).exp_()

    def _in(self, rows: torch.Tensor, blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and scores of the tokens in the given blocks, both [rows, blocks x BLOCK]; -inf past the vocabulary."""
        import torch

        ids = (blocks.unsqueeze(-1) * BLOCK + torch.arange(BLOCK, device=blocks.device)).flatten(1)
        past = ids >= self.scores.shape[1]
        scores = self.scores[rows.unsqueeze(1), ids.masked_fill(past, 0)]
        return ids, scores.masked_fill_(past, -math.inf)


def _block_maxima(scores: torch.Tensor) -> torch.Tensor:
    """The best score of each block of tokens, [rows, blocks]."""
    import torch

    whole = scores.shape[1] // BLOCK * BLOCK
    maxima: torch.Tensor = scores[:, :whole].reshape(len(scores), -1, BLOCK).amax(-1)
    if whole < scores.shape[1]:
        maxima = torch.cat([maxima, scores[:, whole:].amax(-1, keepdim=True)], 1)
    return maxima

"""Choosing the next token of each row, independently of the other rows.

The next token is the one with the largest log-probability plus Gumbel noise. With other ways to sample, such as
inverting the cumulative distribution, a rounding error anywhere in the vocabulary can change the token; here only a
near-tie between the two best can.

Noise for sampling: a pure function of seed, position and token id, computed for all rows at once on any device.

Each token of a step gets an exponential variable; the token with the largest `logit - log(variable)` is a sample from
the softmax. (This is the Gumbel-max trick: minus the log of an exponential variable is Gumbel noise.) A vocabulary can
have 150,000 tokens, of which hardly any can win, so the variables are made block by block. First comes the smallest
variable of each block, which is exponential too, with the block's size as its rate, and its place in the block.
Exponential variables have no memory, so every other variable is the smallest one plus an exponential variable of its
own. These are only computed for the blocks that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.generation.request import Sampling

if TYPE_CHECKING:
    import torch


_LOOKED_AT = 4  # blocks of tokens examined first
_SETTLING = 16  # blocks from which the nucleus of most rows can be told
_AT_ONCE = 10_000  # blocks of several rows examined together, so that intermediate results stay in a CPU's cache


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
        above the floors. Tokens are seen in the blocks with the largest maxima (with top_k, in all that matter).
        Another block weighs at least as much as its best token, and at most as if all its tokens were as good. If
        these bounds don't decide, more blocks are looked at, and in the end all.
        """
        import torch

        outside = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        open_rows, looked = torch.arange(len(rows), device=rows.device), sampling.top_k or _SETTLING
        while len(open_rows):
            undecided = []
            for some in torch.split(open_rows, max(1, _AT_ONCE // looked)):
                surely, perhaps = self._bounds(rows[some], scores[some], floors[some], sampling.top_p, looked)
                outside[some] = surely
                undecided.append(some[perhaps & ~surely])
            open_rows, looked = torch.cat(undecided), 16 * looked
        return outside

    def _bounds(
        self, rows: torch.Tensor, scores: torch.Tensor, floors: torch.Tensor, top_p: float, looked: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether tokens are surely, and whether they are perhaps, outside the nucleus, as far as some blocks tell."""
        import torch

        best, maxima = self.best[rows], self.maxima[rows]
        first = maxima.topk(looked).indices if looked < maxima.shape[1] else None  # none: all of them
        seen = self.scores[rows] if first is None else self._in(rows, first)[1]
        weights = self._weights(seen, best).masked_fill_(seen < floors, 0.0)
        total = weights.sum(1)
        above = weights.mul_(seen > scores).sum(1)
        if first is None:
            return above >= top_p * total, torch.zeros_like(above, dtype=torch.bool)
        others = self._weights(maxima, best).masked_fill_(maxima < floors, 0.0).scatter_(1, first, 0.0)
        rest = others.sum(1)
        rest_above = others.masked_fill_(maxima <= scores, 0.0).sum(1)
        surely = above + rest_above >= top_p * (total + BLOCK * rest)
        most_above, least_below = above + BLOCK * rest_above, total - above + rest - rest_above
        return surely, most_above * (1 - top_p) >= top_p * least_below

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


VERSION = 2  # changes when a seed gives other samples; version 1 used a random generator per row
BLOCK = 64  # tokens

_GAMMA, _FIRST, _SECOND = (number - 2**64 for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


class Noise:
    """The noise of one step.

    Args:
        seeds: one per row; all 64 bits are used.
        positions: how many tokens each row has sampled before.
        vocabulary: number of tokens.
        device: where to compute; values agree between devices up to the last bits of a logarithm.

    Attributes:
        least: the smallest variable of each block, [rows, blocks], float64.
    """

    def __init__(self, seeds: Sequence[int], positions: Sequence[int], vocabulary: int, device: torch.device) -> None:
        import torch

        signed = [(seed + 2**63) % 2**64 - 2**63 for seed in seeds]
        rows = torch.tensor([signed, list(positions)], dtype=torch.long, device=device).unsqueeze(-1)
        self._steps = _numbers(_mixed(rows[0]), rows[1])
        self._vocabulary = vocabulary
        blocks = torch.arange(-(-vocabulary // BLOCK), device=device).unsqueeze(0)
        self.least = _exponential(_numbers(_mixed(self._steps + 1), blocks)) / self._sizes(blocks)

    def of(self, rows: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        """The variables of all tokens in the given blocks, [rows, blocks, BLOCK], float64.

        Args:
            rows: indices of rows, [rows].
            blocks: indices of blocks for each of these rows, [rows, blocks].
        """
        import torch

        inside = torch.arange(BLOCK, device=blocks.device)
        ids = blocks.unsqueeze(-1) * BLOCK + inside
        above = _exponential(_numbers(self._steps[rows].unsqueeze(-1), ids))
        places = _shifted(_numbers(_mixed(self._steps[rows] + 2), blocks), 1) % self._sizes(blocks)
        smallest = inside == places.unsqueeze(-1)
        return self.least[rows].gather(1, blocks).unsqueeze(-1) + above.masked_fill(smallest, 0.0)

    def _sizes(self, blocks: torch.Tensor) -> torch.Tensor:
        """Tokens in each of the blocks; the last block may have fewer."""
        return (self._vocabulary - blocks * BLOCK).clamp(max=BLOCK)


def _numbers(keys: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Output number `which` of SplitMix64 generators with these states (Steele, Lea and Flood 2014)."""
    return _mixed(keys + (which + 1) * _GAMMA)


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser; int64 arithmetic wraps."""
    bits = (bits ^ _shifted(bits, 30)) * _FIRST
    bits = (bits ^ _shifted(bits, 27)) * _SECOND
    return bits ^ _shifted(bits, 31)


def _shifted(bits: torch.Tensor, by: int) -> torch.Tensor:
    """A logical shift to the right; torch's own repeats the sign."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _exponential(bits: torch.Tensor) -> torch.Tensor:
    """Exponential variables with mean 1, in float64; in float32 the rarest tokens could never win."""
    import torch

    uniform = (_shifted(bits, 11).to(torch.float64) + 0.5) * 2.0**-53
    return uniform.neg_().log1p_().neg_()

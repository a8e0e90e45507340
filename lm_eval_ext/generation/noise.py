"""Noise for sampling: a pure function of seed, position and token id, computed for all rows at once on any device.

Each token of a step gets an exponential variable; the token with the largest `logit - log(variable)` is a sample from
the softmax. (This is the Gumbel-max trick: minus the log of an exponential variable is Gumbel noise.) A vocabulary can
have 150,000 tokens, of which hardly any can win, so the variables are made block by block. First comes the smallest
variable of each block, which is exponential too, with the block's size as its rate, and its place in the block.
Exponential variables have no memory, so every other variable is the smallest one plus an exponential variable of its
own. These are only computed for the blocks that are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

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

"""Repetition loops: the degenerate end of a trace that says the same over and over (arXiv 1904.09751, section 4).

Here a text *loops* if it ends in at least four exact copies of one block of tokens, whatever the block's length, that
cover at least 32 tokens: a row of dots or a repeated variable is none, a sentence said four times is.
"""

from __future__ import annotations

from collections.abc import Sequence

COPIES = 4
TOKENS = 32


def loops(ids: Sequence[int], copies: int = COPIES, tokens: int = TOKENS) -> bool:
    """Whether `ids` end in at least `copies` copies of one block that cover at least `tokens` tokens."""
    matches = _matches_of_reversed(ids)
    return any(period + matches[period] >= max(copies * period, tokens) for period in range(1, len(ids) // copies + 1))


def _matches_of_reversed(ids: Sequence[int]) -> list[int]:
    """Z-function of the reversed sequence: how far the end of `ids` agrees with itself shifted by each distance."""
    text = list(reversed(ids))
    z = [0] * len(text)
    left = right = 0
    for position in range(1, len(text)):
        if position < right:
            z[position] = min(right - position, z[position - left])
        while position + z[position] < len(text) and text[z[position]] == text[position + z[position]]:
            z[position] += 1
        if position + z[position] > right:
            left, right = position, position + z[position]
    return z

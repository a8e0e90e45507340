"""Detects repetition loops: traces that degenerate into repeating the same text (arXiv 1904.09751, section 4).

Here a text *loops* if it ends in at least four exact copies of a block of tokens (of any length) that cover at least
32 tokens. A row of dots or a repeated variable is too short to count; a sentence repeated four times counts.
"""

from __future__ import annotations

from collections.abc import Sequence

COPIES = 4
TOKENS = 32


def loops(ids: Sequence[int], copies: int = COPIES, tokens: int = TOKENS) -> bool:
    """Whether `ids` end in at least `copies` copies of one block, covering at least `tokens` tokens."""
    matches = _matches_of_reversed(ids)
    return any(period + matches[period] >= max(copies * period, tokens) for period in range(1, len(ids) // copies + 1))


def _matches_of_reversed(ids: Sequence[int]) -> list[int]:
    """Z-function of the reversed sequence: for each shift, how many tokens match at the end of `ids`."""
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

"""Self-BLEU: how much texts of one set resemble each other. Every n-gram is counted once, whatever the set's size.

Sources: Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"; for self-BLEU, Zhu et
al. 2018, "Texygen: A Benchmarking Platform for Text Generation Models" (arXiv 1802.01886). Smoothing, effective order
and the length of the closest reference are those of sacrebleu's `sentence_bleu` (Post 2018, arXiv 1804.08771).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

_ORDER = 4

Words = Sequence[str]
Grams = Counter[tuple[str, ...]]


def self_bleu(texts: Sequence[Words]) -> float | None:
    """Mean BLEU, from 0 to 1, of each text against all the others; None for fewer than two texts with words.

    >>> self_bleu([["a", "b", "c", "d"], ["a", "b", "c", "d"]])
    1.0
    """
    texts = [text for text in texts if text]
    if len(texts) < 2:
        return None
    counted = [[_grams(text, order) for order in range(1, _ORDER + 1)] for text in texts]
    most = [_two_most([grams[order] for grams in counted]) for order in range(_ORDER)]
    lengths = sorted(map(len, texts))
    scores = [
        _bleu([_matches(grams[order], most[order]) for order in range(_ORDER)], len(text), _closest(lengths, len(text)))
        for text, grams in zip(texts, counted, strict=True)
    ]
    return sum(scores) / len(scores)


def _grams(words: Words, order: int) -> Grams:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def _two_most(counts: Sequence[Grams]) -> Mapping[tuple[str, ...], tuple[int, int]]:
    """For each n-gram, its two largest counts: the largest in the *other* texts is one of them."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    for grams in counts:
        for gram, count in grams.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _matches(grams: Grams, most: Mapping[tuple[str, ...], tuple[int, int]]) -> int:
    """N-grams that some other text has, too, each at most as often as there."""
    total = 0
    for gram, count in grams.items():
        first, second = most[gram]
        total += min(count, second if count == first else first)
    return total


def _closest(lengths: Sequence[int], length: int) -> int:
    """The length closest to that of a text among the others; the shorter of two that are as close."""
    others = list(lengths)
    others.remove(length)
    return min(others, key=lambda other: (abs(other - length), other))


def _bleu(correct: Sequence[int], length: int, reference: int) -> float:
    if not any(correct):
        return 0.0
    smoothing, logs = 1.0, []
    for order, right in enumerate(correct):
        total = length - order
        if total <= 0:
            break
        if right == 0:
            smoothing *= 2
        logs.append(math.log(right / total if right else 1 / (smoothing * total)))
    brevity = min(0.0, 1 - reference / length)
    return math.exp(brevity + sum(logs) / len(logs))

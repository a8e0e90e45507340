"""The closed tables of words that answers are read with (`words.yaml`), and what words say: numbers, names, nothing."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any


@cache
def lexicon() -> dict[str, Any]:
    """The tables of words."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text("utf-8"))
    return found


def cased(text: str) -> str:
    """Words whose case carries no meaning in small letters; `HHT` and `CO` keep theirs."""
    kept = re.fullmatch(r"[A-Z]{2,}|(?:[A-Z][a-z]?\d*){2,}|\w", text) and text not in lexicon()["short_words"]
    title = re.fullmatch(r"[A-Z][a-z]{2,}", text)
    return text if kept and not title else text.casefold()


def number_in_words(text: str) -> Any:
    """`two thirds`, `five million`, `twenty-one`; None for other words."""
    words = re.split(r"[ -]+", text.replace(" and ", " "))
    names, scales, shares = (lexicon()[name] for name in ("numbers", "scales", "shares"))
    total, group = Fraction(0), Fraction(0)
    seen = False
    for word in words:
        if word in ("a", "an") and not seen:
            group = Fraction(1)
        elif word in names:
            group, seen = group + names[word], True
        elif word in scales:
            group, seen = (group or 1) * scales[word], True
            if scales[word] >= 1000:
                total, group = total + group, Fraction(0)
        elif word in shares and word == words[-1]:
            return Fraction(total + group or 1) / shares[word]
        else:
            return None
    return total + group if seen else None


@cache
def leads() -> frozenset[str]:
    """What only introduces an answer."""
    return frozenset(lexicon()["leads"])

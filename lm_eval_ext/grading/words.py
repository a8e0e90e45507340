"""The closed tables of words that answers are read with (`words.yaml`), and what words say: numbers, names, nothing."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any


@cache
def table(name: str) -> Any:
    """What a YAML file of this folder holds."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, and seven times faster where libyaml is there
    return yaml.load(Path(__file__).with_name(f"{name}.yaml").read_text("utf-8"), loader)


def alternatives(name: str, kind: str = "") -> str:
    """Alternatives of a regular expression from `extraction.yaml`, of one of its sections if `kind` names that."""
    found = table("extraction")
    return re.sub(r"\n\s*", "", str(found[kind][name] if kind else found[name]))


def lexicon() -> dict[str, Any]:
    """The tables of words."""
    found: dict[str, Any] = table("words")
    return found


@cache
def _elsewhere() -> dict[str, str]:
    return {word: english for english, words in lexicon()["elsewhere"].items() for word in words.split()}


def counted_elsewhere(answer: str) -> str:
    r"""A number with its unit or noun of another language as mathematics says it; any other text unchanged.

    >>> counted_elsewhere("3 Stunden"), counted_elsewhere("12个苹果"), counted_elsewhere("12 halbe Äpfel")
    ('3\text{ hours}', '12', '12 halbe Äpfel')
    """
    found = re.fullmatch(r"(\$?[\d.,]*\d)(?:\s+|(?=[^\x00-\x7f]))([^\s\d.,;:!?()$\\=+*^]+)", answer)
    if found is None:
        before = re.fullmatch(r"([^\W\d_]{3,}) (\d[\d.,]*)", answer)  # Swahili's order
        if before and before[1] in _counters():
            return before[2]
        unit = _elsewhere().get(before[1]) if before else None
        return f"{before[2]}\\text{{ {unit}}}" if before and unit else answer
    number, word = found.groups()
    names = (word, re.sub("^[个個]", "", word))
    if unit := next((_elsewhere()[name] for name in names if name in _elsewhere()), None):
        return f"{number}\\text{{ {unit}}}"
    if re.search(r"[\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]", word):  # no spaces divide words
        return number if any(name in _counters() for name in names) else answer
    changes = (
        word in lexicon()["scales"]
        or word.casefold() in lexicon()["negations"].split()
        or word.casefold().startswith(_changing())
    )
    is_noun = " " in answer and re.fullmatch(r"[^\W\d_]{2,}", word.translate(_MARKS)) is not None
    return number if is_noun and not changes else answer


# Vowel signs of Indian scripts and such, which are no letters.
_MARKS = {code: None for code in range(0x900, 0xE00) if unicodedata.category(chr(code)).startswith("M")}


@cache
def _counters() -> frozenset[str]:
    return frozenset(lexicon()["counters"].split())


@cache
def _changing() -> tuple[str, ...]:
    return tuple(word.casefold() for word in lexicon()["changing_elsewhere"].split())


def cased(text: str) -> str:
    """Words without accents, and in small letters where case says nothing; `HHT`, `CO`, `mW` and `ABC` keep theirs."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    return " ".join(map(_cased, re.sub(r"(?<=\w)(?:--|–)(?=\w)", "-", plain).split(" ")))


def _cased(word: str) -> str:
    kept = re.fullmatch(r"[A-Z]{2,}|(?:[A-Z][a-z]?\d*){2,}|\w", word) and word.lower() not in lexicon()["short_words"]
    ordinary = re.fullmatch(r"\W*(?:[A-Z]?[a-z]{3,}|[a-z]+|[A-Za-z]{8,})\W*", word)
    mixed = "_" in word or (re.search(r"[A-Z]", word[1:]) and word.lower() not in lexicon()["short_words"])
    return word.casefold() if ordinary or not (kept or mixed) else word


_OPERAND = r"\d+(?:\.\d+)?|[a-z]|\\pi"
_LONGEST_OPERATION = 60  # characters


def with_signs(text: str) -> str:
    r"""`\sqrt{2}` for `the square root of 2`, `7^3` for `7 cubed`; any other answer unchanged."""
    if len(text) > _LONGEST_OPERATION:
        return text
    plain = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    for pattern, signs in lexicon()["operations"].items():
        if match := re.fullmatch(f"(?i){pattern.replace('~', _OPERAND)}", plain):
            return re.sub(r"<(\d)>", lambda place: match[int(place[1])], signs)
    return text


def number_in_words(text: str) -> Fraction | None:
    """`two thirds`, `five million`, `twenty-one`, `one and three quarters`, `minus five`; None for other words."""
    sign, _, rest = text.partition(" ")
    if sign in ("minus", "negative") and rest:
        number = number_in_words(rest)
        return None if number is None else -number
    whole, joined, part = text.rpartition(" and ")
    if joined and (share := _share(part)) is not None and (number := _whole(whole)) is not None:
        return number + share
    return share if (share := _share(text)) is not None else _whole(text)


def _share(text: str) -> Fraction | None:
    """`two thirds`, `a half`, `half`."""
    above, _, name = text.replace("-", " ").rpartition(" ")
    if name not in lexicon()["shares"]:
        return None
    number = Fraction(1) if above in ("", "a", "an") else _whole(above)
    return None if number is None else number / lexicon()["shares"][name]


def _whole(text: str) -> Fraction | None:
    """A whole number in words: thousands and more in falling order, each with a number below 1000 before it."""
    names, scales = lexicon()["numbers"], lexicon()["scales"]
    words = re.split(r"[ -]+", text)
    total, group, last, limit = Fraction(0), Fraction(0), -1, None
    for at, word in enumerate(words):
        if word in names and (last < 0 or last == 100 or (last >= 20 and last % 10 == 0 and 0 < names[word] < 10)):
            group, last = group + names[word], names[word]
        elif word in ("a", "an") and at == 0 and len(words) > 1:
            group, last = Fraction(1), 1
        elif word == "hundred" and 0 < group < 100:
            group, last = group * 100, 100
        elif word in scales and word != "hundred" and (limit is None or scales[word] < limit):
            total, group, last, limit = total + (group or 1) * scales[word], Fraction(0), -1, scales[word]
        elif word != "and" or not 0 < at < len(words) - 1 or words[at - 1] not in scales:
            return None
    return total + group


@cache
def leads() -> frozenset[str]:
    """What only introduces an answer."""
    return frozenset(lexicon()["leads"])

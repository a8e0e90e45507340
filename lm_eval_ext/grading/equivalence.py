r"""Comparison of two answers as text and plain numbers, without algebra; most comparisons end here."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate

from lm_eval_ext.grading.equality import TOLERANCE

LONGEST_ANSWER = 2_000  # characters; no gold answer comes near
DEEPEST_NESTING = 25  # brackets; beyond about 40 Math-Verify's parser exceeds any time limit

_NUMBER = re.compile(
    r"^([+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400}))"
    r"(?:[eE]([+-]?\d{1,3})|\s*\\(?:times|cdot)\s*10\^(?:\{([+-]?\d{1,3})\}|(\d)))?$"
)
_FRACTION = re.compile(
    r"^([+-]?)\s*(?:\\frac\{([+-]?\d{1,400})\}\{(\d{1,400})\}|\(?([+-]?\d{1,400})\)?\s*/\s*\(?(\d{1,400})\)?)$"
)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_LOOSE_SPACE = re.compile(r"(?<!\w) | (?!\w)")  # a space between two words or two numbers is significant
_BASED = re.compile(r"^([+-]?[0-9A-Za-z]{1,400})_\{?\(?(\d{1,2})\)?\}?$")
_ASSIGNED = re.compile(r"^[A-Za-z] ?= ?([^=]+)$")


def refused(answer: str) -> bool:
    """Whether an answer is too long, too deeply nested or too broken (unbalanced braces) to be read."""
    if len(answer) > LONGEST_ANSWER:
        return True
    depths = list(accumulate((character in "([{") - (character in ")]}") for character in answer))
    braces = list(accumulate((brace == "{") - (brace == "}") for brace in _ESCAPED.sub("", answer)))
    return max(depths, default=0) > DEEPEST_NESTING or min(braces, default=0) < 0 or braces[-1:] > [0]


def plainly_equal(one: str, other: str) -> bool | None:
    """The verdict if it can be reached without algebra, else None.

    Args:
        one: an answer, already `normalised`.
        other: another.
    """
    if _closed_up(one) == _closed_up(other):
        return one != ""
    if not one or not other:
        return False
    bases = _BASED.match(one), _BASED.match(other)
    if any(bases):
        return _equal_in_bases(one, other, *bases)
    values = rational(one), rational(other)
    if None in values:
        return _equal_but_for_a_name(one, other) if ("=" in one) != ("=" in other) else _equal_tuples(one, other)
    if values[0] == values[1]:
        return True
    mixed = bool(_FRACTION.match(one)) != bool(_FRACTION.match(other))
    return None if mixed else False  # a decimal may be a rounded fraction


def _equal_but_for_a_name(one: str, other: str) -> bool | None:
    """Compare `x = 5` with `5`."""
    named = _ASSIGNED.match(one) or _ASSIGNED.match(other)
    return plainly_equal(named[1], other if "=" in one else one) if named else None


def _equal_tuples(one: str, other: str) -> bool | None:
    members = _members(one), _members(other)
    if not all(members) or len(members[0]) != len(members[1]):
        return None
    verdicts = [plainly_equal(*pair) for pair in zip(*members, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _members(text: str) -> list[str]:
    """Members of a tuple `(a, b)`, if it contains no brackets other than braces."""
    if not (text.startswith("(") and text.endswith(")")) or re.search(r"[(\[)\]]|\\[{}]", text[1:-1]):
        return []
    depths = accumulate((character == "{") - (character == "}") for character in text[1:-1])
    marked = "".join(
        "\0" if character == "," and not depth else character
        for character, depth in zip(text[1:-1], depths, strict=True)
    )
    return [member.strip() for member in marked.split("\0")]


def _closed_up(text: str) -> str:
    return _LOOSE_SPACE.sub("", text)


def _equal_in_bases(one: str, other: str, *bases: re.Match[str] | None) -> bool | None:
    """Compare numbers with at least one explicit base; if the other has none, the digits must be the same."""
    if all(bases):
        values = [_in_base(base[1], int(base[2])) for base in bases if base]
        return None if None in values else values[0] == values[1]
    digits = [base[1] if base else text for base, text in zip(bases, (one, other), strict=True)]
    return digits[0] == digits[1] if all(map(str.isdecimal, digits)) else None


def _in_base(digits: str, base: int) -> int | None:
    try:
        return int(digits, base) if base > 1 else None
    except ValueError:  # not a number in a base, perhaps an indexed name
        return None


@lru_cache(maxsize=4096)
def rational(text: str) -> Fraction | None:
    """The value of an integer, a decimal or a simple fraction; None for anything else."""
    number = _NUMBER.match(text)
    if number:
        return Fraction(number[1]) * Fraction(10) ** int(number[2] or number[3] or number[4] or 0)
    fraction = _FRACTION.match(text)
    if not fraction:
        return None
    above, below = (int(part) for part in fraction.groups()[1:] if part)
    return (-1 if fraction[1] == "-" else 1) * Fraction(above, below) if below else None


def value(text: str) -> complex | None:
    """The value of a plain number; None for anything else, or if it exceeds the range of a float."""
    number = rational(text)
    try:
        return None if number is None else complex(number)
    except OverflowError:
        return None


def far_apart(one: complex | None, other: complex | None) -> bool:
    """Whether two values are known and differ by more than any rounding."""
    return one is not None and other is not None and abs(one - other) > 10 * TOLERANCE * max(abs(one), abs(other))

r"""Whether two answers are the same. Text and plain numbers settle most; Math-Verify decides the rest, guarded.

The guards refuse what Math-Verify takes for equal and is not: numbers that differ by less than it rounds to
(`1/2^{99}` and `1/2^{98}`), other number bases (`4210_5` and `4210_6`), a tuple for a set. All is symmetric.

`read` and `compared` run a computer algebra system on untrusted text: call them in a worker only (`pool`).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from typing import Any

LONGEST_ANSWER = 2_000  # characters; no gold answer comes near
DEEPEST_NESTING = 25  # brackets; from about 40 Math-Verify's parser takes longer than any limit

_NUMBER = re.compile(
    r"^([+-]?(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400}))"
    r"(?:[eE]([+-]?\d{1,3})|\s*\\(?:times|cdot)\s*10\^(?:\{([+-]?\d{1,3})\}|(\d)))?$"
)
_FRACTION = re.compile(
    r"^([+-]?)\s*(?:\\frac\{([+-]?\d{1,400})\}\{(\d{1,400})\}|\(?([+-]?\d{1,400})\)?\s*/\s*\(?(\d{1,400})\)?)$"
)
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_LOOSE_SPACE = re.compile(r"(?<!\w) | (?!\w)")  # a space between two words or two numbers says something
_BASED = re.compile(r"^([+-]?[0-9A-Za-z]{1,400})_\{?\(?(\d{1,2})\)?\}?$")
_NAME = re.compile(r"^\s*[A-Za-z\\(|][^-+*/^=<>]*$")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_COMPUTATION = re.compile(r"^[^A-Za-z]*\d[^A-Za-z]*[-+*/^][^A-Za-z]*$")  # `3 + 2`, of `3 + 2 = 5`
_ASSIGNED = re.compile(r"^[A-Za-z] ?= ?([^=]+)$")
_CLOSE = Fraction(1, 10**5)  # relative; Math-Verify rounds to six decimals, whatever the size of the number
_DIGITS = 40


def refused(answer: str) -> bool:
    """Whether an answer is too long, nested too deeply, or too broken (its braces do not match), to be looked at."""
    if len(answer) > LONGEST_ANSWER:
        return True
    depths = list(accumulate((character in "([{") - (character in ")]}") for character in answer))
    braces = list(accumulate((brace == "{") - (brace == "}") for brace in _ESCAPED.sub("", answer)))
    return max(depths, default=0) > DEEPEST_NESTING or min(braces, default=0) < 0 or braces[-1:] > [0]


def plainly_equal(one: str, other: str) -> bool | None:
    """A verdict that needs no algebra; None where there is none.

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
    values = _rational(one), _rational(other)
    if None in values:
        return _equal_but_for_a_name(one, other) if ("=" in one) != ("=" in other) else _equal_tuples(one, other)
    if values[0] == values[1]:
        return True
    mixed = bool(_FRACTION.match(one)) != bool(_FRACTION.match(other))
    return None if mixed else False  # a decimal may stand, rounded, for a fraction


def _equal_but_for_a_name(one: str, other: str) -> bool | None:
    """`x = 5` and `5`."""
    named = _ASSIGNED.match(one) or _ASSIGNED.match(other)
    return plainly_equal(named[1], other if "=" in one else one) if named else None


def _equal_tuples(one: str, other: str) -> bool | None:
    members = _members(one), _members(other)
    if not all(members) or len(members[0]) != len(members[1]):
        return None
    verdicts = [plainly_equal(*pair) for pair in zip(*members, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _members(text: str) -> list[str]:
    """What a tuple, `(a, b)`, consists of, if it holds no other brackets but braces."""
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
    """Numbers of which one at least says its base; where the other does not, the digits are to be the same."""
    if all(bases):
        values = [_in_base(base[1], int(base[2])) for base in bases if base]
        return None if None in values else values[0] == values[1]
    digits = [base[1] if base else text for base, text in zip(bases, (one, other), strict=True)]
    return digits[0] == digits[1] if all(map(str.isdecimal, digits)) else None


def _in_base(digits: str, base: int) -> int | None:
    try:
        return int(digits, base) if base > 1 else None
    except ValueError:  # not such a number, an indexed name perhaps
        return None


@lru_cache(maxsize=4096)
def _rational(text: str) -> Fraction | None:
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
    """What a plain number amounts to; None for anything else, and beyond the range of a float."""
    rational = _rational(text)
    try:
        return None if rational is None else complex(rational)
    except OverflowError:
        return None


def far_apart(one: complex | None, other: complex | None) -> bool:
    """Whether two values are known and differ by more than any rounding."""
    return one is not None and other is not None and abs(one - other) > 10 * _CLOSE * max(abs(one), abs(other))


def warm_up() -> None:
    """Have the parser meet the usual forms once: it learns each when it first sees it, which takes up to 0.1 s."""
    usual = r"(x-1)^2+\frac{\pi}{2}", r"\sqrt{2}-3i", "(3,5)", r"\{1,2\}\cup[0,\infty)", r"x_1=5\%", r"x \le 7^\circ"
    for text in usual:
        compared(text, text)


def read(text: str) -> tuple[bool, complex | None]:
    """Whether Math-Verify can read a `normalised` answer, and its value if it is a number; for workers only."""
    parsed = _parsed(text)
    return bool(parsed), _evaluated(parsed[0]) if parsed else None


def _evaluated(expression: Any) -> complex | None:
    from sympy import Expr

    if not (isinstance(expression, Expr) and expression.is_number) or expression.is_Matrix:
        return None
    if _is_percentage(expression):
        return None
    try:
        number = complex(expression.evalf(15))
    except (TypeError, ValueError, OverflowError):  # no number after all, or one beyond the range of a float
        return None
    return number if math.isfinite(abs(number)) else None


def compared(one: str, other: str) -> bool | None:
    """Math-Verify's guarded verdict on two `normalised` answers, None if it cannot read one; for workers only."""
    first, second = _parsed(one), _parsed(other)
    if not first or not second:
        return None
    if _brackets(one) + _brackets(other) in ("({", "{("):
        return False
    return _verified(first, second, one, other) and _close(first[0], second[0])


def _verified(first: list[Any], second: list[Any], one: str, other: str) -> bool:
    """Math-Verify follows the form of what it takes for the gold answer, so it is asked both ways."""
    from math_verify import verify

    # The worker that this runs in is killed from outside, so Math-Verify's own alarms are off.
    verdicts = [
        verify(gold, answer, timeout_seconds=None, allow_set_relation_comp=True)
        for gold, answer in ((first, second), (second, first))
    ]
    if verdicts[0] == verdicts[1]:
        return bool(verdicts[0])
    # It takes `2x + z = 1` for an answer of 1; that is right only where what is equated has a name or is computed.
    equated = [text.partition("=")[0] for text in (one, other) if "=" in text]
    return bool(equated) and all(_NAME.match(text) or _COMPUTATION.match(_COMMAND.sub("", text)) for text in equated)


def _brackets(text: str) -> str:
    """`(` of a tuple, `{` of a set, or nothing."""
    if "," not in text:
        return ""
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return "{"
    return "(" if text.startswith("(") and text.endswith(")") and "(" not in text[1:] else ""


def _close(one: Any, other: Any) -> bool:
    """Whether two numbers that passed for equal are: exactly where both are exact, else relative to their size."""
    from sympy import Expr, Float

    if not all(isinstance(number, Expr) and number.is_number and not number.is_Matrix for number in (one, other)):
        return True
    if any(_is_percentage(number) for number in (one, other)):
        return True  # 50% stands for 50 as well as for 0.5
    first, second = (number.doit().evalf(_DIGITS) for number in (one, other))
    rounded = one.has(Float) or other.has(Float)
    tolerance = _CLOSE if rounded else Fraction(1, 10 ** (_DIGITS // 2))
    size = max(abs(first), abs(second))
    return bool(abs(first - second) <= size * tolerance)


def _is_percentage(number: Any) -> bool:
    from sympy import Rational, UnevaluatedExpr

    return bool(number.has(UnevaluatedExpr(Rational(1, 100))))


@lru_cache(maxsize=1024)
def _parsed(text: str) -> list[Any]:
    """Math-Verify's reading of one answer: expression and text; empty where it cannot be read as mathematics."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    parsed = parse(
        rf"\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()],
        parsing_timeout=None,
    )
    return parsed if parsed and not isinstance(parsed[0], str) else []

r"""Parses an answer as a whole or not at all: values with units, tuples, sets, lists, relations, words.

A reading accounts for every letter, digit, word and operator of the answer; an answer that can only be parsed in part
has no reading and is compared as text. An answer may have several readings (`0.1 m`: a length or a product).

This runs a computer algebra system on untrusted text: call it in a worker only (`workers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from lm_eval_ext.grading.algebra import equal_expressions, is_number
from lm_eval_ext.grading.equivalence import rational
from lm_eval_ext.grading.parsing import parsed
from lm_eval_ext.grading.spelling import (
    as_tuple,
    closing,
    parts,
    plain_words,
    with_plain_brackets,
    without_ordinal,
)
from lm_eval_ext.grading.units import Unit, is_bare_unit, unit_of, with_plain_units

if TYPE_CHECKING:
    from lm_eval_ext.grading.algebra import Expression

_TEXT = r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathsf|mbox|hbox|operatorname)\s*\{[^{}]*\}"
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_TEN = r"\s*\\(?:times|cdot)\s*10\s*\^\s*(?:\{\s*[+-]?\d+\s*\}|\d)"
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d+\s*\}|-?\d))?"
_CIRCLE = r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)(?:\s*(?:\\(?:text|mathrm)\s*\{\s*)?[CF]\b\s*\}?)?"
_UNIT_FRACTION = rf"\\frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}{_POWER}\s*\}}"
_UNIT_TAIL = (
    rf"(?:{_CIRCLE}|(?:(?:\\mu\s*)?{_TEXT}|{_UNIT_FRACTION})"
    rf"(?:{_POWER}|\s*(?:/|\\cdot|\\times|\*)\s*|\s*{_TEXT}|[A-Za-z])*)"
)
_WITH_TAIL = re.compile(rf"^(?P<value>(?:(?!{_TEXT}).)+?)\s*(?P<unit>{_UNIT_TAIL})\s*$", re.DOTALL)
_BARE_TAIL = re.compile(
    rf"^(?P<value>{_NUMBER}(?:{_TEN}|[eE][+-]?\d{{1,3}})?|{_NUMBER}\s*/\s*\d+)(?P<space>\s*)"
    r"(?P<unit>[A-Za-z]+(?:[A-Za-z\d /()^{}*-]|\\cdot(?![A-Za-z]))*)\.?$"
)
_ABOUT = re.compile(r"^(?:\\text\s*\{\s*)?(?i:about|approximately|approx\.?|roughly|around)\b\s*\}?\s*(?=[\d\\.+-])")
_COMPOUND = re.compile(rf"\s*({_NUMBER})\s*({_TEXT}{_POWER}|[A-Za-z]+)")
_WITH_EXPONENT = re.compile(rf"{_NUMBER}[eE][+-]?\d")
_PERCENT = re.compile(
    r"^(.*?)\s*(?:\\?%|(?:\\(?:text|mathrm)\s*)?\{\s*\\?%\s*\}|(?:\\text\s*\{\s*|\b)(?:percent(?:age)?|pct)\s*\}?)$",
    re.DOTALL,
)
_RELATED = re.compile(r"[=<>]|\\(?:ge|le|geq|leq|gt|lt|geqslant|leqslant|ne|neq|in)(?![A-Za-z])")
_JOINED = re.compile(r",?\s*(?:\\(?:text|mathrm|mbox)\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*")
_EQUALS = re.compile(r"(?<![\\<>!:])=|\\equiv(?![A-Za-z])")
_APPROXIMATELY = re.compile(r"\s*(?:\\approx|\\simeq|\\doteq)(?![A-Za-z])\s*")
_NAME = re.compile(r"^[A-Za-z\\(|][^-+*/^=<>]*$")
_RELATION = re.compile(r"^(?:[<>]=?|\\(?:ge|le|geq|leq|gt|lt|geqslant|leqslant|ne|neq)(?![A-Za-z]))")
_PLACEHOLDER = "x"


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        expression: the sympy expression.
        unit: its unit.
        percent: whether it is a percentage.
        name: the variable it is assigned to, such as `x` in `x = 5`.
        bare: whether it is a relation without a left-hand side, such as `> 12`.
    """

    expression: Expression
    unit: Unit | None = None
    percent: bool = False
    name: str = ""
    bare: bool = False


@dataclass(frozen=True)
class Words:
    """An answer in words, not mathematics."""

    text: str


@dataclass(frozen=True)
class Several:
    """Values, each with all its readings: ordered (`tuple`), without duplicates (`set`), or neither (`list`)."""

    kind: Literal["tuple", "set", "list"]
    members: tuple[tuple[Reading, ...], ...]


Reading = Value | Words | Several


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Reading, ...]:
    """All readings of a `normalised` answer; empty if it cannot be read as a whole."""
    text = without_ordinal(as_tuple(with_plain_brackets(with_plain_units(_ABOUT.sub("", text.strip())))))
    words = plain_words(text)
    if words:
        return (Words(words),)
    joined = _JOINED.sub(",", text)
    if len(parts(joined)) > 1:
        found: list[Reading] = [
            *_quantities(text),
            *_members("list", joined, ";" if len(parts(joined, ";")) > 1 else ","),
        ]
    else:
        found = _one(text)
    return tuple(_as_members(one) for one in found)


def _one(text: str) -> list[Reading]:
    """Readings of a text without commas outside its brackets."""
    if bracketed := list(_bracketed(text)):
        is_interval = text[0] in "([" and len(parts(text[1:-1])) == 2
        return [*bracketed, *(_algebra(text) if is_interval else ())]
    if measured := list(_quantities(text)):
        return [*measured, *(_algebra(text) if _bare(text) else ())]
    return [*_equated(text), *_relation(text), *_algebra(text)]


def _bracketed(text: str) -> Iterator[Reading]:
    """Readings as a tuple, set or list in brackets."""
    if text.startswith(r"\{") and text.endswith(r"\}") and r"\}" not in text[:-2]:
        if not re.search(r"\\mid|\||:", text):
            yield from _members("set", text[2:-2])
    elif text[:1] in ("(", "[") and closing(text, 0) == len(text) - 1:
        least = 2 if text[0] == "(" else 3  # `[1, 2]` is an interval
        if len(parts(text[1:-1])) >= least:
            yield from _members("tuple", text[1:-1])


def _members(kind: Literal["tuple", "set", "list"], text: str, separators: str = ",;") -> Iterator[Several]:
    members = tuple(readings(part) for part in parts(text, separators) if part)
    if members and all(members):
        yield Several(kind, members)


def _equated(text: str) -> Iterator[Reading]:
    """The right-hand side of an assignment or computation: `5` in `x = 5` and in `3 + 2 = 5`."""
    exact, *about = _APPROXIMATELY.split(text)
    if about:  # an exact value takes precedence, unless it is a name
        is_name = not exact or (_NAME.match(exact) and not _is_number(exact))
        yield from readings(about[-1] if is_name else exact)
        return
    sides = [side.strip() for side in _EQUALS.split(text)]
    if len(sides) < 2 or not all(sides) or len(parts(text)) > 1:
        return
    if len(sides) == 2 and _NAME.match(sides[1]) and not _NAME.match(sides[0]):
        sides.reverse()
    *left, last = sides
    named = [side for side in left if _NAME.match(side) and not _is_number(side)]
    name = re.sub(r"\s", "", named[0]) if named else ""
    for reading in readings(last):
        if isinstance(reading, Value) and all(side in named or _comes_to(side, reading) for side in left):
            yield replace(reading, name=name)
        elif isinstance(reading, Several) and len(named) == len(left):
            yield reading


def _comes_to(side: str, value: Value) -> bool:
    return any(
        is_number(one.expression) and equal_expressions(one.expression, value.expression) for one in _algebra(side)
    )


def _is_number(side: str) -> bool:
    return any(is_number(one.expression) for one in _algebra(side))


def _relation(text: str) -> Iterator[Value]:
    if _RELATION.match(text):
        yield from (replace(one, bare=True) for one in _algebra(_PLACEHOLDER + text))


def _quantities(text: str) -> Iterator[Reading]:
    if (percent := _PERCENT.match(text)) and _is_one(percent[1]):
        yield from (replace(one, percent=True) for one in _algebra(with_plain_brackets(percent[1]).rstrip(".")))
        return
    compound = list(_COMPOUND.finditer(text))
    whole = "".join(match[0] for match in compound) == text.rstrip()
    if len(compound) > 1 and whole and not _WITH_EXPONENT.match(text):
        yield from _compound(compound)
        return
    match = _WITH_TAIL.match(text) or _bare(text)
    unit = unit_of(match["unit"]) if match else None
    if match and unit and not _EQUALS.search(match["value"]):  # else `_equated` reads it
        yield from (replace(one, unit=unit if unit.dimension else None) for one in _valued(match["value"]))


def _is_one(text: str) -> bool:
    """Whether it is one number or product, which a percent sign after it is about."""
    return len(parts(text.lstrip("+-"), "+-")) == 1 and "%" not in text and not _RELATED.search(text)


def _valued(text: str) -> Iterator[Value]:
    """A number before a unit; `1.5e3` is one, and no product with e."""
    from sympy import Rational

    plain = rational(text.strip())
    if plain is None:
        yield from _algebra(text)
    else:
        yield Value(Rational(plain.numerator, plain.denominator))


def _bare(text: str) -> re.Match[str] | None:
    """Match a number and a unit that is not marked as text; a short unit needs a space before it."""
    match = _BARE_TAIL.match(text)
    if match is None:
        return None
    words = re.findall(r"[A-Za-z]+", match["unit"])
    short = any(len(word) == 1 for word in words) and not match["space"]
    known = all(is_bare_unit(word) or word in ("per", "square", "cubic", "sq") for word in words)
    noun = bool(match["space"]) and all(len(word) > 3 for word in words)
    return match if (known and not short) or noun else None


def _compound(matches: list[re.Match[str]]) -> Iterator[Reading]:
    """`3 hours 20 minutes` is one quantity; `2 red and 3 blue` are two."""
    from sympy import Rational

    named = [(match[1], unit_of(re.sub(r"\s*\b(?:and|or)\b\s*", " ", match[2]))) for match in matches]
    units = [unit for _, unit in named if unit is not None]
    if len(units) < len(named):
        return
    values = [Value(Rational(number), unit) for number, unit in named]
    if len({unit.dimension for unit in units}) == 1 and all("[" in unit.dimension for unit in units):
        total = sum(Rational(str(unit.slope)) * value.expression for value, unit in zip(values, units, strict=True))
        yield Value(total, replace(units[0], slope=type(units[0].slope)(1)))
    else:
        yield Several("list", tuple((value,) for value in values))


def _algebra(text: str) -> Iterator[Value]:
    """The text as one expression, as the parser reads it."""
    expression = parsed(text)
    if expression is not None:
        yield Value(expression)


def _as_members(reading: Reading) -> Reading:
    r"""A finite set, such as that of `\pm 3`, as a list of its members."""
    from sympy import FiniteSet

    if isinstance(reading, Value) and isinstance(reading.expression, FiniteSet) and reading.expression.args:
        members = tuple((replace(reading, expression=one, name=""),) for one in reading.expression.args)
        return Several("set", members)
    return reading

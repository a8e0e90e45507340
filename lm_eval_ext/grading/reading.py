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
from lm_eval_ext.grading.spelling import (
    as_tuple,
    closing,
    parts,
    plain_words,
    spelled_out,
    with_plain_brackets,
    without_ordinal,
)
from lm_eval_ext.grading.units import Unit, is_bare_unit, unit_of

if TYPE_CHECKING:
    from lm_eval_ext.grading.algebra import Expression

_TEXT = r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathsf|mbox|hbox|operatorname)\s*\{[^{}]*\}"
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d+\s*\}|\d))?"
_CIRCLE = r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)(?:\s*(?:\\(?:text|mathrm)\s*\{\s*)?[CF]\b\s*\}?)?"
_UNIT_FRACTION = rf"\\frac\s*\{{\s*{_TEXT}\s*\}}\s*\{{\s*{_TEXT}{_POWER}\s*\}}"
_UNIT_TAIL = (
    rf"(?:{_CIRCLE}|(?:(?:\\mu\s*)?{_TEXT}|{_UNIT_FRACTION})"
    rf"(?:{_POWER}|\s*(?:/|\\cdot|\\times|\*)\s*|{_TEXT}|[A-Za-z])*)"
)
_WITH_TAIL = re.compile(rf"^(?P<value>(?:(?!{_TEXT}).)+?)\s*(?P<unit>{_UNIT_TAIL})\s*$", re.DOTALL)
_BARE_TAIL = re.compile(
    rf"^(?P<value>{_NUMBER}|{_NUMBER}\s*/\s*\d+)(?P<space>\s*)(?P<unit>[A-Za-z]+(?:[ /][A-Za-z]+)*{_POWER})\.?$"
)
_COMPOUND = re.compile(rf"\s*({_NUMBER})\s*({_TEXT}{_POWER}|[A-Za-z]+)")
_PERCENT = re.compile(r"^(.*?)\s*(?:\\?%|(?:\\text\s*\{\s*|\b)(?:percent(?:age)?|pct)\s*\}?)$", re.DOTALL)
_JOINED = re.compile(r",?\s*(?:\\(?:text|mathrm|mbox)\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*")
_EQUALS = re.compile(r"(?<![\\<>!:])=|\\equiv(?![A-Za-z])")
_APPROXIMATELY = re.compile(r"\s*(?:\\approx|\\simeq|\\doteq)(?![A-Za-z])\s*")
_NAME = re.compile(r"^[A-Za-z\\(|][^-+*/^=<>]*$")
_RELATION = re.compile(r"^(?:[<>]=?|\\(?:ge|le|geq|leq|gt|lt|geqslant|leqslant|ne|neq)(?![A-Za-z]))")
_PLACEHOLDER = "x"
_LETTERS = re.compile(r"\\([A-Za-z]+)|([A-Za-z])")
_NOT_NAMES = frozenset(
    """frac sqrt left right cdot times div pm mp le ge leq geq ne neq lt gt in cup cap setminus infty pi emptyset
    varnothing mathbb mathbf mathrm mathcal text log ln exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh
    binom sum prod int lim to circ displaystyle lfloor rfloor lceil rceil lvert rvert vert mid mod bmod pmod gcd lcm
    max min det over overline bar hat vec dot ldots cdots dots quad approx equiv sim langle rangle limits dfrac tfrac
    geqslant leqslant lbrace rbrace""".split()  # noqa: SIM905  # a list of this many words is harder to read
)
_LOST = re.compile(
    r"'|\d\s+\d|[^\W\d_]{4,}|\\(?:prime|text|mathrm|mbox)(?![A-Za-z])"
)  # dropped or misread by the parser
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-z]+\}|\\(?!(?:prime|text|mathrm|mbox)(?![A-Za-z]))[A-Za-z]+")


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
    text = without_ordinal(as_tuple(with_plain_brackets(text.strip())))
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
        yield from readings(about[-1] if _NAME.match(exact) and not _is_number(exact) else exact)
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
    if (percent := _PERCENT.match(text)) and len(parts(percent[1].lstrip("+-"), "+-=<>")) == 1:
        yield from (replace(one, percent=True) for one in _algebra(percent[1]))
        return
    compound = list(_COMPOUND.finditer(text))
    if len(compound) > 1 and "".join(match[0] for match in compound) == text.rstrip():
        yield from _compound(compound)
        return
    match = _WITH_TAIL.match(text) or _bare(text)
    unit = unit_of(match["unit"]) if match else None
    if match and unit:
        yield from (replace(one, unit=unit if unit.dimension else None) for one in _algebra(match["value"]))


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


@lru_cache(maxsize=4096)
def parsed(text: str) -> Expression | None:
    """The text as a case-sensitive sympy expression; None unless every part of it is accounted for."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    latex = spelled_out(text)
    if not latex.strip() or _LOST.search(_COMMANDS.sub("@", latex)):
        return None
    try:
        expression = latex2sympy(
            latex, normalization_config=None, conversion_config=ConversionConfig(lowercase_symbols=False)
        )
    except Exception:  # the parser raises plain exceptions, antlr's and sympy's
        return None
    return _with_imaginary_unit(expression) if _accounted(latex, expression) else None


def _accounted(latex: str, expression: Expression) -> bool:
    """Whether every letter of the text appears in the parsed expression."""
    letters = set(re.findall(r"[A-Za-z]+", " ".join(_names(expression))))
    known = {character for name in letters for character in name} | letters
    for command, letter in _LETTERS.findall(re.sub(r"\\(?:begin|end)\{[a-z]+\}", "", latex)):
        if command and command not in _NOT_NAMES and command not in known:
            return False
        if letter and letter not in known:
            return False
    return True


def _names(expression: Expression) -> Iterator[str]:
    from sympy import Basic, E, I, Set, preorder_traversal
    from sympy.core.function import AppliedUndef
    from sympy.matrices import MatrixBase

    roots = list(expression) if isinstance(expression, MatrixBase) else [expression]
    for root in roots:
        if not isinstance(root, Basic):
            continue
        for node in preorder_traversal(root):
            yield str(getattr(node, "name", ""))
            if isinstance(node, AppliedUndef):
                yield type(node).__name__
            if isinstance(node, Set) or type(node).__name__ in ("Integral", "Derivative"):
                yield "d R Z Q N C"
            yield {E: "e", I: "i"}.get(node, "") if node in (E, I) else "e" if type(node).__name__ == "exp" else ""


def _with_imaginary_unit(expression: Expression) -> Expression:
    from sympy import I, Symbol

    free = getattr(expression, "free_symbols", ())
    swapped = {symbol: I for symbol in free if isinstance(symbol, Symbol) and symbol.name == "i"}
    return expression.subs(swapped) if swapped else expression


def _as_members(reading: Reading) -> Reading:
    r"""A finite set, such as that of `\pm 3`, as a list of its members."""
    from sympy import FiniteSet

    if isinstance(reading, Value) and isinstance(reading.expression, FiniteSet) and reading.expression.args:
        members = tuple((replace(reading, expression=one, name=""),) for one in reading.expression.args)
        return Several("set", members)
    return reading

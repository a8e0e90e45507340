"""Comparison of two answers: they are equal if any reading of one equals any reading of the other; always symmetric.

Call it in a worker only (`workers`): an algebra system computes whatever an answer says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.grading.algebra import equal_expressions, is_number, is_relation
from lm_eval_ext.grading.reading import Reading, Several, Value, Words, readings
from lm_eval_ext.grading.spelling import as_text, plain_words
from lm_eval_ext.grading.units import Unit

if TYPE_CHECKING:
    from sympy import Expr

    from lm_eval_ext.grading.algebra import Expression


def warm_up() -> None:
    """Parse the usual forms once: the first time the parser sees a form takes up to 0.1 s."""
    usual = (
        r"(x-1)^2+\frac{\pi}{2}", r"\sqrt{2}-3i", "(3,5)", r"\{1,2\}\cup[0,\infty)", r"x_1=5\%", r"x \le 7^\circ",
        r"5\text{ cm}",
    )  # fmt: skip
    import math_verify  # noqa: F401  # if it is missing, fail here, where the error is reported

    for text in usual:
        if not _any_same(readings(text), readings(text)):
            raise RuntimeError(f"{text} does not equal itself")


def read(text: str) -> tuple[bool, complex | None]:
    """Whether a `normalised` answer can be read, and its value if it is a number and nothing else."""
    found = readings(text)
    plain = len(found) == 1 and isinstance(found[0], Value) and found[0] == Value(found[0].expression)
    return bool(found), _evaluated(found[0].expression) if plain else None  # type: ignore[union-attr]  # a Value


def _evaluated(expression: Expression) -> complex | None:
    if not is_number(expression):
        return None
    try:
        number = complex(expression.evalf(15))
    except (TypeError, ValueError, OverflowError):  # not a number after all, or outside the range of a float
        return None
    return number if math.isfinite(abs(number)) else None


def compared(one: str, other: str) -> bool | None:
    """Whether two `normalised` answers are equal; None if one of them cannot be read and they differ as text."""
    if same_text(one, other):
        return True
    first, second = readings(one), readings(other)
    if not first or not second:
        return None
    try:
        return _any_same(first, second)
    except (RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # sympy's errors about incomparable expressions; some of them cannot be pickled back from a worker
        raise ValueError(" ".join(str(error).split())[:200]) from None


def same_text(one: str, other: str) -> bool:
    """Whether two answers are the same words or symbols; case is ignored if one is marked as text."""
    first, second = as_text(one), as_text(other)
    marked = any(re.match(r"\\(?:text|mathrm|mbox)", text) for text in (one, other))
    words = plain_words(one), plain_words(other)
    if marked and len(first) > 1:
        first, second = first.casefold(), second.casefold()
    return first == second or (bool(words[0]) and words[0] == words[1])


def _same(one: Reading, other: Reading) -> bool:
    if isinstance(one, Value) and isinstance(other, Value):
        return _same_value(one, other)
    if isinstance(one, Several) and isinstance(other, Several):
        return _same_members(one, other)
    return isinstance(one, Words) and one == other


def _same_members(one: Several, other: Several) -> bool:
    kinds = {one.kind, other.kind}
    if kinds == {"tuple", "set"}:
        return False
    first, second = (_distinct(some.members) if _is_set(some) else some.members for some in (one, other))
    if len(first) != len(second):
        return False
    if "tuple" in kinds:
        return all(_any_same(*pair) for pair in zip(first, second, strict=True))
    left = list(second)
    for member in first:
        match = next((index for index, candidate in enumerate(left) if _any_same(member, candidate)), None)
        if match is None:
            return False
        del left[match]
    return True


def _is_set(some: Several) -> bool:
    """Whether duplicates are ignored, as in a set or a list of points."""
    points = all(isinstance(reading, Several) for member in some.members for reading in member[:1])
    return some.kind == "set" or (some.kind == "list" and points)


def _distinct(members: Sequence[tuple[Reading, ...]]) -> list[tuple[Reading, ...]]:
    found: list[tuple[Reading, ...]] = []
    for member in members:
        if not any(_any_same(member, other) for other in found):
            found.append(member)
    return found


def _any_same(one: Sequence[Reading], other: Sequence[Reading]) -> bool:
    return any(_same(left, right) for left in one for right in other)


def _same_value(one: Value, other: Value) -> bool:
    if one.name and other.name and one.name != other.name:
        return False
    if one.bare != other.bare:
        return _same_relation(*((one, other) if one.bare else (other, one)))
    if one.percent or other.percent:
        return _same_percentage(*((one, other) if one.percent else (other, one)))
    if one.unit and other.unit:
        return one.unit.dimension == other.unit.dimension and equal_expressions(_in_base(one), _in_base(other))
    return equal_expressions(one.expression, other.expression)


def _same_relation(bare: Value, whole: Value) -> bool:
    """Whether `> 12` equals `x > 12`, whatever the name."""
    from sympy import Symbol
    from sympy.core.relational import Relational

    relation = whole.expression
    if not isinstance(relation, Relational) or not isinstance(relation.lhs, Symbol):
        return False
    (name,) = bare.expression.lhs.free_symbols
    return equal_expressions(relation.subs(relation.lhs, name), bare.expression)


def _same_percentage(percentage: Value, other: Value) -> bool:
    """Whether a percentage equals a value: 50% equals 50%, 50 and 0.5."""
    if other.unit is not None:
        return False
    if other.percent:
        return equal_expressions(percentage.expression, other.expression)
    return any(
        equal_expressions(value, other.expression) for value in (percentage.expression, percentage.expression / 100)
    )


def _in_base(value: Value) -> Expression:
    """The value in base units; in a relation (`x < 7 cm`), its numbers are converted."""
    from sympy import Float, Rational
    from sympy.core.relational import Relational

    unit: Unit = value.unit  # type: ignore[assignment]  # only called for values with a unit
    slope, intercept = (Rational(part.numerator, part.denominator) for part in (unit.slope, unit.intercept))
    factor = slope if unit.exact else Float(slope, 40)

    def base(one: Expr) -> Expr:
        return one * factor + intercept

    expression = value.expression
    if not is_relation(expression):
        return base(expression)
    relations = expression.atoms(Relational)
    sides = {
        one: one.func(*(base(side) if is_number(side) else side for side in one.args), evaluate=False)
        for one in relations
    }
    return expression.xreplace(sides)

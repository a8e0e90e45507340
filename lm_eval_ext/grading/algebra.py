"""Equality of two expressions: numbers by value, everything else by Math-Verify.

Call it in a worker only (`workers`): it computes whatever an answer says.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sympy import Basic, Expr
    from sympy.matrices import MatrixBase

    Expression: TypeAlias = Basic | MatrixBase  # what an answer is parsed to

TOLERANCE = Fraction(1, 10**5)  # relative, between a rounded decimal and the exact value
_DIGITS = 40
_NEARLY_NOTHING = Fraction(1, 10**30)


def equal_expressions(one: Expression, other: Expression) -> bool:
    """Whether two sympy expressions, sets, relations or matrices are equal."""
    numbers = is_number(one), is_number(other)
    if all(numbers):
        return _equal_numbers(one, other)
    if is_relation(one) != is_relation(other) and not (_is_set(one) or _is_set(other)):
        return False
    names, others = _names(one), _names(other)
    if names != others and {name.lower() for name in names} == {name.lower() for name in others}:
        return False  # Math-Verify confuses Omega with omega, and E with e
    if _verified(one, other) or _verified(other, one):
        return True
    return not any(numbers) and _verified(*map(_with_fractions, (one, other)))


def is_number(expression: object) -> bool:
    """Whether `expression` is a single number, already evaluated or not."""
    from sympy import Expr

    return isinstance(expression, Expr) and not expression.is_Matrix and bool(expression.is_number)


def is_relation(expression: object) -> bool:
    """Whether `expression` is one or more equations or inequalities."""
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import Boolean

    return isinstance(expression, (Relational, Boolean))


def _is_set(expression: object) -> bool:
    from sympy import Set

    return isinstance(expression, Set)


def _names(expression: Expression) -> set[str]:
    from sympy import E

    constant = {"e"} if getattr(expression, "has", lambda _: False)(E) else set()
    return constant | {str(symbol) for symbol in getattr(expression, "free_symbols", ())}


def _equal_numbers(one: Expr, other: Expr) -> bool:
    """Compare exactly if both are exact, else relative to their size: pi to three decimals is not pi, to six it is."""
    from sympy import Float, simplify

    first, second = (number.doit().evalf(_DIGITS) for number in (one, other))
    if not (first.is_finite and second.is_finite):
        return bool(first == second and first.is_extended_real and first.is_infinite)
    rounded = one.has(Float) or other.has(Float)
    sizes = abs(first), abs(second)
    if not rounded and min(sizes) < _NEARLY_NOTHING:  # relative differences mean nothing near zero
        return bool(simplify(one - other) == 0)
    tolerance = TOLERANCE if rounded else Fraction(1, 10 ** (_DIGITS // 2))
    return bool(abs(first - second) <= max(sizes) * tolerance)


def _with_fractions(expression: Expression) -> Expression:
    """Decimals as fractions: in a relation or an interval, Math-Verify takes 0.1 + 0.2 for another number than 0.3."""
    from sympy import Float, Rational

    found: Expression = expression.xreplace(
        {one: Rational(str(one)) for one in expression.atoms(Float) if one.is_finite}
    )
    return found


def _verified(gold: Expression, answer: Expression) -> bool:
    """Math-Verify's verdict, which depends on the form of the answer it takes as gold."""
    from math_verify import verify

    # The worker this runs in is killed from outside, so Math-Verify's own timeouts are off.
    return bool(verify(gold, answer, timeout_seconds=None, allow_set_relation_comp=True))

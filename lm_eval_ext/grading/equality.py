r"""Equality of what was read: numbers exactly, or to five digits if they are rounded; formulas as functions.

Two exact numbers are equal if their residues are equal for several primes, or if sympy shows it; two formulas if they
are equal at random points, where analytic functions that differ do so with certainty. Formulas with absolute values and
the like are also tried far out, where another of their pieces holds. What is not decided is `Undecided`.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import TYPE_CHECKING, Any

from lm_eval_ext.grading.values import TIME, Numbers, Reading, Relation, Several, Value, Words

if TYPE_CHECKING:
    from sympy import Expr

TOLERANCE = Fraction(1, 10**5)  # relative, between a rounded decimal and the exact value
_DIGITS = 50
_POINTS = ((1, 1), (1, 1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # signs of the variables at random points
_FAR = 10  # times the largest number in a formula: beyond what it distinguishes, such as 10 in `|x-10|`
_PRIMES = (2305843009213693951, 2305843009213693921, 2305843009213693907)  # the largest of 61 bits


class Undecided(Exception):  # no error: an answer of its own
    """Whether two values are equal was neither shown nor refuted."""


def same(one: Reading, other: Reading) -> bool:
    """Whether two readings say the same.

    Raises:
        Undecided: it is not known.
    """
    if isinstance(one, Value) and isinstance(other, Value):
        return _same_value(one, other)
    if isinstance(one, Several) and isinstance(other, Several):
        return _same_members(one, other)
    if isinstance(one, Relation) and isinstance(other, Relation):
        return _same_relation(one, other)
    if isinstance(one, Numbers) and isinstance(other, Numbers):
        return not (one.name and other.name and one.name != other.name) and _same_numbers(one.values, other.values)
    for ratio, value in ((one, other), (other, one)):
        if isinstance(ratio, Several) and ratio.kind == "ratio" and isinstance(value, Value):
            return _same_ratio_and_value(ratio, value)
    return isinstance(one, Words) and isinstance(other, Words) and one.text == other.text


def any_same(one: Sequence[Reading], other: Sequence[Reading]) -> bool:
    """Whether any reading of an answer says the same as any of another.

    Raises:
        Undecided: none does, as far as that is known.
    """
    undecided = False
    for left in one:
        for right in other:
            try:
                if same(left, right):
                    return True
            except Undecided:
                undecided = True
    if undecided:
        raise Undecided
    return False


# Values -----------------------------------------------------------------------------------------------


def _same_value(one: Value, other: Value) -> bool:
    if one.name and other.name and one.name != other.name:
        return _same_function(one, other)
    if one.percent or other.percent:
        return _same_percentage(*((one, other) if one.percent else (other, one)))
    if one.unit and other.unit and one.unit.dimension and other.unit.dimension:
        return one.unit.dimension == other.unit.dimension and _equal(_in_base(one), _in_base(other))
    if "time of day" in (one.unit and one.unit.dimension, other.unit and other.unit.dimension):
        return False
    for angle, plain in ((one, other), (other, one)):
        if (
            angle.unit
            and angle.unit.dimension.startswith("radian")
            and not plain.unit
            and _equal(_in_base(angle), plain)
        ):
            return True
    return _equal(one, other)


def _same_function(one: Value, other: Value) -> bool:
    """Whether two functions are the same but for the name of their variable: `f(x) = 2x` and `f(t) = 2t`."""
    from sympy import Symbol

    (name, variable), (others, another) = (part.name.rstrip(")").partition("(")[::2] for part in (one, other))
    if name != others or not (variable and another):
        return False
    renamed = other.expression.subs(Symbol(another), Symbol(variable))
    return Symbol(variable) not in other.expression.free_symbols and _equal(one, replace(other, expression=renamed))


def _same_percentage(percentage: Value, other: Value) -> bool:
    """Whether a percentage equals a value: 50% equals 50%, 50 and 0.5."""
    if other.unit is not None:
        return False
    if other.percent:
        return _equal(percentage, other)
    return any(
        _equal(replace(percentage, expression=one), other)
        for one in (percentage.expression, percentage.expression / 100)
    )


def _in_base(value: Value) -> Value:
    from sympy import Float, Rational, pi

    unit: Any = value.unit
    slope, intercept = (Rational(part.numerator, part.denominator) for part in (unit.slope, unit.intercept))
    if unit.dimension.startswith("radian") and not unit.exact:
        turns = round(float(unit.slope) * 180 / 3.141592653589793, 9)
        slope = pi / 180 * Rational(str(turns))
    elif not unit.exact:
        slope = Float(slope, 40)
    return replace(value, expression=value.expression * slope + intercept, rounded=value.rounded or not unit.exact)


def _equal(one: Value, other: Value) -> bool:
    first, second = one.expression, other.expression
    if first == second:
        return True
    if first.free_symbols or second.free_symbols:
        alike = _identical(first, second)
        return _verified(first, second) if alike is None else alike or _same_family(first, second)
    if (
        first.is_Rational
        and second.is_Rational
        and all(value.rounded or value.expression.is_Integer for value in (one, other))
    ):
        return False  # two decimals or whole numbers that differ, of which none is rounded to the other
    return equal_numbers(first, second, rounded=one.rounded or other.rounded)


def _same_family(one: Expr, other: Expr) -> bool:
    r"""Whether two families of angles are the same but for the name of their whole number: `k\pi` and `n\pi`."""
    from sympy import Symbol, pi

    names = [[str(name) for name in part.free_symbols] for part in (one, other)]
    if [len(some) for some in names] != [1, 1] or not all(some[0] in "nkm" for some in names):
        return False
    if names[0] == names[1] or not (one.has(pi) and other.has(pi)):
        return False
    return True is _identical(one, other.subs(Symbol(names[1][0]), Symbol(names[0][0])))


def equal_numbers(one: Expr, other: Expr, *, rounded: bool) -> bool:
    """Whether two numbers are equal: exactly, or to five digits if one of them is rounded.

    Raises:
        Undecided: it is not known.
    """
    from sympy import nan, oo, zoo

    special = {oo, -oo, zoo, nan}
    if one in special or other in special:
        return one == other and one is not nan
    if not rounded and (exact := _equal_residues(one, other)) is not None:
        return exact
    first, second = (number.evalf(_DIGITS) for number in (one, other))
    if not (first.is_number and second.is_number) or not (first.is_finite and second.is_finite):
        raise Undecided
    size = max(abs(first), abs(second))
    difference = abs(first - second)
    if rounded:
        return bool(difference <= size * TOLERANCE.numerator / TOLERANCE.denominator)
    if difference > size * 10 ** -(_DIGITS - 10):
        return False
    shown = (one - other).equals(0)
    if shown is None:
        raise Undecided
    return bool(shown)


def _equal_residues(one: Expr, other: Expr) -> bool | None:
    """Whether two rational numbers have the same residues for all primes; None if one is not known to be rational."""
    try:
        return all(_residue(one, prime) == _residue(other, prime) for prime in _PRIMES)
    except (ValueError, ZeroDivisionError):
        return None


def _residue(number: Any, prime: int) -> int:  # noqa: PLR0911  # one for each kind
    """A rational number modulo a prime, without computing it; exponents are taken modulo what repeats.

    Raises:
        ValueError: it is not known to be rational, or its parts are too large.
    """
    from sympy import Add, Integer, Mul, Pow, Rational, binomial, factorial

    match number:
        case Integer():
            return int(number) % prime
        case Rational():
            return int(number.p) * pow(int(number.q), -1, prime) % prime
        case Add():
            return sum(_residue(part, prime) for part in number.args) % prime
        case Mul():
            product = 1
            for part in number.args:
                product = product * _residue(part, prime) % prime
            return product
        case Pow() if number.exp.is_integer and number.exp.is_number:
            base, exponent = _residue(number.base, prime), _whole(number.exp, prime - 1)
            if not base:
                raise ValueError("a power of zero, of which the exponent is not known")
            return pow(base, exponent, prime)
        case factorial() if isinstance(number.args[0], Integer) and 0 <= number.args[0] <= 10**6:
            product = 1
            for part in range(2, int(number.args[0]) + 1):
                product = product * part % prime
            return product
        case binomial() if all(isinstance(part, Integer) and 0 <= part <= 10**6 for part in number.args):
            above, below = number.args
            parts = (_residue(factorial(part, evaluate=False), prime) for part in (above, below, above - below))
            top, first, second = parts
            return top * pow(first * second, -1, prime) % prime
    raise ValueError("not known to be rational")


def _whole(number: Any, modulus: int) -> int:
    """A whole number modulo another that is not a prime: sums, products and powers of whole numbers."""
    from sympy import Add, Integer, Mul, Pow

    match number:
        case Integer():
            return int(number) % modulus
        case Add():
            return sum(_whole(part, modulus) for part in number.args) % modulus
        case Mul() if all(part.is_integer for part in number.args):
            product = 1
            for part in number.args:
                product = product * _whole(part, modulus) % modulus
            return product
        case Pow() if isinstance(number.base, Integer) and isinstance(number.exp, Integer) and number.exp >= 0:
            return pow(int(number.base), int(number.exp), modulus)
    raise ValueError("not a whole number")


def _verified(one: Any, other: Any) -> bool:
    """Math-Verify's verdict on what has no value at random points, such as sets of symbols."""
    from math_verify import verify

    # The worker this runs in is killed from outside, so Math-Verify's own timeouts are off.
    return bool(verify(one, other, timeout_seconds=None)) and bool(verify(other, one, timeout_seconds=None))


def _identical(one: Expr, other: Expr) -> bool | None:
    """Whether two formulas have the same values at random points, where both are real; None if they have none."""
    checked = 0
    for first, second, positive in _at_points((one, other)):
        if first is None or second is None:
            continue
        if not positive and (abs(first.imag) > _NOTHING or abs(second.imag) > _NOTHING):
            continue
        if abs(first - second) > _NEARLY * max(1, abs(first), abs(second)):
            return False
        checked += 1
    return True if checked > 1 else None  # one point may be a zero of both


_NEARLY = 1e-25
_NOTHING = 1e-30


def _at_points(some: Sequence[Expr]) -> Any:
    """Values of formulas at random points, and whether all variables are positive there; None where there is none."""
    import mpmath
    from sympy import lambdify

    names = sorted(set().union(*(one.free_symbols for one in some)), key=str)
    scales = [1, *(_far_out(some) if any(map(_is_in_pieces, some)) else ())]
    called = [lambdify(names, one, "mpmath") for one in some]
    generator = random.Random(11)
    with mpmath.workdps(60):
        for scale, signs in product(scales, _POINTS):
            point = [mpmath.mpf(generator.randint(200, 3000)) / 997 * signs[at % 2] * scale for at in range(len(names))]
            yield (*(_value(one, point) for one in called), min(signs) > 0)


def _is_in_pieces(formula: Expr) -> bool:
    """Whether a formula may be one function here and another there."""
    from sympy import Abs, Max, Min, Pow, ceiling, floor, sign

    return formula.has(Abs, Max, Min, ceiling, floor, sign) or any(
        part.exp.is_Rational and not part.exp.is_Integer for part in formula.atoms(Pow)
    )


def _far_out(some: Sequence[Expr]) -> tuple[Any, Any]:
    """Scales of points among the numbers in some formulas, and beyond all of them."""
    from sympy import Rational

    largest = max((abs(number) for one in some for number in one.atoms(Rational)), default=1)
    return largest, max(1, largest) * _FAR


def _value(called: Any, point: Any) -> Any:
    import mpmath

    try:
        value = mpmath.mpmathify(called(*point))
        return value if mpmath.isfinite(value) else None
    except (ValueError, TypeError, ZeroDivisionError, OverflowError, NotImplementedError, AttributeError, NameError):
        return None


# Relations and sets -----------------------------------------------------------------------------------


def _same_relation(one: Relation, other: Relation) -> bool:
    if one.sign != other.sign or (one.modulus is None) != (other.modulus is None):
        return False
    if one.modulus is not None and other.modulus is not None:
        return _same_congruence(one, other)
    first, second = (part.left - part.right for part in (one, other))
    if first == second:
        return True
    if one.sign in ("=", "≠"):
        from sympy import together

        first, second = (together(part).as_numer_denom()[0] for part in (first, second))
    if first.free_symbols != second.free_symbols or not first.free_symbols:
        return False
    ratios = []
    for left, right, _ in _at_points((first, second)):
        if left is not None and right is not None and abs(right) > _NOTHING:
            ratios.append(left / right)
    if len(ratios) < 3 or not abs(ratios[0]) > _NOTHING:  # enough to be no chance
        return False
    constant = all(abs(ratio - ratios[0]) <= _NEARLY * abs(ratios[0]) for ratio in ratios)
    return constant and (one.sign in ("=", "≠") or (ratios[0].imag == 0 and ratios[0].real > 0))


def _same_congruence(one: Relation, other: Relation) -> bool:
    moduli = one.modulus, other.modulus
    if not (moduli[0].is_Integer and moduli[0] == moduli[1] and _identical(one.left, other.left)):  # type: ignore[union-attr]
        return False
    difference = one.right - other.right
    return bool(difference.is_Integer and difference % moduli[0] == 0)


def _same_numbers(one: Any, other: Any) -> bool:
    if one == other:
        return True
    first, second = _pieces(one), _pieces(other)
    if first is None or second is None:
        return _verified(one, other)
    return len(first) == len(second) and all(
        left[2:] == right[2:]
        and all(equal_numbers(*pair, rounded=False) for pair in zip(left[:2], right[:2], strict=True))
        for left, right in zip(first, second, strict=True)
    )


def _pieces(values: Any) -> list[tuple[Any, Any, bool, bool]] | None:
    """The intervals of a set, from left to right; None if it is made up of anything else."""
    from sympy import FiniteSet, Interval, Union

    parts = values.args if isinstance(values, Union) else (values,)
    found: list[tuple[Any, Any, bool, bool]] = []
    for part in parts:
        if isinstance(part, Interval):
            found.append((part.start, part.end, bool(part.left_open), bool(part.right_open)))
        elif isinstance(part, FiniteSet):
            found += [(point, point, False, False) for point in part.args]
        else:
            return None
    return sorted(found, key=lambda piece: float(piece[0]))


# Several ----------------------------------------------------------------------------------------------


def _same_members(one: Several, other: Several) -> bool:
    kinds = {one.kind, other.kind}
    if kinds == {"ratio"}:
        return _same_ratio(one, other)
    ordered = kinds & {"tuple", "interval", "matrix"}
    if (
        (kinds == {"list"} and {one.form, other.form} == {"and", "or"})
        or (ordered and "set" in kinds)
        or (len(kinds) > 1 and kinds & {"interval", "matrix", "ratio"})
        or (kinds != {"list"} and len(kinds) == 1 and one.form != other.form)
    ):
        return False
    first, second = list(_ordered(one)), list(_ordered(other))
    if not ordered:
        first, second = (_unique(some.members) if _is_set(some) else list(some.members) for some in (one, other))
    if len(first) != len(second):
        return False
    if ordered:
        return all(any_same(*pair) for pair in zip(first, second, strict=True))
    left = list(second)
    for member in first:
        match = next((at for at, candidate in enumerate(left) if any_same(member, candidate)), None)
        if match is None:
            return False
        del left[match]
    return True


def _ordered(some: Several) -> tuple[tuple[Reading, ...], ...]:
    """The members of a tuple in the order of the variables that they are assigned to: of `(y,x)=(1,2)`, 2 is first."""
    names = some.name.strip("()").split(",") if some.name.startswith("(") else []
    if len(names) != len(some.members) or len(set(names)) != len(names):
        return some.members
    return tuple(member for _, member in sorted(zip(names, some.members, strict=True), key=lambda pair: pair[0]))


def _is_set(some: Several) -> bool:
    """Whether duplicates are ignored, as in a set or a list of points."""
    points = all(isinstance(reading, Several) for member in some.members for reading in member[:1])
    return some.kind in ("set", "system") or (some.kind == "list" and points)


def _unique(members: Sequence[tuple[Reading, ...]]) -> list[tuple[Reading, ...]]:
    found: list[tuple[Reading, ...]] = []
    for member in members:
        if not any(any_same(member, other) for other in found):
            found.append(member)
    return found


def _same_ratio(one: Several, other: Several) -> bool:
    """Whether two ratios are the same up to a factor."""
    if len(one.members) != len(other.members) or one.form == other.form == TIME:
        return False  # times are values, of which there is another reading
    first, second = ([member[0] for member in some.members] for some in (one, other))
    return all(
        _equal(_times(first[0], theirs), _times(second[0], ours)) for ours, theirs in zip(first, second, strict=True)
    )


def _times(one: Any, other: Any) -> Value:
    return Value(one.expression * other.expression, one.rounded or other.rounded)


def _same_ratio_and_value(ratio: Several, value: Value) -> bool:
    if len(ratio.members) != 2 or value.unit or value.percent:  # of two numbers
        return False
    above, below = (member[0] for member in ratio.members)
    if not (isinstance(above, Value) and isinstance(below, Value)) or below.expression == 0:
        return False
    return _equal(replace(value, name=""), replace(above, expression=above.expression / below.expression))

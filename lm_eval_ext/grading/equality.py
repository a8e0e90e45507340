r"""What an answer may say, and when two answers say the same.

Numbers are equal exactly, or to five digits if they are rounded: exact ones if their residues are equal for several
primes, or if sympy shows it. Formulas are equal if they are at random points, where analytic functions that differ do
so with certainty; those with absolute values and the like are also tried far out, where another of their pieces holds.
What is not decided is `Undecided`.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sympy import Expr, Set

TOLERANCE = Fraction(1, 10**5)  # relative, between a rounded decimal and the exact value
_DIGITS = 50
_POINTS = ((1, 1), (1, 1), (1, 1), (-1, 1), (1, -1), (-1, -1))  # signs of the variables at random points
_FAR = 10  # times the largest number in a formula: beyond what it distinguishes, such as 10 in `|x-10|`
_PRIMES = (2305843009213693951, 2305843009213693921, 2305843009213693907)  # the largest of 61 bits
_NEARLY, _NOTHING = 1e-25, 1e-30  # relative and absolute differences of what is equal
_LARGEST_FACTORIAL = 10**6


@dataclass(frozen=True)
class Unit:
    """A unit as a conversion to base units: `slope` * value + `intercept`.

    Attributes:
        dimension: what it measures, such as `[length]^1`; for a counted noun, the noun.
        exact: whether the conversion is exact; degrees go through a rounded pi.
    """

    dimension: str
    slope: Fraction = Fraction(1)
    intercept: Fraction = Fraction(0)
    exact: bool = True


@dataclass(frozen=True)
class Value:
    """One value.

    Attributes:
        expression: the sympy expression.
        rounded: whether it has decimals, which may be rounded.
        unit: its unit.
        percent: whether it is a percentage.
        name: the variable it is assigned to, such as `x` in `x = 5`, or `f(x)`.
    """

    expression: Expr
    rounded: bool = False
    unit: Unit | None = None
    percent: bool = False
    name: str = ""


@dataclass(frozen=True)
class Relation:
    """`left` and `right` in a relation: `=`, `<`, `≤`, `≠`, or `≡` modulo a number."""

    sign: str
    left: Expr
    right: Expr
    modulus: Expr | None = None


@dataclass(frozen=True)
class Numbers:
    """A set of real numbers, and the variable that is in it."""

    values: Set
    name: str = ""


@dataclass(frozen=True)
class Words:
    """An answer in words, not mathematics; `mixed` if there are numbers or signs among them, which were not read."""

    text: str
    mixed: bool = False


TIME = "time"


@dataclass(frozen=True)
class Several:
    """Several members, each with all its readings: in order (`tuple`, `ratio`, ...), a `set` or `system`, or a `list`.

    Attributes:
        kind: what they make up.
        members: all readings of each.
        form: the brackets of an interval, the number of columns of a matrix, `and` or `or` between the members of a
            list, or `TIME` for a ratio that may be a time.
        name: the variables that a tuple is assigned to.
    """

    kind: Literal["tuple", "set", "list", "ratio", "interval", "matrix", "system"]
    members: tuple[tuple[Reading, ...], ...]
    form: str = ""
    name: str = ""


Reading = Value | Relation | Numbers | Words | Several


class Undecided(Exception):  # no error: an answer of its own
    """Whether two values are equal was neither shown nor refuted."""


def same(one: Reading, other: Reading) -> bool:
    """Whether two readings say the same.

    Raises:
        Undecided: it is not known.
    """
    match one, other:
        case Value(), Value():
            return _same_value(one, other)
        case Several(kind="ratio"), Value():
            return _same_ratio_and_value(one, other)
        case Value(), Several(kind="ratio"):
            return _same_ratio_and_value(other, one)
        case Several(), Several():
            return _same_members(one, other)
        case Relation(), Relation():
            return _same_relation(one, other)
        case Numbers(), Numbers():
            return not (one.name and other.name and one.name != other.name) and _same_numbers(one.values, other.values)
        case Words(), Words():
            return one.text == other.text
    return False


def any_same(one: Sequence[Reading], other: Sequence[Reading]) -> bool:
    """Whether any reading of an answer says the same as any of another.

    Raises:
        Undecided: none does, as far as that is known.
    """
    undecided = False
    for pair in product(one, other):
        try:
            if same(*pair):
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
    if one.percent or other.percent:  # 50% equals 50%, 50 and 0.5
        if one.percent and other.percent:
            return _equal(one, other)
        share, plain = (one, other) if one.percent else (other, one)
        values = share.expression, share.expression / 100
        return plain.unit is None and any(_equal(replace(share, expression=value), plain) for value in values)
    dimensions = [value.unit.dimension if value.unit else "" for value in (one, other)]
    if all(dimensions):
        return dimensions[0] == dimensions[1] and _equal(_in_base(one), _in_base(other))
    if "time of day" in dimensions:
        return False
    angle, plain = (one, other) if dimensions[0] else (other, one)
    if angle.unit and angle.unit.dimension.startswith("radian") and not plain.unit and _equal(_in_base(angle), plain):
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


def _in_base(value: Value) -> Value:
    from sympy import Float, Rational, pi

    unit: Any = value.unit
    slope, intercept = (Rational(part.numerator, part.denominator) for part in (unit.slope, unit.intercept))
    if unit.dimension.startswith("radian") and not unit.exact:
        slope = pi / 180 * Rational(str(round(float(unit.slope) * 180 / 3.141592653589793, 9)))
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
    if all(part.expression.is_Rational and (part.rounded or part.expression.is_Integer) for part in (one, other)):
        return False  # two decimals or whole numbers that differ, of which none is rounded to the other
    return equal_numbers(first, second, rounded=one.rounded or other.rounded)


def _same_family(one: Expr, other: Expr) -> bool:
    r"""Whether two families of angles are the same but for the name of their whole number: `k\pi` and `n\pi`."""
    from sympy import pi

    names = sorted(one.free_symbols | other.free_symbols, key=str)
    if len(one.free_symbols) != 1 or len(other.free_symbols) != 1 or len(names) == 1:
        return False
    families = all(str(name) in "nkm" for name in names) and one.has(pi) and other.has(pi)
    return families and _identical(one.subs(names[0], names[1]), other.subs(names[0], names[1])) is True


def equal_numbers(one: Expr, other: Expr, *, rounded: bool) -> bool:
    """Whether two numbers are equal: exactly, or to five digits if one of them is rounded.

    Raises:
        Undecided: it is not known.
    """
    from sympy import nan, oo, zoo

    special = {oo, -oo, zoo, nan}
    if one in special or other in special:
        return one == other and one is not nan
    if not rounded:
        try:
            return all(_residue(one, prime) == _residue(other, prime) for prime in _PRIMES)
        except (ValueError, ZeroDivisionError):
            pass  # not known to be rational
    first, second = (number.evalf(_DIGITS) for number in (one, other))
    if not (first.is_number and second.is_number) or not (first.is_finite and second.is_finite):
        raise Undecided
    size, difference = max(abs(first), abs(second)), abs(first - second)
    if rounded:
        return bool(difference <= size * TOLERANCE.numerator / TOLERANCE.denominator)
    if difference > size * 10 ** -(_DIGITS - 10):
        return False
    shown = (one - other).equals(0)
    if shown is None:
        raise Undecided
    return bool(shown)


def _residue(number: Any, modulus: int, *, prime: bool = True) -> int:  # one for each kind
    """A rational number modulo a prime, or a whole one modulo any number, without computing it.

    Exponents are taken modulo what repeats.

    Raises:
        ValueError: it is not known to be rational, or its parts are too large.
    """
    from sympy import Add, Integer, Mul, Pow, Rational, binomial, factorial

    match number:
        case Integer():
            return int(number) % modulus
        case Rational() if prime:
            return int(number.p) * pow(int(number.q), -1, modulus) % modulus
        case Add():
            return sum(_residue(part, modulus, prime=prime) for part in number.args) % modulus
        case Mul() if prime or all(part.is_integer for part in number.args):
            return prod(_residue(part, modulus, prime=prime) for part in number.args) % modulus
        case Pow() if prime and number.exp.is_integer and number.exp.is_number:
            base = _residue(number.base, modulus)
            if not base:
                raise ValueError("a power of zero, of which the exponent is not known")
            return pow(base, _residue(number.exp, modulus - 1, prime=False), modulus)
        case Pow() if isinstance(number.base, Integer) and isinstance(number.exp, Integer) and number.exp >= 0:
            return pow(int(number.base), int(number.exp), modulus)
        case factorial() if prime and isinstance(number.args[0], Integer) and 0 <= number.args[0] <= _LARGEST_FACTORIAL:
            found = 1
            for part in range(2, int(number.args[0]) + 1):
                found = found * part % modulus
            return found
        case binomial() if prime and all(isinstance(part, Integer) and part >= 0 for part in number.args):
            above, below = number.args
            top, *under = (_residue(factorial(part, evaluate=False), modulus) for part in (above, below, above - below))
            return top * pow(prod(under), -1, modulus) % modulus
    raise ValueError("not known to be rational")


def _verified(one: Any, other: Any) -> bool:
    """Math-Verify's verdict on what has no value at random points, such as sets of symbols."""
    from math_verify import verify

    # The worker this runs in is killed from outside, so Math-Verify's own timeouts are off.
    return bool(verify(one, other, timeout_seconds=None)) and bool(verify(other, one, timeout_seconds=None))


def _identical(one: Expr, other: Expr) -> bool | None:
    """Whether two formulas have the same values at random points, where both are real; None if they have none."""
    checked = 0
    for first, second, positive in _at_points(one, other):
        if not positive and (abs(first.imag) > _NOTHING or abs(second.imag) > _NOTHING):
            continue
        if abs(first - second) > _NEARLY * max(1, abs(first), abs(second)):
            return False
        checked += 1
    return True if checked > 1 else None  # one point may be a zero of both


def _at_points(*some: Expr) -> Iterator[tuple[Any, Any, bool]]:
    """Values of two formulas at random points where they have some, and whether all variables are positive there."""
    import mpmath
    from sympy import Rational, lambdify

    names = sorted(set().union(*(one.free_symbols for one in some)), key=str)
    largest = max((1, *(abs(number) for one in some for number in one.atoms(Rational))))
    scales = [1, largest, largest * _FAR] if any(map(_is_in_pieces, some)) else [1]
    called = [lambdify(names, one, "mpmath") for one in some]
    generator = random.Random(11)
    with mpmath.workdps(60):
        for scale, signs in product(scales, _POINTS):
            point = [mpmath.mpf(generator.randint(200, 3000)) / 997 * signs[at % 2] * scale for at in range(len(names))]
            try:
                first, second = (mpmath.mpmathify(one(*point)) for one in called)
            except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError, NameError):
                continue
            if mpmath.isfinite(first) and mpmath.isfinite(second):
                yield first, second, min(signs) > 0


def _is_in_pieces(formula: Expr) -> bool:
    """Whether a formula may be one function here and another there."""
    from sympy import Abs, Max, Min, Pow, ceiling, floor, sign

    roots = any(part.exp.is_Rational and not part.exp.is_Integer for part in formula.atoms(Pow))
    return roots or formula.has(Abs, Max, Min, ceiling, floor, sign)


# Relations and sets -----------------------------------------------------------------------------------


def _same_relation(one: Relation, other: Relation) -> bool:
    """Whether two equations, or inequalities, are the same up to a factor, or two congruences modulo the number."""
    if one.sign != other.sign or one.modulus != other.modulus:
        return False
    if one.modulus is not None:
        difference = one.right - other.right
        alike = one.modulus.is_Integer and difference.is_Integer and difference % one.modulus == 0
        return bool(alike and _identical(one.left, other.left))
    first, second = (part.left - part.right for part in (one, other))
    if first == second:
        return True
    equation = one.sign in ("=", "≠")
    if equation:
        from sympy import together

        first, second = (together(part).as_numer_denom()[0] for part in (first, second))
    if first.free_symbols != second.free_symbols or not first.free_symbols:
        return False
    ratios = [left / right for left, right, _ in _at_points(first, second) if abs(right) > _NOTHING]
    if len(ratios) < 3 or not abs(ratios[0]) > _NOTHING:  # enough to be no chance
        return False
    constant = all(abs(ratio - ratios[0]) <= _NEARLY * abs(ratios[0]) for ratio in ratios)
    return constant and (equation or (ratios[0].imag == 0 and ratios[0].real > 0))


def _same_numbers(one: Any, other: Any) -> bool:
    if one == other:
        return True
    first, second = _pieces(one), _pieces(other)
    if first is None or second is None:
        return _verified(one, other)
    return len(first) == len(second) and all(
        left[2:] == right[2:]
        and equal_numbers(left[0], right[0], rounded=False)
        and equal_numbers(left[1], right[1], rounded=False)
        for left, right in zip(first, second, strict=True)
    )


def _pieces(values: Any) -> list[tuple[Any, Any, bool, bool]] | None:
    """The intervals of a set, from left to right; None if it is made up of anything else."""
    from sympy import FiniteSet, Interval, Union

    found: list[tuple[Any, Any, bool, bool]] = []
    for part in values.args if isinstance(values, Union) else (values,):
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
    if len(kinds) == 1:
        if {one.form, other.form} == {"and", "or"} if kinds == {"list"} else one.form != other.form:
            return False
    elif kinds & {"interval", "matrix", "ratio"} or (ordered and "set" in kinds):
        return False
    if ordered:
        first, second = _ordered(one), _ordered(other)
        return len(first) == len(second) and all(any_same(*pair) for pair in zip(first, second, strict=True))
    first, second = (_unique(some.members) if _is_set(some) else list(some.members) for some in (one, other))
    if len(first) != len(second):
        return False
    for member in first:
        match = next((at for at, candidate in enumerate(second) if any_same(member, candidate)), None)
        if match is None:
            return False
        del second[match]
    return True


def _ordered(some: Several) -> Sequence[tuple[Reading, ...]]:
    """The members of a tuple in the order of the variables that they are assigned to: of `(y,x)=(1,2)`, 2 is first."""
    names = some.name.strip("()").split(",") if some.name.startswith("(") else []
    if len(names) != len(some.members) or len(set(names)) != len(names):
        return some.members
    return [member for _, member in sorted(zip(names, some.members, strict=True), key=lambda pair: pair[0])]


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
    products = (((first[0], theirs), (second[0], ours)) for ours, theirs in zip(first, second, strict=True))
    return all(_equal(_times(*left), _times(*right)) for left, right in products)


def _times(one: Any, other: Any) -> Value:
    return Value(one.expression * other.expression, one.rounded or other.rounded)


def _same_ratio_and_value(ratio: Several, value: Value) -> bool:
    if len(ratio.members) != 2 or value.unit or value.percent:
        return False
    above, below = (member[0] for member in ratio.members)
    if not (isinstance(above, Value) and isinstance(below, Value)) or below.expression == 0:
        return False
    return _equal(replace(value, name=""), replace(above, expression=above.expression / below.expression))

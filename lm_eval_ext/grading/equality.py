r"""What an answer may say, and when two answers say the same.

Numbers are equal exactly, or to five digits if they are rounded: exact ones if their residues are equal for several
primes, or if sympy shows it. Formulas are equal if they are at random points, where analytic functions that differ do
so with certainty; those with absolute values and the like are also tried far out, where another of their pieces holds.
What is not decided is `Undecided`.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import permutations, product
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from lm_eval_ext.grading.formula import ANY_REAL, ANY_WHOLE

if TYPE_CHECKING:
    from sympy import Expr, Set

TOLERANCE = Fraction(1, 10**5)  # relative, between a rounded decimal and the exact value
ANGLE = "radian^1"  # the dimension of angles
_CONSTANTS = ("A", "B", "C", "K", "c", "k", *(f"{letter}_{number}" for letter in "CcAk" for number in range(4)))
_MOST_CONSTANTS = 3
_DIGITS = 50
_USUAL_DIGITS, _MOST_DIGITS, _NOISE = 60, 3_000, 15  # of values at points; the last ones are noise
_WHOLE_POINTS, _FURTHER_POINTS = 130, 12
_FAR = 10  # times the largest number in a formula: beyond what it distinguishes, such as 10 in `|x-10|`
_PRIMES = (2305843009213693951, 2305843009213693921, 2305843009213693907)  # the largest of 61 bits
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
        case Numbers(), Several(kind="set"):
            return _same_set(one, other)
        case Several(kind="set"), Numbers():
            return _same_set(other, one)
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
    if one.name and other.name and one.name != other.name and not _are_one_name(one.name, other.name):
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
    if angle.unit and angle.unit.dimension == ANGLE and not plain.unit and _equal(_in_base(angle), plain):
        return True
    return _equal(one, other)


def _are_one_name(one: str, other: str) -> bool:
    """Whether two names are alike, as `y` and `y(t)` are; `y(0)` is a value and not the function."""
    short, long = sorted((one, other), key=len)
    return one == other != "" or (len(short) == 1 and re.fullmatch(rf"{re.escape(short)}\([a-z]\)", long) is not None)


def _same_function(one: Value, other: Value) -> bool:
    """Whether two functions are the same but for the name of their variable: `f(x) = 2x` and `f(t) = 2t`."""
    from sympy import Symbol

    (name, variable), (others, another) = (part.name.rstrip(")").partition("(")[::2] for part in (one, other))
    if name != others or not all(len(letter) == 1 and letter.islower() for letter in (variable, another)):
        return False
    renamed = other.expression.subs(Symbol(another), Symbol(variable))
    return Symbol(variable) not in other.expression.free_symbols and _equal(one, replace(other, expression=renamed))


def _in_base(value: Value) -> Value:
    from sympy import Float, Rational, pi

    unit: Any = value.unit
    slope, intercept = (Rational(part.numerator, part.denominator) for part in (unit.slope, unit.intercept))
    if unit.dimension == ANGLE and not unit.exact:
        slope = pi / 180 * Rational(str(round(float(unit.slope) * 180 / 3.141592653589793, 9)))
    elif not unit.exact:
        slope = Float(slope, 40)
    return replace(value, expression=value.expression * slope + intercept, rounded=value.rounded or not unit.exact)


def _equal(one: Value, other: Value) -> bool:
    first, second = one.expression, other.expression
    if first == second:
        return True
    if _varies(first) or _varies(second):
        alike = _identical(first, second)
        alike = _verified(first, second) if alike is None else alike
        return (
            alike
            or _same_family(first, second)
            or (_are_one_name(one.name, other.name) and _same_solution(first, second))
            or (not (one.name or other.name) and _same_antiderivative(first, second))
        )
    if all(part.expression.is_Rational and (part.rounded or part.expression.is_Integer) for part in (one, other)):
        return False  # two decimals or whole numbers that differ, of which none is rounded to the other
    return equal_numbers(first, second, rounded=one.rounded or other.rounded)


def _varies(expression: Expr) -> bool:
    """Whether an expression has variables or functions of which nothing is known."""
    from sympy.core.function import AppliedUndef

    return bool(expression.free_symbols or expression.atoms(AppliedUndef))


def _same_family(one: Expr, other: Expr) -> bool:
    r"""Whether two families are the same but for the name of their parameter: `k\pi` and `n\pi`, `3k+1` and `3m-2`."""
    from sympy import Symbol

    for part, named in ((one, other), (other, one)):
        new = [
            name for name in named.free_symbols - part.free_symbols if len(str(name)) == 1 and str(name) != ANY_WHOLE
        ]
        if ANY_REAL in map(str, part.free_symbols - named.free_symbols) and len(new) == 1:
            return _identical(part, named.subs(new[0], Symbol(ANY_REAL))) is True
    if not any(_parameter(part) for part in (one, other)):
        return False
    families = [_family(part) for part in (one, other)]
    return None not in families and _identical(*families) is True


def _parameter(family: Expr) -> Any:
    """The parameter of a family: one that was said to be any whole number, or `k` in a family of angles."""
    from sympy import pi

    (name, *others) = family.free_symbols or [None]
    if others or (str(name) != ANY_WHOLE and not (str(name) in "nkm" and family.has(pi))):
        return None
    return name


def _family(family: Expr) -> Expr | None:
    """A family with a parameter of a fixed name, that counts up from the smallest offset; None if it is none."""
    from sympy import Abs, Symbol, floor

    if len(family.free_symbols) != 1 or (not _parameter(family) and str(*family.free_symbols) not in "knmtj"):
        return None
    (name,) = family.free_symbols
    offset, parameter = family.subs(name, 0), Symbol(ANY_WHOLE)
    slope = (family.subs(name, 1) - offset).expand()
    if not slope or not slope.is_extended_real or (family - offset - slope * name).expand() != 0:
        return family.subs(name, parameter)
    step = Abs(slope)
    return (offset - step * floor(offset / step) if offset.is_extended_real else offset) + step * parameter


def _same_solution(one: Expr, other: Expr) -> bool:
    """Whether two solutions of a differential equation are the same but for the names of their constants."""
    names = [sorted((name for name in part.free_symbols if str(name) in _CONSTANTS), key=str) for part in (one, other)]
    known = any(str(name)[0] in "CcK" for name in (*names[0], *names[1]))
    known &= any(str(name) in "xyt" for name in one.free_symbols)
    if not known or not 0 < len(names[0]) == len(names[1]) <= _MOST_CONSTANTS:
        return False
    renamed = (dict(zip(names[1], order, strict=True)) for order in permutations(names[0]))
    return any(_identical(one, other.xreplace(names_of)) is True for names_of in renamed)


def _same_antiderivative(one: Expr, other: Expr) -> bool:
    r"""Whether two formulas, each with its constant of integration, differ by a constant: `\\frac{x^3}{3} + C`."""
    from sympy import Symbol

    without = []
    for part in (one, other):
        constants = [name for name in (Symbol("C"), Symbol("K")) if name in part.free_symbols]
        if len(constants) != 1 or part.diff(constants[0]) != 1:
            return False
        without.append(part - constants[0])
    first, second = without
    names = first.free_symbols
    return names == second.free_symbols != set() and all(
        _identical(first.diff(name), second.diff(name)) is True for name in names
    )


def equal_numbers(one: Expr, other: Expr, *, rounded: bool) -> bool:
    """Whether two numbers are equal: exactly, or to five digits if one of them is rounded.

    Raises:
        Undecided: it is not known.
    """
    from sympy import nan, oo, zoo

    special = {oo, -oo, zoo, nan}
    if one in special or other in special:
        return one == other and one is not nan
    if not rounded and (exact := _same_residues(one, other)) is not None:
        return exact
    first, second = (number.evalf(_DIGITS) for number in (one, other))
    if not (first.is_number and second.is_number) or not (first.is_finite and second.is_finite):
        raise Undecided
    size, difference = max(abs(first), abs(second)), abs(first - second)
    if rounded:
        return bool(difference <= size * TOLERANCE.numerator / TOLERANCE.denominator)
    if difference > size * 10 ** -(_DIGITS - 10):
        return False
    shown = (one - other).equals(0)
    if shown is None and difference < 1:  # of angles, which are equal if the sine of so small a difference is 0
        from sympy import expand_trig, sin

        shown = expand_trig(sin(one - other)).equals(0)
    if shown is None:
        raise Undecided
    return bool(shown)


# Formulas ---------------------------------------------------------------------------------------------


class _NotRationalError(Exception):
    """A formula has no residue: it is not known to be rational, or its parts are too large."""


def _same_residues(one: Expr, other: Expr) -> bool | None:
    """Whether two formulas are the same modulo several primes at random points; None if they have no residues there.

    This is exact but for chance, also where numbers have thousands of digits.
    """
    pairs = list(_residues(one, other))
    if any(first != second for first, second, _ in pairs):
        return False
    return True if len(pairs) >= len(_PRIMES) else None


def _residues(*some: Expr) -> Iterator[tuple[int, ...]]:
    """The residues of formulas at random points, and the prime."""
    names = sorted(set().union(*(one.free_symbols for one in some)), key=str)
    generator = random.Random(11)
    for prime in _PRIMES * 2:
        point = {name: generator.randrange(1, prime) for name in names}
        try:
            yield (*(_residue(one, prime, point) for one in some), prime)
        except ValueError:  # a pole
            continue
        except _NotRationalError:
            return


def _residue(number: Any, modulus: int, point: Mapping[Any, int], *, prime: bool = True) -> int:
    """A rational function modulo a prime, or a whole one modulo any number, without computing its numbers.

    Variables stand for whole numbers, so that they may also be exponents, which are taken modulo what repeats.

    Raises:
        _NotRationalError: it is none.
        ValueError: it divides by zero there.
    """
    from sympy import Add, Integer, Mul, Pow, Rational, Symbol, binomial, factorial
    from sympy.core.function import AppliedUndef

    match number:
        case Symbol():
            return point[number] % modulus
        case Integer():
            return int(number) % modulus
        case Rational() if prime:
            return int(number.p) * pow(int(number.q), -1, modulus) % modulus
        case Add():
            return sum(_residue(part, modulus, point, prime=prime) for part in number.args) % modulus
        case Mul():
            return prod(_residue(part, modulus, point, prime=prime) for part in number.args) % modulus
        case Pow() if prime:
            exponent = _residue(number.exp, modulus - 1, point, prime=False)
            if not (base := _residue(number.base, modulus, point)):
                raise ValueError("a power of zero, of which the exponent is not known")
            return pow(base, exponent, modulus)
        case Pow() if isinstance(number.base, Integer) and isinstance(number.exp, Integer) and number.exp >= 0:
            return pow(int(number.base), int(number.exp), modulus)
        case factorial() if prime and isinstance(number.args[0], Integer) and 0 <= number.args[0] <= _LARGEST_FACTORIAL:
            found = 1
            for part in range(2, int(number.args[0]) + 1):
                found = found * part % modulus
            return found
        case binomial() if prime and all(isinstance(part, Integer) and part >= 0 for part in number.args):
            above, below = number.args
            parts = (factorial(part, evaluate=False) for part in (above, below, above - below))
            top, *under = (_residue(part, modulus, point) for part in parts)
            return top * pow(prod(under), -1, modulus) % modulus
        case AppliedUndef() if prime:
            known = [_residue(part, modulus, point) for part in number.args]
            return random.Random(f"{number.func} {known}").randrange(modulus)
    raise _NotRationalError(str(number)[:40])


def _identical(one: Expr, other: Expr) -> bool | None:
    """Whether two formulas have the same values at random points, where both are real; None if they have none."""
    if (exact := _same_residues(one, other)) is not None:
        return exact
    checked = 0
    for first, second, noise, positive in _at_points(one, other):
        if not positive and (abs(first.imag) > noise or abs(second.imag) > noise):
            continue
        if abs(first - second) > noise:
            return False
        checked += 1
    return True if checked > 1 else None  # one point may be a zero of both


def _at_points(one: Expr, other: Expr) -> Iterator[tuple[Any, Any, Any, bool]]:
    """Values of two formulas at random points, what of them is noise, and whether all variables are positive there.

    The precision is such that the smallest part of a formula counts beside the largest.
    """
    import mpmath
    from sympy import Abs, lambdify
    from sympy.core.function import AppliedUndef

    names = sorted(one.free_symbols | other.free_symbols, key=str)
    parts = list({part: 0 for formula in (one, other) for part in _preorder(formula)})
    unknown = {str(part.func): _unknown(str(part.func)) for part in parts if isinstance(part, AppliedUndef)}
    called = lambdify(names, [one, other, *parts], [unknown, "mpmath"])
    moduli = set().union(*(part.free_symbols for part in (one + other).atoms(Abs)))
    turned = [1 + 0.75j if str(name) == "z" and name in moduli else 1 for name in names]  # `z` is a complex number
    for point in _points(one + other, names):
        try:
            with mpmath.workdps(_USUAL_DIGITS):
                place = [mpmath.mpmathify(value) * turn for value, turn in zip(point, turned, strict=True)]
                sizes = [size for size in map(abs, called(*place)) if size]
                span = mpmath.log10(max(sizes, default=1)) - mpmath.log10(min(sizes, default=1))
            with mpmath.workdps(_USUAL_DIGITS + int(span)):
                place = [mpmath.mpmathify(value) * turn for value, turn in zip(point, turned, strict=True)]
                first, second, *_ = (mpmath.mpmathify(value) for value in called(*place))
                if mpmath.isfinite(first) and mpmath.isfinite(second) and span < _MOST_DIGITS:
                    noise = max(sizes, default=1) * mpmath.mpf(10) ** (_NOISE - _USUAL_DIGITS - int(span))
                    yield first, second, noise, all(value > 0 for value in point)
        except (ValueError, TypeError, ArithmeticError, NotImplementedError, AttributeError, NameError):
            continue


def _preorder(formula: Expr) -> Iterator[Expr]:
    from sympy import Expr, preorder_traversal

    return (part for part in preorder_traversal(formula) if isinstance(part, Expr) and not part.is_infinite)


def _unknown(name: str) -> Callable[..., Any]:
    """A function of which nothing is known but that it gives the same for the same."""
    import mpmath

    def value(*arguments: Any) -> Any:
        return mpmath.mpf(random.Random(f"{name} {[mpmath.nstr(part, 30) for part in arguments]}").uniform(0.2, 3))

    return value


def _points(formula: Expr, names: Sequence[Any]) -> Iterator[list[Fraction]]:
    """Random points; where formulas are in pieces, of all signs and sizes, and whole ones, where steps are."""
    from sympy import Rational, ceiling, floor

    generator = random.Random(11)

    def near(scale: Fraction, signs: Sequence[int]) -> list[Fraction]:
        return [Fraction(generator.randint(200, 3000), 997) * sign * scale for sign in signs]

    if formula.has(floor, ceiling):
        whole_numbers = {1, *(abs(int(part)) for number in formula.atoms(Rational) for part in (number.p, number.q))}
        for whole in range(_WHOLE_POINTS):
            yield [Fraction(whole + 7 * at) for at in range(len(names))]
        for number in sorted(whole_numbers)[-4:]:
            for times, beside in product((1, 2, 7), (-1, 0, 1)):  # where steps are
                yield [Fraction(number * times + beside + 3 * number * at) for at in range(len(names))]
            for _ in range(_FURTHER_POINTS):
                yield [Fraction(generator.randint(1, 20 * number)) for _ in names]
        if all(str(name) in "nkmijpqN" for name in names):
            return
        for number in sorted(whole_numbers)[-4:]:
            yield from ([Fraction(part, number)] * len(names) for part in range(_FURTHER_POINTS))
    in_pieces = _is_in_pieces(formula)
    numbers = {abs(Fraction(int(number.p), int(number.q))) for number in formula.atoms(Rational)} - {0}
    largest, smallest = max((Fraction(1), *numbers)), min((Fraction(1), *numbers))
    scales = {Fraction(scale) for scale in (1, largest, largest * _FAR, smallest, Fraction(smallest) / _FAR)}
    for scale in sorted(scales) if in_pieces else [Fraction(1)]:
        if in_pieces and len(names) <= 4:
            for signs in product((1, -1), repeat=len(names)):
                yield near(scale, signs)
        yield from (near(scale, [1] * len(names)) for _ in range(3))
        yield from (near(scale, [generator.choice((1, -1)) for _ in names]) for _ in range(4))


def _is_in_pieces(formula: Expr) -> bool:
    """Whether a formula may be one function here and another there."""
    from sympy import Abs, Max, Min, Pow, ceiling, floor, sign

    roots = any(part.exp.is_Rational and not part.exp.is_Integer for part in formula.atoms(Pow))
    return roots or formula.has(Abs, Max, Min, ceiling, floor, sign)


def _verified(one: Any, other: Any) -> bool:
    """Math-Verify's verdict on what has no value at random points, such as sets of symbols."""
    from math_verify import verify

    # The worker this runs in is killed from outside, so Math-Verify's own timeouts are off.
    return bool(verify(one, other, timeout_seconds=None)) and bool(verify(other, one, timeout_seconds=None))


# Relations and sets -----------------------------------------------------------------------------------


def _same_relation(one: Relation, other: Relation) -> bool:
    """Whether two equations, or inequalities, are the same up to a factor, or two congruences modulo the number."""
    if one.sign != other.sign or one.modulus != other.modulus:
        return False
    if one.modulus is not None:
        difference = one.right - other.right
        alike = one.modulus.is_Integer and difference.is_Integer and difference % one.modulus == 0
        return bool(alike and _identical(one.left, other.left))
    if (
        one.sign == "="
        and one.left.free_symbols != other.left.free_symbols
        and _same_solution(*map(_as_formula, (one, other)))
    ):
        return True
    first, second = (part.left - part.right for part in (one, other))
    if first == second:
        return True
    equation = one.sign in ("=", "≠")
    if equation:
        from sympy import together

        first, second = (together(part).as_numer_denom()[0] for part in (first, second))
    if first.free_symbols != second.free_symbols or not first.free_symbols:
        return False
    residues = list(_residues(first, second))
    exact = len(residues) >= len(_PRIMES)
    for (left, right, prime), (theirs, ours, other_prime) in zip(residues, residues[3:], strict=False):
        if prime == other_prime and (left * ours - theirs * right) % prime:
            return False
    values = [(left, right, noise) for left, right, noise, _ in _at_points(first, second) if abs(right) > noise]
    if len(values) < 3 or not abs(values[0][0]) > values[0][2]:  # enough to be no chance
        return False
    left, right, noise = values[0]
    for ours, theirs, around in values[1:] if not exact else ():
        if abs(left * theirs - ours * right) > noise * (abs(ours) + abs(theirs)) + around * (abs(left) + abs(right)):
            return False
    ratio = left / right
    return bool(equation or (ratio.imag == 0 and ratio.real > 0))


def _as_formula(equation: Relation) -> Expr:
    return equation.left - equation.right


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
        if kinds == {"set"} and one.name and other.name and one.name != other.name:
            return False
    elif kinds & {"interval", "matrix", "ratio"} or (ordered and "set" in kinds):
        return False
    if _one_numbers(one, other):
        one, other = (_unnamed(some) for some in (one, other))
    elif _has_names(one) or _has_names(other):
        if "or" in (one.form, other.form) and one.form != other.form:
            return False  # `x = 0 or y = 0` is no point
        if set(_names(one)) == set(_names(other)):
            return _in_order(_by_name(one), _by_name(other))
        if not (_has_names(one) and _has_names(other)):
            return any(_in_order(*pair) for pair in product(_orders(one, other), _orders(other, one)))
    if ordered:
        return _in_order(_ordered(one), _ordered(other))
    first, second = (_unique(some.members) if _is_set(some) else list(some.members) for some in (one, other))
    if len(first) != len(second):
        return False
    for member in first:
        match = next((at for at, candidate in enumerate(second) if any_same(member, candidate)), None)
        if match is None:
            return False
        del second[match]
    return True


def _one_numbers(*both: Several) -> bool:
    """Whether both list values of one variable, and only one numbers them: `x_1 = 1, x_2 = 2` and `x = 1 or x = 2`."""
    letters, numbered = [], []
    for some in both:
        names = _names(some)
        plain = {re.sub(r"_\{?\d+\}?$", "", name) for name in names if name}
        letters.append(plain.pop() if len(plain) == 1 and names[0] and some.kind in ("list", "system") else "")
        numbered.append(len(set(names)) == len(names) > 1)
    return letters[0] == letters[1] != "" and sum(numbered) == 1


def _unnamed(some: Several) -> Several:
    members = (tuple(replace(one, name="") if isinstance(one, Value) else one for one in m) for m in some.members)
    return replace(some, members=tuple(members), form="")


def _in_order(one: Sequence[tuple[Reading, ...]], other: Sequence[tuple[Reading, ...]]) -> bool:
    return len(one) == len(other) and all(any_same(*pair) for pair in zip(one, other, strict=True))


def _names(some: Several) -> list[str]:
    return [str(getattr(member[0], "name", "")) for member in some.members]


def _has_names(some: Several) -> bool:
    """Whether the members themselves say what they are the values of, as those of `x=1, y=2` do."""
    names = _names(some)
    return some.kind in ("list", "system") and all(names) and len(set(names)) == len(names) > 1


def _by_name(some: Several) -> Sequence[tuple[Reading, ...]]:
    """Members that have names, in the order of these."""
    return [member for _, member in sorted(zip(_names(some), some.members, strict=True), key=lambda pair: pair[0])]


def _orders(some: Several, beside: Several) -> list[Sequence[tuple[Reading, ...]]]:
    """Orders in which the members may be meant, where others have names: the alphabet's, and a list's own."""
    if not _has_names(some):
        return [_ordered(some)] if some.kind in ("tuple", "list") else []
    return [_by_name(some), some.members] if some.kind == beside.kind == "list" else [_by_name(some)]


def _ordered(some: Several) -> Sequence[tuple[Reading, ...]]:
    """The members of a tuple in the order of the variables that they are assigned to: of `(y,x)=(1,2)`, 2 is first."""
    names = some.name.strip("()").split(",") if some.name.startswith("(") else some.name.split(":")
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
    both = one.name and other.name
    if both and set(one.name.split(":")) != set(other.name.split(":")):
        return False
    first, second = ([member[0] for member in (_ordered(some) if both else some.members)] for some in (one, other))
    products = (((first[0], theirs), (second[0], ours)) for ours, theirs in zip(first, second, strict=True))
    return all(_equal(_times(*left), _times(*right)) for left, right in products)


def _times(one: Any, other: Any) -> Value:
    return Value(one.expression * other.expression, one.rounded or other.rounded)


def _same_ratio_and_value(ratio: Several, value: Value) -> bool:
    if len(ratio.members) != 2 or ratio.form == TIME or value.unit or value.percent:
        return False
    above, below = (member[0] for member in ratio.members)
    if not (isinstance(above, Value) and isinstance(below, Value)) or below.expression == 0:
        return False
    return _equal(replace(value, name=""), replace(above, expression=above.expression / below.expression))


def _same_set(numbers: Numbers, some: Several) -> bool:
    """Whether a set of numbers that was described is the one that was written out."""
    from sympy import FiniteSet

    if not isinstance(numbers.values, FiniteSet):
        return False
    return _same_members(Several("set", tuple((Value(value),) for value in numbers.values.args)), some)

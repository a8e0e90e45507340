r"""Whether two formulas are equal: numbers, formulas with variables, and those that say the same as solutions do.

Numbers are equal exactly, or to five digits if they are rounded: exact ones if their residues are equal for several
primes, or if sympy shows it. Formulas are equal if they are at random points, where analytic functions that differ do
so with certainty; those with absolute values and the like are also tried far out, where another of their pieces holds.
What is not decided is `Undecided`.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import permutations, product
from math import prod
from typing import TYPE_CHECKING, Any

from lm_eval_ext.grading.formula import ANY_REAL, ANY_WHOLE, PARAMETERS

if TYPE_CHECKING:
    from sympy import Expr

TOLERANCE = Fraction(1, 10**5)  # relative, between a rounded decimal and the exact value
_CONSTANTS = ("A", "B", "C", "K", "c", "k", *(f"{letter}_{number}" for letter in "CcAk" for number in range(4)))
_MOST_CONSTANTS = 3
_DIGITS = 50
_USUAL_DIGITS, _MOST_DIGITS, _NOISE = 60, 3_000, 15  # of values at points; the last ones are noise
_WHOLE_POINTS, _FURTHER_POINTS = 130, 12
_FAR = 10  # times the largest number in a formula: beyond what it distinguishes, such as 10 in `|x-10|`
_PRIMES = (2305843009213693951, 2305843009213693921, 2305843009213693907)  # the largest of 61 bits
_LARGEST_FACTORIAL = 10**6


class Undecided(Exception):  # no error: an answer of its own
    """Whether two values are equal was neither shown nor refuted."""


def varies(expression: Expr) -> bool:
    """Whether an expression has variables or functions of which nothing is known."""
    from sympy.core.function import AppliedUndef

    return bool(expression.free_symbols or expression.atoms(AppliedUndef))


def same_family(one: Expr, other: Expr) -> bool:
    r"""Whether two families are the same but for the name of their parameter: `k\pi` and `n\pi`, `3k+1` and `3m-2`."""
    from sympy import Symbol

    for part, named in ((one, other), (other, one)):
        letters = named.free_symbols - part.free_symbols
        new = [name for name in letters if len(str(name)) == 1 and str(name) not in PARAMETERS]
        if ANY_REAL in map(str, part.free_symbols - named.free_symbols) and len(new) == 1:
            return identical(part, named.subs(new[0], Symbol(ANY_REAL))) is True
    if not any(parameter(part) for part in (one, other)):
        return False
    families = [_family(part) for part in (one, other)]
    return None not in families and identical(*families) is True


def parameter(family: Expr) -> Any:
    """The parameter of a family: one that was said to be any whole number, or `k` in a family of angles."""
    from sympy import pi

    (name, *others) = family.free_symbols or [None]
    if others or (str(name) != ANY_WHOLE and not (str(name) in "nkm" and family.has(pi))):
        return None
    return name


def _family(family: Expr) -> Expr | None:
    """A family with a parameter of a fixed name, that counts up from the smallest offset; None if it is none."""
    from sympy import Abs, Symbol, floor

    if len(family.free_symbols) != 1 or (parameter(family) is None and str(*family.free_symbols) not in "knmtj"):
        return None
    (name,) = family.free_symbols
    offset, whole = family.subs(name, 0), Symbol(ANY_WHOLE)
    slope = (family.subs(name, 1) - offset).expand()
    if not slope or not slope.is_extended_real or (family - offset - slope * name).expand() != 0:
        return family.subs(name, whole)
    step = Abs(slope)
    return (offset - step * floor(offset / step) if offset.is_extended_real else offset) + step * whole


def same_solution(one: Expr, other: Expr) -> bool:
    """Whether two solutions of a differential equation are the same but for the names of their constants."""
    names = [sorted((name for name in part.free_symbols if str(name) in _CONSTANTS), key=str) for part in (one, other)]
    known = any(str(name)[0] in "CcK" for name in (*names[0], *names[1]))
    known &= any(str(name) in "xyt" for name in one.free_symbols)
    if not known or not 0 < len(names[0]) == len(names[1]) <= _MOST_CONSTANTS:
        return False
    renamed = (dict(zip(names[1], order, strict=True)) for order in permutations(names[0]))
    return any(identical(one, other.xreplace(names_of)) is True for names_of in renamed)


def same_antiderivative(one: Expr, other: Expr) -> bool:
    r"""Whether two formulas, each with its constant of integration, differ by a constant: `\\frac{x^3}{3} + C`."""
    from sympy import Symbol

    without, small = [], 0
    for part in (one, other):
        constants = [name for name in map(Symbol, "CcK") if name in part.free_symbols]
        if len(constants) != 1 or part.diff(constants[0]) != 1:
            return False
        without.append(part - constants[0])
        small += str(constants[0]) == "c"
    first, second = without
    names = first.free_symbols
    if small and (small == 2 or len(names) != 1 or str(*names) not in ("x", "t", "u", "y", "theta")):
        return False  # `c` may be any variable
    real = {name: Symbol(str(name), real=True) for name in names}  # of which absolute values have derivatives
    first, second, names = first.xreplace(real), second.xreplace(real), set(real.values())
    return names == second.free_symbols != set() and all(
        identical(first.diff(name), second.diff(name)) is True for name in names
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
    if (one - other).expand(complex=True) == 0:
        return True
    shown = (one - other).equals(0)
    if shown is None and difference < 1:  # of angles, which are equal if the sine of so small a difference is 0
        from sympy import expand_trig, sin

        shown = expand_trig(sin(one - other)).equals(0)
    if shown is None:
        raise Undecided
    return bool(shown)


class NotRationalError(Exception):
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
            yield (*(residue(one, prime, point) for one in some), prime)
        except ValueError:  # a pole
            continue
        except NotRationalError:
            return


def residue(number: Any, modulus: int, point: Mapping[Any, int], *, prime: bool = True) -> int:
    """A rational function modulo a prime, or a whole one modulo any number, without computing its numbers.

    Variables stand for whole numbers, so that they may also be exponents, which are taken modulo what repeats.

    Raises:
        NotRationalError: it is none.
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
            return sum(residue(part, modulus, point, prime=prime) for part in number.args) % modulus
        case Mul():
            return prod(residue(part, modulus, point, prime=prime) for part in number.args) % modulus
        case Pow() if prime:
            exponent = residue(number.exp, modulus - 1, point, prime=False)
            if not (base := residue(number.base, modulus, point)):
                raise ValueError("a power of zero, of which the exponent is not known")
            return pow(base, exponent, modulus)
        case Pow() if isinstance(number.exp, Integer) and number.exp >= 0:
            return pow(residue(number.base, modulus, point, prime=False), int(number.exp), modulus)
        case factorial() if prime and isinstance(number.args[0], Integer) and 0 <= number.args[0] <= _LARGEST_FACTORIAL:
            found = 1
            for part in range(2, int(number.args[0]) + 1):
                found = found * part % modulus
            return found
        case binomial() if prime and all(isinstance(part, Integer) and part >= 0 for part in number.args):
            above, below = number.args
            parts = (factorial(part, evaluate=False) for part in (above, below, above - below))
            top, *under = (residue(part, modulus, point) for part in parts)
            return top * pow(prod(under), -1, modulus) % modulus
        case AppliedUndef() if prime:
            known = [residue(part, modulus, point) for part in number.args]
            return random.Random(f"{number.func} {known}").randrange(modulus)
    raise NotRationalError(str(number)[:40])


def identical(one: Expr, other: Expr) -> bool | None:
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


def proportional(one: Expr, other: Expr, *, any_sign: bool) -> bool:
    """Whether two formulas are the same up to a factor.

    Args:
        one, other: the formulas.
        any_sign: whether the factor may be negative or complex.
    """
    if one.free_symbols != other.free_symbols or not one.free_symbols:
        return False
    residues = list(_residues(one, other))
    exact = len(residues) >= len(_PRIMES)
    for (left, right, prime), (theirs, ours, other_prime) in zip(residues, residues[3:], strict=False):
        if prime == other_prime and (left * ours - theirs * right) % prime:
            return False
    values = [(left, right, noise) for left, right, noise, _ in _at_points(one, other) if abs(right) > noise]
    if len(values) < 3 or not abs(values[0][0]) > values[0][2]:  # enough to be no chance
        return False
    left, right, noise = values[0]
    for ours, theirs, around in values[1:] if not exact else ():
        if abs(left * theirs - ours * right) > noise * (abs(ours) + abs(theirs)) + around * (abs(left) + abs(right)):
            return False
    ratio = left / right
    return bool(any_sign or (ratio.imag == 0 and ratio.real > 0))


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


def verified(one: Any, other: Any) -> bool:
    """Math-Verify's verdict on what has no value at random points, such as sets of symbols."""
    from math_verify import verify

    # The worker this runs in is killed from outside, so Math-Verify's own timeouts are off.
    return bool(verify(one, other, timeout_seconds=None)) and bool(verify(other, one, timeout_seconds=None))

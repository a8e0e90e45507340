"""When two answers say the same: values with their units and names, relations, sets, and several of them.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

from lm_eval_ext.grading.formula import PARAMETERS
from lm_eval_ext.grading.formula_equality import (
    NotRationalError,
    Undecided,
    equal_numbers,
    identical,
    parameter,
    proportional,
    residue,
    same_antiderivative,
    same_family,
    same_solution,
    varies,
    verified,
)
from lm_eval_ext.grading.meaning import ANGLE, TIME, Numbers, Reading, Relation, Several, Value, Words
from lm_eval_ext.grading.words import lexicon

_LARGEST_MODULUS = 1_000  # of a congruence that is solved


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
        case Several(kind="system"), Value():
            return _same_in_pieces(one, other)
        case Value(), Several(kind="system"):
            return _same_in_pieces(other, one)
        case Several(), Several():
            return _same_members(one, other)
        case Relation(), Relation():
            return _same_relation(one, other)
        case Numbers(), Numbers():
            return not (one.name and other.name and one.name != other.name) and _same_numbers(one.values, other.values)
        case Words(), Words():
            short, long = sorted((one.text, other.text), key=len)
            suffixed = long in {f"{short} {suffix}" for suffix in lexicon()["suffixes"]}
            if one.name and other.name and one.name != other.name:
                return False
            return short == long or (suffixed and not (one.mixed or other.mixed))
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
    """Whether two functions are the same under another name: `f(x) = 2x` and `f(t) = 2t`, or `y = 2x`."""
    from sympy import Symbol

    if {one.name, other.name} == {"y", "f(x)"} and Symbol("x") in one.expression.free_symbols:
        return _equal(replace(one, name=""), replace(other, name=""))
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
    if varies(first) or varies(second):
        alike = identical(first, second)
        alike = verified(first, second) if alike is None else alike
        return (
            alike
            or same_family(first, second)
            or (_are_one_name(one.name, other.name) and same_solution(first, second))
            or (not (one.name or other.name) and same_antiderivative(first, second))
        )
    if all(part.expression.is_Rational and (part.rounded or part.expression.is_Integer) for part in (one, other)):
        return False  # two decimals or whole numbers that differ, of which none is rounded to the other
    return equal_numbers(first, second, rounded=one.rounded or other.rounded)


def _same_relation(one: Relation, other: Relation) -> bool:
    """Whether two equations, or inequalities, are the same up to a factor, or two congruences modulo the number."""
    if one.sign != other.sign or one.modulus != other.modulus:
        return False
    if one.modulus is not None:
        first, second = _solutions(one), _solutions(other)
        if first and second:
            return first == second
        difference = one.right - other.right
        alike = one.modulus.is_Integer and difference.is_Integer and difference % one.modulus == 0
        return bool(alike and identical(one.left, other.left))
    if (
        one.sign == "="
        and one.left.free_symbols != other.left.free_symbols
        and same_solution(one.left - one.right, other.left - other.right)
    ):
        return True
    first, second = (part.left - part.right for part in (one, other))
    if first == second:
        return True
    equation = one.sign in ("=", "≠")
    if equation:
        from sympy import together

        first, second = (together(part).as_numer_denom()[0] for part in (first, second))
    return proportional(first, second, any_sign=equation)


def _solutions(congruence: Relation) -> tuple[Any, list[int]] | None:
    """The variable of a congruence and what solves it; None if there are several, or none, or it is no polynomial."""
    difference, modulus = congruence.left - congruence.right, congruence.modulus
    names = difference.free_symbols
    if len(names) != 1 or modulus is None or not (modulus.is_Integer and 1 < modulus <= _LARGEST_MODULUS):
        return None
    (name,) = names
    numbers = range(int(modulus))
    try:
        solutions = [number for number in numbers if not residue(difference, int(modulus), {name: number}, prime=False)]
    except NotRationalError:
        return None
    return (name, solutions) if solutions else None


def _same_numbers(one: Any, other: Any) -> bool:
    if one == other:
        return True
    first, second = _pieces(one), _pieces(other)
    if first is None or second is None:
        return verified(one, other)
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


# Functions by cases -----------------------------------------------------------------------------------

_STEPS = tuple(Fraction(step) for step in ("1/97", "1/3", "8/7", "7/2", "12", "1009"))
_PARITY = re.compile(r"([a-z]) (?:is )?(even|odd)")


def _same_in_pieces(cases: Several, value: Value) -> bool:
    r"""Whether a function by cases is one formula: `\begin{cases}x & x \ge 0\\ -x & x < 0\end{cases}` and `|x|`.

    Compared at points of each piece, and at its ends. The pieces must be all real numbers, or all even and odd ones.
    """
    from sympy import Reals, Symbol, Union

    pieces, regions, parities = [], [], set()
    for member, *_ in cases.members:
        if not isinstance(member, Several) or len(member.members) != 2 or not isinstance(member.members[0][0], Value):
            return False
        piece, condition = member.members[0][0], member.members[1][0]
        if isinstance(condition, Numbers) and condition.name:
            regions.append(condition.values)
            pieces.append((piece.expression, condition.name, _points(condition.values)))
        elif isinstance(condition, Words) and (parity := _PARITY.fullmatch(condition.text)):
            parities.add(parity[2])
            pieces.append((piece.expression, parity[1], [2 * place + (parity[2] == "odd") for place in range(6)]))
        else:
            return False
    names = {name for _, name, _ in pieces}
    whole = parities == {"even", "odd"} and not regions if parities else bool(regions) and Union(*regions) == Reals
    if not whole or cases.name != value.name or value.unit or {str(name) for name in _free(value)} != names:
        return False
    (variable,) = map(Symbol, names)
    return all(
        equal_numbers(piece.subs(variable, point), value.expression.subs(variable, point), rounded=value.rounded)
        for piece, _, points in pieces
        for point in points
    )


def _points(values: Any) -> list[Any]:
    """Points of a set of intervals and numbers, with the ends that belong to it."""
    from sympy import Rational, oo

    points = []
    for low, high, left_open, right_open in _pieces(values) or ():
        points += [low] * (not left_open) + [high] * (not right_open and high != low)
        for step in _STEPS if low != high else ():
            share = Rational(step.numerator, step.denominator)
            if oo in (-low, high):
                points.append(low + share if low != -oo else high - share if high != oo else share)
            else:
                points.append(low + (high - low) * share / (1 + share))
        points += [-Rational(5, 3)] * (oo == -low == high)
    return points


# Several ----------------------------------------------------------------------------------------------


def _same_members(one: Several, other: Several) -> bool:
    kinds = {one.kind, other.kind}
    if kinds == {"ratio"}:
        return _same_ratio(one, other)
    ordered = kinds & {"tuple", "interval", "matrix"}
    if len(kinds) == 1:
        names = {*_names(one), *_names(other)}
        functions = len(names) == 1 and names.pop().endswith(")")  # `f(x) = x and f(x) = -x` are two answers
        either = {one.form, other.form} == {"and", "or"} and not functions and not _one_says_of_what(one, other)
        if either if kinds == {"list"} else one.form != other.form:
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
        if _has_names(one) and _has_names(other):
            if not all(map(_are_one_name, *(sorted(_names(some)) for some in (one, other)))):
                return False
        else:
            if {one.kind, other.kind} == {"list"} and any(_are_numbered(some) for some in (one, other)):
                return _same_members(_unnamed(one), _unnamed(other))  # `x_1 = 3, x_2 = -2` and `-2, 3`
            return any(_in_order(*pair) for pair in product(_orders(one, other), _orders(other, one)))
    if ordered:
        if "or" in (one.form, other.form):
            return False  # `x = 2 or x = 3` is no point
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


def _one_says_of_what(one: Several, other: Several) -> bool:
    """Whether only one list names the variable of which both list the values: `x = 6 or x = -2` and `-2 and 6`."""
    names = [set(_names(some)) for some in (one, other)]
    values = all(isinstance(member[0], Value) for some in (one, other) for member in some.members)
    return values and {""} in names and all(len(some) == 1 for some in names) and names[0] != names[1]


def _are_numbered(some: Several) -> bool:
    """Whether members are the values of one variable that is numbered, such as `x_1` and `x_2`."""
    names = [re.fullmatch(r"([A-Za-z])_\{?\d\}?", name) for name in _names(some)]
    return all(names) and len({name[1] for name in names if name}) == 1


def _unnamed(some: Several) -> Several:
    members = (tuple(replace(one, name="") if isinstance(one, Value) else one for one in m) for m in some.members)
    return replace(some, members=tuple(members), form="")


def _in_order(one: Sequence[tuple[Reading, ...]], other: Sequence[tuple[Reading, ...]]) -> bool:
    if _renames_apart(one, other) or _renames_apart(other, one):
        return False
    if len(one) != len(other) or not all(any_same(*pair) for pair in zip(one, other, strict=True)):
        return False
    return _move_together([(first[0], second[0]) for first, second in zip(one, other, strict=True)])


def _move_together(pairs: Sequence[tuple[Reading, Reading]]) -> bool:
    """Whether families of equal members count their parameter alike: `(k, 2k)` says another than `(k, -2k)`."""
    counts = set[tuple[Any, Any]]()
    for one, other in pairs:
        if not (isinstance(one, Value) and isinstance(other, Value)):
            continue
        first, second = parameter(one.expression), parameter(other.expression)
        if first is None or second is None:
            continue
        step = one.expression.diff(first)
        if step.is_number and step != 0:
            offsets = other.expression.subs(second, 0) - one.expression.subs(first, 0)
            counts.add((other.expression.diff(second) / step, offsets / step))
    return len(counts) < 2


def _renames_apart(one: Sequence[tuple[Reading, ...]], other: Sequence[tuple[Reading, ...]]) -> bool:
    """Whether members have a parameter in common that the others call by several names: `(t, 2t)` and `(t, 2s)`."""
    ours, theirs = (
        {str(name) for member in some for value in member[:1] if isinstance(value, Value) for name in _free(value)}
        for some in (one, other)
    )
    parameters, new = ours & set(PARAMETERS), {name for name in theirs - ours - set(PARAMETERS) if len(name) == 1}
    return bool(parameters and new and (parameters & theirs or len(new) > 1))


def _free(value: Value) -> set[Any]:
    free: set[Any] = value.expression.free_symbols
    return free


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
    if len(ratio.members) != 2 or value.unit or value.percent or (ratio.form == TIME and value.expression.is_Integer):
        return False
    above, below = (member[0] for member in ratio.members)
    first, _, second = ratio.name.partition(":")
    if second and value.name in (f"frac{second}{first}", f"{second}/{first}"):
        above, below = below, above
    if not (isinstance(above, Value) and isinstance(below, Value)) or below.expression == 0:
        return False
    return _equal(replace(value, name=""), replace(above, expression=above.expression / below.expression))


def _same_set(numbers: Numbers, some: Several) -> bool:
    """Whether a set of numbers that was described is the one that was written out."""
    from sympy import FiniteSet

    if not isinstance(numbers.values, FiniteSet):
        return False
    return _same_members(Several("set", tuple((Value(value),) for value in numbers.values.args)), some)

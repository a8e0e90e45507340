r"""What an answer says: values with units, tuples, sets, intervals, ratios, equations, matrices, words.

One grammar, which accounts for every node of the answer or has no reading of it. An answer may have several readings:
`(1, 2)` is a point and an interval, `15:30` a time and a ratio. Two answers are equal if any reading of one says the
same as any reading of the other.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from lm_eval_ext.grading.equality import any_same, same
from lm_eval_ext.grading.formula import ANY_WHOLE, expression, number_set, symbol
from lm_eval_ext.grading.formula_equality import Undecided
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, flat, is_sign, joins, nodes, split, written
from lm_eval_ext.grading.meaning import Numbers, Reading, Relation, Several, Value, Words
from lm_eval_ext.grading.notation import no_product, notated
from lm_eval_ext.grading.single_parts import (
    IMPOSSIBLE,
    attempt,
    congruent,
    formula,
    is_word,
    name_of,
    of_single_part,
    with_base,
    worded,
)
from lm_eval_ext.grading.tabular import is_transposed, tabulated
from lm_eval_ext.grading.units import RELATIONS, is_physical, quantity
from lm_eval_ext.grading.words import cased, with_signs
from lm_eval_ext.grading.wrapping import (
    bare,
    has_comma,
    labelled_parts,
    with_order,
    with_thousands,
    without_ordinal,
    without_quantifier,
)

_MIRRORED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_ORDERS = (*_MIRRORED, "≠")
_VARIABLE = r"[A-Za-z](_\{\w\})?|\\[a-z]+"
_ROUNDED = 0.02  # relative, between an exact value and what it is said to be about
_MOST_MEMBERS = 1_000  # of a set that is written out
_MOST_SIGNS = 4  # of ± in one answer


def warm_up() -> None:
    """Read the usual forms once: the first time takes up to a second."""
    usual = (
        r"(x-1)^2+\frac{\pi}{2}", r"\sqrt{2}-3i", "(3,5)", r"\{1,2\}\cup[0,\infty)", r"x_1=5\%", r"x \le 7^\circ",
        r"5\text{ cm}", "y=2x+1",
    )  # fmt: skip
    import math_verify  # noqa: F401  # if it is missing, fail here, where the error is reported

    for text in usual:
        if not any_same(readings(text), readings(text)):
            raise RuntimeError(f"{text} does not equal itself")


_PRIMED = re.compile(r"'|\\d?dot(?![A-Za-z])")
_D = r"(?:d|\\text\{d\})"
_DERIVATIVE = re.compile(
    rf"\\frac\{{{_D}(?:\^\{{(\d)\}})? ?([a-z])\}}\{{{_D} ?[xt](?:\^\{{\1\}})?\}}"
    r"|(?<![A-Za-z])d([a-z])/d[xt](?![A-Za-z])"
)


def _with_primes(derivative: re.Match[str]) -> str:
    r"""`y''` for `\frac{d^{2}y}{dx^{2}}`, and for a derivative by the time."""
    return (derivative[2] or derivative[3]) + "'" * int(derivative[1] or 1)


def compared(one: str, other: str) -> bool | None:
    """Whether two answers are equal; None if that is not decided, or one of them cannot be read and they differ."""
    if one == other:
        return True
    if any(_PRIMED.search(text) for text in (one, other)):  # else the variables of derivatives must be the same
        one, other = (_DERIVATIVE.sub(_with_primes, text) for text in (one, other))
    first, second = readings(one), readings(other)
    if not first or not second:
        return None
    try:
        equal = any_same(first, second)
    except Undecided:
        return None
    except (RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # sympy's errors about incomparable expressions; some of them cannot be pickled back from a worker
        raise ValueError(" ".join(str(error).split())[:200]) from None
    mixed = any(isinstance(part, Words) and part.mixed for part in (first[0], second[0]))
    return None if mixed and not equal else equal


def read(text: str) -> tuple[bool, complex | None]:
    """Whether an answer can be read, and its value if it is a number and nothing else."""
    found = readings(text)
    value = found[0] if len(found) == 1 else None
    plain = isinstance(value, Value) and value == Value(value.expression, value.rounded)
    if not isinstance(value, Value) or not plain or not value.expression.is_number:
        return bool(found), None
    try:
        number = complex(value.expression.evalf(15))
    except (TypeError, ValueError, OverflowError):  # not a number after all, or outside the range of a float
        return True, None
    return True, number if math.isfinite(abs(number)) else None


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Reading, ...]:
    """All readings of an answer; empty if it cannot be read as a whole."""
    try:
        tree = nodes(with_signs(text))
        found = _of(tree) or _as_text(tree)
        alone = (
            part.members[0]
            for part in found
            if isinstance(part, Several) and part.kind == "set" and len(part.members) == 1
        )
        return (
            *found,
            *(one for member in alone for one in member if isinstance(one, Value) and one.expression.is_number),
        )  # `{1}` is said as 1, too
    except IMPOSSIBLE:
        return ()


def _as_text(some: Nodes) -> tuple[Reading, ...]:
    """Words with numbers and signs among them, such as `July 4`, which are only compared as text."""
    if not any(map(is_word, some)):
        return ()
    spelled = "".join((" " if one.spaced else "") + written((one,)) for one in some)
    return (Words(cased(" ".join(re.sub(r"\\text\{ ?([^{}]*)\}", r" \1 ", spelled).split())), mixed=True),)


def _of(some: Nodes) -> tuple[Reading, ...]:
    """All readings of some nodes."""
    return tuple(dict.fromkeys(no_product(some) or (*_all(some), *notated(some))))


def _all(some: Nodes) -> Iterator[Reading]:
    if parts := labelled_parts(some) or _quotient_and_rest(some):
        yield from _several("tuple", parts)
        return
    some = with_base(without_ordinal(with_thousands(bare(some))))
    if not some:
        return
    if all_but := list(attempt(_all_but(some))):
        yield from all_but
        return
    if found := list(worded(some)):
        for one in found:
            yield from readings(one) if isinstance(one, str) else (one,)
        return
    some = with_order(without_quantifier(_with_approximation(some)))
    if any(is_sign(node, "±", "∓") for node in flat(some)):
        yield from attempt(_with_both_signs(some))
        return
    conditions = list(attempt(_conditions(some)))
    yield from conditions
    members = _congruences(_members(some))
    if len(members) == 1:
        yield from _single(some)
    elif not conditions:
        yield from attempt(quantity(some))
        joined = {word for node in some if (word := joins(node))}
        if joined == {"or"}:
            yield from attempt(_union(members))
        yield from _several("list", members, form=joined.pop() if len(joined) == 1 else "")


_ALL_BUT = re.compile(r"(?:all |every |the |set of )*([a-z -]+?) (?:except|but|other than|excluding|besides)(?: for)?")


def _all_but(some: Nodes) -> Iterator[Reading]:
    r"""A set of numbers without some, in words: `\\text{all real numbers except } 2`."""
    from sympy import FiniteSet

    at = next((at for at, node in enumerate(some) if node.kind not in ("text", "letters")), len(some))
    called = _ALL_BUT.fullmatch(re.sub(r"\breal [a-z]\b", "reals", " ".join(node.name for node in some[:at]).lower()))
    for one in worded((Node("text", f"all {called[1]}"),)) if called and at < len(some) else ():
        values = [_of(part)[0] for part in _members(some[at:])]
        if isinstance(one, Numbers) and all(isinstance(value, Value) for value in values):
            yield Numbers(one.values - FiniteSet(*(value.expression for value in values)))  # type: ignore[union-attr]


def _quotient_and_rest(some: Nodes) -> list[Nodes]:
    r"""The numbers of `3 \\text{ R } 2` and `3\\text{ remainder }2`."""
    divided = [node.kind for node in some[::2]] == ["number", "number"] and len(some) == 3
    return [some[:1], some[2:]] if divided and some[1].name in ("R", "r", "remainder", "with remainder") else []


def _with_approximation(some: Nodes) -> Nodes:
    """`e^2-1 (\\approx 6.39)` as `e^2-1 \\approx 6.39`."""
    last = some[-1]
    inner = last.parts[0] if last.kind == "group" and last.name == "()" and len(some) > 1 else ()
    about = inner and (is_sign(inner[0], "≈") or inner[0].name in ("approximately", "approx", "about", "roughly"))
    return (*some[:-1], Node("sign", "≈"), *inner[1 + is_sign(inner[1], ".") :]) if about and len(inner) > 1 else some


def _single(some: Nodes) -> Iterator[Reading]:
    """Readings of nodes without commas outside brackets."""
    yield from attempt(_bracketed(some))
    yield from attempt(tabulated(some, _of))
    if len(sides := split(some, *RELATIONS)) > 1:
        yield from attempt(_related(some, sides))
        return
    if len(some) == 1 and some[0].kind == "letters" and re.fullmatch(r"[A-Z]?[a-z]{2,3}", some[0].name):
        yield Words(some[0].name.casefold())  # `red`, if it is no product
    yield from of_single_part(some)
    yield from attempt(_set(some))
    measured = list(attempt(quantity(some)))
    yield from measured
    if not any(isinstance(one, Value) and (one.percent or (one.unit and is_physical(one.unit))) for one in measured):
        yield from attempt(formula(some))


# Several answers, and both signs ----------------------------------------------------------------------


def _members(some: Nodes) -> list[Nodes]:
    """The parts of an enumeration: between commas, semicolons, `and` and `or`."""
    if any(is_sign(node, ";") for node in some) and any(is_sign(node, ",") for node in some):
        return [part for part in split(some, ";") if part]
    found = split(tuple(Node("sign", ",") if is_sign(node, ";", "\\") or joins(node) else node for node in some), ",")
    return [part for part in found if part] if len(found) > 1 else [some]


def _congruences(members: list[Nodes]) -> list[Nodes]:
    r"""Members in which each of `n \equiv 0, 1 \pmod 4` is a congruence."""
    at = next((at for at, node in enumerate(members[0]) if is_sign(node, "≡")), -1)
    last = members[-1][-1] if members[-1] else None
    if at < 0 or len(members) == 1 or last is None or last.name not in ("pmod", "pod"):
        return members
    name, sign, first = members[0][:at], members[0][at], members[0][at + 1 :]
    if any(is_sign(node, "≡") for member in members[1:] for node in member):
        return members
    return [(*name, sign, *member, last) for member in (first, *members[1:-1], members[-1][:-1])]


def _several(kind: Literal["tuple", "set", "list"], parts: Sequence[Nodes], form: str = "") -> Iterator[Several]:
    members = tuple(map(_of, parts))
    worded = [isinstance(member[0], Words) for member in members if member]
    if members and all(members) and (all(worded) or not any(worded) or kind != "list"):
        yield Several(kind, members, form)


def _union(members: Sequence[Nodes]) -> Iterator[Reading]:
    r"""`(-\infty,-1)` or `(3,\infty)` as one set."""
    from sympy import Union

    yield Numbers(Union(*map(_as_set, members)))


def _with_both_signs(some: Nodes) -> Iterator[Reading]:
    r"""`1 \pm 2` as the set of its values: all signs alike, or alike within a member, or each on its own."""
    within = some[0].parts[0] if len(some) == 1 and some[0].kind == "group" else ()
    if within and some[0].name == r"\{\}":  # each with its signs, as in `\{0, \pm 1\}`
        yield from _set_of([_of(_signed(part, signs)) for part in split(within, ",") for signs in _signs_of(part)])
        return
    parts = split(within, ",") if has_comma(within) else _members(some)
    counts = [sum(is_sign(node, "±", "∓") for node in flat(part)) for part in parts]
    if any(is_sign(node, "≠") for node in some) and len(counts) == 1:  # `x \ne \pm 4`
        either = [_of(_signed(some, [sign] * counts[0])) for sign in "+-"]
        values = [one for found in either for one in found if isinstance(one, Numbers)]
        if len(values) == len(either):
            yield replace(values[0], values=values[0].values.intersect(values[1].values))
        return
    if sum(counts) > _MOST_SIGNS:
        raise UnreadableError("±")
    by_part = [at for at, count in enumerate(counts) for _ in range(count)]
    linked = any(is_sign(node, "∓") for node in flat(some))
    ways = [[0] * len(by_part), *([] if linked else [range(len(by_part)), by_part])]
    for groups in dict.fromkeys(map(tuple, ways)):
        chosen = [dict(zip(sorted(set(groups)), signs)) for signs in product("+-", repeat=len(set(groups)))]  # noqa: B905
        yield from _set_of([_of(_signed(some, [signs[group] for group in groups])) for signs in chosen])
    if not within and len(parts) > 1:
        yield from _set_of(
            [_of(_signed(part, [s] * n)) for part, n in zip(parts, counts, strict=True) for s in "+-"[: 1 + (n > 0)]]
        )


def _signs_of(part: Nodes) -> list[str]:
    """The signs that all ± of a part may have."""
    count = sum(is_sign(node, "±", "∓") for node in flat(part))
    return ["+" * count, "-" * count] if count else [""]


def _set_of(members: Sequence[tuple[Reading, ...]]) -> Iterator[Reading]:
    if all(members):
        yield Several("set", tuple(members))


def _signed(some: Nodes, chosen: Sequence[str]) -> Nodes:
    """Nodes with a sign for each ±, from left to right, and the other one for each ∓."""
    left = list(chosen)

    def signed(part: Nodes) -> Nodes:
        return tuple(
            replace(node, name=left.pop(0) if node.name == "±" else "-+"[left.pop(0) == "-"])
            if is_sign(node, "±", "∓")
            else replace(node, parts=tuple(map(signed, node.parts)))
            for node in part
        )

    return signed(some)


# Relations --------------------------------------------------------------------------------------------


def _conditions(some: Nodes) -> Iterator[Reading]:
    """Inequalities that hold together or one of them: `x < -2 or x > 3`, `x \\ge 2, x \\ne 5`, `-1 < x \\le 3`."""
    from sympy import EmptySet, FiniteSet, Integers, Intersection, Union

    while len(some) > 1 and some[0].name.lower() in ("all", "every", "any"):
        some = some[1:]
    joined = [joins(node) or "," for node in some if is_sign(node, ",", ";") or joins(node)]
    parts = _members(some)
    kinds = {one for one in joined if one != ","} or ({"and"} if joined else set())
    unequal = next((at for at, node in enumerate(parts[0]) if is_sign(node, "≠")), -1)
    if all(any(is_sign(node, "≠") for node in part) for part in parts[1:]) and unequal > 0:
        kinds -= {"or"}  # `x \\ne 1 or x \\ne 3` means both
    if unequal > 0 and not any(is_sign(node, *RELATIONS) for part in parts[1:] for node in part):  # `x \\ne -1, 4`
        parts = [parts[0], *((*parts[0][: unequal + 1], *part) for part in parts[1:])]
        kinds = {"and"}
    if len(kinds) > 1 or len(parts) != len(joined) + 1 or not any(is_sign(node, *_ORDERS, "∈") for node in some):
        return
    found = [_condition(part) for part in parts]
    listed = any(isinstance(one.values, FiniteSet) for one in found)
    if len({one.name for one in found}) == 1 and (kinds == {"or"} or not listed):
        merged = (Union if kinds == {"or"} else Intersection)(*(one.values for one in found))
        if merged is EmptySet and "and" not in joined:  # of `x < -1, x > 3`
            merged = Union(*(one.values for one in found))
        whole = found[0].name == ANY_WHOLE  # then `n > 4` is `n \\ge 5`
        yield Numbers(Intersection(merged, Integers) if whole else merged, found[0].name)


def _condition(part: Nodes) -> Numbers:
    """The numbers that fulfil a chain of inequalities of one variable."""
    from sympy import Intersection, Reals

    signs = [node.name for node in part if is_sign(node, *RELATIONS)]
    sides = split(part, *RELATIONS)
    if signs == ["∈"]:
        for one in _of(sides[1]):
            among = _range(one) if isinstance(one, Several) and one.kind == "interval" else one
            if isinstance(among, Numbers) and re.fullmatch(_VARIABLE, written(sides[0])):
                return Numbers(among.values, written(sides[0]))
    if not signs or not (set(signs) <= set(_ORDERS) or signs == ["="]):
        raise UnreadableError(written(part))
    values = [_with_names(expression(side).value) if side else symbol("_") for side in sides]
    (variable,) = set().union(*(value.free_symbols for value in values))
    orders = zip(signs, values, values[1:])  # noqa: B905  # two sides at a time
    return Numbers(
        Intersection(Reals, *(_solved(sign, left, right, variable) for sign, left, right in orders)),
        "" if str(variable) == "_" else str(variable),
    )


def _with_names(value: Any) -> Any:
    """A formula in which functions of which nothing is known, such as `f(x)`, are variables."""
    from sympy.core.function import AppliedUndef

    return value.xreplace({part: symbol(str(part)) for part in value.atoms(AppliedUndef)})


def _solved(sign: str, left: Any, right: Any, variable: Any) -> Any:
    import sympy

    for one, other, towards in ((left, right, sign), (right, left, _MIRRORED.get(sign, sign))):
        if one == variable and other.is_extended_real and not other.free_symbols:
            if towards == "=":
                return sympy.FiniteSet(other)
            if towards == "≠":
                return sympy.Reals - sympy.FiniteSet(other)
            below, strict = towards in ("<", "≤"), towards in ("<", ">") or other in (sympy.oo, -sympy.oo)
            ends = (-sympy.oo, other, True, strict) if below else (other, sympy.oo, strict, True)
            return sympy.Interval(*ends)
    real = sympy.Symbol("x", real=True)
    orders = {"<": sympy.Lt, ">": sympy.Gt, "≤": sympy.Le, "≥": sympy.Ge, "≠": sympy.Ne, "=": sympy.Eq}
    relation = orders[sign](left.subs(variable, real), right.subs(variable, real))
    if relation in (sympy.true, sympy.false):
        return sympy.Reals if relation == sympy.true else sympy.EmptySet
    return relation.as_set()


def _related(some: Nodes, sides: list[Nodes]) -> Iterator[Reading]:
    """Readings of equations, assignments and computations."""
    signs = [node.name for node in some if is_sign(node, *RELATIONS)]
    if "≈" in signs:
        yield from _approximate(signs, sides)
        return
    if set(signs) == {"="}:
        yield from _equated(sides)
    if len(sides) > 2 and all(sides) and (set(signs) <= {"<", "≤"} or set(signs) <= {">", "≥"}):
        pairs = zip(signs, sides, sides[1:], strict=False)
        orders = [list(_related((*one, Node("sign", sign), *other), [one, other])) for sign, one, other in pairs]
        yield from _set_of([tuple(order) for order in orders])  # `a < b < c`
        return
    if len(sides) != 2 or not all(sides):
        return
    sign, modulus = signs[0], None
    if sign == "∈":
        name = written(sides[0])
        for one in _of(sides[1]) if re.fullmatch(rf"{_VARIABLE}|\(\w(,\w)+\)", name) else ():
            if isinstance(one, Several) and one.kind == "set":
                yield _each_named(one, name) if name.startswith("(") else replace(one, name=name)
        return
    if sign == "≡":
        try:
            sides[1], divisor = congruent(sides[1])
        except UnreadableError:  # `f(x) \equiv 0`
            yield from _equated(sides)
            return
        modulus = expression(bare(divisor)).value
    if any(re.fullmatch(r"d[a-z]/d[a-z]", written(side)) for side in sides):
        return  # which is no product
    left, right = map(expression, sides)
    if left.rounded or right.rounded or left.value.free_symbols | right.value.free_symbols:
        if sign in (">", "≥"):
            sign, left, right = _MIRRORED[sign], right, left
        yield Relation(sign, left.value, right.value, modulus)
        if modulus is not None and left.value.is_Symbol and right.value.is_number:
            yield Value(right.value + modulus * symbol(ANY_WHOLE), name=str(left.value))


def _each_named(some: Several, name: str) -> Several:
    """A set of points, each of which is assigned to the variables of a name such as `(x,y)`."""
    named = (tuple(replace(one, name=name) for one in member if isinstance(one, Several)) for member in some.members)
    return replace(some, members=tuple(named))


def _approximate(signs: list[str], sides: list[Nodes]) -> Iterator[Reading]:
    """An exact value takes precedence over its approximation, unless it is a name."""
    at = signs.index("≈")
    exact, about = sides[: at + 1], sides[at + 1]
    if not all(exact) or signs[:at] != ["="] * at:
        yield from _of(about) if not exact[-1] else ()
    elif name := name_of(exact[-1]):
        yield from (replace(one, name=name) if isinstance(one, Value) else one for one in _of(about))
    else:
        values = [one for one in _of(about) if isinstance(one, Value)]
        for one in _equated(exact) if len(exact) > 1 else _of(exact[-1]):
            if not isinstance(one, Value):
                yield one
            elif near := [value for value in values if _is_about(one, value)]:
                yield from (one, *near)


def _is_about(exact: Value, value: Value) -> bool:
    """Whether a value may be a rounded one of another."""
    if exact.expression == value.expression:
        return True
    first, second = (part.expression.evalf(15) / (100 if part.percent else 1) for part in (exact, value))
    return not first.is_number or bool(abs(first - second) <= _ROUNDED * max(abs(first), abs(second)))


def _equated(sides: list[Nodes]) -> Iterator[Reading]:
    """The value of a chain of equalities, if all of the chain holds: `5` in `x = 5` and in `3 + 2 = 5`."""
    if not all(sides):
        return
    if len(sides) == 2 and name_of(sides[1]) and not name_of(sides[0]):
        sides = sides[::-1]
    *left, last = sides
    if len(left) > 1 and all([one.kind for one in side] == ["letters"] and len(side[0].name) == 1 for side in left):
        yield Several("tuple", (_of(last),) * len(left), name=":".join(side[0].name for side in left))  # `a = b = 2`
    names = [name for side in left if (name := name_of(side))]
    named = len(names) == len(left)
    found = _of(last)
    words = not any(isinstance(reading, Value) for reading in found)  # else `ma` is a product, of which the name counts
    for reading in found:
        if isinstance(reading, Value):
            if all(name_of(side) or _comes_to(side, reading) for side in left):
                yield replace(reading, name=names[0] if names else "")
        elif isinstance(reading, Words) and named and words:
            yield replace(reading, name=names[0])
        elif isinstance(reading, Several) and named:
            if not names[0].startswith("(") or reading.kind == "tuple":  # `(x,y)` is a name of a tuple only
                yield replace(reading, name=names[0])
        elif isinstance(reading, Numbers) and named and not names[0].startswith("("):
            yield replace(reading, name=names[0])


def _comes_to(side: Nodes, value: Value) -> bool:
    try:
        return any(isinstance(one, Value) and same(replace(one, name=""), value) for one in _of(side))
    except Undecided:
        return False


# Brackets, sets, ratios -------------------------------------------------------------------------------


def _bracketed(some: Nodes) -> Iterator[Reading]:
    """Readings as a tuple, a point with a name, an interval, or a set in braces."""
    *before, last = some
    point: Any = len(before) == 1 and before[0].kind == "letters" and re.fullmatch("[ABD-MO-TV-Z]", before[0].name)
    point = point or (
        [one.name for one in before] == ["C"] and not _chooses(written(last.parts[0] if last.parts else ()))
    )
    if last.kind != "group" or (before and not point):
        if is_transposed(some) and before[-1].name == "()" and len(before) == 1 and has_comma(before[0].parts[0]):
            yield from _bracketed(some[:1])  # `(3, 4)^T`
        if last.name in ("()", "⟨⟩") and _scales(before, last.name) and has_comma(last.parts[0]):
            turned = [(*before, Node("group", "()", (part,))) for part in split(last.parts[0], ",")]
            yield from _several("tuple", turned)  # `-(3, 4)`
        return
    inner = last.parts[0]
    parts = split(inner, "," if any(is_sign(one, ",") for one in inner) else ";")
    if last.name == r"\{\}" and not before:
        yield from _in_braces(inner, parts)
    elif last.name == "[]" and not before and _CONTINUED.fullmatch(written(inner)):
        yield _continued_fraction(split(inner, ";", ","))
    elif last.name == "[]" and not before and all([one.name for one in part] == ["[]"] for part in parts):
        rows = [split(part[0].parts[0], ",") for part in parts]
        if len({len(row) for row in rows}) == 1:
            cells = tuple(cell for row in rows for cell in row)
            yield from tabulated((Node("table", "pmatrix", cells, len(rows[0])),), _of)
    elif last.name in ("()", "[]", "[)", "(]", "⟨⟩") and len(parts) > 1 and all(parts):
        if len(parts) == 2 and last.name != "⟨⟩" and not before:
            yield from _interval(last.name, parts)
        if last.name in ("()", "⟨⟩") or (last.name == "[]" and len(parts) > 2):
            yield from (replace(one, name=before[0].name if before else "") for one in _several("tuple", parts))


_CONTINUED = re.compile(r"-?\d+;(?:[1-9]\d*,)+[1-9]\d*")  # two terms would be an interval


def _scales(before: Nodes | list[Node], brackets: str) -> bool:
    """Whether what stands before a tuple is a sign or a factor of all its members."""
    if len(before) == 1 and is_sign(before[0], "-", "+"):
        return True
    if any(is_sign(node, *RELATIONS) for node in before):
        return False
    return brackets == "⟨⟩" or (len(before) == 1 and (before[0].kind == "number" or before[0].name == "frac"))


def _chooses(arguments: str) -> bool:
    """Whether `C` of some arguments is a binomial coefficient, and not the name of a point such as `C(3, -4)`."""
    numbers = re.fullmatch(r"(\d+),(\d+)", arguments)
    return int(numbers[2]) <= int(numbers[1]) if numbers else not re.search(r"[-.]|frac", arguments)


def _continued_fraction(parts: Sequence[Nodes]) -> Value:
    """The value of `[2; 3, 4]`."""
    *before, value = (expression(part).value for part in parts)
    for part in reversed(before):
        value = part + 1 / value
    return Value(value)


def _interval(form: str, parts: Sequence[Nodes]) -> Iterator[Reading]:
    members = tuple(tuple(one for one in _of(part) if isinstance(one, Value)) for part in parts)
    if not all(members):
        return
    found = Several("interval", members, form)
    numbers = _range(found)
    if numbers is not None:
        yield numbers
    elif form != "()":
        yield found


def _range(interval: Several) -> Numbers | None:
    """The numbers of an interval, if its ends are in order; ends that are percentages are shares."""
    from sympy import Interval

    low, high = (end.expression / (100 if end.percent else 1) for end, *_ in interval.members)  # type: ignore[union-attr]
    if not all(end.is_extended_real and not end.free_symbols for end in (low, high)) or not bool(low < high):
        return None
    return Numbers(Interval(low, high, interval.form[0] == "(", interval.form[1] == ")"))


def _in_braces(inner: Nodes, parts: Sequence[Nodes]) -> Iterator[Reading]:
    from sympy import EmptySet, FiniteSet, Range

    if not inner:
        yield Numbers(EmptySet)
        return
    built = next((at for at, node in enumerate(inner) if is_sign(node, "∣", "|", ":")), None)
    if built is None:
        yield from _several("set", [part for part in parts if part])
        return
    if listed := _listed_family(inner[:built], inner[built + 1 :]):
        yield from _several("set", listed)
        return
    family = (*inner[:built], Node("sign", ","), *inner[built + 1 :])
    members = family if built == 1 or any(is_sign(one, "∈") for one in inner[:built]) else without_quantifier(family)
    if members != family:
        yield from _of(members)  # such as `\{2k : k \in \mathbb{Z}\}`
        return
    variable, *among = inner[:built]
    values = number_set(among[1]) if len(among) == 2 and is_sign(among[0], "∈") else None
    if (among and values is None) or len(variable.name) > 1:
        return
    for one in attempt(_conditions(inner[built + 1 :])):
        if isinstance(one, Numbers) and one.name in (variable.name, ""):
            found = one.values if values is None else one.values.intersect(values)
            few = isinstance(found, Range) and found.size.is_Integer and found.size < _MOST_MEMBERS
            yield Numbers(FiniteSet(*found) if few else found)


def _listed_family(member: Nodes, values: Nodes) -> list[Nodes]:
    r"""The members of `\{2k : k = 1, 2, 3\}`; empty for any other set."""
    assigned = re.fullmatch(r"([a-z])=(-?\d+(?:,-?\d+)*)", written(values))
    letter = assigned[1] if assigned else ""
    if not letter or any(letter in node.name != letter for node in flat(member) if node.kind == "letters"):
        return []  # in `kx`, the letter is a factor of one node

    def at(number: Nodes, some: Nodes) -> Nodes:
        return tuple(
            Node("group", "()", (number,))
            if node.name == letter
            else replace(node, parts=tuple(at(number, part) for part in node.parts))
            for node in some
        )

    *_, numbers = split(values, "=")

    return [at(number, member) for number in split(numbers, ",")]


def _set(some: Nodes) -> Iterator[Reading]:
    """Readings as sets of numbers: their names, unions, intersections and differences."""
    import sympy

    if any(number_set(node) is not None for node in some):  # `\mathbb{R} - \{1\}`
        some = tuple(replace(node, name="∖") if is_sign(node, "-") else node for node in some)
    some = tuple(
        Node("sign", "∪") if node.name == "U" and {"group"} == {one.kind for one in around} else node
        for node, around in zip(some, zip((some[-1], *some), (*some[1:], some[0]), strict=False), strict=False)
    )
    signs = [node.name for node in some if is_sign(node, "∪", "∩", "∖")]
    if len(some) == 2 and number_set(some[0]) is not None and some[1].kind in ("sup", "sub"):
        yield Numbers(_positive(some[0], written(some[1].parts[0])))
        return
    if signs or (len(some) == 1 and number_set(some[0]) is not None):
        value, *others = map(_as_set, split(some, "∪", "∩", "∖"))
        for sign, other in zip(signs, others, strict=True):
            value = {"∪": sympy.Union, "∩": sympy.Intersection, "∖": sympy.Complement}[sign](value, other)
        yield Numbers(value)


def _positive(node: Node, which: str) -> Any:
    r"""The positive numbers of a set, such as `\\mathbb{Z}^+` and `\\mathbb{R}_{>0}`, or those from 0 on."""
    import sympy

    ends = {"+": (True, sympy.oo), ">0": (True, sympy.oo), r"\ge 0": (False, sympy.oo), "-": (True, -sympy.oo)}
    if which not in ends:
        raise UnreadableError(which)
    is_open, end = ends[which]
    half = sympy.Interval(0, end, is_open, True) if end > 0 else sympy.Interval(end, 0, True, is_open)
    whole = getattr(sympy.S, number_set(node).__class__.__name__)
    return sympy.S.Naturals if whole is sympy.S.Integers and end > 0 and is_open else half.intersect(whole)


def _as_set(part: Nodes) -> Any:
    from sympy import FiniteSet

    part = bare(part)
    if len(part) == 1 and (known := number_set(part[0])) is not None:
        return known
    for one in _of(part) if part else ():
        if isinstance(one, Numbers):
            return one.values
        if isinstance(one, Several) and one.kind == "set" and all(isinstance(m[0], Value) for m in one.members):
            return FiniteSet(*(member[0].expression for member in one.members))  # type: ignore[union-attr]
    raise UnreadableError(written(part))

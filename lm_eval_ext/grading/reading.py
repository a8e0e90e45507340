r"""What an answer says: values with units, tuples, sets, intervals, ratios, equations, matrices, words.

One grammar, which accounts for every node of the answer or has no reading of it. An answer may have several readings:
`(1, 2)` is a point and an interval, `15:30` a time and a ratio.

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from lm_eval_ext.grading.equality import Undecided, same
from lm_eval_ext.grading.formula import expression, is_name, symbol
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, flat, is_sign, joins, nodes, split, written
from lm_eval_ext.grading.quantities import RELATIONS, quantity
from lm_eval_ext.grading.units import Unit
from lm_eval_ext.grading.values import TIME, Numbers, Reading, Relation, Several, Value, Words
from lm_eval_ext.grading.words import cased, leads, lexicon, number_in_words

_MIRRORED = {">": "<", "≥": "≤"}
_IN = 2  # nodes in `∈ R`
_MOST_SIGNS = 4  # of ± in one answer
# What cannot be read, or what sympy can't build, such as a comparison of complex numbers.
_IMPOSSIBLE = (
    UnreadableError, TypeError, ValueError, AttributeError, NotImplementedError, ZeroDivisionError, OverflowError,
    RecursionError,
)  # fmt: skip


def normalised(text: str) -> str:
    r"""An answer as plain LaTeX: the tree as it is written, or the text itself if it is none.

    >>> normalised("３\\dfrac12 ")
    '3\\frac{1}{2}'
    """
    try:
        found = written(bare(nodes(text)))
    except UnreadableError:
        return " ".join(text.split())
    return found.rstrip(" .,;") if not found.endswith("..") else found


@lru_cache(maxsize=4096)
def readings(text: str) -> tuple[Reading, ...]:
    """All readings of an answer; empty if it cannot be read as a whole."""
    try:
        tree = nodes(text)
        return _distinct(_of(tree)) or _as_text(tree)
    except _IMPOSSIBLE:
        return ()


def _as_text(some: Nodes) -> tuple[Reading, ...]:
    """Words with numbers and signs among them, such as `July 4`, which are only compared as text."""
    if not any(_word(node) for node in some):
        return ()
    plain = re.sub(
        r"\\text\{ ?([^{}]*)\}", r" \1 ", "".join((" " if one.spaced else "") + written((one,)) for one in some)
    )
    return (Words(cased(" ".join(plain.split())), mixed=True),)


def _distinct(found: Iterator[Reading]) -> tuple[Reading, ...]:
    return tuple(dict.fromkeys(found))


def _attempt(found: Iterator[Reading]) -> Iterator[Reading]:
    """The readings up to the first that is impossible."""
    try:
        yield from found
    except _IMPOSSIBLE:
        return


def _of(some: Nodes) -> Iterator[Reading]:
    some = _without_ordinal(_with_thousands(bare(some)))
    if not some:
        return
    if (said := _words(some)) is not None:
        yield from _in_words(said)
        return
    some = _without_quantifier(some)
    signed = sum(is_sign(node, "±", "∓") for node in flat(some))
    if signed:
        yield from _attempt(_with_both_signs(some, signed))
        return
    conditions = list(_attempt(_conditions(some)))
    yield from conditions
    members = _members(some)
    if len(members) > 1 and conditions:
        return
    if len(members) > 1:
        yield from _attempt(quantity(some))
        joined = {word for node in some if (word := joins(node))}
        yield from _several("list", members, form=joined.pop() if len(joined) == 1 else "")
        return
    yield from _one(some)


def _one(some: Nodes) -> Iterator[Reading]:
    """Readings of nodes without commas outside brackets."""
    yield from _attempt(_bracketed(some))
    yield from _attempt(_tabulated(some))
    sides = _sides(some)
    if len(sides) > 1:
        yield from _attempt(_related(some, sides))
        return
    yield from _attempt(_ratio(some))
    yield from _attempt(_set(some))
    measured = list(_attempt(quantity(some)))
    yield from measured
    if not any(
        isinstance(one, Value) and (one.percent or (one.unit and "[" in one.unit.dimension)) for one in measured
    ):
        yield from _attempt(_plain_value(some))


def _plain_value(some: Nodes) -> Iterator[Reading]:
    from sympy import oo

    found = expression(some)
    if found.value.is_Matrix:
        cells = tuple((Value(cell, found.rounded),) for cell in found.value)
        yield Several("matrix", cells, str(found.value.cols))
        return
    if found.value.has(oo) and found.value not in (oo, -oo):
        return
    yield Value(found.value, found.rounded)


# Nodes ------------------------------------------------------------------------------------------------


def bare(some: Nodes) -> Nodes:
    """Without what stands around an answer: full stops, an equals sign before it, braces and brackets, emphasis."""
    while some:
        if is_sign(some[-1], ".", ",", ";", "\\") and not (len(some) > 1 and is_sign(some[-2], ".")):
            some = some[:-1]
        elif is_sign(some[0], "=", "\\", ":", "⇒", "→", "∴"):
            some = some[1:]
        elif len(some) > 4 and all(is_sign(one, "*") for one in (*some[:2], *some[-2:])):
            some = some[2:-2]
        elif (len(some) == 1 and some[0].kind == "group" and some[0].name == "{}") or (
            len(some) == 1 and some[0].kind == "group" and some[0].name == "()" and not _has_comma(some[0].parts[0])
        ):
            some = some[0].parts[0]
        elif (lead := _lead(some)) and lead < len(some):
            some = some[lead:]
        elif len(some) > 2 and some[0].kind == "sign" and some[0].name in "\"'`" and some[0].name == some[-1].name:
            some = some[1:-1]
        else:
            break
    return some


def _with_thousands(some: Nodes) -> Nodes:
    """Nodes in which `1,234,567` is one number, if there are no other commas."""
    for at, node in enumerate(some):
        if node.kind != "number" or not re.fullmatch(r"\d{1,3}(\.\d{3})?", node.name):
            continue
        end = at + 1
        while end + 1 < len(some) and is_sign(some[end], ",") and re.fullmatch(r"\d{3}(\.\d+)?", some[end + 1].name):
            if some[end].spaced or some[end + 1].spaced:
                break
            end += 2
        continental = [one.name for one in some[at : at + 3]]
        if (
            len(some) == at + 3
            and re.fullmatch(r"\d{1,3}\.\d{3},\d{1,2}", "".join(continental))
            and not some[-1].spaced
        ):
            return (*some[:at], replace(node, name=continental[0].replace(".", "") + "." + continental[2]))
        if end > at + 1:
            rest = (*some[:at], *some[end:])
            digits = "".join(one.name for one in some[at:end] if one.kind == "number")
            return some if _has_comma(rest) else (*some[:at], replace(node, name=digits), *some[end:])
    return some


def _without_ordinal(some: Nodes) -> Nodes:
    r"""`12` for `12^{\text{th}}` and `12th`."""
    if (len(some) == 2 and some[0].kind == "number") or (
        len(some) == 3 and is_sign(some[0], "-") and some[1].kind == "number"
    ):
        said = re.sub(r"\\text\{ ?|[{}^\s]", "", written(some[-1:])).lower()
        return some[:-1] if said in ("st", "nd", "rd", "th") else some
    return some


def _has_comma(some: Nodes) -> bool:
    return any(is_sign(node, ",", ";") for node in some)


def _word(node: Node) -> str:
    """A node as a word, if it can be nothing else."""
    if node.kind == "text":
        return node.name
    if node.kind == "letters" and len(node.name) > 1 and not is_name(node.name):
        return node.name
    return ""


def _lead(some: Nodes) -> int:
    """Number of nodes at the start that only introduce the answer, such as `The answer is` or `about`."""
    words = ""
    for at, node in enumerate(some):
        word = node.name if node.kind in ("text", "letters") else node.name if is_sign(node, ":") and words else ""
        if not word:
            return 0
        words = f"{words} {word}".strip().lower().rstrip(":").strip()
        if words in leads():
            following = some[at + 1 : at + 2]
            return at + (2 if following and is_sign(following[0], ":", "=") else 1)
        if len(words) > 60:
            return 0
    return 0


def _words(some: Nodes) -> str | None:
    """The words of an answer made up of words only; None for any other answer."""
    parts: list[str] = []
    certain = False
    for at, node in enumerate(some):
        if node.kind == "text":
            certain = True
        elif node.kind == "letters":
            name = node.name
            certain |= len(name) > 3 and not is_name(name)
            certain |= name.lower() in lexicon()["short_words"] or (len(name) > 1 and name.isupper())
        elif not (is_sign(node, "-", "'", ".", "’", "!", "?") and at > 0):
            return None
        parts.append((" " if node.spaced or node.kind == "text" else "") + node.name)
    return " ".join("".join(parts).strip().rstrip(".!?").split()) if certain else None


def _in_words(text: str) -> Iterator[Reading]:
    from sympy import EmptySet, Integer, Reals, oo

    plain = text.casefold()
    if letter := re.fullmatch(r"\(?([A-Za-z])\)?\.?", text):
        yield from readings(letter[1])
        return
    if plain in lexicon()["nothing"]:
        yield Numbers(EmptySet)
    elif plain in lexicon()["all_reals"]:
        yield Numbers(Reals)
    elif plain in ("infinity", "positive infinity", "negative infinity"):
        yield Value(-oo if plain.startswith("negative") else oo)
    elif (number := number_in_words(plain)) is not None:
        yield Value(Integer(number.numerator) / number.denominator)
    elif (inner := _mathematics(text)) is not None:
        yield from readings(inner)
        return
    if re.fullmatch(r"[a-z]+(?:[ ,]+and [a-z]+)+", plain):
        yield Several("list", tuple((Words(word),) for word in re.split(r",? and |, ", plain)))
    yield Words(cased(text))


def _mathematics(text: str) -> str | None:
    """What a text in words holds besides an introduction, such as `42` in `The answer is 42`."""
    words = text.split()
    for at in range(len(words), 0, -1):
        if " ".join(words[:at]).casefold().rstrip(":") in leads() and at < len(words):
            return " ".join(words[at:])
    return text if re.search(r"[\d=<>+]", text) else None


def _without_quantifier(some: Nodes) -> Nodes:
    """Without `for all x`, which says nothing about the value."""
    for at, node in enumerate(some):
        said = node.name.lower() if node.kind in ("text", "letters", "command") else ""
        if at and said in ("for all", "forall", "for any", "for every", "for all real", "for real"):
            variable, *where = some[at + 1 :] or [node]
            named = variable.kind in ("letters", "command") and len(variable.name) == 1
            if named and (
                not where or (is_sign(where[0], "∈") and _known_set(where[-1]) is not None and len(where) == _IN)
            ):
                kept = some[:at]
                return kept[:-1] if kept and is_sign(kept[-1], ",") else kept
        if at and is_sign(node, ",") and _is_of_integers(some[at + 1 :]):
            return some[:at]
        if at and said in ("for all real numbers", "for all reals", "for all real x") and at == len(some) - 1:
            return some[:at]
    return some


def _is_of_integers(some: Nodes) -> bool:
    r"""Whether nodes only say that a letter is a whole number, as `k \in \mathbb{Z}` does."""
    if len(some) == 3 and some[0].kind == "letters" and is_sign(some[1], "∈"):
        return written(some[2:]) in (r"\mathbb{Z}", r"\integers", "Z", r"\mathbb{N}")
    return (
        len(some) == 1
        and some[0].kind == "text"
        and re.fullmatch(r"\w is an integer|where \w is an integer", some[0].name) is not None
    )


def _members(some: Nodes) -> list[Nodes]:
    """The parts of an enumeration: between commas, semicolons, `and` and `or`."""
    if any(is_sign(node, ";") for node in some) and any(is_sign(node, ",") for node in some):
        return [part for part in split(some, ";") if part]
    found: list[list[Node]] = [[]]
    for node in some:
        if is_sign(node, ",", ";", "\\") or joins(node):
            found.append([])
        else:
            found[-1].append(node)
    return [tuple(part) for part in found if part] if len(found) > 1 else [some]


def _several(kind: Literal["tuple", "set", "list"], parts: Sequence[Nodes], form: str = "") -> Iterator[Several]:
    members = tuple(_distinct(_of(part)) for part in parts)
    in_words = [isinstance(member[0], Words) for member in members if member]
    if members and all(members) and (all(in_words) or not any(in_words) or kind != "list"):
        yield Several(kind, members, form)


# Signs, conditions, relations -------------------------------------------------------------------------


def _with_both_signs(some: Nodes, signed: int) -> Iterator[Reading]:
    """`1 \\pm 2` as the set of its values: all signs alike, or each on its own if they are in different members."""
    if signed > _MOST_SIGNS:
        raise UnreadableError("±")
    both = [_replaced(some, {"±": one, "∓": other}) for one, other in (("+", "-"), ("-", "+"))]
    yield from _several_values([[_distinct(_of(one)) for one in both]])
    if signed > 1:
        free = [_with_signs(some, chosen) for chosen in product("+-", repeat=signed)]
        yield from _several_values([[_distinct(_of(one)) for one in free]])
    members = _members(some)
    if len(members) > 1:
        each = [[_distinct(_of(one)) for one in _signs(member)] for member in members]
        yield from _several_values(each)
    if len(some) == 1 and some[0].kind == "group" and _has_comma(some[0].parts[0]):
        options = [_signs(part) for part in split(some[0].parts[0], ",")]
        points = [_distinct(_of((replace(some[0], parts=(_with_commas(chosen),)),))) for chosen in product(*options)]
        yield from _several_values([points])


def _with_signs(some: Nodes, chosen: Sequence[str]) -> Nodes:
    """Nodes with a sign for each ±, from left to right."""
    left = list(chosen)

    def signed(part: Nodes) -> Nodes:
        return tuple(
            replace(node, name=left.pop(0))
            if is_sign(node, "±", "∓")
            else replace(node, parts=tuple(map(signed, node.parts)))
            for node in part
        )

    return signed(some)


def _signs(member: Nodes) -> list[Nodes]:
    if not any(is_sign(node, "±", "∓") for node in flat(member)):
        return [member]
    return [_replaced(member, {"±": one, "∓": other}) for one, other in (("+", "-"), ("-", "+"))]


def _with_commas(parts: Sequence[Nodes]) -> Nodes:
    found: list[Node] = []
    for part in parts:
        found += [Node("sign", ","), *part] if found else part
    return tuple(found)


def _several_values(groups: Sequence[Sequence[tuple[Reading, ...]]]) -> Iterator[Reading]:
    members = tuple(member for group in groups for member in group)
    if all(members):
        yield Several("set", members)


def _replaced(some: Nodes, signs: dict[str, str]) -> Nodes:
    return tuple(
        replace(node, name=signs[node.name])
        if node.kind == "sign" and node.name in signs
        else replace(node, parts=tuple(_replaced(part, signs) for part in node.parts))
        for node in some
    )


def _sides(some: Nodes) -> list[Nodes]:
    return split(some, *RELATIONS)


def _conditions(some: Nodes) -> Iterator[Reading]:
    """Inequalities that hold together or one of them: `x < -2 or x > 3`, `x \\ge 2, x \\ne 5`, `-1 < x \\le 3`."""
    from sympy import FiniteSet, Intersection, Union

    joined = [joins(node) or "," for node in some if is_sign(node, ",", ";") or joins(node)]
    parts = _members(some)
    if not any(is_sign(node, "<", ">", "≤", "≥", "≠", "∈") for part in parts for node in part):
        return
    kinds = {one for one in joined if one != ","} or ({"and"} if joined else set())
    if len(kinds) > 1 or len(parts) != len(joined) + 1:
        return
    found = [_condition(part) for part in parts]
    names = {one.name for one in found}
    if len(names) > 1 or any(isinstance(one.values, FiniteSet) for one in found):
        return
    merged = (Union if kinds == {"or"} else Intersection)(*(one.values for one in found))
    yield Numbers(merged, found[0].name)


def _condition(part: Nodes) -> Numbers:
    """The numbers that fulfil a chain of inequalities of one variable."""
    from sympy import Intersection, Interval, Reals, S, Symbol

    signs = [node.name for node in part if is_sign(node, *RELATIONS)]
    sides = _sides(part)
    if signs == ["∈"]:
        name = written(sides[0])
        for one in _distinct(_of(sides[1])):
            if isinstance(one, Numbers):
                return Numbers(one.values, name)
            if isinstance(one, Several) and one.kind == "interval":
                return Numbers(_range(one), name)
        raise UnreadableError("∈")
    if not signs or not set(signs) <= {"<", ">", "≤", "≥", "≠"}:
        raise UnreadableError(written(part))
    values = [expression(side).value if side else None for side in sides]
    free = {one for value in values if value is not None for one in value.free_symbols}
    if len(free) > 1 or (not free and values[0] is not None):
        raise UnreadableError(written(part))
    variable = free.pop() if free else None
    found = Reals
    for sign, left, right in zip(signs, values, values[1:], strict=False):
        found = Intersection(found, _solved(sign, left, right, variable))
    if any(isinstance(one, Symbol) for one in found.free_symbols):
        raise UnreadableError(written(part))
    if found is S.EmptySet or isinstance(found, Interval) or found.is_subset(Reals):
        return Numbers(found, str(variable or ""))
    raise UnreadableError(written(part))


def _solved(sign: str, left: Any, right: Any, variable: Any) -> Any:
    import sympy
    from sympy import Interval, Reals, oo

    if left is None:
        left, variable = symbol("_"), symbol("_")
    if variable is None:
        raise UnreadableError(sign)
    for one, other, flipped in ((left, right, False), (right, left, True)):
        if one == variable and other.is_extended_real and not other.free_symbols:
            towards = sign if not flipped else {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}.get(sign, sign)
            if towards == "≠":
                return Reals - sympy.FiniteSet(other)
            if towards in ("<", "≤"):
                return Interval(-oo, other, True, towards == "<" or other is oo)
            return Interval(other, oo, towards == ">" or other == -oo, True)
    real = sympy.Symbol("x", real=True)
    known = {"<": sympy.Lt, ">": sympy.Gt, "≤": sympy.Le, "≥": sympy.Ge, "≠": sympy.Ne}
    relation = known[sign](left.subs(variable, real), right.subs(variable, real))
    if relation in (sympy.true, sympy.false):
        return Reals if relation == sympy.true else sympy.EmptySet
    try:
        return relation.as_set()
    except NotImplementedError:
        raise UnreadableError(sign) from None


def _related(some: Nodes, sides: list[Nodes]) -> Iterator[Reading]:
    """Readings of equations, assignments and computations."""
    signs = [node.name for node in some if is_sign(node, *RELATIONS)]
    if "≈" in signs:
        yield from _approximate(signs, sides)
        return
    if set(signs) == {"="}:
        yield from _equated(sides)
    if len(sides) != 2 or not all(sides):
        return
    sign, modulus = signs[0], None
    if sign == "≡":
        *rest, last = sides[1]
        if last.kind != "macro" or last.name not in ("pmod", "pod"):
            tail = next((at for at, one in enumerate(sides[1]) if one.name in ("mod",) or _modulo(one)), None)
            if tail is None:
                return
            divisor = sides[1][tail].parts[0][1:] if _modulo(sides[1][tail]) else sides[1][tail + 1 :]
            rest, modulus = list(sides[1][:tail]), expression(bare(divisor)).value
        else:
            modulus = expression(last.parts[0]).value
        sides = [sides[0], tuple(rest)]
    elif sign == "∈":
        yield from (one for one in _distinct(_of(sides[1])) if isinstance(one, Several) and one.kind == "set")
        return
    left, right = (expression(side) for side in sides)
    if left.rounded or right.rounded or left.value.free_symbols | right.value.free_symbols:
        if sign in _MIRRORED:
            sign, left, right = _MIRRORED[sign], right, left
        yield Relation(sign, left.value, right.value, modulus)


def _modulo(node: Node) -> bool:
    return node.kind == "group" and bool(node.parts[0]) and node.parts[0][0].name in ("mod", "modulo")


def _approximate(signs: list[str], sides: list[Nodes]) -> Iterator[Reading]:
    """An exact value takes precedence over its approximation, unless it is a name."""
    at = signs.index("≈")
    exact, about = sides[: at + 1], sides[at + 1]
    if not all(exact) or signs[:at] not in ([], ["="] * at):
        yield from _of(about) if not exact[-1] else ()
        return
    if _name(exact[-1]):
        yield from (replace(one, name=_name(exact[-1])) if isinstance(one, Value) else one for one in _of(about))
        return
    yield from _equated(exact) if len(exact) > 1 else _of(exact[-1])


def _name(side: Nodes) -> str:  # noqa: PLR0911  # one for each kind
    """What a side names, such as `x`, `f(x)`, `AB` or `|z|`; empty for a computation or a number."""
    if not side or any(node.kind in ("number", "table") for node in side[:1]):
        return ""
    if re.fullmatch(r"[A-Za-z](\+[A-Za-z])+", written(side)):  # `m+n`, which problems ask for
        return written(side)
    if any(is_sign(node, "+", "-", "*", "/", "·", "÷", "×", "!", "%", "<", ">") for node in side):
        return ""
    if any(node.kind == "sup" and written(node.parts[0]) not in ("-1", r"\prime") for node in side):
        return ""
    if side[0].kind == "command" and side[0].name in ("pi", "infty", "log", "ln", "sin", "cos", "tan", "sqrt"):
        return ""
    if any(
        node.kind == "macro" and node.name in ("frac", "sqrt", "binom") and not _is_of_segments(node) for node in side
    ):
        return ""
    return re.sub(r"\\text\{ ?|[{}\\\s]", "", written(side)) or ""


def _is_of_segments(node: Node) -> bool:
    r"""Whether a node is a quotient of lengths such as `\frac{AB}{CD}`, which names a number."""
    return node.name == "frac" and all(re.fullmatch(r"[A-Z]{2}", written(part)) for part in node.parts)


def _equated(sides: list[Nodes]) -> Iterator[Reading]:
    """The value of a chain of equalities, if all of the chain holds: `5` in `x = 5` and in `3 + 2 = 5`."""
    if not all(sides):
        return
    if len(sides) == 2 and _name(sides[1]) and not _name(sides[0]):
        sides = sides[::-1]
    *left, last = sides
    names = [name for side in left if (name := _name(side))]
    for reading in _distinct(_of(last)):
        if isinstance(reading, Value):
            if all(_name(side) or _comes_to(side, reading) for side in left):
                yield replace(reading, name=names[0] if names else "")
        elif isinstance(reading, Words) and len(names) == len(left):
            yield reading
        elif isinstance(reading, (Several, Numbers)) and len(names) == len(left) and _may_be_named(reading, names[0]):
            yield replace(reading, name=names[0])


def _may_be_named(reading: Reading, name: str) -> bool:
    """Whether `(x,y)` may be the name: it is only of a tuple."""
    return not name.startswith("(") or (isinstance(reading, Several) and reading.kind == "tuple")


def _comes_to(side: Nodes, value: Value) -> bool:
    try:
        return any(isinstance(one, Value) and same(replace(one, name=""), value) for one in _distinct(_of(side)))
    except Undecided:
        return False


# Brackets, sets, ratios -------------------------------------------------------------------------------


def _bracketed(some: Nodes) -> Iterator[Reading]:
    """Readings as a tuple, a point with a name, an interval, or a set in braces."""
    *before, last = some
    if last.kind != "group":
        return
    name = "".join(one.name for one in before) if all(one.kind == "letters" for one in before) else ""
    if before and not (len(before) == 1 and name and len(name) == 1 and name.isupper() and name != "C"):
        return
    parts = split(last.parts[0], ",") if any(is_sign(one, ",") for one in last.parts[0]) else split(last.parts[0], ";")
    if last.name == r"\{\}" and not before:
        yield from _in_braces(last.parts[0], parts)
    elif last.name in ("()", "[]", "[)", "(]", "<>") and len(parts) > 1 and all(parts):
        if len(parts) == 2 and last.name != "<>" and not before:
            yield from _interval(last.name, parts)
        if last.name in ("()", "<>") or (last.name == "[]" and len(parts) > 2):
            yield from _several("tuple", parts)


def _interval(form: str, parts: Sequence[Nodes]) -> Iterator[Reading]:
    members = tuple(tuple(one for one in _distinct(_of(part)) if isinstance(one, Value)) for part in parts)
    if not all(members):
        return
    found = Several("interval", members, form)
    ends = [_share(member[0]) for member in members]
    if all(end.is_extended_real and not end.free_symbols for end in ends) and bool(ends[0] < ends[1]):
        yield Numbers(_range(found))
    elif form != "()":
        yield found


def _range(interval: Several) -> Any:
    from sympy import Interval

    low, high = (_share(member[0]) for member in interval.members)
    return Interval(low, high, interval.form[0] == "(", interval.form[1] == ")")


def _share(value: Reading) -> Any:
    """An end of an interval: of 5%, 0.05."""
    if not isinstance(value, Value):
        raise UnreadableError("an end of an interval")
    return value.expression / 100 if value.percent else value.expression


def _in_braces(inner: Nodes, parts: Sequence[Nodes]) -> Iterator[Reading]:
    from sympy import EmptySet

    if not inner:
        yield Numbers(EmptySet)
        return
    built = next((at for at, node in enumerate(inner) if is_sign(node, "∣", "|", ":")), None)
    if built is not None and built <= 3 and inner[0].kind in ("letters", "command"):
        bound = inner[0].name
        yield from (one for one in _attempt(_conditions(inner[built + 1 :])) if getattr(one, "name", "") in (bound, ""))
        return
    yield from _several("set", [part for part in parts if part])


def _set(some: Nodes) -> Iterator[Reading]:
    """Readings as sets of numbers: their names, unions, intersections and differences."""
    import sympy

    signs = [node.name for node in some if is_sign(node, "∪", "∩", "∖")]
    if not signs and any(is_sign(node, "-") for node in some) and any(_known_set(node) is not None for node in some):
        signs = ["∖" for node in some if is_sign(node, "-")]
        parts = split(some, "-")
    else:
        parts = split(some, "∪", "∩", "∖")
    if not signs and (len(some) != 1 or _known_set(some[0]) is None):
        return
    found = [_as_set(part) for part in parts]
    value = found[0]
    for sign, other in zip(signs, found[1:], strict=True):
        operation = {"∪": sympy.Union, "∩": sympy.Intersection, "∖": sympy.Complement}[sign]
        value = operation(value, other)
    yield Numbers(value)


def _known_set(node: Node) -> Any:
    import sympy

    name = written(node.parts[0]) if node.kind == "macro" and node.name == "mathbb" else node.name
    if node.kind not in ("macro", "command"):
        return None
    known = {
        "R": sympy.Reals, "reals": sympy.Reals, "Z": sympy.Integers, "integers": sympy.Integers, "N": sympy.Naturals,
        "naturals": sympy.Naturals, "Q": sympy.Rationals, "rationals": sympy.Rationals, "C": sympy.Complexes,
        "complexes": sympy.Complexes, "emptyset": sympy.EmptySet,
    }  # fmt: skip
    return known.get(name)


def _as_set(part: Nodes) -> Any:
    from sympy import FiniteSet

    part = bare(part)
    if len(part) == 1 and (known := _known_set(part[0])) is not None:
        return known
    for one in _distinct(_of(part)) if part else ():
        if isinstance(one, Numbers):
            return one.values
        if isinstance(one, Several) and one.kind == "set" and all(isinstance(m[0], Value) for m in one.members):
            return FiniteSet(*(member[0].expression for member in one.members))  # type: ignore[union-attr]
    raise UnreadableError(written(part))


def _ratio(some: Nodes) -> Iterator[Reading]:
    """`1:2:3`, `3 to 4`; and `15:30` as a time."""
    parts = split(some, ":")
    if len(parts) == 1:
        at = next((at for at, node in enumerate(some) if node.kind in ("text", "letters") and node.name == "to"), None)
        if at is None:
            return
        parts = [some[:at], some[at + 1 :]]
    times = list(_attempt(_time(parts)))
    yield from times
    if all(parts):
        found = [expression(bare(part)) for part in parts]
        if all(one.value != 0 for one in found):
            members = tuple((Value(one.value, one.rounded),) for one in found)
            yield Several("ratio", members, TIME if times else "")


def _time(parts: Sequence[Nodes]) -> Iterator[Reading]:
    from sympy import Integer

    *rest, last = parts
    half = "".join(one.name for one in last[1:]).lower().replace(".", "").replace(" ", "")
    names = [one.name for one in (*(part[0] for part in rest if len(part) == 1), *last[:1]) if one.kind == "number"]
    if len(names) != len(parts) or len(parts) > 3 or half not in ("", "am", "pm") or not last:
        return
    if any(len(name) != 2 or int(name) > 59 for name in names[1:] if name.isdecimal()) or not all(
        map(str.isdecimal, names)
    ):
        return
    hours, minutes, seconds = (*map(int, names), 0)[:3]
    if hours > (12 if half else 23):
        return
    hours = hours % 12 + 12 * (half == "pm") if half else hours
    yield Value(Integer(hours * 3600 + minutes * 60 + seconds), unit=Unit("time of day"))


def _tabulated(some: Nodes) -> Iterator[Reading]:
    """Matrices, vectors, and systems and cases of several lines."""
    if (
        len(some) == 1
        and some[0].kind == "group"
        and len(some[0].parts[0]) == 1
        and some[0].parts[0][0].kind == "table"
    ):
        inner = some[0].parts[0][0]
        if inner.name in ("array", "matrix"):
            some = (replace(inner, name="pmatrix"),)
    if len(some) == 3 and some[1].kind == "table" and all(is_sign(one, "|") for one in (some[0], some[2])):
        some = (replace(some[1], name="vmatrix"),)
    if len(some) != 1 or some[0].kind != "table":
        return
    table = some[0]
    members = tuple(_distinct(_of(cell)) for cell in table.parts)
    if table.name in ("lines", "array", "cases", "dcases", "rcases"):
        rows = [table.parts[at : at + table.width] for at in range(0, len(table.parts), table.width)]
        parts = tuple(_distinct(_of(_line(row))) for row in rows)
        if parts and all(parts):
            yield Several("system", parts)
        return
    if not all(members):
        return
    heights = len(members) // max(1, table.width)
    form = "determinant" if table.name.lower() == "vmatrix" else ""
    if form and heights == table.width:
        yield _determinant(members, table.width)
        return
    if not form and (table.width == 1 or heights == 1) and len(members) > 1:
        yield Several("tuple", members)
    yield Several("matrix", members, f"{form} {table.width}".strip())


def _determinant(members: Sequence[tuple[Reading, ...]], width: int) -> Value:
    from sympy import Matrix

    cells = [member[0] for member in members]
    if not all(isinstance(cell, Value) for cell in cells):
        raise UnreadableError("a determinant")
    entries = [cell.expression for cell in cells if isinstance(cell, Value)]
    return Value(Matrix(width, width, entries).det(), any(isinstance(cell, Value) and cell.rounded for cell in cells))


def _line(row: Sequence[Nodes]) -> Nodes:
    """A line of cases: its value and the condition, which belong together."""
    if len(row) == 2 and row[1]:
        condition = tuple(
            one for one in row[1] if not (one.kind in ("text", "letters") and one.name in ("if", "for", "when"))
        )
        otherwise = [one.name for one in condition] == ["otherwise"]
        value = row[0][:-1] if row[0] and is_sign(row[0][-1], ",") else row[0]
        if otherwise:
            condition = (Node("text", "otherwise"),)
        return (Node("group", "()", ((*value, Node("sign", ","), *condition),)),)
    return tuple(one for cell in row for one in cell)

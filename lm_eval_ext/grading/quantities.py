r"""Values with a unit, a currency, a percent sign, a scale such as `million`, or a counted noun."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lm_eval_ext.grading.formula import expression, is_name
from lm_eval_ext.grading.latex import Nodes, UnreadableError, flat, is_sign, joins, written
from lm_eval_ext.grading.units import Unit, is_bare_unit, unit_of
from lm_eval_ext.grading.values import Reading, Several, Value
from lm_eval_ext.grading.words import lexicon

RELATIONS = ("=", "<", ">", "≤", "≥", "≠", "≈", "≡", "∈")


def quantity(some: Nodes) -> Iterator[Reading]:
    """Values with a unit, a currency, a percent sign, a scale such as `million`, or a counted noun."""
    if (money := _money(some)) is not None:
        amount, unit = money
        at = next((at for at, node in enumerate(amount) if node.kind in ("text", "letters")), len(amount))
        scale, rest = _scaled(amount[at:])
        found = expression((*amount[:at], *rest))
        yield Value(found.value * scale, found.rounded, unit)
        return
    if (value := _percentage(some)) is not None:
        found = expression(value)
        yield Value(found.value, found.rounded, percent=True)
        return
    if (angle := _angle(some)) is not None:
        yield angle
        return
    pieces = _measured(some)
    if not pieces:
        return
    values = [Value(found.value, found.rounded, unit) for found, unit in pieces]
    if len(values) == 1:
        yield values[0]
    elif len({one.unit.dimension for one in values if one.unit}) == 1 and all(
        one.unit and "[" in one.unit.dimension for one in values
    ):
        first: Any = values[0].unit
        total = sum(_rational(one.unit.slope) * one.expression for one in values if one.unit)
        yield Value(total, any(one.rounded for one in values), replace(first, slope=type(first.slope)(1)))
    else:
        yield Several("list", tuple((one,) for one in values))


def _rational(number: Any) -> Any:
    from sympy import Rational

    return Rational(number.numerator, number.denominator)


_CURRENCIES = {
    "$": "dollars",
    "€": "euros",
    "£": "GBP",
    "usd": "dollars",
    "us$": "dollars",
    "eur": "euros",
    "gbp": "GBP",
}


def _money(some: Nodes) -> tuple[Nodes, Unit] | None:
    """What stands beside the name of a currency, and this: `18.90` in `$18.90`, `USD 18.90` and `18.90 €`."""
    signed = len(some) > 1 and is_sign(some[0], "-")
    for at in (int(signed), len(some) - 1):
        node = some[at]
        name = _CURRENCIES.get(node.name.lower()) if node.kind in ("sign", "text", "letters") else None
        unit = unit_of(rf"\text{{{name}}}") if name and len(some) > 1 else None
        if unit is not None:
            return (*some[:at], *some[at + 1 :]), unit
    return None


def _percentage(some: Nodes) -> Nodes | None:
    last, rest = some[-1], some[:-1]
    if last.kind == "group" and last.name == "{}" and len(last.parts[0]) == 1:
        last = last.parts[0][0]
    said = is_sign(last, "%") or (
        last.kind in ("text", "letters") and last.name.lower() in ("percent", "percentage", "pct", "%")
    )
    single = not any(is_sign(node, "+", "-", "%", *RELATIONS) for node in rest[1:])
    return rest if said and rest and single else None


def _angle(some: Nodes) -> Value | None:
    r"""`36^\circ`, `18^\circ 48'`; None if the degrees belong to a part of the answer, as in `2\cos 20^\circ`."""
    at = next((at for at, node in enumerate(some) if is_sign(node, "°")), None)
    if at is None or at == 0 or any(node.kind == "command" and node.name not in ("pi",) for node in some[:at]):
        return None
    unit: Any = unit_of("degrees")
    found = expression(some[:at])
    rest, value = list(some[at + 1 :]), found.value
    if rest and rest[0].name in ("C", "F") and len(rest) == 1:
        temperature = unit_of(rf"^\circ {rest[0].name}")
        return Value(value, found.rounded, temperature)
    for mark, share in (("'", 60), ("''", 3600)):
        if len(rest) >= 2 and rest[0].kind == "number":
            marks = "".join(one.name for one in rest[1:] if one.kind == "sign")
            if mark == "'" and rest[1].name == "'":
                value, rest = value + _fraction(rest[0].name) / share, rest[2:]
            elif mark == "''" and marks in ("''", '"'):
                value, rest = value + _fraction(rest[0].name) / share, []
    return None if rest else Value(value, found.rounded, unit)


def _fraction(name: str) -> Any:
    from fractions import Fraction

    return _rational(Fraction(name))


def _measured(some: Nodes) -> list[tuple[Any, Unit | None]]:
    """Pairs of a number and what is counted or measured, that make up all of the nodes."""
    found: list[tuple[Any, Unit | None]] = []
    while some:
        pair = _first_measured(some)
        if pair is None:
            return []
        value, unit, length = pair
        found.append((value, unit))
        some = some[length:]
        while some and (is_sign(some[0], ",") or joins(some[0])):
            some = some[1:]
    return found


def _first_measured(some: Nodes) -> tuple[Any, Unit | None, int] | None:
    start = next((at for at, node in enumerate(some) if at and _may_be_unit(some, at)), None)
    if start is None:
        return None
    value = some[:start]
    end = next(
        (
            at
            for at in range(start + 1, len(some))
            if some[at].kind == "number" and not is_sign(some[at - 1], "/", "^", "-")
        ),
        len(some),
    )
    while end > start and (is_sign(some[end - 1], ",") or joins(some[end - 1])):
        end -= 1
    tail = some[start:end]
    scale, tail = _scaled(tail)
    number = expression(value)
    number = replace(number, value=number.value * scale)
    if not tail:
        return number, None, end
    unit = _unit(tail, plain=_is_plain(value))
    return None if unit is None else (number, unit, end)


def _is_plain(value: Nodes) -> bool:
    """Whether what stands before a unit is a number and nothing else."""
    return all(
        node.kind in ("number", "sup") or is_sign(node, "-", "+", "×", "·", "/", ".") or node.name == "frac"
        for node in value
    )


def _may_be_unit(some: Nodes, at: int) -> bool:  # noqa: PLR0911  # one for each kind
    node = some[at]
    if node.kind == "text":
        return True
    if node.kind == "macro" and node.name == "frac":
        return any(one.kind == "text" for one in flat(node.parts[0]))
    if node.kind == "command" and node.name in ("mu", "Omega"):
        return some[at - 1].kind in ("number", "sup", "letters")
    if node.kind != "letters" or not _is_plain(some[:at]):
        return False
    name = node.name
    if some[at + 1 : at + 2] and (some[at + 1].kind, some[at + 1].name) == ("command", "Omega"):
        return True
    if name in lexicon()["scales"] or name in lexicon()["shares"]:
        return True
    short = len(name) == 1 and not node.spaced
    if is_bare_unit(name) and not short:
        return True
    return node.spaced and len(name) > 2 and not is_name(name)


def _scaled(tail: Nodes) -> tuple[Any, Nodes]:
    """The factor of words such as `million` or `thirds` at the start of what follows a number."""
    from sympy import Integer

    factor: Any = Integer(1)
    while tail and tail[0].kind in ("text", "letters"):
        first, *others = tail[0].name.lower().split()
        if first in lexicon()["scales"]:
            factor = factor * lexicon()["scales"][first]
        elif first in lexicon()["shares"]:
            factor = factor / lexicon()["shares"][first]
        elif first == "of" and others[:1] == ["a"]:
            others = others[1:]
        elif first in ("squared", "cubed", "factorial"):
            raise UnreadableError(first)
        else:
            break
        tail = (replace(tail[0], name=" ".join(others)), *tail[1:]) if others else tail[1:]
    return factor, tail


def _unit(tail: Nodes, *, plain: bool) -> Unit | None:
    """The unit that the nodes name; None if they name none. A counted noun must be a known one."""
    if any(
        node.kind not in ("text", "letters", "sup", "macro", "command", "group", "number", "sub")
        and not is_sign(node, "/", "·", "×", "*", "-", ".", "°", "^")
        for node in tail
    ):
        return None
    if not plain and tail[0].kind == "letters":
        return None
    spelled = re.sub(r"\\mu\s*(\\text\{ ?)?", r"\1u", written(tail)).replace(r"\Omega", "ohm")
    unit = unit_of(spelled)
    if unit is not None and not unit.dimension and "unit" not in spelled:  # `m^0`
        return None
    if unit is not None and unit.dimension and "[" not in unit.dimension and "^" not in unit.dimension:
        return unit if _countable(unit.dimension) else None
    return unit


def _countable(noun: str) -> bool:
    last = noun.rsplit(maxsplit=1)[-1]
    known = lexicon()["nouns"]
    return (last in known or last.removesuffix("e") in known) and not set(noun.split()) & set(lexicon()["not_nouns"])

r"""Quantities: `10\text{ cm}^2`, `3\text{ hours }20\text{ minutes}`, `36^\circ`, `5\%`, `$18.90`, `7\text{ apples}`.

The policy, documented in `docs/explanation.md`: the same quantity in different units of one dimension is equal, a
different dimension is not, and a missing unit or counted noun is accepted. The units themselves come from pint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from lm_eval_ext.grading.formula import expression, is_name
from lm_eval_ext.grading.latex import Node, Nodes, UnreadableError, flat, is_sign, joins, nodes, written
from lm_eval_ext.grading.meaning import Reading, Several, Unit, Value
from lm_eval_ext.grading.words import lexicon

if TYPE_CHECKING:
    from pint import UnitRegistry

RELATIONS = ("=", "<", ">", "≤", "≥", "≠", "≈", "≡", "∈")
_MORE = (  # units in answers that pint lacks or misinterprets
    "dollar = [dollar] = _ = dollars = USD = usd = Dollar = Dollars",
    "cent = 0.01 * dollar = _ = cents",
    "euro = [euro] = _ = euros = EUR = Euro = Euros",
    "pound_sterling = [pound_sterling] = _ = GBP",
    "rupee = [rupee] = _ = rupees",
    "yuan = [yuan] = _ = RMB",
    "yen = [yen]",
    "won = [won]",
    "peso = [peso] = _ = pesos",
    "baht = [baht]",
    "ruble = [ruble] = _ = rubles",
    "kmph = kilometer / hour = _ = kmh = kph",
    "@alias ampere = amps",
    "newton_meter = newton * meter = Nm",
    "square_inch = inch ** 2 = _ = sq_in",
)
_CURRENCIES = {
    "$": "USD", "€": "EUR", "£": "GBP", "usd": "USD", "us$": "USD", "eur": "EUR", "gbp": "GBP", "¥": "yen",
    "元": "yuan", "円": "yen", "₹": "rupees", "¢": "cents",
}  # fmt: skip
# Short units allowed without \text after a plain number: pint reads `ab` as attobarn, people as a product.
_BARE = frozenset(
    """m g s h L N J W V A K T C F H cm mm km kg mg ml mL dm nm um pm fm hr in ft yd mi lb oz Hz kW kJ kN ms us ns eV Pa
    mW MW GW MJ mA uA kA mV kV mN MN mT uF nF pF nC uC mC Wb Bq Gy Sv cd rad""".split()  # noqa: SIM905  # a list of words
)
_ABOVE, _BELOW = ("m", "km", "cm", "kg", "g", "J", "N", "mol"), ("s", "h", "m", "cm", "L", "K")  # in `5 \frac{m}{s}`
_AROUND = ("square", "cubic", "sq", "per", "squared", "cubed")
_JOINING = {"and", "or", "to", "if", "is", "are", "where", "mod"}
_NO_UNIT = re.compile(r"(?:(?:square|cubic|sq)\s+)?units?(?:\s*\*\*\s*\d)?", re.IGNORECASE)
# What stands behind a unit or noun: `per day` belongs to it, the others don't change it.
_MODIFIED = re.compile(
    r" (?:of [a-z -]+|(?:per|a|an|every|each) (?P<each>[a-z]+)|each|apiece|left|remaining|(?:in )?total|in all|"
    r"altogether|more|old|long|tall|wide|high|deep|later|ago|away|profit)$|/(?P<by>[a-z]+)$"
)
_WORD = re.compile(r"[A-Za-z]+")


def quantity(some: Nodes) -> Iterator[Reading]:
    """Values with a unit, a currency, a percent sign, a scale such as `million`, or a counted noun."""
    if (money := _money(some)) is not None:
        yield money
    elif (share := _percentage(some)) is not None:
        yield share
    elif (angle := _angle(some)) is not None:
        yield angle
    elif values := list(_measured(some)):
        if is_sign(some[0], "-"):  # of all its parts
            values = [values[0], *(replace(value, expression=-value.expression) for value in values[1:])]
        units = [value.unit for value in values if value.unit]
        if len(values) == 1:
            yield values[0]
        elif len(units) == len(values) and len({unit.dimension for unit in units}) == 1 and is_physical(units[0]):
            total = sum(_rational(unit.slope) * value.expression for unit, value in zip(units, values, strict=True))
            yield Value(total, any(value.rounded for value in values), replace(units[0], slope=Fraction(1)))
        else:
            yield Several("list", tuple((value,) for value in values))


def is_physical(unit: Unit) -> bool:
    """Whether a unit measures something, and does not only count."""
    return "[" in unit.dimension


def _rational(number: Fraction) -> Any:
    from sympy import Rational

    return Rational(number.numerator, number.denominator)


def _money(some: Nodes) -> Value | None:
    """`$18.90`, `USD 18.90` and `18.90 €`."""
    for at in (int(is_sign(some[0], "-")), len(some) - 1):
        node = some[at] if at < len(some) > 1 else some[0]
        name = _CURRENCIES.get(node.name.lower()) if node.kind in ("sign", "text", "letters") else None
        if name and len(some) > 1:
            amount = (*some[:at], *some[at + 1 :])
            each = _MODIFIED.fullmatch(f" {amount[-1].name}") if amount[-1].kind == "text" else None
            if each:  # `$16 per day`
                amount, name = amount[:-1], f"{name}/{each['each']}" if each["each"] else name
            end = next((at for at, other in enumerate(amount) if other.kind in ("text", "letters")), len(amount))
            scale, rest = _scaled(amount[end:])
            found = expression((*amount[:end], *rest))
            return Value(found.value * scale, found.rounded, unit_of(name))
    return None


def _percentage(some: Nodes) -> Value | None:
    last, rest = some[-1], some[:-1]
    if last.kind == "group" and last.name == "{}" and len(last.parts[0]) == 1:
        last = last.parts[0][0]
    said = is_sign(last, "%") or (
        last.kind in ("text", "letters") and last.name.lower() in ("percent", "percentage", "pct", "%")
    )
    if not (said and rest) or any(node.kind == "sign" and node.name != "." for node in rest[1:]):
        return None
    found = expression(rest)
    if found.value.free_symbols:
        return None
    return Value(found.value, found.rounded, percent=True)


def _angle(some: Nodes) -> Value | None:
    r"""`36^\circ`, `18^\circ 48'`; None if the degrees belong to a part of the answer, as in `2\cos 20^\circ`."""
    at = next((at for at, node in enumerate(some) if is_sign(node, "°")), 0)
    if not at or any(node.kind == "command" and node.name != "pi" for node in some[:at]):
        return None
    found, rest = expression(some[:at]), some[at + 1 :]
    if len(rest) == 1 and rest[0].name in ("C", "F"):
        return Value(found.value, found.rounded, unit_of(f"deg{rest[0].name}"))
    minutes = re.fullmatch(r"(?:([\d.]+)')?(?:([\d.]+)(?:''|\"))?", "".join(node.name for node in rest))
    if minutes is None or any(node.parts for node in rest):
        return None
    shares = (Fraction(number or 0) / share for number, share in zip(minutes.groups(), (60, 3600), strict=True))
    share = _rational(sum(shares, Fraction(0)))
    return Value(found.value + (-share if is_sign(some[0], "-") else share), found.rounded, unit_of("degrees"))


def _measured(some: Nodes) -> Iterator[Value]:
    """Numbers with what is counted or measured, if they make up all of the nodes."""
    found: list[Value] = []
    while some:
        start = next((at for at in range(1, len(some)) if _may_be_unit(some, at)), None)
        if start is None:
            return
        numbers = (at for at in range(start + 1, len(some)) if some[at].kind == "number")
        end = next((at for at in numbers if not is_sign(some[at - 1], "/", "^", "-")), len(some))
        tail = some[start:end]
        while tail and (is_sign(tail[-1], ",") or joins(tail[-1])):
            tail = tail[:-1]
        if tail and tail[-1].kind == "text" and end < len(some):  # `1\text{ hour and }30\text{ minutes}`
            tail = (*tail[:-1], replace(tail[-1], name=tail[-1].name.removesuffix(" and").rstrip(",")))
        scale, tail = _scaled(tail)
        number, unit = expression(some[:start]), None
        if tail and (unit := _unit(tail, plain=_is_plain(some[:start]))) is None:
            return
        found.append(Value(number.value * scale, number.rounded, unit))
        some = some[end:]
    yield from found


def _is_plain(value: Nodes) -> bool:
    """Whether what stands before a unit is a number and nothing else."""
    return all(
        node.kind in ("number", "sup") or is_sign(node, "-", "+", "×", "·", "/", ".") or node.name == "frac"
        for node in value
    )


def _may_be_unit(some: Nodes, at: int) -> bool:
    node, name = some[at], some[at].name
    if node.kind == "macro" and name == "frac":
        above, below = (list(flat(part)) for part in node.parts)
        letters = [one.name for one in (*above, *below) if one.kind == "letters"]
        plain = _is_plain(some[:at]) and len(letters) == 2 and letters[0] in _ABOVE and letters[1] in _BELOW
        return plain or any(one.kind == "text" or one.style == "roman" for one in above)
    if node.kind == "command" and name in ("mu", "Omega"):
        return some[at - 1].kind in ("number", "sup", "letters")
    if node.kind != "letters" or not _is_plain(some[:at]):
        return node.kind == "text"
    before_ohm = [(one.kind, one.name) for one in some[at + 1 : at + 2]] == [("command", "Omega")]
    if before_ohm or name in lexicon()["scales"] or name in lexicon()["shares"]:
        return True
    if node.style == "roman" and is_unit(name):
        return True
    if is_bare_unit(name) and (len(name) > 1 or node.spaced):
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
    if any(node.kind == "command" and node.name not in ("mu", "Omega") for node in tail):
        return None
    if any(node.kind == "text" and re.search(r"(?<![\^*\d-])\d", node.name) for node in tail):
        return None  # `3\text{1 cm}`
    signs = (node for node in tail if node.kind in ("sign", "table"))
    if any(not is_sign(node, "/", "·", "×", "*", "-", ".", "°", "^") for node in signs):
        return None
    if not plain and tail[0].kind == "letters":
        return None
    name = _spelled(tail)
    unit = _named(name)
    if unit is None and (modified := _MODIFIED.search(name)):
        unit = _named(name[: modified.start()])
        if unit is None or (unit.dimension and not is_physical(unit) and not _is_known(unit.dimension)):
            return None
        return replace(
            unit,
            dimension=f"{unit.dimension} per {each}"
            if (each := modified["each"] or modified["by"])
            else unit.dimension,
        )
    if unit is None or is_physical(unit) or "^" in unit.dimension:
        return unit
    if not unit.dimension:
        return unit if "unit" in name else None  # `m^0`
    return unit if _is_known(unit.dimension) else None


def _is_known(noun: str) -> bool:
    *_, last = words = noun.split()
    known, refused = set(lexicon()["nouns"]), set(lexicon()["not_nouns"])
    return bool({last, last.removesuffix("e"), re.sub("y$", "ie", last)} & known) and not refused & set(words)


def is_countable(words: str) -> bool:
    """Whether words name what questions count, such as `red apples`."""
    return re.fullmatch(r"[A-Za-z]{2,}(?: [A-Za-z]{2,})*", words) is not None and _is_known(_singular(words))


# Names of units ---------------------------------------------------------------------------------------


def unit_of(text: str) -> Unit | None:
    r"""The unit that some LaTeX names; None if it isn't a unit, `Unit("")` if it says nothing (`units`).

    >>> unit_of(r"\text{ km}/\text{h}").slope
    Fraction(5, 18)
    """
    try:
        return _named(_spelled(nodes(text)))
    except UnreadableError:
        return None


def _spelled(some: Nodes) -> str:
    """The name of a unit in pint's notation."""
    text = re.sub(r"µ\s*", "u", "".join(map(_piece, some)).replace("$", "").replace(".", " "))
    text = re.sub(r"\s*([*/]+)\s*", r"\1", text)
    text = re.sub(r"\belectron ?volts?\b", "eV", text)
    text = re.sub(r"(?i)\bdeg(?:rees?)? *([CF])(?:elsius|ahrenheit)?\b", lambda found: f"deg{found[1].upper()}", text)
    return " ".join(text.split())


def _piece(node: Node) -> str:
    match node.kind:
        case "text" | "letters":
            spaced = " " if node.kind == "text" or node.spaced else ""
            return spaced + re.sub(r"\^\s*(-?\d)", r"**\1", node.name).replace("·", "*")
        case "sup":
            return f"**{written(node.parts[0])}"
        case "macro" if node.name == "frac":
            return "({})/({})".format(*("".join(map(_piece, part)) for part in node.parts))
        case "group":
            inner = "".join(map(_piece, node.parts[0]))
            return inner if node.name == "{}" else f"({inner})"
        case "command":
            return {"mu": "µ", "Omega": "ohm"}.get(node.name, f"\\{node.name}")
        case "sign":
            return {"°": " deg", "·": "*", "×": "*"}.get(node.name, node.name)
    return written((node,))


@lru_cache(maxsize=1024)
def _named(name: str) -> Unit | None:
    """The unit with a name in pint's notation."""
    if _NO_UNIT.fullmatch(name):
        return Unit("")
    words = _WORD.findall(name)
    units = [word for word in words if word.lower() not in _AROUND]
    if units and all(map(is_unit, units)) and (found := _from_pint(name)) is not None:
        return found
    is_noun = re.fullmatch(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){0,2}", name) and not any(map(is_unit, words))
    return Unit(_singular(name)) if is_noun and not _JOINING & set(words) else None


@cache
def _registry() -> UnitRegistry[Fraction]:
    import pint

    registry: UnitRegistry[Fraction] = pint.UnitRegistry(non_int_type=Fraction)
    for definition in _MORE:
        registry.define(definition)
    return registry


def _from_pint(name: str) -> Unit | None:
    registry = _registry()
    try:
        unit = registry.parse_units(re.sub(r"(?i)\bsq\b", "square", name))
        at_zero, at_one = (registry.Quantity(Fraction(value), unit).to_base_units() for value in (0, 1))
    except Exception:  # for non-units pint raises its own errors, those of tokenize, and plain ones
        return None
    intercept, slope = Fraction(at_zero.magnitude), Fraction(at_one.magnitude) - Fraction(at_zero.magnitude)
    powers = dict(at_one.dimensionality) or dict.fromkeys(at_one._units, 1)  # angles have no dimension
    if (turns := dict(at_one._units).get("radian")) and powers.keys() & {"[time]", "[luminosity]"}:
        powers["radian"] = turns  # 5 rad/s is not 5 Hz
    dimension = " ".join(f"{name}^{power}" for name, power in sorted(powers.items()))
    return Unit(dimension, slope, intercept, exact=slope.denominator < 10**12)


@lru_cache(maxsize=1024)
def is_unit(word: str) -> bool:
    """Whether pint knows a word, other than by accident of a prefix (it reads `units` as micronits)."""
    names = _registry().parse_unit_name(word) or _registry().parse_unit_name(word.lower())
    return any(not prefix or word.lower().startswith(prefix) or len(word) <= 4 for prefix, _, _ in names)


def _singular(noun: str) -> str:
    noun = noun.lower()
    return noun[:-3] + "y" if noun.endswith("ies") else noun.removesuffix("s")


def is_bare_unit(word: str) -> bool:
    """Whether a word may be a unit without being marked as text: `cm`, `m`, `hours`, but not `xy` or `b`."""
    return word in _BARE if len(word) <= 2 else is_unit(word) and len(set(word)) > 1  # not `ccc`

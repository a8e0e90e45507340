r"""Units of answers: `10\text{ cm}^2`, `3\text{ hours }20\text{ minutes}`, `36^\circ`, `5 dollars`, `7\text{ apples}`.

The policy, of which `docs/explanation.md` tells the user: the same quantity in other units of one dimension is equal,
another dimension is not, a missing unit is forgiven, and so is a counted noun. pint knows the units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pint import UnitRegistry

_MORE = (  # what answers have and pint has not, or takes for something else
    "dollar = [dollar] = _ = dollars = USD = usd",
    "cent = 0.01 * dollar = _ = cents",
    "euro = [euro] = _ = euros = EUR",
    "pound_sterling = [pound_sterling] = _ = GBP",
    "rupee = [rupee] = _ = rupees",
    "kmph = kilometer / hour = _ = kmh = kph",
    "square_inch = inch ** 2 = _ = sq_in",
)
# Short ones that may stand without \text behind a plain number: `ab` is an attobarn to pint, and a product to people.
_BARE = frozenset(
    "m g s h L N J W V A K cm mm km kg mg ml mL dm nm hr in ft yd mi lb oz Hz kW kJ kN ms".split()  # noqa: SIM905
)
_AROUND = ("square", "cubic", "sq", "per", "squared", "cubed")
_JOINING = {"and", "or", "to", "if", "is", "are", "where", "mod"}
_NO_UNIT = re.compile(r"(?:(?:square|cubic|sq)\s+)?units?(?:\s*\*\*\s*\d)?", re.IGNORECASE)
_TEXT = re.compile(r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathsf|mbox|hbox|operatorname)\s*\{([^{}]*)\}")
_POWER = re.compile(r"\^\s*(?:\{\s*(-?\d+)\s*\}|(\d))")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Unit:
    """A unit, as what its values amount to in base units: `slope` * value + `intercept`.

    Attributes:
        dimension: what it measures; of a counted noun, the noun.
        exact: whether the conversion is; that of degrees goes through a rounded pi.
    """

    dimension: str
    slope: Fraction = Fraction(1)
    intercept: Fraction = Fraction(0)
    exact: bool = True


@cache
def _registry() -> UnitRegistry[Fraction]:
    import pint

    registry: UnitRegistry[Fraction] = pint.UnitRegistry(non_int_type=Fraction)
    for definition in _MORE:
        registry.define(definition)
    return registry


@lru_cache(maxsize=1024)
def unit_of(latex: str) -> Unit | None:
    r"""The unit that some LaTeX names; None if it is none, and `Unit("")` for one that says nothing (`units`).

    >>> unit_of(r"\text{ km}/\text{h}").slope
    Fraction(5, 18)
    """
    name = _plain(latex)
    if _NO_UNIT.fullmatch(name):
        return Unit("")
    found = _measured(name)
    if found is not None:
        return found
    words = name.split()
    is_noun = re.fullmatch(r"[A-Za-z]{2,}(?: [A-Za-z]{2,}){0,2}", name) and not any(map(is_unit, words))
    return Unit(_singular(name)) if is_noun and not _JOINING & set(words) else None


def _plain(latex: str) -> str:
    """As pint writes units."""
    text = re.sub(r"\^\s*(?:\{\\circ\}|\\circ)\s*(?:\\text\{\s*)?([CF])\b\}?", r" deg\1", latex)
    text = re.sub(r"\^\s*(?:\{\\circ\}|\\circ)", " degrees", text)
    text = _TEXT.sub(r" \1", re.sub(r"\\mu\s*(?:\\text|\\mathrm)?\s*\{\s*", r"\\text{u", text))
    text = _FRACTION.sub(r"(\1)/(\2)", text)
    text = _POWER.sub(lambda power: f"**{power[1] or power[2]}", text)
    text = re.sub(r"\\cdot|\\times|·|⋅", "*", text)
    text = re.sub(r"\s*([*/]+)\s*", r"\1", text.replace("$", ""))
    return " ".join(text.replace(".", " ").split())


def _measured(name: str) -> Unit | None:
    words = [word for word in _WORD.findall(name) if word.lower() not in _AROUND]
    if not words or not all(map(is_unit, words)):
        return None
    text = re.sub(r"(?i)\bsq\b", "square", name)
    try:
        registry = _registry()
        unit = registry.parse_units(text)
        at_zero, at_one = (registry.Quantity(Fraction(value), unit).to_base_units() for value in (0, 1))
    except Exception:  # pint raises errors of its own, of tokenize, and plain ones, for what is no unit
        return None
    intercept, slope = Fraction(at_zero.magnitude), Fraction(at_one.magnitude) - Fraction(at_zero.magnitude)
    powers = dict(at_one.dimensionality) or dict.fromkeys(at_one._units, 1)  # angles have no dimension
    dimension = " ".join(f"{name}^{power}" for name, power in sorted(powers.items()))
    return Unit(dimension, slope, intercept, exact=slope.denominator < 10**12)


@lru_cache(maxsize=1024)
def is_unit(word: str) -> bool:
    """Whether pint knows a word, and not by an accident of prefixes: it takes `units` for micronits."""
    names = _registry().parse_unit_name(word) or _registry().parse_unit_name(word.lower())
    return any(not prefix or word.lower().startswith(prefix) or len(word) <= 4 for prefix, _, _ in names)


def _singular(noun: str) -> str:
    noun = noun.lower()
    return noun[:-3] + "y" if noun.endswith("ies") else noun.removesuffix("s")


def is_bare_unit(word: str) -> bool:
    """Whether a word may be a unit without being marked as text: `cm`, `m`, `hours`, and not `xy` or `b`."""
    return word in _BARE if len(word) <= 2 else is_unit(word)

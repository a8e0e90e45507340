r"""Units of answers: `10\text{ cm}^2`, `3\text{ hours }20\text{ minutes}`, `36^\circ`, `5 dollars`, `7\text{ apples}`.

The policy, documented in `docs/explanation.md`: the same quantity in different units of one dimension is equal, a
different dimension is not, and a missing unit or counted noun is accepted. The units themselves come from pint.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pint import UnitRegistry

_MORE = (  # units in answers that pint lacks or misinterprets
    "dollar = [dollar] = _ = dollars = USD = usd",
    "cent = 0.01 * dollar = _ = cents",
    "euro = [euro] = _ = euros = EUR",
    "pound_sterling = [pound_sterling] = _ = GBP",
    "rupee = [rupee] = _ = rupees",
    "kmph = kilometer / hour = _ = kmh = kph",
    "@alias ampere = amps",
    "square_inch = inch ** 2 = _ = sq_in",
)
# Short units allowed without \text after a plain number: pint reads `ab` as attobarn, people as a product.
_BARE = frozenset(
    """m g s h L N J W V A K T C F H cm mm km kg mg ml mL dm nm um pm fm hr in ft yd mi lb oz Hz kW kJ kN ms us ns eV Pa
    mW MW GW MJ mA uA kA mV kV mN MN mT uF nF pF nC uC mC Wb Bq Gy Sv cd rad""".split()  # noqa: SIM905  # a list of words
)
_AROUND = ("square", "cubic", "sq", "per", "squared", "cubed")
_JOINING = {"and", "or", "to", "if", "is", "are", "where", "mod"}
_NO_UNIT = re.compile(r"(?:(?:square|cubic|sq)\s+)?units?(?:\s*\*\*\s*\d)?", re.IGNORECASE)
_TEXT = re.compile(r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathsf|mbox|hbox|operatorname)\s*\{([^{}]*)\}")
_POWER = re.compile(r"\^\s*(?:\{\s*(-?\d+)\s*\}|(-?\d))")
_FRACTION = re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True)
class Unit:
    """A unit as a conversion to base units: `slope` * value + `intercept`.

    Attributes:
        dimension: what it measures; for a counted noun, the noun.
        exact: whether the conversion is exact; degrees go through a rounded pi.
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
    r"""The unit that some LaTeX names; None if it isn't a unit, `Unit("")` if it says nothing (`units`).

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
    """The unit in pint's notation."""
    text = re.sub(r"\^\s*(?:\{\\circ\}|\\circ)\s*(?:\\text\{\s*)?([CF])\b\}?", r" deg\1", latex)
    text = re.sub(r"\^\s*(?:\{\\circ\}|\\circ)", " degrees", text)
    text = re.sub(r"(?i)\bdegrees?\s+([CF])(?:elsius|ahrenheit)?\b", lambda found: f"deg{found[1].upper()}", text)
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
    except Exception:  # for non-units pint raises its own errors, those of tokenize, and plain ones
        return None
    intercept, slope = Fraction(at_zero.magnitude), Fraction(at_one.magnitude) - Fraction(at_zero.magnitude)
    powers = dict(at_one.dimensionality) or dict.fromkeys(at_one._units, 1)  # angles have no dimension
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
    return word in _BARE if len(word) <= 2 else is_unit(word)

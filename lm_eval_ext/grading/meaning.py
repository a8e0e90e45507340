"""What an answer may say: a value, a relation, numbers, words, or several of them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sympy import Expr, Set

ANGLE = "radian^1"  # the dimension of angles
TIME = "time"  # form of a ratio that may be one


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
    """An answer in words, not mathematics; `mixed` if there are numbers or signs among them, which were not read.

    `name` is what they are assigned to, such as `A` in `A = PDP^{-1}`.
    """

    text: str
    mixed: bool = False
    name: str = ""


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

    def __post_init__(self) -> None:
        if not self.members or not all(self.members):
            raise ValueError("no members, or one without a reading")  # which would equal any other


Reading = Value | Relation | Numbers | Words | Several

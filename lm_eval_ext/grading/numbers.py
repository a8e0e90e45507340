"""Answers that are a number, with the tolerance that the task declares and the units' one policy (`units`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from lm_eval_ext.grading.grading import FailureReason, compare, gold_answer, in_workers, rational
from lm_eval_ext.grading.meaning import Value
from lm_eval_ext.grading.reading import readings
from lm_eval_ext.grading.rules import Labels, Pairs, Rules, clusters
from lm_eval_ext.grading.wrapping import normalised

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_ROUNDING = Fraction(1, 10**9)  # relative; of a decimal that was computed in floating point
_DECIMALS = re.compile(
    r"[+-]?(?=[.\d])\d*(?:\.(?P<decimals>\d*))?"
    r"(?:[eE](?P<e>[+-]?\d{1,3})|\s*\\(?:times|cdot)\s*10\^\{?(?P<power>[+-]?\d{1,3})\}?)?(?![\d\s]*[/^+*=])"
)


class NumberRules(Rules):
    """Options of numeric answers. Without any, they are compared like mathematics; with several, one is enough."""

    KIND: ClassVar[str] = "number"
    absolute: Annotated[Positive | None, Field(description="allowed difference, in the gold answer's unit")] = None
    relative: Annotated[Positive | None, Field(description="allowed difference as a share of the gold answer")] = None
    digits: Annotated[
        Literal["gold"] | None, Field(description="`gold`: right if it rounds to the gold answer's digits")
    ] = None

    @model_validator(mode="after")
    def _below_everything(self) -> NumberRules:
        if self.relative is not None and self.relative >= 1:
            raise ValueError(f"relative={self.relative}: expected a share below 1, such as 0.01 for 1%")
        return self

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each answer is near enough to the gold one, in its unit if both have one."""
        pairs = [(gold_answer(gold), answer) for gold, answer in pairs]
        verdicts = compare(pairs)
        if not (self.absolute or self.relative or self.digits):
            return verdicts
        wrong = {at: pair for at, pair in enumerate(pairs) if verdicts[at] is False and pair[1]}
        asked = {at: (normalised(gold), normalised(answer)) for at, (gold, answer) in wrong.items()}
        distinct = list(dict.fromkeys(asked.values()))
        nearby = partial(near, absolute=self.absolute, relative=self.relative, digits=self.digits)
        outcomes = dict(zip(distinct, in_workers(nearby, distinct), strict=True))
        for at, pair in asked.items():
            verdicts[at] = outcomes[pair].failure or bool(outcomes[pair].value)
        return verdicts

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Answers vote together if each is near enough to the most frequent one of its cluster."""

        def same(pairs: Pairs) -> list[bool | None]:
            alone = {text for text in {text for pair in pairs for text in pair} if self.fault(text)}
            return [
                False if first in alone else None if second in alone or not isinstance(verdict, bool) else verdict
                for (first, second), verdict in zip(pairs, self.compare(pairs), strict=True)
            ]

        return clusters(questions, same)

    def fault(self, gold: str) -> str:
        """Why a gold answer cannot be compared: it is not a number."""
        plain = normalised(gold_answer(gold))
        (outcome,) = in_workers(is_number_text, [(plain,)])
        if not outcome.value:
            return "is not a number"
        return (
            "has no decimals to round to, as digits: gold asks for" if self.digits and not _half_a_digit(plain) else ""
        )


def is_number_text(text: str) -> bool:
    """Whether a `normalised` answer is a number, with or without a unit. In a worker only."""
    return next(_values(text), None) is not None


def near(gold: str, answer: str, *, absolute: float | None, relative: float | None, digits: str | None) -> bool:
    """Whether two `normalised` answers are numbers that differ by no more than is allowed. In a worker only."""
    for wanted in _values(gold):
        size = _number(wanted)
        rounding = (_half_a_digit(gold) or Fraction(0)) if digits else Fraction(0)
        allowed = max(Fraction(absolute or 0), abs(size) * Fraction(relative or 0), rounding)
        for value in (value for found in _values(answer) for value in _in_unit_of(wanted, found)):
            if abs(value - size) <= allowed + abs(size) * _ROUNDING:
                return True
    return False


def _values(text: str) -> Iterator[Value]:
    from sympy import Rational

    plain = rational(text)
    if plain is not None:  # also `6.02e23`, which the parser reads as a product with e
        yield Value(Rational(plain.numerator, plain.denominator))
        return
    for reading in readings(text):
        number = reading.expression if isinstance(reading, Value) else None
        if number is not None and number.is_number and number.is_extended_real and number.evalf(30).is_finite:
            yield reading  # type: ignore[misc]  # a Value


def _number(value: Value) -> Fraction:
    return Fraction(str(value.expression.evalf(30)))


def _in_unit_of(wanted: Value, found: Value) -> Iterator[Fraction]:
    """The number of `found` as `wanted` counts: in its unit, or as a percentage or share; nothing if they don't fit."""
    number = _number(found)
    if wanted.unit and found.unit:
        if wanted.unit.dimension == found.unit.dimension:
            base = number * found.unit.slope + found.unit.intercept
            yield (base - wanted.unit.intercept) / wanted.unit.slope
    elif wanted.percent == found.percent:
        yield number
    elif not (wanted.unit or found.unit):
        yield number
        yield number * 100 if wanted.percent else number / 100


def _half_a_digit(gold: str) -> Fraction | None:
    """Half a unit of the gold answer's last digit: 0.005 for `3.14`, half of 10^21 for `6.02e23`; None for `1/3`."""
    match = _DECIMALS.match(gold)
    if match is None:
        return None
    power = int(match["e"] or match["power"] or 0) - len(match["decimals"] or "")
    return Fraction(1, 2) * Fraction(10) ** power

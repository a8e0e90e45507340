"""Comparison of two answers: they are equal if any reading of one equals any reading of the other; always symmetric.

Call it in a worker only (`workers`): an algebra system computes whatever an answer says.
"""

from __future__ import annotations

import math

from lm_eval_ext.grading.equality import Undecided, any_same
from lm_eval_ext.grading.reading import readings
from lm_eval_ext.grading.values import Reading, Value, Words


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


def read(text: str) -> tuple[bool, complex | None]:
    """Whether an answer can be read, and its value if it is a number and nothing else."""
    found = readings(text)
    plain = len(found) == 1 and isinstance(found[0], Value) and found[0] == Value(found[0].expression, found[0].rounded)
    return bool(found), _evaluated(found[0].expression) if plain else None  # type: ignore[union-attr]  # a Value


def _evaluated(expression: object) -> complex | None:
    try:
        number = complex(expression.evalf(15))  # type: ignore[attr-defined]  # a sympy expression
    except (TypeError, ValueError, OverflowError):  # not a number after all, or outside the range of a float
        return None
    return number if math.isfinite(abs(number)) else None


def _is_mixed(*some: Reading) -> bool:
    return any(isinstance(one, Words) and one.mixed for one in some)


def compared(one: str, other: str) -> bool | None:
    """Whether two answers are equal; None if that is not decided, or one of them cannot be read and they differ."""
    if one == other:
        return True
    first, second = readings(one), readings(other)
    if not first or not second:
        return None
    try:
        equal = any_same(first, second)
        return None if not equal and _is_mixed(first[0], second[0]) else equal
    except Undecided:
        return None
    except (RuntimeError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        # sympy's errors about incomparable expressions; some of them cannot be pickled back from a worker
        raise ValueError(" ".join(str(error).split())[:200]) from None

"""Converts values from untrusted files to the expected type, or to an empty value."""

from __future__ import annotations

import math
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff\ufffe\uffff]+")
GREATEST = 1e15  # largest number allowed in a run


def mapping(value: object) -> dict[str, object]:
    """`value` as a mapping; empty if it isn't one."""
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """`value` as a list; empty if it isn't one."""
    return list(value) if isinstance(value, (list, tuple)) else []


def number(value: object) -> float | None:
    """`value` as a finite number; lm-eval writes some as strings. None if it isn't a number; booleans are not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= GREATEST else None


def whole(value: object) -> int | None:
    """`value` as an integer; None if it isn't one."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def line(value: object, longest: int = 500) -> str:
    """`value` as text on one line, cut if too long; empty for None."""
    return _CONTROL.sub(" ", "" if value is None else str(value)).strip()[:longest]


def text(value: str) -> str:
    """The text made encodable as UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8")

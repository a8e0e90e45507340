"""Values in files that anyone may have written: each as what it should be, or as nothing."""

from __future__ import annotations

import math
import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+")
GREATEST = 1e15  # of a number that a run may hold


def mapping(value: object) -> dict[str, object]:
    """An object; empty if it is none."""
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def sequence(value: object) -> list[object]:
    """An array; empty if it is none."""
    return list(value) if isinstance(value, (list, tuple)) else []


def number(value: object) -> float | None:
    """A finite number, or a text that reads as one (as lm-eval writes some); None if it is none. No truth value is."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) and abs(found) <= GREATEST else None


def whole(value: object) -> int | None:
    """A whole number; None if it is none."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def line(value: object, longest: int = 500) -> str:
    """Text on one line, cut where it is too long; empty for None."""
    return _CONTROL.sub(" ", "" if value is None else str(value)).strip()[:longest]


def text(value: str) -> str:
    """Text that can be written as UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8")

"""Whether an answer equals the gold one. Math-Verify decides where plain text and numbers do not.

The functions here that parse run a computer algebra system on untrusted text: call them in a worker only (`pool`).
"""

from __future__ import annotations

import re

_INTEGER = re.compile(r"^[+-]?\d+$")
_SPACING = re.compile(r"\\[,;!: ]|\\left|\\right|~|\s+|\$")


def plainly_equal(gold: str, answer: str) -> bool | None:
    """A verdict that needs no algebra: equal texts, or two integers; None where there is none."""
    one, other = _normalised(gold), _normalised(answer)
    if not other:
        return False
    if one == other:
        return True
    if _INTEGER.match(one) and _INTEGER.match(other):
        return _integer(one) == _integer(other)
    return None


def _normalised(text: str) -> str:
    return _SPACING.sub("", text).replace("dfrac", "frac").replace("tfrac", "frac").rstrip(".")


def _integer(text: str) -> str:
    # Compared as text: int() refuses very long numbers.
    sign = "-" if text[0] == "-" else ""
    digits = text.lstrip("+-").lstrip("0") or "0"
    return digits if digits == "0" else sign + digits


def algebraically_equal(gold: str, answer: str) -> bool:
    """Math-Verify's verdict; for workers only."""
    from math_verify import verify

    parsed = _parsed(answer)
    # The worker that this runs in is killed from outside, so Math-Verify's own alarms are off.
    return bool(parsed) and bool(verify(_parsed(gold), parsed, timeout_seconds=None))


def _parsed(text: str) -> list[object]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    parsed: list[object] = parse(
        rf"\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()],
        parsing_timeout=None,
    )
    return parsed

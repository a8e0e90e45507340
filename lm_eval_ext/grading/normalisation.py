r"""Rewrites an answer to plain LaTeX: Unicode, spacing, thousands separators; never changes its value.

Covers forms that Math-Verify misreads or cannot read: `1\,234`, full-width digits, `√2`, `x²`, `3\frac{1}{2}`,
`\{x \mid x > 3\}`.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ", "0123456789+-n")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "∕": "/", "×": r"\times ", "÷": r"\div ", "·": r"\cdot ", "⋅": r"\cdot ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ", "π": r"\pi ", "∪": r"\cup ", "∩": r"\cap ",
    "±": r"\pm ", "∈": r"\in ", "°": r"^\circ ", "∅": r"\emptyset ", "，": ",", "、": ",", "；": ";", "∣": "|",
    "≈": r"\approx ",
}  # fmt: skip
_ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
_RADICAND = re.compile(r"([√∛∜])\s*(?:\{([^{}]*)\}|\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]|\\pi\b))")

_CURRENCIES = {r"\$": r"\text{ dollars}", "€": r"\text{ euros}", "£": r"\text{ GBP}"}
_MONEY = re.compile(r"(\\\$|€|£)\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?)")
_SIZED = re.compile(r"\\(?:big|Big|bigg|Bigg)[lrm]?(?![a-z])")
_WRAPPERS = re.compile(r"\\?\$|(?<!\\)\\[()\[\]]|\\displaystyle|\\(?:left|right)(?![a-z])(?:\.(?!\d))?|(?<!\\)\\!")
_SPACES = re.compile(r"(?:(?<!\\)\\[,;: ]|\\(?:q?quad|thinspace)(?![a-z])|~|\s)+")
_DOUBLED = re.compile(r"\\\\(?=(?:[dtc]?frac|left|right|sqrt|pi|leq?|geq?|cup|infty|cdot|times|text|in)(?![a-z]))")
_GROUP = r"(?:\s?\{,\s?\}|,?\\!\s*|(?<!\\)\\[, ]|\s)"
_THOUSANDS = re.compile(rf"(?<![\d.])(?<!(?<!\\),)\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)")
_GROUPED = re.compile(_GROUP)
_COMMA_THOUSANDS = re.compile(r"^([^\d(\[{,]*\d{1,3})((?:,\d{3})+)(?![\d,])([^,(\[{]*)$")  # else a list
# A letter, but not a unit after a number; e, i and d keep their meaning.
_LETTER = re.compile(
    r"(?:(?<![^(\[{,=|])\\(?:mathrm|mathit|text|operatorname)\s*\{\s*([A-Za-z])\s*\}|\\mathrm\s*\{([eid])\})"
)
_LEADING_EQUALS = re.compile(r"^=(?!=)\s*(?=\S)")  # the left-hand side is outside the box
_FRACTION_NAMES = re.compile(r"\\[dtc]frac(?![a-z])")
_BARE_FRACTION = re.compile(r"\\frac\s*(\d)\s*(\d)")
_MIXED = re.compile(r"(?<![\w.}^_\\])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
_MIXED_SLASH = re.compile(r"^([+-]?)(\d+)\s+(?:and\s+)?(\d+)\s*/\s*(\d+)$")
_SET_BUILDER = re.compile(
    r"^\\\{\s*([A-Za-z])\s*(?:\\in\s*\\(?:mathbb|mathbf)\s*\{?R\}?\s*)?(?:\\mid|\\vert|\||:)\s*(.+?)\s*\\\}$"
)


def normalised(text: str) -> str:
    r"""The answer as plain LaTeX.

    >>> normalised("３\\dfrac12 ")
    '3+\\frac{1}{2}'
    """
    text = _SIZED.sub("", _plain_characters(text.strip()))
    text = text if r"\begin" in text else _DOUBLED.sub(r"\\", text)
    text = _THOUSANDS.sub(lambda match: _GROUPED.sub("", match[0]), text)
    text = _MONEY.sub(lambda match: match[2].replace(",", "") + _CURRENCIES[match[1]], text)
    text = _LEADING_EQUALS.sub("", _SPACES.sub(" ", _WRAPPERS.sub("", text)).strip())
    text = _LETTER.sub(r"\1\2", _without_full_stop(text))
    text = _COMMA_THOUSANDS.sub(lambda match: match[1] + match[2].replace(",", "") + match[3], text)
    text = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", _FRACTION_NAMES.sub(r"\\frac", text))
    text = _MIXED_SLASH.sub(r"\1(\2+\\frac{\3}{\4})", _MIXED.sub(r"(\1+\\frac{\2}{\3})", text))
    return _without_brackets(_SET_BUILDER.sub(r"\2", text))


def _plain_characters(text: str) -> str:
    if text.isascii():
        return text
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ]+", lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉]+", lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
    text = "".join(one for one in text if unicodedata.category(one) != "Cf")  # invisible format characters
    text = "".join(_SYMBOLS.get(one, str(unicodedata.digit(one)) if one.isdecimal() else one) for one in text)
    text = unicodedata.normalize("NFKC", re.sub(r"[¼-¾⅐-⅞]", _fraction, text))
    return _RADICAND.sub(lambda match: f"{_ROOTS[match[1]]}{{{match[2] or match[3] or match[4]}}}", text)


def _fraction(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}"


def _without_brackets(text: str) -> str:
    """Strip brackets around the whole text, unless they make a tuple or an interval."""
    while text.startswith("(") and text.endswith(")") and "," not in text:
        depths = accumulate((character == "(") - (character == ")") for character in text[:-1])
        if min(depths) <= 0:
            break
        text = text[1:-1].strip()
    return text


def _without_full_stop(text: str) -> str:
    """Strip a full stop; an ellipsis is kept."""
    if text.endswith("..") or not text.endswith((".", "。", ",", ";")):
        return text
    return text[:-1].rstrip()

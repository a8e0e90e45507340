r"""LaTeX as people write it, spelled out for the parser: `\frac12`, `\sqrt2`, `sqrt(2)`, `2^(1/3)`, `0.\overline{3}`.

Nothing here changes a value; unknown LaTeX is left for the parser to reject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PLAIN_NAMES = re.compile(
    r"(?<![\\A-Za-z])(sqrt|sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp|pi|theta|alpha|beta|infinity|inf)"
    r"(?![A-Za-z])"
)
_LATEX_NAMES = {"infinity": "infty", "inf": "infty"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)
_ARGUMENTS = {r"\frac": 2, r"\sqrt": 1, r"\binom": 2}
_REPEATING = re.compile(r"(\d*)\.(\d*)(?:\\overline|\\bar|\\dot)\s*(?:\{(\d+)\}|(\d))")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)(?=.*\S)")
_CHAINED_POWER = re.compile(r"\*\*")
_OVER = re.compile(r"\{([^{}]*)\\over(?![a-z])([^{}]*)\}")
_BRACKET_NAMES = re.compile(r"\\([lr])(brack|brace)(?![a-z])")
_BRACKETS = {("l", "brack"): "[", ("r", "brack"): "]", ("l", "brace"): r"\{", ("r", "brace"): r"\}"}
_ARRAY = re.compile(r"^[\[(|]?\s*\\begin\{array\}\s*\{[clr|]*\}(.*)\\end\{array\}\s*[\])|]?$", re.DOTALL)
_ONE_IN_BRACES = re.compile(r"\{(\w)\}")
_VECTOR = re.compile(r"\\begin\{([pb]?matrix|array)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}", re.DOTALL)
_ANGLES = re.compile(r"\\langle(.*)\\rangle", re.DOTALL)
_TEXT = r"\\(?:text(?:rm|bf|it|normal)?|mathrm|mathsf|mbox|hbox|operatorname)"
_ORDINAL = re.compile(
    rf"^(-?\d+)\s*(?:\^\s*)?(?:\{{\s*)?(?:{_TEXT}\s*\{{)?\s*(?:st|nd|rd|th)\s*\}}{{0,2}}$", re.IGNORECASE
)
_WORDS = re.compile(r"^[^\W\d_]+(?:[ '’-]+[^\W\d_]+)*[.!?]?$")


def without_ordinal(text: str) -> str:
    r"""`12^{\text{th}}` as `12`."""
    match = _ORDINAL.match(text)
    return match[1] if match else text


def with_plain_brackets(text: str) -> str:
    r"""`\lbrack 0, 1\rbrack` as `[0, 1]`, an array in brackets as a matrix, and grouping braces removed."""
    text = _BRACKET_NAMES.sub(lambda name: _BRACKETS[name[1], name[2]], text)
    text = _ARRAY.sub(r"\\begin{pmatrix}\1\\end{pmatrix}", text)
    return text[1:-1].strip() if text.startswith("{") and closing(text, 0) == len(text) - 1 else text


def as_text(text: str) -> str:
    """The text without markup, for comparing answers that are not mathematics letter by letter."""
    text = re.sub(rf"{_TEXT}\s*\{{([^{{}}]*)\}}", r"\1", text)
    text = re.sub(r"\s*([^\w\s])\s*", r"\1", _ONE_IN_BRACES.sub(r"\1", " ".join(text.split())))
    text = re.sub(r"(\\[A-Za-z]+) ", r"\1", text)
    text = re.sub(r"(?<!\.)\.$", "", text)
    return text[1:-1] if re.fullmatch(r"\([^()]*\)", text) and "," not in text else text


def plain_words(text: str) -> str:
    r"""The words of an answer made up of words only, such as `even` for `\text{Even}`; empty for any other answer."""
    if re.fullmatch(_TEXT + r"\s*\{[^{}]*\}", text):
        inner = as_text(text)
    elif _WORDS.match(text) and re.search(r"[^\W\d_]{4,}", text):
        inner = " ".join(text.rstrip(".!?").split())
    else:
        return ""
    return inner.casefold() if len(inner) > 1 else inner


def as_tuple(text: str) -> str:
    r"""A column or row vector, or one in angle brackets, as `(a, b)`; anything else unchanged."""
    angles = _ANGLES.fullmatch(text)
    if angles:
        return f"({angles[1]})"
    matrix = _VECTOR.fullmatch(text)
    if matrix is None:
        return text
    rows = [row.split("&") for row in re.split(r"\\\\", matrix[2]) if row.strip()]
    entries = [entry.strip() for row in rows for entry in row]
    is_vector = len(entries) > 1 and (len(rows) == 1 or all(len(row) == 1 for row in rows))
    return f"({', '.join(entries)})" if is_vector else text


def spelled_out(text: str) -> str:
    r"""The text with arguments in braces, and function names as LaTeX commands.

    >>> spelled_out(r"\frac12 + sqrt(2)")
    '\\frac{1}{2} + \\sqrt{2}'
    """
    text = _PLAIN_NAMES.sub(lambda name: "\\" + _LATEX_NAMES.get(name[1], name[1]) + " ", text)
    text = _REPEATING.sub(_fraction, _CHAINED_POWER.sub("^", _OVER.sub(r"\\frac{\1}{\2}", text)))
    text = _DEGREES.sub(r"(\\frac{\\pi \1}{180})", text)
    return "".join(_with_braces(text))


def _fraction(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction."""
    whole, once, again = match[1] or "0", match[2], match[3] or match[4]
    below = 10 ** len(once) * (10 ** len(again) - 1)
    above = int(whole + once + again) - int(whole + once)
    return rf"(\frac{{{above}}}{{{below}}})"


def _with_braces(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        assert token is not None  # the pattern matches any character
        place = token.end()
        yield token[0]
        if token[0] == r"\sqrt" and (root := re.compile(r"\s*(\[[^\]]*\])").match(text, place)):
            yield root[1]
            place = root.end()
        for _ in range(_ARGUMENTS.get(token[0], 1 if token[0] in "^_" else 0)):
            argument, place = _argument(text, place, one_token=token[0] in "^_")
            yield argument


def _argument(text: str, place: int, *, one_token: bool) -> tuple[str, int]:
    """An argument in braces (or an exponent in round brackets), and the position where it ends."""
    place += len(text[place:]) - len(text[place:].lstrip())
    if place >= len(text):
        return "", place
    if text[place] in "{(":
        end = closing(text, place)
        if end is None:
            return "", place
        inner = text[place + 1 : end]
        return "{" + "".join(_with_braces(inner)) + "}", end + 1
    sign = re.compile(r"[+-]?\d+|[+-]?[A-Za-z]").match(text, place) if one_token else None
    token = sign or _TOKEN.match(text, place)
    assert token is not None
    return "{" + token[0] + "}", token.end()


def closing(text: str, opened: int) -> int | None:
    """Position of the bracket that closes the one at `opened`; None if none does. Escaped brackets are ignored."""
    pair = {"{": "}", "(": ")", "[": "]"}[text[opened]]
    depth = 0
    for token in _TOKEN.finditer(text, opened):
        depth += (token[0] == text[opened]) - (token[0] == pair)
        if depth == 0:
            return token.start()
    return None


def parts(text: str, separators: str = ",;") -> list[str]:
    """Split a text at separators that are outside all brackets."""
    depth, start, found = 0, 0, []
    for token in _TOKEN.finditer(text):
        depth += (token[0] in ("(", "[", "{", r"\{")) - (token[0] in (")", "]", "}", r"\}"))
        if depth == 0 and token[0] in separators:
            found.append(text[start : token.start()].strip())
            start = token.end()
    return [*found, text[start:].strip()]

r"""LaTeX as a tree of nodes, read once: macros, groups, environments, scripts, text; not what only changes its look.

>>> written(nodes(r"\dfrac12 + \mathbf{x}^2\,"))
'\\frac{1}{2}+x^{2}'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from lm_eval_ext.grading.words import table

Kind = Literal["number", "letters", "command", "macro", "group", "table", "text", "sup", "sub", "sign"]


@dataclass(frozen=True)
class Node:
    """A node of the tree.

    Attributes:
        kind: `number` (`1.5`), `letters` (a run of them), `command` (`pi`), `macro` (with arguments), `group` (its
            brackets in `name`), `table` (its environment in `name`), `text` (words), `sup`, `sub`, or `sign` (one
            character, also `≤` for `\\le`).
        name: what it is called, or the characters themselves.
        parts: its arguments, or the cells of a table, row by row.
        width: number of columns of a table.
        spaced: whether there is a space before it.
        style: `bold` for letters that may be vectors, `roman` for a letter in text mode, which may be a unit.
    """

    kind: Kind
    name: str
    parts: tuple[Nodes, ...] = ()
    width: int = 0
    spaced: bool = False
    style: Literal["", "bold", "roman"] = ""


Nodes = tuple[Node, ...]


class UnreadableError(ValueError):
    """What cannot be read; the message says which part."""


TABLE: dict[str, Any] = table("latex")
_LOOKS, _DROPPED, _ARGUMENTS, _SAME = (TABLE[name] for name in ("looks", "dropped", "arguments", "same"))
_SILENT, _TEXTS, _TABLES, _LAYOUTS = (frozenset(TABLE[name]) for name in ("silent", "texts", "tables", "layouts"))
_SIGNS, _CHARACTERS, _NAMED, _ROOTS = (TABLE[name] for name in ("signs", "characters", "named", "roots"))
_DIGRAPHS = {"<=": "≤", ">=": "≥", "!=": "≠"}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_OPENING = {"(": "(", "[": "[", r"\{": r"\{", r"\lbrace": r"\{", r"\lbrack": "[", r"\langle": "⟨", r"\lfloor": "⌊",
            r"\lceil": "⌈", "⌊": "⌊", "⌈": "⌈", "⟨": "⟨"}  # fmt: skip
_CLOSING = {")": ")", "]": "]", r"\}": r"\}", r"\rbrace": r"\}", r"\rbrack": "]", r"\rangle": "⟩", r"\rfloor": "⌋",
            r"\rceil": "⌉", "⌋": "⌋", "⌉": "⌉", "⟩": "⟩"}  # fmt: skip
_PAIRS = {"(": ")]", "[": "])", r"\{": (r"\}",), "⟨": "⟩", "⌊": "⌋", "⌈": "⌉"}
_GROUPED = r"\d{1,3}(?:(?:\s?\{,\s?\}|,?\\!\s*|\\[, ]|['\u2009\u202f ])\d{3})+(?!\d)"
# A point after which digits repeat, or that is only there to make a number a decimal one, as in `3./2`.
_POINT = r"\.(?=\s*(?:\\overline|\\bar|\\dot(?![a-z])|\\\\?%|[(/*]))"
_TOKEN = re.compile(
    rf"(?P<number>(?:(?<![\d.]){_GROUPED}(?:\.\d+)?|(?<![\d.])\d{{1,3}}(?:\.\d{{3}}){{2,}}(?![\d.])|\d++(?:\.\d++)?(?!\.\d)(?!{_POINT})|\d++{_POINT}|\.\d++|\d++)"
    r"(?:[eE](?:\d{1,4}|[+-]\d{1,4}(?![)\]}]))(?![\d.]))?)"
    r"|(?P<environment>\\(?:begin|end)\s*\{[A-Za-z]+\*?\})|(?P<command>\\[A-Za-z]+)|(?P<nothing>\\!)"
    r"|(?P<space>[\s~]+|\\[]()[,;: \n/>-])|(?P<escaped>\\.)|(?P<letters>[^\W\d_]+)|(?P<sign>[<>]=|=+|(?<![\d)!])!=|.)",
    re.DOTALL,
)
# Other ways to write the same: `\root 3 \of 4`, `6.02\text{E}23`, `\overline{1011}_2`, `24 sq cm`.
_OTHERWISE: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # `1,50,000`: the leading zero of a group tells it from a list such as `5,25,125`.
    (
        re.compile(r"(?<![\d,])(?=[\d,]*,0\d)\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])"),
        lambda number: number[0].replace(",", ""),
    ),
    (re.compile(r"\\root\s*(\w)\s*\\of\s*(\w|\{[^{}]*\})"), r"\\sqrt[\1]{\2}"),
    (re.compile(r"(?<=\d)\s*\\text\{E\}\s*(?=[+-]?\d)"), "e"),
    (re.compile(r"\\overline\{(\w+)\}(?=_)"), r"\1"),
    (re.compile(r"\^\+(?=\s*(?:$|[})]))"), "^{+}"),
    (re.compile(r"(?i)\bsq\.? (?=(?:[cmk]?m|in|ft|mi|yd|inches|feet|units?)\b)"), "square "),
)
# `|0\rangle`, which no bracket opens.
_KET = re.compile(r"(?:\\left\s*)?(?:\||\\[lr]?vert\b)\s*([^|<>()]{1,20}?)\s*(?:\\right\s*)?\\rangle")
_MODULES = re.compile(r"\b(?:np|numpy|math|sympy|sp)\.(?=[a-z])")  # of Python, before a function
_FUSED = re.compile(
    r"(sin|cos|tan|cot|sec|csc|ln|log|pi|theta|alpha|beta|cdot|times)([a-zA-Z]{1,2})(?<!sinh|cosh|tanh|coth)"
)
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dtc]?frac|left|right|sqrt|pi|leq?|geq?|cup|infty|cdot|times|text|in|pm)(?![a-z]))"
)
_ROW_SPACE = re.compile(r"(?<=\\\\)\*?\s*\[-?\d*\.?\d+\s*(?:pt|em|ex|mm|cm|mu)\]")
_LONGEST = 2_000  # characters of what is read
_DEEPEST = 40


# `]0, 1[` and unions of intervals like it, whose open ends have a bracket that is turned away.
_INTERVAL = r"\s*[][(][^][()]+,[^][()]+[][)]\s*"
_OUTWARDS = re.compile(rf"{_INTERVAL}(?:\\(?:big)?cup{_INTERVAL})*")
_OUTWARDS_ENDS = re.compile(r"(?:^|(?<=cup))\s*\]|\[\s*(?=$|\\(?:big)?cup)")
_GOES_ON = re.compile(r"(?<=\d)\.{3}")  # `0.666...`
_DOLLARS = re.compile(r"^\$(?=\s?\d[\d.,]*(?: [a-z]+)?$)")  # `$5` is money, because no formula ends there


@lru_cache(maxsize=4096)
def nodes(text: str) -> Nodes:
    """The tree of a text.

    Raises:
        UnreadableError: brackets don't match, an argument is missing, or it is too long or too deeply nested.
    """
    if len(text) > _LONGEST:
        raise UnreadableError(f"{len(text)} characters")
    text = _plain(text.strip())
    text = _DOLLARS.sub(r"\\$", _GOES_ON.sub(r"\\ldots ", text))
    if _OUTWARDS.fullmatch(plain := re.sub(r"\\(?:left|right)\s*(?=[][()])", "", text)):
        text = _OUTWARDS_ENDS.sub(lambda end: "(" if end[0] == "]" else ")", plain)
    if r"\right." in text:  # a brace before the lines of a system
        text = re.sub(r"\\left\s*\\(?:\{|lbrace)\s*(?=\\begin)", "", text)
    reader = _Reader(_ROW_SPACE.sub("", text) if r"\begin" in text else _DOUBLED.sub(r"\\", text))
    found = reader.body(0)
    if reader.ahead.kind != "end":
        raise UnreadableError(reader.ahead.text)
    return found


def is_sign(node: Node, *signs: str) -> bool:
    """Whether a node is one of some signs."""
    return node.kind == "sign" and node.name in signs


def flat(some: Nodes) -> Iterator[Node]:
    """All nodes, also those within others."""
    for node in some:
        yield node
        for part in node.parts:
            yield from flat(part)


def joins(node: Node) -> str:
    """`and` or `or`, if a node is that."""
    name = node.name.lower().strip(" ,")
    return name if node.kind in ("text", "letters", "command") and name in ("and", "or") else ""


def split(some: Nodes, *signs: str) -> list[Nodes]:
    """The nodes between some signs."""
    found: list[list[Node]] = [[]]
    for node in some:
        if is_sign(node, *signs):
            found.append([])
        else:
            found[-1].append(node)
    return [tuple(part) for part in found]


def _plain(text: str) -> str:
    """The text in as few characters as it takes: digits of any script, Unicode's fractions, powers and indices."""
    if not text.isascii():
        text = "".join(one for one in text if unicodedata.category(one) != "Cf")
        text = re.sub(r"[¼-¾⅐-⅞]", _fraction, text)
        text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ]+", lambda run: f"^{{{run[0].translate(_SUPERSCRIPTS)}}}", text)
        text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉ₙ]+", lambda run: f"_{{{run[0].translate(_SUBSCRIPTS)}}}", text)
        text = "".join(_CHARACTERS.get(one) or (str(unicodedata.digit(one)) if one.isdigit() else one) for one in text)
    text = re.sub(r"Å|\u212b|\\AA(?![A-Za-z])|\\(?:mathring|r) ?\{?A\}?(?![A-Za-z])", r"\\text{ angstrom}", text)
    if r"\rangle" in text and r"\langle" not in text:
        text = _KET.sub(r"\\ket{\1}", text)
    for pattern, instead in _OTHERWISE:
        text = pattern.sub(instead, text)
    return _MODULES.sub("", re.sub(r"\\q?quad(?=[A-Za-z])", " ", text))


def _fraction(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}"


class _Token(NamedTuple):
    kind: str
    text: str
    start: int
    spaced: bool = False


def _tokens(text: str) -> Iterator[_Token]:
    spaced = False
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind not in ("space", "nothing"):
            yield _Token(kind, match[0], match.start(), spaced)
            spaced = False
        spaced |= kind == "space"
    yield _Token("end", "", len(text))


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens, self._place = text, list(_tokens(text)), 0

    @property
    def ahead(self) -> _Token:
        """The next token."""
        return self._tokens[self._place]

    def _take(self, expected: str = "") -> _Token:
        token = self.ahead
        if token.kind == "end" or expected not in ("", token.text):
            raise UnreadableError(f"{expected} is missing" if expected else "the text ends too early")
        self._place += 1
        return token

    def _takes(self, text: str) -> bool:
        """Take the next token if it is this one."""
        self._place += (ahead := self.ahead.text == text)
        return ahead

    def body(self, depth: int, *ends: str) -> Nodes:
        """Nodes up to one of some closing tokens, which is not taken, or to the end."""
        if depth > _DEEPEST:
            raise UnreadableError("nested too deeply")
        found: list[Node] = []
        spaced = False
        while not self._ends(ends):
            spaced |= self.ahead.spaced
            if some := self._node(depth):
                found += [replace(some[0], spaced=spaced or some[0].spaced), *some[1:]]
                spaced = False
        return _infix(tuple(found))

    def _ends(self, ends: Container[str]) -> bool:
        kind, token, *_ = self.ahead
        return kind == "end" or token in ends or _CLOSING.get(token) in ends or (token[:4] == r"\end" and "&" in ends)

    def _node(self, depth: int) -> Nodes:
        kind, token, *_ = self._take()
        if kind == "number":
            plain = re.sub(r"[^\d.e+-]", "", token.lower())
            return (Node("number", plain.replace(".", "") if plain.count(".") > 1 else plain),)
        if kind == "letters":  # of which the Greek ones are commands
            runs = re.findall(rf"[{''.join(_NAMED)}]|[^{''.join(_NAMED)}]+", token)
            return tuple(Node("command", _NAMED[run]) if run in _NAMED else Node("letters", run) for run in runs)
        if kind == "environment":
            return self._environment(token, depth)
        if token in _OPENING:
            opening = _OPENING[token]
            inner, closing = self.body(depth + 1, *_PAIRS[opening]), self._take().text
            if closing not in _CLOSING:
                raise UnreadableError(f"{closing} closes nothing")
            return (Node("group", opening + _CLOSING[closing], (inner,)),)
        if token == "{":
            return _grouped(self._braced(depth))
        if token in _CLOSING or token == "}":
            raise UnreadableError(f"{token} closes nothing")
        if kind == "command":
            return self._command(_SAME.get(token[1:], token[1:]), depth)
        if kind == "escaped":
            if token not in _ESCAPED:
                raise UnreadableError(token)
            return (Node("sign", _ESCAPED[token]),)
        if token in "^_":
            return (self._script(token, depth),)
        if token == "$":
            return ()
        if token in _ROOTS:
            return (Node("macro", "sqrt", (self._argument(depth, digits=True), nodes(_ROOTS[token]))),)
        return (Node("command", _NAMED[token]) if token in _NAMED else Node("sign", _DIGRAPHS.get(token, token[0])),)

    def _braced(self, depth: int) -> Nodes:
        inner = self.body(depth + 1, "}")
        self._take("}")
        return inner

    def _script(self, token: str, depth: int) -> Node:
        if token == "^" and self._takes("("):
            body = self.body(depth + 1, ")")
            self._take(")")
        elif self.ahead.text in ("+", "-"):
            body = (Node("sign", self._take().text), *self._argument(depth, digits=True))
        else:
            body = self._argument(depth, digits=True)
        names = [one.name for one in body]
        if token == "^" and names in (["circ"], ["°"]):
            return Node("sign", "°")
        if token == "^" and names and set(names) == {"'"}:
            return Node("sign", "'" * len(body))
        return Node("sup" if token == "^" else "sub", "", (body,))

    def _argument(self, depth: int, *, digits: bool = False) -> Nodes:
        """The next group without its braces, or a single token; a whole number only if `digits`."""
        if depth > _DEEPEST:
            raise UnreadableError("nested too deeply")
        while self.ahead.kind == "command" and self.ahead.text[1:] in _SILENT:
            self._place += 1
        if self._takes("{"):
            return self._braced(depth)
        kind, token, start, _ = self.ahead
        if len(token) > 1 and (kind == "letters" or (kind == "number" and not digits)):
            self._tokens[self._place] = _Token(kind, token[1:], start + 1)
            return (Node("number" if kind == "number" else "letters", token[0]),)
        return self._node(depth + 1)

    def _command(self, name: str, depth: int) -> Nodes:
        if name in _SILENT:
            if name in ("left", "right"):
                self._takes(".")
            return ()
        if name in _DROPPED or name in _LOOKS:
            for _ in range(_DROPPED.get(name, 0) or _LOOKS.get(name, 0)):
                self._argument(depth)
            inner = self._argument(depth) if name in _LOOKS else ()
            if name in _BOLD and all(one.kind in ("letters", "command") for one in inner):
                inner = tuple(replace(one, style="bold") for one in inner)
            return _grouped(inner)
        if name in _TEXTS:
            return self._text_mode(name, depth)
        if name in _SIGNS:
            return (Node("sign", _SIGNS[name]),)
        if name in ("imath", "jmath"):
            return (Node("letters", name[0]),)
        if name == "not":
            return (self._negated(),)
        if name in _ARGUMENTS:
            index: Nodes = ()
            if name == "sqrt" and self._takes("["):
                index = self.body(depth + 1, "]")
                self._take("]")
            parts = tuple(self._argument(depth) for _ in range(_ARGUMENTS[name]))
            return (Node("macro", name, (*parts, index) if name == "sqrt" else parts),)
        if (known := _FUSED.fullmatch(name)) is not None:  # `\cotx`
            return Node("command", known[1]), Node("letters", known[2])
        return (Node("command", name),)

    def _negated(self) -> Node:
        relation = self._node(0)
        if len(relation) != 1 or not is_sign(relation[0], *_NEGATED):
            raise UnreadableError(r"\not")
        return Node("sign", _NEGATED[relation[0].name])

    def _text_mode(self, name: str, depth: int) -> Nodes:
        if not self._takes("{"):
            return self._argument(depth)
        start, level = self._tokens[self._place - 1].start + 1, 1
        while level:
            token = self._take()
            level += (token.text == "{") - (token.text == "}")
        content = self._text[start : token.start]
        if content[-1:].isspace():
            self._tokens[self._place] = self.ahead._replace(spaced=True)
        found = tuple(_in_text(content, name))
        if [(one.kind, one.name in TABLE["functions"]) for one in found] == [("text", True)] and (
            self.ahead.text == "(" or found[0].name == "cis"
        ):
            return (Node("command", found[0].name),)
        if found and found[0].kind != "text":
            return replace(found[0], spaced=content[0].isspace() or content[0] == "~"), *found[1:]
        return found

    def _environment(self, token: str, depth: int) -> Nodes:
        name = token.partition("{")[2].rstrip("}").strip()
        if token.startswith(r"\end") or name not in _TABLES | _LAYOUTS:
            raise UnreadableError(token)
        if name in ("array", "alignedat") and self.ahead.text == "{":
            self._argument(depth)
        rows: list[list[Nodes]] = [[]]
        while True:
            rows[-1].append(self.body(depth + 1, "&", "\\\\", r"\cr"))
            separator = self._take()
            if separator.kind == "environment":
                break
            if separator.text != "&":
                rows.append([])
        rows = [row for row in rows if any(row)]
        lines = name in _LAYOUTS and name != "array"
        if lines:
            rows = [[tuple(one for cell in row for one in cell)] for row in rows]
        if name in _LAYOUTS and len(rows) == 1 == len(rows[0]):
            return rows[0][0]
        width = max(map(len, rows), default=0)
        cells = tuple(cell for row in rows for cell in (*row, *[()] * (width - len(row))))
        return (Node("table", "lines" if lines else name, cells, width),)


def _grouped(inner: Nodes) -> Nodes:
    """What is in braces as one node."""
    return inner if len(inner) < 2 else (Node("group", "{}", (inner,)),)


def _in_text(content: str, name: str) -> Iterator[Node]:
    """What text mode says: words; or mathematics, if it is a number or a letter, or within dollars."""
    pieces = re.split(r"\$([^$]*)\$", content) if content.count("$") - content.count(r"\$") >= 2 else [content]
    for number, piece in enumerate(pieces):
        plain = re.sub(r"\\[,;:! ]|~|\s|\\(?:left|right)(?![a-z])", " ", piece)
        plain = re.sub(r"\^\s*\{\s*(-?\w+)\s*\}", r"^\1", plain.replace(r"\cdot", "·").replace(r"\times", "·"))
        inner = " ".join(re.sub(r"\\(?:text|math)\w*\s*\{([^{}]*)\}", r"\1", plain).split())
        if not inner:
            continue
        if re.fullmatch(r"\\?\$|[A-Za-z]?\\(?:Omega|mu|AA)[A-Za-z]?", inner):
            yield from (Node("sign", "$"),) if inner[-1] == "$" else nodes(inner)
            continue
        single = len(inner) == 1 and (inner.isalpha() or inner in "+-=,.;:()[]%/<>")
        if single and inner.isalpha():
            yield Node("letters", inner, style="roman")
        elif number % 2 or single or re.fullmatch(r"[+-]?[\d.,:]+%?|\\?%", inner):
            yield from nodes(inner)
        elif name == "operatorname" and inner.isalpha():
            yield Node("command", inner)
        else:
            yield Node("text", inner, spaced=True)


def _infix(found: Nodes) -> Nodes:
    r"""Nodes in which `a \over b` and `n \choose k` are macros."""
    for at, node in enumerate(found):
        if node.kind == "command" and node.name in ("over", "choose", "atop"):
            return (Node("macro", "frac" if node.name == "over" else "binom", (found[:at], _infix(found[at + 1 :]))),)
    return found


def written(some: Nodes, *, styled: bool = False) -> str:
    """The tree as plain LaTeX, alike for all that is written alike; `styled` keeps what is bold or a letter in text."""
    found = ""
    for node in some:
        text = _written(node, styled)
        apart = re.search(r"\\[A-Za-z]+$", found) is not None and text[:1].isalpha()
        apart |= node.spaced and found != "" and node.kind in ("number", "letters")
        apart |= found[-1:] in ("!", "<", ">", "=") and text[:1] == "="  # no sign of inequality
        found += (" " if apart and not found.endswith(" ") else "") + text
    return found


def _written(node: Node, styled: bool) -> str:
    inner = [written(part, styled=styled) for part in node.parts]
    if styled and node.style:
        name = node.name if node.kind == "letters" else f"\\{node.name}"
        return f"\\{'mathbf' if node.style == 'bold' else 'text'}{{{name}}}"
    match node.kind:
        case "command":
            return f"\\{node.name}"
        case "macro":
            index = f"[{inner[1]}]" if node.name == "sqrt" and inner[1] else ""
            arguments = inner[:1] if node.name == "sqrt" else inner
            return f"\\{node.name}{index}" + "".join(f"{{{one}}}" for one in arguments)
        case "group":
            half = len(node.name) // 2
            opening, closing = (_BRACKETS.get(name, name) for name in (node.name[:half], node.name[half:]))
            return opening + inner[0] + closing
        case "table":
            rows = [" & ".join(inner[at : at + node.width]) for at in range(0, len(inner), max(1, node.width))]
            name = "aligned" if node.name == "lines" else node.name
            columns = f"{{{'c' * node.width}}}" if name == "array" else ""
            return rf"\begin{{{name}}}{columns}" + r" \\ ".join(rows) + rf"\end{{{name}}}"
        case "text":
            return rf"\text{{ {node.name}}}"
        case "sup" | "sub":
            return f"{'^' if node.kind == 'sup' else '_'}{{{inner[0]}}}"
        case "sign":
            return _WRITTEN.get(node.name, node.name)
    return node.name


_NEGATED = {"=": "≠", "<": "≥", ">": "≤", "≤": ">", "≥": "<", "∈": "∉"}
_BOLD = ("mathbf", "bold", "boldsymbol", "bm", "pmb")
_ESCAPED = {r"\%": "%", r"\$": "$", r"\#": "#", r"\&": "&", r"\_": "_", r"\|": "∥", "\\\\": "\\", r"\"": '"'}
_BRACKETS = {"⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil "}
_WRITTEN = {sign: f"\\{name} " for name, sign in reversed(_SIGNS.items()) if not sign.isascii()} | {
    "%": r"\%", "$": r"\$", "~": r"\sim ", "°": r"^\circ", "∥": r"\|", "\\": r"\\",
}  # fmt: skip

r"""LaTeX as a tree of nodes, read once: macros, groups, environments, scripts, text; not what only changes its look.

>>> written(nodes(r"\dfrac12 + \mathbf{x}^2\,"))
'\\frac{1}{2}+x^{2}'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

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
    """

    kind: Kind
    name: str
    parts: tuple[Nodes, ...] = ()
    width: int = 0
    spaced: bool = False


Nodes = tuple[Node, ...]


class UnreadableError(ValueError):
    """What cannot be read; the message says which part."""


def _table() -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return found


TABLE = _table()
_LOOKS, _DROPPED, _ARGUMENTS, _SAME = (TABLE[name] for name in ("looks", "dropped", "arguments", "same"))
_SILENT, _TEXTS, _TABLES, _LAYOUTS = (frozenset(TABLE[name]) for name in ("silent", "texts", "tables", "layouts"))
_SIGNS, _CHARACTERS, _NAMED, _ROOTS = (TABLE[name] for name in ("signs", "characters", "named", "roots"))
_DIGRAPHS = {
    "<=": "≤",
    ">=": "≥",
    "!=": "≠",
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿˣ", "0123456789+-nx")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n")
_OPENING = {"(": "(", "[": "[", r"\{": r"\{", r"\lbrace": r"\{", r"\lbrack": "[", r"\langle": "<", r"\lfloor": "⌊",
            r"\lceil": "⌈", "⌊": "⌊", "⌈": "⌈", "⟨": "<"}  # fmt: skip
_CLOSING = {")": ")", "]": "]", r"\}": r"\}", r"\rbrace": r"\}", r"\rbrack": "]", r"\rangle": ">", r"\rfloor": "⌋",
            r"\rceil": "⌉", "⌋": "⌋", "⌉": "⌉", "⟩": ">"}  # fmt: skip
_PAIRS = {"(": ")]", "[": "])", r"\{": (r"\}",), "<": ">", "⌊": "⌋", "⌈": "⌉"}
_GROUPED = r"\d{1,3}(?:(?:\s?\{,\s?\}|,?\\!\s*|\\[, ]|['\u2009\u202f ])\d{3})+(?!\d)"
# A point after which digits repeat, or that is only there to make a number a decimal one, as in `3./2`.
_POINT = r"\.(?=\s*(?:\\overline|\\bar|\\dot(?![a-z])|\\\\?%|[(/*]))"
_TOKEN = re.compile(
    rf"(?P<number>(?:(?<![\d.]){_GROUPED}(?:\.\d+)?|(?<![\d.])\d{{1,3}}(?:\.\d{{3}}){{2,}}(?![\d.])|\d++(?:\.\d++)?(?!\.\d)(?!{_POINT})|\d++{_POINT}|\.\d++|\d++)"
    r"(?:[eE][+-]?\d{1,4}(?![\d.]))?)"
    r"|(?P<environment>\\(?:begin|end)\s*\{[A-Za-z]+\*?\})|(?P<command>\\[A-Za-z]+)|(?P<escaped>\\.)"
    r"|(?P<letters>[^\W\d_]+)|(?P<space>[\s~]+)|(?P<sign>[<>]=|=+|(?<![\d)!])!=|.)",
    re.DOTALL,
)
_MODULES = re.compile(r"\b(?:np|numpy|math|sympy|sp)\.(?=[a-z])")  # of Python, before a function
_FUSED = re.compile(
    r"(sin|cos|tan|cot|sec|csc|ln|log|pi|theta|alpha|beta|cdot|times)([a-zA-Z]{1,2})(?<!sinh|cosh|tanh|coth)"
)
_DOUBLED = re.compile(
    r"(?<!\\)\\\\(?=(?:[dtc]?frac|left|right|sqrt|pi|leq?|geq?|cup|infty|cdot|times|text|in|pm)(?![a-z]))"
)
_LONGEST = 2_000  # characters of what is read
_DEEPEST = 40


@lru_cache(maxsize=4096)
def nodes(text: str) -> Nodes:
    """The tree of a text.

    Raises:
        UnreadableError: brackets don't match, an argument is missing, or it is too long or too deeply nested.
    """
    if len(text) > _LONGEST:
        raise UnreadableError(f"{len(text)} characters")
    text = _plain(text.strip())
    text = text if r"\begin" in text else _DOUBLED.sub(r"\\", text)
    reader = _Reader(text)
    found = reader.body(0, ())
    if reader.ahead is not None:
        raise UnreadableError(reader.ahead[1])
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
    if node.kind in ("text", "letters", "command") and node.name.lower().strip(" ,") in ("and", "or"):
        return node.name.lower().strip(" ,")
    return ""


def split(some: Nodes, *signs: str) -> list[Nodes]:
    """The nodes between some signs."""
    found: list[list[Node]] = [[]]
    for node in some:
        if node.kind == "sign" and node.name in signs:
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
    return _MODULES.sub("", text)


def _fraction(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[0]).partition("⁄")
    return rf"\frac{{{above}}}{{{below}}}"


class _Reader:
    """Reads a text from left to right; `ahead` is the next token."""

    def __init__(self, text: str) -> None:
        self._text, self._place, self._spaced = text, 0, False
        self.ahead: tuple[str, str] | None = None
        self._next()

    def _next(self) -> None:
        self._spaced = False
        while match := _TOKEN.match(self._text, self._place):
            self._place = match.end()
            kind, token = str(match.lastgroup), match[0]
            if kind == "space":
                self._spaced = True
                continue
            self.ahead = kind, token
            return
        self.ahead = None

    def _take(self) -> tuple[str, str]:
        if self.ahead is None:
            raise UnreadableError("the text ends too early")
        token = self.ahead
        self._next()
        return token

    def body(self, depth: int, ends: Sequence[str]) -> Nodes:
        """Nodes up to one of some closing tokens, which is not taken, or to the end."""
        if depth > _DEEPEST:
            raise UnreadableError("nested too deeply")
        found: list[Node] = []
        while self.ahead is not None and self.ahead[1] not in ends and not self._closes(ends):
            spaced = self._spaced
            some = self._node(depth)
            found += [replace(some[0], spaced=spaced or some[0].spaced), *some[1:]] if some else []
        return _infix(tuple(found))

    def _closes(self, ends: Sequence[str]) -> bool:
        token = self.ahead[1] if self.ahead else ""
        ended = token in _CLOSING and _CLOSING[token] in ends
        return ended or (token.startswith("\\end") and "&" in ends)

    def _node(self, depth: int) -> Nodes:  # noqa: PLR0911  # one for each kind
        kind, token = self._take()
        if kind == "number":
            plain = re.sub(r"[^\d.e+-]", "", token.lower())
            return (Node("number", plain.replace(".", "") if plain.count(".") > 1 else plain),)
        if kind == "letters":
            return tuple(_letters(token))
        if kind == "environment":
            return self._environment(token, depth)
        if token in _OPENING:
            return self._bracketed(_OPENING[token], depth)
        if token == "{":
            inner = self.body(depth + 1, ("}",))
            self._expect("}")
            return inner if len(inner) == 1 else (Node("group", "{}", (inner,)),) if inner else ()
        if token in _CLOSING or token == "}":
            raise UnreadableError(f"{token} closes nothing")
        if kind == "command":
            return self._command(token[1:], depth)
        if kind == "escaped":
            return self._escaped(token)
        return self._sign(token, depth)

    def _expect(self, token: str) -> None:
        if self.ahead is None or self.ahead[1] != token:
            raise UnreadableError(f"{token} is missing")
        self._next()

    def _bracketed(self, opening: str, depth: int) -> Nodes:
        inner = self.body(depth + 1, tuple(_PAIRS[opening]))
        _, token = self._take()
        return (Node("group", opening + _CLOSING[token], (inner,)),)

    def _escaped(self, token: str) -> Nodes:
        if token in (r"\%", r"\$", r"\#", r"\&", r"\_"):
            return (Node("sign", token[1]),)
        if token == r"\|":
            return (Node("sign", "∥"),)
        if token in ("\\\\", r"\""):
            return (Node("sign", token[1]),)
        if token in (r"\(", r"\)", r"\[", r"\]", r"\,", r"\;", r"\:", r"\!", r"\ ", "\\\n", r"\/", r"\-", r"\>"):
            self._spaced = self._spaced or token != r"\!"
            return ()
        raise UnreadableError(token)

    def _sign(self, token: str, depth: int) -> Nodes:
        if token in "^_":
            return (self._script(token, depth),)
        if token == "$":
            return ()
        if token in _ROOTS:
            index = (Node("number", _ROOTS[token]),) if _ROOTS[token] else ()
            return (Node("macro", "sqrt", (self._argument(depth), index)),)
        if token in _NAMED:
            return (Node("command", _NAMED[token]),)
        return (Node("sign", _DIGRAPHS.get(token, token[0])),)

    def _script(self, token: str, depth: int) -> Node:
        if self.ahead and self.ahead[1] == "(" and token == "^":
            self._next()
            body = self.body(depth + 1, (")",))
            self._expect(")")
        elif self.ahead and self.ahead[0] == "sign" and self.ahead[1] in "+-":
            sign = self._take()[1]
            body = (Node("sign", sign), *self._argument(depth, digits=True))
        else:
            body = self._argument(depth, digits=True)
        if token == "^" and [(one.kind, one.name) for one in body] in ([("command", "circ")], [("sign", "°")]):
            return Node("sign", "°")
        if token == "^" and body and all((one.kind, one.name) == ("sign", "'") for one in body):
            return Node("sign", "'" * len(body))
        return Node("sup" if token == "^" else "sub", "", (body,))

    def _argument(self, depth: int, *, digits: bool = False) -> Nodes:
        """The next group without its braces, or a single token; a whole number only if `digits`."""
        if depth > _DEEPEST:
            raise UnreadableError("nested too deeply")
        while self.ahead and self.ahead[0] == "command" and self.ahead[1][1:] in _SILENT:
            self._next()
        if self.ahead is None:
            raise UnreadableError("an argument is missing")
        kind, token = self.ahead
        if token == "{":
            self._next()
            inner = self.body(depth + 1, ("}",))
            self._expect("}")
            return inner
        if kind in ("number", "letters") and len(token) > 1 and not (digits and kind == "number" and self._place):
            start = self._place - len(token)
            self._place = start + 1
            self._next()
            return (Node("number" if kind == "number" else "letters", token[0]),)
        return self._node(depth + 1)

    def _command(self, name: str, depth: int) -> Nodes:  # noqa: PLR0911  # one for each kind
        name = _SAME.get(name, name)
        if name in _SILENT:
            if name in ("left", "right") and self.ahead and self.ahead[1] == ".":
                self._next()
            return ()
        if name in _DROPPED:
            for _ in range(_DROPPED[name]):
                self._argument(depth)
            return ()
        if name in _LOOKS:
            for _ in range(_LOOKS[name]):
                self._argument(depth)
            inner = self._argument(depth)
            return inner if len(inner) == 1 else (Node("group", "{}", (inner,)),)
        if name in _TEXTS:
            return self._text_mode(name, depth)
        if name in _SIGNS:
            return (Node("sign", _SIGNS[name]),)
        if name in _ARGUMENTS:
            index: Nodes = ()
            if name == "sqrt" and self.ahead and self.ahead[1] == "[":
                self._next()
                index = self.body(depth + 1, ("]",))
                self._expect("]")
            parts = tuple(self._argument(depth) for _ in range(_ARGUMENTS[name]))
            return (Node("macro", name, (*parts, index) if name == "sqrt" else parts),)
        if (known := _FUSED.fullmatch(name)) is not None:  # `\cotx`
            return Node("command", known[1]), Node("letters", known[2])
        return (Node("command", name),)

    def _text_mode(self, name: str, depth: int) -> Nodes:
        if self.ahead is None or self.ahead[1] != "{":
            return self._argument(depth)
        start, level = self._place, 1
        while level:
            match = _TOKEN.match(self._text, self._place)
            if match is None:
                raise UnreadableError("} is missing")
            self._place = match.end()
            level += (match[0] == "{") - (match[0] == "}")
        content = self._text[start : self._place - 1]
        self._next()
        spaced = content[:1].isspace() or content[:1] == "~"
        found = tuple(_in_text(content, name))
        if found and found[0].kind != "text":
            found = (replace(found[0], spaced=spaced), *found[1:])
        if content[-1:].isspace():
            self._spaced = True
        return found

    def _environment(self, token: str, depth: int) -> Nodes:
        name = token.partition("{")[2].rstrip("}").strip()
        if token.startswith(r"\end") or name not in _TABLES | _LAYOUTS:
            raise UnreadableError(token)
        if name in ("array", "alignedat") and self.ahead and self.ahead[1] == "{":
            self._argument(depth)
        rows: list[list[Nodes]] = [[]]
        while True:
            rows[-1].append(self.body(depth + 1, ("&", "\\\\", r"\cr")))
            if self.ahead is None:
                raise UnreadableError(rf"\end{{{name}}} is missing")
            kind, separator = self._take()
            if kind == "environment":
                break
            if separator != "&":
                rows.append([])
        rows = [row for row in rows if any(row)]
        if name in _LAYOUTS and name != "array":
            rows = [[tuple(one for cell in row for one in cell)] for row in rows]
        if name in _LAYOUTS and len(rows) == 1 == len(rows[0]):
            return rows[0][0]
        width = max(map(len, rows), default=0)
        cells = tuple(cell for row in rows for cell in (*row, *[()] * (width - len(row))))
        return (Node("table", "lines" if name in _LAYOUTS and name != "array" else name, cells, width),)


def _letters(token: str) -> Iterator[Node]:
    """Letters, of which the Greek ones are commands."""
    run = ""
    for letter in token:
        if letter in _NAMED:
            if run:
                yield Node("letters", run)
            yield Node("command", _NAMED[letter])
            run = ""
        else:
            run += letter
    if run:
        yield Node("letters", run)


def _in_text(content: str, name: str) -> Iterator[Node]:
    """What text mode says: words; or mathematics, if it is a number or a letter, or within dollars."""
    pieces = re.split(r"\$([^$]*)\$", content) if content.count("$") - content.count(r"\$") >= 2 else [content]
    for number, piece in enumerate(pieces):
        plain = re.sub(r"\\[,;:! ]|~|\s|\\(?:left|right)(?![a-z])", " ", piece)
        plain = re.sub(r"\^\s*\{\s*(-?\w+)\s*\}", r"^\1", plain.replace(r"\cdot", "·").replace(r"\times", "·"))
        inner = " ".join(re.sub(r"\\(?:text|math)\w*\s*\{([^{}]*)\}", r"\1", plain).split())
        if not inner:
            continue
        single = len(inner) == 1 and (inner.isalpha() or inner in "+-=,.;:()[]%/<>")
        if number % 2 or single or re.fullmatch(r"[+-]?[\d.,:]+%?|\\?%", inner):
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


def written(some: Nodes) -> str:
    """The tree as plain LaTeX, alike for all that is written alike."""
    found = ""
    for node in some:
        text = _written(node)
        apart = _ends_in_command(found) and text[:1].isalpha()
        apart |= node.spaced and found != "" and node.kind in ("number", "letters")
        apart |= found[-1:] in ("!", "<", ">", "=") and text[:1] == "="  # no sign of inequality
        found += (" " if apart and not found.endswith(" ") else "") + text
    return found


def _ends_in_command(text: str) -> bool:
    return re.search(r"\\[A-Za-z]+$", text) is not None


_WRITTEN_SIGNS = {sign: name for name, sign in reversed(_SIGNS.items())}


def _written(node: Node) -> str:  # noqa: PLR0911  # one for each kind
    inner = [written(part) for part in node.parts]
    match node.kind:
        case "command":
            return f"\\{node.name}"
        case "macro":
            index = f"[{inner.pop()}]" if node.name == "sqrt" and inner[1] else ""
            arguments = inner[:1] if node.name == "sqrt" else inner
            return f"\\{node.name}{index}" + "".join(f"{{{one}}}" for one in arguments)
        case "group":
            if node.name == "{}":
                return f"{{{inner[0]}}}"
            opening, closing = (node.name[:2], node.name[2:]) if node.name[0] == "\\" else (node.name[0], node.name[1:])
            names = {
                "<": r"\langle ",
                ">": r"\rangle ",
                "⌊": r"\lfloor ",
                "⌋": r"\rfloor ",
                "⌈": r"\lceil ",
                "⌉": r"\rceil ",
            }
            return names.get(opening, opening) + inner[0] + names.get(closing, closing)
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
            return {"%": r"\%", "$": r"\$", "°": r"^\circ", "∥": r"\|", "\\": r"\\"}.get(node.name) or (
                f"\\{_WRITTEN_SIGNS[node.name]} "
                if node.name in _WRITTEN_SIGNS and not node.name.isascii()
                else node.name
            )
        case _:
            return node.name


_PIECE = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL)


def parts(text: str, separators: str = ",;") -> list[str]:
    """Split a text at separators that are outside all brackets, whether or not it is a tree."""
    depth, start, found = 0, 0, []
    for token in _PIECE.finditer(text):
        depth += (token[0] in ("(", "[", "{", r"\{")) - (token[0] in (")", "]", "}", r"\}"))
        if depth == 0 and token[0] in separators:
            found.append(text[start : token.start()].strip())
            start = token.end()
    return [*found, text[start:].strip()]

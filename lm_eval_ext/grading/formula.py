r"""Expressions of LaTeX nodes as sympy's, read whole or not at all.

Decimals are exact fractions, and whether there are any is remembered: they may be rounded.

>>> expression(nodes(r"\frac12x^2")).value
x**2/2

Call it in a worker only (`workers`): sympy computes whatever an answer says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_eval_ext.grading.latex import TABLE, Node, Nodes, UnreadableError, split, written

if TYPE_CHECKING:
    from sympy import Expr

_FUNCTIONS, _VARIABLES = frozenset(TABLE["functions"]), frozenset(TABLE["variables"])
_NAMES = _FUNCTIONS | set(TABLE["names"])
_LONGEST_WORD = 3  # letters that stand side by side are factors; more are a word
_LARGEST_POWER = 100_000  # bits of a power that is computed
_LARGEST_FACTORIAL = 2_000
_MOST_TERMS = 2_000


@dataclass(frozen=True)
class Formula:
    """An expression: its value, and whether it contains decimals, which may be rounded."""

    value: Expr
    rounded: bool = False


def expression(some: Nodes) -> Formula:
    """The nodes as one expression.

    Raises:
        UnreadableError: a node is not part of one.
    """
    reader = _Reader(some)
    value = reader.sum()
    if reader.node is not None:
        raise UnreadableError(written((reader.node,)))
    return Formula(value, reader.rounded)


def symbol(name: str) -> Expr:
    """A variable."""
    from sympy import Symbol

    return Symbol(name)


class _Reader:
    def __init__(self, some: Nodes) -> None:
        self._nodes, self._place, self.rounded = list(_factors(some)), 0, False

    @property
    def node(self) -> Node | None:
        """The next node."""
        return self._nodes[self._place] if self._place < len(self._nodes) else None

    def _take(self) -> Node:
        if self.node is None:
            raise UnreadableError("the expression ends too early")
        self._place += 1
        return self._nodes[self._place - 1]

    def _sign(self, *names: str) -> str:
        """Take the next node if it is one of these signs."""
        node = self.node
        if node is not None and node.kind == "sign" and node.name in names:
            self._place += 1
            return node.name
        return ""

    def _inner(self, some: Nodes) -> Expr:
        found = expression(some)
        self.rounded |= found.rounded
        return found.value

    def sum(self) -> Expr:
        value = self._signed()
        while sign := self._sign("+", "-"):
            term = self._signed()
            value = value - term if sign == "-" else value + term
        return value

    def _signed(self) -> Expr:
        if sign := self._sign("+", "-"):
            value = self._signed()
            return -value if sign == "-" else value
        return self._product()

    def _product(self) -> Expr:
        value = self._factor()
        while self.node is not None:
            if sign := self._sign("*", "·", "×"):
                other = self._signed_factor()
                if sign == "×" and _has_vector(value) and _has_vector(other):
                    raise UnreadableError("a product of vectors")  # which is no number, and depends on their order
                value = value * other
            elif self._sign("/", "÷"):
                below = self._signed_factor()
                if below == 0:
                    raise UnreadableError("division by zero")
                value = value / below
            elif (self.node.kind, self.node.name) == ("command", "mod"):
                self._take()
                value = value % self._signed_factor()
            elif self._begins(self.node):
                value = value * self._factor()
            else:
                break
        return value

    def _signed_factor(self) -> Expr:
        if sign := self._sign("+", "-"):
            value = self._signed_factor()
            return -value if sign == "-" else value
        return self._factor()

    def _begins(self, node: Node) -> bool:
        """Whether a node may begin a factor beside another."""
        if node.kind == "number":
            previous = self._nodes[self._place - 1]
            return previous.kind != "number"  # `3 4` is no product
        return node.kind in ("letters", "command", "macro", "group", "table") or (node.kind, node.name) == ("sign", "√")

    def _factor(self) -> Expr:
        start = self._place
        base = self._base()
        while (node := self.node) is not None:
            if node.kind == "sup":
                self._take()
                base = power(base, self._inner(node.parts[0]))
            elif node.kind == "sign" and node.name == "*" and self._is_power():
                self._place += 2
                base = power(base, self._signed_factor())
            elif node.kind == "sign" and node.name == "^":
                self._take()
                base = power(base, self._signed_factor())
            elif self._sign("!"):
                base = factorial(base)
            elif self._sign("°"):
                from sympy import pi

                base = base * pi / 180
            elif self._sign("%"):
                base = base / 100
            else:
                break
        if self._place == start:
            raise UnreadableError(written(tuple(self._nodes[start : start + 1])))
        return base

    def _is_power(self) -> bool:
        """Whether the next two signs are `**`."""
        after = self._nodes[self._place + 1 : self._place + 2]
        return bool(after) and (after[0].kind, after[0].name, after[0].spaced) == ("sign", "*", False)

    def _base(self) -> Expr:  # noqa: PLR0911  # one for each kind
        node = self._take()
        match node.kind:
            case "number":
                return self._number(node)
            case "letters":
                return self._letters(node)
            case "command":
                return self._command(node.name)
            case "macro":
                return self._macro(node)
            case "sub" | "sup":
                return self._chosen_before(node)
            case "group":
                return self._group(node)
            case "table" if node.name in ("pmatrix", "bmatrix", "matrix", "array") and node.parts:
                return self._matrix(node)
            case "sign" if node.name == "|":
                return self._absolute()
        raise UnreadableError(written((node,)))

    def _number(self, node: Node) -> Expr:
        from sympy import Rational

        value = Fraction(node.name)
        after = self.node
        if after is not None and (repeated := _repeated(node, after)) is not None:
            self._take()
            while self.node is not None and self.node.name == "dot" and "." in node.name:  # `0.\\dot4\\dot5`
                digits = f"{repeated.digits}{written(self._take().parts[0])}"
                repeated = _Repeated(node.name, digits)
            value = repeated.value
            return Rational(value.numerator, value.denominator)
        if after is not None and (after.kind, after.name) == ("command", "ldots"):
            self._take()
            value = _continued(node.name)
        self.rounded |= "." in node.name and value == Fraction(node.name)
        if "." not in node.name and (mixed := self._mixed()):
            return Rational(value.numerator, value.denominator) + mixed
        if after is not None and _is_proper(after) and "." not in node.name:
            self._take()
            above, below = (int(part[0].name) for part in after.parts)
            value += Fraction(above, below)
        if after is not None and after.kind == "sub":
            self._take()
            value = Fraction(in_base(node.name, after.parts[0]))
        return Rational(value.numerator, value.denominator)

    def _mixed(self) -> Any:
        """The fraction in `3 1/2`, if the next nodes are one; else nothing."""
        from sympy import Rational

        ahead = self._nodes[self._place : self._place + 3]
        if [one.kind for one in ahead] != ["number", "sign", "number"] or ahead[1].name != "/" or not ahead[0].spaced:
            return None
        if not (ahead[0].name.isdecimal() and ahead[2].name.isdecimal() and int(ahead[2].name)):
            return None
        self._place += 3
        return Rational(int(ahead[0].name), int(ahead[2].name))

    def _letters(self, node: Node) -> Expr:
        name = node.name
        if name.lower() in _NAMES and len(name) > 1:
            return self._command(name.lower())
        return self._letter(name)

    def _plain_letter(self, letter: str) -> Expr:
        from sympy import E, I

        return {"e": E, "i": I}.get(letter) or symbol(letter)

    def _letter(self, letter: str) -> Expr:
        """A letter with what belongs to it: an index, primes, or the argument of a function."""
        if letter == "C" and (chosen := self._chosen()) is not None:
            return chosen
        named = self._indexed(letter)
        if named == letter:
            return self._called(letter) or self._plain_letter(letter)
        return self._called(named) or symbol(named)

    def _indexed(self, name: str) -> str:
        node = self.node
        if node is not None and node.kind == "sub":
            self._take()
            name += f"_{written(node.parts[0]).replace(chr(92), '').replace('text{ ', '').replace('}', '')}"
        while self._sign("'") or self._sign("''"):
            name += "'"
        return name

    def _called(self, name: str) -> Expr | None:
        r"""`f(x)` as a variable of its own, for what is usually a function."""
        node = self.node
        if node is None or node.kind != "group" or node.name != "()" or node.spaced or name[0] not in "fghFGH":
            return None
        if len(node.parts[0]) != 1 or node.parts[0][0].kind not in ("letters", "number", "command"):
            return None
        self._take()
        return symbol(f"{name}({written(node.parts[0])})")

    def _chosen(self) -> Expr | None:
        r"""`C(n, k)` as a binomial coefficient."""
        node = self.node
        if node is None or node.kind != "group" or node.name != "()":
            return None
        sides = split(node.parts[0], ",")
        if len(sides) != 2:
            return None
        self._take()
        return binomial(*(self._inner(side) for side in sides))

    def _chosen_before(self, above: Node) -> Expr:
        r"""`_{10}C_3` as a binomial coefficient."""
        letter = self._take()
        below = self._take()
        if letter.name != "C" or below.kind not in ("sub", "number"):
            raise UnreadableError(written((above, letter)))
        return binomial(self._inner(above.parts[0]), self._inner(below.parts[0] if below.parts else (below,)))

    def _command(self, name: str) -> Expr:
        from sympy import oo, pi

        if name in _FUNCTIONS:
            return self._function(name)
        if name in ("sum", "prod"):
            return self._series(name)
        if name == "pi":
            return pi
        if name in ("infty", "inf", "infinity", "oo"):
            return oo
        if name == "e":
            return self._plain_letter("e")
        if name in _VARIABLES:
            named = self._indexed(name)
            return self._called(named) or symbol(named)
        raise UnreadableError(f"\\{name}")

    def _series(self, name: str) -> Expr:
        r"""`\\sum_{k=1}^{n} k` and products: what follows them up to the next sign."""
        import sympy

        bounds = {
            node.kind: node.parts[0]
            for _ in range(2)
            if (node := self.node) and node.kind in ("sub", "sup") and self._take()
        }
        below = split(bounds.get("sub", ()), "=")
        if len(bounds) != 2 or len(below) != 2 or len(below[0]) != 1:
            raise UnreadableError(f"\\{name} without bounds")
        index, low, high = self._inner(below[0]), self._inner(below[1]), self._inner(bounds["sup"])
        term = self._product()
        indexed = any(_depends_on(str(one), str(index)) for one in term.free_symbols - {index})
        if indexed:  # such as `a_k`, of which nothing is known
            return sympy.Function(f"{name} over {index}")(term, low, high)
        if all(isinstance(bound, sympy.Integer) for bound in (low, high)) and high - low < _MOST_TERMS:
            terms = [term.subs(index, number) for number in range(int(low), int(high) + 1)]
            return sympy.Add(*terms) if name == "sum" else sympy.Mul(*terms)
        value = (sympy.summation if name == "sum" else sympy.product)(term, (index, low, high))
        if value.has(sympy.Sum, sympy.Product):
            raise UnreadableError(f"\\{name}")
        return value

    def _function(self, name: str) -> Expr:
        base = exponent = None
        while (node := self.node) is not None and node.kind in ("sup", "sub"):
            self._take()
            if node.kind == "sup":
                exponent = node.parts[0]
            else:
                base = self._inner(node.parts[0])
        arguments = self._arguments()
        if exponent is not None and written(exponent) == "-1" and f"arc{name}" in _FUNCTIONS:
            return function(f"arc{name}", arguments, base)
        value = function(name, arguments, base)
        return value if exponent is None else power(value, self._inner(exponent))

    def _arguments(self) -> list[Expr]:
        """What a function is applied to: what is in brackets, or the factors up to the next sign or function."""
        node = self.node
        if node is not None and node.kind == "group" and node.name in ("()", "[]", "{}"):
            after = self._nodes[self._place + 1 : self._place + 2]
            if not (node.name == "{}" and after and after[0].kind in ("letters", "number")):
                self._take()
                return [self._inner(side) for side in split(node.parts[0], ",")]
        value, first = None, True
        while (node := self.node) is not None:
            simple = node.kind in ("number", "letters") or (node.kind == "command" and node.name not in _FUNCTIONS)
            if node.kind == "letters" and node.name.lower() in _FUNCTIONS:
                simple = False
            if not (simple or (first and (node.kind in ("macro", "group") or (node.kind, node.name) == ("sign", "|")))):
                break
            factor = self._factor()
            value, first = factor if value is None else value * factor, False
        if value is None:
            if self.node is not None and self.node.kind == "command" and self.node.name in _FUNCTIONS:
                return [self._factor()]
            if sign := self._sign("-"):
                return [-one if sign else one for one in self._arguments()]
            raise UnreadableError("a function without an argument")
        return [value]

    def _macro(self, node: Node) -> Expr:
        match node.name:
            case "frac":
                if (derivative := _derivative(node)) is not None:
                    return derivative
                below = self._inner(node.parts[1])
                if below == 0:
                    raise UnreadableError("division by zero")
                return self._inner(node.parts[0]) / below
            case "sqrt":
                index = self._inner(node.parts[1]) if node.parts[1] else None
                return root(self._inner(node.parts[0]), index)
            case "binom":
                return binomial(*(self._inner(part) for part in node.parts))
            case (
                "overline" | "bar" | "vec" | "hat" | "widehat" | "tilde" | "overrightarrow" | "dot" | "ddot" | "mathcal"
            ):
                if not all(one.kind in ("letters", "command", "sub", "sign") for one in node.parts[0]):
                    raise UnreadableError(written((node,)))
                return symbol(self._indexed(f"{node.name} {written(node.parts[0])}"))
        raise UnreadableError(written((node,)))

    def _matrix(self, node: Node) -> Expr:
        from sympy import ImmutableMatrix

        cells = [self._inner(cell) for cell in node.parts]
        return ImmutableMatrix(len(cells) // node.width, node.width, cells)

    def _group(self, node: Node) -> Expr:
        if node.name in ("()", "[]", "{}", r"\{\}"):
            inner = node.parts[0]
            if node.name in ("()", "{}") and self.node is not None and self.node.kind == "sub" and inner:
                digits = written(inner)
                if re.fullmatch(r"[0-9A-Za-z]+", digits):
                    return self._in_base(digits)
            return self._inner(inner)
        if node.name in ("⌊⌋", "⌈⌉"):
            return function("floor" if node.name == "⌊⌋" else "ceil", [self._inner(node.parts[0])], None)
        raise UnreadableError(written((node,)))

    def _in_base(self, digits: str) -> Expr:
        from sympy import Integer

        return Integer(in_base(digits, self._take().parts[0]))

    def _absolute(self) -> Expr:
        from sympy import Abs

        rest = self._nodes[self._place :]
        end = next((at for at, one in enumerate(rest) if (one.kind, one.name) == ("sign", "|")), None)
        if not end:
            raise UnreadableError("|")
        self._place += end + 1
        return Abs(self._inner(tuple(rest[:end])))


def _depends_on(name: str, index: str) -> bool:
    """Whether a variable's name has an index or argument with another variable in it, as `a_k` has k."""
    return index in re.split(r"[^A-Za-z]+", re.split(r"[_(]", name, maxsplit=1)[-1]) and name != index


def _has_vector(value: Expr) -> bool:
    return any(str(name).startswith(("vec ", "overrightarrow ", "hat ")) for name in value.free_symbols)


def _factors(some: Nodes) -> Iterator[Node]:
    """The nodes with letters that stand side by side as one node each.

    Raises:
        UnreadableError: there are so many that they are a word.
    """
    for node in some:
        if node.kind != "letters" or len(node.name) == 1 or node.name.lower() in _NAMES:
            yield node
        elif len(node.name) > _LONGEST_WORD or not node.name.isascii():
            raise UnreadableError(node.name)
        else:
            yield from (
                replace(node, name=letter, spaced=node.spaced and not at) for at, letter in enumerate(node.name)
            )


def power(base: Expr, exponent: Expr) -> Expr:
    """A power, which is only computed if it is not too large."""
    from sympy import Integer, Pow, oo

    if isinstance(base, Integer) and isinstance(exponent, Integer):
        bits = abs(int(base)).bit_length() * abs(int(exponent))
        return Pow(base, exponent, evaluate=bits <= _LARGEST_POWER or abs(base) <= 1)
    if base in (oo, -oo) or exponent in (oo, -oo):
        raise UnreadableError("a power of infinity")
    return Pow(base, exponent)


def root(radicand: Expr, index: Expr | None) -> Expr:
    """A root; the real one of a negative number if the index is odd."""
    from sympy import Integer, real_root, sqrt

    if index is None:
        return sqrt(radicand)
    if index == 0:
        raise UnreadableError("a root of order zero")
    if radicand.is_number and radicand.is_negative and isinstance(index, Integer) and index % 2:
        return real_root(radicand, index)
    return power(radicand, 1 / index)


def factorial(value: Expr) -> Expr:
    """A factorial, which is only computed if it is not too large."""
    from sympy import Integer
    from sympy import factorial as theirs

    computed = not isinstance(value, Integer) or value <= _LARGEST_FACTORIAL
    return theirs(value, evaluate=computed)


def binomial(above: Expr, below: Expr) -> Expr:
    """A binomial coefficient, which is only computed if it is not too large."""
    from sympy import Integer
    from sympy import binomial as theirs

    computed = not isinstance(above, Integer) or abs(above) <= 10 * _LARGEST_FACTORIAL
    return theirs(above, below, evaluate=computed)


def function(name: str, arguments: Sequence[Expr], base: Expr | None) -> Expr:
    """A function of some arguments."""
    import sympy

    known: dict[str, Callable[..., Any]] = {
        "ln": sympy.log, "exp": sympy.exp, "sqrt": sympy.sqrt, "abs": sympy.Abs, "floor": sympy.floor,
        "ceil": sympy.ceiling, "gcd": sympy.gcd, "lcm": sympy.lcm, "max": sympy.Max, "min": sympy.Min,
        "cbrt": lambda one: root(one, sympy.Integer(3)), "sgn": sympy.sign, "lg": lambda one: sympy.log(one, 10),
        "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan, "arccot": sympy.acot, "arcsec": sympy.asec,
        "arccsc": sympy.acsc,
    }  # fmt: skip
    if name == "log":
        if len(arguments) != 1:
            raise UnreadableError("log")
        return sympy.log(arguments[0]) if base is None else sympy.log(arguments[0], base)
    if base is not None:
        raise UnreadableError(f"an index of {name}")
    if len(arguments) != 1 and name not in ("gcd", "lcm", "max", "min"):
        raise UnreadableError(f"{name} of {len(arguments)} arguments")
    found: Expr = (known.get(name) or getattr(sympy, name))(*arguments)
    return found


def in_base(digits: str, base: Nodes) -> int:
    """A number in a base that is given as a number or a word.

    Raises:
        UnreadableError: it is none.
    """
    name = re.sub(r"[^0-9a-z]", "", written(base).replace("text", ""))
    order = int(name) if name.isdecimal() and len(name) < 3 else _BASES.get(name, 0)
    try:
        if order > 1:
            return int(digits, order)
    except ValueError:
        pass
    raise UnreadableError(f"{digits}_{name}")


_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "twelve": 12,
    "sixteen": 16, "bin": 2, "oct": 8, "hex": 16,
}  # fmt: skip


class _Repeated(NamedTuple):
    """A decimal, and the digits that repeat after it."""

    name: str
    digits: str

    @property
    def value(self) -> Fraction:
        whole, _, once = self.name.partition(".")
        below = 10 ** len(once) * (10 ** len(self.digits) - 1)
        return Fraction(int((whole or "0") + once + self.digits) - int((whole or "0") + once), below)


def _repeated(number: Node, after: Node) -> _Repeated | None:
    r"""A decimal whose last digits repeat: `0.\overline{3}`, `0.(45)`; only what follows a point repeats."""
    if (after.kind == "macro" and after.name in ("overline", "bar", "dot")) or (
        after.kind == "group" and after.name == "()" and "." in number.name and not after.spaced
    ):
        digits = written(after.parts[0])
    else:
        return None
    if "." not in number.name or not digits.isdecimal():
        return None
    return _Repeated(number.name, digits)


def _continued(name: str) -> Fraction:
    r"""`0.333\ldots` as 1/3; what does not repeat as it is."""
    whole, _, digits = name.partition(".")
    for length in range(1, len(digits) // 2 + 1):
        block = digits[-length:]
        times = len(digits) // length
        if times * length >= 3 and digits.endswith(block * max(2, min(times, 3 if length == 1 else 2))):
            once = digits
            while once.endswith(block):
                once = once[: -len(block)]
            below = 10 ** len(once) * (10**length - 1)
            return Fraction(int((whole or "0") + once + block) - int((whole or "0") + once or "0"), below)
    return Fraction(name)


def _is_proper(node: Node) -> bool:
    """Whether a node is a fraction of whole numbers, which is added to a whole number before it."""
    return (
        node.kind == "macro" and node.name == "frac"
        and all(len(part) == 1 and part[0].kind == "number" and part[0].name.isdecimal() for part in node.parts)
        and int(node.parts[1][0].name) > 0
    )  # fmt: skip


def _derivative(node: Node) -> Expr | None:
    r"""`\frac{dy}{dx}` as a variable of its own; None for another fraction."""
    above, below = (written(part) for part in node.parts)
    if re.fullmatch(r"d(\^\{?\d\}?)?(\\?[A-Za-z]\w*)?(_\{\w+\})?", above) and re.fullmatch(
        r"d\\?[A-Za-z]\w*(\^\{\d\})?", below
    ):
        return symbol(f"d({above})/d({below})") if above != "d" or below != "d" else None
    if above.startswith(r"\partial") and below.startswith(r"\partial"):
        return symbol(f"{above}/{below}")
    return None


def is_name(word: str) -> bool:
    """Whether a word stands for something in a formula, such as `sin` or `pi`."""
    return word.lower() in _NAMES

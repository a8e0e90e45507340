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
from typing import TYPE_CHECKING, Any

from lm_eval_ext.grading.latex import TABLE, Node, Nodes, UnreadableError, is_sign, split, written
from lm_eval_ext.grading.words import lexicon

if TYPE_CHECKING:
    from sympy import Expr

_FUNCTIONS: dict[str, str] = TABLE["functions"]
_VARIABLES, _ACCENTS, _APPLIED = (frozenset(TABLE[name]) for name in ("variables", "accents", "applied"))
_NAMES = _FUNCTIONS.keys() | set(TABLE["names"])
_NO_PRODUCT = {*TABLE["unknown"], "of", "or", "if", "is", "and", "for", "the"}
_INFINITE = ("infty", "inf", "infinity", "oo")
# They stand for the parameter of a family, which may be any such number; the last, any whole one from 0 on.
ANY_WHOLE, ANY_REAL, ANY_POSITIVE, ANY_COUNT = PARAMETERS = "ℤℝℕ𝕎"
_LONGEST_WORD = 3  # letters that stand side by side are factors; more are a word
_LONGEST_MIXED, _MIXED = 5, re.compile("[a-z][A-Z]|[A-Z]{2}[a-z]")  # unless capitals stand among them, as in `kQqr`
_LARGEST_POWER = 100_000  # bits of a power that is computed
_LARGEST_FACTORIAL = 2_000
_FEWEST = 2  # things of which some are chosen; `C_2^1` is a power
_MOST_TERMS = 2_000
_MOST_FACTORS = 100  # of a matrix that is raised to a power
# `0.333` of `0.333\ldots`: a digit three times, or several twice from the point on, or three times.
_CONTINUED = re.compile(r"(?:(\d*\.\d{0,60}?)(\d)\2{2,}|(\d*\.)(\d{2,30}?)\4+|(\d*\.\d{1,60}?)(\d{2,30}?)\6{2,})")


class NotCommutativeError(UnreadableError):
    """A product whose factors can't change places, such as `PDP^{-1}`, or the like: it says only what is written."""


@dataclass(frozen=True)
class Formula:
    """An expression: its value, and whether it contains decimals, which may be rounded."""

    value: Expr
    rounded: bool = False


def expression(some: Nodes, indices: frozenset[str] = frozenset()) -> Formula:
    """The nodes as one expression.

    Args:
        some: the nodes.
        indices: letters that are indices of the sums around it, such as `i`.

    Raises:
        UnreadableError: a node is not part of one.
    """
    reader = _Reader(some, indices)
    value = reader.sum()
    if reader.node is not None:
        raise UnreadableError(written((reader.node,)))
    return Formula(value, reader.rounded)


def symbol(name: str) -> Expr:
    """A variable."""
    from sympy import Symbol

    return Symbol(name)


def is_name(word: str) -> bool:
    """Whether a word stands for something in a formula, such as `sin` or `pi`."""
    return word.lower() in _NAMES


def is_variable(command: str) -> bool:
    """Whether a macro stands for a variable."""
    return command in _VARIABLES or command in ("pi", "infty")


def number_set(node: Node) -> Any:
    r"""The set that a macro such as `\mathbb{R}` names; None if it names none."""
    import sympy

    name = written(node.parts[0]) if node.kind == "macro" and node.name == "mathbb" else node.name
    bold = node.style == "bold" and node.kind == "letters"
    known = TABLE["sets"].get(name) if bold or node.kind in ("macro", "command") else None
    return None if known is None else getattr(sympy, known)


class _Reader:
    def __init__(self, some: Nodes, indices: frozenset[str]) -> None:
        self._nodes, self._place, self.rounded = list(_factors(some)), 0, False
        self._indices = indices
        self._vectors: set[str] = set()

    @property
    def node(self) -> Node | None:
        """The next node."""
        return self._nodes[self._place] if self._place < len(self._nodes) else None

    def _is(self, kind: str, *names: str) -> bool:
        """Whether the next node is of a kind, and has one of some names."""
        return self.node is not None and self.node.kind == kind and (not names or self.node.name in names)

    def _take(self) -> Node:
        if self.node is None:
            raise UnreadableError("the expression ends too early")
        self._place += 1
        return self._nodes[self._place - 1]

    def _sign(self, *names: str) -> str:
        """Take the next node if it is one of these signs."""
        return self._take().name if self._is("sign", *names) else ""

    def _inner(self, some: Nodes) -> Expr:
        found = expression(some, self._indices)
        self.rounded |= found.rounded
        return found.value

    def sum(self) -> Expr:
        value = self._signed(self._product)
        while sign := self._sign("+", "-"):
            term = self._signed(self._product)
            value = value - term if sign == "-" else value + term
        return value

    def _signed(self, of: Callable[[], Expr]) -> Expr:
        if sign := self._sign("+", "-"):
            value = self._signed(of)
            return -value if sign == "-" else value
        return of()

    def _product(self) -> Expr:
        start, value = self._place, self._factor()
        while self.node is not None:
            if sign := self._sign("*", "·", "×"):
                other = self._signed(self._factor)
                if sign == "×" and self._has_vector(value) and self._has_vector(other):
                    raise UnreadableError("a product of vectors")  # which is no number, and depends on their order
                value = self._times(value, other)
            elif self._sign("/", "÷"):
                value = _quotient(value, self._signed(self._factor))
            elif self._is("command", "mod"):
                self._take()
                value = _modulo(value, self._signed(self._factor))
            elif self._begins(self.node):
                value = self._times(value, self._factor())
            else:
                break
        if _depends_on_order(self._nodes[start : self._place]):
            raise NotCommutativeError("a product that depends on its order")
        return value

    def _times(self, value: Expr, other: Expr) -> Expr:
        if all(any(str(name).startswith("ket ") for name in one.free_symbols) for one in (value, other)):
            raise UnreadableError("a product of states")  # which depends on their order
        return value * other

    def _has_vector(self, value: Expr) -> bool:
        vectors = ("vec ", "overrightarrow ", "hat ", *self._vectors)
        return any(str(name).startswith(vectors) for name in value.free_symbols)

    def _begins(self, node: Node) -> bool:
        """Whether a node may begin a factor beside another; `3 4` is no product."""
        if node.kind == "number":
            return self._nodes[self._place - 1].kind != "number"
        if is_sign(node, "|"):
            return any(is_sign(other, "|") for other in self._nodes[self._place + 1 :])
        return node.kind in ("letters", "command", "macro", "group", "table")

    def _factor(self) -> Expr:
        base, raised = self._base(self._take()), False
        while (node := self.node) is not None:
            if node.kind == "sup":
                if raised:
                    raise UnreadableError("two exponents")
                base, raised = _power(base, self._inner(self._take().parts[0])), True
            elif self._sign("^") or self._powers():
                base = _power(base, self._signed(self._factor))
            elif self._sign("!"):
                base = _factorial(base, double=bool(self._sign("!")))
            elif self._sign("°"):
                from sympy import pi

                base = base * pi / 180
            elif self._sign("%"):
                base = base / 100
            else:
                break
        return base

    def _powers(self) -> bool:
        """Take the next two signs if they are `**`."""
        ahead = self._nodes[self._place : self._place + 2]
        powers = len(ahead) == 2 and all(is_sign(node, "*") for node in ahead) and not ahead[1].spaced
        self._place += 2 * powers
        return powers

    def _base(self, node: Node) -> Expr:
        match node.kind:
            case "number":
                return self._number(node)
            case "letters" | "command":
                return self._named(node)
            case "macro":
                return self._macro(node)
            case "sub" | "sup":
                return self._chosen_before(node)
            case "group":
                return self._group(node)
            case "table" if node.name in ("pmatrix", "bmatrix", "matrix", "array") and node.parts:
                from sympy import ImmutableMatrix

                cells = [self._inner(cell) for cell in node.parts]
                return ImmutableMatrix(len(cells) // node.width, node.width, cells)
            case "sign" if node.name == "|":
                return self._absolute()
        raise UnreadableError(written((node,)))

    # Numbers

    def _number(self, node: Node) -> Expr:
        from sympy import Rational

        value, decimal = Fraction(node.name), "." in node.name
        if decimal and (digits := self._repeated(node.name)):
            value = _repeating(node.name, digits)
        elif self._is("command", "ldots"):
            if not decimal:
                raise UnreadableError(f"{node.name} and further digits")
            self._take()
            if (continued := _CONTINUED.fullmatch(node.name)) is not None:
                before, digits = filter(None, continued.groups())
                value = _repeating(before, digits)
            self.rounded |= decimal and continued is None
        elif not decimal:
            value += self._mixed()
        else:
            self.rounded = True
        if self._is("sub"):
            value = Fraction(in_base(node.name, self._take().parts[0]))
        return Rational(value.numerator, value.denominator)

    def _repeated(self, name: str) -> str:
        r"""The digits that repeat after a decimal: of `0.\overline{3}`, `0.(45)` and `0.\dot4\dot5`."""
        digits, node = "", self.node
        if self._is("macro", "overline", "bar", "dot") or (self._is("group", "()") and not node.spaced):  # type: ignore[union-attr]
            digits = written(node.parts[0])  # type: ignore[union-attr]  # a node
            if not digits.isdecimal():
                return ""
            self._take()
            while self._is("macro", "dot"):
                digits += written(self._take().parts[0])
        return digits

    def _mixed(self) -> Fraction:
        r"""The fraction after the whole number in `3\frac12` or `3 1/2`, if there is one; else 0."""
        node, *others = [*self._nodes[self._place : self._place + 3], None]
        if node is None:
            return Fraction(0)
        if node.kind == "macro" and node.name == "frac":
            above, below = (written(part) for part in node.parts)
        elif node.spaced and len(others) == 3 and others[0] and is_sign(others[0], "/") and others[1]:
            above, below = node.name, others[1].name
        else:
            return Fraction(0)
        if not (above.isdecimal() and below.isdecimal() and int(below)):
            return Fraction(0)
        self._place += 1 if node.kind == "macro" else 3
        return Fraction(int(above), int(below))

    # Names

    def _named(self, node: Node) -> Expr:
        from sympy import E, I, oo, pi

        letter = node.kind == "letters" and len(node.name) == 1
        name = node.name.lower() if node.kind == "letters" and not letter else node.name
        if name in _FUNCTIONS and not letter:
            return self._function(name)
        if name in ("sum", "prod"):
            return self._series(name)
        if name == "int":
            return self._integral()
        if name == "pi" or name in _INFINITE:
            return pi if name == "pi" else oo
        if not (letter or name in _VARIABLES or name == "e"):
            raise UnreadableError(f"\\{name}")
        if name in ("A", "C") and (chosen := self._chosen(name)) is not None:
            return chosen
        named = self._indexed(name)
        if node.style == "bold":
            self._vectors.add(named)
            if named in ("i", "j", "k"):
                return symbol(f"hat {named}")
        if named == "hbar":
            return symbol("h") / (2 * pi)
        if (called := self._called(name, named)) is not None:
            return called
        return symbol(named) if named in self._indices else {"e": E, "i": I}.get(named) or symbol(named)

    def _indexed(self, name: str) -> str:
        """A name with its index and primes."""
        if self._is("sub"):
            index = "+".join(sorted(written(self._take().parts[0]).split("+"), reverse=True))  # `a_{1+n}` is `a_{n+1}`
            name += f"_{index.replace(chr(92), '').replace('text{ ', '').replace('}', '')}"
        while prime := self._sign("'", "''"):
            name += prime[0]
        return name

    def _called(self, letter: str, name: str) -> Expr | None:
        r"""`f(x)`, `y(0)` or `E[X]` as a function of which nothing is known; None for a factor in brackets."""
        import sympy

        start = self._place
        if letter in _APPLIED and self._is("sup") and written(self._take().parts[0]) == "-1":
            name = f"{name}^-1"
        node = self.node
        inner = node.parts[0] if node is not None and self._is("group", "()", "[]") and not node.spaced else ()
        plain = written(inner)
        function = letter in _APPLIED or re.fullmatch(r"-?\d+(\.\d+)?|[A-Z]", plain) is not None
        function |= letter in "svuxyz" and re.search(r"\bt\b", plain) is not None
        function |= node is not None and node.name == "[]" and letter in "EPV"
        if not inner or not function:
            self._place = start
            return None
        self._take()
        arguments = [self._inner(part) for part in split(inner, ",", "|", "∣")]
        counts = name == "O" or (
            name in ("Theta", "Omega") and {str(one) for one in arguments[0].free_symbols} <= set("nmkN")
        )
        if counts and len(arguments) == 1 and arguments[0].free_symbols:
            arguments = [_order(arguments[0])]
        if name in ("Gamma", "zeta") and len(arguments) == 1:
            return (sympy.gamma if name == "Gamma" else sympy.zeta)(*arguments)
        return sympy.Function(f"{name}_of")(*arguments)

    def _chosen(self, letter: str) -> Expr | None:
        r"""`C(n, k)` and `C_9^4` as a binomial coefficient, `A_7^3` as the number of arrangements."""
        scripts = {
            node.kind: written(node.parts[0]) for node in self._nodes[self._place : self._place + 2] if node.parts
        }
        if scripts.keys() == {"sub", "sup"} and all(map(str.isdecimal, scripts.values())):
            whole, part = int(scripts["sub"]), int(scripts["sup"])
            if 0 < part < whole <= _LARGEST_FACTORIAL and whole > _FEWEST:
                from sympy import binomial, ff

                self._place += 2
                return (binomial if letter == "C" else ff)(whole, part)
        if letter != "C":
            return None
        sides = split(self.node.parts[0], ",") if self.node is not None and self._is("group", "()") else []
        if len(sides) != 2:
            return None
        above, below = map(self._inner, sides)
        if above.is_Integer and below.is_Integer and not 0 <= below <= above:
            return None  # a point that is called C, such as `C(3, -4)`
        self._take()
        return _binomial(above, below)

    def _chosen_before(self, above: Node) -> Expr:
        r"""`_{10}C_3` as a binomial coefficient."""
        letter, below = self._take(), self._take()
        if letter.name != "C" or below.kind not in ("sub", "number"):
            raise UnreadableError(written((above, letter)))
        return _binomial(self._inner(above.parts[0]), self._inner(below.parts[0] if below.parts else (below,)))

    def _series(self, name: str) -> Expr:
        r"""`\\sum_{k=1}^{n} k` and products: what follows them up to the next sign."""
        import sympy

        bounds = {node.kind: node.parts[0] for node in self._scripts()}
        below = split(bounds.get("sub", ()), "=")
        if len(bounds) != 2 or len(below) != 2 or len(below[0]) != 1:
            raise UnreadableError(f"\\{name} without bounds")
        index, low, high = symbol(written(below[0])), self._inner(below[1]), self._inner(bounds["sup"])
        outside, self._indices = self._indices, self._indices | {str(index)}
        term, self._indices = self._product(), outside
        if any(_depends_on(str(one), str(index)) for one in term.free_symbols - {index}):
            known = {
                part: symbol(re.sub(rf"(?<![A-Za-z]){index}(?![A-Za-z])", "#", str(part))) for part in term.free_symbols
            }
            return sympy.Function(name)(term.xreplace(known), low, high)  # of `a_k`, nothing is known
        if all(isinstance(bound, sympy.Integer) for bound in (low, high)) and high - low < _MOST_TERMS:
            terms = [term.subs(index, number) for number in range(int(low), int(high) + 1)]
            return sympy.Add(*terms) if name == "sum" else sympy.Mul(*terms)
        value = (sympy.summation if name == "sum" else sympy.product)(term, (index, low, high))
        if value.has(sympy.Sum, sympy.Product):
            raise UnreadableError(f"\\{name}")
        return value

    def _integral(self) -> Expr:
        r"""`\\int_0^1 x^2\\,dx` as a function of which nothing is known: of its bounds and of what is integrated."""
        import sympy

        bounds = {node.kind: self._inner(node.parts[0]) for node in self._scripts()}
        start = self._place
        while not (self._is("letters", "d") and self._nodes[self._place + 1 : self._place + 2]):
            self._take()
        inner, variable = tuple(self._nodes[start : self._place]), self._nodes[self._place + 1].name
        self._place += 2
        body = (self._inner(inner) if inner else sympy.Integer(1)).subs(symbol(variable), symbol("#"))
        low, high = bounds.get("sub", symbol(variable)), bounds.get("sup", symbol(variable))
        known = not (low.free_symbols | high.free_symbols) and body.is_polynomial(symbol("#"))
        if known and body.free_symbols <= {symbol("#")}:
            return sympy.integrate(body, (symbol("#"), low, high))
        turned = str(low) > str(high)
        whole = sympy.Function("int")(body, *((high, low) if turned else (low, high)))
        return -whole if turned else whole

    def _scripts(self) -> Iterator[Node]:
        """An index and an exponent, each once."""
        kinds = ["sub", "sup"]
        while self.node is not None and self.node.kind in kinds:
            kinds.remove(self.node.kind)
            yield self._take()

    def _function(self, name: str) -> Expr:
        base = exponent = None
        for node in self._scripts():
            if node.kind == "sup":
                exponent = node.parts[0]
            else:
                base = self._inner(node.parts[0])
        arguments = self._arguments()
        if exponent is not None and written(exponent) == "-1":
            if f"arc{name}" not in _FUNCTIONS:
                raise UnreadableError(f"an inverse of {name}")
            return _applied(f"arc{name}", arguments, base)
        value = _applied(name, arguments, base)
        return value if exponent is None else _power(value, self._inner(exponent))

    def _arguments(self) -> list[Expr]:
        """What a function is applied to: what is in brackets, or the factors up to the next sign or function."""
        node = self.node
        if node is not None and self._is("group", "()", "[]", "{}", r"\{\}"):
            after = self._nodes[self._place + 1 : self._place + 2]
            if not (node.name == "{}" and after and after[0].kind in ("letters", "number")):
                return [self._inner(side) for side in split(self._take().parts[0], ",")]
        factors: list[Expr] = []
        while (node := self.node) is not None:
            function = node.kind in ("letters", "command") and node.name.lower() in _FUNCTIONS
            first = not factors and (node.kind in ("macro", "group") or is_sign(node, "|"))
            if not (first or (node.kind in ("number", "letters", "command") and not function)):
                break
            factors.append(self._factor())
        if factors:
            from sympy import Mul

            return [Mul(*factors)]
        if self._is("command", *_FUNCTIONS):
            return [self._factor()]
        if self._sign("-"):
            return [-one for one in self._arguments()]
        raise UnreadableError("a function without an argument")

    # Macros and brackets

    def _macro(self, node: Node) -> Expr:
        if node.name == "frac":
            return _derivative(node) or _quotient(*map(self._inner, node.parts))
        if node.name == "sqrt":
            return _root(self._inner(node.parts[0]), self._inner(node.parts[1]) if node.parts[1] else None)
        if node.name == "ket":
            return symbol(f"ket {written(node.parts[0])}")
        if node.name == "binom":
            return _binomial(*map(self._inner, node.parts))
        if node.name in _ACCENTS and all(one.kind in ("letters", "command", "sub", "sign") for one in node.parts[0]):
            inner = written(node.parts[0])
            if node.name in ("dot", "ddot") and re.fullmatch("[a-z]", inner):
                return symbol(self._indexed(inner) + "'" * (1 + (node.name == "ddot")))
            accent = "vec" if node.name == "overrightarrow" else node.name
            if accent == "vec" and re.fullmatch("[A-Z]{2}", inner) and inner[0] > inner[1]:
                return -symbol(f"vec {inner[::-1]}")  # from the second point to the first
            accent = "hat" if accent == "vec" and inner in ("i", "j", "k") else accent
            named = self._indexed(inner if accent == "mathcal" else f"{accent} {inner}")
            return self._called(inner, named) or symbol(named)
        raise UnreadableError(written((node,)))

    def _group(self, node: Node) -> Expr:
        from sympy import ceiling, floor

        inner = node.parts[0]
        if node.name in ("⌊⌋", "⌈⌉"):
            return (floor if node.name == "⌊⌋" else ceiling)(self._inner(inner))
        if node.name not in ("()", "[]", "{}"):
            raise UnreadableError(written((node,)))
        digits = written(inner)
        if node.name in ("()", "{}") and self._is("sub") and re.fullmatch(r"[0-9A-Za-z]+", digits):
            from sympy import Integer

            return Integer(in_base(digits, self._take().parts[0]))
        return self._inner(inner)

    def _absolute(self) -> Expr:
        from sympy import Abs

        start = self._place
        while not self._is("sign", "|"):
            self._take()
        self._take()
        return Abs(self._inner(tuple(self._nodes[start : self._place - 1])))


def _is_formula(name: str) -> bool:
    """Whether letters are symbols of elements, as those of `CuSO` are."""
    symbols = re.findall("[A-Z][a-z]?", name)
    return "".join(symbols) == name and all(symbol in lexicon()["elements"] for symbol in symbols)


def _factors(some: Nodes) -> Iterator[Node]:
    """The nodes with letters that stand side by side as one node each.

    Raises:
        UnreadableError: there are so many that they are a word.
    """
    for node in some:
        if node.kind != "letters" or len(node.name) == 1 or node.name.lower() in _NAMES:
            yield node
        elif (
            len(node.name)
            > (_LONGEST_MIXED if _MIXED.search(node.name) and not _is_formula(node.name) else _LONGEST_WORD)
            or not node.name.strip(PARAMETERS).isascii()
            or node.name in _NO_PRODUCT
        ):
            raise UnreadableError(node.name)
        else:
            yield from (
                replace(node, name=letter, spaced=node.spaced and not at) for at, letter in enumerate(node.name)
            )


def _repeating(name: str, digits: str) -> Fraction:
    """A decimal after which some digits repeat."""
    whole, _, once = name.partition(".")
    before = (whole or "0") + once
    return Fraction(int(before + digits) - int(before), 10 ** len(once) * (10 ** len(digits) - 1))


def in_base(digits: str, base: Nodes) -> int:
    """A number in a base that is given as a number or a word.

    Raises:
        UnreadableError: it is none.
    """
    name = re.sub(r"[^0-9a-z]", "", written(base).replace("text", ""))
    numbers: dict[str, int] = lexicon()["bases"] | lexicon()["numbers"]
    order = int(name) if name.isdecimal() and len(name) < 3 else numbers.get(name, 0)
    try:
        if order > 1:
            return int(digits, order)
    except ValueError:
        pass
    raise UnreadableError(f"{digits}_{name}")


def _depends_on(name: str, index: str) -> bool:
    """Whether a variable's name has an index or argument with another variable in it, as `a_k` has k."""
    return index in re.split(r"[^A-Za-z]+", re.split(r"[_(]", name, maxsplit=1)[-1]) and name != index


def _derivative(node: Node) -> Expr | None:
    r"""`\frac{dy}{dx}` as a variable of its own; None for another fraction."""
    above, below = (written(part) for part in node.parts)
    whole = re.fullmatch(r"d(\^\{?\d\}?)?(\\?[A-Za-z]\w*)?(_\{\w+\})?", above) and re.fullmatch(
        r"d\\?[A-Za-z]\w*(\^\{\d\})?", below
    )
    partial = above.startswith(r"\partial") and below.startswith(r"\partial")
    return symbol(f"d({above})/d({below})") if whole or partial else None


def _depends_on_order(product: Sequence[Node]) -> bool:
    """Whether the factors of a product can't be numbers: an inverse stands apart from what it would cancel, as in
    `PDP^{-1}`, or all are capitals, and one or all are inverted or transposed, as in `A^{-1}B` and `(AB)^T`."""
    factors: list[list[str]] = []  # each with its exponent
    for node in product:
        if node.kind in ("sup", "sub") and factors:
            factors[-1][node.kind == "sup"] += written(node.parts[0])
        elif not is_sign(node, "*", "·", "×"):
            factors.append([written((node,)), ""])
    names = [base.lstrip("\\") for base, _ in factors if not base.isdecimal()]
    exponents = {exponent for _, exponent in factors}
    inverted = exponents & {"-1", "T", r"\top"}
    if len(set(names)) > 1 and all(name[:1].isupper() for name in names) and inverted:
        return True
    if inverted and len(names) == 1 and re.fullmatch(r"\(([A-Z])((?!\1)[A-Z])+\)", names[0]):
        return True
    for at, (base, exponent) in enumerate(factors):
        inverse = exponent == "-1" or (exponent[:1] == "-" and base.isupper())
        for other in range(len(factors)) if inverse and not base.isdecimal() else ():
            between = [name.lstrip("\\") for name, _ in factors[min(at, other) + 1 : max(at, other)]]
            if between and all(map(str.isalpha, between)) and factors[other][0] == base and other != at:
                return True
    return False


def _order(value: Expr) -> Expr:
    r"""What matters in `O(3n\\log_2 n)`: neither a factor nor the base of a logarithm."""
    return value.as_independent(*value.free_symbols, as_Add=False)[1]


def _modulo(value: Expr, divisor: Expr) -> Expr:
    import sympy

    return value % divisor if value.is_Integer and divisor.is_Integer else sympy.Function("mod")(value, divisor)


def _quotient(above: Expr, below: Expr) -> Expr:
    if below == 0:
        raise UnreadableError("division by zero")
    return above / below


def _power(base: Expr, exponent: Expr) -> Expr:
    """A power, which is only computed if it is not too large; with an odd root of a formula, the real one."""
    from sympy import Abs, Integer, Pow, oo, sign

    if isinstance(base, Integer) and isinstance(exponent, Integer):
        bits = abs(int(base)).bit_length() * abs(int(exponent))
        return Pow(base, exponent, evaluate=bits <= _LARGEST_POWER or abs(base) <= 1)
    if base.is_Matrix or exponent.is_Matrix:
        if not isinstance(exponent, Integer) or base.rows != base.cols or abs(exponent) > _MOST_FACTORS:
            raise NotCommutativeError("a power that is no matrix of numbers")
        return base**exponent
    if base in (oo, -oo) or exponent in (oo, -oo):
        raise UnreadableError("a power of infinity")
    if base.free_symbols and exponent.is_Rational and exponent.q % 2 and exponent.q > 1:
        return Abs(base) ** exponent * (sign(base) if exponent.p % 2 else 1)
    return Pow(base, exponent)


def _root(radicand: Expr, index: Expr | None) -> Expr:
    """A root; the real one of a negative number if the index is odd."""
    from sympy import Integer, real_root, sqrt

    if index is None:
        return sqrt(radicand)
    if index == 0:
        raise UnreadableError("a root of order zero")
    if radicand.is_number and radicand.is_negative and isinstance(index, Integer) and index % 2:
        return real_root(radicand, index)
    return _power(radicand, 1 / index)


def _factorial(value: Expr, *, double: bool) -> Expr:
    """A factorial, or `n!!`, which is only computed if it is not too large."""
    from sympy import Integer, factorial, factorial2

    computed = not isinstance(value, Integer) or value <= _LARGEST_FACTORIAL
    return (factorial2 if double else factorial)(value, evaluate=computed)


def _binomial(above: Expr, below: Expr) -> Expr:
    """A binomial coefficient, which is only computed if it is not too large."""
    from sympy import Integer, binomial

    return binomial(above, below, evaluate=not isinstance(above, Integer) or abs(above) <= 10 * _LARGEST_FACTORIAL)


def _applied(name: str, arguments: Sequence[Expr], base: Expr | None) -> Expr:
    """A function of some arguments."""
    import sympy

    several = name in ("gcd", "lcm", "max", "min")
    if (len(arguments) != 1 and not several) or (base is not None and name != "log"):
        raise UnreadableError(f"{name} of {len(arguments)} arguments" if base is None else f"an index of {name}")
    if name == "cbrt":
        return _root(arguments[0], sympy.Integer(3))
    if name == "lg":
        base = sympy.Integer(10)
    if name in ("gcd", "lcm") and any(not argument.is_Integer for argument in arguments):
        return sympy.Function(name)(*sorted(arguments, key=str))  # sympy's are of polynomials
    more: Any = () if base is None else (base,)
    if name == "cis":
        return sympy.cos(arguments[0]) + sympy.I * sympy.sin(arguments[0])
    found: Expr = getattr(sympy, _FUNCTIONS[name])(*arguments, *more)
    return found

r"""Parses LaTeX as one sympy expression, or not at all: every letter, digit and operator must be accounted for.

This runs a computer algebra system on untrusted text: call it in a worker only (`workers`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

from lm_eval_ext.grading.spelling import spelled_out

if TYPE_CHECKING:
    from lm_eval_ext.grading.algebra import Expression

_LETTERS = re.compile(r"\\([A-Za-z]+)|([A-Za-z])")
_NOT_NAMES = frozenset(
    """frac sqrt left right cdot times div pm mp le ge leq geq ne neq lt gt in cup cap setminus infty pi emptyset
    varnothing mathbb mathbf mathrm mathcal text log ln exp sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh
    binom sum prod int lim to circ displaystyle lfloor rfloor lceil rceil lvert rvert vert mid mod bmod pmod gcd lcm
    max min det over overline bar hat vec dot ldots cdots dots quad approx equiv sim langle rangle limits dfrac tfrac
    geqslant leqslant lbrace rbrace""".split()  # noqa: SIM905  # a list of this many words is harder to read
)
_LOST = re.compile(
    r"'|\d\s+\d|[^\W\d_]{4,}|\\(?:prime|text|mathrm|mbox)(?![A-Za-z])"
)  # dropped or misread by the parser
_PERCENT_SIGN = re.compile(r"\s*(?:\\[ ,;:!]\s*)*(?:(?:\\(?:text|mathrm)\s*)?\{\s*\\?%\s*\}|\\?%)")
_PERCENTAGE = re.compile(r"(?<![\w.^_])(\d+(?:,\d{3})*(?:\.\d*)?|\.\d+)\\%")
_E_WITHOUT_POWER = re.compile(r"(?<![\\A-Za-z])e(?!\s*\^)")
_COMMANDS = re.compile(r"\\(?:begin|end)\{[a-z]+\}|\\(?!(?:prime|text|mathrm|mbox)(?![A-Za-z]))[A-Za-z]+")


@lru_cache(maxsize=4096)
def parsed(text: str) -> Expression | None:
    """The text as a case-sensitive sympy expression; None unless every part of it is accounted for."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    latex = _without_percentages(spelled_out(text))
    if not latex.strip() or _LOST.search(_COMMANDS.sub("@", latex)):
        return None
    try:
        expression = latex2sympy(
            latex,
            normalization_config=None,
            conversion_config=ConversionConfig(lowercase_symbols=False),
        )
    except Exception:  # the parser raises plain exceptions, antlr's and sympy's
        return None
    return _with_imaginary_unit(expression) if _accounted(latex, expression) else None


def _without_percentages(latex: str) -> str:
    r"""Percentages as numbers: `5\\%` as `(\\frac{1}{20})`, and `2^{5}\\%` as `2^{5}\\cdot\\frac{1}{100}`.

    latex2sympy2_extended has a parser for each of three versions of antlr's runtime. Two of them know no percentages,
    and the third makes products of them that sympy doesn't multiply.
    """
    latex = _PERCENTAGE.sub(_as_share, _PERCENT_SIGN.sub(r"\\%", latex))
    return latex.replace(r"\%", r"\cdot\frac{1}{100}")


def _as_share(percentage: re.Match[str]) -> str:
    """A whole percentage as a fraction; another as a decimal, which may be rounded."""
    value = Decimal(percentage[1].replace(",", "").rstrip(".")).scaleb(-2)
    exact = Fraction(value)
    return f"({value:f})" if "." in percentage[1] else rf"(\frac{{{exact.numerator}}}{{{exact.denominator}}})"


def _accounted(latex: str, expression: Expression) -> bool:
    """Whether every letter of the text appears in the parsed expression."""
    letters = set(re.findall(r"[A-Za-z]+", " ".join(_names(expression))))
    known = {character for name in letters for character in name} | letters
    for command, letter in _LETTERS.findall(re.sub(r"\\(?:begin|end)\{[a-z]+\}", "", latex)):
        if command and command not in _NOT_NAMES and command not in known:
            return False
        if letter and letter not in known and not (letter == "e" and _is_computed(latex, expression)):
            return False
    return True


def _is_computed(latex: str, expression: Expression) -> bool:
    """Whether e is only there with powers, such as `e^{0.5}`, of which sympy makes a decimal at once."""
    from sympy import Float

    return not _E_WITHOUT_POWER.search(latex) and bool(getattr(expression, "has", lambda _: False)(Float))


def _names(expression: Expression) -> Iterator[str]:
    from sympy import Basic, E, I, Set, preorder_traversal
    from sympy.core.function import AppliedUndef
    from sympy.matrices import MatrixBase

    roots = list(expression) if isinstance(expression, MatrixBase) else [expression]
    for root in roots:
        if not isinstance(root, Basic):
            continue
        for node in preorder_traversal(root):
            yield str(getattr(node, "name", ""))
            if isinstance(node, AppliedUndef):
                yield type(node).__name__
            if isinstance(node, Set) or type(node).__name__ in ("Integral", "Derivative"):
                yield "d R Z Q N C"
            yield {E: "e", I: "i"}.get(node, "") if node in (E, I) else "e" if type(node).__name__ == "exp" else ""


def _with_imaginary_unit(expression: Expression) -> Expression:
    from sympy import I, Symbol

    free = getattr(expression, "free_symbols", ())
    swapped = {symbol: I for symbol in free if isinstance(symbol, Symbol) and symbol.name == "i"}
    return expression.subs(swapped) if swapped else expression

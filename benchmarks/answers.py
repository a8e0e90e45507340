r"""False "correct" and false "wrong" of the grader over classes of answers, not single examples.

    python -m benchmarks.answers [--classes powers,ratios] [--show 5] [--math-verify] [--write]

Every kind of value, in every way of writing it, in every wrapper, declared in every way; and for each the near-misses,
of which none may be taken for it: another sign, order, bound, factor, or one token changed. A false "correct" is the
worst there is; a "wrong" that everyone reads as right is counted, too. Exits with 1 if there is a false "correct", or
if more than 1% of the equal pairs of a class are not taken for equal.

`--math-verify` has Math-Verify compare every tenth pair. `--write` saves the figures to `docs/reference/grading.md`.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.extraction import final_answer
from lm_eval_ext.grading.grading import grades
from lm_eval_ext.plugins import software

WRAPPERS = (
    "{}", "${}$", r"\({}\)", r"\displaystyle {}", r"\mathbf{{{}}}", r"\boldsymbol{{{}}}", r"\underline{{{}}}",
    r"\color{{red}}{{{}}}", r"\textcolor{{blue}}{{{}}}", r"\large {}", "**{}**", r"\ {}\ ", "{}.",
    r"\begin{{aligned}}{}\end{{aligned}}", r"\fbox{{{}}}",
)  # fmt: skip
DECLARATIONS = (
    r"So it is \boxed{{{}}}.", "The answer is ${}$.", "**Answer:** ${}$", "Final Answer: ${}$",
    "Therefore, the final answer is: $\\boxed{{{}}}$. I hope it is correct.", "#### {}", "<answer>{}</answer>",
    "Ans: ${}$", "The answer must be ${}$.", "Die Antwort lautet ${}$.", "La respuesta es ${}$.", "答案是${}$。",
    "答えは${}$です。", "답은 ${}$입니다.", "คำตอบคือ ${}$", "Jibu ni ${}$.", r"It is \boxed{{{}}}<|im_end|>",
)  # fmt: skip


_TENTH = 10  # Math-Verify compares one of so many pairs
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "grading.md"


class Value(NamedTuple):
    """A value: ways of writing it, the first as the gold answer, and what looks like it and is another."""

    writings: Sequence[str]
    others: Sequence[str]


def integers() -> Iterator[Value]:
    for number in (7, 42, 113, 204, 999, 1024, 12345, 1_000_000):
        grouped = f"{number:,}"
        writings = [
            f"{number}",
            f"{number}.0",
            f"+{number}",
            f"x = {number}",
            f"m+n = {number}",
            rf"\text{{The answer is }} {number}",
        ]
        if number > 999:
            writings += [grouped, grouped.replace(",", "{,}"), grouped.replace(",", r"\,"), grouped.replace(",", r"\ ")]
        swapped = str(number)[::-1].lstrip("0")
        others = [
            f"-{number}",
            f"{number + 1}",
            f"{number}0",
            f"{number}.5",
            f"{number}!",
            f"{number}^2",
        ]
        yield Value(writings, others + ([swapped] if int(swapped) != number else []))


def fractions() -> Iterator[Value]:
    for above, below in ((1, 2), (3, 4), (2, 3), (7, 5), (17, 30), (5, 16), (9, 8), (13, 7), (45, 64), (1, 7), (22, 9)):
        decimal = above / below
        writings = [
            rf"\frac{{{above}}}{{{below}}}", f"{above}/{below}", rf"\dfrac{{{above}}}{{{below}}}",
            rf"\frac{{{2 * above}}}{{{2 * below}}}", rf"{above} \div {below}", rf"{{{above} \over {below}}}",
        ]  # fmt: skip
        if above < 10 and below < 10:
            writings.append(rf"\frac{above}{below}")
        if round(decimal, 4) == decimal:
            writings += [f"{decimal:g}", rf"{100 * decimal:g}\%"]
        others = [
            rf"\frac{{{below}}}{{{above}}}", rf"-\frac{{{above}}}{{{below}}}", rf"\frac{{{above + 1}}}{{{below}}}",
            f"{above}:{below + 1}", rf"\frac{{{above}}}{{{below + 1}}}", rf"{above}\frac{{1}}{{{below}}}",
        ]  # fmt: skip
        yield Value(writings, others)


def powers() -> Iterator[Value]:
    """Exact numbers that are too large for decimals."""
    for base, exponent in ((2, 2025), (3, 2024), (5, 300), (10, 100), (7, 777), (2, 100)):
        power = f"{base}^{{{exponent}}}"
        for less, sign in ((1, "-"), (1, "+"), (7, "-")):
            writings = [f"{power}{sign}{less}", rf"{base}\cdot {base}^{{{exponent - 1}}}{sign}{less}"]
            opposite = "+" if sign == "-" else "-"
            others = [
                power,
                f"{power}{opposite}{less}",
                f"{base}^{{{exponent - 1}}}{sign}{less}",
                f"{power}{sign}{less + 1}",
            ]
            yield Value(writings, others)
    for base in (3, 5, 7):
        yield Value(
            [rf"\frac{{{base}^{{2024}}-1}}{{{base - 1}}}", rf"\frac{{1-{base}^{{2024}}}}{{1-{base}}}"],
            [rf"\frac{{{base}^{{2024}}+1}}{{{base - 1}}}", rf"\frac{{{base}^{{2024}}}}{{{base - 1}}}"],
        )
    for number in (20, 100, 2024):
        yield Value([f"{number}!", rf"{number}\cdot {number - 1}!"], [f"{number}!-1", f"{number}!+1", f"{number - 1}!"])
        yield Value(
            [rf"1-\frac{{1}}{{{number}!}}"], ["1", rf"1+\frac{{1}}{{{number}!}}", rf"1-\frac{{1}}{{{number - 1}!}}"]
        )
    yield Value(
        [r"\binom{2024}{1012}", r"{2024 \choose 1012}", r"\dbinom{2024}{1012}"],
        [r"\binom{2024}{1011}", r"\binom{2024}{1012}-1"],
    )


def scientific() -> Iterator[Value]:
    for digit, exponent in (("3", 8), ("6.02", 23), ("1.6", -19), ("9.1", -31), ("2.998", 8), ("7", 12)):
        writings = [
            f"{digit}e{exponent}",
            rf"{digit}\times 10^{{{exponent}}}",
            rf"{digit} \cdot 10^{{{exponent}}}",
            f"{digit}E{exponent}",
        ]
        others = [
            rf"{digit}\times 10^{{{exponent + 1}}}",
            rf"-{digit}\times 10^{{{exponent}}}",
            rf"{digit}\times 10^{{{-exponent}}}",
        ]
        yield Value(writings, others)


def roots() -> Iterator[Value]:
    yield Value(
        [r"3\sqrt{2}", r"\sqrt{18}", r"3\sqrt2", r"3 \cdot \sqrt{2}", "3*sqrt(2)", "3√2"],
        [r"2\sqrt{3}", r"-3\sqrt{2}", r"3\sqrt{3}", r"\sqrt{3}", r"3+\sqrt{2}"],
    )
    yield Value(
        [r"\frac{\sqrt{3}}{2}", r"\sqrt{3}/2", r"\frac{3}{2\sqrt{3}}", r"\sqrt{\frac{3}{4}}"],
        [r"\frac{\sqrt{2}}{3}", r"\frac{3}{2}", r"\sqrt{\frac{3}{2}}"],
    )
    yield Value(
        [r"2+\sqrt{5}", r"\sqrt{5}+2", r"\frac{1}{\sqrt{5}-2}"],
        [r"2-\sqrt{5}", r"\sqrt{7}", r"2\sqrt{5}", r"-2+\sqrt{5}"],
    )
    yield Value([r"\sqrt[3]{7}", "7^{1/3}", r"7^{\frac13}"], [r"\sqrt{7}", r"3\sqrt{7}", r"\sqrt[7]{3}"])
    yield Value(["-2", r"\sqrt[3]{-8}", r"-\sqrt{4}"], ["2", r"\sqrt{-8}", r"\sqrt[3]{8}"])


def constants() -> Iterator[Value]:
    yield Value(
        [r"\frac{3\pi}{4}", r"\frac{3}{4}\pi", r"3\pi/4", r"0.75\pi"],
        [r"\frac{4\pi}{3}", r"\frac{3}{4}", r"-\frac{3\pi}{4}", r"\frac{3}{4\pi}"],
    )
    yield Value(["e^2", "e^{2}", r"\exp(2)"], ["e^{-2}", "2^e", "2e", "e+2"])
    yield Value([r"\ln 2", r"\ln(2)", r"\log_e 2"], [r"\ln 3", r"\log_{10} 2", r"-\ln 2", r"\ln \frac12 + 1"])
    yield Value(
        [r"\frac12", r"\cos 60^\circ", r"\sin 30^\circ", r"\cos\frac{\pi}{3}"],
        [r"\sin 60^\circ", r"\cos 60", r"\tan 30^\circ"],
    )
    yield Value(
        [r"2\cos 20^\circ", r"2\cos(20^\circ)", r"2\cos\frac{\pi}{9}"],
        [r"2\cos 20", r"2\sin 20^\circ", r"\cos 20^\circ"],
    )
    yield Value(
        [r"\frac{1}{3}", r"0.\overline{3}", r"0.333\ldots", r"0.\dot{3}", "0.(3)"], ["0.3", "0.33", r"0.\overline{6}"]
    )
    yield Value(["1+2i", "2i+1", r"1+2\mathrm{i}"], ["1-2i", "2+i", "-1-2i", "3i"])


def expressions() -> Iterator[Value]:
    yield Value(
        ["x^2-3x+2", "(x-1)(x-2)", "2-3x+x^2", r"x^{2} - 3x + 2"],
        ["x^2+3x+2", "x^2-3x-2", "x^2-2x+3", "y^2-3y+2", "x^2-3x"],
    )
    yield Value(
        [r"\frac{x}{x+1}", r"1-\frac{1}{x+1}", "x/(x+1)"],
        [r"\frac{x+1}{x}", r"\frac{x}{x-1}", r"\frac{1}{x+1}", "x/x+1"],
    )
    yield Value(["2^{n+1}-1", r"2\cdot 2^n-1"], ["2^{n+1}+1", "2^{n-1}-1", "2^n-1", "2^{n+1}"])
    yield Value(
        [r"\frac{n(n+1)}{2}", r"\frac{n^2+n}{2}", r"\binom{n+1}{2}"], [r"\frac{n(n-1)}{2}", "n(n+1)", r"\frac{n+1}{2}"]
    )
    yield Value([r"\sin x\cos x", r"\frac{\sin 2x}{2}", r"\cos x \sin x"], [r"\sin x+\cos x", r"\sin 2x", r"\sin^2 x"])
    yield Value([r"a^2+b^2", "b^2+a^2"], ["a^2-b^2", "(a+b)^2", "A^2+B^2", "a^2b^2"])
    yield Value(["f(x)=2x+1", "f(t)=2t+1", "2x+1"], ["f(x)=2x-1", "f(x)=x+2", "f(x)=2x"])
    yield Value([r"y=c_1\cos(\ln x)+c_2\sin(\ln x)"], [r"y=c_1\cos(\ln x)-c_2\cos(\ln x)", r"y=c_1\cos x+c_2\sin x"])


def pieces() -> Iterator[Value]:
    """Formulas that are one function here and another there, and names of which nothing is known."""
    for number in (3, 10, 250):
        yield Value(
            [f"|x-{number}|", f"|{number}-x|", rf"\sqrt{{(x-{number})^2}}"],
            [f"{number}-x", f"x-{number}", f"|x+{number}|"],
        )
        yield Value([rf"\min(x,{number})", rf"\min({number},x)"], ["x", f"{number}", rf"\max(x,{number})"])
        yield Value([rf"\lfloor x/{number}\rfloor", rf"\lfloor \frac{{x}}{{{number}}}\rfloor"], ["0", f"x/{number}"])
    yield Value([r"\sum_{k=1}^{n} a_k"], ["n a_k", "a_n", r"\sum_{k=1}^{n} k", r"\sum_{k=0}^{n} a_k"])
    yield Value([r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"], [r"\frac{n(n-1)}{2}", r"\sum_{k=1}^{n} k^2", "nk"])
    for low, high, formula, others in (
        ("-x", "x", "|x|", ("-|x|", "x", "|x|+1", "|x-1|")),
        ("0", "x", r"\max(0,x)", (r"\min(0,x)", r"\max(x,1)", r"\max(0,-x)")),
        ("1-x", "1+x", "1+|x|", ("1-|x|", "|1+x|", "1+x")),
    ):
        yield Value(
            [
                rf"\begin{{cases}}{low} & x<0\\{high} & x\ge 0\end{{cases}}",
                rf"\begin{{cases}}{high}, & x\ge 0,\\{low}, & x<0.\end{{cases}}",
                formula,
            ],
            [*others, rf"\begin{{cases}}{high} & x<0\\{low} & x\ge 0\end{{cases}}"],
        )
    yield Value(
        [r"\begin{cases}1 & n\text{ even}\\ -1 & n\text{ odd}\end{cases}", "(-1)^n"],
        ["(-1)^{n+1}", "1", r"\begin{cases}1 & n\text{ odd}\\ -1 & n\text{ even}\end{cases}"],
    )


def huge() -> Iterator[Value]:
    """Formulas, equations and bounds with numbers of many digits, or very small ones."""
    for number, same, near in (
        (r"2^{100}", r"4^{50}", (r"2^{101}", r"2^{100}+1", r"2^{99}", r"3^{100}")),
        (r"2^{2025}", r"2\cdot 2^{2024}", (r"2^{2025}-1", r"2^{2024}", r"2^{2026}")),
        (r"100!", r"100\cdot 99!", (r"101!", r"100!+1", r"99!")),
        (r"10^{30}", r"10^{15}\cdot 10^{15}", (r"10^{31}", r"2\cdot 10^{30}", r"10^{30}-1")),
        (r"10^{-34}", r"\frac{1}{10^{34}}", (r"10^{-33}", r"2\cdot 10^{-34}", "0")),
    ):
        for form in (
            "x={}",
            r"{}\cdot n+1",
            "{}+y",
            r"x\ge {}",
            "y={}x",
            r"n^2-{}n",
            r"\frac{{n}}{{{}}}",
            r"({},2)",
            r"({})k+x",
        ):
            yield Value([form.format(number), form.format(same)], [form.format(one) for one in near])
    for exponent in (50, 200, 2024):
        yield Value(
            [f"x^{{{exponent}}}-1", f"-1+x^{{{exponent}}}", rf"x\cdot x^{{{exponent - 1}}}-1"],
            [f"x^{{{exponent}}}", f"x^{{{exponent}}}+1", f"x^{{{exponent + 1}}}-1", f"y^{{{exponent}}}-1"],
        )


def functions() -> Iterator[Value]:
    """Functions of which nothing is known: their arguments are no factors."""
    for name in ("f", "g", "F", r"\Phi", r"\sigma", r"\phi", "T", "P", r"\psi"):
        yield Value(
            [f"{name}(x+1)-{name}(x)", f"-{name}(x)+{name}(1+x)"],
            [name, f"{name}(x)-{name}(x+1)", f"{name}(x+2)-{name}(x+1)"],
        )
        yield Value([f"2{name}(2)", f"{name}(2)+{name}(2)"], [f"{name}(4)", f"4{name}(1)", f"{name}(2)^2"])
    for letter in ("y", "v", "x", "u"):
        yield Value(
            [f"{letter}(0)e^{{-kt}}", f"e^{{-kt}}{letter}(0)"], ["0", f"{letter}(1)e^{{-kt}}", f"{letter}e^{{-kt}}"]
        )
    for one, other in (("m", "n"), ("a", "b")):
        gcd = rf"\gcd({one},{other})"
        yield Value([gcd, rf"\gcd({other},{one})"], ["1", rf"\gcd({one},2{other})", one, rf"\gcd({one},k)"])
        yield Value([rf"{one}+{other}-{gcd}", rf"-{gcd}+{other}+{one}"], [f"{one}+{other}-1", f"{one}+{other}"])
    for name in ("sinh", "cosh", "tanh", "sin", "tan"):
        yield Value(
            [rf"\{name}^{{-1}}(x)", rf"\operatorname{{arc{name}}}(x)"], [rf"\frac{{1}}{{\{name} x}}", rf"\{name} x"]
        )


def steps() -> Iterator[Value]:
    """Whole parts, remainders and absolute values, which differ at few places."""
    for divisor in (2, 5, 12, 60, 250):
        below = rf"\lfloor \frac{{n}}{{{divisor}}}\rfloor"
        yield Value(
            [below, rf"\left\lfloor n/{divisor}\right\rfloor"],
            [rf"\lceil \frac{{n}}{{{divisor}}}\rceil", rf"\lfloor \frac{{n}}{{{divisor + 1}}}\rfloor",
             rf"\frac{{n}}{{{divisor}}}", rf"\lfloor \frac{{n+1}}{{{divisor}}}\rfloor"],
        )  # fmt: skip
        yield Value([f"{below}+1", f"1+{below}"], [rf"\lceil \frac{{n}}{{{divisor}}}\rceil", below])
    yield Value([r"\lfloor\log_2 n\rfloor+1"], [r"\lceil\log_2 n\rceil", r"\lfloor\log_2 n\rfloor"])
    yield Value([r"\lfloor\sqrt n\rfloor"], [r"\lceil\sqrt n\rceil-1", r"\lceil\sqrt n\rceil", r"\sqrt n"])
    yield Value([r"\sqrt[3]{x^3}", "x"], ["|x|", "-x"])
    yield Value(["|x|+|y|", "|y|+|x|", "|-x|+|y|"], ["|x+y|", "x+y", "|x|-|y|", "|x|+y"])
    yield Value(["|x||y|", "|xy|"], ["xy", "|x|y"])


def names() -> Iterator[Value]:
    """What is assigned to what, and which numbers a letter stands for."""
    for first, second in (("1", "2"), ("3", "-4"), (r"\frac12", "5")):
        yield Value(
            [f"(x,y)=({first},{second})", f"x={first}, y={second}", f"y={second}, x={first}", f"({first},{second})"],
            [f"(x,y)=({second},{first})", f"x={second}, y={first}", f"y={first}, x={second}", f"({second},{first})"],
        )
        yield Value([f"f(2)={first}"], [f"f({second})={first}", f"g(2)={first}", f"f(2)={second}"])
    yield Value(
        [r"x\in\{1,2\}", r"\{1,2\}", r"\{2,1\}"], [r"2x\in\{1,2\}", r"x^2\in\{1,2\}", r"\{1,3\}", r"\{\{1\},2\}"]
    )
    yield Value(
        [r"\{x\in\mathbb{Z}:1\le x\le3\}", r"\{1,2,3\}"],
        [r"\{x\in\mathbb{R}:1\le x\le3\}", r"[1,3]", r"\{x\in\mathbb{Z}:1<x\le3\}"],
    )
    yield Value(["x:y=2:3", "y:x=3:2"], ["y:x=2:3", "x:y=3:2"])
    yield Value(
        ["x<-1, x>3", r"x<-1\text{ or }x>3", r"(-\infty,-1)\cup(3,\infty)"],
        ["x<1, x>3", r"x<-1\text{ and }x>3", r"\emptyset", "(-1,3)"],
    )
    yield Value([r"(\pm1,\mp2)", r"\{(1,-2),(-1,2)\}"], [r"(\pm1,\pm2)", r"\{(1,2),(-1,-2)\}"])
    yield Value([r"\mathbf{a}\times\mathbf{b}"], [r"\mathbf{b}\times\mathbf{a}", r"\mathbf{a}\cdot\mathbf{b}"])
    yield Value([r"n\pi, n\in\mathbb{Z}", r"k\pi, k\in\mathbb{Z}"], [r"n\pi, n\in\mathbb{N}", r"2n\pi, n\in\mathbb{Z}"])


def equations() -> Iterator[Value]:
    yield Value(["y=2x+1", "2x-y+1=0", "y = 1+2x", "2x+1=y"], ["y=2x-1", "y=x+2", "x=2y+1", "y=-2x+1", "y>2x+1"])
    yield Value(
        [r"m\frac{dv}{dt}+bv=f", r"bv+m\frac{dv}{dt}=f"],
        ["bv=f", r"m\frac{dv}{dt}-bv=f", r"m\frac{dt}{dv}+bv=f", "mv+bv=f"],
    )
    yield Value([r"\frac{dx}{dt}=kx-a"], [r"\frac{dt}{dx}=kx-a", r"\frac{dx}{dt}=kx+a", "x=kx-a", r"\frac{x}{t}=kx-a"])
    yield Value(["x^2+y^2=25", "25=x^2+y^2", "y^2+x^2=25"], ["x^2-y^2=25", "x^2+y^2=5", "x+y=5"])
    yield Value([r"x \equiv 3 \pmod 7"], [r"x \equiv 4 \pmod 7", r"x \equiv 3 \pmod 5", "3"])
    yield Value(
        [r"2x \equiv 1 \pmod 5", r"x \equiv 3 \pmod 5", r"x \equiv 8 \pmod 5"],
        [r"2x \equiv 3 \pmod 5", r"x \equiv 2 \pmod 5", r"x^2 \equiv 4 \pmod 5", r"2x \equiv 1 \pmod 7"],
    )


def tuples() -> Iterator[Value]:
    for one, other in (("1", "2"), ("-3", "5"), (r"\frac12", r"\sqrt{3}"), ("0", "7"), ("x", "y+1"), (r"2\pi", "4")):
        writings = [
            f"({one},{other})",
            f"( {one}, {other} )",
            rf"\left({one},{other}\right)",
            f"(x,y)=({one},{other})",
            rf"\langle {one},{other}\rangle",
        ]
        others = [
            f"({other},{one})",
            f"({one},-{other})".replace("--", ""),
            f"({one},{other},0)",
            f"(y,x)=({one},{other})",
            f"({one})",
        ]
        yield Value(writings, others)
    yield Value(["P(3,-2)", "(3,-2)"], ["P(3,2)", "P(-2,3)"])


def sets() -> Iterator[Value]:
    yield Value(
        [r"\{1,2\}", r"\{2,1\}", "1,2", "2, 1", r"1 \text{ and } 2", r"x=1 \text{ or } x=2", "1 and 2", r"\{1, 2, 1\}"],
        [r"\{1,3\}", "1", r"\{1,2,3\}", "12", r"\{-1,2\}", "1+2", r"\{(1,2)\}"],
    )
    yield Value([r"\pm 3", r"3, -3", r"x=\pm 3", r"\{-3,3\}"], ["3", "-3", r"\pm 2", r"\pm 3i"])
    yield Value(
        [r"\{2,4,6\}", r"\{2k : k = 1, 2, 3\}", r"\{2k \mid k=1,2,3\}"],
        [r"\{k : k = 1, 2, 3\}", r"\{2k : k = 1, 2\}", r"\{2k+1 : k = 1, 2, 3\}", r"\{2, 4, 8\}"],
    )
    yield Value(
        [r"\frac{1\pm\sqrt5}{2}", r"\frac{1+\sqrt5}{2},\frac{1-\sqrt5}{2}"],
        [r"\frac{1+\sqrt5}{2}", r"\frac{-1\pm\sqrt5}{2}", r"\frac{1\pm\sqrt3}{2}"],
    )
    yield Value(
        [r"\emptyset", r"\varnothing", r"\{\}", r"\text{no solution}", "no solutions", "DNE"],
        ["0", r"\{0\}", r"\mathbb{R}", r"\infty"],
    )
    yield Value(
        [r"\mathbb{R}", r"\mathbb R", r"(-\infty,\infty)", r"\text{all real numbers}", "all reals"],
        [r"\emptyset", r"\mathbb{Q}", r"(0,\infty)", r"\mathbb{R}\setminus\{0\}"],
    )


def lists() -> Iterator[Value]:
    """Members without spaces between them, which no grouping of digits makes one number."""
    for first, second, third in ((5, 25, 125), (1, 10, 100), (2, 22, 222), (7, 77, 777), (3, 45, 678), (1, 2, 333)):
        joined, spaced = f"{first},{second},{third}", f"{first}, {second}, {third}"
        number = f"{first}{second}{third}"
        less = f"{first},{second}"
        yield Value(
            [
                joined,
                spaced,
                rf"\{{{joined}\}}",
                rf"{first}, {second} \text{{ and }} {third}",
                f"{third},{first},{second}",
            ],
            [number, less, f"{joined},4", f"{first},{second},{third + 1}", f"{first}{second},{third}"],
        )
        yield Value([f"({joined})", f"({spaced})"], [number, f"({second},{first},{third})", f"({less})"])


def intervals() -> Iterator[Value]:
    yield Value(
        [r"[0,\infty)", r"x\ge 0", r"x \geq 0", r"\{x \mid x \ge 0\}", r"0\le x<\infty"],
        [r"(0,\infty)", r"x>0", "[0,1)", r"(-\infty,0]", r"x\le 0"],
    )
    yield Value(
        [r"(-1,3]", r"-1<x\le 3", r"3 \ge x > -1", r"\{x \mid -1<x\le3\}"],
        [r"[-1,3]", r"(-1,3)", r"[-1,3)", r"-1\le x\le 3", r"1<x\le 3"],
    )
    yield Value(
        [r"(-\infty,-2)\cup(3,\infty)", r"x<-2 \text{ or } x>3", r"(3,\infty)\cup(-\infty,-2)"],
        [r"(-2,3)", r"-2<x<3", r"(-\infty,-2]\cup[3,\infty)", r"x<-2 \text{ and } x>3"],
    )
    yield Value([r"(-3,3)", r"|x|<3", "-3<x<3"], [r"|x|>3", r"[-3,3]", "x<3"])
    yield Value([r"[2,5)\cup(5,\infty)", r"x \ge 2, x \ne 5"], [r"[2,\infty)", r"x \ne 5", r"x>2, x\ne 5"])


def ratios() -> Iterator[Value]:
    yield Value(["2:3", "4:6", r"2 \text{ to } 3", "2 to 3", r"\frac23"], ["3:2", "2:5", "2.3", r"\frac32"])
    yield Value(["1:2:3", "2:4:6", "1 : 2 : 3"], ["1:3:2", "3:2:1", r"\frac16", "1:2:4", "1:2"])


def matrices() -> Iterator[Value]:
    make = r"\begin{{{0}}}1 & 2 \\ 3 & 4\end{{{0}}}"
    yield Value(
        [make.format("pmatrix"), make.format("bmatrix"), r"\left[\begin{array}{cc}1&2\\3&4\end{array}\right]"],
        [
            r"\begin{pmatrix}1 & 3 \\ 2 & 4\end{pmatrix}",
            r"\begin{pmatrix}1 & 2 \\ 3 & -4\end{pmatrix}",
            make.format("vmatrix"),
            r"\begin{pmatrix}1 & 2 & 3 & 4\end{pmatrix}",
        ],
    )
    yield Value(
        [r"\begin{pmatrix}1 \\ 2\end{pmatrix}", "(1,2)", r"\begin{bmatrix}1 \\ 2\end{bmatrix}"],
        [r"\begin{pmatrix}2 \\ 1\end{pmatrix}", r"\begin{pmatrix}1 \\ -2\end{pmatrix}"],
    )
    for exponent in ("n", "T", "5", "-1", "k+1"):
        power = rf"^{{{exponent}}}"
        yield Value(
            [
                rf"\begin{{pmatrix}}1&2\\3&4\end{{pmatrix}}{power}",
                rf"\begin{{bmatrix}} 1 & 2 \\ 3 & 4 \end{{bmatrix}}{power}",
            ],
            [
                rf"\begin{{pmatrix}}1&2\\3&5\end{{pmatrix}}{power}",
                rf"\begin{{pmatrix}}1&2\\3&4\end{{pmatrix}}{power}+1",
                power,
            ],
        )
    yield Value(
        [r"\begin{pmatrix}1&0\\0&1\end{pmatrix}", "I_2", r"\operatorname{diag}(1,1)"],
        ["I_3", r"\operatorname{diag}(1,2)", r"\begin{pmatrix}0&1\\1&0\end{pmatrix}", "1"],
    )


def quantities() -> Iterator[Value]:
    yield Value(
        [r"5\text{ cm}", r"5 \mathrm{~cm}", "5 cm", r"0.05\text{ m}"],
        [r"5\text{ m}", r"50\text{ cm}", r"5\text{ cm}^2", r"5\text{ kg}", r"-5\text{ cm}"],
    )
    yield Value(
        [r"12\text{ km/h}", r"12 \frac{\text{km}}{\text{h}}", "12 km/h"],
        [r"12\text{ m/s}", r"12\text{ km}", r"21\text{ km/h}"],
    )
    yield Value(
        [r"30^\circ", r"30^{\circ}", "30°", r"30\text{ degrees}", r"\frac{\pi}{6}"],
        [r"60^\circ", r"30\%", r"-30^\circ"],
    )
    yield Value(
        [r"\$18.90", r"18.9\text{ dollars}", "USD 18.90", r"18.90\text{ USD}"],
        [r"\$18.09", r"\$1890", "18.90 euros", r"\$-18.90"],
    )
    yield Value([r"300\text{ K}", r"26.85^\circ\mathrm{C}", "300 K"], [r"300^\circ\mathrm{C}", r"26.85\text{ K}"])
    yield Value([r"12\%", "12 percent", "0.12", r"12\text{ percent}"], [r"1.2\%", "1.2", r"21\%", "0.012"])
    yield Value(
        [r"7\text{ apples}", "7 apples", "7"],
        [
            r"7\text{ dozen}",
            r"7\text{ thirds}",
            r"7\text{ squared}",
            r"7\text{ wrong}",
            r"8\text{ apples}",
            r"7\text{ million}",
        ],
    )
    yield Value(
        ["5,000,000", r"5\text{ million}", "5 million", r"5\times10^6"],
        ["5", r"5\text{ billion}", "5,000", r"50\text{ million}"],
    )
    yield Value(["15:30", "3:30 PM", r"3:30\text{ p.m.}"], ["3:30 AM", "3:03 PM", "15:03"])
    yield Value(["2:30", "02:30", "2:30 AM"], ["1:15", "2:03", "14:30", "2:30 PM"])
    yield Value(["1011_2", "(1011)_2", r"1011_{2}", r"1011_{\text{two}}"], ["1010", "1101_2", "1011_3", "10110_2"])


def words() -> Iterator[Value]:
    yield Value(
        [r"\text{even}", "even", "Even", r"\textbf{even}", r"\mathrm{even}"],
        ["odd", r"\text{not even}", "never", r"\text{uneven}"],
    )
    yield Value([r"\text{Tuesday}", "Tuesday"], ["Thursday", r"\text{Monday or Tuesday}"])
    for word, end in (
        ("triangle", "circle"),
        ("polygon", "square"),
        ("Alice", "Bob"),
        ("first player", "second player"),
    ):
        yield Value([rf"\text{{{word}}}", word], [end, rf"\text{{{end}}}", f"{word} or {end}"])
    yield Value(["HHT", r"\text{HHT}"], ["HTH", "THH", "HH", "hht"])
    yield Value([r"\text{CO}"], [r"\text{Co}", r"\text{OC}", r"\text{CO}_2"])
    yield Value([r"\vec a\times\vec b", r"\vec{a}\times\vec{b}"], [r"\vec b\times\vec a", r"\vec a\cdot\vec b"])
    yield Value([r"\text{(C)}", "C", "(C)"], ["D", "(D)", "c_1", "CD"])


def parts() -> Iterator[Value]:
    """Answers to several parts, each behind its label."""
    for (one, two), (first, second) in product(
        (("5", "-2"), ("6", "2"), (r"\frac{3}{4}", r"2\sqrt{5}"), ("12", "30")), (("a", "b"), ("i", "ii"), ("1", "2"))
    ):
        yield Value(
            [
                f"({first}) {one} ({second}) {two}",
                f"({first}) {one}, ({second}) {two}",
                f"({first}) {one}; ({second}) {two}",
                rf"\text{{({first}) }}{one},\ \text{{({second}) }}{two}",
                f"({second}) {two}, ({first}) {one}",
            ],
            [f"({first}) {two} ({second}) {one}", f"({first}) {one}, ({second}) {two}+1", f"({first}) {one}", two,
             f"{two}, {one}", f"({second}) {one} ({first}) {two}"],
        )  # fmt: skip
    yield Value([r"3 \text{ R } 2", r"3\text{ remainder }2"], [r"2 \text{ R } 3", "6R", "32", "5"])
    yield Value(["A(1,2), B(3,-4)", "B(3,-4), A(1,2)"], ["A(1,2), C(3,-4)", "A(3,-4), B(1,2)", "A(1,2)"])


def notations() -> Iterator[Value]:
    """What is no number: logic, sets, groups, permutations, chemistry, states."""
    yield Value(
        [r"p\land\neg q", r"p\wedge\lnot q", r"\neg q\land p", r"p ∧ ¬q"],
        [r"p\lor\neg q", r"\neg p\land q", r"p\land q", r"\neg(p\land q)", "p"],
    )
    yield Value([r"p\to q", r"p\implies q", r"p\Rightarrow q"], [r"q\to p", r"p\leftrightarrow q", r"p\to\neg q"])
    yield Value(
        [r"A\cap B^c", r"A\setminus B", r"B^c\cap A", r"A\cap\overline{B}"],
        [r"A\cup B^c", r"B\setminus A", r"A\cap B", r"A^c\cap B", r"(A\cap B)^c"],
    )
    yield Value([r"(A\cup B)\cap C", r"C\cap(B\cup A)"], [r"A\cup(B\cap C)", r"(A\cap B)\cup C", r"(A\cup B)\cup C"])
    yield Value(
        [r"\mathbb{Z}/6\mathbb{Z}", r"\mathbb{Z}_6", r"\mathbb{Z}_2\times\mathbb{Z}_3", "C_6"],
        [r"\mathbb{Z}_2\times\mathbb{Z}_2", r"\mathbb{Z}_3", r"S_3", r"\mathbb{Z}", "6"],
    )
    yield Value([r"\mathbb{Z}_2\oplus\mathbb{Z}_4", r"Z_4\times Z_2"], [r"\mathbb{Z}_8", r"\mathbb{Z}_2^3", "8"])
    yield Value([r"GL_2(\mathbb{F}_3)", r"\mathrm{GL}_2(\mathbb{F}_3)", "GL(2,3)"], ["SL(2,3)", "GL(3,2)", "GL(2,5)"])
    yield Value([r"SO(3)", "SO_3"], ["3", "SU(3)", "SO(2)", "O(3)"])
    yield Value(
        [r"(1\,3\,5)(2\,4)", r"(2\,4)(1\,3\,5)", r"(3\,5\,1)(4\,2)"],
        [r"(1\,5\,3)(2\,4)", r"(1\,3\,5)", r"(1\,3)(2\,4)"],
    )
    yield Value(
        [r"2\mathrm{H_2}+\mathrm{O_2}\rightarrow 2\mathrm{H_2O}", r"O_2+2H_2\to 2H_2O", r"\ce{2H2 + O2 -> 2H2O}"],
        [r"H_2+O_2\to 2H_2O", r"2H_2O\to 2H_2+O_2", r"2H_2+O_2\to H_2O", r"2H_2+O_2\rightleftharpoons 2H_2O"],
    )
    yield Value(
        [r"1s^2 2s^2 2p^4", r"[\mathrm{He}]2s^2 2p^4"], [r"1s^2 2s^2 2p^5", r"[\mathrm{Ne}]2s^2 2p^4", r"1s^2 2s^2"]
    )
    yield Value(
        [
            r"\frac{1}{\sqrt2}(|0\rangle+|1\rangle)",
            r"\frac{|1\rangle+|0\rangle}{\sqrt2}",
            r"\frac{\sqrt2}{2}(\ket{0}+\ket{1})",
        ],
        [
            r"\frac{1}{\sqrt2}(|0\rangle-|1\rangle)",
            r"\frac12(|0\rangle+|1\rangle)",
            r"|0\rangle+|1\rangle",
            r"|01\rangle",
        ],
    )


_EVERY = (
    integers, fractions, powers, scientific, roots, constants, expressions, huge, functions, steps, pieces, names,
    equations, tuples, sets, lists, parts, intervals, ratios, matrices, quantities, words, notations,
)  # fmt: skip
CLASSES: dict[str, Callable[[], Iterator[Value]]] = {values.__name__: values for values in _EVERY}


class Case(NamedTuple):
    """A pair that is decided.

    Attributes:
        kind: its class.
        gold: the gold answer.
        text: the answer in a wrapper, or in a text that declares it.
        equal: whether they are equal.
        declared: whether the answer has to be found in the text.
    """

    kind: str
    gold: str
    text: str
    equal: bool
    declared: bool = False

    @property
    def answer(self) -> str:
        """The answer, as the grader finds it."""
        return final_answer(self.text) if self.declared else self.text


def cases(kind: str) -> Iterator[Case]:
    for value in CLASSES[kind]():
        gold = value.writings[0]
        for answer, wrapper in product((*value.writings, *value.others), WRAPPERS):
            yield Case(kind, gold, wrapper.format(answer), answer in value.writings)
        for other in value.writings[1:]:  # the other way round
            yield from (
                Case(kind, other, answer, equal)
                for answer, equal in ((gold, True), *((one, False) for one in value.others))
            )
        for answer, declaration in product((*value.writings, *value.others), DECLARATIONS):
            if (
                "#### " in declaration
                or "<answer>" in declaration
                or not ("$" in declaration and ("$" in answer or "text{The" in answer))
            ):
                yield Case(kind, gold, declaration.format(answer), answer in value.writings, declared=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--show", type=int, default=0, help="wrong verdicts that are shown of each class")
    parser.add_argument("--math-verify", action="store_true", help="compare with Math-Verify, which takes minutes")
    parser.add_argument("--write", action="store_true", help=f"save the figures to {PAGE.name}")
    given = parser.parse_args()
    counts: dict[str, Counter[str]] = {}
    shown: dict[str, list[str]] = defaultdict(list)
    for kind in given.classes.split(","):
        every = list(dict.fromkeys(cases(kind)))
        counts[kind] = Counter(f"{'equal' if case.equal else 'other'} pairs" for case in every)
        graded = grades([(case.gold, case.answer) for case in every])
        for case, grade in zip(every, graded, strict=True):
            if (verdict := _verdict(case, correct=grade.correct)) != "right":
                counts[kind][verdict] += 1
                shown[f"{kind}, {verdict}"].append(f"{case.gold!r} and {case.text!r}: {grade.reason}")
        if given.math_verify:
            for case in every[::_TENTH]:
                counts[kind][f"math-verify {'equal' if case.equal else 'other'} pairs"] += 1
                counts[kind][f"math-verify {_verdict(case, correct=_math_verify(case))}"] += 1
        print(row(kind, counts[kind]), flush=True)
    print(row("all", sum(counts.values(), Counter())))
    for name, some in shown.items() if given.show else ():
        print(f"\n{name}:", *some[:: max(1, len(some) // given.show)][: given.show], sep="\n  ")
    if given.write:
        PAGE.write_text(page(counts), "utf-8")
    if faults := [kind for kind, found in counts.items() if not _passes(found)]:
        raise SystemExit(f"not as good as it must be: {', '.join(faults)}")


def _verdict(case: Case, *, correct: bool) -> str:
    return "right" if correct == case.equal else "false correct" if correct else "false wrong"


def _passes(found: Counter[str]) -> bool:
    return not found["false correct"] and found["false wrong"] <= found["equal pairs"] / 100


def _math_verify(case: Case) -> bool:
    """Math-Verify's own verdict on the texts, with its default settings."""
    from math_verify import parse, verify

    logging.disable(logging.WARNING)
    gold, answer = parse(f"${case.gold}$"), parse(case.text if case.declared else f"${case.text}$")
    return bool(verify(gold, answer))


def row(name: str, found: Counter[str]) -> str:
    equal, others = found["equal pairs"], found["other pairs"]
    wrong, correct = found["false wrong"], found["false correct"]
    text = (
        f"{name:<12} {equal:>6,} equal, {wrong:>5,} not taken for equal ({wrong / max(1, equal):.1%}); "
        f"{others:>6,} others, {correct:>5,} taken for equal ({correct / max(1, others):.2%})"
    )
    return text + (f"; Math-Verify: {' and '.join(_theirs(found))}" if found["math-verify equal pairs"] else "")


def _theirs(found: Counter[str]) -> list[str]:
    """Math-Verify's false wrong and false correct, as shares of the pairs that it compared."""
    kinds = {"wrong": "equal", "correct": "other"}
    return [
        f"{found[f'math-verify false {what}'] / max(1, found[f'math-verify {pairs} pairs']):.1%}"
        for what, pairs in kinds.items()
    ]


def page(counts: dict[str, Counter[str]]) -> str:
    """The page with the figures."""
    total = sum(counts.values(), Counter[str]())
    lines = [
        f"| {name} | {found['equal pairs']:,} | {found['false wrong']:,} | {_theirs(found)[0]} "
        f"| {found['other pairs']:,} | {found['false correct']:,} | {_theirs(found)[1]} |"
        for name, found in (*counts.items(), ("all", total))
    ]
    versions = ", ".join(f"{name} {number}" for name, number in software("math-verify", "sympy").items())
    pairs = total["equal pairs"] + total["other pairs"]
    return f"""# Grading, measured

{pairs:,} decided pairs of a gold answer and a text: every kind of value, in every way of writing
it, in every wrapper, and declared in {len(DECLARATIONS)} forms; and for each the near-misses, with another sign, order,
bound, factor, or one token changed. *False wrong* are equal pairs that are not taken for equal, *false correct* others
that are, by the grader (version {GRADER_VERSION}) and by Math-Verify with its defaults
({versions}; every tenth pair), which knows fewer ways of declaring an answer.

| class | equal pairs | false wrong | of Math-Verify | other pairs | false correct | of Math-Verify |
| -- | --: | --: | --: | --: | --: | --: |
{chr(10).join(lines)}

What these classes leave open, on purpose: a missing unit, percent sign or base is forgiven (`5` for `5 cm`, `40` for
`40%`, `1011` for `1011_2`), and a list is compared with a tuple in order. Written by
`python -m benchmarks.answers --math-verify --write`.
"""


if __name__ == "__main__":
    main()

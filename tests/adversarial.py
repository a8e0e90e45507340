"""Outputs that a grader must survive: nobody vouches for what a model writes."""

from __future__ import annotations

CANARY = "lm_eval_tts_was_here"
# ruff: noqa: E501  # a line a kind reads better

_FACTORIALS = [
    "1000000000!",
    "20!!!!!!",
    "9!!!!!!!",
    "(10^9)!",
    "100000!!",
    "((3!)!)!",
    "(((3!)!)!)!",
    r"\Gamma(10^{12})",
]
_TOWERS = [
    "9^{9^9}", "9^{9^{9^9}}", "(1+i)^{9^9}", "2^{10^{10}}", "10^{10^{10^{10}}}", "(-1)^{9^{9^9}}", "1.5^{10^9}",
    r"2^{2^{2^{2^{2^2}}}}", "0.1^{9^9}", r"e^{9^{9^9}}", r"\pi^{10^8}", "(x+1)^{9^9}", "(x+y+z)^{1000}", "(1+\\sqrt{2})^{10^7}",
    "7^{7^7} \\mod 10", "9**9**9", "2**(10**10)", "((((2^9)^9)^9)^9)^9",
]  # fmt: skip
_COMBINATIONS = [
    r"\binom{10^9}{5\cdot 10^8}", r"\binom{10^6}{5\cdot 10^5}", r"\binom{1000000}{500000}", r"{10^9 \choose 10^8}",
    r"\binom{n}{10^9}", r"\binom{-10^9}{10^9}", r"\binom{10^{10}}{2}",
]  # fmt: skip
_CALCULUS = [
    r"\sum_{n=1}^{10^9} \frac{1}{n}", r"\sum_{n=1}^{\infty} n!", r"\prod_{n=1}^{10^9} n", r"\prod_{k=1}^{10^6}(1+\frac{1}{k^2})",
    r"\int_0^{\infty} e^{-x^2}\sin(x^3) dx", r"\int e^{e^{e^x}} dx", r"\int_0^1 x^{x^x} dx", r"\lim_{x \to 0} \frac{\sin(x^{100})}{x^{99}}",
    r"\lim_{n\to\infty} n!^{1/n}", r"\sum_{i=1}^{1000}\sum_{j=1}^{1000}\sum_{k=1}^{1000} ijk", r"\frac{d}{dx} x^{x^{x^x}}",
    r"\int\int\int\int \sin(xyzw) dx dy dz dw", r"\sum_{n=1}^{10^6} n^{n}", r"\int_0^1\int_0^1 \frac{1}{1-xy} dx dy",
    r"\prod_{n=1}^{\infty} \cos(\frac{x}{2^n})", r"\sum_{n=0}^{\infty} \frac{x^n}{n!}",
]  # fmt: skip
_EQUATIONS = [
    "x^{17}+3x^{16}-x+5=0", "x^x=10^{100}", r"\sin(x)=x^{100}", r"x^{100}+x^{99}+1>0", "x=x", "1=2", "a=b=c=d=e=f=g",
    r"\sqrt{x+\sqrt{x+\sqrt{x+\sqrt{x}}}}=2", r"|x|+|x-1|+|x-2|<10", r"x\in(-\infty,\infty)\cap(1,2)\cup\{3\}",
    r"\{x \mid \sin(x) > \cos(x)\}", r"x^2+y^2+z^2+w^2=1", "x>1 \\text{ and } x<1", r"0<x<1<y<2<z<3",
]  # fmt: skip
_SIZES = [
    "(" * 100 + "1" + ")" * 100, "(" * 24 + "1" + ")" * 24, "{" * 1000 + "1" + "}" * 1000, "[" * 5000, "(" * 100_000, "\\{" * 500,
    r"\frac{" * 60 + "1" + "}{2}" * 60, r"\sqrt{" * 20 + "2" + "}" * 20, r"\sqrt{" * 200 + "2" + "}" * 200, "-" * 1000 + "1", "+" * 500,
    "1" * 1_500, "1" * 100_000, "0." + "3" * 1_500, "1e999", "1e999999999", "-1e-999999", "1" + "0" * 400 + "." + "1" * 300,
    "1+" * 900 + "1", "1*" * 900 + "1", "1/" * 900 + "1", "x" * 1_900, "x^" * 600 + "x", "1," * 900 + "1", "1, " * 600 + "1",
    r"\{" + ",".join(map(str, range(400))) + r"\}", r"\{" + ",".join(map(str, range(3_000))) + r"\}",
    r"\begin{pmatrix}" + r"\\".join("&".join(["1"] * 50) for _ in range(15)) + r"\end{pmatrix}",
    r"\begin{pmatrix}" + r"\\".join("&".join(["7"] * 50) for _ in range(50)) + r"\end{pmatrix}",
    r"\begin{vmatrix}" + r"\\".join("&".join([f"x_{{{i}{j}}}" for j in range(7)]) for i in range(7)) + r"\end{vmatrix}",
    "a" * 1_000_000, " " * 100_000 + "4", "\\" * 1_001, "$" * 1_000, "\\left(" * 300, "|" * 800, "_" * 700, "^" * 700, "!" * 900, "%" * 900,
    ("1" * 12 + ",") * 120, "1 " * 900, "\\boxed{" * 300, "\\text{" * 300 + "4" + "}" * 300, "=" * 900, "<" * 900, "4" + "." * 1_000,
]  # fmt: skip
_BROKEN = [
    "", " ", "\\", "{", "}", "\\frac", r"\frac{1}", r"\frac{1}{0}", "0/0", "1/0", r"\sqrt", r"\sqrt{-1}", r"\log(0)", r"\tan(\frac{\pi}{2})",
    r"\begin{cases", r"\begin{pmatrix}1&2\\3\end{pmatrix}", "nan", "NaN", "inf", r"\infty-\infty", "None", "True", "null", "undefined", "[object Object]",
    "\x00", "4\x00", "\ud800".encode("utf-8", "replace").decode(), "\u202e4", "\ufeff4", "\u200b4\u200b", "🙂", "四", "Ⅳ", "④", "4️⃣", "٤", "½½½", "∑∏∫",
    r"\text{four}", "four", "the answer", "I don't know", "4 or 5", "4, 5", "4;5", "~4", "≈4", "4±0.1", "4...", "4?", "#4", "4 apples", "-", "--4", "+-4",
    r"\mathbb{R}", r"\emptyset", r"\varnothing", r"\aleph_0", "i", "e", r"\pi", r"\hbar", "x_1", "x_{x_{x_x}}", "f(x)", "f(f(f(x)))", r"\vec{v}",
]  # fmt: skip
_CODE = [
    f"__import__('os').system('touch {CANARY}')", f"open('{CANARY}','w')", "().__class__.__bases__[0].__subclasses__()", "exec('1')",
    f"1 if open('{CANARY}','w') else 2", "lambda: 4", "print(4)", "exit()", "os._exit(1)", "import os; os.abort()", "4; drop table x",
    r"\input{/etc/passwd}", r"\write18{touch x}", r"\def\x{\x\x}\x", r"\loop\iftrue\repeat", "${jndi:ldap://x}", "{{ 7*7 }}", "<script>4</script>",
    f"2*(__import__('pathlib').Path('{CANARY}').touch())", "S(4)", "Symbol('x')", "factorial(10**9)", "Integer(4)", "eval('4')",
]  # fmt: skip

ANSWERS = [*_FACTORIALS, *_TOWERS, *_COMBINATIONS, *_CALCULUS, *_EQUATIONS, *_SIZES, *_BROKEN, *_CODE]

# Those that are 4 after all.
RIGHT = [" " * 100_000 + "4", "④", "٤", "~4", "≈4", "4 apples", "--4", "\u202e4", "\ufeff4", "\u200b4\u200b", "four",
         r"\text{four}"]  # fmt: skip

r"""Answers that are programs: extracted from fenced blocks, and run with tests in the sandbox (`sandbox/`).

What the tests are is in the dataset's rows, so programs are graded where these are at hand, in the extractor; the gold
answer that goes into files is a hash of the tests. Regrading needs the dataset.
"""

from __future__ import annotations

import ast
import builtins
import json
import logging
import math
import platform
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from lm_eval_ext.errors import GradingError, TaskError
from lm_eval_ext.grading.extraction import own_turn
from lm_eval_ext.grading.grading import FailureReason, Grade, in_workers
from lm_eval_ext.grading.rules import Answer, BaseExtractor, Labels, Outputs, Pairs, Rules
from lm_eval_ext.sandbox.launcher import Called, Ended, Reason, Sandbox, Tested
from lm_eval_ext.sandbox.pipes import BY_THE_CLOCK, ProgramLimits
from lm_eval_ext.template_filters import TESTED

logger = logging.getLogger("lm_eval.tts")

_MOST_BLOCKS = 100  # fenced blocks considered, from the last
_LONGEST = 200_000  # characters of a program
_NO_PYTHON = "NoPythonError: "  # how the sandbox begins what it says of a program that can't be compiled
_SHOWN = 120  # characters of a value in what says why a test failed
_NEWS = 30.0  # seconds between two messages of progress


def _failure(grade: Grade) -> bool | FailureReason:
    return False if grade.reason in ("wrong", "no answer", "correct") else grade.reason  # type: ignore[return-value]


class ProgramRun(NamedTuple):
    """What came of a program.

    Attributes:
        grade: correct if all tests passed.
        share: of tests that passed.
        failed: the first test that failed, and why; empty if none did.
    """

    grade: Grade
    share: float = 0.0
    failed: str = ""


class Tests(NamedTuple):
    """What a program is tested with: statements, calls with what they must return, or inputs with outputs."""

    entry: str
    prelude: str = ""
    statements: tuple[str, ...] = ()
    calls: tuple[Sequence[object], ...] = ()
    expected: tuple[object, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.statements) or len(self.calls) or len(self.inputs)


@dataclass(frozen=True, kw_only=True)
class CodeExtractor(BaseExtractor):
    """Extracts programs from fenced blocks, and runs each with the tests of its question.

    Attributes:
        language: of the programs.
        entry: column with the name of the function that is tested, or with a test that calls it.
        tests: column with a test, or a list of them: asserts, or a function `check(candidate)`.
        calls: columns with the arguments of calls and with what they return.
        stdin: columns with inputs and outputs.
        cases: column with rows of `input` and `output`: of calls if there is an entry, else as of `stdin`.
        prelude: column with what comes before the program, such as imports.
        grading: options of `CodeRules`.
    """

    language: Literal["python"] = "python"
    entry: str = ""
    tests: str = ""
    calls: Mapping[str, str] = field(default_factory=dict)
    stdin: Mapping[str, str] = field(default_factory=dict)
    cases: str = ""
    prelude: str = ""
    grading: Mapping[str, Any] = field(default_factory=dict)

    def answers(self, outputs: Outputs, docs: Sequence[object] = ()) -> list[list[Answer]]:
        """The program of every sample, by question, with what came of it.

        Raises:
            GradingError: there is no sandbox here.
            TaskError: a row has no such column, or what is in it is no test.
        """
        tested = [self.tests_of(doc) for doc in docs]
        parts = self.parts(outputs)
        entries = [one.entry for one in tested] or [""] * len(parts)
        texts = [(part, entry) for some, entry in zip(parts, entries, strict=True) for part in some]
        programs = iter(_programs(texts))
        found = [[Answer.of(output, next(programs)) for output in samples] for samples in outputs]
        if docs:
            self._run(found, tested)
        return found

    def check(self) -> None:
        """Check that programs can run here.

        Raises:
            GradingError: there is no sandbox.
        """
        logger.info("programs run in a sandbox: %s", _sandbox(CodeRules.of(dict(self.grading)).packages).mechanism)

    @property
    def where(self) -> str:
        """How programs are confined here, and which Python runs them."""
        mechanism = _sandbox(CodeRules.of(dict(self.grading)).packages).mechanism
        return f"{mechanism}, Python {platform.python_version()}"

    def of(self, text: str) -> str:
        """The program in a text, whatever it defines."""
        return program_in(text, "")

    def tests_of(self, doc: object) -> Tests:
        """The tests of a row.

        Raises:
            TaskError: it has none, or a column is missing.
        """
        if not isinstance(doc, Mapping):
            raise TaskError("a row without columns has no tests")
        named = _text(doc, self.entry) if self.entry else ""
        entry = _called(named) if named else ""
        prelude = _text(doc, self.prelude) if self.prelude else ""
        if self.tests:
            statements = _listed(doc, self.tests)
            return Tests(entry, prelude, tuple(_with_check(str(one), entry) for one in statements))
        if self.calls:
            calls, expected = (_listed(doc, self.calls[name]) for name in ("arguments", "expected"))
            _same_length(calls, expected, self.calls)
            return Tests(entry, prelude, calls=tuple(_arguments(one) for one in calls), expected=tuple(expected))
        if self.cases:
            return _of_cases(_cases(doc, self.cases), entry, prelude)
        inputs, outputs = (_listed(doc, self.stdin[name]) for name in ("inputs", "outputs"))
        _same_length(inputs, outputs, self.stdin)
        return Tests(entry, prelude, inputs=tuple(map(str, inputs)), outputs=tuple(map(str, outputs)))

    def _run(self, found: Sequence[Sequence[Answer]], tested: Sequence[Tests]) -> None:
        """Run each program once for a question, and keep what came of it with the answers that it is."""
        rules = CodeRules.of(dict(self.grading))
        jobs = list(dict.fromkeys((at, str(answer)) for at, some in enumerate(found) for answer in some if answer))
        if not jobs:
            return
        sandbox = _sandbox(rules.packages)
        logger.info("running %d programs with their tests: %s", len(jobs), sandbox.mechanism)
        outcomes: dict[tuple[int, str], ProgramRun] = {}
        started = news = time.monotonic()

        def run(job: tuple[int, str]) -> ProgramRun:
            return _run(sandbox, job[1], tested[job[0]], rules)

        with ThreadPoolExecutor(sandbox.workers) as pool:
            for job, outcome in zip(jobs, pool.map(run, jobs), strict=True):
                outcomes[job] = outcome
                if (now := time.monotonic()) - news > _NEWS:
                    news, left = now, (now - started) / len(outcomes) * (len(jobs) - len(outcomes))
                    logger.info("%d of %d programs run, about %d s left", len(outcomes), len(jobs), left)
        for at, some in enumerate(found):
            for answer in some:
                answer.run = outcomes.get((at, str(answer)))


class CodeRules(Rules):
    """Options of answers that are programs."""

    KIND: ClassVar[str] = "code"
    EXTRACTOR: ClassVar[type[BaseExtractor]] = CodeExtractor
    VOTES: ClassVar[bool] = False
    seconds: Annotated[float, Field(gt=0, le=600, description="CPU seconds for each test")] = 6.0
    memory: Annotated[int, Field(ge=64, le=65_536, description="MiB of memory")] = 512
    compare_output: Annotated[
        Literal["lines", "exact", "numbers"],
        Field(description="how output is compared: line by line, exactly, or with equal numbers in each line"),
    ] = "lines"
    tolerance: Annotated[float | None, Field(gt=0, lt=1, description="relative and absolute, of numbers")] = None
    packages: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], ...],
        Field(description="that programs may import besides the standard library"),
    ] = ()

    def compare(self, pairs: Pairs) -> list[bool | FailureReason]:
        """Whether each program passed all tests, which its extractor has found out.

        Raises:
            GradingError: it has not been run: its tests are in the dataset.
        """
        return [grade.correct or _failure(grade) for grade in self.grades(pairs)]

    def grades(self, pairs: Pairs) -> list[Grade]:
        """The grade of each program, with the reason if it did not pass."""
        found = []
        for _, answer in pairs:
            run = getattr(answer, "run", None)
            if run is None and answer:
                raise GradingError("programs are graded with their dataset's tests, which are not here: evaluate again")
            found.append(run.grade if run else Grade(False, "no answer"))
        return found

    def clusters(self, questions: Sequence[Sequence[str]]) -> list[Labels]:
        """Programs don't vote."""
        return [[None] * len(answers) for answers in questions]

    def extra(self, gold: str, answers: Sequence[str]) -> dict[str, float]:
        """`tests`: share of tests that passed."""
        shares = [run.share if (run := getattr(answer, "run", None)) else 0.0 for answer in answers]
        return {"tests": sum(shares) / len(shares)} if shares else {}

    def fault(self, gold: str) -> str:
        """What is wrong with a gold answer, which is a hash of the tests."""
        return "" if gold.startswith(TESTED) else f"is no hash of tests, which begins with {TESTED}"


@cache
def _sandbox(packages: tuple[str, ...]) -> Sandbox:
    return Sandbox(packages)


# Programs in texts ------------------------------------------------------------------------------------


def _programs(texts: Sequence[tuple[str, str]]) -> list[str]:
    """The program in each text that defines an entry point; found in workers, because parsing is not safe."""
    distinct = list(dict.fromkeys(texts))
    outcomes = dict(zip(distinct, in_workers(program_in, distinct), strict=True))
    return [outcomes[text].value or "" for text in texts]


def program_in(text: str, entry: str) -> str:
    r"""The last fenced block that is Python and defines `entry`, else the last that is Python, else the last.

    Blocks that say that they are Python come before those that don't say what they are; of other languages, none is a
    program.

    >>> program_in("First:\n```python\ndef f(x): return x\n```\nThen `f(1)`:\n```\nprint(f(1))\n```", "f")
    'def f(x): return x\n'
    """
    text = own_turn(text.replace("\r\n", "\n"))
    found = [one for one in _blocks(text) if _is_python(one.language) or one.language in _UNSAID][-_MOST_BLOCKS:]
    if not found:
        return text if _defines(text, entry) and _does_something(text) else ""
    said = [block.source for block in found if _is_python(block.language)]
    for some in (said, [block.source for block in found]):
        sound = [source for source in some if len(source) <= _LONGEST and _does_something(source)]
        if defining := [source for source in sound if _defines(source, entry)]:
            return defining[-1]
    sound = [one.source for one in found if len(one.source) <= _LONGEST and _does_something(one.source)]
    return (sound or said or [block.source for block in found])[-1]


_UNSAID = ("", "text", "plaintext", "txt", "code")  # languages of blocks that don't say what they are
_MARKDOWN = ("markdown", "md")
_QUOTES = ('"""', "'''")
_PARSED = 20  # fences at which it is tried whether the program above is whole
_OPENING = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^`\n]*$")
_INLINE = re.compile(r"^.*\S[ \t]*(?P<fence>`{3,})(?P<language>python3?|py)[ \t]*$")  # after words


def _is_python(language: str) -> bool:
    return re.fullmatch(r"(?:i?python|py|pycon)[\d.]*", language) is not None


class _Block(NamedTuple):
    """What is between two fences, and the language that the first one names."""

    language: str
    source: str


def _blocks(text: str) -> Iterator[_Block]:
    """The fenced blocks of a text (CommonMark), the last one perhaps without its end; those within Markdown, too."""
    lines = text.split("\n")
    start, fence, language, indent = 0, "", "", ""
    odd = dict.fromkeys(_QUOTES, False)  # whether a block has an odd number of them, as within a docstring
    tries = _PARSED

    def source(end: int, last: str = "") -> str:
        return "\n".join(one.removeprefix(indent) for one in [*lines[start:end], *([last] if last else [])])

    def is_whole(end: int, last: str = "") -> bool:
        nonlocal tries
        tries -= 1
        return tries >= 0 and bool(_body(source(end, last)))

    def stands_within(at: int) -> bool:
        """Whether a fence stands in a docstring: the program is whole at a later one, and not here."""
        later = (end for end in range(at + 1, len(lines)) if _closes(lines[end], fence))
        return not is_whole(at) and any(is_whole(end) for end in islice(later, max(0, tries)))

    for at, line in enumerate(lines):
        opening = _OPENING.match(line) or _INLINE.match(line)
        anew = opening is not None and _is_python(opening["language"].lower()) and language == ""
        if fence:
            last = "" if _closes(line, fence) else line.rstrip().removesuffix(fence)
            behind = line.rstrip().endswith(fence) and bool(last.strip()) and is_whole(at, last)
            closes = behind or (_closes(line, fence) and not (any(odd.values()) and stands_within(at)))
            if not (closes or anew):
                odd = {quotes: was ^ bool(line.count(quotes) % 2) for quotes, was in odd.items()}
                continue
            yield from _of_block(language, source(at, last if behind else "") + "\n")
            fence = ""
            if closes:
                continue
        if opening:
            start, fence, language = at + 1, opening["fence"], opening["language"].lower()
            indent, odd = opening.groupdict().get("indent") or "", dict.fromkeys(_QUOTES, False)
    if fence:  # it was cut
        yield from _of_block(language, source(len(lines)))


def _closes(line: str, fence: str) -> bool:
    return set(line.strip(" \t")) == {fence[0]} and line.count(fence[0]) >= len(fence)


def _of_block(language: str, source: str) -> Iterator[_Block]:
    yield from _blocks(source) if language in _MARKDOWN else [_Block(language, source)]


def _body(source: str) -> list[ast.stmt]:
    """The statements of a program; none if it isn't Python."""
    try:
        return ast.parse(source.lstrip("\ufeff")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _does_something(source: str) -> bool:
    """Whether a text is a program that does more than compute, and not the output of one, such as `[1, 2]`."""
    return any(
        not isinstance(one, ast.Expr) or any(_is_call_of_known(node) for node in ast.walk(one)) for one in _body(source)
    )


def _is_call_of_known(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    return isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in dir(builtins))


def _defines(source: str, entry: str) -> bool:
    """Whether a program defines a name, of a function or class, by itself; any program if no name is asked for."""
    body = _body(source)
    if not entry:
        return bool(body)
    names: set[str] = set()
    for one in body:
        inner = ast.walk(one) if isinstance(one, (ast.If, ast.Try, ast.With)) else [one]
        for node in inner:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return entry.partition(".")[0] in names


# Tests in rows ----------------------------------------------------------------------------------------


def _text(doc: Mapping[str, Any], column: str) -> str:
    if column not in doc:
        raise TaskError(f"no column {column!r} with tests; known: {', '.join(map(str, doc))}")
    value = doc[column]
    return str(value[0]) if isinstance(value, (list, tuple)) and value else str(value)


def _listed(doc: Mapping[str, Any], column: str) -> Sequence[Any]:
    """The members of a column: a list, a list as JSON, or one text."""
    if column not in doc:
        raise TaskError(f"no column {column!r} with tests; known: {', '.join(map(str, doc))}")
    value = doc[column]
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            value = [value]
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    if not found:
        raise TaskError(f"column {column!r} holds no test")
    return found


def _cases(doc: Mapping[str, Any], column: str) -> list[Mapping[str, Any]]:
    """The rows of a column, which may be an object that reads them now, to keep them out of files."""
    read = getattr(doc.get(column), "rows", None)
    rows = read() if read else _listed(doc, column)
    if not rows or not all(isinstance(one, Mapping) and {"input", "output"} <= one.keys() for one in rows):
        raise TaskError(f"column {column!r} holds no rows with input and output")
    return list(rows)


def _of_cases(rows: Sequence[Mapping[str, Any]], entry: str, prelude: str) -> Tests:
    """Tests in LiveCodeBench's form: a call has an argument on each line, as JSON, and so has what it returns."""
    if not entry:
        pairs = [(str(one["input"]), str(one["output"])) for one in rows]
        return Tests("", prelude, inputs=tuple(one for one, _ in pairs), outputs=tuple(other for _, other in pairs))
    try:
        calls = tuple([json.loads(line) for line in str(one["input"]).split("\n") if line.strip()] for one in rows)
        return Tests(entry, prelude, calls=calls, expected=tuple(json.loads(str(one["output"])) for one in rows))
    except ValueError as error:
        raise TaskError(f"a test of {entry} is no JSON: {error}") from None


def _arguments(value: Any) -> Sequence[object]:
    """The arguments of a call: a list, or JSON of one."""
    found = json.loads(value) if isinstance(value, str) else value
    return found if isinstance(found, list) else [found]


def _same_length(some: Sequence[object], others: Sequence[object], columns: Mapping[str, str]) -> None:
    if len(some) != len(others):
        raise TaskError(
            f"columns {', '.join(map(repr, columns.values()))} of a row: {len(some)} and {len(others)} tests"
        )


def _called(text: str) -> str:
    """The name of a function: the text, or what the test that it is calls."""
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        return text
    try:
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        calls = []
    names = [call.func.id for call in calls if isinstance(call.func, ast.Name)]
    own = [name for name in names if name not in dir(builtins)]
    if not own:
        raise TaskError(f"no name of a function, and no test that calls one: {text[:60]!r}")
    return own[0]


def _with_check(test: str, entry: str) -> str:
    """A test, with the call of the function `check` that it defines."""
    return f"{test}\n\ncheck({entry})\n" if re.search(r"(?m)^def check\(", test) else test


# Running ----------------------------------------------------------------------------------------------


def _run(sandbox: Sandbox, program: str, tests: Tests, rules: CodeRules) -> ProgramRun:
    """Run a program with its tests."""
    limits = ProgramLimits(seconds=rules.seconds, memory=rules.memory << 20)
    if tests.statements:
        tested = sandbox.tests(program, tests.entry, tests.statements, limits, prelude=tests.prelude)
        outcomes = [*map(_of_test, tested, tests.statements)]
    elif tests.calls:
        called = sandbox.calls(program, tests.entry, tests.calls, limits, prelude=tests.prelude)
        outcomes = [*map(_of_call, called, tests.calls, tests.expected, [rules.tolerance] * len(called))]
    else:
        outcomes = list(_of_inputs(sandbox, program, tests, limits, rules))
    passed = sum(not one.reason for one in outcomes)
    if passed == tests.size:
        return ProgramRun(Grade(True, "correct"), 1.0)
    at, first = next((at, one) for at, one in enumerate(outcomes, 1) if one.reason)
    if first.reason == "error" and first.says.startswith(_NO_PYTHON):
        return ProgramRun(Grade(False, "unparsable"), 0.0, _short(first.says.removeprefix(_NO_PYTHON)))
    what = ": ".join(filter(None, (f"test {at} of {tests.size}", first.test, first.says or first.reason)))
    return ProgramRun(Grade(False, first.reason or "wrong"), passed / tests.size, _short(what))


class _Outcome(NamedTuple):
    """How a test ended: why it failed, if it did, what is said of that, and the test in words if that says more."""

    reason: Reason | Literal["wrong"] = ""
    says: str = ""
    test: str = ""


def _of_test(tested: Tested, statement: str) -> _Outcome:
    if tested.passed:
        return _Outcome()
    shown = statement if len(statement) <= _SHOWN and "\n" not in statement else ""
    says = tested.says.removeprefix("AssertionError").strip(": ") or ("not so" if shown else "")
    return _Outcome(tested.reason or "wrong", says, shown)


def _of_call(called: Called, arguments: Sequence[object], expected: object, tolerance: float | None) -> _Outcome:
    if called.reason:
        return _Outcome(called.reason, called.says)
    if same_value(expected, called.value, tolerance):
        return _Outcome()
    given = ", ".join(map(_shown, arguments))
    return _Outcome("wrong", f"({given}) gave {_shown(called.value)}, expected {_shown(expected)}")


def _of_inputs(
    sandbox: Sandbox, program: str, tests: Tests, limits: ProgramLimits, rules: CodeRules
) -> Iterator[_Outcome]:
    """How each input ended; none is tried after the first that takes too long, or once it has waited too long."""
    waited = 0.0
    for given, expected in zip(tests.inputs, tests.outputs, strict=True):
        started = time.monotonic()
        ended: Ended = sandbox.program(program, given, limits, prelude=tests.prelude)
        waited += max(0.0, time.monotonic() - started - BY_THE_CLOCK * ended.seconds)
        if waited > limits.deadline and not ended.reason:
            yield _Outcome("timeout", "it waits instead of computing")
            return
        if ended.reason:
            yield _Outcome(ended.reason, ended.says)
            if ended.reason == "timeout":
                return
        elif same_output(expected, ended.output.decode("utf-8", "replace"), rules.compare_output, rules.tolerance):
            yield _Outcome()
        else:
            printed = _shown(ended.output.decode("utf-8", "replace"))
            yield _Outcome("wrong", f"printed {printed}, expected {_shown(expected)}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # of a number with too many digits
        text = f"a number of {value.bit_length():,} bits" if isinstance(value, int) else "numbers with too many digits"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _short(text: str) -> str:
    """A text in a line that can be written to a file, whatever a program has said."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())[:400]


# Comparing --------------------------------------------------------------------------------------------


def same_value(expected: object, value: object, tolerance: float | None = None) -> bool:
    """Whether a value is the expected one: tuples count as lists, and numbers may differ by the tolerance.

    >>> same_value([1, 2], (1, 2)), same_value(1, 1.0), same_value(0.3, 0.1 + 0.2), same_value(0.3, 0.1 + 0.2, 1e-6)
    (True, True, False, True)
    """
    if isinstance(expected, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(expected) == len(value) and all(
            same_value(one, other, tolerance) for one, other in zip(expected, value, strict=True)
        )
    if isinstance(expected, dict) and isinstance(value, dict):
        return expected.keys() == value.keys() and all(
            same_value(one, value[key], tolerance) for key, one in expected.items()
        )
    numbers = [isinstance(one, (int, float)) and not isinstance(one, bool) for one in (expected, value)]
    if tolerance is not None and all(numbers):
        return _near(expected, value, tolerance)  # type: ignore[arg-type]  # both are numbers
    return bool(expected == value)


def _near(expected: float | Decimal, value: float | Decimal, tolerance: float) -> bool:
    """Whether numbers differ by no more than a tolerance, relative or absolute; computed exactly."""
    if not all(isinstance(one, int) or math.isfinite(one) for one in (expected, value)):
        return expected == value
    one, other = Fraction(expected), Fraction(value)
    return abs(one - other) <= Fraction(str(tolerance)) * max(Fraction(1), abs(one))


def same_output(expected: str, output: str, way: str = "lines", tolerance: float | None = None) -> bool:
    r"""Whether an output is the expected one, as LiveCodeBench compares: line by line.

    Spaces around a line, and empty lines around the text, don't count, but by the way `exact`; by the way `numbers`,
    the words of a line are compared, and words that are numbers by what they say.

    >>> same_output("1\n2", "1 \n2\n"), same_output("0.50", "0.5"), same_output("0.50", "0.5", "numbers")
    (True, False, True)
    """
    if way == "exact":
        return expected == output
    lines, others = (text.strip().replace("\r\n", "\n").split("\n") for text in (expected, output))
    if len(lines) != len(others):
        return False
    pairs = [(one.strip(), other.strip()) for one, other in zip(lines, others, strict=True)]
    return all(one == other or (way == "numbers" and _same_words(one, other, tolerance)) for one, other in pairs)


def _same_words(expected: str, output: str, tolerance: float | None) -> bool:
    words, others = expected.split(), output.split()
    return len(words) == len(others) and all(
        one == other or _same_number(one, other, tolerance) for one, other in zip(words, others, strict=True)
    )


_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MOST_DIGITS = 400


def _same_number(expected: str, output: str, tolerance: float | None) -> bool:
    if not all(len(one) <= _MOST_DIGITS and _NUMBER.fullmatch(one) for one in (expected, output)):
        return False
    one, other = Decimal(expected), Decimal(output)
    return one == other if tolerance is None else _near(one, other, tolerance)

"""The sandbox: nothing leaves it, nothing is forged, honest programs run as they would outside."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.errors import GradingError
from lm_eval_ext.grading.code import same_value
from lm_eval_ext.sandbox.confine import landlock_version
from lm_eval_ext.sandbox.launcher import Sandbox, unsupported
from lm_eval_ext.sandbox.pipes import ProgramLimits
from lm_eval_ext.sandbox.plain import decoded, encoded
from lm_eval_ext.sandbox.syscalls import MACHINES, filter_of, table
from tests.shared import case_table, one_line

LIMITS = ProgramLimits(seconds=2, memory=512 << 20, grace=2)
HEADERS = Path("/usr/include/asm-generic/unistd.h"), Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def _works() -> str:
    """Why there is no sandbox here; empty if there is."""
    if reason := unsupported():
        return reason
    try:
        with Sandbox(workers=1) as sandbox:
            str(sandbox.mechanism)
    except GradingError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(_works()), reason=_works() or "it works")


@pytest.fixture(scope="module", params=["bubblewrap", "without"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    inside = request.param == "bubblewrap"
    with Sandbox(workers=2, bubblewrap=inside) as made:
        if inside and not made.mechanism.bubblewrap:
            pytest.skip("bubblewrap is not installed, or may not be used here")
        yield made


def test_it_works_where_the_kernel_has_what_it_takes() -> None:
    """Else all tests here would be skipped if it were broken."""
    if reason := unsupported():
        pytest.skip(reason)
    if not landlock_version():
        pytest.skip("the kernel has no landlock, or it is switched off")
    assert _works() == ""


# Hostile programs -------------------------------------------------------------------------------------

_AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
_READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # Python may be in root's home


def hostile(place: Path, *options: str, before: tuple[str, ...] = ()) -> dict[str, Any]:
    """What came of the hostile programs, in a process of its own."""
    place.chmod(0o777)
    command = [*before, sys.executable, "-m", "tests.hostile_run", str(place), *options]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_hostile(found: dict[str, Any], ways: int = 3) -> None:
    outcomes = [(name, one) for name, some in found["programs"].items() for one in some]
    assert len(outcomes) >= ways * 170
    assert [one for one in outcomes if one[1]["passed"]] == []
    assert [one for one in outcomes if one[1]["says a secret"]] == []
    assert [one for one in outcomes if not one[1]["next is right"]] == []
    assert [one for one in outcomes if one[1]["seconds"] > 60] == []
    assert (found["left"], found["hits"], found["victim"]) == ([], 0, None)
    assert found["secret"] == "hunter2"


@needs_sandbox
def test_hostile_programs_leave_nothing_reach_nothing_and_pass_nothing(tmp_path: Path) -> None:
    check_hostile(hostile(tmp_path, "--one-way"), ways=1)


@needs_sandbox
@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "before"),
    [
        pytest.param([], (), id="in every way"),
        pytest.param(["--without-bubblewrap"], (), id="without bubblewrap"),
        pytest.param(["--like-docker"], (), id="under a filter like Docker's"),
        pytest.param(["--without-bubblewrap"], (*_AS_NOBODY, *_READING), id="unprivileged"),
        pytest.param([], (*_AS_NOBODY, *_READING), id="unprivileged, in bubblewrap where that works"),
    ],
)
def test_hostile_programs_elsewhere(options: list[str], before: tuple[str, ...], tmp_path: Path) -> None:
    if before and (os.geteuid() != 0 or not shutil.which("setpriv")):
        pytest.skip("only root can become nobody, by setpriv")
    where = Path("/tmp") / f"lm-eval-tts-{os.getpid()}" if before else tmp_path  # nobody reaches it
    where.mkdir(exist_ok=True)
    try:
        found = hostile(where, *options, before=before)
    finally:
        if before:
            shutil.rmtree(where)
    assert not options or "bubblewrap" not in found["mechanism"]
    check_hostile(found)


# Honest programs --------------------------------------------------------------------------------------

HONEST = case_table("sandboxed_programs.yaml")["honest"] | {
    "much output": ("print('x' * 3_000_000)", "", "x" * 3_000_000 + "\n"),
    "much input": ("print(len(input()))", "x" * 1_000_000, "1000000\n"),
    "does not read its input": ("print(1)", "x" * 1_000_000, "1\n"),
}


@needs_sandbox
@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_run_as_they_would_outside(name: str, sandbox: Sandbox) -> None:
    source, given, expected = HONEST[name]
    ended = sandbox.program(source, given, LIMITS)
    assert (ended.reason, ended.output.decode()) == ("", expected), ended.says


@needs_sandbox
@pytest.mark.parametrize(
    ("source", "reason", "says"),
    [
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("def f(:", "error", "SyntaxError"),
        ("import sys\nsys.exit(3)", "error", "it ended with 3"),
        ("x = bytearray(1 << 40)", "memory", ""),
        ("x = []\nwhile True: x.append([0] * 1000)", "memory", ""),
        ("while True: pass", "timeout", ""),
        ("while True: print('x' * 10000)", "output", "more than"),
        ("import os\nos.fork()", "error", "PermissionError"),
        ("raise SystemExit('bad')", "error", "bad"),
    ],
)
def test_what_went_wrong_is_said(source: str, reason: str, says: str, sandbox: Sandbox) -> None:
    ended = sandbox.program(source, "", ProgramLimits(seconds=2, memory=256 << 20, grace=1))
    assert ended.reason == reason and says in ended.says, ended


@needs_sandbox
def test_calls_return_plain_data(sandbox: Sandbox) -> None:
    source = """
        from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
        from fractions import Fraction
        P = namedtuple("P", "x y")
        def f(kind):
            return {"counter": Counter("aab"), "default": defaultdict(int, a=1), "ordered": OrderedDict(a=1),
                    "deque": deque([1, 2]), "point": P(1, 2), "nested": [(1, {2}), {"a": None}], "large": 1 << 100,
                    "text": "ä", "bytes": b"a", "complex": 1j, "range": range(3), "true": True,
                    "fraction": Fraction(1, 3)}[kind]
    """
    expected = {
        "counter": {"a": 2, "b": 1}, "default": {"a": 1}, "ordered": {"a": 1}, "deque": [1, 2], "point": (1, 2),
        "nested": [(1, {2}), {"a": None}], "large": 1 << 100, "text": "ä", "bytes": b"a", "complex": 1j,
        "range": range(3), "true": True, "fraction": Fraction(1, 3),
    }  # fmt: skip
    called = sandbox.calls(textwrap.dedent(source), "f", [[kind] for kind in expected], LIMITS)
    assert [one.value for one in called] == list(expected.values())
    assert all(type(one.value) is type(other) for one, other in zip(called, expected.values(), strict=True))


@needs_sandbox
def test_other_objects_are_there_and_equal_to_nothing(sandbox: Sandbox) -> None:
    source = "import re\nclass Same:\n    __eq__ = lambda *_: True\ndef f(x): return re.match('a', x)\n" + (
        "def g(x): return Same()\ndef h(x): return [Same()]"
    )
    statements = ("assert f('a') is not None", "assert f('b') is None", "assert f('a') == 1", "assert f('a') == f('a')")
    assert [one.passed for one in sandbox.tests(source, "f", statements, LIMITS)] == [True, True, False, False]
    for name in ("g", "h"):
        (called,) = sandbox.calls(source, name, [[1]], LIMITS)
        assert not same_value(1, called.value) and not same_value([1], called.value)
        assert "<Same, which is no plain data>" in repr(called.value)


@needs_sandbox
def test_what_takes_long_to_read_is_no_answer(sandbox: Sandbox) -> None:
    source = """
        from fractions import Fraction
        def f(x):
            made = object.__new__(Fraction)
            made._numerator, made._denominator = 3 ** x, 2 ** x
            return made
        def g(x): return "x" * (9 << 20)
    """
    started = time.monotonic()
    (called,) = sandbox.calls(textwrap.dedent(source), "f", [[2_000_000]], LIMITS)
    assert called.reason == "error" and "a fraction of more than" in called.says
    assert time.monotonic() - started < 20
    (called,) = sandbox.calls(textwrap.dedent(source), "g", [[1]], LIMITS)
    assert called.reason == "output" and "more than 8,388,608 bytes" in called.says


@needs_sandbox
def test_a_program_can_t_wait_in_each_test(sandbox: Sandbox) -> None:
    limits = ProgramLimits(seconds=0.1, grace=1)
    started = time.monotonic()
    called = sandbox.calls("import time\ndef f(x): time.sleep(0.8)", "f", [[one] for one in range(40)], limits)
    assert called[-1].reason == "timeout" and len(called) < 10
    assert time.monotonic() - started < 15, "32 seconds by the clock if it could"


@needs_sandbox
def test_a_call_that_fails_leaves_the_others(sandbox: Sandbox) -> None:
    source = "def f(x):\n    if x == 2: raise ValueError('two')\n    while x == 4: pass\n    return x"
    called = sandbox.calls(source, "f", [[1], [2], [3], [4], [5]], ProgramLimits(seconds=0.3, grace=1))
    assert [(one.reason, one.value) for one in called] == [("", 1), ("error", None), ("", 3), ("timeout", None)]
    assert called[1].says == "ValueError: two"


@needs_sandbox
def test_a_method_is_called_of_a_new_object(sandbox: Sandbox) -> None:
    source = "class Solution:\n    n = 0\n    def f(self, x):\n        self.n += x\n        return self.n"
    assert [one.value for one in sandbox.calls(source, "Solution.f", [[1], [2]], LIMITS)] == [1, 2]


@needs_sandbox
def test_tests_see_arguments_that_were_changed_and_exceptions(sandbox: Sandbox) -> None:
    source = "def f(x, bad=False):\n    if bad: raise KeyError('k')\n    x.append(3)\n    x.sort(reverse=True)"
    statements = (
        "some = [1, 2]\nassert f(some) is None\nassert some == [3, 2, 1], some",
        "try: candidate([], bad=True)\nexcept KeyError as error: assert 'k' in str(error)\nelse: assert False",
        "assert f([]) == 1, 'a message'",
        "raise TypeError('of the test')",
    )
    tested = sandbox.tests(source, "f", statements, LIMITS)
    assert [(one.passed, one.reason) for one in tested] == [(True, ""), (True, ""), (False, ""), (False, "error")]
    assert tested[2].says == "AssertionError: a message"


@needs_sandbox
def test_a_program_that_is_called_is_no_main_program(sandbox: Sandbox) -> None:
    source = "from __future__ import annotations\ndef f(x: List[int]): return len(x)\n" + (
        "if __name__ == '__main__':\n    print(f(input()))\n    raise SystemExit(1)"
    )
    prelude = "from typing import *"
    assert sandbox.calls(source, "f", [[[1]]], LIMITS, prelude=prelude)[0].value == 1
    assert sandbox.tests(source, "f", ["assert f([1]) == 1"], LIMITS, prelude=prelude)[0].passed


@needs_sandbox
def test_calls_may_change_arguments_into_anything_and_return_iterators(sandbox: Sandbox) -> None:
    source = "def f(a):\n    a.append(a)\n    return len(a)\ndef g(x): return map(str, range(x))"
    assert sandbox.calls(source, "f", [[[1]]], LIMITS)[0].value == 2
    assert sandbox.tests(source, "f", ["assert f([1]) == 2"], LIMITS)[0].passed
    tested = sandbox.tests(source, "g", ["assert list(g(2)) == ['0', '1']", "assert g(2) != ['0', '1']"], LIMITS)
    assert [one.passed for one in tested] == [True, True]


@needs_sandbox
@pytest.mark.parametrize(("source", "test"), case_table("sandboxed_programs.yaml")["led"].values())
def test_what_a_program_does_instead_passes_no_test(source: str, test: str, sandbox: Sandbox) -> None:
    tested = sandbox.tests(source, "f", [test], ProgramLimits(seconds=0.3, grace=1))
    assert [one.passed for one in tested] == [False], tested


SEND = """
import os, struct
def send(m):
    for n in range(2, 12):
        try: os.write(n, struct.pack('>I', len(m)) + m)
        except OSError: pass
    os._exit(118)
"""


@needs_sandbox
@pytest.mark.parametrize(
    "message",
    [
        b'["dict",[["failed",["int","0x' + b"f" * 10_000 + b'"]]]]',
        b'["dict",[["says",["int","0x1"]],["raised","X"]]]',
        b'["dict",[["value",["set",[' + b",".join(b'["int","%x"]' % (k * (2**61 - 1)) for k in range(3000)) + b"]]]]]",
        b"[" + b"[]," * 30_000 + b"0]", b"not confined: hi", b'["dict",[["value",["Decimal","sNaN"]]]]',
        b'["dict",[["value",["Decimal","x"]]]]', b'["dict",[["value",["Fraction","0x1","0x0"]]]]',
    ],
)  # fmt: skip
def test_no_message_ends_more_than_its_own_program(message: bytes, sandbox: Sandbox) -> None:
    started = time.process_time()
    assert all(one.reason for one in sandbox.calls(f"{SEND}\nsend({message!r})", "f", [[1]], LIMITS))
    in_call = sandbox.calls(f"{SEND}\ndef f(x): send({message!r})", "f", [[1]], LIMITS)
    assert all(one.reason or one.value != 2 for one in in_call)
    ended = sandbox.program(f"import os\nos.write(2, {message[:1000]!r})\nos._exit(118)", "", LIMITS)
    assert ended.reason == "error"
    assert time.process_time() - started < 3


@needs_sandbox
def test_output_is_limited_while_input_is_not_read(sandbox: Sandbox) -> None:
    source = "import os\nwhile True: os.write(1, b'a' * 65536)"
    started = time.monotonic()
    assert sandbox.program(source, "x" * 1_000_000, LIMITS).reason == "output"
    assert time.monotonic() - started < 10


@needs_sandbox
def test_installed_packages_can_t_be_read(sandbox: Sandbox) -> None:
    source = "import os\nprint(os.listdir(os.path.dirname(os.__file__) + '/site-packages'))"
    ended = sandbox.program(source, "", LIMITS)
    assert ended.reason == "error" and "PermissionError" in ended.says, ended


@needs_sandbox
def test_no_test_is_in_the_process_of_the_program(sandbox: Sandbox) -> None:
    """The program looks through all of its memory for a word that only the test holds."""
    source = """
        import gc
        def f(x):
            found = [o for o in gc.get_objects() if "x" * 0 + "swordfish"[::-1] in repr(o)[:100000]]
            return len(found)
    """
    tested = sandbox.tests(textwrap.dedent(source), "f", ["assert f('x') == 0, 'hsifdrows'"], LIMITS)
    assert [one.passed for one in tested] == [True], tested


@needs_sandbox
def test_a_package_may_be_imported_if_it_is_named() -> None:
    pytest.importorskip("numpy")
    source = "import numpy as np\nprint(int(np.arange(5).sum()), float(np.linalg.det(np.eye(2))))"
    with Sandbox(["numpy"], workers=1) as with_numpy, Sandbox(workers=1) as without:
        assert with_numpy.program(source, "", ProgramLimits(memory=2 << 30)).output == b"10 1.0\n"
        assert "ModuleNotFoundError" in without.program(source, "", LIMITS).says
    with pytest.raises(GradingError, match="'no_such_package', which is not installed"):
        Sandbox(["no_such_package"], workers=1).program("", "", LIMITS)


# Ends -------------------------------------------------------------------------------------------------


def zygotes(parent: int) -> set[int]:
    """Processes of sandboxes that a process has started, by itself or within bubblewrap."""
    below = psutil.Process(parent).children(recursive=True)
    return {one.pid for one in below if any(word.endswith("sandbox/zygote.py") for word in one.cmdline())}


@needs_sandbox
def test_a_sandbox_that_is_killed_is_started_again() -> None:
    others = zygotes(os.getpid())
    with Sandbox(workers=1, bubblewrap=False) as sandbox:
        assert sandbox.program("print(1)", "", LIMITS).output == b"1\n"
        (own,) = zygotes(os.getpid()) - others
        threading.Timer(0.3, os.kill, (own, signal.SIGKILL)).start()
        ended = sandbox.program("import time\ntime.sleep(1)\nprint(2)", "", LIMITS)
        assert ended.output == b"2\n"
        (again,) = zygotes(os.getpid()) - others
        assert again != own


@needs_sandbox
@pytest.mark.parametrize("sandboxed", [True, False], ids=["bubblewrap", "without"])
def test_nothing_outlives_a_run_that_is_killed(sandboxed: bool) -> None:
    script = f"""
        from lm_eval_ext.sandbox.launcher import Sandbox
        from lm_eval_ext.sandbox.pipes import ProgramLimits
        sandbox = Sandbox(workers=1, bubblewrap={sandboxed})
        sandbox.mechanism
        print("started", flush=True)
        sandbox.program("while True: pass", "", ProgramLimits(seconds=100))
    """
    run = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None and run.stdout.readline() == "started\n"
    time.sleep(0.5)
    started = psutil.Process(run.pid).children(recursive=True)
    assert len(started) >= 2  # the zygote, and the program
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []


@needs_sandbox
def test_it_starts_where_input_output_and_errors_are_closed(tmp_path: Path) -> None:
    """As of some daemons: then the next file that is opened takes one of their numbers."""
    script = f"""
        from pathlib import Path
        from lm_eval_ext.sandbox.launcher import Sandbox
        from lm_eval_ext.sandbox.pipes import ProgramLimits
        with Sandbox(workers=1, bubblewrap=False) as sandbox:
            ended = sandbox.program("print(int(input()) + 1)", "41", ProgramLimits())
            Path({str(tmp_path / "said")!r}).write_bytes(ended.output)
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], check=True, timeout=120)
    assert (tmp_path / "said").read_bytes() == b"42\n"


@needs_sandbox
def test_verdicts_don_t_depend_on_load() -> None:
    source = "t = 0\nfor i in range(3_000_000): t += i\nprint(t)"
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(8)]
    try:
        with Sandbox(workers=2) as sandbox:
            limits = ProgramLimits(seconds=3)
            assert [sandbox.program(source, "", limits).output for _ in range(3)] == [b"4499998500000\n"] * 3
            assert sandbox.program("while True: pass", "", ProgramLimits(seconds=0.3)).reason == "timeout"
    finally:
        for one in busy:
            one.kill()


def test_elsewhere_it_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[tuple[Callable[[], None], str]] = [
        (lambda: monkeypatch.setattr(sys, "platform", "darwin"), "run it in a container on Linux"),
        (lambda: monkeypatch.setattr(platform, "machine", lambda: "i686"), "i686"),
        (lambda: monkeypatch.setattr(platform, "libc_ver", lambda: ("", "")), "without glibc"),
    ]
    for change, expected in changes:
        with monkeypatch.context():
            change()
            with one_line(GradingError, match=expected):
                Sandbox()
        monkeypatch.undo()


# Parts ------------------------------------------------------------------------------------------------

_LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.complex_numbers(allow_nan=False)
)  # fmt: skip
_KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
_PLAIN = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(_KEYS, inner) | st.sets(_KEYS)
        | st.frozensets(_KEYS)
    ),
    max_leaves=20,
)  # fmt: skip


@given(_PLAIN)
def test_plain_data_arrives_as_it_was(value: object) -> None:
    found = decoded(encoded(value))
    assert repr(found) == repr(value) or found == value
    assert type(found) is type(value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_what_is_no_plain_data_is_refused(data: bytes) -> None:
    try:
        decoded(data)
    except ValueError as error:
        assert "no plain data" in str(error)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_is_sound(machine: str) -> None:
    code = filter_of(machine)
    assert len(code) % 8 == 0 and len(code) // 8 < 4096  # what the kernel takes
    column = MACHINES.index(machine)
    numbers = [one[column] for group in table()["allowed"] for one in group["calls"].values()]
    numbers += [rule["numbers"][column] for rule in table()["checked"]]
    numbers += [one[column] for one in table()["refused"].values()]
    known = [number for number in numbers if number is not None]
    assert len(known) == len(set(known))
    assert all(group["for"] for group in table()["allowed"]) and all(rule["for"] for rule in table()["checked"])


@pytest.mark.parametrize(("machine", "header"), list(zip(MACHINES, HEADERS[::-1], strict=True)))
def test_system_calls_have_the_kernel_s_numbers(machine: str, header: Path) -> None:
    if not header.is_file():
        pytest.skip(f"{header} is not installed")
    known = {
        name: int(number)
        for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\s*$", header.read_text(), re.MULTILINE)
    }
    column = MACHINES.index(machine)
    calls = {name: one for group in table()["allowed"] for name, one in group["calls"].items()}
    calls |= {rule["call"]: rule["numbers"] for rule in table()["checked"]} | table()["refused"]
    aliases = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    wrong = {
        name: numbers[column]
        for name, numbers in calls.items()
        if numbers[column] is not None and known.get(aliases.get(name, name), numbers[column]) != numbers[column]
    }
    assert wrong == {}

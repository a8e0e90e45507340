"""Outside of the sandbox: starts it in the strongest way that works here, hands it programs, reads what they say.

>>> with Sandbox() as sandbox:  # doctest: +SKIP
...     sandbox.program("print(int(input()) + 1)", "41", ProgramLimits())
Ended(reason='', says='', output=b'42\\n')
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeVar

from lm_eval_ext.errors import GradingError
from lm_eval_ext.paths import above_streams
from lm_eval_ext.sandbox.pipes import WAITING, GoneError, PipedRun, ProgramLimits
from lm_eval_ext.sandbox.plain import MEMORY, encoded
from lm_eval_ext.sandbox.syscalls import MACHINES, filter_of

_Result = TypeVar("_Result")
Reason = Literal["", "error", "timeout", "memory", "output"]
_FOLDER = Path(__file__).parent
_ATTEMPTS = 3  # of a sandbox that was killed from outside
_INSTALLED = ("site-packages", "dist-packages")  # folders of packages, which programs don't read
_SHORT = 1 << 16  # bytes of a message that says how something went
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")
# One arena, because more of them use up the address space of programs with threads.
_ENVIRONMENT = {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
_LIMITS: Mapping[str, Reason] = {"cpu": "timeout", "deadline": "timeout", "threads": "memory", "memory": "memory"}
_TRIED = """
import os, socket
def attempt(what, *arguments):
    try:
        what(*arguments)
    except OSError:
        return
    raise SystemExit(f"{what.__name__} works")
attempt(os.fork)
attempt(socket.socket)
attempt(os.listdir, "/")
attempt(open, os.__file__, "a")
attempt(os.kill, os.getppid(), 0)
print(sum(map(int, input().split())))
"""


class Ended(NamedTuple):
    """How a program ended.

    Attributes:
        reason: why it failed; empty if it did not.
        says: the exception, or what else went wrong, in a line that the program can choose.
        output: what it wrote.
        seconds: of CPU time.
    """

    reason: Reason = ""
    says: str = ""
    output: bytes = b""
    seconds: float = 0.0


class Called(NamedTuple):
    """How a call ended: its value, which is plain data, if there is no reason why not."""

    reason: Reason = ""
    says: str = ""
    value: object = None


class Tested(NamedTuple):
    """How a test ended; `wrong` is a failed assertion."""

    passed: bool
    reason: Reason = ""
    says: str = ""


@dataclass(frozen=True)
class Mechanism:
    """How programs are confined here.

    Attributes:
        bubblewrap: where its program is; empty if it isn't used.
        landlock: version of the kernel's landlock.
    """

    bubblewrap: str
    landlock: int

    def __str__(self) -> str:
        return f"seccomp and landlock {self.landlock}" + (" in bubblewrap" if self.bubblewrap else "")


def unsupported() -> str:
    """Why there can be no sandbox here; empty if one may work, which only starting it shows."""
    if sys.platform != "linux":
        return f"there is no sandbox for {platform.system() or sys.platform}: run it in a container on Linux"
    if (machine := platform.machine()) not in MACHINES or sys.maxsize < 1 << 32:
        bits = 64 if sys.maxsize > 1 << 32 else 32
        return f"there is no sandbox for {machine} with {bits} bits; expected one of: {', '.join(MACHINES)}"
    if platform.libc_ver()[0] != "glibc":
        return "there is no sandbox without glibc: its system calls are known, those of other C libraries aren't"
    return ""


class Sandbox:
    """Processes in which untrusted programs run, started when they are needed; safe to use from any thread.

    Args:
        packages: that programs may import besides the standard library.
        workers: how many programs run at a time; as many as processors by default.
        bubblewrap: False does without it also where it works.

    Raises:
        GradingError: programs can't be confined here.
    """

    def __init__(self, packages: Sequence[str] = (), *, workers: int | None = None, bubblewrap: bool = True) -> None:
        if reason := unsupported():
            raise GradingError(reason)
        self._packages = tuple(packages)
        self._idle: queue.SimpleQueue[_Zygote | None] = queue.SimpleQueue()
        self.workers = workers or len(os.sched_getaffinity(0))
        for _ in range(self.workers):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._bubblewrap = bubblewrap
        self._mechanism: Mechanism | None = None
        self._owner = os.getpid()

    @property
    def mechanism(self) -> Mechanism:
        """How programs are confined, which is tried once.

        Raises:
            GradingError: nothing works.
        """
        with self._lock:
            if self._mechanism is None:
                self._mechanism = self._tried()
            return self._mechanism

    def _tried(self) -> Mechanism:
        path = (shutil.which("bwrap") if self._bubblewrap else None) or ""
        why = ""
        for bubblewrap in dict.fromkeys((path, "")):  # the stronger one first
            try:
                zygote = _Zygote(bubblewrap, self._packages)
            except GoneError as error:
                why = str(error)
                continue
            try:
                ended = zygote.program("", _TRIED, "41 1", ProgramLimits())
            except GoneError as error:
                why = str(error)
            else:
                if (ended.reason, ended.output) == ("", b"42\n"):
                    self._idle.get()
                    self._idle.put(zygote)
                    return Mechanism(bubblewrap, zygote.landlock)
                why = ended.says or f"it printed {ended.output[:60]!r}"
            zygote.close()
        raise GradingError(
            f"no sandbox works here, so programs are not run: {why}; a container on a Linux kernel from 5.13 with "
            "landlock has what it takes"
        )

    def program(self, source: str, given: str, limits: ProgramLimits, *, prelude: str = "") -> Ended:
        """Run a program with a text as its standard input, after a prelude, such as imports.

        Raises:
            GradingError: programs can't be confined here.
        """
        return self._with_zygote(lambda zygote: zygote.program(prelude, source, given, limits))

    def calls(
        self, source: str, entry: str, calls: Sequence[Sequence[object]], limits: ProgramLimits, *, prelude: str = ""
    ) -> list[Called]:
        """Call what a program defines, with each list of arguments; nothing is called after a call that doesn't end.

        Args:
            source: the program.
            entry: a function's name, or `Solution.method`.
            calls: arguments of each call, plain data.
            limits: of each call.
            prelude: what is run before the program.
        """
        return self._with_zygote(lambda zygote: zygote.calls(prelude, source, entry, calls, limits))

    def tests(
        self, source: str, entry: str, tests: Sequence[str], limits: ProgramLimits, *, prelude: str = ""
    ) -> list[Tested]:
        """Run tests of a program, which is `candidate` there, and has its own name; they don't share its process.

        Args:
            source: the program.
            entry: the function that is tested.
            tests: statements, such as asserts; each is one test.
            limits: of each test.
            prelude: what is run before the program, and before the tests: imports, helpers.
        """
        return self._with_zygote(lambda zygote: zygote.tests(prelude, source, entry, tests, limits))

    def _with_zygote(self, work: Callable[[_Zygote], _Result]) -> _Result:
        mechanism = self.mechanism
        with self._lock:
            if self._owner != os.getpid():  # of a forked child, which has none of its own
                self._owner, self._idle = os.getpid(), queue.SimpleQueue()
                for _ in range(self.workers):
                    self._idle.put(None)
        zygote = self._idle.get()
        try:
            for attempt in range(_ATTEMPTS):
                try:
                    if zygote is None:
                        zygote = _Zygote(mechanism.bubblewrap, self._packages)
                    return work(zygote)
                except GoneError as error:  # killed from outside: programs can't
                    if zygote is not None:
                        zygote.close()
                    zygote = None
                    if attempt == _ATTEMPTS - 1:
                        raise GradingError(f"the sandbox ends by itself: {error}") from None
            raise AssertionError
        finally:
            self._idle.put(zygote)

    def close(self) -> None:
        """End all processes that run nothing."""
        for _ in range(self.workers):
            with contextlib.suppress(queue.Empty):
                if zygote := self._idle.get_nowait():
                    zygote.close()
                self._idle.put(None)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Zygote:
    """A process from which programs are forked, seen from outside."""

    def __init__(self, bubblewrap: str, packages: Sequence[str]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs = socket.socket(fileno=above_streams(theirs.detach()))
        paths, readable = _importable(packages)
        python = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
        command = [python, "-I", "-S", "-B", str(_FOLDER / "zygote.py")]
        if bubblewrap:
            command = [bubblewrap, *_bubblewrap(python, readable), *command]
        settings = {
            "orders": theirs.fileno(), "paths": paths, "packages": list(packages), "readable": readable,
            "machine": platform.machine(), "filter": filter_of(platform.machine()).hex(),
        }  # fmt: skip
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno()], start_new_session=True, cwd="/",
                env={"PATH": "/usr/bin:/bin", **_ENVIRONMENT},
            )  # fmt: skip
        self._orders = ours
        ours.settimeout(WAITING)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(settings).encode())
            self._process.stdin.close()
            self.landlock = int(self._reply()["landlock"])
        except (GoneError, OSError) as error:
            said = self._last_words()
            self.close()
            raise GoneError(said or str(error)) from None

    def _last_words(self) -> str:
        if self._process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
        if self._process.poll() is None or self._process.stderr is None:
            return ""
        lines = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else f"it ended with {self._process.returncode}"

    def _reply(self) -> Any:
        try:
            data = self._orders.recv(1 << 16)
        except OSError as error:
            raise GoneError(f"no answer: {error}") from None
        if not data:
            raise GoneError("it has ended")
        return json.loads(data)

    def close(self) -> None:
        """End it, with whatever runs in it."""
        self._orders.close()  # which ends its children, and then itself
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stderr):
            if stream:
                stream.close()

    # Work ---------------------------------------------------------------------------------------------

    def program(self, prelude: str, source: str, given: str, limits: ProgramLimits) -> Ended:
        with PipedRun(self._orders) as run:
            run.child("program", limits, 1, ("input", "source"), ("output", "errors"))
            run.most["output"] = limits.output
            run.start()
            run.write("source", _request({"prelude": prelude, "source": _clean(source)}))
            run.write("input", given.encode("utf-8", "replace"))
            run.until_end()
            status = run.status(0)
            output = run.read("output")
            if len(output) > limits.output:
                return Ended("output", f"more than {limits.output:,} bytes")
            reason, says = _reason(status, run.read("errors"))
            return Ended(reason, says, output, status["seconds"])

    def calls(
        self, prelude: str, source: str, entry: str, calls: Sequence[Sequence[object]], limits: ProgramLimits
    ) -> list[Called]:
        with PipedRun(self._orders) as run:
            run.child("calls", limits, 1 + len(calls), ("requests",), ("replies",))
            run.start()
            if (failed := _loaded(run, prelude, source, entry)) is not None:
                return [Called(*failed)] * max(1, len(calls))
            results: list[Called] = []
            for arguments in calls:
                run.next_test()
                run.write("requests", _request({"args": list(arguments), "kwargs": {}}))
                reply = run.message("replies", limits.output)
                if run.is_too_long:
                    results.append(Called("output", f"more than {limits.output:,} bytes"))
                    break
                results.append(_called(reply) if reply is not None else Called(*_reason(run.end(0), b"")))
                if reply is None:
                    results[-1] = results[-1] if results[-1].reason else Called("error", "it ended without an answer")
                    break
            return results

    def tests(self, prelude: str, source: str, entry: str, tests: Sequence[str], limits: ProgramLimits) -> list[Tested]:
        with PipedRun(self._orders) as run:
            run.child("calls", limits, 1 + len(tests), ("requests",), ("replies",))
            run.child(
                "tests", limits._replace(seconds=2 * limits.seconds), 1 + len(tests), ("tests",), ("outcomes",),
                {"candidate requests": "requests", "candidate replies": "replies"},
            )  # fmt: skip
            run.start()
            if (failed := _loaded(run, prelude, source, entry)) is not None:
                return [Tested(False, *failed)] * max(1, len(tests))
            run.let_go("requests", "replies")
            run.write("tests", _request({"prelude": prelude, "entry": entry, "tests": list(tests)}))
            results: list[Tested] = []
            for _ in tests:
                run.next_test()
                outcome = run.message("outcomes", _SHORT)
                if outcome is None or not outcome.get("passed"):
                    tested, goes_on = _tested(run, outcome)
                    results.append(tested)
                    if not goes_on:
                        break
                else:
                    results.append(Tested(True))
            return results


def _request(content: object) -> bytes:
    """A message with data of the tests.

    Raises:
        GradingError: it is no plain data, or too long.
    """
    try:
        data = encoded(content)
    except (TypeError, ValueError) as error:
        raise GradingError(f"a test can't be passed into the sandbox: {error}") from None
    return struct.pack(">I", len(data)) + data


def _clean(source: str) -> str:
    """A program without halves of characters, which no file can hold."""
    return source.encode("utf-8", "replace").decode("utf-8")


def _words(said: object) -> str:
    """What a program says of itself; nothing if that is no text."""
    return said[:300] if isinstance(said, str) else ""


def _loaded(run: PipedRun, prelude: str, source: str, entry: str) -> tuple[Reason, str] | None:
    """Why a program that answers calls doesn't start; None if it does."""
    run.write("requests", _request({"prelude": prelude, "source": _clean(source), "entry": entry}))
    reply = run.message("replies", _SHORT)
    if reply is None:
        reason, says = _reason(run.end(0), b"")
        return reason or "error", says or "it ended before it was called"
    if "ready" in reply:
        return None
    return "memory" if reply.get("memory") else "error", _words(reply.get("failed"))


def _called(reply: Mapping[str, Any]) -> Called:
    if "value" in reply:
        return Called(value=reply["value"])
    if "memory" in reply:
        return Called("memory", _words(reply["memory"]))
    return Called("error", _words(reply.get("says")) or _words(reply.get("no data")) or "no answer")


def _tested(run: PipedRun, outcome: Mapping[str, Any] | None) -> tuple[Tested, bool]:
    """How a test ended that did not pass, and whether the next one can run."""
    if outcome is not None and "broken" in outcome:
        raise GradingError(f"tests can't run: {outcome['broken']}")
    if outcome is not None and "gone" not in outcome:
        (kind, says), *_ = outcome.items()
        reason: Reason = "" if kind == "wrong" else "memory" if str(says).startswith("MemoryError") else "error"
        return Tested(False, reason, str(says)[:300]), True
    statuses = [run.end(0), run.end(1)]
    reasons = [found for status in statuses if (found := _reason(status, b""))[0]]
    ended, text = reasons[0] if reasons else ("error", "it ended within a call")
    return Tested(False, ended, text), False


def _reason(status: Mapping[str, Any], errors: bytes) -> tuple[Reason, str]:
    """Why a process failed, by how it ended."""
    says = " ".join(errors.decode("utf-8", "replace").split())[-300:]
    code, limit = status["code"], status["limit"]
    if status["unconfined"] and not limit:
        raise GradingError(f"programs can't be confined here: {status['unconfined']}")
    if limit:
        return _LIMITS.get(limit, "error"), ""
    if code == MEMORY:
        return "memory", says
    return ("error" if code else ""), says or (_ended_with(code) if code else "")


def _ended_with(code: int) -> str:
    if code >= 0:
        return f"it ended with {code}"
    hint = ", by a system call that is not allowed" if -code == signal.SIGSYS else ""
    with contextlib.suppress(ValueError):
        return f"it was ended by {signal.Signals(-code).name}{hint}"
    return f"it was ended by signal {-code}"


def _importable(packages: Sequence[str]) -> tuple[list[str], list[str]]:
    """Where the packages are found, and all that programs may read: these, and the standard library."""
    paths: list[str] = []
    readable = list(_standard_library())
    for name in packages:
        found = find_spec(name)
        if found is None or not (found.submodule_search_locations or found.origin):
            raise GradingError(f"programs may import {name!r}, which is not installed")
        folder = Path(next(iter(found.submodule_search_locations or [str(found.origin)])))
        paths.append(str(folder.parent))
        libraries = folder.parent / f"{name}.libs"
        readable += [str(folder), *([str(libraries)] if libraries.is_dir() else [])]
    return list(dict.fromkeys(paths)), readable


@cache
def _standard_library() -> tuple[str, ...]:
    """The files and folders of Python's own library, without packages that are installed among them."""
    return tuple(str(one) for one in sorted(Path(os.__file__).parent.iterdir()) if one.name not in _INSTALLED)


def _bubblewrap(python: str, readable: Sequence[str]) -> Iterator[str]:
    """Arguments of bubblewrap: namespaces of its own, nothing to write, only some folders to read."""
    # Not --die-with-parent: that is the thread that starts it. What ends it is the end of its socket.
    yield from ("--unshare-all", "--new-session", "--clearenv", "--cap-drop", "ALL")
    for name, value in _ENVIRONMENT.items():
        yield from ("--setenv", name, value)
    library = Path(os.__file__).parent
    own = [str(one) for one in (Path(sys.base_prefix) / "lib").glob("libpython*")]
    for path in dict.fromkeys((*_LIBRARIES, *own, str(library), python, str(_FOLDER))):
        yield from ("--ro-bind-try", path, path)
    for hidden in (library / name for name in _INSTALLED):
        if hidden.is_dir():
            yield from ("--tmpfs", str(hidden))
    for package in (one for one in readable if Path(one).parent != library):  # perhaps in a folder that is hidden
        yield from ("--ro-bind", package, package)
    yield from ("--proc", "/proc", "--dev-bind", "/dev/null", "/dev/null", "--symlink", "/proc/self/fd/0", "/dev/stdin")
    yield from ("--remount-ro", "/", "--chdir", "/")

"""The process from which programs are forked, one or two at a time, and which ends them at their limits.

It is started as `python -I -S -B zygote.py`, inside bubblewrap where that works. It never sees a program or a test:
those come through pipes that it only hands on to its children.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import confine  # type: ignore[import-not-found]  # beside this file; not the package's
import inside  # type: ignore[import-not-found]
import plain  # type: ignore[import-not-found]

del sys.path[0]

_TICK = 0.02  # seconds between two looks at what a child has used
_MOST_THREADS = 64
_CONFINED = "confined"
_SAID = 300  # characters of why a program says that it ends
_LONGEST = 1 << 16  # bytes of a request
_ROLES = {"program": inside.program, "calls": inside.calls, "tests": inside.tests}
# What programs import most, and what needs the system's libraries, which they can't read: here, and not in each.
_USUAL = (
    "array", "ast", "bisect", "builtins", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum",
    "fractions", "functools", "heapq", "io", "itertools", "json", "math", "numbers", "operator", "queue", "random",
    "re", "statistics", "string", "threading", "types", "typing", "resource",
    "bz2", "ctypes", "hashlib", "lzma", "zlib",
)  # fmt: skip


class _Child:
    """A process in the sandbox, and what it may use."""

    def __init__(self, pid: int, confined: int, wanted: Mapping[str, Any]) -> None:
        self.pid = pid
        self.confined = confined  # where it says that it is, before anything else runs
        self.end = os.pidfd_open(pid)
        self.seconds: float = wanted["seconds"]  # of CPU time for each test
        self.deadline: float = wanted["deadline"]  # by the clock, for each test
        self.last = time.monotonic() + wanted["last"]  # for all tests
        self.by_the_clock: float = wanted["by_the_clock"]
        self.next_test()
        self.limit = ""
        self.status: dict[str, object] | None = None

    def next_test(self) -> None:
        """Count from here."""
        self.before, self.until = self.used, min(self.last, time.monotonic() + self.deadline)

    @property
    def used(self) -> float:
        """CPU seconds so far."""
        with contextlib.suppress(OSError):
            return time.clock_gettime((~self.pid << 3) | 2)  # CLOCK_PROCESS_CPUTIME_ID of another process
        return 0.0

    def look(self) -> None:
        """End it if it has used more than it may."""
        if self.limit:
            return
        if self.used - self.before > self.seconds:
            self.kill("cpu")
        elif time.monotonic() > self.until:
            self.kill("deadline")
        elif self._threads() > _MOST_THREADS:
            self.kill("threads")

    def kill(self, limit: str) -> None:
        self.limit = limit
        signal.pidfd_send_signal(self.end, signal.SIGKILL)

    def _threads(self) -> int:
        with contextlib.suppress(OSError):
            return sum(1 for _ in Path(f"/proc/{self.pid}/task").iterdir())
        return 0

    def reap(self) -> None:
        _, status, usage = os.wait4(self.pid, 0)
        said = os.read(self.confined, 300).decode("utf-8", "replace")
        os.close(self.end)
        os.close(self.confined)
        spent = usage.ru_utime + usage.ru_stime
        if not self.limit and os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            self.limit = "cpu" if spent > 0.9 * self.seconds else "memory"  # by the kernel
        self.status = {
            "code": os.waitstatus_to_exitcode(status), "limit": self.limit, "seconds": round(spent, 4),
            "unconfined": "" if said == _CONFINED else said or "it ended before that",
        }  # fmt: skip


def main(settings: Mapping[str, Any]) -> None:
    """Serve requests until the other end is closed."""
    orders = socket.socket(fileno=settings["orders"])
    sys.path.extend(settings["paths"])
    for name in _USUAL:
        with contextlib.suppress(ImportError):  # of a Python that was built without it
            importlib.import_module(name)
    for name in settings["packages"]:
        importlib.import_module(name)
    confine.drop_capabilities(settings["machine"])
    gc.collect()
    gc.freeze()  # or each child would copy the memory of all that is here, when it looks for garbage
    rules = confine.landlock_rules(settings["readable"])  # once: each child only takes them for its own
    orders.send(json.dumps({"ready": True, "landlock": confine.landlock_version()}).encode())
    while True:
        data, given, _, _ = socket.recv_fds(orders, _LONGEST, 32)
        if not data:
            return
        request = json.loads(data)
        if "children" not in request:  # too late for a child that has ended
            continue
        children = [_started(wanted, given, rules, settings) for wanted in request["children"]]
        for place in given:
            os.close(place)
        if not _supervised(orders, children):
            return
        orders.send(json.dumps([child.status for child in children]).encode())


def _supervised(orders: socket.socket, children: Sequence[_Child]) -> bool:
    """Wait for all children; False if the other end was closed, and then they are ended."""
    poll = select.poll()
    poll.register(orders, select.POLLIN)
    for child in children:
        poll.register(child.end, select.POLLIN)
    waiting = {child.end: child for child in children}
    started = looked = time.monotonic()
    here = True
    while waiting:
        for place, _ in poll.poll(1000 * _TICK):
            if place in waiting:
                poll.unregister(place)
                waiting.pop(place).reap()
            elif place == orders.fileno() and here:
                order = orders.recv(_LONGEST)
                here = bool(order)
                for child in waiting.values():
                    if order and "next" in json.loads(order):
                        child.next_test()
                    else:
                        child.kill("ended")
                if not here:
                    poll.unregister(orders)
        if time.monotonic() - looked > _TICK:
            looked = time.monotonic()
            computed = sum(child.by_the_clock * child.used for child in waiting.values())
            for child in waiting.values():
                child.look()
                if not child.limit and looked - started - computed > child.deadline:  # in all tests together
                    child.kill("deadline")
    return here


def _started(wanted: Mapping[str, Any], given: Sequence[int], rules: int, settings: Mapping[str, Any]) -> _Child:
    reads, writes = os.pipe()
    parent, pid = os.getpid(), os.fork()
    if pid:
        os.close(writes)
        return _Child(pid, reads, wanted)
    try:
        _run(parent, writes, wanted, given, rules, settings)
    finally:
        os._exit(plain.ERROR)


def _run(
    parent: int, confined: int, wanted: Mapping[str, Any], given: Sequence[int], rules: int, settings: Mapping[str, Any]
) -> NoReturn:
    """In a child: keep the pipes that are its own, take its rights away, and run what it is for."""
    places = {name: given[at] for name, at in wanted["places"].items()}
    for name, standard in (("input", 0), ("output", 1), ("errors", 2)):
        os.dup2(places.pop(name), standard)
    kept = sorted([*places.values(), confined, rules])
    for start, end in zip([2, *kept], [*kept, 1 << 16], strict=True):
        os.closerange(start + 1, end)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        confine.confine(
            parent=parent, filter_=bytes.fromhex(settings["filter"]), rules=rules, memory=wanted["memory"],
            seconds=wanted["most_seconds"],
        )  # fmt: skip
    except BaseException as error:
        os.write(confined, str(error).encode())
        os._exit(plain.ERROR)
    os.write(confined, _CONFINED.encode())
    os.close(confined)
    status = 0
    try:
        _ROLES[wanted["role"]](places)
    except SystemExit as error:
        if isinstance(error.code, str):  # which Python prints
            os.write(2, error.code[-_SAID:].encode("utf-8", "replace"))
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else plain.ERROR
    except MemoryError:
        os._exit(plain.MEMORY)  # nothing that needs any
    except BaseException as error:
        status = plain.ERROR
        with contextlib.suppress(BaseException):
            os.write(2, inside.line(error).encode("utf-8", "replace"))
    os._exit(status & 0xFF)


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()))

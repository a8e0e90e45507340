"""One run in the sandbox, seen from outside: its processes, this side's ends of their pipes, and how it ended.

Nothing here blocks on a process that doesn't read or write, or believes what it says: a message is data of a limited
length, and what a process writes beyond its limit ends it.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from lm_eval_ext.sandbox.plain import LONGEST, decoded

WAITING = 60.0  # seconds for what takes no time: a sandbox that starts, or ends what is due
BY_THE_CLOCK = 10  # wall-clock limit as a multiple of the CPU time, for a machine that is busy
_ERRORS = 4096  # bytes kept of what a program says of its errors


class ProgramLimits(NamedTuple):
    """What a program may use.

    Attributes:
        seconds: of CPU time for each test.
        memory: bytes of address space.
        output: bytes that it may write.
        grace: seconds by the clock beyond ten times its CPU time, after which it is ended though it doesn't compute.
    """

    seconds: float = 6.0
    memory: int = 512 << 20
    output: int = 8 << 20
    grace: float = 10.0

    @property
    def deadline(self) -> float:
        """Seconds by the clock in which a test has to end, and for which a program may wait in all of them together."""
        return BY_THE_CLOCK * self.seconds + self.grace


class GoneError(Exception):
    """The sandbox's own process has ended, or does not answer."""


class PipedRun:
    """One or two processes in the sandbox, and this side's ends of their pipes."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._ours: dict[str, int] = {}
        self._theirs: list[int] = []
        self._children: list[dict[str, Any]] = []
        self._waiting: dict[int, memoryview] = {}
        self._read: dict[int, bytearray] = {}
        self._statuses: list[dict[str, Any]] | None = None
        self._started = False
        self._kept: dict[str, bytearray] = {}
        self.most: dict[str, int] = {}  # bytes that may be read of a pipe
        self.is_too_long = False  # a message that was to be read

    def __enter__(self) -> PipedRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._started and not isinstance(error, GoneError):
                self._end()
        finally:
            for place in (*self._ours.values(), *self._theirs):
                os.close(place)

    def child(
        self, role: str, limits: ProgramLimits, tests: int, to: Sequence[str], of: Sequence[str],
        shared: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Add a process, with pipes to it and of it, and the other ends of pipes of an earlier one."""
        places: dict[str, int] = {}
        for name in (*to, *of):
            reads, writes = os.pipe()
            ours, theirs = (writes, reads) if name in to else (reads, writes)
            os.set_blocking(ours, False)
            self._ours[name] = ours
            places[name] = self._add(theirs)
            if name in of:
                self._read[ours] = self._kept[name] = bytearray()
        for name, earlier in (shared or {}).items():
            places[name] = self._add(os.dup(self._ours[earlier]))  # which doesn't block either, as it is the same end
        nothing = self._add(os.open(os.devnull, os.O_RDWR))
        places = {"input": nothing, "output": nothing, "errors": nothing} | places
        seconds = limits.seconds * tests
        self._children.append(
            {
                "role": role, "places": places, "seconds": limits.seconds, "memory": limits.memory,
                "most_seconds": int(seconds) + 2, "deadline": limits.deadline,
                "last": BY_THE_CLOCK * seconds + limits.grace, "by_the_clock": BY_THE_CLOCK,
            }
        )  # fmt: skip

    def _add(self, place: int) -> int:
        self._theirs.append(place)
        return len(self._theirs) - 1

    def start(self) -> None:
        """Start the processes."""
        self._orders.settimeout(WAITING)
        self._until = time.monotonic() + max(child["last"] for child in self._children) + WAITING
        request = json.dumps({"children": self._children}).encode()
        try:
            given = array.array("i", self._theirs)
            self._orders.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, given)])
        except OSError as error:
            raise GoneError(str(error)) from None
        self._started = True
        while self._theirs:
            os.close(self._theirs.pop())

    def write(self, name: str, data: bytes) -> None:
        """Write to a process, as far as it reads."""
        place = self._ours[name]
        self._waiting[place] = memoryview(data)
        while place in self._waiting and self._statuses is None:
            self._step()
        if name in ("source", "input"):
            self.let_go(name)

    def let_go(self, *names: str) -> None:
        """Close this side's end of a pipe."""
        for name in names:
            place = self._ours.pop(name)
            self._waiting.pop(place, None)
            self._read.pop(place, None)
            os.close(place)

    def next_test(self) -> None:
        """Count the CPU time from here."""
        if self._statuses is None:
            with contextlib.suppress(OSError):
                self._orders.send(b'{"next": true}')

    def message(self, name: str, longest: int = LONGEST) -> dict[str, Any] | None:
        """The next message of a process; None if it has ended, or says what is none, or too much."""
        place = self._ours[name]
        buffer = self._kept[name]
        while True:
            if len(buffer) >= 4:
                (length,) = struct.unpack(">I", buffer[:4])
                if length > longest:
                    self.is_too_long = True
                    return None
                if len(buffer) >= 4 + length:
                    data = bytes(buffer[4 : 4 + length])
                    del buffer[: 4 + length]
                    try:
                        found = decoded(data)
                    except ValueError:
                        return None
                    return found if isinstance(found, dict) and found else None
            if self._statuses is not None or place not in self._read:
                return None
            self._step()

    def until_end(self) -> None:
        """Read until the processes have ended."""
        while self._statuses is None:
            self._step()

    def read(self, name: str) -> bytes:
        """What has been read of a pipe."""
        return bytes(self._kept[name])

    def status(self, number: int) -> Mapping[str, Any]:
        """How a process ended."""
        assert self._statuses is not None
        return self._statuses[number]

    def end(self, number: int) -> Mapping[str, Any]:
        """How a process ended, which gets a moment to end by itself."""
        for _ in range(10):
            if self._statuses is None:
                self._step(0.05)
        self._end()
        return self.status(number)

    def _end(self) -> None:
        self._ask_to_end()
        while self._statuses is None:
            self._step()

    def _ask_to_end(self) -> None:
        if self._statuses is None:
            with contextlib.suppress(OSError):
                self._orders.send(b'{"end": true}')

    def _step(self, seconds: float | None = None) -> None:
        """Wait for whatever comes next: room to write, something to read, the end."""
        poll = select.poll()
        poll.register(self._orders, select.POLLIN)
        for place in self._waiting:
            poll.register(place, select.POLLOUT)
        for place in self._read:
            poll.register(place, select.POLLIN)
        events = poll.poll(1000 * (WAITING if seconds is None else seconds))
        if time.monotonic() > self._until:
            raise GoneError("it doesn't end what has passed its deadline")
        for place, _ in events:
            if place == self._orders.fileno():
                self._statuses = self._received()
        for place, _ in events:
            if place in self._waiting:
                self._write_some(place)
            elif place in self._read:
                self._read_some(place)
        if self._statuses is not None:  # the rest, of what is dead
            for place in list(self._read):
                while self._read_some(place):
                    pass

    def _received(self) -> list[dict[str, Any]]:
        try:
            data = self._orders.recv(1 << 16)
        except OSError as error:
            raise GoneError(str(error)) from None
        if not data:
            raise GoneError("it has ended")
        return list(json.loads(data))

    def _write_some(self, place: int) -> None:
        try:
            self._waiting[place] = self._waiting[place][os.write(place, self._waiting[place]) :]
        except BlockingIOError:
            return
        except OSError:  # nobody reads any more
            del self._waiting[place]
            return
        if not self._waiting[place]:
            del self._waiting[place]

    def _read_some(self, place: int) -> bool:
        """Whether there was something to read."""
        try:
            data = os.read(place, 1 << 16)
        except OSError:  # nothing now
            return False
        buffer = self._read[place]
        if not data:
            del self._read[place]
            return False
        name = next(name for name, one in self._kept.items() if one is buffer)
        buffer += data
        if name == "errors":
            del buffer[:-_ERRORS]
        elif len(buffer) > self.most.get(name, 2 * LONGEST):  # one that writes too much is ended
            del self._read[place]
            self._ask_to_end()
            return False
        return True

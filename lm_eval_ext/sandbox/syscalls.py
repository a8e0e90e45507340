"""The filter of system calls, made of the table in `syscalls.yaml`: a program of the Berkeley Packet Filter.

What isn't in the table answers ENOSYS, what is refused or has another argument than it may have EPERM, and a process
that calls by the numbers of another architecture is killed. Source: seccomp(2) and the kernel's seccomp_filter.rst.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MACHINES = tuple(_AUDIT)
_X32 = 0x40000000  # numbers from here are calls of x32 by the architecture of x86_64
_LOAD, _AND, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in `struct seccomp_data`
_LOW = 0xFFFFFFFF


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


@cache
def table() -> dict[str, Any]:
    """What `syscalls.yaml` holds."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("syscalls.yaml").read_text("utf-8"))
    return found


def filter_of(machine: str) -> bytes:
    """The filter for `x86_64` or `aarch64`: eight bytes an instruction."""
    return b"".join(_filter(machine))


def _filter(machine: str) -> Iterator[bytes]:
    column = MACHINES.index(machine)
    yield _step(_LOAD, _ARCHITECTURE)
    yield _step(_EQUAL, _AUDIT[machine], 1, 0)
    yield _step(_RETURN, _KILL)
    yield _step(_LOAD, _NUMBER)
    yield _step(_AT_LEAST, _X32, 0, 1)
    yield _step(_RETURN, _KILL)
    for group in table()["allowed"]:
        for numbers in group["calls"].values():
            yield from _answer(numbers[column], _ALLOW)
    for rule in table()["checked"]:
        yield from _checked(rule, column)
    for numbers in table()["refused"].values():
        yield from _answer(numbers[column], _EPERM)
    yield _step(_RETURN, _ENOSYS)


def _answer(number: int | None, what: int) -> Iterator[bytes]:
    if number is not None:
        yield _step(_EQUAL, number, 0, 1)
        yield _step(_RETURN, what)


def _checked(rule: dict[str, Any], column: int) -> Iterator[bytes]:
    """A call that is allowed if an argument under a mask is one of some values, which fit into 32 bits."""
    number = rule["numbers"][column]
    if number is None:
        return
    place, mask = _ARGUMENTS + 8 * rule["argument"], rule["mask"]
    steps = []
    if mask >> 32:  # the upper half must be 0
        steps += [_step(_LOAD, place + 4), _step(_EQUAL, 0, 1, 0), _step(_RETURN, _EPERM)]
    steps.append(_step(_LOAD, place))
    if mask & _LOW != _LOW:
        steps.append(_step(_AND, mask & _LOW))
    for value in rule["values"]:
        steps += [_step(_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW)]
    steps.append(_step(_RETURN, _EPERM))
    yield _step(_EQUAL, number, 0, len(steps))
    yield from steps

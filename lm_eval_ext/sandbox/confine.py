"""What takes every right away from a process, for good: limits, landlock, seccomp.

Only the standard library and the C library: this file runs inside the sandbox, before the model's code does. Nothing
here can be undone by what runs later: limits can't be raised without a right that is dropped, and the kernel lets
neither landlock nor seccomp be loosened. By ctypes, because no package covers both architectures alone: pyseccomp needs
a library of the system, those for landlock are not yet released. Sources: landlock(7), seccomp(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # alike on all architectures
_READ = 1 << 2 | 1 << 3  # LANDLOCK_ACCESS_FS_READ_FILE, _READ_DIR
_READ_FILE = 1 << 2
# All that landlock can forbid, by the version of its interface: rights on files, to use the network, scopes.
_FILES = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_NETWORK, _SCOPES = 0b11, 0b11  # bind and connect by TCP from 4; abstract sockets and signals from 6
_STACK = 64 << 20


def drop_capabilities(machine: str) -> None:
    """Take what root may do away from this process and those that it starts, so that none can get it again.

    Args:
        machine: `x86_64` or `aarch64`.

    Raises:
        OSError: the kernel doesn't do it.
    """
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            break  # no more of them, or no right to, without which there is none to drop
    header = ctypes.create_string_buffer(struct.pack("Ii", 0x20080522, 0))
    none = ctypes.create_string_buffer(struct.pack("6I", *[0] * 6))
    _checked(_LIBC.syscall(_CAPSET[machine], header, none), "capset")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def confine(*, parent: int, filter_: bytes, rules: int, memory: int, seconds: int) -> None:
    """Take all other rights of this process away.

    Args:
        parent: the process that started this one, with which it ends.
        filter_: of system calls, as a program of the Berkeley Packet Filter.
        rules: what may be read, as `landlock_rules` gives it; closed.
        memory: bytes of address space.
        seconds: of CPU time, after which the kernel kills it, whatever else does.

    Raises:
        OSError: the kernel doesn't do one of these; then nothing may run.
    """
    _prctl(_PR_SET_PDEATHSIG, 9)
    if os.getppid() != parent:
        raise OSError(3, "its parent has ended")
    _limit(memory, seconds)
    _prctl(_PR_SET_DUMPABLE, 0)
    _checked(_LIBC.syscall(_RESTRICT_SELF, rules, 0), "landlock")
    os.close(rules)
    code = ctypes.create_string_buffer(filter_, len(filter_))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(filter_) // 8, ctypes.addressof(code)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def landlock_version() -> int:
    """Version of the kernel's landlock; 0 if it has none, or it is switched off."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def _prctl(option: int, *arguments: int) -> None:
    given = [ctypes.c_ulong(one) for one in (*arguments, 0, 0, 0, 0)[:4]]
    _checked(_LIBC.prctl(option, *given), "prctl")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _limit(memory: int, seconds: int) -> None:
    import resource

    for limit, most in (
        (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NOFILE, 64), (resource.RLIMIT_STACK, _STACK),
        (resource.RLIMIT_MEMLOCK, 0), (resource.RLIMIT_MSGQUEUE, 0),
    ):  # fmt: skip
        hard = resource.getrlimit(limit)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (allowed, allowed))


def landlock_rules(readable: Sequence[str]) -> int:
    """A descriptor of rules by which nothing but some files and folders can be read.

    Raises:
        OSError: the kernel doesn't have landlock.
    """
    version = landlock_version()
    if not version:
        raise OSError(38, "landlock: the kernel doesn't have it")
    files = _FILES[max(known for known in _FILES if known <= version)]
    rules = struct.pack("QQQ", files, _NETWORK if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    rules = rules[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _checked(_LIBC.syscall(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0), "landlock")
    for path in readable:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue  # what isn't there can't be read
        right = _READ if stat.S_ISDIR(os.fstat(place).st_mode) else _READ_FILE
        rule = struct.pack("=Qi", right, place)
        _checked(_LIBC.syscall(_ADD_RULE, ruleset, 1, rule, 0), "landlock")
        os.close(place)
    return ruleset

"""Runs the programs of `cases/hostile_programs.yaml` in the sandbox, and prints what came of them as JSON.

`python -m tests.hostile_run PLACE [--without-bubblewrap] [--like-docker] [--one-way] [--only NAME]`; anybody may write
to PLACE. With `--one-way`, each program runs in one of the three ways, in turn.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from lm_eval_ext.sandbox.launcher import Sandbox
from lm_eval_ext.sandbox.pipes import ProgramLimits

PROGRAMS = Path(__file__).with_name("cases") / "hostile_programs.yaml"
LIMITS = ProgramLimits(seconds=0.25, memory=256 << 20, grace=0.5)
WAYS = ("program", "calls", "tests")
SECRET = "hunter2"  # in a file and in the environment
# What the default filter of Docker refuses without CAP_SYS_ADMIN, by number on x86_64 (moby/profiles, seccomp).
_REFUSED = (
    101, 155, 161, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 246, 248, 249, 250, 272, 298, 304, 308,
    310, 311, 312, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442,
)  # fmt: skip
_NAMESPACES = 0x7E020000  # flags of clone


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("--without-bubblewrap", action="store_true")
    parser.add_argument("--like-docker", action="store_true")
    parser.add_argument("--one-way", action="store_true")
    parser.add_argument("--only", action="append")
    arguments = parser.parse_args()
    sys.set_int_max_str_digits(0)  # whatever is said is shown
    if arguments.like_docker:
        _like_docker()
    place = Path(arguments.place)
    secret = place / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    os.environ["SECRET"] = SECRET
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1e5)"])
    port, hits = _listening()
    filled = {"PLACE": str(place), "SECRET_FILE": str(secret), "PORT": str(port), "PID": str(victim.pid)}
    programs = {
        name: re.sub("|".join(filled), lambda found: filled[found[0]], source)
        for group in yaml.safe_load(PROGRAMS.read_text("utf-8")).values()
        for name, source in group.items()
    }
    sandbox = Sandbox(bubblewrap=not arguments.without_bubblewrap, workers=2)
    names = arguments.only or list(programs)
    with sandbox, ThreadPoolExecutor(2) as pool:
        ways = [WAYS[at % len(WAYS) :][:1] if arguments.one_way else WAYS for at in range(len(names))]
        outcomes = list(pool.map(lambda name, tried: list(_outcomes(sandbox, programs[name], tried)), names, ways))
        mechanism = str(sandbox.mechanism)
    print(
        json.dumps(
            {
                "mechanism": mechanism,
                "programs": dict(zip(names, outcomes, strict=True)),
                "left": sorted(one.name for one in place.iterdir() if one != secret),
                "secret": secret.read_text(),
                "victim": victim.poll(),
                "hits": len(hits),
            }
        )
    )
    victim.kill()


def _outcomes(sandbox: Sandbox, source: str, ways: Sequence[str]) -> Iterator[dict[str, object]]:
    """What a program comes to as a program, when it is called, and when it is tested; and the next honest one."""
    for way in ways:
        started = time.monotonic()
        if way == "program":
            ended = sandbox.program(source, "41", LIMITS)
            passed, said = not ended.reason and ended.output.strip() == b"42", str(ended)
        elif way == "calls":
            called = sandbox.calls(source, "f", [[1], [41]], LIMITS)
            passed, said = [one.value for one in called] == [2, 42], str(called)
        else:
            tested = sandbox.tests(source, "f", ["assert f(1) == 2", "assert candidate(41) == 42"], LIMITS)
            passed, said = len(tested) == 2 and all(one.passed for one in tested), str(tested)
        honest = sandbox.program("print(int(input()) + 1)", "41", LIMITS)
        yield {
            "way": way, "passed": passed, "says a secret": SECRET in said, "seconds": time.monotonic() - started,
            "next is right": honest.output == b"42\n", "said": said[:200],
        }  # fmt: skip


def _listening() -> tuple[int, list[object]]:
    """A port at which a connection or a datagram is noticed."""
    server, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.listen()
    port = server.getsockname()[1]
    datagrams.bind(("127.0.0.1", port))
    hits: list[object] = []

    def wait_for(something: object) -> None:
        while True:
            hits.append(something())  # type: ignore[operator]  # a bound method

    for something in (server.accept, lambda: datagrams.recv(100)):
        threading.Thread(target=wait_for, args=(something,), daemon=True).start()
    return port, hits


def _like_docker() -> None:
    """Filter the system calls of this process and its children as Docker does by default."""
    step = struct.Struct("=HBBI")
    steps = [step.pack(0x20, 0, 0, 0)]
    for number in _REFUSED:
        steps += [step.pack(0x15, 0, 1, number), step.pack(0x06, 0, 0, 0x00050001)]
    steps += [step.pack(0x15, 0, 1, 435), step.pack(0x06, 0, 0, 0x00050026)]  # clone3: ENOSYS
    steps += [
        step.pack(0x15, 0, 4, 56), step.pack(0x20, 0, 0, 16), step.pack(0x54, 0, 0, _NAMESPACES),
        step.pack(0x15, 1, 0, 0), step.pack(0x06, 0, 0, 0x00050001), step.pack(0x06, 0, 0, 0x7FFF0000),
    ]  # fmt: skip
    code = b"".join(steps)
    filter_ = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(filter_)))
    libc = ctypes.CDLL(None)
    zero = ctypes.c_ulong(0)
    assert libc.prctl(38, ctypes.c_ulong(1), zero, zero, zero) == 0
    assert libc.prctl(22, ctypes.c_ulong(2), ctypes.c_ulong(ctypes.addressof(program)), zero, zero) == 0


if __name__ == "__main__":
    main()

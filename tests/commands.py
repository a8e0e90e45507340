"""Runs commands as a user does: as processes, or in this one where the process is not what is tested."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from lm_eval_ext.cli import app
from tests.shared import ROOT

LM_EVAL = Path(sys.executable).with_name("lm_eval")
COMMAND = LM_EVAL.with_name("lm-eval-tts")
_READ_LATE = {
    "OMP_NUM_THREADS",
    "HF_HUB_OFFLINE",
    "XDG_CACHE_HOME",
    "OPENAI_API_KEY",
}  # variables that need no new process
_POLL_SECONDS = 0.02


def cli(*words: object, **options: Any) -> Result:
    """Run `lm-eval-tts` in this process."""
    return CliRunner().invoke(app, [str(word) for word in words], **options)


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; without further variables in a fork of a process that has imported everything."""
    words = [str(part) for part in command]
    if words[0] in (str(LM_EVAL), str(COMMAND)) and env.keys() <= _READ_LATE and hasattr(os, "fork"):
        process = Started(words, cwd, env)
        said = process.communicate()
        return subprocess.CompletedProcess(words, process.wait(), *said)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **env}
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


class Started:
    """A command that runs in such a fork, as `subprocess.Popen` has it."""

    def __init__(self, command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = {name: f"{self._folder.name}/{name}" for name in ("stdout", "stderr")}
        for file in self._files.values():
            Path(file).touch()  # before the process has opened it
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", **(env or {})}
        asked = {"command": command, "cwd": str(cwd or Path.cwd()), "env": environment, **self._files}
        self.pid = int(_answer(asked) or 0)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = _answer(self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            TimeoutExpired: it still runs.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(_POLL_SECONDS)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout and stderr, at its end."""
        self.wait(timeout)
        return self.written()

    def written(self) -> tuple[str, str]:
        """The same so far, while it runs."""
        stdout, stderr = (Path(file).read_text("utf-8", "replace") for file in self._files.values())
        return stdout, stderr

    def send_signal(self, which: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, which)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def started(*command: str | Path, cwd: Path | None = None) -> Started:
    """Start a command of ours."""
    return Started([str(part) for part in command], cwd)


def _answer(asked: object) -> int | None:
    server = _warm()
    assert server.stdin is not None and server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    answer: int | None = json.loads(server.stdout.readline())
    return answer


@cache
def _warm() -> subprocess.Popen[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.warm"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    atexit.register(server.kill)
    return server

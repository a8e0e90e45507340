"""Runs commands as processes, as a user does."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.shared import ROOT

LM_EVAL = Path(sys.executable).with_name("lm_eval")
_READ_LATE = {"OMP_NUM_THREADS", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"}  # variables that need no new process


def run(*command: str | Path, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `lm_eval` without further variables in a fork of a process that has imported it."""
    words = [str(part) for part in command]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **env}
    if words[0] == str(LM_EVAL) and env.keys() <= _READ_LATE and hasattr(os, "fork"):
        return _forked(words, str(cwd or Path.cwd()), environment)
    return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def _forked(command: list[str], cwd: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    server = _warm()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        files = {name: f"{folder}/{name}" for name in ("stdout", "stderr")}
        server.stdin.write(json.dumps({"command": command, "cwd": cwd, "env": env, **files}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        said = {name: Path(file).read_text("utf-8", "replace") for name, file in files.items()}
    return subprocess.CompletedProcess(command, code, **said)


@cache
def _warm() -> subprocess.Popen[str]:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.warm"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    atexit.register(server.kill)
    return server

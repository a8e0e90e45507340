"""`lm-eval-tts leaderboard` in tests: run, and what it published changed as a forger would."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lm_eval_ext.runs.catalogue import read_catalogue
from tests.commands import cli

CATALOGUE = read_catalogue()
TASK, VOTES = "tts_aime24_b512", "tts_aime24_maj8"
SECRETS = ("/home/", "someone", "hf_abc", "secret")


def said(*words: str | Path, code: int = 0) -> str:
    done = cli("leaderboard", *words)
    assert done.exit_code == code, done.output
    return done.output


def add(output: Path, to: Path, *more: str, code: int = 0) -> str:
    return said("add", output, "--to", to, *more, code=code)


def only_run(results: Path) -> Path:
    (path,) = results.rglob("run.json")
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def edit_samples(path: Path, task: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the published samples of a task, and the run's hash of them: what a forger would do."""
    file = path.parent / "samples" / f"{task}.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    for row in rows:
        change(row)
    file.write_bytes(gzip.compress("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
    edit(path, lambda run: run["samples"].update({task: hashlib.sha256(file.read_bytes()).hexdigest()}))

"""A run that is killed and started again ends as one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from tests.commands import LM_EVAL, Started, started

KILLS = int(os.environ.get("LM_EVAL_TTS_KILLS", "1"))  # more of them are for trying by hand
TOKENS = "max_gen_toks=220,thinking_token_budget=200"
OF_THE_MOMENT = (
    "date",
    "total_evaluation_time_seconds",
    "start_time",
    "end_time",
    "config",
    "configs",  # holds the model arguments, and in them the journal's path
    "pretty_env_info",
)


def start(model: Path, hub: Path, journal: Path, out: Path) -> Started:
    arguments = f"pretrained={model},drop_layers=2,journal={journal}"
    command: list[str | Path] = [
        LM_EVAL,
        "--model",
        "pruned-hf",
        "--model_args",
        arguments,
        "--tasks",
        "tts_aime24_b512,tts_aime25_b1024",
    ]
    options: list[str | Path] = ["--gen_kwargs", TOKENS, "--batch_size", "4", "--output_path", out, "--log_samples"]
    return started(*command, *options, cwd=hub)


def finished(process: Started) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]
    return errors


def outcome(out: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    (results,) = out.rglob("results_*.json")
    samples = [json.loads(line) for path in sorted(out.rglob("samples_*")) for line in path.read_text().splitlines()]
    content = json.loads(results.read_text())
    return {key: value for key, value in content.items() if key not in OF_THE_MOMENT}, samples


def kept(journal: Path) -> int:
    if not journal.is_file():
        return 0
    try:
        with sqlite3.connect(journal) as db:
            return int(db.execute("SELECT count(*) FROM completions").fetchone()[0])
    except sqlite3.OperationalError:  # its table is not there yet
        return 0


def stop_at(
    process: Started, journal: Path, completions: int, delay: float, by: signal.Signals = signal.SIGKILL
) -> str:
    while process.poll() is None and kept(journal) < completions:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(by)
    return process.communicate()[1]


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_run_goes_on(seed: int, tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    finished(start(tiny_model, original_hub, tmp_path / "whole.sqlite", tmp_path / "whole"))
    every = kept(tmp_path / "whole.sqlite")
    moment = random.Random(seed)
    journal, out = tmp_path / "killed.sqlite", tmp_path / "killed"
    stop_at(start(tiny_model, original_hub, journal, out), journal, moment.randrange(1, every), moment.random() * 0.2)
    before = kept(journal)
    assert before > 0 and not list(out.rglob("results_*.json")), "it was killed too early or too late"
    errors = finished(start(tiny_model, original_hub, journal, out))
    assert f"resumed: {before} completions" in errors
    assert kept(journal) == every
    assert outcome(out) == outcome(tmp_path / "whole")


def test_ctrl_c_is_one_line_and_says_how_to_go_on(tiny_model: Path, original_hub: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    process = start(tiny_model, original_hub, journal, tmp_path / "out")
    errors = stop_at(process, journal, 1, 0, signal.SIGINT)
    assert process.returncode == -signal.SIGINT, "shells show it as 130, and end their own loops"
    assert "Traceback" not in errors and errors.splitlines()[-1] == (
        f"lm-eval-tts: interrupted: finished work is kept in the journal {journal}; run the same command again to go on"
    )
    assert kept(journal) > 0

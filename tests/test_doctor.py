"""`lm-eval-tts doctor` and `python -m lm_eval_ext`: what is plugged in, and how to go on where it is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.shared import ROOT
from tests.test_plugin import run

DOCTOR = (sys.executable, "-c", "from lm_eval_ext.cli import app; app()", "doctor")
RUN = ("run", "--model", "pruned-hf", "--tasks", "tts_chain_short_b8", "--limit", "2", "--log_samples")


def rows(said: str) -> dict[str, str]:
    """The table by what was looked at."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in said.splitlines() if line.startswith("│")]
    return {what: f"{mark} {found} {todo}" for mark, what, found, todo in lines if what}


def test_all_is_well_here() -> None:
    done = run(*DOCTOR)
    found = rows(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["hooks"].startswith("✓ on") and found["grader"].startswith("✓ version")
    assert found["model classes"].startswith("✓ pruned-hf, pruned-vllm, tts-server")
    assert "0.4.13" in found["lm-eval"] and found["Hub"].startswith("✓ off, by HF_HUB_OFFLINE")


def test_what_is_off_is_told_with_what_to_do(tmp_path: Path) -> None:
    off: dict[str, Any] = {"LM_EVAL_TTS_AUTOLOAD": "0", "XDG_CACHE_HOME": str(tmp_path)}
    found = rows(run(*DOCTOR, **off).stdout)
    assert found["hooks"].startswith("! off, by LM_EVAL_TTS_AUTOLOAD=0 `python -m lm_eval_ext run")
    assert f"--include_path {ROOT / 'tasks'}" in found["tasks"] and "missing: pruned-hf" in found["model classes"]
    assert found["journal"].startswith(f"✓ {tmp_path}"[:60])


def test_a_wrong_antlr_is_found(tmp_path: Path) -> None:
    (tmp_path / "antlr4_python3_runtime-4.12.0.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: antlr4-python3-runtime\nVersion: 4.12.0\n"
    (tmp_path / "antlr4_python3_runtime-4.12.0.dist-info" / "METADATA").write_text(metadata)
    done = run(*DOCTOR, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and rows(done.stdout)["grader"].startswith("✗"), done.stdout


def test_where_pth_files_are_not_read(tmp_path: Path) -> None:
    packages = [path for path in sys.path if path.endswith("site-packages")]
    env: dict[str, Any] = {"PYTHONPATH": ":".join([*packages, str(ROOT)])}
    said = run(sys.executable, "-S", *DOCTOR[1:], **env).stdout
    assert rows(said)["hooks"].startswith("! off: .pth files are not read here use `python -m lm_eval_ext run"), said
    done = run(sys.executable, "-S", "-m", "lm_eval_ext", *RUN, "--output_path", tmp_path, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    (results,) = tmp_path.rglob("results_*.json")
    assert "tts_chain_short_b8" in json.loads(results.read_text())["results"]


def test_the_version_is_shown() -> None:
    said = run(*DOCTOR[:-1], "--version").stdout
    assert said.startswith("lm-eval-tts 0.") and "(lm-eval 0.4.13)" in said

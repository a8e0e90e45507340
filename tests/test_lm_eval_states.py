"""The package on later versions of lm-eval, which find plugins by entry points; with and without autoloading."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import run
from tests.lm_eval_states import lm_eval_at

RUN = ("--tasks", "tts_chain_short_b8", "--limit", "3", "--batch_size", "8", "--log_samples")


def evaluated(out: Path, *more: str, **env: Any) -> tuple[str, str]:
    """Evaluate on a task of ours; returns the score and the folder's name, which says what the model says of itself."""
    done = run(sys.executable, "-m", "lm_eval", *RUN, "--output_path", out, *more, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    newest = max(out.rglob("results_*.json"), key=lambda path: path.stat().st_mtime)
    content = json.loads(newest.read_text())
    scores = content["results"]["tts_chain_short_b8"]
    dropped = content["config"].get("pruning", {}).get("dropped_layers", [])
    assert ("-drop1-4" in newest.parent.name) == (dropped == [1, 2, 3, 4]), "both say what was dropped"
    measured = (scores.get(f"{name},answer") for name in ("acc", "graded", "forced"))
    return " ".join(map(str, measured)), newest.parent.name


@pytest.mark.long
def test_it_finds_ours_by_entry_points_as_with_autoloading(tmp_path: Path) -> None:
    state = lm_eval_at("4015", tmp_path / "lm-eval")
    off = {**state, "LM_EVAL_TTS_AUTOLOAD": "0"}
    pruned = ("--model", "pruned-hf", "--model_args", "drop_layers=[1,2,3,4]")
    with_it = evaluated(tmp_path / "on", *pruned, **state)
    assert evaluated(tmp_path / "off", *pruned, **off) == with_it
    scores, _ = evaluated(tmp_path / "dummy", "--model", "dummy", **off)  # nothing is imported but what is asked for
    assert scores.startswith("0.0 1.0"), "nothing is right, all could be graded"

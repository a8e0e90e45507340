"""The package on lm-eval 0.4.13 and on later ones, which find plugins by entry points; with and without autoloading."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.lm_eval_states import STATES, lm_eval_at
from tests.test_plugin import run

RUN = ("--tasks", "tts_chain_short_b8", "--limit", "3", "--batch_size", "8", "--log_samples")


@pytest.fixture(scope="module", params=STATES)
def state(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which lm-eval is in a state."""
    name = str(request.param)
    return {"STATE": name, **lm_eval_at(name, tmp_path_factory.mktemp(name))}


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


@pytest.fixture(scope="module")
def dense_run(state: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The whole model, with autoloading."""
    return evaluated(tmp_path_factory.mktemp("dense"), "--model", "pruned-hf", **state)


def test_tasks_models_metrics_and_filters_are_there(
    state: Mapping[str, str], dense_run: tuple[str, str], tmp_path: Path
) -> None:
    one, dense = dense_run
    other, pruned = evaluated(tmp_path, "--model", "pruned-hf", "--model_args", "drop_layers=[1,2,3,4]", **state)
    assert one != other and dense != pruned, "a dense and a pruned run have folders of their own"


def test_filters_and_metrics_are_found_without_a_model_of_ours(tmp_path: Path) -> None:
    """By their entry points: nothing of ours is imported but what lm-eval asks for."""
    state = {**lm_eval_at("4014", tmp_path / "lm-eval"), "LM_EVAL_TTS_AUTOLOAD": "0"}
    found = evaluated(tmp_path / "out", "--model", "dummy", "--include_path", "tasks", **state)[0]
    assert found.startswith("0.0 1.0"), "nothing is right, all could be graded"


def test_without_autoloading_it_is_as_lm_eval_finds_it(
    state: Mapping[str, str], dense_run: tuple[str, str], tmp_path: Path
) -> None:
    """What is found by entry points alone; tasks of ours at least by `--include_path`."""
    if state["STATE"] == "0.4.13":
        pytest.skip("0.4.13 finds no models without it; `lm-eval-tts doctor` says so")
    off = {**state, "LM_EVAL_TTS_AUTOLOAD": "0"}
    found = [] if state["STATE"] == "4015" else ["--include_path", "tasks"]
    one, dense = evaluated(tmp_path, "--model", "pruned-hf", *found, **off)
    other, pruned = evaluated(tmp_path, "--model", "pruned-hf", "--model_args", "drop_layers=[1,2,3,4]", *found, **off)
    assert one != other and dense != pruned
    assert (one, dense) == dense_run, "the same scores as with it"

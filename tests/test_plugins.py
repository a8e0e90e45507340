"""Benchmarks and recipes in another package, found through its entry points once it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lm_eval_ext.paths import PRUNED_MODELS, TASKS
from tests.commands import COMMAND, LM_EVAL, run
from tests.lm_eval_states import lm_eval_at

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "halves"
version = "1.0"

[project.entry-points."lm_eval_tts.tasks"]
halves = "halves.tasks"
lost = "halves.nowhere"

[project.entry-points."lm_eval.tasks"]
halves = "halves.tasks"

[project.entry-points."lm_eval_tts.recipes"]
halves = "halves.recipes"
"""
TASK = """
include: ../_math
task: tts_halves
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}\\nPut the answer in \\\\boxed{{}}."
doc_to_target: answer
metadata: {{version: 1.0, source: original, license: CC0-1.0}}
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder into which a package with a benchmark and two recipes is installed, beside the questions."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("environment") / "installed"
    package = source / "halves"
    (package / "tasks" / "halves").mkdir(parents=True)
    (package / "recipes").mkdir()
    (package / "__init__.py").touch()
    (source / "pyproject.toml").write_text(PROJECT)
    questions = [{"question": f"What is half of {2 * n}?", "answer": str(n)} for n in range(1, 9)]
    data = target.parent / "halves.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in questions))
    (package / "tasks" / "halves" / "tts_halves.yaml").write_text(TASK.format(data=data))
    (package / "tasks" / "sums.yaml").write_text("task: tts_sums\ndataset_path: nowhere\n")
    shutil.copy(TASKS / "_math", package / "tasks" / "_math")
    (package / "recipes" / "halves-1.yaml").write_text(
        "base: tiny-chain\ndrop: [1]\nmethod: reverse\nsource: by hand\n"
    )
    shutil.copy(PRUNED_MODELS / "qwen3-8b-reverse-1.yaml", package / "recipes")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)
    return target


def test_its_benchmark_is_checked_and_evaluated_by_name(installed: Path, tmp_path: Path) -> None:
    checked = run(COMMAND, "tasks", "check", "tts_halves", cwd=installed.parent, PYTHONPATH=str(installed))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "errors: 0" in checked.stdout
    command = ["--model", "pruned-hf", "--tasks", "tts_halves", "--limit", "2", "--gen_kwargs", "max_gen_toks=8"]
    done = run(LM_EVAL, *command, "--output_path", tmp_path / "out", PYTHONPATH=str(installed))
    assert done.returncode == 0, done.stderr
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert json.loads(results.read_text())["n-samples"]["tts_halves"] == {"original": 8, "effective": 2}


def test_it_adds_tasks_but_replaces_none_and_a_broken_entry_point_is_logged(installed: Path) -> None:
    code = "from lm_eval.tasks import TaskManager; print(TaskManager().task_index['tts_sums'].yaml_path)"
    done = run(sys.executable, "-c", code, PYTHONPATH=str(installed))
    assert done.stdout.strip() == str(TASKS / "sums" / "tts_sums.yaml")
    assert f"Task 'tts_sums' from {TASKS}" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "halves.nowhere" in line]
    assert "package halves: entry point lm_eval_tts.tasks lost='halves.nowhere' was ignored" in line


@pytest.mark.long
def test_it_replaces_none_either_where_lm_eval_finds_it_by_itself(installed: Path, tmp_path: Path) -> None:
    code = "from lm_eval.tasks import TaskManager; m = TaskManager(); print(m.task_index['tts_sums'].yaml_path)"
    later = lm_eval_at("4015", tmp_path)["PYTHONPATH"]
    found = run(sys.executable, "-c", code, PYTHONPATH=f"{later}:{installed}")
    assert found.stdout.strip() == str(TASKS / "sums" / "tts_sums.yaml"), found.stderr


def test_its_recipes_are_found_by_name_and_two_of_one_name_refused(installed: Path) -> None:
    assert "halves-1 " in run(COMMAND, "recipes", "list", PYTHONPATH=str(installed)).stdout
    assert "drop: 1" in run(COMMAND, "recipes", "show", "halves-1", PYTHONPATH=str(installed)).stdout
    twice = run(COMMAND, "recipes", "show", "qwen3-8b-reverse-1", PYTHONPATH=str(installed))
    assert twice.returncode == 1
    assert str(installed / "halves" / "recipes") in twice.stderr and str(PRUNED_MODELS) in twice.stderr

"""Broken manifests of sweeps: each is one clear line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lm_eval_ext.cli import app
from tests.test_sweep import written

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"output": None}, "output: Input should be a valid string"),
    ({"output": ""}, "output: String should have at least 1 character"),
    ({"ouput": "x"}, r"ouput: unknown field; did you mean output\?"),
    ({"engine": "vllm"}, "engine='vllm': expected one of: pruned-hf, pruned-vllm, tts-server"),
    ({"models": {}}, "models: Dictionary should have at least 1 item"),
    ({"models": {"a b": "x"}}, "models.a b"),
    (
        {"models": {"a": {"dtype": "float32"}}},
        "models.a: says nothing that is loaded; give pretrained",
    ),
    (
        {"models": {"a": {"recipe": "tiny-chain-mlp-1"}}},
        "models.a: has a recipe, so it cannot be pruned",
    ),
    ({"models": ["a"]}, "models: Input should be a valid dictionary"),
    ({"tasks": []}, "tasks: Tuple should have at least 1 item"),
    ({"tasks": "chain"}, "tasks: Input should be a valid tuple"),
    ({"tasks": ["chain", "chain"]}, "tasks: chain is given twice"),
    ({"budgets": [7]}, "tasks: tts_chain has no variant b7; add it to `variants`"),
    ({"budgets": [0]}, "budgets.0: Input should be greater than 0"),
    ({"budgets": ["many"]}, "budgets.0: Input should be a valid integer"),
    ({"votes": [3]}, "tasks: tts_chain has no variant maj3"),
    ({"votes": [1]}, "votes.0: Input should be greater than 1"),
    ({"seeds": []}, "seeds: Tuple should have at least 1 item"),
    ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
    ({"seeds": [-1]}, "seeds.0: Input should be greater than or equal to 0"),
    ({"limit": 0}, "limit: Input should be greater than 0"),
    ({"pruning": [{}]}, "pruning.0: says nothing; give one of: method, drop_layers"),
    (
        {"pruning": [{"method": "shortgtp", "remove": [1]}]},
        r"unknown method 'shortgtp'; did you mean shortgpt\?",
    ),
    (
        {"pruning": [{"method": "shortgpt"}]},
        r"pruning.0: remove is missing; give numbers of layers",
    ),
    ({"pruning": [{"method": "shortgpt", "remove": [1, 1]}]}, "a number is given twice"),
    (
        {"pruning": [{"method": "shortgpt", "remove": [-1]}]},
        "pruning.0.remove.0: Input should be greater",
    ),
    (
        {"pruning": [{"method": "shortgpt", "remove": [1], "drop_layers": [2]}]},
        "method and drop_layers contradict",
    ),
    (
        {"pruning": [{"drop_layers": [2], "calibration": "x"}]},
        "samples, max_tokens and parameters belong to a method",
    ),
    ({"pruning": [{"method": "shortgpt", "removes": [1]}]}, r"pruning.0.removes: unknown field; did you mean remove\?"),
    ({"pruning": [{"drop_layers": [2]}, {"drop_layers": "2"}]}, "two runs are tiny-drop2-s0; give each pruning once"),
    ({"pruning": [{"drop_layers": "x"}]}, "drop_layers='x': 'x' is not a layer index"),
    ({"exclude": [{"modle": "a"}]}, "exclude.0.modle"),
    ({"launch": {"local": {"gpus": [0, 0]}}}, "launch.local: gpus=.*a GPU is given twice"),
    ({"launch": {"local": {"gpus": [0], "gpus_per_run": 2}}}, "gpus_per_run=2: more than the 1 GPUs given"),
    ({"launch": {"lokal": {}}}, r"launch.lokal: unknown field; did you mean local\?"),
    ({"gen_kwargs": [1]}, "gen_kwargs: Input should be a valid dictionary"),
]


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_manifest_is_one_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["sweep", "status", str(written(tmp_path, **change))])
    assert done.exit_code == 1 and re.search(words, done.stderr), done.stderr
    assert done.stderr.startswith("lm-eval-tts: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "cannot be read as YAML"),
        ("- 1", "contains list, not a mapping; fields: output, engine"),
        ("", "contains NoneType, not a mapping"),
        ("output: a\noutput: b", "output is given twice"),
        ("output: a\nmodels: {x: y, x: z}", "x is given twice"),
        ("output: 2024-13-45", "cannot be read as YAML"),
    ],
)
def test_what_is_no_manifest(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    done = CliRunner().invoke(app, ["sweep", "run", str(path)])
    assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1

"""Broken manifests of sweeps: each is one clear line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.commands import cli
from tests.test_sweep import written

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"output": None}, "output: expected text"),
    ({"output": ""}, "output: expected text that is not empty"),
    ({"ouput": "x"}, r"ouput: unknown field; did you mean output\?"),
    ({"engine": "vllm"}, "engine='vllm': expected one of: pruned-hf, pruned-vllm, tts-server"),
    ({"models": {}}, "models: expected at least one entry"),
    ({"models": {"a b": "x"}}, "models.a b: expected letters, digits"),
    (
        {"models": {"a": {"dtype": "float32"}}},
        "models.a: says nothing that is loaded; give pretrained",
    ),
    (
        {"models": {"a": {"recipe": "tiny-chain-mlp-1"}}},
        "models.a: has a recipe, so it cannot be pruned",
    ),
    ({"models": ["a"]}, "models: expected a mapping"),
    ({"tasks": []}, "tasks: expected at least one entry"),
    ({"tasks": "chain"}, "tasks: expected a list"),
    ({"tasks": ["chain", "chain"]}, "tasks: chain is given twice"),
    ({"votes": [7]}, "tasks: tts_chain has no variant maj7; add it to `variants`"),
    ({"budgets": [0]}, "budgets.0: expected more than 0"),
    ({"budgets": ["many"]}, "budgets.0: expected a whole number"),
    ({"votes": [3]}, "tasks: tts_chain has no variant maj3"),
    ({"votes": [1]}, "votes.0: expected more than 1"),
    ({"seeds": []}, "seeds: expected at least one entry"),
    ({"seeds": [1, 1]}, "seeds: 1 is given twice"),
    ({"seeds": [-1]}, "seeds.0: expected 0 or more"),
    ({"limit": 0}, "limit: expected more than 0"),
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
        "pruning.0.remove.0: give whole numbers from 0",
    ),
    ({"pruning": [{"method": "shortgpt", "remove": ["25%"]}]}, "shortgpt takes a whole number of layers; only experts"),
    (
        {"pruning": [{"method": "wanda", "remove": [2], "calibration": "c4"}]},
        "remove=2: of weights, give a share above",
    ),
    ({"pruning": [{"method": "wanda", "remove": ["20%"]}]}, "wanda: calibration is missing"),
    (
        {"pruning": [{"method": "wanda", "remove": ["20%"], "calibration": "traces"}]},
        "calibration: traces needs tiny-dense-s0, the whole model on `tasks` with the first seed; give 0",
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
    (
        {"pruning": [{"drop_layers": [2]}, {"drop_layers": "2"}]},
        "pruning: two entries come out as tiny-drop2-s0; give each once",
    ),
    ({"pruning": [{"drop_layers": "x"}]}, "drop_layers='x': 'x' is not a layer index"),
    ({"exclude": [{"modle": "a"}]}, r"exclude.0.modle: unknown field; did you mean model\?"),
    ({"launch": {"local": {"gpus": [0, 0]}}}, "launch.local: gpus=.*a GPU is given twice"),
    ({"launch": {"local": {"gpus": [0], "gpus_per_run": 2}}}, "gpus_per_run=2: more than the 1 GPUs given"),
    ({"launch": {"lokal": {}}}, r"launch.lokal: unknown field; did you mean local\?"),
    ({"gen_kwargs": [1]}, "gen_kwargs: expected a mapping"),
    ({"seeds": [True]}, "seeds.0: expected a whole number"),
    ({"seeds": [2**32]}, "seeds.0: expected less than 4294967296"),
    ({"limit": True}, "limit: expected a whole number"),
    ({"models": {"a": {"pretrained": ["x"]}}}, "models.a.pretrained: expected text"),
    (
        {"engine": "tts-server", "models": {"a": {"base_url": "http://x"}}},
        "models.a: a server's model cannot be pruned",
    ),
    ({"model_args": {"recipe": "tiny-chain-mlp-1"}}, "models.tiny: has a recipe, so it cannot be pruned"),
    ({"exclude": [{"model": "tinny"}]}, "exclude.0: no run has model=tinny; there are model: tiny"),
]
# What only shows when the names are looked up, before anything runs.
MISTAKEN: list[tuple[dict[str, Any], str]] = [
    ({"pruning": [{"recipe": "/"}]}, "pruning.0: recipe=/: neither a YAML file nor an installed recipe"),
    ({"tasks": ["chian"], "budgets": []}, r"tasks: unknown task 'chian'; did you mean tts_chain\?"),
    ({"other_tasks": ["hellaswg"]}, r"tasks: unknown task 'hellaswg'; did you mean hellaswag\?"),
    (
        {"gen_kwargs": {"temprature": 0.6}},
        r"gen_kwargs: unknown generation argument 'temprature'; .*; did you mean temperature\?",
    ),
    ({"model_args": {"quantise": "quanto:int4"}}, r"unknown model argument 'quantise'; did you mean quantize\?"),
    ({"model_args": {"dtyp": "float32"}}, r"models.tiny: unknown model argument 'dtyp'; did you mean dtype\?"),
    ({"model_args": {"stop_loops": "perhaps"}}, "models.tiny: stop_loops='perhaps'"),
    ({"models": {"a": "./nowhere"}}, "models.a: pretrained=./nowhere: is not there"),
    ({"pruning": [{"method": "shortgpt", "remove": [1], "calibration": "wikitex"}]}, "pruning.0: unknown calibration"),
    (
        {"pruning": [{"method": "laco", "remove": [1], "parameters": {"treshold": 1}}]},
        r"pruning.0: laco has no parameter 'treshold'; did you mean threshold\?",
    ),
    ({"pruning": [{"recipe": "nope"}]}, "pruning.0: recipe=nope: neither a YAML file nor"),
    ({"pruning": [{"method": "reverse", "remove": [1, 99]}]}, "remove=99: tiny-chain has 12 layers; at most 11 can go"),
    ({"include_path": "nofolder"}, "include_path: nofolder is no folder"),
    ({"output": "study.yaml"}, "output: .*study.yaml is a file; give a folder"),
    (
        {"engine": "tts-server", "pruning": [], "models": {"a": {"base_url": "http://x", "modle": "m"}}},
        "models.a: unknown model argument 'modle'",
    ),
]


@pytest.mark.parametrize(("change", "words"), MISTAKEN)
def test_a_name_that_is_not_known_is_one_line_before_anything_runs(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    done = cli("sweep", "run", written(tmp_path, **change))
    assert done.exit_code == 1 and re.search(words, done.stderr), done.stderr
    assert done.stderr.startswith("lm-eval-tts: ") and done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    done = cli("sweep", "run", tmp_path / "none.yaml")
    assert done.exit_code == 1 and "none.yaml: cannot be read (No such file or directory)" in done.stderr


@pytest.mark.parametrize(("change", "words"), BROKEN)
def test_a_broken_manifest_is_one_line(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    done = cli("sweep", "status", written(tmp_path, **change))
    assert done.exit_code == 1 and re.search(words, done.stderr), done.stderr
    assert done.stderr.startswith("lm-eval-tts: ") and done.stderr.count("\n") == 1

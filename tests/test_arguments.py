"""Model arguments: what is wrong with them is one line, and runs are named after them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import ArgumentError, TTSError
from lm_eval_ext.generation.request import GenerationOptions, parse_options
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from tests.shared import case_table, one_line


@pytest.mark.parametrize(("arguments", "message"), case_table("wrong_arguments.yaml")["models"])
def test_wrong_arguments_are_one_line(arguments: dict[str, Any], message: str, tiny_model: Path) -> None:
    with one_line(TTSError, message):
        PrunedHFLM(**{"pretrained": str(tiny_model), "device": "cpu", **arguments})


@pytest.mark.parametrize("name", ["pretrained", "recipe", "calibration"])
def test_a_name_too_long_for_a_file_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = {"pretrained": "tiny-chain", "prune": "shortgpt:1"} if name == "calibration" else {}
    with one_line(TTSError, "é" * 200):
        PrunedHFLM(**{"device": "cpu", **given, name: "é" * 200})


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"pretrained": "org/m"}, "org/m"),
        ({"pretrained": "org/m", "drop_layers": [3, 4, 7]}, "org/m-drop3-4+7"),
        ("pretrained=org/m,drop_layers=[3,4]", "org/m-drop3-4"),
        ({"recipe": "qwen3-8b-reverse-2"}, "Qwen/Qwen3-8B-drop34-35"),
        ({"recipe": "qwen3-8b-reverse-2", "pretrained": "local"}, "local-drop34-35"),
    ],
)
def test_dense_and_pruned_runs_have_names_of_their_own(arguments: Any, name: str) -> None:
    assert run_name("org/m", arguments) == name


# Generation arguments -------------------------------------------------------------------------------------------------


def parsed(**kwargs: Any) -> GenerationOptions:
    return parse_options(kwargs, answer_budget=100, max_tokens=256)


def test_defaults_are_greedy_and_unlimited() -> None:
    options = parsed()
    assert options.sampling.temperature == 0
    assert (options.thinking_budget, options.answer_budget, options.max_tokens) == (None, 100, 256)


def test_minus_one_is_no_limit() -> None:
    options = parsed(thinking_token_budget=-1, answer_token_budget=-1)
    assert options.thinking_budget is None and options.answer_budget is None


def test_other_names_mean_the_same() -> None:
    theirs = parsed(max_tokens_thinking=8, thinking_n_ignore=2, thinking_n_ignore_str="Hm", max_new_tokens=50)
    ours = parsed(thinking_token_budget=8, wait_count=2, wait_text="Hm", max_gen_toks=50)
    assert theirs == ours


def test_sampling_without_a_temperature_is_at_one() -> None:
    assert parsed(do_sample=True).sampling.temperature == 1.0
    assert parsed(do_sample=True, temperature=0).sampling.temperature == 0


@pytest.mark.parametrize(("kwargs", "message"), case_table("wrong_arguments.yaml")["generation"])
def test_faults_are_one_line(kwargs: dict[str, Any], message: str) -> None:
    with one_line(ArgumentError, match=message):
        parsed(**kwargs)

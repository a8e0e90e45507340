"""The embedded model: what `lm_eval --model pruned-hf` evaluates where none is named, and what pruning does to it."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.runs.samples import read_run
from lm_eval_ext.statistics.intervals import interval_from_stderr
from tests.commands import LM_EVAL, run
from tests.shared import ROOT

TASK = "tts_chain_short_b8"
SHORT, LONG = "tts_chain_short_b128", "tts_chain_b128"


def evaluated(out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    done = run(LM_EVAL, "--model", "pruned-hf", *arguments, "--output_path", out)
    assert done.returncode == 0, done.stderr
    (path,) = out.rglob("results_*.json")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content, done.stdout + done.stderr


@cache
def accuracy(removed: int) -> dict[str, float]:
    """What is published of the model from which ShortGPT, looking at short chains, took so many layers.

    `test_tiny_study` checks that the code gives what is published.
    """
    runs = [read_run(path) for path in (ROOT / "leaderboard" / "results" / "tiny-chain").glob("*/run.json")]
    run = next(
        run for run in runs if (run.dense if not removed else run.id.startswith(f"tiny-chain-shortgpt-{removed}-"))
    )
    return {name: task.metrics["acc"].value for name, task in run.tasks.items()}


def test_it_is_small_and_loads_anywhere() -> None:
    files = {path.name for path in TINY_CHAIN.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "training.json"} <= files
    assert sum(path.stat().st_size for path in TINY_CHAIN.iterdir()) < 4 << 20
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY_CHAIN), AutoTokenizer.from_pretrained(TINY_CHAIN)
    assert model.config.num_hidden_layers >= 12 and model.config.head_dim in (32, 64)
    chat = tokenizer.apply_chat_template(
        [
            {
                "role": "user",
                "content": "Compute from left to right, modulo 10, and put the result in \\boxed{}: 7+5*3-8",
            }
        ],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = torch.tensor([tokenizer.encode(f"{chat}<think>", add_special_tokens=False)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=30)
    assert tokenizer.decode(out[0, ids.shape[1] :]) == "7+5=2*3=6-8=8</think>\\boxed{8}<|end|>"


@pytest.mark.long
def test_it_is_the_default(tmp_path: Path) -> None:
    content, said = evaluated(tmp_path / "default", "--tasks", TASK, "--limit", "4")
    assert content["config"]["pruning"]["base"] == str(TINY_CHAIN) and content["model_name"] == "tiny-chain"
    assert "no pretrained given: using the embedded tiny-chain" in said
    named, said = evaluated(
        tmp_path / "named", "--model_args", "pretrained=tiny-chain", "--tasks", TASK, "--limit", "4"
    )
    assert named["results"] == content["results"] and "no pretrained" not in said


def test_whole_it_reasons_and_more_thinking_helps() -> None:
    whole = accuracy(0)
    assert whole[SHORT] >= 0.97 and whole[LONG] >= 0.9
    by_budget = [whole[f"tts_chain_b{budget}"] for budget in (8, 16, 32, 64, 128)]
    assert all(one < more for one, more in pairwise(by_budget))


@pytest.mark.parametrize("removed", [1, 2])
def test_with_fewer_layers_short_chains_work_and_long_ones_break(removed: int) -> None:
    whole, pruned = accuracy(0), accuracy(removed)
    assert pruned[SHORT] >= 0.9 * whole[SHORT] and pruned[LONG] <= 0.5 * whole[LONG]
    assert pruned[LONG] - pruned["tts_chain_b32"] < 0.5 * (whole[LONG] - whole["tts_chain_b32"])


def test_votes_help() -> None:
    """From the results that are published of it: maj@8 above pass@1, with intervals that do not overlap."""
    runs = [read_run(path) for path in (ROOT / "leaderboard" / "results" / "tiny-chain").glob("*/run.json")]
    task = next(run for run in runs if run.dense).tasks["tts_chain_maj8"]
    one, eight = (
        interval_from_stderr(score.value, score.stderr, task.questions)
        for score in (task.metrics["acc"], task.metrics["maj@8"])
    )
    assert eight.low > one.high

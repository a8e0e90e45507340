"""The embedded model: what `lm_eval --model pruned-hf` evaluates where none is named, and what pruning does to it."""

from __future__ import annotations

import json
import random
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.lm_eval_output import write_output
from examples.demo import BudgetScore, main, reading, scores, table
from examples.tiny_chain import INSTRUCTION, SHORTEST, chain_tokenizer, example, train
from lm_eval_ext.paths import TASKS, TINY_CHAIN
from lm_eval_ext.runs.samples import read_run
from lm_eval_ext.runs.study_file import read_study
from lm_eval_ext.statistics.intervals import interval_from_stderr
from lm_eval_ext.sweep.sources import Study
from lm_eval_ext.testbed.problems import chain, chains, running_values, worked_out
from lm_eval_ext.thinking_formats import detect_format
from tests.commands import LM_EVAL, run
from tests.shared import ROOT, results_in
from tests.test_sweep_runs import killed, outcomes, run_to_its_end

TASK = "tts_chain_short_b8"
SHORT, LONG = "tts_chain_short_b128", "tts_chain_b128"


def evaluated(out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    done = run(LM_EVAL, "--model", "pruned-hf", *arguments, "--output_path", out)
    assert done.returncode == 0, done.stderr
    return results_in(out), done.stdout + done.stderr


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


# The testbed: chains, their tokenizer, training, and the demo's table -------------------------------------------------


def test_running_values_are_worked_out_from_left_to_right() -> None:
    assert running_values("7+5*3-8") == "268"  # 12, 2*3, 6-8
    assert "".join(worked_out("7+5*3-8")) == "7+5=2*3=6-8=8"


@given(st.integers(1, 30), st.integers(0, 1000))
def test_chains_can_be_worked_out_backwards(steps: int, seed: int) -> None:
    """No step wipes out what was before it."""
    question = chain(steps, random.Random(seed))
    values = running_values(question)
    assert len(values) == steps and len(question) == 2 * steps + 1
    first = {str(start): running_values(f"{start}{question[1:]}")[-1] for start in range(10)}
    assert len(set(first.values())) == 10 and first[question[0]] == values[-1]


def test_problems_are_different_and_always_the_same() -> None:
    problems = chains(200, 6, 40)
    assert len({problem["question"] for problem in problems}) == 200 and problems == chains(200, 6, 40)
    assert {int(problem["steps"]) for problem in problems} == set(range(6, 41))


def test_the_tokenizer_writes_anything_and_the_task_briefly() -> None:
    tokenizer = chain_tokenizer()
    text = f"{INSTRUCTION}7+5<think>2</think>\\boxed{{2}}"
    assert len(tokenizer.encode(text)) == 9 and tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("naïve 答案 \n")) == "naïve 答案 \n"
    assert detect_format(tokenizer).name == "bare"


def test_the_tasks_say_what_the_model_knows() -> None:
    assert INSTRUCTION.replace("\\", "\\\\") in (TASKS / "chain" / "_chain").read_text("utf-8")


def test_examples_answer_after_any_cut() -> None:
    generator = random.Random(1)
    prompt, given_part, learned = example(5, generator)
    assert given_part == "" and learned.endswith("}<|end|>") and prompt.endswith("<think>")
    parts = {example(5, generator, cut=True)[1].removesuffix("</think>").count("=") for _ in range(300)}
    assert parts == set(range(5))
    ends = {example(5, generator, cut=True)[1].removesuffix("</think>")[-2:] for _ in range(300)}
    assert any(end.startswith("=") for end in ends) and any(end[:1] in "+-*" for end in ends if end)


@pytest.mark.long
def test_training_writes_a_model_that_loads(tmp_path: Path) -> None:
    trained = train(tmp_path, steps=12, seed=3, examples=2)
    log = json.loads((tmp_path / "training.json").read_text("utf-8"))
    assert [len(row) for row in log["loss"]] and log["loss"][-1][1] < log["loss"][0][1]
    assert set(log["accuracy"]) == {"dense", *(f"without layer {layer}" for layer in range(12))}
    assert trained == log
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.num_parameters() == log["parameters"] and (tmp_path / "model.safetensors").stat().st_size < 4 << 20
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template
    options = ["--steps", "12", "--seed", "3", "--examples", "1"]
    done = run(sys.executable, "-m", "examples.tiny_chain", tmp_path / "again", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    again = json.loads((tmp_path / "again" / "training.json").read_text("utf-8"))
    assert again["loss"] == log["loss"] and json.loads(done.stdout.splitlines()[-1]) == again["accuracy"]


def test_chains_grow_once_they_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.tiny_chain.LENGTHS", (1,))
    longest = []
    for learned in (0.0, 100.0):  # never, at once
        monkeypatch.setattr("examples.tiny_chain.LEARNED", learned)
        log: dict[str, Any] = train(tmp_path, steps=2, seed=3, examples=1)
        longest.append([row[2] for row in log["loss"]])
    assert longest == [[SHORTEST, SHORTEST], [SHORTEST + 2, SHORTEST + 2]]


# What `make demo` says at its end, from results as lm-eval writes them ------------------------------------------------


def verdicts(right: int) -> list[list[bool]]:
    return [[number < right] for number in range(10)]


def test_the_demos_table_and_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"tts_short_b16": verdicts(10), "tts_long_b16": verdicts(3), "tts_long_b32": verdicts(8)}
    pruned = {"tts_short_b16": verdicts(9), "tts_long_b16": verdicts(1), "tts_long_b32": verdicts(2)}
    write_output(tmp_path / "whole", whole)
    write_output(tmp_path / "pruned", pruned, dropped=[5], method="reverse")
    found = scores(tmp_path)
    assert BudgetScore("reverse: without 5", "tts_long", 32, 0.2) in found
    lines = [line.split() for line in table(found)]
    assert lines[0] == ["thinking", "tokens", "16", "32"]
    assert ["tts_long", "base", "0.30", "0.80"] in lines and ["tts_short", "base", "1.00"] in lines
    assert reading(found) == ["reverse: without 5 keeps 90% of tts_short, 25% of tts_long"]
    monkeypatch.setattr(sys, "argv", ["demo", str(tmp_path)])
    main()
    said = [*table(found), "", *reading(found), "", f"Results and all samples: {tmp_path}"]
    assert capsys.readouterr().out.strip().splitlines() == said


# The study that ships: killed and started again, it is the committed leaderboard --------------------------------------


RESULTS = ROOT / "leaderboard" / "results"


@pytest.mark.long
def test_the_tiny_study_killed_ten_times_is_the_published_one(tmp_path: Path) -> None:
    path, other = (tiny_study(tmp_path / name) for name in ("killed", "undisturbed"))
    killed(path, 10, 2, "--jobs", "2", longest=80.0)
    assert run_to_its_end(other, "--jobs", "2")[0] == 0
    found = outcomes(path)
    assert len(found) == 26 and found == outcomes(other)
    published = read_study(RESULTS / "studies" / "tiny-study.json")
    for planned, done in zip(published.runs, Study(path, keep=False).runs, strict=True):
        tasks = read_run(RESULTS / "tiny-chain" / str(planned.run) / "run.json").tasks
        for task, score in found[done.name][0].items():
            assert tasks[task].accuracy.value == pytest.approx(score["acc,answer"], abs=0.02), (done.name, task)


@pytest.mark.long
def test_the_study_of_experts_and_weights_is_the_published_one(tmp_path: Path) -> None:
    path = tiny_study(tmp_path / "moe", "tiny-moe-study")
    assert run_to_its_end(path, "--jobs", "2")[0] == 0
    found = outcomes(path)
    published = read_study(RESULTS / "studies" / "tiny-moe-study.json")
    assert len(found) == len(published.runs) == 38
    for planned, done in zip(published.runs, Study(path, keep=False).runs, strict=True):
        tasks = read_run(RESULTS / "tiny-moe-chain" / str(planned.run) / "run.json").tasks
        for task, score in found[done.name][0].items():
            assert tasks[task].accuracy.value == pytest.approx(score["acc,answer"], abs=0.02), (done.name, task)


def tiny_study(folder: Path, name: str = "tiny-study") -> Path:
    folder.mkdir()
    path = folder / f"{name}.yaml"
    path.write_text((ROOT / "examples" / path.name).read_text("utf-8").replace(f"../out/{name}", "out"), "utf-8")
    return path

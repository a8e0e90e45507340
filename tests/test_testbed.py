"""The testbed: chains, their tokenizer, training, and the demo's table."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tiny_chain import INSTRUCTION, SHORTEST, chain_tokenizer, example, train
from lm_eval_ext.paths import TASKS
from lm_eval_ext.testbed.problems import chain, chains, running_values, worked_out
from lm_eval_ext.thinking_formats import detect_format
from tests.commands import run


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

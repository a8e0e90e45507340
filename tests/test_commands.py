"""Whatever our commands are given that is not there, they say so in one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lm_eval_ext.paths import TASKS
from tests.commands import COMMAND, cli

GIVEN = {
    "leaderboard build nowhere": "nowhere: does not exist",
    "leaderboard add nowhere": "nowhere: does not exist",
    "leaderboard check nowhere": "nowhere: does not exist",
    "leaderboard regrade nowhere": "nowhere: does not exist",
    "leaderboard serve nowhere --port 0": "nowhere: does not exist",
    "leaderboard check . --site nowhere.yaml": "nowhere.yaml: cannot be read (No such file or directory)",
    "tasks check .": ".: no task YAML found; expected a task YAML, a folder of them, or a task's name",
    "tasks check nowhere": "nowhere: not a file, a folder, or the name of an installed task",
    "tasks check tts_amie24": "did you mean tts_aime24?",
    "tasks new tts_mine --dataset nowhere.json --question q --answer a --license MIT": "nowhere.json",
    "journal show --path nowhere.sqlite": "journal=nowhere.sqlite: no such file",
    "recipes check nowhere": "recipe=nowhere: neither a YAML file nor an installed recipe",
    "export nowhere out": "recipe=nowhere: neither a YAML file nor an installed recipe",
    "recover nowhere out --data embedded": "recipe=nowhere: neither a YAML file nor an installed recipe",
    "recover qwen3-8b-reverse-1 out --data nowhere": "unknown calibration 'nowhere'",
    "prune --base ./nowhere --method shortgpt": "pretrained=./nowhere: folder not found",
    "prune --base no/such-model --method foo": "unknown method 'foo'; expected one of: aimer,",
    "export qwen3-8b-reverse-2 out": "Qwen/Qwen3-8B (revision main): its config cannot be",
}


@pytest.mark.parametrize("words", GIVEN)
def test_what_is_not_there_is_one_line(words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    done = cli(*words.split())
    told = [line for line in done.output.splitlines() if GIVEN[words] in line]
    assert done.exit_code != 0 and len(told) == 1, done.output
    assert list(tmp_path.iterdir()) == []


def test_one_command_checks_all_that_a_pull_request_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("check", "--no-data")
    assert done.exit_code == 0, done.output
    assert "errors: 0, warnings: 0" in done.output and "0 invalid" in done.output
    assert "no published runs: folder leaderboard/results does not exist\n" in done.output
    assert done.output.endswith("no published scores: folder leaderboard/published does not exist\n")
    faulty = tmp_path / "leaderboard" / "published" / "benchmarks.yaml"
    faulty.parent.mkdir(parents=True)
    faulty.write_text("benchmarks: {MMLU: {kind: easy}}", "utf-8")
    done = cli("check", "--no-data")
    assert done.exit_code == 1 and "benchmarks.MMLU.kind: expected 'knowledge'" in done.output
    faulty.unlink()
    faulty.parent.rmdir()

    path = tmp_path / "leaderboard" / "results" / "model" / "run" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text("{}", "utf-8")
    done = cli("check", "--no-data")
    assert done.exit_code == 1 and "0 invalid" in done.output, done.output
    assert "0 runs; errors: 1, warnings: 0\n" in done.output


def test_a_check_of_some_tasks_says_nothing_of_others() -> None:
    """Without a network, the datasets of all others would be errors."""
    done = cli("check", "tts_sums", TASKS / "chain")
    assert (done.exit_code, done.output) == (0, "errors: 0, warnings: 0\n")
    done = cli("check", "tts_smus")
    assert done.exit_code == 2 and "did you mean tts_sums?" in done.output


def test_a_reader_that_stops_reading_is_no_fault() -> None:
    """As in `lm-eval-tts recipes list | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [COMMAND, "recipes", "list"], stdout=writer, stderr=subprocess.PIPE, env=environment, text=True, check=False
    )
    os.close(writer)
    assert done.stderr == ""

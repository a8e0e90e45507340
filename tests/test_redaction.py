"""What a published run leaves out: gated questions, paths, secrets."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from benchmarks.lm_eval_output import write_output
from lm_eval_ext.redaction import public_name, scrubbed, without_tokens
from lm_eval_ext.runs.load import load, read_source
from lm_eval_ext.runs.submission import submission
from tests.shared import case_table
from tests.test_submission import CATALOGUE, TASK, changed


def test_nothing_of_gated_questions_is_read_whatever_the_task_is_called(tmp_path: Path) -> None:
    path = write_output(tmp_path, {"my_science": [[True]]}, text="SECRET %s")
    changed(path, lambda content: content["configs"]["my_science"].update(dataset_path="Idavidrein/GPQA"))
    (row,) = read_source(path, CATALOGUE).samples("my_science")
    assert row.prompt is None and row.gold is None and row.outputs[0].text is None and row.outputs[0].answer is None


@pytest.mark.parametrize(("name", "public"), case_table("redacted.yaml")["names"])
def test_names_of_models_tell_no_paths(name: str, public: str) -> None:
    assert public_name(name) == public


@pytest.mark.parametrize(("text", "public"), case_table("redacted.yaml")["texts"])
def test_texts_tell_no_paths_and_no_secrets(text: str, public: str) -> None:
    assert scrubbed([{"a": text}]) == [{"a": public}]


def test_a_models_text_keeps_all_but_tokens() -> None:
    assert (
        without_tokens("see /home/x, password=abcd, hf_abcdefghijklmnopqrstuvwxyz")
        == "see /home/x, password=abcd, [redacted]"
    )


OF_CHAT = {"system_instruction": "Think it's hard", "chat_template": "{{ x }}", "fewshot_as_multiturn": True}


def test_the_command_names_what_it_leaves_out(tmp_path: Path) -> None:
    given = {
        "pretrained": "/home/someone/M", "drop_layers": [3], "token": "abcdefgh", "cache_dir": "/home/someone",
        "peft": "/home/someone/adapter", "load_in_4bit": True,
    }  # fmt: skip
    config = {"model_args": given, "gen_kwargs": {"temperature": 0.5}, "num_fewshot": 5, "limit": 3.0}
    path = write_output(tmp_path, {TASK: [[True]]}, dropped=[3], samples=False, config=config)
    changed(path, lambda content: content.update(OF_CHAT))
    words = shlex.split(submission(path, CATALOGUE, "Org/M").command, comments=True)
    assert words == [
        "lm_eval", "--model", "pruned-hf", "--model_args",
        "pretrained=Org/M,drop_layers=[3],peft=adapter,load_in_4bit=true", "--tasks", TASK,
        "--gen_kwargs", "temperature=0.5", "--num_fewshot", "5", "--batch_size", "32", "--limit", "3",
        "--apply_chat_template", "--fewshot_as_multiturn", "--system_instruction", "Think it's hard",
        "--seed", "0,1234,1234,1234",
    ]  # fmt: skip
    assert submission(path, CATALOGUE).command.endswith("# without cache_dir, token")


def test_a_built_site_is_no_source_of_results(tmp_path: Path) -> None:
    from lm_eval_ext.api import build_site

    write_output(tmp_path / "out", {TASK: [[True]]})
    build_site([tmp_path / "out"], tmp_path / "out" / "site")
    assert len(load([tmp_path], CATALOGUE)) == 1

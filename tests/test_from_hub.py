"""`tasks new --from-hub`: a task from the `eval.yaml` of a dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.smollm2 import HUB
from lm_eval_ext.cli.tasks import checked
from tests.shared import case_table
from tests.test_authoring import last_line, new

FORMS = HUB.parent / "interop" / "hub"
SUMS = [{"id": n, "question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(1, 25)]
MC = [
    {"question": f"What is {n} + {n}?", "right": f"{2 * n}.", "wrong1": f"{2 * n + 1}.", "wrong2": "0."}
    for n in range(1, 25)
]
MATH: Mapping[str, Any] = {
    "id": "sums", "config": "default", "split": "test", "epochs": 4, "epoch_reducer": "mean",
    "field_spec": {"input": "question", "target": "answer", "metadata": ["id"]},
    "solvers": [
        {"name": "prompt_template", "args": {"template": "No. {id}: {prompt}\nThe answer goes into \\boxed{{}}."}},
        {"name": "generate"},
    ],
    "scorers": [{"name": "math"}],
}  # fmt: skip
CHOICE: Mapping[str, Any] = {
    "id": "mc", "shuffle_choices": True, "solvers": [{"name": "multiple_choice"}], "scorers": [{"name": "choice"}],
    "field_spec": {"input": "question", "target": "literal:A", "choices": ["right", "wrong1", "wrong2"]},
}  # fmt: skip
OLD: Mapping[str, Any] = {
    "name": "old", "subset": "default", "splits": ["test"], "solvers": ["prompt_template", "generate"],
    "scorers": ["model_graded_fact"], "field_spec": {"input": "question", "target": "answer"},
}  # fmt: skip


def dataset(
    folder: Path, tasks: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]] = SUMS, **more: Any
) -> Path:
    """A dataset `lab/mine` below a folder, as it is on the Hub."""
    path = folder / "lab" / "mine"
    path.mkdir(parents=True)
    (path / "test.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    (path / "eval.yaml").write_text(yaml.safe_dump({"name": "Mine", "tasks": list(tasks), **more}), "utf-8")
    return path


def made(folder: Path, *words: str) -> dict[str, Any]:
    """The task that is written, which has no faults."""
    code, output = new("mine", "--from-hub", "lab/mine", "--license", "CC0-1.0", "--budget", "64", *words)
    assert code == 0, output
    assert checked([folder / "tasks"], data=True) == []
    found: dict[str, Any] = yaml.safe_load((folder / "tasks" / "mine" / "tts_mine.yaml").read_text("utf-8"))
    return found


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_mathematics_with_a_prompt_of_its_own(tmp_path: Path) -> None:
    dataset(tmp_path, [MATH], evaluation_framework="inspect-ai")
    task = made(tmp_path)
    assert task["include"][0] == "../_math" and task["dataset_path"] == "lab/mine" and task["repeats"] == 4
    about = task["metadata"]
    assert about["question"] == "No. {{id}}: {{question}}\nThe answer goes into \\boxed{}."
    assert (about["instruction"], about["hub"]) == ("", {"dataset": "lab/mine", "task_id": "sums"})


def test_choices_of_which_the_first_is_right_are_shuffled(tmp_path: Path) -> None:
    dataset(tmp_path, [MATH, CHOICE], MC)
    about = made(tmp_path, "--task", "mc")["metadata"]
    assert about["choices"] == {
        "from": ["right", "wrong1", "wrong2"],
        "answer": "right",
        "as": "text",
        "shuffle": "question",
    }
    assert "instruction" not in about and about["hub"]["task_id"] == "mc"


def test_choices_in_a_list_by_index(tmp_path: Path) -> None:
    rows = [{"question": f"Q{n}", "options": ["a1", "b2", "c3"], "gold": n % 3} for n in range(24)]
    spec = {"input": "question", "target": "gold", "choices": "options"}
    dataset(tmp_path, [{**CHOICE, "field_spec": spec, "shuffle_choices": False}], rows)
    assert made(tmp_path)["metadata"]["choices"] == {"from": "options", "answer": "gold", "as": "index"}


def test_the_form_of_early_2026(tmp_path: Path) -> None:
    dataset(tmp_path, [OLD], prompt_template="Solve it.\n\n{prompt}\n")
    task = made(tmp_path)
    assert task["metadata"]["question"] == "Solve it.\n\n{{question}}" and task["include"][0] == "../_math"
    assert "repeats" not in task and task["metadata"]["hub"]["task_id"] == "old"


def test_a_task_of_another_framework_says_only_where_its_questions_are(tmp_path: Path) -> None:
    dataset(tmp_path, [{"id": "lab/mine", "config": "default", "split": "test"}], evaluation_framework="math-arena")
    about = made(tmp_path)["metadata"]
    assert (about["question"], about["answer"], about["hub"]["task_id"]) == ("question", "answer", "lab/mine")


def test_what_is_given_counts_more(tmp_path: Path) -> None:
    dataset(tmp_path, [MATH])
    task = made(tmp_path, "--kind", "number", "--question", "question")
    assert task["include"][0] == "../_number" and task["metadata"]["question"] == "question"


@pytest.mark.parametrize("name", ["inspect", "inspect_choice", "old_form"])
def test_real_forms(name: str, tmp_path: Path) -> None:
    path = FORMS / f"eval_{name}.yaml"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    rows = (
        [{**row, "wrong3": "-1."} for row in MC]
        if name == "inspect_choice"
        else [{**row, "solution": "x"} for row in SUMS]
    )
    (dataset(tmp_path, [MATH], rows) / "eval.yaml").write_bytes(path.read_bytes())
    made(tmp_path)


@pytest.mark.parametrize(("change", "said"), case_table("wrong_sources.yaml")["hub"])
def test_what_is_no_task_of_ours_is_one_line(change: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    dataset(tmp_path, [{**MATH, **change}])
    code, output = new("mine", "--from-hub", "lab/mine")
    assert code == 1 and said in last_line(output) and not (tmp_path / "tasks").exists(), output


def test_which_of_several_tasks_is_asked_for(tmp_path: Path) -> None:
    dataset(tmp_path, [MATH, CHOICE])
    assert "choose one with --task: sums, mc" in last_line(new("mine", "--from-hub", "lab/mine")[1])
    assert "no such task; expected one of: sums, mc" in last_line(
        new("mine", "--from-hub", "lab/mine", "--task", "x")[1]
    )
    for words in ([], ["--dataset", "lab/mine", "--from-hub", "lab/mine"], ["--dataset", "lab/mine", "--task", "mc"]):
        assert "expected one of --dataset and --from-hub" in last_line(new("mine", *words)[1])


def test_free_texts_that_a_model_grades_are_refused(tmp_path: Path) -> None:
    rows = [{"question": f"Who was number {n}?", "answer": name} for n, name in enumerate(("Ada", "Grace", "Emmy") * 8)]
    dataset(tmp_path, [OLD], rows, prompt_template="{prompt}")
    assert "a model grades its answers, which look like text" in last_line(new("mine", "--from-hub", "lab/mine")[1])
    assert made(tmp_path, "--kind", "text")["include"][0] == "../_text"


def test_without_the_file_or_the_hub_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dataset(tmp_path, [MATH]) / "eval.yaml").unlink()
    assert "the folder has no eval.yaml; use --dataset" in last_line(new("mine", "--from-hub", "lab/mine")[1])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, output = new("mine", "--from-hub", "lab/none")
    assert code == 1 and "dataset=lab/none: its eval.yaml cannot be read (" in last_line(output)

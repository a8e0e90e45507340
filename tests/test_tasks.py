"""One test over every task file there is: lm-eval drops a broken one without a word."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset
from lm_eval.tasks import TaskManager

from lm_eval_ext.authoring.variants import sync
from lm_eval_ext.choices import LETTERS, shuffled
from lm_eval_ext.errors import TaskError
from lm_eval_ext.paths import TASKS
from lm_eval_ext.runs.run import variant_of
from lm_eval_ext.testbed.problems import sums
from tests.commands import cli
from tests.shared import case_table

FILES = sorted(TASKS.rglob("*.yaml"))
BENCHMARKS = ("aime24", "aime25", "math500", "gpqa_diamond")
BUDGETS = (512, 1024, 2048, 4096, 8192)
VOTES = (8, 32)


@pytest.fixture(scope="module")
def manager() -> TaskManager:
    return TaskManager()


def ours(manager: TaskManager) -> dict[str, Any]:
    return {name: entry for name, entry in manager.task_index.items() if TASKS in Path(entry.yaml_path or "/").parents}


def test_every_file_is_in_the_index(manager: TaskManager) -> None:
    assert sorted(entry.yaml_path for entry in ours(manager).values()) == FILES
    assert all(name == "tts" or name.startswith("tts_") for name in ours(manager))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_variants_are_addressable(manager: TaskManager, benchmark: str) -> None:
    names = {
        f"tts_{benchmark}",
        *(f"tts_{benchmark}_b{n}" for n in BUDGETS),
        *(f"tts_{benchmark}_maj{n}" for n in VOTES),
    }
    assert names <= set(manager.all_subtasks)


def test_a_benchmarks_own_file_is_short() -> None:
    own = [path for path in TASKS.glob("*/*.yaml") if path.parent.name != "groups"]
    assert len(own) > 60 and [path.name for path in own if len(path.read_text("utf-8").splitlines()) > 15] == []


def test_groups_hold_what_their_names_say(manager: TaskManager) -> None:
    def members(group: str) -> list[str]:
        return list(yaml.safe_load(Path(ours(manager)[group].yaml_path).read_text())["task"])

    math = BENCHMARKS[:3]
    assert members("tts_math") == [f"tts_{name}_b{n}" for name in math for n in BUDGETS]
    assert members("tts_math_maj") == [f"tts_{name}_maj{n}" for name in math for n in VOTES]
    assert members("tts_gpqa") == [f"tts_gpqa_diamond_b{n}" for n in BUDGETS]
    assert members("tts_gpqa_maj") == [f"tts_gpqa_diamond_maj{n}" for n in VOTES]
    assert members("tts") == ["tts_math", "tts_math_maj", "tts_gpqa", "tts_gpqa_maj"]


def test_every_task_loads(manager: TaskManager, original_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original_hub)
    names = [name for name in ours(manager) if name in manager.all_subtasks]
    loaded = manager.load(names)["tasks"]
    assert sorted(loaded) == sorted(names)
    for name, task in loaded.items():
        doc = task.eval_docs[0]
        assert any(way in task.doc_to_text(doc) for way in ("\\boxed{}", "Final Answer", "JSON", "code block"))
        assert str(task.doc_to_target(doc))
        kwargs = task.config.generation_kwargs
        assert "thinking_token_budget" in kwargs, "without it the request would not be ours"
        _, budget, _ = variant_of(name)
        assert kwargs["thinking_token_budget"] == budget or budget is None
        votes = int(name.rpartition("_maj")[2]) if "_maj" in name else None
        assert task.config.repeats == votes or votes is None


def test_the_protocol_is_the_papers(manager: TaskManager, original_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original_hub)
    for name in ("tts_math500_b2048", "tts_gpqa_diamond_b2048"):
        config = manager.load([name])["tasks"][name].config
        assert config.repeats == 3
        assert config.generation_kwargs == {
            "do_sample": True,
            "temperature": 1.0,
            "max_gen_toks": 32768,
            "thinking_token_budget": 2048,
            "until": [],
        }
    maj = manager.load(["tts_aime24_maj8"])["tasks"]["tts_aime24_maj8"].config
    assert maj.generation_kwargs["thinking_token_budget"] == -1


def test_choices_are_in_an_order_of_their_own(
    manager: TaskManager, original_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(original_hub)
    (task,) = manager.load(["tts_gpqa_diamond"])["tasks"].values()
    orders = []
    for seed in (1, 2):
        random.seed(seed)
        docs = list(shuffled(task.dataset["train"]))
        orders.append([doc["choices"] for doc in docs])
        for doc in docs:
            assert doc["choices"][LETTERS.index(doc["letter"])] == doc["Correct Answer"]
            assert doc["Canary String"], "the canary was lost"
    assert orders[0] == orders[1]


def test_the_right_choice_is_anywhere() -> None:
    wrong = {f"Incorrect Answer {number}": f"wrong {number}" for number in (1, 2, 3)}
    records = [{"Record ID": f"rec{i}", "Question": "?", "Correct Answer": "right", **wrong} for i in range(400)]
    letters = [doc["letter"] for doc in shuffled(Dataset.from_list(records))]
    assert all(70 <= letters.count(letter) <= 130 for letter in "ABCD")


def test_sums_are_right_and_always_the_same() -> None:
    problems = sums(100)
    assert problems == sums(100) and len({problem["question"] for problem in problems}) == 100
    for problem in problems:
        numbers = [int(word) for word in problem["question"].split() if word.isdigit()]
        assert sum(numbers) == int(problem["answer"])


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_sync_writes_deletes_and_settles(tmp_path: Path) -> None:
    base = "task: t\ngeneration_kwargs: {temperature: 1.0}\nmetadata: {variants: {budgets: [%s], votes: [4]}}\n"
    path = write(tmp_path, "t.yaml", base % "8, 16")
    assert {changed.name for changed in sync(tmp_path)} == {"t_b8.yaml", "t_b16.yaml", "t_maj4.yaml"}
    assert sync(tmp_path) == []
    assert yaml.safe_load((tmp_path / "variants" / "t_b8.yaml").read_text())["generation_kwargs"] == {
        "temperature": 1.0,
        "thinking_token_budget": 8,
    }
    path.write_text(base % "8")
    assert {changed.name for changed in sync(tmp_path)} == {"t_b16.yaml"}
    assert not (tmp_path / "variants" / "t_b16.yaml").exists()


def test_variants_that_are_out_of_date_are_listed_and_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", "task: t\nmetadata: {variants: {budgets: [8]}}\n")
    done = cli("tasks", "sync", tmp_path, "--check")
    assert done.exit_code == 1 and done.output == "variants/t_b8.yaml\n" and not (tmp_path / "variants").exists()
    assert cli("tasks", "sync", tmp_path).exit_code == 0
    done = cli("tasks", "sync", tmp_path, "--check")
    assert done.exit_code == 0 and done.output == "files out of date: 0\n"


@pytest.mark.parametrize(("text", "message"), case_table("wrong_tasks.yaml")["declared"])
def test_faults_of_a_declaration_are_one_line(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", text)
    with pytest.raises(TaskError, match=message) as error:
        sync(tmp_path)
    assert "\n" not in str(error.value) and "t.yaml" in str(error.value)

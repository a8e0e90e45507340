"""What was asked of a run is what is compared, named and ranked, whatever its tasks are called."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.analysis.board import Board
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.runs.run import Run
from lm_eval_ext.site.rendering import Names
from tests.commands import LM_EVAL, cli, run
from tests.published import add, edit, only_run, said

ASKED_128 = {"thinking_token_budget": 128}


def command(*words: object, code: int = 0) -> str:
    done = cli(*words)
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def board(*folders: Path) -> Board:
    catalogue = read_catalogue()
    return Board([source.run for source in load(folders, catalogue)], catalogue)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of real runs of the embedded model: on two budgets, and on one whose budget was overridden."""
    folder = tmp_path_factory.mktemp("runs")
    asked: dict[str, list[str]] = {
        "plain": ["tts_chain_b32,tts_chain_b128"],
        "budget": ["tts_chain_b32", "--gen_kwargs", "thinking_token_budget=128"],
        "length": ["tts_chain_b32", "--gen_kwargs", "max_gen_toks=20"],
        "any": ["tts_chain_b24"],
    }
    for name, words in asked.items():
        options = ["--limit", "10", "--batch_size", "32", "--log_samples", "--output_path", str(folder / name)]
        done = run(LM_EVAL, "--model", "pruned-hf", "--tasks", *words, *options, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
    return {name: folder / name for name in asked}


def test_a_budget_that_was_overridden_is_compared_as_the_one_that_was_asked(evaluated: dict[str, Path]) -> None:
    found = command("compare", evaluated["plain"], evaluated["budget"])
    assert "tts_chain_b128 10 x 3" in found and "tts_chain_b32" not in found
    assert "keeps 100.0% of the base's accuracy" in found, "it is the same model with the same budget"


def test_a_shorter_limit_on_all_tokens_is_not_compared(evaluated: dict[str, Path]) -> None:
    found = command("compare", evaluated["plain"], evaluated["length"], code=2)
    assert "tts_chain_b32: cannot be compared, because of tokens in all: max_gen_toks=512 and max_gen_toks=20" in found


def test_any_budget_of_a_benchmark_can_be_named(evaluated: dict[str, Path]) -> None:
    (source,) = load([evaluated["any"]], read_catalogue())
    task = source.run.tasks["tts_chain_b24"]
    assert (task.budget, task.benchmark, task.partial) == (24, "tts_chain", True)
    thought = task.value("thinking_tokens")
    assert thought is not None and 8 < thought <= 24
    assert "24 tokens" in command("compare", evaluated["any"], evaluated["any"])


def test_an_overridden_budget_is_published_checked_and_ranked_as_asked(tmp_path: Path) -> None:
    base = {"tts_aime24_b32": scores(0.3, 30, 3), "tts_aime24_b128": scores(0.6, 30, 3)}
    write_output(tmp_path / "base", base)
    write_output(tmp_path / "smaller", {"tts_aime24_b32": scores(0.5, 30, 3)}, dropped=(3,), gen_kwargs=ASKED_128)
    for name in ("base", "smaller"):
        assert ": verified" in add(tmp_path / name, tmp_path / "results")
    assert "to compare with" not in said("check", tmp_path / "results", code=0)
    shown = board(tmp_path / "results")
    assert shown.ranked_at.endswith("at 128 thinking tokens") and len(shown.ranked) == 2
    (pruned,) = (entry for entry in shown.entries if entry.smaller)
    pair = shown.beside_dense(pruned, "tts_aime24")
    assert pair is not None and {one.task.budget for one in pair} == {128}


def test_results_that_were_asked_otherwise_are_not_ranked_together(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b128": scores(0.6, 30, 3)}
    for number, dropped in enumerate([(), (3,), (4,)]):
        asked = {"max_gen_toks": 20} if dropped == (4,) else {}
        write_output(tmp_path / str(number), tasks, dropped=dropped, gen_kwargs=asked)
    shown = board(tmp_path)
    assert {shown.entry_of[key].latest.dropped for key in shown.ranked} == {(), (3,)}


def test_a_run_that_thinks_beyond_the_budget_it_claims_is_found(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b32": scores(0.5, 20)}
    write_output(tmp_path / "out", tasks, measures={"tts_aime24_b32": {"thinking_tokens": 90.0}})
    assert "thinking_tokens=90, more than its budget of 32" in add(tmp_path / "out", tmp_path / "results")


def test_a_base_with_gen_kwargs_is_the_base_of_those_run_alike(tmp_path: Path) -> None:
    asked, tasks = {"temperature": 0.6, "max_gen_toks": 38912}, {"tts_aime24_b128": scores(0.6, 30, 3)}
    for dropped in ((), (3,)):
        write_output(tmp_path / f"out{len(dropped)}", tasks, dropped=dropped, gen_kwargs=asked)
        add(tmp_path / f"out{len(dropped)}", tmp_path / "results")
    assert "to compare with" not in said("check", tmp_path / "results", code=0)
    shown = board(tmp_path / "results")
    base, smaller = shown.entries
    assert base.dense and smaller.smaller and shown.dense(smaller) is base
    command("leaderboard", "build", tmp_path / "results", "-o", tmp_path / "site")
    script = (tmp_path / "site" / "data" / "models.js").read_text("utf-8")
    models = json.loads(script[script.index("(") + 1 : script.rindex(")")])["models"]
    assert [model["whole"] for model in models] == [True, False] and len({model["key"] for model in models}) == 2
    (tmp_path / "results" / "Org-Model-8B" / base.key / "run.json").unlink()
    found = said("check", tmp_path / "results", code=1)
    alone = "no run of the base model Org/Model-8B with max_gen_toks=38912, temperature=0.6 on tts_aime24_b128"
    assert f"{alone} to compare with" in found


def test_models_that_differ_only_in_sampling_have_names_of_their_own(tmp_path: Path) -> None:
    for number, asked in enumerate([{}, {"temperature": 0.6}]):
        for dropped in ((), (3,)):
            folder = tmp_path / f"{number}{len(dropped)}"
            write_output(folder, {"tts_aime24": scores(0.6, 30, 3)}, dropped=dropped, gen_kwargs=asked)
    shown = board(tmp_path)
    names = Names.of(shown.entries)
    assert len({str(names[entry.key]) for entry in shown.entries}) == 4
    assert sum("temperature=0.6" in str(names[entry.key]) for entry in shown.entries) == 2


def test_layers_chosen_by_hand_are_in_the_name(tmp_path: Path) -> None:
    for layer in (3, 5):
        write_output(tmp_path / str(layer), {"tts_aime24": scores(0.6, 30, 3)}, dropped=(layer,), method="selection")
    found = command("compare", tmp_path / "3", tmp_path / "5")
    assert "selection -1 (layer 3)" in found and "selection -1 (layer 5)" in found


def test_the_answer_budget_in_a_table_is_that_of_the_task(tmp_path: Path) -> None:
    settings = {"settings": {"answer_token_budget": "1024"}}
    asked = {"answer_token_budget": 16, "thinking_token_budget": 128}
    write_output(tmp_path / "own", {"tts_aime24_b128": scores(0.6, 30)}, config=settings, gen_kwargs=asked)
    write_output(tmp_path / "usual", {"tts_aime24_b512": scores(0.6, 30)}, config=settings)
    command("results", "export", tmp_path, "--to", "csv", "--out", tmp_path / "csv")
    rows = list(csv.DictReader((tmp_path / "csv" / "tasks.csv").open(encoding="utf-8")))
    assert {row["task"]: row["setting_answer_token_budget"] for row in rows} == {
        "tts_aime24_b128": "16", "tts_aime24_b512": "1024",
    }  # fmt: skip


def test_results_of_one_model_that_were_asked_otherwise_are_not_put_together(tmp_path: Path) -> None:
    for number, budget in enumerate(("1024", "64")):
        config = {"settings": {"answer_token_budget": budget, "seed": str(number)}}
        date = f"2026-11-0{number + 1}T00-00-00.000000"
        write_output(tmp_path / "out", {"tts_aime24": scores(0.6, 30, 3)}, config=config, date=date)
    found = command("compare", tmp_path / "out", tmp_path / "out", code=2)
    assert "is no repetition of" in found and "because of answer budget: " in found


def test_models_in_one_folder_are_told_apart_by_their_files(tmp_path: Path) -> None:
    for number, layer in enumerate((3, 5)):
        date = f"2026-11-0{number + 1}T00-00-00.000000"
        write_output(tmp_path, {"tts_aime24": scores(0.6, 30, 3)}, dropped=(layer,), date=date)
    found = command("compare", tmp_path, tmp_path, code=2)
    assert "holds 2 models" in found and "results_2026-11-01" in found and "results_2026-11-02" in found


def of_before(content: dict[str, Any]) -> None:
    """Make a published run one of before: what it was asked and what was changed as text."""
    for task in content["tasks"].values():
        task["sampling"] = ", ".join(f"{name}={value}" for name, value in task.pop("generation_kwargs").items())
        task["budget"] = 32
    content["variation"] = (
        'load_in_4bit=true, peft=a, chat_template_args={"x":1,"y":2}, thinking=off, '
        "gen_kwargs: thinking_token_budget=128,temperature=0.6, system_instruction: Think, then answer: x=1"
    )
    for name in ("gen_kwargs", "changed", "controls", "system_instruction", "model_args"):
        content.pop(name, None)


def test_a_command_that_was_cut_is_no_reason_to_refuse_a_run(tmp_path: Path) -> None:
    write_output(tmp_path / "out", {"tts_aime24_b32": scores(0.6, 30, 3)})
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    edit(
        path, lambda content: content.update(command="lm_eval --model_args 'pretrained=a") or content.pop("model_args")
    )
    assert Run.model_validate_json(path.read_text("utf-8")).model_args == {}


def test_runs_that_were_published_before_are_read_as_they_were_asked(tmp_path: Path) -> None:
    asked = {**ASKED_128, "temperature": 0.6}
    write_output(tmp_path / "out", {"tts_aime24_b32": scores(0.6, 30, 3)}, gen_kwargs=asked)
    add(tmp_path / "out", tmp_path / "results")
    path = only_run(tmp_path / "results")
    now = Run.model_validate_json(path.read_text("utf-8"))
    edit(path, of_before)
    before = Run.model_validate_json(path.read_text("utf-8"))
    assert before.gen_kwargs == now.gen_kwargs and set(before.model_args) == set(now.model_args)
    assert before.changed == {"load_in_4bit": "true", "peft": "a"}
    assert before.controls == {"chat_template_args": '{"x":1,"y":2}', "thinking": "off"}
    assert before.system_instruction == "Think, then answer: x=1"
    task = before.tasks["tts_aime24_b32"]
    assert (task.budget, task.generation_kwargs["temperature"]) == (128, 0.6)
    assert before.asked_name("tts_aime24_b32") == "tts_aime24_b128"


def test_a_base_that_solves_nothing_shows_no_loss_and_says_that_nothing_is_measured(tmp_path: Path) -> None:
    nothing = {"tts_aime24": [[False] * 3] * 30}
    write_output(tmp_path / "base", nothing)
    write_output(tmp_path / "smaller", nothing, dropped=(3,))
    found = command("compare", tmp_path / "base", tmp_path / "smaller", "--keep", 0.9, code=3)
    assert "verdict: undecided (no row that decides can be measured)" in found
    for text in (found, command("compare", tmp_path / "base", "--plan")):
        assert "loss of 0.0 points" not in text and "30 questions with 3 samples each show no variation" in text

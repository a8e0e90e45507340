"""Results in the formats of others, read back by those who read them."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
import yaml

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.exporters import EXPORTERS
from lm_eval_ext.runs.load import load
from tests.commands import LM_EVAL, cli
from tests.published import CATALOGUE
from tests.shared import ROOT
from tests.test_submission import changed_rows

VALIDATOR = ROOT / ".venv-exporters" / "bin" / "every_eval_ever"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for dropped in ((), (3, 4)):
        tasks = {
            "tts_aime24_b512": scores(0.4, 30, 3, len(dropped)), "tts_aime24": scores(0.7, 30, 3, len(dropped)),
            "tts_gpqa_diamond": scores(0.5, 40, 2, len(dropped)),
        }  # fmt: skip
        write_output(folder / f"run{len(dropped)}", tasks, dropped=dropped)
    return folder


def export(*results: Path, to: str, out: Path, code: int = 0) -> str:
    done = cli("results", "export", *results, "--to", to, "--out", out)
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_tables_hold_every_task_and_sample(results: Path, tmp_path: Path, to: str) -> None:
    import pandas

    export(results, to=to, out=tmp_path)
    read = pandas.read_csv if to == "csv" else pandas.read_parquet
    tasks, samples = (read(tmp_path / f"{name}.{to}") for name in ("tasks", "samples"))
    assert len(tasks) == 6 and len(samples) == 2 * (2 * 30 * 3 + 40 * 2)
    row = tasks[(tasks["task"] == "tts_aime24_b512") & (tasks["dropped"] == 2)].iloc[0]
    assert (row["budget"], row["dropped_layers"], row["method"]) == (512, "3 4", "shortgpt")
    assert row["low"] < row["accuracy"] < row["high"]
    graded = samples[(samples["task"] == "tts_aime24_b512") & (samples["run"] == row["run"])]
    assert (graded["grade"] == "correct").mean() == pytest.approx(row["accuracy"])


def test_the_latex_table_compiles(results: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.tex"
    export(results, to="latex", out=table)
    text = table.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3 and len({row.count(" & ") for row in rows}) == 1
    assert r"tts\_aime24 (512)" in text and "shortgpt -2" in text
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed, so the table was only read")
    document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
    (tmp_path / "document.tex").write_text(document, encoding="utf-8")
    subprocess.run(["pdflatex", "-halt-on-error", "document.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_latex_table_has_a_row_a_model_and_says_what_is_partial(tmp_path: Path) -> None:
    whole, short, votes = (tmp_path / name for name in ("whole", "short", "votes"))
    write_output(whole, {"tts_aime24_b512": scores(0.5, 30)})
    write_output(short, {"tts_aime24_b512": scores(0.5, 12)}, of=30, date="2026-11-02T00-00-00.000000")
    write_output(votes, {"tts_aime24_maj8": scores(0.5, 30, 8)}, dropped=(3,))

    def rows(*folders: Path) -> list[str]:
        export(*folders, to="latex", out=tmp_path / "table.tex")
        _, *found = [line for line in (tmp_path / "table.tex").read_text("utf-8").splitlines() if line.endswith(r"\\")]
        return found

    (row,) = rows(whole, short, votes)  # what is complete comes first, and votes have no row
    assert "of 30" not in row
    (row,) = rows(short)
    assert ", 12 of 30]" in row
    assert "only results with votes, which the LaTeX table leaves out" in export(
        votes, to="latex", out=tmp_path / "none.tex", code=1
    )


def test_every_eval_ever_files_a_pruned_model_as_itself(results: Path, tmp_path: Path) -> None:
    export(results, to="every-eval-ever", out=tmp_path)
    folders = sorted(path.name for path in (tmp_path / "data" / "lm-eval-tts" / "Org").iterdir())
    assert folders == ["Model-8B", "Model-8B-shortgpt-2"]
    (record,) = (tmp_path / "data/lm-eval-tts/Org/Model-8B-shortgpt-2").glob("*[!s].json")
    content = json.loads(record.read_text("utf-8"))
    assert content["schema_version"] == "0.3.0"
    assert content["model_info"]["additional_details"]["dropped_layers"] == "3 4"
    interval = content["evaluation_results"][0]["score_details"]["uncertainty"]["confidence_interval"]
    assert interval["lower"] < content["evaluation_results"][0]["score_details"]["score"] < interval["upper"]
    detailed = content["detailed_evaluation_results"]
    lines = (tmp_path / detailed["file_path"]).read_text("utf-8").splitlines()
    assert len(lines) == detailed["total_rows"] == 2 * 30 * 3, "gated questions are left out"
    before = sorted(tmp_path.rglob("*.json"))
    export(results, to="every-eval-ever", out=tmp_path)
    assert sorted(tmp_path.rglob("*.json")) == before, "exporting again adds nothing"


def test_every_eval_ever_gets_the_score_of_a_question_of_which_one_answer_was_scored(tmp_path: Path) -> None:
    path = write_output(tmp_path / "results", {"gsm8k": [[True, True], [False, False]]})
    changed_rows(path, lambda row: row.update(filtered_resps=["4"], graded=None))
    export(path.parent, to="every-eval-ever", out=tmp_path / "out")
    (samples,) = (tmp_path / "out").rglob("*_samples.jsonl")
    rows = [json.loads(line) for line in samples.read_text("utf-8").splitlines()]
    assert [row["evaluation"] for row in rows] == [
        {"score": 1.0, "is_correct": True}, {"score": 0.0, "is_correct": False},
    ]  # fmt: skip
    assert [len(row["output"]["raw"]) for row in rows] == [2, 2]


def test_what_every_eval_ever_gets_is_read_back_as_it_was(tmp_path: Path) -> None:
    tasks = {
        "tts_math500": scores(0.7, 30, 3),
        "tts_math500_b512": scores(0.4, 30, 3),
        "tts_aime24": scores(0.5, 12, 1),
    }
    for name, dropped in (("base", ()), ("smaller", (3, 4))):
        write_output(tmp_path / "ours" / name, tasks, dropped=dropped)
    export(tmp_path / "ours", to="every-eval-ever", out=tmp_path / "out")
    ours = {source.run.label: source for source in load([tmp_path / "ours"], CATALOGUE)}
    again = load([tmp_path / "out"], CATALOGUE, logs=True)
    assert len(again) == len(ours) == 2
    for source, own in zip(sorted(again, key=lambda one: one.run.base), ours.values(), strict=True):
        assert source.run.tasks.keys() == own.run.tasks.keys() == tasks.keys()
        for name, task in own.run.tasks.items():
            there = source.run.tasks[name]
            assert there.accuracy.value == pytest.approx(task.accuracy.value)
            for field in ("benchmark", "budget", "votes", "questions", "repeats", "shots"):
                assert getattr(there, field) == getattr(task, field), field
            assert {"shots", "thinking_token_budget", "questions"}.isdisjoint(there.unknown)
            by_prompt = {one.prompt: one for one in source.samples(name)}
            assert len(by_prompt) == task.questions
            for one in own.samples(name):
                assert by_prompt[one.prompt].score == pytest.approx(one.score)
                assert [output.text for output in by_prompt[one.prompt].outputs] == [out.text for out in one.outputs]


@pytest.mark.skipif(not VALIDATOR.exists(), reason="Every Eval Ever is not installed (make test-exporters)")
def test_every_eval_ever_accepts_it(results: Path, tmp_path: Path) -> None:
    export(results, to="every-eval-ever", out=tmp_path)
    files = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json*")]
    done = subprocess.run([VALIDATOR, "validate", *files], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "0 failed" in done.stdout and "0 warnings" in done.stdout, done.stdout


def test_the_hub_gets_its_files_and_a_section_of_the_model_card(results: Path, tmp_path: Path) -> None:
    from huggingface_hub import parse_eval_result_entries

    card = tmp_path / "README.md"
    card.write_text("---\nlicense: mit\n---\n# My model\n", encoding="utf-8")
    measured = {"tts_gsm8k": scores(0.7, 30, 3), "tts_gsm8k_b512": scores(0.4, 30, 3), "tts_aime24": scores(0.7, 30, 3)}
    path = write_output(tmp_path / "run", measured)
    content = json.loads(path.read_text("utf-8"))
    for name in ("tts_gsm8k", "tts_gsm8k_b512"):
        content["configs"][name]["dataset_path"] = "openai/gsm8k"
    path.write_text(json.dumps(content), "utf-8")
    for _ in range(2):  # exporting again replaces the section
        export(tmp_path / "run", to="hub", out=tmp_path)
    (written,) = (tmp_path / ".eval_results").iterdir()
    (entry,) = parse_eval_result_entries(yaml.safe_load(written.read_text("utf-8")))
    assert (written.name, entry.dataset_id, entry.task_id) == ("tts_gsm8k.yaml", "openai/gsm8k", "gsm8k")
    assert entry.value == pytest.approx(100 * content["results"]["tts_gsm8k"]["acc,answer"], abs=1e-3)
    text = card.read_text("utf-8")
    assert text.startswith("---\nlicense: mit\n---\n# My model") and text.count("## Evaluation") == 1
    assert all(f"| `{name}` |" in text for name in measured), "the card has every result"
    assert "results of 2 models" in export(results, to="hub", out=tmp_path, code=1)


def test_what_the_hub_shows_no_results_of_is_only_in_the_model_card(
    results: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    export(results / "run2", to="hub", out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"] and "no .eval_results" in caplog.text


def test_an_unknown_format_is_named(results: Path, tmp_path: Path) -> None:
    said = export(results, to="xls", out=tmp_path, code=1)
    assert f"unknown format 'xls'; expected one of: {', '.join(EXPORTERS)}" in said


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed (make test-exporters)")
def test_lm_evals_wandb_logger_logs_our_samples(tmp_path: Path) -> None:
    command = [str(LM_EVAL), "--model", "pruned-hf", "--model_args", "journal=off", "--tasks", "tts_chain_b8"]
    command += ["--limit", "2", "--log_samples", "--output_path", str(tmp_path / "out"), "--wandb_args", "project=test"]
    environment = {**os.environ, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "KeyError" not in done.stderr and list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.skipif(
    importlib.util.find_spec("trackio") is None, reason="trackio is not installed (make test-exporters)"
)
def test_lm_evals_trackio_logger_logs_our_samples(tmp_path: Path) -> None:
    command = [str(LM_EVAL), "--model", "pruned-hf", "--model_args", "journal=off", "--tasks", "tts_chain_b8"]
    command += ["--limit", "2", "--log_samples", "--output_path", str(tmp_path / "out")]
    environment = {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--trackio_args", "project=test"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3000:]
    (database,) = (tmp_path / "trackio").glob("test*.db")
    with sqlite3.connect(database) as opened:
        tables = [name for (name,) in opened.execute("select name from sqlite_master where type = 'table'")]
        logged = "".join(str(row) for table in tables for row in opened.execute(f"select * from {table}"))
    assert "tts_chain_b8" in logged and "thinking_tokens" in logged and "boxed" in logged
